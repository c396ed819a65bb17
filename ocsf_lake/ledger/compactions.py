"""What the ledger has of compactions: where the files of partitions are, what is being merged, and what was.

A compaction takes a table's partitions into their next generation, see `ocsf_lake.upkeep.compact`. Its plan stands
here before anything is written. Then it puts a fence around the partitions: no batch is done in them until it is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger import chain, holds, marker, redactions
from ocsf_lake.ledger.chain import Record
from ocsf_lake.ledger.database import lock, select_in, upsert
from ocsf_lake.ledger.ledger import now
from ocsf_lake.ledger.moves import Move, PartitionFile, Plan, as_json, from_json
from ocsf_lake.ledger.results import Kind, State
from ocsf_lake.ledger.tables import (
    BATCHES,
    COMPACTING,
    COMPACTIONS,
    FILES,
    GENERATIONS,
    METADATA,
    RETAINED,
    RETIRED,
    SHIPMENTS,
    SHIPPED_FILES,
    WRITTEN_OFF,
)
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_mappers import registry
from ocsf_mappers.errors import RetriableError

FENCED = "fenced"
"""State of a compaction that can only go on: its partitions are closed to batches until it is done."""

REMAPPED = "remapped"
"""Begins the version of the mapper of files whose records were mapped once more."""

MERGED_SHIPMENT = "merged"
"""Begins the id of a shipment that stands for files which were merged from shipped ones."""


class StaleError(RetriableError):
    """What a compaction was planned for is not so any more; it has to be planned anew."""


class Compactions:
    """The compactions of a lake.

    Args:
        engine: The ledger's database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def open(self, table: str) -> Plan | None:
        """The compaction of a table that is not done."""
        row = COMPACTIONS.c
        query = sa.select(row.id, row.state, row.number, row.plan).where(
            row.table_name == table, row.state != State.DONE
        )
        with self._engine.connect() as connection:
            stored = connection.execute(query).first()
        if stored is None:
            return None
        return Plan(stored.id, table, from_json(stored.plan), stored.state, stored.number)

    def partitions(self, table: str) -> list[tuple[str, int, int, str]]:
        """Values, files, bytes and the time of the last batch of each partition that has several files."""
        row = FILES.c
        query = (
            sa.select(row.partition, sa.func.count(), sa.func.sum(row.bytes), sa.func.max(BATCHES.c.done_at))
            .join(BATCHES, BATCHES.c.id == row.batch_id)
            .where(row.table_name == table)
            .group_by(row.partition)
            .having(sa.func.count() > 1)
            .order_by(row.partition)
        )
        with self._engine.connect() as connection:
            return [(values, number, int(size), done_at) for values, number, size, done_at
                    in connection.execute(query)]  # fmt: skip

    def values(self, table: str) -> list[str]:
        """Values of each partition that has files."""
        query = sa.select(FILES.c.partition).distinct().where(FILES.c.table_name == table).order_by(FILES.c.partition)
        with self._engine.connect() as connection:
            return list(connection.scalars(query))

    def partition_files(self, table: str, values: Sequence[str]) -> dict[str, tuple[int, list[PartitionFile]]]:
        """Generation and files, by path, of partitions."""
        with self._engine.connect() as connection:
            return _partition_files(connection, table, values)

    def plan(self, plan: Plan) -> None:
        """Notes a compaction before any work.

        Raises:
            StaleError: Its files are not those of the ledger any more, or an export takes one of them.
        """
        with self._engine.begin() as connection:
            lock(connection, "shipments")
            by_partition = _partition_files(connection, plan.table, [move.values for move in plan.moves])
            for move in plan.moves:
                generation, files = by_partition[move.values]
                by_path = {item.file.path: item for item in files}
                merged = {path: merge.targets for merge in move.merges for path in merge.inputs}
                own = {*merged, *move.copied, *move.removed}
                if generation + 1 != move.generation or not own <= by_path.keys():
                    raise StaleError("files of a partition changed meanwhile", table=plan.table, partition=move.values)
                if any(item.is_shipping for item in files) or any(
                    by_path[path].targets != targets for path, targets in merged.items()
                ):
                    raise StaleError("an export takes files of the partition", table=plan.table, partition=move.values)
            old = set(plan.old)
            size = sum(item.file.bytes for _, files in by_partition.values() for item in files if item.file.path in old)
            row = {
                "id": plan.id, "table_name": plan.table, "state": State.PLANNED, "plan": as_json(plan),
                "partitions": len(plan.moves), "files_in": len(old), "bytes_in": size, "planned_at": now(),
            }  # fmt: skip
            upsert(connection, COMPACTIONS, ("id",), [row])
            connection.execute(sa.insert(COMPACTING), [{"path": path, "compaction_id": plan.id} for path in plan.old])

    def fence(self, plan: Plan) -> Plan:
        """Closes the partitions of a compaction whose files are written, and takes up what came late.

        Raises:
            StaleError: One of its files is not the ledger's any more, an export takes one that came late, or one came
                late into a partition that was to be emptied.
            HeldError: A hold keeps a partition that was to be emptied.
        """
        with self._engine.begin() as connection:
            # What a batch is writing into the ledger now is seen here, or the batch sees the fence.
            lock(connection, f"partitions of {plan.table}")
            lock(connection, "shipments")
            if plan.is_retention:
                holds.check(connection, plan.table, [move.values for move in plan.moves])
            by_partition = _partition_files(connection, plan.table, [move.values for move in plan.moves])
            moves = []
            planned = set(plan.old)
            late: list[str] = []
            for move in plan.moves:
                generation, files = by_partition[move.values]
                paths = {item.file.path for item in files}
                own = {path for merge in move.merges for path in merge.inputs} | {*move.copied, *move.removed}
                if generation + 1 != move.generation or not own <= paths:
                    raise StaleError("files of a partition changed meanwhile", table=plan.table, partition=move.values)
                new = [item for item in files if item.file.path not in planned]
                if any(item.is_shipping for item in new):
                    raise StaleError("an export takes files of the partition", table=plan.table, partition=move.values)
                if move.rule and new:  # of which nobody has asked whether the rule is theirs
                    raise StaleError("events came late", table=plan.table, partition=move.values)
                to = plan.folder(move)
                added = {item.file.path: f"{to}/{item.file.path.rpartition('/')[2]}" for item in new}
                late += added
                moves.append(replace(move, copied={**move.copied, **added}))
            number = marker.next_number(connection)
            fenced = replace(plan, moves=tuple(moves), state=FENCED, number=number)
            rows = [
                {
                    "table_name": plan.table, "partition": move.values, "generation": move.generation - 1,
                    "fence": plan.id,
                }
                for move in plan.moves
            ]  # fmt: skip
            upsert(connection, GENERATIONS, ("table_name", "partition"), rows)
            if late:
                connection.execute(sa.insert(COMPACTING), [{"path": path, "compaction_id": plan.id} for path in late])
            values = {"state": FENCED, "plan": as_json(fenced), "number": number}
            changed = connection.execute(sa.update(COMPACTIONS).where(COMPACTIONS.c.id == plan.id).values(values))
            if changed.rowcount != 1:
                # who was thought dead; the fence would never be taken away
                raise StaleError("another worker has given the plan up", table=plan.table)
        return fenced

    def rows(self, plan: Plan, at: str) -> dict[str, list[dict[str, Any]]]:
        """What a fenced compaction writes into the ledger, by table, and into its record for a rebuilt ledger."""
        with self._engine.connect() as connection:
            return _rows(connection, plan, at)

    def finish(self, plan: Plan, at: str, beside: Sequence[chain.Beside] = ()) -> None:
        """Makes a compaction visible: its files instead of those before, in one transaction.

        Args:
            plan: The compaction.
            at: When.
            beside: Files that it wrote and that have no rows.
        """
        with self._engine.begin() as connection:
            lock(connection, f"partitions of {plan.table}")
            state = connection.scalar(
                sa.select(COMPACTIONS.c.state).where(COMPACTIONS.c.id == plan.id).with_for_update()
            )
            if state != FENCED:
                return  # by a worker whose answer was lost, or that was thought dead
            by_table = _rows(connection, plan, at)
            apply(connection, by_table, plan.copied)
            connection.execute(sa.delete(COMPACTING).where(COMPACTING.c.compaction_id == plan.id))
            put_chain(connection, by_table, beside)

    def abandon(self, plan: Plan) -> None:
        """Forgets a compaction that is not fenced."""
        with self._engine.begin() as connection:
            row = COMPACTIONS.c
            gone = sa.delete(COMPACTIONS).where(row.id == plan.id, row.state == State.PLANNED)
            if connection.execute(gone).rowcount:
                connection.execute(sa.delete(COMPACTING).where(COMPACTING.c.compaction_id == plan.id))

    def is_fenced(self, table: str) -> bool:
        """Whether some partition of a table is closed to batches."""
        query = sa.select(GENERATIONS.c.fence).where(
            GENERATIONS.c.table_name == table, GENERATIONS.c.fence.is_not(None)
        )
        with self._engine.connect() as connection:
            return connection.scalar(query.limit(1)) is not None

    def files(self, paths: Sequence[str]) -> dict[str, tuple[str, FileInfo]]:
        """Path -> batch and file, of files of finished batches."""
        query = _file_columns(FILES).add_columns(FILES.c.batch_id)
        with self._engine.connect() as connection:
            rows = select_in(connection, query, FILES.c.path, paths)
            return {columns[0]: (batch_id, _info(*columns)) for *columns, batch_id in rows}

    def merge(self, merge_id: str) -> Merged | None:
        """What a merge was made of and made, in the ledger's words; None where there is no such merge."""
        row = RETIRED.c
        query = _file_columns(RETIRED).add_columns(row.batch_id).where(row.merge_id == merge_id).order_by(row.path)
        with self._engine.connect() as connection:
            inputs = connection.execute(query).all()
            outputs = connection.execute(_file_columns(FILES).where(FILES.c.batch_id == merge_id)).all()
            if not outputs:
                outputs = connection.execute(_file_columns(RETIRED).where(row.batch_id == merge_id)).all()
        if not inputs:
            return None
        return Merged(
            {columns[0]: (batch_id, _info(*columns)) for *columns, batch_id in inputs},
            sorted((_info(*columns) for columns in outputs), key=lambda file: file.path),
        )

    def written(self, batch_id: str) -> list[FileInfo]:
        """A batch's files that were retired, merged ones only, under the names that they were written under."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                _file_columns(RETIRED).where(RETIRED.c.batch_id == batch_id, RETIRED.c.merge_id.is_not(None))
            ).all()
        return [_info(*row) for row in rows]


@dataclass(frozen=True)
class Merged:
    """A merge that was done.

    Args:
        inputs: Path -> batch and file, of what it was made of.
        outputs: The files it made, by path.
    """

    inputs: dict[str, tuple[str, FileInfo]]
    outputs: list[FileInfo] = field(default_factory=list)


@dataclass(frozen=True)
class RetiredFile:
    """A file whose rows are in others, or in none.

    Args:
        path: Below the lake's root.
        values: Its partition's values, with `/` between.
        bytes: Size.
        is_retained: Whether its rows are in no other file, as their time was over.
    """

    path: str
    values: str
    bytes: int
    is_retained: bool


def retired(connection: sa.Connection) -> dict[str, list[str]]:
    """Table -> paths, sorted, of retired files that are there still."""
    row = RETIRED.c
    query = sa.select(row.table_name, row.path).where(row.removed_at.is_(None)).order_by(row.path)
    by_table: dict[str, list[str]] = {}
    for table, path in connection.execute(query):
        by_table.setdefault(table, []).append(path)
    return by_table


def removable(connection: sa.Connection, before: str) -> dict[str, list[RetiredFile]]:
    """Table -> retired files, by path, that are there still and were retired before a time."""
    row = RETIRED.c
    columns = (row.path, row.partition, row.bytes, row.merge_id == row.compaction_id)
    query = sa.select(row.table_name, *columns).where(row.removed_at.is_(None), row.retired_at < before)
    by_table: dict[str, list[RetiredFile]] = {}
    for table, *columns_of in connection.execute(query.order_by(row.path)):
        by_table.setdefault(table, []).append(RetiredFile(*columns_of))
    return by_table


def left(connection: sa.Connection, table: str, values: Sequence[str], but: Sequence[str]) -> dict[str, str]:
    """Retired files of some partitions, but for these, that are still there: path -> values of the partition."""
    row = RETIRED.c
    query = sa.select(row.path, row.partition).where(row.table_name == table, row.removed_at.is_(None))
    paths = set(but)
    return {path: of for path, of in select_in(connection, query, row.partition, values) if path not in paths}


def with_merges(connection: sa.Connection, batch_ids: Iterable[str]) -> set[str]:
    """Batches, and the merges that their files went into, and those of these."""
    merges = sa.select(RETIRED.c.merge_id).where(RETIRED.c.merge_id.is_not(None))
    new = ids = set(batch_ids)
    while new:
        new = {merge for (merge,) in select_in(connection, merges, RETIRED.c.batch_id, sorted(new))} - ids
        ids = ids | new
    return ids


def note_removed(
    connection: sa.Connection, table: str, paths: Sequence[str], at: str, beside: Sequence[str],
    versions: Mapping[str, Sequence[str]],
) -> None:  # fmt: skip
    """Notes that retired files of a table are gone; of copies nothing needs to be known any more.

    Args:
        connection: The transaction, whose last act this is.
        table: The table.
        paths: The files.
        at: When.
        beside: Files without rows that went with them.
        versions: Path -> ids of versions that stay behind a marker.
    """
    if paths:
        row = RETIRED.c
        query = _file_columns(RETIRED).add_columns(row.batch_id)
        rows = [dict(item._mapping) for item in select_in(connection, query, row.path, paths)]
        gone = sa.update(RETIRED).where(row.path == sa.bindparam("of_path")).values(removed_at=at)
        connection.execute(gone, [{"of_path": path} for path in paths])
        connection.execute(sa.delete(RETIRED).where(row.merge_id.is_(None), row.removed_at.is_not(None)))
        detail = {"beside_removed": list(beside), "versions": dict(versions)}
        chain.append(connection, kind=chain.REMOVAL, subject=table, removed=chain.of_rows(rows), detail=detail)


def restore(connection: sa.Connection, record: Record) -> None:
    """Takes up again what a record of the chain has of removed files, in a ledger that is made anew."""
    if record.kind != chain.REMOVAL or not record.removed:
        return
    row = RETIRED.c
    gone = sa.update(RETIRED).where(row.path == sa.bindparam("of_path")).values(removed_at=record.at)
    connection.execute(gone, [{"of_path": file.path} for file in record.removed])
    connection.execute(sa.delete(RETIRED).where(row.merge_id.is_(None), row.removed_at.is_not(None)))


def open_folders(connection: sa.Connection) -> list[str]:
    """The folders that compactions which are not done write into."""
    row = COMPACTIONS.c
    query = sa.select(row.id, row.table_name, row.plan).where(row.state != State.DONE)
    plans = [Plan(id_, table, from_json(text)) for id_, table, text in connection.execute(query)]
    return [plan.folder(move) for plan in plans for move in plan.moves]


def apply(connection: sa.Connection, rows: Mapping[str, list[dict[str, Any]]], copied: Mapping[str, str]) -> None:
    """Writes what a compaction or a write-off did into a ledger that has the files from before."""
    for name, new_rows in rows.items():
        table = METADATA.tables[name]
        if table is BATCHES:
            new_rows = [{"kind": Kind.MERGE, **row} for row in new_rows]  # records of earlier versions have no kind
        upsert(connection, table, tuple(column.name for column in table.primary_key.columns), new_rows)
    lost = [row for row in rows.get(WRITTEN_OFF.name, ()) if row["taken_back_at"] is None]
    for row in [*rows.get(RETIRED.name, ()), *lost]:
        # Files of a table have one name each: who merges them takes them out.
        connection.execute(sa.delete(FILES).where(FILES.c.path == row["path"]))
    for row in rows.get(RETIRED.name, ()):
        # What was retired was the lake's: a write-off that died after its record came to nothing.
        stands = WRITTEN_OFF.c.path == row["path"], WRITTEN_OFF.c.taken_back_at.is_(None)
        connection.execute(sa.delete(WRITTEN_OFF).where(*stands))
    for old, new in copied.items():
        connection.execute(sa.update(SHIPPED_FILES).where(SHIPPED_FILES.c.path == old).values(path=new))


def put_chain(
    connection: sa.Connection, rows: Mapping[str, list[dict[str, Any]]], beside: Sequence[chain.Beside]
) -> None:
    """Writes the chain's record of a compaction, a re-mapping, or a retention.

    Args:
        connection: The transaction, whose last act this is.
        rows: What was written into the ledger, by table.
        beside: Files that were written and that have no rows.
    """
    (done,) = rows[COMPACTIONS.name]
    old, new = (chain.of_rows(rows.get(table.name, [])) for table in (RETIRED, FILES))
    rules = {row["partition"]: row["rule"] for row in rows.get(RETAINED.name, [])}
    is_remap = any(row["mapper_version"].startswith(f"{REMAPPED} ") for row in rows.get(BATCHES.name, []))
    kind = "remap" if is_remap else "retention" if rules else "compaction"
    detail = {"table": done["table_name"], "beside": list(beside), **({"rules": rules} if rules else {})}
    chain.append(connection, kind=kind, subject=done["id"], added=new, removed=old, detail=detail)


def _rows(connection: sa.Connection, plan: Plan, at: str) -> dict[str, list[dict[str, Any]]]:
    merge_of = {path: merge.id for merge in plan.merges for path in merge.inputs} | dict.fromkeys(plan.removed, plan.id)
    before = {
        row.path: dict(row._mapping) for row in select_in(connection, sa.select(FILES), FILES.c.path, plan.old)
    }
    retired = [
        {**before[path], "merge_id": merge_of.get(path), "compaction_id": plan.id, "retired_at": at, "removed_at": None}
        for path in plan.old
    ]
    files = [{**before[old], "path": new} for old, new in sorted(plan.copied.items())]
    files += [
        {
            "path": file.path, "batch_id": merge_id, "table_name": plan.table,
            "partition": "/".join(file.partition.values), "class_uid": file.class_uid, "rows": file.rows,
            "bytes": file.bytes, "sha256": file.sha256,
        }
        for merge_id, file in plan.new()
    ]  # fmt: skip
    moved = [
        {"table_name": plan.table, "partition": move.values, "generation": move.generation, "fence": None}
        for move in plan.moves
    ]
    batches = [
        {
            "id": merge.id, "source": merge.source,
            "mapper_version": f"{REMAPPED} {merge.mapper_version}" if merge.mapper_version else version(plan.table),
            "ocsf_version": merge.ocsf_version, "kind": Kind.MERGE, "state": State.DONE,
            "attempts": 1, "failures": 0, "objects": 0, "bytes_in": 0, "planned_at": at, "done_at": at,
        }
        for merge in plan.merges
    ]  # fmt: skip
    shipped = [
        {
            "target": target, "path": output.path, "shipment_id": f"{MERGED_SHIPMENT}-{merge.id}", "rows": output.rows,
        }
        for merge in plan.merges for target in merge.targets for output in merge.outputs
    ]  # fmt: skip
    retained = [_retained(plan, move, [before[path] for path in move.removed], at) for move in plan.moves if move.rule]
    done = {
        "id": plan.id, "table_name": plan.table, "state": State.DONE, "plan": "[]", "number": plan.number,
        "partitions": len(plan.moves), "files_in": len(plan.old), "bytes_in": sum(row["bytes"] for row in retired),
        "files_out": len(files), "bytes_out": sum(row["bytes"] for row in files),
        "planned_at": connection.scalar(sa.select(COMPACTIONS.c.planned_at).where(COMPACTIONS.c.id == plan.id)) or at,
        "done_at": at,
    }  # fmt: skip
    rows_by_table = {
        BATCHES.name: batches, FILES.name: files, RETIRED.name: retired, GENERATIONS.name: moved,
        SHIPPED_FILES.name: shipped, RETAINED.name: retained, COMPACTIONS.name: [done],
    }  # fmt: skip
    made_of = {
        # Rows that were mapped once more have the policy of then, which is noted; without a note nothing was hidden.
        merge.id: set() if merge.mapper_version else {before[path]["batch_id"] for path in merge.inputs}
        for merge in plan.merges
    }
    rows_by_table |= redactions.of_merges(connection, made_of)
    return {name: rows for name, rows in rows_by_table.items() if rows}


def _retained(plan: Plan, move: Move, files: Sequence[Mapping[str, Any]], at: str) -> dict[str, Any]:
    region, account, day = move.values.split("/")
    return {
        "table_name": plan.table, "partition": move.values, "retention_id": plan.id, "region": region,
        "account": account, "day": day, "rows": sum(file["rows"] for file in files), "files": len(files),
        "bytes": sum(file["bytes"] for file in files), "rule": move.rule, "retained_at": at,
    }  # fmt: skip


def version(table: str) -> str:
    """What stands for the mapper's version of merged files: they have the columns that the table has today."""
    schema = registry.table(table).arrow.to_string(show_schema_metadata=False, show_field_metadata=False)
    return f"compacted {hashlib.sha256(schema.encode()).hexdigest()[:12]}"


