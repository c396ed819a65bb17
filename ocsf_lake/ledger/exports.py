"""What the ledger has of exports: which files of the lake went to which custom source, in which objects.

A file is in one shipment of a custom source. The shipment is noted before anything of it is written, each of its
objects before it is put, and both have the time when they were done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger import records
from ocsf_lake.ledger.database import insert_new, lock, select_in
from ocsf_lake.ledger.leases import LostError
from ocsf_lake.ledger.results import ID_DIGITS, State
from ocsf_lake.ledger.tables import BATCHES, COMPACTING, EXPORTS, FILES, SHIPMENTS, SHIPPED_FILES, SHIPPED_OBJECTS
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import ConfigError


@dataclass(frozen=True)
class WaitingFile:
    """A file of the lake that is in no shipment of a custom source."""

    path: str
    values: tuple[str, ...]
    rows: int
    bytes: int
    ocsf_version: str


@dataclass(frozen=True)
class ShippedFile:
    """A file of a shipment, with its checksum in the ledger today."""

    path: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Shipment:
    """Files that are sent together.

    Args:
        id: Hash of the files' names and of where they go.
        account: Of the partition that they go to.
        day: Of the partition, `YYYYMMDD`.
        rows: Rows of all files.
    """

    id: str
    account: str
    day: str
    rows: int


@dataclass(frozen=True)
class ShippedObject:
    """An object of a shipment: `rows` rows from `first_row` on, in the shipment's order."""

    uri: str
    first_row: int
    rows: int
    bytes: int
    sha256: str
    written_at: str | None = None


def shipment_id(target: str, account: str, day: str, paths: Sequence[str]) -> str:
    """The shipment's name: the same files to the same place have the same one."""
    text = json.dumps([target, account, day, sorted(paths)])
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


