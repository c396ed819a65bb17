"""What findings are made of: rows of rules that look at events one by one, and of those that count them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ocsf_lake.config import Settings
from ocsf_lake.detections import collect, connections, failing, scan, statements
from ocsf_lake.detections.asked import Asked, Look, Relation
from ocsf_lake.detections.connections import Connected
from ocsf_lake.detections.statements import Span
from ocsf_lake.detections.windows import ALL, ORDERED

Rows = list[dict[str, Any]]
"""See `statements.groups`; `rule` is the number of a rule among all."""
_DAY_MS = 86_400_000
_FEW_DAYS = 3


def of_events(
    lake: Connected, rules: Sequence[Asked], span: Span | None, reasons: dict[int, str], spans: dict[int, Span]
) -> Iterator[Rows]:
    """The rows of rules that look at events one by one.

    Args:
        lake: A lake.
        rules: All rules.
        span: Events of which time; None where the lake shows nothing but what is new.
        reasons: Number of a rule -> why it cannot be asked; added to.
        spans: Added to: of each rule that counts, when it may hold: where something is new, at the events that it
            counts, and in the window after them.
    """
    asked = span or Span()
    for relation, looks in _sources(rules, is_new=span is None):
        if not relation.needed(lake.filled):
            continue
        alive = scan.possible(lake, relation, {number: look for number, (look, _) in enumerate(looks)}, asked)
        unusable: dict[int, str] = {}
        for some, batches in _asked(lake, relation, alive, looks, asked, unusable):
            for rows in batches:
                yield list(_sorted(rows, [looks[number][1] for number in some], rules, spans))
        for number, reason in unusable.items():
            reasons |= dict.fromkeys(_rules_of(looks[number][1]), reason)
    for number, rule in enumerate(rules):
        if number in reasons:
            spans.pop(number, None)
        elif span is not None and rule.counted is not None and not rule.is_silent:
            spans[number] = span


_Of = int | tuple[int, ...]
"""Whose a condition is: a rule's, which makes findings of its events, or those of rules that count them."""


def _rules_of(of: _Of) -> tuple[int, ...]:
    return (of,) if isinstance(of, int) else of


def _sources(rules: Sequence[Asked], *, is_new: bool) -> Iterator[tuple[Relation, list[tuple[Look, _Of]]]]:
    """Each source and the conditions there; those of rules that count come after others, each once."""
    relations: dict[str, Relation] = {}
    single: dict[str, list[tuple[Look, _Of]]] = defaultdict(list)
    counted: dict[str, dict[str, tuple[Look, list[int]]]] = defaultdict(dict)
    for number, rule in enumerate(rules):
        if rule.is_silent:
            continue
        for relation, look in rule.looks if rule.looks_at_each else ():
            relations[relation.source] = relation
            single[relation.source].append((look, number))
        for arm in rule.counted.arms if rule.counted and is_new else ():
            relations[arm.relation.source] = arm.relation
            of = counted[arm.relation.source].setdefault(arm.look.condition, (arm.look, []))[1]
            of += [number] if number not in of else []
    for source, relation in relations.items():
        yield relation, [*single[source], *((look, tuple(of)) for look, of in counted[source].values())]


def _asked(
    lake: Connected, relation: Relation, alive: Mapping[int, Look], looks: Sequence[tuple[Look, _Of]], span: Span,
    reasons: dict[int, str],
) -> Iterator[tuple[Sequence[int], failing.Rows]]:  # fmt: skip
    def statement(some: Sequence[int]) -> str:
        single = [alive[number] for number in some if isinstance(looks[number][1], int)]
        counted = [alive[number] for number in some if not isinstance(looks[number][1], int)]
        return statements.groups(relation, single, span, lake.filled, counted)

    return scan.divided(lake, list(alive), statement, reasons)


