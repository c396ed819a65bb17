"""Enum ids from captions: a word that gives a caption, as SQL that gives the id."""

from __future__ import annotations

from collections.abc import Mapping

from ocsf_mappers import sqltext
from ocsf_mappers.ocsf.schema import Attribute
from ocsf_mappers.vocabulary.word import Resolver, Spelling, Word

OTHER = 99
"""OCSF's id for text that the enum does not know; the sibling keeps the text."""


class Ids(Spelling):
    """Captions spelled as the ids of an enum."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = ids

    def constant(self, text: str) -> str:
        """The id of a caption; text that the enum does not know is 99."""
        return str(self._ids.get(text, OTHER))

    def of(self, sql: str) -> str:
        """SQL for the id of a text that comes from the record."""
        branches = " ".join(f"WHEN {sqltext.text(caption)} THEN {number}" for caption, number in self._ids.items())
        return f"CASE WHEN {sql} IS NULL THEN NULL ELSE CASE {sql} {branches} ELSE {OTHER} END END"


def enum_ids(attribute: Attribute) -> dict[str, int]:
    """The ids of an attribute's enum by caption."""
    return {caption: int(key) for key, caption in (attribute.enum or {}).items()}


def constant_id(attribute: Attribute, caption: str) -> int:
    """The id of a caption that is the same for every record."""
    return enum_ids(attribute).get(caption, OTHER)


def default_id(attribute: Attribute, default: str | None) -> int | None:
    """The id that makes no object by itself: that of a default caption, or 0 where OCSF requires the attribute."""
    if default is not None:
        return constant_id(attribute, default)
    return 0 if attribute.required else None


def id_sql(word: Word, attribute: Attribute, at: Resolver) -> str:
    """SQL for the id: null stays null (0 where OCSF requires the attribute), unknown text is 99."""
    ids = enum_ids(attribute)
    spelled = word.spelled(at, Ids(ids))
    return f"coalesce({spelled}, 0)::SMALLINT" if attribute.required and 0 in ids.values() else f"({spelled})::SMALLINT"
