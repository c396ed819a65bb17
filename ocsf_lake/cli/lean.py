"""What a query is spared, so that it begins early and streams wide rows in little memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_ARENAS, _ONE = -8, 1
_MMAP_THRESHOLD, _MAPPED_BYTES = -3, 256 << 10
"""Parameters of glibc's mallopt(3), and their values."""


def give_memory_back() -> None:
    """Has what was freed be used again by any thread, and larger pieces be given back to the system at once.

    By itself glibc keeps a heap for each thread, and raises the size from which on it gives back to the largest that
    was freed. Of a million wide rows that kept 30 MB. For one thread that computes: more would wait for each other.
    """
    import ctypes

    with suppress(OSError, AttributeError, TypeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_ARENAS, _ONE)
        mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES)


def leave_out_numpy() -> None:
    """Spares a command numpy, which pyarrow loads where it is installed and needs for arrays of numpy alone.

    For commands that make none: in this process pyarrow does not know numpy from here on.
    """
    if "pyarrow" in sys.modules:
        return
    with _not_found("numpy"):
        import pyarrow  # noqa: F401  # loaded, for whoever imports it next


def leave_out_pandas() -> None:
    """Spares a command pandas, where it is installed.

    When pyarrow makes its first array it loads all of pandas, to know a Series. No command has one; and whoever asks
    pyarrow for a frame has pandas loaded then.
    """
    import pyarrow as pa

    with _not_found("pandas"):
        pa.array([])


@contextmanager
def _not_found(package: str) -> Iterator[None]:
    """As if a package were not installed, where it is not loaded yet."""
    if package in sys.modules:
        yield
        return
    finder = _Missing(package)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Missing:
    """As a finder of modules: there is no such package."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, *_: object) -> None:
        if name == self._package:
            raise ModuleNotFoundError(name, name=name)
