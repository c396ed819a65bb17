"""Rules asked of a lake: every rule in one scan of what it looks at. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from ocsf_lake.config import Settings
from ocsf_lake.detections import news, statements
from ocsf_lake.detections.logs import Part
from ocsf_lake.detections.rules import Rule
from ocsf_lake.detections.statements import Span
from ocsf_lake.query import query, shown

_ALL = Span()


@dataclass(frozen=True)
class Count:
    """How many events a rule looks for.

    Args:
        rule: The rule.
        events: How many there are.
        reason: Why it could not be asked; None where it was.
    """

    rule: Rule
    events: int
    reason: str | None = None


def counts(
    settings: Settings, rules: Sequence[Rule], span: Span = _ALL, files: shown.Chosen | None = None
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
    found = dict.fromkeys(range(len(rules)), 0)
    reasons = {number: rule.reason for number, rule in enumerate(rules) if rule.reason}
    with connected(settings, rules, span, files) as connection:
        for part, numbers in by_part(rules):
            numbers = [number for number in numbers if rules[number].looks_at_each]
            for chosen, sql in divided(connection, part, rules, numbers, span, reasons, statements.counts):
                for row in query.run(connection, sql).to_pylist():
                    found[chosen[row["rule"]]] += row["events"]
        for number, rule in enumerate(rules):
            if rule.correlation is not None and number not in reasons:
                try:
                    (row,) = query.run(connection, statements.correlated_count(rule.correlation, span)).to_pylist()
                    found[number] = row["events"]
                except duckdb.Error as error:
                    reasons[number] = str(error).split("\n")[0]
    found |= {number: new.count for number, new in news.look(settings, rules, span, files, reasons)}
    return [Count(rule, found[number], reasons.get(number)) for number, rule in enumerate(rules)]


@contextmanager
def connected(
    settings: Settings, rules: Sequence[Rule], span: Span, files: shown.Chosen | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that shows what rules look at, and no more."""
    looked_at = [*rules, *(base for rule in rules if rule.correlation for base in rule.correlation.bases)]
    widest = max((rule.correlation.window_ms for rule in rules if rule.correlation), default=0)
    reading = statements.reading(statements.parts_of(looked_at), span.widened(widest, widest))
    asked = reading or ["SELECT 1"]
    with query.connected(settings, *asked, files=files, preserve_insertion_order=False) as connection:
        yield connection


def by_part(rules: Sequence[Rule]) -> Iterator[tuple[Part, list[int]]]:
    """Each source, and the numbers of the rules that look at its events one by one."""
    for part in statements.parts_of(rules):
        numbers = [number for number, rule in enumerate(rules) if part.source in rule.conditions]
        if numbers:
            yield part, numbers


def divided(
    connection: duckdb.DuckDBPyConnection, part: Part, rules: Sequence[Rule], numbers: Sequence[int], span: Span,
    reasons: dict[int, str], statement: Callable[[Part, Sequence[Rule], Span], str],
) -> Iterator[tuple[Sequence[int], str]]:  # fmt: skip
    """Statements that ask rules of a source together, and alone where one cannot be asked, so that it stops no other.

    Args:
        connection: A lake.
        part: The source.
        rules: All rules.
        numbers: Which of them are asked.
        span: Events of which time.
        reasons: Number of a rule -> why it cannot be asked; added to.
        statement: Gives the statement of some rules.

    Returns:
        Numbers of rules, and the statement that asks them.
    """
    if not numbers:
        return
    sql = statement(part, [rules[number] for number in numbers], span)
    try:
        connection.execute(f"EXPLAIN {sql}")
    except duckdb.Error as error:
        if len(numbers) == 1:
            reasons[numbers[0]] = str(error).split("\n")[0]
            return
        half = len(numbers) // 2
        for some in (numbers[:half], numbers[half:]):
            yield from divided(connection, part, rules, some, span, reasons, statement)
        return
    yield numbers, sql
