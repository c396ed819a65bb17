"""Legal holds placed and released, and what one covers when it is placed."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from datetime import date

from ocsf_lake.catalogs.definitions import BESIDE, DUPLICATES, OUTCOMES, QUARANTINE
from ocsf_lake.config import Settings
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import holds, replays, retained
from ocsf_lake.ledger.holds import Hold
from ocsf_lake.storage import layout
from ocsf_lake.text import plural
from ocsf_lake.upkeep import quarantine
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError, nearest


@dataclass
class Placed:
    """A hold, and what it found.

    Args:
        hold: The hold.
        partitions: Partitions of the lake that it covers.
        rows: Their events.
        quarantined: Records in quarantine that it covers.
        files_only: Partitions that went before, and whose files are still there; they stay, out of every catalog.
        lost: Partitions that went before, with their files.
    """

    hold: Hold
    partitions: int = 0
    rows: int = 0
    quarantined: int = 0
    files_only: int = 0
    lost: int = 0

    @property
    def message(self) -> str:
        """What it covers, in one line."""
        covered = f"{plural(self.rows, 'event')} of {plural(self.partitions, 'partition')}"
        message = [f"hold {self.hold.id} on {self.hold.subject} keeps {covered}"]
        if self.quarantined:
            message.append(f"{plural(self.quarantined, 'record')} in quarantine")
        if self.files_only:
            message.append(
                f"{plural(self.files_only, 'partition')} already gone, and only the files are still there: they stay, "
                "and table ledger_retired_files has their names"
            )
        if self.lost:
            message.append(f"{plural(self.lost, 'partition')} of it already gone, with their files")
        return "; ".join(message)


def add(
    settings: Settings, account: str | None, table: str | None, first: date | None, last: date | None,
    reason: str, by: str | None = None,
) -> Placed:  # fmt: skip
    """Places a hold.

    Args:
        settings: The lake.
        account: Only of this account; None for all.
        table: Only of this table; None for all.
        first: From this event day on; None where it is open.
        last: To this event day; None where it is open.
        reason: Why.
        by: Who decided it; None for the user of this process.

    Raises:
        ConfigError: It could keep nothing: no such table or account, a span that ends before it begins; or no reason.
        WriteError: The lake or the ledger refused.
        RetriableError: The store or the database does not answer.
    """
    if not reason.strip():
        raise ConfigError("say why the hold is placed: --reason")
    if account is not None and layout.account(account) == layout.UNKNOWN:
        raise ConfigError(f"{account!r} is not an account id; those have twelve digits")
    if first is not None and last is not None and last < first:
        raise ConfigError(f"the days from {first:%Y-%m-%d} to {last:%Y-%m-%d} are none")
    with opened(settings, with_retries=True) as lake:
        names = {*registry.tables(), *retained.tables(lake.ledger.engine), QUARANTINE} - {OUTCOMES, DUPLICATES}
        if table is not None and table not in names:
            raise ConfigError(f"no table {table!r}{nearest(table, names)}")
        begin, end = (None if day is None else f"{day:%Y%m%d}" for day in (first, last))
        hold = Hold(account, table, begin, end, reason.strip(), by or user())
        placed = holds.place(lake.ledger.engine, lake.store, hold)
        lake.publish_chain()
        return _placed(lake, placed)


def release(settings: Settings, hold_id: str, by: str | None = None, reason: str | None = None) -> Hold:
    """Releases a hold; see `ocsf_lake.ledger.holds.release`."""
    with opened(settings, with_retries=True) as lake:
        released = holds.release(lake.ledger.engine, lake.store, hold_id, by or user(), reason)
        lake.publish_chain()
        return released


def user() -> str:
    """Who runs this process, and where."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # in a container, whose user has no name
        name = "unknown"
    return f"{name}@{socket.gethostname()}"


def _placed(lake: Lake, hold: Hold) -> Placed:
    placed = Placed(hold)
    for name in retained.tables(lake.ledger.engine):
        if name in BESIDE or hold.table_name not in (None, name):
            continue
        for partition in retained.partitions(lake.ledger.engine, name):
            if hold.covers(name, partition.values):
                placed.partitions += 1
                placed.rows += partition.rows
    for _, source, _, _, entries in replays.quarantine_files(lake.ledger, QUARANTINE):
        placed.quarantined += entries if quarantine.keeping([hold], source) else 0
    for gone in retained.gone(lake.ledger.engine):
        if hold.covers(gone.table, gone.values):
            placed.files_only += gone.has_files
            placed.lost += not gone.has_files
    return placed
