"""Records in quarantine mapped again, after a mapper or a reader was mended.

A replay is a batch of its own: it reads open entries, writes their events under its own id, and beside them a file that
has for each entry whether it is closed or why it stays open. One registration makes both visible, so an event and its
open entry are never seen together. A replay that was interrupted is taken back whole and done anew.

It becomes part of the lake as any batch does, see `ocsf_lake.ingest.batch.complete`. What the ledger has of a replay
is not enough to go on with it: entries are chosen anew. So what was not finished is taken back first.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import repeat

import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake.catalogs.definitions import PLACE, QUARANTINE
from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch as batches
from ocsf_lake.ingest import engines, rejects, undo
from ocsf_lake.ingest.attempt import Attempt, Prepared, Work
from ocsf_lake.ingest.engines import of_settings
from ocsf_lake.ingest.parts import Piece, SetAsideError
from ocsf_lake.inputs import discovery, fields
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import replays, retained, written_off
from ocsf_lake.ledger.duplicated import DuplicatePolicy
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.results import ID_DIGITS, Batch, CountError, Kind, Outcome, Result
from ocsf_lake.query import query
from ocsf_lake.redaction import hiding
from ocsf_lake.redaction import policy as redaction
from ocsf_lake.redaction.policy import Policy
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_lake.storage.parquet import Slice
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import quarantine
from ocsf_mappers import DelimitedInJson, Engine, JsonRecords, Mapper, registry, sqltext
from ocsf_mappers.readers import Chunk
from ocsf_mappers.readers.json_split import KEPT_BYTES
from ocsf_mappers.readers.streams import Blocks

ENTRIES, OBJECTS = 65_536, 1_000
"""Of a replay, at most; an object's entries stay together."""

GONE = "the object is gone or changed, and the text kept of this record does not say how to read it"
OTHERWISE = "the object reads differently now: this record has another text"
MISSING = "the object reads differently now: it has no such record"


@dataclass(frozen=True)
class Entry:
    """An open entry of the quarantine: where its record stands, how often it was tried, and MD5 of its text."""

    object: str
    etag: str
    record: int
    tries: int
    md5: str
    bytes: int


@dataclass
class Summary:
    """What became of the entries that were asked for.

    Args:
        closed: Records that are events now.
        open: Records that were refused again, per reason.
        known: Entries whose records are events already, as far as the lake can say: the file that said so was lost.
        untried: Entries that this very mapper has refused already; they were left alone.
        damage: Entries that stand for the rest of a damaged object and have no text; they cannot be replayed.
        busy: Sources that another replay works on.
    """

    closed: int = 0
    open: Counter[str] = field(default_factory=Counter)
    known: int = 0
    untried: int = 0
    damage: int = 0
    busy: list[str] = field(default_factory=list)


def replay(
    settings: Settings, source: str | None = None, part: str = "", reason: str | None = None, *, again: bool = False
) -> Summary:
    """Maps open entries again.

    Args:
        settings: The lake; its OCSF version is that of the new events.
        source: Only of this source.
        part: Only of objects whose names hold this text.
        reason: Only those refused for exactly this reason.
        again: Also those that this very mapper has refused already.

    Raises:
        ConfigError: There is no such source.
        LostError: The connection that kept others away is gone; running again continues.
        WriteError: The lake refused a file; running again continues.
    """
    summary = Summary()
    if source:
        registry.load(source)
    with opened(settings) as lake:
        sources = {partition.values[0] for partition in lake.files.partitions(QUARANTINE)}
    for name in sorted(sources & {source} if source else sources):
        engine = engines.engine(fields.mapper(name, settings), settings.ocsf_version)
        with opened(settings) as lake, replays.held(lake.leases, name) as lease:
            if lease is None:
                summary.busy.append(name)
                continue
            undo.unfinished_replays(lake, name, lease)
            filters = part, reason, again
            groups = list(_groups(settings, name, filters, engine.fingerprint, summary, _events(lake, name)))
            for entries in groups:
                _run(lake, engine, entries, lease, summary)
    return summary


