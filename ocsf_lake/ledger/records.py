"""What each batch came to, in a small file of the lake: so that a ledger that is lost can be rebuilt, exactly.

The rows of events and quarantine have the object and record that they come from. They do not show what was dropped,
which objects had nothing to give, how large the objects were, or whether a batch that left files behind was ever
finished. A batch's record does: it is written when all files of the batch are, right before the ledger counts it as
done, and holds what the ledger gets. One more file for each batch, some kilobytes.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from ocsf_lake.ledger import marker
from ocsf_lake.ledger.chain import Beside, beside
from ocsf_lake.ledger.results import Batch, Counts, Kind, Outcome, Result, State
from ocsf_lake.ledger.rows import table_of
from ocsf_lake.ledger.tables import ABOUT, FILES, SHOWN
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.storage.store import Store
from ocsf_mappers.compiler.statistics import DriftKind, FirstSeen, SchemaDrift, Statistics
from ocsf_mappers.errors import ReadError

Routed = Mapping[str, tuple[str, Sequence[str]]]
"""Source of other records in a batch's objects -> what became of their duplicates, and their key."""

FORMAT = 1
CHECKPOINT = "000000000000"
"""Begins the names of the files with what a ledger knew when its lake got a marker."""


@dataclass(frozen=True)
class Facts:
    """What the ledger gets of a batch beside its result.

    Args:
        done_at: When it was done.
        worker: Who did it.
        policy: What became of duplicates.
        key: The source's own key of an event.
        routed: Source of other records among them -> what became of their duplicates, and their key.
        head: Number of the chain's last record when all files were written, where duplicates were looked for: what came
            after it was not looked at.
    """

    done_at: str
    worker: str | None = None
    policy: str = "keep"
    key: tuple[str, ...] = ()
    routed: Routed = field(default_factory=dict)
    head: int | None = None


@dataclass(frozen=True)
class Reduced:
    """What objects left of a batch that is older than the records, when they went into other batches.

    Args:
        batches: The batch, and those of records of other sources among its own.
        objects: URI and ETag of those that it has still; none where nothing is left of it.
    """

    batches: tuple[str, ...]
    objects: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Record:
    """A record as it was read.

    Args:
        number: Its number.
        batch: The batch; None where the record is of rows alone.
        result: What became of it.
        facts: The rest.
        put: Table of the ledger -> rows that were written without a batch.
        gone: Files that were removed on demand.
        moved: Files that were given another name, old -> new, beside the rows.
        reduced: What is left of a batch that has no record, beside the rows.
    """

    number: int
    batch: Batch | None = None
    result: Result | None = None
    facts: Facts | None = None
    put: Mapping[str, list[dict[str, Any]]] | None = None
    gone: tuple[str, ...] = ()
    moved: Mapping[str, str] | None = None
    reduced: Reduced | None = None

    @property
    def at(self) -> str:
        """When it was written."""
        return self.facts.done_at if self.facts else ""


def encoded(batch: Batch, result: Result, facts: Facts) -> bytes:
    """A batch's record; all of its files must be there."""
    return _data({
        "facts": {**vars(facts), "replay": _replay(batch, result)},
        **_record_of(batch, result),
        "routed": [_record_of(*routed) for routed in result.routed],
    })


def decoded(data: bytes) -> Record:
    """A record that `encoded` gave, without its number."""
    return _record(0, json.loads(gzip.decompress(data)))


def _replay(batch: Batch, result: Result) -> dict[str, Any] | None:
    """What marks a replay among batches, as earlier versions read it too."""
    entries = sum(file.rows for file in result.files if file.class_uid is None)
    facts = {"entries": entries, "planned_at": batch.planned_at, "token": ""}
    return facts if batch.kind is Kind.REPLAY else None


