"""The shape of a source's records: which members are declared, and where each stands in a query.

A record type is an Arrow struct. `pa.string()` is a value read as text, `JSON` an open-ended value kept as JSON text, a
nested `pa.struct` an object whose members are declared in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import orjson
import pyarrow as pa

from ocsf_mappers import sqltext
from ocsf_mappers.errors import MappingError, nearest

JSON = pa.json_(pa.utf8())
"""An open-ended member: anything that JSON can hold, kept as JSON text."""

LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z: the last second that DuckDB, Arrow, Athena and Iceberg all can write."""

OBJECT_KEY = "@key"
"""First step of the columns that come from the object's own name instead of the record."""

OBJECT_KEY_COLUMNS = ("region", "account", "time", "window")

CARRIER = "@carrier"
"""First step of the columns that come from the document around a record."""

_MILLIS = "try_cast(json_extract_string(_envelope, '$.timestamp') AS BIGINT)"
CARRIER_COLUMNS = {
    "account": "coalesce(json_extract_string(_envelope, '$.owner'), json_extract_string(_envelope, '$.account'))",
    "region": "json_extract_string(_envelope, '$.region')",
    "time": (
        "coalesce(json_extract_string(_envelope, '$.time'), "
        f"CASE WHEN {_MILLIS} BETWEEN 0 AND {LAST_SECOND * 1000} "
        f"THEN strftime(make_timestamp({_MILLIS} * 1000), '%Y-%m-%dT%H:%M:%S.%gZ') END)"
    ),
    "log_group": "json_extract_string(_envelope, '$.logGroup')",
    "log_stream": "json_extract_string(_envelope, '$.logStream')",
}
"""Name -> SQL over what stood around a record: members of CloudWatch Logs' documents and of EventBridge's events."""

FLATTEN_DEPTH = 6
"""Objects inside an unmapped value are flattened this deep; what lies deeper stays JSON text under its key."""

Path = tuple[str, ...]


def text_struct(names: str) -> pa.DataType:
    """A record type of text members, named in one string with spaces between."""
    return pa.struct([pa.field(name, pa.string()) for name in names.split()])


def json_struct(names: str) -> pa.DataType:
    """A record type of members that stay JSON, named in one string with spaces between."""
    return pa.struct([pa.field(name, JSON) for name in names.split()])


@dataclass(frozen=True)
class RecordShape:
    """A record type, taken apart."""

    type: pa.DataType

    @cached_property
    def leaves(self) -> Mapping[Path, bool]:
        """Every declared member that holds a value, in order, and whether it is JSON."""
        return dict(_leaves((), self.type))

    @cached_property
    def objects(self) -> Mapping[Path, tuple[str, ...]]:
        """Every declared object (the record itself is `()`), with the names of its members."""
        return dict(_objects((), self.type))

    def check(self, path: Path) -> None:
        """Refuse a column that the record does not declare.

        Raises:
            MappingError: The path is unknown, or an object where a value is needed.
        """
        beside = {OBJECT_KEY: OBJECT_KEY_COLUMNS, CARRIER: tuple(CARRIER_COLUMNS)}.get(path[0], ())
        if path in self.leaves or path[1:] in {(name,) for name in beside}:
            return
        dotted = ".".join(path)
        if path in self.objects:
            raise MappingError(f"{dotted} is an object with declared members; name one of them")
        columns = [".".join(leaf) for leaf in self.leaves]
        raise MappingError(f"the record has no column {dotted!r}{nearest(dotted, columns)}")

    def check_names(self) -> None:
        """Refuse members that no query can tell apart or spell.

        Raises:
            MappingError: Two members of an object differ by capitals alone, or a name has a quote in it.
        """
        for path, names in self.objects.items():
            place = f"the record's {'.'.join(path)}" if path else "the record"
            alike: dict[str, str] = {}
            for name in names:
                if '"' in name or "\\" in name:
                    raise MappingError(f"{place} declares {name!r}: leave it out, and it is in `unmapped`")
                if (other := alike.setdefault(name.lower(), name)) != name:
                    raise MappingError(
                        f"{place} declares {other!r} and {name!r}, which differ by capitals alone: leave one of them"
                        " out, and it is in `unmapped`"
                    )

    @cached_property
    def json_spec(self) -> str:
        """The declaration that DuckDB's `from_json` takes, as a string literal."""
        return sqltext.text(orjson.dumps(json_spec(self.type)).decode())

    @cached_property
    def object_paths(self) -> str:
        """JSON paths of the declared objects, as a list literal for `json_keys`."""
        return "[" + ", ".join(sqltext.text(json_path(path)) for path in self.objects) + "]"


