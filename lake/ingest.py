"""Raw objects into the lake: each record once, however often it is asked for and whenever it was interrupted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from lake import batch as batches
from lake import discovery, objects, plan
from lake.config import Settings
from lake.lake import Lake, opened
from lake.ledger import SETTLED, Batch, Counts, Result, State
from lake.objects import ObjectError, ObjectRef
from ocsf_mappers import Engine, Mapper, registry
from ocsf_mappers.engine import fingerprint
from ocsf_mappers.errors import WriteError


@dataclass(frozen=True)
class NotRead:
    """An object from which no records were taken, and why."""

    uri: str
    state: State
    reason: str


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


@dataclass
class Summary:
    """What a run did.

    Args:
        listed: Objects that the URIs stand for.
        known: Those of them that earlier runs have dealt with.
        sources: Per source, by name.
        not_read: Objects skipped, set aside or failed, with the reasons.
        busy: Batches left to another run that works on them.
    """

    listed: int = 0
    known: int = 0
    sources: dict[str, SourceSummary] = field(default_factory=dict)
    not_read: list[NotRead] = field(default_factory=list)
    busy: int = 0

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
        self.not_read += [
            NotRead(ref.uri, outcome.state, outcome.reason or "")
            for ref, outcome in result.outcomes.items()
            if outcome.state is not State.DONE
        ]


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


def ingest(
    uris: Iterable[str], settings: Settings, source: str | None = None, progress: OnProgress | None = None
) -> Summary:
    """Brings what is new at the URIs into the lake.

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
    mappers = {name: registry.load(name) for name in ([source] if source else registry.names())}
    uris = list(uris)
    objects.check(uris)
    with opened(settings) as lake:
        run = _Run(lake, mappers)
        refs = run.listed(uris)
        found = run.planned(refs, source)
        run.work(found, progress)
        return run.summary


def resume(settings: Settings, progress: OnProgress | None = None) -> Summary:
    """Finishes every batch that any interrupted run left open; nothing is listed.

    Raises:
        WriteError: The lake refused a file.
        CountError: Records were lost or doubled.
    """
    mappers = {name: registry.load(name) for name in registry.names()}
    with opened(settings) as lake:
        run = _Run(lake, mappers)
        run.work(run.current(lake.ledger.open_batches()), progress)
        return run.summary


