"""Rules as SQL for DuckDB: one statement a source, however many rules look at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from ocsf_lake.detections import correlations, first_seen, inverse, places
from ocsf_lake.detections.correlations import Correlation
from ocsf_lake.detections.dialects import DUCKDB, ROW
from ocsf_lake.detections.logs import Part
from ocsf_mappers import sqltext

if TYPE_CHECKING:
    from ocsf_lake.detections.rules import Rule

WINDOW_MS = 3_600_000
"""Events of a rule that are about the same and stand in the same hour, UTC, are one finding."""
SHOWN_EVENTS = 10
"""Of the events of a finding, so many are named."""

_PROVENANCE = ("source_object", "source_record", "time", "accountid", "region")


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


def parts_of(rules: Iterable[Rule]) -> list[Part]:
    """The sources that rules look at."""
    return list({part.source: part for rule in rules if rule.log for part in rule.log.parts}.values())


def reading(parts: Iterable[Part], span: Span) -> list[str]:
    """Simple statements that read what the others read: for finding out which partitions are needed."""
    tables = {table for part in parts for table in part.tables}
    return [f"SELECT time FROM {sqltext.name(table)} WHERE {span.condition}" for table in sorted(tables)]


def counts(part: Part, rules: Sequence[Rule], span: Span) -> str:
    """SQL of `rule`, the number of a rule in `rules`, and `events`, how many it looks for."""
    return f"SELECT rule, count(*) AS events FROM ({_hits(part, rules, span)}) GROUP BY rule"


def groups(part: Part, rules: Sequence[Rule], span: Span) -> str:
    """SQL of what findings are made of: a row for each rule, account, group and hour."""
    return _grouped(f"SELECT *, {WINDOW_MS} AS width FROM ({_hits(part, rules, span)})")


def found(part: Part, rules: Sequence[Rule], span: Span) -> str:
    """SQL of `rule`, the number of a rule in `rules`, and `record`, the number in its object of what it looks for."""
    return f"SELECT rule, split_part(place, '#', -1)::BIGINT AS record FROM ({_hits(part, rules, span)})"


def correlated(correlation: Correlation, span: Span) -> str:
    """SQL of the events at which a correlation holds, see `correlations.windows`; those in the span, by their time."""
    flags = ", ".join(f"max((r = {number})::INTEGER) AS r{number}" for number in range(len(correlation.bases)))
    # An event that two of the rules look for is one event.
    events = (
        f"SELECT ms, place, any_value(uid) AS uid, any_value(accountid) AS accountid, any_value(region) AS region, g, "
        f"any_value(v) AS v, {flags} FROM ({_looked_for(correlation, span.widened(correlation.window_ms, 0))}) "
        "GROUP BY ms, place, g"
    )
    inside = span.condition.replace("time ", "ms ")
    return f"SELECT * FROM ({correlations.windows(correlation, events)}) WHERE {inside}"


def sightings(rule: Rule, most: int) -> str:
    """SQL of the first event of each value of each group of a rule about what was not seen before, the earliest first.

    Args:
        rule: A rule with `first_seen`.
        most: So many at most.
    """
    assert rule.first_seen is not None
    assert rule.log is not None
    arms = []
    for part in rule.log.parts:
        group, value, there = rule.first_seen.columns(part)
        condition = rule.conditions[part.source]
        relation = _relation(part, [condition, *rule.first_seen.read(part)], Span())
        arms.append(
            f"SELECT * FROM (SELECT {_columns(part)}, {group} AS about, {value} AS value FROM {relation} "
            f"WHERE ({DUCKDB.sql(condition)}) AND {there}) WHERE about IS NOT NULL AND value IS NOT NULL"
        )
    key = "struct_pack(ms := ms, uid := uid)"
    return (
        f"SELECT about, value, min(ms) AS first, replace(arg_min(uid, {key}), chr(0), '\\0') AS event, "
        f"arg_min(accountid, {key}) AS account, arg_min(region, {key}) AS region, NULL::VARCHAR AS finding "
        f"FROM ({' UNION ALL '.join(arms)}) "
        "GROUP BY about, value "
        "QUALIFY row_number() OVER (PARTITION BY about ORDER BY min(ms), value) <= "
        f"{first_seen.MOST_VALUES} ORDER BY first, about, value LIMIT {most}"
    )


def extent(correlation: Correlation, span: Span) -> str:
    """SQL of the times of the first and last event that a correlation looks at; null where there is none."""
    return f"SELECT min(ms) AS first, max(ms) AS last FROM ({_looked_for(correlation, span)})"


def _looked_for(correlation: Correlation, span: Span) -> str:
    """SQL of the events of a correlation's rules: what they are grouped by, what is counted, the number of the rule."""
    arms = []
    for part, condition, members, values, number in correlation.selects():
        group = _list([DUCKDB.sql(member) for member in members])
        value = _list([DUCKDB.sql(value) for value in values]) if values else "NULL"
        known = " AND ".join(f"{DUCKDB.sql(member)} IS NOT NULL" for member in [*members, *values]) or "true"
        relation = _relation(part, [condition, *members, *values], span)
        arms.append(
            f"SELECT {_columns(part)}, {group} AS g, {value} AS v, {number} AS r FROM {relation} "
            f"WHERE ({DUCKDB.sql(condition)}) AND {known}"
        )
    return " UNION ALL ".join(arms)


