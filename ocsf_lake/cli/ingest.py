"""`ocsf-lake ingest`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, VersionOption, settings
from ocsf_lake.ingest.summary import COLUMNS, as_dict, failed, reasons, refused, row

if TYPE_CHECKING:
    from ocsf_lake.ingest.run import SourceSummary, Summary
    from ocsf_lake.inputs.coverage import Coverage
    from ocsf_lake.ledger.copies import Copies

EXAMPLE = "ocsf-lake ingest sample_logs/organization --lake demo_lake"

SHOWN_DRIFT = 5
"""Of what is new in a source, so much is shown; `ocsf-lake status SOURCE` lists all."""
SHOWN_FAILURES = 10
"""Of the batches that failed, and of the records that made the program fail, so many are named; --json names all."""
SHOWN_OBJECTS = 3
"""Of the objects skipped or failed for the same reason, so many are named; --json names all."""

Arguments = Annotated[
    list[str],
    typer.Argument(
        metavar="[SOURCE] URI...",
        help="Folders, globs, files. If the first word is a source name, everything is read as that source; otherwise "
        "each object's source is recognized by its name or content.",
        show_default=False,
    ),
]


RetryOption = Annotated[
    bool, typer.Option("--retry", help="Also try objects that are skipped because they failed too often.")
]


AllOption = Annotated[
    bool, typer.Option("--all", help="List everything on S3, including older days that earlier runs have listed.")
]


def ingest(
    arguments: Arguments, lake: LakeOption = None, ocsf_version: VersionOption = None, as_json: JsonOption = False,
    retry: RetryOption = False, whole: AllOption = False,
) -> None:  # fmt: skip
    """Ingest new objects from the URIs into the lake.

    Objects that earlier runs have dealt with are skipped, and an interrupted run is continued: running a command again
    never counts a record twice. With SOURCE, objects of which no record became an event are read again as that source:
    those taken for another source, and those that an older mapper refused.
    """
    config = settings(lake, ocsf_version)
    source, uris = split(arguments)
    from ocsf_lake.ingest.run import ingest as run

    try:
        with terminal.progress_bar("ingesting") as progress:
            summary = run(uris, config, source, progress, again=retry, whole=whole)
    except KeyboardInterrupt:
        terminal.say("stopped; run the same command again to continue")
        raise
    if as_json:
        output.print_json(as_dict(summary))
    else:
        show(summary)
    tell(summary)
    raise typer.Exit(int(failed(summary)))


def split(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The source, if the first word names one, and the URIs.

    Raises:
        ConfigError: A source without a URI, or a first word that looks like a misspelled source.
    """
    from ocsf_mappers import registry
    from ocsf_mappers.errors import ConfigError, nearest

    first, *uris = arguments
    if first.endswith(".py") and uris:
        return registry.use_file(Path(first)), uris
    names = registry.names()
    if first in names and not uris:
        raise ConfigError(f"{first} is the name of a source: say what to ingest, as in `ocsf-lake ingest {first} URI`")
    if first in names:
        return first, uris
    is_uri = "://" in first or set(first) & set("*?[") or Path(first).exists()
    if not is_uri and (hint := nearest(first, names)):
        raise ConfigError(f"there is nothing at {first!r}, and no source of that name{hint}")
    return None, arguments


# -- what was done ----------------------------------------------------------------------------------------------------
def show(summary: Summary) -> None:
    """The closing table, and below it what was not read."""
    from ocsf_lake.ledger.results import State

    if summary.sources:
        output.print_table(COLUMNS, [row(name, source) for name, source in sorted(summary.sources.items())])
    for (state, reason), items in reasons(summary):
        label = state.replace("_", " ")
        lines = [f"{terminal.plural(len(items), 'object')} {label}: {reason}"]
        if state != State.SET_ASIDE:
            lines += [f"  {item.uri}" for item in items[:SHOWN_OBJECTS]]
            if (more := len(items) - SHOWN_OBJECTS) > 0:
                lines.append(f"  and {more:,} more; {listed(state)}")
        sys.stdout.write("".join(f"{terminal.escaped(line)}\n" for line in lines))
    if unlisted := summary.unread.numbers.total() - len(summary.not_read):
        sys.stdout.write(f"{unlisted:,} more objects were not read; ledger_objects has them all\n")


