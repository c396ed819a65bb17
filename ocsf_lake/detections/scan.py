"""Rules asked of a lake: every rule in one scan of what it looks at. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ocsf_lake.config import Settings
from ocsf_lake.detections import collect, connections, failing, new_values, statements
from ocsf_lake.detections.asked import Asked, Look, Relation
from ocsf_lake.detections.connections import Connected
from ocsf_lake.detections.failing import Rows
from ocsf_lake.detections.statements import Span
from ocsf_lake.query import query, shown

_ALL = Span()
_PINNED_LOOKS = 4
"""From so many conditions on, whether the values that a column must have are there at all is asked before them."""

Statement = Callable[[Sequence[int]], str]
"""Gives the statement of some conditions, by their numbers; it numbers them from 0 on."""


class Askable(Protocol):
    """A `Rule`, or an `Asked` that was kept."""

    @property
    def asked(self) -> Asked:
        """It as it is asked."""


@dataclass(frozen=True)
class Count:
    """How many events a rule looks for.

    Args:
        rule: The rule.
        events: How many there are.
        reason: Why it could not be asked; None where it was.
    """

    rule: Asked
    events: int
    reason: str | None = None


def counts(
    settings: Settings, rules: Sequence[Askable], span: Span = _ALL, files: shown.Chosen | None = None
) -> list[Count]:
    """How many events each rule looks for, in the order of the rules.

    Args:
        settings: The lake.
        rules: The rules, those too that cannot be used.
        span: Events of which time.
        files: Which files; None for all of the lake.

    Raises:
        ReadError: A file of the lake is gone or damaged.
    """
    asked = [rule.asked for rule in rules]
    totals = dict.fromkeys(range(len(asked)), 0)
    reasons = {number: rule.reason for number, rule in enumerate(asked) if rule.reason}
    with connections.connected(settings, asked, span, files) as lake:
        for relation, every in by_source(asked):
            if not relation.needed(lake.filled):
                continue
            numbered = {number: look for number, look in every.items() if asked[number].looks_at_each}
            looks = possible(lake, relation, numbered, span)
            numbers = list(looks)

            def statement(some: Sequence[int], one: Relation = relation, of: Mapping[int, Look] = looks) -> str:
                return statements.counts(one, [of[number] for number in some], span, lake.filled)

            for some, batches in divided(lake, numbers, statement, reasons):
                for row in (row for rows in batches for row in rows):
                    totals[some[row["rule"]]] += row["events"]
        counting = {
            number: span
            for number, rule in enumerate(asked)
            if rule.counted and number not in reasons and any(one.needed(lake.filled) for one in rule.relations)
        }
        events = collect.events(lake.connection, lake.filled, asked, counting)
        for number in counting:
            if (counted := asked[number].counted) is not None:
                sql = statements.correlated_count(counted, span, lake.filled, events.get(number))
                try:
                    (row,) = query.run(lake.connection, sql).to_pylist()
                    totals[number] = row["events"]
                except failing.ERRORS as error:
                    if (problem := failing.problem(lake.connection, sql, error)) is None:
                        raise
                    reasons[number] = problem
    totals |= {number: new.count for number, new in new_values.look(settings, asked, span, files, reasons)}
    return [Count(rule, totals[number], reasons.get(number)) for number, rule in enumerate(asked)]


def by_source(rules: Sequence[Asked]) -> Iterator[tuple[Relation, dict[int, Look]]]:
    """Each source, and by the numbers of rules that look at its events one by one what they look for."""
    sources: dict[str, tuple[Relation, dict[int, Look]]] = {}
    for number, rule in enumerate(rules):
        for relation, look in rule.looks:
            sources.setdefault(relation.source, (relation, {}))[1][number] = look
    yield from sources.values()


def possible(
    lake: Connected, relation: Relation, looks: Mapping[int, Look], span: Span, least: int = _PINNED_LOOKS
) -> dict[int, Look]:
    """The conditions that may hold for some event: of which the texts that a column must have are in it somewhere.

    Planning a condition takes longer than asking it of a small batch, and most name operations that are rare.

    Args:
        lake: The lake.
        relation: The source.
        looks: Its conditions by number.
        span: Events of which time.
        least: How many conditions have to be about a column.
    """
    alive = {number: look for number, look in looks.items() if look.pins is not None}
    times = Counter(column for look in alive.values() for column in look.pins or ())
    columns = [column for column, number in times.items() if number >= least]
    if not columns:
        return alive
    pins = {
        column: frozenset[str | None]().union(*((look.pins or {}).get(column, ()) for look in alive.values()))
        for column in columns
    }
    sql = statements.pinned(relation, pins, span, lake.filled)
    (row,) = query.run(lake.connection, sql).to_pylist()
    there = {
        column: {*(row[f"v{number}"] or ()), *([None] if row[f"n{number}"] else [])}
        for number, column in enumerate(pins)
    }
    return {
        number: look
        for number, look in alive.items()
        if all(there[column] & texts for column, texts in (look.pins or {}).items() if column in there)
    }


def divided(
    lake: Connected, numbers: Sequence[int], statement: Statement, reasons: dict[int, str]
) -> Iterator[tuple[Sequence[int], Rows]]:
    """Asks conditions together, and alone where one cannot be asked, so that it stops no other.

    Args:
        lake: A lake.
        numbers: Numbers of the conditions.
        statement: See `Statement`.
        reasons: Number of a condition -> why it cannot be asked; added to.

    Returns:
        Numbers of conditions, and the rows of the statement that asks them.
    """
    if not numbers:
        return
    sql = statement(numbers)
    try:
        batches = failing.begun(lake.connection, sql)
    except failing.ERRORS as error:
        problem = failing.problem(lake.connection, sql, error)
        if problem is None:
            raise
        if len(numbers) == 1:
            reasons[numbers[0]] = problem
            return
        half = len(numbers) // 2
        for some in (numbers[:half], numbers[half:]):
            yield from divided(lake, some, statement, reasons)
        return
    yield numbers, batches
