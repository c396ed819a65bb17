"""The contract of the command line: data on stdout, messages on stderr, 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import typer

from ocsf_lake import config
from ocsf_lake.cli import main as cli
from ocsf_lake.export.run import Summary
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ledger.ledger import Batch, Ledger
from ocsf_mappers import Engine
from ocsf_mappers.engine.distinct import Evaluator
from ocsf_mappers.errors import MappingError, RetriableError, WriteError
from tests.flows.conftest import RunCommand
from tests.flows.support import Run, environment
from tests.ocsf_lake.conftest import call, write
from tests.organization import Organization
from tests.support import DEFAULT_OFTEN, PROJECT, SAMPLE_LOGS, VERSIONS, often

LOGIN = str(SAMPLE_LOGS / "aws_cloudtrail/console_login_success.json")
SHORT_LINE = str(SAMPLE_LOGS / "aws_vpc_flow/short_line.log")
VERSION_5 = str(SAMPLE_LOGS / "aws_vpc_flow/version_5.log")
FIREWALL = str(SAMPLE_LOGS / "aws_route53_resolver/firewall.jsonl")


def commands() -> dict[str, str]:
    """Every command and its example."""
    found = {}
    for name, command in typer.main.get_command(cli.app).commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {key}": value.epilog for key, value in inner.items()} if inner else {name: command.epilog}
    return {name: epilog.partition("Example:\n")[2] for name, epilog in found.items()}


# -- help -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def folder_of_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    (folder / "sample_logs").symlink_to(SAMPLE_LOGS)
    return folder


@pytest.mark.slow
def test_every_example_runs(folder_of_examples: Path, shell: dict[str, str]) -> None:
    for name, example in commands().items():
        assert name in example
        if name == "deploy":  # needs a server; tests/flows/test_server.py has one
            continue
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", example],
            cwd=folder_of_examples, env=shell, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        # their examples have something to find; without receivers an alert reaches nobody
        assert run.returncode == (1 if name in ("lint", "diff", "alerts test") else 0), run.stderr


def test_every_command_is_in_the_list_of_commands() -> None:
    listed = (PROJECT / "docs/commands.md").read_text(encoding="utf-8")
    assert [name for name in commands() if f"`ocsf-lake {name}" not in listed] == []


def test_every_help_page_ends_with_its_example(ocsf_lake: RunCommand) -> None:
    for name, example in commands().items():
        run = ocsf_lake(*name.split(), "--help")
        assert run.code == 0
        assert run.out.rstrip().endswith(example.splitlines()[-1].strip())


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    heavy = "duckdb", "lake", "numpy", "ocsf_mappers", "prefect", "pyarrow", "pydantic_settings", "sqlalchemy"
    code = f"import sys, ocsf_lake.cli.main\nsys.exit(' '.join(set({heavy!r}) & set(sys.modules)) or 0)"
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_help_names_the_defaults_that_are_in_force(ocsf_lake: RunCommand) -> None:
    fields = config.Settings.model_fields
    shown = " ".join(ocsf_lake("ingest", "--help").out.split())
    for name in ("lake", "ocsf_version"):
        assert f"[env: OCSF_LAKE_{name.upper()}; default: {fields[name].default}]" in shown


def test_a_command_that_does_not_exist_is_misuse(ocsf_lake: RunCommand) -> None:
    assert ocsf_lake("nonsense").code == 2
    assert ocsf_lake("query").code == 2


# -- ingest -----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_ingest_prints_a_table_on_stdout_and_messages_on_stderr(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("ingest", LOGIN)
    assert run.code == 0
    heading, _, row, *_ = run.out.splitlines()
    assert heading.split()[:4] == ["source", "objects", "records", "events"]
    assert row.split()[0] == "aws_cloudtrail"
    assert "1 object found, 0 of them known from earlier runs" in run.err


def test_ingest_again_reads_nothing(ocsf_lake: RunCommand) -> None:
    ocsf_lake("ingest", LOGIN)
    run = ocsf_lake("ingest", LOGIN, "--json")
    found = json.loads(run.out)
    assert (run.code, found["listed"], found["known"], found["sources"]) == (0, 1, 1, {})
    assert "nothing new was read" in run.err


def test_ingest_counts_every_record(ocsf_lake: RunCommand) -> None:
    found = json.loads(ocsf_lake("ingest", SHORT_LINE, "--json").out)["sources"]["aws_vpc_flow"]
    assert found["records"] == found["events"] + found["quarantined"] + sum(found["dropped"].values())
    assert found["quarantined"] == 1


def test_ingest_tells_of_an_error_that_only_made_it_slower(
    ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("a mistake of ours, and \x1b[31mwhat a log says")

    monkeypatch.setattr("ocsf_mappers.engine.engine.FEW_ROWS", 1)
    monkeypatch.setattr(Evaluator, "results", fails)
    run = ocsf_lake("ingest", LOGIN, "--json")
    found = json.loads(run.out)["sources"]["aws_cloudtrail"]
    assert run.code == 0
    assert found["mapped_row_by_row"] == {"KeyError": found["events"]}
    assert "aws_cloudtrail: 2 records mapped one by one after KeyError: slower, with the same events" in run.err


def test_a_first_word_is_a_source_only_when_one_has_that_name(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.json").write_bytes(Path(LOGIN).read_bytes())
    assert ocsf_lake("ingest", "aws_cloudtrail", "logs").code == 0
    assert ocsf_lake("ingest", "logs", LOGIN).code == 0


def test_a_misspelled_source_gets_the_nearest_name(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("ingest", "aws_vpcflow", VERSION_5)
    assert run.code == 2
    said = "there is nothing at 'aws_vpcflow', and no source of that name; did you mean 'aws_vpc_flow'?"
    assert run.err == f"error: {said}\n"


@pytest.mark.parametrize(
    ("name", "hint"), [("nothing_like_it", "; "), ("aws_vpcflow", "; did you mean 'aws_vpc_flow'? ")]
)
def test_a_source_that_there_is_not_is_told_with_where_they_are_listed(
    ocsf_lake: RunCommand, name: str, hint: str
) -> None:
    run = ocsf_lake("explain", name)
    assert (run.code, run.err) == (2, f"error: there is no source {name!r}{hint}`ocsf-lake sources` lists them\n")


def test_a_source_alone_is_misuse_that_names_the_next_step(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("ingest", "aws_vpc_flow")
    assert run.code == 2
    assert "`ocsf-lake ingest aws_vpc_flow URI`" in run.err


def test_ingest_of_nothing_known_fails_and_says_what_it_skipped(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no log\n")
    run = ocsf_lake("ingest", "notes.txt")
    assert run.code == 1
    assert "1 object skipped: neither the name nor the content is of a known source" in run.out
    assert "notes.txt" in run.out


def test_objects_that_are_empty_or_ocsf_already_are_said_to_be_such(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "empty.json.gz").touch()
    (tmp_path / "events.json").write_text('{"class_uid": 4001, "metadata": {}, "time": 1}')
    run = ocsf_lake("ingest", "empty.json.gz", "events.json")
    assert "1 object skipped: it is empty: a delivery that is cut off may leave such an object\n" in run.out
    assert "1 object skipped: it holds events that are OCSF already; `ocsf-lake validate` checks them\n" in run.out


def test_the_query_that_lists_what_was_skipped_is_named_and_lists_it(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "logs" / f"{number}.txt").parent.mkdir(exist_ok=True)
        (tmp_path / "logs" / f"{number}.txt").write_text(f"no log {number}\n")
    lake = "--lake", str(tmp_path / "lake")
    for run in (ocsf_lake("ingest", "logs", *lake), ocsf_lake("status", *lake)):
        (named,) = re.findall(r'`ocsf-lake query "(.+)"` lists all', run.out)
        assert ocsf_lake("query", named, *lake).out.count(".txt") == 5


def test_a_run_whose_objects_another_one_planned_meanwhile_did_not_fail(
    ocsf_lake: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("no log\n")
    really = Ledger.plan

    def too_late(ledger: Ledger, batches: list[Batch]) -> list[Batch]:
        monkeypatch.setattr(Ledger, "plan", really)
        ledger.plan([replace(batch, id="0" * len(batch.id)) for batch in batches])  # the other run, grouped otherwise
        return ledger.plan(batches)

    monkeypatch.setattr(Ledger, "plan", too_late)
    run = ocsf_lake("ingest", LOGIN, "notes.txt", "--lake", "shared")
    assert run.code == 0
    assert "1 object left to another run that planned them meanwhile\n" in run.err
    later = json.loads(ocsf_lake("ingest", LOGIN, "--lake", "shared", "--json").out)
    assert later["sources"]["aws_cloudtrail"]["records"] == 2


# -- backfill ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def remote(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """`backfill --remote` with a server that takes one run; tests/flows/test_server.py has a real one."""
    from ocsf_lake.flows import deployments, remote

    day = date(2026, 3, 1)
    monkeypatch.setattr(deployments, "server", lambda: "http://127.0.0.1:1/api")
    monkeypatch.setattr(remote, "submit", lambda *_: iter([remote.Submitted(day, day, "one", new=True)]))

    def run(uri: str, *more: str) -> Run:
        days = ("--from", f"{day}", "--to", f"{day}")
        return ocsf_lake("backfill", "aws_cloudtrail", uri, *days, "--remote", *more)

    return run


def test_a_remote_backfill_says_first_what_there_is_to_do(remote: RunCommand, tmp_path: Path) -> None:
    day = Organization(accounts=1, regions=1, first=date(2026, 3, 1), days=1, objects=3)
    logs = str(day.write(tmp_path / "logs"))
    run = remote(logs)
    assert (run.code, run.out.splitlines()[2].split()[:2]) == (0, ["3", "0"])
    assert "every object counts as new" in run.err
    assert {path.name for path in tmp_path.iterdir()} == {"logs"}
    ingest.ingest([logs], config.load(lake=str(tmp_path / "lake")))
    found = json.loads(remote(logs, "--lake", "lake", "--json").out)
    assert (found["estimate"]["known"], found["estimate"]["seconds"]) == (3, 0)
    assert found["runs"] == [{"name": "one", "from": "2026-03-01", "to": "2026-03-01", "new": True}]
    assert json.loads(remote(logs, "--lake", "lake", "--json", "--no-estimate").out)["estimate"] is None


def test_a_remote_backfill_says_why_it_sees_nothing_from_here(
    remote: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = remote(str(tmp_path / "mounted elsewhere"))
    assert (run.code, run.out) == (0, "")
    assert "no estimate: there is nothing at " in run.err
    assert "the workers may see more" in run.err
    monkeypatch.setenv("OCSF_LAKE_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    run = remote(str(tmp_path))
    assert "no estimate: OCSF_LAKE_LEDGER_URL is set and OCSF_LAKE_LAKE is not" in run.err
    assert list(tmp_path.iterdir()) == []


def test_alerts_without_automations_are_misuse(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("deploy", "--alerts", "slack-webhook/oncall")
    assert (run.code, "--automations deploy/automations.yaml" in run.err) == (2, True)


def test_an_object_without_a_byte_is_named(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "empty.json.gz").touch()
    run = ocsf_lake("ingest", "aws_cloudtrail", "empty.json.gz", "--json")
    assert json.loads(run.out)["empty"] == {"objects": 1, "examples": [(tmp_path / "empty.json.gz").as_uri()]}
    assert "1 object without a byte" in ocsf_lake("ingest", "aws_cloudtrail", "empty.json.gz", "--lake", "other").err


# -- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_options_win_over_variables_and_variables_over_the_file(
    ocsf_lake: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ocsf-lake.toml").write_text('lake = "from_file"\n')
    ocsf_lake("ingest", LOGIN)
    monkeypatch.setenv("OCSF_LAKE_LAKE", "from_variable")
    ocsf_lake("ingest", LOGIN)
    ocsf_lake("ingest", LOGIN, "--lake", "from_option")
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"from_file", "from_variable", "from_option"}


@pytest.mark.parametrize(
    ("toml", "said"), [("lake = [", "ocsf-lake.toml is not TOML"), ("lak = 'x'", "did you mean 'lake'?")]
)
def test_a_wrong_settings_file_is_one_line(ocsf_lake: RunCommand, tmp_path: Path, toml: str, said: str) -> None:
    (tmp_path / "ocsf-lake.toml").write_text(toml)
    run = ocsf_lake("status")
    assert run.code == 2
    assert said in run.err
    assert run.err.count("\n") == 1


@pytest.mark.parametrize("command", [["query", "SELECT 1"], ["status"], ["quarantine", "list"], ["quarantine", "show"]])
def test_a_lake_that_is_not_there_is_not_made_by_looking(
    ocsf_lake: RunCommand, tmp_path: Path, command: list[str]
) -> None:
    run = ocsf_lake(*command, "--lake", "nowhere")
    assert run.code == 2
    assert "ocsf-lake ingest URI --lake nowhere" in run.err
    assert list(tmp_path.iterdir()) == []


# -- query ------------------------------------------------------------------------------------------------------------
STEERING = "SELECT 'a' || chr(27) || '[31m' || chr(155) || chr(8238) AS x, 'one' || chr(10) || 'two' AS y"


@pytest.mark.slow
def test_a_table_shows_control_characters_spelled_out(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", STEERING, "--lake", str(ready_lake))
    assert run.out.splitlines()[2].split() == [r"a\x1b[31m\x9b\u202e", r"one\ntwo"]


def test_json_is_an_array_of_objects_without_a_raw_control_character(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", STEERING, "--lake", str(ready_lake), "--format", "json")
    assert json.loads(run.out) == [{"x": "a\x1b[31m\x9b\u202e", "y": "one\ntwo"}]
    assert run.out.isascii()


def test_csv_keeps_text_as_it_is(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    sql = "SELECT 'a,\"b' AS x, NULL AS y, {'k': [1, 2]} AS z, true AS t, TIMESTAMPTZ '2026-03-18 02:11:07Z' AS at"
    run = ocsf_lake("query", sql, "--lake", str(ready_lake), "--format", "csv")
    assert list(csv.reader(io.StringIO(run.out))) == [
        ["x", "y", "z", "t", "at"],
        ['a,"b', "", '{"k": [1, 2]}', "true", "2026-03-18T02:11:07Z"],
    ]


def test_json_has_what_json_can_hold(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    sql = "SELECT sum(1) AS n, 'nan'::DOUBLE AS d, 1.5::DECIMAL(5,2) AS e, MAP {'a': 1} AS m, 1 AS same, 2 AS same"
    (row,) = json.loads(ocsf_lake("query", sql, "--lake", str(ready_lake), "--format", "json").out)
    assert row == {"n": 1, "d": None, "e": 1.5, "m": {"a": 1}, "same": 1, "same_2": 2}


def test_a_long_table_is_cut_and_says_so(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", "FROM range(1001)", "--lake", str(ready_lake))
    assert "1,000 of 1,001 rows shown" in run.err
    assert run.out.splitlines()[-1].strip() == "999"


def test_wrong_sql_shows_where_and_never_a_traceback(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", "SELECT nonsense FROM vpc_flow_2_0", "--lake", str(ready_lake))
    assert run.code == 1
    assert run.err.startswith("error: Binder Error")
    assert "SHOW TABLES" in run.err
    assert "Traceback" not in run.err


def test_a_query_that_would_change_something_is_misuse(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", "DROP VIEW vpc_flow", "--lake", str(ready_lake))
    assert (run.code, run.out) == (2, "")


# -- map and validate -------------------------------------------------------------------------------------------------
@pytest.mark.slow
@DEFAULT_OFTEN
@pytest.mark.parametrize(("source", "file"), [("aws_cloudtrail", LOGIN), ("aws_vpc_flow", VERSION_5)])
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
@pytest.mark.parametrize("version", often(VERSIONS, ["1.8.0"]))
def test_ingest_writes_the_version_it_is_told(ocsf_lake: RunCommand, version: str) -> None:
    tables = {"cloud_trail_mgmt": LOGIN, "vpc_flow": VERSION_5, "route53": FIREWALL}
    assert ocsf_lake("ingest", *tables.values(), "--lake", "lake", "--ocsf-version", version).code == 0
    for table in tables:
        run = ocsf_lake("query", f"SELECT DISTINCT metadata.version FROM {table}", "--lake", "lake", "--format", "csv")
        assert run.out.splitlines()[1:] == [version]


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


# -- sources, status, quarantine --------------------------------------------------------------------------------------
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
    assert "no such event: looked through" in run.err
    assert "record 2 is in quarantine (open): " in run.err
    run = ocsf_lake("trace", "x' --\x1b[2J", "--json", "--lake", str(ready_lake))
    assert (run.code, json.loads(run.out)["events"]) == (1, [])


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("x", "--object", "y", "--record", "1"), ("--object", "y"), ("--record", "1"), ("x", "--table", "none"),
        ("x", "--whole-objects"), ("x", "--manifest-sha256", "00"), ("x", "--verify-bundle", "."),
        ("--verify-bundle", "none"), ("--object", "y", "--record", "0"), ("x", "--from", "yesterday"),
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
    assert "1 record left alone: this very mapper has refused them" in run.err
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


# -- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "step"),
    [(WriteError("disk full"), "run the same command again"), (MappingError("no such path"), "CONTRIBUTING.md")],
)
def test_an_error_of_ours_is_a_line_and_a_next_step(
    ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch, error: Exception, step: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ingest, "ingest", fails)
    run = ocsf_lake("ingest", LOGIN)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"error: {error}\n")
    assert step in run.err


def test_a_defect_is_not_hidden(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ingest, "ingest", fails)
    run = ocsf_lake("ingest", LOGIN)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("Traceback (most recent call last):")
    assert run.err.endswith("ZeroDivisionError\n")


# -- what fails -------------------------------------------------------------------------------------------------------
@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two logs; mapping fails wherever a record says `poison`: a record of one, all of the other."""
    for name, agents in {"some.json": ["x", "poison", "y"], "all.json": ["poison"]}.items():
        records = [call(number, userAgent=agent) for number, agent in enumerate(agents)]
        write(tmp_path / "in" / name, json.dumps({"Records": records}))
    mapped = Engine.map

    def fails(self: Engine, parts: Sequence[tuple[Any, Any]], *, ordered: bool = True) -> Any:
        if any("poison" in text for _, chunk in parts for text in chunk.records["_raw"].to_pylist()):
            raise TypeError("a \x1b[31mdefect")
        return mapped(self, parts, ordered=ordered)

    monkeypatch.setattr(Engine, "map", fails)
    return tmp_path / "in"


