"""What commands say beside their data: messages and progress on stderr."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ocsf_lake.text import Amount, count, duration, escaped, plural, size

if TYPE_CHECKING:
    from ocsf_lake.ingest.run import OnProgress, Progress

INTERRUPTED = 130
QUIET_SECONDS = 1.0
"""So long nothing is said of a query's progress."""

__all__ = [
    "Amount", "Waiting", "count", "duration", "ended_quietly", "escaped", "plural", "progress_bar", "say", "size",
]  # fmt: skip


def say(*lines: str) -> None:
    """A message on stderr, after the data that was printed before it."""
    from ocsf_mappers.shown import redacted

    sys.stdout.flush()
    sys.stderr.write("".join(f"{escaped(redacted(line))}\n" for line in lines))
    sys.stderr.flush()


@contextmanager
def ended_quietly() -> Iterator[None]:
    """Ends a command that only reads: with 0 when nobody reads its output any more, with 130 and one line on ^C."""
    import typer

    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still in buffers goes there
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        say("stopped")
        raise typer.Exit(INTERRUPTED) from None


class Waiting:
    """Watches a query that computes: called several times a second.

    Says on stderr how far it is, where that is a terminal, and ends it when nobody reads stdout any more.

    Args:
        progress: Gives the share that is done, in percent; below 0 where that is not known.
    """

    def __init__(self, progress: Callable[[], float]) -> None:
        self._progress = progress
        self._since = time.monotonic()
        self._shown = False
        self._poll = None
        with suppress(OSError, ValueError, AttributeError):  # a stdout of tests, or a system without poll
            poll = select.poll()
            poll.register(sys.stdout.fileno(), 0)
            self._poll = poll

    def __call__(self) -> None:
        """Looks.

        Raises:
            BrokenPipeError: Nobody reads stdout any more.
        """
        if self._poll is not None and any(event & select.POLLERR for _, event in self._poll.poll(0)):
            raise BrokenPipeError
        seconds = time.monotonic() - self._since
        if sys.stderr.isatty() and seconds > QUIET_SECONDS:
            done = self._progress()
            share = f"{done:.0f} %, " if 0 <= done <= 100 else ""
            sys.stderr.write(f"\r\x1b[K{share}{seconds:.0f} s, ^C stops")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Takes away what was shown, before rows come or when there is nothing to wait for."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


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
