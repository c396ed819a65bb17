"""What is wrong with a query before it is run: conditions that no row can meet, and times that do not narrow it.

Athena charges for what a query reads, and a query that asks for a word the lake never writes returns nothing and says
nothing. Each finding comes with the condition as it was meant, and the whole query corrected.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import sqlglot
from sqlglot import exp

from ocsf_lake.catalogs import security_lake
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.ocsf import schema

PRUNING = ("time_dt", "time", "eventday", "region", "accountid")
"""Columns of partitions, and of times by which files are sorted."""

NO_SUCH_VALUE = "no-such-value"
"""Rule of conditions that no row meets: a query with one returns nothing, and no error."""

OTHER_DAYS = "other-days"
"""Rule of bounds of event days that bound other days than was meant: a query with one may return the wrong rows."""

OTHER_TIMES = "other-times"
"""Rule of `time` held against another unit than its milliseconds: a query may return the wrong rows, or fail."""

OTHER_ADDRESSES = "other-addresses"
"""Rule of bounds of addresses, which are text: a query with one may return the wrong rows."""

NO_SUCH_TABLE = "no-such-table"
"""Rule of tables that no lake has."""

COVERAGE = "coverage"
"""Name of the table that is made when a query reads it."""

RAW_WORDS: Mapping[str, Mapping[str, str]] = {
    "action": {"ACCEPT": "Allowed", "REJECT": "Denied", "BLOCK": "Denied", "ALLOW": "Allowed"},
    "disposition": {"ACCEPT": "Allowed", "REJECT": "Blocked", "BLOCK": "Blocked"},
    "activity_name": {"ACCEPT": "Traffic", "REJECT": "Refuse"},
    "direction": {"ingress": "Inbound", "egress": "Outbound"},
    "status": {"failed": "Failure", "succeeded": "Success", "ok": "Success", "error": "Failure"},
}
"""Column -> word of the raw logs, in any case -> what the lake has instead."""

_CAPTIONS = {
    "status": "status_id", "severity": "severity_id", "action": "action_id", "disposition": "disposition_id",
    "activity_name": "activity_id", "direction": "direction_id", "rcode": "rcode_id", "boundary": "boundary_id",
}  # fmt: skip
"""Column with a caption -> attribute with the captions."""
_IDS = {attribute: column for column, attribute in _CAPTIONS.items()}
CLOSED = frozenset(_CAPTIONS)
"""Columns that have captions alone."""

_CONCERNED = re.compile(
    rf"\b({'|'.join(sorted(CLOSED))}|eventday|time)\b|\bip\b[\"\s]*([<>]|(not\s+)?between\b)", re.IGNORECASE
)

_CLASSES = (
    "api_activity", "authentication", "account_change", "network_activity", "dns_activity", "detection_finding",
    "http_activity", "datastore_activity", "compliance_finding", "vulnerability_finding", "entity_management",
    "group_management",
)  # fmt: skip
"""Those of our sources; looking for them would load every source."""
_RANGES = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)
_SECONDS = range(10**8, 10**11)
"""Numbers that are a time of some year after 1973 in seconds, and none of these years in milliseconds."""
_DASHED_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_NETWORK = re.compile(r"[0-9a-fA-F.:]+/\d+")
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:]*")
NETWORKS = (
    "those of a network are in_network(src_endpoint.ip, '10.1.0.0/16'), in Athena "
    "contains('10.1.0.0/16', TRY_CAST(src_endpoint.ip AS IPADDRESS)), and |cidr in rules"
)
"""How networks are asked for."""


@dataclass(frozen=True)
class Hint:
    """Something wrong with a query.

    Args:
        rule: A word for it.
        says: What it means.
        instead: The condition as it should be; "" where that is for the author to say.
        counts_with_rows: Whether an answer that has rows is wrong by it, too: other days or times, or a word of raw
            logs in a column of the lake.
    """

    rule: str
    says: str
    instead: str = ""
    counts_with_rows: bool = False

    def explains(self, *, is_empty: bool) -> bool:
        """Whether it may be why an answer has no rows, or the wrong ones."""
        return self.counts_with_rows or (is_empty and self.rule == NO_SUCH_VALUE)

    def lines(self) -> list[str]:
        """It in words, to be printed."""
        return [f"{self.rule}: {self.says}", *([f"  {self.instead}"] if self.instead else [])]


@dataclass(frozen=True)
class Report:
    """What a query would do.

    Args:
        findings: What is wrong.
        corrected: The query with every condition as it should be; the same query where nothing can be corrected.
    """

    findings: Sequence[Hint]
    corrected: str


def concerns(sql: str) -> bool:
    """Whether a query may name a column by which rows can be wrong, see `Hint.counts_with_rows`; at once."""
    return _CONCERNED.search(sql) is not None


def lint(sql: str, dialect: str = "trino", *, every_table: bool = False) -> Report:
    """Looks at one query.

    Args:
        sql: One statement.
        dialect: sqlglot's name of the dialect: `trino` for Athena, `duckdb` for `ocsf-lake query`.
        every_table: Whether each table has to be one that a lake has; else others may be meant.

    Raises:
        ConfigError: It is no SQL of that dialect.
    """
    try:
        tree = sqlglot.parse_one(sql, read=dialect)
    except sqlglot.errors.SqlglotError as error:
        raise ConfigError(f"the query cannot be read: {error}") from error
    if isinstance(tree, exp.Condition | exp.Alias):  # a name by itself, that of a file, say, is an expression
        raise ConfigError(f"{sql!r} is no query; `ocsf-lake rules check FILE` looks at those saved in .sql files")
    findings: list[Hint] = []
    for select in list(tree.find_all(exp.Select)):
        if any(security_lake.table_of(table.name) for table in _own_tables(select)):
            findings += _unpruned(select, dialect)
    of_lake = any(security_lake.table_of(table.name) for table in tree.find_all(exp.Table))
    for comparison in list(tree.find_all(exp.EQ, exp.NEQ, exp.In, exp.Like)) if of_lake else ():
        findings += _words(comparison, dialect)
    for bounded in list(tree.find_all(*_RANGES)):
        findings += _days(bounded, dialect)
        findings += _times(bounded, dialect)
        findings += _addresses(bounded)
    corrected = tree.sql(dialect=dialect) if findings else sql
    return Report([*(_unknown(tree) if every_table else ()), *findings], corrected)


def explanations(sql: str, dialect: str, *, is_empty: bool) -> list[str]:
    """Lines that say why an answer is empty or wrong, as far as the query itself shows it.

    Args:
        sql: One statement, which the engine could read; of one that only we cannot read, nothing is said.
        dialect: As for `lint`.
        is_empty: Whether there are no rows; else only what makes rows wrong is said.
    """
    try:
        findings = lint(sql, dialect).findings
    except (ConfigError, RecursionError):
        return []
    return [line for finding in findings if finding.explains(is_empty=is_empty) for line in finding.lines()]


def tables(tree: exp.Expr) -> Iterator[exp.Table]:
    """The tables that a query names, without those that it makes itself, functions and files."""
    own = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Identifier) and (table.db or table.name.lower() not in own):
            yield table


def _unknown(tree: exp.Expr) -> Iterator[Hint]:
    """Of tables that no lake has; those of another database, and files, are not the lake's."""
    asked = (table.name for table in tables(tree) if not table.db and re.fullmatch(r"\w+", table.name))
    if unknown := [name for name in dict.fromkeys(asked) if security_lake.table_of(name) is None]:
        from ocsf_lake.query import guesses, shown  # which loads the ledger: only where a name is unknown

        names = [name for words in shown.parts().values() for name in words]
        for name in unknown:
            if shown.part_of(name) is None and name.lower() != COVERAGE:
                yield Hint(NO_SUCH_TABLE, guesses.no_table(name, names))


