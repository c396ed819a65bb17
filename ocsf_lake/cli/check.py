"""`ocsf-lake check`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocsf_mappers.testing import Report

EXAMPLE = "ocsf-lake check aws_vpc_flow"

WATCH_SECONDS = 0.5
NAMED = 12
"""Of unmapped members, and of attributes that OCSF recommends, so many are named."""

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SOURCE]...", help="Sources, or Python files with one; all that have samples without any."),
]


def check(
    names: NamesArgument = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", metavar="DIR", help="Folder of the samples, of one source.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Check again whenever a file changes, until ^C.")] = False,
    update_golden: Annotated[
        bool, typer.Option("--update-golden", help="Write what samples map to now; the review is the difference.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check sources: what their mappers name, and what their samples become.

    Each sample is mapped in every OCSF version and validated; nothing may be lost, and events are held against the
    golden beside the sample. All that is wrong is told at once, with the line of the mapper that it is about.
    """
    settings()  # they may name a folder of sources
    while True:
        found = [_checked(name, samples, update_golden) for name in _wanted(names)]
        if as_json:
            output.print_json([_plain(report) for report in found])
        else:
            for report in found:
                sys.stdout.write("".join(f"{terminal.escaped(line)}\n" for line in lines(report)))
        if not watch:
            raise typer.Exit(int(any(report.problems for report in found)))
        _wait(found)


def _wanted(names: list[str] | None) -> list[str]:
    from ocsf_mappers import registry
    from ocsf_mappers.testing import samples_of

    if not names:
        return [name for name in registry.names() if samples_of(name) is not None]
    return [registry.use_file(Path(name)) if name.endswith(".py") else name for name in names]


def _checked(name: str, samples: Path | None, update_golden: bool) -> Report:
    from ocsf_mappers.testing import check as checked

    return checked(name, samples, update_golden=update_golden)


def _plain(report: Report) -> dict[str, object]:
    found = asdict(replace(report, counts=Counter(), quarantined=Counter(), coverage=None))
    found["counts"], found["quarantined"] = dict(report.counts), dict(report.quarantined)
    if (seen := report.coverage) is not None:
        found["coverage"] = {
            "members": dict(seen.members),
            "unmapped": dict(seen.unmapped),
            "dropped": seen.dropped,
            "required": seen.required,
            "recommended": seen.recommended,
        }
    found["file"] = None if report.file is None else str(report.file)
    found["cases"] = [case.path.name for case in report.cases]
    return found


def lines(report: Report) -> Iterator[str]:
    """A report for people."""
    place = "" if report.file is None else f"  {_short(report.file)}"
    yield f"{report.source}{place}"
    counts = report.counts
    if counts:
        yield (
            f"  {terminal.plural(counts['read'], 'record')} of {terminal.plural(len(report.cases), 'sample')}:"
            f" {terminal.plural(counts['events'], 'event')}, {counts['quarantined']:,} in quarantine,"
            f" {counts['dropped']:,} dropped; OCSF {', '.join(report.versions)}"
        )
    yield from (f"    in quarantine: {reason} ({number})" for reason, number in report.quarantined.most_common(NAMED))
    if (found := report.coverage) is not None:
        yield f"  {len(found.mapped)} of {terminal.plural(len(found.members), 'member')} mapped"
        if found.unmapped:
            most = sorted(found.unmapped.items(), key=lambda item: (-item[1], item[0]))[:NAMED]
            shown = [f"{path} ({number} of {found.members[path]})" for path, number in most]
            yield f"    unmapped, in so many records: {_named(shown, len(found.unmapped))}"
        if found.dropped:
            yield f"    dropped: {_named(sorted(found.dropped)[:NAMED], len(found.dropped))}"
        for caption, missing in found.required.items():
            yield f"  {caption}: required and without a row: {', '.join(missing)}"
        for caption, missing in found.recommended.items():
            yield f"  {caption}: recommended and without a row: {_named(missing[:NAMED], len(missing))}"
    if report.problems:
        yield f"  {terminal.plural(len(report.problems), 'problem')}:"
        yield from (f"    {_short_names(problem, report.file)}" for problem in report.problems)
    else:
        yield "  no problems"


def _named(shown: list[str], number: int) -> str:
    more = f" and {number - len(shown)} more" if number > len(shown) else ""
    return ", ".join(shown) + more


def _short(path: Path) -> str:
    """A path from the working folder, where it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _short_names(problem: str, file: Path | None) -> str:
    return problem if file is None else problem.replace(str(file), _short(file))


def _wait(found: list[Report]) -> None:
    """Returns when a file of the sources, or one of their samples, is another than it was."""
    from ocsf_mappers import registry

    before = _stamps(found)
    terminal.say("waiting for a change; ^C ends")
    while _stamps(found) == before:
        time.sleep(WATCH_SECONDS)
    registry.forget()


def _stamps(found: list[Report]) -> dict[Path, int]:
    folders = {report.file.parent for report in found if report.file} | {
        case.path.parent for report in found for case in report.cases
    }
    stamps = {}
    for path in (path for folder in folders for path in folder.iterdir() if path.is_file()):
        try:
            stamps[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return stamps
