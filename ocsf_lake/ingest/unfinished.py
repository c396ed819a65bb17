"""Batches that died and some of whose raw objects are gone since: what they wrote is nowhere else any more.

The ledger keeps the record of a batch from when all of its files are written. Where they are as they were written, the
batch is finished from it (`ocsf_lake.ingest.batch`). Else nobody knows which files are missing, nor what became of each
record: the files are moved aside, where no reader counts them, and the objects that are gone failed, with the reason.
Without this an attempt would write the files anew, or remove them, without those rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from ocsf_lake.catalogs import definitions
from ocsf_lake.ingest import duplicates
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import generations, orphans, records
from ocsf_lake.ledger.database import select_in
from ocsf_lake.ledger.ledger import LeftOut
from ocsf_lake.ledger.orphans import Orphans
from ocsf_lake.ledger.records import Record
from ocsf_lake.ledger.results import Batch, Kind, Result
from ocsf_lake.ledger.tables import BATCHES, FILES
from ocsf_lake.storage import layout
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import GoneError, ObjectError, ObjectRef, Prefetcher
from ocsf_lake.text import plural
from ocsf_mappers import registry
from ocsf_mappers.errors import OcsfMappersError, RetriableError


def failpoint(step: str, batch_id: str) -> None:
    """Called between files that are moved; does nothing. Tests interrupt it here."""


def gone(lake: Lake, batch: Batch) -> list[ObjectRef]:
    """Objects that are not to be had any more, of a batch that may have left files; none of any other.

    Raises:
        ConfigError: The store of one refuses us altogether, so that nobody knows.
        RetriableError: One does not answer; or the database does not.
    """
    with lake.ledger.engine.connect() as connection:
        if batch.kind is not Kind.INGEST or not orphans.folders(connection, batch.id):
            return []
    with closing(Prefetcher(batch.members, lake.settings.input_access)) as opener:
        return [ref for ref in batch.members if _is_gone(opener, ref)]


def _is_gone(opener: Prefetcher, ref: ObjectRef) -> bool:
    try:
        with opener.opened(ref):
            return False
    except GoneError:
        return True
    except ObjectError:
        return False  # it is there, and closed to us


def is_abandoned(lake: Lake, batch: Batch) -> bool:
    """Whether no run does an open batch again, as all of its objects are gone; not where nobody knows."""
    if batch.kind is not Kind.INGEST or not batch.members:
        return False
    with closing(Prefetcher((), lake.settings.input_access)) as opener, suppress(OcsfMappersError):
        return all(_is_gone(opener, ref) for ref in batch.members)
    return False


# -- finished from its record -----------------------------------------------------------------------------------------
def record(lake: Lake, batch: Batch) -> Record | None:
    """What an open batch came to by the latest of its attempts that wrote all files; None where none came so far."""
    data = lake.ledger.kept_record(batch.id)
    return None if data is None else records.decoded(data)


def is_whole(lake: Lake, record: Record | None) -> bool:
    """Whether a batch can be finished as its record has it: all of its files are there as they were written.

    Where duplicates were looked for, no other batch may have brought events into the same partitions since: some may be
    the same ones.

    Args:
        lake: The lake.
        record: The batch's; nobody else may be working on it.

    Raises:
        RetriableError: The store or the database does not answer.
    """
    return record is not None and _places(lake, record) is not None and not _is_overtaken(lake, record)


def recorded(lake: Lake, record: Record, batch: Batch) -> Result:
    """What became of a batch by its record, with its files where new ones of their partitions belong.

    Raises:
        RetriableError: A file went meanwhile; or the store or the database does not answer.
        SchemaError: A source is not installed any more, so that nobody knows where its files belong.
        WriteError: The lake refused.
    """
    places = _places(lake, record)
    if places is None or record.result is None:
        raise RetriableError("a file of the batch went while it was finished from its record", batch=batch.id)
    for table in {file.partition.table for file in record.result.all_files}:
        definitions.definition(table)
    folders = _folders(lake, record.result.all_files)
    # Noted before, so that who dies over a copy leaves nothing that is not found.
    Orphans(lake.ledger.engine, batch.id).note(folders.values())
    return _in_folders(lake, record.result, folders, places)


def _in_folders(
    lake: Lake, result: Result, folders: Mapping[Partition, str], places: Mapping[str, str]
) -> Result:  # fmt: skip
    files = []
    for file in result.files:
        path = _path(file, folders)
        if places[file.path] != path:
            lake.store.copy(places[file.path], path)
            failpoint("copied", layout.batch_of(path))
        files.append(replace(file, path=path))
    routed = [(batch, _in_folders(lake, theirs, folders, places)) for batch, theirs in result.routed]
    return replace(result, files=files, routed=routed)


def _places(lake: Lake, record: Record) -> dict[str, str] | None:
    """Path of each of a batch's files by its record -> where it is; None where one is not as it was written."""
    assert record.result is not None
    files = record.result.all_files
    folders = _folders(lake, files)
    places = {}
    for file in files:
        found = [path for path in (file.path, _path(file, folders)) if _is_there(lake, file, path)]
        if not found:
            return None
        places[file.path] = found[-1]
    return places


