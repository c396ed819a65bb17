"""How the ledger stores objects: there are millions, so no text is stored twice that need not be.

Keys of AWS begin alike: with organization, account, region and day. A beginning is stored once, in the table of names,
as are sources and the ids of batches; the object's row has their numbers. An object is identified by all of its URI and
its ETag, nothing shortened: two objects never pass for one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger.database import lock, upsert
from ocsf_lake.ledger.results import State
from ocsf_lake.ledger.tables import NAMES, OBJECT_HASHES, OBJECT_ROWS, OBJECTS, SHOWN
from ocsf_lake.storage.objects import ObjectRef

Key = tuple[str, str]
"""URI and ETag."""

_DAY = re.compile(r"_[0-9]{8}T")
"""In names of AWS's log files the time begins so; what is before is as in all other files of the day."""
_HEX, _TEXT = b"\x01", b"\x00"
_IS_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_SHARED = {"source": "source", "batch_id": "batch"}
"""Column of `OBJECTS` -> column of `OBJECT_ROWS`, which has the number of the text."""
ROWS = 1_000
"""So many are looked for, or moved, at a time."""


def split(uri: str) -> tuple[str, str]:
    """A URI's beginning, which other objects share, and its rest.

    Objects are found by this: were it to change, the ledgers that there are would have to be written anew.
    """
    slash = uri.rfind("/") + 1
    match = _DAY.search(uri, slash)
    cut = match.end() if match else slash
    return uri[:cut], uri[cut:]


def packed(etag: str) -> bytes:
    """An ETag as it is stored: two digits of lower-case hex in a byte, and anything else as it is written."""
    return _HEX + bytes.fromhex(etag) if _IS_HEX.fullmatch(etag) else _TEXT + etag.encode()


