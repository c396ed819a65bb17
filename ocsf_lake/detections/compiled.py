"""Rules remembered as they are asked: in this process, and in files of the user's cache.

Reading rules, converting them and making SQL of them takes seconds, longer than asking them of a small batch. The
file's name is a hash of all that they are made of: the rules, values of placeholders, and this program with its
mappers. It is JSON of texts that a connection runs which can change nothing; a file that others could have written is
not read, and one that cannot be read or written costs no more than the time.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec

import ocsf_lake
import ocsf_mappers
from ocsf_lake.detections import files
from ocsf_lake.detections.asked import Asked

VARIABLE = "XDG_CACHE_HOME"
FOLDER = "ocsf-lake"
_NAME = "rules-{}.json"
_KEPT = 4
"""Sets of rules, in memory and in files; the oldest files go."""
_LIBRARIES = ("pysigma", "sqlglot", "duckdb")
_remembered: dict[str, list[Asked]] = {}


def load(
    folders: Iterable[Path], placeholders: Mapping[str, Sequence[str]], mappers: Path | None = None
) -> list[Asked]:
    """The rules in folders, see `rules.load`, as they are asked.

    Args:
        folders: Folders or files.
        placeholders: Values of placeholders.
        mappers: Folder with more sources.

    Raises:
        ConfigError: A folder is not there, or has no rules.
    """
    folders = list(folders)
    digest = _digest(files.in_folders(folders), placeholders, mappers)
    asked = _remembered.get(digest)
    if asked is None:
        asked = _read(digest)
    if asked is None:
        from ocsf_lake.detections import rules

        asked = [rule.asked for rule in rules.load(folders, placeholders)]
        if _digest(files.in_folders(folders), placeholders, mappers) != digest:  # somebody writes there: what was read?
            return asked
        _write(digest, asked)
    if len(_remembered) >= _KEPT:
        _remembered.clear()
    _remembered[digest] = asked
    return asked


def _digest(paths: Iterable[Path], placeholders: Mapping[str, Sequence[str]], mappers: Path | None) -> str:
    digest = hashlib.sha256(_program().encode())
    values = {name: list(placeholders[name]) for name in sorted(placeholders)}
    digest.update(msgspec.json.encode(values))
    for path in [*paths, *(sorted(mappers.rglob("*.py")) if mappers else ())]:
        digest.update(msgspec.json.encode([os.fsencode(path), _content(path)]))
    return digest.hexdigest()[:32]


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


@cache
def _program() -> str:
    """Hash of all code that rules are made into SQL by, and of the mappers, which define what is where."""
    digest = hashlib.sha256()
    for name in _LIBRARIES:
        digest.update(f"{name} {metadata.version(name)}\n".encode())
    for folder in (Path(ocsf_lake.__file__).parent / "detections", Path(ocsf_mappers.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _folder() -> Path | None:
    """Where the files are; None where there is no place for them."""
    given = os.environ.get(VARIABLE, "")
    try:
        base = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return base / FOLDER


def _read(digest: str) -> list[Asked] | None:
    folder = _folder()
    if folder is None:
        return None
    try:
        with (folder / _NAME.format(digest)).open("rb") as file:
            if not _is_ours(folder.stat()) or not _is_ours(os.fstat(file.fileno())):
                return None
            return msgspec.json.decode(file.read(), type=list[Asked], dec_hook=_decoded)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _write(digest: str, asked: Sequence[Asked]) -> None:
    folder = _folder()
    if folder is None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(folder.stat()):
            return
        data = msgspec.json.encode(asked, enc_hook=str)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            file.write(data)
        Path(file.name).replace(folder / _NAME.format(digest))
        for old in list(_oldest(folder))[:-_KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, UnicodeEncodeError):  # the latter of a file whose name is no text
        return


def _oldest(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob(_NAME.format("*")), key=lambda path: path.stat().st_mtime)


def _decoded(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError(kind)
