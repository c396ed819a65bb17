"""Lost files are made again; what the ledger, mapping coverage and quarantine say does not change by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.results import State
from ocsf_lake.query import query
from ocsf_lake.upkeep import check, quarantine, replay
from tests.ocsf_lake.conftest import Make, call, contents, write
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.test_ingest import rows
from tests.ocsf_lake.test_replay import MENDED, books, mend
from tests.support import often

__all__ = ["mend"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two objects, with a record each that no mapper of today takes."""
    write(tmp_path / "logs" / "one.json", json.dumps({"Records": [*(call(step) for step in range(30)), MENDED[0]]}))
    write(tmp_path / "logs" / "two.json", json.dumps({"Records": [call(50), call(51), MENDED[1]]}))
    return tmp_path / "logs"


def events(settings: Settings) -> list[Path]:
    return sorted((Path(settings.lake) / "aws").rglob("*.parquet"))


def sync(settings: Settings) -> check.Repair:
    with opened(settings) as lake:
        return check.sync(lake)


@pytest.mark.slow
def test_counts_and_meter_stay_when_all_files_are_made_again(folder: Path, settings: Make) -> None:
    ingest.ingest([str(folder)], settings(), "aws_cloudtrail")
    before, files = books(settings()), contents(Path(settings().lake))
    for path in events(settings()):
        path.unlink()
    assert sync(settings()).refused == []
    assert books(settings()) == before
    assert contents(Path(settings().lake)) == files


@pytest.mark.slow
def test_what_was_replayed_stays_replayed(
    folder: Path, settings: Make, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest.ingest([str(folder)], settings(), "aws_cloudtrail")
    first = events(settings())
    with monkeypatch.context():
        mend()
        assert replay.replay(settings()).closed == 2
        monkeypatch.undo()
    before = books(settings())
    for path in first:
        path.unlink()
    assert sync(settings()).refused == []
    assert books(settings()) == before


@pytest.mark.slow
def test_what_was_purged_does_not_come_back(folder: Path, settings: Make) -> None:
    ingest.ingest([str(folder)], settings(), "aws_cloudtrail")
    with opened(settings()) as lake, query.connected(settings(), "FROM quarantine") as connection:
        is_over = quarantine.older_than(timedelta(0))
        quarantine.purge(lake, quarantine.purgeable(lake, connection, is_over, closed=False))
    files = contents(Path(settings().lake))
    events(settings())[0].unlink()
    assert sync(settings()).refused == []
    assert rows(settings(), "SELECT count(*) FROM quarantine") == [(0,)]
    assert contents(Path(settings().lake)) == files


@pytest.mark.slow
def test_other_parts_make_the_same_files(folder: Path, settings: Make) -> None:
    ingest.ingest([str(folder)], settings(), "aws_cloudtrail")
    before = contents(Path(settings().lake))
    for path in events(settings()):
        path.unlink()
    assert sync(settings(part_rows=1_000)).left == []
    assert contents(Path(settings().lake)) == before


@pytest.mark.slow
def test_a_repair_that_dies_leaves_the_batch_finished(
    folder: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest.ingest([str(folder)], settings(), "aws_cloudtrail")
    events(settings())[0].unlink()

    def die(step: str, _: str) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", die)
        with pytest.raises(KilledError):
            sync(settings())
    assert rows(settings(), "SELECT DISTINCT state FROM ledger_batches") == [(State.DONE,)]
    # An upgrade comes in between: what is finished is not planned anew.
    assert ingest.resume(settings(ocsf_version="1.8.0")).counts.read == 0
    assert sync(settings()).left == []
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(32,)]


@pytest.mark.slow
def test_a_batch_that_cannot_be_mended_keeps_back_no_other(folder: Path, settings: Make) -> None:
    for name in ("one.json", "two.json"):
        ingest.ingest([str(folder / name)], settings(), "aws_cloudtrail")
    for path in events(settings()):
        path.unlink()
    text = (folder / "one.json").read_text()
    (folder / "one.json").write_text(text.replace("DescribeInstances", "DescribeImages"))
    repair = sync(settings())
    assert len(repair.refused) == len(repair.rebuilt) == 1
    (folder / "one.json").write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("policy", often(["mark", "drop"], ["drop"]))
def test_all_files_of_batches_with_duplicates_are_made_again(policy: str, folder: Path, settings: Make) -> None:
    chosen = settings(duplicates={"aws_cloudtrail": policy}, batch_objects=1)
    write(folder / "three.json", json.dumps({"Records": [call(2), call(50), call(60)]}))
    for name in ("two.json", "three.json", "one.json"):
        ingest.ingest([str(folder / name)], chosen, "aws_cloudtrail")
    before, files = books(chosen), contents(Path(chosen.lake))
    for path in events(chosen):
        path.unlink()
    repair = sync(chosen)
    assert (repair.refused, repair.left) == ([], [])
    assert books(chosen) == before
    assert contents(Path(chosen.lake)) == files
