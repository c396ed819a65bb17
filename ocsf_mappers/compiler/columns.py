"""Table columns built from leaves: structs that exist where one of their members does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from ocsf_mappers import sqltext


@dataclass(frozen=True)
class Leaf:
    """A value ready to stand in a table column: its SQL and when it is there.

    It is there where one of `texts` is not null or one of `tests` holds; without any it never is. A weak leaf (a
    default) does not make its object exist.
    """

    sql: str
    texts: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    is_default: bool = False

    @property
    def absent(self) -> bool:
        """Whether nothing makes it exist."""
        return not self.texts and not self.tests


ABSENT = Leaf("NULL")


def column(field: pa.Field, path: str, leaves: Mapping[str, Leaf]) -> Leaf:
    """A column, or a member of one, from the leaves at and below its path."""
    if path in leaves:
        return leaves[path]
    if not pa.types.is_struct(field.type):
        return ABSENT
    packed, leaf = struct(field, path, leaves)
    return leaf if leaf.absent else replace(leaf, sql=f"CASE WHEN {leaf.sql} THEN {packed} END")


def struct(field: pa.Field, path: str, leaves: Mapping[str, Leaf]) -> tuple[str, Leaf]:
    """A struct column from the leaves below its path, and what makes it exist: its SQL is the test for that."""
    members = [(member, column(member, f"{path}.{member.name}", leaves)) for member in field.type]
    strong = [leaf for _, leaf in members if not leaf.is_default]
    texts = _once(text for leaf in strong for text in leaf.texts)
    tests = _once(test for leaf in strong for test in leaf.tests)
    if not texts and not tests:
        return "NULL", ABSENT
    packed = ", ".join(f"{sqltext.name(member.name)}: {typed(leaf, member.type)}" for member, leaf in members)
    has_text = [f"coalesce({', '.join(texts)}) IS NOT NULL"] if texts else []
    return f"{{{packed}}}", Leaf(" OR ".join([*has_text, *tests]), texts, tests)


def typed(leaf: Leaf, kind: pa.DataType) -> str:
    """A leaf in the column's exact type."""
    if leaf.absent and not leaf.is_default:
        return f"NULL::{sqltext.duckdb_type(kind)}"
    # A struct has its type from its members.
    return leaf.sql if pa.types.is_struct(kind) else f"({leaf.sql})::{sqltext.duckdb_type(kind)}"


def _once(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
