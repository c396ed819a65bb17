"""Snapshots of Iceberg's tables that are old enough to go, and files of metadata that none of those left names.

Parquet files are not touched: those that no snapshot reads any more are removed by `ocsf_lake.upkeep.compact`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.table import Table

from ocsf_lake.catalogs.base import Expired
from ocsf_lake.storage import retry

SAFE_AGE = timedelta(days=1)
"""A commit under way has written files that nothing names yet; none takes so long."""

_METADATA = (".avro", ".metadata.json")


def expire(table: Table, folder: str, before: datetime, *, dry_run: bool = False) -> Expired:
    """Expires snapshots made before a moment, but for the newest one and those of other branches and of tags.

    Metadata is removed that no kept snapshot names: of snapshots that expired, and of commits that were interrupted or
    lost to others.

    Args:
        table: The table.
        folder: Where metadata of our tables lies; a table elsewhere is expired and its folder is left alone, as it is
            where properties of the catalog name another kind of access to files.
        before: The moment, with a zone.
        dry_run: Only report what would be done.
    """
    ref_ids = {ref.snapshot_id for ref in table.metadata.refs.values()}
    old = [
        snapshot.snapshot_id for snapshot in table.snapshots()
        if snapshot.timestamp_ms < before.timestamp() * 1000 and snapshot.snapshot_id not in ref_ids
    ]  # fmt: skip
    metadata = f"{folder}/metadata"
    # Listed before the table is looked at again: what a commit writes meanwhile is not among it.
    is_ours = table.location() == folder and isinstance(table.io, FsspecFileIO)
    files = dict(_listed(table, metadata)) if is_ours else {}
    if old and not dry_run:
        table.maintenance.expire_snapshots().by_ids(old).commit()
    table.refresh()
    referenced = _referenced(table, set(old))
    orphans = {path: size for path, size in files.items() if path.rpartition("/")[2] not in referenced}
    if orphans and not dry_run:
        _remove(table, metadata, orphans)
    return Expired(table.name()[-1], len(old), len(orphans), sum(orphans.values()))


def _referenced(table: Table, without: set[int]) -> set[str]:
    """Names of the files of metadata that a table needs; they are unique without their folder."""
    paths = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    for snapshot in table.snapshots():
        if snapshot.snapshot_id not in without:
            paths.add(snapshot.manifest_list)
            paths |= {manifest.manifest_path for manifest in snapshot.manifests(table.io)}
    return {path.rpartition("/")[2] for path in paths}


def _files(table: Table, uri: str) -> tuple[Any, str]:
    """The file system, and its own name for a place."""
    assert isinstance(table.io, FsspecFileIO)
    fs = table.io.get_fs(uri.partition("://")[0])
    return fs, fs._strip_protocol(uri)


def _listed(table: Table, metadata: str) -> Iterator[tuple[str, int]]:
    """Path and size of each file of metadata that is old enough."""
    fs, folder = _files(table, metadata)
    fs.invalidate_cache()
    before = datetime.now(UTC) - SAFE_AGE
    for path, info in retry.call(fs.find, folder, detail=True).items():
        if path.endswith(_METADATA) and _modified(info) < before:
            yield path, int(info["size"])


def _modified(info: Mapping[str, Any]) -> datetime:
    """When a file was written, as file systems have it, each in its way; just now where one does not."""
    moment = info.get("LastModified") or info.get("mtime")
    if isinstance(moment, datetime):
        return moment
    return datetime.fromtimestamp(moment, UTC) if moment else datetime.now(UTC)


def _remove(table: Table, metadata: str, paths: Mapping[str, int]) -> None:
    fs, _ = _files(table, metadata)
    for path in paths:
        try:
            retry.call(fs.rm_file, path)
        except FileNotFoundError:  # another worker was quicker
            continue
