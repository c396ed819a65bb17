"""A lake's policy: its rules, and the key of its hashes; compiled for a source."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake.redaction import hiding, members, places, rules
from ocsf_lake.redaction.detectors import DETECTORS, GROUPS
from ocsf_lake.redaction.events import Columns, Hidden, Key
from ocsf_lake.redaction.hiding import Replace
from ocsf_lake.redaction.members import Members, Step
from ocsf_lake.redaction.records import Records
from ocsf_lake.redaction.rules import CREDENTIALS, Rule
from ocsf_lake.redaction.texts import Detection, NamedMembers, Texts
from ocsf_mappers import Mapped, Mapper, registry
from ocsf_mappers.engine.mapped import stacked
from ocsf_mappers.errors import ConfigError, nearest
from ocsf_mappers.secret_forms import CREDENTIAL_NAME, HIDDEN, OTHER_NAME, REFERENCE, SECRETS, is_value

FORMAT = 1
ID_DIGITS = 16
UNKNOWN_ACCOUNT = "unknown"
"""Account of events without a valid one; rules for any account hold for them."""


class Wishes(Protocol):
    """The settings of redaction."""

    @property
    def redact(self) -> tuple[Rule, ...]:
        """Rules."""

    @property
    def redact_default(self) -> bool:
        """Whether known credentials are hidden as well."""

    @property
    def redaction_key_file(self) -> Path | None:
        """File with the key of hashes; None for the variable."""


class Policy:
    """What is hidden of logs, and how.

    Args:
        given: The rules of the settings.
        default: Whether known credentials are hidden as well.
        key: The key of hashes; None without one.

    Raises:
        ConfigError: Two rules have one name, or there is no key and a rule that needs one.
    """

    def __init__(self, given: Sequence[Rule], key: hiding.Key | None, *, default: bool) -> None:
        self.rules = tuple(given)
        self.default = default
        self.key = key
        self._sources: WeakKeyDictionary[Mapper, Redactor] = WeakKeyDictionary()
        twice = [name for name, number in Counter(rule.name for rule in given).items() if number > 1]
        reserved = [rule.name for rule in given if default and rule.name in (CREDENTIALS, *SECRETS)]
        if twice or reserved:
            raise ConfigError(f"setting redact: two rules have the name {(twice or reserved)[0]!r}")
        if key is None and (hashing := [rule.name for rule in given if rule.action == "hash"]):
            raise ConfigError(
                f"setting redact: rule {hashing[0]!r} hashes, and there is no key: set the variable "
                f"{hiding.KEY_VARIABLE}, or redaction_key_file"
            )

    @cached_property
    def text(self) -> str:
        """All that decides what it hides, as JSON; of the key, its id."""
        patterns = repr([sorted(_patterns()), rules.members_pattern(), OTHER_NAME, HIDDEN.pattern, REFERENCE.pattern])
        of_program = hashlib.sha256(patterns.encode()).hexdigest()[:ID_DIGITS]
        hashing = any(rule.action == "hash" for rule in self.rules)
        document = {
            "format": FORMAT, "default": self.default, "detectors": of_program,
            "key": self.key.id if self.key is not None and hashing else None,
            "rules": [rule.model_dump(exclude_defaults=True) for rule in self.rules],
        }  # fmt: skip
        return json.dumps(document, sort_keys=True)

    @cached_property
    def id(self) -> str:
        """Tells policies apart."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:ID_DIGITS]

    def of_source(self, mapper: Mapper) -> Redactor:
        """The policy compiled for a source.

        Raises:
            ConfigError: A rule cannot be followed there.
        """
        if mapper not in self._sources:
            self._sources[mapper] = Redactor(self, mapper)
        return self._sources[mapper]

    def check(self) -> None:
        """Whether every rule can be followed, before any work.

        Raises:
            ConfigError: A rule names a source, attribute or member that is not there, or one that has to stay.
        """
        names = registry.names()
        for rule in self.rules:
            for source in rule.sources:
                if source not in names:
                    raise ConfigError(f"rule {rule.name!r}: no source {source!r}{nearest(source, names)}")
            if rule.path is None:
                continue
            nowhere: str | None = None
            for name in rule.sources or _likely_first(names):
                usable, _ = registry.usable([name])
                for mapper in usable.values():
                    is_nowhere = places.of(rule, mapper).is_nowhere
                    nowhere = (nowhere or places.unknown(rule, mapper)) if is_nowhere else None
                if nowhere is None and not rule.sources:
                    break
                if nowhere is not None and rule.sources:
                    raise ConfigError(nowhere)
            if nowhere is not None:
                raise ConfigError(nowhere)

    @cached_property
    def _messages(self) -> Texts:
        detections, everywhere = [], []
        for rule in self.rules:
            if rule.detect:
                detections.append(self.detection(rule))
            elif rule.member:
                everywhere.append(self.named(rule, members.steps(rule.member)))
        return Texts([*detections, *self.default_detections], [*everywhere, *self.default_members])

    def message(self, text: str) -> str:
        """A message as it may be logged and kept, whatever of a log it quotes."""
        return self._messages.message(text)

    # -- rules, compiled ----------------------------------------------------------------------------------------------
    def replacing(self, rule: Rule) -> Replace:
        """What a rule puts in a text's place."""
        return hiding.replacing(rule.name, rule.action, self.key)

    def detection(self, rule: Rule) -> Detection:
        """The values that a rule finds by how they look."""
        assert rule.detect is not None
        forms = [form for name in GROUPS[rule.detect] for form in DETECTORS[name]]
        return Detection(rule.name, forms, self.replacing(rule))

    def named(self, rule: Rule, *paths: tuple[Step, ...]) -> NamedMembers:
        """The members of JSON that a rule hides."""
        hidden = Members(paths, self.replacing(rule), drop=rule.action == "drop")
        plain = not hidden.drop and all(len(path) == 1 and path[0][1] for path in paths)
        return NamedMembers(rule.name, hidden, members.last_names(paths), plain=plain)

    @cached_property
    def default_detections(self) -> list[Detection]:
        """Secrets, which are found without a rule."""
        if not self.default:
            return []
        return [Detection(name, forms, hiding.replacing(name, "mask", None)) for name, forms in SECRETS.items()]

    @cached_property
    def default_members(self) -> list[NamedMembers]:
        """Members that are known to be credentials."""
        if not self.default:
            return []
        paths = tuple(((name.casefold(), True),) for name in rules.MEMBERS)
        also = re.compile(f'(?!(?s:.*")?(?:{OTHER_NAME})\\Z)(?s:.*")?(?:{CREDENTIAL_NAME})')
        hidden = Members(paths, _credential, any_case=True, texts_only=True, also=also)
        names, others = rules.members_pattern(), rules.other_members_pattern()
        return [NamedMembers(CREDENTIALS, hidden, names, plain=True, others=others, left=OTHER_NAME)]