def rebuild_files(
    lake: Lake, batch: Batch, engine: Engine, lease: Lease, store: Store, *, parts_alone: bool = False,
    hides: Policy | None = None,
) -> Result | str:  # fmt: skip
    """Writes the files of a finished replay elsewhere, from its entries' outcomes; gives the reason if it cannot.

    Args:
        lake: The lake.
        batch: The replay.
        engine: Of its source.
        lease: On the source's quarantine.
        store: Where to write.
        parts_alone: See `Work`.
        hides: The policy that was in force then.
    """
    rows = quarantine.replayed(lake, batch.source, lake.ledger.files_of(batch.id))
    if isinstance(rows, str):
        return rows
    entries = [Entry(*row) for row in rows]
    batch = replace(batch, members=_members(lake, entries))
    return _made(lake, batch, engine, lease, store, entries, Counter(), hides, parts_alone)


def _groups(
    settings: Settings, source: str, filters: tuple[str, str | None, bool], version: str, summary: Summary, events: str
) -> Iterator[list[Entry]]:
    """The entries to replay, in order, the entries of an object together; none of those that these events are of."""
    part, reason, again = filters
    parameters = {"source": source, "part": part, "reason": reason}
    chosen = (
        "source = $source AND state = 'open' AND contains(source_object, $part) AND coalesce(reason = $reason, true)"
    )
    fresh = "true" if again else "(mapper_version IS DISTINCT FROM $version)"
    with closing(query.connect(settings, f"FROM {QUARANTINE}", *([events] if events else []))) as connection:
        counts = connection.execute(
            f"SELECT count(*) FILTER (raw = ''), count(*) FILTER (raw <> '' AND NOT {fresh}) "
            f"FROM quarantine WHERE {chosen} AND $version <> ''",
            {**parameters, "version": version},
        ).fetchall()
        if events:
            has_event = f"EXISTS (FROM ({events}) AS event WHERE {_SAME_PLACE})"
            count = f"SELECT count(*) FROM quarantine WHERE {chosen} AND {has_event}"
            ((number,),) = connection.execute(count, parameters).fetchall()
            summary.known += number
            chosen += f" AND NOT {has_event}"
        summary.damage += counts[0][0]
        summary.untried += counts[0][1]
        rows = connection.execute(
            "SELECT source_object, source_etag, source_record, tries, md5(raw), strlen(raw) FROM quarantine "
            f"WHERE {chosen} AND raw <> '' AND {fresh} AND $version <> '' ORDER BY ALL",
            {**parameters, "version": version},
        )
        group: list[Entry] = []
        names: set[tuple[str, str]] = set()
        while page := rows.fetchmany(10_000):
            for entry in (Entry(*row) for row in page):
                key = (entry.object, entry.etag)
                if group and key not in names and (len(group) >= ENTRIES or len(names) >= OBJECTS):
                    yield group
                    group, names = [], set()
                group.append(entry)
                names.add(key)
        if group:
            yield group


_SAME_PLACE = " AND ".join(f"event.{name} = quarantine.{name}" for name in PLACE.split(", "))


def _events(lake: Lake, source: str) -> str:
    """SQL of the places of all events, where a file that says which entries of a source are closed was written off."""
    if not written_off.has_outcomes(lake.ledger.engine, source):
        return ""
    tables = sorted(registry.tables().keys() & set(retained.tables(lake.ledger.engine)))
    return " UNION ALL ".join(f"SELECT {PLACE} FROM {sqltext.name(table)}" for table in tables)


def _run(lake: Lake, engine: Engine, entries: Sequence[Entry], lease: Lease, summary: Summary) -> None:
    text = json.dumps(["replay", engine.fingerprint, [[e.object, e.etag, e.record, e.tries] for e in entries]])
    batch_id = hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]
    source, version = engine.mapper.name, engine.fingerprint
    batch = Batch(batch_id, source, version, engine.version, _members(lake, entries), kind=Kind.REPLAY)
    lease.check()
    lake.ledger.plan([batch])
    batches.failpoint("planned", batch.id)
    reasons: Counter[str] = Counter()
    hides = redaction.of(lake.settings)
    make = partial(
        _made, lake, engine=engine, lease=lease, store=lake.store, entries=entries, reasons=reasons, hides=hides
    )
    result = batches.complete(batch, lake, lease, make)
    summary.closed -= result.counts.quarantined
    summary.open.update(reasons)


