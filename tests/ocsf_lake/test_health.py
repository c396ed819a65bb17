"""Checks of a lake's health find what is wrong and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.lake import opened
from ocsf_lake.ledger.results import Batch, Counts, Outcome, Result, State
from ocsf_lake.ledger.tables import BATCHES, SCHEMA_DRIFT
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.upkeep import health
from ocsf_mappers.compiler.statistics import DriftKind
from ocsf_mappers.errors import ConfigError

NOW = datetime(2026, 3, 18, 12, 0, tzinfo=UTC)
Make = Callable[..., Settings]


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return config.load(lake=str(tmp_path / "lake"))


def batch(lake: Settings, planned: datetime, source: str = "aws_cloudtrail", **more: object) -> str:
    """A batch of one object in the ledger; gives its id.

    Args:
        lake: The lake.
        planned: When it was planned; it is done at the same moment.
        source: Name of the source.
        more: `day` of its events (that on which it was planned), `quarantined` of its 100 records, `done`.
    """
    name = f"{source} {planned.isoformat()}"
    ref = ObjectRef(f"s3://logs/{name}", "e", 1)
    planned_as = Batch(name, source, "v", "1.1.0", (ref,))
    quarantined = int(str(more.get("quarantined", 0)))
    counts = Counts(100, 100 - quarantined, quarantined)
    day = str(more.get("day", f"{planned:%Y%m%d}"))
    file = FileInfo(f"{name}.parquet", Partition("vpc_flow", ("eu-west-1", "111122223333", day)), 4001, 100, 1, "s")
    with opened(lake) as found:
        found.ledger.plan([planned_as])
        if more.get("done", True):
            found.ledger.finish(found.ledger.begin(planned_as), Result({ref: Outcome(counts)}, [file]), lambda: None)
        said = {"planned_at": health._text(planned)} | (
            {"done_at": health._text(planned)} if more.get("done", True) else {}
        )
        with found.ledger.engine.begin() as connection:
            table = BATCHES
            connection.execute(table.update().where(table.c.id == name).values(**said))
    return name


def every(lake: Settings, minutes: int, until: datetime, number: int = 12, **more: object) -> None:
    for step in range(number):
        batch(lake, until - timedelta(minutes=minutes * step), **more)


def found(lake: Settings, *names: str) -> list[tuple[str, str]]:
    return [(finding.check, finding.source) for finding in health.check(lake, NOW, names or None)]


def test_a_new_lake_is_well(lake: Settings) -> None:
    assert found(lake) == []


@pytest.mark.slow
def test_a_source_is_silent_when_nothing_came_for_longer_than_usual(lake: Settings) -> None:
    every(lake, 60, NOW - timedelta(hours=4))
    every(lake, 60, NOW - timedelta(minutes=30), source="aws_vpc_flow")
    assert found(lake, "freshness") == [("freshness", "aws_cloudtrail")]
    (finding,) = health.check(lake, NOW)
    assert finding.message == "nothing new for 4.0 hours; usually it takes 60 minutes at most"


@pytest.mark.slow
def test_nights_are_usual_and_one_outage_is_not(lake: Settings) -> None:
    for days in (4, 3, 2):  # busy for two hours of each day
        every(lake, 20, NOW - timedelta(days=days), 6)
    assert found(lake, "freshness") == [("freshness", "aws_cloudtrail")]  # two days after gaps of one
    every(lake, 20, NOW - timedelta(days=1), 6)
    assert found(lake, "freshness") == []


@pytest.mark.slow
def test_a_backfill_does_not_hide_that_a_source_is_silent(lake: Settings) -> None:
    every(lake, 60, NOW - timedelta(hours=8))
    every(lake, 1, NOW, day="20250101")
    assert found(lake, "freshness") == [("freshness", "aws_cloudtrail")]


def test_too_few_runs_tell_nothing(lake: Settings) -> None:
    every(lake, 60, NOW - timedelta(days=3), health.FEWEST_ARRIVALS - 1)
    assert found(lake, "freshness") == []


@pytest.mark.parametrize(("quarantined", "told"), [(0, False), (1, False), (2, True)])
def test_more_quarantine_than_the_limit_is_told(lake: Settings, quarantined: int, told: bool) -> None:
    batch(lake, NOW - timedelta(hours=1), quarantined=quarantined)
    batch(lake, NOW - timedelta(hours=25), quarantined=100)
    assert found(lake, "quarantine") == [("quarantine", "aws_cloudtrail")] * told


def test_batches_that_failed_or_wait_for_hours_are_told(lake: Settings) -> None:
    failed = batch(lake, NOW - timedelta(minutes=5), done=False)
    batch(lake, NOW - timedelta(hours=1), "aws_vpc_flow", done=False)
    with opened(lake) as opened_lake:
        opened_lake.ledger.fail(failed, "disk full")
    (finding,) = health.check(lake, NOW)
    assert (finding.check, finding.message) == ("failed", "1 batch failed, such as: disk full")
    assert ("failed", "aws_vpc_flow") in [
        (late.check, late.source) for late in health.check(lake, NOW + timedelta(hours=6), ["failed"])
    ]


def test_objects_that_could_not_be_read_are_told(lake: Settings) -> None:
    with opened(lake) as opened_lake:
        opened_lake.ledger.note([ObjectRef("s3://logs/a", "e", 1)], State.FAILED, "gone", "aws_cloudtrail")
    (finding,) = health.check(lake, NOW)
    assert finding.message == "1 object could not be read, such as: gone"


def test_news_of_a_source_that_the_lake_knows_are_told(lake: Settings) -> None:
    def noticed(source: str, name: str, when: datetime, kind: DriftKind = DriftKind.MEMBER) -> None:
        row = {
            "source": source, "kind": kind, "name": name, "text": "", "first_day": "20260318", "first_object": "o",
            "first_record": 1, "first_batch": "b", "noticed_at": health._text(when), "records": 3,
        }  # fmt: skip
        with opened(lake) as found, found.ledger.engine.begin() as connection:
            connection.execute(SCHEMA_DRIFT.insert().values(**row))

    batch(lake, NOW - timedelta(days=3))
    batch(lake, NOW - timedelta(hours=1), "aws_vpc_flow")
    noticed("aws_cloudtrail", "old", NOW - timedelta(days=2))
    noticed("aws_cloudtrail", "requestParameters.x", NOW - timedelta(hours=1), DriftKind.OPEN_MEMBER)
    noticed("aws_vpc_flow", "everything", NOW - timedelta(hours=1))
    assert found(lake, "members") == []
    noticed("aws_cloudtrail", "vpcEndpointAccountId", NOW - timedelta(hours=1))
    (finding,) = health.check(lake, NOW, ["members"])
    assert finding.message.startswith("1 novelty in 24 hours, as vpcEndpointAccountId")


def test_a_check_that_does_not_exist_is_refused_with_the_nearest_name(lake: Settings) -> None:
    with pytest.raises(ConfigError, match="did you mean 'freshness'"):
        health.check(lake, NOW, ["freshnes"])
