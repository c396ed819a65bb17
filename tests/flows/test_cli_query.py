"""`ocsf-lake query` and `lint` beyond rows: what a query reads, Athena, answers that are empty, files that are gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake.query import emptiness
from ocsf_lake.storage import s3
from tests.flows.conftest import RunCommand
from tests.ocsf_lake.test_athena import Stub

FLOWS = "SELECT src_endpoint.ip FROM vpc_flow_2_0 WHERE "
LATELY = "time_dt > TIMESTAMP '2020-01-01 00:00:00'"


@pytest.fixture
def own_lake(ready_lake: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(ready_lake, tmp_path / "own"))


def a_file(lake: Path, table: str = "VPC_FLOW") -> Path:
    return min((lake / "aws" / table).rglob("*.parquet"))


# -- what a query reads -----------------------------------------------------------------------------------------------
def test_explain_says_what_a_query_reads_and_not_its_rows(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    sql = "SELECT src_endpoint.ip AS address FROM vpc_flow_2_0"
    run = ocsf_lake("query", sql, "--explain", "--lake", str(ready_lake))
    heading, _, row = run.out.splitlines()
    assert (run.code, run.err) == (0, "")
    assert " ".join(heading.split()) == "rows files read row groups of those bytes read"
    total = len(list((ready_lake / "aws" / "VPC_FLOW").rglob("*.parquet")))
    rows = json.loads(ocsf_lake("query", sql, "--format", "json", "--lake", str(ready_lake)).out)
    assert row.split()[:4] == [str(len(rows)), str(total), "of", str(total)]
    assert "address" not in run.out


def test_explain_as_json_has_the_numbers(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    sql = "SELECT max(time) FROM vpc_flow_2_0 WHERE eventday = '19990101'"
    found = json.loads(ocsf_lake("query", sql, "--explain", "--format", "json", "--lake", str(ready_lake)).out)
    assert found.keys() == {"rows", "files", "of_files", "row_groups", "of_row_groups", "bytes", "of_bytes"}
    assert (found["rows"], found["files"]) == (1, 0)
    assert found["of_files"] > 0


def test_explain_takes_only_what_reads(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", "DROP VIEW vpc_flow", "--explain", "--lake", str(ready_lake))
    assert (run.code, run.out) == (2, "")
    assert "one statement that reads" in run.err


# -- Athena -----------------------------------------------------------------------------------------------------------
def athena_that_ends(monkeypatch: pytest.MonkeyPatch, stub: Any) -> list[str]:
    """The commands' Athena is this stub; gives the services that clients were asked for."""
    asked: list[str] = []
    monkeypatch.setattr(s3, "aws_client", lambda service, *_: asked.append(service) or stub)
    return asked