def correlated_groups(correlation: Correlation, number: int, span: Span) -> str:
    """As `groups`, of one correlation rule, whose number it is."""
    held = correlated(correlation, span)
    return _grouped(
        f"SELECT {number} AS rule, ms, place, uid, accountid, region, array_to_string(g, ' | ') AS about, "
        f"{correlation.window_ms} AS width FROM ({held})"
    )


def correlated_count(correlation: Correlation, span: Span) -> str:
    """SQL of how many events a correlation holds at."""
    return f"SELECT count(*) AS events FROM ({correlated(correlation, span)})"


def _hits(part: Part, rules: Sequence[Rule], span: Span) -> str:
    """SQL of a row for each event and rule that looks for it."""
    trees = [rule.conditions[part.source] for rule in rules]
    conditions = [DUCKDB.sql(tree) for tree in trees]
    key = places.sql(part.key)
    relation = _relation(part, [*trees, key], span)
    cases = ", ".join(f"CASE WHEN {condition} THEN {number} END" for number, condition in enumerate(conditions))
    return (
        f"SELECT unnest(list_filter([{cases}], LAMBDA rule : rule IS NOT NULL)) AS rule, {_columns(part)}, "
        f"{DUCKDB.sql(key)} AS about FROM {relation} WHERE {' OR '.join(f'({one})' for one in conditions)}"
    )


def _columns(part: Part) -> str:
    place = "source_object || '#' || source_record"
    has_uid = inverse.kind_of(part.mapper.lake_table.arrow, "metadata.uid") is not None
    uid = f"coalesce(metadata.uid, {place})" if has_uid else place
    return f"time AS ms, {place} AS place, {uid} AS uid, accountid, region"


def _relation(part: Part, trees: Sequence[exp.Expr], span: Span) -> str:
    """SQL of a source's tables as one, with the columns that some trees read."""
    wanted = _read(part, trees)
    arms = []
    for table in part.tables:
        given, names = part.columns.get(table, {}), _names(part)
        spelled = {name: f"{sql} AS {sqltext.name(name)}" for name, sql in given.items()}
        if wanted is None:
            replaced = ", ".join(text for name, text in spelled.items() if name in names)
            added = "".join(f", {text}" for name, text in spelled.items() if name not in names)
            listed = f"*{f' REPLACE ({replaced})' if replaced else ''}{added}"
        else:
            here = [name for name in wanted if name in given or name in names]
            listed = ", ".join(spelled.get(name, sqltext.name(name)) for name in here)
        arms.append(f"SELECT {listed} FROM {sqltext.name(table)} WHERE {span.condition}")
    return f"({' UNION ALL BY NAME '.join(arms)}) AS {ROW}"


def _names(part: Part) -> set[str]:
    return {*part.mapper.lake_table.arrow.names, "accountid", "region", "eventday"}


def _read(part: Part, trees: Sequence[exp.Expr]) -> list[str] | None:
    """The columns that trees read, sorted; None for all."""
    names = {*_PROVENANCE, "metadata"}
    for tree in trees:
        for found in tree.find_all(exp.Anonymous):
            if found.name == places.ANY_TEXT:
                return None
            if found.name == places.UNMAPPED:
                names.add("unmapped")
        names |= {found.parts[0].name for found in tree.find_all(exp.Column)}
    given = {name for columns in part.columns.values() for name in columns}
    return sorted(names & (_names(part) | given))


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
