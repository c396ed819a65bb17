"""Sources by name: modules of `ocsf_mappers.sources`, entry points of other packages, files of a folder.

All have equal rights. One that cannot be loaded is named, and stops none of the others.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from weakref import WeakSet

from ocsf_mappers import sources as own
from ocsf_mappers.errors import ConfigError, MappingError, SchemaError, nearest
from ocsf_mappers.ocsf import tables as lake_tables
from ocsf_mappers.ocsf.tables import Table

if TYPE_CHECKING:
    # Sources bring what they are written with; who only asks for a table that is no single source's needs none of it.
    from ocsf_mappers.vocabulary.mapper import Mapper
    from ocsf_mappers.vocabulary.source import Source

ENTRY_POINTS = "ocsf_lake.sources"
"""Entry point group in which other packages offer sources: `name = "package.module:SOURCE"`."""

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""What sources and their tables are called: the names stand in paths, in SQL and in catalogs, some of which know no
capitals."""

_folders: dict[Path, None] = {}
_files: dict[str, Path] = {}
_stamps: dict[str, int] = {}
"""When each of the single files was last changed, in nanoseconds."""
_checked: WeakSet[Mapper] = WeakSet()


def use_folder(folder: Path) -> None:
    """Take the sources that stand in a folder: each `name.py`, or `name/__init__.py`, is one.

    They are run as the modules of an installed package are. Names that begin with `_` or `test` are none.
    """
    if (path := folder.resolve()) not in _folders:
        _folders[path] = None
        forget()


def from_file(file: Path) -> Source:
    """The source that a single Python file is, beside the one of its name that is known, checked.

    Raises:
        ConfigError: There is no such file.
        MappingError: It cannot be loaded, whatever it raises, or something that it names is wrong.
    """
    if not file.is_file():
        raise ConfigError(f"there is no file {str(file)!r}")
    with _loading(file.stem):
        return _as_source(_members(_run(file.resolve())))


def use_file(file: Path) -> str:
    """Take the source that a single Python file is, in the place of another one of its name, and give its name.

    Raises:
        ConfigError: There is no such file.
    """
    path = file.resolve()
    if not path.is_file():
        raise ConfigError(f"there is no file {str(file)!r}")
    name = path.parent.name if path.name == "__init__.py" else path.stem
    stamp = path.stat().st_mtime_ns
    if (_files.get(name), _stamps.get(name)) != (path, stamp):
        _files[name], _stamps[name] = path, stamp
        forget()
    return name


def file_of(name: str) -> Path | None:
    """The file that a source is written in, a package's `__init__.py`; None where that is not known.

    Raises:
        ConfigError: There is no such source.
    """
    if name not in names():
        raise ConfigError(f"there is no source {name!r}{nearest(name, names())}")
    if name in _in_folders() and (name in _files or name not in _own() | _offered().keys()):
        return _in_folders()[name]
    module = _offered()[name].module if name in _offered() else f"{own.__name__}.{name}"
    try:
        spec = importlib.util.find_spec(module)
    except (Exception, SystemExit):  # it runs the package that the module is in
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def forget() -> None:
    """Find and load all sources anew when they are next asked for: some have changed."""
    for remembered in (_own, _offered, _in_folders, _source, _everything):
        # A test may have put a plain function in the place of one.
        getattr(remembered, "cache_clear", lambda: None)()
    for name in [name for name in sys.modules if name.partition(".")[0].startswith(_MODULES)]:
        del sys.modules[name]


# -- where sources are ------------------------------------------------------------------------------------------------
@cache
def _own() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(own.__path__))


