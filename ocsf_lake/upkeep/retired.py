"""Files whose rows are in others since a compaction, or in none since a retention: removed when nobody reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ocsf_lake.ingest import moving
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import compactions, generations, holds, versions
from ocsf_lake.ledger.compactions import RetiredFile
from ocsf_lake.ledger.database import Connection
from ocsf_lake.ledger.holds import Hold
from ocsf_lake.ledger.versions import Hidden
from ocsf_lake.storage import layout
from ocsf_lake.storage.layout import Partition
from ocsf_lake.text import plural
from ocsf_lake.upkeep import quarantine

AT_ONCE = 50
"""Files that are removed in one transaction, for which whoever wants to place a hold waits."""


@dataclass
class Removed:
    """What was removed.

    Args:
        files: Files.
        bytes: Their size.
        held: Files that a legal hold keeps.
        versions: Versions of files of before, whose locks had ended.
        locked: Versions that should go by the ledger, and that the store keeps.
    """

    files: int = 0
    bytes: int = 0
    held: int = 0
    versions: int = 0
    locked: int = 0

    @property
    def of_versions(self) -> list[str]:
        """What became of versions, in words."""
        parts = [f"{plural(self.versions, 'locked version')} of an earlier run removed"] if self.versions else []
        return parts + ([f"{plural(self.locked, 'version')} kept by the store"] if self.locked else [])


def remove(lake: Lake, moment: datetime) -> Removed:
    """Removes files that were retired long enough ago; those that a hold or a snapshot of Iceberg keeps stay.

    Raises:
        WriteError: The lake refused; running again continues.
        RetriableError: A store, catalog or database does not answer.
    """
    before = (moment - timedelta(hours=lake.settings.compact_grace_hours)).isoformat(timespec="milliseconds")
    at = moment.isoformat(timespec="milliseconds")
    removed = Removed()
    with lake.ledger.engine.connect() as connection:
        over = compactions.removable(connection, before)
    for table, files in over.items():
        in_use: set[str] = set()
        for catalog in lake.catalog.all:
            in_use |= catalog.in_snapshots(table)
        unread = [file for file in files if lake.store.uri(file.path) not in in_use]
        with lake.leases.held(moving.lease(table)) as lease:
            if lease is None:
                continue
            gone: list[RetiredFile] = []
            for start in range(0, len(unread), AT_ONCE):
                lease.check()
                some = unread[start : start + AT_ONCE]
                free = _remove(lake, table, some, at)
                removed.held += len(some) - len(free)
                gone += free
            lake.publish_chain()
        removed.files += len(gone)
        removed.bytes += sum(file.bytes for file in gone)
    if lake.settings.object_lock is not None:
        _remove_versions(lake, at, removed)
    return removed


def _remove_versions(lake: Lake, at: str, removed: Removed) -> None:
    """Removes versions of files that were removed before, by their ids, where due and not on hold."""
    with lake.ledger.engine.connect() as connection:
        due = versions.due(connection, at)
    for start in range(0, len(due), AT_ONCE):
        with lake.ledger.engine.begin() as connection:
            standing = holds.keep(connection)
            free = [item for item in due[start : start + AT_ONCE] if not _is_held(standing, item)]
            gone = [item for item in free if lake.store.remove_version(item.path, item.id)]
            moving.failpoint("versions removed", "")
            versions.removed(connection, gone, at)
        removed.versions += len(gone)
        removed.locked += len(free) - len(gone)
    if due:
        lake.publish_chain()


def _is_held(standing: Sequence[Hold], item: Hidden) -> bool:
    if item.table_name == versions.PURGED:
        return bool(quarantine.keeping(standing, item.values[0]))
    return bool(holds.of(standing, item.table_name, item.values))


def _remove(lake: Lake, table: str, files: Sequence[RetiredFile], at: str) -> list[RetiredFile]:
    """Removes those of some files that no hold keeps; while it does, none is placed."""
    with lake.ledger.engine.begin() as connection:
        standing = holds.keep(connection)
        free = [file for file in files if not holds.of(standing, table, file.values.split("/"))]
        paths = [file.path for file in free]
        hidden = lake.versions(paths)
        lake.store.remove(paths)
        moving.failpoint("removed", table)
        plans = _plans(lake, connection, table, free)
        lake.store.remove(plans)
        versions.note(connection, table, hidden, lake.lock_days, at)
        compactions.note_removed(connection, table, paths, at, plans, versions.ids(hidden))
    return free


def _plans(lake: Lake, connection: Connection, table: str, gone: Sequence[RetiredFile]) -> list[str]:
    """The plan files of folders whose files are all gone, or were, when somebody died who removed them.

    What a batch that died has left in a folder does not count, but where its partition's files belong now.
    """
    partitions = {file.values: Partition(table, tuple(file.values.split("/"))) for file in gone}
    left = compactions.left(connection, table, sorted(partitions), [file.path for file in gone])
    now = generations.current(connection, set(partitions.values()))
    before = {layout.folder_of(file.path) for file in gone} - {*now.values(), *map(layout.folder_of, left)}
    emptied = {now[partitions[file.values]] for file in gone if file.is_retained and file.values not in left.values()}
    plans = {folder: f"{folder}/{layout.PLAN}" for folder in sorted(before | emptied) if layout.is_compacted(folder)}
    return [plan for folder, plan in plans.items() if folder in before or lake.store.sizes(folder).keys() <= {plan}]
