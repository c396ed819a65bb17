"""Results as Markdown: docs/benchmarks.md shows them, and so does the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.facts import QUIET
from bench.generate import UNITS
from bench.stages import REST, STAGES
from bench.ways import FLOOR, OURS, PURE, UNCHECKED

TITLES = {"cloudtrail": "CloudTrail", "vpc_flow": "VPC Flow", "route53": "Route 53 Resolver", "guardduty": "GuardDuty"}
CAPTIONS = {
    FLOOR: "floor: gunzip, parse, write, no mapping", OURS: "ocsf-lake",
    PURE: "ocsf-lake, JSON read in Python", UNCHECKED: "ocsf-lake, validation off (for measuring only)",
    "duckdb": "by hand: DuckDB SQL, about 25 fields",
    "duckdb-read_json": "by hand: DuckDB SQL with read_json, about 25 fields",
    "polars": "by hand: polars, about 25 fields",
}  # fmt: skip


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table, aligned for readers of the text; the first columns are words, the others numbers."""
    widths = [max(len(row[n]) for row in (headings, *rows)) for n in range(len(headings))]
    rules = ["-" * max(3, width) if n < left else "-" * max(2, width - 1) + ":" for n, width in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(headings), line(rules), *(line(row) for row in rows)])


def machine(results: dict[str, Any]) -> str:
    """What was measured on, with what, when."""
    host = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in host["libraries"].items())
    measured = results["measured"].items()
    commands = dict.fromkeys(of["command"] for _, of in measured)
    rows = [[part, of["at"], of["commit"], f"{of['load']:.2f}"] for part, of in measured]
    busy = [part for part, of in measured if of["load"] >= QUIET]
    beside = (
        f"Other programs ran beside while these were measured: {', '.join(busy)}. Their times are too long, by the "
        "clock more than in CPU seconds."
    )
    return "\n".join([
        *(f"- `{command}`" for command in commands),
        f"- {host['cpu']}, {host['cpus']} processors, {host['memory_bytes'] / 2**30:.0f} GiB of memory, "
        f"{host['system']}, Python {host['python']}",
        f"- {versions}; JSON reader: {host['reader']}", "",
        table(["part", "begun", "commit", "load average before all"], rows, left=3),
        *(["", beside] if busy else []),
    ])  # fmt: skip


def ways(results: dict[str, Any]) -> str:
    """Large files, source by source."""
    parts = []
    for source, title in TITLES.items():
        rows = [row for row in results["ways"] if row["source"] == source]
        if not rows:
            continue
        logs = results["logs"][source]
        floor = next((row["cost"] for row in rows if row["way"] == FLOOR), None)
        parts += [
            f"### {title}", "",
            f"{logs['records']:,} in {logs['files']} files, {logs['raw_bytes'] / logs['records']:,.0f} bytes each, "
            f"{logs['gzip_bytes'] / 1e6:,.1f} MB gzipped.", "",
            table(
                ["way", f"{plural(source)} a CPU second", "of the floor", "CPU s", "wall s", "MB out", "out / in",
                 "peak MB"],
                [_way(row, floor) for row in rows],
            ), *_notes(rows), "",
        ]  # fmt: skip
    return "\n".join(parts).rstrip()


def plural(source: str) -> str:
    """What records of a source are called."""
    unit = UNITS[source]
    return f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"


def _way(row: dict[str, Any], floor: dict[str, Any] | None) -> list[str]:
    cost = row["cost"]
    if cost is None:
        return [CAPTIONS[row["way"]], *["-"] * 7]
    rate = cost["records"] / cost["cpu_seconds"]
    of = f"{rate / (floor['records'] / floor['cpu_seconds']):.2f}" if floor else "-"
    return [
        CAPTIONS[row["way"]], f"{rate:,.0f}", of, f"{cost['cpu_seconds']:.1f}", f"{cost['wall_seconds']:.1f}",
        f"{cost['bytes_out'] / 1e6:.1f}", f"{cost['bytes_out'] / cost['bytes_in']:.2f}",
        f"{cost['peak_rss_bytes'] / 1e6:,.0f}",
    ]  # fmt: skip


def _notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    notes = [f"- {CAPTIONS[row['way']]}: {row['note']}" for row in rows if row["note"]]
    return ["", *notes] if notes else []


def times(results: dict[str, Any]) -> str:
    """Ten times the input beside the input itself."""
    rows = []
    for row in results["ten"]["ways"]:
        once = next(one for one in results["ways"] if (one["source"], one["way"]) == (row["source"], row["way"]))
        for label, cost in (("1", once["cost"]), (str(results["ten"]["times"]), row["cost"])):
            rows.append([
                TITLES[row["source"]], label, f"{cost['records']:,}", f"{cost['records'] / cost['cpu_seconds']:,.0f}",
                f"{cost['wall_seconds']:.1f}", f"{cost['peak_rss_bytes'] / 1e6:,.0f}",
            ])  # fmt: skip
    return table(["source", "times", "records", "records a CPU second", "wall s", "peak MB"], rows)


