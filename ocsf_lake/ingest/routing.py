"""Records of a batch, each mapped by the mapper of the source whose record it is.

An object may hold records of several sources: an EventBridge archive, a log group, a stream of Firehose. The batch is
of the one that its objects were recognized by. What came in another service's document, what a reader could not read
and what the mapper refused is looked at again: where such a record is one of another source, that source's readers and
mapper take it, from the very text that quarantine would keep.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import pyarrow as pa

from ocsf_lake.inputs import content
from ocsf_mappers import Engine, Mapped, RawObject
from ocsf_mappers.readers import CARRIERS, CLOUDWATCH, Bad, Chunk, wrapped
from ocsf_mappers.readers.envelope import opened
from ocsf_mappers.readers.exported import as_log_events, is_exported
from ocsf_mappers.readers.streams import Blocks

Engines = Callable[[str], Engine]
"""Gives the engine of a source."""

KINDS = 100
"""So many kinds of records without a source are counted apart among a batch's drops."""
OTHER_KIND = "EventBridge event of another kind"

HEAD_BYTES = 200
_OPENED = (CLOUDWATCH, *CARRIERS)

Parts = Sequence[tuple[RawObject, Chunk]]


@dataclass(frozen=True)
class Routed:
    """Records that the mapper of one source has mapped.

    Args:
        engine: Of the source.
        mapped: What they became.
        read: Object -> how many of its records these are; empty for the batch's own source.
        strangers: Object -> how many of its records are of no source that is known; they are among the dropped.
    """

    engine: Engine
    mapped: Mapped
    read: Counter[str] = field(default_factory=Counter)
    strangers: Counter[str] = field(default_factory=Counter)


@dataclass
class _ForeignRecords:
    """Records that are not the batch's own.

    Args:
        of_source: Source -> object -> number and text of each record.
        strangers: Object and reason of records of no source that is known, once for each.
    """

    of_source: dict[str, dict[RawObject, list[tuple[int, str]]]] = field(default_factory=dict)
    strangers: list[tuple[str, str]] = field(default_factory=list)

    def add(self, source: str, raw_object: RawObject, number: int, text: str) -> None:
        self.of_source.setdefault(source, {}).setdefault(raw_object, []).append((number, text))


