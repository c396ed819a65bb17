"""Files that were lost for good and that somebody has decided to do without, see `ocsf_lake.upkeep.write_off`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ocsf_lake.ledger import chain, compactions, generations, marker, records
from ocsf_lake.ledger.database import has, lock, select_in
from ocsf_lake.ledger.ledger import now
from ocsf_lake.ledger.tables import BATCHES, FILES, SHIPMENTS, SHIPPED_FILES, SHIPPED_OBJECTS, WRITTEN_OFF
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import OUTCOMES, Partition
from ocsf_lake.storage.store import Store

COLUMNS = tuple(FILES.c.keys())


@dataclass(frozen=True)
class Decision:
    """Why, and by whom, files are written off.

    Args:
        reason: Why the lake is to do without them.
        by: Who decided it.
        at: When.
    """

    reason: str
    by: str
    at: str


def failpoint(step: str) -> None:
    """Called between the steps of a write-off; does nothing. Tests interrupt it here."""


def write_off(
    engine: sa.Engine, store: Store, table: str, causes: Mapping[str, str], decision: Decision
) -> list[str]:
    """Makes the ledger forget lost files of a table, and remember that it did; nobody may be moving its partitions.

    The lake has a record of it from before the ledger has: whoever dies in between has files written off that were not
    yet, if the ledger is rebuilt, and `take_back` gives those back that are there again.

    Args:
        engine: The ledger.
        store: The lake's files.
        table: The table.
        causes: Path of each file -> why it cannot be made again.
        decision: Why and by whom.

    Returns:
        URIs of objects that an export which was not done has put, or may have, with rows of these files; it begins
        anew.

    Raises:
        WriteError: The lake or the ledger refused.
        RetriableError: The store or the database does not answer.
    """
    query = sa.select(FILES, BATCHES.c.source).join(BATCHES, BATCHES.c.id == FILES.c.batch_id)
    with engine.begin() as connection:
        number = marker.next_number(connection)
        rows = [
            {
                **item._mapping, "cause": causes[item.path], "reason": decision.reason, "written_off_by": decision.by,
                "written_off_at": decision.at, "taken_back_at": None,
            }
            for item in select_in(connection, query, FILES.c.path, list(causes))
        ]  # fmt: skip
    put = {WRITTEN_OFF.name: rows}
    record = records.write_moved(store, number, "write_off", put, {})
    failpoint("recorded")
    with engine.begin() as connection:
        lock(connection, f"partitions of {table}")
        lock(connection, "shipments")
        sent = _withdraw(connection, list(causes))
        compactions.apply(connection, put, {})
        detail = {"reason": decision.reason, "by": decision.by, "beside": [record]}
        chain.append(connection, kind="write-off", subject=table, removed=chain.of_rows(rows), detail=detail)
    failpoint("forgotten")
    return sent


def _withdraw(connection: sa.Connection, paths: Sequence[str]) -> list[str]:
    """Forgets exports that were planned with these files and not done; gives the objects that they may have put."""
    planned = sa.select(SHIPPED_FILES.c.shipment_id).join(SHIPMENTS, SHIPMENTS.c.id == SHIPPED_FILES.c.shipment_id)
    query = planned.where(SHIPMENTS.c.state != "done")
    ids = sorted({name for (name,) in select_in(connection, query, SHIPPED_FILES.c.path, paths)})
    row = SHIPPED_OBJECTS.c
    put = sa.select(row.uri).order_by(row.uri)
    sent = [uri for (uri,) in select_in(connection, put, row.shipment_id, ids)]
    for table, column in (
        (SHIPPED_OBJECTS, row.shipment_id), (SHIPPED_FILES, SHIPPED_FILES.c.shipment_id), (SHIPMENTS, SHIPMENTS.c.id)
    ):  # fmt: skip
        connection.execute(sa.delete(table).where(column.in_(ids)))
    return sent


def take_back(engine: sa.Engine, store: Store, path: str, new_path: str) -> None:
    """Gives the lake a file back that was written off and is there again; nobody may be moving its partition.

    Args:
        engine: The ledger.
        store: The lake's files.
        path: The file as it was written off.
        new_path: Where it is now, as its partition may have moved.

    Raises:
        MovedError: The partition's files are somewhere else.
        WriteError: The lake or the ledger refused.
        RetriableError: The store or the database does not answer.
    """
    with engine.begin() as connection:
        number = marker.next_number(connection)
        (row,) = connection.execute(sa.select(WRITTEN_OFF).where(WRITTEN_OFF.c.path == path)).mappings()
    file = {**{name: row[name] for name in COLUMNS}, "path": new_path}
    put = {WRITTEN_OFF.name: [{**row, "taken_back_at": now()}], FILES.name: [file]}
    moved = {path: new_path}  # what was exported is exported under its new name
    record = records.write_moved(store, number, "take_back", put, moved)
    failpoint("noted")
    with engine.begin() as connection:
        generations.check(connection, [_info(*(file[name] for name in COLUMNS))])
        compactions.apply(connection, put, moved)
        detail = {"table": row["table_name"], "beside": [record]}
        chain.append(connection, kind="take-back", subject=path, added=chain.of_rows([file]), detail=detail)
    failpoint("taken back")


def standing(engine: sa.Engine, table: str) -> dict[str, FileInfo]:
    """Path -> file, of those of a table that are written off."""
    with engine.connect() as connection:
        return {file.path: file for file in _files(connection, WRITTEN_OFF.c.table_name == table)}


def file(engine: sa.Engine, path: str) -> FileInfo | None:
    """One that is written off; None where it is not."""
    with engine.connect() as connection:
        return next(iter(_files(connection, WRITTEN_OFF.c.path == path)), None)


def files_of(engine: sa.Engine, batch_id: str) -> list[FileInfo]:
    """Those of a batch that are written off."""
    with engine.connect() as connection:
        return _files(connection, WRITTEN_OFF.c.batch_id == batch_id)


def _files(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[FileInfo]:
    row = WRITTEN_OFF.c
    query = sa.select(*(row[name] for name in COLUMNS)).where(condition, row.taken_back_at.is_(None))
    return [_info(*row) for row in connection.execute(query)] if has(connection, WRITTEN_OFF) else []


def _info(
    path: str, _: str, table: str, values: str, class_uid: int | None, rows: int, size: int, sha256: str
) -> FileInfo:
    return FileInfo(path, Partition(table, tuple(values.split("/"))), class_uid, rows, size, sha256)


def has_outcomes(engine: sa.Engine, source: str) -> bool:
    """Whether it is not known of some records in a source's quarantine that they are events."""
    row = WRITTEN_OFF.c
    lost = sa.exists().where(row.table_name == OUTCOMES, row.source == source, row.taken_back_at.is_(None))
    with engine.connect() as connection:
        return bool(connection.scalar(sa.select(lost)))


@dataclass(frozen=True)
class Total:
    """What is written off of one source and table.

    Args:
        source: Name of the source.
        table: The table.
        rows: Its events; of quarantine, its records.
        files: Their files.
        last: When the last of them was written off.
    """

    source: str
    table: str
    rows: int
    files: int
    last: str


def totals(engine: sa.Engine) -> list[Total]:
    """What is written off, by source and table."""
    row = WRITTEN_OFF.c
    query = (
        sa.select(row.source, row.table_name, sa.func.sum(row.rows), sa.func.count(), sa.func.max(row.written_off_at))
        .where(row.taken_back_at.is_(None))
        .group_by(row.source, row.table_name)
        .order_by(row.source, row.table_name)
    )
    with engine.connect() as connection:
        groups = connection.execute(query).all() if has(connection, WRITTEN_OFF) else []
    return [Total(source, table, int(rows), files, last) for source, table, rows, files, last in groups]
