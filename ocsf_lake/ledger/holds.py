"""Legal holds: what nobody may remove until they are released, whatever a rule of retention says.

A hold is for an account, a table, a span of event days, or what several of them have in common; what is left open
counts for all. Events whose account or day is not known may be those that it means, so it keeps them too. A hold stays
here when it is released, with who did it and when.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger import chain, marker, records
from ocsf_lake.ledger.database import has, lock, upsert
from ocsf_lake.ledger.ledger import now
from ocsf_lake.ledger.tables import HOLDS
from ocsf_lake.storage import layout
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import ConfigError, RetriableError, nearest

ID_DIGITS = 12


class HeldError(RetriableError):
    """A hold was placed on what was about to be removed."""


@dataclass(frozen=True)
class Hold:
    """A legal hold.

    Args:
        account: Only of this account; None for all.
        table_name: Only of this table; None for all.
        first_day: First event day, `YYYYMMDD`; None where the span is open.
        last_day: Last event day, included; None where the span is open.
        reason: Why.
        placed_by: Who placed it.
        placed_at: When.
        id: Its name.
        released_by: Who released it.
        released_at: When; None while it stands.
        release_reason: Why it was released.
    """

    account: str | None
    table_name: str | None
    first_day: str | None
    last_day: str | None
    reason: str
    placed_by: str
    placed_at: str = ""
    id: str = ""
    released_by: str | None = None
    released_at: str | None = None
    release_reason: str | None = None

    def covers(self, table: str, values: Sequence[str]) -> bool:
        """Whether it keeps a partition: of a table, with a region, an account and a day."""
        _, account, day = values
        return (
            (self.table_name in (None, table))
            and (self.account is None or account in (self.account, layout.UNKNOWN))
            and (day == layout.UNKNOWN or (self.first_day or "") <= day <= (self.last_day or "~"))
        )

    @property
    def subject(self) -> str:
        """What it keeps, in words."""
        parts = [f"account {self.account}"] if self.account else []
        parts += [f"table {self.table_name}"] if self.table_name else []
        if self.first_day or self.last_day:
            parts.append(f"days {self.first_day or '...'} to {self.last_day or '...'}")
        return ", ".join(parts) or "everything"


def of(holds: Iterable[Hold], table: str, values: Sequence[str]) -> list[Hold]:
    """Those of some holds that keep a partition."""
    return [hold for hold in holds if hold.covers(table, values)]


def active(connection: sa.Connection) -> list[Hold]:
    """The holds that stand, as they were placed."""
    return _holds(connection, HOLDS.c.released_at.is_(None))


def listed(engine: sa.Engine) -> list[Hold]:
    """All holds, also those that were released, as they were placed."""
    with engine.connect() as connection:
        return _holds(connection) if has(connection, HOLDS) else []


def _holds(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Hold]:
    query = sa.select(HOLDS).where(*conditions).order_by(HOLDS.c.placed_at, HOLDS.c.id)
    return [Hold(**row) for row in connection.execute(query).mappings()]


def keep(connection: sa.Connection) -> list[Hold]:
    """The holds that stand, for who removes something in this transaction: until it ends no other one is placed."""
    lock(connection, "holds", shared=True)
    return active(connection)


def check(connection: sa.Connection, table: str, partitions: Iterable[str]) -> None:
    """Whether no hold keeps one of these partitions, in the transaction that decides about them.

    Raises:
        HeldError: One does.
    """
    standing = keep(connection)
    for values in partitions:
        if holds := of(standing, table, values.split("/")):
            raise HeldError(f"hold {holds[0].id} was placed meanwhile", table=table, partition=values)


def place(engine: sa.Engine, store: Store, hold: Hold) -> Hold:
    """Places a hold: when this returns, nothing of what it covers and is still there is removed.

    Args:
        engine: The ledger.
        store: The lake's files, which have a record of it from before the ledger has.
        hold: Without id and time.

    Raises:
        WriteError: The lake or the ledger refused.
        RetriableError: The store or the database does not answer.
    """
    placed = replace(hold, id=uuid.uuid4().hex[:ID_DIGITS], placed_at=now())
    return _put(engine, store, placed)


def release(engine: sa.Engine, store: Store, hold_id: str, by: str, reason: str | None) -> Hold:
    """Releases a hold; it stays in the ledger.

    Raises:
        ConfigError: There is none of this id, or it was released before.
        WriteError: The lake or the ledger refused.
        RetriableError: The store or the database does not answer.
    """
    by_id = {hold.id: hold for hold in listed(engine)}
    if (hold := by_id.get(hold_id)) is None:
        raise ConfigError(f"there is no hold {hold_id!r}{nearest(hold_id, by_id)}; `ocsf-lake hold list` has them")
    if hold.released_at is not None:
        raise ConfigError(f"hold {hold_id} was released already, at {hold.released_at} by {hold.released_by}")
    return _put(engine, store, replace(hold, released_by=by, released_at=now(), release_reason=reason))


def _put(engine: sa.Engine, store: Store, hold: Hold) -> Hold:
    # The number first, for good: a record with one that the ledger has not given would look like that of a newer
    # ledger. Then the record: whoever dies after it has a hold too many if the ledger is rebuilt, and none too few.
    with engine.begin() as connection:
        number = marker.next_number(connection)
    row: dict[str, Any] = asdict(hold)
    record = records.write_moved(store, number, f"hold_{hold.id}", {HOLDS.name: [row]}, {})
    with engine.begin() as connection:
        lock(connection, "holds")
        upsert(connection, HOLDS, ("id",), [row])
        chain.append(connection, kind="hold", subject=hold.id, detail={"hold": row, "beside": [record]})
    return hold
