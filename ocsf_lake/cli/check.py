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
    typer.Argument(metavar="[SOURCE]...", help="Sources, or Python files with one. Default: all with samples."),
]


def check(
    names: NamesArgument = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", metavar="DIR", help="Folder with the samples, for one source.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Check again whenever a file changes, until ^C.")] = False,
    update_golden: Annotated[
        bool, typer.Option("--update-golden", help="Write what the samples map to now; review the diff.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check sources: the names in their mappers, and what their samples map to.

    Each sample is mapped in every OCSF version and validated; nothing may be lost, and events are compared with the
    golden beside the sample. All problems are reported at once, each with its line in the mapper.
    """
    settings()  # they may name a folder of sources
    while True:
        reports = [_checked(name, samples, update_golden) for name in _source_names(names)]
        if as_json:
            output.print_json([_plain(report) for report in reports])
        else:
            for report in reports:
                sys.stdout.write("".join(f"{terminal.escaped(line)}\n" for line in lines(report)))
        if not watch:
            raise typer.Exit(int(any(report.problems for report in reports)))
        _wait(reports)


def _source_names(names: list[str] | None) -> list[str]:
    from ocsf_mappers import registry
    from ocsf_mappers.testing import samples_of

    if not names:
        return [name for name in registry.names() if samples_of(name) is not None]
    return [registry.use_file(Path(name)) if name.endswith(".py") else name for name in names]


def _checked(name: str, samples: Path | None, update_golden: bool) -> Report:
    from ocsf_mappers.testing import check as checked

    return checked(name, samples, update_golden=update_golden)


def _plain(report: Report) -> dict[str, object]:
    document = asdict(replace(report, counts=Counter(), quarantined=Counter(), coverage=None))
    document["counts"], document["quarantined"] = dict(report.counts), dict(report.quarantined)
    if (coverage := report.coverage) is not None:
        document["coverage"] = {
            "members": dict(coverage.members),
            "unmapped": dict(coverage.unmapped),
            "dropped": coverage.dropped,
            "required": coverage.required,
            "recommended": coverage.recommended,
        }
    document["file"] = None if report.file is None else str(report.file)
    document["cases"] = [case.path.name for case in report.cases]
    return document


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
    if (coverage := report.coverage) is not None:
        yield f"  {len(coverage.mapped)} of {terminal.plural(len(coverage.members), 'member')} mapped"
        if coverage.unmapped:
            most = sorted(coverage.unmapped.items(), key=lambda item: (-item[1], item[0]))[:NAMED]
            examples = [f"{path} ({number} of {coverage.members[path]})" for path, number in most]
            yield f"    unmapped (records): {_enumerated(examples, len(coverage.unmapped))}"
        if coverage.dropped:
            yield f"    dropped: {_enumerated(sorted(coverage.dropped)[:NAMED], len(coverage.dropped))}"
        for caption, missing in coverage.required.items():
            yield f"  {caption}: required but not mapped: {', '.join(missing)}"
        for caption, missing in coverage.recommended.items():
            yield f"  {caption}: recommended but not mapped: {_enumerated(missing[:NAMED], len(missing))}"
    if report.problems:
        yield f"  {terminal.plural(len(report.problems), 'problem')}:"
        yield from (f"    {_short_names(problem, report.file)}" for problem in report.problems)
    else:
        yield "  no problems"


def _enumerated(names: list[str], number: int) -> str:
    rest = f" and {number - len(names)} more" if number > len(names) else ""
    return ", ".join(names) + rest


def _short(path: Path) -> str:
    """A path from the working folder, where it lies below it."""
    folder = Path.cwd()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _short_names(problem: str, file: Path | None) -> str:
    return problem if file is None else problem.replace(str(file), _short(file))


def _wait(reports: list[Report]) -> None:
    """Returns when a file of the sources, or one of their samples, is another than it was."""
    from ocsf_mappers import registry

    before = _stamps(reports)
    terminal.say("waiting for changes; ^C stops")
    # an editor that saves may take a file away for a moment
    while _stamps(reports) == before or any(report.file and not report.file.exists() for report in reports):
        time.sleep(WATCH_SECONDS)
    registry.forget()


def _stamps(reports: list[Report]) -> dict[Path, int]:
    folders = {report.file.parent for report in reports if report.file} | {
        case.path.parent for report in reports for case in report.cases
    }
    stamps = {}
    for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()):
        try:
            stamps[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return stamps