class Exports:
    """What the ledger has of one custom source.

    Args:
        engine: The ledger's database.
        target: URI of the custom source's folder.
    """

    def __init__(self, engine: sa.Engine, target: str) -> None:
        self._engine = engine
        self._target = target
        self._record = f"export_{hashlib.sha256(target.encode()).hexdigest()[:ID_DIGITS]}"
        """Name of its records; one export to a target goes on at a time."""

    def take(self, source: str, class_uid: int, now: datetime) -> None:
        """Notes what the custom source takes, the first time; later it has to be the same.

        Raises:
            ConfigError: It takes something else.
        """
        row = {"target": self._target, "source": source, "class_uid": class_uid, "begun_at": _text(now)}
        with self._engine.begin() as connection:
            insert_new(connection, EXPORTS, [row])
            query = sa.select(EXPORTS.c.source, EXPORTS.c.class_uid).where(EXPORTS.c.target == self._target)
            registered = connection.execute(query).one()
        if tuple(registered) != (source, class_uid):
            raise ConfigError(
                f"the custom source at {self._target} takes events of {registered.source}, "
                f"class {registered.class_uid}; a custom source holds one class: register another name for class "
                f"{class_uid} of {source}"
            )

    def waiting(self, source: str, class_uid: int) -> list[WaitingFile]:
        """Files of finished batches that are in no shipment, by name."""
        shipped = sa.select(SHIPPED_FILES.c.path).where(
            SHIPPED_FILES.c.target == self._target, SHIPPED_FILES.c.path == FILES.c.path
        )
        query = (
            sa.select(FILES.c.path, FILES.c.partition, FILES.c.rows, FILES.c.bytes, BATCHES.c.ocsf_version)
            .join(BATCHES, BATCHES.c.id == FILES.c.batch_id)
            # Files without a class hold no events: quarantine, its outcomes, duplicates.
            .where(BATCHES.c.source == source, BATCHES.c.state == State.DONE, FILES.c.class_uid == class_uid)
            # What a compaction is merging is sent when it is merged.
            .where(~shipped.exists(), FILES.c.path.not_in(sa.select(COMPACTING.c.path)))
            .order_by(FILES.c.path)
        )
        with self._engine.connect() as connection:
            return [
                WaitingFile(path, tuple(values.split("/")), *more)
                for path, values, *more in connection.execute(query)
            ]

    def last_shipped(self) -> dict[tuple[str, str], datetime]:
        """Account and day -> when the partition got its last object."""
        query = (
            sa.select(SHIPMENTS.c.account, SHIPMENTS.c.day, sa.func.max(SHIPMENTS.c.shipped_at))
            .where(SHIPMENTS.c.target == self._target, SHIPMENTS.c.state == State.DONE)
            .group_by(SHIPMENTS.c.account, SHIPMENTS.c.day)
        )
        with self._engine.connect() as connection:
            return {(account, day): datetime.fromisoformat(at) for account, day, at in connection.execute(query)}

    def plan(self, account: str, day: str, files: Sequence[WaitingFile], now: datetime) -> Shipment:
        """Notes a shipment before any work.

        Raises:
            LostError: A file of it is in another shipment by now.
        """
        paths = [file.path for file in files]
        shipment = Shipment(
            shipment_id(self._target, account, day, paths), account, day, sum(file.rows for file in files)
        )
        rows = [
            {"target": self._target, "path": file.path, "shipment_id": shipment.id, "rows": file.rows} for file in files
        ]
        row = {**vars(shipment), "target": self._target, "state": State.PLANNED, "planned_at": _text(now)}
        try:
            with self._engine.begin() as connection:
                lock(connection, "shipments")
                free = sa.select(FILES.c.path).where(FILES.c.path.not_in(sa.select(COMPACTING.c.path)))
                if sum(1 for _ in select_in(connection, free, FILES.c.path, paths)) != len(paths):
                    raise LostError("a compaction takes these files; run it again", target=self._target)
                connection.execute(sa.insert(SHIPMENTS), row)
                connection.execute(sa.insert(SHIPPED_FILES), rows)
        except sa.exc.IntegrityError as error:
            raise LostError("another export has planned these files", target=self._target) from error
        return shipment

    def open(self) -> list[Shipment]:
        """Shipments that are planned and not done, the oldest first."""
        columns = SHIPMENTS.c
        query = (
            sa.select(columns.id, columns.account, columns.day, columns.rows)
            .where(columns.target == self._target, columns.state != State.DONE)
            .order_by(columns.planned_at, columns.id)
        )
        with self._engine.connect() as connection:
            return [Shipment(*row) for row in connection.execute(query)]

    def files(self, shipment: Shipment) -> list[ShippedFile]:
        """The files of a shipment, by name."""
        query = (
            sa.select(SHIPPED_FILES.c.path, SHIPPED_FILES.c.rows, FILES.c.sha256)
            # A file that is rebuilt may have other bytes for the same rows, see `ocsf_lake.upkeep.check`.
            .join(FILES, FILES.c.path == SHIPPED_FILES.c.path, isouter=True)
            .where(SHIPPED_FILES.c.target == self._target, SHIPPED_FILES.c.shipment_id == shipment.id)
            .order_by(SHIPPED_FILES.c.path)
        )
        with self._engine.connect() as connection:
            return [ShippedFile(path, rows, sha256 or "") for path, rows, sha256 in connection.execute(query)]

    def objects(self, shipment: Shipment) -> list[ShippedObject]:
        """The objects of a shipment so far, in order."""
        columns = [SHIPPED_OBJECTS.c[name] for name in ShippedObject.__dataclass_fields__]
        query = (
            sa.select(*columns)
            .where(SHIPPED_OBJECTS.c.shipment_id == shipment.id)
            .order_by(SHIPPED_OBJECTS.c.first_row)
        )
        with self._engine.connect() as connection:
            return [ShippedObject(*row) for row in connection.execute(query)]

    def begin(self, shipment: Shipment, shipped: ShippedObject) -> None:
        """Notes an object before it is put; one that was noted before stays as it was.

        Raises:
            LostError: Another export has begun the same rows with an object of other rows, or the shipment is no more.
        """
        columns = SHIPPED_OBJECTS.c
        row = {**vars(shipped), "shipment_id": shipment.id}
        with self._engine.begin() as connection:
            _check_stands(connection, shipment)
            insert_new(connection, SHIPPED_OBJECTS, [row])
            query = sa.select(columns.rows).where(
                columns.shipment_id == shipment.id, columns.first_row == shipped.first_row
            )
            if connection.scalar(query) != shipped.rows:
                raise LostError("another export is sending these rows", shipment=shipment.id)

    def written(self, shipment: Shipment, shipped: ShippedObject, now: datetime) -> None:
        """Notes that an object is there."""
        columns = SHIPPED_OBJECTS.c
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(SHIPPED_OBJECTS)
                .where(
                    columns.shipment_id == shipment.id,
                    columns.first_row == shipped.first_row,
                    columns.written_at.is_(None),
                )
                .values(bytes=shipped.bytes, sha256=shipped.sha256, written_at=_text(now))
            )

    def divide(self, shipment: Shipment, shipped: ShippedObject, left: Collection[int], now: datetime) -> None:
        """Notes that an object is there but for some of its rows, which are objects of their own from now on.

        Args:
            shipment: The shipment.
            shipped: The object.
            left: The rows that are not there; its first row is 0.
            now: When the others were.
        """
        columns = SHIPPED_OBJECTS.c
        rows = []
        for is_left, run in groupby(range(shipped.rows), key=left.__contains__):
            numbers = list(run)
            part = {"first_row": shipped.first_row + numbers[0], "rows": len(numbers), "shipment_id": shipment.id}
            rows.append({**vars(shipped), **part, "written_at": None if is_left else _text(now)})
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(SHIPPED_OBJECTS).where(
                    columns.shipment_id == shipment.id, columns.first_row == shipped.first_row
                )
            )
            connection.execute(sa.insert(SHIPPED_OBJECTS), rows)

    def record(self, store: Store, shipment: Shipment, done: datetime | None = None) -> None:
        """Writes into the lake what is known of a shipment, so that a rebuilt ledger does not send it again.

        Args:
            store: The lake's files.
            shipment: The shipment.
            done: When it was done, which the ledger does not know yet.
        """
        columns: dict[str, sa.ColumnElement[Any]] = dict(SHIPMENTS.c.items())
        if done is not None:
            columns |= {name: sa.literal(value).label(name) for name, value in _done(done).items()}
        queries = [
            sa.select(EXPORTS).where(EXPORTS.c.target == self._target),
            sa.select(*columns.values()).where(SHIPMENTS.c.id == shipment.id),
            sa.select(SHIPPED_FILES).where(SHIPPED_FILES.c.shipment_id == shipment.id),
            sa.select(SHIPPED_OBJECTS).where(SHIPPED_OBJECTS.c.shipment_id == shipment.id),
        ]
        records.write_rows(store, self._engine, self._record, queries)

    def tidy(self, store: Store) -> None:
        """Removes from the lake what an export that died left of a record; no other one may be going on."""
        records.remove_unfinished(store, self._record)

    def finish(self, store: Store, shipment: Shipment, now: datetime) -> None:
        """Marks a shipment done, in the lake first: from then on its files may be merged, or go.

        Args:
            store: The lake's files.
            shipment: The shipment, of which all objects are there.
            now: The time.

        Raises:
            LostError: The shipment is no more.
        """
        with self._engine.begin() as connection:
            _check_stands(connection, shipment)
        self.record(store, shipment, now)
        with self._engine.begin() as connection:
            _check_stands(connection, shipment)
            connection.execute(
                sa.update(SHIPMENTS)
                .where(SHIPMENTS.c.id == shipment.id, SHIPMENTS.c.state != State.DONE)
                .values(**_done(now))
            )


def _check_stands(connection: sa.Connection, shipment: Shipment) -> None:
    """Raises `LostError` for a shipment that a write-off has withdrawn; none can until the transaction ends."""
    lock(connection, "shipments")
    if connection.scalar(sa.select(SHIPMENTS.c.id).where(SHIPMENTS.c.id == shipment.id)) is None:
        raise LostError("files of it were lost and written off meanwhile; run it again", shipment=shipment.id)


def _done(moment: datetime) -> dict[str, str]:
    return {"state": State.DONE, "shipped_at": _text(moment)}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
