"""What a run looked at, what it did not, and how to read the rest: nothing is left out in silence."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from ocsf_lake.cli.main import app
from ocsf_lake.flows.report import Report
from ocsf_lake.ingest import backfill, incremental
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.plan import Planned
from ocsf_lake.inputs import deliveries, listing, probe
from ocsf_lake.inputs.coverage import Coverage, Unread
from ocsf_lake.inputs.deliveries import Scope
from ocsf_lake.inputs.listing import Calls, Names
from ocsf_lake.inputs.window import Window
from ocsf_lake.storage import objects
from tests.ocsf_lake.conftest import ON_BOTH, Make, call, write

ACCOUNT = "111122223333"
SOURCE = "aws_cloudtrail"


def key(day: str, number: int = 0, account: str = ACCOUNT, region: str = "eu-west-1") -> str:
    return (
        f"AWSLogs/{account}/CloudTrail/{region}/{day}/"
        f"{account}_CloudTrail_{region}_{day.replace('/', '')}T0900Z_{number:016d}.json.gz"
    )


def deliver(root: Path, *days: str, account: str = ACCOUNT) -> None:
    """One object of one record on each day."""
    for number, day in enumerate(days):
        write(root / key(day, number, account), json.dumps({"Records": [call(number, account)]}))


def day(text: str) -> date:
    return datetime.strptime(text, "%Y/%m/%d").replace(tzinfo=UTC).date()


# -- trees ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Trees at the top, and one and two folders down; other things beside them."""
    root = tmp_path / "logs"
    for number, folder in enumerate(("", "security", "team/audit")):
        deliver(root / folder, "2025/03/11", account=f"{number:012d}")
    write(root / "security" / "loose.json", "{}")
    write(root / "team" / "notes" / "deep" / "x.json", "{}")
    write(root / "apps" / "web" / "x.json", "{}")
    write(root / "2025" / "03" / "x.json", "{}")
    return root


def test_every_tree_below_the_root_is_read_and_what_is_beside_them_is_named(logs: Path, settings: Make) -> None:
    one = date(2025, 3, 11)
    summary = backfill.backfill(SOURCE, str(logs), one, one, settings())
    assert (summary.listed, summary.counts.events) == (3, 3)
    assert summary.coverage is not None
    assert [name.removeprefix(f"file://{logs}") for name in summary.coverage.roots.some] == [
        "",
        "/security",
        "/team/audit",
    ]
    assert sorted(name.removeprefix(f"file://{logs}/") for name in summary.coverage.beside.some) == [
        "2025/", "apps/", "security/loose.json", "team/notes/",
    ]  # fmt: skip
    assert len(summary.coverage.accounts) == 3


def test_the_scheduled_run_sees_the_same_trees(logs: Path, settings: Make) -> None:
    planned = incremental.plan_fresh(SOURCE, str(logs), settings(), datetime(2025, 3, 12, tzinfo=UTC))
    assert planned.listed == 3
    page = Report.of("run", SOURCE, planned).markdown()
    assert f"- `{logs}/team/audit`" in page
    assert f"`{logs}/apps/`" in page
    assert "- and 1 more" in page


def test_a_tree_is_looked_for_so_deep_and_so_often_and_the_rest_is_named(tmp_path: Path) -> None:
    deep = "a/b/c/d"
    deliver(tmp_path / deep, "2025/03/11")
    deliver(tmp_path / deep / "e", "2025/03/11")
    fs = fsspec.filesystem("file")
    found = deliveries.find(fs, str(tmp_path), SOURCE, Calls())
    assert found.roots == (f"{tmp_path}/{deep}",)
    assert found.beside == Names(1, [f"file://{tmp_path}/{deep}/e/"])
    deliver(tmp_path / "a", "2025/03/11")
    for number in range(300):
        (tmp_path / "z" / f"x{number}").mkdir(parents=True)
    calls = Calls()
    found = deliveries.find(fs, str(tmp_path), SOURCE, calls)
    assert calls.number <= deliveries.TREE_CALLS
    assert f"{tmp_path}/a" in found.roots
    assert f"file://{tmp_path}/z/" in found.beside.some


def test_the_lake_itself_is_nothing_that_was_left_out(logs: Path, settings: Make) -> None:
    found = settings(lake=str(logs / "lake"))
    one = date(2025, 3, 11)
    backfill.backfill(SOURCE, str(logs), one, one, found)
    coverage = backfill.estimate(SOURCE, str(logs), one, one, found).coverage
    assert coverage.beside.number == 4
    assert not [name for name in coverage.beside.some if "/lake/" in name]


