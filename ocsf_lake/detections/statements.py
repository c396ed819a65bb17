"""Rules as SQL for DuckDB: one statement a source, however many rules look at it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ocsf_lake.detections import windows
from ocsf_lake.detections.asked import PLACE, Arm, Counted, Look, Pins, Relation, Unseen
from ocsf_mappers import sqltext

WINDOW_MS = 3_600_000
"""Events of a rule that are about the same and stand in the same hour, UTC, are one finding."""
SHOWN_EVENTS = 10
"""Of the events of a finding, so many are named."""

_HIT = '"#rule"'
"""A column that no table has: the number of a condition that holds."""
_COLLECTED = '"#events"'
"""A table that no lake has, see `collecting`."""
_NEW_VALUES = '"#new_values"'
"""Another, see `collecting_new_values`."""


@dataclass(frozen=True)
class Span:
    """Some time, in milliseconds since 1970: from the first on, before the last; None for no bound."""

    first: int | None = None
    end: int | None = None

    @property
    def condition(self) -> str:
        """SQL over the column `time`."""
        bounds = [f"time >= {self.first}"] if self.first is not None else []
        bounds += [f"time < {self.end}"] if self.end is not None else []
        return " AND ".join(bounds) or "true"

    def widened(self, before_ms: int, after_ms: int) -> Span:
        """A longer time."""
        first = None if self.first is None else self.first - before_ms
        return Span(first, None if self.end is None else self.end + after_ms)


def reading(tables: Iterable[str], span: Span) -> list[str]:
    """Simple statements that read what the others read: for finding out which partitions are needed."""
    return [f"SELECT time FROM {sqltext.name(table)} WHERE {span.condition}" for table in sorted(set(tables))]


def counts(relation: Relation, looks: Sequence[Look], span: Span, filled: Collection[str] | None = None) -> str:
    """SQL of `rule`, the number of a condition in `looks`, and `events`, of how many events it holds.

    Args:
        relation: The source.
        looks: The conditions.
        span: Events of which time.
        filled: Tables that have rows; None where that is not known.
    """
    return f"SELECT rule, count(*) AS events FROM ({hits(relation, looks, span, filled)}) GROUP BY rule"


def groups(
    relation: Relation, looks: Sequence[Look], span: Span, filled: Collection[str] | None = None,
    extents: Sequence[Look] = (),
) -> str:  # fmt: skip
    """SQL of what findings are made of: a row for each rule, account, group and hour.

    Args:
        relation: The source.
        looks: The conditions.
        span: Events of which time.
        filled: Tables that have rows; None where that is not known.
        extents: More conditions, numbered on, of which only the first and last event matter.
    """
    rows = hits(relation, [*looks, *extents], span, filled)
    if extents:
        is_rule = f"rule < {len(looks)}"
        rows = (
            f"SELECT * REPLACE (CASE WHEN {is_rule} THEN accountid END AS accountid, "
            f"CASE WHEN {is_rule} THEN about ELSE '' END AS about, CASE WHEN {is_rule} THEN uid END AS uid, "
            f"CASE WHEN {is_rule} THEN place END AS place) "
            f"FROM ({rows})"
        )
    return _grouped(f"SELECT *, {WINDOW_MS} AS width FROM ({rows})")


def matches(relation: Relation, looks: Sequence[Look], span: Span, filled: Collection[str] | None = None) -> str:
    """SQL of `rule`, as of `counts`, and `record`, the number in its object of an event of which it holds."""
    rows = hits(relation, looks, span, filled)
    return f"SELECT rule, split_part(place, '#', -1)::BIGINT AS record FROM ({rows})"


def pinned(
    relation: Relation, pins: Pins, span: Span, filled: Collection[str] | None = None
) -> str:
    """SQL of one row: for each of some columns the list of the texts, of those that matter, that are in it, and nulls.

    Args:
        relation: The source.
        pins: Column -> the texts that matter, see `asked.Pins`.
        span: Events of which time.
        filled: Tables that have rows; None where that is not known.
    """
    listed = []
    for number, (column, texts) in enumerate(pins.items()):
        name = sqltext.name(column)
        those = ", ".join(sorted(sqltext.text(text) for text in texts if text is not None)) or "NULL"
        listed.append(f"list(DISTINCT lower({name})) FILTER (lower({name}) IN ({those})) AS v{number}")
        listed.append(f"bool_or({name} IS NULL) AS n{number}")
    return f"SELECT {', '.join(listed)} FROM {relation.sql(pins, span.condition, filled)}"


def correlated(
    counted: Counted, span: Span, filled: Collection[str] | None = None, events: str | None = None
) -> str:  # fmt: skip
    """SQL of the events at which a correlation holds, see `windows.matching`; those in the span, by their time.

    Args:
        counted: What is counted.
        span: Events of which time.
        filled: Tables that have rows; None where that is not known.
        events: SQL of the events of its rules where those were collected, see `collected`.
    """
    events = events or _looked_for(counted, span.widened(counted.window_ms, 0), filled)
    flags = ", ".join(f"max((r = {number})::INTEGER) AS r{number}" for number in range(counted.size))
    # An event that two of the rules look for is one event.
    single = (
        f"SELECT ms, place, any_value(uid) AS uid, any_value(accountid) AS accountid, any_value(region) AS region, g, "
        f"any_value(v) AS v, {flags} FROM ({events}) GROUP BY ms, place, g"
    )
    inside = span.condition.replace("time ", "ms ")
    return f"SELECT * FROM ({windows.matching(counted, single)}) WHERE {inside}"


def collecting_new_values(
    rules: Mapping[int, Unseen], most_values: int, most: int, filled: Collection[str] | None = None
) -> str:
    """SQL that keeps, as long as a connection is open, when values were first there: of many rules in one scan.

    Args:
        rules: Number of each rule, and what has to be new.
        most_values: So many values of a group at most, the earliest.
        most: So many rows of a rule at most, the earliest.
        filled: Tables that have rows; None where that is not known.
    """
    arms: dict[str, list[tuple[int, Arm]]] = defaultdict(list)
    relations: dict[str, Relation] = {}
    for number, unseen in rules.items():
        for arm in unseen.arms:
            if filled is None or arm.relation.needed(filled):
                relations[arm.relation.source] = arm.relation
                arms[arm.relation.source].append((number, arm))
    seen = " UNION ALL ".join(_seen(relations[source], some, filled) for source, some in arms.items())
    key = "struct_pack(ms := ms, uid := uid)"
    values = (
        f"SELECT rule, about, value, min(ms) AS first, replace(arg_min(uid, {key}), chr(0), '\\0') AS event, "
        f"arg_min(accountid, {key}) AS account, arg_min(region, {key}) AS region, NULL::VARCHAR AS finding "
        f"FROM ({seen}) WHERE about IS NOT NULL AND value IS NOT NULL GROUP BY rule, about, value "
        f"QUALIFY row_number() OVER (PARTITION BY rule, about ORDER BY min(ms), value) <= {most_values}"
    )
    kept = f"QUALIFY row_number() OVER (PARTITION BY rule ORDER BY first, about, value) <= {most}"
    return f"CREATE OR REPLACE TEMP TABLE {_NEW_VALUES} AS SELECT * FROM ({values}) {kept}"


def new_values(number: int) -> str:
    """SQL of the first event of each value of each group of one rule, the earliest first, see above."""
    return f"SELECT * EXCLUDE (rule) FROM {_NEW_VALUES} WHERE rule = {number} ORDER BY first, about, value"


def _seen(relation: Relation, arms: Sequence[tuple[int, Arm]], filled: Collection[str] | None) -> str:
    """SQL of each event, group and value that rules look for in a source."""
    numbers = " ".join(f"WHEN {place} THEN {number}" for place, (number, _) in enumerate(arms))
    groups = " ".join(f"WHEN {place} THEN {arm.group[0]}" for place, (_, arm) in enumerate(arms))
    values = " ".join(f"WHEN {place} THEN {arm.value[0]}" for place, (_, arm) in enumerate(arms))
    columns = {column for _, arm in arms for column in arm.columns}
    rows = _matched(relation, [arm.look for _, arm in arms], Span(), filled, columns)
    return (
        f"SELECT CASE {_HIT} {numbers} END AS rule, {_columns(relation)}, CASE {_HIT} {groups} END AS about, "
        f"CASE {_HIT} {values} END AS value FROM ({rows})"
    )


def _looked_for(counted: Counted, span: Span, filled: Collection[str] | None) -> str:
    """SQL of the events of a correlation's rules: what they are grouped by, what is counted, the number of the rule."""
    return " UNION ALL ".join(_arm(arm, span, filled) for arm in counted.arms)


