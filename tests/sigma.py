"""Sigma rules judged record by record, by a reader of members that the test gives: raw JSON, or an event's columns.

pySigma parses the rules and their conditions; what is here only decides, in plain Python, so that a rule is judged the
same way on both sides and a difference can only come from the columns. https://sigmahq.io/sigma-specification/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sigma.collection import SigmaCollection
from sigma.conditions import ConditionAND, ConditionFieldEqualsValueExpression, ConditionNOT, ConditionOR
from sigma.types import (
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SpecialChars,
)

Json = dict[str, Any]
Members = Callable[[str], list[str]]
"""A field of a rule -> the texts that a record holds there, none where it has no such member."""

_SIGNS = {SpecialChars.WILDCARD_MULTI: ".*", SpecialChars.WILDCARD_SINGLE: "."}


@dataclass(frozen=True)
class Rule:
    """A rule with its conditions parsed, which pySigma does anew each time it is asked.

    `log` is product, service and category of the logs that it is for.
    """

    title: str
    log: tuple[str | None, str | None, str | None]
    conditions: tuple[Any, ...]


def load(path: Path) -> Rule:
    (rule,) = SigmaCollection.from_yaml(path.read_text(encoding="utf-8")).rules
    source = rule.logsource
    conditions = tuple(condition.parsed for condition in rule.detection.parsed_condition)
    return Rule(rule.title, (source.product, source.service, source.category), conditions)


def matches(rule: Rule, members: Members) -> bool:
    """Whether a record is one that the rule looks for."""
    return any(_holds(condition, members) for condition in rule.conditions)


def _holds(condition: Any, members: Members) -> bool:
    match condition:
        case ConditionAND():
            return all(_holds(part, members) for part in condition.args)
        case ConditionOR():
            return any(_holds(part, members) for part in condition.args)
        case ConditionNOT():
            return not _holds(condition.args[0], members)
        case ConditionFieldEqualsValueExpression():
            return _is(members(condition.field), condition.value, members)
        case _:
            raise NotImplementedError(type(condition).__name__)


def _is(texts: list[str], value: Any, members: Members) -> bool:
    match value:
        case SigmaNull():
            return not texts
        case SigmaNumber():
            return str(value.number) in texts
        case SigmaFieldReference():
            return any(text in members(value.field) for text in texts)
        case SigmaRegularExpression():
            return any(re.search(str(value.regexp), text) for text in texts)
        case SigmaString() if value.contains_placeholder():
            return False  # a list that each user fills; nobody has
        case SigmaString():
            pattern = "".join(re.escape(part) if isinstance(part, str) else _SIGNS[part] for part in value.s)
            return any(re.fullmatch(pattern, text, re.IGNORECASE | re.DOTALL) for text in texts)
        case _:
            raise NotImplementedError(type(value).__name__)


# -- records made for a rule ------------------------------------------------------------------------------------------
def wanted(rule: Rule) -> list[dict[str, str]]:
    """What records that a rule looks for must hold: field -> text, one for each alternative that it names.

    What a rule excludes is left out, and of several alternatives in several places only one place is varied at once.
    """
    return [record for condition in rule.conditions for record in _wanted(condition)]


def _wanted(condition: Any) -> list[dict[str, str]]:
    match condition:
        case ConditionAND():
            records: list[dict[str, str]] = [{}]
            for found in filter(None, map(_wanted, condition.args)):
                records = [_both(one, found[0]) for one in records] + [_both(records[0], one) for one in found[1:]]
            return records
        case ConditionOR():
            return [one for part in condition.args for one in _wanted(part)]
        case ConditionFieldEqualsValueExpression(field=field, value=SigmaString() as value):
            return [{field: "".join(part if isinstance(part, str) else "z" for part in value.s)}]
        case ConditionFieldEqualsValueExpression(field=field, value=SigmaRegularExpression() as value):
            return [{field: _example(str(value.regexp))}]
        case _:
            return []


def _both(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """What two parts of a rule want; where they want two texts of a field, both stand in it."""
    joined = {name: one[name] + text for name, text in other.items() if name in one and one[name] != text}
    return {**one, **other, **joined}


def _example(pattern: str) -> str:
    """A text that a regular expression finds, of those without groups: sets and classes by their first sign."""
    text = re.sub(r"\[(.)[^]]*\]|\\[dw]", lambda found: found[1] or "1", pattern)
    return re.sub(r"\.([*+])", "z", text).replace("\\", "").strip("^$")


# -- members ----------------------------------------------------------------------------------------------------------
def of_json(record: Any, path: str) -> list[str]:
    """The texts at a dotted path; of a list those of its items, of an object its JSON text. Null is no value."""
    return [text for value in _values(record, path) for text in _texts(value)]


def _values(value: Any, path: str) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _values(item, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping):
        # Some names have dots themselves.
        if path in value:
            yield value[path]
        else:
            step, _, rest = path.partition(".")
            if rest and step in value:
                yield from _values(value[step], rest)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
    elif value is not None:
        yield msgspec.json.encode(value).decode()