def of(settings: Wishes) -> Policy | None:
    """The policy of the settings; None where nothing is to be hidden.

    Raises:
        ConfigError: The key cannot be read, or a rule needs one that is not there.
    """
    if not settings.redact_default and not settings.redact:
        return None
    hashing = any(rule.action == "hash" for rule in settings.redact)
    key = hiding.key(settings.redaction_key_file) if hashing else None
    identity = (settings.redact, settings.redact_default, key)
    if identity not in _policies:
        if len(_policies) >= KEPT:
            _policies.clear()
        _policies[identity] = Policy(settings.redact, key, default=settings.redact_default)
    return _policies[identity]


KEPT = 8
_policies: dict[tuple[tuple[Rule, ...], bool, hiding.Key | None], Policy] = {}


def of_text(text: str, settings: Wishes) -> Policy:
    """A policy that was in force before, from its text.

    Raises:
        ConfigError: This program finds other things than the one that wrote it, or its key is not there.
    """
    document = json.loads(text)
    given = [Rule.model_validate(rule) for rule in document["rules"]]
    key = hiding.key(settings.redaction_key_file) if document["key"] is not None else None
    if document["key"] != (key.id if key is not None else None):
        raise ConfigError(f"what was hidden of it was hashed with the key {document['key']}, which is not there")
    policy = Policy(given, key, default=document["default"])
    if policy.text != text:
        raise ConfigError("what is hidden of logs was found by another version of ocsf-lake, which found otherwise")
    return policy


