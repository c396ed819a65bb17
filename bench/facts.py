"""What figures depend on beside the program: machine, versions, and what else the machine was doing."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ocsf_mappers.readers import json_columns

LIBRARIES = ("duckdb", "pyarrow", "numpy", "msgspec", "orjson", "isal", "obstore", "s3fs", "polars")
QUIET = 1.5
"""From this load average on, over one minute, other programs ran beside."""


def machine() -> dict[str, Any]:
    """Processors, memory, system, Python and libraries."""
    return {
        "cpu": _cpu(), "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
        "reader": json_columns.state(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES if _installed(name)},
    }  # fmt: skip


def load() -> float:
    """The load average over one minute; to be asked before anything is measured, which is a load itself."""
    return round(os.getloadavg()[0], 2)


def moment() -> dict[str, Any]:
    """When something is measured, and of which commit."""
    return {"at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "commit": _commit()}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _commit() -> str:
    """Short, with a plus sign where something is not committed."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    head = git("rev-parse", "--short=10", "HEAD")
    return f"{head}{'+' if git('status', '--porcelain', '--untracked-files=no', '..') else ''}" if head else "unknown"
