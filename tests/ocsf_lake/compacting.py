"""What tests of compaction have in common."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch, moving
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.tables import FILES
from tests.ocsf_lake.conftest import CLOUDTRAIL_KEY, call, write
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.test_replay import MENDED, mend  # noqa: F401 - a fixture

Make = Callable[..., Settings]
TABLE = "cloud_trail_mgmt"
PLACES = f"SELECT source_object, source_record FROM {TABLE} ORDER BY ALL"
STEPS = ["planned", "merged", "fenced", "copied", "complete", "replaced", "recorded", "compacted"]
EACH = 6
"""Events of one object."""


def log(folder: Path, number: int, account: str = "111122223333", records: int = EACH) -> Path:
    """An object of calls on 2025-03-11."""
    key = CLOUDTRAIL_KEY.format(account=account, region="eu-west-1", hhmm=f"{number:04d}", tag=f"t{number}")
    calls = [call(number * records + step, account) for step in range(records)]
    return write(folder / key, json.dumps({"Records": calls}))


def take(folder: Path, settings: Settings, *numbers: int, **more: Any) -> None:
    """Ingests an object after the other, a batch each."""
    for number in numbers:
        log(folder, number, **more)
        ingest.ingest([str(folder)], settings)


def files(settings: Settings) -> list[Path]:
    """The files of the table that the ledger knows."""
    with opened(settings, reading=True) as lake, lake.ledger.engine.connect() as connection:
        names = connection.scalars(sa.select(FILES.c.path).where(FILES.c.table_name == TABLE).order_by(FILES.c.path))
        return [Path(settings.lake) / name for name in names]


def ledger(settings: Settings, table: sa.Table) -> list[dict[str, Any]]:
    with opened(settings, reading=True) as lake:
        found: list[dict[str, Any]] = lake.ledger.arrow(table.name).to_pylist()
        return found


def die_at(step: str, nth: int = 1) -> Callable[[str, str], None]:
    left = [nth]

    def failpoint(now: str, _: str) -> None:
        if now == step:
            left[0] -= 1
            if left[0] == 0:
                raise KilledError

    return failpoint


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, step: str) -> Iterator[None]:
    """What is done here dies at a step."""
    with monkeypatch.context() as patched, pytest.raises(KilledError):  # noqa: PT012 - whatever it is
        for module in (batch, moving):
            patched.setattr(module, "failpoint", die_at(step))
        yield
