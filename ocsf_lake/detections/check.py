"""Whether rules can match at all: an error for one that cannot, a warning for one of which a part cannot.

Each way in which a rule can hold is held against what is known of AWS's logs, and tried: a record for which it should
hold goes through the real mapper into a lake of its own, and the rule has to find it there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sigma.types import (
    SigmaCompareExpression,
    SigmaExists,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaString,
    SigmaTimestampPart,
)

from ocsf_lake.config import Settings
from ocsf_lake.detections import alternatives, connections, facts, inject, made, operations, scan, statements
from ocsf_lake.detections.alternatives import Alternative, Atom
from ocsf_lake.detections.asked import Look, Relation
from ocsf_lake.detections.logs import Part
from ocsf_lake.detections.made import Impossible
from ocsf_lake.detections.places import Unmappable
from ocsf_lake.detections.rules import Rule
from ocsf_lake.detections.statements import Span
from ocsf_lake.ingest import run as ingest
from ocsf_mappers import temporary
from ocsf_mappers.errors import nearest

ERROR, WARNING = "error", "warning"
QUIET_DAYS = 7
"""A table without events for so long is quiet."""
_FILLERS = ("", "1")
"""What else wildcards may stand for, where a record with some text for them is not found."""
SHOWN = 5
"""Of the reasons why a rule cannot match, so many are shown."""

Names = frozenset[tuple[str, str]]
"""Services and operations in lower case."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a rule.

    Args:
        severity: `error` where the rule can never match or cannot be used, else `warning`.
        reason: What is wrong.
    """

    severity: str
    reason: str


@dataclass
class Checked:
    """A rule and what is wrong with it.

    Args:
        rule: The rule.
        tried: In how many ways it was tried; 0 for correlations.
        found: How many of them it found.
        problems: What is wrong.
    """

    rule: Rule
    tried: int = 0
    found: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it is called: the name of its file without the ending, of a query with it."""
        return self.rule.title if self.rule.path.suffix.lower() == ".sql" else self.rule.stem

    @property
    def status(self) -> str:
        """`error`, `warning` or `ok`."""
        severities = {problem.severity for problem in self.problems}
        return ERROR if ERROR in severities else WARNING if WARNING in severities else "ok"

    def add(self, severity: str, reason: str) -> None:
        """Adds a problem, once."""
        if Problem(severity, reason) not in self.problems:
            self.problems.append(Problem(severity, reason))


@dataclass
class _Trial:
    """One way in which a rule can hold, in one source."""

    rule: int
    part: Part
    alternative: Alternative
    reason: str | None = None
    record: made.Json | None = None
    is_found: bool = False

    @property
    def is_live(self) -> bool:
        return self.is_found and self.reason is None


def check(
    settings: Settings, rules: Sequence[Rule], last_days: Mapping[str, str] | None = None, seen: Names = frozenset()
) -> list[Checked]:
    """Holds rules against what is known, and tries them.

    Args:
        settings: Settings of the lake that they are for, whose redaction counts; nothing is written there.
        rules: The rules.
        last_days: Table -> the latest day of which the lake has events, `YYYYMMDD`; None where there is no lake.
        seen: Services and operations that the lake has, so that nobody calls them unknown.
    """
    results = [Checked(rule) for rule in rules]
    trials = [trial for number, rule in enumerate(rules) for trial in _trials(number, rule, seen)]
    _try(settings, rules, trials)
    for filler in _FILLERS:
        _try(settings, rules, list(_otherwise(trials, filler)))
    for number, checked in enumerate(results):
        rule = checked.rule
        if rule.reason:
            checked.add(ERROR, f"cannot be used: {rule.reason}")
        elif rule.parsed is not None:
            _assess(checked, [trial for trial in trials if trial.rule == number])
            _assess_filters(checked, seen)
            _notice(checked, seen)
            _assess_first_seen(checked)
    for checked in results:
        if checked.rule.correlation is not None:
            _assess_correlation(checked, results)
    if last_days is not None:
        for checked in results:
            _assess_tables(checked, last_days)
    return results


