"""Small logs and lakes for the tests of `lake/`."""

import gzip
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_mappers import registry
from tests.ocsf_lake.mortal import TINY, CrashHarness
from tests.servers.postgres import Postgres

Make = Callable[..., Settings]


def _on(*slow: str) -> pytest.MarkDecorator:
    kinds = {"sqlite": [], "postgresql": [pytest.mark.integration]}
    given = [pytest.param(kind, marks=[*marks, *[pytest.mark.slow] * (kind in slow)]) for kind, marks in kinds.items()]
    return pytest.mark.parametrize("settings", given, indirect=True)


ON_BOTH = _on()
"""Runs a test with the ledger in each kind of database."""

OFTEN_SQLITE, OFTEN_POSTGRES = _on("postgresql"), _on("sqlite")
"""The same, where one of them is slow for what the other shows."""


def at_steps(*steps: str, often: Collection[str]) -> pytest.MarkDecorator:
    """Runs a test with an interruption at each step; `make test` has it at some, as `test_interrupted` has it at all.

    Args:
        steps: Where a batch is interrupted, in the order in which it comes there.
        often: Those at which it is interrupted each time.
    """
    return pytest.mark.parametrize(
        "step", [pytest.param(step, marks=[pytest.mark.slow] * (step not in often)) for step in steps]
    )


def on_either(*steps: str, often: Collection[str] = ()) -> pytest.MarkDecorator:
    """As `at_steps`, with the ledger in SQLite at every other step, beginning with the first, else in PostgreSQL.

    What a step leaves behind is the same rows in both: each step and each kind are there, not all pairs.
    """
    kinds: list[tuple[str, list[pytest.MarkDecorator]]] = [("sqlite", []), ("postgresql", [pytest.mark.integration])]
    cells = [
        pytest.param(step, kind, marks=[*marks, *[pytest.mark.slow] * (step not in often)])
        for step, (kind, marks) in zip(steps, cycle(kinds))
    ]
    return pytest.mark.parametrize(("step", "settings"), cells, indirect=["settings"])


BOUNDS: dict[str, object] = {"batch_objects": 2, "part_rows": 25, "workers": 1}
"""Four batches of the logs below; those of CloudTrail have two parts each."""

DAY = "2025/03/11"
CLOUDTRAIL_KEY = (
    f"AWSLogs/{{account}}/CloudTrail/{{region}}/{DAY}/{{account}}_CloudTrail_{{region}}_20250311T{{hhmm}}Z_{{tag}}.json.gz"
)
VPC_KEY = (
    f"AWSLogs/{{account}}/vpcflowlogs/{{region}}/{DAY}/"
    "{account}_vpcflowlogs_{region}_fl-0a_20250311T{hhmm}Z_{tag}.log.gz"
)


def call(number: int, account: str = "111122223333", region: str = "eu-west-1", **more: object) -> dict[str, object]:
    """One CloudTrail record; the number decides its time, and two hours lie between 60 of them."""
    return {
        "eventVersion": "1.09",
        "userIdentity": {"type": "IAMUser", "arn": f"arn:aws:iam::{account}:user/ann", "accountId": account},
        "eventTime": f"2025-03-{11 + number // 720:02d}T{number // 30 % 24:02d}:{number * 2 % 60:02d}:00Z",
        "eventSource": "ec2.amazonaws.com",
        "eventName": "DescribeInstances",
        "awsRegion": region,
        "sourceIPAddress": "198.51.100.7",
        "eventID": f"{number:08d}-0000-4000-8000-000000000000",
        "eventType": "AwsApiCall",
        "recipientAccountId": account,
        **more,
    }


def look(number: int, account: str = "111122223333", **more: object) -> dict[str, object]:
    """One record of the source `tiny`, at the time of `call`."""
    made = call(number)
    return {"id": made["eventID"], "at": made["eventTime"], "account": account, **more}


def flow(number: int, account: str = "111122223333") -> str:
    """One flow log line of version 2."""
    start = 1741651200 + number * 60
    ends = f"10.0.0.{number % 250} 10.0.1.9 4{number % 1000:04d} 443"
    return f"2 {account} eni-0a1b {ends} 6 9 900 {start} {start + 59} ACCEPT OK"


HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
)


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten objects: CloudTrail and flow logs of two accounts, bad records, blank lines, a digest and a stranger."""
    root = tmp_path_factory.mktemp("logs")
    number = 0
    for account in ("111122223333", "012345678901"):
        for region in ("eu-west-1", "us-east-1"):
            records: list[object] = [call(number + step * 7, account, region) for step in range(20)]
            number += 140
            if region == "us-east-1":
                records.append({"eventName": "no time"})
            key = CLOUDTRAIL_KEY.format(account=account, region=region, hhmm="0900", tag=f"t{number}")
            write(root / key, json.dumps({"Records": records}))
        for hhmm in ("0905", "0910"):
            lines = [HEADER, *(flow(number + step, account) for step in range(15)), ""]
            number += 15
            key = VPC_KEY.format(account=account, region="eu-west-1", hhmm=hhmm, tag=f"t{number}")
            write(root / key, "\n".join(lines) + "\n")
    digest = "AWSLogs/111122223333/CloudTrail-Digest/eu-west-1/2025/03/11/d.json.gz"
    write(root / digest, '{"awsAccountId": "111122223333", "digestStartTime": "2025-03-11T08:00:00Z"}')
    (root / "stranger.json").write_text('{"hello": "world"}')
    return root


def write(path: Path, text: str) -> Path:
    """Writes a file, with gzip where its name says so; the same text gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


@contextmanager
def sqlite_database(path: str | Path) -> Iterator[sqlite3.Connection]:
    """A database to look into or to change past the product; committed where nothing fails, and closed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


@pytest.fixture(scope="session")
def whole(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake made of the logs without interruption."""
    lake = tmp_path_factory.mktemp("whole")
    ingest.ingest([str(logs)], config.load(lake=str(lake), **BOUNDS))
    return lake


@pytest.fixture(scope="module")
def tiny() -> Iterator[str]:
    """Installs the source `tiny`, as another package does that has sources, and gives its name."""
    sys.path.append(str(TINY))
    registry.forget()
    yield "tiny"
    sys.path.remove(str(TINY))
    registry.forget()


@pytest.fixture(scope="session")
def mortals() -> Iterator[CrashHarness]:
    """Ingests and the like that can be killed."""
    found = CrashHarness.born()
    yield found
    found.end()


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Settings of a lake below the test's folder, with small batches and parts; see `ON_BOTH`."""
    if getattr(request, "param", "sqlite") == "postgresql":
        shared: Make = request.getfixturevalue("shared")
        return shared

    def make(name: str = "lake", **more: object) -> Settings:
        return config.load(**{"lake": str(tmp_path / name), **BOUNDS, **more})

    return make


@pytest.fixture
def shared(postgres_server: Postgres, tmp_path: Path) -> Iterator[Make]:
    """Like `settings`, with ledger and catalog in a PostgreSQL database, one for each name."""
    urls: dict[str, str] = {}

    def make(name: str = "lake", **more: object) -> Settings:
        urls.setdefault(name, postgres_server.database())
        return config.load(**{"lake": str(tmp_path / name), "ledger_url": urls[name], **BOUNDS, **more})

    yield make
    for url in urls.values():
        postgres_server.drop(url)


@pytest.fixture(scope="session")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake of four batches in one partition, and the logs."""
    from tests.ocsf_lake.compacting import take

    folder = tmp_path_factory.mktemp("small-files")
    take(folder / "logs", config.load(lake=str(folder / "lake")), 0, 1, 2, 3)
    return folder


@pytest.fixture
def late_logs(tmp_path: Path) -> Path:
    """Where more logs come."""
    return tmp_path / "more"


@pytest.fixture
def compactable(small_files: Path, tmp_path: Path) -> Make:
    """Settings of a lake of four batches of one partition, a copy for each test."""

    def make(name: str = "lake", **more: object) -> Settings:
        if not (tmp_path / name).exists():
            shutil.copytree(small_files / "lake", tmp_path / name)
        return config.load(**{"lake": str(tmp_path / name), **more})

    return make


def cut_off_all(shared: Settings) -> None:
    """Ends all connections to the database of a lake, as a network does that fails."""
    with opened(shared) as lake, lake.ledger.engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        ).all()


def contents(lake: Path) -> dict[str, bytes]:
    """Every Parquet file and every leftover below a lake: path -> bytes."""
    found = {}
    for path in sorted(lake.rglob("*")):
        name = path.relative_to(lake).as_posix()
        if path.is_file() and not name.startswith(("_ledger/", "_catalog/", "_lake/")):
            found[name] = path.read_bytes()
    return found


@pytest.fixture
def raw_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No raw object of a lake is there any more."""
    from tests.ocsf_lake.losing import lose_raw

    lose_raw(monkeypatch)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys for AWS's double, which looks at none."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
