"""What the lake has of every hour: proved by digests, judged by history, explained by calls that switched a log off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import ocsf_lake
from ocsf_lake.config import Settings
from ocsf_lake.evidence.keys import PublicKeys, from_files
from ocsf_lake.evidence.report import Fault, Summary
from ocsf_lake.evidence.verify import Asked as Verified
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import delivered, objects, proofs
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.proofs import Proof
from ocsf_lake.ledger.tables import DIGEST_FAULTS, DIGEST_PROOFS, OBJECT_HASHES
from ocsf_lake.upkeep import rebuild_ledger, retain
from ocsf_lake.upkeep.coverage import Asked, Cover, Coverage, Covered, covered
from ocsf_lake.upkeep.proving import Beside, beside_lake
from ocsf_lake.upkeep.silence import Usual
from ocsf_lake.upkeep.streams import time_of
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError
from tests import digests
from tests.digests import Tree, moment
from tests.ocsf_lake.conftest import ON_BOTH, Make, call, write

ACCOUNT, OTHER, REGION = "111122223333", "444455556666", "eu-west-1"
START = datetime(2025, 3, 3, tzinfo=UTC)
"""A Monday."""
NOW = datetime(2025, 3, 20, 12, 30, tzinfo=UTC)
GLYPHS = {
    Cover.COMPLETE: "#", Cover.EMPTY: "o", Cover.PRESENT: "+", Cover.MISSING: "!", Cover.GAP: "x", Cover.LATE: "~",
    Cover.NOT_EXPECTED: "-", Cover.UNKNOWN: "?",
}  # fmt: skip


def flow_log(time: datetime, account: str = ACCOUNT, region: str = REGION) -> str:
    name = f"{account}_vpcflowlogs_{region}_fl-0a_{time:%Y%m%dT%H%MZ}_{time:%H}.log.gz"
    return f"s3://logs/AWSLogs/{account}/vpcflowlogs/{region}/{time:%Y/%m/%d}/{name}"


def trail(time: datetime, account: str = ACCOUNT, region: str = REGION, folder: str = "") -> str:
    name = f"{account}_CloudTrail_{region}_{time:%Y%m%dT%H%MZ}_{time:%H%M}aaaabbbbcccc.json.gz"
    return f"s3://logs/AWSLogs/{folder}{account}/CloudTrail/{region}/{time:%Y/%m/%d}/{name}"


def put(settings: Settings, uris: Sequence[str], source: str = "aws_vpc_flow", **more: object) -> None:
    """Has objects in the ledger as if they had been read."""
    with opened(settings) as lake, lake.ledger.engine.begin() as connection:
        rows = [
            {
                "uri": uri, "etag": hashlib.md5(uri.encode()).hexdigest(), "size": 9, "source": source,
                "batch_id": "b", "state": "done", "reason": None, **more,
            }
            for uri in uris
        ]  # fmt: skip
        objects.put(connection, rows)


def hours(days: int, start: datetime = START) -> list[datetime]:
    return [start + timedelta(hours=number) for number in range(24 * days)]


def look(settings: Settings, now: datetime = NOW, **asked: Any) -> tuple[Coverage, list[Covered]]:
    whole, streams = covered(settings, Asked(**asked), now)
    return whole, list(streams)


def drawn(stream: Covered) -> list[str]:
    """A line for each day."""
    text = "".join(GLYPHS[stream.state(hour)] for hour in stream.hours)
    return [text[start : start + 24] for start in range(0, len(text), 24)]


def reason(stream: Covered, time: str) -> str:
    return stream.reasons.get(int(moment(time).timestamp()) // 3600, "")


# -- by history -------------------------------------------------------------------------------------------------------
@ON_BOTH
def test_an_hour_without_objects_of_a_steady_log_is_a_suspicious_gap(settings: Make) -> None:
    gap = datetime(2025, 3, 15, 7, tzinfo=UTC)
    put(settings(), [flow_log(time) for time in hours(17) if time != gap])
    _, (stream,) = look(settings(), first=date(2025, 3, 14), last=date(2025, 3, 16))
    assert drawn(stream) == ["+" * 24, "+" * 7 + "x" + "+" * 16, "+" * 24]
    assert stream.has_gaps
    assert reason(stream, "2025-03-15T07:00:00").startswith("nothing since 2025-03-15 06h")
    _, (before,) = look(settings(), first=date(2025, 3, 13), last=date(2025, 3, 14))
    assert not before.has_gaps


def test_nights_and_weekends_of_office_hours_are_no_gaps_and_a_lost_morning_is(settings: Make) -> None:
    lost = range(9, 13)
    office = [
        time for time in hours(17)
        if time.weekday() < 5 and 8 <= time.hour < 18 and not (time.day == 18 and time.hour in lost)
    ]  # fmt: skip
    put(settings(), [flow_log(time) for time in office])
    _, (stream,) = look(settings(), first=date(2025, 3, 14), last=date(2025, 3, 18))
    friday, saturday, sunday, monday, tuesday = drawn(stream)
    assert (friday, monday) == (("?" * 8 + "+" * 10 + "?" * 6),) * 2
    assert tuesday == "?" * 8 + "+" + "x" * 4 + "+" * 5 + "?" * 6
    assert {saturday, sunday} == {"?" * 24}


def test_a_log_with_little_history_is_not_judged(settings: Make) -> None:
    put(settings(), [flow_log(time) for time in hours(1)[:9]])
    _, (stream,) = look(settings(), first=date(2025, 3, 3), last=date(2025, 3, 4))
    assert drawn(stream) == ["+" * 9 + "?" * 15, "?" * 24]
    assert not stream.has_gaps
    assert "too little" in reason(stream, "2025-03-04T00:00:00")


def test_a_thin_log_is_missed_after_a_while_only() -> None:
    usual = Usual(range(0, 24 * 21, 3))
    end = 24 * 21
    assert usual.chance(end, end + 5) > 0.001 > usual.chance(end, end + 48)


def test_what_fell_silent_is_told_whatever_days_are_shown(settings: Make) -> None:
    put(settings(), [flow_log(time) for time in hours(10)])
    put(settings(), [flow_log(time, OTHER) for time in hours(17)])
    for now, silent in ((NOW, 5 * 24), (datetime(2026, 3, 20, tzinfo=UTC), 300 * 24)):
        whole, streams = look(settings(), now, source="aws_vpc_flow")
        assert (whole.first, whole.last) == (date(2025, 3, 13), date(2025, 3, 19))
        assert [stream.name.account for stream in streams] == [ACCOUNT, OTHER]
        assert streams[0].has_gaps
        assert drawn(streams[0])[-1] == "x" * 24
        assert streams[0].silent + 5 * 24 >= silent
    assert streams[1].has_gaps
    assert set(drawn(streams[1])) == {"+" * 24}


def test_a_silence_longer_than_the_history_before_it_is_a_gap(settings: Make) -> None:
    again = datetime(2025, 4, 20, tzinfo=UTC)
    put(settings(), [flow_log(time) for time in (*hours(10), *hours(2, again))])
    now = again + timedelta(days=2)
    _, (stream,) = look(settings(), now, first=date(2025, 4, 18), last=date(2025, 4, 20))
    assert drawn(stream) == ["x" * 24, "x" * 24, "+" * 24]
    assert reason(stream, "2025-04-19T00:00:00").startswith("nothing since 2025-03-12 23h")


def test_every_hour_of_which_an_object_could_not_be_read_is_missing(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivered, "EXAMPLES", 1)
    put(settings(), [flow_log(time) for time in hours(14) if time.hour not in (5, 6)])
    for hour in (5, 6, 7):
        time = START.replace(day=15, hour=hour, minute=5)
        put(settings(), [flow_log(time)], state="failed", reason="it is damaged")
    _, streams = look(settings(), first=date(2025, 3, 15), last=date(2025, 3, 15), accounts=(ACCOUNT,))
    assert drawn(streams[0])[0][4:9] == "+!!!+"


def test_the_newest_hours_may_still_come(settings: Make) -> None:
    put(settings(), [flow_log(time) for time in hours(18) if time < NOW - timedelta(hours=1.6)])
    _, (stream,) = look(settings(), last=date(2025, 3, 20), first=date(2025, 3, 20))
    assert drawn(stream) == ["+" * 11 + "~" * 2]
    assert not stream.has_gaps
    _, (later,) = look(settings(), NOW + timedelta(hours=5), last=date(2025, 3, 20), first=date(2025, 3, 20))
    assert drawn(later) == ["+" * 11 + "x" * 4 + "~" * 3]


def test_objects_that_are_known_and_not_in_the_lake(settings: Make) -> None:
    put(settings(), [flow_log(time) for time in hours(14) if time.hour not in (5, 6)])
    put(settings(), [flow_log(START.replace(day=15, hour=5))], state="planned")
    put(settings(), [flow_log(START.replace(day=15, hour=6))], state="failed", reason="it is damaged")
    put(settings(), [flow_log(START.replace(day=15, hour=9, minute=5))], state="failed", reason="it is damaged")
    _, (stream,) = look(settings(), first=date(2025, 3, 15), last=date(2025, 3, 15))
    assert drawn(stream)[0][5:10] == "~!++!"
    assert "it is damaged" in reason(stream, "2025-03-15T06:00:00")


def test_names_with_a_day_alone(settings: Make) -> None:
    folder = f"s3://logs/AWSLogs/{ACCOUNT}/GuardDuty/{REGION}"
    days = [START + timedelta(days=number) for number in range(14) if number not in (11, 12)]
    put(settings(), [f"{folder}/{day:%Y/%m/%d}/{day:%d}aa.jsonl.gz" for day in days], "aws_guardduty")
    _, (stream,) = look(settings(), first=date(2025, 3, 13), last=date(2025, 3, 16))
    assert stream.by_day
    assert drawn(stream) == ["+" * 24, "x" * 24, "x" * 24, "+" * 24]
    assert {row["precision"] for row in stream.rows()} == {"day"}


def test_digests_and_other_kinds_are_no_log_files(settings: Make) -> None:
    put(settings(), [trail(time) for time in hours(2)[:30]], "aws_cloudtrail")
    insight = trail(START + timedelta(hours=40)).replace("CloudTrail", "CloudTrail-Insight")
    digest = trail(START + timedelta(hours=41)).replace("CloudTrail", "CloudTrail-Digest")
    put(settings(), [insight], "aws_cloudtrail")
    put(settings(), [digest], "aws_cloudtrail", state="set_aside")
    _, (stream,) = look(settings(), first=date(2025, 3, 3), last=date(2025, 3, 4))
    assert stream.counts[Cover.PRESENT] == 30


def test_what_names_say_nothing_of_is_counted(settings: Make) -> None:
    put(settings(), [flow_log(START), "s3://logs/somewhere/flows.log.gz"])
    whole, streams = look(settings())
    assert [stream.name.account for stream in streams] == [ACCOUNT]
    assert whole.untimed == {"aws_vpc_flow": 1}
    put(settings(), [f"s3://lake/_detections/{'0a' * 16}.jsonl"], "lake_detections")
    assert look(settings())[0].untimed == {"aws_vpc_flow": 1}


def test_names_with_times_that_are_none(settings: Make) -> None:
    folder = f"s3://logs/AWSLogs/{ACCOUNT}/vpcflowlogs/{REGION}/2025/03/03/{ACCOUNT}_vpcflowlogs_{REGION}_fl-0a_"
    odd = ["00010101T0005Z", "20251399T0005Z", "20250303T9905Z", "20250303T", "89991231T0005Z", "20250303Tx'\0--"]
    put(settings(), [flow_log(START), *(f"{folder}{name}_x.log.gz" for name in odd)])
    for now in (NOW, START + timedelta(hours=2)):
        _, (stream,) = look(settings(), now)
        assert stream.counts[Cover.PRESENT] == 1
        assert len(stream.codes) <= 24 * 17
    assert ocsf_lake.open(settings().lake).sql("SELECT sum(objects) n FROM coverage").to_dicts()[0]["n"] <= 7


def test_what_is_not_there_is_misuse(settings: Make) -> None:
    put(settings(), [flow_log(START)])
    for wrong, message in (
        ({"source": "aws_vpc_flo"}, "did you mean 'aws_vpc_flow'"),
        ({"source": "aws_waf"}, "no objects of aws_waf"),
        ({"accounts": ("999988887777",)}, f"there are: {ACCOUNT}"),
        ({"regions": ("eu-north-1",)}, f"there are: {REGION}"),
        ({"first": date(2025, 3, 4), "last": date(2025, 3, 3)}, "is after the last one"),
        ({"first": date(1, 1, 1)}, "there are no logs of"),
    ):
        with pytest.raises(ConfigError, match=message):
            look(settings(), **wrong)


# -- calls that switched it off ---------------------------------------------------------------------------------------
def switched(settings: Settings, folder: Path, *calls: tuple[str, str, datetime, dict[str, object]]) -> None:
    """Ingests calls: operation, service, time, more of the record."""
    records = [
        call(number, eventName=operation, eventSource=service, eventTime=f"{time:%Y-%m-%dT%H:%M:%SZ}", **more)
        for number, (operation, service, time, more) in enumerate(calls)
    ]
    path = write(folder / "calls.json", json.dumps({"Records": records}))
    ingest.ingest([str(path)], settings, "aws_cloudtrail")


STOP = datetime(2025, 3, 15, 7, 20, tzinfo=UTC)
TRAIL = "cloudtrail.amazonaws.com"


def until(stop: datetime, days: int = 17, begins: datetime | None = None) -> Iterator[datetime]:
    return (time for time in hours(days) if time < stop or (begins is not None and time >= begins))


def test_silence_after_a_trail_was_stopped_is_not_expected(settings: Make, tmp_path: Path) -> None:
    begins = datetime(2025, 3, 15, 16, tzinfo=UTC)
    put(settings(), [trail(time) for time in until(STOP, begins=begins)], "aws_cloudtrail")
    put(settings(), [trail(time, OTHER) for time in until(STOP, begins=begins)], "aws_cloudtrail")
    switched(
        settings(), tmp_path, ("StopLogging", TRAIL, STOP, {}), ("StartLogging", TRAIL, STOP + timedelta(hours=6), {})
    )
    whole, (mine, other) = look(settings(), source="aws_cloudtrail", first=date(2025, 3, 15), last=date(2025, 3, 15))
    assert drawn(mine) == ["+" * 8 + "-" * 6 + "xx" + "+" * 8]
    assert drawn(other) == ["+" * 8 + "x" * 8 + "+" * 8]
    said = reason(mine, "2025-03-15T09:00:00")
    assert said.startswith("switched off by StopLogging by arn:aws:iam::111122223333:user/ann at 2025-03-15T07:20:00Z")
    assert "00000000-0000-4000-8000-000000000000" in said
    assert [change.operation for change in whole.changes] == ["StopLogging", "StartLogging"]
    assert other.changes == []


def test_a_call_that_was_refused_explains_nothing(settings: Make, tmp_path: Path) -> None:
    put(settings(), [trail(time) for time in until(STOP)], "aws_cloudtrail")
    refused = {"errorCode": "AccessDenied", "errorMessage": "no"}
    switched(settings(), tmp_path, ("StopLogging", TRAIL, STOP, refused))
    whole, (stream,) = look(settings(), first=date(2025, 3, 15), last=date(2025, 3, 15))
    assert drawn(stream) == ["+" * 8 + "x" * 16]
    assert [change.done for change in whole.changes] == [False]


def test_a_call_that_changed_the_log_is_named_beside_the_gap(settings: Make, tmp_path: Path) -> None:
    put(settings(), [trail(time) for time in until(STOP)], "aws_cloudtrail")
    switched(settings(), tmp_path, ("PutEventSelectors", TRAIL, STOP, {}))
    _, (stream,) = look(settings(), first=date(2025, 3, 15), last=date(2025, 3, 15))
    assert drawn(stream) == ["+" * 8 + "x" * 16]
    assert "changed by PutEventSelectors by arn:aws:iam::111122223333:user/ann" in reason(stream, "2025-03-15T09:00:00")


def test_an_old_stop_explains_no_later_silence(settings: Make, tmp_path: Path) -> None:
    put(settings(), [trail(time) for time in until(STOP)], "aws_cloudtrail")
    switched(settings(), tmp_path, ("StopLogging", TRAIL, STOP - timedelta(hours=30), {}))
    _, (stream,) = look(settings(), first=date(2025, 3, 15), last=date(2025, 3, 15))
    assert drawn(stream) == ["+" * 8 + "x" * 16]


def test_a_trail_of_the_organization_is_stopped_for_all_its_accounts(settings: Make, tmp_path: Path) -> None:
    uris = [trail(time, OTHER, folder="o-exampleorg1/") for time in until(STOP)]
    put(settings(), uris, "aws_cloudtrail")
    switched(settings(), tmp_path, ("DeleteTrail", TRAIL, STOP, {}))
    _, (stream,) = look(settings(), first=date(2025, 3, 16), last=date(2025, 3, 16), accounts=(OTHER,))
    assert drawn(stream) == ["-" * 24]
    assert not stream.has_gaps


def test_flow_logs_deleted_in_their_region(settings: Make, tmp_path: Path) -> None:
    put(settings(), [flow_log(time, region=region) for time in until(STOP) for region in (REGION, "eu-north-1")])
    ec2 = "ec2.amazonaws.com"
    switched(settings(), tmp_path, ("DeleteFlowLogs", ec2, STOP, {}), ("DescribeFlowLogs", ec2, STOP, {}))
    _, (north, west) = look(settings(), source="aws_vpc_flow", first=date(2025, 3, 16), last=date(2025, 3, 16))
    assert (north.name.region, drawn(north)) == ("eu-north-1", ["x" * 24])
    assert (west.name.region, drawn(west)) == (REGION, ["-" * 24])


# -- by digests -------------------------------------------------------------------------------------------------------
FIRST = moment("2025-03-15T00:08:15")
DAY = date(2025, 3, 15)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree()
    tree.chain(ACCOUNT, REGION, FIRST, 28, every=6)
    return tree


@pytest.fixture
def keys(tmp_path: Path) -> PublicKeys:
    file = tmp_path / "keys.json"
    file.write_text(digests.public_keys(digests.key()), encoding="utf-8")
    return PublicKeys(from_files([file]))


Verify = Callable[..., list[str]]


@pytest.fixture
def verify(tmp_path: Path, keys: PublicKeys) -> Verify:
    def run(settings: Settings, keys: PublicKeys | None = keys, **asked: object) -> list[str]:
        what = Verified(str(tmp_path / "logs"), **{"first": DAY, "last": DAY, **asked})  # type: ignore[arg-type]
        found = beside_lake(registry.source("aws_cloudtrail"), what, settings, keys, Summary(), Beside())
        return [item.what for item in found if isinstance(item, Fault)]

    return run


def log_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.gz") if "_CloudTrail_" in path.name)


@pytest.mark.slow
@ON_BOTH
def test_hours_that_digests_prove(settings: Make, tmp_path: Path, tree: Tree, verify: Verify) -> None:
    ingest.ingest([str(tree.write(tmp_path / "logs"))], settings())
    _, (unproved,) = look(settings(), first=DAY, last=DAY)
    assert drawn(unproved) == ["????+?????+?????+?????+?"]
    assert verify(settings()) == []
    for _ in range(2):
        _, (stream,) = look(settings(), first=DAY, last=DAY)
        assert drawn(stream) == ["oooo#ooooo#ooooo#ooooo#o"]
        assert verify(settings()) == []
    with opened(settings(), reading=True) as lake, lake.ledger.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(DIGEST_PROOFS)) == 9


@pytest.mark.slow
def test_what_the_lake_has_not_read_is_named_until_it_has(
    settings: Make, tmp_path: Path, tree: Tree, verify: Verify
) -> None:
    folder = tree.write(tmp_path / "logs")
    late = log_files(folder)[2]
    content = late.read_bytes()
    late.unlink()
    ingest.ingest([str(folder)], settings())
    late.write_bytes(content)
    assert verify(settings()) == ["log file not in the lake"]
    _, (stream,) = look(settings(), first=DAY, last=DAY)
    assert drawn(stream) == ["oooo#ooooo!ooooo#ooooo#o"]
    ingest.ingest([str(folder)], settings())
    _, (stream,) = look(settings(), first=DAY, last=DAY)
    assert drawn(stream) == ["oooo#ooooo+ooooo#ooooo#o"]
    assert "verify again" in reason(stream, "2025-03-15T10:00:00")
    assert verify(settings()) == []
    _, (stream,) = look(settings(), first=DAY, last=DAY)
    assert drawn(stream) == ["oooo#ooooo#ooooo#ooooo#o"]


@pytest.mark.slow
def test_a_lake_that_read_something_else_than_was_delivered(
    settings: Make, tmp_path: Path, tree: Tree, verify: Verify
) -> None:
    folder = tree.write(tmp_path / "logs")
    forged = log_files(folder)[2]
    content = forged.read_bytes()
    write(forged, json.dumps({"Records": [call(1)]}))
    ingest.ingest([str(folder)], settings())
    assert verify(settings()) == ["log file changed"]
    forged.write_bytes(content)
    assert verify(settings()) == ["log file other in the lake"]
    _, (stream,) = look(settings(), first=DAY, last=DAY, accounts=(ACCOUNT,))
    assert drawn(stream)[0][10] == "!"


@pytest.mark.slow
def test_a_lake_that_has_what_the_bucket_lost(settings: Make, tmp_path: Path, tree: Tree, verify: Verify) -> None:
    folder = tree.write(tmp_path / "logs")
    ingest.ingest([str(folder)], settings())
    lost, changed = log_files(folder)[2], log_files(folder)[4]
    lost.unlink()
    write(changed, json.dumps({"Records": [call(1)]}))
    assert verify(settings()) == ["log file missing", "log file changed"]
    _, (stream,) = look(settings(), first=DAY, last=DAY)
    assert drawn(stream) == ["oooo#ooooo#ooooo#ooooo#o"]
    assert "the lake has read it as it was delivered" in reason(stream, "2025-03-15T10:00:00")


@pytest.mark.slow
def test_without_hashes_etags_show_it_as_long_as_objects_stay(
    settings: Make, tmp_path: Path, tree: Tree, verify: Verify
) -> None:
    folder = tree.write(tmp_path / "logs")
    ingest.ingest([str(folder)], settings(content_hashes="none"))
    with opened(settings(), reading=True) as lake, lake.ledger.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(OBJECT_HASHES)) == 0
    for path in log_files(folder):
        path.touch()
    assert verify(settings()) == []
    packed = log_files(folder)[2]
    packed.write_bytes(tree.objects[packed.relative_to(folder).as_posix()] + b"\0")
    assert verify(settings()) == ["log file not compared"]
    _, (stream,) = look(settings(), first=DAY, last=DAY)
    assert drawn(stream) == ["oooo#ooooo+ooooo#ooooo#o"]


@pytest.mark.slow
def test_faults_of_digests_take_their_hours(settings: Make, tmp_path: Path, tree: Tree, verify: Verify) -> None:
    folder = tree.write(tmp_path / "logs")
    ingest.ingest([str(folder)], settings())
    assert verify(settings()) == []
    for path in folder.rglob("*CloudTrail-Digest*T080815Z*"):
        path.unlink()
    assert "digest missing" in verify(settings())
    _, (stream,) = look(settings(), first=DAY, last=DAY)
    assert drawn(stream) == ["oooo#o?!!o#ooooo#ooooo#o"]
    assert reason(stream, "2025-03-15T07:00:00").startswith("digest missing: ")


@pytest.mark.slow
def test_hours_whose_events_went_by_retention_say_so(settings: Make, tmp_path: Path) -> None:
    rules = settings(retention={"default": "400d"})
    key = Path(trail(START.replace(day=11, hour=7), folder="o-1/").removeprefix("s3://logs/"))
    write(tmp_path / "logs" / key, json.dumps({"Records": [call(1)]}))
    ingest.ingest([str(tmp_path / "logs")], rules)
    asked: dict[str, Any] = {"first": date(2025, 3, 11), "last": date(2025, 3, 11)}
    (before,) = look(rules, **asked)[1]
    retain.retain(rules, clock=lambda: datetime(2026, 6, 1, tzinfo=UTC))
    (after,) = look(rules, **asked)[1]
    assert drawn(after) == drawn(before)
    assert (reason(before, "2025-03-11T07:00:00"), after.counts[Cover.PRESENT]) == ("", 1)
    assert "went from cloud_trail_mgmt by retention" in reason(after, "2025-03-11T07:00:00")


@pytest.mark.slow
def test_who_has_no_keys_takes_no_proof_away(settings: Make, tmp_path: Path, tree: Tree, verify: Verify) -> None:
    ingest.ingest([str(tree.write(tmp_path / "logs"))], settings())
    verify(settings())
    assert set(verify(settings(), PublicKeys({}))) == {"digest not checked"}
    assert verify(settings(), None) == []
    _, (stream,) = look(settings(), first=DAY, last=DAY)
    assert drawn(stream) == ["oooo#ooooo#ooooo#ooooo#o"]


@pytest.mark.slow
def test_a_stop_is_never_complete(settings: Make, tmp_path: Path, verify: Verify) -> None:
    tree = Tree()
    tree.chain(ACCOUNT, REGION, FIRST, 28, every=1)
    folder = tree.write(tmp_path / "logs")
    for path in log_files(folder):
        if path.name > f"{ACCOUNT}_CloudTrail_{REGION}_20250315T1400Z":
            path.unlink()
    ingest.ingest([str(folder)], settings())
    switched(settings(), tmp_path, ("StopLogging", TRAIL, datetime(2025, 3, 15, 13, 30, tzinfo=UTC), {}))
    _, (stream,) = look(settings(), first=DAY, last=DAY)
    assert drawn(stream)[0][13:] == "+" + "-" * 10
    verify(settings())
    _, (stream,) = look(settings(), first=DAY, last=DAY)
    assert drawn(stream)[0][:14] == "#" * 13 + "+"
    assert "#" not in drawn(stream)[0][13:]
    assert "o" not in drawn(stream)[0][13:]


@pytest.mark.slow
def test_a_ledger_made_again_has_the_hashes(settings: Make, tmp_path: Path, tree: Tree) -> None:
    ingest.ingest([str(tree.write(tmp_path / "logs"))], settings())

    def kept() -> set[bytes]:
        with opened(settings(), reading=True) as lake, lake.ledger.engine.connect() as connection:
            return {bytes(sha256) for sha256 in connection.scalars(sa.select(OBJECT_HASHES.c.sha256))}

    before = kept()
    named = {log["hashValue"] for own in tree.metadata for log in tree.read(own)["logFiles"]}
    assert named <= {sha256.hex() for sha256 in before}
    (tmp_path / "lake/_ledger/ledger.db").unlink()
    rebuild_ledger.rebuild(settings())
    assert kept() == before


# -- the ledger -------------------------------------------------------------------------------------------------------
@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """An empty one, in memory."""
    with closing(Ledger(None)) as made:
        yield made


def test_verifying_some_time_again_leaves_the_rest(ledger: Ledger) -> None:

    def proof(start: int, end: int, files: int = 0, state: str = "proved") -> Proof:
        times = (f"2025-03-15T{hour:02d}:08:15Z" for hour in (start, end))
        return Proof("org", "us-east-1", *times, state, 1, files)

    def kept(span: tuple[str, str], *found: Proof) -> list[tuple[str, str, str, int]]:
        with ledger.engine.begin() as connection:
            proofs.replace_all(connection, "s", ACCOUNT, REGION, span, found, [], "now")
            rows = proofs.of(connection, "s", ACCOUNT, REGION, proofs.FIRST, proofs.LAST)
            return [(row.start[11:13], row.end[11:13], row.state, row.digests) for row in rows]

    every = (proofs.FIRST, proofs.LAST)
    whole = [proof(hour, hour + 1) for hour in range(8)]
    assert kept(every, *whole) == [("00", "08", "proved", 8)]
    span = "2025-03-15T03:08:15Z", "2025-03-15T05:08:15Z"
    assert kept(span, proof(3, 4, files=2), proof(4, 5, state="fault")) == [
        ("00", "03", "proved", 7), ("03", "04", "proved", 1), ("04", "05", "fault", 1), ("05", "08", "proved", 7),
    ]  # fmt: skip
    assert kept(every, *whole) == [("00", "08", "proved", 8)]
    assert kept(every) == []


@ON_BOTH
def test_a_ledger_without_these_tables_can_be_read(settings: Make) -> None:
    put(settings(), [flow_log(time) for time in hours(2)])
    with opened(settings()) as lake, lake.ledger.engine.begin() as connection:
        for table in (DIGEST_PROOFS, DIGEST_FAULTS, OBJECT_HASHES):
            table.drop(connection)
    _, (stream,) = look(settings())
    assert stream.counts[Cover.PRESENT] == 48
    with opened(settings()) as lake, lake.ledger.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(DIGEST_PROOFS)) == 0


# -- SQL --------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_table_coverage_has_the_same_rows(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    gap = datetime(2025, 3, 15, 7, tzinfo=UTC)
    put(settings(), [flow_log(time) for time in hours(17) if time != gap])
    lake = ocsf_lake.open(settings().lake)
    days = "hour >= '2025-03-14' AND hour < '2025-03-17'"
    rows = lake.sql(f"SELECT * FROM coverage WHERE {days} ORDER BY hour").to_dicts()
    _, (stream,) = look(settings(), first=date(2025, 3, 14), last=date(2025, 3, 16))
    assert [(row["state"], row["objects"], row["reason"]) for row in rows] == [
        (str(stream.state(hour)), stream.objects[hour], stream.reasons.get(hour)) for hour in stream.hours
    ]
    assert [row["hour"] for row in rows] == [time_of(hour) for hour in stream.hours]
    joined = lake.sql("SELECT count(*) n FROM coverage c JOIN ledger_batches b USING (source)").to_dicts()
    assert joined == [{"n": 0}]


def test_an_empty_lake_has_an_empty_table(settings: Make) -> None:
    with opened(settings()):
        pass
    assert ocsf_lake.open(settings().lake).sql("SELECT * FROM coverage").to_dicts() == []
