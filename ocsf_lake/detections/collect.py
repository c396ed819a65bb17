"""Events of all rules that count, read once: each of these rules by itself would read the same files again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import duckdb

from ocsf_lake.detections import failing, statements
from ocsf_lake.detections.asked import Arm, Asked, Relation
from ocsf_lake.detections.statements import Span
from ocsf_lake.query import query

LEAST = 2
"""For fewer rules it does not pay."""


def events(
    connection: duckdb.DuckDBPyConnection, filled: set[str], rules: Sequence[Asked], spans: Mapping[int, Span]
) -> dict[int, str]:
    """Collects events; gives, by the number of a rule, the SQL of those that it counts. What is not there reads itself.

    They are in memory, or where that is too little in DuckDB's own files, until the connection is closed.

    Args:
        connection: A lake.
        filled: The tables that have files there.
        rules: All rules.
        spans: Number of a rule that counts -> when it is asked whether it holds.
    """
    if len(spans) < LEAST:
        return {}
    relations: dict[str, Relation] = {}
    arms: dict[str, list[tuple[int, Arm, Span]]] = defaultdict(list)
    numbers: dict[int, dict[int, int]] = {number: {} for number in spans}
    arm_numbers: dict[tuple[object, ...], int] = {}
    for number, span in spans.items():
        counted = rules[number].counted
        for arm in counted.arms if counted else ():
            if counted is None or not arm.relation.needed(filled) or arm.look.pins is None:
                continue
            wide = span.widened(counted.window_ms, 0)
            key = (arm.relation.source, arm.look.condition, arm.group, arm.value, wide)
            if key not in arm_numbers:
                arm_numbers[key] = len(arm_numbers)
                relations[arm.relation.source] = arm.relation
                arms[arm.relation.source].append((arm_numbers[key], arm, wide))
            # One collected for two rules of a correlation would be one rule's only.
            elif arm_numbers[key] in numbers[number]:
                return {}
            numbers[number][arm_numbers[key]] = arm.number
    if not arm_numbers:
        return {}
    selects = [
        statements.collected(relations[source], some, together([span for _, _, span in some]), filled)
        for source, some in arms.items()
    ]
    try:
        query.collect(connection, [statements.collecting(selects)])
    except failing.ERRORS:  # asked alone, each has an error of its own
        return {}
    return {number: statements.of_collected(some) for number, some in numbers.items() if some}


def together(spans: Sequence[Span]) -> Span:
    """A time that has all of some in it."""
    firsts, ends = [span.first for span in spans], [span.end for span in spans]
    first = None if None in firsts else min(one for one in firsts if one is not None)
    return Span(first, None if None in ends else max(one for one in ends if one is not None))