def unknown_names(rules: Iterable[Rule]) -> Names:
    """Unknown services and operations that rules look for, in lower case; the service is empty for any."""
    names = set()
    for rule in rules:
        if rule.parsed is None or not any(part.source == "aws_cloudtrail" for part in _parts(rule)):
            continue
        for alternative in alternatives.of(rule.parsed):
            for source, name in _calls(alternative):
                if _problem_of_call(source, name, frozenset()):
                    names.add((operations.service_of(source or ""), operations.bare(name)))
    return frozenset(names)


# -- trials -----------------------------------------------------------------------------------------------------------
def _parts(rule: Rule) -> Sequence[Part]:
    return rule.log.parts if rule.log else ()


def _trials(number: int, rule: Rule, seen: Names) -> Iterator[_Trial]:
    if rule.parsed is None:
        return
    for part in _parts(rule):
        for alternative in alternatives.of(rule.parsed):
            trial = _Trial(number, part, alternative, _problem(part, alternative, seen))
            if trial.reason is None:
                try:
                    trial.record = inject.record(part, alternative)
                except Impossible as error:
                    trial.reason = str(error)
            yield trial


def _otherwise(trials: Iterable[_Trial], filler: str) -> Iterator[_Trial]:
    """What was not found, with other records: a port that has a 7 in it is no text around one."""
    for trial in trials:
        if trial.record is not None and trial.reason is None and not trial.is_found:
            record = inject.record(trial.part, trial.alternative, filler)
            if record != trial.record:
                trial.record = record
                yield trial


def _try(settings: Settings, rules: Sequence[Rule], trials: Sequence[_Trial]) -> None:
    """Notes of trials whether their records are found, in a lake that is gone afterwards."""
    by_source: dict[str, list[_Trial]] = defaultdict(list)
    for trial in trials:
        if trial.record is not None:
            by_source[trial.part.source].append(trial)
    if not by_source:
        return
    with temporary.directory("rules") as folder:
        # Not the settings in force: they may name a ledger or catalogs of the real lake. What hides values is the same.
        scratch = Settings.model_construct(
            lake=str(Path(folder, "lake")), ocsf_version=settings.ocsf_version, redact=settings.redact,
            redact_default=settings.redact_default, redaction_key_file=settings.redaction_key_file,
        )  # fmt: skip
        for source, some in by_source.items():
            file = Path(folder, f"{source}.log")
            file.write_bytes(made.file_of(source, [trial.record or {} for trial in some]))
            ingest.ingest([str(file)], scratch, source)
        usable = [rule for rule in rules if rule.parsed is not None]
        numbers = [number for number, rule in enumerate(rules) if rule.parsed is not None]
        asked = [rule.asked for rule in usable]
        with connections.connected(scratch, asked, Span()) as lake:
            for relation, looks in scan.by_source(asked):
                if not relation.needed(lake.filled):
                    continue
                reasons: dict[int, str] = {}

                def statement(some: Sequence[int], one: Relation = relation, of: Mapping[int, Look] = looks) -> str:
                    return statements.matches(one, [of[number] for number in some], Span(), lake.filled)

                for some_rules, batches in scan.divided(lake, list(looks), statement, reasons):
                    for row in (row for rows in batches for row in rows):
                        trial = by_source[relation.source][
                            row["record"] - made.FIRST_RECORD.get(relation.source, 1)
                        ]
                        trial.is_found |= trial.rule == numbers[some_rules[row["rule"]]]
                for number, reason in reasons.items():
                    for trial in trials:
                        if trial.rule == numbers[number] and trial.part.source == relation.source:
                            trial.reason = f"it cannot be asked: {reason}"


# -- what is known ----------------------------------------------------------------------------------------------------
def _problem(part: Part, alternative: Alternative, seen: Names) -> str | None:
    """Why an alternative never holds in a log of AWS; None where it may."""
    for atom in alternative:
        if atom.holds and (reason := _problem_of_atom(part, atom)):
            return reason
    if part.source == "aws_cloudtrail":
        for source, name in _calls(alternative):
            if reason := _problem_of_call(source, name, seen):
                return reason
        for atom in alternative:
            text = _text(atom) if atom.holds and atom.field == "eventSource" else None
            reason = operations.problem_of_source(text) if text is not None else None
            if reason and not any(service == operations.service_of(text or "") for service, _ in seen):
                return f"eventSource: {reason}"
    return None


