"""Duplicates by the source's own key: kept, marked or dropped, counted, and never a record that is another one."""

import json
from pathlib import Path

import pytest

from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.upkeep import check
from ocsf_mappers.errors import ConfigError
from tests.ocsf_lake.conftest import CLOUDTRAIL_KEY, HEADER, OFTEN_SQLITE, Make, call, contents, flow, write
from tests.ocsf_lake.killed import killed_at
from tests.ocsf_lake.test_ingest import rows

ACCOUNT = "111122223333"
COUNTS = "SELECT sum(read), sum(events), sum(quarantined), sum(dropped) FROM ledger_batches"


def key(trail: str, tag: str, hhmm: str = "0900") -> str:
    return f"{trail}/" + CLOUDTRAIL_KEY.format(account=ACCOUNT, region="eu-west-1", hhmm=hhmm, tag=tag)


@pytest.fixture
def trails(tmp_path: Path) -> Path:
    """Two trails that deliver the same 30 events; the first delivers five of them again, later and in another order."""
    root = tmp_path / "trails"
    events = [call(number) for number in range(30)]
    write(root / key("a", "one"), json.dumps({"Records": events[:20]}))
    write(root / key("a", "two"), json.dumps({"Records": events[20:]}))
    write(root / key("a", "again", "1000"), json.dumps({"Records": [events[4], *events[25:][::-1][:4]]}))
    write(root / key("b", "all"), json.dumps({"Records": events}))
    return root


def policy(make: Make, said: str, **more: object) -> Settings:
    return make(duplicates={"aws_cloudtrail": said}, **more)


@pytest.mark.slow
def test_by_default_every_record_is_kept_and_a_view_shows_each_event_once(trails: Path, settings: Make) -> None:
    ingest.ingest([str(trails)], settings())
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(65,)]
    unique = "SELECT count(*), count(DISTINCT metadata.uid) FROM cloud_trail_mgmt_unique"
    assert rows(settings(), unique) == [(30, 30)]
    repeated = "SELECT count(*), sum(events), max(len(places)) FROM cloud_trail_mgmt_repeated"
    assert rows(settings(), repeated) == [(30, 65, 3)]
    assert rows(settings(), "SELECT count(*) FROM duplicates") == [(0,)]


@pytest.mark.slow
@OFTEN_SQLITE
def test_mark_writes_the_same_files_and_lists_what_stands_twice(trails: Path, settings: Make, tmp_path: Path) -> None:
    ingest.ingest([str(trails)], settings("kept"))
    summary = ingest.ingest([str(trails)], policy(settings, "mark"))
    assert summary.sources["aws_cloudtrail"].duplicates == 35
    marked = contents(tmp_path / "lake")
    kept = contents(tmp_path / "kept")
    assert {name: data for name, data in marked.items() if not name.startswith("_duplicates")} == kept
    assert rows(settings(), "SELECT policy, sum(duplicates) FROM ledger_duplicates GROUP BY ALL") == [("mark", 35)]
    others = """
        SELECT count(*) FROM cloud_trail_mgmt ANTI JOIN duplicates USING (source_object, source_etag, source_record)
    """
    assert rows(settings(), others) == [(30,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "workers"),
    [
        pytest.param("sqlite", 1, marks=pytest.mark.slow), ("sqlite", 3),
        pytest.param("postgresql", 3, marks=pytest.mark.integration),
    ],
    indirect=["settings"],
)  # fmt: skip
def test_drop_keeps_each_event_once_and_says_where_the_other_is(trails: Path, settings: Make, workers: int) -> None:
    lake = policy(settings, "drop", workers=workers)
    summary = ingest.ingest([str(trails)], lake)
    assert summary.sources["aws_cloudtrail"].dropped == {"duplicate of an event that the lake has": 35}
    assert summary.counts.balanced
    assert rows(lake, COUNTS) == rows(lake, COUNTS.replace("batches", "objects")) == [(65, 30, 0, 35)]
    assert rows(lake, "SELECT sum(events), sum(dropped) FROM ledger_meter") == [(30, 35)]
    assert rows(lake, "SELECT count(*), count(DISTINCT metadata.uid) FROM cloud_trail_mgmt") == [(30, 30)]
    assert rows(lake, "SELECT DISTINCT action FROM duplicates") == [("dropped",)]
    # Each of them names the very record that stays, or one that leads there.
    stays = """
        SELECT count(*) FROM duplicates JOIN cloud_trail_mgmt AS e
        ON e.source_object = of_object AND e.source_record = of_record AND (key ->> '$[0]') = e.metadata.uid
    """
    assert rows(lake, stays) == [(35,)]


