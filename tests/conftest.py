from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from ocsf_mappers import Engine, registry
from tests.support import PROJECT

pytest_plugins = ["tests.servers.postgres"]

SAMPLES = "OCSF_LAKE_SAMPLES"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite sample_logs/**/*.expected.json; the review is the git diff",
    )


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


@cache
def _engine(source: str, version: str) -> Engine:
    return Engine(registry.load(source), version)


@pytest.fixture(scope="session")
def engine() -> Callable[[str, str], Engine]:
    """`engine(source, version)`, made once and kept, as making one and its first query costs most of a test."""
    return _engine
