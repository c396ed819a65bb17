"""`ocsf-lake validate`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import files, output, terminal
from ocsf_lake.cli.options import settings

if TYPE_CHECKING:
    from ocsf_lake.config import Settings
    from ocsf_mappers.ocsf.events import Violation

EXAMPLE = (
    "ocsf-lake map aws_vpc_flow sample_logs/aws_vpc_flow/version_5.log > events.jsonl\n"
    "ocsf-lake validate events.jsonl"
)


def validate(
    names: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSON lines, a JSON array, or Parquet; - is stdin.")
    ],
    warnings: Annotated[bool, typer.Option("--warnings", help="Also show warnings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of lines.")] = False,
) -> None:
    """Check events against OCSF, whatever wrote them.

    Each event is checked against the OCSF version, class and profiles that it names. Prints one line per error: file,
    number of the event (from 1), attribute, error.
    """
    counts = Counter[str]()
    config = settings()
    documents: list[dict[str, object]] = []
    for file in names:
        for finding in _findings(file, config, counts):
            counts["warnings" if finding.warning else "errors"] += 1
            if finding.warning and not warnings:
                continue
            if as_json:
                path, mark, message = finding.message.partition(": ")
                documents.append(
                    {
                        "file": str(file),
                        "event": finding.event,
                        "level": "warning" if finding.warning else "error",
                        "path": path if mark else None,
                        "says": message if mark else finding.message,
                    }
                )
            else:
                level = "warning: " if finding.warning else ""
                sys.stdout.write(terminal.escaped(f"{file}:{finding.event}: {level}{finding.message}") + "\n")
    if as_json:
        output.print_json(documents)
    unshown = counts["warnings"] and not warnings
    parts = [terminal.plural(counts["events"], "event"), terminal.plural(counts["errors"], "error")]
    parts.append(terminal.plural(counts["warnings"], "warning") + (" (--warnings shows them)" if unshown else ""))
    terminal.say(", ".join(parts))
    raise typer.Exit(int(bool(counts["errors"])))


def _findings(file: Path, config: Settings, counts: Counter[str]) -> Iterator[Violation]:
    from ocsf_lake.events import findings

    with files.opened(file) as stream:
        yield from findings(file, stream, config, counts)
