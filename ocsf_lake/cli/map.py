"""`ocsf-lake map`."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from ocsf_lake.cli import files, output, terminal
from ocsf_lake.cli.options import SourceArgument, VersionOption, settings, source

if TYPE_CHECKING:
    import pyarrow as pa

    from ocsf_lake.config import Settings
    from ocsf_mappers import Mapped, Mapper, RawObject
    from ocsf_mappers.readers import Chunk

EXAMPLE = "ocsf-lake map aws_cloudtrail sample_logs/aws_cloudtrail/console_login_success.json"

SHOWN_REJECTS = 100
MEANINGFUL_WHEN_EMPTY = frozenset({"answers"})
"""Lists that say something by having no items: a DNS query without an answer."""

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A log file, or - for stdin.")]


def map_file(source_name: SourceArgument, file: FileArgument, ocsf_version: VersionOption = None) -> None:
    """Print a log file's events as OCSF JSON lines.

    No lake is needed. Attributes without a value are left out. Records that become no event are told on stderr, with
    the reason. Records of other sources among those of this one become events too.
    """
    from ocsf_lake.inputs import fields

    found = settings(ocsf_version=ocsf_version)
    mapper = fields.mapper(source(source_name).name, found)
    told = _Told()
    with files.opened(file) as stream:
        mapped = _mapped(mapper, found, file, stream)
        output.print_json_lines(line for part in mapped for line in _lines(part, told))
    if told.rejects > SHOWN_REJECTS:
        terminal.say(f"and {told.rejects - SHOWN_REJECTS:,} more records without an event")
    for reason, number in sorted(told.dropped.items()):
        terminal.say(f"{terminal.plural(number, 'line')} left out: {reason}")
    for path, number in sorted(told.failed_casts.items()):
        terminal.say(f"{terminal.plural(number, 'value')} of {path} not readable as its type; the text is in unmapped")
    if told.rejects and not told.events:
        raise typer.Exit(1)


@dataclass
class _Told:
    """What became of the records so far."""

    events: int = 0
    rejects: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed_casts: Counter[str] = field(default_factory=Counter)


def _mapped(mapper: Mapper, found: Settings, file: Path, stream: BinaryIO) -> Iterator[Mapped]:
    from ocsf_lake.ingest.batch import engine_of
    from ocsf_lake.ingest.routing import Router
    from ocsf_lake.inputs import discovery

    raw_object = replace(discovery.raw_object(str(file.absolute())), uri="stdin" if file == files.STDIN else str(file))
    engines = engine_of(found.ocsf_version, found)
    router = Router(engines(mapper.name), engines)
    for chunk in _chunks(mapper, found, raw_object, stream):
        for routed in router.map([(raw_object, chunk)]):
            yield routed.mapped


def _chunks(mapper: Mapper, found: Settings, raw_object: RawObject, stream: BinaryIO) -> Iterator[Chunk]:
    from ocsf_lake.inputs import discovery
    from ocsf_mappers.errors import ReadError
    from ocsf_mappers.readers import of_object
    from ocsf_mappers.readers.streams import Blocks

    seekable = stream if stream.seekable() else io.BytesIO(stream.read())
    blocks = Blocks(seekable, found.limits)
    if reason := discovery.digest_reason(blocks.head):
        raise ReadError(f"there is nothing to map: {reason}", object=raw_object.uri)
    uri = f"file://{Path(raw_object.uri).resolve()}"
    for reader in mapper.readers:
        if reader.accepts(blocks.head):
            yield from of_object(reader, uri).read(blocks)
            return
    labels = ", ".join(reader.label for reader in mapper.readers)
    raise ReadError(f"the file is in none of the formats of {mapper.name}: {labels}", object=raw_object.uri)


# -- events as JSON ---------------------------------------------------------------------------------------------------
def _lines(mapped: Mapped, told: _Told) -> Iterator[bytes]:
    import orjson

    for event in events(mapped.events):
        told.events += 1
        # coordinates and scores are decimals in the tables, numbers in OCSF
        yield orjson.dumps(event, default=float, option=orjson.OPT_UTC_Z)
    for reject in mapped.rejects.select(["source_object", "source_record", "reason"]).to_pylist():
        told.rejects += 1
        if told.rejects <= SHOWN_REJECTS:
            terminal.say(f"{reject['source_object']}: record {reject['source_record']}: {reject['reason']}")
    told.dropped.update(mapped.dropped)
    told.failed_casts.update(mapped.failed_casts)


def events(found: pa.Table) -> Iterator[dict[str, Any]]:
    """The events of a table as OCSF has them: without the lake's own columns, nulls and empty objects."""
    from ocsf_mappers.ocsf.tables import OUTSIDE_OCSF

    names = [name for name in found.column_names if name not in OUTSIDE_OCSF and not name.startswith("_")]
    for batch in found.select(names).to_batches(max_chunksize=1_000):
        for row in batch.to_pylist(maps_as_pydicts="strict"):
            yield _without_nulls(row)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _without_nulls(item) for name, item in value.items() if item is not None}
        return {name: item for name, item in kept.items() if item not in ({}, []) or name in MEANINGFUL_WHEN_EMPTY}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