def _arm(arm: Arm, span: Span, filled: Collection[str] | None) -> str:
    return (
        f"SELECT {_columns(arm.relation)}, {_list(arm.group)} AS g, {_value(arm)} AS v, {arm.number} AS r "
        f"FROM {arm.relation.sql(arm.look.columns, span.condition, filled)} WHERE {arm.look.condition}"
    )


def _value(arm: Arm) -> str:
    return _list(arm.value) if arm.value else "NULL::VARCHAR[]"


def collected(
    relation: Relation, arms: Sequence[tuple[int, Arm, Span]], span: Span, filled: Collection[str] | None = None
) -> str:
    """SQL of the events of many correlations' rules in one scan: `arm` is the number that is given with each.

    Args:
        relation: The source.
        arms: A number, what is looked for, and when.
        span: A time that has all of these in it.
        filled: Tables that have rows; None where that is not known.
    """
    looks = [
        Look(f"({one.condition}) AND {arm.look.condition}", arm.look.columns, arm.look.pins) for _, arm, one in arms
    ]
    columns = {column for _, arm, _ in arms for column in arm.columns}
    groups = " ".join(f"WHEN {number} THEN {_list(arm.group)}" for number, (_, arm, _) in enumerate(arms))
    values = " ".join(f"WHEN {number} THEN {_value(arm)}" for number, (_, arm, _) in enumerate(arms))
    numbers = " ".join(f"WHEN {number} THEN {given}" for number, (given, _, _) in enumerate(arms))
    return (
        f"SELECT CASE {_HIT} {numbers} END AS arm, {_columns(relation)}, CASE {_HIT} {groups} END AS g, "
        f"CASE {_HIT} {values} END AS v FROM ({_matched(relation, looks, span, filled, columns)})"
    )