def _own_tables(select: exp.Select) -> Iterator[exp.Table]:
    """The tables of a SELECT itself, not those of queries within it."""
    yield from (source for source in _sources(select) if isinstance(source, exp.Table))


def _sources(select: exp.Select) -> list[exp.Expr]:
    """What a SELECT reads: tables, queries, functions, values."""
    clauses = [select.args.get("from_") or select.args.get("from"), *(select.args.get("joins") or [])]
    return [clause.this for clause in clauses if clause is not None]


def _of_lake(condition: exp.Expr) -> list[str] | None:
    """The names by which a condition's own SELECT calls the lake's tables; None where it reads anything else.

    What stands behind GROUP BY may be of other columns with the names of the lake's.
    """
    select = condition.find_ancestor(exp.Select)
    behind = condition.find_ancestor(exp.Select, exp.Having, exp.Qualify, exp.Order)
    if select is None or behind is not select or select.args.get("laterals"):
        return None
    named = {cte.alias.lower() for cte in select.root().find_all(exp.CTE)}
    tables = list(_own_tables(select))
    of_lake = [table.name.lower() not in named and bool(security_lake.table_of(table.name)) for table in tables]
    if not tables or len(tables) < len(_sources(select)) or not all(of_lake):
        return None
    return [name.lower() for table in tables for name in (table.name, table.alias) if name]


