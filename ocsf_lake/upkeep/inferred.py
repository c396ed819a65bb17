"""Batches inferred from the rows of a lake, where no record has them: see `ocsf_lake.upkeep.rebuild_ledger`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ocsf_lake.catalogs import definitions
from ocsf_lake.catalogs.definitions import OUTCOMES, QUARANTINE, definition
from ocsf_lake.ledger import marker
from ocsf_lake.ledger.database import Connection
from ocsf_lake.ledger.ledger import now, put_done
from ocsf_lake.ledger.results import Batch, Kind, Outcome, Result
from ocsf_lake.storage import layout
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.storage.store import Store
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.ocsf import tables


@dataclass
class _Batch:
    source: str = ""
    mapper_version: str = ""
    ocsf_version: str = ""
    files: list[FileInfo] = field(default_factory=list)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    quarantined: Counter[tuple[str, str]] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    closed: Counter[tuple[str, str]] = field(default_factory=Counter)
    entries: int = 0


def prefixes() -> list[str]:
    """The folders that hold files of batches, of tables that no source has any more among them."""
    prefixes = (definition(name).prefix for name in definitions.names())
    others = (prefix for prefix in prefixes if not prefix.startswith(tables.OWN))
    return [*others, tables.OWN.rstrip("/"), layout.COMPACTED]


def put(connection: Connection, store: Store, paths: Sequence[str]) -> None:
    """Writes the batches, objects and files that these files of the lake are evidence of.

    Args:
        connection: An empty ledger.
        store: The lake's files.
        paths: All of them.

    Raises:
        ConfigError: Some are of a table that no source has: their source is not known.
    """
    batches: dict[str, _Batch] = {}
    placed = list(_placed(paths))
    own = {path.removeprefix(f"{layout.COMPACTED}/") for path in paths if marker.is_ours(path)}
    names = {path.split("/")[1] for path in own if path.startswith(tables.OWN)}
    if lost := sorted(names - {partition.table for _, partition in placed}):
        raise ConfigError(f"table {', '.join(lost)}: {definitions.NO_SOURCE}")
    for path, partition in placed:
        batch = batches.setdefault(layout.batch_of(path), _Batch())
        _read(store, path, partition, batch)
    # Replays last: they change what the batches before them counted.
    for batch_id, batch in sorted(batches.items(), key=lambda item: (item[1].entries > 0, item[0])):
        _put(connection, batch_id, batch)


def _placed(paths: Sequence[str]) -> Iterator[tuple[str, Partition]]:
    names = definitions.names()
    places = {definition(name).prefix: name for name in names}
    for path in _current(paths):
        folder, _, name = path.rpartition("/")
        if layout.is_compacted(folder):
            folder = folder.removeprefix(f"{layout.COMPACTED}/").rpartition("/")[0]
        for prefix, table in places.items():
            if folder.startswith(f"{prefix}/") and name.endswith(".parquet") and not name.startswith("."):
                steps = folder.removeprefix(f"{prefix}/").split("/")
                yield path, Partition(table, tuple(step.partition("=")[2] for step in steps))


def _current(paths: Sequence[str]) -> Iterator[str]:
    """The files of each partition's last generation that is complete; those before have the same rows."""
    complete: dict[str, int] = {}
    for path in paths:
        if path.endswith(f"/{layout.PLAN}"):
            partition, generation = _generation(path)
            complete[partition] = max(complete.get(partition, 0), generation)
    for path in paths:
        partition, generation = _generation(path)
        if generation == complete.get(partition, 0):
            yield path


def _generation(path: str) -> tuple[str, int]:
    """Folder in which a file's partition begins, and the file's generation."""
    folder = layout.folder_of(path)
    if not layout.is_compacted(folder):
        return folder, 0
    folder, _, generation = folder.removeprefix(f"{layout.COMPACTED}/").rpartition("/")
    return folder, int(generation.removeprefix("g"))


def _read(store: Store, path: str, partition: Partition, batch: _Batch) -> None:
    data = store.get(path) or b""
    file = pq.ParquetFile(pa.BufferReader(data))
    name = partition.table
    class_uid = None
    if name in registry.tables():
        rows = file.read(["source_object", "source_etag", "mapper_version", "class_uid", "class_name", "metadata"])
        batch.source = batch.source or _source(name, rows["metadata"][0].as_py()["product"])
        batch.events.update(_keys(rows))
        batch.classes.update(rows["class_name"].to_pylist())
        class_uid = rows["class_uid"][0].as_py()
        batch.mapper_version = rows["mapper_version"][0].as_py()
        batch.ocsf_version = rows["metadata"][0].as_py()["version"]
    elif name in (QUARANTINE, OUTCOMES):
        rows = file.read()
        batch.source = partition.values[0]
        batch.mapper_version = rows["mapper_version"][0].as_py()
        batch.ocsf_version = rows["ocsf_version"][0].as_py()
        if name == QUARANTINE:
            batch.quarantined.update(_keys(rows))
        else:
            batch.entries += len(rows)
            batch.closed.update(_keys(rows.filter(pa.compute.equal(rows["state"], "closed"))))
    digest = hashlib.sha256(data).hexdigest()
    batch.files.append(FileInfo(path, partition, class_uid, file.metadata.num_rows, len(data), digest))


def _source(table: str, product: dict[str, Any]) -> str:
    """The source whose event is of this product, of those that fill the table; "" where none does."""
    names = [name for name, source in registry.sources().items() if table in source.mapper.tables]
    for name in names:
        expected = registry.sources()[name].mapper.product
        feature = (product.get("feature") or {}).get("name")
        if (expected.vendor, expected.name, expected.feature) == (product["vendor_name"], product["name"], feature):
            return name
    return names[0] if names else ""


def _keys(rows: pa.Table) -> list[tuple[str, str]]:
    return list(zip(rows["source_object"].to_pylist(), rows["source_etag"].to_pylist(), strict=True))


def _put(connection: Connection, batch_id: str, facts: _Batch) -> None:
    at = now()
    outcomes = {}
    keys = sorted({*facts.events, *facts.quarantined, *facts.closed})
    for key in keys:
        outcome = outcomes[ObjectRef(*key, 0)] = Outcome()
        counts = outcome.counts
        if facts.entries:
            counts.events, counts.quarantined = facts.closed[key], -facts.closed[key]
        else:
            counts.events, counts.quarantined = facts.events[key], facts.quarantined[key]
            counts.read = counts.events + counts.quarantined
    result = Result(outcomes, facts.files, dict(sorted(facts.classes.items())))
    kind = Kind.REPLAY if facts.entries else Kind.INGEST
    batch = Batch(
        batch_id, facts.source, facts.mapper_version, facts.ocsf_version, tuple(outcomes), attempts=1, kind=kind
    )
    put_done(connection, batch, result, at)
