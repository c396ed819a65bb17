"""Records that became no event: one table, `quarantine`, with the reason and the text of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow.parquet as pq

from ocsf_lake.catalogs.definitions import DUPLICATES, OUTCOMES, PLACE, QUARANTINE
from ocsf_lake.ingest import moving
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import files, records, replays
from ocsf_lake.ledger.holds import Hold
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.storage.fetched import GONE, LakeFileError
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.s3 import Version
from ocsf_mappers import duck, registry, sqltext
from ocsf_mappers.errors import RetriableError


@dataclass(frozen=True)
class Group:
    """Rejects of one object for one reason.

    Args:
        source: Name of the source.
        reason: Why they did not become events.
        source_object: URI of the object.
        records: How many there are.
        first_record: Number of the first one in the object.
        example: Its text.
    """

    source: str
    reason: str
    source_object: str
    records: int
    first_record: int
    example: str


@dataclass(frozen=True)
class Reject:
    """One record that did not become events.

    Args:
        source: Name of the source.
        source_object: URI of the object.
        source_etag: Its ETag.
        source_record: Number of the record in the object.
        reason: Why it did not become events.
        raw: Its text, at most a megabyte.
        batch_id: Batch it was read in.
        mapper_version: Mapper that refused it.
        ocsf_version: OCSF version it was mapped to.
        state: `open`, or `closed` by a replay.
        tries: Number of replays so far.
    """

    source: str
    source_object: str
    source_etag: str
    source_record: int
    reason: str
    raw: str
    batch_id: str
    mapper_version: str
    ocsf_version: str
    state: str
    tries: int


def listed(
    connection: duckdb.DuckDBPyConnection, source: str | None = None, state: str | None = "open"
) -> list[Group]:
    """Rejects grouped by source, reason and object, the largest group first.

    Args:
        connection: A lake, see `ocsf_lake.query.query.connect`.
        source: Only of this source.
        state: Only `open` or `closed` ones; None for both.
    """
    return [
        Group(*row)
        for row in connection.execute(
            "SELECT source, reason, source_object, count(*) AS records, min(source_record), "
            "arg_min(raw[:10000], source_record) FROM quarantine WHERE ($source IS NULL OR source = $source) "
            "AND ($state IS NULL OR state = $state) "
            "GROUP BY ALL ORDER BY records DESC, source, reason, source_object",
            {"source": source, "state": state},
        ).fetchall()
    ]


def shown(
    connection: duckdb.DuckDBPyConnection,
    source: str | None = None,
    source_object: str | None = None,
    reason: str | None = None,
    limit: int = 100,
) -> list[Reject]:
    """Rejects themselves, by object and record.

    Args:
        connection: A lake, see `ocsf_lake.query.query.connect`.
        source: Only of this source.
        source_object: Only of this object.
        reason: Only with this reason.
        limit: Not more than this many.
    """
    names = ", ".join(field.name for field in fields(Reject))
    return [
        Reject(*row)
        for row in connection.execute(
            f"SELECT {names} FROM quarantine WHERE ($source IS NULL OR source = $source) "
            "AND ($object IS NULL OR source_object = $object) AND ($reason IS NULL OR reason = $reason) "
            "ORDER BY source, source_object, source_record LIMIT $limit",
            {"source": source, "object": source_object, "reason": reason, "limit": limit},
        ).fetchall()
    ]


def texts(lake: Lake, source: str, source_object: str, etag: str) -> dict[int, str]:
    """The texts of an object's entries that were kept whole, by record."""
    text_by_record: dict[int, str] = {}
    for path in lake.files.paths(QUARANTINE):
        if f"/source={source}/" not in path:
            continue
        with lake.store.fs.open(lake.store.path(path), "rb") as file:
            rows = pq.read_table(
                file, filters=[("source_object", "=", source_object), ("source_etag", "=", etag)],
                columns=["source_record", "raw"],
            )  # fmt: skip
        text_by_record |= dict(zip(rows["source_record"].to_pylist(), rows["raw"].to_pylist(), strict=True))
    return text_by_record


