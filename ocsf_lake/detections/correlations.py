"""Correlation rules: how many events, of how many values, or of which rules, a group has within some time.

https://sigmahq.io/sigma-specification/specification/sigma-correlation-rules-specification.html. A condition is asked
at each event, of the events before it: late ones can only add findings, so conditions that more events could undo are
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sigma.correlations import (
    SigmaCorrelationCondition,
    SigmaCorrelationConditionOperator,
    SigmaCorrelationRule,
)
from sqlglot import exp

from ocsf_lake.detections import asked
from ocsf_lake.detections.asked import Arm, Counted
from ocsf_lake.detections.logs import Part
from ocsf_lake.detections.places import Unmappable
from ocsf_lake.detections.windows import ALL, ORDERED

if TYPE_CHECKING:
    from ocsf_lake.detections.rules import Rule

MOST_MS = 36_600 * 86_400_000
"""No window is longer: times are numbers of 64 bits, and sums of them have to be."""
COUNTED = ("event_count", "value_count")


@dataclass(frozen=True)
class Correlation:
    """What is counted.

    Args:
        kind: `event_count`, `value_count`, `temporal` or `temporal_ordered`.
        bases: The rules whose events are looked at, in order.
        groups: For each of them, the members by which its events are grouped.
        window_ms: Within how many milliseconds.
        least: How many there have to be.
        value: The members whose values are counted.
    """

    kind: str
    bases: tuple[Rule, ...]
    groups: tuple[tuple[str, ...], ...]
    window_ms: int
    least: int
    value: tuple[str, ...] = ()

    def selects(self) -> list[tuple[Part, exp.Expr, list[exp.Expr], list[exp.Expr], int]]:
        """For each rule and source: the source, the condition, what to group by, what to count, the rule's number."""
        selected = []
        for number, (rule, names) in enumerate(zip(self.bases, self.groups, strict=True)):
            assert rule.log is not None
            for part in rule.log.parts:
                groups = [part.field(name).value for name in names]
                values = [part.field(name).value for name in self.value]
                selected.append((part, rule.conditions[part.source], groups, values, number))
        return selected

    @property
    def counted(self) -> Counted:
        """It as it is asked."""
        arms = []
        for part, condition, groups, values, number in self.selects():
            look, texts, columns = asked.look(condition, part.relation.every_name, [*groups, *values])
            group, value = tuple(texts[: len(groups)]), tuple(texts[len(groups) :])
            arms.append(Arm(part.relation, look, group, value, number, columns))
        return Counted(self.kind, len(self.bases), self.window_ms, self.least, tuple(arms))


def of(rule: SigmaCorrelationRule, rules: Sequence[Rule]) -> Correlation:
    """What a correlation rule counts.

    Args:
        rule: The rule.
        rules: All rules, those that it names among them.

    Raises:
        Unmappable: It cannot be used, this is why.
    """
    kind = rule.type.name.lower()
    condition = rule.condition
    if kind not in (*COUNTED, ALL, ORDERED):
        raise Unmappable(f"correlations of type {kind} are not supported: late events could undo what they say")
    if not isinstance(condition, SigmaCorrelationCondition):
        raise Unmappable("correlations with a condition over rules (and, or, not) are not supported")
    bases = tuple(_base(reference.reference, rules) for reference in rule.rules or ())
    if not bases:
        raise Unmappable("it names no rules")
    window_ms = int(rule.timespan.seconds) * 1000
    if window_ms <= 0:
        raise Unmappable("its timespan is none")
    if window_ms > MOST_MS:
        raise Unmappable("its timespan is longer than a hundred years")
    least = len(bases) if kind in (ALL, ORDERED) else _least(condition)
    fields = condition.fieldref if isinstance(condition.fieldref, list) else [condition.fieldref or ""]
    value = tuple(fields) if kind == "value_count" else ()
    groups = tuple(
        tuple(_aliased(rule, name, reference.reference) for name in rule.group_by or ())
        for reference in rule.rules or ()
    )
    correlation = Correlation(kind, bases, groups, window_ms, least, value)
    try:
        correlation.selects()
    except ValueError as error:
        raise Unmappable(f"events cannot be grouped, or counted, by a member that may be a list: {error}") from error
    return correlation


def _base(reference: str, rules: Sequence[Rule]) -> Rule:
    named = [rule for rule in rules if reference in (rule.name, rule.id)]
    if not named:
        raise Unmappable(f"there is no rule {reference}")
    if named[0].reason:
        raise Unmappable(f"rule {reference} cannot be used: {named[0].reason}")
    if named[0].log is None:
        raise Unmappable(f"rule {reference} is a correlation, and correlations of those are not supported")
    if named[0].first_seen is not None:
        raise Unmappable(f"rule {reference} is about what is new, and correlations of those are not supported")
    return named[0]


def _least(condition: SigmaCorrelationCondition) -> int:
    count = int(condition.count)
    if condition.op is SigmaCorrelationConditionOperator.GTE:
        return count
    if condition.op is SigmaCorrelationConditionOperator.GT:
        return count + 1
    raise Unmappable(f"a condition {condition.op.name.lower()} is not supported: late events could undo what it says")


def _aliased(rule: SigmaCorrelationRule, name: str, reference: str) -> str:
    alias = rule.aliases.aliases.get(name)
    if alias is None:
        return name
    for named, member in alias.mapping.items():
        if named.reference == reference:
            return str(member)
    raise Unmappable(f"alias {name} says nothing of rule {reference}")