def _partition_files(
    connection: sa.Connection, table: str, values: Sequence[str]
) -> dict[str, tuple[int, list[PartitionFile]]]:
    row = FILES.c
    query = (
        sa.select(
            row.path, row.table_name, row.partition, row.class_uid, row.rows, row.bytes, row.sha256, row.batch_id,
            BATCHES.c.source, BATCHES.c.ocsf_version,
        )
        .join(BATCHES, BATCHES.c.id == row.batch_id)
        .where(row.table_name == table)
        .order_by(row.path)
    )  # fmt: skip
    by_partition: dict[str, list[tuple[FileInfo, tuple[str, str, str]]]] = {name: [] for name in values}
    for *file, batch_id, source, ocsf_version in select_in(connection, query, row.partition, values):
        by_partition[file[2]].append((_info(*file), (batch_id, source, ocsf_version)))
    paths = [file.path for files in by_partition.values() for file, _ in files]
    shipped: dict[str, set[str]] = {}
    shipping: set[str] = set()
    columns = sa.select(SHIPPED_FILES.c.path, SHIPPED_FILES.c.target, SHIPMENTS.c.state).join(
        SHIPMENTS, SHIPMENTS.c.id == SHIPPED_FILES.c.shipment_id, isouter=True
    )
    for path, target, state in select_in(connection, columns, SHIPPED_FILES.c.path, paths):
        shipped.setdefault(path, set()).add(target)
        if state not in (None, State.DONE):
            shipping.add(path)
    query = sa.select(GENERATIONS.c.partition, GENERATIONS.c.generation).where(GENERATIONS.c.table_name == table)
    generation_of = dict(map(tuple, select_in(connection, query, GENERATIONS.c.partition, values)))
    return {
        name: (
            generation_of.get(name, 0),
            [
                PartitionFile(file, *of_batch, tuple(sorted(shipped.get(file.path, ()))), file.path in shipping)
                for file, of_batch in sorted(files, key=lambda item: item[0].path)
            ],
        )
        for name, files in by_partition.items()
    }


def _file_columns(table: sa.Table) -> sa.Select[Any]:
    row = table.c
    return sa.select(row.path, row.table_name, row.partition, row.class_uid, row.rows, row.bytes, row.sha256)


def _info(path: str, table: str, values: str, class_uid: int, rows: int, size: int, sha256: str) -> FileInfo:
    return FileInfo(path, Partition(table, tuple(values.split("/"))), class_uid, rows, size, sha256)