def tell(summary: Summary) -> None:
    """What to know about the run, and what to do next."""
    tell_coverage(summary.coverage)
    total = terminal.plural(summary.listed, "object")
    terminal.say(f"{total} found, {summary.known:,} of them known from earlier runs")
    if summary.of_others:
        others = terminal.plural(summary.of_others, "more object")
        terminal.say(f"{others} in the same folders skipped: by their names they belong to another source")
    if summary.reread:
        objects = terminal.plural(summary.reread, "object")
        terminal.say(f"{objects} read again: none of their records had become an event")
    if not summary.sources and not summary.busy:
        terminal.say("nothing new was read")
        # Planned by another run while this one was listing: they are that one's to read.
        if (planned := summary.listed - summary.known - summary.unread.numbers.total()) > 0:
            terminal.say(f"{terminal.plural(planned, 'object')} left to another run that planned them meanwhile")
    if summary.busy:
        terminal.say(f"{terminal.plural(summary.busy, 'batch', 'batches')} left to another run that is working on them")
    for name, source in sorted(summary.sources.items()):
        _print_drift(name, source)
        if source.duplicates:
            events = terminal.plural(source.duplicates, "event")
            terminal.say(f"{name}: the lake had {events} of these already; the table `duplicates` lists them")
        if source.variants:
            terminal.say(f"{name}: {terminal.plural(source.variants, 'event')} kept: same key, other content")
        for error, number in sorted(source.fallbacks.items()):
            records = terminal.plural(number, "record")
            terminal.say(f"{name}: {records} mapped one by one after {error}: slower, with the same events")
    if summary.empty:
        objects = terminal.plural(summary.empty, "empty object")
        terminal.say(
            f"{objects}: an interrupted delivery may leave one, and its logs are not in the lake",
            *(f"  {uri}" for uri in summary.empty_examples),
        )
    _tell_copies(summary.copies)
    _tell_failures(summary)
    if reason := refused(summary):
        terminal.say(f"{reason}; if they belong to another source, name it: `ocsf-lake ingest SOURCE URI`")
    if summary.counts.quarantined:
        terminal.say("`ocsf-lake quarantine list` shows why records are in quarantine")
    from ocsf_lake.ledger.results import State

    states = summary.unread.numbers
    if State.SKIPPED in states:
        terminal.say("if you know the source of skipped objects, name it: `ocsf-lake ingest SOURCE URI`")
    if State.FAILED in states:
        terminal.say(
            "later runs try failed objects again, a few times; `ocsf-lake ingest --retry URI` tries all "
            "of them again"
        )


def listed(state: str) -> str:
    """What lists all objects that became the same."""
    return f"`ocsf-lake query \"SELECT uri, reason FROM ledger_objects WHERE state = '{state}'\"` lists all"


def _tell_copies(copies: Copies) -> None:
    from ocsf_lake.ledger.copies import ALL as ALL_COPIES

    if copies.objects:
        examples = [f"  {first} and {second}" for first, second in copies.examples]
        terminal.say(copies.text, *examples, f'`ocsf-lake query "{ALL_COPIES}"` lists all')
    if copies.replaced:
        terminal.say(copies.replaced_text, *(f"  {uri}" for uri in copies.replaced_examples))
    if copies.unknown:
        terminal.say(f"objects that the lake also has under other names: not checked, {copies.unknown}")


def _tell_failures(summary: Summary) -> None:
    """What made the program fail: it stopped nothing else, and somebody has to know."""
    for reason in summary.broken.values():
        terminal.say(f"error: {reason}; its objects and batches wait until it can be used")
    for failure in summary.failures[:SHOWN_FAILURES]:
        hint = "; please report this" if failure.kind == "CountError" else ""
        terminal.say(f"error: batch {failure.batch_id} of {failure.source} failed: {failure.reason}{hint}")
    if (unlisted := len(summary.failures) - SHOWN_FAILURES) > 0:
        terminal.say(f"error: {unlisted:,} more batches failed")
    if summary.failures:
        terminal.say("later runs try failed batches again, after all others")
    for item in summary.isolated[:SHOWN_FAILURES]:
        where = f"record {item.record} of {item.uri}"
        terminal.say(f"error: {where} made the program fail, and is in quarantine: {item.reason}")
    if (unlisted := len(summary.isolated) - SHOWN_FAILURES) > 0:
        terminal.say(f"error: {unlisted:,} more records made the program fail, and are in quarantine")


def tell_coverage(coverage: Coverage | None) -> None:
    """What was looked at, and what was not."""
    for note in coverage.notes() if coverage else ():
        names = [f"  {name}" for name in note.names]
        tail = [f"  and {note.hidden:,} more"] if note.hidden else []
        terminal.say(f"{note.text}:" if names else note.text, *names, *tail)


def _print_drift(name: str, source: SourceSummary) -> None:
    from ocsf_lake.ledger import mapping_coverage

    for drift, seen in list(source.drift.items())[:SHOWN_DRIFT]:
        terminal.say(f"new in {name}: {mapping_coverage.message(drift, seen)}")
    if len(source.drift) > SHOWN_DRIFT:
        terminal.say(f"new in {name}: {len(source.drift) - SHOWN_DRIFT:,} more; `ocsf-lake status {name}` lists them")
