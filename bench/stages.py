"""Where the time of an ingest goes: samples of the stack, added up by the innermost function that stands for a stage.

Python runs a signal's handler between two of its own steps, so what a library takes counts for the function of ours
that called it. The handler itself takes a few hundredths of the time.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from bench import ours
from bench.generate import UNITS, Data
from bench.measure import measure
from bench.ways import SOURCES

EVERY_SECONDS = 0.004
RESULT = "stages.json"
STAGES = {
    "loading modules": ["<frozen importlib"],
    "decompressing, hashing the content": ["readers/streams.py"],
    "splitting documents into records": ["readers/json_split.py", "readers/json_records.py", "readers/envelope.py"],
    "reading columns, finding equal values": [
        "readers/delimited.py", "readers/lines.py", "readers/json_columns.py", "readers/json_members.py",
        "readers/column.py:encoded", "readers/tabular.py",
    ],
    "compiling, planning queries": ["ocsf_mappers/compiler/", "ocsf_mappers/vocabulary/", "statements.py:_planned"],
    "DuckDB, on different values": ["engine/statements.py"],
    "bringing values and rows together": ["engine/distinct.py", "engine/engine.py", "engine/batch.py", "readers/"],
    "building the table's columns": ["engine/assemble.py"],
    "counting what is unmapped and new": ["engine/counting.py", "ledger/mapping_coverage.py", "ingest/tally.py"],
    "hiding secrets": ["ocsf_lake/redaction/"],
    "cutting into partitions": ["storage/parquet.py", "storage/packing.py", "engine/mapped.py"],
    "Parquet": ["storage/writer.py", "storage/parquet.py:encode", "pyarrow/parquet/"],
    "hashing and putting files": ["storage/parquet.py:checksum", "storage/store.py"],
}
"""Stage -> where its functions are: a piece of a file's path, or a path's end, a colon and a function's name. What is
longest counts where several fit."""
REST = "the rest: planning, ledger, catalog, settings"


def run(data: Data, folder: Path) -> list[dict[str, Any]]:
    """The CPU seconds of each stage, for each source with records."""
    rows = []
    for source, name in SOURCES.items():
        if not data[source].records:
            continue
        print(f"sampling {UNITS[source]}s of {source}", file=sys.stderr)
        cost = measure(_sampled, data[source].files, folder, name, cpus=1)
        seconds = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        rows.append({"source": source, "records": cost.records, "seconds": seconds})
        shutil.rmtree(folder)
    return rows


def _sampled(files: Sequence[Path], folder: Path, source: str) -> int:
    """Ingests files, and leaves the seconds of each stage beside the lake."""
    seconds: Counter[str] = Counter()
    stages_by_place: dict[tuple[str, str], str | None] = {}
    before = time.process_time()

    def sample(_: int, frame: FrameType | None) -> None:
        nonlocal before
        now = time.process_time()
        spent, before = now - before, now
        while frame is not None:
            place = (frame.f_code.co_filename, frame.f_code.co_name)
            if place not in stages_by_place:
                stages_by_place[place] = stage(*place)
            if (name := stages_by_place[place]) is not None:
                break
            frame = frame.f_back
        else:
            name = REST
        seconds[name] += spent

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)
    records = ours.ingest(files, folder / "lake", source)
    signal.setitimer(signal.ITIMER_PROF, 0)
    (folder / RESULT).write_text(json.dumps(seconds), encoding="utf-8")
    return records


def stage(file: str, function: str) -> str | None:
    """The stage that a function stands for; None where it depends on what called it."""
    fitting = [
        (len(place), name) for name, places in STAGES.items() for place in places
        if place in (f"{file}:{function}" if ":" in place else file)
    ]  # fmt: skip
    return max(fitting)[1] if fitting else None
