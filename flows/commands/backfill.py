"""`ocsf-lake backfill`."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import output, terminal
from flows.commands import ingest
from flows.settings import JsonOption, LakeOption, SourceArgument, VersionOption, settings

if TYPE_CHECKING:
    from lake.backfill import Estimate

EXAMPLE = (
    "ocsf-lake backfill aws_cloudtrail sample_logs/organization --from 2026-03-16 --to 2026-03-17 --lake demo_lake"
)

_DAYS = ["%Y-%m-%d", "%Y%m%d"]
Uri = Annotated[str, typer.Argument(metavar="URI", help="A bucket or folder that holds AWSLogs/, or any other folder.")]
First = Annotated[datetime, typer.Option("--from", metavar="DAY", formats=_DAYS, help="First day of events, UTC.")]
Last = Annotated[datetime, typer.Option("--to", metavar="DAY", formats=_DAYS, help="Last day of events, included.")]
Accounts = Annotated[list[str] | None, typer.Option("--account", metavar="ID", help="Only this account; repeatable.")]
Regions = Annotated[list[str] | None, typer.Option("--region", metavar="NAME", help="Only this region; repeatable.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what there is to do, and do none of it.")]
Parallel = Annotated[
    int | None,
    typer.Option(
        "--parallel", metavar="N", min=1, max=64, help="Batches at once. [env: OCSF_LAKE_WORKERS; default: 2]"
    ),
]

Remote = Annotated[
    bool, typer.Option("--remote", help="Leave it to the workers of the Prefect server that PREFECT_API_URL names.")
]
DaysPerRun = Annotated[int, typer.Option("--days-per-run", metavar="N", min=1, help="With --remote: days of one run.")]


def backfill(
    source: SourceArgument,
    uri: Uri,
    first: First,
    last: Last,
    account: Accounts = None,
    region: Regions = None,
    dry_run: DryRun = False,
    parallel: Parallel = None,
    lake: LakeOption = None,
    ocsf_version: VersionOption = None,
    as_json: JsonOption = False,
    remote: Remote = False,
    days_per_run: DaysPerRun = 1,
) -> None:
    """Bring a range of days into the lake.

    Objects that the lake has are left alone. The same command continues a backfill that was interrupted, and several
    can run at once, beside a scheduled ingest too: no record is counted twice.
    """
    if remote and not dry_run:
        _submit(source, uri, (first.date(), last.date(), days_per_run), account or [], region or [], lake)
        return
    found = settings(lake, ocsf_version, workers=parallel)
    chosen = (source, uri, first.date(), last.date(), found, tuple(account or ()), tuple(region or ()))
    from lake import backfill as backfills

    if dry_run:
        _show(backfills.estimate(*chosen), first.date(), last.date(), as_json)
        return
    try:
        with terminal.progress_bar("backfilling") as progress:
            summary = backfills.backfill(*chosen, progress=progress)
    except KeyboardInterrupt:
        terminal.say("stopped; the same command continues where this one was")
        raise
    if as_json:
        output.print_json(ingest.as_dict(summary))
    else:
        ingest.show(summary)
    ingest.tell(summary)
    raise typer.Exit(ingest.exit_code(summary))


def _submit(
    source: str, uri: str, days: tuple[date, date, int], accounts: list[str], regions: list[str], lake: str | None
) -> None:
    """Makes the runs of a backfill on a Prefect server, and says which."""
    from flows import remote
    from flows.settings import source as mapper

    mapper(source)
    for run in remote.submit(source, _absolute(uri), *days, accounts, regions, lake and _absolute(lake)):
        terminal.say(run.name if run.new else f"{run.name}: waits already")
    terminal.say("`prefect flow-run ls` shows how far they are; if some do not end well, run the same command again")


def _absolute(uri: str) -> str:
    """A path as workers on this machine find it; other URIs stay."""
    return uri if "://" in uri else str(Path(uri).absolute())


def _show(found: Estimate, first: date, last: date, as_json: bool) -> None:
    if as_json:
        output.print_json(as_dict(found))
        return
    seconds = "unknown" if found.seconds is None else terminal.duration(found.seconds)
    output.print_table(
        ["objects", "known", "in", "batches", "LIST calls", "USD on S3", "seconds"],
        [
            [
                terminal.count(found.objects), terminal.count(found.known), terminal.size(found.bytes),
                terminal.count(found.batches), terminal.count(found.list_calls), f"{found.list_usd:.4f}", seconds,
            ]
        ],
    )  # fmt: skip
    if found.undetermined:
        terminal.say(
            f"of {terminal.plural(found.undetermined, 'object')} the name does not say the day, account or region; "
            "a backfill reads them"
        )
    if found.seconds is None:
        terminal.say("how long it takes is known once the lake has done a batch of this source")
    terminal.say(f"nothing was done for {first} to {last}; without --dry-run it is")


def as_dict(found: Estimate) -> dict[str, Any]:
    """An estimate in JSON's types."""
    from dataclasses import asdict

    return asdict(found)