def small(part: dict[str, Any]) -> str:
    """Small objects, step by step."""
    objects, records = part["objects"], part["objects"] * part["records_each"]
    rows = []
    for row in part["rows"]:
        rate = f"{records / row['cpu_seconds']:,.0f}" if row["step"] == "ingest" else "-"
        rows.append([
            row["step"], {"local": "disk", "s3": "S3", "s3fs": "S3 through s3fs alone"}[row["way"]],
            f"{row['cpu_seconds'] / objects * 1e3:.2f}", rate, f"{row['wall_seconds']:.1f}",
            f"{row['peak'] / 1e6:,.0f}",
        ])  # fmt: skip
    size = part["gzip_bytes"] / objects / 1e3
    return "\n".join([
        f"{objects:,} objects of {part['records_each']} records, {size:.1f} kB each.", "",
        table(["step", "from", "CPU ms an object", "records a CPU second", "wall s", "peak MB"], rows, left=2),
    ])  # fmt: skip


def stages(results: dict[str, Any]) -> str:
    """Where the time goes: microseconds of CPU a record, and the share of all."""
    rows = []
    for name in (*STAGES, REST):
        cells = []
        for of in results["stages"]:
            seconds = of["seconds"].get(name, 0.0)
            cells.append(f"{seconds / of['records'] * 1e6:.2f} ({seconds / sum(of['seconds'].values()):.0%})")
        rows.append([name, *cells])
    every = [f"{sum(of['seconds'].values()) / of['records'] * 1e6:.2f}" for of in results["stages"]]
    return table(["stage", *(TITLES[of["source"]] for of in results["stages"])], [*rows, ["all", *every]])


def cores(results: dict[str, Any]) -> str:
    """One worker and two."""
    from bench.reckon import efficiency

    rows = []
    for row in results["cores"]:
        cost, two = row["cost"], row["workers"] == 2
        rows.append([
            TITLES[row["source"]], str(row["workers"]), str(row["cpus"]), f"{cost['wall_seconds']:.1f}",
            f"{cost['cpu_seconds']:.1f}", f"{cost['records'] / cost['wall_seconds']:,.0f}",
            f"{efficiency(results, row['source']):.0%}" if two else "", f"{cost['peak_rss_bytes'] / 1e6:,.0f}",
        ])  # fmt: skip
    headings = ["source", "workers", "processors", "wall s", "CPU s", "records a second", "efficiency", "peak MB"]
    return table(headings, rows)


def start(results: dict[str, Any]) -> str:
    """Start-up."""
    rows = [
        [row["command"], f"{row['wall_seconds']:.2f}", f"{row['cpu_seconds']:.2f}", f"{row['peak'] / 1e6:,.0f}"]
        for row in results["start"]
    ]
    return table(["command", "wall s", "CPU s", "peak MB"], rows)


def requests(results: dict[str, Any]) -> str:
    """Requests of S3."""
    kinds = sorted({kind for row in results["requests"] for kind in row["asked"]})
    rows = [
        [row["case"], f"{row['objects']:,}", str(row["batches"]), str(row["files"]),
         *(str(row["asked"].get(kind, 0)) for kind in kinds)]
        for row in results["requests"]
    ]  # fmt: skip
    return table(["ingest of", "objects", "batches", "files", *kinds], rows)


def ledger(results: dict[str, Any]) -> str:
    """The ledger."""
    rows = [
        [row["database"], f"{row['objects']:,}", f"{row['bytes'] / row['objects']:,.0f}",
         f"{row['bytes_of_files'] / row['files']:,.0f}", f"{row['bytes_of_batches'] / row['batches']:,.0f}",
         f"{row['planned']:,.0f}",
         f"{row['finished']:,.0f}"]
        for row in results["ledger"]
    ]  # fmt: skip
    headings = [
        "database", "objects", "bytes an object", "bytes a file", "bytes a batch", "planned a second",
        "finished a second",
    ]  # fmt: skip
    return table(headings, rows)


def summary(results: dict[str, Any]) -> str:
    """The README's short table: ways as rows, sources as columns."""
    costs = {(row["source"], row["way"]): row["cost"] for row in results["ways"]}
    used = [way for way in CAPTIONS if way != "duckdb-read_json" and any(way == name for _, name in costs)]

    def rate(source: str, way: str) -> str:
        cost = costs.get((source, way))
        return f"{cost['records'] / cost['cpu_seconds']:,.0f}" if cost else ""

    shown = [source for source in TITLES if (source, OURS) in costs]
    rows = [[CAPTIONS[way], *(rate(source, way) for source in shown)] for way in used]
    peaks = [f"{costs[source, OURS]['peak_rss_bytes'] / 1e6:,.0f}" for source in shown]
    rows.append(["peak memory of ocsf-lake, MB", *peaks])
    return table(["records a CPU second", *(TITLES[source] for source in shown)], rows)