def _record_of(batch: Batch, result: Result) -> dict[str, Any]:
    return {
        "batch": {
            "id": batch.id, "source": batch.source, "mapper_version": batch.mapper_version,
            "ocsf_version": batch.ocsf_version, "attempts": batch.attempts, "planned_at": batch.planned_at,
            "begun_at": batch.begun_at,
        },
        "objects": [
            [ref.uri, ref.etag, ref.size, ref.stamp, outcome.state, outcome.reason, outcome.lasting,
             *vars(outcome.counts).values()] for ref, outcome in result.outcomes.items()
        ],
        **_hashes(result),
        "files": [_file(file) for file in result.files],
        "events_by_class": result.events_by_class, "dropped": result.dropped, "failed_casts": result.failed_casts,
        "unmapped_keys": result.unmapped_keys, "seconds": result.seconds, "duplicates": result.duplicates,
        "variants": result.variants, "census": _statistics(result.statistics),
        "redaction": result.redaction and [*result.redaction, dict(result.redacted)],
    }  # fmt: skip


def _file(file: FileInfo) -> list[Any]:
    place = file.path, file.partition.table, list(file.partition.values)
    return [*place, file.class_uid, file.rows, file.bytes, file.sha256]


def _hashes(result: Result) -> dict[str, Any]:
    """The SHA-256 of objects, in their order, where there are any."""
    hashes = [outcome.sha256 for outcome in result.outcomes.values()]
    return {"sha256": hashes} if any(hashes) else {}


def write_rows(
    store: Store, engine: sa.Engine, name: str, queries: Sequence[sa.Select[Any]], gone: Iterable[str] = (),
    reduced: Reduced | None = None,
) -> Beside:  # fmt: skip
    """Writes a record of rows that the ledger has and no batch wrote; gives its entry for the chain.

    Args:
        store: The lake's files.
        engine: The ledger.
        name: What they are of, a word without `-`.
        queries: Each of whole rows of one table.
        gone: Files of the lake that the ledger forgets.
        reduced: See `Record`.

    Raises:
        WriteError: The lake refused.
        RetriableError: The store or the database does not answer.
    """
    with engine.begin() as connection:
        number = marker.next_number(connection)
        put = {
            str(query.get_final_froms()[0]): [dict(row) for row in connection.execute(query).mappings()]
            for query in queries
        }
    document: dict[str, Any] = {"put": put, "gone": list(gone)}
    if reduced is not None:
        document["reduced"] = {"batches": reduced.batches, "objects": sorted(reduced.objects)}
    return _put(store, number, name, document)


def write_files(store: Store, engine: sa.Engine, name: str, paths: Sequence[str]) -> Beside:
    """Writes a record of files that the ledger has otherwise than the batches that wrote them, see `write_rows`."""
    return write_rows(store, engine, name, [sa.select(FILES).where(FILES.c.path.in_(paths))])


def write_moved(
    store: Store, number: int, name: str, put: Mapping[str, list[dict[str, Any]]], moved: Mapping[str, str]
) -> Beside:
    """Writes the record of a compaction, before the ledger has it; gives its entry for the chain.

    Args:
        store: The lake's files.
        number: Of the record.
        name: The compaction's id.
        put: Table -> rows that it writes.
        moved: Path of each file that it copied -> the path of the copy.

    Raises:
        WriteError: The lake refused.
        RetriableError: The store does not answer.
    """
    return _put(store, number, name, {"put": put, "gone": [], "moved": dict(moved)})


def _put(store: Store, number: int, name: str, document: Mapping[str, Any]) -> Beside:
    return put(store, number, name, _data(document))


def put(store: Store, number: int, name: str, data: bytes) -> Beside:
    """Writes a record, gives its entry for the chain.

    Args:
        store: The lake's files.
        number: Its number.
        name: The batch, or what else it is of.
        data: Its content.

    Raises:
        WriteError: The lake refused.
        RetriableError: The store does not answer.
    """
    path = f"{marker.RECORDS}/{marker.file_name(number, name)}"
    store.put(path, pa.py_buffer(data))
    return beside(path, data)


def _data(document: Mapping[str, Any]) -> bytes:
    text = json.dumps({"format": FORMAT, **document}, ensure_ascii=True, separators=(",", ":"))
    return gzip.compress(text.encode(), mtime=0)


