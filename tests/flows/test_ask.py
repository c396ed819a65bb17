"""Asking: forms of answers, files, stdin, own tables, `find`, `tables`, `columns`, empty answers, the prompt."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pytest
from prompt_toolkit.document import Document
from pyarrow import parquet

import ocsf_lake as face
from ocsf_lake import config
from ocsf_lake.cli import completion, terminal
from ocsf_lake.query import columns
from ocsf_lake.query import query as lake_query
from ocsf_lake.text import csv_lines, json_text, rows, unique
from tests.flows.conftest import RunCommand
from tests.flows.support import environment

VALUES = [
    "0.1::FLOAT", "1e22", "'nan'::DOUBLE", "'-inf'::DOUBLE", "-0.0::DOUBLE", "1e-7", "100::HUGEINT",
    "7.0::DECIMAL(4,1)",
    "-9.8::DECIMAL(4,1)", "'{\"a\":1}'::JSON", "'\\x01a'::BLOB", "INTERVAL 1 DAY", "TIME '01:02:03.5'",
    "DATE '2024-01-02'", "TIMESTAMP '2024-01-02 03:04:05.5'", "TIMESTAMPTZ '2024-01-02 03:04:05Z'", "NULL",
    "MAP {'a': 1, 'b': NULL}", "MAP {1: 'x'}", "'x'::ENUM('x', 'y')", "[1, NULL]", "[]::VARCHAR[]",
    "[{'a': 'x', 'b': [1]}]",
    "{'a': NULL, 'B': {'t': TIMESTAMPTZ '2024-01-02 03:04:05Z'}}", "true", "[1, 2]::INT[2]", "NULL::STRUCT(a INT)",
    "'a\"b,c' || chr(10) || chr(13) || chr(9) || chr(27) || chr(155) || chr(8238)", "'=1+1'", "'-'", "'-5'",
    "''", "'@x'",
]  # fmt: skip


@pytest.fixture(scope="module")
def connection(ready_lake: Path) -> object:
    with lake_query.connected(config.load(lake=str(ready_lake)), "FROM vpc_flow") as opened:
        yield opened


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
@pytest.mark.parametrize(
    "values",
    [
        ", ".join(f"{value} AS c{number}" for number, value in enumerate(VALUES)), "1 AS a, NULL AS a, 2 AS a_2",
        "NULL", "''",  # alone, lest a line of CSV be empty
    ],
)  # fmt: skip
def test_text_that_duckdb_makes_is_that_of_python(
    ocsf_lake: RunCommand, ready_lake: Path, connection: object, values: str, form: str
) -> None:
    sql = f"SELECT {values}"
    table = lake_query.run(connection, sql)  # type: ignore[arg-type]
    (row,) = rows(table)
    run = ocsf_lake("query", sql, "--format", form, "--lake", str(ready_lake))
    if form == "csv":
        assert run.out == "".join(csv_lines(table.column_names, [row]))
    else:
        text = run.out.strip()
        expected = json.loads(json_text(dict(zip(unique(table.column_names), row, strict=True))))
        parsed = json.loads(text.removeprefix("[").removesuffix("]"))
        assert parsed == expected
        assert repr(parsed) == repr(expected)  # 7 and 7.0 are equal, and not the same
        assert text[0] == ("[" if form == "json" else "{")


def test_no_row_is_an_empty_list_and_a_header(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    outs = [
        ocsf_lake("query", "SELECT 1 AS x WHERE false", "--format", form, "--lake", str(ready_lake)).out
        for form in ("json", "jsonl", "csv")
    ]
    assert outs == ["[]\n", "", "x\n"]


@pytest.mark.slow
def test_rows_of_many_batches_keep_their_order(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    for form in ("json", "jsonl"):
        out = ocsf_lake("query", "FROM range(3000)", "--format", form, "--lake", str(ready_lake)).out
        found = json.loads(out) if form == "json" else [json.loads(line) for line in out.splitlines()]
        assert [row["range"] for row in found] == list(range(3000))


# -- files ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.jsonl", "x.json"])
def test_an_answer_goes_into_a_file(ocsf_lake: RunCommand, ready_lake: Path, tmp_path: Path, name: str) -> None:
    sql = "SELECT src_endpoint, time_dt FROM vpc_flow"
    run = ocsf_lake("query", sql, "--output", name, "--lake", str(ready_lake))
    assert (run.code, run.out) == (0, "")
    number = int(run.err.split()[0])
    path = tmp_path / name
    if name.endswith("parquet"):
        assert parquet.read_table(path).num_rows == number > 0
    else:
        shown = ocsf_lake("query", sql, "--format", name.partition(".")[2], "--lake", str(ready_lake))
        assert path.read_text() == shown.out
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_long_cell_is_no_empty_answer(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    sql = "SELECT repeat('x', 140000) AS x"
    run = ocsf_lake("query", sql, "--format", "csv", "--lake", str(ready_lake))
    assert (run.code, len(run.out), run.err) == (0, 140_003, "")


def test_a_link_stays_and_a_pipe_is_written_to(ocsf_lake: RunCommand, ready_lake: Path, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("file.csv")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("link.csv", "pipe"):
        ocsf_lake("query", "SELECT 7 AS x", "--output", name, "--format", "csv", "--lake", str(ready_lake))
    assert ((tmp_path / "file.csv").read_text(), os.read(reader, 99)) == ("x\n7\n", b"x\n7\n")
    os.close(reader)
    assert ((tmp_path / "link.csv").is_symlink(), (tmp_path / "pipe").is_fifo()) == (True, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--output", "x.txt"], ["--output", "x.csv", "--format", "json"], ["--output", "x.parquet", "--format", "csv"],
        ["--output", "missing/x.csv"], ["--output", "x.csv", "--explain"], ["--with", "nonsense"],
        ["--with", "vpc_flow=x.csv"], ["--with", "x;y=x.csv"], ["--file", "missing.sql"],
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_misuse(
    ocsf_lake: RunCommand, ready_lake: Path, tmp_path: Path, arguments: list[str]
) -> None:
    sql = [] if "--file" in arguments else ["SELECT 1"]
    run = ocsf_lake("query", *sql, *arguments, "--lake", str(ready_lake))
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("error: ")
    assert not list(tmp_path.iterdir())


def test_a_failing_query_leaves_the_file_as_it_was(ocsf_lake: RunCommand, ready_lake: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("before")
    sql = "SELECT CASE WHEN range = 2999 THEN error('no') ELSE 'x' END FROM range(3000)"
    assert ocsf_lake("query", sql, "--output", "x.csv", "--lake", str(ready_lake)).code == 1
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("x.csv", "before")]


def test_sql_comes_from_stdin_and_files(ocsf_lake: RunCommand, ready_lake: Path, tmp_path: Path) -> None:
    sql = "SELECT 7 AS x -- a remark;\n;\n"
    (tmp_path / "q.sql").write_text(sql)
    lake = "--format", "csv", "--lake", str(ready_lake)
    assert ocsf_lake("query", "-", *lake, stdin=sql.encode()).out == "x\n7\n"
    assert ocsf_lake("query", *lake, stdin=sql.encode()).out == "x\n7\n"
    assert ocsf_lake("query", "--file", "q.sql", *lake).out == "x\n7\n"
    assert ocsf_lake("query", *lake, stdin=b"\xff").code == 2


def test_own_files_of_any_name_are_joined_with(ocsf_lake: RunCommand, ready_lake: Path, tmp_path: Path) -> None:
    (tmp_path / "it's*.csv").write_text('ip,"x""; --"\n203.0.113.1,007\n')
    (tmp_path / "b.json").write_text('{"n": 1}\n{"n": 2, "m": "<b>"}\n')
    tables = ["--with", "iocs=it's*.csv", "--with", "more=b.json"]
    sql = "SELECT iocs.*, more.m FROM iocs, more WHERE n = 2"
    run = ocsf_lake("query", sql, *tables, "--format", "json", "--lake", str(ready_lake))
    assert json.loads(run.out) == [{"ip": "203.0.113.1", 'x"; --': "007", "m": "<b>"}]


def test_a_sort_beyond_the_limit_names_the_setting(
    ocsf_lake: RunCommand, ready_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCSF_LAKE_QUERY_MEMORY_BYTES", str(64 << 20))
    sql = "SELECT list(repeat(range::VARCHAR, 50)) FROM range(3000000)"
    run = ocsf_lake("query", sql, "--format", "jsonl", "--lake", str(ready_lake))
    assert (run.code, run.out) == (1, "")
    assert "query_memory_bytes" in run.err
    assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("sql", "is_list"),
    [
        ("FROM vpc_flow", True), ("SELECT * FROM vpc_flow WHERE eventday > '20260101' LIMIT 5", True),
        ("SELECT * FROM vpc_flow WHERE src_endpoint.ip = 'x'", False), ("SELECT count(*) FROM vpc_flow", False),
        ("SELECT * FROM vpc_flow ORDER BY time", False), ("WITH x AS (FROM vpc_flow) FROM x", False),
        ("SELECT my_aggregate(time) FROM vpc_flow", False), ("SHOW TABLES", False), ("nonsense (", False),
    ],
)  # fmt: skip
def test_only_a_list_of_rows_runs_on_one_thread(sql: str, is_list: bool) -> None:
    assert lake_query.lists(sql) is is_list


# -- find, tables, columns --------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_find_names_table_path_event_and_time(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    lake = "--lake", str(ready_lake)
    sql = "SELECT src_endpoint.ip AS ip, count(*) AS n FROM vpc_flow WHERE ip > '' GROUP BY ALL ORDER BY n DESC, ip"
    address, number = list(json.loads(ocsf_lake("query", sql, "--format", "json", *lake).out)[0].values())
    found = json.loads(ocsf_lake("find", address, "--json", *lake).out)
    places = [row for row in found if (row["table_name"], row["path"]) == ("vpc_flow", "src_endpoint.ip")]
    assert len(places) == number
    assert found[0].keys() == {"table_name", "path", "value", "event", "time"}
    nothing = ocsf_lake("find", address, "--from", "1999-01-01", "--to", "1999-01-02", "--json", *lake)
    assert (nothing.code, [row for row in json.loads(nothing.out) if row["table_name"] != "quarantine"]) == (0, [])
    assert ocsf_lake("trace", places[0]["event"], *lake).code == 0


@pytest.mark.parametrize("value", ["'; DROP VIEW vpc_flow; --", "\\x00\"", "$v", "%", "é" * 300, " 10.0.0.1"])
def test_find_takes_any_value_for_a_text(ocsf_lake: RunCommand, ready_lake: Path, value: str) -> None:
    run = ocsf_lake("find", value, "--json", "--lake", str(ready_lake))
    assert (run.code, run.out) == (0, "[]\n")
    assert "is in none of" in run.err
    assert ("begins or ends with white space" in run.err) == value.startswith(" ")


@pytest.mark.slow
def test_find_looks_into_json_maps_lists_and_quarantine(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    lake = "--lake", str(ready_lake)
    (raw,) = json.loads(ocsf_lake("query", "SELECT raw FROM quarantine LIMIT 1", "--format", "json", *lake).out)
    word = max(raw["raw"].split(), key=len)
    run = ocsf_lake("find", "--json", *lake, "--", word)
    assert run.code == 0, run.err
    tables = {row["table_name"] for row in json.loads(run.out)}
    assert "quarantine" in tables
    entries = "SELECT unnest(map_entries(unmapped)) AS e FROM cloud_trail_mgmt"
    sql = f"SELECT e FROM ({entries}) WHERE length(e.value) > 3 LIMIT 1"
    (entry,) = json.loads(ocsf_lake("query", sql, "--format", "json", *lake).out)
    run = ocsf_lake("find", "--json", *lake, "--", entry["e"]["value"].upper())
    assert run.code == 0, run.err
    found = json.loads(run.out)
    assert f"unmapped.{entry['e']['key']}" in {row["path"] for row in found}


def test_find_of_a_part_that_quarantine_has_says_that_events_are_searched_for_whole_values(
    ocsf_lake: RunCommand, ready_lake: Path
) -> None:
    lake = "--lake", str(ready_lake)
    (raw,) = json.loads(ocsf_lake("query", "SELECT raw FROM quarantine LIMIT 1", "--format", "json", *lake).out)
    part = max(raw["raw"].split(), key=len)[1:-1]
    run = ocsf_lake("find", "--json", *lake, "--", part)
    assert {row["table_name"] for row in json.loads(run.out)} == {"quarantine"}
    assert f"{part} is in no event: only whole values match, not parts of longer ones" in run.err


def test_find_of_nothing_or_of_days_the_wrong_way_is_misuse(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    assert ocsf_lake("find", " ", "--lake", str(ready_lake)).code == 2
    assert ocsf_lake("find", "x", "--to", "9999-12-31", "--lake", str(ready_lake)).code == 0
    wrong = ocsf_lake("find", "x", "--from", "2026-02-01", "--to", "2026-01-01", "--lake", str(ready_lake))
    assert wrong.code == 2


def test_tables_have_rows_days_and_sources(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    found = json.loads(ocsf_lake("tables", "--json", "--lake", str(ready_lake)).out)
    assert {row["table"] for row in found} >= {"cloud_trail_mgmt", "vpc_flow"}
    assert all(row["rows"] and row["sources"] for row in found)
    assert "aws_vpc_flow" in ocsf_lake("tables", "--lake", str(ready_lake)).out


def test_columns_are_paths_with_captions_and_shares(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    lake = "--lake", str(ready_lake)
    found = {row["path"]: row for row in json.loads(ocsf_lake("columns", "vpc_flow_2_0", "--json", *lake).out)}
    assert found["src_endpoint.port"]["description"] == "Source Endpoint > Port"
    assert found["time"]["filled"] == 1
    assert 0 <= found["src_endpoint.port"]["filled"] <= 1
    assert found["observables[].name"]["filled"] > 0
    assert "Denied" in found["action_id"]["values"]
    like = ocsf_lake("columns", "vpc_flow", "--like", "PORT", *lake).out.splitlines()[2:]
    assert {line.split()[0] for line in like} == {"src_endpoint.port", "dst_endpoint.port"}
    assert ocsf_lake("columns", "vpc_flo", *lake).code == 2
    assert ocsf_lake("columns", "vpc_flow", "--like", "nonsense", *lake).code == 2


def test_shares_of_columns_are_of_the_newest_rows_unless_all_are_asked_for(
    ocsf_lake: RunCommand, ready_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = "--lake", str(ready_lake)
    monkeypatch.setattr(columns, "SHARE_FILES", 1)
    run = ocsf_lake("columns", "vpc_flow", "--like", "port", *lake)
    assert re.fullmatch(r"shares are of the newest \d+ of \d+ rows; --all reads them all\n", run.err)
    assert ocsf_lake("columns", "vpc_flow", "--like", "port", "--all", *lake).err == ""


@pytest.mark.slow
def test_tables_are_listed_without_names_by_region_that_still_work(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    lake = "--format", "csv", "--lake", str(ready_lake)
    assert "amazon_security_lake" not in ocsf_lake("query", "SHOW TABLES", *lake).out
    region = ocsf_lake("query", "SELECT min(region) AS r FROM vpc_flow", *lake).out.split()[1].replace("-", "_")
    name = f"amazon_security_lake_table_{region}_vpc_flow_2_0"
    assert ocsf_lake("query", f"SELECT count(*) FROM {name}", *lake).code == 0
    assert "time_dt" in ocsf_lake("query", f"DESCRIBE {name}", *lake).out


# -- empty answers ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("api.operation = 'consolelogin'", "there is 'ConsoleLogin'"),
        ("api.service.name = 'signin'", "no row has api.service.name = 'signin'; there is 'signin.amazonaws.com'"),
        ("actor.user.type = 'iam user'", "there is 'IAMUser'"),
        ("class_uid = 3002 AND actor.user.name = 'nobody'", "no row has actor.user.name = 'nobody'\n"),
        ("class_uid = 3002 AND api.operation LIKE 'Console%s'", "no row has api.operation LIKE 'Console%s'\n"),
        ("class_uid = 3002 AND upper(status) = 'x'", "no row meets all of the conditions\n"),
        ("time_dt > TIMESTAMPTZ '2020-01-01 00:00:00Z' AND time < 5", "cloud_trail_mgmt has no events of that region"),
        ("severity_id > 90", "no row has severity_id > 90: severity_id goes from 1 to"),
        ("unmapped['additionalEventData.nothing'] = 'x'", "no row has the key"),
        ("unmapped.nothing = 'x'", "unmapped: no row has the key 'nothing'"),
        ("api.operation LIKE 'consolelog%'", "ILIKE, for letters of any case, is met by"),
        ("class_uid = 3002 AND api.operation NOT LIKE '%'", "no row has api.operation NOT LIKE '%'\n"),
        ("region = 'EU-CENTRAL-1'", "  region = 'eu-central-1'\n"),
        ("src_endpoint.ip = '10.0.0.0/8'", "rows have single addresses; those of a network are in_network("),
        ("region LIKE 'EU-%'", "cloud_trail_mgmt has no events of that region"),
        ("lower(accountid) = 'x' AND api.operation = 'consolelogin'", "cloud_trail_mgmt has no events of that region"),
        ("eventday IN ()", "eventday IN (): the list is empty"),
        ("region > '' AND api.operation = NULL", "api.operation = NULL: nothing is equal or unequal to NULL"),
    ],
)
def test_an_empty_answer_says_why(
    ocsf_lake: RunCommand, ready_lake: Path, condition: str, says: str
) -> None:
    run = ocsf_lake("query", f"SELECT api.operation FROM cloud_trail_mgmt WHERE {condition}", "--lake", str(ready_lake))
    assert run.code == 0
    assert says in run.err


def test_days_with_dashes_are_told_where_they_bound_other_days(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    sql = "SELECT count(*) FROM cloud_trail_mgmt WHERE eventday > '{}'"
    run = ocsf_lake("query", sql.format("1999-12-31"), "--lake", str(ready_lake))
    assert (run.code, "eventday > '19991231'" in run.err) == (0, True)
    assert ocsf_lake("query", sql.format("19991231"), "--lake", str(ready_lake)).err == ""


@pytest.mark.parametrize(
    ("condition", "code", "meant"),
    [
        ("time > 946684800", 0, "time > 946684800000"),
        ("time BETWEEN '2000-01-01' AND '2030-01-01'", 1, "time_dt BETWEEN"),
        ("time >= 946684800000", 0, None),
    ],
)
def test_times_in_another_unit_are_told(
    ocsf_lake: RunCommand, ready_lake: Path, condition: str, code: int, meant: str | None
) -> None:
    run = ocsf_lake("query", f"SELECT count(*) FROM cloud_trail_mgmt WHERE {condition}", "--lake", str(ready_lake))
    assert run.code == code
    assert (run.err == "") if meant is None else (meant in run.err)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM vpc_flow WHERE action <> 'REJECT'",
        "SELECT count(*) FROM vpc_flow WHERE action NOT IN ('REJECT')",
        "SELECT count(*), count(*) FILTER (action = 'REJECT') FROM vpc_flow",
        "SELECT count(*), sum(CASE WHEN action = 'REJECT' THEN 1 ELSE 0 END) FROM vpc_flow",
    ],
)
def test_a_word_that_no_row_has_is_told_where_there_are_rows_too(
    ocsf_lake: RunCommand, ready_lake: Path, sql: str
) -> None:
    run = ocsf_lake("query", sql, "--lake", str(ready_lake))
    assert (run.code, "no-such-value: action: no row has 'REJECT'\n" in run.err) == (0, True)
    assert ocsf_lake("query", sql.replace("REJECT", "Denied"), "--lake", str(ready_lake)).err == ""


@pytest.mark.parametrize("met", ["traffic.bytes = '0{0}'", "time_dt = '{1}'"])
def test_a_condition_that_rows_meet_after_a_cast_is_not_why_there_are_none(
    ocsf_lake: RunCommand, ready_lake: Path, met: str
) -> None:
    there = ("query", "--lake", str(ready_lake), "--format", "json")
    row = json.loads(ocsf_lake(*there, "SELECT traffic.bytes AS b, time_dt AS t FROM vpc_flow LIMIT 1").out)[0]
    condition = met.format(row["b"], row["t"])
    assert json.loads(ocsf_lake(*there, f"SELECT count(*) AS n FROM vpc_flow WHERE {condition}").out)[0]["n"] > 0
    run = ocsf_lake(*there, f"FROM vpc_flow WHERE {condition} AND src_endpoint.port = -1")
    assert "no row has src_endpoint.port = -1" in run.err
    assert met.partition(" ")[0] not in run.err


def test_words_of_somebody_s_own_table_are_left_alone(ocsf_lake: RunCommand, ready_lake: Path, tmp_path: Path) -> None:
    (tmp_path / "seen.csv").write_text("action\nREJECT\n")
    sql = "SELECT count(*) FROM seen, (SELECT 1 FROM vpc_flow LIMIT 1) WHERE action = 'REJECT'"
    run = ocsf_lake("query", sql, "--with", "seen=seen.csv", "--lake", str(ready_lake))
    assert (run.code, run.err) == (0, "")


def test_an_account_written_as_a_number_is_said_how_to_write(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    sql = "SELECT time_dt FROM cloud_trail_mgmt WHERE accountid = 12345678901 OR accountid || 'x' = 1"
    run = ocsf_lake("query", sql, "--lake", str(ready_lake))
    assert run.code == 1
    assert "accountid = '012345678901'" in run.err


# -- names that no table has ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cloudtrail", "there is cloud_trail_mgmt, s3_data"),
        ("flow_logs", "there is vpc_flow\n"),
        ("dns", "there is route53\n"),
        ("guardduty", "there is guardduty_findings\n"),
        ("orders", "tables: `ocsf-lake query"),
    ],
)
def test_a_name_that_no_table_has_is_answered_with_those_of_the_log(
    ocsf_lake: RunCommand, ready_lake: Path, name: str, says: str
) -> None:
    run = ocsf_lake("query", f"SELECT * FROM {name}", "--lake", str(ready_lake))
    assert run.code == 1
    assert says in run.err
    assert "duckdb_" not in run.err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("eventName", "eventName of aws_cloudtrail is in api.operation; `ocsf-lake explain aws_cloudtrail` says"),
        ("dstaddr", "dstaddr of aws_vpc_flow is in dst_endpoint.ip; "),
        ("userIdentity.arn", "userIdentity of aws_cloudtrail: type in actor.user.type or actor.user.uid, "),
        ("userIdentity.arn", ", accessKeyId in actor.user.credential_uid, "),
        ("accessKeyId", "accessKeyId of aws_cloudtrail is in actor.user.credential_uid; "),
        ("event_name", "event_name of aws_cloudtrail is in api.operation; "),
        ("user_agent", "user_agent of aws_alb, aws_clb, aws_cloudtrail, "),
        ("nothing_like_it", "Candidate bindings"),
        ("host", "\nCandidate bindings"),  # logs have it in five places
        ("resources.uid", "resources is a list: len(list_filter(resources, lambda item: item.uid = ...)) > 0; "),
        ("metadata.profiles.x", "metadata.profiles is a list of values: list_contains(metadata.profiles, ...)"),
        ("api.request.data.x", "api.request.data is text; where that is JSON: api.request.data ->> '$.x'"),
        ("resources LIKE 'x'", "a list has no text of its own: len(list_filter("),
        ("from_unixtime(time / 1000)", "in DuckDB's words: SELECT TO_TIMESTAMP(time / 1000) FROM cloud_trail_mgmt"),
        ("src_endpoint.ip <<= '10.0.0.0/8'", "extensions of DuckDB are not loaded here; those of a network are in_"),
        ("1 FROM 'iocs.csv' --", "a file of yours is one, too, by `--with NAME=FILE`"),
        ("eventday BETWEEN 20230701 AND 20230731", "  eventday BETWEEN '20230701' AND '20230731'"),
        ("severity = 1", "captions are text, and their ids stand beside them: severity_id = 1\n"),
        ("any_match(resources, r -> true)", "does not exist!\nDid you mean"),  # nor has DuckDB one that it is
    ],
)
def test_a_member_of_a_log_is_answered_with_where_events_have_it(
    ocsf_lake: RunCommand, ready_lake: Path, name: str, says: str
) -> None:
    sql = f"SELECT {name} FROM cloud_trail_mgmt"
    run = ocsf_lake("query", sql, "--lake", str(ready_lake))
    assert run.code == 1
    assert says in run.err
    with pytest.raises(face.QueryError) as raised:
        face.open(str(ready_lake)).sql(sql).to_arrow()
    assert says in str(raised.value)


def test_a_member_that_a_table_of_ones_own_lacks_is_not_looked_for_in_a_column_of_that_name(ready_lake: Path) -> None:
    own = pa.table({"message": [{"a": {"b": 1}}]})
    with pytest.raises(face.QueryError, match="Cannot extract field 'c'"):
        face.open(str(ready_lake)).with_tables(own=own).sql("SELECT message.a.b.c FROM own").to_arrow()


def test_the_columns_of_a_table_without_events_are_said_where_they_are(
    ocsf_lake: RunCommand, ready_lake: Path
) -> None:
    for table in ("quarantine", "guardduty_latest", "ledger_objects"):
        run = ocsf_lake("columns", table, "--lake", str(ready_lake))
        described = f'`ocsf-lake query "DESCRIBE {table}"`'
        assert (run.code, run.err) == (2, f"error: {table} is not a table of events; its columns: {described}\n")


# -- completion and the prompt ----------------------------------------------------------------------------------------
@pytest.fixture
def completer() -> completion.LakeCompleter:
    tables = {"vpc_flow": {"src_endpoint": {"ip": {}, "port": {}}, "action": {}, "a b": {}}, "route53": {"rcode": {}}}

    def values(table: str, path: str) -> list[str]:
        return ["Allowed", "Denied"] if (table, path) == ("vpc_flow", "action") else []

    return completion.LakeCompleter(tables, ["select", "from"], values)


@pytest.mark.parametrize(
    ("text", "proposed"),
    [
        ("select * from v", ["vpc_flow"]), ("select src_endpoint.", ["ip", "port"]), ("sel", ["select"]),
        ("select * from vpc_flow where action = 'd", ["Denied"]), ("from route53 where rc", ["rcode"]),
        ("from route53 where src", []), ("a.b.c.d", []), (".ta", [".tables"]), (".columns r", ["route53"]),
    ],
)  # fmt: skip
def test_tables_columns_values_and_keywords_are_proposed(
    completer: completion.LakeCompleter, text: str, proposed: list[str]
) -> None:
    assert [item.display_text for item in completer.get_completions(Document(text))] == proposed


class Terminal:
    """A command in a terminal of its own, which ends with the block that it is used in."""

    def __init__(self, *arguments: str, **more: str) -> None:
        self.pid, self._fd = pty.fork()
        if not self.pid:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell has programs ignore that it runs aside
            os.execve(Path(sys.executable).parent / "ocsf-lake", ["ocsf-lake", *arguments], environment(**more))
        self._out = b""
        self._has_ended = False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._has_ended:
            os.kill(self.pid, signal.SIGKILL)
            self.code()
        os.close(self._fd)

    def until(self, mark: str, seconds: float = 60) -> None:
        """Reads until a text is there."""
        end = time.monotonic() + seconds
        while mark.encode() not in self._out:
            ready, _, _ = select.select([self._fd], [], [], max(0, end - time.monotonic()))
            assert ready, (mark, self._out)
            self._out += os.read(self._fd, 65_536)
        self._out = self._out.partition(mark.encode())[2]

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def code(self) -> int:
        self._has_ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


HEAVY = "SELECT count(*) FROM range(100000000000) a, range(1000) b WHERE a.range % 7 = b.range"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["xterm"])
def test_the_prompt_asks_completes_goes_on_after_errors_and_stops_queries(
    ready_lake: Path, tmp_path: Path, kind: str
) -> None:
    with Terminal("query", "--lake", str(ready_lake), TERM=kind, XDG_STATE_HOME=str(tmp_path)) as shell:
        shell.until("ocsf-lake>")
        shell.type("select 41 +\r1 as answer;\r")
        shell.until("42")
        for text, mark in [("select nonsense;\r", "Binder Error"), (".tables\r", "aws_vpc_flow"), (".help\r", "Tab")]:
            shell.until("ocsf-lake>")
            shell.type(text)
            shell.until(mark)
        shell.until("ocsf-lake>")
        shell.type(f"{HEAVY};\r")
        shell.until("^C stops")
        shell.type("\x03")
        shell.until("stopped")
        shell.until("ocsf-lake>")
        shell.type("\x04")
        assert shell.code() == 0
    history = tmp_path / "ocsf-lake" / "history"
    assert (history.stat().st_mode & 0o777, "nonsense" in history.read_text()) == (0o600, True)


@pytest.mark.slow
def test_words_of_other_prompts_are_no_statements(ready_lake: Path, tmp_path: Path) -> None:
    with Terminal("query", "--lake", str(ready_lake), TERM="xterm", XDG_STATE_HOME=str(tmp_path)) as shell:
        shell.until("ocsf-lake>")
        shell.type("help\r")
        shell.until("Tab completes")
        shell.until("ocsf-lake>")
        shell.type("Exit\r")
        assert shell.code() == 0


@pytest.mark.slow
def test_an_interrupt_ends_a_query_with_one_line_and_130(ready_lake: Path) -> None:
    with Terminal("query", HEAVY, "--lake", str(ready_lake), TERM="xterm") as shell:
        shell.until("^C stops")
        os.kill(shell.pid, signal.SIGINT)
        shell.until("stopped")  # the query itself would take hours
        assert shell.code() == 130


@pytest.mark.slow
@pytest.mark.parametrize("sql", ["FROM range(100000000000)", f"FROM range(3) UNION ALL ({HEAVY})"])
def test_a_closed_pipe_ends_a_query_silently(ready_lake: Path, sql: str) -> None:
    program = str(Path(sys.executable).parent / "ocsf-lake")
    command = [program, "query", sql, "--format", "jsonl", "--lake", str(ready_lake)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process,
        ExitStack() as at_last,
    ):
        at_last.callback(process.kill)  # the query would take hours
        assert process.stdout
        assert process.stderr
        if "UNION" not in sql:
            assert process.stdout.readline() == b'{"range": 0}\n'
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_waiting_says_nothing_where_stderr_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    waiting = terminal.Waiting(lambda: 5)
    waiting._since -= 10
    waiting()
    waiting.clear()
    assert capfd.readouterr().err == ""
