"""`ocsf-lake quarantine list` and `show`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from flows import output, terminal
from flows.settings import JsonOption, LakeOption, settings_of_lake

if TYPE_CHECKING:
    import duckdb

    from lake import quarantine

LIST_EXAMPLE = "ocsf-lake quarantine list --lake demo_lake"
SHOW_EXAMPLE = "ocsf-lake quarantine show --source aws_vpc_flow --limit 3 --lake demo_lake"

SourceOption = Annotated[str | None, typer.Option("--source", metavar="SOURCE", help="Only this source.")]
PartArgument = Annotated[
    str, typer.Argument(metavar="[OBJECT]", help="Part of the names of objects.", show_default=False)
]

app = typer.Typer(
    help="Look at records that became no event.", no_args_is_help=True, rich_markup_mode=None
)


def list_reasons(source: SourceOption = None, lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """List the reasons, with the number of records and the first of them."""
    found = settings_of_lake(lake)
    from lake import quarantine
    from lake import query as lake_query

    with lake_query.connected(found) as connection:
        groups = quarantine.listed(connection, source)
    if as_json:
        output.print_json([asdict(group) for group in groups])
        return
    if not groups:
        terminal.say("no records are in quarantine")
        return
    output.print_table(
        ["source", "records", "object", "first", "reason"],
        [
            [
                group.source,
                terminal.count(group.records),
                group.source_object.rpartition("/")[2],
                group.first_record,
                group.reason,
            ]
            for group in groups
        ],
    )


def show(
    part: PartArgument = "",
    source: SourceOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Records at most.")] = 20,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show records with their text, by object and number in it."""
    found = settings_of_lake(lake)
    from lake import query as lake_query

    with lake_query.connected(found) as connection:
        rejects = list(islice(_rejects(connection, part, source, limit + 1), limit + 1))
    shown = rejects[:limit]
    if as_json:
        output.print_json([asdict(reject) for reject in shown])
    else:
        for reject in shown:
            lines = [
                f"{reject.source_object}: record {reject.source_record} ({reject.source})",
                f"  {reject.reason}",
                f"  {reject.raw}",
            ]
            sys.stdout.write("".join(f"{terminal.escaped(line)}\n" for line in lines))
    if not rejects:
        terminal.say("no such records are in quarantine")
    if len(rejects) > limit:
        terminal.say(f"more than {terminal.plural(limit, 'record')}; --limit gives more")


def _rejects(
    connection: duckdb.DuckDBPyConnection, part: str, source: str | None, limit: int
) -> Iterator[quarantine.Reject]:
    """The records of the objects whose names hold a text; more than `limit` of them may come."""
    from lake import quarantine

    if not part:
        yield from quarantine.shown(connection, source, limit=limit)
        return
    groups = quarantine.listed(connection, source)
    for held in sorted({(group.source, group.source_object) for group in groups if part in group.source_object}):
        yield from quarantine.shown(connection, *held, limit=limit)
