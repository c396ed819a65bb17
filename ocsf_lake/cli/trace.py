"""`ocsf-lake trace`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.backfill import Accounts, Regions
from ocsf_lake.cli.options import JsonOption, LakeOption, first_day, last_day, settings, settings_of_lake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocsf_lake.evidence.bundle import Verified
    from ocsf_lake.ledger.traced import TracedBatch
    from ocsf_lake.upkeep.trace import Traced, TraceResult
    from ocsf_lake.upkeep.trace_record import RawState, Record

EXAMPLE = "ocsf-lake trace 3e7dde78-ccd2-42b6-af53-70d47a7fae3c --lake demo_lake"

MANY_FILES = 1_000
"""Looking through more files is announced beforehand."""
SHOWN_BYTES = 4_000
"""Of a record's text, so much is shown; JSON and bundles have all of it."""
SHOWN_CHANGES = 40

Event = Annotated[
    str | None,
    typer.Argument(metavar="[EVENT]", help="metadata.uid of an event, or OBJECT#NUMBER: its source_object and record."),
]
Object = Annotated[str | None, typer.Option("--object", metavar="URI", help="Raw object, as in source_object.")]
Record_ = Annotated[int | None, typer.Option("--record", metavar="N", min=1, help="Record in it, as in source_record.")]
Table = Annotated[str | None, typer.Option("--table", metavar="TABLE", help="Search only this table.")]
First = Annotated[date | None, first_day("First event day, UTC.")]
Last = Annotated[date | None, last_day("Last event day, included.")]
Export = Annotated[
    Path | None, typer.Option("--export", metavar="DIR", help="Write an evidence bundle into a new or empty folder.")
]
Whole = Annotated[bool, typer.Option("--whole-objects", help="With --export: include the complete raw objects.")]
VerifyBundle = Annotated[
    Path | None, typer.Option("--verify-bundle", metavar="DIR", help="Verify an evidence bundle; needs no lake.")
]
Expected = Annotated[
    str | None,
    typer.Option("--manifest-sha256", metavar="HEX", help="With --verify-bundle: SHA-256 of its manifest.json."),
]


def trace(
    event: Event = None,
    uri: Object = None,
    record: Record_ = None,
    table: Table = None,
    first: First = None,
    last: Last = None,
    account: Accounts = None,
    region: Regions = None,
    export: Export = None,
    whole_objects: Whole = False,
    verify_bundle: VerifyBundle = None,
    manifest_sha256: Expected = None,
    as_json: JsonOption = False,
    lake: LakeOption = None,
) -> None:
    """Follow an event of the lake to its raw record, byte for byte, and map that again.

    Shows where the event is, whether its raw object is unchanged, the record in it, which batch and mapper brought it
    into the lake, and what today's mapper makes of it. If several events have the uid, all are shown. Exit 1 if there
    is none.
    """
    from ocsf_mappers.errors import ConfigError

    if verify_bundle is not None:
        if (event, uri, record, export) != (None, None, None, None):
            raise ConfigError("--verify-bundle takes only a bundle, and no event")
        _verify(verify_bundle, manifest_sha256, as_json=as_json)
        return
    if manifest_sha256 is not None or (whole_objects and export is None):
        raise ConfigError("--manifest-sha256 needs --verify-bundle, and --whole-objects needs --export")
    config = settings_of_lake(lake)
    from ocsf_lake.upkeep import trace as tracing
    from ocsf_lake.upkeep.trace_rows import Narrowed

    where = Narrowed(table, first, last, tuple(account or ()), tuple(region or ()))
    what = tracing.asked(event, uri, record, where, config)
    traced = tracing.trace(config, what, searching=_searching)
    if as_json:
        output.print_json(traced.as_dict())
    else:
        for number, item in enumerate(traced.events, start=1):
            _show(item, number, len(traced.events))
    if not traced.events:
        terminal.say(f"no such event: {traced.looked}", *traced.hints)
        raise typer.Exit(1)
    if traced.total > len(traced.events):
        terminal.say(f"{traced.total:,} events; {len(traced.events):,} of them are shown, narrow it with --from, --to")
    if export is not None:
        digest = tracing.export(traced, export, whole_objects=whole_objects, limits=config.limits)
        terminal.say(*_exported(traced, export, digest, whole_objects=whole_objects))


def _searching(files: int) -> None:
    if files > MANY_FILES:
        terminal.say(f"searching {files:,} files; --table, --from, --to, --account and --region narrow the search")


# -- one event --------------------------------------------------------------------------------------------------------
def _show(item: Traced, number: int, of: int) -> None:
    if of > 1:
        sys.stdout.write(f"{'' if number == 1 else chr(10)}event {number} of {of}\n")
    for name, value in _lines(item):
        first, *more = value.split("\n")
        sys.stdout.write(f"{name:12}{terminal.escaped(first)}".rstrip() + "\n")
        for line in more:
            sys.stdout.write(f"{'':12}{terminal.escaped(line)}".rstrip() + "\n")


