"""The compiled reader of members and the one in Python: the same values, the same records to look at."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ocsf_lake import config
from ocsf_mappers import registry
from ocsf_mappers.readers import json_columns
from ocsf_mappers.readers.column import SAMPLE, identity
from ocsf_mappers.readers.json_columns import CompiledMembers, UnavailableError
from ocsf_mappers.readers.json_members import Members, PureMembers
from tests.ocsf_mappers.json_texts import NAMES, Texts, cells, chunked, compare, depth
from tests.support import PROJECT, often, own, read_bytes

CC = shutil.which("cc")


def compiled(folder: Path, *options: str) -> Path:
    """A library made with the machine's own compiler."""
    if CC is None:
        pytest.skip("no C compiler")
    path = folder / "made.so"
    digest = json_columns.digest(json_columns.SOURCE)
    subprocess.run(
        [CC, "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden",
         *options, f'-DSOURCE="{digest}"', "-o", path, json_columns.SOURCE], check=True,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory):
    """The library that is installed, or else one made here."""
    try:
        return json_columns.load(json_columns.LIBRARY)
    except UnavailableError:
        return json_columns.load(compiled(tmp_path_factory.mktemp("library")))


def values(library, names, records, **options):
    """What each record has of each member, and which records are odd."""
    columns, odd = CompiledMembers(names, library, **options).read(pa.chunked_array([pa.array(records, pa.string())]))
    return [cells(column, len(records)).to_pylist() for column in columns], odd.tolist()


def test_texts_are_as_they_were_written(library) -> None:
    found, odd = values(library, ["a", "b"], ['{"a": [ 1 , 2 ],"b":"\\u0041"}', '{"b":1e999}', '{"a":null}'])
    assert found == [["[ 1 , 2 ]", None, "null"], ['"\\u0041"', "1e999", None]]
    assert odd == [False, False, False]


def test_what_is_odd(library) -> None:
    records = ['{"a":1}', '{"a":1,"x":2}', '{"a":1,"a":2}', '{"\\u0061":1,"a":3}', "[1]", '{"a":1', "", '{"a":"\\ud8"}']
    found, odd = values(library, ["a"], records)
    assert found == [["1", "1", "2", "3", None, None, None, None]]
    assert odd == [False, *[True] * 7]


@pytest.mark.slow
def test_records_of_each_source(library) -> None:
    records = 0
    for source in registry.names():
        mapper = registry.load(source)
        names = [field.name for field in mapper.record]
        compiled_reader, pure = CompiledMembers(names, library), PureMembers(names)
        for _, chunk in own(source):
            if "_raw" not in chunk.records.column_names:
                continue
            assert compare(compiled_reader.read, pure, chunk.records["_raw"].cast(pa.string()))
            records += len(chunk.records)
    assert records > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "folder"),
    [("aws_cloudtrail", "cloudtrail"), ("aws_guardduty", "guardduty"), ("aws_route53_resolver", "route53")],
)
def test_real_records(library, samples: Path, source: str, folder: str) -> None:
    mapper = registry.load(source)
    names = [field.name for field in mapper.record]
    chunks = [
        chunk.records["_raw"].cast(pa.string())
        for path in sorted((samples / folder).rglob("*")) if path.is_file()
        for chunk in read_bytes(mapper, path.read_bytes()) if "_raw" in chunk.records.column_names
    ]  # fmt: skip
    reader, pure = CompiledMembers(names, library), PureMembers(names)
    assert all(compare(reader.read, pure, chunk) for chunk in chunks if len(chunk))
    assert compare(reader.read, pure, pa.chunked_array([part for chunk in chunks for part in chunk.chunks]))


@pytest.mark.slow
@pytest.mark.parametrize("sample", [SAMPLE, 50])
@pytest.mark.parametrize("broken", often([0.0, 0.02, 0.1], [0.02]))
def test_made_records(library, broken: float, sample: int) -> None:
    """With a small sample most columns are laid out a text a record."""
    pure, reader = PureMembers(NAMES), CompiledMembers(NAMES, library, sample=sample)
    taken = 0
    for batch in islice(Texts(7, broken).batches(), 20):
        if compare(reader.read, pure, chunked(batch)):
            taken += 1
        else:
            assert max(map(depth, batch)) > 256
    assert taken > 15


def test_nearly_distinct_texts_are_not_searched(library) -> None:
    records = [f'{{"id":"{number}","name":"same"}}' if number % 50 else '{"name":"other"}' for number in range(5_000)]
    records[2_500] = '{"id":"first","id":"second"}'
    records[2_600] = '{"id":"broken"'
    both = pa.chunked_array([pa.array(records)])
    reader = CompiledMembers(["id", "name", "none"], library)
    (number, name, none), _ = reader.read(both)
    assert number.codes is identity(5_000)
    assert len(name.values) == 3
    assert (none.values.null_count, none.codes) == (1, None)
    assert compare(reader.read, PureMembers(["id", "name", "none"]), both)


