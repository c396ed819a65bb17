"""Files of a lake on this machine's disk, each with the bytes that were written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ocsf_lake.storage import retry
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import OcsfMappersError

GONE = "a file of the lake is gone; `ocsf-lake catalog sync` rebuilds it, or says what else can be done"
_AT_ONCE = 8
_BLOCK_BYTES = 4 << 20


class LakeFileError(OcsfMappersError):
    """A file of the lake is gone or is not what was written: `ocsf-lake catalog sync` makes it again."""


def fetch(store: Store, files: Sequence[tuple[str, str]], folder: Path) -> list[Path]:
    """Path on this machine of each file; those of a local lake are not copied.

    Args:
        store: The lake's files.
        files: Name and SHA-256 of each.
        folder: Where to put them, under names in which DuckDB sees no pattern and no `key=value`.

    Raises:
        LakeFileError: One is gone or has other bytes.
        RetriableError: The store does not answer.
    """

    def one(file: tuple[str, str]) -> Path:
        name, expected = file
        path = folder / hashlib.sha256(name.encode()).hexdigest()
        try:
            if store.is_local:
                path.symlink_to(store.path(name))
            actual = sha256(path) if store.is_local else retry.call(_copied, store, name, path)
        except FileNotFoundError:
            raise LakeFileError(GONE, file=name) from None
        if actual != expected:
            raise LakeFileError(
                "a file of the lake has other bytes than were written; `ocsf-lake catalog sync --deep` makes it again",
                file=name,
            )
        return path

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ocsf-lake") as pool:
        return list(pool.map(one, files))


def _copied(store: Store, name: str, to: Path) -> str:
    digest = hashlib.sha256()
    with store.opened(name) as file, to.open("wb") as copy:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            copy.write(block)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a local file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