def _calls(alternative: Alternative) -> Iterator[tuple[str | None, str]]:
    """The source, if any, and the name of each call that an alternative wants."""
    sources = [text for atom in alternative if atom.holds and atom.field == "eventSource" and (text := _text(atom))]
    for atom in alternative:
        if atom.holds and atom.field == "eventName" and (text := _text(atom)):
            yield (sources[0] if sources else None), text


def _text(atom: Atom) -> str | None:
    """The text that a member has to be; None for anything else."""
    if not isinstance(atom.value, SigmaString) or atom.value.contains_special() or atom.value.contains_placeholder():
        return None
    return "".join(part for part in atom.value.s if isinstance(part, str))


def _problem_of_call(source: str | None, name: str, seen: Names) -> str | None:
    reason = operations.problem_of_name(name, source)
    if reason is None:
        return None
    service, bare = operations.service_of(source or ""), operations.bare(name)
    if (service, bare) in seen or (not service and any(bare == operation for _, operation in seen)):
        return None
    written = facts.PERMISSIONS.get(bare)
    hint = f"; that is a permission, and CloudTrail writes {written}" if written else ""
    return f"eventName: {reason}{hint}"


def _problem_of_atom(part: Part, atom: Atom) -> str | None:
    if not atom.field or isinstance(atom.value, SigmaNull):
        return None
    if isinstance(atom.value, SigmaExists) and not atom.value.exists:
        return None
    if isinstance(atom.value, SigmaString) and atom.value.contains_placeholder():
        named = atom.value.original
        return f"{atom.field}: placeholder {named} has no values; the setting rule_placeholders may give some"
    if reason := problem_of_member(part, atom.field):
        return reason
    if isinstance(atom.value, SigmaFieldReference):
        if reason := problem_of_member(part, atom.value.field):
            return reason
        whole = not atom.value.starts_with and not atom.value.ends_with
        if whole and facts.is_arn(atom.field) != facts.is_arn(atom.value.field):
            return f"{atom.field}: never equal to {atom.value.field}, as one is an ARN and the other is none"
    if (
        part.source == "aws_cloudtrail"
        and isinstance(atom.value, SigmaCompareExpression | SigmaNumber)
        and not isinstance(atom.value, SigmaTimestampPart)
        and not atom.field.startswith(facts.DOCUMENTS)
    ):
        return f"{atom.field}: compared with a number, and never one"
    text = _text(atom)
    return facts.problem_of_value(part.source, atom.field, text) if text is not None else None


def problem_of_member(part: Part, name: str) -> str | None:
    """Why records of a source never have a member; None where they may."""
    try:
        place = part.field(name)
    except Unmappable as reason:
        return f"{name}: {reason}"
    if place.note:
        return f"{name}: {place.note}"
    if name in part.rows or name in part.declared:
        return None
    steps = name.split(".")
    for number in range(1, len(steps)):
        begin = ".".join(steps[:number])
        if part.declared.get(begin):
            return None  # JSON of any shape
    # A structure, all of whose members are declared; or a text, which has none.
    inside = [member for member in part.declared if member.startswith(f"{steps[0]}.")]
    if any(member.startswith(f"{name}.") for member in inside):
        return None
    return f"{name}: no record of {part.source} has such a member{nearest(name, [*inside, *part.rows])}"


# -- judgement --------------------------------------------------------------------------------------------------------
def _assess(checked: Checked, trials: Sequence[_Trial]) -> None:
    checked.tried = len(trials)
    live = [trial for trial in trials if trial.is_live]
    checked.found = len(live)
    if not live:
        reasons = list(dict.fromkeys(_reason(trial) for trial in trials))
        more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        checked.add(ERROR, f"can never match: {'; '.join(reasons[:SHOWN])}{more}")
        return
    alive = {atom for trial in live for atom in trial.alternative}
    for trial in trials:
        dead = [atom for atom in trial.alternative if atom.holds and atom not in alive]
        if dead:
            checked.add(WARNING, f"a part can never match: {_reason(trial, dead)}")


