"""From rows of the lake to the records that they came from, and what today's mapper makes of those.

Nothing is written, and permission to read is enough. What cannot be had (an object that was deleted, a mapper that is
no longer installed) is a reason beside all the rest, and no error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake import differences
from ocsf_lake.catalogs.definitions import DUPLICATES, OUTCOMES, QUARANTINE
from ocsf_lake.config import Settings
from ocsf_lake.events import plain_events
from ocsf_lake.evidence import bundle
from ocsf_lake.ingest import engines
from ocsf_lake.ingest.parts import Piece
from ocsf_lake.ingest.routing import Router
from ocsf_lake.inputs import fields
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import traced
from ocsf_lake.ledger.ledger import now
from ocsf_lake.ledger.results import Kind
from ocsf_lake.ledger.traced import TracedBatch
from ocsf_lake.redaction import policy as redaction
from ocsf_lake.storage import fetched, objects
from ocsf_lake.text import plural
from ocsf_lake.upkeep import trace_hints, trace_record, trace_rows
from ocsf_lake.upkeep.trace_record import Raw, RawState, Record
from ocsf_lake.upkeep.trace_rows import Narrowed, Row, Rows
from ocsf_mappers import Engine, registry, temporary
from ocsf_mappers.errors import ConfigError, OcsfMappersError, nearest
from ocsf_mappers.readers.streams import Limits

_PLACE = re.compile(r"(.+)#([1-9]\d{0,17})", re.DOTALL | re.ASCII)


@dataclass(frozen=True)
class Asked:
    """What is looked for.

    Args:
        uid: `metadata.uid` of events; None where only a record is meant.
        uri: Object of the record; None where only a uid is meant.
        record: Number of the record in it.
        where: Where to look.
    """

    uid: str | None
    uri: str | None = None
    record: int | None = None
    where: Narrowed = field(default_factory=Narrowed)

    def as_dict(self) -> dict[str, Any]:
        """What was given of it, in JSON's types."""
        where = {name: str(value) if isinstance(value, date) else value for name, value in asdict(self.where).items()}
        given = {"uid": self.uid, "object": self.uri, "record": self.record, **where}
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True)
class Change:
    """One attribute that differs: its path, and its values as text, None for none."""

    path: str
    stored: str | None
    now: str | None


