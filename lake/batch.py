"""One batch from raw objects to registered files. Doing it again gives the same files under the same names."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from lake import duplicates, meter, quarantine, records, traces, writer
from lake.catalog import Definition
from lake.lake import Lake
from lake.leases import Lease, LostError
from lake.ledger import WORKER, now
from lake.objects import ObjectError, ObjectRef
from lake.parts import Assembly, Broken, Part, SetAsideError, Source
from lake.results import Batch, Outcome, Result, State
from lake.store import Store
from lake.traces import Traces
from ocsf_mappers import Engine, Mapped, tables
from ocsf_mappers.census import OTHER, Census, day_name
from ocsf_mappers.errors import OcsfMappersError

KEPT_KEYS = 1_000
"""Of a batch's keys in `unmapped`, the most frequent are kept; logs can invent keys without end."""


class CountError(OcsfMappersError):
    """Records were lost or doubled: a defect of this program. The batch stays open and is not visible."""


def run(batch: Batch, lake: Lake, engine: Engine, lease: Lease) -> Result:
    """Maps a batch, writes and registers its files, marks it done.

    Raises:
        CountError: What was read is not what came out.
        LostError: Another worker has taken it over.
        RetriableError: A store or the database does not answer.
        WriteError: The lake refused a file.
    """
    policy = duplicates.policy(lake.settings, engine.mapper)
    if policy is duplicates.Policy.KEEP:
        return _run(batch, lake, engine, lease, policy)
    with duplicates.alone(lake, batch.source):
        return _run(batch, lake, engine, lease, policy)


def _run(batch: Batch, lake: Lake, engine: Engine, lease: Lease, policy: duplicates.Policy) -> Result:
    batch = lake.ledger.begin(batch)
    reached("begun", batch.id)
    result = _result(batch, lake, engine, lease, policy, lake.store)
    _check(batch, result)
    reached("written", batch.id)
    lease.check()
    if batch.attempts > 1:
        written = {file.path for file in result.files}
        with lake.ledger.engine.connect() as connection:
            left = traces.left(connection, lake.store, batch.id)
        lake.store.remove(path for path in left if path not in written)

    at, key = now(), engine.mapper.duplicate_key

    def make_visible() -> None:
        lease.check()
        register(batch, lake, result)
        reached("registered", batch.id)
        if batch.attempts > 1:
            records.forget(lake.store, batch.id)
        records.write(lake.store, batch, result, records.Facts(at, WORKER, policy, tuple(key)))
        reached("recorded", batch.id)

    def also(connection: sa.Connection) -> None:
        traces.forget(connection, batch.id)
        result.news.update(meter.record(connection, batch, result, at))
        duplicates.note(connection, batch, policy, result, key)

    try:
        lake.ledger.finish(batch, result, make_visible, also, at)
    except LostError:
        if not lake.ledger.rows([batch.id]):
            # Its objects are in other batches by now; what was written here would count them twice.
            records.forget(lake.store, batch.id)
            lake.catalog.drop(batch.id)
            lake.store.remove(file.path for file in result.files)
        raise
    reached("done", batch.id)
    return result


def again(
    batch: Batch, lake: Lake, engine: Engine, lease: Lease, policy: duplicates.Policy, store: Store
) -> Result:
    """Maps a finished batch once more and writes its files elsewhere; nothing is registered or marked.

    Args:
        batch: The batch.
        lake: The lake.
        engine: Of the batch's source.
        lease: On the batch.
        policy: What became of duplicates then; earlier batches are looked at as they are now.
        store: Where to write.

    Raises:
        CountError: What was read is not what came out.
        RetriableError: A store or the database does not answer.
    """
    result = _result(batch, lake, engine, lease, policy, store)
    _check(batch, result)
    return result


def reached(step: str, batch_id: str) -> None:
    """Called between the steps of a batch; does nothing. Tests interrupt a run here."""


