"""Files that a command reads: by name, or stdin as `-`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

STDIN = Path("-")


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """The bytes of a file.

    Raises:
        ConfigError: There is no such file, or it cannot be opened.
    """
    if file == STDIN:
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        from ocsf_mappers.errors import ConfigError

        raise ConfigError(f"cannot read {str(file)!r}: {error.strerror}; name a file, or - for stdin") from error
    with stream:
        yield stream