# -- times and partitions ---------------------------------------------------------------------------------------------
def _unpruned(select: exp.Select, dialect: str) -> Iterator[Hint]:
    where = select.args.get("where")
    condition = where.this if where is not None else None
    if condition is None or not _prunes(condition):
        reason = f"no condition on {', '.join(PRUNING[:3])}, region or accountid: every file of the table is read"
        if condition is not None and (bound := _defeated(condition)):
            suggestion = _bracketed(condition, bound)
            condition.replace(suggestion)
            reason = "OR binds weaker than AND: one side has no condition on time or partition and reads every file"
            yield Hint("or-defeats-pruning", reason, suggestion.sql(dialect=dialect))
            return
        yield Hint("no-pruning", reason, "AND time_dt > current_timestamp - INTERVAL '7' DAY")


def _prunes(condition: exp.Expr) -> bool:
    """Whether a condition narrows times or partitions whatever its other parts say."""
    condition = condition.unnest()
    if isinstance(condition, exp.And):
        return _prunes(condition.left) or _prunes(condition.right)
    if isinstance(condition, exp.Or):
        return _prunes(condition.left) and _prunes(condition.right)
    return _bounds(condition)


def _bounds(condition: exp.Expr) -> bool:
    kinds = (exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Like)
    if not isinstance(condition, kinds):
        return False
    sides = [condition.this, condition.args.get("expression")]
    return any(isinstance(side, exp.Column) and _path(side) in PRUNING for side in sides)


def prunes_by(column: exp.Column) -> bool:
    """Whether conditions on a column leave out whole files or row groups."""
    return _path(column) in PRUNING


def _defeated(condition: exp.Expr) -> list[exp.Expr]:
    """The bounds in an arm of an OR that the other arms lack."""
    condition = condition.unnest()
    if not isinstance(condition, exp.Or):
        return []
    return [part for arm in condition.flatten() for part in _conjuncts(arm) if _bounds(part)]


def _conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    condition = condition.unnest()
    return [part.unnest() for part in condition.flatten()] if isinstance(condition, exp.And) else [condition]


def _bracketed(condition: exp.Expr, bounds: Sequence[exp.Expr]) -> exp.Expr:
    """The bounds for all arms, and the arms without them in brackets."""
    arms = []
    for arm in condition.unnest().flatten():
        others = [part.copy() for part in _conjuncts(arm) if part not in bounds]
        if others:
            arms.append(exp.and_(*others))
    unique = list({bound.sql(): bound.copy() for bound in bounds}.values())
    return exp.and_(*unique, exp.or_(*arms)) if arms else exp.and_(*unique)


