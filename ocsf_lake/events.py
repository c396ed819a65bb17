"""Events without a lake: the records of a file mapped, and anybody's events validated against OCSF."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import parquet

from ocsf_lake.config import Settings
from ocsf_lake.ingest.engines import of_settings
from ocsf_lake.ingest.routing import Router
from ocsf_lake.inputs import discovery, fields
from ocsf_lake.redaction import policy as redaction
from ocsf_mappers import Mapped, Mapper, RawObject
from ocsf_mappers.errors import ConfigError, ReadError
from ocsf_mappers.ocsf import events as checks
from ocsf_mappers.ocsf.events import Violation
from ocsf_mappers.ocsf.tables import OUTSIDE_OCSF
from ocsf_mappers.readers import Chunk, of_object
from ocsf_mappers.readers.streams import Blocks

PARQUET = b"PAR1"
PARQUET_ROWS = 65_536
MEANINGFUL_WHEN_EMPTY = frozenset({"answers"})
"""Lists that say something by having no items: a DNS query without an answer."""


# -- a file's records as events ---------------------------------------------------------------------------------------
def source_of(file: Path, stream: BinaryIO, settings: Settings) -> str:
    """Name of the source of a file: by its name, else by its beginning, as `ocsf-lake ingest` does.

    Args:
        file: The file, see `mapped`.
        stream: Its bytes, seekable; it stands at the beginning afterwards.
        settings: Limits, and the columns of logs without a header line.

    Raises:
        ConfigError: Neither says it.
    """
    uri = f"file://{file.resolve()}"
    name = fields.source(uri, settings) or discovery.of_key(uri).source
    if name is None:
        sniffed = discovery.sniffed(uri, stream, settings.limits)
        if sniffed.source is None:
            reason = sniffed.nothing or sniffed.stranger or "neither name nor content of the file says what log it is"
            raise ConfigError(f"{reason}: name the source", object=file)
        name = sniffed.source
        stream.seek(0)
    return name


def mapped(
    mapper: Mapper, settings: Settings, file: Path, stream: BinaryIO, uri: str | None = None,
    redacted: Counter[str] | None = None,
) -> Iterator[Mapped]:  # fmt: skip
    """What the records of a file become, in parts; memory is bounded whatever the file's size.

    Records of other sources among those of this one become events too.

    Args:
        mapper: Of the source.
        settings: OCSF version and limits.
        file: What the file is called; accounts, regions and times are taken from the name.
        stream: Its bytes.
        uri: What `source_object` says, instead of the name.
        redacted: Gets the number of values that each rule of the settings hid; None to hide nothing.

    Raises:
        ConfigError: A rule cannot be followed.
        ReadError: It is in none of the formats of the source, or damaged.
    """
    raw_object = replace(discovery.raw_object(str(file.absolute())), uri=uri or str(file))
    engines = of_settings(settings.ocsf_version, settings)
    router = Router(engines(mapper.name), engines, ordered=True)
    hides = redaction.of(settings) if redacted is not None else None
    if hides is not None:
        hides.check()
    for chunk in _chunks(mapper, settings, raw_object, stream):
        for routed in router.map([(raw_object, chunk)]):
            if hides is None or redacted is None:
                yield routed.mapped
                continue
            hidden, counts = hides.of_source(routed.engine.mapper).mapped(routed.mapped)
            redacted.update(counts)
            yield hidden


def _chunks(mapper: Mapper, settings: Settings, raw_object: RawObject, stream: BinaryIO) -> Iterator[Chunk]:
    seekable = stream if stream.seekable() else io.BytesIO(stream.read())
    blocks = Blocks(seekable, settings.limits)
    if reason := discovery.without_records(blocks.head):
        raise ReadError(f"there is nothing to map: {reason}", object=raw_object.uri)
    uri = f"file://{Path(raw_object.uri).resolve()}"
    for reader in mapper.readers:
        if reader.accepts(blocks.head):
            yield from of_object(reader, uri).read(blocks)
            return
    labels = ", ".join(reader.label for reader in mapper.readers)
    raise ReadError(f"the file is in none of the formats of {mapper.name}: {labels}", object=raw_object.uri)


def plain_events(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The events of a table as OCSF has them: without the lake's own columns, nulls and empty objects."""
    names = [name for name in table.column_names if name not in OUTSIDE_OCSF and not name.startswith("_")]
    for batch in table.select(names).to_batches(max_chunksize=1_000):
        for row in batch.to_pylist(maps_as_pydicts="strict"):
            yield _without_nulls(row)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        members = {name: _without_nulls(item) for name, item in value.items() if item is not None}
        return {name: item for name, item in members.items() if item not in ({}, []) or name in MEANINGFUL_WHEN_EMPTY}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


# -- events validated against OCSF ------------------------------------------------------------------------------------
def findings(file: Path, stream: BinaryIO, settings: Settings, counts: Counter[str]) -> Iterator[Violation]:
    """What is wrong with the events of a file; `counts["events"]` goes up by their number.

    Args:
        file: What it is called.
        stream: Its bytes: JSON lines, a JSON array or Parquet.
        settings: Limits of decompression.
        counts: Counts the events.

    Raises:
        ReadError: It is neither JSON nor Parquet, or damaged.
    """
    data = b"".join(Blocks(io.BytesIO(stream.read()), settings.limits))
    if data.startswith(PARQUET):
        yield from _parquet(data, file, counts)
        return
    if data.strip() and data.lstrip()[:1] not in (b"{", b"["):
        raise ReadError("the file is neither JSON nor Parquet", object=file)
    lines = checks.read_lines(data)
    counts["events"] += len(lines)
    yield from checks.check_json(lines)


def _parquet(data: bytes, file: Path, counts: Counter[str]) -> Iterator[Violation]:
    before = 0
    try:
        for batch in parquet.ParquetFile(io.BytesIO(data)).iter_batches(batch_size=PARQUET_ROWS):
            for finding in checks.check_table(pa.Table.from_batches([batch])):
                yield replace(finding, event=finding.event + before)
            before += len(batch)
            counts["events"] += len(batch)
    except pa.ArrowException as error:
        raise ReadError(f"the Parquet file is damaged: {error}", object=file) from error