def _members(lake: Lake, entries: Sequence[Entry]) -> tuple[ObjectRef, ...]:
    return tuple(sorted(lake.ledger.refs({(entry.object, entry.etag) for entry in entries}).values()))


def _made(
    lake: Lake, batch: Batch, engine: Engine, lease: Lease, store: Store, entries: Sequence[Entry],
    reasons: Counter[str], hides: Policy | None, parts_alone: bool = False,
) -> Result:  # fmt: skip
    others = of_settings(engine.version, lake.settings)
    work = Work(lake, engine, others, lease, store, ended=batches.part_ended, parts_alone=parts_alone, redaction=hides)
    attempted = partial(_Replay, entries=entries, reasons=reasons)
    return batches.made(batch, work, DuplicatePolicy.KEEP, attempted=attempted)


_Key = tuple[str, str, int]
"""Object, ETag and number of a record."""


class _Replay(Attempt):
    """An attempt at a replay.

    Args:
        batch: The replay; its members are the objects of the entries.
        work: What it needs.
        left_out: Objects that make the work fail; their entries stay open.
        policy: What becomes of duplicates.
        entries: What to map.
        reasons: Gets the number of entries that stay open, per reason.
    """

    def __init__(
        self, batch: Batch, work: Work, left_out: Mapping[ObjectRef, Outcome], policy: DuplicatePolicy, *,
        entries: Sequence[Entry], reasons: Counter[str],
    ) -> None:  # fmt: skip
        super().__init__(batch, work, left_out, policy, quarantines=False)
        self.entries = {(entry.object, entry.etag, entry.record): entry for entry in entries}
        self.waiting = set(self.entries)
        self.by_object: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            self.by_object.setdefault((entry.object, entry.etag), []).append(entry)
        self.open: dict[_Key, str] = {}
        self.reasons = reasons
        self.reasons.clear()

    def prepared(self, pieces: Sequence[Piece], rejects: pa.Table | None = None) -> Prepared:
        """See `Attempt`; beside the events, what becomes of the entries."""
        prepared = super().prepared(pieces, rejects)
        prepared.slices += self._outcomes(_ended(prepared))
        return prepared

    def write(self, prepared: Prepared) -> None:
        """See `Attempt`."""
        for key, reason in _ended(prepared).items():
            self.waiting.remove(key)
            self.reasons.update([reason] if reason is not None else ())
        super().write(prepared)

    def end(self) -> None:
        """Notes why entries that are left stay open, and counts what left quarantine instead of what was read."""
        failed = {ref.key: outcome.reason for ref, outcome in self.result.outcomes.items()}
        rest = {key: self.open.get(key) or failed.get(key[:2]) or MISSING for key in self.waiting}
        self.add(self._outcomes(rest))
        self.reasons.update(rest.values())
        for ref, outcome in self.result.outcomes.items():
            own, others = outcome.counts, [other.result.outcomes[ref].counts for other in self.others.values()]
            for counts in others:
                # The record counts as read where it is an event.
                counts.read, counts.quarantined = counts.events, 0
            moved = sum(counts.events for counts in others)
            own.read, own.quarantined, own.dropped = -moved, -own.events - moved, 0

    def check(self) -> None:
        """See `Attempt`."""
        closed, number = -self.result.counts.quarantined, sum(map(len, self.by_object.values()))
        rows = sum(file.rows for file in self.result.all_files if file.class_uid is not None)
        if rows != closed or closed + self.reasons.total() != number:
            outcome = f"{closed} closed with {rows} events, {self.reasons.total()} refused again"
            raise CountError(f"{number} entries were replayed and {outcome}", batch=self.batch.id)

    def _outcomes(self, ended: Mapping[_Key, str | None]) -> list[Slice]:
        rows = [
            (*key, self.entries[key].tries + 1, "closed" if why is None else "open", why)
            for key, why in sorted(ended.items())
        ]
        return rejects.outcomes(rows, self.batch)

    # -- the records --------------------------------------------------------------------------------------------------
    def pieces(self, ref: ObjectRef) -> Iterator[Piece]:
        """The entries' records as the object has them, or as quarantine has them where the object is gone."""
        entries = {entry.record: entry for entry in self.by_object[ref.key]}
        try:
            # All of them before the first is given: an object that fails halfway must not be replayed in part.
            pieces = [
                replace(piece, chunk=chunk)
                for piece in super().pieces(ref)
                if (chunk := self._chosen(piece.chunk, ref, entries)).read
            ]
        except (ObjectError, SetAsideError):
            pieces = list(self._from_text(ref, entries))
        yield from pieces

    def _chosen(self, chunk: Chunk, ref: ObjectRef, entries: dict[int, Entry]) -> Chunk:
        """The records of these entries that still have the text they had."""
        numbers = pa.array(sorted(entries), pa.int64())
        chunk = replace(chunk, records=chunk.records.filter(pc.is_in(chunk.records["_record"], numbers)), dropped={})
        keep = []
        texts = self.engine.texts(chunk)
        redacted = _Redacted(self.lake, self.engine.mapper, ref, self.work.redaction)
        for number, text in zip(chunk.records["_record"].to_pylist(), texts, strict=True):
            same = _same(entries[number], text) or _same(entries[number], self._former(text))
            keep.append(same := same or redacted.has(number, text))
            if not same:
                self.open[ref.uri, ref.etag, number] = OTHERWISE
        bad = [item for item in chunk.bad if item.record in entries]
        return replace(chunk, records=chunk.records.filter(pa.array(keep, pa.bool_())), bad=bad)

    def _former(self, text: str) -> str:
        """The text that an earlier version would have kept."""
        readers = (reader for reader in self.engine.mapper.readers if isinstance(reader, DelimitedInJson))
        reader = next(readers, None)
        return text if reader is None else reader.former_text(text)

    def _from_text(self, ref: ObjectRef, entries: dict[int, Entry]) -> Iterator[Piece]:
        reader = next((reader for reader in self.engine.mapper.readers if isinstance(reader, JsonRecords)), None)
        raw_object = discovery.raw_object(ref.uri, ref.etag)
        rows = quarantine.texts(self.lake, self.batch.source, ref.uri, ref.etag) if reader else {}
        for number, entry in entries.items():
            text = rows.get(number)
            if reader is None or text is None or (entry.bytes >= KEPT_BYTES and not _is_json(text)):
                self.open[ref.uri, ref.etag, number] = GONE
                continue
            chunks = list(reader.read(Blocks(io.BytesIO(text.encode()))))
            if sum(chunk.read for chunk in chunks) != 1:
                self.open[ref.uri, ref.etag, number] = GONE
                continue
            for chunk in chunks:
                column = pa.array([number] * len(chunk.records), pa.int64())
                records = chunk.records.set_column(chunk.records.column_names.index("_record"), "_record", column)
                bad = [replace(item, record=number) for item in chunk.bad]
                yield Piece(ref, raw_object, replace(chunk, records=records, bad=bad, dropped={}))


