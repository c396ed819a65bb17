"""Which partitions of which tables a query can read, derived from its text before any file is looked at.

DuckDB wants to know all files of a table before it leaves any out, which for a hundred thousand files takes longer than
most queries. So conditions on region, account, event day and time are applied to the list of files first. Nothing is
left out that a query could read: what is not understood narrows nothing, and the query itself still has its conditions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp

from ocsf_lake.catalogs import security_lake
from ocsf_lake.ledger.files import Chosen
from ocsf_lake.storage import layout
from ocsf_lake.storage.layout import Partition
from ocsf_lake.text import plural
from ocsf_mappers import duck, registry

Parts = dict[str, Chosen | None]
"""What a query reads -> which partitions of it; None for all."""

_KEYS: dict[tuple[str, ...], int] = {("region",): 0, ("accountid",): 1, ("eventday",): 2}
"""Columns that are the partition's own values."""

_BEHIND: dict[tuple[str, ...], int] = {("cloud", "region"): 0, ("cloud", "account", "uid"): 1}
"""Columns that a partition's value was taken from; where it could not stand in a path, that is `unknown`."""

_TIMES: dict[tuple[str, ...], str] = {("time_dt",): "TIMESTAMPTZ", ("time",): "BIGINT"}
_ONLY_NAMES = re.compile(r"\s*(?:SHOW\s+(?:ALL\s+)?TABLES|DESC(?:RIBE)?\s+[\w.\"]+)\s*;?\s*", re.IGNORECASE)
SHOWN_VALUES = 8
"""Regions and accounts are listed up to this number."""
_COMPARED: dict[type[exp.Expr], str] = {exp.EQ: "=", exp.LT: "<", exp.LTE: "<", exp.GT: ">", exp.GTE: ">"}
_MIRRORED = {"=": "=", "<": ">", ">": "<"}
_CONSTANT = (
    exp.Literal, exp.Cast, exp.TryCast, exp.DataType, exp.Interval, exp.Var, exp.Add, exp.Sub, exp.Mul, exp.Neg,
    exp.Paren, exp.Boolean, exp.UnixToTime, exp.TimestampTrunc, exp.DateTrunc, exp.StrToTime, exp.TimestampFromParts,
)  # fmt: skip
_NOW = (exp.CurrentTimestamp, exp.CurrentDate)
_NOW_NAMES = frozenset({"now", "today", "get_current_timestamp", "transaction_timestamp"})
_MAKES_TIMES = frozenset({"epoch_ms", "make_timestamptz"})

_OTHERWISE = ("pivots", "sample", "when", "joins", "laterals")
"""Parts of a table in a FROM with which a WHERE may not be about the table's own rows."""

_LISTS = (
    exp.Select, exp.From, exp.Table, exp.Identifier, exp.Alias, exp.Star, exp.Column, exp.Dot, exp.Bracket, exp.Literal,
    exp.Limit, exp.Offset, exp.Order, exp.Ordered,
)  # fmt: skip
"""Of nothing else is a query that gives rows of one table as they are."""

_Test = Callable[[tuple[str, ...]], bool]


@lru_cache(maxsize=32)
def _parsed(sql: str) -> tuple[exp.Expr, ...]:
    """The statements of a text, which is looked at several times until a lake is open; do not change them."""
    return tuple(tree for tree in sqlglot.parse(sql, read="duckdb") if tree is not None)


