"""What a lake has had so far, for rules that are checked."""

from __future__ import annotations

from collections.abc import Mapping

from ocsf_lake.config import Settings
from ocsf_lake.detections import logs, operations
from ocsf_lake.lake import opened
from ocsf_lake.ledger import overview
from ocsf_lake.query import query
from ocsf_mappers import sqltext


def last_days(settings: Settings) -> Mapping[str, str]:
    """Table -> the latest day of which the lake has events, `YYYYMMDD`.

    Raises:
        MissingError: There is no lake.
    """
    days: dict[str, str] = {}
    with opened(settings, reading=True) as lake:
        for _, table, day in overview.last_days(lake.ledger.engine):
            days[table] = max(days.get(table, ""), day)
    return days


def seen(settings: Settings, names: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Which of some services and operations, in lower case, the lake has; the service is empty for any."""
    if not names:
        return frozenset()
    literals = ", ".join(sorted({sqltext.text(name) for _, name in names}))
    arms = [
        f"SELECT DISTINCT api.service.name AS service, api.operation AS name FROM {sqltext.name(table)} "
        f"WHERE regexp_replace(lower(api.operation), {sqltext.text(operations.VERSION)}, '') IN ({literals})"
        for table in logs.CLOUDTRAIL.tables
        if table != "cloud_trail_insight"
    ]
    sql = " UNION ".join(arms)
    with query.connected(settings, sql) as connection:
        rows = query.run(connection, sql).to_pylist()
    return frozenset(
        (operations.service_of(row["service"] or ""), operations.bare(row["name"])) for row in rows if row["name"]
    )
