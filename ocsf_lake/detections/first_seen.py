"""Rules about what was not seen before: a Sigma rule with the key `first-seen`, which is an extension of ours.

    first-seen:
      field: sourceIPAddress|network   # what has to be new: one member, or a list of them; |network for its network
      group-by: [userIdentity.arn]     # of whom or what
      learning: 14d                    # for so long after a group's first event nothing is new

Among the events that the rule's condition holds for, a value is new when its first event comes at least so long after
the first event of its group. That depends on what there is alone, and not on the order in which it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sigma.correlations import SigmaCorrelationTimespan
from sqlglot import exp

from ocsf_lake.detections import asked
from ocsf_lake.detections.asked import Arm
from ocsf_lake.detections.correlations import MOST_MS
from ocsf_lake.detections.logs import Log, Part
from ocsf_lake.detections.places import Unmappable
from ocsf_mappers.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = "first-seen"
"""The key of a rule's file."""
NETWORK = "network"
"""Modifier of a member: of an address its network is looked at, the first 24 bits, of IPv6 48."""
_CHARACTERS = 256
"""Of a group or value so many are kept, and a hash of all of it: an index takes no more."""
_KEYS = ("field", "group-by", "learning")


@dataclass(frozen=True)
class FirstSeen:
    """What has to be new, and of whom.

    Args:
        fields: The members whose values have to be new, together.
        groups: The members by which events are grouped.
        learning_ms: For how many milliseconds after its first event nothing of a group is new.
    """

    fields: tuple[str, ...]
    groups: tuple[str, ...]
    learning_ms: int

    @property
    def members(self) -> tuple[str, ...]:
        """All members that it looks at, without modifiers."""
        return (*self.groups, *(name.split("|")[0] for name in self.fields))

    def read(self, part: Part) -> list[exp.Expr]:
        """What is read of a source: groups, then values.

        Raises:
            Unmappable: A member stands nowhere.
            ValueError: A member may be a list.
        """
        return [part.field(name).value for name in self.members]

    def arm(self, part: Part, condition: exp.Expr) -> Arm:
        """The events of a source of which something may be new, those that have a group and a value."""
        look, texts, columns = asked.look(condition, part.relation.every_name, self.read(part))
        groups, values = texts[: len(self.groups)], texts[len(self.groups) :]
        values = [
            _network(value) if name.endswith(f"|{NETWORK}") else value
            for name, value in zip(self.fields, values, strict=True)
        ]
        there = " AND ".join([look.condition, *(f"{value} IS NOT NULL" for value in values)])
        look = replace(look, condition=there)
        return Arm(part.relation, look, (_short(groups),), (_short(values),), 0, columns)


def definition_of(more: Mapping[str, Any]) -> Any:
    """What a rule has under our key, of its keys that Sigma does not know; None where it has none.

    Raises:
        Unmappable: It has the key in another spelling; to pass over that would make every event a hit.
    """
    for key in more:
        if key != KEY and re.sub("[^a-z]", "", str(key).lower()) == KEY.replace("-", ""):
            raise Unmappable(f"there is no key {key!r}, did you mean {KEY!r}?")
    return more.get(KEY)


def of(definition: Any, log: Log) -> FirstSeen:
    """What a rule's key defines.

    Args:
        definition: The value of `first-seen`.
        log: The log that the rule is for.

    Raises:
        Unmappable: It cannot be used, this is why.
    """
    if not isinstance(definition, Mapping):
        raise Unmappable(f"{KEY} has to have {', '.join(_KEYS)}")
    for key in definition:
        if key not in _KEYS:
            raise Unmappable(f"{KEY} has no {key!r}{nearest(str(key), _KEYS)}")
    fields, groups = (_names(definition.get(key), key) for key in _KEYS[:2])
    for name in fields:
        if "|" in name and not name.endswith(f"|{NETWORK}"):
            raise Unmappable(f"{KEY}: {name}: the only modifier is |{NETWORK}")
    if any("|" in name for name in groups):
        raise Unmappable(f"{KEY}: group-by takes no modifiers")
    try:
        learning = SigmaCorrelationTimespan(definition.get("learning") or "")
    except Exception as error:
        raise Unmappable(f"{KEY}: learning has to be a time such as 14d: {error}") from error
    first_seen = FirstSeen(fields, groups, int(learning.seconds) * 1000)
    if first_seen.learning_ms > MOST_MS:
        raise Unmappable(f"{KEY}: learning is longer than a hundred years")
    for part in log.parts:
        try:
            first_seen.read(part)
        except ValueError as error:
            raise Unmappable(f"{KEY}: what is grouped by, or new, may be a list: {error}") from error
    return first_seen


def _names(value: Any, key: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise Unmappable(f"{KEY}: {key} has to be a member, or a list of them")
    return tuple(names)


def _short(texts: Sequence[str]) -> str:
    """SQL of one text for some: short enough for an index, and without zeros, which PostgreSQL has none of."""
    one = texts[0] if len(texts) == 1 else f"CAST(to_json([{', '.join(texts)}]) AS VARCHAR)"
    clean = f"replace({one}, chr(0), '\\0')"
    cut = f"left({clean}, {_CHARACTERS - 65}) || '…' || sha256({clean})"
    return f"CASE WHEN length({clean}) <= {_CHARACTERS} THEN {clean} ELSE {cut} END"


def _network(address: str) -> str:
    """SQL of an address's network; null where it is none. Written out, so that spellings of one network are one."""
    four = f"regexp_extract({address}, '^([0-9]{{1,3}}\\.[0-9]{{1,3}}\\.[0-9]{{1,3}})\\.[0-9]{{1,3}}$', 1)"
    halves = [f"string_split(split_part({address}, '::', {n}), ':')" for n in (1, 2)]
    left, right = (f"list_filter({half}, LAMBDA part : part <> '')" for half in halves)
    zeros = f"list_transform(range(8 - len({left}) - len({right})), LAMBDA part : '0')"
    groups = f"list_concat(list_concat({left}, {zeros}), {right})[1:3]"
    bare = f"list_transform({groups}, LAMBDA part : coalesce(nullif(ltrim(lower(part), '0'), ''), '0'))"
    return (
        f"CASE WHEN {four} <> '' THEN {four} || '.0/24' "
        f"WHEN regexp_matches({address}, '^[0-9A-Fa-f]{{0,4}}(:[0-9A-Fa-f]{{0,4}}){{2,7}}$') "
        f"THEN array_to_string({bare}, ':') || '::/48' END"
    )