def collecting(arms: Sequence[str]) -> str:
    """SQL that keeps events, see `collected`, as long as a connection is open."""
    return f"CREATE TEMP TABLE {_COLLECTED} AS {' UNION ALL '.join(arms)}"


def of_collected(numbers: Mapping[int, int]) -> str:
    """SQL of the events that were collected for one correlation: number of an arm there -> number of its rule."""
    rules = " ".join(f"WHEN {arm} THEN {rule}" for arm, rule in numbers.items())
    chosen = ", ".join(map(str, numbers))
    return f"SELECT * EXCLUDE (arm), CASE arm {rules} END AS r FROM {_COLLECTED} WHERE arm IN ({chosen})"


def correlated_groups(
    counted: Counted, number: int, span: Span, filled: Collection[str] | None = None, events: str | None = None
) -> str:
    """As `groups`, of one correlation rule, whose number it is; see `correlated`."""
    rows = correlated(counted, span, filled, events)
    return _grouped(
        f"SELECT {number} AS rule, ms, place, uid, accountid, region, array_to_string(g, ' | ') AS about, "
        f"{counted.window_ms} AS width FROM ({rows})"
    )


def correlated_count(
    counted: Counted, span: Span, filled: Collection[str] | None = None, events: str | None = None
) -> str:
    """SQL of how many events a correlation holds at; see `correlated`."""
    return f"SELECT count(*) AS events FROM ({correlated(counted, span, filled, events)})"


def hits(relation: Relation, looks: Sequence[Look], span: Span, filled: Collection[str] | None = None) -> str:
    """SQL of a row for each event and condition that holds of it.

    The conditions stand in it once, where DuckDB leaves them: in a WHERE it would plan each once more for every table.
    What else is asked of an event is reckoned after that, of those events alone.
    """
    return (
        f"SELECT {_HIT} AS rule, {_columns(relation)}, {relation.about} AS about "
        f"FROM ({_matched(relation, looks, span, filled)})"
    )


def _matched(
    relation: Relation, looks: Sequence[Look], span: Span, filled: Collection[str] | None,
    more: Collection[str] = (),
) -> str:  # fmt: skip
    """SQL of a row for each event and condition, with the columns of the relation's own and more."""
    is_whole = any(look.columns is None for look in looks)
    columns = None if is_whole else {*more, *(column for look in looks for column in look.columns or ())}
    cases = ", ".join(f"CASE WHEN {look.condition} THEN {number} END" for number, look in enumerate(looks))
    kept = ", ".join(sqltext.name(column) for column in sorted({*relation.columns, *more}))
    return (
        f"SELECT unnest(list_filter([{cases}], LAMBDA rule : rule IS NOT NULL)) AS {_HIT}, {kept} "
        f"FROM {relation.sql(columns, span.condition, filled)}"
    )


def _columns(relation: Relation) -> str:
    return f"time AS ms, {PLACE} AS place, {relation.uid} AS uid, accountid, region"


def _grouped(hits: str) -> str:
    """One row for each rule, account, group and window; the ids of its first events."""
    return (
        "SELECT rule, accountid, about, width, ms // width AS number, min(region) AS region, "
        "count(*) AS events, min(ms) AS first, max(ms) AS last, "
        f"arg_min(uid, struct_pack(ms := ms, place := place), {SHOWN_EVENTS}) AS uids "
        f"FROM (SELECT * REPLACE (coalesce(about, 'unknown') AS about) FROM ({hits})) "
        "GROUP BY rule, accountid, about, width, number"
    )


def _list(items: Sequence[str]) -> str:
    return f"[{', '.join(items)}]::VARCHAR[]" if items else "[]::VARCHAR[]"
