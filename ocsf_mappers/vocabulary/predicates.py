"""Words that are true or false of a record; null counts as false."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ocsf_mappers import sqltext
from ocsf_mappers.vocabulary.values import Case, Coalesce
from ocsf_mappers.vocabulary.word import Explained, Resolver, Word, quoted

_VERBS = {"regexp_matches": "matches", "starts_with": "starts with", "ends_with": "ends with"}


class Claim(Word):
    """What is true or false."""

    @property
    def stands_alone(self) -> bool:
        return False


@dataclass(frozen=True)
class Pair(Claim):
    """A claim of two values with an operator between them."""

    op: str
    left: Word
    right: Word

    def sql(self, at: Resolver) -> str:
        return f"({self.left.sql(at)} {self.op} {self.right.sql(at)})"


@dataclass(frozen=True)
class Compare(Pair):
    """Two values compared; false where either is null."""

    def explain(self, words: Explained) -> str:
        return f"{words.whole(self.left)} {'!=' if self.op == '<>' else self.op} {words.whole(self.right)}"


@dataclass(frozen=True)
class Logic(Pair):
    """Two claims joined."""

    def _operands(self) -> Iterator[Word]:
        """The operands of the same operator, however they were nested."""
        for side in (self.left, self.right):
            if isinstance(side, Logic) and side.op == self.op:
                yield from side._operands()
            else:
                yield side

    def explain(self, words: Explained) -> str:
        operands = [
            f"({words.of(item)})" if isinstance(item, Case | Logic) else words.of(item) for item in self._operands()
        ]
        return f" {self.op.lower()} ".join(operands)


@dataclass(frozen=True)
class IsNull(Claim):
    """Whether a value is missing."""

    inner: Word

    def sql(self, at: Resolver) -> str:
        return at.is_null(self.inner)

    def explain(self, words: Explained) -> str:
        return f"{words.whole(self.inner)} is null"

    def denied(self, words: Explained) -> str:
        """The text of the opposite."""
        return f"{words.whole(self.inner)} is not null"


@dataclass(frozen=True)
class IsUnread(Claim):
    """Whether none of some values is there; where an attribute is a number, a text that is none is missing too."""

    values: tuple[Word, ...]

    def sql(self, at: Resolver) -> str:
        condition = " AND ".join(at.is_unread(value) for value in self.values)
        return condition if len(self.values) == 1 else f"({condition})"

    def explain(self, words: Explained) -> str:
        return self._missing.explain(words)

    def denied(self, words: Explained) -> str:
        """The text of the opposite."""
        return self._missing.denied(words)

    @property
    def _missing(self) -> IsNull:
        return IsNull(self.values[0] if len(self.values) == 1 else Coalesce(self.values))


@dataclass(frozen=True)
class IsIn(Claim):
    """Whether text is one of a set."""

    inner: Word
    values: tuple[str, ...]

    def sql(self, at: Resolver) -> str:
        if table := at.table(self.values):
            return f"list_contains({table}, ({self.inner.sql(at)})::VARCHAR)"
        return f"({self.inner.sql(at)} IN ({', '.join(map(sqltext.text, self.values))}))"

    def explain(self, words: Explained) -> str:
        return f"{words.whole(self.inner)} in ({', '.join(map(quoted, self.values))})"

    def denied(self, words: Explained) -> str:
        """The text of the opposite."""
        return f"{words.whole(self.inner)} not in ({', '.join(map(quoted, self.values))})"


@dataclass(frozen=True)
class Test(Claim):
    """A text function that answers yes or no."""

    function: str
    inner: Word
    argument: str

    def sql(self, at: Resolver) -> str:
        call = f"{self.function}({self.inner.sql(at)}, {sqltext.text(self.argument)})"
        return at.shared(self, call) if self.function == "regexp_matches" else call

    def explain(self, words: Explained) -> str:
        shown = words.pattern(self.argument) if self.function == "regexp_matches" else quoted(self.argument)
        return f"{words.whole(self.inner)} {_VERBS.get(self.function, self.function)} {shown}"


@dataclass(frozen=True)
class Not(Claim):
    """A claim denied."""

    inner: Word

    def sql(self, at: Resolver) -> str:
        return f"(NOT {self.inner.sql(at)})"

    def explain(self, words: Explained) -> str:
        if isinstance(self.inner, IsNull | IsUnread | IsIn):
            return self.inner.denied(words)
        return f"not ({words.of(self.inner)})"

    @property
    def stands_alone(self) -> bool:
        return True