def parts(
    statements: Sequence[str], part_of: Callable[[str], str | None], parameters: Mapping[str, Any] | None = None,
    other_tables: Collection[str] = (),
) -> Parts | None:  # fmt: skip
    """What statements read, and which partitions of it.

    Args:
        statements: SQL; without any, what will be read is not known.
        part_of: Gives what is shown by itself for a name in a query, None for a name it does not know.
        parameters: Values of the statements' named parameters.
        other_tables: Names of tables that are no part of the lake.

    Returns:
        None where it is not certain which tables they read.
    """
    if not statements:
        return None
    tests_by_part: dict[str, list[_Test | None]] = {}
    try:
        trees = [tree for sql in statements for tree in _parsed(sql)]
    except (sqlglot.errors.SqlglotError, RecursionError):
        return None
    for tree in trees:
        if not isinstance(tree, exp.Query):
            return None
        other_names = {cte.alias.lower() for cte in tree.find_all(exp.CTE)} | {name.lower() for name in other_tables}
        narrowed = _narrowed(tree, parameters or {})
        for table in tree.find_all(exp.Table):
            part = part_of(table.name)
            if part is not None:
                tests_by_part.setdefault(part, []).append(_of_view(table.name.lower(), part, narrowed.get(id(table))))
            elif table.name.lower() not in other_names:
                return None
    return {part: _any(tests) if part in registry.tables() else None for part, tests in tests_by_part.items()}


def only_names(statements: Sequence[str]) -> bool:
    """Whether statements ask for the names of tables or columns, and read no rows."""
    return bool(statements) and all(_ONLY_NAMES.fullmatch(sql) for sql in statements)


@dataclass(frozen=True)
class FirstRows:
    """Rows of a table of events that a query is content with, whatever others there are.

    Args:
        rows: How many.
        latest: Whether they are the latest or the earliest; None for any.
    """

    rows: int
    latest: bool | None = None


def first_rows(statements: Sequence[str]) -> FirstRows | None:
    """What is enough for `FROM vpc_flow LIMIT 10`, or `FROM vpc_flow ORDER BY time_dt DESC LIMIT 10`.

    What is asked of the ledger beside it does not count.
    """
    try:
        trees = [tree for sql in statements for tree in _parsed(sql)]
    except (sqlglot.errors.SqlglotError, RecursionError):
        return None
    of_lake = [tree for tree in trees if not all(map(_is_of_ledger, tree.find_all(exp.Table)))]
    if len(trees) != len(statements) or len(of_lake) != 1:
        return None
    if not all(isinstance(node, _LISTS) for node in of_lake[0].walk()):
        return None
    limit, offset, order = (of_lake[0].args.get(name) for name in ("limit", "offset", "order"))
    if limit is None or not all(map(_is_of_events, of_lake[0].find_all(exp.Table))):
        return None
    counts = [part.expression for part in (limit, offset) if part is not None]
    if not all(count.is_int for count in counts):
        return None
    rows = sum(int(count.name) for count in counts)
    if order is None:
        return FirstRows(rows)
    return FirstRows(rows, bool(order.expressions[0].args.get("desc"))) if _is_by_time(of_lake[0], order) else None


def _is_by_time(select: exp.Expr, order: exp.Expr) -> bool:
    """Whether the time of events, whose day is that of the partition, decides before all else which rows are first."""
    first = order.expressions[0].this
    others = [node.alias_or_name for node in select.find_all(exp.Alias, exp.Dot)]
    others += [column.name for column in select.find_all(exp.Column) if column.table]
    return isinstance(first, exp.Column) and (first.name.lower(),) in _TIMES and not any(
        (name.lower(),) in _TIMES for name in others
    )


def _is_of_ledger(table: exp.Table) -> bool:
    return table.name.lower().startswith("ledger_")


def _is_of_events(table: exp.Table) -> bool:
    """Whether it is a table of events itself: the newest row of each thing, which views have, may be anywhere."""
    return security_lake.table_of(table.name) is not None


def _of_view(name: str, part: str, test: _Test | None) -> _Test | None:
    """What a condition on a view says of its table's partitions."""
    if name in (part, f"{part}_unique", f"{part}_repeated"):  # these look at one partition at a time
        return test
    suffix = registry.table(part).security_lake if part in registry.tables() else None
    if suffix is None or not name.endswith(suffix):
        return None  # the newest row of each thing may be in any partition
    words = security_lake.region_words(name, suffix)
    if words is None:
        return test
    return lambda values: values[0].replace("-", "_") == words and (test is None or test(values))


def _any(tests: Sequence[_Test | None]) -> Chosen | None:
    narrowing = [test for test in tests if test is not None]
    return (lambda values: any(test(values) for test in narrowing)) if len(narrowing) == len(tests) else None


