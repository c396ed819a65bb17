"""Parquet as raw logs: every type as text, memory bounded whatever a file unfolds to, and damage that ends nothing."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_mappers import ParquetRows
from ocsf_mappers.readers import Chunk, parquet, parquet_pages, thrift
from ocsf_mappers.readers.streams import Blocks, Limits
from tests.support import PROJECT, named_rows, often

MEGABYTE = 1 << 20


def file_of(table: pa.Table, **how: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **how)
    return buffer.getvalue()


def read(data: bytes, limits: Limits | None = None) -> list[Chunk]:
    return list(ParquetRows(zero_padded={"account_id": 12}).read(Blocks(io.BytesIO(data), limits)))


def texts(values: pa.Array, **how: Any) -> list[str | None]:
    """A column as it is read."""
    chunks = read(file_of(pa.table({"x": values}), **how))
    assert [item.reason for chunk in chunks for item in chunk.bad] == []
    return [row["x"] for chunk in chunks for row in named_rows(chunk)]


def why(chunks: list[Chunk]) -> str:
    """The reason for the last bad record."""
    return [item.reason for chunk in chunks for item in chunk.bad][-1]


def numbers(chunks: list[Chunk]) -> list[int]:
    found = [row["_record"] for chunk in chunks for row in chunk.records.to_pylist()]
    return sorted(found + [item.record for chunk in chunks for item in chunk.bad])


def times(unit: str, *values: int | None) -> pa.Array:
    return pa.array(values, pa.timestamp(unit))


@pytest.mark.parametrize(("values", "expected"), [
    (pa.array([1.0, 0.5, 1e300, 2.0**53, -3.0, None]), ["1", "0.5", "1e+300", "9007199254740992", "-3", None]),
    (pa.array([float("nan"), float("inf")]), ["nan", "inf"]),
    (pa.array([1.5, 8.0], pa.float32()), ["1.5", "8"]),
    (pa.array([1.5, 8.0], pa.float16()), ["1.5", "8"]),
    (pa.array([2**63, 0], pa.uint64()), ["9223372036854775808", "0"]),
    (pa.array([True, None]), ["true", None]),
    (pa.array([Decimal("1.50"), None]), ["1.50", None]),
    (pa.array([date(2026, 2, 3), None]), ["2026-02-03", None]),
    (times("s", 1770106500), ["1770106500"]),
    (times("ms", 1770106500000, 1770106500250, None, -500), ["1770106500", "1770106500.25", None, "-0.5"]),
    (times("ns", 1770106500000000001), ["1770106500.000000001"]),
    (pa.array([datetime(2026, 2, 3, tzinfo=UTC)]), ["1770076800"]),
    (pa.array(["-", "None", "", "é", None]), [None, None, "", "é", None]),
    (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    (pa.array(["a", None], pa.large_string()), ["a", None]),
    (pa.array(["a", None], pa.string_view()), ["a", None]),
    (pa.array([b"a", None]), ["a", None]),
    (pa.array([b"abcd", None], pa.binary(4)), ["abcd", None]),
    (pa.array([[1, 2], [], None]), ["[1,2]", "[]", None]),
    (pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), ["[1,2]", None]),
    (pa.array([["a", "b"], ["a"]]), ['["a","b"]', '["a"]']),
    (pa.array([{"a": 1, "b": ["x"]}, None]), ['{"a":1,"b":["x"]}', None]),
    (pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())), ['[["k","v"]]', None]),
    (pa.nulls(2), [None, None]),
], ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "")  # fmt: skip
def test_every_type_is_text(values: pa.Array, expected: list[str | None]) -> None:
    assert texts(values) == expected


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_every_encoding_of_texts_is_read(encoding: str, version: str) -> None:
    values = [f"value {number}" for number in range(1_000)]
    how = {"use_dictionary": False, "column_encoding": {"x": encoding}, "data_page_version": version}
    assert texts(pa.array(values), row_group_size=300, data_page_size=1_000, **how) == values


def test_a_row_that_is_not_utf_8_costs_only_itself() -> None:
    chunks = read(file_of(pa.table({"a": [b"x", b"\xff\xfe", b"y", None], "b": ["1", "2", "3", "4"]})))
    assert [(row["_record"], row["a"]) for row in named_rows(chunks[0])] == [(1, "x"), (3, "y"), (4, None)]
    assert [(item.record, item.reason, item.text) for item in chunks[0].bad] == [
        (2, "invalid UTF-8 in the row", "\\xff\\xfe 2")
    ]


def test_an_error_of_the_store_is_no_damage_of_the_file() -> None:
    class Store(io.BytesIO):
        asked = 0

        def read(self, size: int | None = -1) -> bytes:
            self.asked += 1
            if self.asked > 5:
                raise ConnectionError("the store does not answer")
            return super().read(size)

    data = file_of(pa.table({"a": [f"v{number}" for number in range(100_000)]}))
    with pytest.raises(ConnectionError, match="does not answer"):
        list(ParquetRows().read(Blocks(Store(data))))


# -- memory -----------------------------------------------------------------------------------------------------------
def repeated(size: int, rows: int, columns: int = 1) -> pa.Table:
    """One text in each row, which the file holds once."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * size]))
    return pa.table({f"n{number}": column for number in range(columns)})


