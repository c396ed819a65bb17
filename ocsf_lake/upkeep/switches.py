"""Calls of AWS's API that changed what is recorded of a log, as CloudTrail has them in the lake.

Each source declares which calls these are, see `ocsf_mappers.vocabulary.source.Switches`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from ocsf_lake.lake import Lake
from ocsf_lake.query import query, verified
from ocsf_lake.storage import layout
from ocsf_lake.upkeep.streams import Stream
from ocsf_mappers import registry, sqltext
from ocsf_mappers.vocabulary.source import Switches

MOST = 10_000
"""So many calls are taken, the latest ones."""


class Kind(StrEnum):
    """What a call does to a log: nothing more of it may come, it comes again, or more or less of it comes."""

    OFF = "off"
    ON = "on"
    CHANGED = "changed"


EFFECTS = {Kind.OFF: "switched off", Kind.ON: "switched on", Kind.CHANGED: "changed"}


@dataclass(frozen=True)
class Change:
    """A call that changed what is recorded, or tried to.

    Args:
        source: The source that it is about.
        kind: What it does.
        operation: Name of the call.
        time: When, UTC.
        who: Who called.
        account: The account it is recorded in.
        region: The region it was called in.
        uid: `metadata.uid` of its event.
        done: Whether it was; else it was refused.
        wide: See `Switches`.
    """

    source: str
    kind: Kind
    operation: str
    time: datetime
    who: str
    account: str
    region: str
    uid: str
    done: bool
    wide: bool = False

    @property
    def effect(self) -> str:
        """What it did, in words."""
        return EFFECTS[self.kind] if self.done else "refused"

    def as_dict(self) -> dict[str, Any]:
        """It in JSON's types."""
        return {
            "time": f"{self.time:%Y-%m-%dT%H:%M:%SZ}", "operation": self.operation, "effect": self.effect,
            "who": self.who, "account": self.account, "region": self.region, "uid": self.uid,
        }  # fmt: skip

    def concerns(self, stream: Stream) -> bool:
        """Whether a stream may be changed by it."""
        name = stream.name
        if name.source != self.source:
            return False
        if self.wide:
            return stream.organization or name.account in (self.account, layout.UNKNOWN)
        # Of global services the region in the names of log files is none.
        of_region = name.region in (self.region, layout.UNKNOWN) or "-" not in name.region
        return of_region and name.account in (self.account, layout.UNKNOWN)

    def __str__(self) -> str:
        return f"{self.operation} by {self.who} at {self.time:%Y-%m-%dT%H:%M:%SZ} (event {self.uid})"


def calls(lake: Lake, first: date, last: date, days: Iterable[int], source: str | None = None) -> list[Change]:
    """Calls of some days that changed what is recorded, by time.

    Args:
        lake: The lake.
        first: First day; the one before it is looked through too.
        last: Last day, included.
        days: Other days that are looked through, and those after each, in days since 1970.
        source: Only calls about this source.

    Raises:
        ReadError: A file of the lake is gone or damaged.
    """
    about = {
        (switch.service, operation): None
        for name, registered in registry.sources().items() if source in (None, name)
        for switch in registered.switches for operation in (*switch.off, *switch.on, *switch.changed)
    }  # fmt: skip
    tables = [registered.calls for registered in registry.sources().values() if registered.calls]
    if not about:
        return []
    changes: list[Change] = []
    for table in tables:
        if lake.files.partitions(table):
            sql = _sql(table, sorted(about), first, last, sorted(days))
            with query.connected(lake.settings, sql) as connection:
                rows = connection.sql(sql).fetchall()
                verified.check(connection)
            for row in rows:
                changes += _changes(row, source)
    return sorted(changes, key=lambda change: (change.time, change.uid, change.source))


def _sql(table: str, about: Sequence[tuple[str, str]], first: date, last: date, days: Sequence[int]) -> str:
    operations = sorted({operation for _, operation in about})
    epoch = date(1970, 1, 1)
    others = sorted({epoch + timedelta(days=day + step) for day in days for step in (0, 1)})
    chosen = [f"eventday BETWEEN '{first - timedelta(days=1):%Y%m%d}' AND '{last + timedelta(days=1):%Y%m%d}'"]
    chosen += [f"eventday = '{day:%Y%m%d}'" for day in others]
    listed = ", ".join(map(sqltext.text, operations))
    return (
        "SELECT time_dt, api.service.name, api.operation, coalesce(actor.user.uid, actor.user.name, 'unknown'), "
        "accountid, region, coalesce(metadata.uid, ''), coalesce(status, '') <> 'Failure' "
        f"FROM {sqltext.name(table)} WHERE ({' OR '.join(chosen)}) AND api.operation IN ({listed}) "
        f"AND time_dt IS NOT NULL ORDER BY time_dt DESC LIMIT {MOST}"
    )


def _changes(row: tuple[object, ...], source: str | None) -> Iterator[Change]:
    """The changes that a call is, one for each source that it concerns."""
    time, service, operation, who, account, region, uid, done = row
    assert isinstance(time, datetime)
    for name, registered in registry.sources().items():
        if source not in (None, name):
            continue
        for switch in registered.switches:
            if switch.service == service and (kind := _kind(switch, str(operation))):
                yield Change(
                    name, kind, str(operation), time, str(who), str(account), str(region), str(uid), bool(done),
                    switch.wide,
                )  # fmt: skip


def _kind(switch: Switches, operation: str) -> Kind | None:
    return next((kind for kind in Kind if operation in getattr(switch, kind.value)), None)