@cache
def _offered() -> dict[str, EntryPoint]:
    """What other packages offer; finding out reads the metadata of every package there is."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


@cache
def _in_folders() -> dict[str, Path]:
    """Name -> file of the sources in folders, and of single files."""
    files = dict(_files)
    for folder in _folders:
        for module in pkgutil.iter_modules([str(folder)]):
            if not module.name.startswith(("_", "test")):
                at = folder / module.name
                files.setdefault(module.name, at / "__init__.py" if module.ispkg else at.with_suffix(".py"))
    return files


def shadowed() -> dict[str, Path]:
    """Sources in folders that are called as one of this package or an installed one: name -> file, which is not read.

    Nobody replaces a source by dropping a file somewhere; `use_file` does it for who names the file.
    """
    others = _own() | _offered().keys()
    return {name: path for name, path in _in_folders().items() if name in others and name not in _files}


def names() -> list[str]:
    """Every source's name, sorted."""
    return sorted(_own() | _offered().keys() | _in_folders().keys())


# -- one of them ------------------------------------------------------------------------------------------------------
def source(name: str) -> Source:
    """One source; only its module is imported. What its mapper names is not checked before `load`.

    Raises:
        ConfigError: There is no such source.
        MappingError: It cannot be loaded, whatever its module raises.
    """
    if name not in names():
        raise ConfigError(f"there is no source {name!r}{nearest(name, names())}")
    return _source(name)


def load(name: str) -> Mapper:
    """The mapper of one source; everything that it names has been checked.

    Raises:
        ConfigError: There is no such source.
        MappingError: It cannot be loaded, whatever its module raises, or something that it names is wrong.
    """
    return _check(name, source(name).mapper)


def _check(name: str, mapper: Mapper) -> Mapper:
    if mapper not in _checked:
        from ocsf_mappers.vocabulary.check import check

        with _loading(name):
            check(mapper)
        _checked.add(mapper)
    return mapper


@cache
def _source(name: str) -> Source:
    from ocsf_mappers.vocabulary.check import unchecked

    with _loading(name), unchecked():
        imported, kind = _import_source(name)
        if imported.name != name:
            raise ConfigError(f"its mapper is called {imported.name!r}: {kind} and mapper have to have the same name")
        if not NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no name of a source: small letters, digits and single underscores")
        return imported


def _import_source(name: str) -> tuple[Source, str]:
    """A source from where it is, and what it is there."""
    if name in _offered() and name not in _files:
        return _as_source(_offered()[name].load()), "entry point"
    if name in _own() and name not in _files:
        return _as_source(_members(importlib.import_module(f"{own.__name__}.{name}"))), "module"
    return _as_source(_members(_run(_in_folders()[name]))), "file"


_MODULES = "ocsf_lake_mappers_"


def _run(file: Path) -> ModuleType:
    """A file as a module under a name that no package has."""
    is_package = file.name == "__init__.py"
    name = f"{_MODULES}{file.parent.name if is_package else file.stem}"
    inside = [str(file.parent)] if is_package else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=inside)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its own modules are imported relative to it
    try:
        # Compiled here: Python's cache does not see a file that is changed twice within a second.
        exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _members(module: ModuleType) -> object:
    """What a module offers: its SOURCE, or its MAPPER alone, which has no deliveries and no marks."""
    offered = getattr(module, "SOURCE", None) or getattr(module, "MAPPER", None)
    if offered is None:
        raise ConfigError("it has neither SOURCE nor MAPPER")
    return offered


def _as_source(offered: object) -> Source:
    from ocsf_mappers.vocabulary.mapper import Mapper
    from ocsf_mappers.vocabulary.source import Source

    if isinstance(offered, Mapper):
        return Source(offered)
    if not isinstance(offered, Source):
        raise ConfigError(f"it offers a {type(offered).__name__}, neither a Source nor a Mapper")
    return offered


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Other people's code: a missing package, a mapper with a mistake, a module that ends the process."""
    try:
        yield
    except (Exception, SystemExit) as error:
        reason = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        raise MappingError(f"source {name!r} cannot be loaded: {reason}") from error


