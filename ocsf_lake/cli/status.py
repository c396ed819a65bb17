"""`ocsf-lake status`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocsf_lake.cli import ingest, output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, settings_of_lake
from ocsf_lake.text import iso8601

if TYPE_CHECKING:
    import duckdb

    from ocsf_lake.config import Settings

EXAMPLE = "ocsf-lake status aws_cloudtrail --lake demo_lake"

SHOWN_BATCHES = 20
"""Of the batches that fail, so many are shown; --json has all."""
DAYS, NAMES = 14, 20
"""Mapping coverage shows this many days, and this many names of a kind; --json has all."""

COLUMNS = ["source", "objects", "records", "events", "quarantined", "dropped", "last event", "in", "out", "batches"]


Source = Annotated[
    str, typer.Argument(metavar="[SOURCE]", help="Show the mapping losses of this source.", show_default=False)
]
FailOnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        metavar="CHECK",
        help="Exit with 1 if this check fails: failed, freshness, members, quarantine, any.",
    ),
]


def status(
    source: Source = "", lake: LakeOption = None, as_json: JsonOption = False, fail_on: FailOnOption = None
) -> None:
    """Show what the lake holds, source by source, or the mapping losses of one source.

    For one source it shows, day by day, how many values are in OCSF attributes, stayed in `unmapped`, failed their cast
    or are in quarantine, and what was new. Days are event days; records in quarantine are listed under their day of
    delivery.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.query import query as lake_query
    from ocsf_lake.query import verified

    if source:
        with lake_query.connected(config, *_COVERAGE.values(), _SOURCES) as connection:
            show_coverage(connection, source, as_json=as_json)
            verified.check(connection)
    else:
        show_sources(config, as_json=as_json)
    if fail_on:
        _fail_on(config, fail_on)


def show_sources(settings: Settings, *, as_json: bool) -> None:
    """Every source, and the objects that were not read.

    Raises:
        ReadError: A file of the lake is gone or damaged; after all was shown, without times of events.
    """
    from ocsf_lake.lake import opened
    from ocsf_lake.ledger import overview, written_off
    from ocsf_mappers.errors import ReadError

    unread: ReadError | None = None
    with opened(settings, reading=True) as lake, ThreadPoolExecutor() as beside:
        engine = lake.ledger.engine
        # These go through all objects, which a database does beside the rest.
        by_source = beside.submit(overview.sources, engine)
        replaced = beside.submit(overview.replaced_after_reading, engine)
        not_read, failing, written = (
            [asdict(item) for item in rows(engine)]
            for rows in (overview.not_read, overview.failing, written_off.totals)
        )
        days = overview.last_days(engine)
        lost = sorted(overview.without_source(engine))
        try:
            last = _last_events(settings, [item for item in days if item[1] not in lost])
        except ReadError as error:  # all else is known, and is what somebody looks for now
            last, unread = {}, error
        sources = [{**asdict(item), "last_event": last.get(item.source)} for item in by_source.result()]
    if as_json:
        output.print_json(
            {
                "sources": sources, "not_read": not_read, "failing_batches": failing,
                "replaced_after_reading": replaced.result(), "written_off": written,
            }
        )  # fmt: skip
    else:
        _print_sources(sources, not_read, failing, written, replaced.result(), lost)
    if unread:
        raise unread


def _print_sources(
    sources: Sequence[Mapping[str, Any]], not_read: Sequence[Mapping[str, Any]], failing: Sequence[Mapping[str, Any]],
    written_off: Sequence[Mapping[str, Any]], replaced: int, lost: Sequence[str],
) -> None:  # fmt: skip
    from ocsf_lake.catalogs import definitions

    output.print_table(COLUMNS, [_row(item) for item in sources])
    for name in lost:
        sys.stdout.write(f"{terminal.escaped(f'table {name}: {definitions.NO_SOURCE}')}\n")
    for item in not_read:
        message = f"{terminal.plural(item['objects'], 'object')} {item['state'].replace('_', ' ')}: {item['reason']}"
        lines = [message]
        if item["state"] == "failed":
            lines[0] += f" (tried up to {terminal.plural(item['attempts'], 'time')})"
            lines += [f"  {uri}" for uri in item["examples"]]
        if item["state"] == "skipped" or (item["state"] == "failed" and item["objects"] > len(item["examples"])):
            lines.append(f"  {ingest.listed(item['state'])}")
        sys.stdout.write("".join(f"{terminal.escaped(line)}\n" for line in lines))
    for item in failing[:SHOWN_BATCHES]:
        tries = terminal.plural(item["failures"], "attempt")
        why = item["reason"] or "an attempt is running, or its process ended"
        message = f"batch {item['batch']} of {item['source']} is not done after {tries}: {why}"
        sys.stdout.write(f"{terminal.escaped(message)}\n")
    for item in written_off:
        rows = terminal.plural(item["rows"], "row")
        message = (
            f"{rows} of {item['source']} in table {item['table']} written off as lost: counted as read, and not in "
            "the lake; table ledger_written_off says why"
        )
        sys.stdout.write(f"{terminal.escaped(message)}\n")
    if replaced:
        keys = terminal.plural(replaced, "key")
        sys.stdout.write(f"{keys} had different content later, after being read: the lake has the events of both\n")


