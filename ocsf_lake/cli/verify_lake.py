"""`ocsf-lake verify lake`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import settings_of_lake

if TYPE_CHECKING:
    from ocsf_lake.upkeep.verify import Asked, Summary
    from ocsf_lake.upkeep.verify_records import Fault

HEAD_DIGITS = 64


def verify_lake(
    lake: str | None, first: date | None, last: date | None, keys: list[Path], head: str | None, adopt: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Holds a lake against its chain; exit 1 if there is a fault."""
    from ocsf_lake.upkeep import verify
    from ocsf_mappers.errors import ConfigError, RetriableError

    if head is not None and (len(head) != HEAD_DIGITS or set(head.lower()) - set("0123456789abcdef")):
        raise ConfigError("--head is the SHA-256 of a record in hex, 64 digits, as `verify lake` prints it")
    if first and last and first > last:
        raise ConfigError("--from is after --to")
    used = settings_of_lake(lake)
    if adopt:
        files = verify.adopt(used)
        terminal.say(f"{terminal.plural(files, 'file')} without a record listed in the chain")
    asked = verify.Asked(first, last, tuple(keys), head.lower() if head else None)
    summary = verify.Summary()
    try:
        for fault in verify.verify(used, asked, summary):
            if as_json:
                _print({"type": "fault", **asdict(fault)})
            else:
                sys.stdout.write(f"{terminal.escaped(_line(fault))}\n")
    except RetriableError as error:
        terminal.say(f"error: {error}", "not everything was checked; run the same command again, it starts over")
        raise typer.Exit(1) from error
    if as_json:
        _print({"type": "summary", **asdict(summary)})
    _tell(summary, asked)
    raise typer.Exit(int(bool(summary.faults)))


def _print(item: dict[str, object]) -> None:
    output.print_json_lines([json.dumps(item).encode()])


def _line(fault: Fault) -> str:
    return f"{fault.at or '-'}  {fault.what}: {fault.object}: {fault.reason}"


def _tell(summary: Summary, asked: Asked) -> None:
    if summary.ledger != "compared":
        terminal.say(
            f"the ledger was not compared: {terminal.escaped(summary.ledger)}. Records cut off at the end of the chain"
            " are not noticed then, unless --head names a later one"
        )
    if summary.waiting:
        terminal.say(f"{terminal.plural(summary.waiting, 'record')} in the ledger only, until the next write")
    if summary.unfinished:
        terminal.say(f"{terminal.plural(summary.unfinished, 'file')} of work that is running, or died")
    if summary.older:
        terminal.say(
            f"{terminal.plural(summary.older, 'file')} older than the chain, in none of its records; --adopt lists them"
        )
    signed = f", {summary.signed:,} signed" if asked.public_keys else ""
    terminal.say(
        f"{terminal.plural(summary.records, 'record')}{signed}, {terminal.plural(summary.live, 'file')} in the lake,"
        f" {summary.files:,} hashed ({terminal.size(summary.bytes)}), {summary.retired:,} merged ones left;"
        f" {terminal.plural(summary.faults, 'fault')}"
    )
    if summary.head:
        terminal.say(f"head: record {summary.number} of {summary.last}, {summary.head}")
