"""Each lake table in the type systems of Arrow, Athena and Iceberg."""

from typing import Any

import orjson
import pyarrow as pa
import pytest

from ocsf_mappers import registry
from ocsf_mappers.errors import SchemaError
from ocsf_mappers.ocsf import shipped, tables

PUBLISHED = orjson.loads(shipped.read("security_lake_v2_tables.json"))["tables"]
ALL = pytest.mark.parametrize("name", sorted(registry.tables()))


def below(published: pa.DataType, ours: pa.DataType) -> bool:
    """Whether every member that AWS publishes stands in ours with its type."""
    if pa.types.is_struct(published):
        members = {field.name: field.type for field in ours}
        return all(field.name in members and below(field.type, members[field.name]) for field in published)
    if pa.types.is_list(published):
        return below(published.value_type, ours.value_type)
    return bool(published == ours)


@ALL
def test_security_lake_s_columns_come_first_with_their_types(name: str) -> None:
    table = registry.table(name)
    if table.security_lake is None:
        pytest.skip("a table of our own")
    columns = PUBLISHED[table.security_lake]["columns"]
    assert table.arrow.names[: len(columns)] == list(columns)
    wrong = [c for c, kind in columns.items() if not below(tables.parse_hive_type(kind), table.arrow.field(c).type)]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_hive_type_comes_back_as_it_went_in(name: str) -> None:
    columns = PUBLISHED[name]["columns"]
    assert {column: tables.hive_type(tables.parse_hive_type(kind)) for column, kind in columns.items()} == columns


@pytest.mark.parametrize("text", ["struct<a:string", "strin", "array<int>>", "map<string>"])
def test_a_broken_hive_type_is_refused(text: str) -> None:
    with pytest.raises(SchemaError):
        tables.parse_hive_type(text)


@ALL
def test_partition_keys_are_no_data_columns_in_athena(name: str) -> None:
    ddl = tables.athena_ddl(registry.table(name), "db", "s3://bucket/it's")
    columns, _, keys = ddl.partition("PARTITIONED BY")
    assert not [key for key in tables.PARTITION_KEYS if f"`{key}`" in columns]
    assert keys.startswith(" (`region` string, `accountid` string, `eventday` string)")
    assert "LOCATION 's3://bucket/it''s/'" in ddl


def ids(node: Any) -> list[int]:
    if isinstance(node, list):
        return [number for item in node for number in ids(item)]
    if not isinstance(node, dict):
        return []
    own = [node[key] for key in ("id", "element-id", "key-id", "value-id") if key in node]
    return own + [number for value in node.values() for number in ids(value)]


@ALL
def test_iceberg_field_ids_are_unique_without_gaps(name: str) -> None:
    found = tables.iceberg_schema(registry.table(name))
    assert [field["name"] for field in found["fields"]] == registry.table(name).arrow.names
    assert sorted(ids(found)) == list(range(1, len(ids(found)) + 1))
