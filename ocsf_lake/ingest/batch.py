"""One batch from raw objects to registered files. Doing it again gives the same files under the same names.

`complete` is how batches of any kind become part of the lake; `run` maps objects, `ocsf_lake.upkeep.replay` entries of
quarantine.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cache, partial

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ocsf_lake.catalogs.definitions import DUPLICATES, definition
from ocsf_lake.config import Settings
from ocsf_lake.ingest import divide, duplicates, moving, rejects, routed, tally
from ocsf_lake.ingest.divide import Broken, Failure
from ocsf_lake.ingest.parts import Assembly, Part, Piece, SetAsideError, Source, UnreadableError
from ocsf_lake.ingest.plan import MOST_UNANSWERED
from ocsf_lake.ingest.routing import Engines, Router
from ocsf_lake.inputs import discovery, fields
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import generations, meter, orphans, records
from ocsf_lake.ledger.generations import MovedError
from ocsf_lake.ledger.leases import Lease, LostError
from ocsf_lake.ledger.ledger import WORKER, now
from ocsf_lake.ledger.orphans import Traces
from ocsf_lake.ledger.results import Batch, CountError, Counts, Isolated, Outcome, Result, State
from ocsf_lake.storage import layout, parquet
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_lake.storage.store import Store
from ocsf_mappers import Engine, Mapped
from ocsf_mappers.errors import RetriableError

SHOWN = 3
"""Of the objects of a batch that fails as a whole, so many are named."""


def run(
    batch: Batch, lake: Lake, engine: Engine, lease: Lease, last: bool = False, engines: Engines | None = None
) -> Result:
    """Maps a batch, writes and registers its files, marks it done.

    An object or record that makes the work fail is found and left out, with the reason; the others are done. Records of
    other sources among its own are done with it, each source's under a batch of its own.

    Args:
        batch: The batch.
        lake: The lake.
        engine: Of the batch's source.
        lease: On the batch.
        engines: Gives the engines of other sources; None to make them.
        last: No further attempt will be made now: an object that the store does not give is left out.

    Raises:
        CountError: What was read is not what came out.
        Exception: Every object of the batch fails, this is why the first one does.
        LostError: Another worker has taken it over.
        RetriableError: A store or the database does not answer.
        WriteError: The lake refused a file.
    """
    policy = duplicates.policy(lake.settings, engine.mapper)
    work = _Work(lake, engine, engines or engine_of(engine.version, lake.settings), lease, lake.store, last=last)
    alone = set() if policy is duplicates.Policy.KEEP else {batch.source}
    while True:
        # Always in one order, so that two batches never wait for each other.
        with ExitStack() as stack:
            for name in sorted(alone):
                stack.enter_context(duplicates.alone(lake, name))
            attempt = partial(_result, work=replace(work, alone=frozenset(alone)), policy=policy)
            try:
                return complete(batch, lake, lease, attempt, policy, engine.mapper.duplicate_key)
            except _NotAloneError as error:
                alone.add(error.source)


def complete(
    batch: Batch, lake: Lake, lease: Lease, make: Callable[[Batch], Result],
    policy: duplicates.Policy = duplicates.Policy.KEEP, key: Sequence[str] = (),
) -> Result:  # fmt: skip
    """Has the files of a planned batch made, and makes them part of the lake at one moment, once.

    Whoever dies here leaves the batch open: it is begun again, with the same files, or taken back by what
    `ocsf_lake.ingest.undo` gives.

    Args:
        batch: The batch, of any kind.
        lake: The lake.
        lease: What keeps others from it.
        make: Writes its files, into folders that it notes before, see `ocsf_lake.ledger.orphans`.
        policy: What became of duplicates.
        key: What tells the source's events apart.

    Raises:
        CountError: What was read is not what came out.
        LostError: Another worker has taken it over.
        RetriableError: A store or the database does not answer.
        WriteError: The lake refused a file.
    """
    while True:
        try:
            return _completed(lake.ledger.begin(batch), lake, lease, make, policy, key)
        except MovedError as error:
            # Its files are written once more where the partition's are now, under the same names.
            lake.ledger.fail(batch.id, None, excused=True)
            moving.settle(lake, error.table)


def engine_of(version: str, settings: Settings) -> Engines:
    """Makes the engines of sources for an OCSF version, their mappers as the settings make them."""
    return cache(lambda name: Engine(fields.mapper(name, settings), version))


class _NotAloneError(RetriableError):
    """The batch has records of a source of which no other batch may be done meanwhile."""

    def __init__(self, source: str) -> None:
        super().__init__("another batch of the source may be looking for duplicates", source=source)
        self.source = source


@dataclass(frozen=True)
class _Work:
    """What the attempts at a batch have in common.

    Args:
        lake: The lake.
        engine: Of the batch's source.
        engines: Gives those of others.
        lease: On the batch.
        store: Where to write.
        last: See `run`.
        alone: Sources of which no other batch is done meanwhile; None where nothing is done but made again.
    """

    lake: Lake
    engine: Engine
    engines: Engines
    lease: Lease
    store: Store
    last: bool = False
    alone: frozenset[str] | None = None


def _completed(
    batch: Batch, lake: Lake, lease: Lease, make: Callable[[Batch], Result], policy: duplicates.Policy,
    key: Sequence[str],
) -> Result:  # fmt: skip
    reached("begun", batch.id)
    result = make(batch)
    reached("written", batch.id)
    lease.check()
    given_up: list[str] = []
    if batch.attempts > 1:
        written = {file.path for file in result.all_files}
        with lake.ledger.engine.connect() as connection:
            left = orphans.left(connection, lake.store, batch.id)
            given_up += orphans.ids(connection, batch.id)
        lake.store.remove(path for path in left if path not in written)

    at = now()

    def make_visible() -> None:
        lease.check()
        with lake.ledger.engine.connect() as connection:
            generations.check(connection, result.all_files)
        # An earlier attempt may have registered records of another source under another mapper.
        for batch_id in set(given_up) - {batch.id, *(one.id for one, _ in result.routed)}:
            lake.catalog.drop(batch_id)
        for one, found in [(batch, result), *result.routed]:
            register(one, lake, found)
        reached("registered", batch.id)
        if batch.attempts > 1:
            records.forget(lake.store, batch.id)
        facts = records.Facts(at, WORKER, policy, tuple(key), duplicates.routed(lake.settings, result))
        records.write(lake.store, batch, result, facts)
        reached("recorded", batch.id)

    def also(connection: sa.Connection) -> None:
        generations.check(connection, result.all_files)
        orphans.forget(connection, batch.id)
        result.news.update(meter.record(connection, batch, result, discovery.day_of, at))
        duplicates.note(connection, batch, policy, result, key)
        routed.record(connection, lake.settings, batch, result, at)

    try:
        lake.ledger.finish(batch, result, make_visible, also, at)
    except LostError:
        # What it was made of is in other batches by now; what was written here would count it twice.
        lake.ledger.unless_planned(batch.id, lambda _: _forget(batch, lake, result))
        raise
    reached("done", batch.id)
    return result


def _forget(batch: Batch, lake: Lake, result: Result) -> None:
    records.forget(lake.store, batch.id)
    for one in (batch, *(one for one, _ in result.routed)):
        lake.catalog.drop(one.id)
    lake.store.remove(file.path for file in result.all_files)


def again(
    batch: Batch, lake: Lake, engine: Engine, lease: Lease, policy: duplicates.Policy, store: Store,
    read: Collection[ObjectRef],
) -> Result:  # fmt: skip
    """Maps a finished batch once more and writes its files elsewhere; nothing is registered or marked.

    Args:
        batch: The batch.
        lake: The lake.
        engine: Of the batch's source.
        lease: On the batch.
        policy: What became of duplicates then; earlier batches are looked at as they are now.
        store: Where to write.
        read: The members that were read then; the others failed or were set aside.

    Raises:
        CountError: What was read is not what came out.
        RetriableError: A store or the database does not answer.
    """
    work = _Work(lake, engine, engine_of(engine.version, lake.settings), lease, store)
    return _result(batch, work, policy, read=read)


def reached(step: str, batch_id: str) -> None:
    """Called between the steps of a batch; does nothing. Tests interrupt a run here."""


def _result(
    batch: Batch, work: _Work, policy: duplicates.Policy, *, read: Collection[ObjectRef] | None = None
) -> Result:
    left_out = {} if read is None else {ref: _NOT_READ for ref in batch.members if ref not in read}
    failures: dict[ObjectRef, Failure] = {}
    while True:
        attempt = _Attempt(batch, work, left_out, policy)
        try:
            with closing(attempt.source.opener):
                result = attempt.run()
            break
        except Broken as broken:
            # Some of its records may be in files by now. Without it those files come out anew, under the same names.
            failures |= {failure.ref: failure for failure in broken.failures}
            left_out |= {ref: failure.outcome for ref, failure in failures.items()}
            work.lease.check()
            work.store.remove(file.path for one in attempt.all for file in one.result.files)
    failures |= attempt.failures
    if failures and all(outcome.state is State.FAILED for outcome in result.outcomes.values()):
        _check_blame(batch, list(failures.values()))
    _check(batch, result)
    return result


def _check_blame(batch: Batch, failures: Sequence[Failure]) -> None:
    """Where all objects fail in the same way it may be for another reason than what is in them.

    If it is not, the ledger divides the batch after some attempts, and each object is found guilty on its own.
    """
    error = failures[0].error
    away = all(isinstance(failure.error, RetriableError) for failure in failures)
    if away or (len(failures) > 1 and all(failure.is_defect for failure in failures)):
        uris = ", ".join(ref.uri for ref in batch.members[:SHOWN])
        error.add_note(f"none of the {len(batch.members)} objects of the batch can be read; the first: {uris}")
        raise error


_NOT_READ = Outcome(state=State.FAILED)


class _Attempt:
    def __init__(
        self, batch: Batch, work: _Work, left_out: Mapping[ObjectRef, Outcome], policy: duplicates.Policy
    ) -> None:
        self.work = work
        self.store = work.store
        self.lease = work.lease
        self.policy = policy
        self.batch = batch
        self.lake = work.lake
        self.engine = work.engine
        self.last = work.last
        self.router = Router(work.engine, work.engines)
        self.others: dict[str, _Attempt] = {}
        """Source -> what becomes of its records among the batch's."""
        members = [ref for ref in batch.members if ref not in left_out]
        self.source = Source(work.engine.mapper, work.lake.settings, members)
        self.result = Result({ref: left_out.get(ref) or Outcome() for ref in batch.members})
        self.failures: dict[ObjectRef, Failure] = {}
        self.traces = Traces(work.lake.ledger.engine, batch.id)
        self.number = 0
        self._unanswered = 0
        self._passed: set[ObjectRef] = set()
        self._dropped: Counter[str] = Counter()
        self._failed_casts: Counter[str] = Counter()
        self._classes: Counter[str] = Counter()

    def run(self) -> Result:
        began = time.monotonic()
        parts = self._parts()
        while (part := next(parts, None)) is not None:
            self._do(part.pieces)
            del part  # before the next one is read: a part is the largest thing in memory
        for attempt in self.all:
            attempt._sum_up()
        # A try that was given up may have asked for one that has no records.
        others = [other for _, other in sorted(self.others.items()) if other.result.counts.read]
        self.result.routed = [(other.batch, other.result) for other in others]
        self.result.seconds = round(time.monotonic() - began, 3)
        return self.result

    @property
    def all(self) -> list[_Attempt]:
        """This one, and those at records of other sources."""
        return [self, *self.others.values()]

    def _sum_up(self) -> None:
        self.result.events_by_class = dict(sorted(self._classes.items()))
        self.result.dropped = dict(sorted(self._dropped.items()))
        self.result.failed_casts = dict(sorted(self._failed_casts.items()))
        self.result.unmapped_keys = tally.unmapped_keys(self.result.census)

    def _other(self, engine: Engine) -> _Attempt:
        """The attempt at the records of another source."""
        name = engine.mapper.name
        if name not in self.others:
            batch, alone = routed.batch(self.batch, engine), self.work.alone
            if alone is None:
                policy = duplicates.policy_of(self.lake.ledger, batch.id)
            else:
                policy = duplicates.policy(self.lake.settings, engine.mapper)
                if policy is not duplicates.Policy.KEEP and name not in alone:
                    raise _NotAloneError(name)
            if self.store is self.lake.store:
                routed.note(self.lake.ledger, self.batch, batch)
            unread = {ref: Outcome() for ref in batch.members}
            self.others[name] = _Attempt(batch, replace(self.work, engine=engine), unread, policy)
        return self.others[name]

    def _parts(self) -> Iterator[Part]:
        assembly = Assembly(self.lake.settings)
        for ref, outcome in self.result.outcomes.items():
            if outcome.state is State.FAILED:
                continue
            given = False
            try:
                for piece in self.source.pieces(ref):
                    outcome.counts.read += piece.chunk.read
                    outcome.counts.dropped += sum(piece.chunk.dropped.values())
                    given = True
                    yield from assembly.add(piece)
                self._unanswered = 0
            except SetAsideError as aside:
                outcome.state, outcome.reason = State.SET_ASIDE, str(aside)
            except Exception as error:
                failure = self._unreadable(ref, error)
                if given:
                    raise Broken([failure]) from error
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
            prepared = self._prepared(pieces)
        except Exception as error:
            if divide.ends_attempt(error):
                raise
            self._divide(pieces, error)
        else:
            self._write(prepared)

    def _divide(self, pieces: Sequence[Piece], error: Exception) -> None:
        found = divide.search(pieces, self._prepared, error, frozenset(self._passed))
        if found.objects:
            raise Broken(found.objects) from error
        rejects = divide.rejects(found.records, self.engine)
        for row in rejects.to_pylist():
            self.result.isolated.append(Isolated(row["source_object"], row["source_record"], row["reason"]))
        groups = found.passed
        if found.records:
            try:
                whole = self._prepared([piece for group in groups for piece in group], rejects)
            except Exception as error:
                if divide.ends_attempt(error):
                    raise
                self._write(self._prepared([], rejects))
            else:
                self._write(whole)
                return
        # All of it together is too much; each group on its own is not.
        for group in groups:
            self._write(self._prepared(group))

    def _prepared(self, pieces: Sequence[Piece], rejects: pa.Table | None = None) -> _Prepared:
        """What some records become, with the files as they will be written. Nothing else knows of it yet."""
        first, *rest = self.router.map([(piece.raw_object, piece.chunk) for piece in pieces])
        mapped = first.mapped
        if rejects is not None:
            mapped = replace(mapped, rejects=pa.concat_tables([mapped.rejects, rejects]))
        prepared = self._encoded(pieces, mapped)
        prepared.strangers = first.strangers
        for item in rest:
            other = self._other(item.engine)
            prepared.others.append((other, other._encoded((), item.mapped), item.read))
        self._check(prepared, 0 if rejects is None else len(rejects))
        return prepared

    def _encoded(self, pieces: Sequence[Piece], mapped: Mapped) -> _Prepared:
        settings = self.lake.settings
        found = None
        listed: list[parquet.Encoded] = []
        if self.policy is not duplicates.Policy.KEEP:
            mapped, found = self._without_duplicates(mapped)
            listed = duplicates.encoded(found.listed, settings, self.batch, self.number)
        files = [
            *parquet.encoded(mapped.events, settings, self.batch.id, self.number, self._places(mapped.events)),
            *rejects.encoded(mapped.rejects, settings, self.batch, self.number),
        ]
        rows = sum(info.rows for info, _ in files)
        return _Prepared(pieces, mapped, found, [*listed, *files], rows)

    def _places(self, events: pa.Table) -> Mapping[Partition, str] | None:
        """Where the partitions' files are; what is made aside keeps the names that it was first written under."""
        if self.store is not self.lake.store:
            return None
        return generations.folders(self.lake.ledger.engine, (partition for partition, _ in parquet.partitions(events)))

    def _check(self, prepared: _Prepared, more: int) -> None:
        """Notices records that are lost or doubled while it can still be found by which record."""
        read = sum(piece.chunk.read for piece in prepared.pieces) + more
        every = [prepared, *(other for _, other, _ in prepared.others)]
        events = sum(len(item.mapped.events) for item in every)
        refused = sum(len(item.mapped.rejects) for item in every)
        dropped = sum(item.mapped.dropped.total() for item in every)
        rows = sum(item.rows for item in every)
        if read != events + refused + dropped or rows != events + refused:
            raise CountError(
                f"of {read} records came {events} events, {refused} in quarantine and {dropped} dropped, and {rows} "
                "rows in files; these do not agree",
                batch=self.batch.id,
                source=self.batch.source,
            )

    def _write(self, prepared: _Prepared) -> None:
        by_uri = self._counts
        for uri, number in prepared.strangers.items():
            by_uri[uri].dropped += number
        for other, theirs, read in prepared.others:
            for uri, number in read.items():
                by_uri[uri].read -= number
                other._counts[uri].read += number
            other._write(theirs)
        self._count(prepared.mapped)
        if (found := prepared.duplicates) is not None:
            self.result.duplicates += len(found.rows)
            self.result.variants += found.variants
            if self.policy is duplicates.Policy.DROP:
                for row in found.listed:
                    self._counts[row["source_object"]].dropped += 1
        self.lease.check()
        self._note(sorted({layout.folder_of(info.path) for info, _ in prepared.files}))
        self.result.files += [parquet.put(file, self.store) for file in prepared.files]
        self._passed.update(piece.ref for piece in prepared.pieces)
        self.number += 1
        reached("part", self.batch.id)

    def _note(self, folders: Sequence[str]) -> None:
        """What is written into the lake has to be found again when this attempt dies."""
        if self.store is self.lake.store:
            self.traces.note(folders)

    def _without_duplicates(self, mapped: Mapped) -> tuple[Mapped, duplicates.Found]:
        """What is left of a part, and what it repeats; without `drop` all of it is left."""
        drop = self.policy is duplicates.Policy.DROP
        action = "dropped" if drop else "marked"
        search = duplicates.Search(self.lake, self.engine.mapper, self.batch, action, self.store)
        found = search.found(mapped.events, self.result.files)
        if not (found.rows and drop):
            return mapped, found
        gone = pc.is_in(pa.array(range(len(mapped.events)), pa.int64()), pa.array(found.rows, pa.int64()))
        for day, number in tally.days(mapped.events.filter(gone)).items():
            mapped.census.events[day] -= number
        dropped = mapped.dropped + Counter({duplicates.REASON: len(found.rows)})
        return replace(mapped, events=mapped.events.filter(pc.invert(gone)), dropped=dropped), found

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
        self._classes.update(tally.value_counts(mapped.events["class_name"]))
        self.result.census.add(mapped.census)


