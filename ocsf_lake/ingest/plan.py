"""Which objects are new, and in which batches they go: decided, and written to the ledger, before any work is done.

A database that is away for a minute is waited for at each step, so that what has been listed is not listed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from ocsf_lake.config import Settings
from ocsf_lake.ingest import attempts, divide, undo, unfinished
from ocsf_lake.ingest.batch_builder import BatchBuilder, batches
from ocsf_lake.inputs import discovery, fields
from ocsf_lake.inputs.coverage import Coverage
from ocsf_lake.inputs.listing import Calls, Names
from ocsf_lake.lake import Lake
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.ledger import LeftOut, program
from ocsf_lake.ledger.results import SETTLED, Batch, BatchRow, State
from ocsf_lake.storage import layout, objects, retry, s3
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers import Mapper, registry
from ocsf_mappers.engine.fingerprint import fingerprint
from ocsf_mappers.errors import ConfigError, OcsfMappersError, RetriableError

CHUNK = 5_000
"""Objects held against the ledger at once."""
WRITTEN_AT_ONCE = 16
"""Batches written to the ledger in one transaction."""
MOST_UNANSWERED = 3
"""When the store gives none of so many objects in a row, it is the store's fault, not theirs."""
PARTS = 10
"""Into at most so many parts a batch is divided that failed too often."""
DIED = "the process ended while it worked on this object: killed, out of memory, or over its time"
NOT_READ_KEPT = 10_000
"""Objects that are not read are named up to this number for each state; the others are counted."""


@dataclass(frozen=True)
class NotRead:
    """An object from which no records were taken, and why."""

    uri: str
    state: State
    reason: str


@dataclass
class Unread:
    """Objects from which no records were taken.

    Args:
        items: The objects; of each state not more than `NOT_READ_KEPT`.
        numbers: How many there are of each state.
    """

    items: list[NotRead] = field(default_factory=list)
    numbers: Counter[State] = field(default_factory=Counter)

    def add(self, item: NotRead) -> None:
        """Counts an object, and keeps it while there are not too many."""
        self.numbers[item.state] += 1
        if self.numbers[item.state] <= NOT_READ_KEPT:
            self.items.append(item)

    def extend(self, other: Unread) -> None:
        """Counts those of another as well."""
        for item in other.items:
            self.add(item)
        named = Counter(item.state for item in other.items)
        self.numbers.update(other.numbers - named)


@dataclass
class Planned:
    """What planning found.

    Args:
        batch_ids: Batches to do: those an interrupted run left open, then the new ones.
        suspects: Those of them that failed before, to be done alone and after the others; the oftener the later.
        listed: Objects that were listed, those of other sources left out.
        known: Those of them that earlier runs have dealt with.
        unread: Objects skipped, set aside or failed, with the reasons.
        list_calls: How often the store was asked for names.
        reread: Objects that are read again, as none of their records was an event.
        undetermined: Objects taken in although their names do not say the day, account or region that was asked for.
        of_others: Objects in the same folders with names of another source; they are left alone.
        broken: Name of a source that cannot be used -> why; its objects and batches wait.
        coverage: What was looked at, and what was not; None where nothing was listed.
        refused: How many folders could not be listed.
    """

    batch_ids: list[str] = field(default_factory=list)
    suspects: list[str] = field(default_factory=list)
    listed: int = 0
    known: int = 0
    unread: Unread = field(default_factory=Unread)
    list_calls: int = 0
    undetermined: int = 0
    of_others: int = 0
    reread: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    coverage: Coverage | None = None
    refused: int = 0

    def add_calls(self, calls: Calls) -> None:
        """Takes over the number of list calls, and the folders that could not be listed."""
        self.list_calls = calls.number
        self.refused = len(calls.refused)
        for uri, reason in calls.refused.items():
            self.unread.add(NotRead(uri, State.FAILED, reason))

    @property
    def not_read(self) -> list[NotRead]:
        """The objects of `unread`."""
        return self.unread.items


