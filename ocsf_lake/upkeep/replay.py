"""Records in quarantine mapped again, after a mapper or a reader was mended.

A replay is a batch of its own: it reads open entries, writes their events under its own id, and beside them a file that
says of each entry whether it is closed or why it stays open. One registration makes both visible, so an event and its
open entry are never seen together. A replay that was interrupted is taken back whole and done anew.

It becomes part of the lake as any batch does, see `ocsf_lake.ingest.batch.complete`. What the ledger says of a replay
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

import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake.catalogs.definitions import QUARANTINE
from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch as batches
from ocsf_lake.ingest import divide, parts, rejects, routed, undo
from ocsf_lake.ingest.parts import Assembly, Piece
from ocsf_lake.ingest.routing import Router
from ocsf_lake.inputs import discovery, fields
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import generations, replays
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.orphans import Traces
from ocsf_lake.ledger.results import ID_DIGITS, Batch, CountError, Kind, Outcome, Result
from ocsf_lake.query import query
from ocsf_lake.storage import layout, parquet
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import quarantine
from ocsf_mappers import DelimitedInJson, Engine, JsonRecords, Mapped, registry
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
        untried: Entries that this very mapper has refused already; they were left alone.
        damage: Entries that stand for the rest of a damaged object and have no text; they cannot be replayed.
        busy: Sources that another replay works on.
    """

    closed: int = 0
    open: Counter[str] = field(default_factory=Counter)
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
        held = {partition.values[0] for partition in lake.files.partitions(QUARANTINE)}
    for name in sorted(held & {source} if source else held):
        engine = Engine(fields.mapper(name, settings), settings.ocsf_version)
        with opened(settings) as lake, replays.held(lake.leases, name) as lease:
            if lease is None:
                summary.busy.append(name)
                continue
            undo.unfinished_replays(lake, name)
            groups = list(_groups(settings, name, (part, reason, again), engine.fingerprint, summary))
            for entries in groups:
                _run(lake, engine, entries, lease, summary)
    return summary


def again(lake: Lake, batch: Batch, engine: Engine, lease: Lease, store: Store) -> Result | str:
    """Writes the files of a finished replay elsewhere, from what it says of its entries; gives the reason if it cannot.

    Args:
        lake: The lake.
        batch: The replay.
        engine: Of its source.
        lease: On the source's quarantine.
        store: Where to write.
    """
    found = quarantine.replayed(lake, batch.source, lake.ledger.files_of(batch.id))
    if isinstance(found, str):
        return found
    entries = [Entry(*row) for row in found]
    refs = lake.ledger.refs({(entry.object, entry.etag) for entry in entries})
    return _Replay(lake, engine, batch, entries, refs, lease, store).run()


def _groups(
    settings: Settings, source: str, wanted: tuple[str, str | None, bool], version: str, summary: Summary
) -> Iterator[list[Entry]]:
    """The entries to replay, in order, the entries of an object together."""
    part, reason, again = wanted
    given = {"source": source, "part": part, "reason": reason}
    chosen = (
        "source = $source AND state = 'open' AND contains(source_object, $part) AND coalesce(reason = $reason, true)"
    )
    fresh = "true" if again else "(mapper_version IS DISTINCT FROM $version)"
    with closing(query.connect(settings, f"FROM {QUARANTINE}")) as connection:
        counts = connection.execute(
            f"SELECT count(*) FILTER (raw = ''), count(*) FILTER (raw <> '' AND NOT {fresh}) "
            f"FROM quarantine WHERE {chosen} AND $version <> ''",
            {**given, "version": version},
        ).fetchall()
        summary.damage += counts[0][0]
        summary.untried += counts[0][1]
        rows = connection.execute(
            "SELECT source_object, source_etag, source_record, tries, md5(raw), strlen(raw) FROM quarantine "
            f"WHERE {chosen} AND raw <> '' AND {fresh} AND $version <> '' ORDER BY ALL",
            {**given, "version": version},
        )
        held: list[Entry] = []
        names: set[tuple[str, str]] = set()
        while found := rows.fetchmany(10_000):
            for entry in (Entry(*row) for row in found):
                key = (entry.object, entry.etag)
                if held and key not in names and (len(held) >= ENTRIES or len(names) >= OBJECTS):
                    yield held
                    held, names = [], set()
                held.append(entry)
                names.add(key)
        if held:
            yield held


def _run(lake: Lake, engine: Engine, entries: Sequence[Entry], lease: Lease, summary: Summary) -> None:
    refs = lake.ledger.refs({(entry.object, entry.etag) for entry in entries})
    said = json.dumps(["replay", engine.fingerprint, [[e.object, e.etag, e.record, e.tries] for e in entries]])
    batch_id = hashlib.sha256(said.encode()).hexdigest()[:ID_DIGITS]
    members = tuple(sorted(refs.values()))
    batch = Batch(batch_id, engine.mapper.name, engine.fingerprint, engine.version, members, kind=Kind.REPLAY)
    lease.check()
    lake.ledger.plan([batch])
    batches.reached("planned", batch.id)
    attempts: list[_Replay] = []

    def make(begun: Batch) -> Result:
        attempts.append(_Replay(lake, engine, begun, entries, refs, lease))
        return attempts[-1].run()

    batches.complete(batch, lake, lease, make)
    summary.closed += attempts[-1].closed
    summary.open.update(attempts[-1].reasons)


