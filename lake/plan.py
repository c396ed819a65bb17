"""Which objects are new, and in which batches they go: decided, and written to the ledger, before any work is done.

A database that is away for a minute is waited for at each step, so that what has been listed is not listed again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from lake import discovery, fields, objects, retry, traces, trees
from lake.config import Settings
from lake.lake import Lake
from lake.objects import ObjectError, ObjectRef
from lake.results import SETTLED, Batch, BatchRow, State
from ocsf_mappers import Mapper, registry
from ocsf_mappers.engine import fingerprint

ID_DIGITS = 32
CHUNK = 5_000
"""Objects held against the ledger at once."""
WRITTEN_AT_ONCE = 16
"""Batches written to the ledger in one transaction."""
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
        held = Counter(item.state for item in other.items)
        self.numbers.update(other.numbers - held)


@dataclass
class Planned:
    """What planning found.

    Args:
        batch_ids: Batches to do: those an interrupted run left open, then the new ones.
        listed: Objects that were listed.
        known: Those of them that earlier runs have dealt with.
        unread: Objects skipped, set aside or failed, with the reasons.
        list_calls: How often the store was asked for names.
        undetermined: Objects taken in although their names do not say the day, account or region that was asked for.
    """

    batch_ids: list[str] = field(default_factory=list)
    listed: int = 0
    known: int = 0
    unread: Unread = field(default_factory=Unread)
    list_calls: int = 0
    undetermined: int = 0

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
    """

    objects: int = 0
    known: int = 0
    bytes: int = 0
    batches: int = 0


def batches(source: str, mapper_version: str, refs: Iterable[ObjectRef], settings: Settings) -> Iterator[Batch]:
    """Objects of one source in batches of bounded size.

    Args:
        source: Name of the source.
        mapper_version: Fingerprint of its mapper.
        refs: The objects; a batch holds neighbours.
        settings: Bounds of a batch.
    """
    grouping = Grouping(source, mapper_version, settings)
    for ref in refs:
        yield from grouping.add(ref)
    yield from grouping.rest()


class Grouping:
    """Puts objects of one source into batches, in the order in which they are given.

    Args:
        source: Name of the source.
        mapper_version: Fingerprint of its mapper.
        settings: Bounds of a batch.
    """

    def __init__(self, source: str, mapper_version: str, settings: Settings) -> None:
        self.source = source
        self.mapper_version = mapper_version
        self.settings = settings
        # Records are not counted before they are read. Their usual size is a constant, so that the same objects are
        # grouped the same way whatever was read before.
        self._most_bytes = min(settings.batch_bytes, settings.batch_records * trees.delivery(source).record_bytes)
        self._held: list[ObjectRef] = []
        self._bytes = 0

    def add(self, ref: ObjectRef) -> Iterator[Batch]:
        """Takes an object in; gives the batch that was full before it."""
        full = len(self._held) == self.settings.batch_objects or self._bytes + ref.size > self._most_bytes
        if self._held and full:
            yield from self.rest()
        self._held.append(ref)
        self._bytes += ref.size

    def rest(self) -> Iterator[Batch]:
        """The last batch, if anything is left."""
        if self._held:
            members = tuple(sorted(self._held))
            version = self.settings.ocsf_version
            number = batch_id(self.mapper_version, version, members)
            yield Batch(number, self.source, self.mapper_version, version, members)
            self._held, self._bytes = [], 0


def batch_id(mapper_version: str, ocsf_version: str, members: Sequence[ObjectRef]) -> str:
    """The batch's name: a hash of what decides its events."""
    said = json.dumps([mapper_version, ocsf_version, [list(member.key) for member in members]])
    return hashlib.sha256(said.encode()).hexdigest()[:ID_DIGITS]


def mappers(source: str | None, settings: Settings) -> dict[str, Mapper]:
    """The mapper of one source, or of all, by name, as the settings make it.

    Raises:
        ConfigError: There is no such source.
    """
    return {name: fields.mapper(name, settings) for name in ([source] if source else registry.names())}