# -- words ------------------------------------------------------------------------------------------------------------
def _words(comparison: exp.Expr, dialect: str) -> Iterator[Hint]:
    column = comparison.this
    if not isinstance(column, exp.Column | exp.Dot):
        return
    path = _path(column)
    literals = comparison.expressions if isinstance(comparison, exp.In) else [comparison.args.get("expression")]
    for literal in literals:
        if not isinstance(literal, exp.Literal) or "%" in literal.name:
            continue
        if mistake := wrong(path, literal):
            reason, corrected = mistake
            if corrected is not None:
                literal.replace(exp.Literal.string(corrected))
            suggestion = comparison.sql(dialect=dialect) if corrected is not None else ""
            yield Hint(NO_SUCH_VALUE, f"{path}: {reason}", suggestion, corrected is not None and _is_closed(comparison))


def _is_closed(comparison: exp.Expr) -> bool:
    """Whether a comparison is of a column of events that has captions alone; objects may have members of its name."""
    column, tables = comparison.this, _of_lake(comparison)
    if tables is None or not isinstance(column, exp.Column):
        return False
    parts = [part.name.lower() for part in column.parts]
    path = ".".join(parts[1:] if len(parts) > 1 and parts[0] in tables else parts)
    return path in CLOSED or path == "connection_info.direction"


def _days(comparison: exp.Expr, dialect: str) -> Iterator[Hint]:
    """Numbers, and days with dashes, as bounds of event days: a dash sorts before digits, so they bound other days."""
    parts = [part for part in map(comparison.args.get, ("this", "expression", "low", "high")) if part is not None]
    if not any(isinstance(part, exp.Column) and _path(part) == "eventday" for part in parts):
        return
    literals = [part for part in parts if isinstance(part, exp.Literal)]
    mistakes = [(literal, mistake) for literal in literals if (mistake := wrong("eventday", literal))]
    for literal, (_, corrected) in mistakes:
        literal.replace(exp.Literal.string(corrected))
    for _, (reason, _) in mistakes[:1]:
        yield Hint(OTHER_DAYS, f"eventday: {reason}", comparison.sql(dialect=dialect), True)


def _times(comparison: exp.Expr, dialect: str) -> Iterator[Hint]:
    """Seconds, and times written as text, as bounds of `time`, which is in milliseconds."""
    parts = [part for part in map(comparison.args.get, ("this", "expression", "low", "high")) if part is not None]
    columns = [part for part in parts if isinstance(part, exp.Column) and _path(part) == "time"]
    literals = [part for part in parts if isinstance(part, exp.Literal)]
    seconds = [part for part in literals if part.name.isdecimal() and int(part.name) in _SECONDS]
    written = [part for part in literals if part.is_string and _DASHED_DAY.match(part.name)]
    if not columns or not (seconds or written) or _of_lake(comparison) is None:
        return
    reason = "time is in milliseconds since 1970; time_dt is the same as a timestamp"
    if seconds and written:
        yield Hint(OTHER_TIMES, reason, "", True)
        return
    for part in seconds:
        part.replace(exp.Literal.number(f"{part.name}000"))
    for part in written:
        part.replace(exp.cast(part.copy(), exp.DataType.Type.TIMESTAMP))
    for column in columns if written else ():
        column.set("this", exp.to_identifier("time_dt"))
    yield Hint(OTHER_TIMES, reason, comparison.sql(dialect=dialect), True)


