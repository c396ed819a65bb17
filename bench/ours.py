"""Our own engine, called as the command line calls it: files in, a lake out.

Each function gives the number of records read. Quarantined records count; the run is a fresh lake each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def ingest_cloudtrail(files: Sequence[Path], lake_dir: Path, validate: bool) -> int:
    """Ingests CloudTrail files into a new lake in an empty folder.

    Args:
        files: Gzipped `{"Records": [...]}` files.
        lake_dir: Empty folder; everything written below it counts as output.
        validate: Check the events against their OCSF class.
    """
    raise NotImplementedError


def ingest_vpc_flow(files: Sequence[Path], lake_dir: Path, validate: bool) -> int:
    """Ingests VPC flow log files, versions 2 and 5 mixed, into a new lake in an empty folder.

    Args:
        files: Gzipped text with a header line.
        lake_dir: Empty folder; everything written below it counts as output.
        validate: Check the events against their OCSF class.
    """
    raise NotImplementedError
