"""Words that make another text, a class or a point in time of a text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ocsf_mappers import sqltext
from ocsf_mappers.vocabulary.record import LAST_SECOND
from ocsf_mappers.vocabulary.word import TEXT, Consumption, Explained, Resolver, Spelling, Word, both, quoted


@dataclass(frozen=True)
class Replace(Word):
    """Text swapped by table; text outside the table passes through, or becomes `otherwise` when that is given."""

    inner: Word
    pairs: tuple[tuple[str, str], ...]
    otherwise: Word | None

    def sql(self, at: Resolver) -> str:
        return self.spelled(at, TEXT)

    def spelled(self, at: Resolver, spelling: Spelling) -> str:
        text = self.inner.sql(at)
        rest = spelling.of(text) if self.otherwise is None else self.otherwise.spelled(at, spelling)
        if spelling is TEXT and (table := at.table(dict(self.pairs))):
            # What a piece of SQL gives may be a number, and so may what else there is.
            return f"coalesce({table}[({text})::VARCHAR], ({rest})::VARCHAR)"
        branches = " ".join(f"WHEN {sqltext.text(old)} THEN {spelling.constant(new)}" for old, new in self.pairs)
        return f"CASE {text} {branches} ELSE {rest} END"

    def results(self) -> Iterator[str | int]:
        yield from (new for _, new in self.pairs)
        if self.otherwise is not None:
            yield from self.otherwise.results()

    def gives_only(self, texts: Collection[str]) -> bool:
        return self.otherwise is not None and _gives_only(self.pairs, self.otherwise, texts)

    @property
    def passes_text(self) -> bool:
        return self.otherwise is None and self.inner.passes_text

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        if self.otherwise is None:
            yield from self.inner.consumed(at, condition)
        else:
            keys = ", ".join(sqltext.text(old) for old, _ in self.pairs)
            yield from self.inner.consumed(at, both(condition, f"{self.inner.sql(at)} IN ({keys})"))

    def explain(self, words: Explained) -> str:
        return _explained_table("replace", self.inner, self.pairs, self.otherwise, words)


class Classed(Word):
    """A text or number of which nothing but a class is kept, by a table; it consumes nothing."""

    pairs: tuple[tuple[Any, str], ...]
    otherwise: Word

    def sql(self, at: Resolver) -> str:
        return self.spelled(at, TEXT)

    def results(self) -> Iterator[str | int]:
        yield from (new for _, new in self.pairs)
        yield from self.otherwise.results()

    def gives_only(self, texts: Collection[str]) -> bool:
        return _gives_only(self.pairs, self.otherwise, texts)


@dataclass(frozen=True)
class ReplacePrefix(Classed):
    """Text classed by the first key that it starts with, in upper or lower case."""

    inner: Word
    pairs: tuple[tuple[str, str], ...]
    otherwise: Word

    def spelled(self, at: Resolver, spelling: Spelling) -> str:
        prefix = Prefix(self.inner, tuple(old for old, _ in self.pairs)).sql(at)
        grouped: dict[str, list[str]] = {}
        for old, new in self.pairs:
            grouped.setdefault(spelling.constant(new), []).append(sqltext.text(old.lower()))
        branches = " ".join(f"WHEN {prefix} IN ({', '.join(olds)}) THEN {new}" for new, olds in grouped.items())
        rest = self.otherwise.spelled(at, spelling)
        return f"CASE WHEN {self.inner.sql(at)} IS NULL THEN NULL {branches} ELSE {rest} END"

    def explain(self, words: Explained) -> str:
        return _explained_table("replace_prefix", self.inner, self.pairs, self.otherwise, words)


@dataclass(frozen=True)
class Prefix(Word):
    """The first of some prefixes that a text starts with, in lower case; empty where there is none."""

    inner: Word
    prefixes: tuple[str, ...]

    def sql(self, at: Resolver) -> str:
        pattern = "^(?i)(" + "|".join(map(re.escape, self.prefixes)) + ")"
        return at.shared(self, f"lower(regexp_extract({self.inner.sql(at)}, {sqltext.text(pattern)}, 1))")

    def explain(self, words: Explained) -> str:
        return f"prefix({words.of(self.inner)}, {', '.join(map(quoted, self.prefixes))})"


@dataclass(frozen=True)
class Lower(Word):
    """Text in lower case."""

    inner: Word

    def sql(self, at: Resolver) -> str:
        return f"lower({self.inner.sql(at)})"

    @property
    def passes_text(self) -> bool:
        return self.inner.passes_text

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        yield from self.inner.consumed(at, condition)

    def explain(self, words: Explained) -> str:
        return f"lower({words.of(self.inner)})"


@dataclass(frozen=True)
class Extract(Word):
    """The first group of an RE2 pattern, null where it does not match."""

    inner: Word
    pattern: str

    def sql(self, at: Resolver) -> str:
        return f"nullif(regexp_extract({self.inner.sql(at)}, {sqltext.text(self.pattern)}, 1), '')"

    @property
    def passes_text(self) -> bool:
        return True

    def explain(self, words: Explained) -> str:
        return f"extract({words.of(self.inner)}, {words.pattern(self.pattern)})"


@dataclass(frozen=True)
class Band(Classed):
    """The text of the highest floor that a number reaches, null where it is no number; floors are in falling order."""

    inner: Word
    pairs: tuple[tuple[int, str], ...]
    otherwise: Word

    def spelled(self, at: Resolver, spelling: Spelling) -> str:
        number = f"try_cast({self.inner.sql(at)} AS DOUBLE)"
        branches = " ".join(f"WHEN {number} >= {floor} THEN {spelling.constant(new)}" for floor, new in self.pairs)
        return f"CASE WHEN {number} IS NULL THEN NULL {branches} ELSE {self.otherwise.spelled(at, spelling)} END"

    def explain(self, words: Explained) -> str:
        floors = ", ".join(f"from {floor} {quoted(new)}" for floor, new in self.pairs)
        return f"band({words.of(self.inner)}: {floors}, else {words.whole(self.otherwise)})"


@dataclass(frozen=True)
class Millis(Word):
    """Seconds as whole milliseconds: BIGINT. Null where the text is negative, no number, or beyond what that holds."""

    inner: Word

    def sql(self, at: Resolver) -> str:
        seconds = f"try_cast({self.inner.sql(at)} AS DOUBLE)"
        return at.shared(self, f"CASE WHEN {seconds} >= 0 THEN try_cast(round(1000 * {seconds}) AS BIGINT) END")

    def explain(self, words: Explained) -> str:
        return f"seconds_to_millis({words.of(self.inner)})"


_UNITS = {1_000_000: "seconds", 1_000: "millis", 1: "micros"}
"""Microseconds -> what mappers call a unit of so many."""


@dataclass(frozen=True)
class Epoch(Word):
    """A number of units since 1970, as a point in time: microseconds, BIGINT.

    Null where the text is no such number or beyond year 9999. `fraction` takes numbers with decimals too, as JSON
    writers print times; what is finer than a microsecond is cut off.
    """

    inner: Word
    micros: int
    fraction: bool = False

    def sql(self, at: Resolver) -> str:
        text = self.inner.sql(at)
        limit = LAST_SECOND * (1_000_000 // self.micros)
        number = f"try_cast({text} AS BIGINT)"
        plain = f"{number} BETWEEN 0 AND {limit} AND {number}::VARCHAR = {text}"
        whole = f"CASE WHEN {plain} THEN {number} * {self.micros} END"
        if not self.fraction:
            return at.shared(self, whole)
        decimal = f"try_cast({text} AS DECIMAL(26, 9))"
        cut = f"floor({decimal} * {self.micros})::BIGINT"
        shaped = f"regexp_full_match({text}, '[0-9]+([.][0-9]+)?')"
        # Nearly all are whole, and those are read at once.
        micros = f"coalesce({whole}, CASE WHEN {shaped} AND {decimal} BETWEEN 0 AND {limit} THEN {cut} END)"
        return at.shared(self, micros)

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        # Each time answers for its own text: in coalesce(start, end) a good end does not carry a bad start over.
        for use in self.inner.consumed(at, condition):
            yield replace(use, cast=f"({self.sql(at)}) IS NOT NULL")

    def time_text(self, at: Resolver) -> str | None:
        return self.inner.sql(at)

    def explain(self, words: Explained) -> str:
        return f"epoch_{_UNITS[self.micros]}({words.of(self.inner)})"


@dataclass(frozen=True)
class Iso8601(Word):
    """ISO 8601 text with date and time as a point in time: microseconds since 1970, BIGINT.

    Null where the text is no date with a time, or outside the years 1 to 9999. Without an offset it is UTC.
    """

    inner: Word

    def sql(self, at: Resolver) -> str:
        text = self.inner.sql(at)
        # DuckDB would take white space for the first digit of the hour.
        shaped = (
            f"(({text} LIKE '____-__-__T__:__%' OR {text} LIKE '____-__-__ __:__%') "
            f"AND substr({text}, 12, 1) BETWEEN '0' AND '2')"
        )
        # A cast with time zones costs ten times one without, and nearly every log writes Z.
        utc = f"ends_with({text}, 'Z') THEN epoch_us(try_cast({text} AS TIMESTAMP))"
        micros = f"CASE WHEN NOT {shaped} THEN NULL WHEN {utc} ELSE epoch_us(try_cast({text} AS TIMESTAMPTZ)) END"
        return at.shared(self, micros)

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        # What is finer than a microsecond would be lost: then the text stays in `unmapped` as well.
        whole = f"length({self.inner.sql(at)}) <= {len('2026-01-01T00:00:00.000000Z')}"
        for use in self.inner.consumed(at, both(condition, whole)):
            yield replace(use, cast=f"({self.sql(at)}) IS NOT NULL")

    def time_text(self, at: Resolver) -> str | None:
        return self.inner.sql(at)

    def explain(self, words: Explained) -> str:
        return f"iso8601({words.of(self.inner)})"


def _gives_only(pairs: tuple[tuple[object, str], ...], otherwise: Word, texts: Collection[str]) -> bool:
    return all(new in texts for _, new in pairs) and otherwise.gives_only(texts)


def _explained_table(
    name: str, inner: Word, pairs: tuple[tuple[str, str], ...], otherwise: Word | None, words: Explained
) -> str:
    olds: dict[str, list[str]] = {}
    for old, new in pairs:
        olds.setdefault(new, []).append(quoted(old))
    parts = [f"{', '.join(old_texts)} -> {quoted(new)}" for new, old_texts in olds.items()]
    last = [] if otherwise is None else [f"else {words.whole(otherwise)}"]
    return f"{name}({'; '.join([words.of(inner), *parts, *last])})"