class Planner:
    """Plans the batches of one lake.

    Args:
        lake: The lake.
        mappers: Name of a source -> its mapper; objects of other sources are skipped.
    """

    def __init__(self, lake: Lake, mappers: Mapping[str, Mapper]) -> None:
        self.lake = lake
        self.settings = lake.settings
        self.mappers = mappers
        self.planned = Planned()
        self._versions: dict[str, str] = {}

    def plan(self, pages: Iterable[Sequence[ObjectRef]], source: str | None) -> Planned:
        """Plans what is new on pages of listed objects.

        Args:
            pages: The objects, in an order that is the same every time.
            source: What they are of; None to tell it from each one's name or content.
        """
        waiting = _Waiting(self)
        open_ids: dict[str, None] = {}
        mistaken: dict[str, set[tuple[str, str]]] = {}
        for chunk in _chunks(pages):
            refs = {ref.key: ref for ref in self._with_etags(chunk) if ref.key not in waiting.keys}
            self.planned.listed += len(refs)
            self._group(self._unsettled(list(refs.values()), open_ids, source, mistaken), source, waiting)
            waiting.write(WRITTEN_AT_ONCE)
        waiting.finish()
        # A batch that this run has written is open as well when the same object is listed again after that.
        rows = retry.patiently(self.lake.ledger.rows, [found for found in open_ids if found not in waiting.written])
        self.planned.batch_ids += [*self.current(rows), *waiting.written]
        for batch, keys in mistaken.items():
            self.planned.batch_ids += self._as_source(source or "", batch, keys)
        return self.planned

    def counted(self, pages: Iterable[Sequence[ObjectRef]], source: str) -> Count:
        """What `plan` would find, without writing, and without reading files to hash them."""
        count = Count()
        grouping = Grouping(source, "", self.settings)
        open_ids: set[str] = set()
        for chunk in _chunks(pages):
            known = self.lake.ledger.etags(chunk)
            refs = [replace(ref, etag=ref.etag or known.get((ref.uri, ref.size, ref.stamp), "")) for ref in chunk]
            states = self.lake.ledger.states(refs)
            count.objects += len(refs)
            for ref in refs:
                state, batch = states.get(ref.key, (None, None))
                if state is State.PLANNED and batch:
                    open_ids.add(batch)
                if state in SETTLED or discovery.set_aside_reason(ref.uri, self.mappers[source]):
                    count.known += state in SETTLED
                    continue
                count.bytes += ref.size
                count.batches += len(list(grouping.add(ref)))
        count.batches += len(list(grouping.rest())) + len(open_ids)
        count.bytes += sum(row.bytes_in for row in self.lake.ledger.rows(open_ids))
        return count

    def current(self, rows: Iterable[BatchRow]) -> list[str]:
        """The open batches among these, by id; those planned for another mapper or OCSF version are planned anew."""
        kept = []
        for row in rows:
            if row.source not in self.mappers or row.state is State.DONE:
                continue
            if (row.mapper_version, row.ocsf_version) == (self.version(row.source), self.settings.ocsf_version):
                kept.append(row.id)
            else:
                kept += self._anew(row.id)
        return kept

    def _anew(self, batch_id: str) -> list[str]:
        return self._replaced(batch_id, None, set())

    def _as_source(self, source: str, batch_id: str, keys: set[tuple[str, str]]) -> list[str]:
        """Members of an open batch planned as what they are said to be now; the others wait as what they were."""
        return self._replaced(batch_id, source, keys)

    def _replaced(self, batch_id: str, source: str | None, keys: set[tuple[str, str]]) -> list[str]:
        """Takes a batch that nobody holds out of the lake and plans its members anew, some of them as another source.

        Returns:
            The batches of those; of all members where no source is given.
        """
        kept: list[Batch] = []
        given: list[Batch] = []

        def undo(connection: sa.Connection) -> None:
            self.lake.catalog.drop(batch_id)
            self.lake.store.remove(traces.left(connection, self.lake.store, batch_id))

        def once() -> list[str]:
            with self.lake.leases.held(batch_id) as lease:
                batch = self.lake.ledger.batch(batch_id) if lease else None
                if lease is None or (batch is None and not kept and not given):
                    return []
                if batch is not None:
                    kept[:] = self._grouped(batch.source, [ref for ref in batch.members if ref.key not in keys])
                    if source:
                        given[:] = self._grouped(source, [ref for ref in batch.members if ref.key in keys])
                # Without the batch: it was taken out by a transaction whose answer was lost.
                written = {found.id for found in self.lake.ledger.plan([*kept, *given], instead_of=(batch_id, undo))}
                return [found.id for found in (given if source else kept) if found.id in written]

        return retry.patiently(once)

    def _grouped(self, source: str, members: Sequence[ObjectRef]) -> list[Batch]:
        return list(batches(source, self.version(source), members, self.settings))

    def version(self, source: str) -> str:
        """Fingerprint of a source's mapper."""
        if source not in self._versions:
            mapper = self.mappers.get(source) or fields.mapper(source, self.settings)
            self._versions[source] = fingerprint(mapper, self.settings.ocsf_version)
        return self._versions[source]

    # -- one chunk ----------------------------------------------------------------------------------------------------
    def _with_etags(self, refs: Sequence[ObjectRef]) -> list[ObjectRef]:
        """Local files that did not change since they were last seen are not hashed again."""
        known = retry.patiently(self.lake.ledger.etags, [ref for ref in refs if not ref.etag])
        return [
            replace(ref, etag=found)
            if not ref.etag and (found := known.get((ref.uri, ref.size, ref.stamp)))
            else objects.with_etag(ref)
            for ref in refs
        ]

    def _unsettled(
        self, refs: Sequence[ObjectRef], open_ids: dict[str, None], source: str | None,
        mistaken: dict[str, set[tuple[str, str]]],
    ) -> list[ObjectRef]:  # fmt: skip
        """The new objects. Those in open batches are noted: by batch, and by key where it is of the wrong source."""
        states = retry.patiently(self.lake.ledger.states, refs)
        found = {batch for state, batch in states.values() if state is State.PLANNED and batch}
        rows = retry.patiently(self.lake.ledger.rows, found)
        wrong = {row.id for row in rows if source is not None and row.source != source}
        new = []
        for ref in refs:
            state, batch = states.get(ref.key, (None, None))
            if state in (State.DONE, State.SET_ASIDE):
                self.planned.known += 1
            elif state is State.PLANNED and batch in wrong:
                mistaken.setdefault(batch, set()).add(ref.key)
            elif state is State.PLANNED and batch:
                open_ids[batch] = None
            if state not in SETTLED:
                new.append(ref)
        return new

    def _group(self, refs: Iterable[ObjectRef], source: str | None, waiting: _Waiting) -> None:
        noted: dict[tuple[State, str, str | None], list[ObjectRef]] = {}
        for ref in refs:
            name, why = self._source(ref, source)
            if why is None and name is not None:
                waiting.add(name, ref)
            elif why is not None:
                noted.setdefault((why.state, why.reason, name), []).append(ref)
                self.planned.unread.add(why)
        for (state, reason, name), found in noted.items():
            retry.patiently(self.lake.ledger.note, found, state, reason, name)

    def _source(self, ref: ObjectRef, given: str | None) -> tuple[str | None, NotRead | None]:
        """The source of an object that is to be read, or why it is not."""
        try:
            named = given or discovery.of_key(ref.uri).source or fields.source(ref.uri, self.settings)
            source = named or self._sniffed(ref)
        except ObjectError as error:
            return None, NotRead(ref.uri, State.FAILED, str(error))
        if source is None or source not in self.mappers:
            return None, NotRead(ref.uri, State.SKIPPED, "neither the name nor the content is of a known source")
        if reason := discovery.set_aside_reason(ref.uri, self.mappers[source]):
            return source, NotRead(ref.uri, State.SET_ASIDE, reason)
        return source, None

    def _sniffed(self, ref: ObjectRef) -> str | None:
        with objects.opened(ref, self.settings.input_access) as file:
            return discovery.of_bytes(file, self.settings.limits)


