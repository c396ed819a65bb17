"""Sources by name: a module of `ocsf_mappers.sources`, or an entry point of another package."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from ocsf_mappers import sources
from ocsf_mappers.errors import ConfigError, MappingError, nearest
from ocsf_mappers.vocabulary.mapper import Mapper

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
        MappingError: It cannot be loaded, whatever its module raises.
    """
    if name not in names():
        raise ConfigError(f"there is no source {name!r}{nearest(name, names())}")
    try:
        if name in _offered():
            mapper = _offered()[name].load()
        else:
            mapper = importlib.import_module(f"{sources.__name__}.{name}").MAPPER
    except (Exception, SystemExit) as error:
        # Other people's code: a missing package, a mapper with a mistake, a module that ends the process.
        raise MappingError(f"source {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(mapper, Mapper):
        raise MappingError(f"source {name!r} cannot be loaded: it offers a {type(mapper).__name__}, not a Mapper")
    return mapper


class Usable(MutableMapping[str, Mapper]):
    """Mappers by name; this package's own are loaded when they are first asked for, which most never are.

    Those of other packages are loaded at once: one that is broken is told, whatever is read.

    Args:
        made: Makes of a mapper what it gives.
    """

    def __init__(self, made: Callable[[Mapper], Mapper] = lambda mapper: mapper) -> None:
        self._made = made
        found, self.broken = usable(_offered())
        self._found = {name: made(mapper) for name, mapper in found.items()}
        self._waiting = set(names()) - _offered().keys()

    def __getitem__(self, name: str) -> Mapper:
        if name in self._waiting:
            self[name] = self._made(load(name))
        return self._found[name]

    def __setitem__(self, name: str, mapper: Mapper) -> None:
        self._waiting.discard(name)
        self._found[name] = mapper

    def __delitem__(self, name: str) -> None:
        self._waiting.discard(name)
        self._found.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._waiting or name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._waiting | self._found.keys()))

    def __len__(self) -> int:
        return len(self._waiting) + len(self._found)


def usable(wanted: Iterable[str] | None = None) -> tuple[dict[str, Mapper], dict[str, str]]:
    """Mappers by name, and of sources that cannot be loaded the reasons: one of them does not stop the others.

    Args:
        wanted: Names of sources; None for all.

    Raises:
        ConfigError: There is no source of some name.
    """
    found: dict[str, Mapper] = {}
    broken: dict[str, str] = {}
    for name in names() if wanted is None else sorted(wanted):
        try:
            found[name] = load(name)
        except MappingError as error:
            broken[name] = str(error)
    return found, broken
