"""Flow logs without a header: their fields come from a setting, their time, region and account from their names."""

from pathlib import Path

import pytest

from ocsf_lake.config import load
from ocsf_lake.ingest.run import ingest
from ocsf_lake.inputs import discovery, fields
from ocsf_lake.query.query import connect
from ocsf_lake.upkeep.replay import replay
from ocsf_mappers import RawObject
from ocsf_mappers.engine.fingerprint import fingerprint
from ocsf_mappers.errors import ConfigError
from tests.support import engine, flows

LINE = "ACCEPT 111122223333 10.0.0.9 10.0.1.5 443 6 OK\n"
NAMES = "action account-id srcaddr dstaddr dstport protocol log-status"
NAME = "111122223333_vpcflowlogs_eu-west-1_fl-0a_20260504T0910Z_0a.log"


@pytest.mark.slow
def test_fields_from_the_setting_also_for_a_replay(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / NAME).write_text(LINE)
    before = load(lake=str(tmp_path / "lake"))
    ingest([str(logs)], before)
    with connect(before, "FROM quarantine") as connection:
        ((reason,),) = connection.execute("SELECT reason FROM quarantine").fetchall()
    assert "flow_fields" in reason
    after = load(lake=str(tmp_path / "lake"), flow_fields=[{"uri": f"{logs}/", "fields": NAMES}])
    assert replay(after).closed == 1
    with connect(after, "FROM vpc_flow") as connection:
        found = connection.execute(
            "SELECT dst_endpoint.port, region, accountid, time_dt::VARCHAR, status_detail FROM vpc_flow"
        ).fetchall()
    assert found[0][:3] == (443, "eu-west-1", "111122223333")
    assert "2026-05-04 09:10:00" in found[0][3]
    assert "name of the object" in found[0][4]


@pytest.mark.slow
def test_real_time_logs_are_known_by_the_setting(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "firehose-1").write_text("1773655200.125\t192.0.2.1\t403\tPOST\twww.example.com\t/login?next=/\tQ1==\n")
    chosen = {"uri": f"{logs}/", "fields": "timestamp c-ip sc-status cs-method cs-host cs-uri-stem x-edge-request-id"}
    settings = load(lake=str(tmp_path / "lake"), realtime_fields=[chosen], flow_fields=[{"uri": "x/", "fields": NAMES}])
    ingest([str(logs)], settings)
    request = "src_endpoint.ip, http_request.url.hostname, http_request.url.path, http_request.url.query_string"
    with connect(settings, "FROM cloudfront_realtime") as connection:
        found = connection.execute(f"SELECT time, status_code, {request} FROM cloudfront_realtime").fetchall()
    assert found == [(1773655200125, "403", "192.0.2.1", "www.example.com", "/login", "next=/")]


NAMED = RawObject("memory://x", time="2026-05-04T09:00:00Z", window="hour")


def test_a_reject_reason_stays_beside_the_note_on_the_time() -> None:
    chunk = flows(srcaddr=["10.0.0.9"], dstaddr=["10.0.1.5"], reject_reason=["BPA"])
    (event,) = engine("aws_vpc_flow").map([(NAMED, chunk)]).events.to_pylist()
    assert event["status_detail"].startswith("BPA; start and end are missing")
    assert str(event["time_dt"]) == "2026-05-04 09:00:00+00:00"


def test_a_bad_time_in_the_log_is_not_covered_by_the_name() -> None:
    chunk = flows(srcaddr=["10.0.0.9"], dstaddr=["10.0.1.5"], start=["soon"])
    mapped = engine("aws_vpc_flow").map([(NAMED, chunk)])
    assert (len(mapped.events), len(mapped.rejects)) == (0, 1)


def test_no_time_at_all_is_quarantine() -> None:
    chunk = flows(srcaddr=["10.0.0.9"], dstaddr=["10.0.1.5"])
    assert len(engine("aws_vpc_flow").map([(RawObject("memory://x"), chunk)]).rejects) == 1


def test_the_setting_is_part_of_what_names_a_batch() -> None:
    plain, named = load(), load(flow_fields=[{"uri": "s3://b/p/", "fields": NAMES}])
    made = [fingerprint(fields.mapper("aws_vpc_flow", found), "1.1.0") for found in (plain, named)]
    assert made[0] != made[1]


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("*/flow-[ab].log", "s3://b/p/flow-a.log"),
        ("*/flow-[ab].log", "file:///srv/logs/flow-b.log"),
        ("s3://b/p/", "s3://b/p/x.log"),
    ],
)
def test_a_glob_that_begins_with_a_star_is_not_of_the_working_folder(uri: str, names: str) -> None:
    settings = load(flow_fields=[{"uri": uri, "fields": NAMES}])
    assert fields.source(names, settings) == "aws_vpc_flow"


@pytest.mark.parametrize("names", ["action scraddr dstaddr", "action action srcaddr", "a b c"])
def test_fields_that_no_log_can_have_are_refused(names: str) -> None:
    with pytest.raises(ConfigError, match="flow_fields"):
        fields.mapper("aws_vpc_flow", load(flow_fields=[{"uri": "s3://b/", "fields": names}]))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("region=eu-west-1/year=2026/month=05/day=04/hour=09/f", ("eu-west-1", None, "2026-05-04T09:00:00Z", "hour")),
        (
            "x/accountId=111122223333/f-1-2026-05-04-09-10-11-0a",
            (None, "111122223333", "2026-05-04T09:10:11Z", "second"),
        ),
        ("region=emea/account=12/2026/13/44/f", (None, None, None, None)),
        ("region=eu-west-1/region=eu-west-2/f", (None, None, None, None)),
    ],
)
def test_steps_of_any_key(key: str, said: tuple[str | None, ...]) -> None:
    found = discovery.of_key(f"s3://bucket/{key}")
    assert (found.region, found.account, found.time, found.window) == said