def replayed(lake: Lake, source: str, files: Sequence[FileInfo]) -> list[tuple[Any, ...]] | str:
    """What a finished replay read: object, ETag, record, tries before, MD5 and bytes of the text; or why that is lost.

    Args:
        lake: The lake.
        source: Of the replay.
        files: The replay's.
    """
    outcome_paths = [file.path for file in files if file.partition.table == OUTCOMES]
    entry_paths = [name for name in lake.files.paths(QUARANTINE) if f"/source={source}/" in name]
    if not outcome_paths or any(lake.store.size(name) is None for name in outcome_paths):
        return "it is a replay of quarantine, and the file that says of which entries is gone"
    if not entry_paths or any(lake.store.size(name) is None for name in entry_paths):
        return "it is a replay of quarantine, and files of quarantine are gone or were purged"
    place = lake.store.path if lake.store.is_local else lake.store.uri
    entries, outcomes = (sqltext.texts([place(name) for name in names]) for names in (entry_paths, outcome_paths))
    with duck.connect() as connection:
        if not lake.store.is_local:
            connection.register_filesystem(lake.store.fs)
        return connection.execute(
            f"SELECT {PLACE}, outcome.tries - 1, md5(raw), strlen(raw) "
            f"FROM read_parquet({entries}, hive_partitioning = false) "
            f"JOIN read_parquet({outcomes}, hive_partitioning = false) AS outcome USING ({PLACE}) ORDER BY ALL"
        ).fetchall()


