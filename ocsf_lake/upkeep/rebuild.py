"""Lost files of finished batches, rebuilt from what they were made of.

A batch is mapped once more, into a folder aside. What comes out is compared with the ledger, and only what is lost is
put back. Counts, mapping coverage and what was purged stay as they are: the batch is finished all the while.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa

from ocsf_lake.catalogs.definitions import QUARANTINE
from ocsf_lake.ingest import batch as batches
from ocsf_lake.ingest import engines, moving
from ocsf_lake.inputs import fields
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import chain, containers, duplicated, records, redactions, replays, written_off
from ocsf_lake.ledger import files as ledger_files
from ocsf_lake.ledger.compactions import REMAPPED, Compactions, Merged
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.results import Batch, Kind, Result, State
from ocsf_lake.redaction import policy as redaction
from ocsf_lake.redaction.policy import Policy
from ocsf_lake.storage import fetched, objects
from ocsf_lake.storage.fetched import LakeFileError
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.objects import ObjectError
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import merge, origins, remap, replay
from ocsf_mappers import temporary
from ocsf_mappers.engine.fingerprint import fingerprint
from ocsf_mappers.errors import ConfigError, OcsfMappersError, RetriableError

UNKNOWN = "the ledger does not know it"
BUSY = "another run works on it"
CHANGED = "its mapper has changed since, so its files cannot be rebuilt as they were"
OTHERWISE = (
    "its files come out otherwise than they were: other settings (part_rows, part_bytes), objects that changed, or "
    "duplicates that stand elsewhere by now"
)


class Passing(str):
    """A reason that need not be one the next time: somebody else is at work, or something does not answer."""


class Failed(str):
    """A reason that somebody may mend: what was raised."""


class Waiting(str):
    """A reason that another lost file has to be mended for, or be written off."""


def rebuild_batch(lake: Lake, batch_id: str, lost: Set[str], *, dry_run: bool = False) -> str | None:
    """Puts lost files of a finished batch back; gives the reason where that cannot be done.

    Args:
        lake: The lake.
        batch_id: The batch.
        lost: Paths of the files.
        dry_run: Only see whether it can be done.
    """
    try:
        with temporary.directory("rebuild") as folder:
            aside = Store(folder)
            file_by_path = {file.path: file for file in lake.ledger.files_of(batch_id)}
            if not lost <= file_by_path.keys():
                return Passing(UNKNOWN)
            files = [file_by_path[path] for path in sorted(lost)]
            kept = [(file, file) for file in files if _from_version(lake, file, aside)]
            if kept and not dry_run and (reason := _put(lake, batch_id, kept, aside)) is not None:
                return reason
            rest = [file for file in files if (file, file) not in kept]
            made = _made(lake, batch_id, rest, aside) if rest else []
            if isinstance(made, str):
                return made
            return None if dry_run or not made else _put(lake, batch_id, made, aside)
    except LakeFileError as error:
        return Waiting(str(error).splitlines()[0])
    except (OcsfMappersError, duckdb.Error, OSError) as error:
        # Whatever is wrong with this batch, others can be mended.
        kind = Passing if isinstance(error, RetriableError) else Failed
        return kind(str(error).splitlines()[0])


def _from_version(lake: Lake, file: FileInfo, aside: Store) -> bool:
    """Takes a file from a version of it that a store on S3 keeps behind a marker; gives whether there is one."""
    data = version_of(lake, file)
    if data is not None:
        aside.put(file.path, pa.py_buffer(data))
    return data is not None


def version_of(lake: Lake, file: FileInfo) -> bytes | None:
    """The bytes of a lost file, where S3 keeps them as a version that we may read."""
    with suppress(ConfigError):
        for version in lake.store.versions(file.path):
            if not version.is_marker and version.size == file.bytes:
                data = lake.store.read_version(file.path, version.id)
                if hashlib.sha256(data).hexdigest() == file.sha256:
                    return data
    return None


def _made(lake: Lake, batch_id: str, lost: Sequence[FileInfo], aside: Store) -> list[tuple[FileInfo, FileInfo]] | str:
    """Rebuilds files of a batch, aside; each with the one that was made for it."""
    done = lake.ledger.batch(batch_id, done=True)
    remapped = done if done is not None and done.mapper_version.startswith(f"{REMAPPED} ") else None
    if (merged := Compactions(lake.ledger.engine).merge(batch_id)) is not None:
        made = _merged(lake, merged, aside) if remapped is None else _remapped(lake, remapped, merged, aside)
        return made if isinstance(made, str) else _matched(lake, batch_id, lost, made)
    if remapped is not None:
        return "its events were remapped together with those of another class, and cannot be rebuilt alone"
    # Earlier versions wrote files for each part of a batch.
    for parts_alone in (False, True):
        made = _mapped(lake, batch_id, aside, parts_alone)
        if isinstance(made, str):
            return made
        pairs = _matched(lake, batch_id, lost, made)
        if not isinstance(pairs, str):
            return pairs
        aside.remove(file.path for file in made)
    return OTHERWISE


def _matched(
    lake: Lake, batch_id: str, lost: Sequence[FileInfo], made: Sequence[FileInfo]
) -> list[tuple[FileInfo, FileInfo]] | str:
    """The lost files among those that were made; a reason where these are others than the batch wrote."""
    by_key = {_key(file): file for file in made}
    exact = all((rebuilt := by_key.get(_key(file))) is not None and rebuilt.sha256 == file.sha256 for file in lost)
    if not exact:
        engine = lake.ledger.engine
        written = [*lake.ledger.files_of(batch_id), *Compactions(engine).written(batch_id)]
        written += written_off.files_of(engine, batch_id)
        if not _is_same(written, made):
            return OTHERWISE
    return [(file, by_key[_key(file)]) for file in lost]


def _mapped(lake: Lake, batch_id: str, aside: Store, parts_alone: bool) -> list[FileInfo] | str:
    """Maps a batch again, aside, into files with the names that it wrote them under; see `Work` for the last."""
    done = lake.ledger.batch(batch_id, done=True)
    if done is None:
        return Passing(UNKNOWN)
    if fingerprint(fields.mapper(done.source, lake.settings), done.ocsf_version) != done.mapper_version:
        return CHANGED
    container = containers.of(lake.ledger.engine, batch_id)
    of = (lake.ledger.batch(container, done=True) if container is not None else None) or done
    with replays.held(lake.leases, of.source) if of.kind is Kind.REPLAY else lake.leases.held(of.id) as lease:
        result = _rebuild(lake, of, lease, aside, parts_alone) if lease is not None else Passing(BUSY)
    if isinstance(result, str):
        return result
    matching = [theirs.files for one, theirs in ((of, result), *result.routed) if one.id == batch_id]
    return matching[0] if matching else OTHERWISE


def _rebuild(lake: Lake, batch: Batch, lease: Lease, aside: Store, parts_alone: bool) -> Result | str:
    """Does a finished batch once more, of whatever kind, with its files aside; gives the reason if it cannot."""
    engine = engines.engine(fields.mapper(batch.source, lake.settings), batch.ocsf_version)
    hides = _hiding(lake, batch.id)
    if batch.kind is Kind.REPLAY:
        return replay.rebuild_files(lake, batch, engine, lease, aside, parts_alone=parts_alone, hides=hides)
    states = lake.ledger.states(batch.members)
    read = [ref for ref in batch.members if states[ref.key][0] is State.DONE]
    for ref in read:
        try:
            with objects.opened(ref, lake.settings.input_access):
                pass
        except ObjectError as error:
            return f"a raw object is unavailable: {error}"
    policy = duplicated.policy_of(lake.ledger.engine, batch.id)
    return batches.rebuild_files(batch, lake, engine, lease, policy, aside, read, parts_alone=parts_alone, hides=hides)


def _hiding(lake: Lake, batch_id: str) -> Policy | None:
    """The policy under which a batch was mapped: its files come out as they were, with as much hidden.

    Raises:
        ConfigError: Its key is not there, or another version of this program hid otherwise.
    """
    text = redactions.policy_of(lake.ledger, batch_id)
    return None if text is None else redaction.of_text(text, lake.settings)


def _merged(lake: Lake, merged: Merged, aside: Store) -> list[FileInfo] | str:
    """Makes the files of a merge again: from what it was made of, where that is there, else from its raw objects."""
    gone: dict[str, list[FileInfo]] = {}
    inputs: dict[str, str] = {}
    for path, (batch_id, file) in merged.inputs.items():
        with temporary.directory("rebuild") as folder:
            try:
                (local,) = fetched.fetch(lake.store, [(path, file.sha256)], Path(folder))
            except LakeFileError:
                gone.setdefault(batch_id, []).append(file)
                continue
            aside.put_new(path, local.resolve())
            inputs[path] = file.sha256
    for batch_id in lake.ledger.in_order(gone.keys()):  # a later one finds duplicates of their events aside
        made = _made(lake, batch_id, gone[batch_id], aside)
        if isinstance(made, str):
            return type(made)(f"batch {batch_id}, whose rows it has: {made}")
        inputs |= {again.path: again.sha256 for _, again in made}
    with temporary.directory("rebuild") as folder:
        paths = fetched.fetch(aside, sorted(inputs.items()), Path(folder))
        rows = [file.rows for file in merged.outputs]
        table = merged.outputs[0].partition.table
        written = merge.written(paths, table, rows, lake.settings, Path(folder))
        rebuilt = []
        for output, made_file in zip(merged.outputs, written, strict=True):
            rebuilt.append(replace(output, bytes=made_file.stat().st_size, sha256=fetched.sha256(made_file)))
            aside.put_new(output.path, made_file)
    return rebuilt


def _remapped(lake: Lake, done: Batch, merged: Merged, aside: Store) -> list[FileInfo] | str:
    """Makes the files of records that were mapped once more again: from all objects of the batches they came from."""
    engine = engines.engine(fields.mapper(done.source, lake.settings), done.ocsf_version)
    if done.mapper_version != f"{REMAPPED} {engine.fingerprint}":
        return CHANGED
    with lake.leases.held(done.id) as lease:
        if lease is None:
            return Passing(BUSY)
        try:
            refs = origins.objects_of(lake, [batch for batch, _ in merged.inputs.values()])
            hides = _hiding(lake, done.id)
            return remap.rebuild_files(lake, engine, merged.outputs, refs, aside, hides)
        except origins.RefusedError as error:
            return str(error)


def _key(file: FileInfo) -> tuple[object, ...]:
    """A batch's file, wherever its partition's files are by now."""
    return file.partition, file.path.rpartition("/")[2]


def _put(lake: Lake, batch_id: str, made: Sequence[tuple[FileInfo, FileInfo]], aside: Store) -> str | None:
    """Puts files where they were, unless they were merged or removed meanwhile, or are being so."""
    with ExitStack() as stack:
        for table in sorted({file.partition.table for file, _ in made}):
            if stack.enter_context(lake.leases.held(moving.lease(table))) is None:
                return Passing(moving.BUSY)
        if not {file.path for file, _ in made} <= {file.path for file in lake.ledger.files_of(batch_id)}:
            return Passing("its files were merged or removed meanwhile")
        _put_back(lake, batch_id, made, aside)
    return None


def _put_back(lake: Lake, batch_id: str, made: Sequence[tuple[FileInfo, FileInfo]], aside: Store) -> None:
    for file, again in made:
        lake.store.put(file.path, pa.py_buffer(Path(aside.path(again.path)).read_bytes()))
    is_other = any(again.sha256 != file.sha256 for file, again in made)
    with lake.ledger.engine.begin() as connection:
        old, new = [file for file, _ in made], [replace(again, path=file.path) for file, again in made]
        if is_other:
            # The same rows in other bytes, as another release of Parquet's library writes them.
            ledger_files.rewritten(connection, new)
        chain.append(connection, kind="rebuild", subject=batch_id, added=new, removed=old)
    lake.publish_chain()
    if is_other:
        records.write_files(lake.store, lake.ledger.engine, "files", [file.path for file, _ in made])
        lake.catalog.drop(batch_id)
        lake.catalog.register(batch_id, lake.ledger.files_of(batch_id))


def _is_same(files: Sequence[FileInfo], made: Sequence[FileInfo]) -> bool:
    """Whether the same files have as many rows each; files of quarantine may have been purged."""
    expected = {(*_key(file), file.rows) for file in files}
    tables = {(*_key(file), file.rows): file.partition.table for file in made}
    return expected <= tables.keys() and all(tables[item] == QUARANTINE for item in tables.keys() - expected)
