"""The ways in which a rule's condition can hold: each a set of parts that hold or do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.rule import SigmaRule
from sigma.types import SigmaExpansion

MOST = 128
"""So many alternatives of a rule are tried one by one."""


@dataclass(frozen=True)
class Atom:
    """One comparison.

    Args:
        field: The member; empty for keywords.
        value: What it is compared with, pySigma's.
        holds: Whether it has to hold.
    """

    field: str
    value: Any
    holds: bool = True

    def __hash__(self) -> int:
        return hash((self.field, str(self), self.holds))

    def __str__(self) -> str:
        name = type(self.value).__name__.removeprefix("Sigma")
        shown = str(getattr(self.value, "regexp", None) or getattr(self.value, "original", None) or self.value)
        kind = {"String": "", "CasedString": "|cased", "RegularExpression": "|re", "CIDRExpression": "|cidr"}.get(name)
        if name == "Exists":
            shown, kind = str(self.value.exists).lower(), "|exists"
        elif name == "Null":
            shown, kind = "null", ""
        elif name == "FieldReference":
            shown, kind = self.value.field, "|fieldref"
        elif name == "CompareExpression":
            shown, kind = str(self.value.number), f"|{self.value.op.name.lower()}"
        elif name == "TimestampPart":
            shown, kind = str(self.value.number), f"|{self.value.timestamp_part.name.lower()}"
        elif name == "CIDRExpression":
            shown = str(self.value.cidr)
        return f"{self.field}{kind or ''}: {shown}"


Alternative = tuple[Atom, ...]


def of(rule: SigmaRule) -> list[Alternative]:
    """The ways in which a rule can hold; of very many some, with each part in one of them at least."""
    return [alternative for parsed in _parsed(rule) for alternative in _some(parsed, holds=True)]


def filters(rule: SigmaRule) -> list[list[Alternative]]:
    """For each part that a rule negates, the ways in which that part can hold."""
    return [_some(part.args[0], holds=True) for parsed in _parsed(rule) for part in _negated(parsed)]


def _parsed(rule: SigmaRule) -> list[Any]:
    return [condition.parsed for condition in rule.detection.parsed_condition]


def _negated(node: Any) -> Iterator[Any]:
    if isinstance(node, ConditionNOT):
        yield node
    elif isinstance(node, ConditionAND | ConditionOR):
        for part in node.args:
            yield from _negated(part)


def _some(node: Any, *, holds: bool) -> list[Alternative]:
    """At most some of the alternatives, each atom in one of them."""
    if isinstance(node, ConditionNOT):
        return _some(node.args[0], holds=not holds)
    if isinstance(node, ConditionAND | ConditionOR):
        parts = [_some(part, holds=holds) for part in node.args]
        if isinstance(node, ConditionAND) == holds:
            return _all_of(parts)
        return [alternative for part in parts for alternative in part]
    if isinstance(node, ConditionFieldEqualsValueExpression):
        return _atoms(node.field, node.value, holds=holds)
    if isinstance(node, ConditionValueExpression):
        return _atoms("", node.value, holds=holds)
    return [()]


def _atoms(field: str, value: Any, *, holds: bool) -> list[Alternative]:
    if isinstance(value, SigmaExpansion):
        atoms = [Atom(field, one, holds) for one in value.values]
        return [(atom,) for atom in atoms] if holds else [tuple(atoms)]
    return [(Atom(field, value, holds),)]


def _all_of(parts: list[list[Alternative]]) -> list[Alternative]:
    number = 1
    for part in parts:
        number *= max(len(part), 1)
    if number <= MOST:
        return [_joined(chosen) for chosen in product(*parts)]
    # Each alternative of each part once, with the others' turning at their own pace.
    longest = max(map(len, parts))
    return [
        _joined(tuple(part[(turn + turn // len(part) * shift) % len(part)] for part in parts))
        for shift in range(max(1, MOST // longest))
        for turn in islice(range(longest), None)
    ]


def _joined(chosen: tuple[Alternative, ...]) -> Alternative:
    return tuple(dict.fromkeys(atom for alternative in chosen for atom in alternative))
