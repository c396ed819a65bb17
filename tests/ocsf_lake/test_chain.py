"""Each change of a lake's files leaves one record in its chain, whoever dies, and whoever writes at the same time."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ocsf_lake.catalogs.definitions import QUARANTINE
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import chain, compactions, marker, replays
from ocsf_lake.ledger.tables import CHAIN, FILES
from ocsf_lake.query import query
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.parquet import FileInfo
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import check, compact, quarantine, rebuild_ledger, replay, retain, verify
from ocsf_mappers.errors import WriteError
from tests.ocsf_lake.compacting import TABLE, Make, dying, files, take
from tests.ocsf_lake.conftest import OFTEN_POSTGRES, OFTEN_SQLITE, ON_BOTH, at_steps, sqlite_database
from tests.ocsf_lake.killed import KilledError, killed_at
from tests.ocsf_lake.test_replay import MENDED, mend  # noqa: F401 - a fixture


def documents(lake: Path) -> list[dict[str, Any]]:
    """What the records in a lake say, as anybody reads them."""
    found = []
    previous = signature = ""
    for number, path in enumerate(sorted((lake / "_lake/chain").iterdir()), 1):
        body, seal, rest = path.read_bytes().split(b"\n")
        document, said = json.loads(body), json.loads(seal)
        assert path.name == f"{number:012d}.json"
        assert rest == b""
        assert said["hash"] == hashlib.sha256(body).hexdigest()
        assert (document["number"], document["previous"]) == (number, previous)
        assert document["previous_signature"] == signature
        previous, signature = said["hash"], said["signature"]
        found.append(document)
    return found


def kinds(lake: Path) -> list[str]:
    return [document["kind"] for document in documents(lake)]


def faults(settings: Settings, **asked: Any) -> list[str]:
    """What `verify lake` finds, as `what: object`."""
    found = verify.verify(settings, verify.Asked(**asked), verify.Summary())
    return [f"{fault.what}: {fault.object}" for fault in found]


def summary(settings: Settings, **asked: Any) -> verify.Summary:
    made = verify.Summary()
    assert list(verify.verify(settings, verify.Asked(**asked), made)) == []
    return made


def drop_chain(settings: Settings) -> None:
    """Makes a lake one that a version without a chain has written."""
    shutil.rmtree(Path(settings.lake) / "_lake/chain")
    with opened(settings, reading=True) as lake:
        url = lake.ledger.engine.url
    with sqlite_database(url.database or Path(settings.lake) / "_ledger/ledger.db") as connection:
        connection.execute("DROP TABLE chain")


# -- what has a record ------------------------------------------------------------------------------------------------
@pytest.mark.slow
@OFTEN_SQLITE
def test_each_batch_has_a_record_with_its_files_and_counts(settings: Make, logs: Path) -> None:
    used = settings()
    done = ingest.ingest([str(logs)], used)
    first, *records = documents(Path(used.lake))
    assert (first["kind"], first["added"], first["detail"]["files"]) == ("genesis", [], 0)
    for name in ("read", "events", "quarantined", "dropped"):
        assert sum(record["counts"][name] for record in records) == getattr(done.counts, name)
    with opened(used) as lake, lake.ledger.engine.connect() as connection:
        stored = connection.execute(sa.select(FILES.c.path, FILES.c.sha256, FILES.c.bytes, FILES.c.rows)).all()
        batches = set(connection.scalars(sa.select(FILES.c.batch_id)))
    assert sorted(file for record in records for file in record["added"]) == sorted(map(list, stored))
    assert {record["subject"] for record in records} >= batches
    made = summary(used)
    assert (made.records, made.live, made.ledger) == (len(records) + 1, len(stored), "compared")
    ingest.ingest([str(logs)], used)
    assert len(documents(Path(used.lake))) == made.records


@pytest.mark.slow
@OFTEN_POSTGRES
def test_a_compaction_has_a_record_and_so_have_the_files_that_go(settings: Make, tmp_path: Path) -> None:
    used = settings(compact_grace_hours=0)
    take(tmp_path / "logs", used, 0, 1)
    old = [path.relative_to(used.lake).as_posix() for path in files(used)]
    compact.compact(used)
    assert kinds(Path(used.lake)) == ["genesis", "ingest", "ingest", "compaction", "removal"]
    merged, removal = documents(Path(used.lake))[-2:]
    assert [path for path, *_ in merged["removed"]] == [path for path, *_ in removal["removed"]] == old
    assert summary(used).live == 1
    take(tmp_path / "logs", used, 2)
    compact.compact(used)
    assert faults(used) == []
    assert documents(Path(used.lake))[-1]["detail"]["beside_removed"] == [
        f"{merged['added'][0][0].rpartition('/')[0]}/_plan.json"
    ]


@pytest.mark.slow
def test_files_left_by_a_compaction_are_retired_and_no_fault(compactable: Make) -> None:
    used = compactable()
    compact.compact(used)
    made = summary(used)
    assert (made.live, made.retired) == (1, 4)


@pytest.mark.slow
def test_replayed_purged_and_rebuilt_files_have_records(settings: Make, logs: Path, mend: None) -> None:  # noqa: F811
    used = settings()
    ingest.ingest([str(logs)], used)
    replay.replay(used, again=True)
    path = next(path for path in Path(used.lake).rglob("*.parquet") if "VPC_FLOW" in str(path))
    path.unlink()
    with opened(used) as lake:
        assert check.sync(lake).rebuilt
        old = [file[:3] + file[4:] for file in replays.quarantine_files(lake.ledger, QUARANTINE)]
        quarantine.purge(lake, [quarantine.Purge(*file, 0) for file in old])
    *_, again, rebuild, purge = documents(Path(used.lake))
    assert [again["kind"], rebuild["kind"], purge["kind"]] == ["replay", "rebuild", "purge"]
    assert rebuild["removed"] == rebuild["added"]
    assert [path for path, *_ in purge["removed"]] == [path for path, *_ in old]
    assert faults(used) == []


def test_a_rebuilt_ledger_has_the_chain_of_its_lake(compactable: Make) -> None:
    used = compactable()
    compact.compact(used)
    before = documents(Path(used.lake))
    shutil.rmtree(Path(used.lake) / "_ledger")
    rebuild_ledger.rebuild(used)
    *same, rebuilt = documents(Path(used.lake))
    assert same == before
    assert (rebuilt["kind"], rebuilt["added"], rebuilt["removed"]) == ("rebuild-ledger", [], [])
    assert [path for path, *_ in rebuilt["detail"]["beside"]] == [marker.NAME]
    assert faults(used) == []


def test_a_rebuilt_ledger_names_files_whose_record_was_lost_with_the_old_one(
    compactable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = compactable()
    with killed_at("done", monkeypatch):
        take(tmp_path / "more", used, 9)
    shutil.rmtree(Path(used.lake) / "_ledger")
    rebuild_ledger.rebuild(used)
    assert kinds(Path(used.lake))[-1] == "rebuild-ledger"
    assert len(documents(Path(used.lake))[-1]["added"]) == 1
    assert faults(used) == []


@pytest.mark.parametrize("work", ["compaction", "retention"])
def test_a_ledger_that_was_lost_amid_a_compaction_has_what_its_chain_lacks(
    work: str, compactable: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = compactable(retention={"default": "1d"} if work == "retention" else {})
    done = {"compaction": compact.compact, "retention": retain.retain}[work]
    with dying(monkeypatch, "recorded"):
        done(used)
    (Path(used.lake) / "_ledger/ledger.db").unlink()
    rebuild_ledger.rebuild(used)
    *_, lacked, rebuilt = documents(Path(used.lake))
    assert (lacked["kind"], len(lacked["removed"]), rebuilt["kind"]) == (work, 4, "rebuild-ledger")
    assert rebuilt["added"] == rebuilt["removed"] == []
    assert faults(used) == []
    done(used, clock=lambda: datetime.now(UTC) + timedelta(days=2))
    assert faults(used) == []


# -- who dies ---------------------------------------------------------------------------------------------------------
@ON_BOTH
def test_who_dies_before_the_record_is_put_leaves_it_to_the_next_one(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = settings()
    with killed_at("done", monkeypatch):
        take(tmp_path / "logs", used, 0)
    lake = Path(used.lake)
    assert kinds(lake) == ["genesis"]
    made = summary(used)
    assert (made.records, made.waiting) == (2, 1)
    with opened(used, reading=True):
        pass
    assert kinds(lake) == ["genesis"]  # who reads writes nothing
    with opened(used):
        pass
    assert kinds(lake) == ["genesis", "ingest"]
    assert summary(used).waiting == 0


@pytest.mark.slow
@at_steps("begun", "written", "recorded", "done", "published", often=["recorded", "published"])
def test_a_batch_that_dies_anywhere_is_in_the_chain_once(
    step: str, compactable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = compactable()
    with killed_at(step, monkeypatch):
        take(tmp_path / "more", used, 9)
    assert faults(used) == []
    ingest.ingest([str(tmp_path / "more")], used)
    assert kinds(Path(used.lake)) == ["genesis", *["ingest"] * 5]
    assert faults(used) == []


def test_a_plan_that_goes_before_its_record_is_no_fault(compactable: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    used = compactable(compact_grace_hours=0, retention={"default": "1d"})

    def die(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(compactions, "note_removed", die)
        with pytest.raises(KilledError):
            retain.retain(used)
    assert list(Path(used.lake).rglob("_plan.json")) == []
    assert faults(used) == []
    retain.retain(used)
    assert kinds(Path(used.lake))[-2:] == ["retention", "removal"]
    assert faults(used) == []


@at_steps("merged", "fenced", "complete", "recorded", "compacted", "removed", often=["compacted", "removed"])
def test_a_compaction_that_dies_anywhere_is_in_the_chain_once(
    step: str, compactable: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = compactable(compact_grace_hours=0)
    with dying(monkeypatch, step):
        compact.compact(used)
    assert faults(used) == []
    compact.compact(used)
    assert sorted(kinds(Path(used.lake))[5:]) == ["compaction", "removal"]
    assert faults(used) == []


def test_a_store_that_refuses_the_record_does_not_undo_what_was_done(
    compactable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = compactable()
    folder = Path(used.lake) / "_lake/chain"

    def refuse(*_: Any) -> bool:
        raise WriteError("full")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put_once", refuse)
        take(tmp_path / "more", used, 9)
    assert len(list(folder.iterdir())) == 5
    with opened(used):
        pass
    assert len(documents(Path(used.lake))) == 6


# -- who writes at the same time --------------------------------------------------------------------------------------
@ON_BOTH
def test_many_writers_make_one_line_of_records(settings: Make) -> None:
    used = settings()
    partition = Partition(TABLE, ("eu-west-1", "111122223333", "20250311"))

    def write(worker: int) -> None:
        with opened(used) as lake:
            for number in range(5):
                with lake.ledger.engine.begin() as connection:
                    file = FileInfo(f"aws/{worker}-{number}.parquet", partition, 1, 1, 1, "00")
                    chain.append(connection, kind="test", subject=f"{worker}", added=[file])
                lake.publish_chain()

    with opened(used):
        pass
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = documents(Path(used.lake))
    assert len(found) == 21
    assert len({record["added"][0][0] for record in found[1:]}) == 20


def test_what_is_not_committed_leaves_no_record(compactable: Make) -> None:
    used = compactable()

    def die(connection: sa.Connection) -> None:
        chain.append(connection, kind="test")
        raise KilledError

    with opened(used) as lake, pytest.raises(KilledError), lake.ledger.engine.begin() as connection:
        die(connection)
    with opened(used) as lake:
        with lake.ledger.engine.begin() as connection:
            assert chain.append(connection, kind="test") == 6
        lake.publish_chain()
    assert kinds(Path(used.lake))[-1] == "test"


# -- lakes from before ------------------------------------------------------------------------------------------------
def test_the_chain_of_an_older_lake_begins_with_the_files_it_has(compactable: Make, tmp_path: Path) -> None:
    used = compactable()
    drop_chain(used)
    assert faults(used) == ["no chain: _lake/chain"]
    take(tmp_path / "more", used, 9)
    first, second = documents(Path(used.lake))
    assert (first["detail"]["files"], first["detail"]["listed"], len(first["added"])) == (4, True, 4)
    assert (second["kind"], len(second["added"])) == ("ingest", 1)
    assert summary(used).live == 5


def test_files_that_a_compaction_had_retired_are_known_to_a_chain_that_begins_later(compactable: Make) -> None:
    used = compactable(compact_grace_hours=0)
    used_later = compactable()
    compact.compact(used_later)
    drop_chain(used)
    with opened(used):
        pass
    assert summary(used).retired == 4
    compact.compact(used)
    assert faults(used) == []


@pytest.mark.slow
def test_more_files_than_that_are_listed_on_demand(
    compactable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = compactable()
    drop_chain(used)
    monkeypatch.setattr(chain, "LISTED_FILES", 3)
    take(tmp_path / "more", used, 9)
    first, _ = documents(Path(used.lake))
    assert (first["detail"]["listed"], first["added"]) == (False, [])
    assert summary(used).older == 4
    old = sorted(Path(used.lake).glob("aws/**/*.parquet"))[0]
    data = old.read_bytes()
    old.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert faults(used) == [f"file changed: {old.relative_to(used.lake)}"]
    old.write_bytes(data)
    assert verify.adopt(used) == 4
    assert [len(record["added"]) for record in documents(Path(used.lake))] == [0, 1, 3, 1]
    assert (summary(used).older, summary(used).live) == (0, 5)
    assert verify.adopt(used) == 0
    compact.compact(used, older_than=timedelta(0))
    assert faults(used) == []


def test_who_reads_needs_no_chain_in_the_ledger(compactable: Make) -> None:
    used = compactable()
    drop_chain(used)
    with query.connected(used, f"SELECT count(*) FROM {TABLE}") as connection:
        assert connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone() == (24,)


@pytest.mark.slow
@pytest.mark.integration
def test_who_reads_a_shared_ledger_needs_no_chain_in_it(shared: Make, tmp_path: Path) -> None:
    used = shared()
    take(tmp_path / "logs", used, 0)
    with opened(used) as lake:
        CHAIN.drop(lake.ledger.engine)
    with query.connected(used, f"SELECT count(*) FROM {TABLE}") as connection:
        assert connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone() == (6,)
    made = verify.Summary()
    assert list(verify.verify(used, verify.Asked(), made)) == []
    assert made.ledger == "it has no chain yet"


