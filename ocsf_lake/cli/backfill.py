"""`ocsf-lake backfill`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocsf_lake.cli import ingest, output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, SourceArgument, VersionOption, first_day, last_day, settings
from ocsf_lake.cli.options import source as mapper
from ocsf_lake.ingest.summary import as_dict as run_as_dict
from ocsf_lake.ingest.summary import failed

if TYPE_CHECKING:
    from ocsf_lake.config import Settings
    from ocsf_lake.ingest.backfill import Estimate

EXAMPLE = (
    "ocsf-lake backfill aws_cloudtrail sample_logs/organization --from 2026-03-16 --to 2026-03-17 --lake demo_lake"
)

Uri = Annotated[str, typer.Argument(metavar="URI", help="A bucket or folder that holds AWSLogs/, or any other folder.")]
First = Annotated[date, first_day("First day of events, UTC.")]
Last = Annotated[date, last_day("Last day of events, included.")]
Accounts = Annotated[list[str] | None, typer.Option("--account", metavar="ID", help="Only this account; repeatable.")]
Regions = Annotated[list[str] | None, typer.Option("--region", metavar="NAME", help="Only this region; repeatable.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what there is to do.")]
Parallel = Annotated[
    int | None,
    typer.Option(
        "--parallel", metavar="N", min=1, max=64, help="Batches in parallel. [env: OCSF_LAKE_WORKERS; default: 2]"
    ),
]

Remote = Annotated[
    bool, typer.Option("--remote", help="Have the workers of the Prefect server at PREFECT_API_URL do it.")
]
DaysPerRun = Annotated[int, typer.Option("--days-per-run", metavar="N", min=1, help="With --remote: days per run.")]
Remap = Annotated[
    bool,
    typer.Option("--remap", help="Map the events that the lake has of these days again, with today's mapper."),
]
Estimated = Annotated[
    bool, typer.Option("--estimate/--no-estimate", help="With --remote: first list, and show what there is to do.")
]


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
    estimate: Estimated = True,
    remap: Remap = False,
) -> None:
    """Ingest a range of days into the lake.

    Objects already in the lake are skipped. The same command continues an interrupted backfill, and several can run at
    once, alongside a scheduled ingest too: no record is counted twice.

    With --remap nothing new is read: after a mapper was changed, the events of these days are rebuilt from their raw
    objects below the URI, one partition at a time, in every catalog. A partition whose events would not end up where
    they were is left unchanged, and the reason is shown.
    """
    source = mapper(source).name  # it may be a file
    if remap:
        _remap(source, uri, first, last, account, region, settings(lake, ocsf_version), dry_run, as_json, remote)
    if remote and lake is not None:
        lake = _absolute(lake)
    config = settings(lake, ocsf_version, workers=parallel)
    arguments = (source, uri, first, last, config, tuple(account or ()), tuple(region or ()))
    from ocsf_lake.ingest import backfill as backfills

    if dry_run:
        _show(backfills.estimate(*arguments), as_json)
        terminal.say(f"nothing was done for {first} to {last}; leave out --dry-run to do it")
        return
    if remote:
        _submit(*arguments, days_per_run, estimate, lake, as_json)
        return
    try:
        with terminal.progress_bar("backfilling") as progress:
            summary = backfills.backfill(*arguments, progress=progress)
    except KeyboardInterrupt:
        terminal.say("stopped; run the same command again to continue")
        raise
    if as_json:
        output.print_json(run_as_dict(summary))
    else:
        ingest.show(summary)
    ingest.tell(summary)
    raise typer.Exit(int(failed(summary)))


def _remap(
    source: str, uri: str, first: date, last: date, accounts: list[str] | None, regions: list[str] | None,
    config: Settings, dry_run: bool, as_json: bool, remote: bool,
) -> None:  # fmt: skip
    """Maps what the lake has of some days once more, and ends the command."""
    from dataclasses import asdict

    from ocsf_lake.ingest import backfill as backfills
    from ocsf_lake.lake import exists, no_lake
    from ocsf_lake.storage import objects
    from ocsf_lake.upkeep import remap
    from ocsf_mappers.errors import ConfigError

    if remote:
        raise ConfigError("--remap runs in this process: leave out --remote")
    backfills.check_days(first, last)
    if not exists(config):
        raise no_lake(config)
    below = uri if uri.endswith("://") else objects.uri_of(uri, config.input_access)  # s3:// for all buckets
    chosen = remap.Chosen(source, first, last, tuple(accounts or ()), tuple(regions or ()), below)
    summary = remap.remap(config, chosen, dry_run=dry_run)
    if as_json:
        output.print_json(asdict(summary))
    for name, reason in summary.refused.items():
        terminal.say(f"{name} was left unchanged: {reason}")
    for name in summary.busy:
        terminal.say(f"{name}: another run is compacting or rewriting it; try again")
    terminal.say(summary.message)
    raise typer.Exit(int(bool(summary.refused or summary.busy)))


def _submit(
    source: str, uri: str, first: date, last: date, config: Settings, accounts: tuple[str, ...],
    regions: tuple[str, ...], days_per_run: int, estimate: bool, lake: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Makes the runs of a backfill on a Prefect server, and says which, after what they will have to do."""
    from ocsf_lake.flows import deployments, remote  # noqa: TID251 - Prefect, only when it is asked for
    from ocsf_lake.ingest import backfill as backfills

    backfills.check_days(first, last)
    deployments.server()
    expected = None
    if estimate:
        expected = _seen_from_here(source, uri, first, last, config, accounts, regions)
    if expected is not None and not as_json:
        _show(expected, as_json=False)
        if expected.seconds:
            at_once = terminal.plural(config.workers, "batch", "batches")
            terminal.say(f"the time is that of one run with {at_once} at once; several workers share it")
    runs = []
    for run in remote.submit(source, _absolute(uri), first, last, days_per_run, accounts, regions, lake):
        runs.append({"name": run.name, "from": run.first, "to": run.last, "new": run.new})
        terminal.say(run.name if run.new else f"{run.name}: already waiting")
    if as_json:
        output.print_json({"estimate": expected and as_dict(expected), "runs": runs})
    terminal.say("`prefect flow-run ls` shows their progress; if some fail, run the same command again")