def test_athena_prints_its_rows_and_says_what_it_read(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCSF_LAKE_ATHENA_WORKGROUP", "analysts")
    stub = Stub({"State": "SUCCEEDED"})
    asked = athena_that_ends(monkeypatch, stub)
    run = ocsf_lake("query", "SELECT ip, n FROM vpc_flow", "--athena", "--format", "csv", "--lake", "s3://b/lake")
    assert (run.code, run.out) == (0, "ip,n\n1,\n2,3\n")
    assert run.err == "Athena read 1.2 kB\n"
    assert asked == ["athena"]
    assert stub.started["WorkGroup"] == "analysts"
    assert stub.started["QueryString"] == "SELECT ip, n FROM vpc_flow"


def test_athena_gives_the_same_forms(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    athena_that_ends(monkeypatch, Stub({"State": "SUCCEEDED"}))
    run = ocsf_lake("query", "SELECT 1", "--athena", "--format", "json", "--lake", "s3://b/lake")
    assert json.loads(run.out) == [{"ip": "1", "n": None}, {"ip": "2", "n": "3"}]


@pytest.mark.parametrize(("more", "code"), [({}, 2), ({"AthenaError": {"Retryable": True}}, 1)])
def test_what_athena_refuses_is_a_line_and_an_exit_code(
    ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], code: int
) -> None:
    athena_that_ends(monkeypatch, Stub({"State": "FAILED", "StateChangeReason": "line 1:8: no such column", **more}))
    run = ocsf_lake("query", "SELECT x", "--athena", "--lake", "s3://b/lake")
    assert (run.code, run.out) == (code, "")
    assert run.err.startswith("error: Athena: failed: line 1:8: no such column\n")


class Nothing(Stub):
    """An Athena that counts none."""

    def get_query_results(self, QueryExecutionId: str, NextToken: str = "") -> dict[str, Any]:  # noqa: N803
        rows = [{"Data": [{"VarCharValue": "n"}]}, {"Data": [{"VarCharValue": "0"}]}]
        return {"ResultSet": {"Rows": rows, "ResultSetMetadata": {"ColumnInfo": [{"Name": "n"}]}}}


def test_an_empty_answer_of_athena_is_explained_too(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    athena_that_ends(monkeypatch, Nothing({"State": "SUCCEEDED"}))
    sql = f"SELECT count(*) AS n FROM vpc_flow WHERE {LATELY} AND action = 'REJECT'"
    run = ocsf_lake("query", sql, "--athena", "--format", "csv", "--lake", "s3://b/lake")
    assert (run.code, run.out) == (0, "n\n0\n")
    assert "no-such-value: action: no row has 'REJECT'\n  action = 'Denied'\n" in run.err


# -- empty answers ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["table", "json", "csv"])
@pytest.mark.parametrize(
    ("select", "wrong", "right"),
    [
        ("src_endpoint.ip", "eventday = '2024-08-13'", "eventday = '20240813'"),
        ("count(*)", "eventday = '2024-08-13'", "eventday = '20240813'"),
        ("max(time)", "action = 'REJECT'", "action = 'Denied'"),
        ("sum(traffic.bytes)", "accountid = '12345678901'", "accountid = '012345678901'"),
    ],
)
def test_an_empty_answer_names_the_condition_that_no_row_meets(
    ocsf_lake: RunCommand, ready_lake: Path, form: str, select: str, wrong: str, right: str
) -> None:
    sql = f"SELECT {select} AS found FROM vpc_flow_2_0 WHERE {wrong}"
    run = ocsf_lake("query", sql, "--lake", str(ready_lake), "--format", form)
    assert run.code == 0
    assert "no-such-value" not in run.out
    assert run.err.startswith("no-such-value: ")
    assert run.err.splitlines()[1] == f"  {right}"


@pytest.mark.parametrize(
    "wrong", ["region = 'eu-west1'", "region = 'US-EAST-1'", "time_dt > now()", "cloud.account.uid = '999999999999'"]
)
def test_an_empty_answer_says_what_there_is_instead(ocsf_lake: RunCommand, ready_lake: Path, wrong: str) -> None:
    run = ocsf_lake("query", f"SELECT count(*) FROM vpc_flow WHERE {wrong}", "--lake", str(ready_lake))
    assert run.code == 0
    assert "vpc_flow has no events of that region, account and time; it has those of region" in run.err
    assert "eventday 2026" in run.err or "eventday 2025" in run.err


def test_only_what_an_empty_query_read_is_asked_why(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "flows.log").write_text(
        "version account-id srcaddr dstaddr dstport protocol start end action log-status\n"
        "2 111122223333 192.0.2.1 192.0.2.2 443 6 1741651200 1741651259 ACCEPT OK\n"
        "2 111122223333 192.0.2.1 192.0.2.2 443 6 1742515200 1742515259 ACCEPT OK\n"
    )
    lake = ("--lake", str(tmp_path / "lake"))
    ocsf_lake("ingest", "aws_vpc_flow", str(tmp_path / "flows.log"), *lake)
    (later,) = (tmp_path / "lake").rglob("eventDay=20250321/*.parquet")
    later.unlink()
    run = ocsf_lake("query", "FROM vpc_flow WHERE time_dt < '2025-03-13' AND dst_endpoint.port = -1", *lake)
    assert (run.code, run.err) == (0, "of the partitions that the query reads:\nno row has dst_endpoint.port = -1\n")
    assert ocsf_lake("query", "SELECT count(time) FROM vpc_flow", *lake).code == 1


def test_why_an_answer_is_empty_is_not_looked_for_without_end(
    ocsf_lake: RunCommand, ready_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emptiness, "SECONDS", -1.0)
    run = ocsf_lake("query", "FROM vpc_flow WHERE src_endpoint.port = -1 AND time > 1", "--lake", str(ready_lake))
    assert run.code == 0
    assert run.err.startswith("no reason found within")


def test_an_empty_table_is_said_to_be_empty(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", "SELECT count(*) FROM sh_findings_2_0", "--lake", str(ready_lake))
    assert run.err == "guardduty_findings has no events so far\n"


def test_explain_of_an_empty_answer_names_it_too(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", f"{FLOWS} eventday = '2024-08-13'", "--explain", "--lake", str(ready_lake))
    assert "  eventday = '20240813'\n" in run.err


@pytest.mark.parametrize(
    "sql",
    [
        f"{FLOWS} {LATELY}",  # rows
        f"{FLOWS} {LATELY} OR eventday = '2024-08-13'",  # rows, in spite of a condition that gives none
        f"{FLOWS} src_endpoint.ip = '203.0.113.250'",  # no rows, and only too much read
        "SELECT max(traffic.bytes) FROM vpc_flow_2_0",
        "FROM range(0)",
        "SHOW TABLES",
        "SELECT 1 WHERE false",
    ],
)
def test_nothing_is_said_where_lint_would_not_explain_it(ocsf_lake: RunCommand, ready_lake: Path, sql: str) -> None:
    run = ocsf_lake("query", sql, "--lake", str(ready_lake))
    assert (run.code, run.err) == (0, "")


def test_what_lint_cannot_read_is_no_error_of_the_query(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    sql = "SELECT * FROM (SUMMARIZE SELECT 1 AS x) WHERE column_name = 'y'"
    run = ocsf_lake("query", sql, "--lake", str(ready_lake))
    assert (run.code, run.err) == (0, "")


# -- files that are gone ----------------------------------------------------------------------------------------------
def test_status_without_a_file_says_all_but_the_times_of_events(ocsf_lake: RunCommand, own_lake: Path) -> None:
    whole = json.loads(ocsf_lake("status", "--lake", str(own_lake), "--json").out)["sources"]
    path = a_file(own_lake)
    path.unlink()
    run = ocsf_lake("status", "--lake", str(own_lake), "--json")
    assert json.loads(run.out)["sources"] == [{**item, "last_event": None} for item in whole]
    assert (run.code, str(path) in run.err) == (1, True)
    shown = ocsf_lake("status", "--lake", str(own_lake))
    assert (shown.code, "aws_vpc_flow" in shown.out) == (1, True)
    of_another_day = "SELECT count(*) FROM vpc_flow WHERE eventday > '20991231'"
    assert ocsf_lake("query", of_another_day, "--lake", str(own_lake)).code == 0


@pytest.mark.slow
def test_a_file_that_is_gone_is_named_with_what_to_do(ocsf_lake: RunCommand, own_lake: Path) -> None:
    path = a_file(own_lake)
    data = path.read_bytes()
    path.unlink()
    run = ocsf_lake("query", "SELECT count(*) FROM vpc_flow", "--lake", str(own_lake))
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("error: a file of the lake is gone, and a query without its rows would be wrong")
    assert str(path) in run.err
    assert "`ocsf-lake catalog check`" in run.err
    assert "IO Error" not in run.err
    assert ocsf_lake("query", "SELECT count(*) FROM cloud_trail_mgmt", "--lake", str(own_lake)).code == 0
    mended = ocsf_lake("catalog", "sync", "--lake", str(own_lake))
    assert mended.code == 0, mended.err
    assert path.read_bytes() == data
    assert ocsf_lake("query", "SELECT count(*) FROM vpc_flow", "--lake", str(own_lake)).code == 0


def test_a_file_that_was_cut_is_named_with_what_to_do(ocsf_lake: RunCommand, own_lake: Path) -> None:
    for path in (own_lake / "aws" / "VPC_FLOW").rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-10])
    run = ocsf_lake("query", "SELECT max(time) FROM vpc_flow", "--lake", str(own_lake))
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("error: a file of the lake is damaged (")
    assert str(own_lake / "aws" / "VPC_FLOW") in run.err
    assert "`ocsf-lake catalog sync" in run.err


def test_a_file_with_wrong_bytes_leads_to_the_check_that_names_it(ocsf_lake: RunCommand, own_lake: Path) -> None:
    for path in (own_lake / "aws" / "VPC_FLOW").rglob("*.parquet"):
        data = path.read_bytes()
        path.write_bytes(data[:4] + b"\xff" * (len(data) - 2_000) + data[len(data) - 1_996 :])
    run = ocsf_lake("query", "FROM vpc_flow", "--lake", str(own_lake))
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("error: ")
    assert "`ocsf-lake catalog sync" in run.err
    assert "Traceback" not in run.err


# -- lint -------------------------------------------------------------------------------------------------------------
def test_lint_says_what_is_wrong_and_prints_the_corrected_query(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("lint", f"{FLOWS}eventday = '20250311' AND action = 'REJECT'")
    assert run.code == 1
    assert run.out == f"{FLOWS}eventday = '20250311' AND action = 'Denied'\n"
    assert run.err == "no-such-value: action: no row has 'REJECT'\n  action = 'Denied'\n"


def test_lint_names_a_table_that_no_lake_has(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("lint", "SELECT * FROM vpc_flw")
    expected = "no-such-table: there is no table 'vpc_flw'; did you mean 'vpc_flow'?\n"
    assert (run.code, run.out, run.err) == (1, "SELECT * FROM vpc_flw\n", expected)


def test_lint_gives_back_a_sound_query_as_it_is(ocsf_lake: RunCommand) -> None:
    sql = f"{FLOWS}{LATELY}   AND action='Denied'"
    run = ocsf_lake("lint", sql)
    assert (run.code, run.out, run.err) == (0, f"{sql}\n", "")


def test_lint_as_json_has_findings_and_the_corrected_query(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("lint", f"{FLOWS}action = 'REJECT'", "--json")
    found = json.loads(run.out)
    assert (run.code, run.err) == (1, "")
    assert {finding["rule"] for finding in found["findings"]} == {"no-pruning", "no-such-value"}
    assert found["corrected"].endswith("action = 'Denied'")


def test_lint_reads_the_dialect_that_it_is_told(ocsf_lake: RunCommand) -> None:
    sql = f"SELECT len(observables) FROM vpc_flow_2_0 WHERE {LATELY} AND observables[1].name::VARCHAR = 'x'"
    assert ocsf_lake("lint", sql, "--duckdb").code == 0


def test_lint_of_no_sql_is_misuse(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("lint", "SELEC FROM WHERE (")
    assert (run.code, run.out) == (2, "")
    assert "the query cannot be read" in run.err