# -- mapping coverage -------------------------------------------------------------------------------------------------
_COVERAGE = {
    "days": """
        SELECT day, sum(events)::BIGINT AS events, sum(quarantined)::BIGINT AS quarantined,
               sum(dropped)::BIGINT AS dropped, sum(members_mapped)::BIGINT AS members_mapped,
               sum(members_unmapped)::BIGINT AS members_unmapped, sum(failed_casts)::BIGINT AS failed_casts,
               sum(news)::BIGINT AS news
        FROM ledger_meter WHERE source = $source GROUP BY day ORDER BY day DESC
    """,
    "unmapped": """
        SELECT name, sum(unmapped)::BIGINT AS in_unmapped, sum(mapped)::BIGINT AS mapped, max(day) AS last_day
        FROM ledger_members WHERE source = $source GROUP BY name HAVING in_unmapped > 0 ORDER BY in_unmapped DESC, name
    """,
    "failed_casts": """
        SELECT attribute, sum(events)::BIGINT AS events, max(day) AS last_day
        FROM ledger_failed_casts WHERE source = $source GROUP BY attribute ORDER BY events DESC, attribute
    """,
    "redacted": """
        SELECT rule, sum(hidden)::BIGINT AS hidden FROM ledger_redacted WHERE source = $source
        GROUP BY rule ORDER BY hidden DESC, rule
    """,
    "news": """
        SELECT kind, name, text, records, first_day, noticed_at, first_object, first_record FROM ledger_news
        WHERE source = $source AND kind <> 'open_member' ORDER BY noticed_at DESC, records DESC, kind, name, text
    """,
    "open_members": """
        SELECT name, records, first_day, noticed_at, first_object, first_record FROM ledger_news
        WHERE source = $source AND kind = 'open_member' ORDER BY noticed_at DESC, records DESC, name
    """,
}
_SOURCES = "SELECT DISTINCT source FROM ledger_batches"
_KIND_TEXTS = {
    "member": "undeclared member",
    "value": "value not listed by the mapper",
    "enum_text": "text unknown to OCSF, now Other",
}


def show_coverage(connection: duckdb.DuckDBPyConnection, source: str, *, as_json: bool) -> None:
    """What became of one source's values.

    Raises:
        ConfigError: The lake has nothing of this source.
    """
    coverage: dict[str, list[dict[str, Any]]] = {}
    for part, sql in _COVERAGE.items():
        rows = connection.sql(sql, params={"source": source}).to_arrow_table()
        coverage[part] = rows.to_pylist()
    if not coverage["days"]:
        from ocsf_mappers.errors import ConfigError, nearest

        sources = [name for (name,) in connection.sql(_SOURCES).fetchall()]
        raise ConfigError(f"the lake has nothing from a source {source!r}{nearest(source, sources)}")
    if as_json:
        output.print_json({"source": source, **coverage})
        return
    _print_counts("days", coverage["days"], DAYS)
    _print_counts("most in unmapped", coverage["unmapped"], NAMES)
    _print_counts("failed casts", coverage["failed_casts"], NAMES)
    _print_counts("values hidden", coverage["redacted"], NAMES)
    drift = [
        {
            "what": _KIND_TEXTS.get(item["kind"], item["kind"]),
            "where": item["name"],
            "text": item["text"],
            "records": item["records"],
            "noticed": item["noticed_at"][:10],
            "first in": f"{item['first_object'].rpartition('/')[2]} record {item['first_record']}",
        }
        for item in coverage["news"]
    ]
    _print_counts("never seen before", drift, NAMES)
    if opened := len(coverage["open_members"]):
        names = terminal.plural(opened, "name")
        terminal.say(f"{names} inside open-ended members were never seen before; --json lists them")


def _print_counts(title: str, rows: list[dict[str, Any]], most: int) -> None:
    """A titled table; numbers are made readable. Nothing is printed where there are no rows."""
    if not rows:
        return
    sys.stdout.write(f"{title}\n")
    columns = list(rows[0])
    cells = [
        [terminal.count(value) if isinstance(value, int) else value for value in row.values()] for row in rows[:most]
    ]
    output.print_table([name.replace("_", " ") for name in columns], cells)
    if len(rows) > most:
        sys.stdout.write(f"and {len(rows) - most:,} more; --json lists all\n")
    sys.stdout.write("\n")


def _fail_on(settings: Settings, names: list[str]) -> None:
    """Ends with 1 if a check finds something; says what on stderr."""
    from ocsf_lake.upkeep import health

    findings = health.check(settings, datetime.now(UTC), None if "any" in names else names)
    terminal.say(*(f"{finding.check}: {finding.source}: {finding.message}" for finding in findings))
    if findings:
        raise typer.Exit(1)


def _last_events(settings: Settings, days: Sequence[tuple[str, str, str]]) -> Mapping[str, str]:
    """Source -> time of its latest event; only the latest day's files are opened."""
    from ocsf_lake.query import query as lake_query
    from ocsf_lake.query import verified
    from ocsf_mappers import sqltext

    last: dict[str, str] = {}
    queries = [
        f"SELECT max(time_dt) FROM {sqltext.name(table)} WHERE eventday = {sqltext.text(day)}" for _, table, day in days
    ]
    if not queries:
        return last
    with lake_query.connected(settings, *queries) as connection:
        for (source, _, _), query in zip(days, queries, strict=True):
            (row,) = connection.sql(query).fetchall()
            if row[0] is not None:
                last[source] = max(last.get(source, ""), iso8601(row[0]))
        verified.check(connection)
    return last


def _row(item: Mapping[str, Any]) -> list[object]:
    counts = [terminal.count(item[name] or 0) for name in COLUMNS[1:6]]
    sizes = [terminal.size(item[name] or 0) for name in ("bytes_in", "bytes_out")]
    batches = ", ".join(f"{number:,} {state}" for state, number in item["batches"].items())
    return [item["source"], *counts, item["last_event"], *sizes, batches]
