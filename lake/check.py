"""Whether storage, ledger and catalogs say the same, and how to make them.

The ledger is the truth: it holds the files of every finished batch with size and checksum. What lies in the lake and
was written by no batch is moved aside, never deleted; a file that is gone is made again from its raw objects, byte for
byte. Files of batches that are under way are left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa

from lake import batch, duplicates, layout, objects, quarantine, replay
from lake.batch import definition
from lake.catalog import Definition, Finding, HeldFile, Kind
from lake.lake import Lake
from lake.layout import Partition, batch_of
from lake.ledger_tables import BATCHES, FILES, OBJECTS, REPLAYS
from lake.objects import ObjectError, ObjectRef
from lake.results import Batch, State
from ocsf_mappers import Engine, registry, tables
from ocsf_mappers.engine import fingerprint
from ocsf_mappers.errors import ConfigError

STORAGE = "storage"
FOREIGN = "_foreign"
"""Folder that files nobody wrote are moved to, each with its whole path."""

_LOST = "its rows are not to be had; sync makes the file again from the raw objects"


@dataclass
class Repair:
    """What a repair did.

    Args:
        found: What was untrue before.
        left: What is untrue still.
        rebuilt: Batches whose files were made again.
        moved: Files nobody wrote, by their names before.
        refused: What could not be mended, and why.
    """

    found: list[Finding]
    left: list[Finding] = field(default_factory=list)
    rebuilt: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def check(lake: Lake, deep: bool = False) -> list[Finding]:
    """Everything that is untrue between storage, ledger and each catalog, sorted.

    Args:
        lake: The lake.
        deep: Also read every file and compare its checksum.
    """
    truth = _LedgerTruth(lake)
    found: list[Finding] = []
    for table in _definitions():
        found += _stored(lake, table, truth, deep)
        for catalog in lake.catalog.all:
            found += catalog.check(table, truth)
    return sorted(found)


def is_true(findings: list[Finding]) -> bool:
    """Whether every query returns what it should, in spite of these findings."""
    return all(finding.harmless for finding in findings)


def sync(lake: Lake, deep: bool = False) -> Repair:
    """Makes storage and catalogs say what the ledger says, as far as that can be done.

    Args:
        lake: The lake.
        deep: Also read every file and compare its checksum.
    """
    repair = Repair(check(lake, deep))
    if is_true(repair.found):
        repair.left = repair.found
        return repair
    for finding in repair.found:
        if finding.kind is Kind.FILE_FOREIGN and finding.where == STORAGE:
            lake.store.move(finding.item, f"{FOREIGN}/{finding.item}")
            repair.moved.append(finding.item)
    lost = {batch_of(item.item) for item in repair.found if item.kind in (Kind.FILE_MISSING, Kind.FILE_CHANGED)}
    for batch_id in sorted(lost):
        if reason := _rebuilt(lake, batch_id):
            repair.refused.append(f"batch {batch_id}: {reason}")
        else:
            repair.rebuilt.append(batch_id)
    truth = _LedgerTruth(lake)
    for table in _definitions():
        for catalog in lake.catalog.all:
            catalog.repair(table, truth)
    repair.left = check(lake, deep)
    return repair


def _definitions() -> list[Definition]:
    return [definition(name) for name in [*tables.load(), quarantine.TABLE, quarantine.OUTCOMES, duplicates.TABLE]]


class _LedgerTruth:
    """See `lake.catalog.Truth`."""

    def __init__(self, lake: Lake) -> None:
        self._engine = lake.ledger.engine
        self._store = lake.store
        self._open: set[str] = set()

    def held(self, table: str) -> list[HeldFile]:
        """The files of a table that finished batches wrote, read anew; also learns which batches are open."""
        files = FILES.c
        columns = (files.path, files.partition, files.batch_id, files.rows, files.bytes, files.sha256)
        with self._engine.connect() as connection:
            is_open = BATCHES.c.state != State.DONE
            self._open = set(connection.scalars(sa.select(BATCHES.c.id).where(is_open)))
            self._open |= set(connection.scalars(sa.select(REPLAYS.c.batch_id).where(REPLAYS.c.state != State.DONE)))
            rows = connection.execute(sa.select(*columns).where(files.table_name == table).order_by(files.path)).all()
        return [HeldFile(path, Partition(table, tuple(values.split("/"))), *more) for path, values, *more in rows]

    def is_open(self, path: str) -> bool:
        """Whether a file belongs to a batch that is not finished."""
        return batch_of(path) in self._open

    def is_open_partition(self, partition: Partition) -> bool:
        """Whether a file of an unfinished batch lies in a partition."""
        table = definition(partition.table)
        folder = layout.folder(table.prefix, table.keys, partition.values)
        return any(self.is_open(path) for path in self._store.sizes(folder))


def _stored(lake: Lake, table: Definition, truth: _LedgerTruth, deep: bool) -> Iterator[Finding]:
    """What is untrue between storage and ledger: files that are gone or other than they were, and files too many."""
    here = (STORAGE, table.name)
    # Storage first, the ledger after it: a batch that is finished in between is no finding.
    sizes = lake.store.sizes(table.prefix)
    held = {file.path: file for file in truth.held(table.name)}
    for path, file in held.items():
        size = sizes.get(path)
        if size is None:
            size = lake.store.size(path)
        if size is None:
            yield Finding(*here, Kind.FILE_MISSING, path, f"{file.rows:,} rows: {_LOST}")
        elif size != file.bytes:
            yield Finding(*here, Kind.FILE_CHANGED, path, f"{size:,} bytes, {file.bytes:,} were written; {_LOST}")
        elif deep and _sha256(lake, path) != file.sha256:
            yield Finding(*here, Kind.FILE_CHANGED, path, f"other bytes than were written; {_LOST}")
    for path in sorted(sizes.keys() - held.keys()):
        if truth.is_open(path):
            says = "a run is writing it, or died over it; the next run of the same command finishes the batch"
            yield Finding(*here, Kind.FILE_UNFINISHED, path, says, harmless=True)
        else:
            says = f"Athena and other readers of the folder count its rows; sync moves it to {FOREIGN}/"
            yield Finding(*here, Kind.FILE_FOREIGN, path, says)


def _sha256(lake: Lake, path: str) -> str:
    digest = hashlib.sha256()
    with lake.store.opened(path) as file:
        while block := file.read(4 << 20):
            digest.update(block)
    return digest.hexdigest()


def _rebuilt(lake: Lake, batch_id: str) -> str | None:
    """Makes the files of a finished batch again; gives the reason where that cannot be done."""
    found = _finished(lake, batch_id)
    if found is None:
        return "the ledger does not know it"
    done, read, replayed = found
    try:
        mapper = registry.load(done.source)
    except ConfigError as error:
        return str(error)
    if fingerprint(mapper, done.ocsf_version) != done.mapper_version:
        return "its mapper has changed since, so its files cannot be made as they were"
    if replayed:
        return replay.made_again(lake, done)
    for ref in read:
        # Were one of them gone, making the batch again would lose the files that are left of it.
        try:
            with objects.opened(ref, lake.settings.input_access):
                pass
        except ObjectError as error:
            return f"a raw object is not to be had: {error}"
    with lake.leases.held(batch_id) as lease:
        if lease is None:
            return "another run works on it"
        # Open again: should this process die now, the next run finishes the batch.
        with lake.ledger.engine.begin() as connection:
            reopened = sa.update(BATCHES).where(BATCHES.c.id == batch_id)
            connection.execute(reopened.values(state=State.FAILED, reason="a file of it is to be made again"))
        policy = duplicates.policy_of(lake.ledger, batch_id)
        batch.run(done, lake, Engine(mapper, done.ocsf_version), lease, policy)
    return None


def _finished(lake: Lake, batch_id: str) -> tuple[Batch, list[ObjectRef], bool] | None:
    """A batch with all its members, those of them that were read, and whether it was a replay."""
    row, columns = BATCHES.c, OBJECTS.c
    with lake.ledger.engine.connect() as connection:
        query = sa.select(row.source, row.mapper_version, row.ocsf_version).where(row.id == batch_id)
        facts = connection.execute(query).first()
        members = connection.execute(
            sa.select(columns.uri, columns.etag, columns.size, columns.stamp, columns.state)
            .where(columns.batch_id == batch_id)
            .order_by(columns.uri, columns.etag)
        ).all()
        replayed = connection.scalar(sa.select(REPLAYS.c.state).where(REPLAYS.c.batch_id == batch_id)) is not None
    if facts is None:
        return None
    refs = {ObjectRef(*found): state for *found, state in members}
    read = [ref for ref, state in refs.items() if state == State.DONE]
    return Batch(batch_id, facts[0], facts[1], facts[2], tuple(refs)), read, replayed