def a_list(items: pa.Array) -> pa.Table:
    return pa.table({"n": pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items)})


PREFIXED: dict[str, Any] = {"use_dictionary": False, "compression": "zstd"}

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a long text in every row": (lambda: file_of(repeated(8_000, 65_536)), "times the file's size"),
    "long texts in thirty columns": (lambda: file_of(repeated(8_000, 65_536, 30)), "times the file's size"),
    "more than an array of texts can hold": (lambda: file_of(repeated(40_000, 200_000)), "times the file's size"),
    "texts longer than a record may be": (lambda: file_of(repeated(5 * MEGABYTE, 300)), "longer than"),
    "nothing, fifty million times": (
        lambda: file_of(pa.table({"n": pa.nulls(50_000_000, pa.int32())})), "times the file's size",
    ),
    "a list of twenty million numbers": (
        lambda: file_of(a_list(pa.array(np.zeros(20_000_000, np.int32)))), "bytes at once",
    ),
    "a list of two million long texts": (
        lambda: file_of(a_list(repeated(8_000, 2_000_000)["n0"].combine_chunks())), "longer than",
    ),
    "texts that begin alike": (
        lambda: file_of(
            pa.table({f"n{place}": [f"{'x' * 900}{number}" for number in range(30_000)] for place in range(20)}),
            column_encoding={f"n{place}": "DELTA_BYTE_ARRAY" for place in range(20)}, **PREFIXED,
        ),
        "times the file's size",
    ),
    "pages that unfold to half a gigabyte": (
        lambda: file_of(
            pa.table({"n": ["x" * 1_000] * 600_000}), data_page_size=1 << 30, write_batch_size=1 << 30, **PREFIXED
        ),
        "times the file's size",
    ),
}  # fmt: skip

