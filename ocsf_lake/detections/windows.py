"""When correlations hold, as SQL: how many events, values or rules stand in the time before one."""

from __future__ import annotations

from collections.abc import Mapping

from ocsf_lake.detections.asked import Counted

ORDERED, ALL = "temporal_ordered", "temporal"


def matching(counted: Counted, events: str) -> str:
    """SQL of the events at which a condition holds, with the columns of `events` and `n`, what was counted.

    Args:
        counted: What is counted.
        events: SQL that gives events: `ms`, milliseconds since 1970, `g`, `v`, and `r0`, `r1`... as 0 or 1.
    """
    numbers = range(counted.size)
    within = f"(PARTITION BY g ORDER BY ms RANGE BETWEEN {counted.window_ms} PRECEDING AND CURRENT ROW)"
    if counted.kind == ORDERED:
        return _ordered(counted, events, within)
    kinds: Mapping[str, str] = {
        "event_count": f"count(*) OVER {within}",
        "value_count": f"count(DISTINCT v) OVER {within}",
        ALL: " + ".join(f"max(r{number}) OVER {within}" for number in numbers),
    }
    return f"SELECT * FROM (SELECT *, {kinds[counted.kind]} AS n FROM ({events})) WHERE n >= {counted.least}"


def _ordered(counted: Counted, events: str, within: str) -> str:
    """Chains of events, each not before the one ahead of it, from a first one that is not too long ago.

    `s1` is the latest beginning of a chain of the first two rules that ends at an event, and so on.
    """
    chain = f"SELECT *, CASE WHEN r0 = 1 THEN ms END AS s0 FROM ({events})"
    last = counted.size - 1
    for number in range(1, last + 1):
        latest = f"CASE WHEN r{number} = 1 THEN max(s{number - 1}) OVER {within} END"
        chain = f"SELECT *, {latest} AS s{number} FROM ({chain})"
    is_complete = f"s{last} IS NOT NULL AND ms - s{last} <= {counted.window_ms}"
    dropped = ", ".join(f"s{number}" for number in range(last + 1))
    return f"SELECT * EXCLUDE ({dropped}), {counted.least} AS n FROM ({chain}) WHERE {is_complete}"
