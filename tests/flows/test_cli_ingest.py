"""`ocsf-lake ingest` and `backfill`: what they say of what they did, and of what they could not do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ledger.ledger import Batch, Ledger
from ocsf_mappers import Engine, registry
from ocsf_mappers.engine.distinct import Evaluator
from tests.flows.conftest import RunCommand
from tests.flows.support import Run
from tests.ocsf_lake.conftest import call, write
from tests.organization import Organization
from tests.support import SAMPLE_LOGS

LOGIN = str(SAMPLE_LOGS / "aws_cloudtrail/console_login_success.json")
SHORT_LINE = str(SAMPLE_LOGS / "aws_vpc_flow/short_line.log")
VERSION_5 = str(SAMPLE_LOGS / "aws_vpc_flow/version_5.log")


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


def test_a_run_of_which_nothing_became_an_event_has_failed(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("ingest", "aws_vpc_flow", LOGIN)
    assert run.code == 1
    assert "1 record in quarantine, and none became an event; if they belong to another source, " in run.err
    run = ocsf_lake("ingest", "aws_cloudtrail", LOGIN)
    assert run.code == 0
    assert "1 object read again" in run.err
    assert "none became an event" not in run.err
    assert ocsf_lake("ingest", SHORT_LINE).code == 0  # one of two records


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
    assert "the workers may have more access" in run.err
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
    assert "1 empty object" in ocsf_lake("ingest", "aws_cloudtrail", "empty.json.gz", "--lake", "other").err


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
    assert "later runs try failed batches again, after all others" in run.err
    assert "is not done after 1 attempt: TypeError: a defect" in ocsf_lake("status", "--lake", "lake").out


BROKEN_SOURCE = "[ocsf_lake.sources]\nacme = acme_source:MAPPER\n"


@pytest.fixture
def broken_source(tmp_path: Path) -> Iterator[None]:
    """Another package is installed, whose source ends the program that imports it."""
    about = tmp_path / "package/acme-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (about / "entry_points.txt").write_text(BROKEN_SOURCE)
    (tmp_path / "package/acme_source.py").write_text("raise SystemExit('no licence')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path / "package")
        registry.forget()
        yield
    registry.forget()


@pytest.mark.slow
def test_a_broken_source_of_another_package_stops_no_command(
    broken_source: None, ocsf_lake: RunCommand, ready_lake: Path
) -> None:
    said = "error: source 'acme' cannot be loaded: SystemExit: no licence"
    assert ocsf_lake("--help").code == 0
    assert ocsf_lake("status", "--lake", str(ready_lake)).code == 0
    assert ocsf_lake("query", "SELECT 1", "--lake", str(ready_lake)).code == 0
    sources, asked = ocsf_lake("sources"), ocsf_lake("ingest", "acme", LOGIN)
    ingested = ocsf_lake("ingest", LOGIN, "--lake", "lake")
    assert (sources.code, "aws_cloudtrail" in sources.out, said in sources.err) == (1, True, True)
    assert (ingested.code, "2 Authentication" in ingested.out, said in ingested.err) == (1, True, True)
    assert (asked.code, said in asked.err) == (1, True)
