"""Where a rule's values stand: in the events of a source, in `unmapped`, and in the texts of its records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from ocsf_lake.redaction import members
from ocsf_lake.redaction.members import Step
from ocsf_lake.redaction.rules import Rule
from ocsf_mappers import Mapper
from ocsf_mappers.errors import ConfigError, nearest
from ocsf_mappers.vocabulary import predicates
from ocsf_mappers.vocabulary.values import Column, Json
from ocsf_mappers.vocabulary.word import Word

Path = tuple[str, ...]

KEPT = (
    "metadata", "class_uid", "class_name", "category_uid", "category_name", "type_uid", "type_name", "activity_id",
    "activity_name", "severity_id", "severity", "time", "time_dt", "cloud", "region", "accountid", "eventday",
    "source_object", "source_etag", "source_record", "mapper_version", "observables",
)  # fmt: skip
"""Attributes that no rule may name: they say what an event is, where it came from and in which files it lies.
Observables follow what they were taken from."""


@dataclass
class Places:
    """Where a rule applies in one source.

    Args:
        hidden: OCSF paths that are hidden altogether, with all below them.
        inside: OCSF path of a JSON text, and the path of members inside; no steps: the rule's detector applies there.
        keys: Names of source members, as `unmapped` spells them, and the path of members inside.
        raw: Paths inside the texts of records.
    """

    hidden: list[Path] = field(default_factory=list)
    inside: list[tuple[Path, tuple[Step, ...]]] = field(default_factory=list)
    keys: list[tuple[Path, tuple[Step, ...]]] = field(default_factory=list)
    raw: list[tuple[Step, ...]] = field(default_factory=list)

    @property
    def is_nowhere(self) -> bool:
        """Whether the source has no such place."""
        return not (self.hidden or self.inside or self.keys)


def of(rule: Rule, mapper: Mapper) -> Places:
    """Where a rule that names a path applies in a source.

    Raises:
        ConfigError: The path may not be hidden, or no hash can stand there.
    """
    assert rule.path is not None
    path = tuple(rule.path.split("."))
    steps = members.steps(rule.member) if rule.member else ()
    places = Places()
    if path[0] == "unmapped" and len(path) > 1:
        places.keys.append((path[1:], steps))
        places.raw.append(_raw(path[1:], steps))
        return places
    kind = _type_at(mapper.lake_table.arrow, path)
    if kind is not None:
        _check(rule, path, kind, mapper)
        _of_attribute(rule, path, steps, mapper, places)
    if any(_related(path, leaf) for leaf in mapper.shape.leaves):
        _of_member(rule, path, steps, mapper, places)
    return places


def unknown(rule: Rule, mapper: Mapper) -> str:
    """Why a path is no place of a source."""
    names = [*(".".join(path) for path in _leaves(mapper.lake_table.arrow)), *map(".".join, mapper.shape.leaves)]
    hint = nearest(rule.path or "", names)
    return f"rule {rule.name!r}: neither events nor records of {mapper.name} have {rule.path!r}{hint}"


def _check(rule: Rule, path: Path, kind: pa.DataType, mapper: Mapper) -> None:
    identity = {tuple(key.split(".")) for key in mapper.duplicate_key}
    if path[0] in KEPT or any(_related(path, key) for key in identity):
        raise ConfigError(
            f"rule {rule.name!r}: {rule.path!r} says what an event is, whose it is or where it came from; it stays"
        )
    if rule.action == "hash" and not _has_text(kind):
        raise ConfigError(f"rule {rule.name!r}: {rule.path!r} is no text, so no hash can stand there; use drop")


def _of_attribute(rule: Rule, path: Path, steps: tuple[Step, ...], mapper: Mapper, places: Places) -> None:
    if rule.detect or steps:
        places.inside.append((path, steps))
    else:
        places.hidden.append(path)
    for attribute, word in _words(mapper):
        if _related(attribute, path):
            places.raw += [_raw(column, steps) for column in _read(word)]


def _of_member(rule: Rule, path: Path, steps: tuple[Step, ...], mapper: Mapper, places: Places) -> None:
    if rule.detect:
        places.inside.append((("unmapped",), ()))
    else:
        places.keys.append((path, steps))
    places.raw.append(_raw(path, steps))
    full = (*path, *(name for name, _ in steps))
    for attribute, word in _words(mapper):
        if attribute[0] in KEPT:
            continue
        for column in _read(word):
            if rule.detect:
                places.inside += [(attribute, ())] if _related(column, path) else []
            elif steps and _begins(path, column):
                # The whole member, or one that it lies in: what is left of the path is looked for in its text.
                rest = tuple((name, False) for name in path[len(column) :])
                places.inside.append((attribute, (*rest, *steps)))
            elif _begins(column, full) or (not steps and _begins(path, column) and len(column) < len(path)):
                if len(column) < len(path):
                    places.inside.append((attribute, tuple((name, False) for name in path[len(column) :])))
                else:
                    places.hidden.append(attribute)


def _raw(path: Path, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The same in the text of a record, whatever that is wrapped in."""
    (first, *rest) = path
    return ((first, True), *((name, False) for name in rest), *steps)


def _begins(path: Path, with_path: Path) -> bool:
    return path[: len(with_path)] == with_path


def _related(one: Path, other: Path) -> bool:
    """Whether one is the other, or lies in it."""
    return _begins(one, other) or _begins(other, one)


def _words(mapper: Mapper) -> Iterator[tuple[Path, Word]]:
    for event in mapper.events:
        for path, word in event.words.items():
            yield tuple(path.split(".")), word


def _read(word: Word) -> Iterator[Path]:
    """The members whose values a word carries over, conditions aside."""
    if isinstance(word, Json) and isinstance(word.inner, Column):
        yield (*word.inner.path, *word.keys)
    elif isinstance(word, Column):
        yield word.path
    elif type(word).__module__ != predicates.__name__:
        for child in word.children():
            yield from _read(child)


# -- the table --------------------------------------------------------------------------------------------------------
def _type_at(schema: pa.Schema, path: Path) -> pa.DataType | None:
    """The type of an attribute; those in lists of objects are named as if there were no list."""
    if path[0] not in schema.names:
        return None
    kind = schema.field(path[0]).type
    for name in path[1:]:
        while pa.types.is_list(kind):
            kind = kind.value_type
        if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            return None
        kind = kind.field(name).type
    return kind


def _leaves(schema: pa.Schema) -> Iterator[Path]:
    for field_ in schema:
        yield from _leaves_of((field_.name,), field_.type)


def _leaves_of(path: Path, kind: pa.DataType) -> Iterator[Path]:
    while pa.types.is_list(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        for member in kind:
            yield from _leaves_of((*path, member.name), member.type)
    else:
        yield path


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_has_text(member.type) for member in kind)
    if pa.types.is_list(kind):
        return _has_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_map(kind))
