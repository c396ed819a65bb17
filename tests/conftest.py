from __future__ import annotations

import gc
import os
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from ocsf_lake.detections import compiled
from ocsf_lake.ledger import database
from ocsf_lake.storage import s3
from ocsf_mappers import Engine, registry
from tests import support
from tests.servers import moto, rgw, seaweed
from tests.servers.rgw import S3Server
from tests.servers.seaweed import TablesServer
from tests.support import PROJECT

pytest_plugins = ["tests.servers.postgres"]

SAMPLES = "OCSF_LAKE_SAMPLES"

# A machine's time zone has no part in what logs are mapped to, nor in anything else: all tests, and the programs that
# they start, run where it is neither UTC nor the same all year. What is expected, the goldens too, is in UTC.
os.environ["TZ"] = "America/New_York"
time.tzset()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite sample_logs/**/*.expected.json; the review is the git diff",
    )


# -- what Python spends on looking for cycles -------------------------------------------------------------------------
# Modules, tests and compiled mappers are a million objects that live to the end; going through them time and again took
# a fifth of the CPU time. So they are left out, and rounds are fewer.
OBJECTS_A_ROUND = 20_000
"""So many new objects, and Python looks for cycles among them; 700 by itself."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(OBJECTS_A_ROUND, 20, 20)
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    gc.unfreeze()  # what is left is looked for once more at the end


class _Files(LoadFileScheduling):
    """Hands whole files to the workers; those in which the mappers of all sources map go to one of them, together.

    Planning the queries of a mapper takes longer than mapping its samples, and `support.engine` is of one process.
    """

    TOGETHER = (
        "test_conformance.py", "test_lossless.py", "test_samples.py", "test_versions.py", "test_sigma.py",
        "test_hostile_values.py",
    )  # fmt: skip

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "mappers" if file.endswith(self.TOGETHER) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return _Files(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session", autouse=True)
def disk() -> Iterator[None]:
    """Nothing waits for a disk: tests kill processes, not machines. Programs that they start wait as always."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(database, "SYNCHRONOUS", "OFF")
        yield


@pytest.fixture(scope="session", autouse=True)
def _compiled_rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Rules that a test compiled are none of the user's."""
    folder = tmp_path_factory.mktemp("cache") / compiled.FOLDER
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_folder", lambda: folder)
        yield


@pytest.fixture(autouse=True)
def _no_sources_of_other_tests() -> Iterator[None]:
    """What a test brings in folders and files is known to the process, and is none of the next one's."""
    yield
    if registry._folders or registry._files:
        registry._folders.clear()
        registry._files.clear()
        registry.forget()


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real logs that cannot be part of the project: the folder that OCSF_LAKE_SAMPLES names, or one beside it."""
    folder = Path(os.environ.get(SAMPLES) or PROJECT.parent / "shared" / "samples")
    if not folder.is_dir():
        pytest.skip(f"needs real logs: no folder {folder.name!r} beside the project, and {SAMPLES} names none")
    return folder


@pytest.fixture(scope="session")
def engine() -> Callable[[str, str], Engine]:
    """See `tests.support.engine`."""
    return support.engine


@pytest.fixture(scope="session")
def models() -> Iterator[None]:
    """What botocore knows of AWS's services is read once: each session of its own reads two megabytes of JSON."""
    from botocore import session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "create_loader", cache(session.create_loader))
        yield


# -- servers ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def s3_server(models: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, shared by the workers of this run."""
    yield from rgw.shared(_of_all_workers(tmp_path_factory) / "rgw")


@pytest.fixture(scope="session")
def tables_server(models: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TablesServer]:
    """The double of S3 Tables, shared by the workers of this run."""
    yield from seaweed.shared(_of_all_workers(tmp_path_factory) / "seaweed")


def _of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture
def s3_owner(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server, with its owner's keys in this process's variables, and no connection kept from other tests.

    Nothing is waited for before a request is sent again.
    """
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("OCSF_LAKE_S3_ENDPOINT", s3_server.endpoint)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    s3.forget()
    yield s3_server
    s3.forget()


@pytest.fixture
def bucket(s3_owner: S3Server) -> str:
    """A new bucket."""
    name = f"test-{uuid.uuid4().hex}"
    s3_owner.client().create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def moto_server(models: None) -> Iterator[str]:
    """Endpoint of AWS Glue's double; databases in it last for the whole run."""
    yield from moto.running()
