"""Events of the lake into a custom source of Amazon Security Lake: each once, whatever interrupts it.

An export takes the files of finished batches that it has not sent, all of one partition together, and writes them as
few large objects. What it will send stands in the ledger first, see `ledger.exports`; what an interrupted export left
open is sent before anything else, in the same objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ocsf_lake.config import Settings
from ocsf_lake.export import custom_source as custom_sources
from ocsf_lake.export.custom_source import CustomSource
from ocsf_lake.export.shipment import Sender
from ocsf_lake.ingest.batch import failpoint
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger.exports import Shipment, ShippedObject, WaitingFile
from ocsf_lake.ledger.results import ID_DIGITS, CountError
from ocsf_lake.storage.fetched import LakeFileError
from ocsf_lake.text import plural
from ocsf_mappers.errors import ConfigError, OcsfMappersError

PAUSE = timedelta(minutes=5)
"""Security Lake wants no more than one object of a partition in so long."""

SHIPMENT_BYTES = 1 << 30
"""Files of the lake that are sorted together, up to about twice as much."""

Clock = Callable[[], datetime]


@dataclass
class Summary:
    """What an export did.

    Args:
        target: URI of the custom source's folder.
        objects: Objects that were sent, those of interrupted exports included.
        events: Events in them.
        bytes: Their size.
        waiting: Events of partitions that got an object less than five minutes ago; the next export sends them.
        left_out: Events that stay in the lake because the day they happened is not known.
        busy: Whether another export to the custom source was going on, so that this one did nothing.
    """

    target: str
    objects: list[ShippedObject] = field(default_factory=list)
    events: int = 0
    bytes: int = 0
    waiting: int = 0
    left_out: int = 0
    busy: bool = False

    def add(self, sent: Sequence[ShippedObject]) -> None:
        """Counts a shipment."""
        self.objects += sent
        self.events += sum(item.rows for item in sent)
        self.bytes += sum(item.bytes for item in sent)

    @property
    def message(self) -> str:
        """The export in one line."""
        if self.busy:
            return f"another export to {self.target} is going on; nothing was done"
        parts = [f"{plural(self.events, 'event')} in {plural(len(self.objects), 'object')} sent to {self.target}"]
        if self.waiting:
            waiting = plural(self.waiting, "event")
            parts.append(f"{waiting} left to the next export, as their partitions got an object just now")
        if self.left_out:
            parts.append(f"{plural(self.left_out, 'event')} left in the lake, as their day is not known")
        return "; ".join(parts)


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def export(
    settings: Settings, source: str, bucket: str, name: str, event_class: str | None = None, *, clock: Clock = now
) -> Summary:
    """Sends what is new of one class of a source to a custom source.

    Args:
        settings: The lake, and how Security Lake's bucket is reached.
        source: Name of the source.
        bucket: URI of Security Lake's bucket.
        name: Name that the custom source was registered under.
        event_class: The class, by name or uid; needed when the source has several.
        clock: Gives the time, with a zone.

    Raises:
        ConfigError: Security Lake would not take it, or the custom source takes something else; nothing was written.
        LakeFileError: A file of the lake is gone or damaged; other partitions were sent.
        WriteError: Security Lake's bucket refused; running again continues.
        CountError: The objects would not have the rows of the files.
    """
    target = custom_sources.custom_source(source, bucket, name, event_class, settings)
    summary = Summary(target.uri)
    lock = hashlib.sha256(f"export to {target.uri}".encode()).hexdigest()[:ID_DIGITS]
    with opened(settings) as lake, lake.leases.held(lock) as lease:
        if lease is None:
            summary.busy = True
            return summary
        exports = lake.exports(target.uri)
        exports.tidy(lake.store)
        waiting = exports.waiting(source, target.event_class.uid)
        _check_versions(target, waiting)
        exports.take(source, target.event_class.uid, clock())
        sender = Sender(lake, target, lease, clock)
        errors: list[OcsfMappersError] = []
        for shipment in exports.open():
            _attempt(sender, shipment, summary, errors)
        for account, day, files in _due(lake, target, waiting, clock(), summary):
            lease.check()
            shipment = exports.plan(account, day, files, clock())
            exports.record(lake.store, shipment)
            failpoint("planned", shipment.id)
            _attempt(sender, shipment, summary, errors)
    if errors:
        for error in errors[1:]:
            errors[0].add_note(f"another shipment failed too: {error}")
        raise errors[0]
    return summary


def _attempt(sender: Sender, shipment: Shipment, summary: Summary, errors: list[OcsfMappersError]) -> None:
    """Sends a shipment. What is wrong with its files does not keep back the others."""
    try:
        summary.add(sender.send(shipment))
    except (LakeFileError, CountError) as error:
        errors.append(error)


def _check_versions(target: CustomSource, waiting: Sequence[WaitingFile]) -> None:
    newer = sorted({file.ocsf_version for file in waiting if not custom_sources.is_accepted(file.ocsf_version)})
    if newer:
        newest = ".".join(map(str, custom_sources.NEWEST_OCSF))
        raise ConfigError(
            f"the lake has events of {target.source} in OCSF {', '.join(newer)}, and Security Lake takes OCSF {newest} "
            "or older from custom sources; export from a lake with ocsf_version = \"1.1.0\""
        )


def _due(
    lake: Lake, target: CustomSource, waiting: Sequence[WaitingFile], moment: datetime, summary: Summary
) -> Iterator[tuple[str, str, list[WaitingFile]]]:
    """Account, day and files of each shipment that may go now; what may not is counted."""
    by_place: dict[tuple[str, str], list[WaitingFile]] = {}
    for file in waiting:
        place = custom_sources.place(file.values)
        if place is None:
            summary.left_out += file.rows
        else:
            by_place.setdefault(place, []).append(file)
    shipped = lake.exports(target.uri).last_shipped()
    for (account, day), files in sorted(by_place.items()):
        last = shipped.get((account, day))
        if last is not None and moment - last < PAUSE:
            summary.waiting += sum(file.rows for file in files)
            continue
        for some in _bounded(files):
            yield account, day, some


def _bounded(files: Sequence[WaitingFile]) -> Iterator[list[WaitingFile]]:
    """Files in groups of bounded size, none of them small: too little for one more goes with the one before it."""
    group: list[WaitingFile] = []
    left, size = sum(file.bytes for file in files), 0
    for file in files:
        if size >= SHIPMENT_BYTES and left >= SHIPMENT_BYTES:
            yield group
            group, size = [], 0
        group.append(file)
        size += file.bytes
        left -= file.bytes
    if group:
        yield group