def _result(
    batch: Batch, lake: Lake, engine: Engine, lease: Lease, policy: duplicates.Policy, store: Store
) -> Result:
    unreadable: dict[ObjectRef, str] = {}
    while True:
        attempt = _Attempt(batch, lake, engine, unreadable, lease, policy, store)
        try:
            with closing(attempt.source.opener):
                return attempt.run()
        except Broken as broken:
            # Some of its records may be in files by now. Without it those files come out anew, under the same names.
            unreadable[broken.ref] = broken.reason
            lease.check()
            store.remove(file.path for file in attempt.result.files)


class _Attempt:
    def __init__(
        self, batch: Batch, lake: Lake, engine: Engine, unreadable: dict[ObjectRef, str], lease: Lease,
        policy: duplicates.Policy, store: Store,
    ) -> None:  # fmt: skip
        self.store = store
        self.lease = lease
        self.policy = policy
        self.batch = batch
        self.lake = lake
        self.engine = engine
        members = [ref for ref in batch.members if ref not in unreadable]
        self.source = Source(engine.mapper, lake.settings, members)
        self.result = Result({ref: Outcome() for ref in batch.members})
        for ref, reason in unreadable.items():
            self.result.outcomes[ref] = Outcome(state=State.FAILED, reason=reason)
        self.traces = Traces(lake, batch.id)
        self._dropped: Counter[str] = Counter()
        self._failed_casts: Counter[str] = Counter()
        self._classes: Counter[str] = Counter()

    def run(self) -> Result:
        began = time.monotonic()
        parts = self._parts()
        while (part := next(parts, None)) is not None:
            self._write(part)
            del part  # before the next one is read: a part is the largest thing in memory
        self.result.events_by_class = dict(sorted(self._classes.items()))
        self.result.dropped = dict(sorted(self._dropped.items()))
        self.result.failed_casts = dict(sorted(self._failed_casts.items()))
        self.result.unmapped_keys = _unmapped_keys(self.result.census)
        self.result.seconds = round(time.monotonic() - began, 3)
        return self.result

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
            except SetAsideError as aside:
                outcome.state, outcome.reason = State.SET_ASIDE, str(aside)
            except ObjectError as error:
                if given:
                    raise Broken(ref, str(error)) from error
                outcome.state, outcome.reason = State.FAILED, str(error)
        yield from assembly.rest()

    def _write(self, part: Part) -> None:
        mapped = self.engine.map([(piece.raw_object, piece.chunk) for piece in part.pieces])
        settings, store = self.lake.settings, self.store
        aside = [quarantine.folder(self.batch)] if len(mapped.rejects) else []
        if self.policy is not duplicates.Policy.KEEP:
            mapped = self._without_duplicates(part, mapped)
        self._count(part, mapped)
        self.lease.check()
        self._note([*writer.folders(mapped.events), *aside])
        self.result.files += writer.write(mapped.events, store, settings, self.batch.id, part.number)
        self.result.files += quarantine.write(mapped.rejects, store, settings, self.batch, part.number)
        reached("part", self.batch.id)

    def _note(self, folders: Sequence[str]) -> None:
        """What is written into the lake has to be found again when this attempt dies."""
        if self.store is self.lake.store:
            self.traces.note(folders)

    def _without_duplicates(self, part: Part, mapped: Mapped) -> Mapped:
        """What is left of a part; without `drop` that is all of it."""
        drop = self.policy is duplicates.Policy.DROP
        action = "dropped" if drop else "marked"
        search = duplicates.Search(self.lake, self.engine.mapper, self.batch, action, self.store)
        found = search.found(mapped.events, self.result.files)
        self.result.duplicates += len(found.rows)
        self.result.variants += found.variants
        if not found.rows:
            return mapped
        self._note([duplicates.folder(self.batch)])
        self.result.files += duplicates.write(
            found.listed, self.store, self.lake.settings, self.batch, part.number
        )
        if not drop:
            return mapped
        gone = pc.is_in(pa.array(range(len(mapped.events)), pa.int64()), pa.array(found.rows, pa.int64()))
        for row in found.listed:
            by_uri = {piece.ref.uri: self.result.outcomes[piece.ref].counts for piece in part.pieces}
            by_uri[row["source_object"]].dropped += 1
        for day, number in _days(mapped.events.filter(gone)).items():
            mapped.census.events[day] -= number
        dropped = mapped.dropped + Counter({duplicates.REASON: len(found.rows)})
        return replace(mapped, events=mapped.events.filter(pc.invert(gone)), dropped=dropped)

    def _count(self, part: Part, mapped: Mapped) -> None:
        by_uri = {piece.ref.uri: self.result.outcomes[piece.ref].counts for piece in part.pieces}
        for uri, number in _value_counts(mapped.events["source_object"]).items():
            by_uri[uri].events += number
        for uri, number in _value_counts(mapped.rejects["source_object"]).items():
            by_uri[uri].quarantined += number
        self._dropped += mapped.dropped
        self._failed_casts += mapped.failed_casts
        self._classes.update(_value_counts(mapped.events["class_name"]))
        self.result.census.add(mapped.census)


