"""Whatever one object or record makes fail, it stands alone: named, and everything else is in the lake."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from ocsf_lake.config import Settings
from ocsf_lake.ingest import divide, duplicates
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.divide import Division
from ocsf_lake.ingest.parts import Piece
from ocsf_lake.lake import opened
from ocsf_lake.ledger.results import CountError, State
from ocsf_lake.storage import parquet
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.upkeep import replay
from ocsf_lake.upkeep.rebuild import rebuild_batch
from ocsf_mappers import Engine, RawObject
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.readers import Bad, Chunk, JsonRecords
from tests.ocsf_lake.conftest import call, contents, look, write
from tests.ocsf_lake.test_ingest import rows
from tests.support import often

Make = Callable[..., Settings]
POISON = "poison"
pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Three objects of ten records; the second one's fourth record is one that tests make fail."""
    return written(tmp_path / "in", "Tiny", look)


def written(folder: Path, name: str, record: Callable[[int], dict[str, object]]) -> Path:
    for number in range(3):
        records = [record(number * 100 + step) for step in range(10)]
        if number == 1:
            records[3]["userAgent"] = POISON
        write(folder / f"{number}.json", json.dumps({name: records}))
    return folder


def has_poison(chunk: Chunk) -> bool:
    raw = chunk.records["_raw"].to_pylist() if "_raw" in chunk.records.column_names else []
    return any(POISON in text for text in raw)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes mapping raise an error wherever the record is among what is mapped."""
    mapped = Engine.map

    def plant(error: Exception) -> None:
        def fails(self: Engine, given: Sequence[tuple[RawObject, Chunk]], *, ordered: bool = True) -> Any:
            if any(has_poison(chunk) for _, chunk in given):
                raise error
            return mapped(self, given, ordered=ordered)

        monkeypatch.setattr(Engine, "map", fails)

    return plant


ERRORS = [
    ValueError("a defect"), TypeError("'NoneType' object is not iterable"), MemoryError(), RecursionError("too deep"),
    duckdb.ParserException("syntax error"), duckdb.OutOfMemoryException("no room"), pa.ArrowInvalid("overflow"),
    pa.ArrowCapacityError("more than 2 GB"), UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed"),
    KeyError("x"), OSError("unknown codec"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("error", often(ERRORS, ERRORS[:3]), ids=lambda error: type(error).__name__)
def test_a_record_that_makes_mapping_fail_stands_alone(
    error: Exception, logs: Path, settings: Make, poisoned: Callable[[Exception], None]
) -> None:
    poisoned(error)
    summary = ingest.ingest([str(logs)], settings(batch_objects=9, part_rows=99), source="tiny")
    assert (summary.counts.read, summary.counts.events, summary.counts.quarantined) == (30, 29, 1)
    assert (summary.failures, summary.not_read) == ([], [])
    (isolated,) = summary.isolated
    assert (Path(isolated.uri).name, isolated.record) == ("1.json", 4)
    assert isolated.reason.startswith(type(error).__name__)
    kept = rows(settings(), "SELECT source_record, reason, contains(raw, 'poison') FROM quarantine")
    assert kept == [(4, isolated.reason, True)]
    assert rows(settings(), "SELECT state, read, events, quarantined FROM ledger_batches") == [("done", 30, 29, 1)]
    assert ingest.ingest([str(logs)], settings(), source="tiny").known == 3


@pytest.mark.slow
def test_all_records_but_the_one_are_in_the_files_they_would_be_in(
    logs: Path, settings: Make, poisoned: Callable[[Exception], None], tmp_path: Path
) -> None:
    """Dividing leaves no small files, and doing it again gives the same ones."""
    poisoned(ValueError("a defect"))
    for name in ("one", "two"):
        ingest.ingest([str(logs)], settings(name, batch_objects=9, part_rows=99), source="tiny")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    names = [name for name in contents(tmp_path / "one") if name.endswith(".parquet")]
    assert len(names) == 1 + len({name for name in names if "quarantine" not in name})


@pytest.mark.slow
def test_lost_files_of_a_divided_batch_are_made_again(
    logs: Path, settings: Make, poisoned: Callable[[Exception], None], tmp_path: Path
) -> None:
    write(logs / "empty-handed.json", "no json at all")
    poisoned(ValueError("a defect"))
    found = settings(batch_objects=9, part_rows=99)
    assert ingest.ingest([str(logs)], found, source="tiny").isolated
    before = contents(tmp_path / "lake")
    with opened(found) as lake:
        files = rows(found, "SELECT path, batch_id FROM ledger_files")
        for path, _ in files:
            (tmp_path / "lake" / str(path)).unlink()
        assert rebuild_batch(lake, str(files[0][1]), {str(path) for path, _ in files}) is None
    assert contents(tmp_path / "lake") == before


@pytest.mark.slow
def test_an_object_of_which_no_record_passes_is_the_culprit(
    logs: Path, settings: Make, poisoned: Callable[[Exception], None]
) -> None:
    write(logs / "bad.json", json.dumps({"Tiny": [look(number, userAgent=POISON) for number in range(40)]}))
    poisoned(ValueError("a defect"))
    found = settings(batch_objects=9, part_rows=99)
    summary = ingest.ingest([str(logs)], found, source="tiny")
    assert (summary.counts.events, summary.counts.quarantined) == (29, 1)
    (failed,) = summary.not_read
    assert (Path(failed.uri).name, failed.state) == ("bad.json", State.FAILED)
    assert "ValueError: a defect" in failed.reason


@pytest.mark.slow
def test_too_many_records_that_fail_cost_their_object(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch, poisoned: Callable[[Exception], None]
) -> None:
    monkeypatch.setattr(divide, "MOST_RECORDS", 5)
    mixed = [look(number, **({"userAgent": POISON} if number % 2 else {})) for number in range(40)]
    write(logs / "bad.json", json.dumps({"Tiny": mixed}))
    poisoned(ValueError("a defect"))
    summary = ingest.ingest([str(logs)], settings(batch_objects=9, part_rows=99), source="tiny")
    assert [Path(item.uri).name for item in summary.not_read] == ["bad.json"]
    assert (summary.counts.read, summary.counts.events, summary.counts.quarantined) == (30, 29, 1)


@pytest.mark.slow
def test_where_every_object_fails_none_is_blamed(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "map", fails)
        summary = ingest.ingest([str(logs)], settings(batch_objects=9), source="tiny")
    (failure,) = summary.failures
    assert "ValueError: a defect" in failure.reason
    assert "0.json" in failure.reason
    assert summary.not_read == []
    assert rows(settings(), "SELECT count(*) FROM quarantine") == [(0,)]
    assert ingest.ingest([str(logs)], settings(), source="tiny").counts.events == 30


def test_an_object_alone_in_its_batch_is_named(logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(Engine, "map", fails)
    summary = ingest.ingest([str(logs)], settings(batch_objects=1), source="tiny")
    assert (summary.failures, [item.state for item in summary.not_read]) == ([], [State.FAILED] * 3)


@pytest.mark.slow
def test_what_is_too_much_together_is_done_in_pieces(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = Engine.map

    def crowded(self: Engine, given: Sequence[tuple[RawObject, Chunk]], *, ordered: bool = True) -> Any:
        if sum(len(chunk.records) for _, chunk in given) > 12:
            raise MemoryError
        return mapped(self, given, ordered=ordered)

    monkeypatch.setattr(Engine, "map", crowded)
    summary = ingest.ingest([str(logs)], settings(batch_objects=9, part_rows=99), source="tiny")
    assert (summary.counts.events, summary.isolated, summary.not_read) == (30, [], [])
    assert rows(settings(), "SELECT count(*), count(DISTINCT metadata.uid) FROM cloud_trail_mgmt") == [(30, 30)]


# -- every place --------------------------------------------------------------------------------------------------
def _poisoned_rows(events: pa.Table) -> bool:
    return any(POISON in str(row) for row in events.to_pylist())


@pytest.mark.slow
@pytest.mark.parametrize("place", ["split", "encode"])
def test_a_record_that_cannot_be_written_stands_alone(
    place: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = getattr(parquet, place)

    def fails(table: pa.Table, *given: Any, **named: Any) -> Any:
        if "class_uid" in table.column_names and _poisoned_rows(table):
            raise pa.ArrowInvalid("Integer value out of bounds")
        return done(table, *given, **named)

    monkeypatch.setattr(parquet, place, fails)
    summary = ingest.ingest([str(logs)], settings(batch_objects=9, part_rows=99), source="tiny")
    assert (summary.counts.events, summary.counts.quarantined) == (29, 1)
    assert [item.record for item in summary.isolated] == [4]


@pytest.mark.slow
def test_a_record_that_the_search_for_duplicates_fails_on_stands_alone(
    tmp_path: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = duplicates.Search.find

    def fails(self: duplicates.Search, events: pa.Table, written: Any) -> Any:
        if _poisoned_rows(events):
            raise duckdb.ConversionException("no such thing")
        return find(self, events, written)

    monkeypatch.setattr(duplicates.Search, "find", fails)
    logs = written(tmp_path / "in", "Records", call)
    write(logs / "again.json", json.dumps({"Records": [call(0), call(1)]}))
    chosen = settings(batch_objects=9, part_rows=99, duplicates={"aws_cloudtrail": "drop"})
    summary = ingest.ingest([str(logs)], chosen, source="aws_cloudtrail")
    assert (summary.counts.events, summary.counts.quarantined, summary.counts.dropped) == (29, 1, 2)
    assert summary.sources["aws_cloudtrail"].duplicates == 2


@pytest.mark.slow
def test_text_that_cannot_be_encoded_is_kept_as_far_as_it_can(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = JsonRecords.read

    def with_half_a_character(self: JsonRecords, blocks: Any) -> Iterator[Chunk]:
        for chunk in read(self, blocks):
            bad = [Bad(1, "odd", "half \ud83d")] if b"poison" in blocks.head else []
            yield Chunk(chunk.records.filter(pa.compute.not_equal(chunk.records["_record"], len(bad))), bad)

    monkeypatch.setattr(JsonRecords, "read", with_half_a_character)
    summary = ingest.ingest([str(logs)], settings(batch_objects=9, part_rows=99), source="tiny")
    assert (summary.counts.events, summary.counts.quarantined) == (29, 1)
    assert rows(settings(), "SELECT source_record, raw FROM quarantine") == [(1, "half \\ud83d")]


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("error", [RecursionError("too deep"), MemoryError(), pa.ArrowInvalid("x")])
def test_an_object_that_makes_its_reader_fail_is_left_out(
    error: Exception, at: int, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = JsonRecords.read

    def fails(self: JsonRecords, blocks: Any) -> Iterator[Chunk]:
        for number, chunk in enumerate([*read(self, blocks), Chunk(pa.table({"_record": pa.array([], pa.int64())}))]):
            if number == at and b"poison" in blocks.head:
                raise error
            yield chunk

    monkeypatch.setattr(JsonRecords, "read", fails)
    summary = ingest.ingest([str(logs)], settings(batch_objects=9, part_rows=4), source="tiny")
    assert (summary.counts.read, summary.counts.events, summary.failures) == (20, 20, [])
    (failed,) = summary.not_read
    assert failed.state is State.FAILED
    assert type(error).__name__ in failed.reason
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(20,)]


@pytest.mark.slow
def test_records_that_get_lost_are_found_in_their_object(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = parquet.split

    def loses(events: pa.Table) -> Any:
        for partition, class_uid, found in split(events):
            yield partition, class_uid, found.slice(1) if _poisoned_rows(found) else found

    monkeypatch.setattr(parquet, "split", loses)
    summary = ingest.ingest([str(logs)], settings(batch_objects=9, part_rows=99), source="tiny")
    (failed,) = summary.not_read
    assert (Path(failed.uri).name, failed.state) == ("1.json", State.FAILED)
    assert "CountError" in failed.reason
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(20,)]


@pytest.mark.parametrize("error", [ConfigError("no role"), OSError(28, "No space left"), duckdb.IOException("gone")])
def test_errors_of_the_surroundings_are_no_records_fault(
    error: Exception, logs: Path, settings: Make, poisoned: Callable[[Exception], None]
) -> None:
    poisoned(error)
    summary = ingest.ingest([str(logs)], settings(batch_objects=9, part_rows=99), source="tiny")
    assert len(summary.failures) == 1
    assert (summary.isolated, summary.not_read, summary.counts.read) == ([], [], 0)
    assert rows(settings(), "SELECT state, failures FROM ledger_batches") == [("failed", 0)]


@pytest.mark.slow
def test_a_replay_goes_on_without_a_record_that_makes_it_fail(
    tmp_path: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [look(number, at="never", userAgent=POISON if number == 1 else "x") for number in range(4)]
    write(tmp_path / "in/a.json", json.dumps({"Tiny": records}))
    assert ingest.ingest([str(tmp_path / "in")], settings(), source="tiny").counts.quarantined == 4
    mapped = Engine.map

    def fails(self: Engine, given: Sequence[tuple[RawObject, Chunk]], *, ordered: bool = True) -> Any:
        if any(has_poison(chunk) for _, chunk in given):
            raise TypeError("a defect")
        return mapped(self, given, ordered=ordered)

    monkeypatch.setattr(Engine, "map", fails)
    found = replay.replay(settings(), again=True)
    assert (found.closed, found.open.total()) == (0, 4)
    assert found.open["TypeError: a defect"] == 1


# -- the search alone -----------------------------------------------------------------------------------------------
def piece(uri: str, records: int, bad: int = 0) -> Piece:
    numbers = list(range(1, records + 1))
    chunk = Chunk(
        pa.table({"_record": pa.array(numbers, pa.int64())}),
        [Bad(records + number + 1, "x", "") for number in range(bad)], {"blank": 1} if bad else {},
    )  # fmt: skip
    return Piece(ObjectRef(uri, "e", 1), RawObject(uri, "e"), chunk)


def records_of(pieces: Sequence[Piece]) -> set[tuple[str, int]]:
    return {
        (item.ref.uri, number)
        for item in pieces
        for number in [*item.chunk.records["_record"].to_pylist(), *(bad.record for bad in item.chunk.bad)]
    }


def searched(pieces: Sequence[Piece], culprits: set[tuple[str, int]]) -> tuple[Division, int]:
    tries = 0

    def attempt(some: Sequence[Piece]) -> None:
        nonlocal tries
        tries += 1
        if records_of(some) & culprits:
            raise ValueError("no")

    return divide.search(pieces, attempt, ValueError("no"), frozenset()), tries


@pytest.mark.parametrize(
    "culprits", [{("a", 1)}, {("b", 500)}, {("b", 501), ("b", 502), ("c", 9)}, {("c", number) for number in (1, 5, 9)}]
)
def test_the_search_finds_the_culprits_and_loses_nothing(culprits: set[tuple[str, int]]) -> None:
    pieces = [piece("a", 7), piece("b", 1_000), piece("c", 6, bad=4)]
    found, tries = searched(pieces, culprits)
    assert {where for item in found.records for where in records_of([item.piece])} == culprits
    assert found.objects == []
    left = [where for group in found.passed for item in group for where in records_of([item])]
    assert sorted(left) == sorted(records_of(pieces) - culprits)
    assert sum(item.chunk.read for group in found.passed for item in group) == 7 + 1_000 + 11 - len(culprits)
    assert tries <= 2 * 12 * len(culprits) + 12


@pytest.mark.slow
def test_the_search_gives_up_soon_where_nothing_passes() -> None:
    pieces = [piece(f"o{number}", 100) for number in range(200)]
    found, tries = searched(pieces, records_of(pieces))
    assert (len(found.objects), found.passed, found.records) == (200, [], [])
    assert tries < 100


def test_a_count_error_is_laid_on_the_object() -> None:
    def attempt(some: Sequence[Piece]) -> None:
        if ("b", 3) in records_of(some):
            raise CountError("lost")

    found = divide.search([piece("a", 5), piece("b", 5)], attempt, CountError("lost"), frozenset())
    assert [failure.ref.uri for failure in found.objects] == ["b"]
    assert found.records == []


