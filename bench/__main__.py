"""Command line of the benchmark: makes the logs, runs every way in a process of its own, prints a table."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import ours, rivals
from bench.generate import Parameters, Source, generate
from bench.measure import Cost, NotWrittenError, Result, RunError, measure, table

FLOOR = "floor"


@dataclass(frozen=True)
class Way:
    """One way to turn a source's files into Parquet."""

    source: str
    name: str
    call: Callable[..., int]
    more: tuple[object, ...] = ()
    share: int = 1  # run on one file in this many, for ways too slow to wait for


WAYS = (
    Way("cloudtrail", FLOOR, rivals.floor_cloudtrail),
    Way("cloudtrail", "duckdb", rivals.duckdb_cloudtrail),
    Way("cloudtrail", "duckdb-read_json", rivals.duckdb_read_json_cloudtrail, share=10),
    Way("cloudtrail", "polars", rivals.polars_cloudtrail),
    Way("cloudtrail", "ours", ours.ingest_cloudtrail, (False,)),
    Way("cloudtrail", "ours-validated", ours.ingest_cloudtrail, (True,)),
    Way("vpc_flow", FLOOR, rivals.floor_vpc_flow),
    Way("vpc_flow", "duckdb", rivals.duckdb_vpc_flow),
    Way("vpc_flow", "polars", rivals.polars_vpc_flow),
    Way("vpc_flow", "ours", ours.ingest_vpc_flow, (False,)),
    Way("vpc_flow", "ours-validated", ours.ingest_vpc_flow, (True,)),
)


def run(way: Way, source: Source, out: Path, *, cpus: int, repeat: int) -> Result:
    """The cheapest of `repeat` runs; the output of the last run stays."""
    files = source.files[:: way.share]
    best: Cost | None = None
    for _ in range(repeat):
        shutil.rmtree(out, ignore_errors=True)
        try:
            cost = measure(way.call, files, out, *way.more, cpus=cpus)
        except NotWrittenError:
            return Result(way.source, way.name, note="not written yet")
        except RunError as error:
            return Result(way.source, way.name, note=f"failed: {error}")
        if best is None or cost.cpu_seconds < best.cpu_seconds:
            best = cost
    assert best is not None
    notes = [f"measured on {len(files)} of {len(source.files)} files"] if len(files) < len(source.files) else []
    if best.rows_out != best.records:
        notes.append(f"{best.records:,} records but {best.rows_out:,} Parquet rows")
    if len(files) == len(source.files) and best.records != source.records:
        notes.append(f"{source.records:,} records were given")
    return Result(way.source, way.name, best, "; ".join(notes))


def _parser() -> argparse.ArgumentParser:
    names = list(dict.fromkeys([w.source for w in WAYS] + [w.name for w in WAYS]))
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="example: python -m bench --only cloudtrail --only vpc_flow:duckdb --keep bench-data --markdown",
    )
    parser.add_argument("--cloudtrail-records", type=int, default=Parameters.cloudtrail_records, metavar="N")
    parser.add_argument("--vpc-lines", type=int, default=Parameters.vpc_lines, metavar="N")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help=f"a source, a way, or source:way; repeatable ({', '.join(names)})",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and output here, and use the logs again")
    parser.add_argument(
        "--cpus", type=int, default=1, metavar="N", help="processors for each run, 0 for all (default 1)"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run each way N times, show the cheapest")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="results as JSON")
    shape.add_argument("--markdown", action="store_true", help="results as a Markdown table")
    return parser


def _chosen(parser: argparse.ArgumentParser, only: Sequence[str] | None) -> list[Way]:
    if not only:
        return list(WAYS)
    chosen = [w for w in WAYS if {w.source, w.name, f"{w.source}:{w.name}"} & set(only)]
    known = {name for w in WAYS for name in (w.source, w.name, f"{w.source}:{w.name}")}
    if unknown := sorted(set(only) - known):
        parser.error(f"--only {unknown[0]}: no such source or way")
    return chosen


def _as_json(result: Result) -> dict[str, Any]:
    rate = {"records_per_cpu_second": result.cost.records_per_cpu_second} if result.cost else {}
    return {**asdict(result), **rate}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when a way failed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.repeat < 1 or min(options.cpus, options.cloudtrail_records, options.vpc_lines) < 0:
        parser.error("numbers must not be negative, and --repeat at least 1")
    ways = _chosen(parser, options.only)
    with tempfile.TemporaryDirectory(prefix="ocsf-lake-bench-") as scratch:
        folder: Path = options.keep or Path(scratch)
        data = generate(folder / "logs", Parameters(options.cloudtrail_records, options.vpc_lines))
        print(f"cloudtrail: {data.cloudtrail.describe('record')}", file=sys.stderr)
        print(f"vpc_flow: {data.vpc_flow.describe('line')}", file=sys.stderr)
        results = []
        for way in ways:
            source = data.cloudtrail if way.source == "cloudtrail" else data.vpc_flow
            if not source.records:
                continue
            print(f"running {way.source}:{way.name}", file=sys.stderr)
            out = folder / "out" / way.source / way.name
            results.append(run(way, source, out, cpus=options.cpus, repeat=options.repeat))
    if options.json:
        facts = {
            name: {**asdict(s), "files": len(s.files)}
            for name, s in (("cloudtrail", data.cloudtrail), ("vpc_flow", data.vpc_flow))
        }
        print(json.dumps({"data": facts, "cpus": options.cpus, "results": [_as_json(r) for r in results]}, indent=1))
    else:
        print(table(results, FLOOR, markdown=options.markdown))
    return int(any(r.note.startswith("failed") for r in results))


if __name__ == "__main__":
    sys.exit(main())
