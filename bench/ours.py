"""Our own engine, called as the command line calls it: files in, a lake out.

Each function gives the number of records read. Quarantined records count; the run is a fresh lake each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest import mock

from ocsf_lake import config
from ocsf_lake.ingest import run as lake_ingest
from ocsf_mappers import Engine


def ingest_cloudtrail(files: Sequence[Path], lake_dir: Path, validate: bool) -> int:
    """Ingests CloudTrail files into a new lake in an empty folder.

    Args:
        files: Gzipped `{"Records": [...]}` files.
        lake_dir: Empty folder; everything written below it counts as output.
        validate: Check the events against their OCSF class.
    """
    return _ingest("aws_cloudtrail", files, lake_dir, validate)


def ingest_vpc_flow(files: Sequence[Path], lake_dir: Path, validate: bool) -> int:
    """Ingests VPC flow log files, versions 2 and 5 mixed, into a new lake in an empty folder.

    Args:
        files: Gzipped text with a header line.
        lake_dir: Empty folder; everything written below it counts as output.
        validate: Check the events against their OCSF class.
    """
    return _ingest("aws_vpc_flow", files, lake_dir, validate)


def _ingest(source: str, files: Sequence[Path], lake_dir: Path, validate: bool) -> int:
    # Users cannot turn validation off; only the measurement of its price does.
    with mock.patch.object(lake_ingest, "Engine", partial(Engine, validate=validate)):
        summary = lake_ingest.ingest([str(file) for file in files], config.load(lake=str(lake_dir)), source=source)
    return summary.counts.read
