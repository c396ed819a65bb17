"""The data files that are shipped: compiled OCSF versions, Security Lake's columns, our tables.

In a checkout they lie in `schemas/`, in an installed package in `ocsf_mappers/schemas/`.
"""

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

__all__ = ["read", "versions"]

_PREFIX, _SUFFIX = "ocsf-", ".json"


def _folder() -> Traversable:
    packaged = resources.files("ocsf_mappers").joinpath("schemas")
    return packaged if packaged.is_dir() else resources.files("ocsf_mappers").joinpath("..", "schemas")


def read(name: str) -> bytes:
    """Give the bytes of one data file, for example `ocsf-1.1.0.json` or `security_lake_v2_tables.json`.

    Raises:
        FileNotFoundError: No data file has that name.
    """
    return _folder().joinpath(name).read_bytes()


@cache
def versions() -> tuple[str, ...]:
    """Give the OCSF versions that are shipped, oldest first."""
    names = (file.name for file in _folder().iterdir())
    numbers = (n.removeprefix(_PREFIX).removesuffix(_SUFFIX) for n in names if n.startswith(_PREFIX))
    return tuple(sorted(numbers, key=lambda version: [int(part) for part in version.split(".")]))
