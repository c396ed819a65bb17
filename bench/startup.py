"""How long commands take that do next to nothing: what a script or a shell that calls them waits for."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
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


_STARTS = """
import json, os, sys, time
begun = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
wall = time.perf_counter() - begun
print(json.dumps([os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""
"""A program in between: a process's peak memory begins with that of the one that started it, so that one is small."""


def _cost(arguments: list[str]) -> dict[str, float | int]:
    program = str(Path(sys.executable).with_name("ocsf-lake"))
    done = subprocess.run(
        [sys.executable, "-S", "-c", _STARTS, program, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    code, wall, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    if code:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {code}: {done.stderr}")
    return {"wall_seconds": wall, "cpu_seconds": cpu, "peak": peak * (1 if sys.platform == "darwin" else 1024)}