MEASURE = r"""
import pathlib, re, resource, sys
from ocsf_mappers import ParquetRows
from ocsf_mappers.readers.streams import Blocks
with open(sys.argv[1], "rb") as file:
    rows = bad = 0
    reason = ""
    for chunk in ParquetRows().read(Blocks(file)):
        rows, bad = rows + len(chunk.records), bad + len(chunk.bad)
        reason = chunk.bad[-1].reason if chunk.bad else reason
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if (status := pathlib.Path("/proc/self/status")).exists():
    # On Linux `ru_maxrss` starts from what the process that starts this one held: pytest's, here.
    peak = int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1])
print(rows, bad, peak * (1 if sys.platform == "darwin" else 1024), reason)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", often(BOMBS, list(BOMBS)[:2]))
def test_a_file_made_to_exhaust_memory_is_a_reason_in_quarantine(name: str, tmp_path: Path) -> None:
    made, reason = BOMBS[name]
    (tmp_path / "bomb.parquet").write_bytes(made())
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "bomb.parquet")],
        capture_output=True, text=True, timeout=200, check=False, cwd=PROJECT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows, bad, peak, found = done.stdout.strip().split(" ", 3)
    assert reason in found
    assert int(bad) > 0
    assert int(peak) < 400 * MEGABYTE, f"{int(peak) // MEGABYTE} MB, {rows} rows"


def test_rows_before_the_limit_are_kept_and_chunks_are_small() -> None:
    data = file_of(repeated(1_000, 100_000))
    chunks = read(data, Limits(max_bytes=40 * MEGABYTE))
    assert "more than 41943040 bytes" in why(chunks)
    assert 30_000 < sum(len(chunk.records) for chunk in chunks) < 42_000
    assert max(chunk.records.nbytes for chunk in chunks) < 1.1 * parquet.CHUNK_BYTES
    assert numbers(chunks) == list(range(1, sum(chunk.read for chunk in chunks) + 1))


def test_a_row_too_long_to_hold_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "RECORD_BYTES", 1_000)
    monkeypatch.setattr(parquet, "CHUNK_BYTES", 3_000)
    sizes = [10, 2_000, 10, 10, 5_000, 6_000, 900, 900, 900, 900, 10]
    chunks = read(file_of(pa.table({"a": ["x" * size for size in sizes], "b": range(11)})))
    kept = [(row["_record"], len(row["a"])) for chunk in chunks for row in named_rows(chunk)]
    assert kept == [(number, size) for number, size in enumerate(sizes, start=1) if size <= 1_000]
    assert [item.record for chunk in chunks for item in chunk.bad] == [2, 5, 6]
    assert [item.text[:3] + item.text[-2:] for chunk in chunks for item in chunk.bad] == ["xxx 1", "xxx 4", "xxx 5"]


def test_a_file_of_columns_without_end_says_so() -> None:
    chunks = read(file_of(pa.table({f"n{number}": ["x"] for number in range(1_500)})))
    assert why(chunks) == "the file has 1500 columns, more than the 1024 that are read"


@pytest.mark.slow
def test_ordinary_files_are_read_in_large_batches() -> None:
    table = pa.table({f"n{place}": [f"v{place}{number % 97}" for number in range(70_000)] for place in range(29)})
    footer = parquet_pages.Footer(io.BytesIO(file_of(table)))
    assert footer.names == [f"n{place}" for place in range(29)]
    assert [(leaf.text, leaf.repeated) for leaf in footer.leaves] == [(True, False)] * 29
    assert footer.plan(0) == parquet_pages.Plan(rows=65_536, dictionaries=list(range(29)), total=70_000)


# -- damage -----------------------------------------------------------------------------------------------------------
def damaged_files() -> list[bytes]:
    table = pa.table({
        "srcaddr": [f"10.0.0.{number % 7}" for number in range(200)],
        "bytes": pa.array(range(200)),
        "share": [number * 0.5 for number in range(200)],
        "flags": pa.array([None, 1] * 100, pa.int32()),
        "list": [[1, 2], None] * 100,
        "object": [{"a": "x", "b": [1]}] * 200,
        "start": times("ms", *range(200)),
        "map": pa.array([[("k", "v")]] * 200, pa.map_(pa.string(), pa.string())),
    })  # fmt: skip
    ways: list[dict[str, Any]] = [
        {}, {"compression": "none"}, {"compression": "zstd", "data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": {"srcaddr": "DELTA_BYTE_ARRAY", "bytes": "DELTA_BINARY_PACKED"}},
    ]  # fmt: skip
    return [file_of(table, row_group_size=100, **way) for way in ways]


def broken(data: bytes, chance: random.Random) -> bytes:
    """The file with a few bytes changed, lost or added; the footer as often as all the rest."""
    found = bytearray(data)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for _ in range(chance.choice([1, 1, 2, 4])):
        place = chance.randrange(footer if chance.random() < 0.5 else 0, len(found))
        match chance.randrange(4):
            case 0:
                found[place] = chance.randrange(256)
            case 1:
                found[place] ^= 1 << chance.randrange(8)
            case 2:
                del found[place : place + chance.randrange(1, 9)]
            case _:
                found[place:place] = chance.randbytes(chance.randrange(1, 9))
    return bytes(found)


@pytest.mark.slow
def test_damage_anywhere_is_a_reason_in_quarantine() -> None:
    chance = random.Random(20260203)
    ends = {"whole": 0, "damaged": 0}
    for data in damaged_files():
        for _ in range(250):
            chunks = read(broken(data, chance))
            for chunk in chunks:
                chunk.records.validate(full=True)
            assert numbers(chunks) == list(range(1, len(numbers(chunks)) + 1))
            ends["damaged" if any(chunk.bad for chunk in chunks) else "whole"] += 1
    assert min(ends.values()) > 10


def test_rows_that_a_row_group_lacks_are_missed() -> None:
    data = file_of(pa.table({"a": pa.array(range(100))}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_pages, "BATCH_ROWS", 40)
        real = parquet_pages.Footer.plan

        def more(self: parquet_pages.Footer, number: int) -> parquet_pages.Plan:
            plan = real(self, number)
            return parquet_pages.Plan(plan.rows, plan.dictionaries, plan.total + 3)

        patch.setattr(parquet_pages.Footer, "plan", more)
        chunks = read(data)
    assert sum(len(chunk.records) for chunk in chunks) == 100
    assert why(chunks) == "the Parquet file is damaged: 3 rows of row group 1 are missing"


@pytest.mark.parametrize("data", [
    b"PAR1", b"PAR1PAR1", b"PAR1" + b"\xff" * 4 + b"PAR1", b"PAR1\0\0\0\0" + (4).to_bytes(4, "little") + b"PAR1",
    b"PAR1" + b"\x19" * 100 + (100).to_bytes(4, "little") + b"PAR1", b"PAR1" + b"x" * 50,
])  # fmt: skip
def test_what_only_begins_like_parquet_is_damaged(data: bytes) -> None:
    (chunk,) = read(data)
    assert len(chunk.bad) == 1
    assert "damaged" in chunk.bad[0].reason


def test_structs_in_each_other_without_end_are_refused() -> None:
    with pytest.raises(thrift.ReadError, match="unreadable"):
        thrift.struct(b"\x1c" * 100_000)


def test_names_are_those_of_a_row_s_members_as_arrow_has_them() -> None:
    table = pa.table({"a": [{"b": 1, "c": {"d": ["x"]}}], "": [[1]], "é": [[("k", "v")]], "last": ["x"]})
    data = file_of(table.set_column(2, "é", pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string()))))
    footer = parquet_pages.Footer(io.BytesIO(data))
    assert footer.names == ["a", "", "é", "last"]
    assert [leaf.repeated for leaf in footer.leaves] == [False, True, True, True, True, False]
