"""One shipment to a custom source: files of one partition of the lake become objects of Security Lake.

The rows of all files are put in one order (time, then object and record), a span of time after the other, and cut into
objects of bounded size. An object's name has the numbers of the shipment's rows in it, so the same name always
stands for the same events: what is there already is never written again, and a shipment that was interrupted goes on.

Exported events hold attributes of OCSF alone. What the lake has beside them goes into `unmapped`, under the names of
`KEPT`; account and day are in the object's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ocsf_lake.export.custom_source import CustomSource
from ocsf_lake.ingest.batch import failpoint
from ocsf_lake.lake import Lake
from ocsf_lake.ledger.exports import Exports, Shipment, ShippedFile, ShippedObject
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.results import CountError
from ocsf_lake.storage import fetched, ordered
from ocsf_lake.storage.store import Store
from ocsf_mappers import registry, sqltext, temporary
from ocsf_mappers.ocsf import tables

KEPT = {f"ocsf_lake.{name}": name for name in tables.PROVENANCE.names}
"""Key in an exported event's `unmapped` -> column of the lake."""
KEPT_WHERE = {"ocsf_lake.region": ("region", "cloud.region"), "ocsf_lake.asl_version": ("asl_version", None)}
"""Key in `unmapped` -> column, and the attribute with the same value in most events; in the others it is kept."""


class Sender:
    """Sends shipments of one custom source.

    Args:
        lake: The lake.
        target: Where events go.
        lease: Held for the custom source.
        clock: Gives the time, with a zone.
    """

    def __init__(self, lake: Lake, target: CustomSource, lease: Lease, clock: Callable[[], datetime]) -> None:
        self.lake = lake
        self.settings = lake.settings
        self.target = target
        self.lease = lease
        self.clock = clock
        self.exports: Exports = lake.exports(target.uri)
        self.store = Store(target.uri, target.access(lake.settings))

    def send(self, shipment: Shipment) -> list[ShippedObject]:
        """Writes what is missing of a shipment, and marks it done.

        Returns:
            All of its objects.

        Raises:
            LakeFileError: A file of it is gone or damaged; nothing of it is written before that is mended.
            CountError: The objects would not have the rows of the files.
            LostError: Another exporter may have taken over.
            WriteError: Security Lake's bucket refused.
            RetriableError: A store or the database does not answer.
        """
        with temporary.directory("export") as name:
            folder = Path(name)
            paths = _fetched(self.lake.store, self.exports.files(shipment), folder)
            noted = {item.first_row: item for item in self.exports.objects(shipment)}
            sent: list[ShippedObject] = []
            facts = ordered.Facts.of(paths)
            with _sorted(paths, facts, self.target.source, folder) as batches:
                rows = ordered.Rows(batches, columns(self.target.source), self.settings)
                start, step = 0, facts.step(self.settings)
                while rows.more():
                    shipped = self._sent(shipment, start, rows, noted.get(start), folder / "object.parquet", step)
                    sent.append(shipped)
                    start += shipped.rows
            _check(shipment, start)
        self.exports.finish(self.lake.store, shipment, self.clock())
        failpoint("shipped", shipment.id)
        return sent

    def _sent(
        self, shipment: Shipment, start: int, rows: ordered.Rows, noted: ShippedObject | None, file: Path, step: int
    ) -> ShippedObject:
        """The object from one row of the shipment on, written if it is not there."""
        if noted is not None and noted.written_at is not None:
            rows.skip(noted.rows)
            return noted
        # An object that was noted keeps its rows, whatever its size comes to be now: it may be there already.
        most = self.settings.export_object_bytes
        number = ordered.write(rows, file, noted.rows if noted else None, self.settings, step, most)
        if noted and number != noted.rows:
            raise CountError(f"an object was planned with {noted.rows:,} rows, and {number:,} are left for it")
        if not rows.more():
            _check(shipment, start + number)
        name = f"{shipment.id}-{start:012d}-{number:09d}.parquet"
        name = f"{self.target.folder(shipment.account, shipment.day)}/{name}"
        shipped = ShippedObject(self.store.uri(name), start, number, file.stat().st_size, fetched.sha256(file))
        self.exports.begin(shipment, shipped)
        failpoint("noted", shipment.id)
        self.lease.check()
        if not self.store.put_new(name, file) and noted is not None:
            # An attempt that was interrupted had put it, maybe with other bytes for the same rows.
            shipped = replace(shipped, bytes=noted.bytes, sha256=noted.sha256)
        failpoint("put", shipment.id)
        self.exports.written(shipment, shipped, self.clock())
        failpoint("object", shipment.id)
        return shipped


