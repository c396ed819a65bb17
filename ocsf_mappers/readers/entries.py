"""Records in JSON that say in members of their own what a line of text says by its form, as a journal's entries do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.readers.json_members import Members
from ocsf_mappers.readers.lines import Lines
from ocsf_mappers.readers.tokens import Flags

SEPARATOR = "\x1f"
"""Stands between the parts of an entry's line; no text that people read has it."""


@dataclass(frozen=True)
class EntryLines:
    """Some entries as lines.

    Args:
        is_entry: Which of the records are entries.
        lines: The line of each of them.
        has_text: For each of them whether it has the last part.
    """

    is_entry: Flags
    lines: pa.Array
    has_text: Flags


@dataclass(frozen=True)
class Entries:
    r"""How entries of a journal are recognized and read: one member holds the message, others its sender.

    Args:
        marks: Members of which an entry has one at least, and no document around a record has any.
        parts: For each part of the line that an entry is made to the members that may hold it; the first that holds
            something does. The last part is the message. A list holds what its first item does, or the bytes of a
            text that is no UTF-8, as systemd writes it: the others become `\xNN`. All of the list is in `unmapped`.
        lines: How these lines are laid out, with `SEPARATOR` between the parts. An entry without the last part whose
            line is a record is bad.
        prefix: Stands before the names of an entry's members, which are columns beside those of `lines`: so a name
            that a sender chose is never taken for one of these.
    """

    marks: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    lines: Lines
    prefix: str

    @property
    def missing_text(self) -> str:
        """Why an entry without the last part is bad."""
        return f"the entry has no text in {' or '.join(self.parts[-1])}"

    def lines_of(self, records: pa.ChunkedArray) -> EntryLines:
        """The entries among some records.

        Args:
            records: JSON text of each.
        """
        columns, _ = self._members.read(records)
        size = len(records)
        rows = np.zeros(size, bool)
        texts: dict[str, pa.Array] = {}
        for name, column in zip(self._members.names, columns, strict=True):
            if name in self.marks:
                rows |= column.rows_where(column.valid(), size)
            texts[name] = column.map(_texts).array(size).cast(pa.string())
        own = pa.array(rows)
        parts = [pc.coalesce(*(texts[name].filter(own) for name in names)) for names in self.parts]
        filled = [pc.fill_null(part, "") for part in parts]
        has_text = pc.not_equal(filled[-1], "").to_numpy(zero_copy_only=False)
        return EntryLines(rows, pc.binary_join_element_wise(*filled, SEPARATOR), has_text)

    def beside(self, members: Sequence[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
        """The members of an entry that its line does not say, and the journal's own, under the names of their columns.

        Args:
            members: Names and values; of texts the text, of others their JSON.
        """
        values = dict(members)  # of a repeated one the line has the last
        line_names = {next((name for name in names if values.get(name)), "") for names in self.parts}
        return [
            (f"{self.prefix}{name}", value)
            for name, value in members
            if value is not None
            and (name not in line_names or name[:1] == "_" or value[:1] == "[" or value != values[name])
        ]

    @cached_property
    def _members(self) -> Members:
        return Members(list(dict.fromkeys([*self.marks, *(name for names in self.parts for name in names)])))


def _texts(values: pa.Array) -> pa.Array:
    return pa.array(map(_text, values.to_pylist()), pa.string())


def _text(raw: str | None) -> str | None:
    """What a member holds as text, of its JSON; None where it holds nothing."""
    try:
        return None if raw is None else _of_value(msgspec.json.decode(raw), raw) or None
    except (msgspec.DecodeError, RecursionError):
        return raw


def _of_value(value: object, raw: str) -> str | None:
    match value:
        case str() | None:
            return value
        case [first, *_]:
            numbers = [item for item in value if type(item) is int and 0 <= item < 256]
            if len(numbers) == len(value):
                return bytes(numbers).decode(errors="backslashreplace")
            return _of_value(first, msgspec.json.encode(first).decode())
        case []:
            return None
        case _:
            return raw