def _days(events: pa.Table) -> Counter[str]:
    """Events by day, as the census has them."""
    days = events["time"].cast(pa.timestamp("ms")).cast(pa.date32()).cast(pa.int32()).to_pylist()
    return Counter(day_name(day) for day in days)


def _value_counts(column: pa.ChunkedArray) -> Counter[str]:
    counts: Counter[str] = Counter()
    for chunk in column.chunks:
        # Counted by index: a dictionary may hold a value twice, and decoding it costs more than counting.
        plain = not pa.types.is_dictionary(chunk.type)
        found = (chunk if plain else chunk.indices).value_counts()
        values = found.field(0) if plain else chunk.dictionary.take(found.field(0))
        for value, number in zip(values.to_pylist(), found.field(1).to_pylist(), strict=True):
            counts[value] += number
    return counts


def _unmapped_keys(census: Census) -> dict[str, int]:
    """Events of all days per key of `unmapped`."""
    totals: Counter[str] = Counter()
    for (_, name), number in census.unmapped.items():
        totals[name] += number
    if len(totals) > KEPT_KEYS:
        kept = Counter(dict(sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:KEPT_KEYS]))
        kept[OTHER] += totals.total() - kept.total()
        totals = kept
    return dict(sorted(totals.items()))


def _check(batch: Batch, result: Result) -> None:
    wrong = [
        f"{ref.uri}: {counts}" for ref, outcome in result.outcomes.items() if not (counts := outcome.counts).balanced
    ]
    rows = sum(file.rows for file in result.files if file.partition.table != duplicates.TABLE)
    total = result.counts
    if wrong or not total.balanced or rows != total.events + total.quarantined:
        raise CountError(
            f"{total} in the batch and {rows} rows in its files do not agree; {'; '.join(wrong[:5])}",
            batch=batch.id,
            source=batch.source,
        )


def register(batch: Batch, lake: Lake, result: Result) -> None:
    """Tells the catalogs of a batch's files."""
    for name in sorted({file.partition.table for file in result.files}):
        lake.catalog.create_or_evolve(definition(name))
    lake.catalog.register(batch.id, result.files)


def definition(table: str) -> Definition:
    """What the catalog has to know of one of the lake's tables."""
    if table == quarantine.TABLE:
        return Definition(table, quarantine.PREFIX, quarantine.SCHEMA, quarantine.PARTITION_KEYS)
    if table == quarantine.OUTCOMES:
        return Definition(table, quarantine.OUTCOMES_PREFIX, quarantine.OUTCOMES_SCHEMA, quarantine.OUTCOMES_KEYS)
    if table == duplicates.TABLE:
        return Definition(table, duplicates.PREFIX, duplicates.SCHEMA, duplicates.PARTITION_KEYS)
    found = tables.get(table)
    return Definition(found.name, found.prefix, found.arrow, tables.PARTITION_KEYS)
