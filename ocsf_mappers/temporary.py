"""Temporary folders: all of a process lie in one of its own, which goes with it however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

PREFIX = "ocsf-lake-process-"
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def folder() -> Path:
    """The folder of this process, and of this user alone (0700); it is removed when the process ends.

    What a killed process left is removed by the next one that wants a folder in the same place: each holds a lock on
    its own, which the system releases however the process ends.
    """
    made = _folder(os.getpid())
    if not made.is_dir():  # a process may outlive what some systems keep in their temporary folder
        _folder.cache_clear()
        made = _folder(os.getpid())
    return made


def directory(purpose: str) -> tempfile.TemporaryDirectory[str]:
    """A new folder in that of this process, removed at the end of its block.

    Args:
        purpose: What its name begins with, for who looks for what takes the room.
    """
    return tempfile.TemporaryDirectory(prefix=f"{purpose}-", dir=folder())


@cache
def _folder(_process: int) -> Path:
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _remove_if_left(path)
    made = _locked_folder()
    # Not atexit, which processes of a pool do not run.
    Finalize(None, shutil.rmtree, args=(made,), kwargs={"ignore_errors": True}, exitpriority=0)
    return made


def _locked_folder() -> Path:
    while True:
        made = Path(tempfile.mkdtemp(prefix=PREFIX))
        descriptor = os.open(made, _FLAGS)  # never closed: the lock is held as long as the process lives
        with suppress(OSError):  # where a file system has no locks, nothing is removed
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if made.is_dir():  # else another process saw it before it was locked
            return made
        os.close(descriptor)


def _remove_if_left(path: Path) -> None:
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return
    try:
        if os.fstat(descriptor).st_uid == os.getuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except OSError:  # a process that lives holds it
        pass
    finally:
        os.close(descriptor)