_Key = tuple[str, str, int]
"""Object, ETag and number of a record."""

_Prepared = list[tuple[Batch, Mapped, list[parquet.Encoded]]]
"""What records became, for each source whose records they were: the replay's own comes first."""


class _Replay:
    def __init__(
        self, lake: Lake, engine: Engine, batch: Batch, entries: Sequence[Entry],
        refs: dict[tuple[str, str], ObjectRef], lease: Lease, store: Store | None = None,
    ) -> None:  # fmt: skip
        self.lake = lake
        self.store = store or lake.store
        self.traces = Traces(lake.ledger.engine, batch.id)
        self.lease = lease
        self.router = Router(engine, batches.engine_of(engine.version, lake.settings), keep_strangers=True)
        self.engine = engine
        self.batch = batch
        self.refs = refs
        self.entries = {(entry.object, entry.etag, entry.record): entry for entry in entries}
        self.open: dict[tuple[str, str, int], str] = {}
        self.result = Result({ref: Outcome() for ref in refs.values()})
        self.results = {batch.id: (batch, self.result)}
        """Of the replay, and of its records that are another source's."""
        self.closed = 0
        self.number = 0
        self.reasons: Counter[str] = Counter()

    def run(self) -> Result:
        """Maps what is found of the entries, and says of each what became of it."""
        waiting = dict(self.entries)
        for prepared in (found for part in self._parts() for found in self._mapped(part.pieces)):
            self.lease.check()
            rows: list[tuple[object, ...]] = []
            for batch, mapped, files in prepared:
                rows += self._written(batch, mapped, files, waiting)
            self._say(sorted(rows))
            self.number += 1
            batches.reached("part", self.batch.id)
        rest = {key: self.open.get(key, MISSING) for key in waiting}
        self._say(self._closed(rest, waiting, self.result))
        self.result.routed = [self.results[batch_id] for batch_id in sorted(self.results) if batch_id != self.batch.id]
        if waiting or self.closed + self.reasons.total() != len(self.entries):
            raise CountError(f"{len(self.entries)} entries were replayed and {self.closed} closed, "
                             f"{self.reasons.total()} refused again", batch=self.batch.id)  # fmt: skip
        return self.result

    def _mapped(self, pieces: Sequence[Piece]) -> Iterator[_Prepared]:
        """What some records become, and the files; those that make it fail are left out, and stay open."""
        try:
            prepared = self._prepared(pieces)
        except Exception as error:
            if divide.ends_attempt(error):
                raise
            found = divide.search(pieces, self._prepared, error, frozenset())
        else:
            yield prepared
            return
        for culprit in found.records:
            self._refused(culprit.piece, culprit.reason)
        reasons = {failure.ref: failure.reason for failure in found.objects}
        for piece in pieces:
            if piece.ref in reasons:
                self._refused(piece, reasons[piece.ref])
        for group in found.passed:
            yield self._prepared(group)

    def _prepared(self, pieces: Sequence[Piece]) -> _Prepared:
        prepared = []
        for found in self.router.map([(piece.raw_object, piece.chunk) for piece in pieces]):
            batch = self.batch if found.engine is self.engine else routed.batch(self.batch, found.engine)
            events, places = found.mapped.events, None
            if self.store is self.lake.store:
                wanted = (partition for partition, _ in parquet.partitions(events))
                places = generations.folders(self.lake.ledger.engine, wanted)
            files = list(parquet.encoded(events, self.lake.settings, batch.id, self.number, places))
            prepared.append((batch, found.mapped, files))
        return prepared

    def _written(
        self, batch: Batch, mapped: Mapped, files: Sequence[parquet.Encoded], waiting: dict[_Key, Entry]
    ) -> list[tuple[object, ...]]:
        """Writes the events of one source, and says of each entry what became of it."""
        if batch.id not in self.results and len(mapped.events):
            self.results[batch.id] = (batch, Result({ref: Outcome() for ref in self.refs.values()}))
            if self.store is self.lake.store:
                routed.note(self.lake.ledger, self.batch, batch)
        _, result = self.results.get(batch.id, (batch, self.result))
        self._note(sorted({layout.folder_of(info.path) for info, _ in files}))
        result.files += [parquet.put(file, self.store) for file in files]
        ended = self._ended(mapped.events, None) | self._ended(mapped.rejects, mapped.rejects["reason"])
        result.census.add(mapped.census)
        result.failed_casts = dict(Counter(result.failed_casts) + mapped.failed_casts)
        classes = Counter(result.events_by_class) + Counter(mapped.events["class_name"].to_pylist())
        result.events_by_class = dict(sorted(classes.items()))
        return self._closed(ended, waiting, result)

    def _say(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Writes what became of entries."""
        self._note([rejects.outcomes_folder(self.batch)])
        self.result.files += quarantine.write_outcomes(rows, self.store, self.lake.settings, self.batch, self.number)

    def _refused(self, piece: Piece, reason: str) -> None:
        numbers = [*piece.chunk.records["_record"].to_pylist(), *(bad.record for bad in piece.chunk.bad)]
        self.open |= {(piece.ref.uri, piece.ref.etag, number): reason for number in numbers}

    def _note(self, folders: Sequence[str]) -> None:
        if self.store is self.lake.store:
            self.traces.note(folders)

    def _ended(self, rows: pa.Table, reasons: pa.ChunkedArray | None) -> dict[tuple[str, str, int], str | None]:
        places = [rows[name].to_pylist() for name in ("source_object", "source_etag", "source_record")]
        said = [None] * len(rows) if reasons is None else reasons.to_pylist()
        return {(uri, etag, number): why for uri, etag, number, why in zip(*places, said, strict=True)}

    def _closed(
        self, ended: Mapping[_Key, str | None], waiting: dict[_Key, Entry], result: Result
    ) -> list[tuple[object, ...]]:
        """Counts what became of some entries, in the result of their source; each must have been waiting."""
        rows: list[tuple[object, ...]] = []
        for key in sorted(ended):
            why, entry = ended[key], waiting.pop(key)
            ref = self.refs[key[:2]]
            before, after = self.result.outcomes[ref].counts, result.outcomes[ref].counts
            if why is None:
                self.closed += 1
                before.quarantined -= 1
                after.events += 1
                if after is not before:
                    # The record counts as read where it is an event.
                    before.read -= 1
                    after.read += 1
            else:
                self.reasons[why] += 1
            rows.append((*key, entry.tries + 1, "closed" if why is None else "open", why))
        return rows

    # -- the records --------------------------------------------------------------------------------------------------
    def _parts(self) -> Iterator[parts.Part]:
        assembly = Assembly(self.lake.settings)
        by_object: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries.values():
            by_object.setdefault((entry.object, entry.etag), []).append(entry)
        for key, entries in by_object.items():
            for piece in self._pieces(self.refs[key], entries):
                yield from assembly.add(piece)
        yield from assembly.rest()

    def _pieces(self, ref: ObjectRef, entries: Sequence[Entry]) -> Iterator[Piece]:
        """The entries' records as the object has them, or as quarantine has them where the object is gone."""
        wanted = {entry.record: entry for entry in entries}
        try:
            # All of them before the first is given: an object that fails halfway must not be replayed in part.
            held = [
                replace(piece, chunk=chunk)
                for piece in parts.Source(self.engine.mapper, self.lake.settings).pieces(ref)
                if (chunk := self._chosen(piece.chunk, ref, wanted)).read
            ]
        except (ObjectError, parts.SetAsideError):
            held = list(self._from_text(ref, wanted))
        yield from held

    def _chosen(self, chunk: Chunk, ref: ObjectRef, wanted: dict[int, Entry]) -> Chunk:
        """The records that are wanted and still have the text they had."""
        numbers = pa.array(sorted(wanted), pa.int64())
        chunk = replace(chunk, records=chunk.records.filter(pc.is_in(chunk.records["_record"], numbers)), dropped={})
        keep = []
        texts = self.engine.texts(chunk)
        for number, text in zip(chunk.records["_record"].to_pylist(), texts, strict=True):
            keep.append(same := _same(wanted[number], text) or _same(wanted[number], self._former(text)))
            if not same:
                self.open[ref.uri, ref.etag, number] = OTHERWISE
        bad = [item for item in chunk.bad if item.record in wanted]
        return replace(chunk, records=chunk.records.filter(pa.array(keep, pa.bool_())), bad=bad)

    def _former(self, text: str) -> str:
        """The text that an earlier version would have kept."""
        readers = (reader for reader in self.engine.mapper.readers if isinstance(reader, DelimitedInJson))
        reader = next(readers, None)
        return text if reader is None else reader.former_text(text)

    def _from_text(self, ref: ObjectRef, wanted: dict[int, Entry]) -> Iterator[Piece]:
        reader = next((reader for reader in self.engine.mapper.readers if isinstance(reader, JsonRecords)), None)
        raw_object = discovery.raw_object(ref.uri, ref.etag)
        rows = quarantine.texts(self.lake, self.batch.source, ref.uri, ref.etag) if reader else {}
        for number, entry in wanted.items():
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


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _same(entry: Entry, text: str) -> bool:
    return entry.bytes >= KEPT_BYTES or hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() == entry.md5
