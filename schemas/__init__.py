"""OCSF facts and table projections, as data files."""

from importlib import resources

__all__ = ["read", "versions"]

_PREFIX, _SUFFIX = "ocsf-", ".json"


def read(name: str) -> bytes:
    """Give the bytes of one data file, for example `ocsf-1.1.0.json` or `security_lake_v2_tables.json`.

    Raises:
        FileNotFoundError: No data file has that name.
    """
    return resources.files(__name__).joinpath(name).read_bytes()


def versions() -> tuple[str, ...]:
    """Give the OCSF versions that are shipped, oldest first."""
    names = (file.name for file in resources.files(__name__).iterdir())
    found = (n.removeprefix(_PREFIX).removesuffix(_SUFFIX) for n in names if n.startswith(_PREFIX))
    return tuple(sorted(found, key=lambda version: [int(part) for part in version.split(".")]))
