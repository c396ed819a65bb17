"""`ocsf-lake diff`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import SourceArgument, settings, source

if TYPE_CHECKING:
    from ocsf_lake.differences import Change, Difference
    from ocsf_mappers import Engine, Mapper

EXAMPLE = "ocsf-lake diff aws_vpc_flow --against 1.8.0 --on sample_logs/aws_vpc_flow"

FORMATS = ("table", "json", "sarif")
SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
SHOWN = 40


def diff(
    source_name: SourceArgument,
    against: Annotated[
        str, typer.Option("--against", metavar="VERSION", help="An OCSF version, or a file with the old mapper.")
    ],
    on: Annotated[list[str], typer.Option("--on", metavar="URI", help="Raw logs: folders, globs, files; repeatable.")],
    objects: Annotated[
        int | None, typer.Option("--objects", metavar="N", min=1, help="Compare at most this many objects.")
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="table, json or sarif.")] = "table",
) -> None:
    """Map the same records with two versions of a mapper or of OCSF, and show the differences.

    Column by column, with examples: records that gained a value, lost one, or have a different one. Nothing is written;
    exit 1 if something differs. `--format sarif` is for code review: each differing column is a result at its row of
    the mapper.
    """
    from ocsf_lake import differences
    from ocsf_lake.inputs import fields
    from ocsf_mappers.errors import ConfigError

    if form not in FORMATS:
        raise ConfigError(f"--format {form}: one of {', '.join(FORMATS)}")
    config = settings()
    mapper = fields.configured(source(source_name), config)
    before, after = _engines(mapper, against, config.ocsf_version)
    result = differences.compare(before, after, on, config, objects)
    if form == "json":
        output.print_json(asdict(result))
    elif form == "sarif":
        output.print_json(_sarif(mapper, result))
    else:
        _show(result)
    for uri, reason in list(result.unread.items())[:SHOWN]:
        terminal.say(f"{uri}: not compared: {reason}")
    terminal.say(
        f"{terminal.plural(result.records, 'record')} of {terminal.plural(result.objects, 'object')} mapped twice:"
        f" {terminal.plural(len(result.changes), 'column')} differ"
    )
    raise typer.Exit(int(bool(result.changes)))


def _engines(mapper: Mapper, against: str, version: str) -> tuple[Engine, Engine]:
    """The engine as it was, and as it is."""
    from ocsf_mappers import Engine, registry
    from ocsf_mappers.errors import ConfigError, nearest
    from ocsf_mappers.ocsf import shipped

    after = Engine(mapper, version)
    if against.endswith(".py"):
        return Engine(registry.from_file(Path(against)).mapper, version), after
    if not re.fullmatch(r"\d+\.\d+\.\d+", against) or against not in shipped.versions():
        versions = ", ".join(shipped.versions())
        raise ConfigError(
            f"--against {against}: an OCSF version ({versions}) or a Python file{nearest(against, shipped.versions())}"
        )
    return Engine(mapper, against), after


# -- what differs, for people -----------------------------------------------------------------------------------------
def _show(result: Difference) -> None:
    if result.changes:
        rows = [[item.path, item.added, item.removed, item.changed, _example(item)] for item in _sorted(result)]
        output.print_table(["column", "added", "removed", "changed", "for example"], rows)


def _sorted(result: Difference) -> list[Change]:
    return sorted(result.changes.values(), key=lambda change: -(change.added + change.removed + change.changed))


def _example(change: Change) -> str:
    return "; ".join(
        f"{'nothing' if item.before is None else item.before} -> {'nothing' if item.after is None else item.after}"
        for item in change.examples[:1]
    )


# -- and for code review ----------------------------------------------------------------------------------------------
def _sarif(mapper: Mapper, result: Difference) -> dict[str, Any]:
    """The changes as SARIF 2.1.0, https://docs.oasis-open.org/sarif/sarif/v2.1.0/."""
    from importlib.metadata import version

    return {
        "$schema": SARIF,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "ocsf-lake diff", "version": version("ocsf-lake")}},
                "results": list(_results(mapper, result)),
            }
        ],
    }


def _results(mapper: Mapper, result: Difference) -> Iterator[dict[str, Any]]:
    from ocsf_mappers import registry
    from ocsf_mappers.testing import line_of

    file = registry.file_of(mapper.name)
    for change in _sorted(result):
        counts = f"{change.added} added, {change.removed} removed, {change.changed} changed"
        examples = [
            f"record {item.record} of {item.object}: {item.before!r} -> {item.after!r}" for item in change.examples
        ]
        entry: dict[str, Any] = {
            "ruleId": change.path,
            "level": "warning" if change.removed or change.path == "quarantine" else "note",
            "message": {"text": f"{change.path}: {counts}. " + "; ".join(examples)},
        }
        if file is not None:
            relative = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
            place: dict[str, Any] = {"artifactLocation": {"uri": relative.as_posix()}}
            if line := line_of(file, change.path):
                place["region"] = {"startLine": line}
            entry["locations"] = [{"physicalLocation": place}]
        yield entry
