"""`ocsf-lake map`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import files, output, terminal
from ocsf_lake.cli.options import SourceArgument, VersionOption, settings, source

if TYPE_CHECKING:
    from ocsf_mappers import Mapped

EXAMPLE = "ocsf-lake map aws_cloudtrail sample_logs/aws_cloudtrail/console_login_success.json"

SHOWN_REJECTS = 100

RedactOption = Annotated[
    bool, typer.Option("--redact", help="Hide what the settings would hide before events are written to a lake.")
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A log file, or - for stdin.")]


def map_file(
    source_name: SourceArgument, file: FileArgument, ocsf_version: VersionOption = None, redact: RedactOption = False
) -> None:
    """Print a log file's events as OCSF JSON lines.

    Needs no lake. Nothing is hidden without --redact. Attributes without a value are left out. Records that do not
    become events are reported on stderr, with the reason. Records of other sources in the file become events too.
    """
    from ocsf_lake.events import mapped
    from ocsf_lake.inputs import fields

    config = settings(ocsf_version=ocsf_version)
    mapper = fields.mapper(source(source_name).name, config)
    counts = _Counts()
    with files.opened(file) as stream:
        uri = "stdin" if file == files.STDIN else None
        parts = mapped(mapper, config, file, stream, uri, counts.redacted if redact else None)
        output.print_json_lines(line for part in parts for line in _lines(part, counts))
    if counts.rejects > SHOWN_REJECTS:
        terminal.say(f"and {counts.rejects - SHOWN_REJECTS:,} more records without an event")
    for reason, number in sorted(counts.dropped.items()):
        terminal.say(f"{terminal.plural(number, 'line')} left out: {reason}")
    for path, number in sorted(counts.failed_casts.items()):
        terminal.say(f"{terminal.plural(number, 'value')} of {path} not readable as its type; the text is in unmapped")
    for rule, number in sorted(counts.redacted.items()):
        terminal.say(f"{terminal.plural(number, 'value')} hidden by {rule}")
    if counts.rejects and not counts.events:
        raise typer.Exit(1)


@dataclass
class _Counts:
    """What became of the records so far."""

    events: int = 0
    rejects: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed_casts: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)


# -- events as JSON ---------------------------------------------------------------------------------------------------
def _lines(mapped: Mapped, counts: _Counts) -> Iterator[bytes]:
    import orjson

    from ocsf_lake.events import plain_events

    for event in plain_events(mapped.events):
        counts.events += 1
        # coordinates and scores are decimals in the tables, numbers in OCSF
        yield orjson.dumps(event, default=float, option=orjson.OPT_UTC_Z)
    for reject in mapped.rejects.select(["source_object", "source_record", "reason"]).to_pylist():
        counts.rejects += 1
        if counts.rejects <= SHOWN_REJECTS:
            terminal.say(f"{reject['source_object']}: record {reject['source_record']}: {reject['reason']}")
    counts.dropped.update(mapped.dropped)
    counts.failed_casts.update(mapped.failed_casts)
