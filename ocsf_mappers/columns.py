"""Table columns built from leaves: structs that exist where one of their members does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from ocsf_mappers import sqltext


@dataclass(frozen=True)
class Leaf:
    """A value ready to stand in a table column: its SQL and when it is there.

    `present` is a SQL test, "" for always, None for never. A weak leaf (a default) does not make its object exist.
    """

    sql: str
    present: str | None
    weak: bool = False


NEVER = Leaf("NULL", None)


def column(field: pa.Field, path: str, leaves: Mapping[str, Leaf]) -> Leaf:
    """A column, or a member of one, from the leaves at and below its path."""
    if path in leaves:
        return leaves[path]
    if not pa.types.is_struct(field.type):
        return NEVER
    members = [(member, column(member, f"{path}.{member.name}", leaves)) for member in field.type]
    tests = [leaf.present for _, leaf in members if not leaf.weak]
    if all(test is None for test in tests):
        return NEVER
    packed = ", ".join(f"{sqltext.name(member.name)}: {typed(leaf, member.type)}" for member, leaf in members)
    if "" in tests:
        return Leaf(f"{{{packed}}}", "")
    present = " OR ".join(dict.fromkeys(test for test in tests if test))
    return Leaf(f"CASE WHEN {present} THEN {{{packed}}} END", f"({present})")


def typed(leaf: Leaf, kind: pa.DataType) -> str:
    """A leaf in the column's exact type."""
    if leaf.present is None and not leaf.weak:
        return f"NULL::{sqltext.duckdb_type(kind)}"
    # A struct has its type from its members.
    return leaf.sql if pa.types.is_struct(kind) else f"({leaf.sql})::{sqltext.duckdb_type(kind)}"
