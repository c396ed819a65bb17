"""What commands tell of a lake: `sources`, `status`, `trace`, `quarantine` and `export`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ocsf_lake.export.run import Summary
from tests.flows.conftest import RunCommand
from tests.support import SAMPLE_LOGS

LOGIN = str(SAMPLE_LOGS / "aws_cloudtrail/console_login_success.json")
SHORT_LINE = str(SAMPLE_LOGS / "aws_vpc_flow/short_line.log")


# -- sources, status, traces, quarantine ------------------------------------------------------------------------------
def test_sources_are_listed_with_classes_and_tables(ocsf_lake: RunCommand) -> None:
    found = {item["source"]: item for item in json.loads(ocsf_lake("sources", "--json").out)}
    assert found["aws_vpc_flow"]["classes"] == ["Network Activity [4001]"]
    assert found["aws_vpc_flow"]["tables"] == ["vpc_flow"]
    assert "aws_cloudtrail" in ocsf_lake("sources").out


def test_an_unknown_source_names_the_nearest_and_where_to_look(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("explain", "aws_cloudtrial")
    assert run.code == 2
    assert "did you mean 'aws_cloudtrail'?" in run.err
    assert "`ocsf-lake sources`" in run.err


@pytest.mark.slow
def test_status_fails_on_what_a_check_finds(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("status", "--fail-on", "quarantine", "--lake", str(ready_lake))
    assert run.code == 1
    assert "quarantine: aws_vpc_flow: " in run.err
    assert "aws_vpc_flow" in run.out
    assert ocsf_lake("status", "--fail-on", "failed", "--fail-on", "freshness", "--lake", str(ready_lake)).code == 0
    assert ocsf_lake("status", "--fail-on", "any", "--lake", str(ready_lake)).code == 1
    run = ocsf_lake("status", "--fail-on", "freshnes", "--lake", str(ready_lake))
    assert (run.code, "did you mean 'freshness'" in run.err) == (2, True)


@pytest.mark.slow
def test_an_event_is_traced_and_its_bundle_verified(
    ocsf_lake: RunCommand, ready_lake: Path, tmp_path: Path
) -> None:
    place, lake = f"{ready_lake.parent}/aws_cloudtrail/console_login_success.json", ("--lake", str(ready_lake))
    shown = ocsf_lake("trace", f"{place}#1", *lake)
    assert shown.code == 0
    for line in ("record      1: line 3, byte 21 ", "            now unchanged: 2,616 ", "mapped again the same event"):
        assert line in shown.out
    found = json.loads(ocsf_lake("trace", "--object", f"file://{place}", "--record", "1", "--json", *lake).out)
    (event,) = found["events"]
    assert (found["total"], event["object"]["state"], event["table"]) == (1, "unchanged", "cloud_trail_mgmt")
    assert json.loads(event["record"]["text"])["eventName"] == "ConsoleLogin"
    assert ocsf_lake("trace", event["uid"], "--from", "2026-02-03", "--to", "20260203", *lake).out == shown.out
    export = ocsf_lake("trace", event["uid"], "--export", "case", "--whole-objects", *lake)
    digest = export.err.split()[-1]
    assert (export.code, len(digest), export.out) == (0, 64, shown.out)
    assert ocsf_lake("trace", event["uid"], "--export", "case", *lake).code == 2
    verified = ocsf_lake("trace", "--verify-bundle", "case", "--manifest-sha256", digest)
    assert (verified.code, verified.out) == (0, "")
    assert "1 whole object, 1 with the ETag as MD5" in verified.err
    (tmp_path / "case/raw/record-1.txt").write_text("\x1b[2J")
    (tmp_path / "case/raw/\x1b[2Jx").write_text("")
    verified = ocsf_lake("trace", "--verify-bundle", "case")
    assert verified.code == 1
    assert [line.partition(":")[0] for line in verified.out.splitlines()] == ["raw/record-1.txt", "raw/\\x1b[2Jx"]
    assert len(json.loads(ocsf_lake("trace", "--verify-bundle", "case", "--json").out)["faults"]) == 2


@pytest.mark.slow
def test_an_event_that_is_not_there_is_told_with_what_is_known(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("trace", f"{ready_lake.parent}/aws_vpc_flow/short_line.log#2", "--lake", str(ready_lake))
    assert (run.code, run.out) == (1, "")
    assert "no such event: searched" in run.err
    assert "record 2 is in quarantine (open): " in run.err
    run = ocsf_lake("trace", "x' --\x1b[2J", "--json", "--lake", str(ready_lake))
    assert (run.code, json.loads(run.out)["events"]) == (1, [])


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("x", "--object", "y", "--record", "1"), ("--object", "y"), ("--record", "1"), ("x", "--table", "none"),
        ("x", "--whole-objects"), ("x", "--manifest-sha256", "00"), ("x", "--verify-bundle", "."),
        ("--verify-bundle", "none"), ("--object", "y", "--record", "0"), ("x", "--from", "last week"),
    ],
)  # fmt: skip
def test_a_trace_that_makes_no_sense_is_misuse(
    ocsf_lake: RunCommand, ready_lake: Path, arguments: tuple[str, ...]
) -> None:
    assert ocsf_lake("trace", *arguments, "--lake", str(ready_lake)).code == 2


def test_status_says_what_the_ledger_holds(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    found = json.loads(ocsf_lake("status", "--json", "--lake", str(ready_lake)).out)
    flows = next(item for item in found["sources"] if item["source"] == "aws_vpc_flow")
    assert flows["objects"] == 2
    assert flows["records"] == flows["events"] + flows["quarantined"] + flows["dropped"]
    assert flows["quarantined"] == 1
    assert flows["batches"] == {"done": 1}
    sql = "SELECT max(time_dt) AS last FROM vpc_flow_2_0"
    (row,) = json.loads(ocsf_lake("query", sql, "--format", "json", "--lake", str(ready_lake)).out)
    assert flows["last_event"] == row["last"]
    assert "1 done" in ocsf_lake("status", "--lake", str(ready_lake)).out


def test_status_of_a_source_is_its_loss_meter(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    lake = ["--lake", str(ready_lake)]
    found = json.loads(ocsf_lake("status", "aws_vpc_flow", "--json", *lake).out)
    counted = "SELECT sum(events) AS events, sum(quarantined) AS quarantined FROM ledger_batches"
    sql = f"{counted} WHERE source = 'aws_vpc_flow'"
    (counts,) = json.loads(ocsf_lake("query", sql, "--format", "json", *lake).out)
    assert {name: sum(day[name] for day in found["days"]) for name in counts} == counts
    assert found["unmapped"] != []
    run = ocsf_lake("status", "aws_vpc_flow", *lake)
    assert run.code == 0
    assert found["unmapped"][0]["name"] in run.out
    run = ocsf_lake("status", "aws_vpcflow", *lake)
    assert run.code == 2
    assert "did you mean 'aws_vpc_flow'?" in run.err


@pytest.mark.slow
def test_what_is_new_is_told_and_cannot_steer_the_terminal(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    record = json.loads(Path(LOGIN).read_bytes())["Records"][0]
    evil = {**record, "eventVersion": "9\x1b[2J", "\x1b[31mkey": 1}
    (tmp_path / "evil.json").write_text(json.dumps({"Records": [evil]}))
    run = ocsf_lake("ingest", "evil.json", "--lake", "evil")
    assert run.err.count("new in aws_cloudtrail: ") == 2
    assert r"eventVersion 9\x1b[2J, which the mapper does not list; first in " in run.err
    for text in (run.err, ocsf_lake("status", "aws_cloudtrail", "--lake", "evil").out):
        assert "\x1b" not in text
        assert r"\x1b[31mkey" in text
    found = json.loads(ocsf_lake("ingest", "evil.json", "--lake", "other", "--json").out)
    news = found["sources"]["aws_cloudtrail"]["news"]
    assert {(item["kind"], item["name"], item["text"], item["record"]) for item in news} == {
        ("member", "\x1b[31mkey", "", 1), ("value", "eventVersion", "9\x1b[2J", 1)
    }  # fmt: skip


def test_quarantine_lists_reasons_and_shows_records(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    lake = ["--lake", str(ready_lake)]
    (reason,) = json.loads(ocsf_lake("quarantine", "list", "--json", *lake).out)
    assert (reason["source"], reason["records"], reason["first_record"]) == ("aws_vpc_flow", 1, 2)
    (record,) = json.loads(ocsf_lake("quarantine", "show", "short_line", "--json", *lake).out)
    assert record["raw"].startswith("2 123456789012 ")
    assert record["raw"] in ocsf_lake("quarantine", "show", *lake).out
    assert "no such records" in ocsf_lake("quarantine", "show", "version_5", *lake).err


@pytest.mark.slow
def test_quarantine_is_replayed_and_purged_on_demand(ocsf_lake: RunCommand) -> None:
    ocsf_lake("ingest", SHORT_LINE, "--lake", "own")
    run = ocsf_lake("quarantine", "replay", "--lake", "own")
    assert (run.code, run.out) == (0, "0 records became events and are closed\n")
    assert "1 record skipped: this mapper has already refused them" in run.err
    run = ocsf_lake("quarantine", "replay", "--again", "--json", "--lake", "own")
    assert json.loads(run.out)["open"] == {"9 values where the header names 14": 1}
    run = ocsf_lake("quarantine", "purge", "--older-than", "0", "--lake", "own")
    assert "nothing was removed; --yes removes them" in run.err
    assert json.loads(ocsf_lake("quarantine", "list", "--json", "--lake", "own").out) != []
    young = ocsf_lake("quarantine", "purge", "--older-than", "1", "--yes", "--json", "--lake", "own")
    assert json.loads(young.out) == []
    assert ocsf_lake("quarantine", "purge", "--older-than", "0", "--yes", "--lake", "own").code == 0
    assert json.loads(ocsf_lake("quarantine", "list", "--json", "--lake", "own").out) == []
    assert ocsf_lake("status", "--lake", "own").code == 0


@pytest.mark.slow
def test_a_record_in_quarantine_cannot_steer_the_terminal(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    first, second = Path(SHORT_LINE).read_bytes().splitlines()[:2]
    (tmp_path / "evil.log").write_bytes(b"\n".join([first, b"\x1b[2J " + second, b""]))
    ocsf_lake("ingest", "aws_vpc_flow", "evil.log", "--lake", "evil")
    for arguments in (["quarantine", "show"], ["quarantine", "list"], ["query", "SELECT raw FROM quarantine"]):
        assert "\x1b" not in ocsf_lake(*arguments, "--lake", "evil").out
    assert r"\x1b[2J" in ocsf_lake("quarantine", "show", "--lake", "evil").out


# -- export -----------------------------------------------------------------------------------------------------------
def test_export_sends_each_event_once_and_says_what_it_did(
    ocsf_lake: RunCommand, ready_lake: Path, tmp_path: Path
) -> None:
    shutil.copytree(ready_lake, tmp_path / "lake")
    command = ("export", "aws_vpc_flow", "./aws-security-data-lake-eu-west-1-x", "--name", "flows", "--lake", "lake")
    run = ocsf_lake(*command)
    assert run.code == 0
    heading, _, *listed = run.out.splitlines()
    assert heading.split() == ["events", "bytes", "object"]
    held = ocsf_lake("query", "SELECT count(*) FROM vpc_flow", "--lake", "lake", "--format", "csv").out.split()[1]
    assert sum(int(row.split()[0]) for row in listed) == int(held) > 0
    place = f"file://{tmp_path}/aws-security-data-lake-eu-west-1-x/ext/flows"
    assert all(f"{place}/region=eu-west-1/accountId=" in row for row in listed)
    assert f"events in {len(listed)} object" in run.err
    again = ocsf_lake(*command, "--json")
    found = json.loads(again.out)
    assert (again.code, found["events"], found["objects"], found["target"]) == (0, 0, [], place)
    assert again.err == f"0 events in 0 objects sent to {place}\n"


def test_an_export_that_cannot_be_is_misuse(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("export", "aws_cloudtrail", "s3://x", "--name", "trail", "--lake", str(ready_lake))
    assert run.code == 2
    assert "--name trail-3002 --class 3002" in run.err or "--name trail-6003 --class 6003" in run.err


def test_an_export_says_what_it_left() -> None:
    assert Summary("s3://x/ext/y", waiting=1, left_out=2).message == (
        "0 events in 0 objects sent to s3://x/ext/y; 1 event left to the next export, as their partitions got an "
        "object just now; 2 events left in the lake, as their day is not known"
    )
    assert Summary("s3://x/ext/y", busy=True).message.startswith("another export to s3://x/ext/y is going on")
