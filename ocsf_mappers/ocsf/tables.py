"""The lake's tables: fixed projections of OCSF classes, in the type systems of Arrow, Athena and Iceberg.

Two kinds. Tables that hold what a Security Lake v2 table holds begin with its columns, name for name and type for
type, followed by our additions (`schemas/tables.json`; the v2 columns: `schemas/security_lake_v2_tables.json`). A
source's own table has the columns of every event, followed by what its mapper fills (`own`). Both end with where each
row came from.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import Any

import orjson
import pyarrow as pa

from ocsf_mappers.errors import SchemaError
from ocsf_mappers.ocsf import schema, shipped

PARTITION_KEYS = ("region", "accountid", "eventday")
"""Partition keys in the catalog, lower case; in object keys they are spelled `region`, `accountId`, `eventDay`."""

PROVENANCE = pa.schema(
    [
        pa.field("source_object", pa.string()),
        pa.field("source_etag", pa.string()),
        pa.field("source_record", pa.int64()),
        pa.field("mapper_version", pa.string()),
    ]
)
"""Where a row came from: URI and ETag of the raw object, number of the record in it (from 1), mapper version."""

OUTSIDE_OCSF = frozenset({"accountid", "region", "asl_version", *PROVENANCE.names})
"""The only columns of a table that are not OCSF attributes."""

OWN = "ext/"
"""What the folders of sources' own tables begin with."""

_RESERVED = frozenset({"quarantine", "quarantine_entries", "quarantine_outcomes", "duplicates"})


def is_reserved(name: str) -> bool:
    """Whether a lake has something else under a name: its quarantine, duplicates and ledger."""
    return name in _RESERVED or name.startswith("ledger_")


TIMESTAMP = pa.timestamp("us", tz="UTC")

_HIVE_SCALARS: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "timestamp": TIMESTAMP,
    "double": pa.float64(),
}
_OCSF_SCALARS: Mapping[str, pa.DataType] = {
    "string_t": pa.string(),
    "integer_t": pa.int32(),
    "long_t": pa.int64(),
    "float_t": pa.float64(),
    "boolean_t": pa.bool_(),
    "json_t": pa.string(),
    "timestamp_t": pa.int64(),
    "datetime_t": TIMESTAMP,
}


