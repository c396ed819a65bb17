"""Rules: Sigma files of folders, converted.

A rule that cannot be read or converted has the reason why, and stops none of the others.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.filters import SigmaFilter
from sigma.rule import SigmaLevel, SigmaRule, SigmaRuleTag
from sqlglot import exp

from ocsf_lake.detections import asked, correlations, files, first_seen, logs
from ocsf_lake.detections.asked import Asked, Unseen, written
from ocsf_lake.detections.backend import Note, TreeBackend
from ocsf_lake.detections.correlations import Correlation
from ocsf_lake.detections.dialects import DUCKDB
from ocsf_lake.detections.first_seen import FirstSeen
from ocsf_lake.detections.logs import Log
from ocsf_lake.detections.places import Unmappable

_UNREADABLE = (
    SigmaError, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError,
)  # fmt: skip
"""What pySigma raises of files that are none of rules, and of rules with values of another type than Sigma's."""
VERSION_DIGITS = 16
MOST_BYTES = 1 << 20
"""A file of rules may be so large; those that we know have some 5 kB."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        path: Its file.
        id: Its Sigma id; None where it has none.
        title: Its title.
        name: What correlation rules call it; None where it has none.
        version: Hash of its content.
        level: `informational` to `critical`; None where it has none.
        tags: Its tags, such as `attack.t1078.004`.
        description: What it is about.
        log: The log that it is for; None for correlations, and where there is a reason.
        conditions: Source -> the events it looks for, see `places`.
        correlation: What it counts; None for a rule that looks at one event.
        first_seen: What of its events has to be new; None where every event counts.
        notes: What has to be known of its parts.
        reason: Why it cannot be used; None where it can.
        is_silent: Whether it makes no findings of its own, as it is there for a correlation.
        key: What its findings are known by.
        parsed: pySigma's rule; None for correlations, and where there is a reason.
    """

    path: Path
    id: str | None = None
    title: str = ""
    name: str | None = None
    version: str = ""
    level: str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    log: Log | None = None
    conditions: Mapping[str, exp.Expr] = field(default_factory=dict, hash=False)
    correlation: Correlation | None = None
    first_seen: FirstSeen | None = None
    notes: tuple[Note, ...] = ()
    reason: str | None = None
    is_silent: bool = False
    key: str = ""
    parsed: SigmaRule | None = field(default=None, repr=False, compare=False)

    @property
    def stem(self) -> str:
        """The name of its file without its ending."""
        return written(self.path.stem)

    @cached_property
    def asked(self) -> Asked:
        """It as it is asked of a lake; with a reason where its condition goes too deep for that."""
        try:
            return self._asked()
        except RecursionError as error:
            return replace(self, log=None, correlation=None, first_seen=None, reason=_reason(error))._asked()

    def _asked(self) -> Asked:
        looks, arms = [], []
        for part in self.log.parts if self.log else ():
            look, *_ = asked.look(self.conditions[part.source], part.relation.every_name)
            looks.append((part.relation, look))
            if self.first_seen is not None:
                arms.append(self.first_seen.arm(part, self.conditions[part.source]))
        unseen = Unseen(self.baseline, self.first_seen.learning_ms, tuple(arms)) if self.first_seen else None
        return Asked(
            self.path, self.id, self.title, self.name, self.version, self.level, self.tags, self.description,
            self.log.name if self.log else None, self.key, self.is_silent, self.reason, tuple(map(written, self.notes)),
            tuple(looks), self.correlation.counted if self.correlation else None, unseen,
        )  # fmt: skip

    @property
    def kind(self) -> str:
        """What it looks for: `event`, `first-seen`, or the type of a correlation."""
        if self.correlation is not None:
            return self.correlation.kind
        return "event" if self.first_seen is None else first_seen.KEY

    @property
    def baseline(self) -> str:
        """Of a rule with `first_seen`, a hash of what decides which values it knows, and not how long it learns."""
        assert self.first_seen is not None
        content = [self.key, self.first_seen.groups, self.first_seen.fields]
        content += [[source, DUCKDB.sql(tree)] for source, tree in sorted(self.conditions.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:VERSION_DIGITS]


def load(folders: Iterable[Path], placeholders: Mapping[str, Sequence[str]]) -> list[Rule]:
    """The rules in folders and the folders in them, sorted by path.

    Args:
        folders: Folders, or single files; `pack` for the rules that come with this program.
        placeholders: Values of placeholders.

    Raises:
        ConfigError: A folder is not there, or has no rules.
    """
    parsed: list[tuple[Path, Any]] = []
    for path in files.in_folders(folders):
        parsed += [(path, one) for one in _parsed(path)]
    filters = [one for _, one in parsed if isinstance(one, SigmaFilter)]
    others = [(path, one) for path, one in parsed if not isinstance(one, SigmaFilter)]
    return _keyed(list(_converted(others, filters, placeholders)))


def _parsed(path: Path) -> Iterator[Any]:
    """What a file has: rules and filters of pySigma; a `Rule` with the reason of what is neither."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        collection = SigmaCollection.from_yaml(
            path.read_text(encoding="utf-8"), collect_errors=True, collect_filters=True, resolve_references=False
        )
    except _UNREADABLE as error:
        yield Rule(path, reason=_reason(error))
        return
    yield from collection.rules
    yield from collection.filters
    if not collection.rules and not collection.filters:
        yield Rule(path, reason="; ".join(map(_reason, collection.errors)) or "there is no rule in it")


def _converted(
    parsed: Sequence[tuple[Path, Any]], filters: Sequence[SigmaFilter], placeholders: Mapping[str, Sequence[str]]
) -> Iterator[Rule]:
    backend = TreeBackend(placeholders)
    rules: list[Rule] = []
    waiting: list[tuple[int, SigmaCorrelationRule]] = []
    silent: set[tuple[Path, str | None, str | None]] = set()
    for path, one in parsed:
        if isinstance(one, SigmaCorrelationRule):
            waiting.append((len(rules), one))
            rules.append(_described(path, one))
        else:
            rules.append(one if isinstance(one, Rule) else _rule(_described(path, one), one, filters, backend))
    for place, one in waiting:
        rules[place] = converted = _correlation(rules[place], one, rules)
        if converted.correlation is not None and not one.generate:
            silent |= {(base.path, base.id, base.name) for base in converted.correlation.bases}
    for rule in rules:
        yield replace(rule, is_silent=True) if (rule.path, rule.id, rule.name) in silent else rule


def _described(path: Path, one: SigmaRule | SigmaCorrelationRule) -> Rule:
    # What is no value of a member is still there, beside the error.
    level = one.level if isinstance(one.level, SigmaLevel) else None
    tags = [tag for tag in one.tags or () if isinstance(tag, SigmaRuleTag)]
    return Rule(
        path,
        id=str(one.id) if isinstance(one.id, UUID) else None,
        title=written(one.title or path.stem),
        name=written(one.name) if one.name else None,
        version=_version(path, one),
        level=level.name.lower() if level else None,
        tags=tuple(written(f"{tag.namespace}.{tag.name}") for tag in tags),
        description=written(one.description or ""),
        reason="; ".join(map(_reason, one.errors)) or None,
    )


def _version(path: Path, one: SigmaRule | SigmaCorrelationRule) -> str:
    try:
        content = repr(one.errors) if one.errors else repr(one.to_dict())
    except _UNREADABLE:
        content = path.read_text(encoding="utf-8")  # pySigma cannot write all that it can read
    return hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()[:VERSION_DIGITS]


def _rule(described: Rule, one: SigmaRule, filters: Sequence[SigmaFilter], backend: TreeBackend) -> Rule:
    if described.reason:
        return described
    source = one.logsource
    try:
        definition = first_seen.definition_of(one.custom_attributes)
        log = logs.log_of(source.product, source.service, source.category)
        unseen = None if definition is None else first_seen.of(definition, log)
        for filter_ in filters:
            filtered = filter_.apply_on_rule(one)
            one = filtered if isinstance(filtered, SigmaRule) else one
        conditions, notes = {}, []
        for part in log.parts:
            conditions[part.source], part_notes = backend.tree(one, part.field)
            notes.append(part_notes)
    except (*_UNREADABLE, Unmappable, NotImplementedError) as error:
        return replace(described, reason=_reason(error))
    # What one of several sources has is no fault of the rule.
    common_fields = set.intersection(*({note.field for note in part_notes} for part_notes in notes))
    common = tuple(note for note in notes[0] if note.field in common_fields)
    return replace(described, log=log, conditions=conditions, first_seen=unseen, notes=common, parsed=one)


def _correlation(described: Rule, one: SigmaCorrelationRule, rules: Sequence[Rule]) -> Rule:
    if described.reason:
        return described
    try:
        if first_seen.definition_of(one.custom_attributes) is not None:
            raise Unmappable(f"{first_seen.KEY} is for rules with a detection, and this is a correlation")
        return replace(described, correlation=correlations.of(one, rules))
    except (*_UNREADABLE, Unmappable) as error:
        return replace(described, reason=_reason(error))


def _keyed(rules: Sequence[Rule]) -> list[Rule]:
    """Rules with what their findings are known by: the id, which stays when a file is renamed."""
    times = Counter(rule.id for rule in rules)
    keys = [
        rule.id if rule.id and times[rule.id] == 1 else f"{rule.id or ''}/{rule.stem}/{rule.title}" for rule in rules
    ]
    named = Counter(keys)
    return [
        replace(rule, key=key if named[key] == 1 else f"{key}/{rule.version}")
        for rule, key in zip(rules, keys, strict=True)
    ]


def _reason(error: BaseException) -> str:
    text = " ".join(written(error).split())
    return f"{type(error).__name__}: {text}"[:500] if not isinstance(error, Unmappable | ValueError) else text[:500]
