"""Conditions of a query that no row meets: values that OCSF or AWS do not have, times in another unit, contradictions.

What is not understood is taken to hold: nothing is reported of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache

import duckdb
from sqlglot import exp

from ocsf_lake.detections import logs, operations
from ocsf_lake.query import columns, lint, shown
from ocsf_mappers import duck, registry
from ocsf_mappers.ocsf import schema

_EARLIEST_MS, _LATEST_MS = 10**11, 10**14
"""1973 and 5138 in milliseconds: what is below was meant as seconds, what is above as micro- or nanoseconds."""
_CLOSED = lint.CLOSED - {"activity_name"}
"""Columns that have captions alone; calls that OCSF has no activity for have their own names there."""
_SHOWN = 20
"""Of captions so many are shown."""
_ORDERED = (exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_MIRRORED: Mapping[type[exp.Expr], type[exp.Expr]] = {
    exp.EQ: exp.EQ, exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE,
}  # fmt: skip


@dataclass
class Judged:
    """What is known of a query, or of a condition.

    Args:
        is_dead: Whether nothing can come of it.
        reasons: What of it cannot hold.
        notices: What is to be known besides.
    """

    is_dead: bool = False
    reasons: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class At:
    """A column that a condition looks at.

    Args:
        table: Its table, ours.
        path: Its path, in lower case.
    """

    table: str
    path: str

    @property
    def definition(self) -> columns.Path | None:
        """Its column in the table; None where there is none."""
        return _paths(self.table).get(self.path)


@cache
def _paths(table: str, version: str = "") -> Mapping[str, columns.Path]:
    return {path.path.replace("[]", "").lower(): path for path in columns.of(table, version or schema.DEFAULT_VERSION)}


class Judge:
    """Judges queries.

    Args:
        version: OCSF version of the lake.
        seen: Services and operations that the lake has.
    """

    def __init__(self, version: str, seen: frozenset[tuple[str, str]] = frozenset()) -> None:
        self._version = version
        self._seen = seen

    def query(self, tree: exp.Expr, outer: Mapping[str, Judged] | None = None) -> Judged:
        """Whether a query can find anything, and what of it cannot."""
        ctes = dict(outer or {})
        result = Judged()
        with_ = tree.args.get("with_") or tree.args.get("with")
        for cte in with_.expressions if with_ is not None else ():
            ctes[cte.alias.lower()] = self.query(cte.this, ctes)
        if isinstance(tree, exp.Subquery):
            return self.query(tree.this, ctes)
        if isinstance(tree, exp.SetOperation):
            arms = [self.query(arm, ctes) for arm in (tree.left, tree.right)]
            dead = [arm.is_dead for arm in arms]
            result.is_dead = all(dead) if isinstance(tree, exp.Union) else dead[0]
            _gather(result, *arms)
        elif isinstance(tree, exp.Select):
            self._select(tree, ctes, result)
        return result

    def _select(self, select: exp.Select, ctes: Mapping[str, Judged], result: Judged) -> None:
        sources = {}
        for source, is_needed in _sources(select):
            if isinstance(source, exp.Table) and source.name.lower() in ctes and not source.db:
                inner = ctes[source.name.lower()]
            elif isinstance(source, exp.Subquery):
                inner = self.query(source.this, ctes)
            else:
                inner = Judged()
                part = shown.part_of(source.name) if isinstance(source, exp.Table) else None
                if part in registry.tables():
                    sources[source.alias_or_name.lower()] = str(part)
            result.is_dead |= inner.is_dead and is_needed
            _gather(result, inner)
        conditions = [where.this] if (where := select.args.get("where")) else []
        inner_joins = [join for join in select.args.get("joins") or () if _is_inner(join)]
        conditions += [join.args["on"] for join in inner_joins if join.args.get("on")]
        if conditions:
            judged = self.condition(exp.and_(*(one.copy() for one in conditions)), sources)
            result.is_dead |= judged.is_dead
            _gather(result, judged)
        for filtered in select.find_all(exp.Filter):
            if filtered.find_ancestor(exp.Select) is select:
                _gather(result, self.condition(filtered.expression.this, sources))

    def condition(self, tree: exp.Expr, sources: Mapping[str, str]) -> Judged:
        """Whether a condition can hold.

        Args:
            tree: The condition.
            sources: What tables are called in it -> the table, ours.
        """
        tree = tree.unnest()
        if isinstance(tree, exp.And | exp.Or):
            arms = [self.condition(arm, sources) for arm in tree.flatten()]
            dead = [arm.is_dead for arm in arms]
            result = Judged(any(dead) if isinstance(tree, exp.And) else all(dead))
            _gather(result, *arms)
            if isinstance(tree, exp.And):
                calls = self._calls(list(tree.flatten()), sources)
                opposed = list(_contradictions(list(tree.flatten()), sources))
                result.is_dead |= bool(calls or opposed)
                result.reasons += [reason for reason in [*calls, *opposed] if reason not in result.reasons]
            return result
        if isinstance(tree, exp.Between):
            low = exp.GTE(this=tree.this, expression=tree.args["low"])
            high = exp.LTE(this=tree.this, expression=tree.args["high"])
            return self.condition(exp.and_(low, high), sources)
        if isinstance(tree, exp.In) and tree.expressions:
            return self._in(tree, sources)
        if isinstance(tree, (*_ORDERED, exp.NEQ)):
            return self._compared(tree, sources)
        if isinstance(tree, exp.Like) and not {"%", "_"} & set(tree.expression.name):
            return self._compared(exp.EQ(this=tree.this, expression=tree.expression), sources)
        if isinstance(tree, exp.Boolean | exp.Null) and not (isinstance(tree, exp.Boolean) and tree.this):
            return Judged(True, [f"{tree.sql('duckdb')} holds for no row"])
        return Judged()

    def _in(self, tree: exp.In, sources: Mapping[str, str]) -> Judged:
        each = [self._compared(exp.EQ(this=tree.this, expression=item), sources) for item in tree.expressions]
        result = Judged(all(one.is_dead for one in each))
        _gather(result, *each)
        return result

    def _compared(self, tree: exp.Expr, sources: Mapping[str, str]) -> Judged:
        left, right, kind = tree.this.unnest(), tree.expression.unnest(), type(tree)
        if isinstance(left, exp.Null) or isinstance(right, exp.Null):
            return Judged(True, [f"{tree.sql('duckdb')}: nothing is equal to NULL, nor unequal; IS NULL asks for it"])
        if kind is exp.NEQ:
            return Judged()
        if isinstance(left, exp.Literal) and not isinstance(right, exp.Literal):
            left, right, kind = right, left, _MIRRORED[kind]
        if isinstance(left, exp.Lower | exp.Upper) and isinstance(right, exp.Literal) and kind is exp.EQ:
            folded = right.name.lower() if isinstance(left, exp.Lower) else right.name.upper()
            if folded != right.name:
                return Judged(True, [f"{tree.sql('duckdb')}: the text on the left has no such letters"])
        at = place(left, sources)
        if at is None:
            return Judged()
        if at.definition is not None and at.definition.type == "bigint" and _is_time(at.path):
            return _of_time(at, kind, right)
        if kind is exp.EQ and isinstance(right, exp.Literal):
            return self._equal(at, right)
        return Judged()

    def _equal(self, at: At, literal: exp.Literal) -> Judged:
        name = at.path.rpartition(".")[2]
        if at.path.endswith("_id") or at.path == "class_uid":
            return self._equal_id(at, literal)
        captions = self._captions(at)
        if captions and literal.is_string and literal.name not in captions:
            by_case = {caption.lower(): caption for caption in captions}
            raw = {word.lower(): instead for word, instead in lint.RAW_WORDS.get(name, {}).items()}
            right = raw.get(literal.name.lower()) or by_case.get(literal.name.lower())
            if right in captions:
                return Judged(True, [f"{at.path}: no row has {literal.name!r}; it is {right!r}"])
            if name in _CLOSED or at.path == "class_name":
                some = ", ".join(sorted(captions)[:_SHOWN])
                return Judged(True, [f"{at.path}: no caption of OCSF is {literal.name!r}; there are {some}"])
        elif not captions and (wrong := lint.wrong(at.path, literal)) is not None and name not in lint.CLOSED:
            reason, instead = wrong
            return Judged(True, [f"{at.path}: {reason}{f': {instead!r}' if instead is not None else ''}"])
        if at.path in ("api.operation", "api.service.name") and literal.is_string:
            return self._equal_call(at, literal.name)
        return Judged()

    def _equal_id(self, at: At, literal: exp.Literal) -> Judged:
        _, ids = columns.ids(at.table, self._version).get(at.path, (None, {}))
        if not ids or literal.is_string or not literal.name.isdigit() or literal.name in ids:
            return Judged()
        some = ", ".join(f"{number} {' or '.join(captions)}" for number, captions in list(ids.items())[:_SHOWN])
        return Judged(True, [f"{at.path}: OCSF has no {literal.name} there; there are {some}"])

    def _captions(self, at: At) -> frozenset[str]:
        """The captions beside the ids of a column; what OCSF does not know has the log's own text there."""
        every = columns.ids(at.table, self._version).values()
        return frozenset(
            text for beside, ids in every if beside == at.path for captions in ids.values() for text in captions
        )

    def _equal_call(self, at: At, name: str) -> Judged:
        if at.table not in logs.CLOUDTRAIL.tables:
            return Judged()
        if at.path == "api.service.name":
            reason = operations.problem_of_source(name)
            if reason and any(service == operations.service_of(name) for service, _ in self._seen):
                reason = None
            if reason is None and name != name.lower():
                reason = f"event sources are in lower case: {name.lower()!r}"
            return Judged(bool(reason), [f"{at.path}: {reason}"] if reason else [])
        reason = problem_of_call(None, name, self._seen)
        return Judged(bool(reason), [f"{at.path}: {reason}"] if reason else [])

    def _calls(self, parts: Sequence[exp.Expr], sources: Mapping[str, str]) -> list[str]:
        """What is wrong with an operation together with the service that has to have it."""
        values_by_path: dict[str, list[str]] = {}
        for at, values in _equalities(parts, sources):
            if at.table in logs.CLOUDTRAIL.tables and at.path in ("api.operation", "api.service.name"):
                values_by_path.setdefault(at.path, values)
        services, names = values_by_path.get("api.service.name"), values_by_path.get("api.operation")
        if not services or not names:
            return []
        reasons = [problem_of_call(service, name, self._seen) for service in services for name in names]
        return [f"api.operation: {reason}" for reason in reasons if reason] if all(reasons) else []