def json_path(path: Path) -> str:
    """A DuckDB JSON path to a declared member."""
    return "$" + "".join(f'."{step}"' for step in path)


def _leaves(path: Path, kind: pa.DataType) -> Iterator[tuple[Path, bool]]:
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves((*path, field.name), field.type)
    else:
        yield path, kind == JSON


def _objects(path: Path, kind: pa.DataType) -> Iterator[tuple[Path, tuple[str, ...]]]:
    if pa.types.is_struct(kind):
        yield path, tuple(field.name for field in kind)
        for field in kind:
            yield from _objects((*path, field.name), field.type)


def json_spec(kind: pa.DataType) -> object:
    """What DuckDB's `from_json` takes for a type, before it is JSON text."""
    if pa.types.is_struct(kind):
        return {field.name: json_spec(field.type) for field in kind}
    return "JSON" if kind == JSON else "VARCHAR"


def flatten(pairs: str, depth: int = FLATTEN_DEPTH) -> str:
    """SQL for the `unmapped` entries of JSON values: dotted keys, a list of {key, value}.

    Objects are taken apart. Everything else is one entry: scalars as their text, arrays as JSON text; null and `{}`
    give none. An object that repeats a key cannot be taken apart without loss and stays JSON text.

    Args:
        pairs: SQL of a list of {key, prefix, value, skip}: `key` names the value itself, `prefix` stands before the
            names of its members, `value` is JSON, `skip` lists members to leave out (null: none).
        depth: Levels of objects to take apart.
    """
    item, entry = f"p{depth}", f"e{depth}"
    one = f"[{{'key': {item}.key, 'value': json_extract_string({item}.value, '$')}}]"
    if depth == 0:
        return f"flatten(list_transform({pairs}, lambda {item}: {one}))"
    # The members come out of one pass over the text: to look each up by its name takes time and memory that grow with
    # the square of their number.
    entries = f"map_entries(from_json({item}.value, '\"MAP(VARCHAR, JSON)\"'))"
    kept = f"list_filter({entries}, lambda {entry}: list_contains({item}.skip, {entry}.key) IS NOT TRUE)"
    member = (
        f"{{'key': {item}.prefix || {entry}.key, 'prefix': {item}.prefix || {entry}.key || '.', "
        f"'value': {entry}.value, 'skip': NULL::VARCHAR[]}}"
    )
    inner = flatten(f"list_transform({kept}, lambda {entry}: {member})", depth - 1)
    unique = f"len(json_keys({item}.value)) = list_unique(json_keys({item}.value))"
    # Most objects hold no object, and their members need no second look.
    plain = f"strpos({item}.value[2:], '{{') = 0"
    text = f"{{'key': {item}.prefix || {entry}.key, 'value': json_extract_string({entry}.value, '$')}}"
    texts = f"list_filter(list_transform({kept}, lambda {entry}: {text}), lambda {entry}: {entry}.value IS NOT NULL)"
    return (
        f"flatten(list_transform({pairs}, lambda {item}: CASE coalesce(json_type({item}.value), 'NULL') "
        f"WHEN 'NULL' THEN [] WHEN 'OBJECT' THEN CASE WHEN NOT ({unique}) THEN {one} WHEN {plain} THEN {texts} "
        f"ELSE {inner} END ELSE {one} END))"
    )