def _seen_from_here(
    source: str, uri: str, first: date, last: date, config: Settings, accounts: tuple[str, ...],
    regions: tuple[str, ...],
) -> Estimate | None:  # fmt: skip
    """What there is to do; None, and a word why, where this machine does not see what the workers see."""
    from ocsf_lake.ingest import backfill as backfills
    from ocsf_lake.lake import exists
    from ocsf_mappers.errors import ConfigError, OcsfMappersError

    try:
        if config.ledger_url is not None and _absolute(config.lake) != config.lake:
            # A ledger records its lake's root when it is first opened: only workers should set it.
            raise ConfigError("OCSF_LAKE_LEDGER_URL is set and OCSF_LAKE_LAKE is not; set both as for the workers")
        lake_exists = exists(config)
        expected = backfills.estimate(source, uri, first, last, config, accounts, regions)
    except (OcsfMappersError, OSError) as error:
        terminal.say(f"no estimate: {error}", "the workers may have more access: their runs are created anyway")
        return None
    if not lake_exists:
        terminal.say(f"no lake at {config.lake!r} can be seen from here: every object counts as new")
    return expected


def _absolute(uri: str) -> str:
    """A path as workers on this machine find it; other URIs stay."""
    return uri if "://" in uri else str(Path(uri).absolute())


def _show(estimate: Estimate, as_json: bool) -> None:
    if as_json:
        output.print_json(as_dict(estimate))
        return
    seconds = "unknown" if estimate.seconds is None else terminal.duration(estimate.seconds)
    output.print_table(
        ["objects", "known", "in", "batches", "LIST calls", "USD on S3", "seconds"],
        [
            [
                terminal.count(estimate.objects), terminal.count(estimate.known), terminal.size(estimate.bytes),
                terminal.count(estimate.batches), terminal.count(estimate.list_calls), f"{estimate.list_usd:.4f}",
                seconds,
            ]
        ],
    )  # fmt: skip
    if estimate.undetermined:
        terminal.say(
            f"{terminal.plural(estimate.undetermined, 'object')} without a day, account or region in the name; "
            "a backfill reads them"
        )
    if estimate.archived:
        archived = terminal.plural(estimate.archived, "object")
        terminal.say(f"{archived} archived; restore them first, then they can be read")
    ingest.tell_coverage(estimate.coverage)
    if estimate.seconds is None:
        terminal.say("no time estimate until the lake has processed a batch of this source")


def as_dict(estimate: Estimate) -> dict[str, Any]:
    """An estimate in JSON's types."""
    from dataclasses import asdict

    return {**asdict(estimate), "coverage": estimate.coverage.as_dict()}
