"""The chain: a record of everything that changed which files a lake has, each with the hash of the one before it.

```
<lake>/_lake/chain/<number>.json      two lines: the record's body, and its hash and signature
```
A record is written in the transaction that makes the change, and put into the lake right after it. Who dies in between
leaves it to the next one: records that are not in the lake yet are known as such. In the lake a record is put once and
never again. Its hash is the SHA-256 of the bytes of the first line; the next record has that hash and the signature, so
that nothing before a record can be changed without changing it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Protocol

import sqlalchemy as sa

from ocsf_lake.ledger import marker
from ocsf_lake.ledger.database import insert_new, lock, select_in
from ocsf_lake.ledger.results import Batch, Result
from ocsf_lake.ledger.signing import Signer
from ocsf_lake.ledger.tables import CHAIN, FILES, RETIRED
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import ReadError

FOLDER = "_lake/chain"
FORMAT = 1
GENESIS = "genesis"
"""Kind of the first record."""
ADOPTED = "adopted"
"""Kind of records that list files from before the chain, or of a program that writes none."""
REMOVAL = "removal"
"""Kind of records of retired files that lie there no more."""
LISTED_FILES = 1_000
"""A lake that has more files when its chain begins has them listed on demand: no ingest waits for that."""
SIGNER = "chain_signer"
"""Option of an engine: who signs the records that are written through it."""
_PORTION = 50


class File(Protocol):
    """A file as records list it: `FileInfo` is one."""

    @property
    def path(self) -> str:
        """Below the lake's root."""

    @property
    def sha256(self) -> str:
        """Of its bytes, in hex."""

    @property
    def bytes(self) -> int:
        """Size."""

    @property
    def rows(self) -> int:
        """Rows in it; 0 where it is no Parquet."""


@dataclass(frozen=True)
class Listed:
    """A file as a record lists it, see `File`."""

    path: str
    sha256: str
    bytes: int
    rows: int


Beside = tuple[str, str, int]
"""A file that is none of rows, such as a batch's record: path, SHA-256 and size. A record's `detail` has those that
were written (`beside`), and the paths of those that went (`beside_removed`)."""


def beside(path: str, data: bytes) -> Beside:
    """A file that is none of rows."""
    return path, hashlib.sha256(data).hexdigest(), len(data)


@dataclass(frozen=True)
class Record:
    """A record as it was read.

    Args:
        number: From 1, without gaps.
        previous: Hash of the record before; "" for the first one.
        previous_signature: Signature of that one.
        kind: What happened: `genesis`, `adopted`, the kind of a batch, `compaction`, `remap`, `removal`, `purge`,
            `reread`, `rebuild`, `rebuild-ledger`, `retention`, `hold` (placed or released), `versions`
            (that went when their locks had ended), `detections` (findings before they are read), `claim` (the lake's
            marker, written anew), `write-off` and `take-back` (of lost files).
        subject: Of what: id of a batch, compaction, hold or run of detections, name of a table.
        at: When, UTC.
        added: Files that the lake has from then on.
        removed: Files that it has no more.
        counts: Of records: read, events, quarantined, dropped.
        detail: What else is to be known.
        key: Id of the key that signed; "" without one.
        body: The bytes that are hashed.
        hash: Of the body, as it stands beside it.
        signature: In hex, "" without one.
    """

    number: int
    previous: str
    previous_signature: str
    kind: str
    subject: str
    at: str
    added: tuple[Listed, ...]
    removed: tuple[Listed, ...]
    counts: Mapping[str, int]
    detail: Mapping[str, Any]
    key: str
    body: bytes = field(repr=False)
    hash: str
    signature: str