def _narrowed(tree: exp.Query, parameters: Mapping[str, Any]) -> dict[int, _Test]:
    """A test of partitions for each table, by the id of its node, that stands in a FROM whose WHERE has a condition."""
    tests: dict[int, _Test] = {}
    constants = _Constants(parameters)
    for select in tree.find_all(exp.Select):
        condition, sources = select.args.get("where"), _sources(select)
        if condition is None or sources is None:
            continue
        alone = len(sources) == 1
        for source in sources:
            if isinstance(source, exp.Table) and not any(map(source.args.get, _OTHERWISE)) and not _renames(source):
                reader = _Reader(source.alias_or_name.lower(), alone, constants)
                tests[id(source)] = reader.test(condition.this)
    return tests


def _renames(table: exp.Table) -> bool:
    alias = table.args.get("alias")
    return bool(alias and alias.args.get("columns"))


def _sources(select: exp.Select) -> list[exp.Expr] | None:
    """What a SELECT reads from; None where rows of one may decide which of another's are taken."""
    origin = select.args.get("from_") or select.args.get("from")
    if origin is None or select.args.get("laterals"):
        return None
    joins = select.args.get("joins") or []
    if any(join.args.get("method") in ("ASOF", "POSITIONAL") or join.kind == "POSITIONAL" for join in joins):
        return None
    if isinstance(origin.this, exp.Table) and origin.this.args.get("joins"):
        return None
    return [origin.this, *(join.this for join in joins)]


class _Reader:
    """Reads a condition as a test of one table's partitions.

    Args:
        alias: What the table is called in the query.
        alone: Whether a name without a table must be one of its columns.
        constants: Gives the values of constant expressions.
    """

    def __init__(self, alias: str, alone: bool, constants: _Constants) -> None:
        self._alias = alias
        self._alone = alone
        self._constants = constants

    def test(self, condition: exp.Expr) -> _Test:
        """The test; always true for what it does not understand."""
        if isinstance(condition, exp.Paren):
            return self.test(condition.this)
        if isinstance(condition, exp.And | exp.Or):
            tests = [self.test(part) for part in condition.flatten()]
            if isinstance(condition, exp.And):
                return lambda values: all(test(values) for test in tests)
            return lambda values: any(test(values) for test in tests)
        if isinstance(condition, exp.Between):
            low = self._compared(condition.this, ">", condition.args["low"])
            high = self._compared(condition.this, "<", condition.args["high"])
            return lambda values: low(values) and high(values)
        if isinstance(condition, exp.In) and condition.expressions:
            tests = [self._compared(condition.this, "=", item) for item in condition.expressions]
            return lambda values: any(test(values) for test in tests)
        if (sign := _COMPARED.get(type(condition))) is not None:
            left, right = condition.this, condition.expression
            if self._path(left) is None:
                left, right, sign = right, left, _MIRRORED[sign]
            return self._compared(left, sign, right)
        return _always

    def _compared(self, column: exp.Expr, sign: str, constant: exp.Expr) -> _Test:
        path = self._path(column) or ()
        is_day = isinstance(column, exp.Cast)
        if path in _KEYS or path in _BEHIND:
            value = self._constants.text(constant)
            if value is None or (path in _BEHIND and sign != "="):
                return _always
            if path in _BEHIND:
                number = _BEHIND[path]
                return lambda values: values[number] in (value, layout.UNKNOWN)
            number = _KEYS[path]
            # Bounds are taken as part of the range: a partition too many is no harm.
            if sign == "=":
                return lambda values: values[number] == value
            return (lambda values: values[number] >= value) if sign == ">" else (lambda values: values[number] <= value)
        if path in _TIMES and (days := self._constants.days(constant, _TIMES[path], is_day=is_day)) is not None:
            first, last = days
            lowest = "" if sign == "<" else first
            highest = "99999999" if sign == ">" else last
            return lambda values: values[2] == layout.UNKNOWN or lowest <= values[2] <= highest
        return _always

    def _path(self, expression: exp.Expr) -> tuple[str, ...] | None:
        """The steps of a column of the table, in lower case."""
        if isinstance(expression, exp.Cast) and expression.to.is_type("date"):
            inner = self._path(expression.this)
            return inner if inner == ("time_dt",) else None  # the day of a time is in the same partition
        if not isinstance(expression, exp.Column | exp.Dot):
            return None
        innermost: exp.Expr = expression
        while isinstance(innermost, exp.Dot) and isinstance(innermost.expression, exp.Identifier):
            innermost = innermost.this
        if not isinstance(innermost, exp.Column):  # a member of what a function gives, say
            return None
        steps = tuple(part.name.lower() for part in expression.parts)
        if len(steps) > 1 and steps[0] == self._alias:
            return steps[1:]
        return steps if self._alone else None


