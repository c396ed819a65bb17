"""Files: one per table, class and partition, sorted, plain, and the same bytes each time."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ocsf_lake.catalogs import definitions
from ocsf_lake.config import Settings
from ocsf_lake.storage import layout, packing, parquet, writer
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.parquet import Encoded
from ocsf_lake.storage.writer import Writer
from ocsf_mappers import registry
from tests.ocsf_lake.export.test_export import pages

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


def folder(partition: Partition) -> str:
    return definitions.folder(partition.table, partition.values)


def written(settings: Settings, *parts: pa.Table, number: int = 0) -> list[Encoded]:
    """The files of a batch of these parts."""
    found = Writer(settings, "b" * 32, number)
    for part in parts:
        found.settle()
        found.add(parquet.split(part))
    return list(found.ended(folder))


def read(data: pa.Buffer) -> pq.ParquetFile:
    return pq.ParquetFile(pa.BufferReader(data))


def test_a_file_has_the_tables_plain_types(settings: Callable[..., Settings]) -> None:
    info, data = written(settings(), events(*ROWS, encode=True), number=7)[0]
    assert info.path == (
        "aws/CLOUD_TRAIL_MGMT/2.0/region=eu-west-1/accountId=111122223333/eventDay=19700102/"
        f"{'b' * 32}-00007-6003.parquet"
    )
    assert (info.rows, info.min_time, info.max_time) == (3, DAY_MS, 2 * DAY_MS - 1)
    file = read(data)
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


def test_the_same_events_give_the_same_bytes(settings: Callable[..., Settings]) -> None:
    assert written(settings(), events(*ROWS)) == written(settings(), events(*ROWS, encode=True))


def calls(first: int, number: int, account: str = "111122223333", *, encode: bool = False) -> pa.Table:
    """A part of events of one partition, a millisecond from each other, with texts as dictionaries or not."""
    rows = (("cloud_trail_mgmt", "eu-west-1", account, DAY_MS + n, n) for n in range(first, first + number))
    return events(*rows, encode=encode)


@pytest.mark.parametrize("group_rows", [1, 150, 10_000])
def test_parts_of_a_batch_become_one_file_of_each_partition(
    group_rows: int, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the types of their texts are in memory, and however many rows wait for a row group."""
    monkeypatch.setattr(writer, "GROUP_ROWS", group_rows)
    parts = [calls(200, 100, encode=True), calls(0, 100), calls(100, 100, encode=True), calls(0, 3, "012345678901")]
    (small, few), (large, data) = written(settings(), *parts)
    assert [(item.rows, item.min_time, item.max_time) for item in (small, large)] == [
        (3, DAY_MS, DAY_MS + 2), (300, DAY_MS, DAY_MS + 299)
    ]  # fmt: skip
    groups = {1: [[*range(200, 300)], [*range(100)], [*range(100, 200)]], 10_000: [[*range(300)]]}
    # Rows that waited together are in order.
    groups[150] = [[*range(100), *range(200, 300)], [*range(100, 200)]]
    file = read(data)
    found = [file.read_row_group(n)["source_record"].to_pylist() for n in range(file.num_row_groups)]
    assert found == groups[group_rows]
    assert file.read()["class_name"].unique().to_pylist() == ["API Activity"]
    assert not any(pa.types.is_dictionary(field.type) for field in file.schema_arrow)
    bounds = [file.metadata.row_group(n).column(schema_position(file, "time")).statistics for n in range(len(found))]
    assert [(item.min - DAY_MS, item.max - DAY_MS) for item in bounds] == [(min(rows), max(rows)) for rows in found]
    codecs = [read(item).metadata.row_group(0).column(0).compression for item in (few, data)]
    assert codecs == ["ZSTD" if group_rows == 1 else "SNAPPY", "ZSTD"]
    assert large.sha256 == parquet.checksum(data)
    assert large.bytes == data.size
    assert written(settings(), *parts) == [(small, few), (large, data)]


def test_rows_that_wait_are_few(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "WAITING_BYTES", 100_000)
    found = Writer(settings(), "b")
    for number in range(8):
        found.add(parquet.split(calls(100 * number, 100)))
        assert sum(file.waiting_bytes for file in found._files.values()) <= 100_000
    ((info, data),) = found.ended(folder)
    file = read(data)
    assert info.rows == 800
    assert 1 < file.num_row_groups < 8
    assert file.read()["source_record"].to_pylist() == list(range(800))


