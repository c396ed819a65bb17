"""What commands say beside their data: messages and progress on stderr, amounts that people read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocsf_lake.ingest.run import OnProgress, Progress



def escaped(text: str, kept: str = "") -> str:
    """The text with control characters spelled out, see `ocsf_mappers.shown`, which help does without."""
    from ocsf_mappers import shown

    return shown.escaped(text, kept)


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


_UNITS = ("kB", "MB", "GB", "TB", "PB")


class Amount(str):
    """A number made readable, such as `1,049` or `2.4 MB`; tables put it to the right."""

    __slots__ = ()


def count(number: int) -> Amount:
    """`1,049`."""
    return Amount(f"{number:,}")


def size(number: int) -> Amount:
    """`2.4 MB`."""
    if number < 1_000:
        return Amount(f"{number} B")
    step = min((len(str(number)) - 1) // 3, len(_UNITS))
    value = number / 1_000**step
    return Amount(f"{value:.1f} {_UNITS[step - 1]}" if value < 9.95 else f"{value:.0f} {_UNITS[step - 1]}")


def duration(seconds: float) -> Amount:
    """Seconds with one decimal."""
    return Amount(f"{seconds:,.1f}")


def plural(number: int, word: str, words: str | None = None) -> str:
    """`1 object`, `2 objects`."""
    return f"{number:,} {word if number == 1 else words or word + 's'}"