@dataclass(frozen=True)
class Latest:
    """A view with one row a thing: the newest.

    `key` are the paths that name a thing, `newest` those by which the newest row has the highest value, the first
    counting most. What still ties differs only in where it came from: the last in order of provenance is taken.
    """

    view: str
    key: tuple[str, ...]
    newest: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One table of the lake.

    `prefix` is its folder below the lake's root; `columns` gives its columns, when they are first asked for;
    `security_lake` is the name of the Security Lake v2 table whose rows it holds, None for a table of our own; `latest`
    the view with the newest row of each thing that is reported repeatedly, None where every row stands for itself;
    `sorted_by` the paths whose equal values stand together in a file.
    """

    name: str
    prefix: str
    columns: Callable[[], pa.Schema] = field(compare=False)
    security_lake: str | None = None
    latest: Latest | None = None
    sorted_by: tuple[str, ...] = ()

    @cached_property
    def arrow(self) -> pa.Schema:
        """The columns as written to Parquet.

        Raises:
            SchemaError: A path that the view or the order names is no column.
        """
        columns = self.columns()
        for path in self.sorted_by:
            _check_column(columns, path, f"table {self.name}")
        for path in (*self.latest.key, *self.latest.newest) if self.latest else ():
            _check_column(columns, path, f"view {self.latest.view}" if self.latest else "")
        return columns

    @cached_property
    def struct(self) -> pa.DataType:
        """The same as one type, to go down paths of."""
        return pa.struct(list(self.arrow))


def parse_hive_type(text: str) -> pa.DataType:
    """A Hive type such as `struct<a:string,b:array<int>>` as an Arrow type.

    Raises:
        SchemaError: The text is not a Hive type that Security Lake's tables use.
    """
    parsed, rest = _parse(text.strip())
    if rest:
        raise SchemaError(f"{rest!r} is left over after the Hive type {text!r}")
    return parsed


def _parse(text: str) -> tuple[pa.DataType, str]:
    word = "".join(itertools.takewhile(lambda letter: letter.isalnum() or letter == "_", text))
    rest = text[len(word) :]
    if word == "array":
        item, rest = _parse(rest[1:])
        return pa.list_(item), _expect(rest, ">")
    if word == "map":
        key, rest = _parse(rest[1:])
        value, rest = _parse(_expect(rest, ","))
        return pa.map_(key, value), _expect(rest, ">")
    if word == "struct":
        return _parse_struct(rest)
    if word == "decimal":
        digits, _, rest = rest[1:].partition(")")
        precision, scale = (int(part) for part in digits.split(","))
        return pa.decimal128(precision, scale), rest
    if word in _HIVE_SCALARS:
        return _HIVE_SCALARS[word], rest
    raise SchemaError(f"unknown Hive type at {text!r}")


def _parse_struct(rest: str) -> tuple[pa.DataType, str]:
    fields: list[pa.Field] = []
    separator = "<"
    while rest.startswith(separator):
        name, _, rest = rest[1:].partition(":")
        member, rest = _parse(rest)
        fields.append(pa.field(name, member))
        separator = ","
    return pa.struct(fields), _expect(rest, ">")


def _expect(rest: str, mark: str) -> str:
    if not rest.startswith(mark):
        raise SchemaError(f"expected {mark!r} at {rest!r} in a Hive type")
    return rest[1:]


def hive_type(arrow_type: pa.DataType) -> str:
    """The type in Glue's and Athena's DDL."""
    if pa.types.is_struct(arrow_type):
        return "struct<" + ",".join(f"{field.name}:{hive_type(field.type)}" for field in arrow_type) + ">"
    if pa.types.is_map(arrow_type):
        return f"map<{hive_type(arrow_type.key_type)},{hive_type(arrow_type.item_type)}>"
    if pa.types.is_list(arrow_type):
        return f"array<{hive_type(arrow_type.value_type)}>"
    if pa.types.is_decimal(arrow_type):
        return f"decimal({arrow_type.precision},{arrow_type.scale})"
    return next(name for name, kind in _HIVE_SCALARS.items() if kind == arrow_type)


def hive_columns(table: Table) -> list[tuple[str, str]]:
    """Name and Hive type of each data column; partition keys are left out, as Glue lists them apart."""
    return [(field.name, hive_type(field.type)) for field in table.arrow if field.name not in PARTITION_KEYS]


def athena_ddl(table: Table, database: str, location: str) -> str:
    """The `CREATE EXTERNAL TABLE` statement for Athena and Hive; `location` ends at the table's prefix."""
    columns = ",\n".join(f"  `{name}` {kind}" for name, kind in hive_columns(table))
    keys = ", ".join(f"`{key}` string" for key in PARTITION_KEYS)
    place = location.rstrip("/").replace("'", "''")
    return (
        f"CREATE EXTERNAL TABLE IF NOT EXISTS `{database}`.`{table.name}` (\n{columns}\n)\n"
        f"PARTITIONED BY ({keys})\nSTORED AS PARQUET\nLOCATION '{place}/'\n"
        "TBLPROPERTIES ('classification'='parquet', 'parquet.compression'='ZSTD')"
    )


def iceberg_schema(table: Table) -> dict[str, Any]:
    """The table's columns as an Iceberg schema in the specification's JSON form, every field optional.

    Field ids number the columns first, then their members, level by level, as Iceberg's own assigner does.
    Source: https://iceberg.apache.org/spec/#appendix-c-json-serialization
    """
    ids = itertools.count(1)
    columns = [(next(ids), field) for field in table.arrow]
    fields = [_iceberg_field(number, field, ids) for number, field in columns]
    return {"type": "struct", "schema-id": 0, "fields": fields}


def _iceberg_field(number: int, field: pa.Field, ids: Iterator[int]) -> dict[str, Any]:
    return {"id": number, "name": field.name, "required": False, "type": _iceberg_type(field.type, ids)}


def _iceberg_type(arrow_type: pa.DataType, ids: Iterator[int]) -> Any:
    if pa.types.is_struct(arrow_type):
        members = [(next(ids), field) for field in arrow_type]
        return {"type": "struct", "fields": [_iceberg_field(number, field, ids) for number, field in members]}
    if pa.types.is_map(arrow_type):
        key_id, value_id = next(ids), next(ids)
        return {
            "type": "map",
            "key-id": key_id,
            "key": _iceberg_type(arrow_type.key_type, ids),
            "value-id": value_id,
            "value": _iceberg_type(arrow_type.item_type, ids),
            "value-required": False,
        }
    if pa.types.is_list(arrow_type):
        element_id = next(ids)
        element = _iceberg_type(arrow_type.value_type, ids)
        return {"type": "list", "element-id": element_id, "element": element, "element-required": False}
    if pa.types.is_decimal(arrow_type):
        return f"decimal({arrow_type.precision}, {arrow_type.scale})"
    names = {pa.int32(): "int", pa.int64(): "long", pa.bool_(): "boolean", pa.float64(): "double"}
    return {**names, pa.string(): "string", TIMESTAMP: "timestamptz"}[arrow_type]