# -- all of them ------------------------------------------------------------------------------------------------------
@cache
def _everything() -> tuple[dict[str, Source], dict[str, str], dict[str, Table]]:
    """Sources that are known, of those that cannot be used the reasons, and the tables of the others.

    What a mapper names wrongly does not keep the objects of its source from being recognized: they wait for it.
    """
    usable: dict[str, Source] = {}
    broken: dict[str, str] = {}
    tables: dict[str, Table] = dict(lake_tables.shared())
    # Ours first: a name of theirs is no other's.
    for name in sorted(names(), key=lambda name: (name not in _own(), name)):
        try:
            loaded = _source(name)
            with _loading(name):
                ours = {table.name: table for table in loaded.mapper.tables.values()}
                taken = [table for table in ours if tables.get(table) not in (None, lake_tables.shared().get(table))]
                if taken:
                    raise ConfigError(f"table {', '.join(taken)} is another source's")
                if wrong := [table for table in ours if not NAME.fullmatch(table) or lake_tables.is_reserved(table)]:
                    raise ConfigError(f"no table of a source can be called {', '.join(map(repr, wrong))}")
            usable[name] = loaded
            if name not in _own():  # what it names may be wrong, and with it the columns that all tables are shown with
                _check(name, loaded.mapper)
        except MappingError as error:
            broken[name] = str(error)
            continue
        tables |= ours
    return dict(sorted(usable.items())), broken, tables


def sources() -> Mapping[str, Source]:
    """Every source whose objects are recognized, by name, sorted; what some mapper names may be wrong."""
    return _everything()[0]


class _Tables(Mapping[str, Table]):
    """Every table by name; sources are loaded when another one than the shared ones is asked for."""

    def __getitem__(self, name: str) -> Table:
        return lake_tables.shared().get(name) or _everything()[2][name]

    def __contains__(self, name: object) -> bool:
        return name in lake_tables.shared() or name in _everything()[2]

    def __iter__(self) -> Iterator[str]:
        return iter(_everything()[2])

    def __len__(self) -> int:
        return len(_everything()[2])


def tables() -> Mapping[str, Table]:
    """Every table of the lake by name: the shared ones, then those of sources."""
    return _Tables()


def table(name: str) -> Table:
    """The table of this name.

    Raises:
        SchemaError: There is no such table.
    """
    lake_table = lake_tables.shared().get(name) or tables().get(name)
    if lake_table is None:
        raise SchemaError(f"the lake has no table {name!r}{nearest(name, tables())}")
    return lake_table


class Usable(MutableMapping[str, "Mapper"]):
    """Mappers by name; this package's own are loaded when they are first asked for, which most never are.

    Those of other packages are loaded at once: a broken one is reported, whatever is read.

    Args:
        made: Makes of a mapper what it gives.
    """

    def __init__(self, made: Callable[[Mapper], Mapper] = lambda mapper: mapper) -> None:
        self._made = made
        mappers, self.broken = usable(set(names()) - (_own() - _offered().keys()))
        self._mappers = {name: made(mapper) for name, mapper in mappers.items()}
        self._waiting = _own() - _offered().keys()

    def __getitem__(self, name: str) -> Mapper:
        if name in self._waiting:
            self[name] = self._made(load(name))
        return self._mappers[name]

    def __setitem__(self, name: str, mapper: Mapper) -> None:
        self._waiting -= {name}
        self._mappers[name] = mapper

    def __delitem__(self, name: str) -> None:
        self._waiting -= {name}
        self._mappers.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._waiting or name in self._mappers

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._waiting | self._mappers.keys()))

    def __len__(self) -> int:
        return len(self._waiting) + len(self._mappers)


def usable(source_names: Iterable[str] | None = None) -> tuple[dict[str, Mapper], dict[str, str]]:
    """Mappers by name, and of sources that cannot be loaded the reasons: one of them does not stop the others.

    Args:
        source_names: The sources; None for all.

    Raises:
        ConfigError: There is no source of some name.
    """
    mappers: dict[str, Mapper] = {}
    broken: dict[str, str] = {}
    for name in names() if source_names is None else sorted(source_names):
        try:
            mappers[name] = load(name)
            if name in (reasons := _everything()[1]):
                raise MappingError(reasons[name])
        except MappingError as error:
            mappers.pop(name, None)
            broken[name] = str(error)
    return mappers, broken
