"""One attempt at a batch: what is read is mapped, checked and written, part by part."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake.catalogs import definitions
from ocsf_lake.catalogs.definitions import DUPLICATES
from ocsf_lake.ingest import divide, duplicates, rejects, routed, tally, unfinished
from ocsf_lake.ingest.divide import Failure, PartialReadError
from ocsf_lake.ingest.parts import Part, PartBuilder, Piece, SetAsideError, Source, UnreadableError
from ocsf_lake.ingest.plan import MOST_UNANSWERED
from ocsf_lake.ingest.routing import Engines, Routed, Router
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import containers, duplicated, generations
from ocsf_lake.ledger.duplicated import DuplicatePolicy
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.orphans import Orphans
from ocsf_lake.ledger.results import Batch, CountError, Counts, Isolated, Kind, Outcome, Result, State
from ocsf_lake.redaction.policy import Policy
from ocsf_lake.storage import parquet
from ocsf_lake.storage import writer as writers
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_lake.storage.parquet import Encoded, Slice
from ocsf_lake.storage.store import Store
from ocsf_lake.storage.writer import FolderOf, Writer
from ocsf_mappers import Engine, Mapped, temporary
from ocsf_mappers.errors import RetriableError


class NotAloneError(RetriableError):
    """The batch has records of a source of which no other batch may be done meanwhile."""

    def __init__(self, source: str) -> None:
        super().__init__("another batch of the source may be looking for duplicates", source=source)
        self.source = source


class UnprovedError(Exception):
    """Rows could not be encoded, and it is not known which: other parts' are in the same files. See `Work.proves`."""


@dataclass(frozen=True)
class Work:
    """What the attempts at a batch have in common.

    Args:
        lake: The lake.
        engine: Of the batch's source.
        engines: Gives those of others.
        lease: On the batch.
        store: Where to write.
        last: See `ocsf_lake.ingest.batch.run`.
        alone: Sources of which no other batch is done meanwhile; None where nothing is done but made again.
        ended: Called with the batch's id after each part.
        proves: Whether each part is encoded on its own before it goes into files with others, so that a record that
            cannot be encoded is found. It costs as much as writing it, and next to never is there such a record.
        parts_alone: Whether each part has files of its own, as earlier versions wrote them.
        redaction: What is hidden of records before anything of them is written or counted; None for nothing.
        again: Whether an earlier attempt may have written rows of objects that are gone since: nothing is written
            without those, see `ocsf_lake.ingest.unfinished`.
    """

    lake: Lake
    engine: Engine
    engines: Engines
    lease: Lease
    store: Store
    last: bool = False
    alone: frozenset[str] | None = None
    ended: Callable[[str], None] = lambda _: None
    proves: bool = False
    parts_alone: bool = False
    redaction: Policy | None = None
    again: bool = False


