"""Sources by name: a module of `ocsf_mappers.sources`, or an entry point of another package."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from ocsf_mappers import sources
from ocsf_mappers.errors import ConfigError, nearest
from ocsf_mappers.mapper import Mapper

ENTRY_POINTS = "ocsf_lake.sources"
"""Entry point group in which other packages offer mappers: `name = "package.module:MAPPER"`."""


@cache
def _offered() -> dict[str, EntryPoint]:
    """What other packages offer; finding out reads the metadata of every package there is."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def names() -> list[str]:
    """Every source's name, sorted."""
    own = {module.name for module in pkgutil.iter_modules(sources.__path__)}
    return sorted(own | _offered().keys())


def load(name: str) -> Mapper:
    """The mapper of one source; only its module is imported.

    Raises:
        ConfigError: There is no such source.
    """
    if name not in names():
        raise ConfigError(f"there is no source {name!r}{nearest(name, names())}")
    if name in _offered():
        mapper = _offered()[name].load()
    else:
        mapper = importlib.import_module(f"{sources.__name__}.{name}").MAPPER
    if not isinstance(mapper, Mapper):
        raise ConfigError(f"source {name!r} does not offer a Mapper")
    return mapper
