"""Raw objects into the lake: each record once, however often it is asked for and whenever it was interrupted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch as batches
from ocsf_lake.ingest import divide, duplicates, engines, reread
from ocsf_lake.ingest.plan import CHUNK, NotRead, Planned, Planner, Unread, mappers
from ocsf_lake.ingest.relisting import Listing
from ocsf_lake.inputs import discovery, fields, listing
from ocsf_lake.inputs.coverage import Coverage
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import copies, rereads
from ocsf_lake.ledger.copies import Copies
from ocsf_lake.ledger.results import Batch, BatchRow, Counts, Isolated, Result, State
from ocsf_lake.redaction import policy as redaction
from ocsf_lake.storage import objects, retry
from ocsf_lake.storage.fetched import LakeFileError
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers import Engine, Mapper, registry
from ocsf_mappers.compiler.statistics import FirstSeen, SchemaDrift
from ocsf_mappers.errors import OcsfMappersError, RetriableError, WriteError

__all__ = [
    "BatchFailure",
    "NotRead",
    "Planned",
    "Progress",
    "SourceSummary",
    "Summary",
    "ingest",
    "plan",
    "resume",
    "work",
]


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
        fallbacks: Records that an error sent the slower way, per error; see `Mapped`.
        redacted: Values that were hidden, per rule.
        drift: What the source never had before, and where it stands first.
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
    fallbacks: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    drift: dict[SchemaDrift, FirstSeen] = field(default_factory=dict)

    def add(self, batch: Batch, result: Result) -> None:
        """Counts a batch."""
        read = [ref for ref, outcome in result.outcomes.items() if outcome.state is State.DONE]
        self.objects += len(read)
        self.batches += 1
        self.bytes_in += sum(ref.size for ref in read)
        self.seconds += result.seconds
        self.add_records(result)

    def add_records(self, result: Result) -> None:
        """Counts what became of records, also of those that stood among another source's."""
        self.counts.add(result.counts)
        self.events_by_class.update(result.events_by_class)
        self.dropped.update(result.dropped)
        self.failed_casts.update(result.failed_casts)
        self.unmapped_keys.update(result.unmapped_keys)
        self.files += len(result.files)
        self.bytes_out += result.bytes_out
        self.duplicates += result.duplicates
        self.variants += result.variants
        self.fallbacks.update(result.fallbacks)
        self.redacted.update(result.redacted)
        self.drift.update(result.drift)

    def merge(self, other: SourceSummary) -> None:
        """Counts what another run did as well."""
        self.counts.add(other.counts)
        for counter, more in (
            (self.events_by_class, other.events_by_class), (self.dropped, other.dropped),
            (self.failed_casts, other.failed_casts), (self.unmapped_keys, other.unmapped_keys),
            (self.fallbacks, other.fallbacks), (self.redacted, other.redacted),
        ):  # fmt: skip
            counter.update(more)
        for name in ("objects", "batches", "files", "bytes_in", "bytes_out", "seconds", "duplicates", "variants"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for drift, seen in other.drift.items():
            self.drift.setdefault(drift, seen)


EMPTY_KEPT = 3
"""Of objects without a byte, so many are named."""
ISOLATED_KEPT = 1_000
"""Records that made the program fail are named up to this number; quarantine has all of them."""


@dataclass(frozen=True)
class BatchFailure:
    """A batch that failed. It stays open, and the others are not concerned.

    Args:
        batch_id: The batch.
        source: Name of its source.
        reason: What was raised, with its kind.
        may_pass: Whether trying again may help.
        kind: Name of the error's class.
    """

    batch_id: str
    source: str
    reason: str
    may_pass: bool
    kind: str


@dataclass
class Summary:
    """What a run did.

    Args:
        listed: Objects that the URIs stand for.
        known: Those of them that earlier runs have dealt with.
        sources: Per source, by name.
        unread: Objects skipped, set aside or failed, and folders that cannot be listed, with the reasons.
        busy: Batches left to another run that is working on them, or that it has done meanwhile.
        reread: Objects that are read again, as none of their records was an event.
        of_others: Objects in the same folders with names of another source; they were left alone.
        failures: Batches that failed; they stay open.
        isolated: Records that made the program fail, at most `ISOLATED_KEPT`.
        broken: Name of a source that cannot be used -> why; its objects and batches wait.
        coverage: What was looked at, and what was not; None where nothing was listed.
        batch_ids: The batches that it has done.
        copies: What they have read that the lake has under another name, too; see `ledger.copies`.
        empty: Objects without a byte: AWS delivers none, but what cuts a delivery off may leave one.
        empty_examples: URIs of some of them.
    """

    listed: int = 0
    known: int = 0
    sources: dict[str, SourceSummary] = field(default_factory=dict)
    unread: Unread = field(default_factory=Unread)
    busy: int = 0
    reread: int = 0
    of_others: int = 0
    failures: list[BatchFailure] = field(default_factory=list)
    isolated: list[Isolated] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    coverage: Coverage | None = None
    batch_ids: list[str] = field(default_factory=list)
    copies: Copies = field(default_factory=Copies)
    empty: int = 0
    empty_examples: list[str] = field(default_factory=list)

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
        self.batch_ids.append(batch.id)
        self.sources.setdefault(batch.source, SourceSummary()).add(batch, result)
        self.isolated = (self.isolated + result.isolated)[:ISOLATED_KEPT]
        for routed, routed_result in result.routed:
            self.sources.setdefault(routed.source, SourceSummary()).add_records(routed_result)
        for ref, outcome in result.outcomes.items():
            if outcome.state is not State.DONE:
                self.unread.add(NotRead(ref.uri, outcome.state, outcome.reason or ""))
            elif not ref.size:
                self.empty += 1
                self.empty_examples = [*self.empty_examples, ref.uri][:EMPTY_KEPT]

    def merge(self, other: Summary) -> None:
        """Counts what another run did as well."""
        self.listed += other.listed
        self.known += other.known
        self.busy += other.busy
        self.reread += other.reread
        self.of_others += other.of_others
        self.unread.extend(other.unread)
        self.failures += other.failures
        self.batch_ids += other.batch_ids
        self.empty += other.empty
        self.empty_examples = (self.empty_examples + other.empty_examples)[:EMPTY_KEPT]
        self.isolated = (self.isolated + other.isolated)[:ISOLATED_KEPT]
        self.broken |= other.broken
        for name, summary in other.sources.items():
            self.sources.setdefault(name, SourceSummary()).merge(summary)

    def add_planned(self, planned: Planned) -> None:
        """Counts what planning found."""
        self.listed += planned.listed
        self.known += planned.known
        self.reread += planned.reread
        self.of_others += planned.of_others
        self.unread.extend(planned.unread)
        self.broken |= planned.broken
        self.coverage = planned.coverage or self.coverage


@dataclass(frozen=True)
class Progress:
    """How far a run has come, reported after each batch.

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
    uris: Iterable[str], settings: Settings, source: str | None = None, progress: OnProgress | None = None, *,
    again: bool = False, whole: bool = False,
) -> Summary:  # fmt: skip
    """Brings what is new at the URIs into the lake: `plan`, then `work`.

    Batches that an interrupted run left open come first, with the members they were planned with; those that failed
    come last. A batch, object or record that fails stops no other: the summary names it.

    Args:
        uris: Folders (read recursively), globs and files.
        settings: The lake and the bounds of the run.
        source: Name of the source; None to recognize it by each object's name or content.
        progress: Called in this thread after each batch.
        again: Also try objects that were left out because they failed too often, see `ocsf_lake.ingest.attempts`.
        whole: List everything, also older days that earlier runs have looked at.

    Raises:
        ConfigError: A URI stands for nothing, the source is unknown, or the lake cannot be opened.
        WriteError: The lake refused a file; running again continues.
    """
    asked = _Asked(uris, settings, source, again=again, whole=whole)
    with opened(settings, with_retries=True) as lake:
        return done(lake, asked.plan(lake), progress)


def done(lake: Lake, planned: Planned, progress: OnProgress | None = None) -> Summary:
    """Does what was planned; the summary also has what was read that the lake has under another name, too."""
    summary = _worked(lake, retry.with_retries(lake.ledger.rows, planned.batch_ids), progress)
    summary.add_planned(planned)
    look_for_copies(nullcontext(lake), summary)
    return summary


def look_for_copies(place: AbstractContextManager[Lake], summary: Summary) -> None:
    """Adds to a summary what its batches read that the lake has under another name, too.

    All is done by then: where it cannot be found out, the summary says so, and is as good without.

    Args:
        place: Opens the lake.
        summary: Of one run, or of several together.
    """
    if not summary.batch_ids:
        return
    try:
        with place as lake:
            summary.copies = retry.with_retries(copies.of, lake.ledger.engine, summary.batch_ids)
    except OcsfMappersError as error:
        summary.copies = Copies(unknown=str(error))


def plan(
    uris: Iterable[str], settings: Settings, source: str | None = None, *, again: bool = False, whole: bool = False,
    now: datetime | None = None,
) -> Planned:  # fmt: skip
    """Plans what is new at the URIs, and does none of it; the batches stand in the ledger.

    Args:
        uris: Folders (read recursively), globs and files.
        settings: The lake and the bounds of batches.
        source: Name of the source; None to recognize it by each object's name or content.
        again: Also objects that were left out because they failed too often. One that is named itself always is.
        whole: List everything, also older days that earlier runs have looked at, see `ocsf_lake.ingest.relisting`.
        now: The time, with a zone; None for the clock's.

    Raises:
        ConfigError: A URI stands for nothing, the source is unknown, or the lake cannot be opened.
    """
    asked = _Asked(uris, settings, source, again=again, whole=whole)
    with opened(settings, with_retries=True) as lake:
        return asked.plan(lake, now)


class _Asked:
    """What is asked for, checked before a lake is opened, or made."""

    def __init__(
        self, uris: Iterable[str], settings: Settings, source: str | None, *, again: bool, whole: bool
    ) -> None:
        self.mappers, self.broken = mappers(source, settings)
        check_policies(settings)
        self.uris = objects.without_nested(uris)
        objects.check(self.uris, settings.input_access)
        self.access = settings.input_access
        self.source = source
        self.again = again
        self.whole = whole

    def plan(self, lake: Lake, now: datetime | None = None) -> Planned:
        """Plans what is new; `now` as in `plan`."""
        reread.clean(lake)
        named = {objects.uri_of(uri, self.access) for uri in self.uris}
        calls, begun = listing.Calls(), now or datetime.now(UTC)
        planner = Planner(
            lake, self.mappers, self.broken, lambda ref: self.again or ref.uri in named, calls.passed, named
        )
        source = self.source
        planner.keep_settled = source is not None
        mapper = planner.version(source) if source is not None and source in planner.mappers else ""
        listings = [Listing(uri, source, mapper, lake, calls, begun, self.whole) for uri in self.uris]
        planned = planner.plan((page for one in listings for page in one.pages()), source)
        if source is not None and source in planner.mappers:
            _reread(planner, source)
        for one in listings:
            one.done()
        planned.add_calls(calls)
        places = {listing.printable_uri(*objects.filesystem(uri, self.access)): uri for uri in self.uris}
        asked = " ".join(self.uris)
        planned.coverage = Coverage(source, asked, lake.settings.lake, passed=calls.passed, given=places)
        planned.coverage.parts = [one.coverage for one in listings if one.coverage is not None]
        return planned


def _reread(planner: Planner, source: str) -> None:
    """Plans objects again that were taken for something else, or refused by a mapper that has changed since."""
    lake, planned = planner.lake, planner.planned
    version = planner.version(source)
    moving: dict[str | None, list[ObjectRef]] = {}
    for start in range(0, len(planner.settled), CHUNK):
        refs = planner.settled[start : start + CHUNK]
        previous = retry.with_retries(rereads.earlier_reads, lake.ledger.engine, refs)
        for ref in refs:
            read = previous.get(ref.key)
            if read is None or not reread.is_worth_it(read, source, version):
                continue
            if reason := reread.kept_reason(lake, read):
                planned.unread.add(NotRead(ref.uri, State.KEPT, reason))
            elif discovery.set_aside_reason(ref.uri, planner.mappers[source]) is None:
                moving.setdefault(read.batch_id, []).append(ref)
                planned.reread += 1
            planned.known -= 1
    for batch_id, refs in moving.items():
        try:
            planned.batch_ids += reread.move(lake, batch_id, refs, planner.grouped(source, refs))
        except LakeFileError as error:  # the others need not wait
            planned.reread -= len(refs)
            for ref in refs:
                planned.unread.add(NotRead(ref.uri, State.KEPT, f"what quarantine has of its batch is lost: {error}"))


def work(batch_ids: Sequence[str], settings: Settings, progress: OnProgress | None = None) -> Summary:
    """Does batches that have been planned, here; those that another worker holds, or has done, are left to it.

    A batch that was planned for another version of its mapper, or of OCSF, is planned anew first. One that failed too
    often is divided. Batches that failed before come after the others, and one at a time: if one of them ends the
    process, it is clear which.

    Args:
        batch_ids: Ids of the batches.
        settings: The lake and the bounds of the run.
        progress: Called in this thread after each batch.

    Raises:
        ConfigError: The lake cannot be opened.
        WriteError: The lake refused a file; running again continues.
    """
    with opened(settings, with_retries=True) as lake:
        return _worked(lake, retry.with_retries(lake.ledger.rows, batch_ids), progress)


def resume(settings: Settings, progress: OnProgress | None = None) -> Summary:
    """Finishes every batch that any interrupted run left open; nothing is listed.

    Raises:
        WriteError: The lake refused a file.
    """
    with opened(settings, with_retries=True) as lake:
        return _worked(lake, retry.with_retries(lake.ledger.rows), progress)


def open_batches(settings: Settings) -> dict[str, tuple[list[str], list[str]]]:
    """Source -> ids of the batches that are planned and not done, and of those among them that failed before.

    Raises:
        ConfigError: The lake cannot be opened.
    """
    by_source: dict[str, tuple[list[str], list[str]]] = {}
    with opened(settings, with_retries=True) as lake:
        for row in sorted(retry.with_retries(lake.ledger.rows), key=lambda row: row.failures):
            every, suspects = by_source.setdefault(row.source, ([], []))
            every.append(row.id)
            suspects += [row.id] if row.failures else []
    return by_source


def suspects(batch_ids: Iterable[str], settings: Settings) -> list[str]:
    """Those of some batches that failed before, the oftener the later.

    Raises:
        ConfigError: The lake cannot be opened.
    """
    with opened(settings, with_retries=True) as lake:
        rows = retry.with_retries(lake.ledger.rows, list(batch_ids))
    return [row.id for row in sorted(rows, key=lambda row: row.failures) if row.failures]


def _worked(lake: Lake, rows: Sequence[BatchRow], progress: OnProgress | None) -> Summary:
    check_policies(lake.settings)
    sources = {row.source for row in rows if row.state is not State.DONE}
    installed = set(registry.names())
    # Each costs a quarter of a second of CPU, and most runs are of one.
    usable, broken = registry.usable(sources & installed)
    broken |= {name: f"source {name!r} is not installed any more" for name in sources - installed}
    planner = Planner(lake, fields.all_configured(usable, lake.settings), broken)
    done = sum(row.state is State.DONE for row in rows)
    run = _Run(lake, planner.mappers)
    run.summary.busy += done
    todo = planner.current(rows)
    run.summary.add_planned(planner.planned)
    run.work(retry.with_retries(lake.ledger.rows, todo), progress)
    return run.summary


def check_policies(settings: Settings) -> None:
    """Refuses policies for duplicates and redaction that cannot be followed, before any work.

    Raises:
        ConfigError: There is no such source or policy, the source's records have no key, or what a rule of redaction
            names is not there.
    """
    if (hides := redaction.of(settings)) is not None:
        hides.check()
    usable, _ = registry.usable(settings.duplicates)
    for mapper in usable.values():
        duplicates.policy(settings, mapper)


def _described(error: Exception, settings: Settings) -> str:
    """Why a batch failed, as it may be kept and logged."""
    hides = redaction.of(settings)
    return divide.described(error) if hides is None else hides.message(divide.described(error))


def _failure(row: BatchRow, error: Exception, settings: Settings) -> BatchFailure:
    reason = "; ".join([_described(error, settings), *getattr(error, "__notes__", ())])
    return BatchFailure(row.id, row.source, reason, isinstance(error, RetriableError), type(error).__name__)


class _Run:
    def __init__(self, lake: Lake, mappers: Mapping[str, Mapper]) -> None:
        self.lake = lake
        self.settings = lake.settings
        self.mappers = mappers
        self.summary = Summary()

    def work(self, rows: Sequence[BatchRow], progress: OnProgress | None) -> None:
        """Does the batches on several threads. One that raises does not stop the others, unless the lake refuses."""
        refused: WriteError | None = None
        done = bytes_in = 0
        of_bytes = sum(row.bytes_in for row in rows)
        for row, outcome in self._outcomes(rows):
            if isinstance(outcome, WriteError):
                refused = outcome
                break  # not raised here: what is under way ends first
            if isinstance(outcome, Exception):
                self.summary.failures.append(_failure(row, outcome, self.settings))
                continue
            done += 1
            bytes_in += row.bytes_in
            if outcome is None:
                self.summary.busy += 1
                continue
            batch, result = outcome
            self.summary.add(batch, result)
            if progress is not None:
                progress(Progress(done, len(rows), bytes_in, of_bytes, batch, result))
        if refused is not None:
            raise refused

    def _outcomes(self, rows: Sequence[BatchRow]) -> Iterator[tuple[BatchRow, _Done]]:
        first = [row for row in rows if not row.failures]
        suspects = sorted((row for row in rows if row.failures), key=lambda row: row.failures)
        if self.settings.workers == 1 or len(first) <= 1:
            for row in first:
                yield row, self._do(row)
        else:
            yield from self._side_by_side(first)
        # Whichever of them ends the process, no other is counted as failed because of it.
        for row in suspects:
            yield row, self._do(row)

    def _side_by_side(self, rows: Sequence[BatchRow]) -> Iterator[tuple[BatchRow, _Done]]:
        running: dict[Future[_Done], BatchRow] = {}
        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="ocsf-lake") as pool:
            for row in rows:
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
                return self._attempted(row, last=pause is None)
            except RetriableError as error:
                if pause is None:
                    return error
                retry.sleep(pause)
        raise AssertionError("the last attempt ended neither way")

    def _attempted(self, row: BatchRow, *, last: bool) -> _Done:
        with self.lake.leases.held(row.id) as lease:
            batch = self.lake.ledger.batch(row.id) if lease else None
            if batch is None or lease is None:
                return None
            try:
                return batch, batches.run(batch, self.lake, self._engine(batch.source), lease, last, self._engine)
            except Exception as error:
                excused = divide.is_surroundings(error)
                with suppress(RetriableError, WriteError):
                    self.lake.ledger.fail(batch.id, _described(error, self.settings), excused=excused)
                if isinstance(error, RetriableError):
                    raise
                return error
            except BaseException:
                # Interrupted on purpose: no fault of the batch.
                with suppress(Exception):
                    self.lake.ledger.fail(batch.id, None, excused=True)
                raise

    def _engine(self, source: str) -> Engine:
        mapper = self.mappers.get(source) or fields.mapper(source, self.settings)
        return engines.engine(mapper, self.settings.ocsf_version)
