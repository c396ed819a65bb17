"""Words for values: what a record holds, constants, and the choice between them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from ocsf_mappers import sqltext
from ocsf_mappers.vocabulary.record import CARRIER, OBJECT_KEY, Path
from ocsf_mappers.vocabulary.word import (
    TEXT,
    Consumption,
    Explained,
    Resolver,
    Spelling,
    Word,
    both,
    quoted,
)

ELEMENT, OUTER = "@element", "@outer"
"""First steps of the columns that mean, inside `each`, the element itself and the record around it."""

_SPECIAL = {OBJECT_KEY: "object_key", CARRIER: "carrier", OUTER: "outer", ELEMENT: "element"}


@dataclass(frozen=True)
class Column(Word):
    """A source column, or a member of one; `as_written` keeps a text that says nothing."""

    path: Path
    as_written: bool = False

    def sql(self, at: Resolver) -> str:
        return at(self.path) if self.as_written else at.nonblank(self.path)

    @property
    def passes_text(self) -> bool:
        return True

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        yield Consumption(self.path, (), condition)

    def explain(self, words: Explained) -> str:
        return ".".join((_SPECIAL.get(self.path[0], self.path[0]), *self.path[1:]))


def columns(word: Word) -> Iterator[Column]:
    """Every column that a word names, conditions included; of lists those that their elements come from."""
    return (inner for inner in word.every() if isinstance(inner, Column))


@dataclass(frozen=True, eq=False)
class Literal(Word):
    """A constant."""

    value: str | int | bool

    def __eq__(self, other: object) -> bool:
        # 1 and true are equal in Python, and not here
        return isinstance(other, Literal) and type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))

    def sql(self, at: Resolver) -> str:
        if isinstance(self.value, str):
            return sqltext.text(self.value)
        return str(self.value).lower()

    def spelled(self, at: Resolver, spelling: Spelling) -> str:
        return spelling.constant(self.value) if isinstance(self.value, str) else spelling.of(self.sql(at))

    def results(self) -> Iterator[str | int]:
        yield self.value

    def gives_only(self, texts: Collection[str]) -> bool:
        return self.value in texts

    @property
    def is_constant(self) -> bool:
        return True

    def explain(self, words: Explained) -> str:
        return quoted(self.value)


@dataclass(frozen=True)
class ListOf(Word):
    """A list of values; null items are left out, and a list without items is null."""

    items: tuple[Word, ...]

    def sql(self, at: Resolver) -> str:
        items = [item.sql(at) for item in self.items]
        if len(items) == 1:
            return f"CASE WHEN {items[0]} IS NOT NULL THEN [{items[0]}] END"
        kept = f"list_filter([{', '.join(items)}], lambda item: item IS NOT NULL)"
        return f"CASE WHEN coalesce({', '.join(items)}) IS NOT NULL THEN {kept} END"

    @property
    def is_list(self) -> bool:
        return True

    @property
    def is_constant(self) -> bool:
        return all(isinstance(item, Literal) for item in self.items)

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        for item in self.items:
            yield from item.consumed(at, condition)

    def explain(self, words: Explained) -> str:
        return f"[{', '.join(map(words.of, self.items))}]"


@dataclass(frozen=True)
class Json(Word):
    """A member of a JSON value; several keys go down one level each. `as_written` as for columns."""

    inner: Word
    keys: tuple[str, ...]
    as_written: bool = False

    def sql(self, at: Resolver) -> str:
        return at.member(self) if self.as_written else at.nonblank_member(self, at.blank((ELEMENT,)))

    def taken(self, at: Resolver) -> str:
        """SQL that takes the member out where it is needed, which may be in few records."""
        member = f"json_extract_string({self.inner.sql(at)}, {sqltext.pointer(*self.keys)})"
        # a member is JSON, what a word makes may be any text
        return member if isinstance(self.inner, Column) else f"TRY({member})"

    @property
    def passes_text(self) -> bool:
        return True

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        if isinstance(self.inner, Column):
            yield Consumption(self.inner.path, self.keys, condition)

    def explain(self, words: Explained) -> str:
        return ".".join([words.whole(self.inner), *self.keys])


@dataclass(frozen=True)
class Coalesce(Word):
    """The first value that is not null; later ones are consumed only where they are used or equal."""

    items: tuple[Word, ...]

    @property
    def given(self) -> Sequence[Word]:
        """The values that there are to choose from."""
        return self.items

    @property
    def is_list(self) -> bool:
        return any(item.is_list for item in self.items)

    def sql(self, at: Resolver) -> str:
        return "coalesce(" + ", ".join(item.sql(at) for item in self.items) + ")"

    def results(self) -> Iterator[str | int]:
        for item in self.items:
            yield from item.results()

    @property
    def passes_text(self) -> bool:
        return any(item.passes_text for item in self.items)

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        first = self.items[0].sql(at)
        yield from self.items[0].consumed(at, condition)
        before = [first]
        for item in self.items[1:]:
            text = item.sql(at)
            unused = " AND ".join(f"{earlier} IS NULL" for earlier in before)
            chosen = f"coalesce({', '.join(before)})" if len(before) > 1 else first
            yield from item.consumed(at, both(condition, f"({unused}) OR {chosen} = {text}"))
            before.append(text)

    def time_text(self, at: Resolver) -> str | None:
        texts = [text for item in self.items if (text := item.time_text(at))]
        return f"coalesce({', '.join(texts)})"

    def explain(self, words: Explained) -> str:
        return f"coalesce({', '.join(map(words.whole, self.items))})"


@dataclass(frozen=True)
class First(Coalesce):
    """The first value that is not null, else a text that makes no object by itself."""

    otherwise: str

    def sql(self, at: Resolver) -> str:
        items = [*(item.sql(at) for item in self.items), sqltext.text(self.otherwise)]
        return f"coalesce({', '.join(items)})"

    @property
    def default(self) -> str | None:
        return self.otherwise

    def results(self) -> Iterator[str | int]:
        yield from super().results()
        yield self.otherwise

    def explain(self, words: Explained) -> str:
        return f"first({', '.join(map(words.whole, self.items))}, else {quoted(self.otherwise)})"


def without_default(word: Word) -> Word:
    """What the record says of a value, without the default that stands where it says nothing."""
    if not isinstance(word, First):
        return word
    return word.items[0] if len(word.items) == 1 else Coalesce(word.items)


@dataclass(frozen=True)
class Text(Word):
    """Values put into a text, null where one of them is.

    Args:
        pieces: The text before the first value, between each two, and behind the last.
        items: The values.
    """

    pieces: tuple[str, ...]
    items: tuple[Word, ...]

    def sql(self, at: Resolver) -> str:
        joined = [sqltext.text(self.pieces[0])] if self.pieces[0] else []
        for item, piece in zip(self.items, self.pieces[1:], strict=True):
            joined += [item.sql(at), *([sqltext.text(piece)] if piece else [])]
        return f"({' || '.join(joined)})"

    @property
    def passes_text(self) -> bool:
        return any(item.passes_text for item in self.items)

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        for item in self.items:
            others = " AND ".join(f"{other.sql(at)} IS NOT NULL" for other in self.items if other != item)
            yield from item.consumed(at, both(condition, others or None))

    def explain(self, words: Explained) -> str:
        items = [f"{{{words.of(item)}}}" for item in self.items]
        return quoted("".join(map("".join, zip_longest(self.pieces, items, fillvalue=""))))


@dataclass(frozen=True)
class Case(Word):
    """The value of the first branch whose condition holds; null when none does."""

    branches: tuple[tuple[Word, Word], ...]
    otherwise: Word | None = None

    @property
    def given(self) -> Sequence[Word]:
        """The values that there are to choose from."""
        return [*(then for _, then in self.branches), *([] if self.otherwise is None else [self.otherwise])]

    def sql(self, at: Resolver) -> str:
        return self.spelled(at, TEXT)

    def spelled(self, at: Resolver, spelling: Spelling) -> str:
        whens = [f"WHEN {test.sql(at)} THEN {then.spelled(at, spelling)}" for test, then in self.branches]
        last = "" if self.otherwise is None else f" ELSE {self.otherwise.spelled(at, spelling)}"
        return f"CASE {' '.join(whens)}{last} END"

    def results(self) -> Iterator[str | int]:
        for value in self.given:
            yield from value.results()

    def gives_only(self, texts: Collection[str]) -> bool:
        return all(value.gives_only(texts) for value in self.given)

    @property
    def passes_text(self) -> bool:
        # who writes an `otherwise` expects any text there
        return any(then.passes_text for _, then in self.branches)

    @property
    def is_list(self) -> bool:
        return any(value.is_list for value in self.given)

    @property
    def default(self) -> str | None:
        defaults = {value.default for value in self.given}
        return defaults.pop() if len(defaults) == 1 else None

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        missed: list[str] = []
        for test, then in self.branches:
            claim = test.sql(at)
            earlier = " AND ".join(f"({miss}) IS NOT TRUE" for miss in missed)
            yield from then.consumed(at, both(condition, both(earlier or None, claim)))
            missed.append(claim)
        if self.otherwise is not None:
            earlier = " AND ".join(f"({miss}) IS NOT TRUE" for miss in missed)
            yield from self.otherwise.consumed(at, both(condition, earlier))

    def explain(self, words: Explained) -> str:
        parts = [f"{words.whole(value)} when {words.of(test)}" for test, value in self.branches]
        return ", else ".join([*parts, *([] if self.otherwise is None else [words.whole(self.otherwise)])])

    @property
    def stands_alone(self) -> bool:
        return False


@dataclass(frozen=True)
class Sql(Word):
    """A piece of DuckDB SQL over the values it says it reads: the way out when the vocabulary ends.

    A record for which it cannot be computed, as of a sum that is too large, is quarantined. `TRY` around it would not
    help: DuckDB computes what stands in it twice ahead of it.
    """

    template: str
    reads: tuple[Word, ...]
    carries: bool = True

    def sql(self, at: Resolver) -> str:
        return "(" + self.template.format(*(read.sql(at) for read in self.reads)) + ")"

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        for read in self.reads if self.carries else ():
            yield from read.consumed(at, condition)

    def explain(self, words: Explained) -> str:
        return f"sql({self.template.format(*map(words.of, self.reads))})"
