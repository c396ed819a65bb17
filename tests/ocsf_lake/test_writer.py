"""Files: one per table, class and partition, sorted, plain, and the same bytes each time."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ocsf_lake.config import Settings
from ocsf_lake.storage import layout, packing, parquet
from ocsf_lake.storage.store import Store
from ocsf_mappers import registry

DAY_MS = layout.MS_PER_DAY


def events(*rows: tuple[str, str | None, str | None, int, int], encode: bool = False) -> pa.Table:
    """Rows of (table, region, account, time, record) as the engine gives them."""
    schema = registry.table("cloud_trail_mgmt").arrow
    found = pa.Table.from_pylist(
        [
            {"region": region, "accountid": account, "time": time, "source_record": record, "class_uid": 6003,
             "source_object": "s3://b/o", "class_name": "API Activity", "unmapped": [("k", "v")]}
            for _, region, account, time, record in rows
        ],
        schema=schema,
    )  # fmt: skip
    if encode:
        for name in ("region", "accountid", "source_object", "class_name"):
            found = found.set_column(found.schema.get_field_index(name), name, found[name].dictionary_encode())
    return found.append_column(parquet.TABLE_COLUMN, pa.array([row[0] for row in rows]))


ROWS = (
    ("s3_data", "us-east-1", "012345678901", DAY_MS + 5, 3),
    ("cloud_trail_mgmt", "eu-west-1", "111122223333", 2 * DAY_MS - 1, 2),
    ("cloud_trail_mgmt", "eu-west-1", "111122223333", DAY_MS, 9),
    ("cloud_trail_mgmt", "eu-west-1", "111122223333", DAY_MS, 1),
    ("cloud_trail_mgmt", "eu-west-1", None, DAY_MS, 4),
    ("cloud_trail_mgmt", "../x", "12", DAY_MS, 5),
    ("cloud_trail_mgmt", None, "unknown", 2 * DAY_MS, 6),
    ("cloud_trail_mgmt", None, "111122223333", -1, 7),
    ("cloud_trail_mgmt", None, "111122223333", 2**62, 8),
)


@pytest.mark.parametrize("encode", [False, True])
def test_rows_are_split_by_table_and_partition_and_sorted_by_time(encode: bool) -> None:
    found = {
        "/".join([partition.table, *partition.values]): rows["source_record"].to_pylist()
        for partition, _, rows in parquet.split(events(*ROWS, encode=encode))
    }
    assert found == {
        "cloud_trail_mgmt/eu-west-1/111122223333/19700102": [1, 9, 2],
        "cloud_trail_mgmt/eu-west-1/unknown/19700102": [4],
        "cloud_trail_mgmt/unknown/111122223333/unknown": [7, 8],
        "cloud_trail_mgmt/unknown/unknown/19700102": [5],
        "cloud_trail_mgmt/unknown/unknown/19700103": [6],
        "s3_data/us-east-1/012345678901/19700102": [3],
    }


def test_columns_say_what_the_path_says() -> None:
    for partition, _, rows in parquet.split(events(*ROWS)):
        assert pc.unique(rows["region"]).to_pylist() == [partition.values[0]]
        assert pc.unique(rows["accountid"]).to_pylist() == [partition.values[1]]


def test_a_file_has_the_tables_plain_types(tmp_path: Path, settings: Callable[..., Settings]) -> None:
    store = Store(str(tmp_path / "lake"))
    written = parquet.write(events(*ROWS, encode=True), store, settings(), "b" * 32, 7)
    info = written[0]
    assert info.path == (
        "aws/CLOUD_TRAIL_MGMT/2.0/region=eu-west-1/accountId=111122223333/eventDay=19700102/"
        f"{'b' * 32}-00007-6003.parquet"
    )
    assert (info.rows, info.min_time, info.max_time) == (3, DAY_MS, 2 * DAY_MS - 1)
    file = pq.ParquetFile(tmp_path / "lake" / info.path)
    schema = file.schema_arrow
    assert not any(pa.types.is_dictionary(field.type) for field in schema)
    assert schema.field("time_dt").type == pa.timestamp("us", tz="UTC")
    assert schema.names == registry.table("cloud_trail_mgmt").arrow.names
    assert "element" in str(file.schema)
    group = file.metadata.row_group(0)
    bounds = group.column(schema_position(file, "time")).statistics
    assert (bounds.min, bounds.max) == (DAY_MS, 2 * DAY_MS - 1)


@pytest.mark.parametrize(("rows", "codec"), [(parquet.FEW_ROWS - 1, "SNAPPY"), (parquet.FEW_ROWS, "ZSTD")])
def test_zstd_is_kept_for_files_in_which_it_pays(settings: Callable[..., Settings], rows: int, codec: str) -> None:
    data = parquet.encode(pa.table({"time": range(rows)}), settings())
    found = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(0)
    assert (found.compression, pq.read_table(pa.BufferReader(data))["time"].to_pylist()) == (codec, list(range(rows)))


def schema_position(file: pq.ParquetFile, path: str) -> int:
    return [file.schema.column(number).path for number in range(len(file.schema))].index(path)


def test_the_same_events_give_the_same_bytes(tmp_path: Path, settings: Callable[..., Settings]) -> None:
    once = parquet.write(events(*ROWS), Store(str(tmp_path / "a")), settings(), "b" * 32, 0)
    again = parquet.write(events(*ROWS, encode=True), Store(str(tmp_path / "b")), settings(), "b" * 32, 0)
    assert once == again


def test_pages_are_looked_at_more_often_when_values_are_large(settings: Callable[..., Settings]) -> None:
    rows = next(parquet.split(events(*[ROWS[2]] * 200)))[2]
    assert parquet.rows_per_step(rows, settings()) == 1024
    long = pa.array([f"{number:06d}" * 20_000 for number in range(200)])
    rows = rows.set_column(rows.schema.get_field_index("class_name"), "class_name", long)
    assert parquet.rows_per_step(rows, settings()) * 120_000 <= 1 << 20


@pytest.mark.parametrize(
    ("value", "expected"),
    [("eu-west-1",) * 2, ("EU", "unknown"), ("", "unknown"), (None, "unknown"), ("a/b", "unknown"), ("a\n", "unknown")],
)
def test_a_region_is_checked(value: str | None, expected: str) -> None:
    assert layout.region(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("012345678901", "012345678901"), ("external", "external"), ("external_7", "external_7"), ("1", "unknown"),
        ("0123456789012", "unknown"), ("١٢٣٤٥٦٧٨٩٠١٢", "unknown"), (None, "unknown"), ("012345678901\n", "unknown"),
    ],
)  # fmt: skip
def test_an_account_is_checked(value: str | None, expected: str) -> None:
    assert layout.account(value) == expected


def test_no_rejects_no_file_and_no_events_no_file(tmp_path: Path, settings: Callable[..., Settings]) -> None:
    assert parquet.write(events().slice(0), Store(str(tmp_path)), settings(), "b", 0) == []


def filled(kind: pa.DataType, path: str, values: pa.Array) -> pa.Array:
    """A struct of nulls, but for the values at a path."""
    if not path:
        return values
    name, _, rest = path.partition(".")
    members = [
        filled(field.type, rest, values) if field.name == name else pa.nulls(len(values), field.type) for field in kind
    ]
    return pa.StructArray.from_arrays(members, names=[field.name for field in kind])


def having(rows: pa.Table, path: str, values: pa.Array) -> pa.Table:
    """Rows with texts as a dictionary at a path."""
    name, _, rest = path.partition(".")
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, name, filled(rows.schema.field(name).type, rest, values.dictionary_encode()))


def test_equal_values_of_the_tables_key_stand_together() -> None:
    names = pa.array(["b", "a", "b", "a", "b"])
    rows = events(*(("cloud_trail_mgmt", "eu-west-1", "111122223333", DAY_MS + 5 - n, n) for n in range(len(names))))
    ((_, _, found),) = parquet.split(having(rows, "actor.user.uid", names))
    assert found["source_record"].to_pylist() == [4, 2, 0, 3, 1]
    assert found["actor"].combine_chunks().field("user").field("uid").to_pylist() == ["b", "b", "b", "a", "a"]


def test_a_file_holds_no_value_of_other_partitions() -> None:
    """A dictionary is written with all its values, so it is cut to those of the file."""
    accounts = ["111122223333", "444455556666"]
    rows = events(*(("cloud_trail_mgmt", "eu-west-1", accounts[n % 2], DAY_MS + n, n) for n in range(2_000)))
    texts = pa.array([f"{accounts[n % 2]}-{n % 20}" for n in range(2_000)])
    for partition, _, found in parquet.split(having(rows, "api.operation", texts)):
        operations = found["api"].combine_chunks().field("operation")
        assert pa.types.is_dictionary(operations.type)
        assert {text[:12] for text in operations.dictionary.to_pylist()} == {partition.values[1]}
        assert len(found) == 1_000


def test_dictionaries_inside_lists_and_maps_are_cut_to_a_slice() -> None:
    size = 1_200
    texts = pa.array([f"{'own' if n < size // 2 else 'other'}-{n % 9}" for n in range(size)]).dictionary_encode()
    offsets = pa.array(range(size + 1), pa.int32())
    structs = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([texts], names=["value"]))
    entries = pa.MapArray.from_arrays(offsets, texts, texts)
    for values in (texts, structs, entries):
        part = packing.packed(values.slice(0, size // 2))
        assert part.to_pylist() == values.slice(0, size // 2).to_pylist()
        for held in dictionaries(part):
            assert {text[:3] for text in held.to_pylist()} == {"own"}


def dictionaries(values: pa.Array) -> list[pa.Array]:
    if pa.types.is_map(values.type):
        return [values.keys.dictionary, values.items.dictionary]
    return [values.values.field(0).dictionary if pa.types.is_list(values.type) else values.dictionary]
