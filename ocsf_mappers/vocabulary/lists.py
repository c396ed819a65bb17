"""Words for lists of objects: a JSON array, mapped element by element. `compiler.each` makes their SQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ocsf_mappers.vocabulary.values import ListOf
from ocsf_mappers.vocabulary.word import Explained, Resolver, Word


@dataclass(frozen=True)
class Every(Word):
    """The values at a path through JSON arrays, `[]` standing for each item."""

    inner: Word
    path: str

    def sql(self, at: Resolver) -> str:
        raise TypeError("every() stands before each() only")

    def said(self, words: Explained) -> str:
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

    def said(self, words: Explained) -> str:
        fields = ", ".join(f"{path}: {words.of(value)}" for path, value in self.fields)
        return f"each({words.of(self.inner)}, {fields})"


def parts(word: Word) -> tuple[Each, ...]:
    """The `each` that make up a list of objects; empty for every other word."""
    if isinstance(word, Each):
        return (word,)
    items = word.items if isinstance(word, ListOf) else ()
    found = tuple(item for item in items if isinstance(item, Each))
    return found if len(found) == len(items) else ()


def element_fields(word: Word) -> Iterator[tuple[str, Word]]:
    """Path inside the element and value of everything that a list of objects maps, lists inside it entered."""
    for part in parts(word):
        for path, value in part.fields:
            yield path, value
            yield from ((f"{path}.{inner}", given) for inner, given in element_fields(value))