@dataclass
class Traced:
    """One row, followed to its record.

    Args:
        row: Where it is.
        file: URI of its file.
        file_fault: Why the file is not what the ledger says was written; None where it is.
        stored: The event as the lake has it, without attributes that have no value.
        object: The raw object now.
        record: The record as the object has it.
        raw: The object, to be read once more.
        batch: What brought it into the lake; None where the ledger does not say.
        merge: The compaction that wrote its file, if one did.
        mapper_now: Name of today's mapper for the same OCSF version; None where there is none.
        mapped: The record mapped again; None where it becomes no event or cannot be read.
        reason: Why there is none.
        changes: What differs between both.
        duplicates: Records that the lake left out, or marked, as equal to this one: object, number, action.
    """

    row: Row
    file: str
    file_fault: str | None
    stored: dict[str, Any]
    object: RawState
    record: Record
    raw: Raw
    batch: TracedBatch | None = None
    merge: TracedBatch | None = None
    mapper_now: str | None = None
    mapped: dict[str, Any] | None = None
    reason: str | None = None
    changes: list[Change] = field(default_factory=list)
    duplicates: list[tuple[str, int, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        row, record = self.row, asdict(self.record)
        text, document = self.record.text, self.record.document
        region, account, day = row.partition.values
        metadata = self.stored.get("metadata") or {}
        return {
            "uid": metadata.get("uid"),
            "table": row.partition.table,
            "partition": {"region": region, "accountid": account, "eventday": day},
            "file": self.file,
            "row": row.number,
            "file_sha256": row.file.sha256,
            "file_fault": self.file_fault,
            "object": asdict(self.object),
            "record": {
                **record,
                "sha256": None if text is None else hashlib.sha256(text.encode()).hexdigest(),
                # JSON holds no bytes: the bundle has them, where they are no UTF-8
                "document": None if document is None else document.decode(errors="backslashreplace"),
            },
            "batch": asdict(self.batch) if self.batch else None,
            "merge": asdict(self.merge) if self.merge else None,
            "mapper": {
                "then": row.mapper_version, "now": self.mapper_now, "is_same": row.mapper_version == self.mapper_now,
            },
            "ocsf_version": metadata.get("version"),
            "stored": self.stored,
            "mapped_again": self.mapped,
            "not_mapped_because": self.reason,
            "differences": [asdict(change) for change in self.changes],
            "duplicates": [
                {"object": uri, "record": number, "action": action} for uri, number, action in self.duplicates
            ],
        }  # fmt: skip


@dataclass
class TraceResult:
    """The events that were found, followed to their records.

    Args:
        lake: URI of the lake.
        asked: What was looked for, in JSON's types.
        events: The events, not more than `trace_rows.MOST_ROWS`.
        total: How many there are.
        looked: Where was looked, in words.
        hints: What else is known of what was looked for, where nothing was found.
    """

    lake: str
    asked: dict[str, Any] = field(default_factory=dict)
    events: list[Traced] = field(default_factory=list)
    total: int = 0
    looked: str = ""
    hints: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        return {
            "lake": self.lake,
            "asked": self.asked,
            "total": self.total,
            "events": [event.as_dict() for event in self.events],
            "looked": self.looked,
            "hints": self.hints,
        }


def asked(
    event: str | None, uri: str | None, record: int | None, where: Narrowed, settings: Settings
) -> Asked:
    """What is meant by the arguments of a command.

    Args:
        event: A `metadata.uid`, or `OBJECT#NUMBER`; what may be either is looked for as both.
        uri: URI or path of an object.
        record: Number of a record in it.
        where: Where to look.
        settings: How objects are reached; their mappers make the tables.

    Raises:
        ConfigError: They name no event, more than one, or a table that does not exist.
    """
    settings.use_mappers()
    if where.table is not None and where.table not in registry.tables():
        ours = {table.security_lake: name for name, table in registry.tables().items() if table.security_lake}
        if where.table not in ours:
            raise ConfigError(f"there is no table {where.table!r}{nearest(where.table, registry.tables())}")
        where = Narrowed(ours[where.table], where.first, where.last, where.accounts, where.regions)
    if (uri is None) != (record is None):
        raise ConfigError("--object and --record belong together")
    if (event is None) == (uri is None):
        raise ConfigError("name an event: its metadata.uid, OBJECT#NUMBER, or --object and --record")
    if uri is not None:
        return Asked(None, uri, record, where)
    match = _PLACE.fullmatch(event or "")
    return Asked(event, match[1] if match else None, int(match[2]) if match else None, where)


def trace(settings: Settings, what: Asked, *, searching: Callable[[int], None] = lambda _: None) -> TraceResult:
    """Follows rows to their records.

    Args:
        settings: The lake.
        what: What is looked for.
        searching: Called with the number of files before they are looked through for a `metadata.uid`.

    Raises:
        MissingError: There is no lake.
        RetriableError: The lake's store or database does not answer.
        duckdb.Error: A file of the lake is gone or damaged.
    """
    with opened(settings, reading=True) as lake:
        result = TraceResult(lake.store.uri("").rstrip("/"), what.as_dict())
        rows = Rows()
        uri = None
        if what.uri is not None and what.record is not None:
            uri = _ledger_uri(lake, what.uri)
            rows = trace_rows.by_record(lake, uri, what.record, what.where)
        by_record = _looked(rows)
        if what.uid is not None and not rows.total:
            rows = trace_rows.by_uid(lake, what.uid, what.where, searching)
        result.total, result.looked = rows.total, _looked(rows) if rows.tables or not what.uri else by_record
        follow = _Following(lake)
        result.events = [follow.row(row) for row in rows.rows]
        if not result.events:
            result.hints = list(trace_hints.hints(lake, what.uid, uri, what.record))
        return result


def _ledger_uri(lake: Lake, uri: str) -> str:
    """A URI as the ledger has it: as it was given, or as listing would give it."""
    if traced.is_known(lake.ledger.engine, uri):
        return uri
    try:
        return objects.uri_of(uri, lake.settings.input_access)
    except (OcsfMappersError, OSError, ValueError):
        return uri


def _looked(rows: Rows) -> str:
    return f"searched {plural(rows.files, 'file')} of {plural(len(rows.tables), 'table')}" + (
        f": {', '.join(rows.tables)}" if rows.tables else ""
    )


class _Following:
    """Follows rows; what several of them have in common is looked at once."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._settings = lake.settings
        self._raw = cache(lambda uri, etag: Raw(uri, etag, lake.settings))
        self._fault = cache(self._fault_of)
        self._marked = bool(lake.files.paths(DUPLICATES))
        self._last: Raw | None = None

    def row(self, row: Row) -> Traced:
        """One row, followed."""
        stored = trace_rows.event(self._lake, row)
        (event,) = _plain(stored)
        raw = self._raw(row.source_object, row.source_etag)
        if self._last is not None and self._last is not raw:
            self._last.forget()  # of a hundred objects, memory holds one
        self._last = raw
        place = self._lake.store.uri(row.file.path)
        followed = Traced(row, place, self._fault(row), event, raw.state, Record(row.source_record), raw)
        followed.batch, followed.merge = self._batches(row)
        followed.duplicates = self._duplicates(row)
        source = row.mapper_version.rsplit("-", 2)[0]
        ocsf_version = str((event.get("metadata") or {}).get("version"))
        try:
            followed.mapper_now = self._engine(source, ocsf_version).fingerprint
            reading = self._engine(self._read_as(row) or source, ocsf_version)
        except OcsfMappersError as error:
            followed.reason = str(error)
            followed.record = Record(row.source_record, reason=str(error))
            return followed
        followed.record, piece = trace_record.read(raw, reading, row.source_record, self._settings)
        if piece is None and (kept := self._kept(row, source)) is not None:
            reason = f"{followed.record.reason}; quarantine kept this text"
            followed.record = replace(followed.record, text=kept, reason=reason)
        if piece is None:
            followed.reason = followed.record.reason
            return followed
        events, followed.reason = self._mapped(reading, piece)
        if events is not None:
            (followed.mapped,) = _plain(events)
            # Comparing text by text is most of the work, and mostly for nothing.
            if followed.mapped != event or _table(events) != row.partition.table:
                followed.changes = _changes(row, stored, events)
        return followed

    def _engine(self, source: str, ocsf_version: str) -> Engine:
        return engines.engine(fields.mapper(source, self._settings), ocsf_version)

    def _mapped(self, engine: Engine, piece: Piece) -> tuple[pa.Table | None, str | None]:
        """The event of a record, or why there is none."""
        router = Router(engine, engines.of_settings(engine.version, self._settings))
        reasons = []
        hides = redaction.of(self._settings)
        for routed in router.map([(piece.raw_object, piece.chunk)]):
            mapped = routed.mapped
            if hides is not None:
                mapped, _ = hides.of_source(routed.engine.mapper).mapped(mapped)
            if len(mapped.events):
                return mapped.events.slice(0, 1), None
            reasons += [*mapped.rejects["reason"].to_pylist(), *mapped.dropped]
        return None, next(iter(reasons), "the mapper makes no event of it")

    def _fault_of(self, row: Row) -> str | None:
        """Why the row's file is not the one that was written."""
        with temporary.directory("trace") as folder:
            try:
                fetched.fetch(self._lake.store, [(row.file.path, row.file.sha256)], Path(folder))
            except fetched.LakeFileError as error:
                return str(error)
        return None

    # -- the ledger's part --------------------------------------------------------------------------------------------
    def _read_as(self, row: Row) -> str | None:
        """The source that the row's object was read as; its records may be of others."""
        return traced.read_as(self._lake.ledger.engine, row.source_object, row.source_etag).source

    def _batches(self, row: Row) -> tuple[TracedBatch | None, TracedBatch | None]:
        """The batch that brought the row, and the merge that wrote its file."""
        engine = self._lake.ledger.engine
        wrote = traced.batch(engine, row.batch_id)
        if wrote is None or wrote.kind != Kind.MERGE:
            return wrote, None
        source = row.mapper_version.rsplit("-", 2)[0]
        if (replayed := self._replay(row, source)) is not None:
            return traced.batch(engine, replayed), wrote
        of_object = traced.read_as(engine, row.source_object, row.source_etag).batch_id
        return traced.batch_of_object(engine, of_object, source), wrote

    def _replay(self, row: Row, source: str) -> str | None:
        """The replay that made the row of an entry of quarantine."""
        return self._of_entry("batch_id", OUTCOMES, row, source)

    def _kept(self, row: Row, source: str) -> str | None:
        """The text that quarantine kept of a record that was replayed."""
        return self._of_entry("raw", QUARANTINE, row, source)

    def _of_entry(self, column: str, table: str, row: Row, source: str) -> str | None:
        """A column of the row's closed entry in quarantine; None where it was never in there."""
        if not traced.has_replays(self._lake.ledger.engine, source):
            return None
        sql = (
            f"SELECT {column} FROM {table} WHERE source_object = $object AND source_etag = $etag "
            "AND source_record = $record AND state = 'closed'"
        )
        given = {"object": row.source_object, "etag": row.source_etag, "record": row.source_record}
        return next((str(value) for (value,) in trace_rows.asked(self._settings, sql, given)), None)

    def _duplicates(self, row: Row) -> list[tuple[str, int, str]]:
        """Records that equal this row's."""
        if not self._marked:
            return []
        sql = (
            f"SELECT source_object, source_record, action FROM {DUPLICATES} WHERE of_object = $object "
            f"AND of_record = $record ORDER BY ALL LIMIT {trace_rows.MOST_ROWS}"
        )
        return trace_rows.asked(self._settings, sql, {"object": row.source_object, "record": row.source_record})


def _plain(events: pa.Table) -> Iterator[dict[str, Any]]:
    """Events in JSON's types."""
    for event in plain_events(events):
        # coordinates and scores are decimals in the tables, numbers in OCSF
        yield orjson.loads(orjson.dumps(event, default=float, option=orjson.OPT_UTC_Z))


def _table(events: pa.Table) -> str:
    return str(pc.cast(events["_table"], pa.string())[0])


def _changes(row: Row, stored: pa.Table, events: pa.Table) -> list[Change]:
    table = _table(events)
    moved = [Change("table", row.partition.table, table)] if table != row.partition.table else []
    difference = differences.between(stored, events.drop_columns(["_table"]))
    examples = {path: item.examples[0] for path, item in difference.changes.items()}
    return moved + [Change(path, item.before, item.after) for path, item in examples.items()]


# -- as evidence ------------------------------------------------------------------------------------------------------
def export(result: TraceResult, folder: Path, *, whole_objects: bool = False, limits: Limits | None = None) -> str:
    """Writes an evidence bundle, see `ocsf_lake.evidence.bundle`.

    Args:
        result: The events, as `trace` gives them.
        folder: Where: it must not be there, or be empty.
        whole_objects: With the raw objects as they are stored, where they are as they were read.
        limits: How far those may grow when they are decompressed.

    Returns:
        SHA-256 of the bundle's manifest, in hex.

    Raises:
        ConfigError: The folder is not empty.
        ObjectError: A raw object changed meanwhile.
    """
    items = []
    for event in result.events:
        about = event.as_dict()
        record = about["record"]
        about = {name: value for name, value in about.items() if name not in ("stored", "mapped_again")}
        about["record"] = {name: record[name] for name in record if name not in ("text", "document", "values")}
        text, state = event.record.text, event.object
        whole = bundle.RawObject(state.uri, state.etag, event.raw.opened)
        items.append(
            bundle.Item(
                about, event.stored, event.mapped, None if text is None else text.encode(), event.record.document,
                event.record.values, whole if whole_objects and event.raw.is_there else None,
            )
        )  # fmt: skip
    summary = {"lake": result.lake, "asked": result.asked, "total": result.total, "looked": result.looked}
    return bundle.write(folder, summary, items, version=version("ocsf-lake"), time=now(), limits=limits)