@cache
def shared() -> Mapping[str, Table]:
    """The tables that no single source owns, by name: those that stand beside Security Lake's."""
    definitions = orjson.loads(shipped.read("tables.json"))["tables"]
    published = orjson.loads(shipped.read("security_lake_v2_tables.json"))["tables"]
    tables: dict[str, Table] = {}
    for name, entry in definitions.items():
        if like := entry.get("like"):
            columns, sorted_by = tables[like].columns, tables[like].sorted_by
        else:
            columns = cache(partial(_projection, published[entry["columns"]], entry["additions"]))
            sorted_by = tuple(entry.get("sorted_by", ()))
        rows_of = entry.get("security_lake", f"{name}_2_0")
        latest = entry.get("latest")
        tables[name] = Table(
            name,
            entry["prefix"],
            columns,
            rows_of if rows_of in published else None,
            Latest(latest["view"], tuple(latest["key"]), tuple(latest["newest"])) if latest else None,
            sorted_by,
        )
    return tables


_EVERY_EVENT = (
    "metadata.product.version", "metadata.product.name", "metadata.product.feature.name",
    "metadata.product.vendor_name", "metadata.profiles", "metadata.version",
    "time", "time_dt", "severity_id", "severity", "class_name", "class_uid", "category_name", "category_uid",
    "activity_name", "activity_id", "type_uid", "type_name",
    "observables.name", "observables.value", "observables.type", "observables.type_id",
)  # fmt: skip
"""What the machinery fills in every event."""


def own_columns(classes: Iterable[str], paths: Iterable[str]) -> pa.Schema:
    """The columns of a source's own table.

    Args:
        classes: OCSF classes of its events.
        paths: OCSF paths that its events have, siblings included.

    Raises:
        SchemaError: No shipped version declares a path in one of the classes.
    """
    every = {"unmapped": "map<string,string>", "accountid": "string", "region": "string"}
    return _projection({"columns": every, "classes": list(classes)}, [*_EVERY_EVENT, *paths])


def _check_column(columns: pa.Schema, path: str, where: str) -> None:
    kind: pa.DataType = pa.struct(list(columns))
    for step in path.split("."):
        if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            raise SchemaError(f"{where}: the table has no column {path}")
        kind = kind.field(step).type


def _projection(published: Mapping[str, Any], additions: list[str]) -> pa.Schema:
    fields = {name: parse_hive_type(kind) for name, kind in published["columns"].items()}
    root = pa.struct([pa.field(name, kind) for name, kind in fields.items()])
    for path in additions:
        leaf, lists = _leaf_type(published["classes"], path)
        root = _with_path(root, path.split("."), leaf, lists)
    return pa.schema([*root, *PROVENANCE])


def _leaf_type(classes: list[str], path: str) -> tuple[pa.DataType, list[bool]]:
    """The Arrow type of an OCSF path, from the first version and class that declare it, and which steps are lists."""
    for version, name in itertools.product(shipped.versions(), classes):
        ocsf = schema.load(version)
        holder: schema.ObjectType | None = ocsf.classes.get(name)
        attribute = None
        lists = []
        for step in path.split("."):
            attribute = holder.attributes.get(step) if holder else None
            holder = ocsf.members(attribute) if attribute else None
            lists.append(attribute is not None and attribute.is_array)
        if attribute is not None:
            leaf = _OCSF_SCALARS["json_t" if attribute.object else ocsf.scalar(attribute).base]
            return pa.list_(leaf) if attribute.is_array else leaf, lists
    raise SchemaError(f"no shipped OCSF version declares {path} in {', '.join(classes)}")


def _with_path(struct: pa.DataType, steps: list[str], leaf: pa.DataType, lists: list[bool]) -> pa.DataType:
    """The struct with one more leaf; `lists` says which steps are lists."""
    if pa.types.is_list(struct):
        return pa.list_(_with_path(struct.value_type, steps, leaf, lists))
    fields = {field.name: field.type for field in struct}
    step, rest = steps[0], steps[1:]
    new = pa.list_(pa.struct([])) if lists[0] else pa.struct([])
    fields[step] = _with_path(fields.get(step, new), rest, leaf, lists[1:]) if rest else leaf
    return pa.struct([pa.field(name, kind) for name, kind in fields.items()])