def _reason(trial: _Trial, dead: Sequence[Atom] = ()) -> str:
    conditions = ", ".join(map(str, dead or [atom for atom in trial.alternative if atom.holds]))
    return trial.reason or f"a record made for it is not found ({conditions})"


def _assess_filters(checked: Checked, seen: Names) -> None:
    """A filter that never filters lets through what it is there to keep out."""
    assert checked.rule.parsed is not None
    for ways in alternatives.filters(checked.rule.parsed):
        reasons = [
            [_problem(part, alternative, seen) for part in _parts(checked.rule)] for alternative in ways
        ]
        if ways and all(all(of_parts) for of_parts in reasons):
            distinct = dict.fromkeys(reason for of_parts in reasons for reason in of_parts if reason)
            checked.add(WARNING, f"a filter never filters: {'; '.join(distinct)}")


def _notice(checked: Checked, seen: Names) -> None:
    """What may be as it should, and mostly is not."""
    assert checked.rule.parsed is not None
    if not any(part.source == "aws_cloudtrail" for part in _parts(checked.rule)):
        return
    every = alternatives.of(checked.rule.parsed)
    members = {atom.field for alternative in every for atom in alternative}
    for alternative in every:
        for source, name in _calls(alternative):
            for atom in alternative:
                document, _, path = atom.field.partition(".")
                if not atom.holds or document != "requestParameters" or not path:
                    continue
                value = (_text(atom) or "").lower()
                instead, why = facts.BLIND.get((operations.bare(name), atom.field, value), (None, ""))
                if instead and instead not in members:
                    checked.add(WARNING, f"misses most of what it is for: {atom}: {why}")
                if source:
                    reason = operations.problem_of_member(name, source, path.split(".")[0])
                    if reason:
                        checked.add(WARNING, reason)


def _assess_first_seen(checked: Checked) -> None:
    for name in checked.rule.first_seen.members if checked.rule.first_seen else ():
        reasons = [problem_of_member(part, name) for part in _parts(checked.rule)]
        if reasons and all(reasons):
            checked.add(ERROR, f"can never match: it groups by, or looks for new values of, {reasons[0]}")


def _assess_correlation(checked: Checked, others: Sequence[Checked]) -> None:
    correlation = checked.rule.correlation
    assert correlation is not None
    for base, names in zip(correlation.bases, correlation.groups, strict=True):
        for other in others:
            is_base = (other.rule.path, other.rule.title, other.rule.version) == (base.path, base.title, base.version)
            if is_base and other.status == ERROR:
                checked.add(ERROR, f"can never match: rule {base.title!r}, which it counts, cannot")
        for name in [*names, *correlation.value]:
            reasons = [problem_of_member(part, name) for part in _parts(base)]
            if reasons and all(reasons):
                checked.add(ERROR, f"can never match: it groups by, or counts, {reasons[0]}")


def _assess_tables(checked: Checked, last_days: Mapping[str, str]) -> None:
    correlation = checked.rule.correlation
    for rule in correlation.bases if correlation else (checked.rule,):
        assess_tables(checked, sorted({table for part in _parts(rule) for table in part.tables}), last_days)


def assess_tables(checked: Checked, tables: Sequence[str], last_days: Mapping[str, str]) -> None:
    """Adds a warning that what looks at some tables is blind, where none of them has events, or had any lately."""
    quiet_before = f"{datetime.now(UTC) - timedelta(days=QUIET_DAYS):%Y%m%d}"
    days = [last_days[table] for table in tables if table in last_days]
    if tables and not days:
        checked.add(WARNING, f"blind: this lake has no events in {' or '.join(tables)}")
    elif days and max(days) < quiet_before:
        checked.add(WARNING, f"blind since {max(days)}: no later event in {' or '.join(tables)}")