def _check(shipment: Shipment, rows: int) -> None:
    if rows != shipment.rows:
        raise CountError(
            f"the files of a shipment have {shipment.rows:,} rows and its objects {rows:,}", shipment=shipment.id
        )


# -- files of the lake ------------------------------------------------------------------------------------------------
def _fetched(store: Store, files: Sequence[ShippedFile], folder: Path) -> list[Path]:
    """The files on this machine's disk, each with the bytes and rows that were written."""
    paths = fetched.fetch(store, [(file.path, file.sha256) for file in files], folder)
    for file, path in zip(files, paths, strict=True):
        rows = pq.read_metadata(path).num_rows
        if rows != file.rows:
            raise CountError(f"a file was planned with {file.rows:,} rows and has {rows:,}", file=file.path)
    return paths


# -- rows in order ----------------------------------------------------------------------------------------------------
def columns(source: str) -> pa.Schema:
    """The columns of a source's exported events: those of its tables that are attributes of OCSF."""
    table = registry.load(source).lake_table
    return pa.schema([field for field in table.arrow if field.name not in tables.OUTSIDE_OCSF])


@contextmanager
def _sorted(
    paths: Sequence[Path], facts: ordered.Facts, source: str, folder: Path
) -> Iterator[Iterator[pa.RecordBatch]]:
    """The rows of all files in their order, as exported events."""
    with closing(ordered.connect(folder)) as connection:
        names = sqltext.texts([str(path) for path in paths])
        files = f"read_parquet({names}, union_by_name = true, hive_partitioning = false)"
        selected = f"SELECT {_selected(connection, files, source)} FROM {files}"
        yield ordered.spans(connection, selected, ordered.bounds(connection, files, facts.bytes))


def _selected(connection: duckdb.DuckDBPyConnection, files: str, source: str) -> str:
    present = connection.sql(f"SELECT * FROM {files} LIMIT 0").to_arrow_table().schema
    schema = columns(source)
    if strange := sorted(set(present.names) - set(schema.names) - tables.OUTSIDE_OCSF):
        raise CountError(f"files of the lake have columns that this release does not know: {', '.join(strange)}")
    chosen = []
    for name in schema.names:
        quoted = sqltext.name(name)
        if name == "unmapped":
            chosen.append(f"{_unmapped(present)} AS unmapped")
        else:
            # Files of an older release may lack a column.
            chosen.append(quoted if name in present.names else f"NULL AS {quoted}")
    return ", ".join(chosen)


def _unmapped(present: pa.Schema) -> str:
    """What the source left over, and what the lake adds to the event; of two equal keys the lake's counts."""
    nothing = "MAP([]::VARCHAR[], []::VARCHAR[])"
    members = ", ".join(f"{sqltext.text(key)}: {sqltext.name(name)}::VARCHAR" for key, name in KEPT.items())
    parts = [f"coalesce(unmapped, {nothing})", f"MAP {{{members}}}"]
    for key, (name, attribute) in KEPT_WHERE.items():
        if name in present.names:
            other = attribute if attribute and _has(present, attribute) else "NULL"
            kept = f"MAP {{{sqltext.text(key)}: {name}}}"
            parts.append(f"CASE WHEN {name} IS DISTINCT FROM {other} THEN {kept} ELSE {nothing} END")
    return f"map_concat({', '.join(parts)})"


def _has(present: pa.Schema, attribute: str) -> bool:
    """Whether an object's member is among the columns."""
    name, _, member = attribute.partition(".")
    return name in present.names and present.field(name).type.get_field_index(member) >= 0
