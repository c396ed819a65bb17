"""Lost files of finished batches, made again from what they were made of.

A batch is mapped once more, into a folder aside. What comes out is held against the ledger, and only what is lost is
put back. Counts, the loss meter and what was purged stay as they are: the batch is finished all the while.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import sqlalchemy as sa

from ocsf_lake.catalogs.definitions import QUARANTINE
from ocsf_lake.ingest import batch, duplicates, routed
from ocsf_lake.inputs import fields
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import records, replays
from ocsf_lake.ledger.compactions import Compactions, Merged
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.results import Batch, Result, State
from ocsf_lake.ledger.tables import BATCHES, FILES, OBJECTS, REPLAYS
from ocsf_lake.storage import fetched, objects
from ocsf_lake.storage.fetched import LakeFileError
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_lake.storage.parquet import FileInfo
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import merge, replay
from ocsf_mappers import Engine
from ocsf_mappers.engine.engine import fingerprint
from ocsf_mappers.errors import OcsfMappersError

UNKNOWN = "the ledger does not know it"
OTHERWISE = (
    "its files come out otherwise than they were: other settings (part_rows, part_bytes), objects that changed, or "
    "duplicates that stand elsewhere by now"
)


@dataclass(frozen=True)
class _Finished:
    batch: Batch
    read: Sequence[ObjectRef]
    replayed: bool
    of: Batch | None = None
    """Of a batch of records that stand among another source's: the batch in whose objects they stand."""


def made_again(lake: Lake, batch_id: str, lost: Set[str]) -> str | None:
    """Puts lost files of a finished batch back; gives the reason where that cannot be done.

    Args:
        lake: The lake.
        batch_id: The batch.
        lost: Paths of the files.
    """
    try:
        with TemporaryDirectory(prefix="ocsf-lake-") as folder:
            aside = Store(folder)
            known = {file.path: file for file in lake.ledger.files_of(batch_id)}
            if not lost <= known.keys():
                return UNKNOWN
            made = _made(lake, batch_id, [known[path] for path in sorted(lost)], aside)
            if isinstance(made, str):
                return made
            _put(lake, batch_id, made, aside)
            return None
    except (OcsfMappersError, duckdb.Error, OSError) as error:
        # Whatever is wrong with this batch, others can be mended.
        return str(error).splitlines()[0]


def _made(lake: Lake, batch_id: str, lost: Sequence[FileInfo], aside: Store) -> list[tuple[FileInfo, FileInfo]] | str:
    """Makes files of a batch again, aside; each, and what was made."""
    if (merged := Compactions(lake.ledger.engine).merge(batch_id)) is not None:
        made = _merged(lake, merged, aside)
    else:
        made = _mapped(lake, batch_id, aside)
    if isinstance(made, str):
        return made
    by_key = {_key(file): file for file in made}
    exact = all((found := by_key.get(_key(file))) is not None and found.sha256 == file.sha256 for file in lost)
    if not exact:
        written = [*lake.ledger.files_of(batch_id), *Compactions(lake.ledger.engine).written(batch_id)]
        if not _is_same(written, made):
            return OTHERWISE
    return [(file, by_key[_key(file)]) for file in lost]


def _mapped(lake: Lake, batch_id: str, aside: Store) -> list[FileInfo] | str:
    """Maps a batch again, aside, into files with the names that it wrote them under."""
    done = _finished(lake, batch_id)
    if done is None:
        return UNKNOWN
    engine = Engine(fields.mapper(done.batch.source, lake.settings), done.batch.ocsf_version)
    if fingerprint(engine.mapper, done.batch.ocsf_version) != done.batch.mapper_version:
        return "its mapper has changed since, so its files cannot be made as they were"
    with _held(lake, done) as lease:
        if lease is None:
            return "another run works on it"
        result = _again(lake, done, engine, lease, aside)
    return result if isinstance(result, str) else result.files


def _merged(lake: Lake, merged: Merged, aside: Store) -> list[FileInfo] | str:
    """Makes the files of a merge again: from what it was made of, where that is there, else from its raw objects."""
    gone: dict[str, list[FileInfo]] = {}
    inputs: dict[str, str] = {}
    for path, (batch_id, file) in merged.inputs.items():
        with TemporaryDirectory(prefix="ocsf-lake-") as folder:
            try:
                (here,) = fetched.fetch(lake.store, [(path, file.sha256)], Path(folder))
            except LakeFileError:
                gone.setdefault(batch_id, []).append(file)
                continue
            aside.put_new(path, here.resolve())
            inputs[path] = file.sha256
    for batch_id in in_order(lake, gone.keys()):  # duplicates of an earlier one's events are found in what is aside
        made = _made(lake, batch_id, gone[batch_id], aside)
        if isinstance(made, str):
            return f"batch {batch_id}, whose rows it has: {made}"
        inputs |= {again.path: again.sha256 for _, again in made}
    with TemporaryDirectory(prefix="ocsf-lake-") as folder:
        paths = fetched.fetch(aside, sorted(inputs.items()), Path(folder))
        rows = [file.rows for file in merged.outputs]
        table = merged.outputs[0].partition.table
        written = merge.written(paths, table, rows, lake.settings, Path(folder))
        found = []
        for output, made_file in zip(merged.outputs, written, strict=True):
            found.append(replace(output, bytes=made_file.stat().st_size, sha256=fetched.sha256(made_file)))
            aside.put_new(output.path, made_file)
    return found


