"""Versions of files that were removed under Object Lock: hidden behind a marker, until their dates have passed.

The ledger alone says which versions may go, by their ids: a key may stand for another file by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from ocsf_lake.ledger import chain
from ocsf_lake.ledger.chain import Record
from ocsf_lake.ledger.database import insert_new
from ocsf_lake.ledger.tables import FILES, VERSIONS
from ocsf_lake.storage.s3 import Version

PURGED = "quarantine"
"""The table of what a purge removed."""


@dataclass(frozen=True)
class Hidden:
    """A version that lies behind a marker.

    Args:
        path: Of its file, below the lake's root.
        id: Its id.
        table_name: The table that the file was of.
    """

    path: str
    id: str
    table_name: str

    @property
    def values(self) -> list[str]:
        """Values of the file's partition, by its path."""
        return [step.partition("=")[2] for step in self.path.split("/") if "=" in step]


def ids(versions: Mapping[str, Sequence[Version]]) -> dict[str, list[str]]:
    """Path -> ids of its versions, as the chain has them."""
    return {path: [version.id for version in of_path] for path, of_path in versions.items()}


def note(
    connection: sa.Connection, table: str, versions: Mapping[str, Sequence[Version]], days: int, at: str
) -> None:
    """Notes versions that stay behind a marker, in the transaction that notes their files' removal.

    Args:
        connection: The transaction.
        table: The table of the files.
        versions: Path -> its versions.
        days: How long files are locked.
        at: Now.
    """
    rows = [
        {
            "path": path, "id": version.id, "table_name": table, "hidden_at": at, "removed_at": None,
            "due_at": (version.at + timedelta(days=days)).isoformat(timespec="milliseconds"),
        }
        for path, of_path in versions.items() for version in of_path
    ]  # fmt: skip
    insert_new(connection, VERSIONS, rows)


def due(connection: sa.Connection, at: str) -> list[Hidden]:
    """Versions that are there still and whose dates have passed, the oldest first; none of a file that the lake has."""
    row = VERSIONS.c
    is_live = sa.exists().where(FILES.c.path == row.path)
    query = sa.select(row.path, row.id, row.table_name).where(row.removed_at.is_(None), row.due_at <= at, ~is_live)
    return [Hidden(*item) for item in connection.execute(query.order_by(row.due_at, row.path, row.id))]


def removed(connection: sa.Connection, gone: Sequence[Hidden], at: str) -> None:
    """Notes versions that were removed for good, in the ledger and in the chain; a transaction's last act."""
    if not gone:
        return
    row = VERSIONS.c
    own = row.path == sa.bindparam("of_path"), row.id == sa.bindparam("of_id")
    values = [{"of_path": item.path, "of_id": item.id} for item in gone]
    connection.execute(sa.update(VERSIONS).where(*own).values(removed_at=at), values)
    by_path: dict[str, list[str]] = {}
    for item in gone:
        by_path.setdefault(item.path, []).append(item.id)
    chain.append(connection, kind="versions", detail={"versions_removed": by_path})


def restore(connection: sa.Connection, record: Record) -> None:
    """Takes up again what a record of the chain has of versions, in a ledger that is made anew."""
    table = record.subject if record.kind == chain.REMOVAL else PURGED
    rows = [
        # When they may go is not known any more: whoever asks the store too early is refused.
        {"path": path, "id": version, "table_name": table, "hidden_at": record.at, "due_at": record.at}
        for path, version_ids in _listed(record, "versions") for version in version_ids
    ]  # fmt: skip
    insert_new(connection, VERSIONS, rows)
    for path, version_ids in _listed(record, "versions_removed"):
        own = VERSIONS.c.path == path, VERSIONS.c.id.in_(version_ids)
        connection.execute(sa.update(VERSIONS).where(*own).values(removed_at=record.at))


def _listed(record: Record, what: str) -> Iterator[tuple[str, list[str]]]:
    """Paths and ids as a record has them; what is none, as somebody may have written it, is left out."""
    by_path = record.detail.get(what)
    for path, items in by_path.items() if isinstance(by_path, dict) else ():
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            yield path, items
