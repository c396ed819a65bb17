"""Our own engine, called as the command line calls it: files in, a lake out."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from ocsf_lake.cli import main, options

if TYPE_CHECKING:
    from ocsf_lake.config import Settings


def as_the_command(lake_dir: Path, workers: int | None = None) -> Settings:
    """The settings of a lake, in a process that is set up as the command line sets up its own."""
    gc.set_threshold(*main.GARBAGE)
    return options.settings(lake=str(lake_dir), workers=workers)


def ingest(
    files: Sequence[Path], lake_dir: Path, source: str, validate: bool = True, workers: int = 1,
    batch_bytes: int | None = None, pure: bool = False,
) -> int:  # fmt: skip
    """Ingests files of one source into a new lake in an empty folder.

    Args:
        files: As AWS delivers them.
        lake_dir: Empty folder; everything written below it counts as output.
        source: What they hold, as `ocsf-lake ingest` names it.
        validate: Check the events against their OCSF class.
        workers: Batches worked on at once.
        batch_bytes: Size of a batch, instead of the default.
        pure: Read JSON in Python, not with the compiled reader.

    Returns:
        The records read, quarantined ones among them.
    """
    if pure:
        os.environ["OCSF_LAKE_PURE"] = "1"  # for this process, which does nothing else
    settings = as_the_command(lake_dir, workers)
    if batch_bytes is not None:
        settings = settings.model_copy(update={"batch_bytes": batch_bytes})
    # Only now, as the command does: pyarrow loads pandas, where that is installed, unless it was told not to.
    from ocsf_lake.ingest import batch as batches
    from ocsf_lake.ingest import run as lake_ingest
    from ocsf_mappers import Engine

    # Users cannot turn validation off; only the measurement of its price does.
    with mock.patch.object(batches, "Engine", partial(Engine, validate=validate)):
        summary = lake_ingest.ingest([str(file) for file in files], settings, source=source)
    return summary.counts.read
