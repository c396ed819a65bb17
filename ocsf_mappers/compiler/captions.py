"""Enum ids from captions: an expression that gives a caption, as SQL that gives the id."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ocsf_mappers import sqltext
from ocsf_mappers.compiler import render
from ocsf_mappers.ocsf.schema import Attribute
from ocsf_mappers.vocabulary import expr as e

OTHER = 99
"""OCSF's id for text that the enum does not know; the sibling keeps the text."""


def enum_ids(attribute: Attribute) -> dict[str, int]:
    """The ids of an attribute's enum by caption."""
    return {caption: int(key) for key, caption in (attribute.enum or {}).items()}


def constant_id(attribute: Attribute, caption: str) -> int:
    """The id of a caption that is the same for every record."""
    return enum_ids(attribute).get(caption, OTHER)


def id_sql(expr: e.Expr, attribute: Attribute, column: render.Resolver) -> str:
    """SQL for the id: null stays null (0 where OCSF requires the attribute), unknown text is 99."""
    ids = enum_ids(attribute)
    found = _id(expr, ids, column)
    return f"coalesce({found}, 0)::SMALLINT" if attribute.required and 0 in ids.values() else f"({found})::SMALLINT"


def _id(expr: e.Expr, ids: Mapping[str, int], column: render.Resolver) -> str:
    match expr:
        case e.Literal(str() as caption):
            return str(ids.get(caption, OTHER))
        case e.Replace(inner, pairs, otherwise):
            text = render.value(inner, column)
            rest = _of_text(text, ids) if otherwise is None else _id(otherwise, ids, column)
            branches = " ".join(f"WHEN {sqltext.text(old)} THEN {ids.get(new, OTHER)}" for old, new in pairs)
            return f"CASE {text} {branches} ELSE {rest} END"
        case e.ReplacePrefix(inner, pairs, otherwise):
            text = render.value(inner, column)
            branches = render.by_prefix(text, [(old, str(ids.get(new, OTHER))) for old, new in pairs], column)
            return f"CASE WHEN {text} IS NULL THEN NULL {branches} ELSE {_id(otherwise, ids, column)} END"
        case e.Band(inner, pairs, otherwise):
            known = [(str(floor), str(ids.get(new, OTHER))) for floor, new in pairs]
            return render.band(render.value(inner, column), known, _id(otherwise, ids, column))
        case e.Case(branches, default):
            parts = " ".join(
                f"WHEN {render.value(test, column)} THEN {_id(then, ids, column)}" for test, then in branches
            )
            last = "" if default is None else f" ELSE {_id(default, ids, column)}"
            return f"CASE {parts}{last} END"
        case _:
            return _of_text(render.value(expr, column), ids)


def _of_text(text: str, ids: Mapping[str, int]) -> str:
    branches = " ".join(f"WHEN {sqltext.text(caption)} THEN {number}" for caption, number in ids.items())
    return f"CASE WHEN {text} IS NULL THEN NULL ELSE CASE {text} {branches} ELSE {OTHER} END END"


def closed(expr: e.Expr, known: Collection[str]) -> bool:
    """Whether the expression gives only these captions, whatever the record holds."""
    match expr:
        case e.Literal(value):
            return value in known
        case e.Replace(_, pairs, otherwise) | e.ReplacePrefix(_, pairs, otherwise):
            return otherwise is not None and all(new in known for _, new in pairs) and closed(otherwise, known)
        case e.Band(_, floors, otherwise):
            return all(new in known for _, new in floors) and closed(otherwise, known)
        case e.Case(branches, default):
            return all(closed(then, known) for _, then in branches) and (default is None or closed(default, known))
        case _:
            return False
