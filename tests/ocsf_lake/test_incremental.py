"""A folder on S3 is listed whole once; later runs leave out older days of AWS's folders, and lose nothing by it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ocsf_lake.config import Settings
from ocsf_lake.ingest import incremental, plan, relisting
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.tables import LISTINGS, OBJECTS
from ocsf_lake.storage.objects import ObjectRef
from tests.ocsf_lake.conftest import ON_BOTH
from tests.ocsf_lake.test_database import OBJECTS_IN_ONE_TABLE
from tests.servers.rgw import S3Server

pytestmark = pytest.mark.integration
Make = Callable[..., Settings]
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ACCOUNT = "111122223333"
HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
)


def key(day: date, region: str = "eu-west-1", tag: str = "a") -> str:
    name = f"{ACCOUNT}_vpcflowlogs_{region}_fl-0a_{day:%Y%m%d}T0000Z_{tag}.log"
    return f"AWSLogs/{ACCOUNT}/vpcflowlogs/{region}/{day:%Y/%m/%d}/{name}"


class Logs:
    """A bucket to put logs into, and runs over it."""

    def __init__(self, bucket: str, server: S3Server, settings: Settings) -> None:
        self.bucket, self.client, self.settings = bucket, server.client(), settings
        self.keys: list[str] = []

    def put(self, name: str, number: int = 0) -> None:
        line = f"2 {ACCOUNT} eni-0a1b 10.0.0.1 10.0.1.9 4{number:04d} 443 6 9 900 1741651200 1741651259 ACCEPT OK"
        self.keys.append(f"raw/{name}")
        self.client.put_object(Bucket=self.bucket, Key=self.keys[-1], Body=f"{HEADER}\n{line}\n".encode())

    def run(self, now: datetime = NOW, whole: bool = False, source: str | None = None) -> ingest.Planned:
        uri = f"s3://{self.bucket}/raw"
        planned = ingest.plan([uri], self.settings, source, whole=whole, now=now)
        ingest.work(planned.batch_ids, self.settings)
        return planned


@pytest.fixture
def logs(bucket: str, s3_owner: S3Server, settings: Make) -> Logs:
    return Logs(bucket, s3_owner, settings(batch_objects=100))


@pytest.fixture(autouse=True)
def as_if_it_were_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relisting, "FEW_CALLS", 0)


@pytest.fixture(scope="module")
def shared_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sixty-days") / "lake"


@pytest.fixture(scope="module")
def shared_bucket(s3_server: S3Server) -> str:
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def sixty_days(
    shared_bucket: str, shared_lake: Path, s3_owner: S3Server, settings: Make, as_if_it_were_large: None
) -> Iterator[Logs]:
    """A bucket of logs of sixty days that all tests share: what one of them puts there is taken away after it."""
    found = Logs(shared_bucket, s3_owner, settings(batch_objects=100))
    if not shared_lake.exists():
        found.client.create_bucket(Bucket=shared_bucket)
        for number in range(60):
            for region in ("eu-west-1", "us-east-1"):
                found.put(key(NOW.date() - timedelta(days=number), region), number)
        found.keys.clear()
        Logs(shared_bucket, s3_owner, settings(lake=str(shared_lake), batch_objects=100)).run()
    yield found
    for name in found.keys:
        found.client.delete_object(Bucket=shared_bucket, Key=name)


@pytest.fixture
def listed(sixty_days: Logs, shared_lake: Path) -> Logs:
    """The same, and a lake that has read them."""
    shutil.copytree(shared_lake, sixty_days.settings.lake)
    return sixty_days


@pytest.mark.slow
def test_the_second_run_over_sixty_days_asks_little_and_finds_what_is_new(sixty_days: Logs) -> None:
    assert sixty_days.run().listed == 120
    sixty_days.put(key(NOW.date(), tag="new"), 1)
    sixty_days.put(key(NOW.date() + timedelta(days=1), tag="tomorrow"), 2)
    sixty_days.put(key(NOW.date() - timedelta(days=2), "ap-south-1", "new_region"), 3)
    sixty_days.put(key(NOW.date() - timedelta(days=50), "ap-south-1", "new_region_old"), 4)
    sixty_days.put("beside/old/2020/01/01/flow.log", 5)
    sixty_days.put(key(date(2020, 1, 1)).replace("/vpcflowlogs/", "/Other/"), 6)
    second = sixty_days.run(NOW + timedelta(minutes=5))
    assert second.listed - second.known == 6
    assert second.listed < 30
    third = sixty_days.run(NOW + timedelta(minutes=10))
    assert third.listed == third.known
    assert sixty_days.run(NOW + timedelta(minutes=15), whole=True).listed == 126


@pytest.mark.slow
def test_a_folder_of_few_objects_is_listed_whole_each_time(listed: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relisting, "FEW_CALLS", 20)
    again = listed.run(NOW + timedelta(minutes=5))
    assert (again.list_calls, again.listed, again.known) == (1, 120, 120)


@pytest.mark.slow
def test_a_regular_run_needs_few_calls(listed: Logs) -> None:
    again = listed.run(NOW + timedelta(minutes=5))
    assert again.list_calls <= 19
    assert again.coverage is not None
    told = [note.text for note in again.coverage.notes()]
    assert "from 2026-11-26 on" in told[0]
    assert "--all" in told[0]


def test_old_logs_are_taken_the_first_time(logs: Logs) -> None:
    logs.put(key(date(2026, 3, 16)))
    assert len(logs.run().batch_ids) == 1


@pytest.mark.slow
def test_a_time_without_runs_is_caught_up_with(logs: Logs) -> None:
    logs.put(key(date(2026, 9, 1)))
    logs.run(datetime(2026, 9, 1, 12, tzinfo=UTC))
    logs.put(key(date(2026, 9, 20), tag="while_off"), 1)
    found = logs.run(NOW)
    assert found.listed - found.known == 1


@pytest.mark.slow
def test_late_objects_are_looked_for_once_a_day(listed: Logs) -> None:
    listed.put(key(NOW.date() - timedelta(days=20), tag="late"), 1)
    found = listed.run(NOW + timedelta(hours=1))
    assert found.listed == found.known
    found = listed.run(NOW + timedelta(hours=25))
    assert found.listed - found.known == 1


@pytest.mark.slow
def test_a_day_older_than_that_is_told(listed: Logs) -> None:
    listed.put(key(date(2026, 8, 1), tag="archive"), 1)
    coverage = listed.run(NOW + timedelta(minutes=1)).coverage
    assert coverage is not None
    (note,) = [note for note in coverage.notes() if "older objects" in note.text]
    assert "--all" in note.names[0]


@pytest.mark.slow
def test_what_was_planned_and_not_done_is_continued(sixty_days: Logs) -> None:
    planned = ingest.plan([f"s3://{sixty_days.bucket}/raw"], sixty_days.settings, now=NOW)
    again = ingest.plan([f"s3://{sixty_days.bucket}/raw"], sixty_days.settings, now=NOW + timedelta(minutes=1))
    assert sorted(again.batch_ids) == sorted(planned.batch_ids)
    assert len(planned.batch_ids) > 1


@pytest.mark.slow
def test_few_unfinished_objects_of_old_days_are_looked_at_again(listed: Logs) -> None:
    with opened(listed.settings) as lake, lake.ledger.engine.begin() as connection:
        old = key(NOW.date() - timedelta(days=45))
        changed = connection.exec_driver_sql(
            f"UPDATE object_rows SET state = 'skipped', batch = NULL "
            f"WHERE (beginning, rest) IN (SELECT beginning, rest FROM objects WHERE uri LIKE '%{old}')"
        )
        assert changed.rowcount == 1
    found = listed.run(NOW + timedelta(minutes=1))
    assert found.listed - found.known == 1


def test_a_listing_that_stops_is_not_remembered(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.put(key(NOW.date()))

    def stops(*_: object, **__: object) -> None:
        raise OSError("stop")

    monkeypatch.setattr(relisting.listing, "below", stops)
    with pytest.raises(OSError, match="stop"):
        logs.run()
    with opened(logs.settings) as lake, lake.ledger.engine.connect() as connection:
        assert connection.execute(sa.select(LISTINGS)).all() == []


@pytest.mark.slow
def test_a_new_folder_whose_listing_was_killed_is_listed_whole_again(
    listed: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days in (300, 290, 1):
        listed.put(key(NOW.date() - timedelta(days=days), "ap-south-1"), days)
    below = relisting.recent.listing.below

    def killed(fs: object, path: str, calls: relisting.Calls, after: str = "") -> Iterator[list[ObjectRef]]:
        for page in below(fs, path, calls, after):
            yield page[:2] if path.endswith("/ap-south-1") else page
            if path.endswith("/ap-south-1"):
                raise KeyboardInterrupt

    # Batches of one object are written to the ledger as soon as it is held against it.
    listed.settings = listed.settings.model_copy(update={"batch_objects": 1})
    with monkeypatch.context() as patched:
        patched.setattr(relisting.recent.listing, "below", killed)
        patched.setattr(plan, "WRITTEN_AT_ONCE", 1)
        patched.setattr(plan, "CHUNK", 1)
        with pytest.raises(KeyboardInterrupt):
            listed.run(NOW + timedelta(minutes=1))
    with opened(listed.settings, reading=True) as lake:
        assert len(lake.ledger.rows()) == 1
    found = listed.run(NOW + timedelta(minutes=2))
    assert found.listed - found.known == 3
    last = listed.run(NOW + timedelta(minutes=3), whole=True)
    assert (last.listed, last.known) == (123, 123)


@pytest.mark.slow
def test_a_new_folder_of_which_a_day_was_read_by_itself_is_listed_whole(listed: Logs) -> None:
    old, day = (NOW.date() - timedelta(days=days) for days in (300, 1))
    listed.put(key(old, "ap-south-1"), 300)
    listed.put(key(day, "ap-south-1"), 1)
    planned = ingest.plan([f"s3://{listed.bucket}/raw/{key(day, 'ap-south-1')}"], listed.settings, now=NOW)
    ingest.work(planned.batch_ids, listed.settings)
    found = listed.run(NOW + timedelta(minutes=1))
    assert found.listed - found.known == 1
    again = listed.run(NOW + timedelta(minutes=2))
    assert again.listed == again.known < 10


@pytest.mark.slow
@ON_BOTH
def test_an_older_ledger_gets_the_table(logs: Logs) -> None:
    logs.put(key(date(2026, 3, 16)))
    logs.run()
    with opened(logs.settings) as lake, lake.ledger.engine.begin() as connection:
        for statement in OBJECTS_IN_ONE_TABLE.split(";")[:-1]:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("DROP TABLE listings")
        connection.exec_driver_sql("UPDATE schema_version SET version = version - 1")
    logs.put(key(date(2026, 3, 17)), 1)
    found = logs.run(NOW + timedelta(minutes=1))
    assert (found.listed, found.known) == (2, 1)  # nothing is remembered, so all is listed once more
    with opened(logs.settings) as lake, lake.ledger.engine.connect() as connection:
        assert len(connection.execute(sa.select(LISTINGS)).all()) == 3
    assert logs.run(NOW + timedelta(minutes=2)).listed == 0


@pytest.mark.slow
def test_a_scheduled_run_catches_up_with_days_without_runs(logs: Logs) -> None:
    uri, september = f"s3://{logs.bucket}/raw", datetime(2026, 9, 1, 12, tzinfo=UTC)
    logs.put(key(date(2026, 9, 1)))
    incremental.plan_fresh("aws_vpc_flow", uri, logs.settings, september)
    logs.put(key(date(2026, 9, 20), tag="while_off"), 1)
    found = incremental.plan_fresh("aws_vpc_flow", uri, logs.settings, NOW)
    assert (found.listed, len(found.batch_ids)) == (2, 2)


@pytest.mark.slow
def test_another_source_is_listed_whole_of_its_own(listed: Logs) -> None:
    assert listed.run(NOW + timedelta(minutes=1), source="aws_vpc_flow").listed == 120
    assert listed.run(NOW + timedelta(minutes=2), source="aws_vpc_flow").listed < 20


@pytest.mark.slow
def test_an_object_beside_the_years_is_found_once_a_day(listed: Logs) -> None:
    folder, _, name = key(date(2026, 10, 1), tag="x").partition("/2026/10/01/")
    listed.put(f"{folder}/{name}", 99)
    assert listed.run(NOW + timedelta(minutes=5)).listed == 6
    assert listed.run(NOW + timedelta(days=1, minutes=5)).known < 120  # a sweep, and it is among what is new
    with opened(listed.settings) as lake, lake.ledger.engine.connect() as connection:
        found = connection.execute(sa.select(OBJECTS.c.uri).where(OBJECTS.c.uri.endswith("T0000Z_x.log")))
        assert len(found.all()) == 1
