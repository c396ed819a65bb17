"""What the tests of the command line share: commands as a user runs them, and as plain calls."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """A shell's variables: the commands of this environment first, none of the project's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OCSF_LAKE_")}
    folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([folder, kept.get("PATH", os.defpath)])
    kept.pop("PYTHONUNBUFFERED", None)
    return {**kept, "PATH": path, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80", **more}


@dataclass(frozen=True)
class Run:
    """What a command did."""

    code: int
    out: str
    err: str
