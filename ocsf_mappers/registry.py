"""Sources by name: a module of `ocsf_mappers.sources`, or an entry point of another package."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points

from ocsf_mappers import sources
from ocsf_mappers.errors import ConfigError, nearest
from ocsf_mappers.mapper import Mapper

ENTRY_POINTS = "ocsf_lake.sources"
"""Entry point group in which other packages offer mappers: `name = "package.module:MAPPER"`."""


def names() -> list[str]:
    """Every source's name, sorted."""
    own = {module.name for module in pkgutil.iter_modules(sources.__path__)}
    return sorted(own | {point.name for point in entry_points(group=ENTRY_POINTS)})


def load(name: str) -> Mapper:
    """The mapper of one source; only its module is imported.

    Raises:
        ConfigError: There is no such source.
    """
    if name not in names():
        raise ConfigError(f"there is no source {name!r}{nearest(name, names())}")
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            mapper = point.load()
            break
    else:
        mapper = importlib.import_module(f"{sources.__name__}.{name}").MAPPER
    if not isinstance(mapper, Mapper):
        raise ConfigError(f"source {name!r} does not offer a Mapper")
    return mapper
