"""Objects with records of several sources: each record goes to its own, once, whatever interrupts it."""

import dataclasses
import json
from datetime import date
from functools import cache
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.inputs import content
from ocsf_lake.lake import opened
from ocsf_lake.upkeep import check, rebuild, remap, replay, verify
from ocsf_mappers import Mapper, registry
from tests.ocsf_lake.conftest import BOUNDS, ON_BOTH, Make, at_steps, call, contents, flow, on_either, write
from tests.ocsf_lake.killed import killed_at
from tests.ocsf_lake.test_discovery import CONTROL, QUERY, in_cloudwatch, in_eventbridge
from tests.ocsf_lake.test_ingest import rows
from tests.support import SAMPLE_LOGS

FINDING = json.loads((SAMPLE_LOGS / "aws_guardduty" / "event_bridge.json").read_text())["detail"]
COUNTS = "SELECT source, read, events, quarantined, dropped FROM ledger_batches ORDER BY ALL"


def finding(number: int, **more: object) -> dict[str, object]:
    """A finding of its own."""
    arn = f"arn:aws:guardduty:eu-west-1:123456789012:detector/d1/finding/{number:032d}"
    return {**FINDING, "id": f"{number:032d}", "arn": arn, **more}


def archive(*events: dict[str, object]) -> str:
    """An archive of EventBridge, one event a line."""
    return "".join(json.dumps(event) + "\n" for event in events)


MIXED = archive(
    in_eventbridge("AWS API Call via CloudTrail", call(1), "aws.ec2"),
    in_eventbridge("GuardDuty Finding", finding(1)),
    in_eventbridge("GuardDuty Finding", {"arn": finding(2)["arn"], "id": "no time"}),
    in_eventbridge("AWS API Call via CloudTrail", {"eventName": "no time"}, "aws.ec2"),
    in_eventbridge("EC2 Instance State-change Notification", {"state": "running"}, "aws.ec2"),
    in_eventbridge("AWS API Call via CloudTrail", call(2), "aws.ec2"),
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three objects of an archive with records of two sources and one of none, and one of CloudTrail alone."""
    folder = tmp_path_factory.mktemp("mixed") / "logs"
    for number in range(3):
        write(folder / f"{number}.json", MIXED)
    write(folder / "calls.json", json.dumps({"Records": [call(number) for number in range(3, 30)]}))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lake of these logs that was made without an interruption; do not change it."""
    found = config.load(**{**BOUNDS, "lake": str(tmp_path_factory.mktemp("uninterrupted") / "lake"), "part_rows": 12})
    ingest.ingest([str(mixed)], found)
    return found


def is_sound(settings: Settings) -> None:
    """Ledger, chain, catalogs and storage agree, and objects and batches count the same."""
    sums = "SELECT sum(read), sum(events), sum(quarantined), sum(dropped) FROM ledger_"
    assert len(set(rows(settings, f"{sums}objects UNION ALL {sums}batches"))) == 1
    with opened(settings) as lake:
        assert check.check(lake, deep=True) == []
    assert list(verify.verify(settings, verify.Asked(), verify.Summary())) == []


@pytest.mark.slow
@ON_BOTH
def test_each_record_of_an_archive_goes_to_its_own_source(mixed: Path, settings: Make) -> None:
    summary = ingest.ingest([str(mixed)], settings(batch_objects=10))
    assert rows(settings(), COUNTS) == [("aws_cloudtrail", 39, 33, 3, 3), ("aws_guardduty", 6, 3, 3, 0)]
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(33,)]
    by = "source_record, split_part(mapper_version, '-', 1), count(*)"
    assert rows(settings(), f"SELECT {by} FROM guardduty_findings GROUP BY ALL") == [(2, "aws_guardduty", 3)]
    assert sorted(rows(settings(), f"SELECT source, {by} FROM quarantine GROUP BY ALL")) == [
        ("aws_cloudtrail", 4, "aws_cloudtrail", 3),
        ("aws_guardduty", 3, "aws_guardduty", 3),
    ]
    meter = "SELECT source, sum(events), sum(quarantined) FROM ledger_meter GROUP BY ALL ORDER BY ALL"
    assert rows(settings(), meter) == [
        ("aws_cloudtrail", 33, 3),
        ("aws_guardduty", 3, 3),
    ]
    assert summary.sources["aws_cloudtrail"].dropped == {
        "EventBridge event of another kind: 'EC2 Instance State-change Notification' of aws.ec2": 3
    }
    found = summary.sources["aws_guardduty"]
    assert (found.objects, found.counts.read, found.events_by_class) == (0, 6, {"Detection Finding": 3})
    around = "SELECT DISTINCT unmapped['envelope.detail-type'] FROM guardduty_findings"
    assert rows(settings(), around) == [("GuardDuty Finding",)]
    is_sound(settings())
    assert ingest.ingest([str(mixed)], settings()).counts.read == 0


