"""`ocsf-lake quarantine list` and `show`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from flows import output, terminal
from flows.settings import JsonOption, LakeOption, settings_of_lake

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
    found = _ask(
        lake,
        f"""
        SELECT source, reason, count(*) AS records, count(DISTINCT source_object) AS objects,
               min_by(source_object, (source_object, source_record)) AS first_object,
               min_by(source_record, (source_object, source_record)) AS first_record
        FROM quarantine WHERE {_of_source(source)} GROUP BY source, reason ORDER BY records DESC, source, reason
        """,
    )
    if as_json:
        output.print_json(found)
        return
    columns = ["source", "records", "objects", "first in", "record", "reason"]
    rows = [
        [
            item["source"],
            terminal.count(item["records"]),
            terminal.count(item["objects"]),
            item["first_object"].rpartition("/")[2],
            item["first_record"],
            item["reason"],
        ]
        for item in found
    ]
    if rows:
        output.print_table(columns, rows)
    else:
        terminal.say("no records are in quarantine")


def show(
    part: PartArgument = "",
    source: SourceOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Records at most.")] = 20,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show records with their text, by object and number in it."""
    from ocsf_mappers import sqltext

    where = f"{_of_source(source)} AND contains(source_object, {sqltext.text(part)})"
    order = "ORDER BY source, source_object, source_record"
    found = _ask(lake, f"SELECT * FROM quarantine WHERE {where} {order} LIMIT {limit + 1}")
    shown = found[:limit]
    if as_json:
        output.print_json(shown)
    else:
        for item in shown:
            lines = [
                f"{item['source_object']}: record {item['source_record']} ({item['source']})",
                f"  {item['reason']}",
                f"  {item['raw']}",
            ]
            sys.stdout.write("".join(f"{terminal.escaped(line)}\n" for line in lines))
    if not found:
        terminal.say("no such records are in quarantine")
    if len(found) > limit:
        terminal.say(f"more than {terminal.plural(limit, 'record')}; --limit gives more")


def _ask(lake: str | None, sql: str) -> list[dict[str, Any]]:
    found = settings_of_lake(lake)
    from lake import query as lake_query

    with lake_query.connected(found) as connection:
        return list(connection.sql(sql).to_arrow_table().to_pylist())


def _of_source(source: str | None) -> str:
    from ocsf_mappers import sqltext

    return "true" if source is None else f"source = {sqltext.text(source)}"