def _lines(item: Traced) -> Iterator[tuple[str, str]]:
    row = item.row
    region, account, day = row.partition.values
    metadata = item.stored.get("metadata") or {}
    if metadata.get("uid") is not None:
        yield "uid", str(metadata["uid"])
    yield "table", f"{row.partition.table}, region {region}, account {account}, day {day}"
    yield "file", f"{item.file}, row {row.number:,} (from 0)"
    yield "", item.file_fault or "unchanged: it has the SHA-256 in the ledger"
    yield from _object(item.object)
    yield from _record(item.record)
    yield "batch", _batch(item.batch) if item.batch else "the ledger does not say which"
    if item.merge:
        yield "merged", f"its file was written by {item.merge.id}, {item.merge.done_at}"
    for uri, record, action in item.duplicates:
        yield "duplicate", f"record {record} of {uri} ({action})"
    yield "OCSF", str(metadata.get("version"))
    yield "mapper", f"then {row.mapper_version}"
    yield "", f"now {item.mapper_now}" + (", the same" if row.mapper_version == item.mapper_now else "")
    yield from _mapped(item)


def _object(state: RawState) -> Iterator[tuple[str, str]]:
    yield "object", state.uri
    yield "", f"ETag {state.etag} when it was read" + (f", version {state.version}" if state.version else "")
    details = ", ".join(
        part
        for part in (
            None if state.size is None else f"{state.size:,} bytes",
            state.modified and f"last changed {state.modified}",
            state.etag_now and state.etag_now != state.etag and f"ETag {state.etag_now}",
        )
        if part
    )
    reason = f" ({state.reason})" if state.reason else ""
    yield "", f"now {state.state}" + (f": {details}" if details else "") + reason


def _record(record: Record) -> Iterator[tuple[str, str]]:
    if record.exact:
        where = f"line {record.line:,}, byte {record.offset:,} (from 0) of the object, decompressed"
        is_first = record.places > 1 and record.line != record.number
        more = f", the first of {record.places:,} places with these bytes" if is_first else ""
        yield "record", f"{record.number:,}: {where}{more}"
    else:
        yield "record", f"{record.number:,}: no exact text: {record.reason}"
    if record.text is not None:
        yield "", _cut(record.text)
    for name, value in (record.values or {}).items():
        yield "", f"{name} = {'nothing' if value is None else _cut(value)}"
    if record.document is not None:
        yield "carried in", f"a document at byte {record.document_offset:,} (from 0) of the object, decompressed"
        yield "", _cut(record.document.decode(errors="backslashreplace"))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_BYTES else f"{text[:SHOWN_BYTES]}... ({len(text):,} characters, --json has all)"


def _batch(batch: TracedBatch) -> str:
    return f"{batch.id} ({batch.kind}) of {batch.source}, in the lake since {batch.done_at}"


def _mapped(item: Traced) -> Iterator[tuple[str, str]]:
    if item.mapped is None:
        yield "mapped again", f" no event: {item.reason}"
        return
    yield "mapped again", " the same event" if not item.changes else f" {_differ(len(item.changes))}"
    for change in item.changes[:SHOWN_CHANGES]:
        stored, now = ("nothing" if value is None else value for value in (change.stored, change.now))
        yield "", f"{change.path}: {_cut(stored)} -> {_cut(now)}"
    if len(item.changes) > SHOWN_CHANGES:
        yield "", f"and {len(item.changes) - SHOWN_CHANGES:,} more, --json has all"


def _differ(number: int) -> str:
    return f"{number:,} attributes differ" if number > 1 else "1 attribute differs"


# -- bundles ----------------------------------------------------------------------------------------------------------
def _exported(traced: TraceResult, folder: Path, digest: str, *, whole_objects: bool) -> Iterator[str]:
    for number, item in enumerate(traced.events, start=1):
        if not item.record.exact:
            yield f"event {number}: its record is not there byte for byte: {item.record.reason}"
        if whole_objects and not item.raw.is_there:
            yield f"event {number}: its object is not there: {item.object.reason}"
    yield f"{terminal.plural(len(traced.events), 'event')} in {folder}"
    yield f"SHA-256 of its manifest.json, keep it elsewhere: {digest}"


def _verify(folder: Path, expected: str | None, *, as_json: bool) -> None:
    from ocsf_lake.evidence import bundle

    verified = bundle.verify(folder, expected, settings().limits)
    if as_json:
        output.print_json(asdict(verified))
    else:
        for fault in verified.faults:
            sys.stdout.write(f"{terminal.escaped(f'{fault.file}: {fault.reason}')}\n")
        terminal.say(*_verified(verified, expected))
    raise typer.Exit(int(bool(verified.faults)))


def _verified(verified: Verified, expected: str | None) -> Iterator[str]:
    about = verified.about
    if about:
        number = terminal.plural(about["events"], "event")
        yield f"{number} of {about['lake']}, exported {about['exported_at']} by {about['tool']}"
    if verified.objects:
        yield f"{terminal.plural(verified.objects, 'whole object')}, {verified.etags:,} with the ETag as MD5"
    if verified.manifest_sha256 is not None:
        note = "as expected" if expected else "compare it with the one printed at the export"
        yield f"SHA-256 of manifest.json: {verified.manifest_sha256}" + ("" if verified.faults else f": {note}")
    files = f"{terminal.plural(verified.files, 'file')}, {terminal.size(verified.bytes)}"
    faults = terminal.plural(len(verified.faults), "fault")
    yield f"{files}: {faults}" if verified.faults else f"{files}: all as they were written"
