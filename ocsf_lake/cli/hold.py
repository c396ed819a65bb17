"""`ocsf-lake hold add`, `list` and `release`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import date
from typing import Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, first_day, last_day, settings_of_lake

ADD_EXAMPLE = (
    'ocsf-lake hold add --account 111122223333 --from 2025-03-01 --to 2025-03-31 --reason "case 42" --lake demo_lake'
)
LIST_EXAMPLE = "ocsf-lake hold list --lake demo_lake"
RELEASE_EXAMPLE = (
    'HOLD=$(ocsf-lake hold add --table vpc_flow --reason "case 43" --lake demo_lake)\n'
    'ocsf-lake hold release "$HOLD" --reason "case 43 closed" --lake demo_lake'
)


ByOption = Annotated[
    str | None, typer.Option("--by", metavar="WHO", help="Who decided it. Default: this user on this machine.")
]

app = typer.Typer(
    help="Keep events from being removed, whatever retention says.", no_args_is_help=True, rich_markup_mode=None
)


def add(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason; stays in the ledger.")],
    account: Annotated[str | None, typer.Option("--account", metavar="ACCOUNT", help="Only this account.")] = None,
    table: Annotated[str | None, typer.Option("--table", metavar="TABLE", help="Only this table.")] = None,
    first: Annotated[date | None, first_day("First event day, UTC.")] = None,
    last: Annotated[date | None, last_day("Last event day, included.")] = None,
    by: ByOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Place a legal hold: what it covers is not removed until it is released. Prints the hold's id.

    An option left out means all: without options, nothing in the lake is removed. Partitions whose account or day is
    not known are covered too, and so is the quarantine of the sources that fill the table. `retain`, `compact`,
    `catalog expire` and `quarantine purge` respect holds.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.upkeep import hold as lake_hold

    placed = lake_hold.add(config, account, table, first, last, reason, by)
    if as_json:
        output.print_json(asdict(placed.hold))
    else:
        sys.stdout.write(f"{placed.hold.id}\n")
    terminal.say(placed.message)


def list_holds(
    released: Annotated[bool, typer.Option("--all", help="Also released ones.")] = False,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the active holds."""
    config = settings_of_lake(lake)
    from ocsf_lake.lake import opened
    from ocsf_lake.ledger import holds

    with opened(config, reading=True) as open_lake:
        shown_holds = [hold for hold in holds.listed(open_lake.ledger.engine) if released or hold.released_at is None]
    if as_json:
        output.print_json([asdict(hold) for hold in shown_holds])
    elif shown_holds:
        rows = [
            [
                hold.id, hold.account or "", hold.table_name or "", hold.first_day or "", hold.last_day or "",
                hold.reason, hold.placed_by, hold.placed_at, hold.released_at or "", hold.released_by or "",
            ]
            for hold in shown_holds
        ]  # fmt: skip
        names = ["hold", "account", "table", "from", "to", "reason", "placed by", "at", "released at", "by"]
        number = len(names) if released else -2
        output.print_table(names[:number], [row[:number] for row in rows])
    else:
        terminal.say("no active holds")


def release(
    hold: Annotated[str, typer.Argument(metavar="HOLD", help="Id of the hold, see `hold list`.")],
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Reason; stays in the ledger.")
    ] = None,
    by: ByOption = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Release a hold: the next `retain` removes what it covered, if its retention period is over.

    The hold stays in the ledger, with who released it and when.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.upkeep import hold as lake_hold

    released = lake_hold.release(config, hold, by, reason)
    if as_json:
        output.print_json(asdict(released))
    terminal.say(f"hold {released.id} on {released.subject} was released by {released.released_by}")