class _Run:
    def __init__(self, lake: Lake, mappers: dict[str, Mapper]) -> None:
        self.lake = lake
        self.settings = lake.settings
        self.mappers = mappers
        self.summary = Summary()
        self._versions: dict[str, str] = {}
        self._threads = threading.local()

    def listed(self, uris: list[str]) -> list[ObjectRef]:
        """The objects at the URIs; those with an unchanged file are not hashed again."""
        known: dict[tuple[str, int, str], str] = {}
        looked_up = False

        def etag(uri: str, size: int, stamp: str) -> str | None:
            nonlocal looked_up, known
            if not looked_up:
                known, looked_up = self.lake.ledger.etags(), True
            return known.get((uri, size, stamp))

        refs = objects.listed(uris, etag)
        self.summary.listed = len(refs)
        return refs

    def planned(self, refs: Sequence[ObjectRef], source: str | None) -> list[Batch]:
        """The open batches that hold listed objects, then batches of the objects that are new."""
        states = self.lake.ledger.states(refs)
        open_ids = {batch for state, batch in states.values() if state is State.PLANNED and batch}
        resumed = self.current(self.lake.ledger.open_batches(open_ids))
        if open_ids:
            states = self.lake.ledger.states(refs)
        settled = {key for key, (state, _) in states.items() if state in SETTLED}
        finished = {key for key, (state, _) in states.items() if state in (State.DONE, State.SET_ASIDE)}
        self.summary.known = len(finished)
        new: dict[str, list[ObjectRef]] = {}
        for ref in refs:
            if ref.key not in settled and (name := self._source(ref, source)):
                new.setdefault(name, []).append(ref)
        fresh: list[Batch] = []
        for name in sorted(new):
            fresh += plan.batches(name, self._version(name), new[name], self.settings)
        return [*resumed, *self.lake.ledger.plan(fresh)]

    def current(self, found: Sequence[Batch]) -> list[Batch]:
        """The batches that still mean the same; those planned for another mapper or OCSF version are planned anew."""
        kept = []
        for batch in found:
            if batch.source not in self.mappers:
                continue
            if (batch.mapper_version, batch.ocsf_version) == (self._version(batch.source), self.settings.ocsf_version):
                kept.append(batch)
                continue
            with self.lake.locked(batch.id) as mine:
                if mine:
                    self.lake.catalog.drop(batch.id)
                    self.lake.store.remove(self.lake.store.with_prefix(batch.id))
                    self.lake.ledger.discard(batch.id)
        return kept

    def _version(self, source: str) -> str:
        if source not in self._versions:
            self._versions[source] = fingerprint(self.mappers[source], self.settings.ocsf_version)
        return self._versions[source]

    def _source(self, ref: ObjectRef, given: str | None) -> str | None:
        """The source of an object that is to be read; others are noted, with the reason."""
        try:
            source = given or discovery.of_key(ref.uri).source or self._sniffed(ref)
        except ObjectError as error:
            self._note(ref, State.FAILED, str(error))
            return None
        if source is None or source not in self.mappers:
            self._note(ref, State.SKIPPED, "neither the name nor the content is of a known source")
            return None
        if reason := discovery.set_aside_reason(ref.uri, self.mappers[source]):
            self._note(ref, State.SET_ASIDE, reason, source)
            return None
        return source

    def _note(self, ref: ObjectRef, state: State, reason: str, source: str | None = None) -> None:
        self.lake.ledger.note([ref], state, reason, source)
        self.summary.not_read.append(NotRead(ref.uri, state, reason))

    def _sniffed(self, ref: ObjectRef) -> str | None:
        with objects.opened(ref) as file:
            return discovery.of_bytes(file, self.settings.limits)

    def work(self, found: Sequence[Batch], progress: OnProgress | None) -> None:
        """Does the batches on several threads. One that raises does not stop the others, unless the lake refuses."""
        errors: list[Exception] = []
        done = bytes_in = 0
        of_bytes = sum(batch.bytes_in for batch in found)
        for batch, outcome in self._outcomes(found):
            if isinstance(outcome, Exception):
                errors.append(outcome)
                if isinstance(outcome, WriteError):
                    break
                continue
            done += 1
            bytes_in += batch.bytes_in
            if outcome is None:
                self.summary.busy += 1
                continue
            self.summary.add(batch, outcome)
            if progress is not None:
                progress(Progress(done, len(found), bytes_in, of_bytes, batch, outcome))
        self.summary.not_read.sort(key=lambda item: item.uri)
        if errors:
            for error in errors[1:]:
                errors[0].add_note(f"another batch failed too: {error}")
            raise errors[0]

    def _outcomes(self, found: Sequence[Batch]) -> Iterator[tuple[Batch, Result | Exception | None]]:
        if self.settings.workers == 1 or len(found) <= 1:
            for batch in found:
                yield batch, self._do(batch)
            return
        waiting = iter(found)
        running: dict[Future[Result | Exception | None], Batch] = {}
        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="ocsf-lake") as pool:
            for batch in waiting:
                running[pool.submit(self._do, batch)] = batch
                if len(running) < self.settings.workers:
                    continue
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
            for future in list(running):
                yield running[future], future.result()

    def _do(self, batch: Batch) -> Result | Exception | None:
        with self.lake.locked(batch.id) as mine:
            if not mine or self.lake.ledger.is_done(batch.id):
                return None
            try:
                return batches.run(batch, self.lake, self._engine(batch.source))
            except Exception as error:
                self.lake.ledger.fail(batch.id, str(error))
                return error

    def _engine(self, source: str) -> Engine:
        engines: dict[str, Engine] = self._threads.__dict__.setdefault("engines", {})
        if source not in engines:
            engines[source] = Engine(self.mappers[source], self.settings.ocsf_version)
        return engines[source]
