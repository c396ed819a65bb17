"""How much memory an ingest takes, whatever lies in its objects; measured in a process of its own."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.ocsf_lake.conftest import call

MEGABYTE = 1 << 20
BOUND = 1_000 * MEGABYTE

LARGE = 200 * MEGABYTE // 4_600
"""Records of 4.6 kB in an object of 200 MB."""

INGEST = r"""
import pathlib, re, resource, sys
from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
counts = ingest.ingest(sys.argv[2:], config.load(lake=sys.argv[1], workers=1)).counts
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if (status := pathlib.Path("/proc/self/status")).exists():
    # On Linux `ru_maxrss` starts from what the process that starts this one held: pytest's, here.
    peak = int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1])
print(counts.read, counts.events, counts.quarantined, peak * (1 if sys.platform == "darwin" else 1024))
"""


def good(number: int, **more: object) -> str:
    return json.dumps(call(number) | more)


def with_many_keys() -> Iterator[str]:
    yield good(1)
    yield good(2, **{f"k{number}": str(number) for number in range(20_000)})
    yield good(3)


def with_more_keys_than_memory() -> Iterator[str]:
    yield good(1)
    yield good(2, **{f"k{number}": 1 for number in range(330_000)})
    yield good(3)


def with_a_long_text() -> Iterator[str]:
    yield good(1)
    yield good(2, errorMessage="\\" * (30 << 20))  # 60 MB as JSON spells it
    yield good(3)


def with_a_long_text_and_a_broken_record() -> Iterator[str]:
    yield good(1)
    yield good(2, errorMessage="x" * (20 << 20))
    yield '{"eventVersion": oops}'
    yield good(3)


def without_anything_odd() -> Iterator[str]:
    body = "y" * 4_000
    for number in range(LARGE):
        yield good(number % 5_000, requestParameters={"text": body})


ODD: tuple[tuple[Callable[[], Iterator[str]], int, int], ...] = (
    (with_many_keys, 3, 0),
    (with_more_keys_than_memory, 2, 1),
    (with_a_long_text, 2, 1),
    (with_a_long_text_and_a_broken_record, 2, 2),
)
"""Records, and how many of them become events and how many go to quarantine."""


def ingested(logs: Path, lake: Path) -> tuple[int, int, int, int]:
    """Records read, mapped and rejected, and the most memory held, in bytes."""
    command = [sys.executable, "-c", INGEST, str(lake), str(logs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    read, mapped, rejected, peak = map(int, done.stdout.split())
    return read, mapped, rejected, peak


def write(path: Path, texts: Iterable[str], wrapping: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write("" if wrapping == "lines" else '{"Records":[')
        for number, text in enumerate(texts):
            file.write(("\n" if wrapping == "lines" else ",") * (number > 0) + text)
        file.write("\n" if wrapping == "lines" else "]}")


@pytest.mark.slow
def test_records_made_to_exhaust_memory_cost_only_themselves_and_large_objects_are_read_by_windows(
    tmp_path: Path
) -> None:
    logs, events, quarantined = tmp_path / "logs", LARGE + 1, 0
    write(logs / "large.json.gz", without_anything_odd(), "Records")
    write(logs / "small.json.gz", [good(9)], "lines")
    for number, (records, good_ones, bad_ones) in enumerate(ODD):
        texts = list(records())
        for wrapping in ("Records", "lines"):
            write(logs / f"{number}-{wrapping}.json.gz", texts, wrapping)
            events += good_ones
            quarantined += bad_ones
    read, mapped, rejected, peak = ingested(logs, tmp_path / "lake")
    assert (read, mapped, rejected) == (events + quarantined, events, quarantined)
    assert peak < BOUND, f"{peak // MEGABYTE} MB"
