"""Events of a lake forwarded to a sink: each once as far as the sink can tell, whatever interrupts it.

A forwarding takes the files of finished batches that it has not sent, those of an account and day together, and sends
them in parts of a fixed number of rows. Shipments and parts stand in the ledger as those of exports do, see
`ledger.exports`: what is compacted meanwhile is not sent again. A part that is not noted as sent is sent again, under
the same ids.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ocsf_lake.config import Settings
from ocsf_lake.export import sinks
from ocsf_lake.export.sinks import Event, RefusedEventsError, Sink
from ocsf_lake.ingest.batch import failpoint
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger.exports import Exports, Shipment, ShippedObject, WaitingFile
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.results import ID_DIGITS, CountError
from ocsf_lake.storage import fetched
from ocsf_lake.storage.fetched import LakeFileError
from ocsf_lake.storage.store import Store
from ocsf_lake.text import plain, plural, rows
from ocsf_mappers import registry, temporary
from ocsf_mappers.errors import ConfigError, OcsfMappersError
from ocsf_mappers.ocsf import schema

SHIPMENT_FILES = 50
"""Files of one shipment, at most: one that is damaged keeps back those that it is sent with."""


@dataclass
class Summary:
    """What a forwarding did.

    Args:
        target: The sink.
        events: Events that it took, and that were not noted as taken before.
        shipments: Groups of files that are sent whole.
        errors: What is left to the next run, and why.
        busy: Whether another forwarding to the sink was going on, so that this one did nothing.
    """

    target: str
    events: int = 0
    shipments: int = 0
    errors: list[str] = field(default_factory=list)
    busy: bool = False

    @property
    def message(self) -> str:
        """The forwarding in one line."""
        if self.busy:
            return f"events are being forwarded to {self.target} already; nothing was done"
        return f"{plural(self.events, 'event')} forwarded to {self.target}"


def forward(
    settings: Settings, source: str, target: str, key_variable: str | None = None, sign: str | None = None, *,
    sleep: sinks.Sleep = time.sleep,
) -> Summary:  # fmt: skip
    """Sends a source's new events to a sink.

    Args:
        settings: The lake.
        source: Name of the source; `lake_detections` for findings.
        target: The sink, see `sinks.sink`.
        key_variable: Environment variable with what the sink asks for.
        sign: See `sinks.sink`.
        sleep: Waits; tests do not.

    Raises:
        ConfigError: The sink cannot be used, or refuses us.
        RetriableError: The sink or the ledger does not answer; running again continues.
        WriteError: A store refuses.
    """
    mapper = registry.load(source)
    _check_outside(settings, target)
    sink = sinks.sink(target, source, key_variable, settings.lake_access, settings.mask, sleep, sign)
    with closing(sink) as to:
        summary = Summary(to.uri)
        lock = hashlib.sha256(f"forward {source} to {to.uri}".encode()).hexdigest()[:ID_DIGITS]
        facts = schema.load()
        classes = dict.fromkeys(facts.event_class(event.event_class).uid for event in mapper.events)
        with opened(settings) as lake, lake.leases.held(lock) as lease:
            if lease is None:
                summary.busy = True
                return summary
            for uid in classes:
                _of_class(lake, to, source, uid, lease, summary)
        return summary


def _check_outside(settings: Settings, target: str) -> None:
    """A lake is no place to forward its own events to: its folders are those of its files."""
    if target.startswith(sinks.SERVERS):
        return
    to, lake = (f"{Store(root, settings.lake_access).uri('').rstrip('/')}/" for root in (target, settings.lake))
    if to.startswith(lake) or lake.startswith(to):
        raise ConfigError(f"{target!r} is in the lake itself, or the lake in it; events are forwarded to another place")


def _of_class(lake: Lake, to: Sink, source: str, uid: int, lease: Lease, summary: Summary) -> None:
    exports = lake.exports(f"{to.uri}#{source}/{uid}")
    waiting = exports.waiting(source, uid)
    exports.tidy(lake.store)
    if waiting:
        exports.take(source, uid, _now())
    for shipment in exports.open():
        _attempt(lake, exports, shipment, to, lease, summary)
    for account, day, files in _together(waiting):
        lease.check()
        shipment = exports.plan(account, day, files, _now())
        exports.record(lake.store, shipment)
        failpoint("planned", shipment.id)
        _attempt(lake, exports, shipment, to, lease, summary)


def _together(waiting: Sequence[WaitingFile]) -> Iterator[tuple[str, str, list[WaitingFile]]]:
    """Files of one account and day, so many that one shipment is not for each small file."""
    by_place: dict[tuple[str, str], list[WaitingFile]] = {}
    for file in waiting:
        _, account, day = file.values
        by_place.setdefault((account, day), []).append(file)
    for place, files in sorted(by_place.items()):
        for start in range(0, len(files), SHIPMENT_FILES):
            yield *place, files[start : start + SHIPMENT_FILES]


def _attempt(lake: Lake, exports: Exports, shipment: Shipment, to: Sink, lease: Lease, summary: Summary) -> None:
    """Sends a shipment; events that are refused and damaged files keep back nothing else."""
    try:
        _send(lake, exports, shipment, to, lease, summary)
    except (LakeFileError, CountError, RefusedEventsError) as error:
        summary.errors.append(str(error))
    else:
        summary.shipments += 1


def _send(lake: Lake, exports: Exports, shipment: Shipment, to: Sink, lease: Lease, summary: Summary) -> None:
    noted = {item.first_row: item for item in exports.objects(shipment)}
    refused: OcsfMappersError | None = None
    with temporary.directory("forward") as folder:
        files = [(file.path, file.sha256) for file in exports.files(shipment)]
        paths = fetched.fetch(lake.store, files, Path(folder))
        start = 0
        for part in _parts(paths, lambda first: noted[first].rows if first in noted else to.rows):
            before = noted.get(start)
            if before is None or before.written_at is None:
                try:
                    _put(exports, shipment, to, lease, start, part)
                    summary.events += len(part)
                except RefusedEventsError as error:
                    summary.events += len(part) - len(error.numbers)
                    refused = error
            start += len(part)
    if start != shipment.rows:
        raise CountError(f"the files of a shipment have {shipment.rows:,} rows, and {start:,} were read",
                         shipment=shipment.id)  # fmt: skip
    if refused is not None:
        raise refused
    exports.finish(lake.store, shipment, _now())
    failpoint("shipped", shipment.id)


def _put(exports: Exports, shipment: Shipment, to: Sink, lease: Lease, start: int, part: Sequence[Any]) -> None:
    name = f"{shipment.day}/{shipment.id}-{start:012d}-{len(part):09d}"
    shipped = ShippedObject(f"{to.uri}/{name}", start, len(part), 0, "")
    exports.begin(shipment, shipped)
    lease.check()
    try:
        to.put(name, [event(dict(row)) for row in part])
    except RefusedEventsError as error:
        exports.divide(shipment, shipped, error.numbers, _now())
        raise
    failpoint("put", shipment.id)
    exports.written(shipment, shipped, _now())


def _parts(paths: Sequence[Path], size: Callable[[int], int]) -> Iterator[list[dict[str, Any]]]:
    """Rows of files, in their order, in parts.

    Args:
        paths: The files.
        size: Number of the first row of a part -> how many rows it has.
    """
    part: list[dict[str, Any]] = []
    start = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1_000):
                for row in _rows(batch):
                    part.append(row)
                    if len(part) == size(start):
                        yield part
                        start += len(part)
                        part = []
    if part:
        yield part


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    for values in rows(batch):
        yield dict(zip(names, values, strict=True))


def event(row: dict[str, Any]) -> Event:
    """A row of the lake as it is forwarded: without what is null or empty, times as ISO 8601."""
    metadata = row.get("metadata") or {}
    identity = [row.get("source_object"), row.get("source_etag"), row.get("source_record"), row.get("class_uid")]
    identity += [metadata.get("uid"), row.get("time")]
    place = f"{row.get('source_object')}#{row.get('source_record')}"
    at = row.get("time")
    body = _given(plain(row))
    return Event(sinks.event_id(identity), at if isinstance(at, int) else None, place, body)


def _given(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _given(one) for key, one in value.items() if one is not None and one != [] and one != {}}
    return [_given(one) for one in value] if isinstance(value, list) else value


def _now() -> datetime:
    return datetime.now(UTC)