def test_rows_that_wait_hold_nothing_else_in_memory(settings: Callable[..., Settings]) -> None:
    part = pa.concat_tables([calls(0, 5), calls(5, 2_000, "012345678901")]).combine_chunks()
    found = Writer(settings(), "b")
    found.add(slice for slice in parquet.split(part) if len(slice[2]) == 5)
    (file,) = found._files.values()
    before = file._waiting[0]
    found.settle()
    (after,) = file._waiting
    assert after.equals(before)
    assert after.get_total_buffer_size() < before.get_total_buffer_size() / 10


def test_files_that_are_begun_after_others_were_ended_have_other_names(settings: Callable[..., Settings]) -> None:
    found = Writer(settings(), "b")
    named: list[FileInfo] = []
    for number in range(3):
        found.add(parquet.split(calls(number, 1)))
        named += [info for info, _ in found.ended(folder)]
        assert (found.bytes, found.open) == (0, [])
    assert [info.path.rpartition("/")[2] for info in named] == [f"b-{number:05d}-6003.parquet" for number in range(3)]


@pytest.mark.parametrize("wide_first", [True, False])
def test_pages_stay_bounded_where_one_part_has_longer_rows_than_others(
    wide_first: bool, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(writer, "GROUP_ROWS", 1)
    long = pa.array([f"{number:06d}" * 5_000 for number in range(200)])
    wide = calls(0, 200)
    wide = wide.set_column(wide.schema.get_field_index("class_name"), "class_name", long)
    parts = [wide, calls(200, 2_000)]
    ((_, data),) = written(settings(), *(parts if wide_first else parts[::-1]))
    (tmp_path / "file").write_bytes(data)
    group = read(data).metadata.row_group(0 if wide_first else 1)
    names = {group.column(n).path_in_schema: n for n in range(group.num_columns)}
    sizes = pages(tmp_path / "file", group.column(names["class_name"]))
    assert sum(sizes) > 6_000_000
    assert max(sizes) < 2 << 20


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


def test_no_events_no_file(settings: Callable[..., Settings]) -> None:
    assert written(settings(), events().slice(0)) == []


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
    lists = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([structs], names=["values"]))
    for values in (texts, structs, entries, lists):
        part = packing.packed(values.slice(0, size // 2))
        assert part.to_pylist() == values.slice(0, size // 2).to_pylist()
        for held in dictionaries(part):
            assert {text[:3] for text in held.to_pylist()} == {"own"}


def dictionaries(values: pa.Array) -> list[pa.Array]:
    if pa.types.is_map(values.type):
        return [values.keys.dictionary, values.items.dictionary]
    return dictionaries(values.values.field(0)) if pa.types.is_list(values.type) else [values.dictionary]


@pytest.mark.parametrize("size", [1_000, 9_000])
def test_a_file_holds_nothing_of_the_memory_of_who_wrote_it(size: int) -> None:
    """An object that was read in two pieces stands twice among those of a part; see `packing`."""
    long = f"s3://b/{'x' * 10_000}"
    codes = pa.array([n % 3 for n in range(size)], pa.int32())
    objects = pa.DictionaryArray.from_arrays(codes, pa.array([long, long, "s3://b/other"]))
    rows = events(("cloud_trail_mgmt", "eu-west-1", "111122223333", DAY_MS, 0)).take([0] * size)
    for name, values in {"source_object": objects, "source_record": pa.array(range(size), pa.int64())}.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), values.cast(rows.schema.field(place).type))
    ((_, _, found),) = parquet.split(rows)
    data = parquet.encode(found, Settings())
    read = pq.read_table(pa.BufferReader(data))
    in_order = read.take(pc.sort_indices(read["source_record"]))
    assert in_order["source_object"].combine_chunks().equals(objects.dictionary_decode())
    columns = pq.read_metadata(pa.BufferReader(data)).row_group(0)
    (column,) = [
        columns.column(number)
        for number in range(columns.num_columns)
        if columns.column(number).path_in_schema == "source_object"
    ]
    # The dictionary's page has each once, and nothing else.
    assert "RLE_DICTIONARY" in column.encodings
    assert column.total_uncompressed_size < 1.5 * len(long)
