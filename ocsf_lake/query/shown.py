"""What a connection shows of a lake: its tables, views over them, and the ledger's, each by its names in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import duckdb
import pyarrow as pa

from ocsf_lake.catalogs import security_lake
from ocsf_lake.catalogs.base import Definition
from ocsf_lake.catalogs.definitions import (
    BESIDE,
    DUPLICATES,
    OUTCOMES,
    QUARANTINE,
    QUARANTINE_VIEW,
    definition,
    duplicate_views,
)
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import ledger, overview
from ocsf_lake.ledger.files import Chosen as FileChoice
from ocsf_lake.ledger.files import LakeFile
from ocsf_lake.query import failures, find, pruning
from ocsf_lake.query.known_files import KnownFiles
from ocsf_lake.storage import evolution, layout
from ocsf_mappers import duck, registry, sqltext
from ocsf_mappers.ocsf import tables

Chosen = Callable[[Lake, Mapping[str, FileChoice | None]], dict[str, list[LakeFile]]]
"""Gives the files of tables that a connection shows, of some of their partitions: see `Files.of`."""


def filled_tables(lake: Lake) -> list[str]:
    """The tables of events that have rows, and a source that knows their columns."""
    return [row.table for row in overview.tables(lake.ledger.engine) if row.table in registry.tables()]


def parts() -> dict[str, list[str]]:
    """What can be shown by itself -> words of which a statement has one when it reads something of it.

    Asked each time: a folder of sources may have been named since.
    """
    words = {QUARANTINE: [QUARANTINE], DUPLICATES: [DUPLICATES], find.VIEW: [find.VIEW]}
    words |= {f"ledger_{name}": [f"ledger_{name}"] for name in ledger.TABLES}
    for name, table in registry.tables().items():
        words[name] = [name, *([table.security_lake] if table.security_lake else [])]
        words[name] += [table.latest.view] if table.latest else []
    return words


def all_parts(statements: Sequence[str]) -> pruning.Parts:
    """All of `parts`; without rows where only names are asked for."""
    return dict.fromkeys(parts(), _none if pruning.only_names(statements) else None)


def _none(_: tuple[str, ...]) -> bool:
    return False


def part_of(name: str) -> str | None:
    """The table, ours, that a name in a query belongs to: its own, Security Lake's, or that of a view over it."""
    word = name.lower()
    if word in tables.shared():
        return word
    if (shared := security_lake.shared_table_of(word)) is not None:
        return shared  # of most queries: no source has to be loaded
    if word in parts():
        return word
    if word in ("quarantine_entries", OUTCOMES):
        return QUARANTINE
    for part, table in registry.tables().items():
        if word in (f"{part}_unique", f"{part}_repeated") or (table.latest and word == table.latest.view):
            return part
    return security_lake.table_of(word)


class Shown:
    """Views of a lake in a connection.

    Args:
        connection: Where they are made.
        lake: The lake.
        known_files: The file system of its files; None for local ones.
        parts: Which of `parts`, and which partitions of each.
        names: Names that are read, in lower case; other views are left out. None when that is not certain.
        columns: Columns of the ledger's tables that are read, in lower case; None for all.
        files: See `query.connect`.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, lake: Lake, known_files: KnownFiles | None, parts: pruning.Parts,
        names: set[str] | None, columns: set[str] | None = None, files: Chosen | None = None,
    ) -> None:  # fmt: skip
        self.connection = connection
        self.lake = lake
        self.known_files = known_files
        self.parts = parts
        self.names = names
        self.columns = columns
        self.paths: list[str] = []
        self.written: dict[str, str] = {}
        self.regional = True
        lake_parts = {
            name: chosen for name, chosen in parts.items() if not name.startswith("ledger_") and name != find.VIEW
        }
        if QUARANTINE in lake_parts:
            lake_parts[OUTCOMES] = lake_parts[QUARANTINE]
        # All at one moment: an event that a replay made and the entry that it closed are seen together or not at all.
        self._table_files = lake.files.of(lake_parts) if files is None else files(lake, lake_parts)
        self._duplicate_keys = lake.ledger.duplicate_keys()

    def part(self, name: str) -> None:
        """Shows one of `parts`."""
        if name in registry.tables():
            self._table(registry.table(name))
        elif name == QUARANTINE:
            self._files(definition(OUTCOMES))
            self._files(definition(QUARANTINE), "quarantine_entries")
            self.connection.execute(f"CREATE VIEW {QUARANTINE} AS {QUARANTINE_VIEW}")
        elif name == DUPLICATES:
            self._files(definition(DUPLICATES))
        elif name == find.VIEW:
            tables = [table for table in filled_tables(self.lake) if table in self.parts]
            self.connection.execute(f"CREATE VIEW {find.VIEW} AS {find.observables(tables)}")
        else:
            rows = self.parts[name] is not _none
            table = self.lake.ledger.shown(name.removeprefix("ledger_"), self.columns, rows=rows)
            self.connection.register(name, table)

    def _table(self, table: tables.Table) -> None:
        self._files(definition(table.name))
        for name, sql in self._views(table):
            if self.names is None or name in self.names:
                self.connection.execute(f"CREATE VIEW {sqltext.name(name)} AS {sql}")
        if table.security_lake is not None:
            self._regions(table.name, table.security_lake)

    def _views(self, table: tables.Table) -> Iterator[tuple[str, str]]:
        if table.security_lake is not None:
            yield table.security_lake, f"FROM {sqltext.name(table.name)}"
        if table.latest is not None:
            yield table.latest.view, latest_rows(table, table.latest)
        if key := self._duplicate_keys.get(table.name):
            yield from duplicate_views(table.name, key).items()

    def _regions(self, name: str, suffix: str) -> None:
        """Shows Security Lake's names of a table for each region that has events."""
        if not self.regional:  # of many regions a list of tables would show little else
            return
        if self.names is not None and not any(word.startswith(security_lake.GLUE_TABLE) for word in self.names):
            return
        regions = {partition.values[0] for partition in self.lake.files.partitions(name)} - {layout.UNKNOWN}
        for region in sorted(regions):
            schema, view = security_lake.names(region, suffix)
            if self.names is not None and view not in self.names:
                continue
            rows = f"SELECT * FROM {sqltext.name(name)} WHERE region = {sqltext.text(region)}"
            self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {sqltext.name(schema)}")
            self.connection.execute(f"CREATE VIEW {sqltext.name(view)} AS {rows}")
            self.connection.execute(
                f"CREATE VIEW {sqltext.name(schema)}.{sqltext.name(view)} AS FROM main.{sqltext.name(view)}"
            )

    def _files(self, table: Definition, name: str | None = None) -> None:
        """Shows a table's files under its own name or another."""
        store = self.lake.store
        place = store.path if store.is_local else store.uri
        files = self._table_files[table.name]
        if self.known_files is not None:
            self.known_files.add({place(file.path): file.bytes for file in files})
        groups: dict[str | None, list[str]] = {}
        # What lies beside the events has had the same columns in all versions.
        by_version = table.name not in BESIDE
        for file in files:
            path = place(file.path)
            self.paths.append(path)
            self.written[path] = file.sha256
            groups.setdefault(file.version if by_version else None, []).append(path)
        _create(self.connection, table, name or table.name, list(groups.values()), place(""))


