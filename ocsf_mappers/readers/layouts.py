"""How the lines of a text log are laid out: values in an order, pairs of name and value, or a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.readers.chunk import COLUMNS
from ocsf_mappers.readers.tokens import Flags, Numbers, Tokens, tokens, unescaped

CELLS = 4 << 20
"""Lines whose names differ are put into tables of this many values and gaps."""


@dataclass(frozen=True)
class Read:
    """Some lines as columns.

    Args:
        rows: Which of the lines, sorted.
        names: What their columns are called.
        columns: Their columns, texts.
    """

    rows: Numbers
    names: tuple[str, ...]
    columns: list[pa.Array]


class Layout(Protocol):
    """One way in which lines hold values."""

    @property
    def drop(self) -> str | None:
        """Why lines of this layout are counted drops; None where they are records."""

    def read(self, lines: pa.Array, null: str) -> tuple[Flags, Iterator[Read]]:
        """Which lines are laid out so, a boolean a line, and what they hold.

        Args:
            lines: Texts, none null.
            null: What stands for a missing value.
        """


@dataclass(frozen=True)
class Values:
    r"""Values in a known order.

    Args:
        names: Names of the columns, with spaces between.
        sep: One sign between values.
        quotes: Pairs of signs around values that may hold separators, such as `'""'` or `"[]"`; they are taken off.
        escape: The sign before a closing quote that makes it part of the value.
        optional: So many of the last columns may be missing.
        more: Whether values beyond the last name are taken, as `field_35` and so on: services append columns.
        fits: Column -> regular expression that its value fits as a whole, quotes taken off; where one does not, the
            line is of another layout. So a value in the wrong column is noticed.
        parts: Column -> regular expression with named groups: a value that fits it as a whole is cut into columns of
            these names, another stays in the column. A group that takes nothing is null.
        drop: Why lines of this layout are no records.
    """

    names: str
    sep: str = " "
    quotes: tuple[str, ...] = ()
    escape: str = "\\"
    optional: int = 0
    more: bool = False
    fits: Mapping[str, str] = field(default_factory=dict, hash=False)
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)
    drop: str | None = None

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """`names`, one by one."""
        return tuple(self.names.split())

    @property
    def expected(self) -> str:
        """How many values a line has, in words."""
        most = len(self.columns)
        counts = f"{most - self.optional} to {most}" if self.optional else str(most)
        return f"{counts} or more" if self.more else counts

    def count(self, line: str) -> int:
        """How many values a line has."""
        return int(tokens(pa.array([line]), self.sep, self.quotes, self.escape).counts[0])

    def read(self, lines: pa.Array, null: str) -> tuple[Flags, Iterator[Read]]:
        """See `Layout`."""
        words = tokens(lines, self.sep, self.quotes, self.escape)
        fits = (words.counts >= len(self.columns) - self.optional) & (words.counts <= COLUMNS)
        if not self.more:
            fits &= words.counts <= len(self.columns)
        for name, pattern in self.fits.items():
            rows = np.flatnonzero(fits)
            column = pc.fill_null(words.column(self.columns.index(name), rows), null)
            fits[rows] = pc.match_substring_regex(column, f"^(?:{pattern})$").to_numpy(zero_copy_only=False)
        return fits, self._read(words, np.flatnonzero(fits), null)

    def _read(self, words: Tokens, rows: Numbers, null: str) -> Iterator[Read]:
        width = int(words.counts[rows].max(initial=0))
        extra = tuple(f"field_{number + 1}" for number in range(len(self.columns), width))
        columns = [without(words.column(position, rows), null) for position in range(len(self.columns) + len(extra))]
        yield parted(Read(rows, self.columns + extra, columns), self.parts, null)


@dataclass(frozen=True)
class Pattern:
    """Lines that a regular expression (RE2) fits as a whole; its named groups are the columns.

    A group that takes nothing is null.

    Args:
        pattern: The expression; `.` also stands for a line end inside a record.
        parts: As of `Values`.
        drop: Why lines of this layout are no records.
    """

    pattern: str
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)
    drop: str | None = None

    def read(self, lines: pa.Array, null: str) -> tuple[Flags, Iterator[Read]]:
        """See `Layout`."""
        expression = f"(?s)^(?:{self.pattern})$"
        fits = pc.match_substring_regex(lines, expression).to_numpy(zero_copy_only=False)
        return fits, self._read(lines, np.flatnonzero(fits), expression, null)

    def _read(self, lines: pa.Array, rows: Numbers, expression: str, null: str) -> Iterator[Read]:
        names = tuple(re.compile(self.pattern).groupindex)
        groups = pc.extract_regex(lines.take(pa.array(rows)), expression) if names else pa.nulls(len(rows))
        columns = [without(without(pc.struct_field(groups, name), ""), null) for name in names]
        yield parted(Read(rows, names, columns), self.parts, null)


@dataclass(frozen=True)
class Pairs:
    """Names and values: `name=value other="a value"`, in any order.

    Args:
        sep: One sign between pairs.
        between: One sign between name and value.
        quotes: Pairs of signs around values that may hold separators.
        escape: The sign before a closing quote that makes it part of the value.
        least: A line with fewer pairs, or with anything that is no pair, is of another layout.
        drop: Why lines of this layout are no records.
    """

    sep: str = " "
    between: str = "="
    quotes: tuple[str, ...] = ('""',)
    escape: str = "\\"
    least: int = 2
    drop: str | None = None

    def read(self, lines: pa.Array, null: str) -> tuple[Flags, Iterator[Read]]:
        """See `Layout`."""
        words = tokens(lines, self.sep, self.quotes, self.escape, after=self.between)
        pairs = pc.match_substring_regex(words.values, f"(?s)^[^{re.escape(self.between)}]+{re.escape(self.between)}")
        bad = np.cumsum(np.concatenate([[0], ~pairs.to_numpy(zero_copy_only=False)]))
        fits = (bad[words.first + words.counts] == bad[words.first]) & (words.counts >= self.least)
        fits &= words.counts <= COLUMNS
        return fits, self._read(words, np.flatnonzero(fits), null)

    def _read(self, words: Tokens, rows: Numbers, null: str) -> Iterator[Read]:
        if not len(rows):
            return
        counts = words.counts[rows]
        owner = np.repeat(np.arange(len(rows)), counts)
        place = np.repeat(words.first[rows] - (np.cumsum(counts) - counts), counts) + np.arange(len(owner))
        pairs = pc.split_pattern(words.values.take(pa.array(place)), self.between, max_splits=1)
        names = pc.list_element(pairs, 0).dictionary_encode()
        if len(rows) > 1 and (len(names.dictionary) > COLUMNS or len(names.dictionary) * len(rows) > CELLS):
            middle = len(rows) // 2
            yield from self._read(words, rows[:middle], null)
            yield from self._read(words, rows[middle:], null)
            return
        values = without(self._bare(pc.list_element(pairs, 1)), null)
        codes = names.indices.to_numpy().astype(np.int64)
        # A name that a line repeats is a further column of that name.
        order = np.lexsort((np.arange(len(owner)), codes, owner))
        line, code = owner[order], codes[order]
        same = np.concatenate([[False], (line[1:] == line[:-1]) & (code[1:] == code[:-1])])
        steps = np.arange(len(order))
        repetition = np.empty(len(order), np.int64)
        repetition[order] = steps - np.maximum.accumulate(np.where(same, 0, steps))
        column_names, columns = [], []
        for number, name in enumerate(names.dictionary.to_pylist()):
            cells = np.flatnonzero(codes == number)
            for time in range(int(repetition[cells].max()) + 1):
                selected = cells[repetition[cells] == time]
                at = np.full(len(rows), -1)
                at[owner[selected]] = selected
                columns.append(values.take(pa.array(at, mask=at < 0)))
                column_names.append(name)
        yield Read(rows, tuple(column_names), columns)

    def _bare(self, values: pa.Array) -> pa.Array:
        """Values without the quotes around them."""
        for pair in self.quotes:
            around = pc.and_(
                pc.and_(pc.starts_with(values, pair[0]), pc.ends_with(values, pair[-1])),
                pc.greater(pc.binary_length(values), 1),
            )
            if pc.any(around).as_py():
                inner = unescaped(pc.utf8_slice_codeunits(values, 1, -1), around, pair[-1], self.escape)
                values = pc.if_else(around, inner, values)
        return values


def without(values: pa.Array, null: str) -> pa.Array:
    """Values, null where they are this text."""
    return pc.if_else(pc.equal(values, null), pa.scalar(None, pa.string()), values)


def parted(read: Read, parts: Mapping[str, str], null: str) -> Read:
    """Columns cut into further ones, where their values fit."""
    names, columns = list(read.names), list(read.columns)
    for name, pattern in parts.items():
        groups = tuple(re.compile(pattern).groupindex)
        position = names.index(name)
        coded = columns[position].dictionary_encode()
        match = pc.extract_regex(coded.dictionary, f"(?s)^(?:{pattern})$")
        whole = pc.if_else(match.is_null(), coded.dictionary, pa.scalar(None, pa.string()))
        columns[position] = whole.take(coded.indices)
        columns += [without(without(pc.struct_field(match, group), ""), null).take(coded.indices) for group in groups]
        names += groups
    return Read(read.rows, tuple(names), columns)