class Attempt:
    """An attempt at a batch of objects.

    Args:
        batch: The batch, as the ledger has begun it.
        work: What it needs.
        left_out: Members that are not read, and their outcomes.
        policy: What becomes of duplicates.
        quarantines: Whether records that become no event are written into quarantine. Else they are there already, and
            those of no known source are refused again instead of dropped.
    """

    def __init__(
        self, batch: Batch, work: Work, left_out: Mapping[ObjectRef, Outcome], policy: DuplicatePolicy, *,
        quarantines: bool = True,
    ) -> None:  # fmt: skip
        self.work = work
        self.store = work.store
        self.lease = work.lease
        self.policy = policy
        self.batch = batch
        self.lake = work.lake
        self.engine = work.engine
        self.last = work.last
        self.quarantines = quarantines
        self.router = Router(work.engine, work.engines, keep_strangers=not quarantines)
        self.others: dict[str, Attempt] = {}
        """Source -> what becomes of its records among the batch's."""
        members = [ref for ref in batch.members if ref not in left_out]
        self.source = Source(work.engine.mapper, work.lake.settings, members)
        self.result = Result({ref: left_out.get(ref) or Outcome() for ref in batch.members})
        if work.redaction is not None:
            self.result.redaction = work.redaction.id, work.redaction.text
        self.failures: dict[ObjectRef, Failure] = {}
        self.orphans = Orphans(work.lake.ledger.engine, batch.id)
        self.writer = Writer(work.lake.settings, batch.id)
        self._earlier: _EarlierParts | None = None if policy is DuplicatePolicy.KEEP else _EarlierParts()
        self.number = 0
        self._unanswered = 0
        self._passed: set[ObjectRef] = set()
        self._dropped: Counter[str] = Counter()
        self._failed_casts: Counter[str] = Counter()
        self._classes: Counter[str] = Counter()

    def run(self) -> Result:
        """Reads, maps and writes all of it.

        Raises:
            PartialReadError: Objects failed of which some records are written; it has to be done without them.
            CountError: Records were lost or doubled.
            UnprovedError: It has to be done once more, with `Work.proves`.
        """
        began = time.monotonic()
        parts = self._parts()
        while (part := next(parts, None)) is not None:
            for attempt in self.all:
                attempt.writer.settle()
            self._do(part.pieces)
            del part  # before the next one is read: a part is the largest thing in memory
        self.end()
        self._end_files(self.all)
        for attempt in self.all:
            attempt._sum_up()
        # A try that was given up may have asked for one that has no records.
        others = [other for _, other in sorted(self.others.items()) if other.result.counts.read]
        self.result.routed = [(other.batch, other.result) for other in others]
        self.result.seconds = round(time.monotonic() - began, 3)
        return self.result

    @property
    def all(self) -> list[Attempt]:
        """This one, and those at records of other sources."""
        return [self, *self.others.values()]

    def close(self) -> None:
        """Lets go of what it holds but its result."""
        self.source.opener.close()
        for attempt in self.all:
            if attempt._earlier is not None:
                attempt._earlier.close()

    def pieces(self, ref: ObjectRef) -> Iterator[Piece]:
        """The records of an object."""
        return self.source.pieces(ref)

    def end(self) -> None:
        """Called when all parts are mapped, before the last files are written."""

    def check(self) -> None:
        """Whether all that was read is in files.

        Raises:
            CountError: It is not.
        """
        for attempt in self.all:
            _check(attempt.batch, attempt.result)

    def _sum_up(self) -> None:
        self.result.events_by_class = dict(sorted(self._classes.items()))
        self.result.dropped = dict(sorted(self._dropped.items()))
        self.result.failed_casts = dict(sorted(self._failed_casts.items()))
        self.result.unmapped_keys = tally.unmapped_keys(self.result.statistics)

    def _other(self, engine: Engine) -> Attempt:
        """The attempt at the records of another source."""
        name = engine.mapper.name
        if name not in self.others:
            batch, alone = routed.batch(self.batch, engine), self.work.alone
            if self.batch.kind is Kind.REPLAY:
                policy = DuplicatePolicy.KEEP
            elif alone is None:
                policy = duplicated.policy_of(self.lake.ledger.engine, batch.id)
            else:
                policy = duplicates.policy(self.lake.settings, engine.mapper)
                if policy is not DuplicatePolicy.KEEP and name not in alone:
                    raise NotAloneError(name)
            if self.store is self.lake.store:
                containers.note(self.lake.ledger.engine, self.batch.id, batch.id)
            unread = {ref: Outcome() for ref in batch.members}
            work = replace(self.work, engine=engine, ended=lambda _: None)
            self.others[name] = Attempt(batch, work, unread, policy, quarantines=self.quarantines)
        return self.others[name]

    def _parts(self) -> Iterator[Part]:
        assembly = PartBuilder(self.lake.settings)
        for ref, outcome in self.result.outcomes.items():
            if outcome.state is State.FAILED:
                continue
            begun = False
            try:
                for piece in self.pieces(ref):
                    outcome.counts.read += piece.chunk.read
                    outcome.counts.dropped += sum(piece.chunk.dropped.values())
                    begun = True
                    yield from assembly.add(piece)
                outcome.sha256 = self.source.sha256s.pop(ref, None)
                self._unanswered = 0
            except SetAsideError as aside:
                outcome.state, outcome.reason = State.SET_ASIDE, str(aside)
            except Exception as error:
                failure = self._redacted_failure(self._unreadable(ref, error))
                if begun:
                    raise PartialReadError([failure]) from error
                self.failures[ref] = failure
                self.result.outcomes[ref] = failure.outcome
        yield from assembly.rest()

    def _unreadable(self, ref: ObjectRef, error: Exception) -> Failure:
        """Why an object is left out that cannot be read.

        Raises:
            RetriableError: The store does not answer, for other objects either, or a later attempt may fare better.
            ConfigError: The store refuses us altogether.
        """
        divide.without_frames(error)
        if isinstance(error, ObjectError):
            if self.work.again and not unfinished.is_to_be_had(self.lake, ref):
                raise RetriableError(f"an object went while its batch was done again: {error}", batch=self.batch.id)
            return Failure(ref, str(error), isinstance(error, UnreadableError), error)
        if isinstance(error, RetriableError):
            self._unanswered += 1
            if self.last and self._unanswered < MOST_UNANSWERED:
                return Failure(ref, f"the store does not give the object: {error}", False, error)
        if divide.ends_attempt(error):
            raise error
        return Failure(ref, f"the reader fails: {divide.described(error)}", True, error)

    # -- one part -----------------------------------------------------------------------------------------------------
    def _do(self, pieces: Sequence[Piece]) -> None:
        """Maps and writes some records. Those that make it fail are found by halving, and left out."""
        try:
            prepared = self.prepared(pieces)
        except Exception as error:
            if divide.ends_attempt(error):
                raise
            self._divide(pieces, error)
        else:
            self.write(prepared)

    def _divide(self, pieces: Sequence[Piece], error: Exception) -> None:
        division = divide.search(pieces, self.prepared, error, frozenset(self._passed))
        if division.objects:
            raise PartialReadError([self._redacted_failure(failure) for failure in division.objects]) from error
        rejects, hidden = self._redacted_rejects(divide.rejects(division.records, self.engine))
        self.result.redacted += hidden
        for row in rejects.to_pylist():
            self.result.isolated.append(Isolated(row["source_object"], row["source_record"], row["reason"]))
        groups = division.passed
        if division.records:
            try:
                whole = self.prepared([piece for group in groups for piece in group], rejects)
            except Exception as error:
                if divide.ends_attempt(error):
                    raise
                self.write(self.prepared([], rejects))
            else:
                self.write(whole)
                return
        # All of it together is too much; each group on its own is not.
        for group in groups:
            self.write(self.prepared(group))

    def prepared(self, pieces: Sequence[Piece], rejects: pa.Table | None = None) -> Prepared:
        """What some records become, as it will be written. Nothing else knows of it yet."""
        routed = self.router.map([(piece.raw_object, piece.chunk) for piece in pieces])
        (first, hidden), *rest = [self._redacted(item) for item in routed]
        mapped = first.mapped
        if rejects is not None:
            mapped = replace(mapped, rejects=pa.concat_tables([mapped.rejects, rejects]))
        prepared = self._sliced(pieces, mapped)
        prepared.strangers, prepared.redacted = first.strangers, hidden
        for item, of_other in rest:
            other = self._other(item.engine)
            theirs = other._sliced((), item.mapped)
            theirs.redacted = of_other
            prepared.others.append((other, theirs, item.read))
        self._check_part(prepared, 0 if rejects is None else len(rejects))
        return prepared

    def _redacted(self, routed: Routed) -> tuple[Routed, Counter[str]]:
        """What some records became without what is hidden, and how many values each rule hid."""
        if self.work.redaction is None:
            return routed, Counter()
        mapped, hidden = self.work.redaction.of_source(routed.engine.mapper).mapped(routed.mapped)
        return replace(routed, mapped=mapped), hidden

    def _redacted_failure(self, failure: Failure) -> Failure:
        """A failure whose reason, which is kept and logged, quotes nothing that is hidden."""
        hides = self.work.redaction
        return failure if hides is None else replace(failure, reason=hides.message(failure.reason))

    def _redacted_rejects(self, rejects: pa.Table) -> tuple[pa.Table, Counter[str]]:
        if self.work.redaction is None:
            return rejects, Counter()
        return self.work.redaction.of_source(self.engine.mapper).records.rejects(rejects)

    def _sliced(self, pieces: Sequence[Piece], mapped: Mapped) -> Prepared:
        repeats = None
        listed: list[Slice] = []
        if self._earlier is not None:
            mapped, repeats = self._without_duplicates(mapped, self._earlier)
            listed = duplicates.slices(repeats.listed, self.batch)
        own = [*parquet.split(mapped.events), *(rejects.slices(mapped.rejects, self.batch) if self.quarantines else ())]
        alone = []
        if self.work.proves or self._earlier is not None:
            trial = Writer(self.lake.settings, self.batch.id, self.number)
            trial.add([*listed, *own])
            alone = list(trial.ended(_first_folder))
        return Prepared(pieces, mapped, repeats, [*listed, *own], alone, sum(len(rows) for *_, rows in own))

    def _check_part(self, prepared: Prepared, more: int) -> None:
        """Notices records that are lost or doubled while it can still be found by which record."""
        read = sum(piece.chunk.read for piece in prepared.pieces) + more
        every = [prepared, *(other for _, other, _ in prepared.others)]
        events = sum(len(item.mapped.events) for item in every)
        refused = sum(len(item.mapped.rejects) for item in every)
        dropped = sum(item.mapped.dropped.total() for item in every)
        rows = sum(item.rows for item in every)
        if read != events + refused + dropped or rows != events + (refused if self.quarantines else 0):
            raise CountError(
                f"of {read} records came {events} events, {refused} in quarantine and {dropped} dropped, and {rows} "
                "rows in files; these do not agree",
                batch=self.batch.id,
                source=self.batch.source,
            )

    def write(self, prepared: Prepared) -> None:
        """Writes and counts what some records became."""
        by_uri = self._counts
        for uri, number in prepared.strangers.items():
            by_uri[uri].dropped += number
        for other, theirs, read in prepared.others:
            for uri, number in read.items():
                by_uri[uri].read -= number
                other._counts[uri].read += number
            other.write(theirs)
        self._count(prepared.mapped)
        self.result.redacted += prepared.redacted
        if (repeats := prepared.duplicates) is not None:
            self.result.duplicates += len(repeats.rows)
            self.result.variants += repeats.variants
            if self.policy is DuplicatePolicy.DROP:
                for row in repeats.listed:
                    self._counts[row["source_object"]].dropped += 1
        self.lease.check()
        self.add(prepared.slices)
        if self._earlier is not None:
            self._earlier.keep(prepared.alone)
        self._passed.update(piece.ref for piece in prepared.pieces)
        self.number += 1
        if self.work.parts_alone:
            self._end_files([self])
        elif sum(one.writer.bytes for one in self.all) > writers.MOST_BYTES:
            self._end_files(self.all)
        self.work.ended(self.batch.id)

    def add(self, slices: Sequence[Slice]) -> None:
        """Adds rows to the files."""
        with self._unproved():
            self.writer.add(slices)

    def _end_files(self, attempts: Sequence[Attempt]) -> None:
        """Writes files as they are; rows that come after go into others."""
        self.lease.check()
        for attempt in attempts:
            with self._unproved():
                attempt._put()

    def _put(self) -> None:
        folder = self._folder()
        for info, data in self.writer.ended(folder):
            self.store.put(info.path, data)
            self.result.files.append(info)

    def _folder(self) -> FolderOf:
        """Where files go; what is written into the lake has to be found again when this attempt dies."""
        if self.store is not self.lake.store:
            return _first_folder  # what is made aside keeps the names that it was first written under
        open_files = self.writer.open
        events = (partition for partition, class_uid in open_files if class_uid is not None)
        compacted = generations.folders(self.lake.ledger.engine, events)
        places = {partition: compacted.get(partition) or _first_folder(partition) for partition, _ in open_files}
        self.orphans.note(sorted(set(places.values())))
        return places.__getitem__

    @contextmanager
    def _unproved(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self.work.proves or divide.ends_attempt(error):
                raise
            raise UnprovedError from error

    def _without_duplicates(self, mapped: Mapped, earlier: _EarlierParts) -> tuple[Mapped, duplicates.Repeats]:
        """What is left of a part, and what it repeats; without `drop` all of it is left."""
        drop = self.policy is DuplicatePolicy.DROP
        action = "dropped" if drop else "marked"
        search = duplicates.Search(self.lake, self.engine.mapper, self.batch, action, self.store, earlier.store)
        repeats = search.find(mapped.events, earlier.files)
        if not (repeats.rows and drop):
            return mapped, repeats
        gone = pc.is_in(pa.array(range(len(mapped.events)), pa.int64()), pa.array(repeats.rows, pa.int64()))
        for day, number in tally.days(mapped.events.filter(gone)).items():
            mapped.statistics.events[day] -= number
        dropped = mapped.dropped + Counter({duplicates.REASON: len(repeats.rows)})
        return replace(mapped, events=mapped.events.filter(pc.invert(gone)), dropped=dropped), repeats

    @property
    def _counts(self) -> dict[str, Counts]:
        return {ref.uri: outcome.counts for ref, outcome in self.result.outcomes.items()}

    def _count(self, mapped: Mapped) -> None:
        by_uri = self._counts
        for uri, number in tally.value_counts(mapped.events["source_object"]).items():
            by_uri[uri].events += number
        for uri, number in tally.value_counts(mapped.rejects["source_object"]).items():
            by_uri[uri].quarantined += number
        self._dropped += mapped.dropped
        self._failed_casts += mapped.failed_casts
        self.result.fallbacks += mapped.fallbacks
        self._classes.update(tally.value_counts(mapped.events["class_name"]))
        self.result.statistics.add(mapped.statistics)


@dataclass
class Prepared:
    """What some records become, before anything is written or counted."""

    pieces: Sequence[Piece]
    mapped: Mapped
    duplicates: duplicates.Repeats | None
    slices: list[Slice]
    alone: list[Encoded]
    """The files that it would be without other parts, if they were asked for."""
    rows: int
    strangers: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    others: list[tuple[Attempt, Prepared, Counter[str]]] = field(default_factory=list)
    """The same for records of other sources, and of how many records of each object."""


class _EarlierParts:
    """Events of a batch's earlier parts in files of their own, for the search for duplicates.

    The batch's files cannot be read before they are ended.
    """

    def __init__(self) -> None:
        self._folder = temporary.directory("ingest")
        self.store = Store(self._folder.name)
        self.files: list[FileInfo] = []

    def keep(self, files: Sequence[Encoded]) -> None:
        for info, data in files:
            if info.class_uid is not None:
                self.store.put(info.path, data)
                self.files.append(info)

    def close(self) -> None:
        self._folder.cleanup()


def _first_folder(partition: Partition) -> str:
    """The folder in which a partition's files begin; once compacted, they are elsewhere."""
    return definitions.folder(partition.table, partition.values)


def _check(batch: Batch, result: Result) -> None:
    by_uri = {ref.uri: outcome.counts for ref, outcome in result.outcomes.items()}
    wrong = [f"{uri}: {counts}" for uri, counts in by_uri.items() if not counts.balanced]
    rows = sum(file.rows for file in result.files if file.partition.table != DUPLICATES)
    total = result.counts
    if wrong or not total.balanced or rows != total.events + total.quarantined:
        raise CountError(
            f"{total} in the batch and {rows} rows in its files do not agree; {'; '.join(wrong[:5])}",
            batch=batch.id,
            source=batch.source,
        )
