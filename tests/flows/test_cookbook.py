"""docs/cookbook.md: each of its questions is asked of the sample lake, and answered."""

from __future__ import annotations

import re

import pytest

from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import query as lake_query
from tests.support import PROJECT, SAMPLE_LOGS

PAGE = (PROJECT / "docs" / "cookbook.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"^### ([^\n]*)\n```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> config.Settings:
    loaded = config.load(lake=str(tmp_path_factory.mktemp("cookbook") / "lake"))
    ingest.ingest([str(SAMPLE_LOGS / "organization")], loaded)
    return loaded


def test_the_cookbook_has_forty_questions() -> None:
    assert len(QUESTIONS) == PAGE.count("```sql") == 40
    assert all(not sql.rstrip().endswith(";") for _, sql in QUESTIONS)
    assert len({title for title, _ in QUESTIONS}) == 40


@pytest.mark.parametrize(("title", "sql"), QUESTIONS, ids=[title for title, _ in QUESTIONS])
def test_a_question_is_answered(title: str, sql: str, settings: config.Settings) -> None:
    with lake_query.connected(settings, sql) as connection:
        answer = lake_query.run(connection, sql)
    assert not lake_query.is_empty(answer), title

