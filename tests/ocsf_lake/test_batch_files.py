"""A batch of several parts writes one file into each partition; what earlier versions wrote is gone on with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.storage import parquet, writer
from ocsf_lake.upkeep import check, rebuild
from tests.ocsf_lake.conftest import call, contents, look, write
from tests.ocsf_lake.test_ingest import rows

Make = Callable[..., Settings]
POISON = "poison"
pytestmark = pytest.mark.usefixtures("tiny")
PARTS = {"batch_objects": 9, "part_rows": 7}
PLACES = "SELECT source_object, source_record FROM cloud_trail_mgmt ORDER BY ALL"


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Four objects, each of two accounts and with a record that has no time; they are six parts or more."""
    return written(tmp_path / "in", "Tiny", look)


def written(folder: Path, name: str, record: Callable[[int, str], object]) -> Path:
    for number in range(4):
        accounts = ("111122223333", "012345678901")
        records = [record(number * 100 + step, accounts[step % 2]) for step in range(10)]
        write(folder / f"{number}.json", json.dumps({name: [*records, {"awsRegion": f"no time {number}"}]}))
    return folder


def read(logs: Path, settings: Settings, source: str = "tiny") -> ingest.Summary:
    return ingest.ingest([str(logs)], settings, source)


def files(settings: Settings) -> list[Path]:
    return sorted(Path(settings.lake).rglob("*.parquet"))


@pytest.fixture
def as_formerly(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has files written as earlier versions did, each part of a batch its own, and gives what ends that."""
    now = writer.MOST_BYTES
    monkeypatch.setattr(writer, "MOST_BYTES", -1)
    return lambda: monkeypatch.setattr(writer, "MOST_BYTES", now)


@pytest.mark.slow
@pytest.mark.parametrize("said", ["keep", "mark", "drop"])
def test_parts_of_a_batch_share_a_file_in_each_partition(tmp_path: Path, settings: Make, said: str) -> None:
    """Also where duplicates are looked for, in what earlier parts have in files that are not written yet."""
    logs = written(tmp_path / "in", "Records", call)
    again = [call(0), call(2), call(101, "012345678901")]
    write(logs / "again.json", json.dumps({"Records": [*again, {"eventName": "no time"}]}))
    found = read(logs, settings(**PARTS, duplicates={"aws_cloudtrail": said}), "aws_cloudtrail")
    events = 43 if said != "drop" else 40
    assert (found.counts.read, found.counts.events, found.counts.quarantined) == (48, events, 5)
    assert found.sources["aws_cloudtrail"].duplicates == (3 if said != "keep" else 0)
    folders = Counter(path.parent for path in files(settings()))
    assert set(folders.values()) == {1}
    assert len({path.name.split("-")[0] for path in files(settings())}) == 1
    listed = 0 if said == "keep" else 3
    assert sum(pq.read_metadata(path).num_rows for path in files(settings())) == events + 5 + listed
    places = rows(settings(), "SELECT source_record, parse_filename(of_object), of_record FROM duplicates ORDER BY 1")
    assert places == ([] if said == "keep" else [(1, "0.json", 1), (2, "0.json", 3), (3, "1.json", 2)])


@pytest.mark.slow
def test_an_error_in_a_later_part_leaves_nothing_of_it_in_files(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is found, though by then the rows of earlier parts are in the file that cannot be written."""
    monkeypatch.setattr(writer, "GROUP_ROWS", 1)
    records = [look(500 + step, **({"userAgent": POISON} if step == 3 else {})) for step in range(10)]
    write(logs / "9.json", json.dumps({"Tiny": records}))
    failed: list[int] = []
    encode, step = parquet.encode, parquet.rows_per_step

    def fails(table: pa.Table, *given: Any) -> Any:
        if "class_uid" in table.column_names and any(POISON in str(row) for row in table.to_pylist()):
            failed.append(len(table))
            raise pa.ArrowInvalid("Integer value out of bounds")
        return step(table, *given)

    monkeypatch.setattr(parquet, "rows_per_step", fails)
    found = read(logs, settings("one", **PARTS))
    assert failed
    assert (found.counts.read, found.counts.events, found.counts.quarantined) == (54, 49, 5)
    assert [(Path(item.uri).name, item.record) for item in found.isolated] == [("9.json", 4)]
    assert [item.reason for item in found.isolated] == ["ArrowInvalid: Integer value out of bounds"]
    places = rows(settings("one"), PLACES)
    assert len(places) == len(set(places)) == 49
    assert set(Counter(path.parent for path in files(settings("one"))).values()) == {1}
    # Only then is each part encoded twice.
    encoded: list[int] = []
    monkeypatch.setattr(parquet, "rows_per_step", step)
    monkeypatch.setattr(parquet, "encode", lambda table, *given: encoded.append(len(table)) or encode(table, *given))
    monkeypatch.setattr(writer, "GROUP_ROWS", 1_000)
    read(logs, settings("two", **PARTS))
    assert sum(encoded) == 54


@pytest.mark.slow
def test_files_are_ended_early_where_they_take_too_much_memory(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(writer, "GROUP_ROWS", 1)
    monkeypatch.setattr(writer, "MOST_BYTES", 600_000)
    held: list[int] = []
    add = writer.Writer.add

    def noted(self: writer.Writer, slices: Any) -> None:
        add(self, slices)
        held.append(self.bytes)

    monkeypatch.setattr(writer.Writer, "add", noted)
    for name in ("one", "two"):
        assert read(logs, settings(name, **PARTS)).counts.events == 40
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    numbers = {path.stem.split("-")[1] for path in files(settings("one"))}
    assert 1 < len(numbers) < len(held) / 2
    assert max(held) < 600_000 + 3 * (writer.GROUP_BYTES + 30_000)
    assert len(rows(settings("one"), PLACES)) == 40


@pytest.mark.slow
def test_a_batch_that_an_earlier_version_began_is_finished(
    logs: Path, settings: Make, as_formerly: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It had written files of some parts; they are gone when the batch is done."""
    parts: list[str] = []

    def die(step: str, _: str) -> None:
        parts.append(step)
        if parts.count("part") == 4:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", die)
        with pytest.raises(KilledError):
            read(logs, settings(**PARTS))
    left = files(settings())
    assert len({path.name for path in left}) > len({path.parent for path in left})
    as_formerly()
    assert read(logs, settings(**PARTS)).counts.events == 40
    read(logs, settings("other", **PARTS))
    assert contents(tmp_path / "lake") == contents(tmp_path / "other")
    with opened(settings()) as lake:
        assert check.check(lake) == []


@pytest.mark.slow
def test_lost_files_that_an_earlier_version_wrote_are_made_again(
    logs: Path, settings: Make, as_formerly: Callable[[], None], tmp_path: Path
) -> None:
    read(logs, settings(**PARTS))
    as_formerly()
    before, events = contents(tmp_path / "lake"), [path for path in files(settings()) if "_quarantine" not in str(path)]
    assert len(events) > 2 * len({path.parent for path in events})
    for path in files(settings())[::2]:
        path.unlink()
    with opened(settings(**PARTS)) as lake:
        assert check.sync(lake).refused == []
    assert contents(tmp_path / "lake") == before
    # They depend on how large parts were.
    events[0].unlink()
    with opened(settings(batch_objects=9, part_rows=8)) as lake:
        assert [rebuild.OTHERWISE in reason for reason in check.sync(lake).refused] == [True]
    with opened(settings(**PARTS)) as lake:
        assert check.sync(lake).left == []
    assert contents(tmp_path / "lake") == before
