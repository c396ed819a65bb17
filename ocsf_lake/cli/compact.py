"""`ocsf-lake compact`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, settings_of_lake

EXAMPLE = "ocsf-lake compact --dry-run --lake demo_lake"


def compact(
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="Only this table, such as vpc_flow. Default: all.")
    ] = None,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Only days that ended at least this long ago: 2d, 12h.")
    ] = "2d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be merged.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge the small files of partitions into large ones, while others read and write the lake.

    Queries see each event exactly once throughout, in every catalog. Run it again after an interruption to continue.
    Merged files are removed by a later run, after the grace period. Exit 1 if a table is skipped, with the reason.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.upkeep import compact as lake_compact

    summary = lake_compact.compact(config, table, lake_compact.parsed(older_than), dry_run=dry_run)
    if as_json:
        output.print_json(asdict(summary))
    elif summary.tables:
        rows = [
            [
                item.table, terminal.count(item.partitions), terminal.count(item.files_before),
                terminal.count(item.files_after), terminal.size(item.bytes_before),
                "" if item.bytes_after is None else terminal.size(item.bytes_after),
            ]
            for item in summary.tables
        ]  # fmt: skip
        output.print_table(["table", "partitions", "files", "then", "bytes", "then"], rows)
    terminal.say(summary.message)
    for name, reason in summary.refused.items():
        terminal.say(f"{name} is not compacted: {reason}")
    if summary.refused:
        raise typer.Exit(1)
