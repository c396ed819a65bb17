"""`ocsf-lake map` and `validate`: events of a file without a lake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocsf_mappers import DEFAULT_VERSION
from tests.flows.conftest import RunCommand
from tests.support import SAMPLE_LOGS, VERSIONS, often

LOGIN = str(SAMPLE_LOGS / "aws_cloudtrail/console_login_success.json")
SHORT_LINE = str(SAMPLE_LOGS / "aws_vpc_flow/short_line.log")
VERSION_5 = str(SAMPLE_LOGS / "aws_vpc_flow/version_5.log")
FIREWALL = str(SAMPLE_LOGS / "aws_route53_resolver/firewall.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "file", "version"),
    [("aws_cloudtrail", LOGIN, DEFAULT_VERSION), *(("aws_vpc_flow", VERSION_5, version) for version in VERSIONS)],
)  # fmt: skip
def test_mapped_events_are_valid(ocsf_lake: RunCommand, source: str, file: str, version: str) -> None:
    mapped = ocsf_lake("map", source, file, "--ocsf-version", version)
    assert mapped.code == 0
    assert {json.loads(line)["metadata"]["version"] for line in mapped.out.splitlines()} == {version}
    run = ocsf_lake("validate", "-", "--warnings", stdin=mapped.out.encode())
    assert (run.code, run.out) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(("version", "warnings"), often([("1.1.0", 6), ("1.5.0", 0), ("1.8.0", 0)], [("1.1.0", 6)]))
def test_absolute_names_are_valid_and_at_most_a_warning(ocsf_lake: RunCommand, version: str, warnings: int) -> None:
    mapped = ocsf_lake("map", "aws_route53_resolver", FIREWALL, "--ocsf-version", version)
    assert {json.loads(line)["metadata"]["version"] for line in mapped.out.splitlines()} == {version}
    assert ocsf_lake("validate", "-", stdin=mapped.out.encode()).out == ""
    warned = ocsf_lake("validate", "-", "--warnings", stdin=mapped.out.encode())
    assert (warned.code, warned.out.count("query.hostname")) == (0, warnings)


@pytest.mark.slow
def test_ingest_writes_the_version_it_is_told(ocsf_lake: RunCommand) -> None:
    tables = {"vpc_flow": VERSION_5, "route53": FIREWALL}
    assert ocsf_lake("ingest", *tables.values(), "--lake", "lake", "--ocsf-version", "1.8.0").code == 0
    for table in tables:
        run = ocsf_lake("query", f"SELECT DISTINCT metadata.version FROM {table}", "--lake", "lake", "--format", "csv")
        assert run.out.splitlines()[1:] == ["1.8.0"]


def test_map_keeps_an_empty_list_of_answers(ocsf_lake: RunCommand) -> None:
    events = [json.loads(line) for line in ocsf_lake("map", "aws_route53_resolver", FIREWALL).out.splitlines()]
    assert [event["answers"] for event in events if event["rcode"] == "NXDomain"] == [[]]


def test_map_leaves_out_nulls_and_the_columns_of_the_lake(ocsf_lake: RunCommand) -> None:
    event = json.loads(ocsf_lake("map", "aws_vpc_flow", VERSION_5).out.splitlines()[0])

    def nothing(value: object) -> bool:
        members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return value in (None, {}, []) or any(map(nothing, members))

    assert not nothing(event)
    assert not {"source_object", "accountid", "region", "_table"} & event.keys()


def test_map_reads_stdin(ocsf_lake: RunCommand) -> None:
    named = ocsf_lake("map", "aws_vpc_flow", VERSION_5)
    piped = ocsf_lake("map", "aws_vpc_flow", "-", stdin=Path(VERSION_5).read_bytes())
    assert piped.out == named.out


def test_map_tells_rejects_on_stderr_and_goes_on(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("map", "aws_vpc_flow", SHORT_LINE)
    assert run.code == 0
    assert run.out
    assert f"{SHORT_LINE}: record 2: 9 values where the header names 14" in run.err


def test_map_fails_when_no_record_becomes_an_event(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("map", "aws_cloudtrail", "-", stdin=b'{"Records": [{"eventName": "x"}]}')
    assert (run.code, run.out) == (1, "")
    assert "record 1" in run.err


def test_map_fails_on_a_file_in_another_format(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("map", "aws_cloudtrail", VERSION_5)
    assert run.code == 1
    assert "in none of the formats of aws_cloudtrail: JSON" in run.err


def test_a_file_that_is_not_there_is_misuse(ocsf_lake: RunCommand) -> None:
    assert ocsf_lake("map", "aws_vpc_flow", "nowhere.log").code == 2
    assert ocsf_lake("validate", "nowhere.json").code == 2


@pytest.mark.slow
def test_validate_names_file_event_and_attribute(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    first, second = (json.loads(line) for line in ocsf_lake("map", "aws_vpc_flow", VERSION_5).out.splitlines()[:2])
    del second["severity_id"]
    (tmp_path / "events.json").write_text(json.dumps([first, second]))
    run = ocsf_lake("validate", "events.json")
    assert run.code == 1
    assert run.out.startswith("events.json:2: severity_id: ")
    (found,) = json.loads(ocsf_lake("validate", "events.json", "--json").out)
    assert (found["file"], found["event"], found["level"], found["path"]) == ("events.json", 2, "error", "severity_id")


@pytest.mark.slow
def test_validate_reads_the_files_of_a_lake(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    files = [str(path) for path in (ready_lake / "aws").rglob("*.parquet")]
    run = ocsf_lake("validate", *files)
    assert (run.code, run.out) == (0, "")
    assert "0 errors" in run.err