@pytest.mark.slow
def test_the_same_key_with_other_content_is_another_record(settings: Make, tmp_path: Path) -> None:
    first, second = call(1), call(1, errorCode="AccessDenied")
    shared = [call(number, recipientAccountId=account) for number, account in ((2, ACCOUNT), (2, "012345678901"))]
    unnamed = [{name: value for name, value in call(3).items() if name != "eventID"}] * 2
    write(tmp_path / "logs" / "a.json", json.dumps({"Records": [first, second, *shared, *unnamed, first]}))
    summary = ingest.ingest([str(tmp_path / "logs")], policy(settings, "drop"), source="aws_cloudtrail")
    found = summary.sources["aws_cloudtrail"]
    assert (found.counts.events, found.duplicates, found.variants) == (6, 1, 1)
    write(tmp_path / "logs" / "b.json", json.dumps({"Records": [call(1, errorCode="Other"), second]}))
    summary = ingest.ingest([str(tmp_path / "logs")], policy(settings, "drop"), source="aws_cloudtrail")
    found = summary.sources["aws_cloudtrail"]
    assert (found.counts.events, found.duplicates, found.variants) == (1, 1, 1)
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt_unique") == [(5,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "said"),
    [
        *(pytest.param(step, "drop", marks=pytest.mark.slow) for step in ("part", "written")),
        ("registered", "drop"),
        pytest.param("done", "mark", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_batch_never_loses_the_last_copy(
    step: str, said: str, trails: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = policy(settings, said, batch_objects=1)

    with killed_at(step, monkeypatch):
        ingest.ingest([str(trails / "a")], lake)
    # Another delivery comes in before the interrupted batches are finished.
    ingest.ingest([str(trails / "b")], lake)
    ingest.ingest([str(trails)], lake)
    assert rows(lake, "SELECT count(DISTINCT metadata.uid) FROM cloud_trail_mgmt_unique") == [(30,)]
    events, listed = (30, 35) if said == "drop" else (65, 35)
    assert rows(lake, "SELECT count(*) FROM cloud_trail_mgmt") == [(events,)]
    assert rows(lake, "SELECT count(*) FROM duplicates") == [(listed,)]
    ((read, found, quarantined, dropped),) = rows(lake, COUNTS)
    assert (read, found, quarantined, dropped) == (65, events, 0, 65 - events)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "now"), [("keep", "drop"), pytest.param("mark", "drop", marks=pytest.mark.slow), ("drop", "keep")]
)
def test_a_lost_file_is_made_again_with_the_policy_of_its_day(
    said: str, now: str, trails: Path, settings: Make, tmp_path: Path
) -> None:
    ingest.ingest([str(trails)], policy(settings, said))
    before = contents(tmp_path / "lake")
    for path in sorted((tmp_path / "lake" / "aws").rglob("*.parquet")):
        path.unlink()
        with opened(policy(settings, now)) as lake:
            repair = check.sync(lake)
        assert (repair.refused, repair.left) == ([], [])
        assert contents(tmp_path / "lake") == before


@pytest.mark.slow
def test_a_finding_told_twice_is_a_duplicate_and_its_update_is_not(settings: Make, tmp_path: Path) -> None:
    folder = tmp_path / "findings"
    for name, updated in (("a", "10"), ("b", "10"), ("c", "11")):
        write(folder / f"{name}.jsonl", json.dumps(finding(updated)))
    lake = settings(duplicates={"aws_guardduty": "drop"})
    found = ingest.ingest([str(folder)], lake, source="aws_guardduty").sources["aws_guardduty"]
    assert (found.counts.events, found.duplicates, found.variants) == (2, 1, 0)
    assert rows(lake, "SELECT count(*) FROM guardduty_findings_unique") == [(2,)]
    assert rows(lake, "SELECT count(*) FROM guardduty_latest") == [(1,)]


def finding(hour: str) -> dict[str, object]:
    """A finding as it was updated at some hour."""
    return {
        "schemaVersion": "2.0",
        "accountId": ACCOUNT,
        "region": "eu-west-1",
        "partition": "aws",
        "id": "2ac0f1b5c7d94e3f8a6b1c2d3e4f5a6b",
        "arn": f"arn:aws:guardduty:eu-west-1:{ACCOUNT}:detector/aa/finding/2ac0f1b5c7d94e3f8a6b1c2d3e4f5a6b",
        "type": "Recon:EC2/PortProbeUnprotectedPort",
        "resource": {"resourceType": "Instance", "instanceDetails": {"instanceId": "i-0a1b2c3d4e5f60718"}},
        "service": {"serviceName": "guardduty", "detectorId": "aa", "count": int(hour), "archived": False},
        "severity": 2,
        "createdAt": "2025-03-11T09:00:00.000Z",
        "updatedAt": f"2025-03-11T{hour}:00:00.000Z",
        "title": "An unprotected port is probed.",
        "description": "An unprotected port on the instance is probed.",
    }


def test_lines_that_look_the_same_are_never_duplicates(settings: Make, tmp_path: Path) -> None:
    write(tmp_path / "own.log", "\n".join([HEADER, flow(1), flow(1), ""]))
    with pytest.raises(ConfigError, match="no key of their own"):
        ingest.ingest([str(tmp_path / "own.log")], settings(duplicates={"aws_vpc_flow": "drop"}))
    assert ingest.ingest([str(tmp_path / "own.log")], settings(), source="aws_vpc_flow").counts.events == 2


def test_a_policy_that_is_none_is_refused_before_any_work(trails: Path, settings: Make) -> None:
    with pytest.raises(ConfigError, match=r"duplicates\.aws_cloudtrail: Input should be 'keep', 'mark' or 'drop'"):
        ingest.ingest([str(trails)], policy(settings, "dorp"))
    with pytest.raises(ConfigError, match="no source 'aws_cloudtrial'"):
        ingest.ingest([str(trails)], settings(duplicates={"aws_cloudtrial": "drop"}))