class _Waiting:
    """Batches being filled, and full ones that are not in the ledger yet."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.keys: set[tuple[str, str]] = set()
        self.written: dict[str, None] = {}
        self._groupings: dict[str, Grouping] = {}
        self._full: list[Batch] = []
        self._refused: list[Batch] = []

    def add(self, source: str, ref: ObjectRef) -> None:
        self.keys.add(ref.key)
        self._full += self._grouping(source).add(ref)

    def write(self, at_least: int) -> None:
        """Writes the full batches to the ledger, if there are so many."""
        while len(self._full) >= at_least:
            some, self._full = self._full[:WRITTEN_AT_ONCE], self._full[WRITTEN_AT_ONCE:]
            written = dict.fromkeys(batch.id for batch in retry.patiently(self.planner.lake.ledger.plan, some))
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
                states = retry.patiently(self.planner.lake.ledger.states, batch.members)
                for member in batch.members:
                    if states.get(member.key, (None, None))[0] not in SETTLED:
                        self.add(batch.source, member)
            self._end()

    def _end(self) -> None:
        for source in sorted(self._groupings):
            self._full += self._groupings[source].rest()
        self.write(1)

    def _grouping(self, source: str) -> Grouping:
        if source not in self._groupings:
            version = self.planner.version(source)
            self._groupings[source] = Grouping(source, version, self.planner.settings)
        return self._groupings[source]


def _chunks(pages: Iterable[Sequence[ObjectRef]]) -> Iterator[list[ObjectRef]]:
    """The objects of the pages in lists of `CHUNK` or a page more."""
    held: list[ObjectRef] = []
    for page in pages:
        held += page
        if len(held) >= CHUNK:
            yield held
            held = []
    if held:
        yield held