def forget(store: Store, batch_id: str, planned_at: str) -> None:
    """Removes the records of a batch's attempts since it was planned: it is planned anew, or done again.

    One from before stays: all objects of the batch had failed when it was done, and the chain has its record.
    """
    store.remove(name for name in _names(store, batch_id) if _is_of(store, name, planned_at))
    remove_unfinished(store, batch_id)


def _is_of(store: Store, name: str, planned_at: str) -> bool:
    with suppress(ReadError), _damage_of(store, name):
        return bool(_document(store, name)["batch"]["planned_at"] == planned_at)
    return True  # a damaged one is of no use


def _names(store: Store, batch_id: str) -> list[str]:
    names = store.sizes(marker.RECORDS)
    return [name for name in names if name.rpartition("/")[2].partition("-")[2] == f"{batch_id}.json.gz"]


def reduced(
    store: Store, batch_id: str, left: Set[tuple[str, str]], files: Mapping[str, Sequence[FileInfo]]
) -> dict[str, bytes]:
    """The record of a finished batch without the objects, none with events, that went into other batches.

    Args:
        store: The lake's files.
        batch_id: The batch.
        left: URI and ETag of the objects that it has still.
        files: Id of the batch, and of those of records of other sources among its own -> its files without events.

    Returns:
        Name of the record -> its bytes; none where it has to go, as no object is left. Nothing where no object went.

    Raises:
        ReadError: It cannot be read, or is of a newer version.
    """
    if not left:
        return dict.fromkeys(_names(store, batch_id), b"")
    by_name: dict[str, bytes] = {}
    for name in _names(store, batch_id):
        with _damage_of(store, name):
            document = _document(store, name)
            if all((uri, etag) in left for uri, etag, *_ in document["objects"]):
                continue
            for one in (document, *document["routed"]):
                _reduce(one, left, files.get(one["batch"]["id"], ()))
            by_name[name] = _data(document)
    return by_name


def _reduce(document: dict[str, Any], left: Set[tuple[str, str]], files: Sequence[FileInfo]) -> None:
    is_left = [(uri, etag) in left for uri, etag, *_ in document["objects"]]
    for name in ("objects", "sha256"):
        if name in document:
            document[name] = list(compress(document[name], is_left))
    of_events = [row for row in document["files"] if row[3] is not None]
    document["files"] = of_events + [_file(file) for file in files]


def has_own(store: Store, batch_id: str) -> bool:
    """Whether a batch has a record; one that is older than the records stands in the checkpoint alone."""
    return bool(_names(store, batch_id))


def put_reduced(store: Store, records: Mapping[str, bytes]) -> None:
    """Puts what `reduced` gave in the place of what is there."""
    for name, data in records.items():
        if data:
            store.put(name, pa.py_buffer(data))
    store.remove(name for name, data in records.items() if not data)


def remove_unfinished(store: Store, name: str) -> None:
    """Removes what was left of a record by who died writing it.

    Args:
        store: The lake's files.
        name: What the record is of; nobody else may be writing one of that name.
    """
    store.remove(path for path in store.unfinished(marker.RECORDS) if f"-{name}.json.gz." in path)


def read_all(store: Store) -> Iterator[Record]:
    """All records, by number.

    Raises:
        ReadError: One cannot be read, or is of a newer version.
    """
    for name in sorted(store.sizes(marker.RECORDS)):
        if name.endswith(".json.gz"):
            yield _read(store, name)


def _read(store: Store, name: str) -> Record:
    with _damage_of(store, name):
        return _record(int(name.rpartition("/")[2].partition("-")[0]), _document(store, name))
    raise AssertionError  # no error is swallowed; mypy does not know


