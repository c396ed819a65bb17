"""A ledger that is lost, rebuilt from the lake: from the batches' records, and where there are none from the rows.

With records the new ledger is the old one: batches that were done, their objects, files and counts, mapping coverage,
duplicates, replays, purges and exports. Not in it are batches that were planned and not done, and objects that were
looked at and went into no batch: the next run looks at them again.

A lake of a version that wrote no records has its rows alone. They show what was read and what became of it; objects
that gave neither events nor quarantine are not known, and are read again, which adds nothing; what was dropped counts
as not read. A batch that died halfway is not recognized there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ocsf_lake.config import Settings
from ocsf_lake.ingest import routed
from ocsf_lake.inputs import discovery
from ocsf_lake.lake import bare
from ocsf_lake.ledger import (
    chain,
    compactions,
    containers,
    duplicated,
    mapping_coverage,
    marker,
    records,
    redactions,
    restored,
)
from ocsf_lake.ledger.database import Connection, lock
from ocsf_lake.ledger.ledger import put_done
from ocsf_lake.ledger.records import Record
from ocsf_lake.storage import layout
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import inferred
from ocsf_mappers.errors import ConfigError


@dataclass
class Summary:
    """What was made.

    Args:
        batches: Batches that were done.
        objects: Objects that they read.
        files: Files of the lake that they wrote.
        events: Events in those.
        quarantined: Records in quarantine.
        exact: Whether it is from records; else it was inferred from the rows.
        missing: Files that batches wrote and that are gone.
        unknown: Files that no batch wrote to its end.
    """

    batches: int = 0
    objects: int = 0
    files: int = 0
    events: int = 0
    quarantined: int = 0
    exact: bool = True
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def rebuild(settings: Settings, *, replacing: bool = False) -> Summary:
    """Makes the ledger of the settings from the lake's files, and notes in the lake that it belongs to it.

    All in one transaction: a rebuild that dies leaves what was there, and is run again.

    Args:
        settings: The lake, and where its ledger is to be.
        replacing: Also where a ledger with batches is there; what it has is forgotten.

    Raises:
        ConfigError: There is no such lake, or a ledger with batches is there.
        ReadError: A record is damaged.
        RetriableError: The store or the database does not answer.
    """
    with bare(settings) as (store, ledger, place):
        content = marker.read(store)
        if content is None and not marker.holds_files(store):
            raise ConfigError(f"there is no lake at {settings.lake!r}: nothing to rebuild a ledger from")
        with ledger.engine.begin() as connection:
            lock(connection, "plan")
            if restored.has_batches(connection) and not replacing:
                raise ConfigError(
                    f"there is a ledger with batches at {place}; --replace makes it anew from the lake's files, and "
                    "forgets what it has"
                )
            restored.clear(connection, store.uri("").rstrip("/") if settings.ledger_url is not None else None)
            summary, moved = _fill(connection, store, content is not None)
            if content is None:
                records.checkpoint(connection, store)
            # Before the transaction ends: a ledger that no lake names is rebuilt, a lake without one reads twice.
            marker.replace(store, marker.give_id(connection), place)
            restored.put_chain(connection, store, moved)
        chain.publish(ledger.engine, store)
    return summary


def _fill(connection: Connection, store: Store, recorded: bool) -> tuple[Summary, list[Record]]:
    """Puts in what the lake has; gives what was done, and the records of compactions."""
    summary = Summary(exact=recorded)
    moved: list[Record] = []
    stored = {name for prefix in inferred.prefixes() for name in store.sizes(prefix)}
    number = 0
    if recorded:
        restored.put_checkpoint(connection, store)
        all_records = list(records.read_all(store))
        number = max((record.number for record in all_records), default=0)
        # As they ended, so that counts, and who saw something first, come out as they were.
        last = {record.batch.id: record for record in all_records if record.batch is not None}
        moved = [record for record in all_records if record.moved is not None]
        left_behind = restored.LeftBehind.of(moved)
        for record in sorted(last.values(), key=lambda record: (record.at, record.number)):
            if not left_behind.has(record):
                _put_batch(connection, record)
        for record in all_records:
            restored.put_rows(connection, record, last.keys())
    else:
        inferred.put(connection, store, sorted(stored))
    marker.set_last_number(connection, number)
    totals = restored.totals(connection)
    summary.batches, summary.objects, summary.files = totals.batches, totals.objects, totals.files
    summary.events, summary.quarantined = totals.events, totals.quarantined
    registered = {file.path for file in chain.all_files(connection)}
    stored = {path for path in stored if not path.endswith(f"/{layout.PLAN}")}
    retired = {path for paths in compactions.retired(connection).values() for path in paths}
    summary.unknown, summary.missing = sorted(stored - registered - retired), sorted(registered - stored)
    return summary, moved


def _put_batch(connection: Connection, record: Record) -> None:
    batch, result, facts = record.batch, record.result, record.facts
    assert batch is not None
    assert result is not None
    assert facts is not None
    put_done(connection, batch, result, facts.done_at, facts.worker)
    duplicated.note(connection, batch, duplicated.DuplicatePolicy(facts.policy), result, facts.key)
    redactions.note(connection, batch, result)
    mapping_coverage.record(connection, batch, result, discovery.day_of, facts.done_at)
    for one, routed_result in result.routed:
        routed.put(connection, batch, one, routed_result, facts.done_at)
        containers.restore(connection, batch.id, one.id)
        policy, key = facts.routed[one.source]
        duplicated.note(connection, one, duplicated.DuplicatePolicy(policy), routed_result, key)
