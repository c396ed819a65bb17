"""What is lost of a lake that was compacted comes back, and a killed compaction loses nothing."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ocsf_lake import config
from ocsf_lake.catalogs.base import Kind
from ocsf_lake.export import forward
from ocsf_lake.export import run as export
from ocsf_lake.ingest import moving
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.exports import Exports
from ocsf_lake.ledger.tables import FILES, GENERATIONS, RETIRED
from ocsf_lake.upkeep import check, compact, rebuild_ledger
from tests.ocsf_lake.compacting import EACH, PLACES, STEPS, Make, dying, files, ledger, log, take
from tests.ocsf_lake.killed import KilledError, killed_at
from tests.ocsf_lake.test_ingest import rows
from tests.ocsf_lake.test_replay import MENDED, mend  # noqa: F401 - a fixture


# -- a ledger that is lost, files that are lost -----------------------------------------------------------------------
@pytest.mark.slow
def test_a_ledger_made_anew_knows_what_was_compacted(compactable: Make, late_logs: Path) -> None:
    found = compactable()
    compact.compact(found)
    take(late_logs, found, 4)
    compact.compact(found)
    take(late_logs, found, 5)
    wanted = {table.name: ledger(found, table) for table in (FILES, RETIRED, GENERATIONS)}
    before = rows(found, PLACES)
    (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    summary = rebuild_ledger.rebuild(found)
    assert (summary.exact, summary.missing, summary.unknown) == (True, [], [])
    assert {table.name: ledger(found, table) for table in (FILES, RETIRED, GENERATIONS)} == wanted
    assert rows(found, PLACES) == before
    assert ingest.ingest([str(late_logs)], found).counts.read == 0
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("step", [step for step in STEPS if step != "replaced"])
def test_a_ledger_lost_while_a_compaction_was_going_on_counts_each_row_once(
    step: str, compactable: Make, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compactable()
    compact.compact(found)
    take(late_logs, found, 4)
    before = rows(found, PLACES)
    with dying(monkeypatch, "merged" if step == "copied" else step):
        compact.compact(found)
    (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    rebuild_ledger.rebuild(found)
    assert rows(found, PLACES) == before
    with opened(found) as lake:
        check.sync(lake)
        assert check.check(lake, deep=True) == []
    compact.compact(found)
    assert rows(found, PLACES) == before
    take(late_logs, found, 5)
    assert len(rows(found, PLACES)) == 6 * EACH


@pytest.mark.slow
def test_a_batch_that_died_before_a_compaction_is_done_anew_by_a_ledger_made_anew(
    compactable: Make, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record lies in the lake, and names a folder that no reader of the partition looks into any more."""
    found = compactable()
    with killed_at("recorded", monkeypatch):
        take(late_logs, found, 4)
    compact.compact(found)
    (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    (left,) = rebuild_ledger.rebuild(found).unknown
    with opened(found) as lake:
        assert check.sync(lake).moved == [left]
    take(late_logs, found, 4)
    assert len({path.parent for path in files(found)}) == 1
    assert len(set(rows(found, PLACES))) == len(rows(found, PLACES)) == 5 * EACH
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("to", ["sink", "custom source"])
def test_what_was_sent_and_then_merged_is_not_open_by_a_ledger_made_anew(
    to: str, compactable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compactable(compact_grace_hours=0, export_region="eu-central-1")
    (tmp_path / "to").mkdir()
    finish = Exports.finish

    def die(*given: Any) -> None:
        finish(*given)
        raise KilledError

    def send() -> object:
        if to == "sink":
            sent = forward.forward(found, "aws_cloudtrail", str(tmp_path / "to"))
            assert sent.errors == []
            return sent.events
        return export.export(found, "aws_cloudtrail", str(tmp_path / "to"), "calls", "api_activity").events

    with monkeypatch.context() as patch:
        patch.setattr(Exports, "finish", die)
        with pytest.raises(KilledError):
            send()
    assert compact.compact(found).removed == 4
    (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    rebuild_ledger.rebuild(found)
    assert send() == 0


@pytest.mark.slow
def test_without_ledger_and_records_the_plans_say_which_files_count(compactable: Make, late_logs: Path) -> None:
    found = compactable()
    compact.compact(found)
    take(late_logs, found, 4)
    before = rows(found, PLACES)
    # A generation that was not finished does not count.
    (unfinished := files(found)[0].parent.with_name("g0002")).mkdir()
    shutil.copy(files(found)[0], unfinished)
    shutil.rmtree(Path(found.lake) / "_lake")
    (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    summary = rebuild_ledger.rebuild(found)
    assert summary.exact is False
    assert rows(found, PLACES) == before


@pytest.mark.slow
@pytest.mark.parametrize("removed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_lost_merged_file_is_made_again(removed: bool, compactable: Make, late_logs: Path) -> None:
    """From the files that it was made of, or, when they are gone, from the raw objects; also of merged files."""
    found = compactable(compact_grace_hours=0)
    compact.compact(found)
    take(late_logs, found, 4)
    compact.compact(found)
    if removed:
        compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    (path,) = files(found)
    data, before = path.read_bytes(), rows(found, PLACES)
    path.unlink()
    with opened(found) as lake:
        assert [item.kind for item in check.check(lake)] == [Kind.FILE_MISSING]
        repair = check.sync(lake)
        assert (repair.refused, repair.left, len(repair.rebuilt)) == ([], [], 1)
    assert path.read_bytes() == data
    assert rows(found, PLACES) == before


@pytest.mark.slow
def test_a_lost_file_that_came_along_is_made_again(
    compactable: Make, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compactable()
    old = files(found)
    late = log(late_logs, 4)

    def failpoint(now: str, _: str) -> None:
        if now == "merged":
            ingest.ingest([str(late)], found)

    with monkeypatch.context() as patched:
        patched.setattr(moving, "failpoint", failpoint)
        compact.compact(found)
    (path,) = [path for path in files(found) if path.with_name(path.name).name not in {item.name for item in old}
               and pq.read_metadata(path).num_rows == EACH]  # fmt: skip
    data = path.read_bytes()
    path.unlink()
    with opened(found) as lake:
        repair = check.sync(lake)
        assert (repair.refused, repair.left) == ([], [])
    assert path.read_bytes() == data


@pytest.mark.slow
def test_a_lost_merged_file_whose_raw_objects_are_gone_is_told(
    compactable: Make, small_files: Path, tmp_path: Path
) -> None:
    found = config.load(lake=str(tmp_path / "gone"), compact_grace_hours=0)
    take(tmp_path / "logs", found, 0, 1)
    compact.compact(found)
    compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    shutil.rmtree(tmp_path / "logs")
    files(found)[0].unlink()
    with opened(found) as lake:
        (refused,) = check.sync(lake).refused
    assert "a raw object is unavailable" in refused
