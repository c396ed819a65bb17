"""`ocsf-lake catalog check`, `sync`, `write-off`, `expire` and `views`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.hold import ByOption
from ocsf_lake.cli.options import JsonOption, LakeOption, settings_of_lake

if TYPE_CHECKING:
    from ocsf_lake.catalogs.base import Drift

CHECK_EXAMPLE = "ocsf-lake catalog check --lake demo_lake"
SYNC_EXAMPLE = "ocsf-lake catalog sync --lake demo_lake"
WRITE_OFF_EXAMPLE = "ocsf-lake catalog write-off --lake demo_lake"
EXPIRE_EXAMPLE = "ocsf-lake catalog expire --older-than 5d --dry-run --lake demo_lake"
VIEWS_EXAMPLE = "ocsf-lake catalog views --security-lake --region eu-central-1 --lake demo_lake"

DeepOption = Annotated[
    bool, typer.Option("--deep", help="Also read every file and compare its checksum with the ledger's.")
]

app = typer.Typer(
    help="Compare storage, ledger and catalogs, and repair differences.", no_args_is_help=True, rich_markup_mode=None
)


def check(lake: LakeOption = None, deep: DeepOption = False, as_json: JsonOption = False) -> None:
    """Find where storage, ledger and catalogs disagree.

    Storage, the ledger and every catalog in the settings are compared with each other: files without a partition,
    partitions without files, different columns, unknown files. Exit 1 if a query could return wrong rows.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.lake import opened
    from ocsf_lake.upkeep import check as lake_check

    with opened(config, reading=True, catalogs=True) as open_lake:
        findings = lake_check.check(open_lake, deep)
        catalogs = [catalog.name for catalog in open_lake.catalog.all]
        exposed = lake_check.exposed(open_lake)
    _show(findings, as_json)
    if not findings and not as_json:
        names = f"storage, ledger and {', '.join(catalogs)}" if catalogs else "storage and ledger"
        terminal.say(f"{names} agree")
    if exposed:
        folders = shlex.join(map(str, exposed))
        terminal.say(f"every user of this machine can read the lake; to prevent that: chmod -R o-rwx {folders}")
    if not lake_check.consistent(findings):
        terminal.say("`ocsf-lake catalog sync` repairs what can be repaired")
        raise typer.Exit(1)


