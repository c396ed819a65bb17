"""`ocsf-lake quarantine list`, `show`, `replay` and `purge`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, settings_of_lake

if TYPE_CHECKING:
    import duckdb

    from ocsf_lake.upkeep import quarantine

LIST_EXAMPLE = "ocsf-lake quarantine list --lake demo_lake"
SHOW_EXAMPLE = "ocsf-lake quarantine show --source aws_vpc_flow --limit 3 --lake demo_lake"
REPLAY_EXAMPLE = "ocsf-lake quarantine replay --source aws_vpc_flow --lake demo_lake"
PURGE_EXAMPLE = "ocsf-lake quarantine purge --older-than 400 --closed --lake demo_lake"

EXAMPLE_CHARACTERS = 60
"""Of a group's first record, so much is listed; `show` and --json have more."""

SourceOption = Annotated[str | None, typer.Option("--source", metavar="SOURCE", help="Only this source.")]
PartArgument = Annotated[
    str, typer.Argument(metavar="[OBJECT]", help="Part of the object names.", show_default=False)
]

app = typer.Typer(
    help="Work with records that did not become events.", no_args_is_help=True, rich_markup_mode=None
)


AllOption = Annotated[bool, typer.Option("--all", help="Also records that a replay turned into events.")]


def list_reasons(
    source: SourceOption = None, closed: AllOption = False, lake: LakeOption = None, as_json: JsonOption = False
) -> None:
    """List the reasons, with the number of records and an example."""
    config = settings_of_lake(lake)
    from ocsf_lake.query import query as lake_query
    from ocsf_lake.query import verified
    from ocsf_lake.upkeep import quarantine

    with lake_query.connected(config, "FROM quarantine") as connection:
        groups = quarantine.listed(connection, source, None if closed else "open")
        verified.check(connection)
    if as_json:
        output.print_json([asdict(group) for group in groups])
        return
    if not groups:
        terminal.say("no records are in quarantine")
        return
    output.print_table(
        ["source", "records", "object", "first", "reason", "example"],
        [
            [
                group.source,
                terminal.count(group.records),
                group.source_object.rpartition("/")[2],
                group.first_record,
                group.reason,
                _beginning(group.example),
            ]
            for group in groups
        ],
    )


def _beginning(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARACTERS else f"{text[: EXAMPLE_CHARACTERS - 1]}…"


def replay(
    part: PartArgument = "",
    source: SourceOption = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Only this reason, in full.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also records that this mapper has refused.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Map records again, after a mapper was fixed.

    A record that becomes an event is closed; one that is refused again stays, with the new reason. Records are read
    from their objects, or from the text in quarantine if an object is gone. Running it again changes nothing.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.upkeep.replay import replay as run

    summary = run(config, source, part, reason, again=again)
    if as_json:
        # asdict makes pairs of a Counter's items before Python 3.12.
        output.print_json({**vars(summary), "open": dict(summary.open.most_common())})
    else:
        sys.stdout.write(f"{terminal.plural(summary.closed, 'record')} became events and are closed\n")
        for why, number in summary.open.most_common():
            line = f"{terminal.plural(number, 'record')} refused again: {why}"
            sys.stdout.write(f"{terminal.escaped(line)}\n")
    if summary.untried:
        number_left = terminal.plural(summary.untried, "record")
        terminal.say(f"{number_left} skipped: this mapper has already refused them; --again tries them anyway")
    if summary.known:
        number_left = terminal.plural(summary.known, "record")
        terminal.say(f"{number_left} skipped: the lake has their events; the file that recorded it was written off")
    if summary.damage:
        number_left = terminal.plural(summary.damage, "entry", "entries")
        terminal.say(f"{number_left} skipped: they stand for the rest of a damaged object and have no text")
    for name in summary.busy:
        terminal.say(f"{name} is left to another replay that is working on it")


def purge(
    days: Annotated[int, typer.Option("--older-than", metavar="DAYS", min=0, help="At least this many days old.")],
    closed: Annotated[bool, typer.Option("--closed", help="Only files without open records.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them. Default: only list them.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old quarantine files for good.

    Only this command and `ocsf-lake retain` ever remove any, and both list first. What a legal hold covers is kept. The
    ledger records what was removed in the table `ledger_purges`.
    """
    config = settings_of_lake(lake)
    from datetime import timedelta

    from ocsf_lake.lake import opened
    from ocsf_lake.ledger import holds
    from ocsf_lake.query import query as lake_query
    from ocsf_lake.upkeep import quarantine

    with opened(config, reading=not yes) as opened_lake:
        if yes:
            quarantine.finish_purges(opened_lake)
        is_over = quarantine.older_than(timedelta(days=days))
        with lake_query.connected(config, "FROM quarantine") as connection:
            candidates = quarantine.purgeable(opened_lake, connection, is_over, closed=closed)
        standing = [hold for hold in holds.listed(opened_lake.ledger.engine) if hold.released_at is None]
        files = [file for file in candidates if not quarantine.keeping(standing, file.source)]
        if yes:
            files = quarantine.purge(opened_lake, files)
    if as_json:
        output.print_json([asdict(file) for file in files])
    elif files:
        rows = [[file.source, terminal.count(file.entries), terminal.count(file.open), file.path] for file in files]
        output.print_table(["source", "records", "of them open", "file"], rows)
    total = terminal.plural(sum(file.entries for file in files), "record")
    still = sum(file.open for file in files)
    terminal.say(f"{total} {'removed' if yes else 'would be removed'}, {still:,} of them open")
    if kept := sum(file.entries for file in candidates) - sum(file.entries for file in files):
        terminal.say(f"{terminal.plural(kept, 'record')} kept by a legal hold; `ocsf-lake hold list` has them")
    if files and not yes:
        terminal.say("nothing was removed; --yes removes them")


def show(
    part: PartArgument = "",
    source: SourceOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of records.")] = 20,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show records with their text, by object and record number."""
    config = settings_of_lake(lake)
    from ocsf_lake.query import query as lake_query
    from ocsf_lake.query import verified

    with lake_query.connected(config, "FROM quarantine") as connection:
        rejects = list(islice(_rejects(connection, part, source, limit + 1), limit + 1))
        verified.check(connection)
    page = rejects[:limit]
    if as_json:
        output.print_json([asdict(reject) for reject in page])
    else:
        for reject in page:
            lines = [
                f"{reject.source_object}: record {reject.source_record} ({reject.source})",
                f"  {reject.reason}",
                f"  {reject.raw}",
            ]
            sys.stdout.write("".join(f"{terminal.escaped(line)}\n" for line in lines))
    if not rejects:
        terminal.say("no such records are in quarantine")
    if len(rejects) > limit:
        terminal.say(f"more than {terminal.plural(limit, 'record')}; --limit shows more")


def _rejects(
    connection: duckdb.DuckDBPyConnection, part: str, source: str | None, limit: int
) -> Iterator[quarantine.Reject]:
    """The records of the objects whose names hold a text; more than `limit` of them may come."""
    from ocsf_lake.upkeep import quarantine

    if not part:
        yield from quarantine.shown(connection, source, limit=limit)
        return
    groups = quarantine.listed(connection, source)
    objects = {(group.source, group.source_object) for group in groups if part in group.source_object}
    for source_name, source_object in sorted(objects):
        yield from quarantine.shown(connection, source_name, source_object, limit=limit)
