"""Files of a lake that are lost, and what is done about it."""

from pathlib import Path
from typing import Any

import pytest

from ocsf_lake.config import Settings
from ocsf_lake.lake import opened
from ocsf_lake.ledger.tables import FILES
from ocsf_lake.storage import objects
from ocsf_lake.upkeep import (
    check,
    origins,
    rebuild_ledger,
    remap,
    write_off,
)
from tests.ocsf_lake.compacting import TABLE, ledger

ACCOUNT = "111122223333"
WHY = "rule 7 of the bucket removed them"


def done_without(settings: Settings, **more: Any) -> write_off.Summary:
    return write_off.write_off(settings, None, WHY, "ann", **more)


def listed(settings: Settings, **more: Any) -> write_off.Summary:
    return write_off.write_off(settings, dry_run=True, **more)


def synced(settings: Settings) -> check.Repair:
    with opened(settings) as lake:
        return check.sync(lake)


def made_anew(settings: Settings) -> rebuild_ledger.Summary:
    """The ledger, from the lake."""
    if settings.ledger_url is None:
        (Path(settings.lake) / "_ledger" / "ledger.db").unlink()
    return rebuild_ledger.rebuild(settings, replacing=settings.ledger_url is not None)


def largest(settings: Settings) -> str:
    """The file of the table with most rows."""
    held = [row for row in ledger(settings, FILES) if row["table_name"] == TABLE]
    return str(max(held, key=lambda row: (row["rows"], row["path"]))["path"])


def of_quarantine(settings: Settings) -> list[Path]:
    return sorted(Path(settings.lake).glob("_quarantine/**/*.parquet"))


def lose_raw(patched: pytest.MonkeyPatch) -> None:
    """No raw object is there any more."""

    def gone(ref: objects.ObjectRef, _: object) -> None:
        raise objects.GoneError("the object is gone since it was listed", object=ref.uri)

    def not_there(_: object, uri: str, __: str) -> None:
        raise origins.NotThereError(f"{uri} is unavailable")

    patched.setattr(objects, "opened", gone)
    patched.setattr(remap._Work, "_ref", not_there)
