"""What a query asks of a store: nothing about files that it does not read, and little about those it does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import query
from tests.ocsf_lake.conftest import BOUNDS
from tests.servers.rgw import S3Server

pytestmark = pytest.mark.integration


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Requests to S3 so far, by the name of the call."""
    from s3fs import S3FileSystem

    counted: Counter[str] = Counter()
    call = S3FileSystem._call_s3

    async def counting(self: object, method: str, *given: object, **named: object) -> object:
        counted[method] += 1
        return await call(self, method, *given, **named)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counting)
    return counted


@pytest.fixture
def on_s3(s3_owner: S3Server, bucket: str, logs: Path, tmp_path: Path) -> Settings:
    """The logs in a lake on S3: flow logs of two accounts, CloudTrail of two accounts and regions."""
    settings = config.load(lake=f"s3://{bucket}/lake", state=str(tmp_path / "state"), **BOUNDS)
    ingest.ingest([str(logs)], settings)
    return settings


@pytest.mark.slow
def test_a_query_asks_for_the_files_that_it_reads_alone(on_s3: Settings, requests: Counter[str]) -> None:
    flows = "SELECT count(*), sum(traffic.bytes) FROM vpc_flow"
    for where, rows, files in (("", 60, 2), (" WHERE accountid = '012345678901'", 30, 1)):
        requests.clear()
        with query.connected(on_s3, flows) as connection:
            asked = sum(requests.values())
            (found,) = query.run(connection, flows + where).to_pylist()
        assert found["count_star()"] == rows
        # The lake's marker and its newest record; the first file says which columns there are.
        assert set(requests) <= {"get_object", "head_object", "list_objects_v2"}
        assert requests["list_objects_v2"] + requests["head_object"] <= 2
        assert asked <= 5
        assert requests["get_object"] <= asked + 2 * files


@pytest.mark.slow
def test_tables_that_a_statement_does_not_name_cost_nothing(on_s3: Settings, requests: Counter[str]) -> None:
    with query.connected(on_s3, "SELECT count(*) FROM ledger_batches") as connection:
        assert query.run(connection, "SELECT count(*) FROM ledger_batches").num_rows == 1
    assert requests.total() <= 3, "the lake's marker and its newest record"
    with query.connected(on_s3, "SHOW TABLES") as connection:
        names = set(query.run(connection, "SHOW TABLES")["name"].to_pylist())
    assert names >= {"vpc_flow", "cloud_trail_mgmt", "guardduty_latest", "quarantine", "duplicates", "ledger_files"}
