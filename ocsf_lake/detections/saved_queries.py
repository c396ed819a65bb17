"""Saved queries that cannot find anything: files of SQL, for dashboards and schedules, checked before they are trusted.

Each statement is bound to the lake's tables without a row of them, which finds names that are not there; then its
conditions are held against OCSF, AWS's models and each other, see `saved_values`. DuckDB's dialect is tried first, then
Athena's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from ocsf_lake.config import Settings
from ocsf_lake.detections import check, saved_values
from ocsf_lake.detections.check import ERROR, WARNING, Checked, Names
from ocsf_lake.detections.rules import MOST_BYTES, Rule
from ocsf_lake.lake import exists, opened
from ocsf_lake.query import guesses, lint, query, shown
from ocsf_mappers import registry, temporary
from ocsf_mappers.errors import ConfigError, OcsfMappersError

SUFFIX = ".sql"
DIALECTS = {"duckdb": "DuckDB", "trino": "Athena"}
"""sqlglot's names -> how people call them, in the order in which they are tried."""
_READING = (exp.Pivot, exp.Describe, exp.Summarize, exp.Show)
"""Statements that read, and whose conditions are not understood."""
Read = tuple[exp.Expr, str]
"""A statement, and the dialect in which it was read."""
_NO_TABLES: Mapping[str, pa.Table] = {}
_MISSING = ("Catalog Error: Table", "does not exist")
_NO_COLUMN = (
    "Referenced column", "Referenced table", "Could not find key", "does not have a column", "not found in struct",
)  # fmt: skip
"""Pieces of DuckDB's errors about names that are not there."""
_NO_FUNCTION = ("Function with name", "No function matches", "Parser Error")
"""Pieces of its errors about what another engine may have."""


def files(paths: Sequence[Path]) -> list[Path]:
    """The files of SQL among some files, and in some folders and the folders in them, sorted."""
    unique: dict[Path, None] = {}
    for path in paths:
        below = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
        unique |= {file: None for file in below if file.is_file() and file.suffix.lower() == SUFFIX}
    return list(unique)


def check_files(
    settings: Settings, paths: Sequence[Path], last_days: Mapping[str, str] | None = None, seen: Names = frozenset(),
    own_tables: Mapping[str, pa.Table] = _NO_TABLES,
) -> list[Checked]:  # fmt: skip
    """Checks the statements of files, one by one.

    Args:
        settings: The lake that they are for; it need not be there.
        paths: The files.
        last_days: Table -> the latest day of which the lake has events, `YYYYMMDD`; None where there is no lake.
        seen: Services and operations that the lake has, so that nobody calls them unknown.
        own_tables: Tables of the caller, beside the lake's.
    """
    results: list[Checked] = []
    with temporary.directory("queries") as folder:
        # Whether names are there can be checked without the lake; with it, those of its own views count, too.
        scratch = Settings.model_construct(lake=str(Path(folder, "lake")), ocsf_version=settings.ocsf_version)
        if not exists(settings):
            with opened(scratch):
                pass
        binder = _Binder(settings if exists(settings) else scratch, own_tables)
        with closing(binder):
            for path in paths:
                for checked, ways in _statements(path):
                    results.append(checked)
                    if ways:
                        _assess(checked, ways, binder, last_days, seen)
    return results


class _Binder:
    """Checks whether names are there, in a lake whose tables are shown once for all statements, without rows.

    Args:
        settings: The lake.
        own_tables: Tables of the caller.
    """

    def __init__(self, settings: Settings, own_tables: Mapping[str, pa.Table]) -> None:
        self.settings = settings
        self.own_tables = own_tables
        self._connection: duckdb.DuckDBPyConnection | None = None

    def bind(self, sql: str) -> None:
        """Looks for what a query names; raises an error of DuckDB where it is not there."""
        if self._connection is None:
            # No file is opened: whether there are rows does not matter.
            self._connection = query.connect(
                self.settings, extra_tables=self.own_tables, files=lambda _, tables: {name: [] for name in tables}
            )
        try:
            self._connection.execute(f"EXPLAIN {sql}")
        except (duckdb.FatalException, duckdb.InternalException):
            self.close()  # it would refuse every other statement
            raise

    def close(self) -> None:
        """Leaves the lake, until something else is asked."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def unknown_names(paths: Sequence[Path]) -> Names:
    """Unknown services and operations that queries look for, see `check.unknown_names`."""
    names: set[tuple[str, str]] = set()
    for path in paths:
        for _, ways in _statements(path):
            names |= {call for tree, _ in ways for call in saved_values.unknown_calls(tree)}
    return frozenset(names)


def _statements(path: Path) -> Iterator[tuple[Checked, list[Read]]]:
    """Each statement of a file, as it can be read; the one that it is most likely meant as comes first."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        yield _refused(path, f"cannot be read: {error}"), []
        return
    read: list[list[Read]] = []
    reasons = []
    for dialect, name in DIALECTS.items():
        try:
            trees = [tree for tree in sqlglot.parse(text, read=dialect) if tree is not None]
        except (sqlglot.errors.SqlglotError, RecursionError) as error:
            reasons.append(f"{name}: {str(error).splitlines()[0] if str(error) else 'it is too deep'}")
            continue
        # what stands after the last one may be a comment
        read.append([(tree, dialect) for tree in trees if not isinstance(tree, exp.Semicolon)])
    if not read:
        yield _refused(path, f"cannot be read as SQL: {'; '.join(reasons)[:500]}"), []
    elif not read[0]:
        yield _refused(path, "there is no query in it"), []
    else:
        read = [some for some in read if len(some) == len(read[0])]
        for number, ways in enumerate(zip(*read, strict=True)):
            checked = _checked(path, number, len(read[0]))
            if all(isinstance(tree, exp.Query) for tree, _ in ways):
                yield checked, list(ways)
            elif any(isinstance(tree, _READING) for tree, _ in ways):
                checked.add(WARNING, "not looked at: only SELECT is")
                yield checked, []
            else:
                checked.add(ERROR, "it is not a query: a lake takes only statements that read")
                yield checked, []