def test_a_folder_without_any_tree_is_listed_whole(tmp_path: Path) -> None:
    write(tmp_path / "apps" / "2025-03-11.json", "{}")
    window = Window(SOURCE, str(tmp_path), Scope(date(2025, 3, 11), date(2025, 3, 11)))
    assert [len(page) for page in window.pages()] == [1]
    assert (window.in_tree, window.coverage.beside.number) == (False, 0)


def test_folders_in_the_place_of_a_region_that_are_none_are_named(tmp_path: Path, settings: Make) -> None:
    logs = tmp_path / "logs"
    deliver(logs, "2025/03/11")
    write(logs / "AWSLogs" / ACCOUNT / "CloudTrail" / "Not a region" / "x.json", "{}")
    hive = f"aws-account-id={ACCOUNT}/aws-service=vpcflowlogs"
    write(logs / "AWSLogs" / hive / "x.log", "")  # of another source, which has its own run
    planned = backfill.planned(SOURCE, str(logs), day("2025/03/11"), day("2025/03/11"), settings())
    assert planned.coverage is not None
    beside = [name.removeprefix(f"file://{logs}/AWSLogs/{ACCOUNT}/") for name in planned.coverage.beside.some]
    assert beside == ["CloudTrail/Not a region/"]


# -- other days -------------------------------------------------------------------------------------------------------
HISTORY = ("2023/12/31", "2024/02/10", "2024/02/11", "2025/03/02", "2025/03/11", "2025/03/12", "2025/05/01")


@pytest.mark.slow
@ON_BOTH
def test_older_deliveries_are_named_until_they_are_read(settings: Make, tmp_path: Path) -> None:
    logs, lake = tmp_path / "history", settings()
    deliver(logs, *HISTORY)
    planned = incremental.plan_fresh(SOURCE, str(logs), lake, datetime(2025, 3, 12, 12, tzinfo=UTC))
    assert planned.listed == 2
    coverage = planned.coverage
    assert coverage is not None
    assert coverage.older == Unread(day("2023/12/31"), day("2025/03/02"))
    _, name, source, uri, _, first, _, last, *_ = shlex.split(coverage.command(coverage.older))
    assert (name, source, uri, first, last) == ("backfill", SOURCE, str(logs), "2023-12-31", "2025-03-02")
    assert "older deliveries of 2023-12-31 to 2025-03-02 have not been read" in Report.of("r", SOURCE, planned).message

    # A part of it: what is left begins later.
    backfill.backfill(SOURCE, str(logs), day("2023/12/31"), day("2024/02/09"), lake)
    again = incremental.plan_fresh(SOURCE, str(logs), lake, datetime(2025, 3, 12, 12, tzinfo=UTC)).coverage
    assert again is not None
    assert again.older == Unread(day("2024/02/11"), day("2025/03/02"))
    backfill.backfill(SOURCE, str(logs), day("2024/02/10"), day("2025/03/02"), lake)
    done = incremental.plan_fresh(SOURCE, str(logs), lake, datetime(2025, 3, 12, 12, tzinfo=UTC)).coverage
    assert done is not None
    assert done.older is None
    assert done.newer == Unread(day("2025/05/01"), day("2025/05/01"))


def test_of_a_plain_folder_older_objects_are_counted(settings: Make, tmp_path: Path) -> None:
    for name in ("app-2025-03-01.json", "app-2025-03-02.json", "app-2025-03-11.json"):
        write(tmp_path / "plain" / name, json.dumps({"Records": [call(1)]}))
    days = day("2025/03/11"), day("2025/03/12")
    found = backfill.estimate(SOURCE, str(tmp_path / "plain"), *days, settings())
    assert found.objects == 1
    assert found.coverage.older == Unread(day("2025/03/01"), day("2025/03/02"), 2)
    assert found.coverage.notes()[1].text.startswith("2 older objects have not been read")


@pytest.mark.slow
def test_looking_for_other_days_costs_a_bounded_number_of_calls(tmp_path: Path, settings: Make) -> None:
    for number in range(60):
        deliver(tmp_path, "2024/01/01", "2025/03/11", account=f"{number:012d}")
    one = date(2025, 3, 11)
    cheap = Window(SOURCE, str(tmp_path), Scope(one, one))
    assert sum(len(page) for page in cheap.pages()) == 60
    planned = backfill.planned(SOURCE, str(tmp_path), one, one, settings())
    assert planned.coverage is not None
    assert planned.coverage.older is not None
    assert 0 < planned.coverage.probed < planned.coverage.folders == 60
    # The backfill asks for the day after, too, where objects may come late.
    assert planned.list_calls <= cheap.calls.number + 60 + probe.MOST_CALLS + 10