def _is_there(lake: Lake, file: FileInfo, path: str) -> bool:
    return lake.store.size(path) == file.bytes and lake.store.sha256(path) == file.sha256


def _folders(lake: Lake, files: Iterable[FileInfo]) -> dict[Partition, str]:
    events = {file.partition for file in files if file.partition.table in registry.tables()}
    return generations.folders(lake.ledger.engine, events)


def _path(file: FileInfo, folders: Mapping[Partition, str]) -> str:
    """Where a file belongs now; what is beside the events does not move."""
    folder = folders.get(file.partition, layout.folder_of(file.path))
    return f"{folder}/{file.path.rpartition('/')[2]}"


def searched(record: Record) -> list[str]:
    """Sources of a batch whose duplicates were looked for, sorted."""
    assert record.batch is not None
    assert record.facts is not None
    policies = {record.batch.source: record.facts.policy}
    policies |= {source: policy for source, (policy, _) in record.facts.routed.items()}
    return sorted(source for source, policy in policies.items() if policy != duplicates.Policy.KEEP)


def _is_overtaken(lake: Lake, record: Record) -> bool:
    assert record.batch is not None
    assert record.result is not None
    if not searched(record):
        return False
    partitions = {(file.partition.table, "/".join(file.partition.values)) for file in record.result.all_files}
    query = (
        sa.select(FILES.c.table_name, FILES.c.partition)
        .join(BATCHES, BATCHES.c.id == FILES.c.batch_id)
        .where(BATCHES.c.done_at > record.batch.begun_at, FILES.c.class_uid.is_not(None))
    )
    with lake.ledger.engine.connect() as connection:
        found = select_in(connection, query, FILES.c.partition, sorted({values for _, values in partitions}))
        return any(tuple(row) in partitions for row in found)


# -- moved aside ------------------------------------------------------------------------------------------------------
def set_aside(lake: Lake, batch: Batch, missing: Iterable[ObjectRef]) -> list[LeftOut]:
    """Moves what a batch has left to where nobody counts it; gives its objects that are gone, with the reason.

    Whoever dies in between is continued by doing it again: the ledger knows the batch as one that may have left files
    until it is done or forgotten.

    Args:
        lake: The lake.
        batch: An open batch; nobody else may be working on it.
        missing: Its objects that are gone.

    Raises:
        RetriableError: A store, catalog or database does not answer.
        WriteError: The lake or a catalog refused.
    """
    with lake.ledger.engine.connect() as connection:
        ids, left = orphans.ids(connection, batch.id), orphans.left(connection, lake.store, batch.id)
    records.forget(lake.store, batch.id, batch.planned_at)
    for written_by in ids:
        lake.catalog.drop(written_by)
    for path in left:
        failpoint("setting aside", batch.id)
        if path.rpartition("/")[2].startswith("."):
            lake.store.remove([path])  # half a file: no reader has rows of it
        else:
            lake.store.move_aside(path)
    names = [name for name in lake.store.sizes(layout.FOREIGN) if layout.batch_of(name) in ids]
    failpoint("set aside", batch.id)
    reason = "the object is gone since it was listed"
    if names:
        rows, files = plural(sum(_rows(lake, name) for name in names), "row"), plural(len(names), "file")
        called = ", ".join(sorted({f"{layout.batch_of(name)}-*" for name in names}))
        reason += (
            f"; what its batch had written when it died, {rows} in {files} called {called}, is in {layout.FOREIGN}/ "
            "and counts nowhere"
        )
    return [LeftOut(ref, batch.source, reason, 1, None) for ref in missing]


def _rows(lake: Lake, name: str) -> int:
    with suppress(pa.ArrowException), lake.store.opened(name) as file:
        return int(pq.read_metadata(file).num_rows)
    return 0
