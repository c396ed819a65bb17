"""How a batch is divided when some of it cannot be computed, and what names a mapper."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from ocsf_mappers import Engine, JsonRecords, Mapped, RawObject, registry
from ocsf_mappers.engine import batch as batches
from ocsf_mappers.engine import engine, statements
from ocsf_mappers.engine import fingerprint as naming
from ocsf_mappers.engine.batch import Batch
from ocsf_mappers.engine.fingerprint import fingerprint
from ocsf_mappers.readers import Chunk
from tests.ocsf_mappers.records import call
from tests.support import PROJECT, reasons


@pytest.fixture(scope="module")
def cloudtrail() -> Engine:
    return Engine(registry.load("aws_cloudtrail"))


def chunk(*records: object) -> Chunk:
    raw = [json.dumps(record) for record in records]
    return Chunk(pa.table({"_record": pa.array(range(1, len(raw) + 1), pa.int64()), "_raw": raw}))


@pytest.mark.slow
@pytest.mark.parametrize("error", [MemoryError, pa.ArrowMemoryError])
def test_a_record_that_takes_too_much_memory_stands_alone(
    cloudtrail: Engine, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Engine._run

    def hungry(self: Engine, batch: Batch) -> Mapped:
        if any("poison" in raw for raw in batch.records["_raw"].to_pylist()):
            raise error("out of memory")
        return run(self, batch)

    monkeypatch.setattr(Engine, "_run", hungry)
    mapped = cloudtrail.map([(RawObject("memory://x"), chunk(call(1), call(2, userAgent="poison"), call(3)))])
    assert sorted(mapped.events["source_record"].to_pylist()) == [1, 3]
    assert mapped.rejects["source_record"].to_pylist() == [2]
    assert reasons(mapped) == ["mapping the record takes more memory than is allowed"]


@pytest.mark.slow
def test_a_query_that_takes_too_much_memory_is_asked_of_fewer_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MEMORY", "100MB")
    small = Engine(registry.load("aws_cloudtrail"))
    large = call(2, **{f"k{number}": 1 for number in range(150_000)})
    mapped = small.map([(RawObject("memory://x"), chunk(call(1), large, call(3)))])
    assert sorted(mapped.events["source_record"].to_pylist()) == [1, 3]
    assert reasons(mapped) == ["mapping the record takes more memory than is allowed"]


def test_what_is_computed_at_once_holds_no_more_values_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "VECTOR_VALUES", 100)
    monkeypatch.setattr(batches, "VECTOR_ROWS", 4)
    heavy = [{f"k{key}": key for key in range(size)} for size in (5, 90, 5, 5, 250, 5, 60, 60, 5)]

    def sizes(*records: dict[str, int]) -> list[int]:
        given = chunk(*records)
        found = list(Batch([(RawObject("memory://x"), given.records, given)]).portions())
        assert [row for batch in found for row in batch.records["_record"].to_pylist()] == [*range(1, len(records) + 1)]
        return [len(batch) for batch in found]

    assert sizes(*heavy) == [3, 1, 1, 2, 2]
    assert sizes(*heavy[:1] * 30) == [30], "ordinary records stay together, however many they are"


def test_all_of_several_portions_may_be_refused(cloudtrail: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "VECTOR_VALUES", 10)
    broken = [f'{{"k": [{"1, " * 20}' for _ in range(3)]
    given = Chunk(pa.table({"_record": pa.array([1, 2, 3], pa.int64()), "_raw": broken}))
    mapped = cloudtrail.map([(RawObject("memory://x"), given)])
    assert reasons(mapped) == ["the record is not valid JSON"] * 3


def test_records_of_many_small_objects_fill_vectors() -> None:
    def chunks(objects: int, records: int) -> int:
        part = chunk(*({"k": number} for number in range(records)))
        batch = Batch([(RawObject(f"memory://{number}"), part.records, part) for number in range(objects)])
        (portion,) = batch.portions()
        assert portion.records["_object"].to_pylist() == [n for n in range(objects) for _ in range(records)]
        found: int = portion.records["_raw"].num_chunks
        return found

    assert chunks(objects=50, records=3) == 1
    assert chunks(objects=3, records=batches.VECTOR_ROWS) == 3, "what fills vectors is not copied"


@pytest.mark.slow
def test_records_with_an_envelope_and_without_are_mapped_by_one_query() -> None:
    mapping = Engine(registry.load("aws_cloudtrail"))
    plain, wrapped = chunk(call(1)), chunk(call(2))
    around = pa.array(['{"detail-type": "x", "detail": null}'])
    wrapped = Chunk(wrapped.records.append_column("_envelope", around))
    parts = [(RawObject(f"memory://{n}"), found) for n, found in enumerate((plain, wrapped, plain))]
    mapped = mapping.map(parts)
    assert mapped.events["source_object"].to_pylist() == ["memory://0", "memory://1", "memory://2"]
    entries = [dict(entries or ()) for entries in mapped.events["unmapped"].to_pylist()]
    assert [found.get("envelope.detail-type") for found in entries] == [None, "x", None]
    assert len(mapping._programs) == 1


def test_what_decides_events_names_the_mapper(monkeypatch: pytest.MonkeyPatch) -> None:
    mapper = registry.load("aws_cloudtrail")
    name = fingerprint(mapper, "1.1.0")
    assert fingerprint(mapper, "1.1.0") == name
    others = {
        fingerprint(mapper, "1.5.0"),
        fingerprint(replace(mapper, readers=[JsonRecords()]), "1.1.0"),
        fingerprint(replace(mapper, drop={"readOnly": "a test"}), "1.1.0"),
    }
    monkeypatch.setattr(naming, "_code", lambda: b"another reader")
    others.add(fingerprint(mapper, "1.1.0"))
    assert len(others - {name}) == 4


@pytest.mark.parametrize(
    "module", ["readers/delimited.py", "compiler/each.py", "engine/assemble.py", "engine/engine.py"]
)
def test_the_code_that_makes_events_is_part_of_the_name(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = naming._code.__wrapped__()
    shutil.copytree(Path(naming.__file__).parents[1], tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(naming, "__file__", str(tmp_path / "engine" / "fingerprint.py"))
    assert naming._code.__wrapped__() == found
    with (tmp_path / module).open("r+") as file:
        file.seek(0, 2)
        file.write("KEPT_BYTES = 0\n")
    assert naming._code.__wrapped__() != found


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyError, pa.ArrowInvalid, RecursionError, duckdb.InternalException])
def test_whatever_a_record_raises_costs_that_record(
    cloudtrail: Engine, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Engine._run

    def fails(self: Engine, batch: Batch) -> Mapped:
        if any("poison" in raw for raw in batch.records["_raw"].to_pylist()):
            raise error("odd value\nsecond line")
        return run(self, batch)

    monkeypatch.setattr(Engine, "_run", fails)
    mapped = cloudtrail.map([(RawObject("memory://x"), chunk(call(1), call(2, userAgent="poison"), call(3)))])
    assert sorted(mapped.events["source_record"].to_pylist()) == [1, 3]
    (reason,) = reasons(mapped)
    assert reason.startswith(f"mapping failed: {error.__name__}: ")
    assert "odd value" in reason
    assert "\n" not in reason


def test_a_record_that_breaks_the_database_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    query = Engine._query
    broken = []

    def breaks(self: Engine, sql: str, batch: Batch) -> pa.Table:
        self._connection()
        if self._database in broken:
            raise duckdb.FatalException("the database has been invalidated because of a previous fatal error")
        if any("poison" in raw for raw in batch.records["_raw"].to_pylist()):
            broken.append(self._database)
            raise duckdb.InternalException("odd value")
        return query(self, sql, batch)

    monkeypatch.setattr(Engine, "_query", breaks)
    records = chunk(call(1), call(2, userAgent="poison"), call(3), call(4))
    mapped = Engine(registry.load("aws_cloudtrail")).map([(RawObject("memory://x"), records)])
    assert sorted(mapped.events["source_record"].to_pylist()) == [1, 3, 4]
    assert reasons(mapped) == ["mapping failed: InternalException: odd value"]


@pytest.mark.slow
def test_what_fails_for_every_record_ends_soon_and_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, size = 0, 5_000

    def fails(self: Engine, batch: Batch) -> Mapped:
        nonlocal runs
        runs += 1
        raise TypeError("a mistake in the mapper")

    monkeypatch.setattr(Engine, "_run", fails)
    small = Engine(registry.load("aws_cloudtrail"))
    mapped = small.map([(RawObject("memory://x"), chunk(*({"k": number} for number in range(size))))])
    assert mapped.rejects["source_record"].to_pylist() == [*range(1, size + 1)]
    assert set(reasons(mapped)) == {"mapping failed: TypeError: a mistake in the mapper"}
    assert runs < 16 * engine.SAME_FAILURES


@pytest.mark.slow
def test_many_bad_records_in_a_row_do_not_take_the_good_ones_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Engine._run

    def fails(self: Engine, batch: Batch) -> Mapped:
        if any("poison" in raw for raw in batch.records["_raw"].to_pylist()):
            raise TypeError("odd value")
        return run(self, batch)

    monkeypatch.setattr(Engine, "_run", fails)
    small = Engine(registry.load("aws_cloudtrail"))
    records = [call(number, userAgent="poison" if number < 50 else "x") for number in range(150)]
    mapped = small.map([(RawObject("memory://x"), chunk(*records))])
    assert len(mapped.events) == 100
    assert len(mapped.rejects) == 50


FINGERPRINTS = """
from ocsf_mappers.engine.fingerprint import fingerprint
from ocsf_mappers import registry
for name in ("aws_cloudtrail", "aws_guardduty", "aws_route53_resolver", "aws_vpc_flow"):
    for version in ("1.1.0", "1.5.0", "1.8.0"):
        print(fingerprint(registry.load(name), version))
"""


@pytest.mark.slow
def test_every_process_names_the_mappers_alike() -> None:
    """Names of batches and files hold them: another process would plan what is open anew, under other names."""
    found = [
        subprocess.run(
            [sys.executable, "-c", FINGERPRINTS], check=True, capture_output=True, text=True, cwd=PROJECT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.split()
        for seed in ("0", "7")
    ]  # fmt: skip
    assert len(found[0]) == 12
    assert found[1] == found[0]