@dataclass
class _Prepared:
    """What some records become, before anything is written or counted."""

    pieces: Sequence[Piece]
    mapped: Mapped
    duplicates: duplicates.Found | None
    files: Sequence[parquet.Encoded]
    rows: int
    strangers: Counter[str] = field(default_factory=Counter)
    others: list[tuple[_Attempt, _Prepared, Counter[str]]] = field(default_factory=list)
    """The same for records of other sources, and of how many records of each object."""


def _check(batch: Batch, result: Result) -> None:
    for one, found in [(batch, result), *result.routed]:
        by_uri = {ref.uri: outcome.counts for ref, outcome in found.outcomes.items()}
        wrong = [f"{uri}: {counts}" for uri, counts in by_uri.items() if not counts.balanced]
        rows = sum(file.rows for file in found.files if file.partition.table != DUPLICATES)
        total = found.counts
        if wrong or not total.balanced or rows != total.events + total.quarantined:
            raise CountError(
                f"{total} in the batch and {rows} rows in its files do not agree; {'; '.join(wrong[:5])}",
                batch=one.id,
                source=one.source,
            )


def register(batch: Batch, lake: Lake, result: Result) -> None:
    """Tells the catalogs of a batch's files."""
    for name in sorted({file.partition.table for file in result.files}):
        lake.catalog.create_or_evolve(definition(name))
    lake.catalog.register(batch.id, result.files)