def _addresses(comparison: exp.Expr) -> Iterator[Hint]:
    """Addresses as bounds: `10.3.0.1` is after `10.255.255.255` in the order of texts, and below it as an address."""
    parts = [part for part in map(comparison.args.get, ("this", "expression", "low", "high")) if part is not None]
    columns = [part for part in parts if isinstance(part, exp.Column | exp.Dot) and part.name.lower() == "ip"]
    written = any(isinstance(part, exp.Literal) and _ADDRESS.fullmatch(part.name) for part in parts)
    if columns and written and _of_lake(comparison) is not None:
        reason = "addresses are text, and in the order of texts 10.3.0.1 comes after 10.255.255.255"
        yield Hint(OTHER_ADDRESSES, f"{_path(columns[0])}: {reason}; {NETWORKS}", "", True)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def wrong(path: str, literal: exp.Literal) -> tuple[str, str | None] | None:
    """Why no row has this value, and the value that was meant."""
    value, last = literal.name, path.rpartition(".")[2]
    if last in ("accountid", "account_uid") or path.endswith("account.uid"):
        if not literal.is_string or (value.isdigit() and len(value) < 12):
            return "accounts are text of twelve digits, with their leading zeros", value.zfill(12)
        return None
    if path == "eventday":
        if day := _DASHED_DAY.match(value):
            return "event days are text such as 20250311", "".join(day.groups())
        return None if literal.is_string else ("event days are text", value)
    if path == "region" and (spelled := value.replace("_", "-").lower()) != value:
        return "regions are spelled as AWS does, in lower case and with dashes", spelled
    if last == "ip" and _NETWORK.fullmatch(value):
        return f"rows have single addresses; {NETWORKS}", None
    if last == "ip" and _ADDRESS.fullmatch(value) and not _is_address(value):
        return "this is not an address", None
    if last in _IDS and literal.is_string and not value.lstrip("-").isdecimal():
        beside, choices = _IDS[last], _captions(_IDS[last])
        is_any = (caption := _caption(beside, value)) in choices or beside == "activity_name"
        instead = f"{beside} = {caption!r}" if is_any else f"{beside} may be {', '.join(sorted(choices))}"
        return f"ids are numbers, and their captions stand beside them: {instead}", None
    if last in CLOSED and not literal.is_string:
        return f"captions are text, and their ids stand beside them: {_CAPTIONS[last]} = {value}", None
    if path == "query.hostname" and value and not value.endswith("."):
        return "names in DNS queries are absolute and end with a dot", f"{value}."
    captions = _captions(last)
    if not captions or value in captions or not literal.is_string:
        return None
    if (right := _caption(last, value)) != value:
        return f"no row has {value!r}", right
    if last == "activity_name":  # of an activity that OCSF has no caption for it is the log's own word
        return None
    return f"no caption of OCSF is {value!r}; there are {', '.join(sorted(captions))}", None


def _caption(column: str, value: str) -> str:
    """The caption that is meant by a word of raw logs, or of another case; the word itself where none is."""
    raw = {word.lower(): replacement for word, replacement in RAW_WORDS.get(column, {}).items()}
    by_case = {caption.lower(): caption for caption in _captions(column)}
    return raw.get(value.lower()) or by_case.get(value.lower()) or value


def _path(column: exp.Expr) -> str:
    """A column's dotted path in lower case, without the name of its table where that stands before it."""
    if isinstance(column, exp.Dot):
        return ".".join(part.name.lower() for part in column.parts)
    parts = [part.name.lower() for part in column.parts] if isinstance(column, exp.Column) else []
    matches = [index for index, part in enumerate(parts) if part in PRUNING]
    return parts[matches[0]] if matches and matches[0] == len(parts) - 1 and len(parts) <= 2 else ".".join(parts)


@cache
def _captions(column: str) -> frozenset[str]:
    """The captions that a column can have; none where it is open."""
    attribute = _CAPTIONS.get(column)
    if attribute is None:
        return frozenset()
    ocsf = schema.load()
    captions: set[str] = set()
    for name in _CLASSES:
        attributes = ocsf.event_class(name).attributes
        objects = [member for item in attributes.values() if (member := ocsf.members(item)) is not None]
        for holder in (attributes, *(member.attributes for member in objects)):
            if (item := holder.get(attribute)) is not None and item.enum:
                captions |= set(item.enum.values())
    return frozenset(captions)