@dataclass
class Count:
    """What there is to do.

    Args:
        objects: Objects that were listed.
        known: Those of them that are settled: done, set aside, or in a batch that is planned.
        bytes: Size of what is to do, batches already planned included.
        batches: How many there would be.
        archived: Objects that have to be restored first; they are in no batch.
    """

    objects: int = 0
    known: int = 0
    bytes: int = 0
    batches: int = 0
    archived: int = 0


def mappers(source: str | None, settings: Settings) -> tuple[MutableMapping[str, Mapper], dict[str, str]]:
    """Mappers by name, of one source or of all, as the settings make them; of those that cannot be loaded the reasons.

    Raises:
        ConfigError: There is no such source.
        MappingError: The source that is asked for cannot be loaded.
    """
    if source is not None:
        return {source: fields.mapper(source, settings)}, {}
    usable = registry.Usable(lambda mapper: fields.configured(mapper, settings))
    return usable, usable.broken


@dataclass(frozen=True)
class _Replacement:
    """What takes the place of an open batch.

    Args:
        to_do: Batches that are asked for.
        waiting: Batches that are left for later.
        failures: With which the batches of several members begin.
        left_out: Objects of the batch that go into none.
        unread: The same for the summary.
    """

    to_do: Sequence[Batch]
    waiting: Sequence[Batch] = ()
    failures: int = 0
    left_out: Sequence[LeftOut] = ()
    unread: Sequence[NotRead] = ()