def _sorted(rows: Rows, of: Sequence[_Of], rules: Sequence[Asked], spans: dict[int, Span]) -> Iterator[dict[str, Any]]:
    """Rows of findings, with the numbers of their rules; those of events that are counted go into spans."""
    for row in rows:
        whose = of[row["rule"]]
        if isinstance(whose, int):
            yield row | {"rule": whose}
            continue
        for number in whose:
            counted, span = rules[number].counted, spans.get(number)
            assert counted is not None
            width = counted.window_ms
            # Whole windows, so that all events of a finding are counted.
            first, end = (moment // width * width for moment in (row["first"], row["last"] + 2 * width))
            if span is not None and span.first is not None and span.end is not None:
                first, end = min(first, span.first), max(end, span.end)
            spans[number] = Span(first, end)


def of_correlations(
    settings: Settings, rules: Sequence[Asked], spans: Mapping[int, Span], reasons: dict[int, str]
) -> Iterator[Rows]:
    """The rows of rules that count, of all events of a lake.

    Args:
        settings: The lake.
        rules: All rules.
        spans: Number of a rule -> when it may hold.
        reasons: Number of a rule -> why it cannot be asked; added to.
    """
    for numbers in _alike(rules, spans):
        around = collect.together([spans[number] for number in numbers])
        with connections.connected(settings, [rules[number] for number in numbers], around) as lake:
            chosen = {number: spans[number] for number in _possible(lake, rules, numbers, around)}
            events = collect.events(lake.connection, lake.filled, rules, chosen)
            for number, span in chosen.items():
                counted = rules[number].counted
                assert counted is not None
                sql = statements.correlated_groups(counted, number, span, lake.filled, events.get(number))
                try:
                    batches = failing.begun(lake.connection, sql)
                except failing.ERRORS as error:
                    if (problem := failing.problem(lake.connection, sql, error)) is None:
                        raise
                    reasons[number] = problem
                    continue
                yield from batches


def _possible(lake: Connected, rules: Sequence[Asked], numbers: Sequence[int], span: Span) -> list[int]:
    """Those of some rules for all of whose parts there may be an event, of those of which one does not do."""
    arms: dict[str, tuple[Relation, list[tuple[int, int, Look]]]] = {}
    for number in numbers:
        counted = rules[number].counted
        for arm in counted.arms if counted else ():
            arms.setdefault(arm.relation.source, (arm.relation, []))[1].append((number, arm.number, arm.look))
    there = set()
    for relation, some in arms.values():
        if relation.needed(lake.filled):
            is_several = any(_is_of_several(rules[number]) for number, _, _ in some)
            widest = _widest(rules, [number for number, _, _ in some])
            looks = {place: look for place, (_, _, look) in enumerate(some)}
            alive = scan.possible(lake, relation, looks, span.widened(widest, 0), 1) if is_several else looks
            there |= {some[place][:2] for place in alive}
    return [
        number
        for number in numbers
        if (all if _is_of_several(rules[number]) else any)((number, of) in there for of in _bases(rules[number]))
    ]


def _is_of_several(rule: Asked) -> bool:
    return rule.counted is not None and rule.counted.kind in (ALL, ORDERED)


def _bases(rule: Asked) -> range:
    return range(rule.counted.size if rule.counted else 0)


def _alike(rules: Sequence[Asked], spans: Mapping[int, Span]) -> list[list[int]]:
    """Rules that are asked over one connection: all where that shows the files of few days, else those of the same."""
    if spans and _count(_days(_widened(rules, spans, list(spans)))) <= _FEW_DAYS:
        return [list(spans)]
    alike: dict[object, list[int]] = defaultdict(list)
    for number in spans:
        alike[_days(_widened(rules, spans, [number]))].append(number)
    return list(alike.values())


def _widened(rules: Sequence[Asked], spans: Mapping[int, Span], numbers: Sequence[int]) -> Span:
    return collect.together([spans[number] for number in numbers]).widened(_widest(rules, numbers), 0)


def _widest(rules: Sequence[Asked], numbers: Sequence[int]) -> int:
    return max(counted.window_ms for number in numbers if (counted := rules[number].counted))


def _days(span: Span) -> tuple[int | None, int | None]:
    first, end = (None if bound is None else bound // _DAY_MS for bound in (span.first, span.end))
    return first, end


def _count(days: tuple[int | None, int | None]) -> float:
    first, last = days
    return float("inf") if first is None or last is None else last - first + 1