def put(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes objects; those that are there already, by URI and ETag, get the new values.

    Args:
        connection: The transaction.
        rows: By columns of `OBJECTS`, all with the same ones.
    """
    uris = [split(row["uri"]) for row in rows]
    shared = {row[column] for row in rows for column in _SHARED if row.get(column) is not None}
    numbers = _numbered(connection, {beginning for beginning, _ in uris} | shared)
    stored = []
    for row, (beginning, rest) in zip(rows, uris, strict=True):
        values = {name: value for name, value in row.items() if name not in _SHARED and name != "uri"}
        values |= {"beginning": numbers[beginning], "rest": rest, "etag": packed(row["etag"])}
        for column, name in _SHARED.items():
            if column in row:
                values[name] = None if row[column] is None else numbers[row[column]]
        stored.append(values)
    upsert(connection, OBJECT_ROWS, ("beginning", "rest", "etag"), stored)


def put_hashes(connection: sa.Connection, hashes: Mapping[Key, str]) -> None:
    """Writes the SHA-256 of objects' content, hex, of objects that are there."""
    numbers = _numbers(connection, {split(uri)[0] for uri, _ in hashes})
    rows = []
    for (uri, etag), sha256 in hashes.items():
        beginning, rest = split(uri)
        row = {"beginning": numbers[beginning], "rest": rest, "etag": packed(etag), "sha256": bytes.fromhex(sha256)}
        rows.append(row)
    upsert(connection, OBJECT_HASHES, ("beginning", "rest", "etag"), rows)


def hashes(connection: sa.Connection, keys: Iterable[Key]) -> dict[Key, str]:
    """The SHA-256 of objects' content, hex, of those that have one."""
    by_key: dict[Key, str] = {}
    row = OBJECT_HASHES.c
    stored = {tuple(item.values()): key for key, item in _stored_by(connection, keys)}
    for start in range(0, len(stored), ROWS):
        some = list(stored)[start : start + ROWS]
        query = sa.select(OBJECT_HASHES).where(sa.tuple_(row.beginning, row.rest, row.etag).in_(some))
        for beginning, rest, etag, sha256 in connection.execute(query):
            by_key[stored[beginning, rest, bytes(etag)]] = bytes(sha256).hex()
    return by_key


def select(connection: sa.Connection, query: sa.Select[Any], uris: Iterable[str]) -> Iterator[sa.Row[Any]]:
    """The rows of a query on `OBJECTS` that are of one of some URIs."""
    pairs = [split(uri) for uri in dict.fromkeys(uris)]
    numbers = _numbers(connection, {beginning for beginning, _ in pairs})
    numbered = [(numbers[beginning], rest) for beginning, rest in pairs if beginning in numbers]
    # JSON of SQLite ends a text at a NUL.
    odd = [pair for pair in numbered if "\0" in pair[1]]
    numbered = [pair for pair in numbered if "\0" not in pair[1]]
    for start in range(0, len(numbered), ROWS):
        yield from connection.execute(_joined(connection, query, numbered[start : start + ROWS]))
    for beginning, rest in odd:
        yield from connection.execute(query.where(OBJECTS.c.beginning == beginning, OBJECTS.c.rest == rest))


def done(connection: sa.Connection, uris: Iterable[str]) -> list[ObjectRef]:
    """The objects that were read under some URIs."""
    row = OBJECTS.c
    query = sa.select(row.uri, row.etag, row.size, row.stamp).where(row.state == State.DONE)
    return [ObjectRef(*columns) for columns in select(connection, query, uris)]


@dataclass(frozen=True)
class Became:
    """What became of an object: its state, the records that were read of it, and where those are."""

    state: str
    read: int
    events: int
    quarantined: int
    dropped: int
    reason: str | None


def became(engine: sa.Engine, uri: str) -> list[Became]:
    """What became of each object that had a URI."""
    row = OBJECTS.c
    query = sa.select(row.state, row.read, row.events, row.quarantined, row.dropped, row.reason)
    with engine.connect() as connection:
        return [Became(*columns) for columns in select(connection, query, [uri])]


def _joined(
    connection: sa.Connection, query: sa.Select[Any], numbered: Sequence[tuple[int, str]]
) -> sa.Select[Any]:
    """A query on `OBJECTS` with these pairs as one more table: what makes databases use the index."""
    if connection.dialect.name == "postgresql":
        numbers, rests = zip(*numbered, strict=True)
        arrays = (
            sa.literal(list(numbers), sa.ARRAY(sa.Integer)), sa.literal(list(rests), sa.ARRAY(sa.Text))
        )  # fmt: skip
        pairs = sa.func.unnest(*arrays).table_valued("beginning", "rest", name="wanted").render_derived()
        return query.where(OBJECTS.c.beginning == pairs.c.beginning, OBJECTS.c.rest == pairs.c.rest)
    pair = sa.func.json_each(json.dumps(numbered)).table_valued("value", name="wanted").c.value
    beginning, rest = (sa.func.json_extract(pair, f"$[{place}]") for place in range(2))
    return query.where(OBJECTS.c.beginning == beginning, OBJECTS.c.rest == rest)


def beginnings(engine: sa.Engine) -> list[tuple[str, str]]:
    """What URIs of objects that were read begin with, see `split`, with their sources."""
    beginning, source = NAMES.alias(), NAMES.alias()
    query = (
        sa.select(beginning.c.name, source.c.name)
        .join_from(OBJECT_ROWS, beginning, beginning.c.id == OBJECT_ROWS.c.beginning)
        .join(source, source.c.id == OBJECT_ROWS.c.source)
        .where(OBJECT_ROWS.c.state == "done")
        .distinct()
        .order_by(beginning.c.name, source.c.name)
    )
    with engine.connect() as connection:
        return [(name, source_name) for name, source_name in connection.execute(query)]


def change(connection: sa.Connection, keys: Iterable[Key], values: Mapping[str, Any]) -> None:
    """Changes objects that are known.

    Args:
        connection: The transaction.
        keys: URIs and ETags.
        values: By columns of `OBJECT_ROWS`, none of which is a number of a text; also expressions of them.
    """
    if rows := _stored(connection, keys):
        connection.execute(sa.update(OBJECT_ROWS).where(*_BY_KEY).values(values), rows)


def remove(connection: sa.Connection, keys: Iterable[Key]) -> None:
    """Forgets objects."""
    if rows := _stored(connection, keys):
        connection.execute(sa.delete(OBJECT_ROWS).where(*_BY_KEY), rows)


def remove_planned(connection: sa.Connection, batch_ids: Sequence[str]) -> None:
    """Forgets objects that are planned and not done, of some batches."""
    numbers = sorted(_numbers(connection, set(batch_ids)).values())
    for number in numbers:
        connection.execute(
            sa.delete(OBJECT_ROWS).where(OBJECT_ROWS.c.batch == number, OBJECT_ROWS.c.state == "planned")
        )


def beginning_with(connection: sa.Connection, folder: str) -> bool:
    """Whether an object's URI begins with this one, of a folder, which ends in a slash."""
    # In the order of bytes a zero comes after a slash.
    within = (NAMES.c.name >= folder) & (NAMES.c.name < f"{folder[:-1]}0")
    has_objects = sa.exists().where(OBJECT_ROWS.c.beginning == NAMES.c.id)
    return connection.execute(sa.select(NAMES.c.id).where(within, has_objects).limit(1)).first() is not None


def take_over(connection: sa.Connection, table: str) -> None:
    """Writes the objects that another table has with the columns of `OBJECTS`; memory holds some thousand."""
    names = [column.name for column in SHOWN[OBJECTS.name].columns]
    query = sa.select(*(sa.column(name) for name in names)).select_from(sa.table(table))
    result = connection.execute(query, execution_options={"stream_results": True, "yield_per": ROWS})
    for part in result.partitions():
        put(connection, [row._asdict() for row in part])


_BY_KEY = (
    OBJECT_ROWS.c.beginning == sa.bindparam("of_beginning"),
    OBJECT_ROWS.c.rest == sa.bindparam("of_rest"),
    OBJECT_ROWS.c.etag == sa.bindparam("of_etag"),
)


def _stored_by(connection: sa.Connection, keys: Iterable[Key]) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Each object, as it is stored, by URI and ETag."""
    every = list(dict.fromkeys(keys))
    numbers = _numbers(connection, {split(uri)[0] for uri, _ in every})
    for uri, etag in every:
        beginning, rest = split(uri)
        if beginning in numbers:
            yield (uri, etag), {"of_beginning": numbers[beginning], "of_rest": rest, "of_etag": packed(etag)}


def _stored(connection: sa.Connection, keys: Iterable[Key]) -> list[dict[str, Any]]:
    rows = (row for _, row in _stored_by(connection, keys))
    return sorted(rows, key=lambda row: (row["of_beginning"], row["of_rest"], row["of_etag"]))


_NAMED = sa.select(NAMES.c.name, NAMES.c.id)
_NUMBERS = {
    "sqlite": _NAMED.where(NAMES.c.name.in_(sa.bindparam("names", expanding=True))),
    # One array: see `database.select_in`.
    "postgresql": _NAMED.where(NAMES.c.name == sa.any_(sa.bindparam("names", type_=sa.ARRAY(sa.Text)))),
}
"""The query by dialect. It is asked several times for each batch, and takes longer to put together than to run."""


def _numbers(connection: sa.Connection, names: Iterable[str]) -> dict[str, int]:
    """The numbers of those of these texts that have one."""
    ordered = sorted(names)
    numbers: dict[str, int] = {}
    for start in range(0, len(ordered), ROWS):
        rows = connection.execute(_NUMBERS[connection.dialect.name], {"names": ordered[start : start + ROWS]})
        numbers.update(row._tuple() for row in rows)
    return numbers


def _numbered(connection: sa.Connection, names: set[str]) -> dict[str, int]:
    """The numbers of texts, which get one where they have none."""
    numbers = _numbers(connection, names)
    if missing := names - numbers.keys():
        lock(connection, "names")  # until the transaction ends: nobody else numbers the same ones
        numbers |= _numbers(connection, missing)
        if missing := names - numbers.keys():
            connection.execute(sa.insert(NAMES), [{"name": name} for name in sorted(missing)])
            numbers |= _numbers(connection, missing)
    return numbers