# -- names ------------------------------------------------------------------------------------------------------------
def test_names_that_are_passed_over_are_counted_by_the_reason(tmp_path: Path, settings: Make) -> None:
    logs = tmp_path / "logs"
    deliver(logs, "2025/03/11")
    write(logs / ".hidden.json", "{}")
    write(logs / ".staging" / "a.json", "{}")
    write(logs / "README.md", "notes")
    summary = ingest.ingest([str(logs)], settings())
    assert summary.listed == 1
    assert summary.coverage is not None
    assert {reason: sorted(names.some) for reason, names in summary.coverage.passed.items()} == {
        objects.HIDDEN: [f"file://{logs}/.hidden.json", f"file://{logs}/.staging/"],
        objects.NO_LOG: [f"file://{logs}/README.md"],
    }


@pytest.mark.slow
def test_the_command_line_names_them_on_stderr_and_in_json(tmp_path: Path) -> None:
    deliver(tmp_path / "logs", "2025/03/11", "2024/03/11")
    write(tmp_path / "logs" / "AWSLogs" / ACCOUNT / "CloudTrail" / "eu-west-1" / "2025/03/11" / ".x\x1b[2J", "{}")
    command = ["backfill", SOURCE, str(tmp_path / "logs"), "--from", "2025-03-11", "--to", "2025-03-11", "--lake"]
    ran = CliRunner().invoke(app, [*command, str(tmp_path / "lake"), "--json"])
    assert ran.exit_code == 0
    told = json.loads(ran.stdout)["coverage"]
    assert told["passed_over"][0]["number"] == 1
    assert told["older"]["command"].endswith(f"--from 2024-03-11 --to 2024-03-11 --lake {tmp_path / 'lake'}")
    assert f"  {told['older']['command']}\n" in ran.stderr
    assert "1 name ignored (hidden" in ran.stderr
    assert "\x1b" not in ran.output


class FakeS3:
    """The part of s3fs that lists, with one page of names."""

    protocol = ("s3",)
    endpoint_url = "http://store"

    def __init__(self, *items: tuple[str, int], **more: str) -> None:
        self.items = [{"Key": name, "Size": size, "ETag": '"e"', **more} for name, size in items]

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, name = path.partition("/")
        return bucket, name, None

    def unstrip_protocol(self, path: str) -> str:
        return f"s3://{path}"

    def call_s3(self, *_: object, **asked: object) -> dict[str, object]:
        return {"Name": asked["Bucket"], "Contents": self.items}


def test_a_name_that_ends_in_a_slash_counts_when_it_has_content() -> None:
    calls = Calls()
    store = FakeS3(("a/", 0), ("b/", 12), ("c/.d/e.json", 5), ("f.json", 5))
    assert [ref.uri for page in listing.below(store, "bucket", calls) for ref in page] == ["s3://bucket/f.json"]
    assert calls.passed == {
        objects.FOLDER_WITH_CONTENT: Names(1, ["s3://bucket/b/"]),
        objects.HIDDEN: Names(1, ["s3://bucket/c/.d/e.json"]),
    }


def test_many_names_are_counted_and_a_few_kept() -> None:
    coverage = Coverage(None, "u", "l", passed={objects.HIDDEN: Names()})
    for number in range(1_000):
        coverage.passed[objects.HIDDEN].add(str(number))
    (note,) = coverage.notes()
    assert (len(note.names), note.hidden) == (3, 997)
    assert len(coverage.passed[objects.HIDDEN].some) == listing.NAMES_KEPT


@pytest.fixture
def store() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    fs.pipe({f"/coverage-test/{key('2024/02/30')}": b"x", f"/coverage-test/{key('2025/03/11')}": b"x"})
    yield "memory://coverage-test"
    fs.rm("/coverage-test", recursive=True)


def test_a_folder_of_a_day_that_no_calendar_has_is_left_alone(store: str, settings: Make) -> None:
    one = date(2025, 3, 11)
    planned = backfill.planned(SOURCE, store, one, one, settings())
    assert isinstance(planned, Planned)
    assert planned.coverage is not None
    assert (planned.listed, planned.coverage.older) == (1, None)
