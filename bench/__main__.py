"""The benchmark: makes logs, runs every way in a process of its own, prints tables, and renews the documentation.

Parts: `ways` (large files of each source, on one processor), `stages` (where the time of our engine goes), `small`
(small objects, from disk and S3), `cores` (one worker and two), `start` (commands that do next to nothing), `requests`
(of S3, counted), `ledger` (bytes an object), and `ten` (ten times the input), which runs when it is named or with
--ten. What needs a RADOS gateway or PostgreSQL is left out where these are not installed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import facts, ledger_bytes, pages, s3_requests, small_objects, stages, startup, ways
from bench.generate import UNITS, Data, Parameters, generate

TEN, TEN_SOURCES = "ten", ("cloudtrail", "vpc_flow")
TIMES = 10


class Run:
    """One invocation: what was asked for, and the logs, made when a part needs them."""

    def __init__(self, options: argparse.Namespace, folder: Path, chosen: Sequence[ways.Way]) -> None:
        """Nothing is made yet."""
        self.options, self.folder, self.chosen = options, folder, chosen

    @cached_property
    def data(self) -> Data:
        """The logs."""
        given = self.options
        parameters = Parameters(given.cloudtrail_records, given.vpc_lines, given.route53_queries, given.findings)
        return self._made("logs", parameters)

    def _made(self, name: str, parameters: Parameters) -> Data:
        data = generate(self.folder / name, parameters)
        for source, logs in data.items():
            print(f"{source}: {logs.describe(UNITS[source])}", file=sys.stderr)
        return data

    def ways(self) -> list[dict[str, Any]]:
        """Large files."""
        return ways.run_all(
            list(self.chosen), self.data, self.folder / "out", cpus=self.options.cpus, repeat=self.options.repeat
        )

    def stages(self) -> list[dict[str, Any]]:
        """Where the time of our engine goes."""
        return stages.run(self.data, self.folder / "out")

    def small(self) -> dict[str, Any]:
        """Small objects."""
        return small_objects.run(self.options.objects, self.options.records, self.options.repeat)

    def cores(self) -> list[dict[str, Any]]:
        """One worker and two."""
        return ways.cores(self.data, self.folder / "out", repeat=self.options.repeat)

    def start(self) -> list[dict[str, Any]]:
        """Start-up; short, so it is repeated more often."""
        return startup.run(self.options.repeat * 3)

    def requests(self) -> list[dict[str, Any]]:
        """Requests of S3; the same each time."""
        return s3_requests.run(self.options.records)

    def ledger(self) -> list[dict[str, Any]]:
        """Bytes and speed of the ledger."""
        return ledger_bytes.run(self.options.ledger_objects)

    def ten(self) -> dict[str, Any]:
        """Ten times the input, once, for our engine and the two sources of which there is most."""
        given = self.options
        data = self._made("logs10", Parameters(TIMES * given.cloudtrail_records, TIMES * given.vpc_lines, 0, 0))
        chosen = [way for way in ways.WAYS if way.name == ways.OURS and way.source in TEN_SOURCES]
        return {"times": TIMES, "ways": ways.run_all(chosen, data, self.folder / "out", cpus=given.cpus, repeat=1)}


PARTS: dict[str, Callable[[Run], Any]] = {name: getattr(Run, name) for name in (*pages.PARTS, TEN)}


def _parser() -> argparse.ArgumentParser:
    names = [*PARTS, *dict.fromkeys([way.source for way in ways.WAYS] + [way.name for way in ways.WAYS])]
    defaults = Parameters()
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench --only start --only vpc_flow:duckdb --keep bench-data",
    )  # fmt: skip
    for option, default, what in (
        ("--cloudtrail-records", defaults.cloudtrail_records, "records of CloudTrail"),
        ("--vpc-lines", defaults.vpc_lines, "flow lines"),
        ("--route53-queries", defaults.route53_queries, "queries"),
        ("--findings", defaults.guardduty_findings, "findings of GuardDuty"),
        ("--objects", 2_000, "small objects"), ("--records", 40, "records of a small object"),
        ("--ledger-objects", 20_000, "objects of the ledger"),
        ("--cpus", 1, "processors for each run of `ways`, 0 for all"),
        ("--repeat", 1, "run each thing N times, show the cheapest"),
    ):  # fmt: skip
        parser.add_argument(option, type=int, default=default, metavar="N", help=f"{what} (default {default:,})")
    parser.add_argument(
        "--only", action="append", metavar="NAME",
        help=f"a part, a source, a way, or source:way; repeatable ({', '.join(names)})",
    )  # fmt: skip
    parser.add_argument("--ten", action="store_true", help="also ten times the input")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs here, and use them again; results too")
    parser.add_argument("--results", type=Path, metavar="FILE", help="take what is not measured from this JSON")
    parser.add_argument("--no-run", action="store_true", help="measure nothing: show what --results has")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="write results, chart and pages in this folder")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser


def _chosen(parser: argparse.ArgumentParser, only: Sequence[str]) -> tuple[list[str], list[ways.Way]]:
    """The parts and the ways that are asked for."""
    if not only:
        return list(pages.PARTS), list(ways.WAYS)
    names = {name for way in ways.WAYS for name in (way.source, way.name, f"{way.source}:{way.name}")}
    if unknown := sorted(set(only) - names - set(PARTS)):
        parser.error(f"--only {unknown[0]}: no such part, source or way")
    chosen = [way for way in ways.WAYS if {way.source, way.name, f"{way.source}:{way.name}"} & set(only)]
    parts = [part for part in PARTS if part in only or (part == "ways" and chosen)]
    return parts, chosen or list(ways.WAYS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when a way failed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    numbers = ("cpus", "cloudtrail_records", "vpc_lines", "route53_queries", "findings")
    if min(options.repeat, options.objects, options.records, options.ledger_objects) < 1:
        parser.error("--repeat, --objects, --records and --ledger-objects must be at least 1")
    if min(getattr(options, name) for name in numbers) < 0:
        parser.error("numbers must not be negative")
    parts, chosen = _chosen(parser, options.only or [])
    parts = [] if options.no_run else parts + [TEN] * (options.ten and TEN not in parts)
    results: dict[str, Any] = json.loads(options.results.read_text()) if options.results else {"measured": {}}
    here, load = facts.machine(), facts.load()
    if parts and results.setdefault("machine", here) != here:
        parser.error(f"{options.results} was measured on another machine or with other versions")
    with tempfile.TemporaryDirectory(prefix="ocsf-lake-bench-") as scratch:
        run = Run(options, options.keep or Path(scratch), chosen)
        words = shlex.join(sys.argv[1:] if arguments is None else arguments)
        for part in parts:
            moment = {**facts.moment(), "load": load, "command": f"python -m bench {words}".strip()}
            if figures := PARTS[part](run):
                results[part] = figures
                results["measured"][part] = moment
            if part == "ways":
                results["logs"] = ways.described(run.data)
            if options.keep:  # what comes later may fail, and this took minutes
                (options.keep / pages.RESULTS).write_text(json.dumps(results, indent=1))
    if options.write:
        missing = [part for part in pages.PARTS if part not in results]
        if missing:
            parser.error(f"the pages need all parts; not measured and not in --results: {', '.join(missing)}")
        for path, text in list(pages.render(options.write, results)):
            path.write_text(text, encoding="utf-8")
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        print("\n\n".join(pages.BLOCKS[part](results) for part in PARTS if part in results))
    return int(any(row["note"].startswith("failed") for row in results.get("ways", ())))


if __name__ == "__main__":
    sys.exit(main())