def problem_of_call(source: str | None, name: str, seen: frozenset[tuple[str, str]]) -> str | None:
    """Why CloudTrail has no such operation, of a service or of any, written so; None where it may."""
    service, bare = operations.service_of(source or ""), operations.bare(name)
    if reason := operations.problem_of_name(name, source):
        is_seen = (service, bare) in seen or (not service and any(bare == operation for _, operation in seen))
        return None if is_seen else reason
    names = operations.load().names
    spelled = {of[bare] for one, of in names.items() if bare in of and service in ("", one)}
    if spelled and not any(name.startswith(one) for one in spelled):
        return f"CloudTrail writes {' or '.join(sorted(spelled))}, and no row has {name!r}"
    return None


def unknown_calls(tree: exp.Expr) -> Iterator[tuple[str, str]]:
    """Unknown operations and services that a query looks for, in lower case, as `check.unknown_names`."""
    for comparison in tree.find_all(exp.EQ, exp.In):
        values = comparison.expressions if isinstance(comparison, exp.In) else [comparison.expression]
        path = _steps(comparison.this)
        names = [value.name for value in values if isinstance(value, exp.Literal) and value.is_string]
        if path[-2:] == ("api", "operation"):
            yield from (("", operations.bare(name)) for name in names if problem_of_call(None, name, frozenset()))


