"""Conditions of rules in the dialects of DuckDB and Athena.

DuckDB's is run on every sample. Athena's is read back by sqlglot in tests, and has not been run in Athena.
"""

from __future__ import annotations

import ipaddress
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

from sqlglot import exp, parse_one

from ocsf_lake.detections import places

_DOTTED = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$"
_COLONS = "^[0-9A-Fa-f]{0,4}(:[0-9A-Fa-f]{0,4}){2,7}$"


class Dialect(ABC):
    """How one engine spells our nodes, see `places`; each method takes what its node does."""

    name: str

    def sql(self, tree: exp.Expr) -> str:
        """The text of a condition."""
        return self.lowered(tree).sql(self.name)

    def lowered(self, tree: exp.Expr) -> exp.Expr:
        """A tree without nodes of ours."""
        root = exp.Paren(this=tree.copy())
        # The innermost come first: a condition stands in the node that asks it of each value.
        for node in reversed(list(root.find_all(exp.Anonymous, bfs=False))):
            if node.name in places.NODES:
                node.replace(self._spelled(node))
        lowered: exp.Expr = root.this
        return lowered.copy()

    def _spelled(self, node: exp.Anonymous) -> exp.Expr:
        method = getattr(self, node.name.removeprefix("ocsf_"))
        spelled: exp.Expr = method(*(argument.copy() for argument in node.expressions))
        return spelled

    @abstractmethod
    def json_text(self, document: exp.Expr, *steps: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def any_member(self, document: exp.Expr, *steps: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def any_item(self, items: exp.Expr, condition: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def first_item(self, items: exp.Expr, value: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def any_text(self, condition: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def unmapped(self, key: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def contains(self, whole: exp.Expr, part: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def ends_with(self, whole: exp.Expr, part: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def in_network(self, address: exp.Expr, network: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def time_text(self, millis: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def time_part(self, millis: exp.Expr, part: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def millis(self, moment: exp.Expr) -> exp.Expr: ...

    @abstractmethod
    def is_list(self, value: exp.Expr) -> exp.Expr: ...

    def has_list(self, document: exp.Expr) -> exp.Expr:
        """A list has its bracket in the text; a bracket in a text makes it the slower way, not a wrong one."""
        return self.contains(document, places.text("["))


class DuckDb(Dialect):
    """DuckDB 2."""

    name = "duckdb"

    def json_text(self, document: exp.Expr, *steps: exp.Expr) -> exp.Expr:
        value = _try(_call("json_extract_string", document, _pointer(steps)))
        if len(steps) < 2:
            return value
        # some names have dots themselves
        dotted = ".".join(step.name for step in steps)
        there = self.contains(document, places.text(f'"{dotted}"'))
        whole = _try(_call("json_extract_string", document, _pointer([places.text(dotted)])))
        return exp.Coalesce(this=value, expressions=[exp.case().when(there, whole)])

    def any_member(self, document: exp.Expr, *steps: exp.Expr) -> exp.Expr:
        *path, condition = steps
        values = self._values(document, path)
        if len(path) > 1:
            dotted = places.text(".".join(step.name for step in path))
            values = _call("list_concat", values, self._values(document, [dotted]))
        return _some(_call("list_filter", self._texts(values, "ARRAY", "NULL"), condition))

    def _texts(self, values: exp.Expr, *left_out: str) -> exp.Expr:
        """The texts of JSON values, without those of some types."""
        item = exp.column("item")
        is_none = exp.In(this=_call("json_type", item), expressions=list(map(places.text, left_out)))
        is_kept = exp.Coalesce(this=exp.Not(this=is_none), expressions=[exp.false()])
        values = _call("list_filter", values, _lambda("item", is_kept))
        return _call("list_transform", values, _lambda("item", _call("json_extract_string", item, places.text("$"))))

    def _values(self, document: exp.Expr, steps: Sequence[exp.Expr]) -> exp.Expr:
        """Every value at a path, of lists also their items, and lists themselves."""
        values: exp.Expr = exp.Array(expressions=[_try(_call("json_extract", document, places.text("$")))])
        root = _call("json_extract", exp.column("node"), places.text("$[*]"))
        values = _flat(_transform(values, _call("list_concat", exp.Array(expressions=[exp.column("node")]), root)))
        for step in steps:
            one = _call("json_extract", exp.column("node"), _pointer([step]))
            items = _call("json_extract", one, places.text("$[*]"))
            values = _flat(_transform(values, _call("list_concat", exp.Array(expressions=[one]), items)))
        return values

    def any_item(self, items: exp.Expr, condition: exp.Expr) -> exp.Expr:
        return _some(_call("list_filter", items, condition))

    def first_item(self, items: exp.Expr, value: exp.Expr) -> exp.Expr:
        there = _lambda("item", exp.not_(exp.Is(this=exp.column("item"), expression=exp.Null())))
        return _call("list_first", _call("list_filter", _call("list_transform", items, value), there))

    def any_text(self, condition: exp.Expr) -> exp.Expr:
        """Columns' names, and values side by side, stand in the text of structures, which are no values."""
        every = _call("json_extract", _call("to_json", exp.column(ROW)), places.text("$..*"))
        return _some(_call("list_filter", self._texts(every, "ARRAY", "OBJECT", "NULL"), condition))

    def unmapped(self, key: exp.Expr) -> exp.Expr:
        return parse_one(f"\"unmapped\"[{key.sql('duckdb')}]", read="duckdb")

    def contains(self, whole: exp.Expr, part: exp.Expr) -> exp.Expr:
        return _call("contains", whole, part)

    def ends_with(self, whole: exp.Expr, part: exp.Expr) -> exp.Expr:
        return _call("suffix", whole, part)

    def in_network(self, address: exp.Expr, network: exp.Expr) -> exp.Expr:
        """By arithmetic: DuckDB's extension for addresses is not in its wheel."""
        parsed = ipaddress.ip_network(network.name)
        value = address.sql("duckdb")
        if parsed.version == 4:
            low, high = int(parsed.network_address), int(parsed.broadcast_address)
            octets = [f"TRY_CAST(split_part({value}, '.', {n}) AS BIGINT)" for n in range(1, 5)]
            number = " + ".join(f"{octet} * {256 ** (3 - n)}" for n, octet in enumerate(octets))
            right = " AND ".join(f"{octet} < 256" for octet in octets)
            inside = f"{right} AND ({number}) BETWEEN {low} AND {high}"
            return _when(f"regexp_matches({value}, '{_DOTTED}')", inside)
        lowest, highest = (address.exploded.replace(":", "") for address in (parsed[0], parsed[-1]))
        # left and right of `::`, with as many zeros between them as make it eight groups
        halves = [f"string_split(split_part({value}, '::', {n}), ':')" for n in (1, 2)]
        left, right = (f"list_filter({half}, LAMBDA part : part <> '')" for half in halves)
        zeros = f"list_transform(range(8 - len({left}) - len({right})), LAMBDA part : '0')"
        groups = f"list_concat(list_concat({left}, {zeros}), {right})"
        digits = f"array_to_string(list_transform({groups}, LAMBDA part : lpad(lower(part), 4, '0')), '')"
        return _when(f"regexp_matches({value}, '{_COLONS}')", f"{digits} BETWEEN '{lowest}' AND '{highest}'")

    def time_text(self, millis: exp.Expr) -> exp.Expr:
        return _call("strftime", _call("epoch_ms", millis), places.text("%Y-%m-%dT%H:%M:%SZ"))

    def time_part(self, millis: exp.Expr, part: exp.Expr) -> exp.Expr:
        return _call("date_part", part, _call("epoch_ms", millis))

    def millis(self, moment: exp.Expr) -> exp.Expr:
        return _call("epoch_ms", moment)

    def is_list(self, value: exp.Expr) -> exp.Expr:
        starts = _call("starts_with", value, places.text("["))
        return exp.and_(starts, _call("json_valid", value))


class Athena(Dialect):
    """Athena's engine 3, which is Trino."""

    name = "athena"

    def json_text(self, document: exp.Expr, *steps: exp.Expr) -> exp.Expr:
        return _trino_text(self._json(_parsed(document), steps))

    def any_member(self, document: exp.Expr, *steps: exp.Expr) -> exp.Expr:
        *path, condition = steps
        values = self._items(exp.Array(expressions=[_parsed(document)]))
        for step in path:
            values = self._items(_call("transform", values, _arrow("node", self._json(exp.column("node"), [step]))))
        scalar = exp.Is(this=_as_list(exp.column("item")), expression=exp.Null())
        values = _call("filter", values, _arrow("item", scalar))
        values = _call("transform", values, _arrow("item", _trino_text(exp.column("item"))))
        return _call("any_match", values, condition)

    def _json(self, value: exp.Expr, steps: Sequence[exp.Expr]) -> exp.Expr:
        return _call("json_extract", value, places.text("$" + "".join(f"[{_quoted(step.name)}]" for step in steps)))

    def _items(self, values: exp.Expr) -> exp.Expr:
        """Values, and the items of those that are lists."""
        item = exp.column("node")
        items = exp.Coalesce(this=_as_list(item), expressions=[exp.Array(expressions=[])])
        both = _call("concat", exp.Array(expressions=[item]), items)
        return _call("flatten", _call("transform", values, _arrow("node", both)))

    def any_item(self, items: exp.Expr, condition: exp.Expr) -> exp.Expr:
        return _call("any_match", items, condition)

    def first_item(self, items: exp.Expr, value: exp.Expr) -> exp.Expr:
        there = _arrow("item", exp.not_(exp.Is(this=exp.column("item"), expression=exp.Null())))
        values = _call("filter", _call("transform", items, value), there)
        return _call("element_at", values, exp.Literal.number(1))

    def any_text(self, condition: exp.Expr) -> exp.Expr:
        """The whole row as one text: Trino cannot take JSON apart without names."""
        whole = _call("json_format", exp.cast(_call("row", exp.column(ROW)), "json"))
        body = condition.this.copy()
        (variable,) = condition.expressions
        for column in list(body.find_all(exp.Column)):
            if column.name == variable.name:
                column.replace(whole.copy())
        return exp.Paren(this=body)

    def unmapped(self, key: exp.Expr) -> exp.Expr:
        return _call("element_at", exp.column("unmapped", quoted=True), key)

    def contains(self, whole: exp.Expr, part: exp.Expr) -> exp.Expr:
        return exp.GT(this=_call("strpos", whole, part), expression=exp.Literal.number(0))

    def ends_with(self, whole: exp.Expr, part: exp.Expr) -> exp.Expr:
        if isinstance(part, exp.Literal):
            return exp.EQ(this=_call("substr", whole, exp.Literal.number(-len(part.name))), expression=part)
        length = exp.Neg(this=_call("length", part.copy()))
        return exp.EQ(this=_call("substr", whole, length), expression=part)

    def in_network(self, address: exp.Expr, network: exp.Expr) -> exp.Expr:
        parsed = f"TRY_CAST({address.sql('athena')} AS IPADDRESS)"
        return parse_one(f"contains({network.sql('athena')}, {parsed})", read="trino")

    def time_text(self, millis: exp.Expr) -> exp.Expr:
        return _call("date_format", _from_millis(millis), places.text("%Y-%m-%dT%H:%i:%sZ"))

    def time_part(self, millis: exp.Expr, part: exp.Expr) -> exp.Expr:
        return _call(part.name, _from_millis(millis))

    def millis(self, moment: exp.Expr) -> exp.Expr:
        millis = exp.Mul(this=_call("to_unixtime", moment), expression=exp.Literal.number(1000))
        return exp.cast(millis, "bigint")

    def is_list(self, value: exp.Expr) -> exp.Expr:
        return exp.not_(exp.Is(this=_as_list(_parsed(value)), expression=exp.Null()))


ROW = "event"
"""What the relation that is read is called: a column of this name is the whole row."""


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def _when(condition: str, value: str) -> exp.Expr:
    return exp.Paren(this=parse_one(f"CASE WHEN {condition} THEN {value} END", read="duckdb"))


def _try(value: exp.Expr) -> exp.Expr:
    return _call("try", value)


def _lambda(variable: str, body: exp.Expr) -> exp.Expr:
    return exp.Lambda(this=body.copy(), expressions=[exp.to_identifier(variable)])


_arrow = _lambda


def _transform(values: exp.Expr, body: exp.Expr) -> exp.Expr:
    return _call("list_transform", values, _lambda("node", body))


def _flat(values: exp.Expr) -> exp.Expr:
    return _call("flatten", values)


def _some(values: exp.Expr) -> exp.Expr:
    return exp.GT(this=_call("len", values), expression=exp.Literal.number(0))


def _pointer(steps: Sequence[exp.Expr]) -> exp.Expr:
    """A path as a JSON pointer, which can spell every name."""
    return places.text("".join("/" + step.name.replace("~", "~0").replace("/", "~1") for step in steps))


def _quoted(name: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def _parsed(document: exp.Expr) -> exp.Expr:
    return _try(_call("json_parse", document))


def _as_list(value: exp.Expr) -> exp.Expr:
    return parse_one(f"TRY_CAST({value.sql('athena')} AS ARRAY(JSON))", read="trino")


def _trino_text(value: exp.Expr) -> exp.Expr:
    scalar = _call("json_extract_scalar", value, places.text("$"))
    return exp.Coalesce(this=scalar, expressions=[_call("json_format", value)])


def _from_millis(millis: exp.Expr) -> exp.Expr:
    return _call("from_unixtime", exp.Div(this=millis, expression=exp.Literal.number("1000.0")))


DUCKDB, ATHENA = DuckDb(), Athena()