class Router:
    """Maps the records of a batch.

    Args:
        engine: Of the batch's source.
        engines: Gives those of others, when they are needed.
        keep_strangers: Records of no source that is known are left to the batch's own mapper instead of dropped.
        ordered: Whether events stand in the order of their records (see `Engine.map`).
    """

    def __init__(
        self, engine: Engine, engines: Engines, *, keep_strangers: bool = False, ordered: bool = False
    ) -> None:
        self.engine = engine
        self.ordered = ordered
        self.engines = engines
        self.keep_strangers = keep_strangers
        self.name = engine.mapper.name
        self._kinds: set[str] = set()

    def map(self, parts: Parts) -> list[Routed]:
        """What some chunks become: by the batch's own source first, then by others, sorted by name."""
        if self.name not in content.recognized_sources():
            return [Routed(self.engine, self.engine.map(parts, ordered=self.ordered))]
        foreign = _ForeignRecords()
        own = [(raw_object, self._own(raw_object, chunk, foreign)) for raw_object, chunk in parts]
        mapped = self.engine.map(own, ordered=self.ordered)
        mapped = self._without_foreign(mapped, {item.uri: item for item, _ in parts}, foreign)
        reasons = Counter(self._kind(reason) for _, reason in foreign.strangers)
        mapped = replace(mapped, dropped=mapped.dropped + reasons)
        others = [self._other(source, foreign.of_source[source]) for source in sorted(foreign.of_source)]
        return [Routed(self.engine, mapped, strangers=Counter(uri for uri, _ in foreign.strangers)), *others]

    def _kind(self, reason: str) -> str:
        """The reason, as long as there are not too many different ones: they come from the log."""
        if reason not in self._kinds and len(self._kinds) == KINDS:
            return OTHER_KIND
        self._kinds.add(reason)
        return reason

    def _own(self, raw_object: RawObject, chunk: Chunk, foreign: _ForeignRecords) -> Chunk:
        """A chunk without the records that are another source's by the documents they came in."""
        bad = [item for item in chunk.bad if not self._moved(raw_object, item.record, item.text, foreign)]
        records = chunk.records
        stays: list[bool] = []
        if "_text" in records.column_names:
            pairs = zip(records["_record"].to_pylist(), records["_text"].to_pylist(), strict=True)
            stays = [not self._moved(raw_object, number, text, foreign) for number, text in pairs]
        elif "_envelope" in records.column_names:
            columns = (records[name].to_pylist() for name in ("_record", "_raw", "_envelope"))
            for number, (raw, around) in zip(next(columns), zip(*columns, strict=True), strict=True):
                recognized = content.Recognition() if around is None else self._recognized(raw, around)
                stays.append(recognized.stranger is None and recognized.source in (None, self.name))
                if recognized.stranger is not None:
                    foreign.strangers.append((raw_object.uri, recognized.stranger))
                elif not stays[-1] and recognized.source is not None:
                    foreign.add(recognized.source, raw_object, number, wrapped(raw, around, self.engine.envelopes))
        if not all(stays):
            records = records.filter(pa.array(stays, pa.bool_()))
        return replace(chunk, records=records, bad=bad)

    def _without_foreign(self, mapped: Mapped, objects: dict[str, RawObject], foreign: _ForeignRecords) -> Mapped:
        """What was mapped without the rejects that are records of another source."""
        rejects = mapped.rejects
        if not len(rejects):
            return mapped
        names = ("source_object", "source_record", "raw")
        rows = zip(*(rejects[name].to_pylist() for name in names), strict=True)
        stays = [not self._moved(objects[uri], number, text, foreign) for uri, number, text in rows]
        return mapped if all(stays) else replace(mapped, rejects=rejects.filter(pa.array(stays, pa.bool_())))

    def _moved(self, raw_object: RawObject, number: int, text: str, foreign: _ForeignRecords) -> bool:
        """Whether a text that the batch's source cannot use is a whole record of another one, or of none."""
        if is_exported(text.encode()[:HEAD_BYTES]):
            text = b"".join(as_log_events(iter([text.encode()]))).decode()
        if text.lstrip()[:1] != "{" or not _is_json(text):
            return False
        carried = opened(text.encode(), _OPENED)
        if len(carried) != 1:
            return False
        around = carried[0].around
        recognized = self._recognized(carried[0].text, None if around is None else msgspec.json.encode(around))
        if recognized.stranger is not None:
            foreign.strangers.append((raw_object.uri, recognized.stranger))
        elif recognized.source is not None and recognized.source != self.name:
            foreign.add(recognized.source, raw_object, number, text)
        else:
            return False
        return True

    def _recognized(self, text: str | bytes, around: str | bytes | None) -> content.Recognition:
        recognized = content.of_record(text, around)
        return content.Recognition() if recognized.stranger is not None and self.keep_strangers else recognized

    def _other(self, source: str, records: dict[RawObject, list[tuple[int, str]]]) -> Routed:
        engine = self.engines(source)
        parts = []
        for raw_object, numbered in records.items():
            numbered.sort()
            parts += [(raw_object, chunk) for chunk in _read(engine, numbered)]
        read = Counter({item.uri: len(numbered) for item, numbered in records.items()})
        return Routed(engine, engine.map(parts, ordered=self.ordered), read)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _read(engine: Engine, numbered: Sequence[tuple[int, str]]) -> Iterator[Chunk]:
    """Records of one object as a source's own reader gives them, under the numbers they have in the object."""
    chunks = _chunks(engine, [text for _, text in numbered])
    if sum(chunk.read - sum(chunk.dropped.values()) for chunk in chunks) != len(numbered):
        # Some text is not one record to this reader: then each is read alone, and what is not one record is bad.
        for number, text in numbered:
            alone = _chunks(engine, [text])
            if sum(chunk.read - sum(chunk.dropped.values()) for chunk in alone) == 1:
                yield from _renumbered(alone, [number])
            else:
                reason = f"the document does not hold one record of {engine.mapper.name}"
                yield Chunk(_no_records(), [Bad(number, reason, text)])
        return
    yield from _renumbered(chunks, [number for number, _ in numbered])


def _chunks(engine: Engine, texts: Sequence[str]) -> list[Chunk]:
    data = b"[" + b",".join(text.encode() for text in texts) + b"]"
    blocks = Blocks(io.BytesIO(data))
    reader = next((reader for reader in engine.mapper.readers if reader.accepts(blocks.head)), None)
    return list(reader.read(blocks)) if reader is not None else []


def _renumbered(chunks: Sequence[Chunk], numbers: Sequence[int]) -> Iterator[Chunk]:
    places = pa.array([0, *numbers], pa.int64())
    for chunk in chunks:
        records = chunk.records
        position = records.column_names.index("_record")
        moved = places.take(records["_record"].combine_chunks())
        bad = [replace(item, record=numbers[item.record - 1]) for item in chunk.bad]
        yield replace(chunk, records=records.set_column(position, "_record", moved), bad=bad, dropped={})


def _no_records() -> pa.Table:
    return pa.table({"_record": pa.array([], pa.int64())})
