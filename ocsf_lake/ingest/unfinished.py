"""Batches that died and some of whose raw objects are gone since: what they wrote is nowhere else any more.

The ledger keeps the record of a batch from when all of its files are written. Where they are as they were written, the
batch is finished from it (`ocsf_lake.ingest.batch`). Else nobody knows which files are missing, nor what became of each
record: the files are moved aside, where no reader counts them, and the objects that are gone failed, with the reason.
Without this an attempt would write the files anew, or remove them, without those rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from ocsf_lake.catalogs import definitions
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import chain, generations, orphans, records
from ocsf_lake.ledger.duplicated import DuplicatePolicy
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.ledger import LeftOut
from ocsf_lake.ledger.orphans import Orphans
from ocsf_lake.ledger.records import Record
from ocsf_lake.ledger.results import Batch, Kind, Result, State
from ocsf_lake.storage import layout
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import GoneError, ObjectError, ObjectRef, Prefetcher
from ocsf_lake.text import plural
from ocsf_mappers import registry
from ocsf_mappers.errors import OcsfMappersError, RetriableError

GONE = "the object is gone since it was listed"
"""Why an object is left out that is gone, or has another content."""


def failpoint(step: str, batch_id: str) -> None:
    """Called between files that are moved; does nothing. Tests interrupt it here."""


def has_left(lake: Lake, batch: Batch) -> bool:
    """Whether earlier attempts at a batch may have left files, or have come so far that its record was kept."""
    if batch.kind is not Kind.INGEST or not batch.attempts:
        return False
    with lake.ledger.engine.connect() as connection:
        folders = orphans.folders(connection, batch.id)
    return bool(folders) or lake.ledger.kept_record(batch.id) is not None


def missing(lake: Lake, batch: Batch) -> dict[ObjectRef, str]:
    """Objects of a batch that are not to be had, and why; asked where it `has_left` something.

    Those that are closed to us are among them: S3 refuses who may not list the bucket where an object is gone as well.

    Raises:
        ConfigError: The store of one refuses us altogether, so that nobody knows.
        RetriableError: One does not answer; or the database does not.
    """
    with closing(Prefetcher(batch.members, lake.settings.input_access)) as opener:
        errors = {ref: _error(opener, ref) for ref in batch.members}
    return {ref: GONE if isinstance(error, GoneError) else str(error) for ref, error in errors.items() if error}


def is_to_be_had(lake: Lake, ref: ObjectRef) -> bool:
    """Whether an object can be opened now, and is the one that was listed."""
    with closing(Prefetcher((), lake.settings.input_access)) as opener:
        return _error(opener, ref) is None


def _error(opener: Prefetcher, ref: ObjectRef) -> ObjectError | None:
    try:
        with opener.opened(ref):
            return None
    except ObjectError as error:
        return error


def is_abandoned(lake: Lake, batch: Batch) -> bool:
    """Whether no run does an open batch again, as all of its objects are gone; not where nobody knows."""
    if batch.kind is not Kind.INGEST or not batch.members:
        return False
    with closing(Prefetcher((), lake.settings.input_access)) as opener, suppress(OcsfMappersError):
        return all(isinstance(_error(opener, ref), GoneError) for ref in batch.members)
    return False


# -- finished from its record -----------------------------------------------------------------------------------------
def kept_record(lake: Lake, batch: Batch) -> Record | None:
    """What an open batch came to by the latest of its attempts that wrote all files; None where none came so far."""
    data = lake.ledger.kept_record(batch.id)
    return None if data is None else records.decoded(data)


def is_whole(lake: Lake, record: Record | None) -> bool:
    """Whether a batch can be finished as its record has it: all of its files are there as they were written.

    Where duplicates were looked for, no other batch may have brought events into the same partitions since: some may be
    the same ones. Where objects could not be read, no later attempt may have written files: they may have been read.

    Args:
        lake: The lake.
        record: The batch's; nobody else may be working on it.

    Raises:
        RetriableError: The store or the database does not answer.
    """
    if record is None or _places(lake, record) is None:
        return False
    return not _is_overtaken(lake, record) and not _is_surpassed(lake, record)


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
        paths = [path for path in (file.path, _path(file, folders)) if _is_there(lake, file, path)]
        if not paths:
            return None
        places[file.path] = paths[-1]
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
    return sorted(source for source, policy in policies.items() if policy != DuplicatePolicy.KEEP)


def _is_overtaken(lake: Lake, record: Record) -> bool:
    assert record.facts is not None
    assert record.result is not None
    if not searched(record):
        return False
    if (head := record.facts.head) is None:
        return True
    partitions = {file.partition for file in record.result.all_files if file.class_uid is not None}
    with lake.ledger.engine.connect() as connection:
        # By the order of the chain: the clocks of two hosts may differ by more than a batch takes.
        added = (path for row in chain.rows(connection, head) for path, *_ in json.loads(row.body)["added"])
        folders = {layout.folder_of(path) for path in added}
    return any(definitions.partition_of(folder) in partitions for folder in folders)


def _is_surpassed(lake: Lake, record: Record) -> bool:
    assert record.batch is not None
    assert record.result is not None
    if all(outcome.state is not State.FAILED for outcome in record.result.outcomes.values()):
        return False
    recorded = {(file.bytes, file.sha256) for file in record.result.all_files}
    with lake.ledger.engine.connect() as connection:
        left = orphans.left(connection, lake.store, record.batch.id)
    finished = (name for name in left if not _is_half(name))
    return any((lake.store.size(name), lake.store.sha256(name)) not in recorded for name in finished)


def _is_half(name: str) -> bool:
    """Whether it is half a file, of which no reader has rows."""
    return name.rpartition("/")[2].startswith(".")


# -- moved aside ------------------------------------------------------------------------------------------------------
def move_aside(lake: Lake, batch: Batch, missing: Mapping[ObjectRef, str], lease: Lease) -> list[LeftOut]:
    """Moves what a batch has left to where nobody counts it; gives its objects that are not to be had, with the reason.

    A worker that has lost the batch, and does not know yet, cannot end it from then on. Whoever dies in between is
    continued by doing it again: the ledger knows the batch as one that may have left files until it is done or
    forgotten.

    Args:
        lake: The lake.
        batch: An open batch.
        missing: Its objects that are not to be had, and why.
        lease: On the batch. Who has lost it would move what another worker has written since.

    Raises:
        LostError: Another worker has ended it, or has taken it over.
        RetriableError: A store, catalog or database does not answer.
        WriteError: The lake or a catalog refused.
    """
    lake.ledger.begin(batch)
    lake.ledger.fail(batch.id, None, excused=True)
    with lake.ledger.engine.connect() as connection:
        ids, left = orphans.ids(connection, batch.id), orphans.left(connection, lake.store, batch.id)
        folders = orphans.folders(connection, batch.id)
    lease.check()
    records.forget(lake.store, batch.id, batch.planned_at)
    for written_by in ids:
        lease.check()
        lake.catalog.drop(written_by)
    for path in left:
        failpoint("moving aside", batch.id)
        lease.check()
        if _is_half(path):
            lake.store.remove([path])
        else:
            lake.store.move_aside(path)
    places = [f"{layout.FOREIGN}/{folder}".rstrip("/") for folder in folders]
    moved = {name for place in places for name in lake.store.sizes(place)}
    names = sorted(name for name in moved if layout.batch_of(name) in ids)
    failpoint("moved aside", batch.id)
    lease.check()
    more = ""
    if names:
        rows, files = plural(sum(_rows(lake, name) for name in names), "row"), plural(len(names), "file")
        called = ", ".join(sorted({f"{layout.batch_of(name)}-*" for name in names}))
        more = (
            f"; what its batch had written when it died, {rows} in {files} called {called}, is in {layout.FOREIGN}/ "
            "and counts nowhere"
        )
    return [LeftOut(ref, batch.source, reason + more, 1, None) for ref, reason in missing.items()]


def _rows(lake: Lake, name: str) -> int:
    with suppress(pa.ArrowException), lake.store.opened(name) as file:
        return int(pq.read_metadata(file).num_rows)
    return 0
