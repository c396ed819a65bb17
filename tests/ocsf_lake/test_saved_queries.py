"""`ocsf-lake rules check` of saved queries: one that can find nothing is an error, sound ones are left alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from ocsf_lake import config
from ocsf_lake.cli import rules
from ocsf_lake.cli.main import app
from ocsf_lake.config import Settings
from ocsf_lake.detections import saved_queries
from ocsf_lake.detections.check import Checked
from ocsf_lake.query import query
from ocsf_mappers.errors import ConfigError
from tests.flows.test_cookbook import QUESTIONS
from tests.ocsf_lake.test_published_queries import PUBLISHED

CALLS, FLOWS = "SELECT time_dt FROM cloud_trail_mgmt WHERE ", "SELECT time_dt FROM vpc_flow WHERE "
DEAD: Mapping[str, tuple[str, str]] = {
    # queries that find nothing, and a piece of the reason
    "no_table": ("SELECT * FROM vpc_flows", "there is vpc_flow;"),
    "no_column": ("SELECT source_ip FROM vpc_flow", "source_ip"),
    "no_nested": (f"{FLOWS} src_endpoint.address = '10.0.0.1'", "address"),
    "no_deep": (f"{CALLS} actor.user.nam = 'ada'", "nam"),
    "no_of_alias": ("SELECT f.port FROM vpc_flow AS f", "port"),
    "syntax": ("SELECT FROM WHERE", "cannot be read as SQL"),
    "not_a_query": ("DROP TABLE vpc_flow", "it is not a query"),
    "raw_word": (f"{FLOWS} action = 'REJECT'", "'Denied'"),
    "caption_case": (f"{FLOWS} action = 'denied'", "'Denied'"),
    "no_caption": (f"{FLOWS} connection_info.direction = 'Sideways'", "no caption of OCSF"),
    "in_list": (f"{FLOWS} action IN ('ACCEPT', 'REJECT')", "'Allowed'"),
    "class_case": (f"{CALLS} class_name = 'account change'", "'Account Change'"),
    "no_id": ("SELECT time_dt FROM guardduty_findings WHERE severity_id = 9", "severity_id: OCSF has no 9"),
    "misspelt": (f"{CALLS} api.operation = 'CreateUsr'", "did you mean 'CreateUser'"),
    "operation_case": (f"{CALLS} api.operation = 'createuser'", "CloudTrail writes CreateUser"),
    "no_source": (f"{CALLS} api.service.name = 'iam.amazon.com'", "no service is"),
    "source_case": (f"{CALLS} api.service.name = 'IAM.amazonaws.com'", "lower case"),
    "other_source": (
        f"{CALLS} api.service.name = 'sts.amazonaws.com' AND api.operation = 'CreateUser'", "which iam.amazonaws.com",
    ),
    "both": (f"{CALLS} api.operation = 'CreateUser' AND api.operation = 'DeleteUser'", "at once"),
    "not_itself": (f"{CALLS} status = 'Success' AND status <> 'Success'", "something else"),
    "none_and_one": (f"{CALLS} status = 'Success' AND status IS NULL", "cannot be NULL"),
    "no_days": (f"{FLOWS} eventday BETWEEN '20260301' AND '20260201'", "above 20260301 and below 20260201"),
    "no_range": (f"{FLOWS} dst_endpoint.port > 1024 AND dst_endpoint.port < 1000", "above 1024 and below 1000"),
    "null": (f"{CALLS} api.response.error = NULL", "IS NULL asks for it"),
    "false": (f"{CALLS} false", "holds for no row"),
    "lowered": (f"{CALLS} lower(actor.user.name) = 'Ada'", "no such letters"),
    "seconds": (f"{FLOWS} time < 1773799867", "milliseconds"),
    "seconds_between": (f"{FLOWS} time BETWEEN 1773799867 AND 1773899867", "milliseconds"),
    "nanoseconds": (f"{FLOWS} time > 1773799867000000000", "nanoseconds"),
    "account": (f"{FLOWS} accountid = '12345678901'", "leading zeros"),
    "day": (f"{FLOWS} eventday = '2026-03-18'", "'20260318'"),
    "region": (f"{FLOWS} region = 'eu_west_1'", "dashes"),
    "dot": ("SELECT time_dt FROM route53 WHERE query.hostname = 'example.com'", "end with a dot"),
    "inner": (f"SELECT count(*) FROM ({FLOWS} action = 'REJECT')", "'Denied'"),
    "with_one": (f"WITH x AS ({FLOWS} action = 'REJECT') SELECT * FROM x JOIN vpc_flow USING (time_dt)", "'Denied'"),
    "all_arms": (f"{FLOWS} action = 'REJECT' UNION ALL {FLOWS} action = 'ACCEPT'", "'Denied'"),
    "athena": (
        "SELECT time_dt FROM amazon_security_lake_glue_db_eu_west_1.amazon_security_lake_table_eu_west_1_vpc_flow_2_0 "
        "WHERE action = 'REJECT'", "'Denied'",
    ),
    "athena_column": ("SELECT time_dt FROM vpc_flow_2_0 WHERE any_match(answers, x -> x.type = 'A')", "answers"),
}  # fmt: skip
PARTLY: Mapping[str, tuple[str, str]] = {
    "one_of_two": (f"{FLOWS} action IN ('Denied', 'REJECT')", "a part can never hold: action: no row has 'REJECT'"),
    "one_arm": (f"{FLOWS} action = 'Denied' UNION ALL {FLOWS} action = 'ACCEPT'", "'Allowed'"),
    "either": (f"{CALLS} api.operation = 'CreateUsr' OR status = 'Failure'", "CreateUser"),
    "optional": (f"SELECT * FROM vpc_flow LEFT JOIN ({FLOWS} action = 'REJECT') AS x USING (time_dt)", "'Denied'"),
    "counted": ("SELECT count(*) FILTER (action = 'REJECT') FROM vpc_flow", "'Denied'"),
    "pivot": ("PIVOT vpc_flow ON action USING count(*)", "only SELECT is"),
    "leaves_nothing_out": (f"{FLOWS} time > epoch(now()) - 86400", "it leaves nothing out"),
}  # fmt: skip
GOOD: Mapping[str, str] = {
    "plain": f"{FLOWS} action = 'Denied' AND dst_endpoint.port BETWEEN 1 AND 1024",
    "other_text": f"{CALLS} actor.user.type = 'Root' OR actor.user.name LIKE 'a%'",
    "versions": f"{CALLS} api.operation = 'AddPermission20150331v2' AND api.service.name = 'lambda.amazonaws.com'",
    "not": f"{FLOWS} NOT (action = 'REJECT') OR action <> 'REJECT'",
    "millis": f"{FLOWS} time >= epoch_ms(now()) - 86400000 AND time > 1773799867000",
    "parameters": f"{FLOWS} src_endpoint.ip = $address AND time_dt > $since",
    "verbs": "SELECT time_dt FROM eks_audit WHERE api.operation = 'create'",
    "post": "SELECT time_dt FROM waf WHERE activity_name = 'Post'",
    "ledger": "SELECT count(*) FROM ledger_findings; SELECT * FROM quarantine; -- the end",
    "joined": "SELECT flow.time_dt FROM vpc_flow AS flow JOIN iocs ON flow.src_endpoint.ip = iocs.ip",
    "nested": "SELECT r.uid FROM s3_data, unnest(resources) AS t(r) WHERE r.type = 'AWS::S3::Bucket'",
    "coverage": "SELECT * FROM coverage",
    "texts": f"{FLOWS} src_endpoint.ip > '10' AND src_endpoint.ip < '9' AND src_endpoint.ip <> '100'",
}  # fmt: skip
IOCS = {"iocs": pa.table({"ip": ["203.0.113.77"]})}


def _checked(folder: Path, queries: Mapping[str, str], settings: Settings | None = None) -> dict[str, list[Checked]]:
    for name, sql in queries.items():
        (folder / f"{name}.sql").write_text(sql, encoding="utf-8")
    given = settings or config.load(lake=str(folder / "none"))
    found: dict[str, list[Checked]] = {}
    for one in saved_queries.check_files(given, saved_queries.files([folder]), None, own_tables=IOCS):
        found.setdefault(one.rule.stem, []).append(one)
    assert not (folder / "none").exists()
    return found


@pytest.mark.slow
def test_queries_that_find_nothing_are_errors(tmp_path: Path) -> None:
    checked = _checked(tmp_path, {name: sql for name, (sql, _) in DEAD.items()})
    for name, (_, piece) in DEAD.items():
        ((one,), said) = checked[name], " ".join(problem.reason for problem in checked[name][0].problems)
        assert one.status == "error", (name, said)
        assert piece in said, (name, said)


@pytest.mark.slow
def test_queries_of_which_a_part_finds_nothing_are_warnings(tmp_path: Path) -> None:
    checked = _checked(tmp_path, {name: sql for name, (sql, _) in PARTLY.items()})
    for name, (_, piece) in PARTLY.items():
        said = " ".join(problem.reason for problem in checked[name][0].problems)
        assert (checked[name][0].status, piece in said) == ("warning", True), (name, said)


@pytest.mark.slow
def test_sound_queries_are_left_alone(tmp_path: Path) -> None:
    ours = {f"question{number}": sql for number, (_, sql) in enumerate(QUESTIONS)}
    names = {
        name: f"amazon_security_lake_glue_db_eu_west_1.amazon_security_lake_table_eu_west_1_{name}_2_0"
        for name in ("vpc_flow", "route53", "cloud_trail_mgmt", "sh_findings", "waf", "eks_audit", "s3_data")
    }
    lately = "time_dt BETWEEN current_timestamp - INTERVAL '7' DAY AND current_timestamp"
    theirs = {f"published{one.item}": one.sql.format(**names, lately=lately) for one in PUBLISHED}
    checked = _checked(tmp_path, {**GOOD, **ours, **theirs})
    wrong = {name: one.problems for name, some in checked.items() for one in some if one.status != "ok"}
    assert wrong == {}
    assert [one.rule.title for one in checked["ledger"]] == ["ledger.sql#1", "ledger.sql#2"]
    assert len(theirs) > 10


def test_a_query_that_breaks_the_database_keeps_back_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def execute(self, _: str) -> None:
            raise duckdb.InternalException("it is broken")

        def close(self) -> None:
            pass

    connect, given = query.connect, [Broken(), Broken()]  # one for each way to read the first
    monkeypatch.setattr(query, "connect", lambda *some, **more: given.pop() if given else connect(*some, **more))
    checked = _checked(tmp_path, dict.fromkeys("abc", GOOD["plain"]))
    assert [checked[name][0].status for name in "abc"] == ["error", "ok", "ok"]


@pytest.mark.slow
def test_files_that_are_none_of_queries_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "large.sql").write_text("SELECT 1;" * 200_000, encoding="utf-8")
    (tmp_path / "bytes.sql").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "deep.sql").write_text("SELECT " + "(" * 5_000 + "1" + ")" * 5_000, encoding="utf-8")
    found = _checked(tmp_path, {"empty": "-- nothing", "reads": "SELECT * FROM read_csv('/etc/passwd')"})
    assert {name: one.status for name, (one,) in found.items()} == dict.fromkeys(found, "error")
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="neither rules"):
        saved_queries.of_paths([tmp_path / "none"])


@pytest.mark.slow
def test_the_command_takes_rules_and_queries_together(tmp_path: Path) -> None:
    (tmp_path / "flows.sql").write_text(DEAD["raw_word"][0], encoding="utf-8")
    (tmp_path / "ports.sql").write_text(GOOD["plain"], encoding="utf-8")
    said = ["title: made", "logsource: {product: aws, service: cloudtrail}", "detection:"]
    said += ["  s: {eventName: CreateUser}", "  condition: s"]
    (tmp_path / "made.yml").write_text("\n".join(said), encoding="utf-8")
    lake = ["--lake", str(tmp_path / "lake")]
    done = CliRunner().invoke(app, ["rules", "check", str(tmp_path), "--json", *lake])
    assert {one["rule"]: one["status"] for one in json.loads(done.stdout)} == {
        "made": "ok", "flows.sql": "error", "ports.sql": "ok",
    }  # fmt: skip
    assert done.exit_code == 1
    done = CliRunner().invoke(app, ["rules", "check", str(tmp_path / "ports.sql"), *lake])
    assert done.exit_code == 0
    assert "1 query: 0 can never match" in done.stderr


@pytest.mark.parametrize(("number", "lines"), [(3, 3), (5, 1)])
def test_a_warning_that_many_have_is_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, lines: int
) -> None:
    monkeypatch.setattr(rules, "_of_lake", lambda *_: ({"vpc_flow": "20260101"}, frozenset()))
    for name in "abcde"[:number]:
        (tmp_path / f"{name}.sql").write_text(GOOD["plain"], encoding="utf-8")
    done = CliRunner().invoke(app, ["rules", "check", str(tmp_path)])
    shown = [line for line in done.stdout.splitlines() if "blind since 20260101" in line]
    assert (len(shown), done.exit_code) == (lines, 0)
    assert ("5 of them" in shown[0], "such as a.sql, b.sql, c.sql" in shown[0]) == (lines == 1, lines == 1)
    done = CliRunner().invoke(app, ["rules", "check", str(tmp_path), "--json"])
    assert ["blind since" in one["problems"][0]["reason"] for one in json.loads(done.stdout)] == [True] * number
