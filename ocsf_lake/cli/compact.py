"""`ocsf-lake compact`."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, settings_of_lake

if TYPE_CHECKING:
    from ocsf_lake.upkeep.compact import Summary

EXAMPLE = "ocsf-lake compact --dry-run --lake demo_lake"

_AGE = re.compile(r"(\d+)([dh])")


def compact(
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="Only this table, such as vpc_flow; all without.")
    ] = None,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Only event days that ended so long ago: 2d, 12h.")
    ] = "2d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be merged, and do nothing.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge the small files of partitions into large ones, while others read and write the lake.

    A query sees each event once all the while, in every catalog. Run it again after an interruption and it continues.
    Files that were merged are removed by a later run, when their time of grace is over. Exit 1 when a table is left as
    it is, with the reason.
    """
    age = parsed(older_than)
    found = settings_of_lake(lake)
    from ocsf_lake.upkeep.compact import compact as run

    summary = run(found, table, age, dry_run=dry_run)
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
    terminal.say(said(summary, dry_run=dry_run))
    for name, reason in summary.refused.items():
        terminal.say(f"{name} is not compacted: {reason}")
    if summary.refused:
        raise typer.Exit(1)


def parsed(age: str) -> timedelta:
    """An age such as `2d` or `12h`.

    Raises:
        ConfigError: It is none.
    """
    from ocsf_mappers.errors import ConfigError

    found = _AGE.fullmatch(age)
    if found is None:
        raise ConfigError(f"{age!r} is no age; say 2d for two days, 12h for twelve hours")
    return timedelta(**{"days" if found[2] == "d" else "hours": int(found[1])})


def said(done: Summary, *, dry_run: bool = False) -> str:
    """A compaction in one line."""
    before, after = (sum(getattr(item, name) for item in done.tables) for name in ("files_before", "files_after"))
    partitions = terminal.plural(sum(item.partitions for item in done.tables), "partition")
    would = "would become" if dry_run else "became"
    files = terminal.plural(before, "file")
    parts = [f"{files} of {partitions} {would} {after:,}" if before else "nothing to merge"]
    if done.removed:
        removed = terminal.plural(done.removed, "file")
        parts.append(f"{removed} merged before removed ({terminal.size(done.removed_bytes)})")
    if done.waiting:
        waiting = terminal.plural(done.waiting, "partition")
        parts.append(f"{waiting} left to the next run, as an export takes their files")
    if done.busy:
        parts.append(f"another run compacts {', '.join(done.busy)}")
    return "; ".join(parts)