class _Redacted:
    """What quarantine keeps of an object's records without values that were hidden.

    Args:
        lake: The lake.
        mapper: Of the records.
        ref: The object.
        hides: The policy.
    """

    def __init__(self, lake: Lake, mapper: Mapper, ref: ObjectRef, hides: Policy | None) -> None:
        self._place = (lake, mapper.name, ref.uri, ref.etag)
        self._mapper = mapper
        self._hides = hides

    @cached_property
    def _kept(self) -> dict[int, str]:
        return quarantine.texts(*self._place)

    def has(self, number: int, text: str) -> bool:
        """Whether a record's text is the one that was kept, but for what was hidden in that."""
        kept = self._kept.get(number, "")
        if hiding.is_redacted(kept, text):
            return True
        return self._hides is not None and kept == self._hides.of_source(self._mapper).records.text(text)


def _ended(prepared: Prepared) -> dict[_Key, str | None]:
    """What became of entries: None where they are events, of whatever source, else why they are not."""
    ended: dict[_Key, str | None] = {}
    for mapped in (prepared.mapped, *(theirs.mapped for _, theirs, _ in prepared.others)):
        for rows, reasons in ((mapped.events, repeat(None)), (mapped.rejects, mapped.rejects["reason"].to_pylist())):
            places = [rows[name].to_pylist() for name in ("source_object", "source_etag", "source_record")]
            ended |= dict(zip(zip(*places, strict=True), reasons, strict=False))
    return ended


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _same(entry: Entry, text: str) -> bool:
    return entry.bytes >= KEPT_BYTES or hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() == entry.md5
