"""`ocsf-lake status`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import output, terminal
from flows.settings import JsonOption, LakeOption, settings_of_lake

if TYPE_CHECKING:
    import duckdb

    from lake.config import Settings

EXAMPLE = "ocsf-lake status --lake demo_lake"

_SOURCES = """
    WITH counted AS (
        SELECT source, sum("read")::BIGINT AS records, sum(events)::BIGINT AS events,
               sum(quarantined)::BIGINT AS quarantined, sum(dropped)::BIGINT AS dropped,
               sum(bytes_in)::BIGINT AS bytes_in, sum(bytes_out)::BIGINT AS bytes_out
        FROM ledger_batches WHERE state = 'done' GROUP BY source
    ), objects AS (
        SELECT source, count(*) AS objects FROM ledger_objects WHERE state = 'done' GROUP BY source
    ), states AS (
        SELECT source, map(list(state ORDER BY state), list(number ORDER BY state)) AS batches
        FROM (SELECT source, state, count(*) AS number FROM ledger_batches GROUP BY ALL) GROUP BY source
    )
    SELECT source, objects, records, events, quarantined, dropped, bytes_in, bytes_out, batches
    FROM states LEFT JOIN counted USING (source) LEFT JOIN objects USING (source) ORDER BY source
"""
_NOT_READ = """
    SELECT state, reason, count(*) AS objects FROM ledger_objects
    WHERE state IN ('failed', 'skipped', 'set_aside') GROUP BY ALL ORDER BY ALL
"""
_LAST_DAYS = """
    SELECT source, table_name, max(split_part("partition", '/', 3)) AS day
    FROM ledger_files JOIN ledger_batches ON ledger_batches.id = batch_id
    WHERE table_name <> 'quarantine' AND split_part("partition", '/', 3) <> 'unknown' GROUP BY ALL ORDER BY ALL
"""

COLUMNS = ["source", "objects", "records", "events", "quarantined", "dropped", "last event", "in", "out", "batches"]


FailOnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on", metavar="CHECK", help="Exit with 1 if a check finds something: failed, freshness, quarantine, any."
    ),
]


def status(lake: LakeOption = None, as_json: JsonOption = False, fail_on: FailOnOption = None) -> None:
    """Show what the lake holds, source by source."""
    found = settings_of_lake(lake)
    from lake import query as lake_query

    with lake_query.connected(found) as connection:
        sources, not_read = _dicts(connection, _SOURCES), _dicts(connection, _NOT_READ)
        last = _last_events(connection)
    for item in sources:
        item["last_event"] = last.get(item["source"])
    if as_json:
        output.print_json({"sources": sources, "not_read": not_read})
    else:
        output.print_table(COLUMNS, [_row(item) for item in sources])
        for item in not_read:
            said = f"{terminal.plural(item['objects'], 'object')} {item['state'].replace('_', ' ')}: {item['reason']}"
            sys.stdout.write(f"{terminal.escaped(said)}\n")
    if fail_on:
        _fail_on(found, fail_on)


def _fail_on(settings: Settings, names: list[str]) -> None:
    """Ends with 1 if a check finds something; says what on stderr."""
    from lake import health

    findings = health.check(settings, datetime.now(UTC), None if "any" in names else names)
    terminal.say(*(f"{finding.check}: {finding.source}: {finding.message}" for finding in findings))
    if findings:
        raise typer.Exit(1)


def _dicts(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    found = connection.sql(sql).to_arrow_table()
    return list(found.to_pylist(maps_as_pydicts="strict"))


def _last_events(connection: duckdb.DuckDBPyConnection) -> Mapping[str, str]:
    """Source -> time of its latest event; only the latest day's files are opened."""
    from ocsf_mappers import sqltext

    last: dict[str, str] = {}
    for source, table, day in connection.sql(_LAST_DAYS).fetchall():
        query = f"SELECT max(time_dt) FROM {sqltext.name(table)} WHERE eventday = {sqltext.text(day)}"
        (row,) = connection.sql(query).fetchall()
        if row[0] is not None:
            last[source] = max(last.get(source, ""), output.iso8601(row[0]))
    return last


def _row(item: Mapping[str, Any]) -> list[object]:
    counts = [terminal.count(item[name] or 0) for name in COLUMNS[1:6]]
    sizes = [terminal.size(item[name] or 0) for name in ("bytes_in", "bytes_out")]
    batches = ", ".join(f"{number:,} {state}" for state, number in item["batches"].items())
    return [item["source"], *counts, item["last_event"], *sizes, batches]