def _document(store: Store, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(gzip.decompress(store.get(name) or b""))
    if document["format"] != FORMAT:
        raise ReadError("a batch's record was written by a newer ocsf-lake; use that one", file=store.uri(name))
    return document


@contextmanager
def _damage_of(store: Store, name: str) -> Iterator[None]:
    """Translates what becomes of a damaged record."""
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise ReadError(
            f"a batch's record is damaged ({error}); without it, what the batch read would be read again: put a copy "
            "of the file back, or remove it together with the batch's files",
            file=store.uri(name),
        ) from error


def _record(number: int, document: dict[str, Any]) -> Record:
    if "batch" not in document:
        reduced = document.get("reduced")
        if reduced is not None:
            reduced = Reduced(tuple(reduced["batches"]), frozenset((uri, etag) for uri, etag in reduced["objects"]))
        return Record(
            number, put=document["put"], gone=tuple(document["gone"]), moved=document.get("moved"), reduced=reduced
        )
    batch, result = _result(number, document)
    routed = [_result(0, one) for one in document["routed"]]
    result.routed = [(replace(one, kind=Kind.ROUTED), theirs) for one, theirs in routed]
    written = document["facts"]
    if written["replay"]:
        batch = replace(batch, kind=Kind.REPLAY, planned_at=written["replay"]["planned_at"])
    facts = Facts(
        written["done_at"], written["worker"], written["policy"], tuple(written["key"]),
        {source: (policy, key) for source, (policy, key) in written["routed"].items()}, written.get("head"),
    )  # fmt: skip
    return Record(number, batch, result, facts)


def _result(number: int, document: dict[str, Any]) -> tuple[Batch, Result]:
    hashes = document.get("sha256") or [None] * len(document["objects"])
    outcomes = {
        ObjectRef(uri, etag, size, stamp): Outcome(Counts(*counts), State(state), reason, lasting, sha256)
        for (uri, etag, size, stamp, state, reason, lasting, *counts), sha256 in zip(
            document["objects"], hashes, strict=True
        )
    }
    files = [
        FileInfo(path, Partition(table, tuple(values)), *rest) for path, table, values, *rest in document["files"]
    ]
    result = Result(
        outcomes, files, document["events_by_class"], document["dropped"], document["failed_casts"],
        document["unmapped_keys"], document["seconds"], document["duplicates"], document["variants"],
        statistics=_statistics_of(document["census"]),
    )  # fmt: skip
    if redaction := document.get("redaction"):
        policy, text, hidden = redaction
        result.redaction, result.redacted = (policy, text), Counter(hidden)
    return Batch(members=tuple(outcomes), number=number, **document["batch"]), result


def _statistics(statistics: Statistics) -> dict[str, Any]:
    counted = {
        name: [[day, key, number] for (day, key), number in getattr(statistics, name).items()]
        for name in ("mapped", "unmapped", "failed")
    }
    drift = [
        [item.kind, item.name, item.text, seen.records, seen.object, seen.record, seen.day]
        for item, seen in statistics.drift.items()
    ]
    return {"events": statistics.events, **counted, "news": drift}


def _statistics_of(document: dict[str, Any]) -> Statistics:
    counted = {
        name: Counter({(day, key): number for day, key, number in document[name]})
        for name in ("mapped", "unmapped", "failed")
    }
    drift = {SchemaDrift(DriftKind(kind), name, text): FirstSeen(*seen) for kind, name, text, *seen in document["news"]}
    return Statistics(Counter(document["events"]), drift=drift, **counted)


def checkpoint(connection: sa.Connection, store: Store) -> None:
    """Writes into the lake all that a ledger knows of finished batches, for batches that have no records."""
    import pyarrow.parquet as pq  # once in a lake's life, and it takes longer to load than most of what reads one

    tables = {name: table for name, table in SHOWN.items() if name != ABOUT.name}
    # As text: SQLAlchemy would take longer to compile it, once in each new lake, than all the rest here takes.
    query = "SELECT " + ", ".join(f'EXISTS (SELECT 1 FROM "{table.name}")' for table in tables.values())
    for (name, table), has_any in zip(tables.items(), connection.exec_driver_sql(query).one(), strict=True):
        if has_any:
            sink = pa.BufferOutputStream()
            pq.write_table(table_of(connection, table), sink, compression="zstd")
            store.put(f"{marker.RECORDS}/{CHECKPOINT}-{name}.parquet", sink.getvalue())