# -- columns ----------------------------------------------------------------------------------------------------------
def place(column: exp.Expr, sources: Mapping[str, str]) -> At | None:
    """Which column of which table stands there; None where that is not certain."""
    steps = _steps(column)
    if not steps:
        return None
    if len(steps) > 1 and steps[0] in sources:
        return At(sources[steps[0]], ".".join(steps[1:]))
    having = [table for table in sources.values() if any(path.split(".")[0] == steps[0] for path in _paths(table))]
    return At(having[0], ".".join(steps)) if len(having) == 1 else None


def _steps(column: exp.Expr) -> tuple[str, ...]:
    if not isinstance(column, exp.Column | exp.Dot) or column.find(exp.Bracket, exp.Func):
        return ()
    return tuple(part.name.lower() for part in column.parts)


def _sources(select: exp.Select) -> Iterator[tuple[exp.Expr, bool]]:
    """What a SELECT reads from, and whether nothing comes of it without rows there."""
    origin = select.args.get("from_") or select.args.get("from")
    joins = select.args.get("joins") or []
    if origin is not None:
        yield origin.this, not any(join.side in ("RIGHT", "FULL") for join in joins)
    for join in joins:
        yield join.this, _is_inner(join)


def _is_inner(join: exp.Join) -> bool:
    return not join.side and join.kind in ("", "INNER", "CROSS") and join.args.get("method") != "ASOF"


def _gather(result: Judged, *parts: Judged) -> None:
    for part in parts:
        result.reasons += [reason for reason in part.reasons if reason not in result.reasons]
        result.notices += [notice for notice in part.notices if notice not in result.notices]