def test_deep_records_are_left_to_the_other(library) -> None:
    assert values(library, ["a"], ['{"a":' + "[" * 256 + "]" * 256 + "}"])[1] == [False]
    for levels in (257, 100_000):
        records = pa.chunked_array([pa.array(['{"a":' + "[" * levels + "]" * levels + "}", '{"a":1}'])])
        assert CompiledMembers(["a"], library).read(records) is None
        columns, odd = Members(["a"]).read(records)
        assert odd.tolist() == [levels > 1_000, False]
        assert cells(columns[0], 2).to_pylist()[1] == "1"


def test_nothing_is_taken_that_is_no_text_or_nothing(library) -> None:
    reader = CompiledMembers(["a"], library)
    assert reader.read(pa.chunked_array([pa.array(["{}"], pa.large_string())])) is None
    assert reader.read(pa.chunked_array([pa.array(["{}", None])])) is None
    assert reader.read(pa.chunked_array([], pa.string())) is None


def test_columns_outlive_what_read_them(library) -> None:
    gc.freeze()  # a million objects of other tests are no garbage of this one, and take two seconds each time
    reader = CompiledMembers(["a", "b"], library)
    records = pa.chunked_array([pa.array([f'{{"a":"{number % 7}","b":"{number}"}}' for number in range(10_000)])])
    (first, second), _ = reader.read(records)
    del records, reader
    gc.collect()
    assert sorted(first.values.to_pylist()) == [f'"{number}"' for number in range(7)]
    rest = second.values.slice(9_990)
    del second
    gc.collect()
    assert rest.to_pylist() == [f'"{number}"' for number in range(9_990, 10_000)]


@pytest.mark.slow
def test_threads_read_at_the_same_time(library) -> None:
    pure, failed = PureMembers(NAMES), []

    def run(seed: int) -> None:
        try:
            for batch in islice(Texts(seed).batches(), 3):
                compare(CompiledMembers(NAMES, library).read, pure, chunked(batch))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.slow
def test_a_library_of_another_source_is_not_used(tmp_path: Path) -> None:
    path = compiled(tmp_path, "-USOURCE")
    older = tmp_path / "older.so"
    older.write_bytes(path.read_bytes().replace(json_columns.digest(json_columns.SOURCE).encode(), b"0" * 64))
    with pytest.raises(UnavailableError, match=r"another jsoncolumns\.c"):
        json_columns.load(older)
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(UnavailableError, match="cannot be loaded"):
        json_columns.load(tmp_path / "text.so")
    with pytest.raises(UnavailableError, match=r"there is no none\.so"):
        json_columns.load(tmp_path / "none.so")


def test_the_library_is_left_alone_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCSF_LAKE_PURE", "1")
    json_columns.library.cache_clear()
    try:
        assert json_columns.state() == "pure Python: OCSF_LAKE_PURE is 1"
        config.load()  # does not take it for a misspelt setting
        columns, odd = Members(["a"]).read(pa.chunked_array([pa.array(['{"a":1}'])]))
        assert (columns[0].values.to_pylist(), odd.tolist()) == (["1"], [False])
    finally:
        json_columns.library.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("CI") != "true", reason="a checkout may be used without having been installed")
@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="may not be made here")
def test_installing_the_project_made_the_library() -> None:
    assert json_columns.load(json_columns.LIBRARY)


FUZZ = """
import sys, time
from pathlib import Path
from ocsf_mappers.readers.json_columns import CompiledMembers, load
from ocsf_mappers.readers.json_members import PureMembers
from tests.ocsf_mappers.json_texts import NAMES, Texts, alone, chunked, compare
library, pure = load(Path(sys.argv[1])), PureMembers(NAMES)
until, records = time.monotonic() + float(sys.argv[2]), 0
for seed in range(1_000_000):
    texts = Texts(seed, (0.0, 0.02, 0.1)[seed % 3]).batches()
    for sample in (2_000, 50):
        batch = next(texts)
        for made in (chunked(batch), alone(batch)):
            compare(CompiledMembers(NAMES, library, sample=sample).read, pure, made)
        records += len(batch)
    if time.monotonic() > until:
        break
print(records)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [3, pytest.param(120, marks=pytest.mark.acceptance)])
def test_made_records_under_sanitizers(seconds: int, tmp_path: Path) -> None:
    """Bounded by time: so long what `test_made_records` does, with other seeds; texts end with their memory."""
    path = compiled(tmp_path, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert CC is not None
    runtime = [
        subprocess.run([CC, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(map(os.path.isabs, runtime)):
        pytest.skip("the compiler has no sanitizers that can be loaded first")
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, path, f"{seconds}"], cwd=PROJECT, capture_output=True, text=True, check=False,
        env={**os.environ, "LD_PRELOAD": " ".join(runtime), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"},
        timeout=seconds + 100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5_000:]
    assert int(done.stdout) > 500


def test_codes_are_of_the_type_that_columns_have(library) -> None:
    (column,), odd = CompiledMembers(["a"], library).read(pa.chunked_array([pa.array(['{"a":1}', '{"a":2}'])]))
    assert column.codes is not None
    assert column.codes.dtype == np.int32
    assert odd.dtype == np.bool_
