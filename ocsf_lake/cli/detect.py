"""`ocsf-lake detect`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, first_day, last_day, settings_of_lake

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocsf_lake.config import Settings
    from ocsf_lake.detections.asked import Asked
    from ocsf_lake.detections.run import Summary
    from ocsf_lake.detections.scan import Count
    from ocsf_lake.detections.statements import Span

EXAMPLE = "ocsf-lake detect --rules sample_logs/rules --all --dry-run --lake demo_lake"


Rules = Annotated[
    list[Path] | None,
    typer.Option(
        "--rules", metavar="DIR",
        help="Folder with Sigma rules, or pack for the built-in ones; repeatable. Default: the setting rules.",
    ),
]
First = Annotated[date | None, first_day("First event day, UTC.")]
Last = Annotated[date | None, last_day("Last event day, included.")]
All = Annotated[bool, typer.Option("--all", help="Search all events of the lake.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing; count the events that each rule matches.")]


def detect(
    rules: Rules = None,
    first: First = None,
    last: Last = None,
    all_events: All = False,
    dry_run: DryRun = False,
    as_json: JsonOption = False,
    lake: LakeOption = None,
) -> None:
    """Run Sigma rules on the lake, and add their findings as events to the table detections.

    Without a range, the rules run on events that have arrived since they last ran, late ones included. Each finding is
    added once, however often rules run. Unusable rules are reported, and do not stop the others. New findings are sent
    to the receivers of the setting alerts, see `ocsf-lake alerts`.
    """
    from ocsf_mappers.errors import ConfigError, QueryError, WriteError

    if all_events and (first or last):
        raise ConfigError("use either --all, or --from and --to")
    config = settings_of_lake(lake)
    chosen = _loaded(config, rules)
    span = _span(first, last)
    ranged = span if all_events or first or last else None
    if dry_run:
        _print_counts(_counts(config, chosen, ranged), as_json=as_json)
        return
    from ocsf_lake.alerts import run as alerting
    from ocsf_lake.cli import alerts
    from ocsf_lake.detections import run

    alerting.take(config)
    try:
        summary = run.detect(config, chosen, ranged)
    except WriteError:
        # What was found is noted, and receivers are notified of it even when the lake takes nothing.
        alerts.tell(config, ending=False)
        raise
    _print_summary(summary, chosen, as_json=as_json)
    alerts.tell(config)
    if summary.failed:
        failed = terminal.plural(len(summary.failed), "rule")
        raise QueryError(f"{failed} failed on these events, see above; `ocsf-lake detect --all` runs it again")


def _counts(settings: Settings, chosen: list[Asked], span: Span | None) -> list[Count]:
    from ocsf_lake.detections import new_values, run, scan
    from ocsf_lake.detections.statements import Span

    if span is not None:
        return scan.counts(settings, chosen, span)
    return scan.counts(settings, chosen, Span(), new_values.batch_files(run.waiting(settings)))


def _loaded(settings: Settings, folders: Sequence[Path] | None) -> list[Asked]:
    from ocsf_lake.detections import compiled
    from ocsf_mappers.errors import ConfigError

    paths = folders or settings.rules
    if not paths:
        raise ConfigError("no rules: name a folder, or pack for built-in ones, with --rules or in the setting rules")
    rules = compiled.load(paths, settings.rule_placeholders, settings.mappers)
    for rule in rules:
        for note in rule.notes:
            terminal.say(f"{rule.path}: {note}")
    return rules


def _span(first: date | None, last: date | None) -> Span:
    from ocsf_lake.detections.statements import Span

    if first and last and last < first:
        from ocsf_mappers.errors import ConfigError

        raise ConfigError(f"--to {last} is before --from {first}")
    after = last + timedelta(days=1) if last and last < date.max else None
    return Span(_millis(first), _millis(after))


def _millis(day: date | None) -> int | None:
    return None if day is None else int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _print_counts(counts: Sequence[Count], *, as_json: bool) -> None:
    _tell_unusable([(one.rule, one.reason) for one in counts if one.reason])
    if as_json:
        output.print_json([{"rule": one.rule.stem, "id": one.rule.id, "events": one.events} for one in counts])
        return
    rows = [(one.rule.stem, one.rule.level, one.events) for one in sorted(counts, key=lambda one: -one.events)]
    output.print_table(("rule", "level", "events"), rows)


def _print_summary(summary: Summary, chosen: Sequence[Asked], *, as_json: bool) -> None:
    _tell_unusable([(chosen[number], reason) for number, reason in sorted(summary.reasons.items())])
    rows = [(rule, summary.events[rule.key], summary.findings[rule.key]) for rule in chosen]
    if as_json:
        output.print_json([
            {"rule": rule.stem, "id": rule.id, "events": events, "findings": findings}
            for rule, events, findings in rows
        ])  # fmt: skip
    else:
        shown = [(rule.stem, rule.level, events, findings) for rule, events, findings in rows if findings]
        output.print_table(("rule", "level", "events", "findings"), shown)
    for number in summary.full:
        terminal.say(f"{chosen[number].path}: no room for more of its values: new callers are not watched")
    for finding, about in summary.undone:
        terminal.say(f"finding {finding} stays, though late events show that it was not new: {about}")
    looked = f"{terminal.plural(summary.batches, 'new batch', 'new batches')} searched; " if summary.batches else ""
    terminal.say(f"{looked}{terminal.plural(summary.new, 'new finding')} in the table detections")


def _tell_unusable(rules: Sequence[tuple[Asked, str]]) -> None:
    for rule, reason in rules:
        terminal.say(f"{rule.path}: cannot be used: {reason}")