def _refused(path: Path, reason: str) -> Checked:
    checked = _checked(path, 0, 1)
    checked.add(ERROR, reason)
    return checked


def _checked(path: Path, number: int, of: int) -> Checked:
    title = f"{path.name}#{number + 1}" if of > 1 else path.name
    return Checked(Rule(path, title=title, key=title))


def _assess(
    checked: Checked, ways: Sequence[Read], binder: _Binder, last_days: Mapping[str, str] | None, seen: Names
) -> None:
    bound = [(tree, _unbound(tree, dialect, binder)) for tree, dialect in ways]
    # In the first dialect in which it can be asked. Else Athena's reason counts, unless each has an error.
    asked = next((one for one in bound if one[1] is None), None)
    tree, reason = asked or (bound[0] if all(one[1] and one[1][0] == ERROR for one in bound) else bound[-1])
    if reason is not None:
        checked.add(*reason)
    if reason is None or reason[0] == WARNING:
        judged = saved_values.Judge(binder.settings.ocsf_version, seen).query(tree)
        if judged.is_dead:
            checked.add(ERROR, f"can never find anything: {'; '.join(judged.reasons[: check.SHOWN])}")
        else:
            for message in judged.reasons:
                checked.add(WARNING, f"a part can never hold: {message}")
        for notice in judged.notices:
            checked.add(WARNING, notice)
    parts = {part for table in lint.tables(tree) if (part := shown.part_of(table.name)) is not None}
    if last_days is not None:
        for part in sorted(parts & set(registry.tables())):
            check.assess_tables(checked, [part], last_days)


def _unbound(tree: exp.Expr, dialect: str, binder: _Binder) -> tuple[str, str] | None:
    """What of a query's names is not there; None where all are."""
    tree = tree.copy() if dialect == "duckdb" else tree.transform(_any_match)
    own_names = {lint.COVERAGE, *(name.lower() for name in binder.own_tables)}
    for parameter in list(tree.find_all(exp.Parameter, exp.Placeholder)):
        parameter.replace(exp.Null())
    for table in list(lint.tables(tree)):
        part = shown.part_of(table.name)
        if part in registry.tables() and part != table.name.lower() and _is_of_security_lake(table.name):
            alias = table.alias or table.name
            renamed = exp.alias_(exp.to_table(str(part)), alias, table=True)
            table.replace(renamed)
        elif part is None and table.name.lower() not in own_names:
            names = [name for words in shown.parts().values() for name in words]
            return ERROR, f"{guesses.no_table(table.name, names)}; --with names own ones"
    if any(table.name.lower() == lint.COVERAGE for table in lint.tables(tree)):
        return None  # it is made when it is read
    try:
        binder.bind(tree.sql(dialect="duckdb"))
    except (duckdb.Error, OcsfMappersError, sqlglot.errors.SqlglotError) as error:
        text = " ".join(str(error).split("\nLINE ")[0].split())
        is_name = any(piece in text for piece in _NO_COLUMN) or all(piece in text for piece in _MISSING)
        if not is_name and any(piece in text for piece in _NO_FUNCTION):
            return WARNING, f"cannot be asked in DuckDB, and so was looked at in part: {text[:300]}"
        return ERROR, f"cannot be asked: {text[:500]}"
    return None


def _any_match(node: exp.Expr) -> exp.Expr:
    """Trino's `any_match`, for which sqlglot has no word of DuckDB, as a filtered list that is not empty."""
    if isinstance(node, exp.Anonymous) and node.name.lower() == "any_match":
        count = exp.func("len", exp.func("list_filter", *node.expressions, dialect="duckdb"))
        return exp.GT(this=count, expression=exp.Literal.number(0))
    return node


def _is_of_security_lake(name: str) -> bool:
    """Whether it is a name of Security Lake, for one region or all: our table has those columns, in every region."""
    return shown.part_of(name) is not None and name.lower() not in shown.parts()


def of_paths(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Paths that are for saved queries, and those that are for Sigma rules; a folder may be both.

    Raises:
        ConfigError: One is not there, or neither has a rule nor a query.
    """
    queries, rules_in = files(paths), []
    for path in paths:
        if not path.exists():
            raise ConfigError(f"there is no file or folder {str(path)!r}")
        has_rules = path.suffix.lower() != SUFFIX if path.is_file() else any(
            file.suffix.lower() in (".yml", ".yaml") for file in path.rglob("*")
        )  # fmt: skip
        if has_rules:
            rules_in.append(path)
        elif not files([path]):
            raise ConfigError(f"{str(path)!r} has neither rules (.yml) nor queries ({SUFFIX})")
    return queries, rules_in
