"""`ocsf-lake report`."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import terminal
from ocsf_lake.cli.options import LakeOption, first_day, last_day, settings_of_lake

if TYPE_CHECKING:
    from ocsf_lake.config import Settings

EXAMPLE = "ocsf-lake report --out report.html --lake demo_lake"

PORT = 8017

Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="File to write; - for stdout.")]
First = Annotated[date | None, first_day("First event day, UTC. Default: the newest thirty days.")]
Last = Annotated[date | None, last_day("Last event day. Default: the newest.")]
Serve = Annotated[
    bool, typer.Option("--serve", help="Serve the page on this machine, refreshed as it ages, with a query prompt.")
]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65_535, help="Port for --serve on the loopback address; 0 for any.")
]


def report(
    out: Out = None, first: First = None, last: Last = None, serve: Serve = False, port: Port = PORT,
    lake: LakeOption = None,
) -> None:  # fmt: skip
    """Write a report page: coverage, lag, volume, quarantine, drift, detections, cost, and what to do next.

    It is one HTML file without scripts or external requests; open it in a browser, print it, send it. Charts need `pip
    install 'ocsf-lake[report]'`; without it the page has tables. With --serve the page is shown at a local address that
    includes a secret: anyone who knows the address can read the lake.
    """
    from ocsf_mappers.errors import ConfigError

    if serve == (out is not None):
        raise ConfigError("no output: name a file with --out, or show the page with --serve")
    config = settings_of_lake(lake)
    with terminal.ended_quietly():
        if out is not None:
            _save(out, config, first, last)
            return
        from ocsf_lake.pages import server

        server.serve(config, port, first, last, terminal.say)
        raise typer.Exit(terminal.INTERRUPTED)  # nothing else ends it


def _save(out: Path, config: Settings, first: date | None, last: date | None) -> None:
    from ocsf_lake.pages import facts as lake_facts
    from ocsf_lake.pages import page, todo

    facts = lake_facts.gather(config, datetime.now(UTC), first, last)
    size = None
    if str(out) == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(page.encoded(facts))
        sys.stdout.buffer.flush()
    else:
        size = page.write(facts, out)
    terminal.say(todo.verdict(todo.steps(facts)))
    if size is not None:
        terminal.say(f"{out}: {terminal.size(size)}, {facts.days[0]} to {facts.days[-1]}")