def _create(
    connection: duckdb.DuckDBPyConnection, table: Definition, name: str, groups: Sequence[Sequence[str]], root: str
) -> None:
    """Makes the view of a table of the lake at `root`; files of a group have the same columns."""
    keys = [key for key in table.keys if key not in table.schema.names]
    # Not `empty_table()`, which imports pandas where that is installed.
    schema = pa.schema([*table.schema, *(pa.field(key, pa.string()) for key in keys)])
    empty = pa.Table.from_batches([], schema)
    if not groups:
        connection.register(name, empty)
        return

    def read(paths: Sequence[str]) -> str:
        return _from_names(table, keys, paths, len(root)) if "=" in root else _from_steps(table, keys, paths)

    with failures.translate_errors(lambda: [path for paths in groups for path in paths]), duck.interruptible():
        sql = evolution.select(connection, empty, groups, read)
        connection.execute(f"CREATE VIEW {sqltext.name(name)} AS {sql}")


def _from_steps(table: Definition, keys: Sequence[str], paths: Sequence[str]) -> str:
    """A table whose partition values are taken from the steps of the paths, as DuckDB does it."""
    types = ", ".join(f"{sqltext.name(layout.PATH_KEYS[key])}: VARCHAR" for key in table.keys)
    # A key that is a column too (region, accountid) keeps the column's place and name.
    renamed = ", ".join(f"{sqltext.name(layout.PATH_KEYS[key])} AS {sqltext.name(key)}" for key in keys)
    return (
        f"SELECT * RENAME ({renamed}) "
        f"FROM read_parquet({sqltext.texts(paths)}, hive_partitioning = true, hive_types = {{{types}}})"
    )


def _from_names(table: Definition, keys: Sequence[str], paths: Sequence[str], skipped: int) -> str:
    """A table whose partition values are taken from what stands behind the lake's root, see `_create`.

    DuckDB's own reading of paths takes every step with `=` for a partition, those above the lake too: below a folder
    `region=x/` all events would be of region x. This costs three times as much a file, so only such lakes pay it.
    """
    values = {}
    for number, key in enumerate(table.keys):
        step = table.prefix.count("/") + 2 + number
        name = f"regexp_replace(substr(filename, {skipped + 1}), '^{layout.COMPACTED}/', '')"
        text = f"split_part({name}, '/', {step})"
        values[key] = f"substr({text}, {len(layout.PATH_KEYS[key]) + 2}) AS {sqltext.name(key)}"
    replaced = [values[key] for key in table.keys if key not in keys]
    replacing = f" REPLACE ({', '.join(replaced)})" if replaced else ""
    key_columns = "".join(f", {values[key]}" for key in keys)
    return (
        f"SELECT * EXCLUDE (filename){replacing}{key_columns} "
        f"FROM read_parquet({sqltext.texts(paths)}, hive_partitioning = false, filename = true)"
    )


def latest_rows(table: tables.Table, latest: tables.Latest) -> str:
    """The newest row of each thing; the same rows give the same answer."""
    keys = ", ".join(_path(path) for path in latest.key)
    newest = ", ".join(f"{_path(path)} DESC NULLS LAST" for path in (*latest.newest, *tables.PROVENANCE.names))
    return (
        f"SELECT * FROM {sqltext.name(table.name)} "
        f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {newest}) = 1"
    )


def _path(path: str) -> str:
    return ".".join(sqltext.name(step) for step in path.split("."))