class Planner:
    """Plans the batches of one lake.

    Args:
        lake: The lake.
        mappers: Name of a source -> its mapper; objects of other sources are skipped. What does not compile is removed.
        broken: Name of a source that cannot be used -> why; its objects and batches wait.
        again: Whether an object that failed too often is tried again all the same.
        passed: Takes what is passed over: the lake's own files, where it lies below what was listed.
        named: URIs of objects that are asked for by name; those are taken even where they are the lake's own.
    """

    def __init__(
        self, lake: Lake, mappers: MutableMapping[str, Mapper], broken: Mapping[str, str] | None = None,
        again: Callable[[ObjectRef], bool] = lambda _: False, passed: dict[str, Names] | None = None,
        named: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.lake = lake
        self.settings = lake.settings
        self.mappers = mappers
        self.again = again
        self.planned = Planned(broken=dict(broken or {}))
        self._unanswered = 0
        self.settled: list[ObjectRef] = []
        """Listed objects that earlier runs have read or set aside; kept where `keep_settled` says so."""
        self.keep_settled = False
        self._versions: dict[str, str] = {}
        self._passed = {} if passed is None else passed
        self._named = named
        self._roots = [f"{objects.uri_of(uri, lake.settings.lake_access)}/" for uri in _roots(lake.settings)]

    def plan(self, pages: Iterable[Sequence[ObjectRef]], source: str | None) -> Planned:
        """Plans what is new on pages of listed objects.

        Args:
            pages: The objects, in an order that is the same every time.
            source: Their source; None to recognize it by each one's name or content.
        """
        waiting = PlanBuffer(self)
        open_ids: dict[str, None] = {}
        mistaken: dict[str, set[tuple[str, str]]] = {}
        for chunk in _chunks(map(self._without_own, pages)):
            refs = {ref.key: ref for ref in self._with_etags(chunk) if ref.key not in waiting.keys}
            self.planned.listed += len(refs)
            self._group(self._unsettled(list(refs.values()), open_ids, source, mistaken), source, waiting)
            waiting.write(WRITTEN_AT_ONCE)
        waiting.finish()
        # A batch that this run has written is open as well when the same object is listed again after that.
        others = [batch_id for batch_id in open_ids if batch_id not in waiting.written]
        rows = retry.with_retries(self.lake.ledger.rows, others)
        self.planned.batch_ids += [*self.current(rows), *waiting.written]
        for batch, keys in mistaken.items():
            self.planned.batch_ids += self._as_source(source or "", batch, keys)
        self.planned.suspects = self._suspects(self.planned.batch_ids)
        return self.planned

    def _suspects(self, batch_ids: Sequence[str]) -> list[str]:
        rows = retry.with_retries(self.lake.ledger.rows, batch_ids)
        return [row.id for row in sorted(rows, key=lambda row: row.failures) if row.failures]

    def counted(self, pages: Iterable[Sequence[ObjectRef]], source: str) -> Count:
        """What `plan` would find, without writing, and without reading files to hash them."""
        count = Count()
        builder = BatchBuilder(source, "", self.settings)
        open_ids: set[str] = set()
        for chunk in _chunks(map(self._without_own, pages)):
            etags = self.lake.ledger.etags(chunk)
            refs = [replace(ref, etag=ref.etag or etags.get((ref.uri, ref.size, ref.stamp), "")) for ref in chunk]
            states = self.lake.ledger.states(refs)
            left_out = self._left_out([ref for ref in refs if states.get(ref.key, (None, None))[0] is State.FAILED])
            for ref in refs:
                if self._is_of_another_source(ref, source):
                    continue
                count.objects += 1
                state, batch = states.get(ref.key, (None, None))
                if state is State.PLANNED and batch:
                    open_ids.add(batch)
                if ref.key in left_out:
                    continue
                if state in SETTLED or discovery.set_aside_reason(ref.uri, self.mappers[source]):
                    count.known += state in SETTLED
                    continue
                if ref.archived:
                    count.archived += 1
                    continue
                count.bytes += ref.size
                count.batches += len(list(builder.add(ref)))
        count.batches += len(list(builder.rest())) + len(open_ids)
        count.bytes += sum(row.bytes_in for row in self.lake.ledger.rows(open_ids))
        return count

    def current(self, rows: Iterable[BatchRow]) -> list[str]:
        """The open batches among these, by id.

        Those planned for another mapper or OCSF version are planned anew. Those that failed too often are divided, and
        when a single object is left of one, it is left out.
        """
        batch_ids = []
        for row in rows:
            if row.state is State.DONE or not self._is_usable(row.source):
                continue
            if (row.mapper_version, row.ocsf_version) != (self.version(row.source), self.settings.ocsf_version):
                batch_ids += self._replaced(row.id, self._anew)
            elif row.failures >= self.settings.attempts:
                batch_ids += self._replaced(row.id, partial(self._divided, row))
            else:
                batch_ids.append(row.id)
        return batch_ids

    def _anew(self, batch: Batch) -> _Replacement:
        return _Replacement(self.grouped(batch.source, batch.members))

    def _divided(self, row: BatchRow, batch: Batch) -> _Replacement:
        """A batch in parts; each of several members is divided again after one more failure."""
        is_alone = len(batch.members) == 1 and self._batch(batch.source, batch.members).id == batch.id
        if not is_alone:  # one that is left of several, as the others are gone, has not failed on its own
            size = -(-len(batch.members) // PARTS)
            members = [batch.members[start : start + size] for start in range(0, len(batch.members), size)]
            parts = [self._batch(batch.source, some) for some in members]
            return _Replacement(parts, failures=self.settings.attempts - 1)
        (ref,) = batch.members
        reason = row.reason or DIED
        tried_with = program(batch.mapper_version)
        left_out = LeftOut(ref, batch.source, reason, row.failures, tried_with)
        unread = NotRead(ref.uri, State.FAILED, attempts.message(left_out))
        return _Replacement([], left_out=[left_out], unread=[unread])

    def _batch(self, source: str, members: Sequence[ObjectRef]) -> Batch:
        builder = BatchBuilder(source, self.version(source), self.settings)
        return builder.batch(members)

    def _as_source(self, source: str, batch_id: str, keys: set[tuple[str, str]]) -> list[str]:
        """Plans members of an open batch as the source that is asked for now; the others keep theirs."""

        def instead(batch: Batch) -> _Replacement:
            return _Replacement(
                self.grouped(source, [ref for ref in batch.members if ref.key in keys]),
                self.grouped(batch.source, [ref for ref in batch.members if ref.key not in keys]),
            )

        return self._replaced(batch_id, instead)

    def _replaced(self, batch_id: str, instead_of: Callable[[Batch], _Replacement]) -> list[str]:
        """Takes a batch that nobody holds out of the lake and plans its members anew.

        Those that are not to be had, where the batch has written something, go into none; but where it can be finished
        from its record, or nobody knows what is there, it stays as it is.

        Returns:
            The batches to do.
        """
        decided: list[_Replacement] = []

        def once() -> list[str]:
            with self.lake.leases.held(batch_id) as lease:
                batch = self.lake.ledger.batch(batch_id) if lease else None
                if lease is None:
                    return []
                if batch is None and (not decided or self.lake.ledger.rows([batch_id])):
                    return []  # another one has done it
                if batch is not None:
                    # Anew each time: between two attempts anybody may have worked on the batch.
                    decided.clear()
                    try:
                        again = unfinished.has_left(self.lake, batch)
                        missing = unfinished.missing(self.lake, batch) if again else {}
                    except (ConfigError, RetriableError):
                        return [batch_id]  # whoever does it will say why it cannot be done
                    if missing and unfinished.is_whole(self.lake, unfinished.kept_record(self.lake, batch)):
                        return [batch_id]
                    decided.append(self._without(batch, missing, instead_of, lease))
                (instead,) = decided
                # Without the batch: it was taken out by a transaction whose answer was lost.
                planned = self.lake.ledger.plan(
                    [*instead.waiting, *instead.to_do],
                    instead_of=(batch_id, undo.batch(self.lake, batch_id, lease)), failures=instead.failures,
                    left_out=instead.left_out,
                )  # fmt: skip
                lease.check()  # else another one may have ended it before, and nothing was planned
            for item in instead.unread:
                self.planned.unread.add(item)
            written = {batch.id for batch in planned}
            return [batch.id for batch in instead.to_do if batch.id in written]

        return retry.with_retries(once)

    def _without(
        self, batch: Batch, missing: Mapping[ObjectRef, str], instead_of: Callable[[Batch], _Replacement], lease: Lease
    ) -> _Replacement:  # fmt: skip
        """What takes the place of a batch without those of its objects that are not to be had."""
        if not missing:
            return instead_of(batch)
        left_out = unfinished.move_aside(self.lake, batch, missing, lease)
        unread = [NotRead(one.ref.uri, State.FAILED, one.reason) for one in left_out]
        rest = tuple(ref for ref in batch.members if ref not in missing)
        instead = instead_of(replace(batch, members=rest)) if rest else _Replacement([])
        return replace(
            instead, left_out=[*instead.left_out, *left_out], unread=[*instead.unread, *unread]
        )  # fmt: skip

    def grouped(self, source: str, members: Sequence[ObjectRef]) -> list[Batch]:
        """Objects of a source in batches, as this lake would read them now."""
        return list(batches(source, self.version(source), members, self.settings))

    def version(self, source: str) -> str:
        """Fingerprint of a source's mapper."""
        if source not in self._versions:
            mapper = self.mappers.get(source) or fields.mapper(source, self.settings)
            self._versions[source] = fingerprint(mapper, self.settings.ocsf_version)
        return self._versions[source]

    def _is_usable(self, source: str) -> bool:
        """Whether a source's mapper is there and compiles; if it does not, the others go on without it."""
        if source in self.mappers:
            try:
                self.version(source)
            except Exception as error:
                del self.mappers[source]
                self.planned.broken[source] = f"source {source!r} cannot be used: {divide.described(error)}"
        return source in self.mappers

    def _without_own(self, refs: Sequence[ObjectRef]) -> list[ObjectRef]:
        """Objects without the files of the lake: read as logs, they would grow with each run."""
        others = []
        for ref in refs:
            below = (ref.uri[len(root) :] for root in self._roots if ref.uri.startswith(root))
            if any(map(layout.is_own, below)) and ref.uri not in self._named:
                self._passed.setdefault(objects.OF_THE_LAKE, Names()).add(ref.uri)
            else:
                others.append(ref)
        return others

    # -- one chunk ----------------------------------------------------------------------------------------------------
    def _with_etags(self, refs: Sequence[ObjectRef]) -> list[ObjectRef]:
        """Local files that did not change since they were last seen are not hashed again."""
        etags = retry.with_retries(self.lake.ledger.etags, [ref for ref in refs if not ref.etag])
        return [
            replace(ref, etag=etag)
            if not ref.etag and (etag := etags.get((ref.uri, ref.size, ref.stamp)))
            else objects.with_etag(ref)
            for ref in refs
        ]

    def _unsettled(
        self, refs: Sequence[ObjectRef], open_ids: dict[str, None], source: str | None,
        mistaken: dict[str, set[tuple[str, str]]],
    ) -> list[ObjectRef]:  # fmt: skip
        """The new objects. Those in open batches are noted: by batch, and by key where it is of the wrong source."""
        states = retry.with_retries(self.lake.ledger.states, refs)
        left_out = self._left_out([ref for ref in refs if states.get(ref.key, (None, None))[0] is State.FAILED])
        batch_ids = {batch for state, batch in states.values() if state is State.PLANNED and batch}
        rows = retry.with_retries(self.lake.ledger.rows, batch_ids)
        wrong = {row.id for row in rows if source is not None and row.source != source}
        new = []
        for ref in refs:
            state, batch = states.get(ref.key, (None, None))
            if state in (State.DONE, State.SET_ASIDE):
                self.planned.known += 1
                if self.keep_settled:
                    self.settled.append(ref)
            elif state is State.PLANNED and batch in wrong and not self._is_of_another_source(ref, source):
                mistaken.setdefault(batch, set()).add(ref.key)
            elif state is State.PLANNED and batch and batch not in wrong:
                open_ids[batch] = None
            if self._is_of_another_source(ref, source):
                if state not in SETTLED:
                    self.planned.listed -= 1
                    self.planned.of_others += 1
            elif reason := left_out.get(ref.key):
                self.planned.unread.add(NotRead(ref.uri, State.FAILED, reason))
            elif state not in SETTLED:
                new.append(ref)
        return new

    def _is_of_another_source(self, ref: ObjectRef, source: str | None) -> bool:
        """Whether an object's name says that it is of another source than the one that is read.

        Several sources may be delivered to the same folders. Another's objects there are neither read nor noted in the
        ledger; elsewhere the source that the user names counts, whatever the object's name.
        """
        named = discovery.of_key(ref.uri).source if source is not None else None
        if source is None or named is None or named == source:
            return False
        mine, theirs = (registry.source(name).delivery.patterns for name in (source, named))
        return not set(mine).isdisjoint(theirs)

    def _left_out(self, failed: Sequence[ObjectRef]) -> dict[tuple[str, str], str]:
        """Objects that failed so often that they are not tried now, and the reason of each."""
        asked = [ref for ref in failed if not self.again(ref)]
        all_tries = retry.with_retries(self.lake.ledger.tries, asked) if asked else {}
        now = datetime.now(UTC)
        return {
            key: attempts.message(tries)
            for key, tries in all_tries.items()
            if (more := tries.attempts - self.settings.attempts) >= 0
            and not attempts.is_due(tries, more, self._program(tries.source) if tries.tried_with else None, now)
        }

    def _program(self, source: str | None) -> str | None:
        return program(self.version(source)) if source is not None and source in self.mappers else None

    def _group(self, refs: Iterable[ObjectRef], source: str | None, waiting: PlanBuffer) -> None:
        noted: dict[tuple[State, str, str | None], list[ObjectRef]] = {}
        for ref in refs:
            name, why = self._source(ref, source)
            if why is None and name is not None:
                waiting.add(name, ref)
            elif why is not None:
                noted.setdefault((why.state, why.reason, name), []).append(ref)
                self.planned.unread.add(why)
        for (state, reason, name), unread in noted.items():
            retry.with_retries(self.lake.ledger.note, unread, state, reason, name)

    def _source(self, ref: ObjectRef, chosen: str | None) -> tuple[str | None, NotRead | None]:
        """The source of an object that is to be read, or why it is not.

        Raises:
            RetriableError: The store gives none of several objects in a row.
            ConfigError: The store refuses us altogether.
        """
        if ref.archived:
            source = chosen or discovery.of_key(ref.uri).source
            return source, NotRead(ref.uri, State.FAILED, f"the object is archived: {s3.RESTORE}")
        stranger = None
        try:
            source = chosen or discovery.of_key(ref.uri).source or fields.source(ref.uri, self.settings)
            if source is None:
                sniffed = self._sniffed(ref)
                if sniffed.nothing is not None:
                    return None, NotRead(ref.uri, State.SET_ASIDE, sniffed.nothing)
                source, stranger = sniffed.source, sniffed.stranger
            self._unanswered = 0
        except ConfigError:
            raise
        except Exception as error:
            return None, NotRead(ref.uri, State.FAILED, self._unknown(error))
        if source is not None and not self._is_usable(source) and source in self.planned.broken:
            return source, NotRead(ref.uri, State.SKIPPED, self.planned.broken[source])
        if source is None or source not in self.mappers:
            return None, NotRead(ref.uri, State.SKIPPED, stranger or self._stranger())
        if reason := discovery.set_aside_reason(ref.uri, self.mappers[source]):
            return source, NotRead(ref.uri, State.SET_ASIDE, reason)
        return source, None

    def _stranger(self) -> str:
        """Why an object of no known source is skipped; what cannot be loaded cannot recognize its objects either."""
        reason = "neither the name nor the content is of a known source"
        lost = ", ".join(sorted(self.planned.broken))
        return f"{reason}; it may be of one that cannot be used: {lost}" if lost else reason

    def _unknown(self, error: Exception) -> str:
        """Why the source of an object is not known."""
        if isinstance(error, RetriableError):
            self._unanswered += 1
            if self._unanswered >= MOST_UNANSWERED:
                raise error
        if isinstance(error, OcsfMappersError):
            return str(error)
        return f"its source cannot be determined: {divide.described(error)}"

    def _sniffed(self, ref: ObjectRef) -> discovery.Sniffed:
        with objects.opened(ref, self.settings.input_access) as file:
            return discovery.sniffed(ref.uri, file, self.settings.limits)


class PlanBuffer:
    """Batches being filled, and full ones that are not in the ledger yet."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.keys: set[tuple[str, str]] = set()
        self.written: dict[str, None] = {}
        self._builders: dict[str, BatchBuilder] = {}
        self._full: list[Batch] = []
        self._refused: list[Batch] = []

    def add(self, source: str, ref: ObjectRef) -> None:
        """Takes an object into the batch of its source."""
        self.keys.add(ref.key)
        self._full += self._builder(source).add(ref)

    def write(self, at_least: int) -> None:
        """Writes the full batches to the ledger, if there are so many."""
        while len(self._full) >= at_least:
            some, self._full = self._full[:WRITTEN_AT_ONCE], self._full[WRITTEN_AT_ONCE:]
            written = dict.fromkeys(batch.id for batch in retry.with_retries(self.planner.lake.ledger.plan, some))
            self.written |= written
            self._refused += [batch for batch in some if batch.id not in written]
            self.keys.difference_update(member.key for batch in some for member in batch.members)

    def finish(self) -> None:
        """Writes what is left.

        A batch is refused when another run has planned one of its objects meanwhile; the others are planned without it.
        """
        self._end()
        while self._refused:
            refused, self._refused = self._refused, []
            for batch in refused:
                states = retry.with_retries(self.planner.lake.ledger.states, batch.members)
                for member in batch.members:
                    if states.get(member.key, (None, None))[0] not in SETTLED:
                        self.add(batch.source, member)
            self._end()

    def _end(self) -> None:
        for source in sorted(self._builders):
            self._full += self._builders[source].rest()
        self.write(1)

    def _builder(self, source: str) -> BatchBuilder:
        if source not in self._builders:
            version = self.planner.version(source)
            self._builders[source] = BatchBuilder(source, version, self.planner.settings)
        return self._builders[source]


def _roots(settings: Settings) -> list[str]:
    """Where files of the lake lie: its root, and the folder of its ledger if that is another one."""
    return [settings.lake, *([str(settings.state)] if settings.state is not None else [])]


def _chunks(pages: Iterable[Sequence[ObjectRef]]) -> Iterator[list[ObjectRef]]:
    """The objects of the pages in lists of `CHUNK` or a page more."""
    chunk: list[ObjectRef] = []
    for page in pages:
        chunk += page
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
