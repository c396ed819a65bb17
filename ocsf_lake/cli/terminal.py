"""What commands say beside their data: messages and progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ocsf_lake.text import Amount, count, duration, escaped, plural, size

if TYPE_CHECKING:
    from ocsf_lake.ingest.run import OnProgress, Progress

__all__ = ["Amount", "count", "duration", "escaped", "plural", "progress_bar", "say", "size"]


def say(*lines: str) -> None:
    """A message on stderr, after the data that was printed before it."""
    from ocsf_mappers.shown import redacted

    sys.stdout.flush()
    sys.stderr.write("".join(f"{escaped(redacted(line))}\n" for line in lines))
    sys.stderr.flush()


@contextmanager
def progress_bar(doing: str) -> Iterator[OnProgress | None]:
    """A bar on stderr while the block runs; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=None)

        def update(done: Progress) -> None:
            bar.update(task, total=done.of_bytes_in, completed=done.bytes_in)

        yield update