def not_events(lake: Lake, batch_ids: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Places of records of batches that were no events when they were read: in quarantine, or left out as duplicates.

    Raises:
        LakeFileError: A file that says so is gone.
    """
    place = lake.store.path if lake.store.is_local else lake.store.uri
    for table, where in ((QUARANTINE, "true"), (DUPLICATES, "action = 'dropped'")):
        with lake.ledger.engine.connect() as database:
            names = files.names_of_table(database, table, batch_ids)
        for name in names:
            if lake.store.size(name) is None:
                raise LakeFileError(GONE, file=name)
        if not names:
            continue
        paths = sqltext.texts([place(name) for name in names])
        with duck.connect() as connection:
            if not lake.store.is_local:
                connection.register_filesystem(lake.store.fs)
            query = f"SELECT {PLACE} FROM read_parquet({paths}, hive_partitioning = false) WHERE {where}"
            yield from connection.execute(query).fetchall()


@dataclass(frozen=True)
class Purge:
    """A file of quarantine that is old enough to go.

    Args:
        path: Below the lake's root.
        source: Name of the source.
        batch_id: Batch that wrote it.
        entries: Entries in it.
        open: Those of them that no replay has closed.
    """

    path: str
    source: str
    batch_id: str
    entries: int
    open: int


AT_ONCE = 50
"""Files that are removed in one transaction, for which whoever wants to place a hold waits."""

IsOver = Callable[[str, datetime], bool]
"""Whether the time of a source's records is over that came into quarantine at a moment."""


def older_than(age: timedelta) -> IsOver:
    """Whether they came longer ago than this."""
    limit = datetime.now(UTC) - age
    return lambda _, moment: moment < limit


def purgeable(
    lake: Lake, connection: duckdb.DuckDBPyConnection, is_over: IsOver, *, closed: bool
) -> list[Purge]:  # fmt: skip
    """The files whose time in quarantine is over, also those that a legal hold keeps.

    Args:
        lake: The lake.
        connection: The same lake, see `ocsf_lake.query.query.connect`.
        is_over: Told the source, and when the batch was done that the records were read in.
        closed: Only files in which every entry is closed.
    """
    place = lake.store.path if lake.store.is_local else lake.store.uri
    paths = [place(name) for name in lake.files.paths(QUARANTINE)]
    still_open = dict(
        connection.execute(
            "SELECT parse_filename(filename), count(*) "
            f"FROM read_parquet({sqltext.texts(paths)}, filename = true, hive_partitioning = false) "
            f"JOIN quarantine USING ({PLACE}) WHERE state = 'open' GROUP BY ALL"
        ).fetchall()
        if paths
        else ()
    )
    purges = []
    for path, source, batch_id, done_at, rows in replays.quarantine_files(lake.ledger, QUARANTINE):
        number = still_open.get(path.rpartition("/")[2], 0)
        if is_over(source, datetime.fromisoformat(done_at)) and not (closed and number):
            purges.append(Purge(path, source, batch_id, rows, number))
    return purges


def keeping(holds: Sequence[Hold], source: str) -> list[Hold]:
    """The holds that keep a source's quarantine: those on it, on no table in particular, or on one that it fills.

    Records in quarantine became no event: which account and day they are of is not known.
    """
    registered = registry.sources().get(source)
    tables = None if registered is None else registered.mapper.tables
    return [
        hold for hold in holds
        if hold.table_name in (None, QUARANTINE) or tables is None or hold.table_name in tables
    ]  # fmt: skip


class BusyError(RetriableError):
    """A replay works on a source's quarantine."""


def purge(lake: Lake, files: Sequence[Purge]) -> list[Purge]:
    """Removes files for good: from the catalog, from the store, from the ledger, which notes it. Can be repeated.

    Those that a legal hold keeps stay; gives the others.

    Raises:
        BusyError: A replay works on entries of one of the sources; what comes before it is removed.
        WriteError: The lake or a catalog refused.
        RetriableError: A store, catalog or database does not answer.
    """
    gone: list[Purge] = []
    for source in sorted({file.source for file in files}):
        with replays.held(lake.leases, source) as lease:
            if lease is None:
                raise BusyError(
                    "a replay is working on this source's quarantine; purge again when it has ended", source=source
                )
            gone += _purge(lake, [file for file in files if file.source == source], lease)
    return gone


def finish_purges(lake: Lake) -> None:
    """Ends purges over which somebody died when their files were gone: until then nobody can query quarantine.

    Raises:
        WriteError: The lake or a catalog refused.
        RetriableError: A store, catalog or database does not answer.
    """
    begun = (Purge(**row) for row in replays.begun_purges(lake.ledger))
    gone = [file for file in begun if lake.store.size(file.path) is None]
    for source in sorted({file.source for file in gone}):
        with replays.held(lake.leases, source) as lease:
            if lease is not None:
                _end(lake, [file for file in gone if file.source == source], lambda _, __: False)


def _is_kept(holds: Sequence[Hold], source: str) -> bool:
    return bool(keeping(holds, source))


def _purge(lake: Lake, files: Sequence[Purge], lease: Lease) -> list[Purge]:
    free = set(replays.plan_purge(lake.ledger, [asdict(file) for file in files], _is_kept))
    files = [file for file in files if file.path in free]
    if not files:
        return []
    for batch_id in sorted({file.batch_id for file in files}):
        gone = {file.path for file in files if file.batch_id == batch_id}
        rest = [info for info in lake.ledger.files_of(batch_id) if info.path not in gone]
        lease.check()
        lake.catalog.register(batch_id, rest)
    return _end(lake, files, _is_kept)


def _end(lake: Lake, files: Sequence[Purge], is_kept: Callable[[Sequence[Hold], str], bool]) -> list[Purge]:
    """Removes files that the catalogs have no more; gives those that no hold keeps."""

    def remove(free: Sequence[str]) -> dict[str, list[Version]]:
        hidden = lake.versions(free)
        lake.store.remove(free)
        moving.failpoint("purged", "")
        return hidden

    paths = [file.path for file in files]
    record = replays.write_purge(lake.ledger, lake.store, paths)
    moving.failpoint("purging", "")
    rows = [asdict(file) for file in files]
    free: set[str] = set()
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        free.update(replays.purged(lake.ledger, some, is_kept, remove, record, lake.lock_days))
    if kept := [file for file in files if file.path not in free]:
        _take_back(lake, kept)
    lake.publish_chain()
    return [file for file in files if file.path in free]


def _take_back(lake: Lake, files: Sequence[Purge]) -> None:
    """Gives files on which a hold was placed meanwhile back to the catalogs, and to whoever makes the ledger anew."""
    for batch_id in sorted({file.batch_id for file in files}):
        lake.catalog.register(batch_id, lake.ledger.files_of(batch_id))
    records.write_files(lake.store, lake.ledger.engine, "purge", [file.path for file in files])