def _patterns() -> Iterator[tuple[str, str]]:
    for name, forms in DETECTORS.items():
        for form in forms:
            yield name, form.pattern + form.name + form.inner


def _likely_first(names: Sequence[str]) -> list[str]:
    """Sources in an order in which most paths are found soon; each costs a quarter of a second."""
    return sorted(names, key=lambda name: (name != "aws_cloudtrail", name))


class Redactor:
    """A policy for one source.

    Args:
        policy: The policy.
        mapper: The source.

    Raises:
        ConfigError: A rule cannot be followed there.
    """

    def __init__(self, policy: Policy, mapper: Mapper) -> None:
        self.policy = policy
        self.mapper = mapper
        self.rules = [rule for rule in policy.rules if not rule.sources or mapper.name in rule.sources]
        self.places = {rule.name: places.of(rule, mapper) for rule in self.rules if rule.path is not None}
        self.kept = frozenset(
            [tuple(path.split(".")) for path in mapper.duplicate_key]
            + [("metadata", "uid"), ("cloud", "region"), ("cloud", "account", "uid")]
            + [(name,) for name in places.KEPT if name not in ("metadata", "cloud", "observables")]
        )
        self._columns: dict[frozenset[str], Columns] = {}

    def mapped(self, mapped: Mapped) -> tuple[Mapped, Counter[str]]:
        """What some records became, without what the policy hides; and how many values each rule hid."""
        events, counts = self.events(mapped.events)
        rejects, more = self.records.rejects(mapped.rejects)
        statistics = self.records.statistics(mapped.statistics)
        dropped = self.records.names(mapped.dropped)
        return replace(mapped, events=events, rejects=rejects, statistics=statistics, dropped=dropped), counts + more

    def events(self, events: pa.Table) -> tuple[pa.Table, Counter[str]]:
        """Events without what the policy hides, and how many values each rule hid."""
        if not len(events):
            return events, Counter()
        named = [rule for rule in self.rules if rule.accounts]
        if not named:
            return self._of(frozenset()).changed(events)
        accounts = pc.cast(events["accountid"], pa.string()).combine_chunks().dictionary_encode()
        left_out = [
            frozenset(rule.name for rule in named if account not in (*rule.accounts, UNKNOWN_ACCOUNT))
            for account in accounts.dictionary.to_pylist()
        ]
        groups = sorted(set(left_out), key=sorted)
        if len(groups) == 1:
            return self._of(groups[0]).changed(events)
        of_row = np.array([groups.index(names) for names in left_out])[accounts.indices.to_numpy()]
        parts, counts = [], Counter[str]()
        for number, names in enumerate(groups):
            # What one account's rows have must not stand in a dictionary beside those of another.
            part, more = self._of(names).changed(events.filter(pa.array(of_row == number)), compact=True)
            parts.append(part)
            counts += more
        order = np.argsort(np.argsort(of_row, kind="stable"), kind="stable")
        return stacked(parts).take(pa.array(order)), counts

    def _of(self, without: frozenset[str]) -> Columns:
        """The rules for events, without some."""
        if without not in self._columns:
            self._columns[without] = self._compiled([rule for rule in self.rules if rule.name not in without])
        return self._columns[without]

    def _compiled(self, given: Sequence[Rule]) -> Columns:
        policy = self.policy
        at: list[tuple[places.Path, Detection | NamedMembers]] = []
        hidden: list[Hidden] = []
        keys: list[Key] = []
        detections, everywhere, pairs = [], [], None
        for rule in given:
            if rule.path is None:
                if rule.detect:
                    detections.append(policy.detection(rule))
                if rule.member:
                    steps = members.steps(rule.member)
                    everywhere.append(policy.named(rule, _anywhere(steps)))
                    keys.append(self._key(rule, (), steps))
                continue
            of_rule = self.places[rule.name]
            drop = rule.action == "drop"
            hidden += [Hidden(rule.name, path, policy.replacing(rule), drop) for path in dict.fromkeys(of_rule.hidden)]
            for path, steps in dict.fromkeys(of_rule.inside):
                at.append((path, policy.detection(rule) if not steps else policy.named(rule, steps)))
            keys += [self._key(rule, path, steps) for path, steps in of_rule.keys]
        if policy.default:
            named, left = (rf'(?:^|[."])(?:{one})(?:\.[0-9]+)?$' for one in (rules.members_pattern(), OTHER_NAME))
            pairs = Key(CREDENTIALS, named, _credential, left=left)
            keys.append(pairs)
        texts = Texts([*detections, *policy.default_detections], [*everywhere, *policy.default_members])
        return Columns(texts, at, hidden, keys, self.kept, pairs)

    def _key(self, rule: Rule, path: places.Path, steps: tuple[Step, ...]) -> Key:
        """The entries of `unmapped` that a member, or what a path inside it names, may be."""
        inside = []
        start = "^" if path else r"(?:^|\.)"
        for place in range(1, len(path) + 1):
            rest = (*((name, False) for name in path[place:]), *steps)
            if rest:
                inside.append((f"^{members.key_pattern(path[:place], ())}$", self.policy.named(rule, rest)))
        for place in range(1, len(steps)):
            pattern = f"{start}{members.key_pattern(path, steps[:place])}$"
            inside.append((pattern, self.policy.named(rule, steps[place:])))
        pattern = rf"{start}{members.key_pattern(path, steps)}(?:\.|$)"
        return Key(rule.name, pattern, self.policy.replacing(rule), rule.action == "drop", inside)

    @cached_property
    def records(self) -> Records:
        """The policy for what is kept of records themselves: something stays in place of what it drops.

        A replay recognizes by it the record that was refused, see `hiding.is_redacted`.
        """
        raw, whole = [], []
        given = [_masking(rule) for rule in self.rules]
        for rule in given:
            if rule.path is None:
                if rule.member:
                    raw.append(self.policy.named(rule, _anywhere(members.steps(rule.member))))
            elif not rule.detect:
                raw.append(self.policy.named(rule, *dict.fromkeys(self.places[rule.name].raw)))
                whole.append(rule)
        detections = [self.policy.detection(rule) for rule in given if rule.detect]
        texts = Texts([*detections, *self.policy.default_detections], [*raw, *self.policy.default_members])
        return Records(texts, [(rule.name, self.policy.replacing(rule)) for rule in whole], self._values(whole))

    def _values(self, whole: Sequence[Rule]) -> set[str]:
        """Names, as statistics have them, of values that are hidden altogether."""
        names = set()
        for rule in whole:
            of_rule = self.places[rule.name]
            names |= {".".join(path) for path in of_rule.hidden}
            names |= {".".join(name for name, _ in steps) for steps in of_rule.raw}
        return names


def _credential(text: str) -> str | None:
    """What takes the place of a credential; a word that says whether there is one stays, as does the name of one."""
    return _MASK(text) if is_value(text) else None


_MASK = hiding.replacing(CREDENTIALS, "mask", None)


def _masking(rule: Rule) -> Rule:
    return rule.model_copy(update={"action": "mask"}) if rule.action == "drop" else rule


def _anywhere(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """A path that begins anywhere: the same JSON stands in a column of its own, or inside another text."""
    (name, _), *rest = steps
    return ((name, True), *rest)
