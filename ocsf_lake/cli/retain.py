"""`ocsf-lake retain`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, settings_of_lake

if TYPE_CHECKING:
    from ocsf_lake.upkeep.retain import Part

EXAMPLE = "ocsf-lake retain --dry-run --lake demo_lake"


def retain(
    table: Annotated[
        str | None,
        typer.Argument(metavar="[TABLE]", help="Only this table, such as vpc_flow, or quarantine. Default: all."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list, as without --yes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Default: only list it.")] = False,
    cloudformation: Annotated[
        bool,
        typer.Option("--cloudformation", help="Instead, print matching lifecycle rules for the raw log buckets."),
    ] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove events past their retention period, by the rules under [retention] in the settings.

    Only whole partitions are removed: first atomically from each catalog, then their files, after the same grace period
    as in `compact`. Nothing is removed without a rule, or while a legal hold covers it. The ledger records what was
    removed in the table `ledger_retained`. Run it again after an interruption to continue. Exit 1 if a table cannot be
    processed, with the reason.
    """
    from ocsf_mappers.errors import ConfigError

    if yes and (dry_run or cloudformation):
        raise ConfigError("--yes removes, and the other option only prints: use one of them")
    config = settings_of_lake(lake)
    if cloudformation:
        from ocsf_lake.upkeep import lifecycle

        sys.stdout.write(lifecycle.template(config))  # as it is: it goes into a file
        return
    from ocsf_lake.upkeep import retain as lake_retain

    summary = lake_retain.retain(config, table, dry_run=not yes)
    if as_json:
        output.print_json({**asdict(summary), "message": summary.message})
    else:
        _show([*summary.parts, *summary.held])
    terminal.say(summary.message)
    for name, reason in summary.refused.items():
        terminal.say(f"nothing of {name} is removed: {reason}")
    if summary.parts and not yes:
        terminal.say("nothing was removed; --yes removes it")
    if summary.refused:
        raise typer.Exit(1)


def _show(parts: Sequence[Part]) -> None:
    if parts:
        rows = [
            [
                part.table, part.account, part.first, part.last, terminal.count(part.partitions),
                terminal.count(part.rows), terminal.count(part.files),
                "" if part.bytes is None else terminal.size(part.bytes), part.rule,
                f"hold {part.hold}: {part.reason}" if part.hold else "",
            ]
            for part in parts
        ]  # fmt: skip
        names = ["table", "account", "from", "to", "partitions", "rows", "files", "bytes", "rule", "kept by"]
        output.print_table(names, rows)
