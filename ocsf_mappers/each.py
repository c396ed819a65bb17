"""JSON arrays of objects, mapped element by element."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from ocsf_mappers import expr as e
from ocsf_mappers import render, sqltext
from ocsf_mappers.columns import Leaf, column
from ocsf_mappers.record import Path


def _inside(path: Path) -> str:
    # Not a struct of declared members: DuckDB's struct names ignore case, and logs hold both `ARN` and `arn`.
    return f"json_extract_string(item, {sqltext.pointer(*path)})"


def render_each(expr: e.Each, outer: render.Resolver, kind: pa.DataType) -> str:
    """SQL for the list of objects, in the table's type; elements that map to nothing are left out.

    Args:
        expr: The expression.
        outer: SQL for the columns outside.
        kind: The table's type of the list.
    """
    leaves = {}
    for path, inner in expr.fields:
        sql = render.value(inner, _inside)
        leaves[path] = Leaf(sql, "" if isinstance(inner, e.Literal) else f"({sql}) IS NOT NULL")
    element = column(
        pa.field("element", kind.value_type), "element", {f"element.{path}": leaf for path, leaf in leaves.items()}
    )
    parsed = _elements(render.value(expr.inner, outer))
    found = f"list_filter(list_transform({parsed}, lambda item: {element.sql}), lambda item: item IS NOT NULL)"
    return f"{f'coalesce({found}, [])' if expr.or_empty else found}::{sqltext.duckdb_type(kind)}"


def element_leftover(expr: e.Each, outer: render.Resolver) -> str:
    """SQL that is true where some element holds a value that the mapping does not carry over."""
    array = render.value(expr.inner, outer)
    named = sorted({column.parts for column in _columns(expr)})
    unused = {parts: _unused(expr, parts) for parts in named}
    always = sqltext.texts(sorted({parts[0] for parts in named if unused[parts] is None and len(parts) == 1}))
    sometimes = sqltext.texts(sorted({parts[0] for parts in named if len(parts) == 1}))
    tests = [f"NOT list_has_all({sometimes}, json_keys(item))", *(test for test in unused.values() if test)]
    left = (
        f"CASE WHEN list_has_all({always}, json_keys(item)) THEN NOT starts_with(item::VARCHAR, '{{') "
        f"ELSE {' OR '.join(tests)} END"
    )
    found = f"list_bool_or(list_transform({_elements(array)}, lambda item: {left}))"
    return f"(NOT regexp_matches({array}::VARCHAR, '^[[{{]') OR coalesce({found}, false))"


def _unused(expr: e.Each, parts: Path) -> str | None:
    """SQL that is true where an element's member is there and no field uses it; None when one always does."""
    uses = [use for _, inner in expr.fields for use in render.consumed(inner, _inside) if use.path == parts]
    conditions = [use.condition for use in uses if not use.keys]
    if None in conditions:
        return None
    used = " OR ".join(f"({condition})" for condition in conditions) or "false"
    return f"({_inside(parts)} IS NOT NULL AND ({used}) IS NOT TRUE)"


def _columns(expr: e.Each) -> Iterable[e.Column]:
    for _, inner in expr.fields:
        yield from e.columns(inner)


def _elements(array: str) -> str:
    single = f"starts_with({array}::VARCHAR, '{{')"
    return f"from_json(CASE WHEN {single} THEN '[' || {array} || ']' ELSE {array} END, '[\"JSON\"]')"
