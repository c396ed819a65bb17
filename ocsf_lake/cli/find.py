"""`ocsf-lake find`, `tables` and `columns`: where something stands, and what there is to ask."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocsf_lake.cli import answers, output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, first_day, last_day, settings_of_lake
from ocsf_lake.text import Lines

if TYPE_CHECKING:
    from ocsf_lake.config import Settings

FIND_EXAMPLE = "ocsf-lake find 203.0.113.77 --lake demo_lake"
TABLES_EXAMPLE = "ocsf-lake tables --lake demo_lake"
COLUMNS_EXAMPLE = "ocsf-lake columns vpc_flow --like port --lake demo_lake"


def _table_names(incomplete: str) -> list[str]:
    """For completion in a shell: the tables of all sources, as a lake may be slow to ask."""
    from ocsf_mappers import registry

    return [name for name in registry.tables() if name.startswith(incomplete)]


def find(
    value: Annotated[str, typer.Argument(metavar="VALUE", help="An address, a name, an ARN, a key, a hash.")],
    lake: LakeOption = None,
    first: Annotated[date | None, first_day("First day, UTC.")] = None,
    last: Annotated[date | None, last_day("Last day, included.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find a value in all text of all tables, latest events first.

    Each line is a match: the table, the path in the event, the event's `metadata.uid` and its time. `ocsf-lake trace`
    follows it to the raw record. Records in quarantine are always searched, whatever the days, because they have no
    time.
    """
    with terminal.ended_quietly():
        from ocsf_lake.query import find as finding
        from ocsf_lake.query import query

        config = settings_of_lake(lake)
        tables = query.searched(config)
        statements = finding.queries(value, tables, first, last)
        with query.connected(config, *finding.reads(tables, first, last)) as connection:
            waiting = terminal.Waiting(connection.query_progress)
            query.collect(connection, statements, waiting)
            waiting.clear()
            answer = answers.Answer(connection, finding.FOUND)
            answer.show(answers.Form.JSON if as_json else answers.Form.TABLE)
            ((events,),) = query.fetched(connection, finding.EVENTS)
        terminal.say(*query.lacking(config, *finding.reads(tables, first, last)))
        if not events:
            terminal.say(_not_found(value, tables, bool(first or last), bool(answer.rows)))


def _not_found(value: str, tables: list[str], narrowed: bool, quarantined: bool) -> str:
    days = " on those days" if narrowed else ""
    spaces = "; this one begins or ends with white space" if value != value.strip() else ""
    others = "; in quarantine all text is searched" if quarantined else ""
    where = f"no event{days}" if quarantined else f"none of {terminal.plural(len(tables), 'table')}{days}"
    return f"{value} is in {where}: only whole values match, not parts of longer ones{others}{spaces}"


def tables(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """List the tables that have rows, with their days and sources.

    `ocsf-lake columns TABLE` shows the columns of one. `quarantine`, `observables` and the ledger's tables can be
    queried too; `ocsf-lake query "SHOW TABLES"` lists them all.
    """
    with terminal.ended_quietly():
        show_tables(settings_of_lake(lake), as_json=as_json)


def show_tables(config: Settings, *, as_json: bool = False) -> None:
    """Prints the tables that have rows."""
    from ocsf_lake.lake import opened
    from ocsf_lake.ledger import overview

    with opened(config, reading=True) as lake:
        rows = overview.tables(lake.ledger.engine)
    if as_json:
        output.print_json([asdict(row) for row in rows])
        return
    lines = [[row.table, terminal.count(row.rows), row.first_day, row.last_day, Lines(row.sources)] for row in rows]
    output.print_table(["table", "rows", "first day", "last day", "sources"], lines)
    if not rows:
        terminal.say("no table has rows yet; run `ocsf-lake ingest` first")


def columns(
    table: Annotated[
        str,
        typer.Argument(metavar="TABLE", help="A table, see `ocsf-lake tables`.", autocompletion=_table_names),
    ],
    lake: LakeOption = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="TEXT", help="Only paths or descriptions that contain this.")
    ] = None,
    whole: Annotated[bool, typer.Option("--all", help="Compute shares from all rows (reads them all).")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the columns of a table, one per line: path, type, OCSF caption, and the share of rows that have a value.

    The shares are those of the newest rows: about a hundred thousand, or those of two hundred files.
    """
    with terminal.ended_quietly():
        show_columns(settings_of_lake(lake), table, like, whole=whole, as_json=as_json)


def show_columns(
    config: Settings, table: str, like: str | None = None, *, whole: bool = False, as_json: bool = False
) -> None:  # fmt: skip
    """Prints the paths of a table."""
    rows, counted, there = _columns(config, table, like, whole=whole)
    if counted < there:
        terminal.say(f"shares are of the newest {counted:,} of {there:,} rows; --all reads them all")
    if as_json:
        output.print_json(rows)
        return
    lines = [[row["path"], row["type"], _share(row["filled"]), row["description"]] for row in rows]
    output.print_table(["path", "type", "filled", "description"], lines)


def _columns(
    config: Settings, table: str, like: str | None, *, whole: bool
) -> tuple[list[dict[str, Any]], int, int]:  # fmt: skip
    """The paths of a table; how many rows the shares are of; how many there are."""
    from ocsf_lake.catalogs import security_lake
    from ocsf_lake.query import columns as paths_of
    from ocsf_lake.query import query, shown
    from ocsf_mappers import registry
    from ocsf_mappers.errors import ConfigError, nearest

    name = security_lake.table_of(table)
    if name is None and shown.part_of(table) is not None:
        raise ConfigError(f'{table} is not a table of events; its columns: `ocsf-lake query "DESCRIBE {table}"`')
    if name is None:
        raise ConfigError(
            f"there is no table of events {table!r}{nearest(table, registry.tables())}; `ocsf-lake tables` lists them"
        )
    paths = paths_of.matching(name, paths_of.of(name, config.ocsf_version), like)
    sql = paths_of.filled(name, paths)
    files = None if whole else paths_of.newest
    with query.connected(config, f"FROM {name}", paths_of.ROWS, files=files) as connection:
        _, batches = query.stream(connection, sql, waiting=terminal.Waiting(connection.query_progress))
        ((total, *counts),) = [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
        ((there,),) = query.fetched(connection, paths_of.ROWS, {"table": name})
    shares = [(count or 0) / total if total else None for count in counts]  # of nulls alone no count
    rows: list[dict[str, Any]] = [
        {
            "path": path.path, "type": path.type, "filled": share, "description": path.description,
            "values": list(path.values),
        }
        for path, share in zip(paths, shares, strict=True)
    ]
    return rows, total, there


def _share(share: float | None) -> terminal.Amount:
    if share is None:
        return terminal.Amount("-")
    percent = 100 * share
    return terminal.Amount("<1 %" if 0 < percent < 1 else ">99 %" if 99 < percent < 100 else f"{percent:.0f} %")
