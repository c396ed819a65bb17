"""What a flow run leaves with the server: counts that people read, and no Markdown or HTML from logs."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from markdown_it import MarkdownIt

from ocsf_lake import text as texts
from ocsf_lake.flows.report import Failure, Report
from ocsf_lake.ingest.plan import NotRead
from ocsf_lake.ingest.run import SourceSummary, Summary
from ocsf_lake.ledger.results import Counts, State

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


def test_the_page_says_what_ingest_prints() -> None:
    page = a_report("x").markdown()
    assert "| aws_cloudtrail | 1 | 5 |" in page
    assert "5 records: 4 events, 1 quarantined, 0 dropped" in page
    assert "2 batches failed" in page


def test_each_failed_batch_and_object_is_a_row() -> None:
    rows = a_report("gone\x1b[2J").failure_rows()
    assert [(row["what"], row["name"]) for row in rows] == [
        ("batch", "b1"), ("batch", "b2"), ("object", "gone\\x1b[2J"),
    ]  # fmt: skip
    assert all("\x1b" not in row["reason"] for row in rows)


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


def test_reports_of_tasks_add_up() -> None:
    total = Report("run", None)
    for _ in range(2):
        total.add(a_report("x").summary)
    assert (total.summary.counts.read, total.summary.sources["aws_cloudtrail"].objects, len(total.failed_objects)) == (
        10, 2, 2,
    )  # fmt: skip
