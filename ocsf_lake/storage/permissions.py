"""Local files and folders of a lake: its own user's, and others' as far as the setting `umask` leaves them to them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

UMASK = 0o077
"""Permissions that files and folders do not get: those of the group and of all others."""
_OTHERS = 0o007


def make_folder(path: Path, umask: int = UMASK) -> None:
    """Makes a folder, and those above it that are missing; what is there keeps its permissions.

    They outlast a loss of power: a new folder stands in its parent, which is synced to disk.

    Args:
        path: The folder.
        umask: Permissions not to give; those of the process's own umask are not given either.
    """
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o777 & ~umask, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Waits until a folder's names are on disk: a file's own bytes are of no use without its name."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def open_file(path: Path, umask: int = UMASK) -> BinaryIO:
    """A file to write, empty; see `make_folder`."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666 & ~umask), "wb")


def touch(path: Path, umask: int = UMASK) -> None:
    """Makes a file that is not there, empty; see `make_folder`."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666 & ~umask))


def open_to_others(root: Path, folders: Iterable[Path]) -> list[Path]:
    """The folders among these that users outside the group can look into.

    Args:
        root: A folder above them; if it is closed they are.
        folders: Folders, some of which may not be there.
    """
    open_folders = []
    for folder in folders:
        inside = folder == root or root in folder.parents
        modes = [place.stat().st_mode & _OTHERS for place in ([root, folder] if inside else [folder]) if place.is_dir()]
        if folder.is_dir() and all(modes):
            open_folders.append(folder)
    return open_folders
