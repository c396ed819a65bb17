"""Raw objects into the lake: each record once, however often it is asked for and whenever it was interrupted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field

from lake import batch as batches
from lake import duplicates, fields, listing, objects, retry
from lake.config import Settings
from lake.lake import Lake, opened
from lake.plan import NotRead, Planned, Planner, Unread, mappers
from lake.results import Batch, BatchRow, Counts, Result, State
from ocsf_mappers import Engine, Mapper, registry
from ocsf_mappers.census import News, Sighting
from ocsf_mappers.errors import RetriableError, WriteError

__all__ = ["NotRead", "Planned", "Progress", "SourceSummary", "Summary", "ingest", "plan", "resume", "work"]


@dataclass
class SourceSummary:
    """What a run did with one source.

    Args:
        objects: Objects read.
        counts: What became of their records.
        events_by_class: Events per class name.
        dropped: Lines that are no records, per reason.
        failed_casts: Values kept as text in `unmapped`, per OCSF path.
        unmapped_keys: Events per key of `unmapped`.
        bytes_in: Size of the objects as they are stored.
        bytes_out: Size of the files written.
        seconds: Time spent, of all workers together.
        duplicates: Events that the lake had already, where that was looked for.
        variants: Events with a key that the lake had, and other content.
        news: What the source never had before, and where it stands first.
    """

    objects: int = 0
    batches: int = 0
    counts: Counts = field(default_factory=Counts)
    events_by_class: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    failed_casts: Counter[str] = field(default_factory=Counter)
    unmapped_keys: Counter[str] = field(default_factory=Counter)
    files: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    duplicates: int = 0
    variants: int = 0
    news: dict[News, Sighting] = field(default_factory=dict)

    def add(self, batch: Batch, result: Result) -> None:
        """Counts a batch."""
        read = [ref for ref, outcome in result.outcomes.items() if outcome.state is State.DONE]
        self.objects += len(read)
        self.batches += 1
        self.counts.add(result.counts)
        self.events_by_class.update(result.events_by_class)
        self.dropped.update(result.dropped)
        self.failed_casts.update(result.failed_casts)
        self.unmapped_keys.update(result.unmapped_keys)
        self.files += len(result.files)
        self.bytes_in += sum(ref.size for ref in read)
        self.bytes_out += result.bytes_out
        self.seconds += result.seconds
        self.duplicates += result.duplicates
        self.variants += result.variants
        self.news.update(result.news)

    def merge(self, other: SourceSummary) -> None:
        """Counts what another run did as well."""
        self.counts.add(other.counts)
        for kept, more in (
            (self.events_by_class, other.events_by_class), (self.dropped, other.dropped),
            (self.failed_casts, other.failed_casts), (self.unmapped_keys, other.unmapped_keys),
        ):  # fmt: skip
            kept.update(more)
        for name in ("objects", "batches", "files", "bytes_in", "bytes_out", "seconds", "duplicates", "variants"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for news, sighting in other.news.items():
            self.news.setdefault(news, sighting)


@dataclass
class Summary:
    """What a run did.

    Args:
        listed: Objects that the URIs stand for.
        known: Those of them that earlier runs have dealt with.
        sources: Per source, by name.
        unread: Objects skipped, set aside or failed, with the reasons.
        busy: Batches left to another run that works on them, or that it has done meanwhile.
    """

    listed: int = 0
    known: int = 0
    sources: dict[str, SourceSummary] = field(default_factory=dict)
    unread: Unread = field(default_factory=Unread)
    busy: int = 0

    @property
    def not_read(self) -> list[NotRead]:
        """The objects of `unread`, by URI."""
        return sorted(self.unread.items, key=lambda item: item.uri)

    @property
    def counts(self) -> Counts:
        """What became of all records."""
        total = Counts()
        for source in self.sources.values():
            total.add(source.counts)
        return total

    def add(self, batch: Batch, result: Result) -> None:
        """Counts a batch."""
        self.sources.setdefault(batch.source, SourceSummary()).add(batch, result)
        for ref, outcome in result.outcomes.items():
            if outcome.state is not State.DONE:
                self.unread.add(NotRead(ref.uri, outcome.state, outcome.reason or ""))

    def merge(self, other: Summary) -> None:
        """Counts what another run did as well."""
        self.listed += other.listed
        self.known += other.known
        self.busy += other.busy
        self.unread.extend(other.unread)
        for name, found in other.sources.items():
            self.sources.setdefault(name, SourceSummary()).merge(found)

    def add_planned(self, planned: Planned) -> None:
        """Counts what planning found."""
        self.listed += planned.listed
        self.known += planned.known
        self.unread.extend(planned.unread)


@dataclass(frozen=True)
class Progress:
    """How far a run has come, told after each batch.

    Args:
        batches: Batches done.
        of_batches: Batches to do.
        bytes_in: Size of the objects dealt with.
        of_bytes_in: Size of all objects to deal with.
        batch: The batch just done.
        result: What became of it.
    """

    batches: int
    of_batches: int
    bytes_in: int
    of_bytes_in: int
    batch: Batch
    result: Result


OnProgress = Callable[[Progress], None]
_Done = tuple[Batch, Result] | Exception | None
"""A batch and what became of it, an error, or None when another worker has it or has done it."""


def ingest(
    uris: Iterable[str], settings: Settings, source: str | None = None, progress: OnProgress | None = None
) -> Summary:
    """Brings what is new at the URIs into the lake: `plan`, then `work`.

    Batches that an interrupted run left open come first, with the members they were planned with.

    Args:
        uris: Folders (read recursively), globs and files.
        settings: The lake and the bounds of the run.
        source: Name of the source; None to tell it from each object's name or content.
        progress: Called in this thread after each batch.

    Raises:
        ConfigError: A URI stands for nothing, the source is unknown, or the lake cannot be opened.
        WriteError: The lake refused a file; running again continues.
        CountError: Records were lost or doubled; nothing of that batch is visible.
    """
    planned = plan(uris, settings, source)
    summary = work(planned.batch_ids, settings, progress)
    summary.add_planned(planned)
    return summary


def plan(uris: Iterable[str], settings: Settings, source: str | None = None) -> Planned:
    """Plans what is new at the URIs, and does none of it; the batches stand in the ledger.

    Args:
        uris: Folders (read recursively), globs and files.
        settings: The lake and the bounds of batches.
        source: Name of the source; None to tell it from each object's name or content.

    Raises:
        ConfigError: A URI stands for nothing, the source is unknown, or the lake cannot be opened.
    """
    found = mappers(source, settings)
    check_policies(settings)
    asked = objects.without_nested(uris)
    objects.check(asked, settings.input_access)
    calls = listing.Calls()
    with opened(settings, patient=True) as lake:
        pages = (page for uri in asked for page in listing.pages(uri, calls, settings.input_access))
        planned = Planner(lake, found).plan(pages, source)
    planned.list_calls = calls.number
    return planned


def work(batch_ids: Sequence[str], settings: Settings, progress: OnProgress | None = None) -> Summary:
    """Does batches that have been planned, here; those that another worker holds, or has done, are left to it.

    A batch that was planned for another version of its mapper, or of OCSF, is planned anew first.

    Args:
        batch_ids: Ids of the batches.
        settings: The lake and the bounds of the run.
        progress: Called in this thread after each batch.

    Raises:
        ConfigError: The lake cannot be opened.
        WriteError: The lake refused a file; running again continues.
        CountError: Records were lost or doubled; nothing of that batch is visible.
    """
    with opened(settings, patient=True) as lake:
        return _worked(lake, retry.patiently(lake.ledger.rows, batch_ids), progress)


def resume(settings: Settings, progress: OnProgress | None = None) -> Summary:
    """Finishes every batch that any interrupted run left open; nothing is listed.

    Raises:
        WriteError: The lake refused a file.
        CountError: Records were lost or doubled.
    """
    with opened(settings, patient=True) as lake:
        return _worked(lake, retry.patiently(lake.ledger.rows), progress)


def open_batches(settings: Settings) -> dict[str, list[str]]:
    """Source -> ids of the batches that are planned and not done.

    Raises:
        ConfigError: The lake cannot be opened.
    """
    found: dict[str, list[str]] = {}
    with opened(settings, patient=True) as lake:
        for row in retry.patiently(lake.ledger.rows):
            found.setdefault(row.source, []).append(row.id)
    return found


def _worked(lake: Lake, rows: Sequence[BatchRow], progress: OnProgress | None) -> Summary:
    check_policies(lake.settings)
    planner = Planner(lake, _mappers_of(rows, lake.settings))
    done = sum(row.state is State.DONE for row in rows)
    run = _Run(lake, planner.mappers)
    run.summary.busy += done
    run.work(retry.patiently(lake.ledger.rows, planner.current(rows)), progress)
    return run.summary


def _mappers_of(rows: Sequence[BatchRow], settings: Settings) -> dict[str, Mapper]:
    """Those that these batches need; each costs a quarter of a second of CPU, and most runs are of one source."""
    sources = {row.source for row in rows if row.state is not State.DONE}
    return {name: fields.mapper(name, settings) for name in registry.names() if name in sources}


def check_policies(settings: Settings) -> None:
    """Refuses policies for duplicates that cannot be followed, before any work.

    Raises:
        ConfigError: There is no such source or policy, or the source's records have no key.
    """
    for name in settings.duplicates:
        duplicates.policy(settings, registry.load(name))


_THREADS = threading.local()


class _Run:
    def __init__(self, lake: Lake, mappers: Mapping[str, Mapper]) -> None:
        self.lake = lake
        self.settings = lake.settings
        self.mappers = mappers
        self.summary = Summary()

    def work(self, found: Sequence[BatchRow], progress: OnProgress | None) -> None:
        """Does the batches on several threads. One that raises does not stop the others, unless the lake refuses."""
        errors: list[Exception] = []
        done = bytes_in = 0
        of_bytes = sum(row.bytes_in for row in found)
        for row, outcome in self._outcomes(found):
            if isinstance(outcome, Exception):
                errors.append(outcome)
                if isinstance(outcome, WriteError):
                    break
                continue
            done += 1
            bytes_in += row.bytes_in
            if outcome is None:
                self.summary.busy += 1
                continue
            batch, result = outcome
            self.summary.add(batch, result)
            if progress is not None:
                progress(Progress(done, len(found), bytes_in, of_bytes, batch, result))
        if errors:
            for error in errors[1:]:
                errors[0].add_note(f"another batch failed too: {error}")
            raise errors[0]

    def _outcomes(self, found: Sequence[BatchRow]) -> Iterator[tuple[BatchRow, _Done]]:
        if self.settings.workers == 1 or len(found) <= 1:
            for row in found:
                yield row, self._do(row)
            return
        running: dict[Future[_Done], BatchRow] = {}
        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="ocsf-lake") as pool:
            for row in found:
                running[pool.submit(self._do, row)] = row
                if len(running) < self.settings.workers:
                    continue
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
            for future in list(running):
                yield running[future], future.result()

    def _do(self, row: BatchRow) -> _Done:
        for pause in [*retry.pauses(), None]:
            try:
                return self._attempted(row)
            except RetriableError as error:
                if pause is None:
                    return error
                retry.sleep(pause)
        raise AssertionError("the last attempt ended neither way")

    def _attempted(self, row: BatchRow) -> _Done:
        with self.lake.leases.held(row.id) as lease:
            batch = self.lake.ledger.batch(row.id) if lease else None
            if batch is None or lease is None:
                return None
            try:
                return batch, batches.run(batch, self.lake, self._engine(batch.source), lease)
            except Exception as error:
                with suppress(RetriableError, WriteError):
                    self.lake.ledger.fail(batch.id, str(error))
                if isinstance(error, RetriableError):
                    raise
                return error

    def _engine(self, source: str) -> Engine:
        # Kept for the next run in this thread too: one costs a third of a second of CPU until it has mapped once.
        engines: dict[tuple[str, str], tuple[Mapper, Engine]] = _THREADS.__dict__.setdefault("engines", {})
        key, mapper = (source, self.settings.ocsf_version), self.mappers[source]
        if key not in engines or engines[key][0] is not mapper:
            engines[key] = mapper, Engine(mapper, self.settings.ocsf_version)
        return engines[key][1]