def sync(lake: LakeOption = None, deep: DeepOption = False, as_json: JsonOption = False) -> None:
    """Make catalogs and storage agree with the ledger.

    Unknown files are moved to `_foreign/`, never deleted; lost files are rebuilt from their raw objects; files that
    were written off and are back are taken back. A batch that died and whose raw objects are all gone is finished, or
    its partial files are moved to `_foreign/`. Exit 1 if they still disagree, with what else can be done.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.lake import opened
    from ocsf_lake.upkeep import check as lake_check

    with opened(config) as open_lake:
        repair = lake_check.sync(open_lake, deep)
    if as_json:
        output.print_json(asdict(repair))
    else:
        _show(repair.left, as_json)
        terminal.say(f"{terminal.plural(len(repair.found), 'finding')} before, {len(repair.left):,} left")
        for batch_id, what in repair.ended.items():
            terminal.say(f"ended: batch {batch_id}, whose raw objects are gone: {what}")
        for name in repair.moved:
            terminal.say(f"moved aside: {name}")
        for name in repair.taken_back:
            terminal.say(f"written off earlier, now taken back: {name}")
        for batch_id in repair.rebuilt:
            terminal.say(f"repaired: batch {batch_id}")
        for reason in repair.refused:
            terminal.say(f"cannot be repaired: {reason}")
    if not lake_check.consistent(repair.left):
        raise typer.Exit(1)


def write_off(
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="Only lost files of this table. Default: of all tables.")
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="With --yes: why their rows are given up.")
    ] = "",
    by: ByOption = None,
    all_of_them: Annotated[
        bool,
        typer.Option("--all", help="Also files that could be rebuilt after a problem such as missing access is fixed."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write them off. Default: only list them.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give up the rows of lost files that cannot be recovered.

    Until then, queries of such a partition fail. Lost files are those that the ledger has and storage has not. Those
    that `sync` can rebuild, or `backfill --remap` can recover, are left alone and listed with the command. With --yes,
    ledger and catalogs drop the others, and the table `ledger_written_off` records each, with the reason, who decided
    it, and when. What was read counts as read. If a file is put back later, `sync` takes it back. Exit 1 while lost
    files are left.
    """
    from ocsf_mappers.errors import ConfigError

    if yes and not reason.strip():
        raise ConfigError("say why these rows are given up: --reason")
    config = settings_of_lake(lake)
    from ocsf_lake.upkeep import write_off as lake_write_off

    summary = lake_write_off.write_off(config, table, reason, by, all_of_them=all_of_them, dry_run=not yes)
    if as_json:
        output.print_json({**asdict(summary), "message": summary.message})
    elif parts := [*summary.parts, *summary.left]:
        rows = [
            [
                part.table, part.partition, part.source, terminal.count(part.rows), part.path.rpartition("/")[2],
                part.way, ", ".join(part.holds),
            ]
            for part in parts
        ]  # fmt: skip
        names = ["table", "partition", "source", "rows", "file", "way", "covered by holds"]
        output.print_table(names, rows)
    terminal.say(summary.message)
    for why in sorted({part.why for part in summary.parts}):
        terminal.say(f"cannot be rebuilt: {why}")
    for way in (*summary.ways, *summary.busy):
        terminal.say(f"left: {way}")
    for uri in summary.sent:
        terminal.say(f"an export may have put {uri}, with rows of lost files, and starts over: remove it there first")
    if summary.copied and not yes:
        terminal.say("tables in S3 Tables have copies of these rows, and lose them too: save them there first")
    if summary.parts and not yes:
        terminal.say("nothing was written off; to give up these rows, use --yes --reason TEXT")
    if summary.left or summary.busy or (summary.parts and not yes):
        raise typer.Exit(1)


def expire(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Only snapshots at least this old, such as 5d or 12h.")
    ] = "5d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be expired.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Expire earlier Iceberg snapshots, and remove metadata that no other snapshot uses.

    The current snapshot of each table is kept, and so are those that a tag or another branch names. Event files that
    only older snapshots read are removed by the next `ocsf-lake compact`.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.upkeep import compact
    from ocsf_lake.upkeep import expire as lake_expire

    summary = lake_expire.expire(config, compact.parsed(older_than), dry_run=dry_run)
    if as_json:
        output.print_json(asdict(summary))
    elif summary.tables:
        rows = [
            [item.table, terminal.count(item.snapshots), terminal.count(item.files), terminal.size(item.bytes)]
            for item in summary.tables
        ]
        output.print_table(["table", "snapshots", "files", "bytes"], rows)
    terminal.say(summary.message)
    for name, reason in summary.left.items():
        terminal.say(f"{name}: {reason}")


def views(
    security_lake: Annotated[
        bool, typer.Option("--security-lake", help="Use the names of Amazon Security Lake's tables.")
    ] = False,
    region: Annotated[
        list[str] | None, typer.Option("--region", metavar="REGION", help="Only this region. Default: all with events.")
    ] = None,
    lake: LakeOption = None,
) -> None:
    """Print Athena statements that create views of our Glue tables under other names; run them once.

    The queries that AWS publishes for Security Lake then run unchanged, for any region.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.catalogs import security_lake as names
    from ocsf_lake.lake import opened
    from ocsf_mappers.errors import ConfigError

    if not security_lake:
        raise ConfigError("say which names: --security-lake")
    regions = list(region or ())
    if not regions:
        with opened(config, reading=True) as open_lake:
            regions = names.regions(open_lake.files.partitions)
    for statement in names.views(config.glue_database, regions):
        typer.echo(f"{statement};")


def _show(findings: Sequence[Drift], as_json: bool) -> None:
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    elif findings:
        rows = [[item.where, item.table, item.kind, item.item, item.says] for item in findings]
        output.print_table(["where", "table", "what", "item", "means"], rows)
