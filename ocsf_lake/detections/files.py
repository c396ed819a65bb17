"""Files of rules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ocsf_lake.detections import pack
from ocsf_mappers.errors import ConfigError

SUFFIXES = (".yml", ".yaml")


def in_folders(folders: Iterable[Path]) -> list[Path]:
    """The files of rules in folders and the folders in them, each once.

    Args:
        folders: Folders, or single files; `pack` for the rules that come with this program.

    Raises:
        ConfigError: A folder is not there, or has no rules.
    """
    every: dict[Path, Path] = {}
    for folder in (pack.FOLDER if str(folder) == pack.NAME else folder for folder in folders):
        if not folder.exists():
            raise ConfigError(f"rules: there is no folder {str(folder)!r}")
        below = [folder] if folder.is_file() else folder.rglob("*")
        files = sorted(file for file in below if file.is_file() and (file == folder or _is_yaml(file)))
        if not files:
            raise ConfigError(f"rules: no file in {str(folder)!r} ends in {' or '.join(SUFFIXES)}")
        every |= {file.resolve(): file for file in files if file.resolve() not in every}
    return list(every.values())


def _is_yaml(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES
