"""docs/cookbook.md: each of its questions is asked of the sample lake, and answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

import ocsf_lake
from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import query as lake_query
from tests.flows.test_snippets import blocks, scripts, words
from tests.support import PROJECT, SAMPLE_LOGS

PAGE = (PROJECT / "docs" / "cookbook.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"^### ([^\n]*)\n```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> config.Settings:
    loaded = config.load(lake=str(tmp_path_factory.mktemp("cookbook") / "lake"))
    ingest.ingest([str(SAMPLE_LOGS / "organization")], loaded)
    return loaded


@pytest.fixture(scope="module")
def connection(settings: config.Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """All tables of the lake; what a command shows of it for one question, tests/ocsf_lake/test_query.py holds."""
    with lake_query.connected(settings) as connection:
        yield connection


def test_the_cookbook_has_forty_questions() -> None:
    assert len(QUESTIONS) == PAGE.count("```sql") == 40
    assert all(not sql.rstrip().endswith(";") for _, sql in QUESTIONS)
    assert len({title for title, _ in QUESTIONS}) == 40


@pytest.mark.slow  # their lake is
@pytest.mark.parametrize(("title", "sql"), QUESTIONS, ids=[title for title, _ in QUESTIONS])
def test_a_question_is_answered(title: str, sql: str, connection: duckdb.DuckDBPyConnection) -> None:
    assert not lake_query.is_empty(lake_query.run(connection, sql)), title


@pytest.mark.slow
def test_other_pages_ask_what_can_be_asked(settings: config.Settings) -> None:
    asked = [(page, sql) for page, sql in blocks("sql") if page != "docs/cookbook.md"]
    for page, script in scripts():
        if page == "docs/tutorial.md":  # it asks a table that it makes, and its own test runs it
            continue
        for command, *rest in words(script):
            if "--with" in rest:  # a file of the reader's
                continue
            asked += [(page, word) for word in rest if command == "query" and word.startswith(("SELECT ", "SHOW "))]
    assert len(asked) > 8
    lake = ocsf_lake.open(settings.lake)
    for page, sql in asked:
        if not sql.startswith("SHOW"):
            assert lake.sql(sql).columns, page


@pytest.mark.slow
def test_the_page_on_python_runs(settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iocs.csv").write_text("ip\n203.0.113.77\n", encoding="utf-8")
    logs = tmp_path / "AWSLogs/111122223333/vpcflowlogs/eu-west-1/2026/03/05"
    logs.mkdir(parents=True)
    name = "111122223333_vpcflowlogs_eu-west-1_fl-0a1b2c3d_20260305T0000Z_0a1b2c3d.log"
    (logs / name).write_bytes((SAMPLE_LOGS / "aws_vpc_flow" / "version_5.log").read_bytes())
    names: dict[str, object] = {}
    programs = [program for page, program in blocks("python") if page == "docs/python.md"]
    assert len(programs) == 3
    for program in programs:
        program = program.replace(', state="/var/lib/ocsf-lake"', "").replace("s3://my-logs/", str(tmp_path))
        exec(program.replace("s3://bucket/lake", settings.lake), names)  # the page's own text
    assert list((tmp_path / "lake").glob("aws/*"))
