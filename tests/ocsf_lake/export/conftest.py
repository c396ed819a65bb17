"""A lake with something to export, custom sources in folders and buckets, and what is in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_lake.config import Settings
from ocsf_lake.export import run as export
from ocsf_lake.export.run import Summary
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.test_ingest import rows
from tests.servers.rgw import S3Server

Make = Callable[..., Settings]
REGION = "eu-central-1"
NOON = datetime(2025, 3, 12, 12, tzinfo=UTC)
PLACE = "region={region}/accountId={account}/eventDay={day}/"
API, SIGN_IN, ACCOUNT_CHANGE = 6003, 3002, 3001


class Clock:
    """A clock that stands still until it is told to go."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def go(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def filled(whole: Path, settings: Make) -> Make:
    """Settings of a lake of its own with 80 calls and 60 flows of two accounts."""

    def make(**more: object) -> Settings:
        found = settings(**{"export_region": REGION, **more})
        if not Path(found.lake).exists():
            shutil.copytree(whole, found.lake)
        return found

    return make


@pytest.fixture
def send(tmp_path: Path, clock: Clock) -> Callable[..., Summary]:
    """Sends API calls to the custom source `calls` in a folder, or something else somewhere else."""

    def run(
        settings: Settings, bucket: str | None = None, name: str = "calls", event_class: str | None = str(API),
        source: str = "aws_cloudtrail",
    ) -> Summary:  # fmt: skip
        return export.export(settings, source, bucket or str(tmp_path / "bucket"), name, event_class, clock=clock)

    return run


Send = Callable[..., Summary]


def objects(bucket: Path, name: str = "calls") -> dict[str, Path]:
    """The objects of a custom source, by name below it."""
    root = bucket / "ext" / name
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}


def places(found: pa.Table) -> list[tuple[str, int]]:
    """Object and number of the record of each event, as its `unmapped` says."""
    said = [dict(pairs) for pairs in found["unmapped"].to_pylist()]
    return [(item["ocsf_lake.source_object"], int(item["ocsf_lake.source_record"])) for item in said]


def read(path: Path) -> pa.Table:
    return pq.read_table(path, partitioning=None)


def sent_places(bucket: Path, name: str = "calls") -> list[tuple[str, int]]:
    return sorted(place for path in objects(bucket, name).values() for place in places(read(path)))


def held_places(settings: Settings, class_uid: int = API) -> list[tuple[object, ...]]:
    """Object and number of the record of each event of a class in the lake's tables of CloudTrail."""
    names = ("cloud_trail_mgmt", "s3_data", "lambda_execution", "cloud_trail_data", "cloud_trail_insight",
             "cloud_trail_network")  # fmt: skip
    said = [f"SELECT source_object, source_record FROM {name} WHERE class_uid = {class_uid}" for name in names]
    return sorted(rows(settings, " UNION ALL ".join(said)))



def die_at(step: str, nth: int = 1) -> Callable[[str, str], None]:
    left = [nth]

    def failpoint(found: str, _: str) -> None:
        if found == step:
            left[0] -= 1
            if left[0] == 0:
                raise KilledError

    return failpoint


def downloaded(server: S3Server, bucket: str, to: Path, **who: str) -> dict[str, dict[str, Any]]:
    """Every object of a bucket below a folder; gives what the server says of each."""
    client = server.client(**who)
    found = {}
    for item in server.client().list_objects_v2(Bucket=bucket).get("Contents", []):
        answer = client.get_object(Bucket=bucket, Key=item["Key"])
        path = to / item["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer["Body"].read())
        found[item["Key"]] = answer
    return found
