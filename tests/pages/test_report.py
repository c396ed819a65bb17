"""The page about a lake: what it says, that logs cannot steer it, and that its commands can be run."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess
from dataclasses import replace
from datetime import UTC, date, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.pages import charts, commands, facts, heat, lag, page, sections, todo
from ocsf_lake.upkeep import health
from ocsf_mappers.errors import ConfigError
from tests.flows.conftest import RunCommand, nothing_set, ocsf_lake
from tests.pages.large import facts as large
from tests.support import SAMPLE_LOGS

__all__ = ["nothing_set", "ocsf_lake"]

NOW = datetime(2026, 3, 20, 6, tzinfo=UTC)
FILES = (
    "aws_cloudtrail/console_login_success.json", "aws_vpc_flow/version_5.log", "aws_vpc_flow/short_line.log",
    "aws_guardduty/attack_sequence.jsonl", "aws_route53_resolver/firewall.jsonl",
)  # fmt: skip


class Elements(HTMLParser):
    """The elements of a page, and the texts of its commands."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def offered(text: str) -> list[str]:
    """The commands on a page."""
    return [unescape(found) for found in re.findall(r'<code class="cmd"[^>]*>([^<]*)</code>', text)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lake with findings, and with records in quarantine."""
    folder = tmp_path_factory.mktemp("page")
    found = config.load(lake=str(folder / "it's a lake"))
    ingest.ingest([str(SAMPLE_LOGS / name) for name in FILES], found)
    return found


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "find_spec", lambda _: None)


@pytest.fixture
def many(tmp_path: Path) -> facts.Facts:
    return large(config.load(lake=str(tmp_path / "lake")))


# -- the command ------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_page_is_one_file_without_scripts(lake: Settings, ocsf_lake: RunCommand, tmp_path: Path) -> None:
    run = ocsf_lake("report", "--out", "report.html", "--lake", lake.lake)
    assert run.code == 0, run.err
    assert run.out == ""
    assert "need" in run.err.splitlines()[0]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == ["report.html"]
    elements = Elements(text)
    assert not {"script", "iframe", "object", "img", "form", "base"} & set(elements.tags)
    assert not [value for name, value in elements.attributes if name in ("src", "href") and value[:1] not in "#d"]
    assert f"default-src &#39;none&#39;; style-src &#39;{page.style_hash()}&#39;" in text
    for title in ("Coverage", "Lag", "Volume by class", "Quarantine", "Schema drift", "Detections", "Cost", "Storage"):
        assert f"<h2>{title}" in text


@pytest.mark.slow
def test_every_command_on_the_page_runs(
    lake: Settings, ocsf_lake: RunCommand, without_pictures: None
) -> None:
    found = facts.gather(lake, NOW, date(2010, 1, 1), date(2010, 2, 1))
    text = page.render(facts.gather(lake, NOW)) + page.render(found)
    names = list(dict.fromkeys(offered(text)))
    assert len(names) > 8
    for command in names:
        program, *words = shlex.split(command)
        assert program == "ocsf-lake"
        assert words[-2:] == ["--lake", lake.lake]
        run = ocsf_lake(*words)
        # 1 where a command is asked whether something is missing or silent, and it is
        assert run.code in ((0, 1) if words[0] == "coverage" or "--fail-on" in words else (0,)), f"{command}: {run.err}"
        assert "error: " not in run.err


@pytest.mark.slow
def test_where_the_page_goes_has_to_be_said(
    lake: Settings, ocsf_lake: RunCommand, without_pictures: None
) -> None:
    assert ocsf_lake("report", "--lake", lake.lake).code == 2
    assert ocsf_lake("report", "--out", "a.html", "--serve", "--lake", lake.lake).code == 2
    assert ocsf_lake("report", "--out", "a.html", "--lake", "nowhere").code == 2
    days = ("--from", "2026-03-02", "--to", "2026-03-01")
    backwards = ocsf_lake("report", "--out", "a.html", *days, "--lake", lake.lake)
    assert (backwards.code, "after the last one" in backwards.err) == (2, True)
    folder = ocsf_lake("report", "--out", "no/such/folder.html", "--lake", lake.lake)
    # As of `query --output`.
    assert (folder.code, folder.err) == (2, "error: cannot write 'no/such/folder.html': No such file or directory\n")


# -- what it says -----------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_quarantine_and_findings_are_told(lake: Settings, without_pictures: None) -> None:
    found = facts.gather(lake, NOW, date(2010, 1, 1), date(2010, 12, 31))
    assert found.refused.records >= 1
    kinds = {step.kind for step in todo.steps(found)}
    assert "Quarantine" in kinds
    text = page.render(found)
    assert found.refused.reasons[0].reason[:20] in unescape(text)


def test_days_of_which_nothing_is_known_are_not_called_complete() -> None:
    day = [date(2026, 3, 1), date(2026, 3, 2)]
    source = heat.Source("aws_vpc_flow")
    source.rows.append(heat.Row("111122223333", ["present", "unknown"]))
    source.settle()
    found = large(config.Settings())
    covered = sections.headline(replace(found, heat=heat.Heat(day, [source], judged=True)))[0]
    assert (covered["note"], covered["tone"]) == ("0 days missing, 1 unknown", "plain")
    assert covered["name"] == "of known days without gaps"


def test_commands_in_sentences_are_marked_and_nothing_else_is() -> None:
    assert page._spelled("`a` <b> `</code>`") == "<code>a</code> &lt;b&gt; <code>&lt;/code&gt;</code>"
    assert page._spelled("\x1b\u202e`") == "\\x1b\\u202e`"


@pytest.mark.slow
def test_all_events_of_the_lake_are_in_the_volume(lake: Settings) -> None:
    found = facts.gather(lake, datetime(2030, 1, 1, tzinfo=UTC))
    from ocsf_lake.query import query

    days = f"BETWEEN '{found.days[0]:%Y%m%d}' AND '{found.days[-1]:%Y%m%d}'"
    tables = [item.table for item in found.stored if item.table != "quarantine"]
    statements = [f"SELECT count(*) FROM {name} WHERE eventday {days}" for name in tables]
    with query.connected(lake, *statements) as connection:
        number = sum(connection.sql(sql).fetchall()[0][0] for sql in statements)
    assert found.events == number > 0


def test_a_new_lake_has_a_page(tmp_path: Path, without_pictures: None) -> None:
    settings = config.load(lake=str(tmp_path / "lake"))
    (tmp_path / "logs").mkdir()
    ingest.ingest([str(tmp_path / "logs")], settings)
    found = facts.gather(settings, NOW)
    assert found.days == [date(2026, 3, 20)]
    assert "The lake has no events on 2026-03-20." in page.render(found)


def test_days_without_events_are_not_called_quiet(lake: Settings, without_pictures: None) -> None:
    found = facts.gather(lake, NOW, date(2010, 1, 1), date(2010, 1, 9))
    steps = todo.steps(found)
    assert "no events" in todo.verdict(steps)
    assert "The lake has no events from 2010-01-01 to 2010-01-09." in page.render(found)
    assert todo.verdict([]) == "Nothing needs you."
    assert "No events" not in {step.kind for step in todo.steps(facts.gather(lake, datetime(2030, 1, 1, tzinfo=UTC)))}


def test_a_file_that_is_gone_takes_one_section(tmp_path: Path, without_pictures: None) -> None:
    settings = config.load(lake=str(tmp_path / "lake"))
    ingest.ingest([str(SAMPLE_LOGS / FILES[2])], settings)
    for path in (tmp_path / "lake").rglob("*quarantine*/**/*.parquet"):
        path.unlink()
    found = facts.gather(settings, NOW)
    assert [note for note in found.not_looked if note.startswith("quarantine: ")]
    assert any("catalog check" in str(step.command) for step in todo.steps(found))
    assert "Not looked at: quarantine: " in unescape(page.render(found))


@pytest.mark.slow
def test_what_was_done_is_reckoned_by_the_prices_that_are_set(lake: Settings, without_pictures: None) -> None:
    from ocsf_lake.pages import sections

    free = lake.model_copy(update={"prices": config.Prices(get_per_1000=0, put_per_1000=0, gb_month=0, vcpu_hour=0)})
    dear = lake.model_copy(update={"prices": config.Prices(get_per_1000=1000)})
    first = date(2010, 1, 1)
    assert sum(row["usd"] for row in sections.cost(facts.gather(free, NOW, first, first))) == 0
    now = datetime.now(UTC)
    found = facts.gather(dear, now, now.date(), now.date())
    objects = sum(item.objects for item in found.spent.values())
    assert sections.cost(found)[0]["usd"] == objects == len(FILES)


# -- coverage ---------------------------------------------------------------------------------------------------------
def test_a_day_is_as_bad_as_its_worst_hour(monkeypatch: pytest.MonkeyPatch, lake: Settings) -> None:
    states = ["complete and proved", "empty and proved", "present", "missing", "suspicious gap", "late", "unknown"]
    hours = ModuleType("hours")
    start = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) // 3600

    def stream(region: str, days: list[list[int]]) -> SimpleNamespace:
        codes = bytearray(code for day in days for code in day)
        name = SimpleNamespace(source="aws_vpc_flow", account="111122223333", region=region)
        return SimpleNamespace(name=name, first=start, codes=codes)

    whole, gap = [0] * 24, [2] * 23 + [3]
    streams = [
        stream("eu-west-1", [whole, whole, gap, [0] * 20 + [1] * 4]),
        stream("eu-west-2", [whole, [6] * 24, whole, whole]),
    ]
    monkeypatch.setattr(hours, "ALL", states, raising=False)
    monkeypatch.setattr(hours, "Asked", lambda **_: None, raising=False)
    monkeypatch.setattr(hours, "covered", lambda *_: (None, iter(streams)), raising=False)
    monkeypatch.setattr(heat, "import_module", lambda _: hours)
    days = heat.day_range(date(2026, 3, 1), date(2026, 3, 4))
    (row,) = heat._judged(lake, days, NOW).values()
    assert row == ["complete and proved", "unknown", "missing", "complete and proved"]


@pytest.mark.slow
def test_a_lake_whose_names_say_no_day_is_not_judged(monkeypatch: pytest.MonkeyPatch, lake: Settings) -> None:
    def nothing(*_: object) -> dict[tuple[str, str], list[str]]:
        raise ConfigError("the lake has no objects whose names say a day")

    monkeypatch.setattr(heat, "find_spec", lambda _: object())
    monkeypatch.setattr(heat, "_judged", nothing)
    found = facts.gather(lake, datetime(2030, 1, 1, tzinfo=UTC))
    assert not found.heat.judged
    assert found.heat.sources
    judged = {("aws_waf", "111122223333"): ["missing"] * len(found.days)}
    monkeypatch.setattr(heat, "_judged", lambda *_: judged)
    both = facts.gather(lake, datetime(2030, 1, 1, tzinfo=UTC))
    assert both.heat.judged
    assert {source.name for source in both.heat.sources} == {"aws_waf", *(s.name for s in found.heat.sources)}


def test_a_page_shows_accounts_with_gaps_and_counts_the_others(many: facts.Facts) -> None:
    folded = heat.fold(many.heat)
    rows = [row for source in folded.sources for row in source.rows]
    assert len(rows) * len(folded.days) <= heat.CELLS
    assert all(row.missing for row in rows)
    assert sum(len(source.rows) + source.hidden for source in folded.sources) == 1_300
    assert folded.missing == many.heat.missing > 0


# -- lag --------------------------------------------------------------------------------------------------------------
def test_lag_is_from_the_time_in_a_name_to_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "s3://b/AWSLogs/1/vpcflowlogs/eu-west-1/2026/03/18/111122223333_vpcflowlogs_eu-west-1_fl-1_{}Z_a.log.gz"
    done = "2026-03-18T11:00:00.000+00:00"
    arrived = [("aws_vpc_flow", name.format(f"20260318T10{minute:02d}"), done) for minute in range(20)]
    arrived += [("aws_guardduty", "s3://b/2026/03/18/abc.jsonl.gz", done)]
    monkeypatch.setattr(lag.reported, "arrivals", lambda *_: iter(arrived))
    engine = SimpleNamespace(ledger=SimpleNamespace(engine=None))
    found = lag.of_days(engine, date(2026, 3, 1), date(2026, 3, 18))  # type: ignore[arg-type]
    assert found.rows == [lag.Lag("aws_vpc_flow", date(2026, 3, 18), 50.0, 59.0, 20)]
    assert found.untimed == ["aws_guardduty"]


def test_only_the_lag_of_these_days_is_told(many: facts.Facts) -> None:
    slow = [step for step in todo.steps(many) if step.kind == "Lag"]
    assert slow
    many.now = datetime(2026, 6, 1, tzinfo=UTC)
    assert not [step for step in todo.steps(many) if step.kind == "Lag"]


# -- hostile values ---------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_values_of_logs_are_text(many: facts.Facts, without_pictures: None) -> None:
    text = page.render(many)
    elements = Elements(text)
    assert not {"script", "img", "svg", "iframe"} & set(elements.tags)
    assert not [name for name, _ in elements.attributes if name.startswith("on") or name == "style"]
    assert not set(text) & {"\u202e", "\u202c", "\x1b", "\x00", "\ud800"}
    assert "\\u202eevil" in text
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in text
    text.encode("utf-8")


@pytest.mark.slow
def test_no_command_is_offered_whose_words_cannot_be_shown_as_they_are(
    many: facts.Facts, without_pictures: None
) -> None:
    for command in offered(page.render(many)):
        words = shlex.split(command)
        assert words[0] == "ocsf-lake"
        assert commands.offered(*words[1:]) == command
    assert "No command is offered" in page.render(many)


@pytest.mark.parametrize("word", ["\u202e", "a\nb", "\x1b[2J", "\u200b", "\ud800", "\x00", "postgresql://u:secret@h/d"])
def test_words_that_are_shown_as_others_are_not_offered(word: str) -> None:
    assert commands.offered("status", word) is None


@pytest.mark.parametrize(
    "word", ["it's", 'a "b" \'c\'', "$(id) 'x'", "`id`'", "a\\'b", "!x'", "", "-x", "ümlaut 日本", "; rm -rf '"]
)
def test_a_shell_takes_a_command_as_it_was_meant(word: str) -> None:
    command = commands.offered("status", word)
    assert command is not None
    assert shlex.split(command) == ["ocsf-lake", "status", word]
    echoed = subprocess.run(
        ["bash", "-c", f"ocsf-lake() {{ printf %s \"$2\"; }}; {command}"], capture_output=True, text=True, check=True
    )
    assert echoed.stdout == word


# -- pictures ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_pictures_are_drawn_of_hostile_labels(
    many: facts.Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vl_convert")
    (tmp_path / "altair.py").write_text("raise SystemExit('taken from the folder where somebody stands')")
    monkeypatch.chdir(tmp_path)
    pictures, lost = charts.drawn(many)
    assert (sorted(pictures), lost) == (["detections", "lag", "volume"], None)
    drawn = "".join(pictures.values())
    assert set(Elements(drawn).tags) <= {"figure", *(tag.lower() for tag in charts._DRAWN)}
    monkeypatch.setattr(charts, "drawn", lambda _: (pictures, lost))
    text = page.render(many)
    assert len(text.encode()) < 1_500_000


def test_without_the_library_the_page_has_its_tables(many: facts.Facts, without_pictures: None) -> None:
    text = unescape(page.render(many))
    assert charts.MISSING in text
    assert "<figure>" not in text
    assert text.count("<details open>") == 2


def test_a_picture_that_cannot_be_drawn_is_left_out(many: facts.Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    def aborts(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], -6, "", "panicked")

    monkeypatch.setattr(charts, "find_spec", lambda _: object())
    monkeypatch.setattr(charts.subprocess, "run", aborts)
    pictures, lost = charts.drawn(many)
    assert (pictures, lost) == ({}, "pictures that could not be drawn: detections, lag, volume")


@pytest.mark.parametrize("svg", [
    '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    '<svg xmlns="http://www.w3.org/2000/svg"><image href="https://example.com/x.png"/></svg>',
    '<svg xmlns="http://www.w3.org/2000/svg"><foreignObject/></svg>', "<svg", "",
])  # fmt: skip
def test_a_picture_is_nothing_but_a_picture(svg: str) -> None:
    assert charts._cleaned(svg, "wide") is None


def test_a_picture_keeps_no_handler() -> None:
    cleaned = charts._cleaned('<svg xmlns="http://www.w3.org/2000/svg"><g onload="alert(1)" fill="red"/></svg>', "wide")
    assert cleaned is not None
    assert "onload" not in cleaned
    assert 'fill="red"' in cleaned


# -- the period -------------------------------------------------------------------------------------------------------
def test_too_many_days_are_refused(lake: Settings) -> None:
    with pytest.raises(ConfigError, match="more than 400 days"):
        facts.gather(lake, NOW, date(2020, 1, 1), date(2026, 1, 1))


@pytest.mark.parametrize(("first", "last"), [(date.max, None), (None, date.min), (date.max, date.max)])
def test_the_first_and_the_last_day_that_there_is_have_a_page(
    lake: Settings, without_pictures: None, first: date | None, last: date | None
) -> None:
    found = facts.gather(lake, NOW, first, last)
    assert found.days[0] == found.days[-1] == (first or last)
    assert "The lake has no events in these days." in page.render(found)


def test_of_many_alarms_some_are_named(many: facts.Facts) -> None:
    many.alarms = [health.Alarm("failed", f"source_{number}", "1 batch failed") for number in range(30)]
    found = [step.what for step in todo.steps(many) if step.kind == "Failed"]
    assert (len(found), found[-1]) == (todo.SHOWN + 1, "And 25 more.")


def test_alarms_stand_among_the_steps(many: facts.Facts) -> None:
    many.alarms = [health.Alarm("freshness", "aws_vpc_flow", "nothing new for 6.0 hours")]
    (step,) = [step for step in todo.steps(many) if step.kind == "Silent"]
    assert step.command == f"ocsf-lake status aws_vpc_flow --lake {shlex.quote(many.settings.lake)}"
