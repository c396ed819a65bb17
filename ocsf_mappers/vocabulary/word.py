"""What each word of the vocabulary is: a value that gives its SQL and answers for what it reads.

A word is one class: a frozen dataclass, so that equal words are equal by structure. To add one is to write its class
here beside the others, and the function or method of `expr` that makes it; nothing else has to know it.

A value is text unless the word says otherwise; casts to the OCSF type happen where it meets its attribute.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from ocsf_mappers import sqltext
from ocsf_mappers.vocabulary.record import Path

ABSENT = "NULL::VARCHAR"
"""What stands for a column that the batch does not have."""

LONG_TABLE = 16
"""A longer table is looked up where there are many expressions, not spelled out as so many comparisons."""

LONG_PATTERN = 40
"""A longer pattern is named where a word is explained, and written out once below."""


class Resolver(ABC):
    """Where words find their values: the record, unless a subclass says otherwise."""

    @property
    def record(self) -> Resolver:
        """Where columns of the record are found, whatever this one stands in."""
        return self

    @abstractmethod
    def __call__(self, path: Path) -> str:
        """SQL for a column."""

    @abstractmethod
    def blank(self, path: Path) -> tuple[str, ...]:
        """The texts that say nothing in a column; none in one that holds JSON."""

    def nonblank(self, path: Path) -> str:
        """SQL for a column, null where its text says nothing."""
        return without_blank(self(path), self.blank(path))

    def member(self, word: Member) -> str:
        """SQL for a member of a JSON value, as text; here it is taken out where it is needed."""
        return word.taken(self)

    def nonblank_member(self, word: Member, blank: tuple[str, ...]) -> str:
        """SQL for a member of a JSON value, null where its text says nothing."""
        return without_blank(self.member(word), blank)

    def is_null(self, word: Word) -> str:
        """SQL that is true where a value is missing."""
        return f"({word.sql(self)} IS NULL)"

    def is_unread(self, word: Word) -> str:
        """SQL that is true where a value is missing, or is none as the attribute that it fills has it."""
        return self.is_null(word)

    def shared(self, word: Word, sql: str) -> str:
        """The SQL of a word that is costly and may be needed several times, or the name of a column that holds it."""
        return sql

    def table(self, entries: Mapping[str, str] | tuple[str, ...]) -> str | None:
        """The name of a constant column with a long table, a map or a list; None where comparisons are as good."""
        return None

    def table_column(self, sql: str) -> str | None:
        """The name of the record's column that holds a constant; None where there can be none."""
        return None


class Member(Protocol):
    """A word that takes a member out of a JSON value."""

    @property
    def inner(self) -> Word:
        """The JSON value."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The member's name; several go down one level each."""

    def taken(self, at: Resolver) -> str:
        """SQL that takes the member out where it is needed, which may be in few records."""


class Spelling:
    """How a word's results stand in SQL: as the text that they are, unless a subclass spells them as something else."""

    def constant(self, text: str) -> str:
        """SQL for a text that the mapping names."""
        return sqltext.text(text)

    def of(self, sql: str) -> str:
        """SQL for a text that comes from the record."""
        return sql


TEXT = Spelling()


@dataclass(frozen=True)
class Consumption:
    """A column that a word uses up, where `condition` holds (None: always).

    `keys` names the member of a JSON column; empty means the whole column. `cast` is SQL for the rows where the text
    can be read as its type (None: nothing can fail); where it cannot, the text is not carried over after all.
    """

    path: Path
    keys: tuple[str, ...]
    condition: str | None
    cast: str | None = None


class Word(ABC):
    """A value computed from the columns of one record."""

    # -- what it gives ------------------------------------------------------------------------------------------------
    @abstractmethod
    def sql(self, at: Resolver) -> str:
        """SQL for the value."""

    def spelled(self, at: Resolver, spelling: Spelling) -> str:
        """SQL for the value with its results spelled otherwise."""
        return spelling.of(self.sql(at))

    def results(self) -> Iterator[str | int]:
        """The constants that it can give."""
        yield from ()

    def gives_only(self, texts: Collection[str]) -> bool:
        """Whether it gives only these texts, whatever the record holds."""
        return False

    @property
    def passes_text(self) -> bool:
        """Whether a text that the mapping did not expect can get into the value."""
        return False

    @property
    def is_list(self) -> bool:
        """Whether the value is a list of texts, not the JSON text of one."""
        return False

    @property
    def default(self) -> str | None:
        """The text that stands where the record says nothing, and makes no object by itself; None for most words."""
        return None

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for every record."""
        return False

    # -- what it reads ------------------------------------------------------------------------------------------------
    def children(self) -> Iterator[Word]:
        """The words directly inside this one, in the order in which they were written."""
        for value in vars(self).values():
            if not isinstance(value, str):
                yield from _words(value)

    def every(self) -> Iterator[Word]:
        """The word and all those inside it."""
        yield self
        for child in self.children():
            yield from child.every()

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        """What the value carries over from the record, where `condition` holds. Conditions carry nothing."""
        yield from ()

    def time_text(self, at: Resolver) -> str | None:
        """SQL for the text that a time is made of; None for what is no time."""
        return None

    # -- how it is explained ------------------------------------------------------------------------------------------
    @abstractmethod
    def explain(self, words: Explained) -> str:
        """The word as readable text."""

    @property
    def stands_alone(self) -> bool:
        """Whether its text needs no brackets inside that of another word."""
        return True


class Explained:
    """Words as readable text; long patterns are numbered and kept in `patterns`."""

    def __init__(self) -> None:
        self.patterns: dict[str, int] = {}

    def of(self, word: Word) -> str:
        """The text of a word."""
        return word.explain(self)

    def whole(self, word: Word) -> str:
        """The text as one operand."""
        return word.explain(self) if word.stands_alone else f"({word.explain(self)})"

    def pattern(self, pattern: str) -> str:
        """The text of an RE2 pattern."""
        if len(pattern) <= LONG_PATTERN:
            return f"/{pattern}/"
        return f"pattern {self.patterns.setdefault(pattern, len(self.patterns) + 1)}"


def quoted(value: object) -> str:
    """A constant as readable text."""
    return json.dumps(value, ensure_ascii=False)


def without_blank(sql: str, blank: tuple[str, ...]) -> str:
    """A text, null where it is one of those that say nothing."""
    if not blank or sql == ABSENT:
        return sql
    if len(blank) == 1:
        return f"nullif({sql}, {sqltext.text(blank[0])})"
    return f"CASE WHEN {sql} NOT IN ({', '.join(map(sqltext.text, blank))}) THEN {sql} END"


def both(left: str | None, right: str | None) -> str | None:
    """Two conditions that must both hold; None is no condition."""
    if left is None or right is None:
        return left or right
    return f"({left}) AND ({right})"


def _words(value: object) -> Iterator[Word]:
    if isinstance(value, tuple):
        for item in value:
            if not isinstance(item, str):  # most are; to ask whether one is of an abstract class costs more
                yield from _words(item)
    elif isinstance(value, Word):
        yield value