# -- writing ----------------------------------------------------------------------------------------------------------
def append(
    connection: sa.Connection, *, kind: str, subject: str = "", added: Iterable[File] = (),
    removed: Iterable[File] = (), counts: Mapping[str, int] | None = None, detail: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Writes a record, in the transaction that makes the change; `publish` puts it into the lake after that.

    Call it last in the transaction: from here on until it ends, nobody else can write a record.

    Args:
        connection: The transaction.
        kind: What happened, a word; see `Record`.
        subject: To what.
        added: Files that the lake has from then on.
        removed: Files that it has no more. Those of a kind in `RETIRING` may still lie there, all others must be gone.
        counts: Of records.
        detail: What else is to be known, as JSON takes it.

    Returns:
        The record's number.
    """
    lock(connection, "chain")
    head = _head(connection)
    if head is None:
        added = list(added)
        head = _begin(connection, {file.path for file in added})
    return _write(connection, head, kind, subject, added, removed, counts or {}, detail or {})


def record_batch(connection: sa.Connection, batch: Batch, result: Result) -> None:
    """Writes the record of a batch that is done."""
    detail: dict[str, Any] = {"source": batch.source, "mapper": batch.mapper_version, "objects": len(batch.members)}
    if result.record is not None:
        detail["beside"] = [result.record]
    append(connection, kind=batch.kind, subject=batch.id, added=result.files, counts=vars(result.counts), detail=detail)


RETIRING = frozenset([GENESIS, "compaction", "remap", "reread", "retention"])
"""Kinds of records whose removed files lie in the lake for a time, for queries that are under way."""


def listed(connection: sa.Connection, paths: Iterable[str]) -> list[Listed]:
    """Files of the ledger, for `append`."""
    row = FILES.c
    query = sa.select(row.path, row.sha256, row.bytes, row.rows)
    return [Listed(*columns) for columns in select_in(connection, query, row.path, list(paths))]


def all_files(connection: sa.Connection) -> Iterator[Listed]:
    """All files of the ledger, some at a time."""
    row = FILES.c
    query = sa.select(row.path, row.sha256, row.bytes, row.rows)
    for columns in connection.execute(query, execution_options={"yield_per": 1_000}):
        yield Listed(*columns)


def of_rows(rows: Iterable[Mapping[str, Any]]) -> list[Listed]:
    """Files of rows of the ledger that are in memory, for `append`."""
    return [Listed(row["path"], row["sha256"], row["bytes"], row["rows"]) for row in rows]


def of_marker(store: Store) -> list[Beside]:
    """The file that names the ledger that the lake belongs to, if it is there."""
    data = store.get(marker.NAME)
    return [] if data is None else [beside(marker.NAME, data)]


def begin(engine: sa.Engine, store: Store) -> None:
    """Writes the first record of a lake that has none."""
    with engine.connect() as connection:
        if _head(connection) is not None:
            return
    with engine.begin() as connection:
        lock(connection, "chain")
        if _head(connection) is None:
            _begin(connection, frozenset(), of_marker(store))


def _begin(connection: sa.Connection, new: Iterable[str], besides: Sequence[Beside] = ()) -> _Head:
    """Lists what the ledger has of files so far, where that is not too much. Nothing is read or hashed for it.

    The hashes are those of the bytes as they were written: a file that was changed since is found by them.
    """
    row = FILES.c
    is_old = row.path.not_in(list(new))
    number, rows, size = connection.execute(
        sa.select(sa.func.count(), sa.func.sum(row.rows), sa.func.sum(row.bytes)).where(is_old)
    ).one()
    left = sa.select(RETIRED).where(RETIRED.c.removed_at.is_(None))
    retired = connection.scalar(sa.select(sa.func.count()).select_from(left.subquery())) or 0
    is_listed = number + retired <= LISTED_FILES
    detail = {
        "ledger": marker.ledger_id(connection), "files": number, "rows": int(rows or 0), "bytes": int(size or 0),
        "listed": is_listed, "version": version("ocsf-lake"), "beside": list(besides),
    }  # fmt: skip
    old, gone = [], []
    if is_listed:
        old = [Listed(*columns) for columns in connection.execute(
            sa.select(row.path, row.sha256, row.bytes, row.rows).where(is_old))]  # fmt: skip
        gone = [Listed(item.path, item.sha256, item.bytes, item.rows) for item in connection.execute(left)]
    _write(connection, _Head(0, "", ""), GENESIS, "", old, gone, {}, detail)
    head = _head(connection)
    assert head is not None
    return head


@dataclass(frozen=True)
class _Head:
    number: int
    hash: str
    signature: str


def _head(connection: sa.Connection) -> _Head | None:
    row = CHAIN.c
    query = sa.select(row.number, row.hash, row.signature).order_by(row.number.desc()).limit(1)
    last = connection.execute(query).first()
    return None if last is None else _Head(*last)


def _write(
    connection: sa.Connection, head: _Head, kind: str, subject: str, added: Iterable[File], removed: Iterable[File],
    counts: Mapping[str, int], detail: Mapping[str, Any],
) -> int:  # fmt: skip
    signer: Signer | None = connection.get_execution_options().get(SIGNER)
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    document = {
        "format": FORMAT, "number": head.number + 1, "previous": head.hash, "previous_signature": head.signature,
        "kind": kind, "subject": subject, "at": at, "added": _rows(added), "removed": _rows(removed),
        "counts": dict(counts), "detail": dict(detail), "key": signer.key_id if signer else "",
    }  # fmt: skip
    body = canonical(document)
    own_hash = hashlib.sha256(body).hexdigest()
    row = {
        "number": head.number + 1, "kind": kind, "subject": subject, "at": at, "hash": own_hash,
        "signature": signer.sign(own_hash) if signer else "", "body": body.decode(), "in_lake": 0,
    }  # fmt: skip
    connection.execute(sa.insert(CHAIN), row)
    return head.number + 1


def _rows(files: Iterable[File]) -> list[list[object]]:
    return sorted([file.path, file.sha256, file.bytes, file.rows] for file in files)


def canonical(document: Mapping[str, Any]) -> bytes:
    """The bytes that stand for a document: JSON in one line of ASCII, members sorted, without spaces."""
    return json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


# -- in the lake ------------------------------------------------------------------------------------------------------
def name(number: int) -> str:
    """Name of a record's file; names are in the order of numbers."""
    return f"{FOLDER}/{number:012d}.json"


def content(body: str, own_hash: str, signature: str) -> bytes:
    """What a record's file holds."""
    return body.encode() + b"\n" + canonical({"hash": own_hash, "signature": signature}) + b"\n"


def publish(engine: sa.Engine, store: Store) -> int:
    """Puts records into the lake that are not there yet, in their order; gives how many.

    A file of that name that is there already is left as it is, whatever it holds: `ocsf-lake verify lake` compares it.

    Raises:
        WriteError: The lake refused.
        RetriableError: The store or the database does not answer.
    """
    row = CHAIN.c
    query = (
        sa.select(row.number, row.body, row.hash, row.signature)
        .where(row.in_lake == sa.literal_column("0"))
        .order_by(row.number)
        .limit(_PORTION)
    )
    done = 0
    while True:
        with engine.connect() as connection:
            waiting = connection.execute(query).all()
        if not waiting:
            return done
        for number, *columns in waiting:
            store.put_once(name(number), content(*columns))
        with engine.begin() as connection:
            last = waiting[-1].number
            own = row.in_lake == sa.literal_column("0"), row.number.between(waiting[0].number, last)
            connection.execute(sa.update(CHAIN).where(*own).values(in_lake=1))
        done += len(waiting)


# -- reading ----------------------------------------------------------------------------------------------------------
def parsed(data: bytes) -> Record:
    """A record from the bytes of its file, whether its hash is right or not.

    Raises:
        ReadError: It is none.
    """
    body, _, rest = data.partition(b"\n")
    try:
        document, seal = json.loads(body), json.loads(rest)
        if document["format"] != FORMAT:
            raise ReadError("a record of a newer ocsf-lake; use that one")
        if data != content(canonical(document).decode(), seal["hash"], seal["signature"]):
            raise ReadError("it is not written as records are")
        texts = ("previous", "previous_signature", "kind", "subject", "at")
        return Record(
            int(document["number"]), **{key: str(document[key]) for key in texts},
            added=_files(document["added"]), removed=_files(document["removed"]), counts=dict(document["counts"]),
            detail=dict(document["detail"]), key=str(document["key"]), body=body, hash=str(seal["hash"]),
            signature=str(seal["signature"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReadError(f"it is no record ({type(error).__name__})") from error


def _files(rows: Iterable[Iterable[Any]]) -> tuple[Listed, ...]:
    return tuple(Listed(str(path), str(sha256), int(size), int(number)) for path, sha256, size, number in rows)


def is_there(connection: sa.Connection) -> bool:
    """Whether the ledger has a table of records: one that only an older version has opened has none."""
    return CHAIN.name in sa.inspect(connection).get_table_names()


def last_number(connection: sa.Connection) -> int:
    """Number of the ledger's last record; 0 without one."""
    head = _head(connection)
    return head.number if head is not None else 0


def rows(connection: sa.Connection, after: int = 0) -> Iterator[sa.Row[Any]]:
    """The ledger's records after a number, in order, some at a time."""
    query = sa.select(CHAIN).order_by(CHAIN.c.number).limit(_PORTION)
    while portion := connection.execute(query.where(CHAIN.c.number > after)).all():
        yield from portion
        after = portion[-1].number


def restore(connection: sa.Connection, store: Store) -> None:
    """Puts the records of the lake into a ledger that has none; what cannot be read has its place all the same.

    Raises:
        RetriableError: The store does not answer.
    """
    for path in sorted(store.sizes(FOLDER)):
        number = path.rpartition("/")[2].removesuffix(".json")
        if not (path.endswith(".json") and number.isascii() and number.isdigit()):
            continue
        data = store.get(path) or b""
        body, _, _ = data.partition(b"\n")
        row = {
            "number": int(number), "kind": "", "subject": "", "at": "", "hash": hashlib.sha256(body).hexdigest(),
            "signature": "", "body": body.decode("utf-8", "replace"), "in_lake": 1,
        }  # fmt: skip
        try:
            record = parsed(data)
        except ReadError:
            pass
        else:
            row |= {key: getattr(record, key) for key in ("kind", "subject", "at", "hash", "signature")}
        insert_new(connection, CHAIN, [row])