@pytest.mark.slow
def test_what_makes_the_program_fail_is_named_and_stops_nothing(ocsf_lake: RunCommand, poisoned: Path) -> None:
    run = ocsf_lake("ingest", str(poisoned), "--lake", "lake")
    assert run.code == 1
    assert "1 object failed: its records cannot be mapped: TypeError: a \\x1b[31mdefect\n" in run.out
    assert "all.json" in run.out
    assert "error: record 2 of file://" in run.err
    assert "some.json made the program fail, and is in quarantine: TypeError" in run.err
    assert ocsf_lake("query", "SELECT count(*) FROM cloud_trail_mgmt", "--lake", "lake", "--format", "csv").out == (
        "count_star()\n2\n"
    )
    status = ocsf_lake("status", "--lake", "lake")
    assert "its records cannot be mapped: TypeError: a \\x1b[31mdefect (tried up to 1 time)" in status.out
    assert "all.json" in status.out
    again = json.loads(ocsf_lake("ingest", str(poisoned), "--lake", "lake", "--json").out)
    assert again["isolated_records"] == []
    assert again["not_read_by_state"] == {"failed": 1}


def test_a_batch_that_fails_as_a_whole_is_named(
    ocsf_lake: RunCommand, poisoned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr(Engine, "map", fails)
    run = ocsf_lake("ingest", str(poisoned), "--lake", "lake")
    assert run.code == 1
    assert "of aws_cloudtrail failed: TypeError: a defect; none of the 2 objects of the batch can be read" in run.err
    assert "batches that failed are tried again by later runs, after all others" in run.err
    assert "is not done after 1 attempt: TypeError: a defect" in ocsf_lake("status", "--lake", "lake").out


BROKEN_SOURCE = "[ocsf_lake.sources]\nacme = acme_source:MAPPER\n"


@pytest.mark.slow
def test_a_broken_source_of_another_package_stops_no_command(tmp_path: Path, ready_lake: Path) -> None:
    about = tmp_path / "package/acme-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (about / "entry_points.txt").write_text(BROKEN_SOURCE)
    (tmp_path / "package/acme_source.py").write_text("raise SystemExit('no licence')\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = f"{tmp_path / 'package'}:{PROJECT}"
        return subprocess.run(
            [sys.executable, "-m", "ocsf_lake.cli.main", *arguments],
            env=environment(PYTHONPATH=path), cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    said = "error: source 'acme' cannot be loaded: SystemExit: no licence"
    assert run("--help").returncode == 0
    assert run("status", "--lake", str(ready_lake)).returncode == 0
    assert run("query", "SELECT 1", "--lake", str(ready_lake)).returncode == 0
    sources, ingested, asked = run("sources"), run("ingest", LOGIN, "--lake", "lake"), run("ingest", "acme", LOGIN)
    assert (sources.returncode, "aws_cloudtrail" in sources.stdout, said in sources.stderr) == (1, True, True)
    assert (ingested.returncode, "2 Authentication" in ingested.stdout, said in ingested.stderr) == (1, True, True)
    assert (asked.returncode, said in asked.stderr) == (1, True)


# -- verify -----------------------------------------------------------------------------------------------------------
KEYS = str(SAMPLE_LOGS / "evidence/public-keys.json")
VERIFY = ("verify", "aws_cloudtrail", str(SAMPLE_LOGS / "evidence"), "--from", "2026-03-17", "--to", "2026-03-17")


def test_verify_says_what_it_proved(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake(*VERIFY, "--public-keys", KEYS)
    assert (run.code, run.out) == (0, "")
    assert "111122223333 eu-central-1 org-trail (eu-central-1): 25 digests from 2026-03-16T23:08:15Z" in run.err
    assert "proved: 25 of 25 digests in 1 chain, 25 hours, 8 log files" in run.err


def test_verify_names_each_fault_on_a_line(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    copy = shutil.copytree(SAMPLE_LOGS / "evidence", tmp_path / "copy")
    changed, deleted, *_ = sorted(copy.glob("AWSLogs/**/*_CloudTrail_*20260317T*.json.gz"))
    changed.write_bytes(changed.read_bytes() * 2)
    deleted.unlink()
    given = ("verify", "aws_cloudtrail", str(copy), *VERIFY[3:], "--public-keys", KEYS)
    run = ocsf_lake(*given)
    assert run.code == 1
    assert [line.partition(": file://")[0].split("  ") for line in run.out.splitlines()] == [
        ["2026-03-17T04:08:15Z", "log file changed"], ["2026-03-17T04:08:15Z", "log file missing"],
    ]  # fmt: skip
    *faults, chain, summary = [json.loads(line) for line in ocsf_lake(*given, "--json").out.splitlines()]
    assert [(fault["type"], fault["what"], fault["start"]) for fault in faults] == [
        ("fault", "log file changed", "2026-03-17T04:08:15Z"), ("fault", "log file missing", "2026-03-17T04:08:15Z"),
    ]  # fmt: skip
    assert (chain["type"], chain["proved"], chain["first"]) == ("chain", 25, "2026-03-16T23:08:15Z")
    assert (summary["type"], summary["faults"], summary["files"]) == ("summary", 2, 6)


def test_verify_without_keys_claims_nothing(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    run = ocsf_lake(*VERIFY)
    assert run.code == 1
    assert "AWS was asked for it" in run.out
    assert "proved: 0 of 25 digests" in run.err
    run = ocsf_lake(*VERIFY, "--no-signatures")
    assert (run.code, run.out) == (0, "")
    assert "signatures were not checked" in run.err
    assert "25 fit each other" in run.err


def test_verify_that_is_cut_off_claims_nothing(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object) -> None:
        raise RetriableError("the store is busy")

    monkeypatch.setattr("ocsf_lake.evidence.days.hashes", cut_off)
    run = ocsf_lake(*VERIFY, "--public-keys", KEYS)
    assert run.code == 1
    assert "proved" not in run.out + run.err
    assert "not everything was looked at" in run.err


def test_verify_refuses_what_it_cannot_verify(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    assert ocsf_lake("verify", "aws_waf", str(tmp_path)).code == 2
    assert ocsf_lake("verify", "aws_cloudtrail", str(tmp_path)).code == 2
    assert ocsf_lake("verify", "aws_cloudtrail", str(tmp_path / "none")).code == 2
    assert ocsf_lake(*VERIFY, "--public-keys", str(tmp_path / "none")).code == 2
    assert ocsf_lake(*VERIFY, "--public-keys", KEYS, "--no-signatures").code == 2
    assert ocsf_lake(*VERIFY, "--account", "999988887777").code == 2
