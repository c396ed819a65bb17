"""Words for lists: a JSON array, gone through element by element.

A list of texts gives its SQL itself; that of a list of objects, which needs to know the type, is made by
`compiler.each`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ocsf_mappers import sqltext
from ocsf_mappers.vocabulary.record import Path
from ocsf_mappers.vocabulary.values import ELEMENT, OUTER, Case, ListOf
from ocsf_mappers.vocabulary.word import Consumption, Explained, Resolver, Word, both, without_blank


@dataclass(frozen=True)
class Every(Word):
    """The values at a path through JSON arrays, `[]` standing for each item."""

    inner: Word
    path: str

    def sql(self, at: Resolver) -> str:
        raise TypeError("every() stands before each() only")

    def explain(self, words: Explained) -> str:
        return f"every({words.whole(self.inner)}, {self.path})"


@dataclass(frozen=True)
class Each(Word):
    """A JSON array of objects, mapped element by element."""

    inner: Word
    fields: tuple[tuple[str, Word], ...]
    or_empty: bool = False

    def children(self) -> Iterator[Word]:
        # The record's columns alone: those that the fields read are the element's.
        yield self.inner

    def sql(self, at: Resolver) -> str:
        raise TypeError("a list of objects needs the type of its elements")

    def explain(self, words: Explained) -> str:
        fields = ", ".join(f"{path}: {words.of(value)}" for path, value in self.fields)
        return f"each({words.of(self.inner)}, {fields})"


@dataclass(frozen=True)
class EachOf(Word):
    """A list of texts, one or more of each element of a JSON array; null and blank ones are left out.

    Args:
        inner: The array; an object counts as an array of one.
        path: What is taken out of each element, `[]` standing for each item of a list; None for the element itself.
        where: The elements that count; None for all.
        text: What is made of an element instead; None for what is at the path.
    """

    inner: Word
    path: str | None
    where: Word | None
    text: Word | None

    def children(self) -> Iterator[Word]:
        # As with `Each`: what the others read is the element's.
        yield self.inner

    def sql(self, at: Resolver) -> str:
        element = _Element(at)
        items = elements(self.inner.sql(at))
        if self.where is not None:
            items = f"list_filter({items}, lambda e: {self.where.sql(element)})"
        if self.text is not None:
            items = f"list_transform({items}, lambda e: {self.text.sql(element)})"
        else:
            taken = f"json_extract_string(e, {sqltext.text(json_path(self.path or ''))})"
            items = f"list_transform({items}, lambda e: {taken})"
            items = f"flatten({items})" if "[]" in (self.path or "") else items
        texts = f"list_transform({items}, lambda e: {without_blank('e', at.blank((ELEMENT,)))})"
        return f"nullif(list_filter({texts}, lambda e: e IS NOT NULL), []::VARCHAR[])"

    @property
    def is_list(self) -> bool:
        return True

    def consumed(self, at: Resolver, condition: str | None = None) -> Iterator[Consumption]:
        if (self.path, self.where, self.text) == (None, None, None):
            is_array = None if self.inner.is_list else has_elements(self.inner.sql(at))
            yield from self.inner.consumed(at, both(condition, is_array))

    def explain(self, words: Explained) -> str:
        arguments = [words.of(self.inner), *([self.path] if self.path else [])]
        arguments += [words.of(self.text)] if self.text else []
        arguments += [f"where {words.of(self.where)}"] if self.where else []
        return f"each_of({', '.join(arguments)})"


class _Element(Resolver):
    """What the words inside `each_of` read: members of the element `e`.

    Args:
        around: Where the array is read: the record, or the element of a list that this one stands in.
    """

    def __init__(self, around: Resolver) -> None:
        self._record = around.record

    @property
    def record(self) -> Resolver:
        """What the record's own columns are read from."""
        return self._record

    def __call__(self, path: Path) -> str:
        """SQL for a member of the element, the element itself, or a column of the record."""
        if path[0] == OUTER:
            return self.record(path[1:])
        if path == (ELEMENT,):
            return "json_extract_string(e, '$')"
        return f"json_extract_string(e, {sqltext.pointer(*(path[1:] if path[0] == ELEMENT else path))})"

    def blank(self, path: Path) -> tuple[str, ...]:
        """The texts that say nothing."""
        return self.record.blank(path[1:] if path[0] == OUTER else (ELEMENT,))


def elements(array: str) -> str:
    """SQL for the elements of a JSON array, as JSON; an object is the one element of its own, other values have none.

    A text that begins like an array need not be one.
    """
    return (
        f"TRY(CASE left({array}::VARCHAR, 1) WHEN '[' THEN from_json({array}, '[\"JSON\"]') "
        f"WHEN '{{' THEN [{array}::JSON] END)"
    )


def has_elements(array: str) -> str:
    """SQL that is true where a value has `elements`, which need not be computed for it; false elsewhere."""
    return f"coalesce(left({array}::VARCHAR, 1) IN ('[', '{{') AND json_valid({array}), false)"


def texts(array: str) -> str:
    """SQL for the items of a JSON array as texts; null where a text is no array."""
    # without CASE, DuckDB would compute what recurs ahead of TRY
    return f"TRY(CASE WHEN left({array}::VARCHAR, 1) = '[' THEN from_json({array}, '[\"VARCHAR\"]') END)"


def json_path(path: str) -> str:
    """A DuckDB JSON path; `[]` behind a name, or alone, stands for each item of a list."""
    steps = [(step.removesuffix("[]"), step.endswith("[]")) for step in path.split(".")]
    return "$" + "".join((f'."{name}"' if name else "") + ("[*]" if every else "") for name, every in steps)


def where(word: Word, condition: Word) -> Word:
    """A word that is null where a condition does not hold; of a list of objects its array."""
    match word:
        case ListOf(items) if parts(word):
            return ListOf(tuple(where(item, condition) for item in items))
        case Each() | Every():
            return replace(word, inner=where(word.inner, condition))
        case _:
            return Case(((condition, word),))


def parts(word: Word) -> tuple[Each, ...]:
    """The `each` that make up a list of objects; empty for every other word."""
    if isinstance(word, Each):
        return (word,)
    items = word.items if isinstance(word, ListOf) else ()
    objects = tuple(item for item in items if isinstance(item, Each))
    return objects if len(objects) == len(items) else ()


def element_fields(word: Word) -> Iterator[tuple[str, Word]]:
    """Path inside the element and value of everything that a list of objects maps, lists inside it entered."""
    for part in parts(word):
        for path, value in part.fields:
            yield path, value
            yield from ((f"{path}.{inner}", given) for inner, given in element_fields(value))
