"""What else is known of an event that is not in the lake: where its record ended, or may have."""

from __future__ import annotations

from collections.abc import Iterator

from ocsf_lake.catalogs.definitions import DUPLICATES, NO_SOURCE, QUARANTINE
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import objects, overview, retained, written_off
from ocsf_lake.text import plural
from ocsf_lake.upkeep.trace_rows import asked

HINTS = 5
"""So many records of quarantine are named that hold what was looked for."""


def hints(lake: Lake, uid: str | None, uri: str | None, record: int | None) -> Iterator[str]:
    """What a lake knows of what was looked for.

    Args:
        lake: The lake.
        uid: `metadata.uid`; None where only a record was looked for.
        uri: Object of the record.
        record: Number of the record.
    """
    for table in sorted(overview.without_source(lake.ledger.engine)):
        yield f"table {table} was not searched: {NO_SOURCE}"
    rows, partitions = retained.total(lake.ledger.engine)
    if partitions:
        events = f"{plural(rows, 'event')} of {plural(partitions, 'partition')}"
        yield f"it may be among the {events} removed by retention; table ledger_retained has them and their rules"
    if lost := sum(item.rows for item in written_off.totals(lake.ledger.engine)):
        yield f"it may be among the {plural(lost, 'row')} of lost files; table ledger_written_off has their files"
    if uri is not None and record is not None:
        yield from _of_record(lake, uri, record, certain=uid is None)
    if uid is not None:
        sql = (
            f"SELECT source_object, source_record, state, reason FROM {QUARANTINE} WHERE contains(raw, $uid) "
            f"ORDER BY ALL LIMIT {HINTS}"
        )
        for name, number, state, reason in asked(lake.settings, sql, {"uid": uid}):
            yield f"quarantine has it in the text of record {number} of {name} ({state}): {reason}"


def _of_record(lake: Lake, uri: str, number: int, *, certain: bool) -> Iterator[str]:
    outcomes = objects.became(lake.ledger.engine, uri)
    if not outcomes:
        if certain:
            yield f"the ledger does not have the object {uri}"
        return
    for item in outcomes:
        why = f", {item.reason}" if item.reason else ""
        yield (
            f"the ledger has the object {uri} ({item.state}{why}): {plural(item.read, 'record')} read, "
            f"{item.events:,} events, {item.quarantined:,} quarantined, {item.dropped:,} dropped"
        )
    given = {"object": uri, "record": number}
    here = "source_object = $object AND source_record = $record"
    for state, reason in asked(lake.settings, f"SELECT state, reason FROM {QUARANTINE} WHERE {here}", given):
        yield f"record {number} is in quarantine ({state}): {reason}"
    sql = f"SELECT of_object, of_record FROM {DUPLICATES} WHERE {here} AND action = 'dropped'"
    for of_object, of_record in asked(lake.settings, sql, given):
        yield f"record {number} was left out, as it equals record {of_record} of {of_object}"