def _key(file: FileInfo) -> tuple[object, ...]:
    """A batch's file, wherever its partition's files are by now."""
    return file.partition, file.path.rpartition("/")[2]


def in_order(lake: Lake, ids: Collection[str]) -> list[str]:
    """Batches as they were done, replays after all others: each is made of what the earlier ones left."""
    with lake.ledger.engine.connect() as connection:
        replayed = set(connection.scalars(sa.select(REPLAYS.c.batch_id)))
        done_at = dict(connection.execute(sa.select(BATCHES.c.id, BATCHES.c.done_at)).tuples().all())
    return sorted(ids, key=lambda batch_id: (batch_id in replayed, done_at.get(batch_id) or "", batch_id))


@contextmanager
def _held(lake: Lake, done: _Finished) -> Iterator[Lease | None]:
    of = done.of or done.batch
    held = replays.held(lake.leases, of.source) if done.replayed else lake.leases.held(of.id)
    with held as lease:
        yield lease


def _again(lake: Lake, done: _Finished, engine: Engine, lease: Lease, aside: Store) -> Result | str:
    of = done.of or done.batch
    if of is not done.batch:
        engine = Engine(fields.mapper(of.source, lake.settings), of.ocsf_version)
    if done.replayed:
        return _of(done, replay.again(lake, of, engine, lease, aside))
    for ref in done.read:
        try:
            with objects.opened(ref, lake.settings.input_access):
                pass
        except ObjectError as error:
            return f"a raw object is not to be had: {error}"
    result = batch.again(of, lake, engine, lease, duplicates.policy_of(lake.ledger, of.id), aside, done.read)
    return _of(done, result)


def _of(done: _Finished, result: Result | str) -> Result | str:
    """What became of the records of one source, where they stand among another's."""
    if done.of is None or isinstance(result, str):
        return result
    return next((found for one, found in result.routed if one.id == done.batch.id), OTHERWISE)


def _put(lake: Lake, batch_id: str, made: Sequence[tuple[FileInfo, FileInfo]], aside: Store) -> None:
    for file, again in made:
        lake.store.put(file.path, pa.py_buffer(Path(aside.path(again.path)).read_bytes()))
    if any(again.sha256 != file.sha256 for file, again in made):
        # The same rows in other bytes, as another release of Parquet's library writes them.
        with lake.ledger.engine.begin() as connection:
            for file, again in made:
                values = {"bytes": again.bytes, "sha256": again.sha256}
                connection.execute(sa.update(FILES).where(FILES.c.path == file.path).values(values))
        changed = sa.select(FILES).where(FILES.c.path.in_([file.path for file, _ in made]))
        records.write_rows(lake.store, lake.ledger.engine, "files", [changed])
        lake.catalog.drop(batch_id)
        lake.catalog.register(batch_id, lake.ledger.files_of(batch_id))


def _is_same(files: Sequence[FileInfo], made: Sequence[FileInfo]) -> bool:
    """Whether the same files have as many rows each; files of quarantine may have been purged."""
    known = {(*_key(file), file.rows) for file in files}
    found = {(*_key(file), file.rows): file.partition.table for file in made}
    return known <= found.keys() and all(found[item] == QUARANTINE for item in found.keys() - known)


def _finished(lake: Lake, batch_id: str) -> _Finished | None:
    found = _found(lake, batch_id)
    of = routed.whose(lake.ledger, batch_id)
    whole = _found(lake, of) if of is not None else None
    return found if found is None or whole is None else replace(whole, batch=found.batch, of=whole.batch)


def _found(lake: Lake, batch_id: str) -> _Finished | None:
    row, columns = BATCHES.c, OBJECTS.c
    with lake.ledger.engine.connect() as connection:
        query = sa.select(row.source, row.mapper_version, row.ocsf_version).where(
            row.id == batch_id, row.state == State.DONE
        )
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
    return _Finished(Batch(batch_id, facts[0], facts[1], facts[2], tuple(refs)), read, replayed)
