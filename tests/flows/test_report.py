"""What a flow run leaves with the server: counts that people read, and no Markdown or HTML from logs."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from prefect.client.schemas.objects import StateType

from ocsf_lake import config
from ocsf_lake import text as texts
from ocsf_lake.config import Settings
from ocsf_lake.flows import report, watch
from ocsf_lake.flows.report import Failure, Report
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.plan import NotRead
from ocsf_lake.ingest.run import SourceSummary, Summary
from ocsf_lake.ledger import copies
from ocsf_lake.ledger.copies import Copies
from ocsf_lake.ledger.results import Counts, State
from ocsf_lake.upkeep.health import Alarm
from ocsf_mappers.compiler.statistics import DriftKind, FirstSeen, SchemaDrift
from tests.support import SAMPLE_LOGS

HOSTILE = [
    "<script>alert(1)</script>",
    "[click](https://example.com) ![x](https://example.com/x.png)",
    "`` ` ``` code",
    "a | b || c",
    "# heading\n\n* list\n| table |",
    "\x1b[31mred\x1b[0m \u202egnp.exe",
    "`",
    "https://example.com www.example.com <b>",
    " leading",
]
"""Names and reasons that a log can bring."""


def tags(markdown: str) -> set[str]:
    rendered = MarkdownIt("gfm-like", {"linkify": False, "html": True}).enable("table").render(markdown)
    return set(re.findall(r"<(\w+)", rendered))


def shown(markdown: str) -> str:
    """The text of all code spans, as a reader sees it."""
    from html import unescape

    rendered = MarkdownIt("gfm-like", {"linkify": False, "html": True}).enable("table").render(markdown)
    return unescape("\n".join(re.findall(r"<code>(.*?)</code>", rendered, re.DOTALL)))


def a_report(text: str) -> Report:
    summary = Summary(listed=3)
    summary.sources["aws_cloudtrail"] = SourceSummary(objects=1, counts=Counts(read=5, events=4, quarantined=1))
    found = Report(f"ingest {text}", "aws_cloudtrail", summary, [Failure("task", text, ["b1", "b2"])])
    found.summary.unread.add(NotRead(text, State.FAILED, text))
    return found


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_logs_is_text_in_markdown(text: str) -> None:
    page = a_report(text).markdown()
    assert tags(page) <= {"h1", "h2", "p", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert shown(page).count(texts.escaped(text)) >= 4


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_of_a_run_names_what_was_read_a_second_time(text: str) -> None:
    found = Report("ingest", "aws_cloudtrail", Summary(listed=2))
    assert "under another name" not in found.message + found.markdown(settings())
    found.summary.copies = Copies(2, [(text, f"copy of {text}")])
    assert "2 objects read a second time under another name" in found.message
    page = found.markdown(settings())
    assert tags(page) <= {"h1", "h2", "p", "code", "ul", "li"}
    assert shown(page).count(texts.escaped(text)) == 2
    assert copies.ALL in shown(page)


def test_the_page_says_what_ingest_prints() -> None:
    page = a_report("x").markdown()
    assert "| aws_cloudtrail | 1 | 5 |" in page
    assert "5 records: 4 events, 1 quarantined, 0 dropped" in page
    assert "2 batches failed" in page


@pytest.mark.parametrize("text", HOSTILE)
def test_each_failed_batch_and_object_is_a_row_of_text_in_markdown(text: str) -> None:
    rows = a_report(text).failure_rows()
    assert {tag for row in rows for cell in row.values() for tag in tags(cell)} == {"p", "code"}
    read = [(shown(row["what"]), shown(row["name"]), shown(row["reason"])) for row in rows]
    reason = texts.escaped(text)
    assert read == [("batch", "b1", reason), ("batch", "b2", reason), ("object", reason, reason)]


def test_no_count_of_a_source_is_forgotten_when_tasks_are_added_up() -> None:
    whole = SourceSummary()
    one = SourceSummary(**{
        item.name: 3 for item in fields(SourceSummary) if isinstance(getattr(whole, item.name), int | float)
    })  # fmt: skip
    one.counts, one.dropped["a"] = Counts(3, 3, 3, 3), 3
    whole.merge(one)
    whole.merge(one)
    numbers = {getattr(whole, item.name) for item in fields(SourceSummary) if item.type in ("int", "float")}
    assert (numbers, whole.counts, whole.dropped) == ({6}, Counts(6, 6, 6, 6), {"a": 6})


def settings(**more: object) -> Settings:
    return config.load(lake="/nowhere", **more)


def test_a_run_that_found_nothing_leaves_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[object] = []
    monkeypatch.setattr(report, "create_markdown_artifact", lambda *page: left.append(page))
    ended = Report("ingest", "aws_cloudtrail", Summary(listed=9, known=9)).publish(settings())
    assert (ended.type, left) == (StateType.COMPLETED, [])
    found = Summary(listed=1)
    found.sources["aws_cloudtrail"] = SourceSummary(objects=1, counts=Counts(read=5, events=5))
    assert Report("ingest", "aws_cloudtrail", found).publish(settings()).type is StateType.COMPLETED
    assert len(left) == 1


@pytest.mark.parametrize(
    ("quarantined", "kind"),
    [(0, StateType.COMPLETED), (10, StateType.COMPLETED), (11, StateType.CRASHED), (101, StateType.FAILED)],
)
def test_a_run_has_the_colour_of_what_is_in_quarantine(quarantined: int, kind: StateType) -> None:
    found = Summary(listed=1)
    found.sources["small"] = SourceSummary(counts=Counts(1_000, 1_000 - quarantined, quarantined))
    found.sources["large"] = SourceSummary(counts=Counts(10**9, 10**9))
    assert Report("ingest", None, found).ended(settings(alert_quarantined=0.01, fail_quarantined=0.1)).type is kind


def test_the_page_of_a_run_says_what_to_do() -> None:
    found = a_report("x")
    drift = SchemaDrift(DriftKind.MEMBER, "<b>new</b>")
    found.summary.sources["aws_cloudtrail"].drift[drift] = FirstSeen(1, "o", 1, "20260318")
    page = found.markdown(settings())
    assert "## What to do" in page
    assert "`ocsf-lake quarantine show --source aws_cloudtrail --limit 3 --lake /nowhere`" in page
    assert "`<b>new</b>`" in page
    assert "1 record (20.0%) did not become events" in page
    assert tags(page) <= {"h1", "h2", "p", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}


@pytest.mark.parametrize("text", HOSTILE)
def test_objects_that_were_read_again_are_told_with_their_names_as_text(text: str) -> None:
    found = a_report("plain")
    found.summary.copies.replaced, found.summary.copies.replaced_examples = 1, [text]
    page = found.markdown(settings())
    assert "1 object read again with another ETag" in page
    assert texts.escaped(text) in shown(page)


def test_a_sparkline_shows_the_most_as_the_highest() -> None:
    assert watch.sparkline([0, 1, 50, 100]) == "·▁▄█"
    assert watch.sparkline([]) == ""
    assert watch.sparkline([0, 0]) == "··"


@pytest.mark.slow
def test_the_lake_is_a_page(tmp_path: Path) -> None:
    lake = config.load(lake=str(tmp_path / "lake"))
    now = datetime.now(UTC)
    assert "no lake yet" in watch.lake_page(lake, [], now)
    ingest.ingest([str(SAMPLE_LOGS / "aws_vpc_flow/short_line.log")], lake)
    page = watch.lake_page(lake, [Alarm("failed", "<b>x</b>", "| y")], now)
    assert "| `aws_vpc_flow` | " + "·" * 14 + " |" in page
    assert "**Quarantine**" in page
    assert "ocsf-lake quarantine show --source aws_vpc_flow" in page
    assert not {"b", "script", "img", "a"} & tags(page)


def test_reports_of_tasks_add_up() -> None:
    total = Report("run", None)
    for _ in range(2):
        total.add(a_report("x").summary)
    assert (total.summary.counts.read, total.summary.sources["aws_cloudtrail"].objects, len(total.failed_objects)) == (
        10, 2, 2,
    )  # fmt: skip
