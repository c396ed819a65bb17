"""Runs one call in a process of its own, says what it cost, and prints costs as a table."""

from __future__ import annotations

import os
import resource
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What one run took and gave. `cpu_seconds` counts user and system time of all threads and child processes."""

    records: int
    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    bytes_in: int
    bytes_out: int
    files_out: int
    rows_out: int

    @property
    def records_per_cpu_second(self) -> float:
        """The figure that other load on the machine disturbs least."""
        return self.records / self.cpu_seconds


@dataclass(frozen=True)
class Result:
    """One line of a table: a cost, or why there is none."""

    source: str
    way: str
    cost: Cost | None = None
    note: str = ""


class RunError(Exception):
    """The measured call failed; the message is the last line of its traceback."""


class NotWrittenError(RunError):
    """The measured call is a slot that nobody has filled."""


def measure(call: Callable[..., int], files: Sequence[Path], out: Path, *more: object, cpus: int = 0) -> Cost:
    """Runs `call(files, out, *more)`, which gives the records it read, in a fresh process.

    The call's module is imported before the clock starts; what the call imports itself counts.

    Args:
        call: A function of a module that a fresh process can import.
        files: Input files, read once beforehand so that all ways find them in the page cache.
        out: Folder to make; whatever is below it afterwards counts as output.
        more: Further arguments.
        cpus: Bind the process to this many processors, 0 for no limit.

    Raises:
        NotWrittenError: The call raised `NotImplementedError`.
        RunError: The call raised anything else, or its process died.
    """
    bytes_in = sum(len(file.read_bytes()) for file in files)
    out.mkdir(parents=True)
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, cpus, call, (files, out, *more)))
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        process.join()
        raise RunError(f"the process ended with exit code {process.exitcode}") from None
    process.join()
    if isinstance(answer, tuple) and isinstance(answer[0], str):
        raise (NotWrittenError if answer[0] == "NotImplementedError" else RunError)(answer[1])
    records, wall, cpu, peak, rows = answer
    written = [file for file in out.rglob("*") if file.is_file()]
    return Cost(records, wall, cpu, peak, bytes_in, sum(f.stat().st_size for f in written), len(written), rows)


def _child(answer: Connection, cpus: int, call: Callable[..., int], arguments: tuple[object, ...]) -> None:
    os.dup2(2, 1)  # libraries may print; standard output belongs to the results
    try:
        if cpus and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cpus:])
        cpu, wall = _cpu_seconds(), time.perf_counter()
        records = call(*arguments)
        wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
        peak = peak_rss_bytes()
        answer.send((records, wall, cpu, peak, _rows(arguments[1])))
    except BaseException as error:  # whatever it was, the parent reports it
        answer.send((type(error).__name__, traceback.format_exc(limit=-1).strip().splitlines()[-1]))


def _cpu_seconds() -> float:
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_rss_bytes() -> int:
    """Peak memory of this process or its largest ended child.

    On Linux `ru_maxrss` of a new process starts from its parent's memory, hence /proc where it exists.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status")
    if status.exists():
        own = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024


def _rows(out: object) -> int:
    """Rows in all Parquet files below a folder, from their footers."""
    import pyarrow.parquet as pq

    assert isinstance(out, Path)
    return sum(pq.read_metadata(file).num_rows for file in out.rglob("*.parquet"))


_HEADINGS = (
    "source", "way", "records", "wall s", "CPU s", "records/CPU s", "speed / floor", "peak RSS MB", "RSS / floor",
    "MB in", "MB out", "out / floor", "files",
)  # fmt: skip


def table(results: Sequence[Result], floor: str, *, markdown: bool = False) -> str:
    """Results as aligned text or Markdown, with ratios against the way named `floor` of the same source."""
    floors = {r.source: r.cost for r in results if r.way == floor}
    rows = [_HEADINGS] + [_cells(result, floors.get(result.source)) for result in results]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEADINGS))]
    edge, gap = ("| ", " | ") if markdown else ("", "  ")
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((edge + gap.join(cells) + edge[::-1]).rstrip())
    rules = ["-" * width if n < 2 else "-" * (width - 1) + ":" for n, width in enumerate(widths)]
    lines.insert(1, "| " + " | ".join(rules) + " |" if markdown else gap.join("-" * width for width in widths))
    notes = [f"{r.source}, {r.way}: {r.note}" for r in results if r.note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _cells(result: Result, floor: Cost | None) -> tuple[str, ...]:
    cost = result.cost
    if cost is None:
        return (result.source, result.way, *["-"] * (len(_HEADINGS) - 2))

    def ratio(mine: float, theirs: float) -> str:
        return f"{mine / theirs:.2f}" if theirs else "-"

    per_cpu = floor.records_per_cpu_second if floor else 0
    per_record = cost.bytes_out / cost.records, floor.bytes_out / floor.records if floor else 0
    return (
        result.source,
        result.way,
        f"{cost.records:,}",
        f"{cost.wall_seconds:.1f}",
        f"{cost.cpu_seconds:.1f}",
        f"{cost.records_per_cpu_second:,.0f}",
        ratio(cost.records_per_cpu_second, per_cpu),
        f"{cost.peak_rss_bytes / 1e6:,.0f}",
        ratio(cost.peak_rss_bytes, floor.peak_rss_bytes if floor else 0),
        f"{cost.bytes_in / 1e6:.1f}",
        f"{cost.bytes_out / 1e6:.1f}",
        ratio(*per_record),
        f"{cost.files_out:,}",
    )
