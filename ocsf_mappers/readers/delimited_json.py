"""A text log that arrives as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from ocsf_mappers.json_split import KEPT_BYTES
from ocsf_mappers.readers.chunk import COLUMN_SETS, Bad, Chunk, as_text, no_records
from ocsf_mappers.readers.delimited import Delimited
from ocsf_mappers.readers.envelope import CARRIERS, CLOUDWATCH, wrapped
from ocsf_mappers.readers.json_records import JsonRecords
from ocsf_mappers.streams import Blocks

_OBJECT_LINE = re.compile(rb'^[ \t]*+\{\s*+"', re.MULTILINE)


PREFIX = "envelope."
"""Before the names of members that stood around a line."""


@dataclass(frozen=True)
class DelimitedInJson:
    """The same text log as JSON lines: whole lines inside CloudWatch Logs documents, or members named like the fields.

    Args:
        text: How the lines themselves are read.
    """

    text: Delimited
    label: str = "JSON lines (CloudWatch Logs, Firehose)"

    def accepts(self, head: bytes) -> bool:
        """JSON, perhaps with a broken line before it; a line of a text log never begins with a bracket."""
        return head.lstrip()[:1] in (b"{", b"[") or _OBJECT_LINE.search(head) is not None

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """Chunks of text columns; records are numbered in the order they stand in the object."""
        for chunk in JsonRecords((), (CLOUDWATCH,), texts=True).read(blocks):
            yield from self._columns(chunk)

    def _columns(self, chunk: Chunk) -> Iterator[Chunk]:
        # This format is rare and small, so its records are read one by one.
        groups: dict[tuple[str, ...], list[tuple[int, list[str | None]]]] = {}
        bad, dropped = list(chunk.bad), Counter(chunk.dropped)
        for number, raw, around in _rows(chunk.records):
            beside = _beside(around)
            if raw.lstrip()[:1] not in ("{", "[") and around is not None:
                names, values = self._line(raw, beside)
            else:
                try:
                    members = msgspec.json.decode(raw)
                except (msgspec.DecodeError, RecursionError) as error:
                    bad.append(Bad(number, f"the record is not valid JSON: {error}", raw[:KEPT_BYTES]))
                    continue
                if not isinstance(members, dict):
                    bad.append(Bad(number, "not a JSON object", raw[:KEPT_BYTES]))
                    continue
                names, values = self._fields(members, beside)
            if names not in groups and len(groups) == COLUMN_SETS:
                reason = f"more than {COLUMN_SETS} different sets of members"
                bad.append(Bad(number, reason, _document(raw, around)))
            elif len(names) != len(values):
                reason = f"{len(values)} values where the default format has {len(names)}"
                bad.append(Bad(number, reason, _document(raw, around)))
            else:
                groups.setdefault(names, []).append((number, values))
        yield Chunk(no_records(), bad, dropped)
        for names, found in groups.items():
            columns = {"_record": pa.array([number for number, _ in found], pa.int64())}
            for position, name in enumerate(names):
                columns[name] = pa.array([values[position] for _, values in found], pa.string())
            yield Chunk(pa.table(columns))

    def _line(self, line: str, beside: Mapping[str, str]) -> tuple[tuple[str, ...], list[str | None]]:
        values = [None if word == self.text.null else word for word in line.split(self.text.sep)]
        if len(values) != len(self.text.default):
            return self.text.default, values
        return (*self.text.default, *beside), [*values, *beside.values()]

    def _fields(
        self, members: Mapping[str, object], beside: Mapping[str, str]
    ) -> tuple[tuple[str, ...], list[str | None]]:
        names = tuple(name.lower().replace("-", "_") for name in members)
        if len(set(names)) != len(names):
            names = tuple(members)
        texts = [as_text(value) for value in members.values()]
        return (*names, *beside), [*(None if text == self.text.null else text for text in texts), *beside.values()]


def _rows(records: pa.Table) -> Iterator[tuple[int, str, str | None]]:
    """Number and text of each record, and what stood around it."""
    if "_raw" not in records.column_names:
        return iter(())
    around = records["_envelope"].to_pylist() if "_envelope" in records.column_names else [None] * len(records)
    return zip(records["_record"].to_pylist(), records["_raw"].to_pylist(), around, strict=True)


def _beside(around: str | None) -> dict[str, str]:
    """What stood around a record as further columns."""
    if around is None:
        return {}
    members = msgspec.json.decode(around, type=dict[str, object])
    return {f"{PREFIX}{name}": text for name, value in members.items() if (text := as_text(value)) is not None}


def _document(raw: str, around: str | None) -> str:
    """A record with what stood around it, as quarantine keeps it."""
    return (raw if around is None else wrapped(raw, around, CARRIERS))[:KEPT_BYTES]