# -- times ------------------------------------------------------------------------------------------------------------
def _is_time(path: str) -> bool:
    name = path.rpartition(".")[2]
    return name == "time" or name.endswith("_time")


def _of_time(at: At, kind: type[exp.Expr], value: exp.Expr) -> Judged:
    number = _number(value)
    if number is None or number <= 0 or _EARLIEST_MS <= number < _LATEST_MS:
        return Judged()
    unit = "seconds" if number < _EARLIEST_MS else "micro- or nanoseconds"
    reason = f"{at.path} is in milliseconds since 1970, and {value.sql('duckdb')} looks like {unit}"
    is_dead = kind is exp.EQ or (kind in (exp.LT, exp.LTE)) == (number < _EARLIEST_MS)
    return Judged(True, [reason]) if is_dead else Judged(notices=[f"{reason}: it leaves nothing out"])


def _number(value: exp.Expr) -> float | None:
    """The value of a constant; None for anything else, and where there is none."""
    if value.find(exp.Column, exp.Query, exp.Placeholder, exp.Parameter):
        return None
    if isinstance(value, exp.Literal) and not value.is_string:
        return float(value.name)
    try:
        with closing(duck.connect()) as connection:
            connection.execute("SET enable_external_access = false; SET lock_configuration = true")
            sql = f"SELECT TRY_CAST(({value.sql('duckdb')}) AS DOUBLE)"
            ((number,),) = connection.execute(sql).fetchall()
    except (duckdb.Error, ValueError):
        return None
    return number if isinstance(number, float) and math.isfinite(number) else None


# -- contradictions ---------------------------------------------------------------------------------------------------
def _equalities(parts: Sequence[exp.Expr], sources: Mapping[str, str]) -> Iterator[tuple[At, list[str]]]:
    """Columns that have to be one of some values."""
    for part in (part.unnest() for part in parts):
        if isinstance(part, exp.EQ):
            sides = [part.this.unnest(), part.expression.unnest()]
            column, *values = sides if isinstance(sides[1], exp.Literal) else sides[::-1]
        elif isinstance(part, exp.In) and part.expressions:
            column, values = part.this, part.expressions
        else:
            continue
        at = place(column, sources)
        if at is not None and all(isinstance(value, exp.Literal) for value in values):
            yield at, [value.name for value in values]


def _contradictions(parts: Sequence[exp.Expr], sources: Mapping[str, str]) -> Iterator[str]:
    """What cannot hold together: two values of one column, a value that is left out, a range with no inside."""
    values: dict[At, set[str]] = {}
    for of, some in _equalities(parts, sources):
        before = values.get(of)
        values[of] = set(some) if before is None else before & set(some)
        if before and not values[of]:
            yield f"{of.path} cannot be {' or '.join(sorted(before))} and {' or '.join(sorted(some))} at once"
    lows: dict[At, tuple[float, bool]] = {}
    highs: dict[At, tuple[float, bool]] = {}
    for part in (part.unnest() for part in parts):
        at: At | None
        if isinstance(part, exp.NEQ | exp.Is) and (at := place(part.this, sources)) is not None:
            excluded = part.expression.name if isinstance(part, exp.NEQ) else None
            if isinstance(part.expression, exp.Literal) and values.get(at) == {excluded}:
                yield f"{at.path} cannot be {excluded} and something else at once"
            if isinstance(part, exp.Is) and isinstance(part.expression, exp.Null) and at in values:
                yield f"{at.path} cannot be NULL and {' or '.join(sorted(values[at]))} at once"
        elif isinstance(part, exp.GT | exp.GTE | exp.LT | exp.LTE):
            at, bound = place(part.this.unnest(), sources), part.expression.unnest()
            number = _number(bound) if isinstance(bound, exp.Literal | exp.Neg) else None
            # Texts are in another order than numbers, but for days, which are of one length.
            if at is None or number is None or (bound.is_string and at.path != "eventday"):
                continue
            strict = isinstance(part, exp.GT | exp.LT)
            if isinstance(part, exp.GT | exp.GTE):
                lows[at] = max(lows.get(at, (-math.inf, False)), (number, strict))
            else:
                high = highs.get(at, (math.inf, False))
                highs[at] = min(high, (number, strict), key=lambda one: (one[0], not one[1]))
    for of, (low, above) in lows.items():
        if of in highs and (low > highs[of][0] or (low == highs[of][0] and (above or highs[of][1]))):
            yield f"{of.path} cannot be above {low:.15g} and below {highs[of][0]:.15g} at once"