def _always(_: tuple[str, ...]) -> bool:
    return True


class _Constants:
    """Values of constant expressions.

    Args:
        parameters: Values of named parameters.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._connection: duckdb.DuckDBPyConnection | None = None

    def text(self, expression: exp.Expr) -> str | None:
        """The value of an expression that is a text."""
        if isinstance(expression, exp.Literal) and expression.is_string:
            return str(expression.this)
        value = self._parameter(expression)
        return value if isinstance(value, str) else None

    def days(self, expression: exp.Expr, kind: str, *, is_day: bool = False) -> tuple[str, str] | None:
        """The first and last day, `YYYYMMDD`, that a point in time may be on.

        Args:
            expression: The point in time.
            kind: The type it is compared as: TIMESTAMPTZ, or BIGINT for milliseconds since 1970.
            is_day: Whether it is compared with a day: then `2026-03-17 23:30-05` may be the 17th, or the 18th in UTC.
        """
        value = self._parameter(expression)
        if value is not None:
            moments = [_moment(value)]
        elif _is_constant(expression):
            moments = [self._evaluated(expression, read_as) for read_as in ([kind, "DATE"] if is_day else [kind])]
        else:
            return None
        evaluated = [moment for moment in moments if moment is not None]
        if len(evaluated) < len(moments):
            return None
        # The query asks the clock after us, perhaps on another day.
        slack = timedelta(days=1 if any(map(_is_now, expression.walk())) else 0)
        try:
            first, last = min(evaluated) - slack, max(evaluated) + slack
        except OverflowError:
            return None
        return (first.strftime("%Y%m%d"), last.strftime("%Y%m%d")) if first.year >= 1970 else None

    def _parameter(self, expression: exp.Expr) -> Any:
        if isinstance(expression, exp.Parameter | exp.Placeholder):
            return self._parameters.get(expression.name)
        return None

    def _evaluated(self, expression: exp.Expr, kind: str) -> datetime | None:
        if kind == "BIGINT" and isinstance(expression, exp.Literal) and expression.is_int:
            return _moment(int(expression.name))  # of which there are most, and DuckDB takes a while to begin
        if self._connection is None:
            self._connection = duck.connect()
            self._connection.execute("SET TimeZone = 'UTC'")
        sql = f"CAST(({expression.sql('duckdb')}) AS {kind})"
        point = sql if kind == "BIGINT" else f"epoch_ms({sql})"
        try:
            ((millis,),) = self._connection.execute(f"SELECT {point}").fetchall()
            return None if millis is None else datetime.fromtimestamp(millis / 1000, UTC)
        except (duckdb.Error, OverflowError, ValueError, OSError):
            return None


def _moment(value: Any) -> datetime | None:
    try:
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        if isinstance(value, int) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return None


def _is_constant(expression: exp.Expr) -> bool:
    """Whether an expression has the same value for every row, and is made of nothing that is not known here."""
    nodes = list(expression.walk())
    if any(map(_is_now, nodes)) and any(map(_is_of_weeks, nodes)):
        return False  # a moment later it may be the next month, or year
    return all(isinstance(node, _CONSTANT) or _is_now(node) or _makes_time(node) for node in nodes)


def _is_now(node: exp.Expr) -> bool:
    return isinstance(node, _NOW) or (isinstance(node, exp.Anonymous) and node.name.lower() in _NOW_NAMES)


def _is_of_weeks(node: exp.Expr) -> bool:
    unit = node.text("unit").upper()
    return isinstance(node, exp.TimestampTrunc | exp.DateTrunc) and unit not in ("DAY", "HOUR", "MINUTE", "SECOND")


def _makes_time(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.lower() in _MAKES_TIMES


def nothing_left(
    parts: Parts, partitions: Callable[[str], Sequence[Partition]],
    gone: Callable[[str], Mapping[tuple[str, ...], int]] = lambda _: {},
) -> Iterator[str]:  # fmt: skip
    """Why an answer is empty, where no partition meets a query's conditions: what there is instead, and what went.

    Args:
        parts: What the query reads.
        partitions: Gives the partitions of a table.
        gone: Gives those that retention emptied, with the number of their events.
    """
    for name, chosen in parts.items():
        if name not in registry.tables():
            continue
        present = [partition.values for partition in partitions(name)]
        if present and (chosen is None or any(map(chosen, present))):
            continue
        went = {values: rows for values, rows in gone(name).items() if chosen is None or chosen(values)}
        if went:
            days = sorted({values[2] for values in went})
            yield (
                f"{plural(sum(went.values()), 'event')} of {name} asked for were removed by retention, of eventday "
                f"{days[0]} to {days[-1]}; table ledger_retained says by which rule"
            )
        elif not present:
            yield f"{name} has no events so far"
        else:
            regions, accounts, days = (sorted({values[number] for values in present}) for number in range(3))
            dated = [day for day in days if day != layout.UNKNOWN] or days
            yield (
                f"{name} has no events of that region, account and time; it has those of {_some(regions, 'region')}, "
                f"{_some(accounts, 'account')}, eventday {dated[0]} to {dated[-1]}"
            )


def lost(parts: Parts, written_off: Callable[[str], Mapping[tuple[str, ...], int]]) -> Iterator[str]:
    """What was lost of what a query asks for.

    Args:
        parts: What it reads.
        written_off: Gives the partitions of a table that have lost events, with their number.
    """
    for name, chosen in parts.items():
        went = {values: rows for values, rows in written_off(name).items() if chosen is None or chosen(values)}
        if went:
            yield (
                f"the answer may lack {plural(sum(went.values()), 'row')} of {name}, lost and written off; table "
                "ledger_written_off says which files, why and by whom"
            )


def _some(values: Sequence[str], noun: str) -> str:
    if len(values) > SHOWN_VALUES:
        return f"{len(values):,} {noun}s"
    return f"{noun}{'s' if len(values) > 1 else ''} {', '.join(values)}"


def names(statements: Sequence[str]) -> Iterator[str]:
    """The names of tables in statements, in lower case."""
    for sql in statements:
        for tree in _parsed(sql):
            for table in tree.find_all(exp.Table):
                yield table.name.lower()


def columns(statements: Sequence[str]) -> set[str] | None:
    """The names that stand in statements, of columns and all else, in lower case; None where all columns are read."""
    identifiers: set[str] = set()
    for sql in statements:
        for tree in _parsed(sql):
            tables_named = {name.lower() for table in tree.find_all(exp.Table) for name in (table.name, table.alias)}
            if any(_reads_all(node, tables_named) for node in tree.walk()):
                return None
            identifiers |= {node.name.lower() for node in tree.find_all(exp.Identifier)}
    return identifiers


def _reads_all(node: exp.Expr, table_names: set[str]) -> bool:
    if isinstance(node, exp.Star):
        return not isinstance(node.parent, exp.Count)
    if isinstance(node, exp.Join):
        return node.args.get("method") == "NATURAL"
    if isinstance(node, exp.Column):
        return node.name.lower() in table_names  # a whole row, as a structure
    if isinstance(node, exp.TableAlias):
        return bool(node.columns)  # names by place
    return isinstance(node, exp.Columns | exp.Pivot | exp.PositionalColumn | exp.Describe | exp.Summarize)
