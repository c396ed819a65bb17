"""Large files: every way to turn a source's files into Parquet, on one processor; also with ten times the input."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import ours, rivals, rivals_json_lines
from bench.generate import UNITS, Data, Source
from bench.measure import Cost, NotWrittenError, Result, RunError, measure

FLOOR, OURS, UNCHECKED, PURE = "floor", "ocsf-lake", "ocsf-lake, validation off", "ocsf-lake, reader in Python"
SOURCES = {
    "cloudtrail": "aws_cloudtrail", "vpc_flow": "aws_vpc_flow", "route53": "aws_route53_resolver",
    "guardduty": "aws_guardduty",
}  # fmt: skip
"""Each source here, and as `ocsf-lake ingest` names it."""
CORE_BATCH_BYTES = 4 << 20
"""Batches for the measurement of several workers: as small as this, there are enough of them to share."""


@dataclass(frozen=True)
class Way:
    """One way to turn a source's files into Parquet."""

    source: str
    name: str
    call: Callable[..., int]
    more: tuple[object, ...] = ()
    share: int = 1  # run on one file in this many, for ways too slow to wait for


def _ours(source: str) -> tuple[Way, ...]:
    name = SOURCES[source]
    return (
        Way(source, OURS, ours.ingest, (name,)),
        Way(source, UNCHECKED, ours.ingest, (name, False)),
        *([] if source == "vpc_flow" else [Way(source, PURE, ours.ingest, (name, True, 1, None, True))]),
    )


WAYS = (
    Way("cloudtrail", FLOOR, rivals.floor_cloudtrail),
    *_ours("cloudtrail"),
    Way("cloudtrail", "duckdb", rivals.duckdb_cloudtrail),
    Way("cloudtrail", "duckdb-read_json", rivals.duckdb_read_json_cloudtrail, share=10),
    Way("cloudtrail", "polars", rivals.polars_cloudtrail),
    Way("vpc_flow", FLOOR, rivals.floor_vpc_flow),
    *_ours("vpc_flow"),
    Way("vpc_flow", "duckdb", rivals.duckdb_vpc_flow),
    Way("vpc_flow", "polars", rivals.polars_vpc_flow),
    Way("route53", FLOOR, rivals_json_lines.floor_route53),
    *_ours("route53"),
    Way("route53", "duckdb", rivals_json_lines.duckdb_route53),
    Way("guardduty", FLOOR, rivals_json_lines.floor_guardduty),
    *_ours("guardduty"),
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


def run_all(ways: list[Way], data: Data, folder: Path, *, cpus: int, repeat: int) -> list[dict[str, Any]]:
    """Runs the ways whose source has records, one after the other."""
    rows = []
    for way in ways:
        if data[way.source].records:
            print(f"running {way.source}:{way.name}", file=sys.stderr)
            result = asdict(run(way, data[way.source], folder, cpus=cpus, repeat=repeat))
            rows.append({**result, "lake": _lake(folder) if way.name == OURS else None})
            shutil.rmtree(folder, ignore_errors=True)
    return rows


def _lake(folder: Path) -> dict[str, int]:
    """What a lake consists of: its files are named after their batches."""
    files = [file for file in folder.rglob("*.parquet") if "region=" in str(file)]
    return {
        "files": len(files), "batches": len({file.name.partition("-")[0] for file in files}),
        "bytes": sum(file.stat().st_size for file in files),
    }  # fmt: skip


def cores(data: Data, folder: Path, *, repeat: int) -> list[dict[str, Any]]:
    """Our engine with one worker on one processor, and with two on two; the quickest run by the clock counts."""
    rows = []
    for source in UNITS:
        for workers in (1, 2):
            if not data[source].records or source == "guardduty":  # too few findings for several batches
                continue
            print(f"running {source} with {workers} workers", file=sys.stderr)
            costs = []
            for _ in range(repeat):
                shutil.rmtree(folder, ignore_errors=True)
                more = (SOURCES[source], True, workers, CORE_BATCH_BYTES)
                costs.append(measure(ours.ingest, data[source].files, folder, *more, cpus=workers))
            best = min(costs, key=lambda cost: cost.wall_seconds)
            rows.append({"source": source, "workers": workers, "cpus": workers, "cost": asdict(best)})
            shutil.rmtree(folder, ignore_errors=True)
    return rows


def described(data: Data) -> dict[str, Any]:
    """What the logs are, for the results."""
    return {
        name: {
            "files": len(source.files), "records": source.records, "raw_bytes": source.raw_bytes,
            "gzip_bytes": source.gzip_bytes,
        }
        for name, source in data.items()
    }  # fmt: skip