@pytest.mark.slow
@at_steps("part", "written", "registered", often=("part",))
def test_an_interrupted_batch_of_two_sources_is_done_once(
    step: str, mixed: Path, uninterrupted: Settings, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is something of either source; before and after that, see `test_interrupted`."""
    with killed_at(step, monkeypatch):
        ingest.ingest([str(mixed)], settings(part_rows=12))
    ingest.ingest([str(mixed)], settings(part_rows=12))
    is_sound(settings())
    assert contents(Path(settings().lake)) == contents(Path(uninterrupted.lake))
    assert rows(settings(), COUNTS) == rows(uninterrupted, COUNTS)


@cache
def _mended_guardduty() -> Mapper:
    """Another mapper of GuardDuty: other texts, and so another fingerprint; one, compiled once."""
    mapper = registry.load("aws_guardduty")
    events = [dataclasses.replace(event, fields=event.fields | {"severity_id": "Fatal"}) for event in mapper.events]
    return dataclasses.replace(mapper, events=events)


def _mended(monkeypatch: pytest.MonkeyPatch) -> None:
    load, mended = registry.load, _mended_guardduty()
    monkeypatch.setattr(registry, "load", lambda name: mended if name == mended.name else load(name))


@pytest.mark.slow
def test_a_mapper_of_the_second_source_that_changes_meanwhile_leaves_nothing_behind(
    mixed: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at("registered", monkeypatch):
        ingest.ingest([str(mixed)], settings(batch_objects=10))
    _mended(monkeypatch)
    ingest.ingest([str(mixed)], settings(batch_objects=10))
    assert rows(settings(), "SELECT severity, count(*) FROM guardduty_findings GROUP BY ALL") == [("Fatal", 3)]
    assert rows(settings(), "SELECT count(*) FROM ledger_batches") == [(2,)]
    assert len([name for name in contents(Path(settings().lake)) if "guardduty_findings" in name]) == 1
    is_sound(settings())


@pytest.mark.slow
def test_a_lost_file_of_records_among_anothers_is_made_again(mixed: Path, settings: Make) -> None:
    ingest.ingest([str(mixed)], settings())
    before = contents(Path(settings().lake))
    lost = [name for name in before if "guardduty" in name]
    assert len(lost) == 4  # events and quarantine, in two batches
    with opened(settings()) as lake:
        lake.store.remove(lost)
        repaired = check.sync(lake)
    assert repaired.left == []
    assert contents(Path(settings().lake)) == before


@pytest.mark.slow
def test_lost_files_are_not_made_again_by_a_mapper_that_has_changed(
    mixed: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest.ingest([str(mixed)], settings(batch_objects=10))
    ((batch_id, path),) = rows(
        settings(), "SELECT batch_id, path FROM ledger_files WHERE table_name = 'guardduty_findings'"
    )
    _mended(monkeypatch)
    with opened(settings()) as lake:
        assert "its mapper has changed" in str(rebuild.rebuild_batch(lake, str(batch_id), {str(path)}))


@pytest.mark.slow  # a mapper of the second source that has changed is in the test above
def test_a_batch_planned_for_another_mapper_takes_its_second_source_with_it(
    mixed: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at("registered", monkeypatch):
        ingest.ingest([str(mixed)], settings())
    ingest.ingest([str(mixed)], settings(ocsf_version="1.5.0"))
    versions = "SELECT DISTINCT metadata.version FROM guardduty_findings"
    assert rows(settings(ocsf_version="1.5.0"), versions) == [("1.5.0",)]
    is_sound(settings())


@pytest.mark.slow
def test_findings_left_out_as_duplicates_count_for_their_own_source(mixed: Path, settings: Make) -> None:
    policy = {"duplicates": {"aws_guardduty": "drop"}, "batch_objects": 1}
    ingest.ingest([str(mixed)], settings(**policy))
    assert rows(settings(), "SELECT count(*) FROM guardduty_findings") == [(1,)]
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(33,)]
    sums = "SELECT sum(events), sum(dropped) FROM ledger_batches WHERE source = 'aws_guardduty'"
    assert rows(settings(), sums) == [(1, 2)]
    is_sound(settings())


@pytest.mark.slow
def test_a_log_group_with_records_of_all_sources(settings: Make, tmp_path: Path) -> None:
    documents = [
        CONTROL, in_cloudwatch(QUERY), in_cloudwatch(flow(1)), CONTROL, in_cloudwatch(call(1)),
        in_cloudwatch(in_eventbridge("GuardDuty Finding", finding(1))), in_cloudwatch("neither"),
        in_cloudwatch(in_eventbridge("Scheduled Event", {}, "aws.events")),
    ]  # fmt: skip
    write(tmp_path / "logs" / "glued", "".join(documents))
    write(tmp_path / "logs" / "lines", "\n".join([*documents[2:], documents[1]]))
    ingest.ingest([str(tmp_path / "logs")], settings())
    for table in ("route53", "vpc_flow", "cloud_trail_mgmt", "guardduty_findings"):
        assert rows(settings(), f"SELECT count(*) FROM {table}") == [(2,)], table
        kept = rows(settings(), f"SELECT DISTINCT unmapped['envelope.owner'] FROM {table}")
        assert kept == [("1",)], table
    misfit = "1 values where the default format has 14; there is no header: name the fields with the setting "
    refused = sorted(rows(settings(), "SELECT source_record, reason FROM quarantine"))
    assert refused == [(5, f"{misfit}flow_fields"), (7, "message holds no JSON object")]
    counts = "SELECT sum(read), sum(events), sum(quarantined), sum(dropped) FROM ledger_objects"
    assert rows(settings(), counts) == [(15, 8, 2, 5)]
    is_sound(settings())


@pytest.mark.slow
def test_records_among_those_of_other_sources_are_made_anew(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [in_cloudwatch(QUERY), in_cloudwatch(flow(1)), CONTROL, in_cloudwatch(call(1))]
    documents.append(in_cloudwatch(in_eventbridge("GuardDuty Finding", finding(1))))
    write(tmp_path / "logs" / "glued", "".join(documents))
    write(tmp_path / "logs" / "lines", "\n".join([*documents[1:], documents[0]]))
    ingest.ingest([str(tmp_path / "logs")], settings())
    monkeypatch.setattr(remap, "_rows_of", lambda *given, found=remap._rows_of: (found(*given)[0], False))
    tables = {
        "aws_cloudtrail": "cloud_trail_mgmt", "aws_guardduty": "guardduty_findings",
        "aws_route53_resolver": "route53", "aws_vpc_flow": "vpc_flow",
    }  # fmt: skip
    for source, table in tables.items():
        everything = f"SELECT * FROM {table} ORDER BY source_object, source_record"
        before = rows(settings(), everything)
        done = remap.remap(settings(), remap.Chosen(source, date(2000, 1, 1), date(2100, 1, 1)))
        assert (done.refused, done.rows) == ({}, 2)
        assert rows(settings(), everything) == before
    is_sound(settings())


@pytest.mark.slow
def test_export_tasks_of_every_source(settings: Make, tmp_path: Path) -> None:
    def exported(*messages: object) -> str:
        texts = [message if isinstance(message, str) else json.dumps(message) for message in messages]
        return "".join(f"2025-03-11T09:00:0{number}.000Z {text}\n" for number, text in enumerate(texts))

    folder = tmp_path / "logs" / "exportedlogs" / "d5f1a2b3-0000-4000-8000-000000000000"
    write(folder / "stream-a" / "000000.gz", exported(call(1), json.dumps(call(2), indent=1), "{broken", call(3)))
    write(folder / "stream-b" / "000000.gz", exported(flow(1), flow(2)))
    write(folder / "stream-c" / "000000.gz", exported(QUERY, QUERY))
    write(folder / "stream-d" / "000000.gz", exported(in_eventbridge("GuardDuty Finding", finding(1)), call(4)))
    write(folder.parent / "aws-logs-write-test", "Permission Check Successful")
    summary = ingest.ingest([str(tmp_path / "logs")], settings())
    counts = {name: (found.counts.read, found.counts.events) for name, found in summary.sources.items()}
    assert counts == {
        "aws_cloudtrail": (5, 4), "aws_vpc_flow": (2, 2), "aws_route53_resolver": (2, 2), "aws_guardduty": (1, 1),
    }  # fmt: skip
    assert [item.reason for item in summary.not_read] == [content.EXPORT_TEST_REASON]
    for table in ("vpc_flow", "route53", "cloud_trail_mgmt"):
        found = rows(settings(), f"SELECT min(unmapped['envelope.timestamp']) FROM {table}")
        assert found == [("2025-03-11T09:00:00.000Z",)], table
    assert rows(settings(), "SELECT source_record, reason FROM quarantine") == [(3, "the record is not valid JSON")]
    is_sound(settings())


def test_a_source_that_is_not_recognized_keeps_all_of_its_records(
    mixed: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = content.recognized_sources() - {"aws_guardduty"}
    monkeypatch.setattr(content, "recognized_sources", lambda: known)
    ingest.ingest([str(mixed)], settings(), source="aws_guardduty")
    assert rows(settings(), "SELECT DISTINCT source FROM ledger_batches") == [("aws_guardduty",)]
    is_sound(settings())


# -- replays ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def refused(mixed: Path, settings: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive as a version that knew one source an object has read it: findings refused as CloudTrail."""
    with monkeypatch.context() as patched:
        patched.setattr(content, "recognized_sources", frozenset)
        ingest.ingest([str(mixed)], settings(batch_objects=10))
    assert rows(settings(), COUNTS) == [("aws_cloudtrail", 45, 33, 12, 0)]
    return mixed


@pytest.mark.slow
def test_findings_that_were_refused_as_another_source_are_replayed_as_findings(refused: Path, settings: Make) -> None:
    summary = replay.replay(settings(), again=True)
    assert (summary.closed, summary.open.total()) == (3, 9)
    sums = "SELECT source, sum(read), sum(events), sum(quarantined) FROM ledger_batches GROUP BY ALL ORDER BY ALL"
    assert rows(settings(), sums) == [("aws_cloudtrail", 42, 33, 9), ("aws_guardduty", 3, 3, 0)]
    meter = sums.replace("sum(read), ", "").replace("batches", "meter")
    assert rows(settings(), meter) == [("aws_cloudtrail", 33, 9), ("aws_guardduty", 3, 0)]
    assert rows(settings(), "SELECT count(*) FROM guardduty_findings") == [(3,)]
    is_sound(settings())
    assert replay.replay(settings(), again=True).closed == 0
    lost = [name for name in contents(Path(settings().lake)) if "guardduty_findings" in name]
    before = contents(Path(settings().lake))
    with opened(settings()) as lake:
        lake.store.remove(lost)
        assert check.sync(lake).left == []
    assert contents(Path(settings().lake)) == before


@pytest.mark.slow
@on_either("part", "written", "registered")
def test_an_interrupted_replay_of_two_sources_is_done_once(
    step: str, refused: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at(step, monkeypatch):
        replay.replay(settings(), again=True)
    replay.replay(settings(), again=True)
    assert rows(settings(), "SELECT count(*) FROM guardduty_findings") == [(3,)]
    assert rows(settings(), COUNTS) == [
        ("aws_cloudtrail", -3, 0, -3, 0), ("aws_cloudtrail", 45, 33, 12, 0), ("aws_guardduty", 3, 3, 0, 0)
    ]  # fmt: skip
    is_sound(settings())
