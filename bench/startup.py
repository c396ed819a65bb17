"""How long commands take that do next to nothing: what a script or a shell that calls them waits for."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import small_objects

RECORDS = 40


def run(repeat: int) -> list[dict[str, Any]]:
    """The least time of some runs of each command, as a process, with its CPU seconds and peak memory in bytes."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="ocsf-lake-bench-") as name:
        work = Path(name)
        (log,) = small_objects.write(work / "logs", 1, RECORDS)
        for number in range(repeat):
            lake = ["--lake", str(work / f"lake{number}")]
            commands = {
                "`ocsf-lake --help`": ["--help"],
                f"`ocsf-lake ingest`, one object of {RECORDS} records, new lake": ["ingest", str(log), *lake],
                '`ocsf-lake query "SELECT 1"`': ["query", "SELECT 1", *lake],
            }
            for command, arguments in commands.items():
                print(f"running {command}", file=sys.stderr)
                rows.append({"command": command, **_cost(arguments)})
    return [
        min((row for row in rows if row["command"] == command), key=lambda row: float(row["wall_seconds"]))
        for command in dict.fromkeys(row["command"] for row in rows)
    ]


def _cost(arguments: list[str]) -> dict[str, float | int]:
    program = Path(sys.executable).with_name("ocsf-lake")
    begun = time.perf_counter()
    process = subprocess.Popen(
        [str(program), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {process.returncode}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"wall_seconds": wall, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak": peak}
