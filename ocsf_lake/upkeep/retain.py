"""Events whose time is over go: whole partitions, by the rules in the settings, from every catalog and then from disk.

A partition is taken into its next generation as a compaction takes it (see `ocsf_lake.upkeep.compact`, whose fence,
steps and time of grace this shares), with nothing in it:

1. The plan is noted in the ledger, and the partitions get a fence, in a transaction that finds no hold on them. From
   here on it can only go on; a batch that meets the fence of one that died finishes it.
2. Glue forgets the partitions, Iceberg gets one snapshot without their files. The record is written.
3. The ledger has the files no more, in one transaction, which notes what went and by which rule.
4. After the time of grace for queries that are under way the files are removed.

Objects and batches stay in the ledger, so nothing is read again. Records that are delivered later for a day that went
are mapped into the new generation, and go with the next run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from ocsf_lake.catalogs.definitions import BESIDE, QUARANTINE, definition
from ocsf_lake.config import Settings
from ocsf_lake.ingest import moving
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import holds, retained
from ocsf_lake.ledger.compactions import Compactions, StaleError
from ocsf_lake.ledger.holds import HeldError, Hold
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.moves import Move, Plan
from ocsf_lake.ledger.results import ID_DIGITS
from ocsf_lake.query import query as lake_query
from ocsf_lake.retention import Rule, longest
from ocsf_lake.storage import layout
from ocsf_lake.text import plural, size
from ocsf_lake.upkeep import compact, quarantine, retired
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError, nearest

MOST_PARTITIONS = 100
"""Partitions that go at one moment, in Iceberg and in the ledger."""

NO_SOURCE = "no source that can be used has such a table, so which rule is for its events is not known"

Clock = Callable[[], datetime]


@dataclass
class Part:
    """Partitions of a table and account that one rule, and perhaps one hold, is for.

    Args:
        table: The table; `quarantine` for records that did not become events.
        account: The account; of quarantine, the source.
        first: First event day, `YYYYMMDD` or `unknown`; of quarantine, the first day of arrival.
        last: The last one.
        rule: By which rule their time is over.
        hold: The hold that keeps them; "" where they go.
        reason: Why the hold was placed.
        partitions: How many they are; of quarantine, files.
        rows: Their events, or records.
        files: Their files.
        bytes: Size of the files; None where it is not known.
    """

    table: str
    account: str
    first: str
    last: str
    rule: str
    hold: str = ""
    reason: str = ""
    partitions: int = 0
    rows: int = 0
    files: int = 0
    bytes: int | None = 0


@dataclass
class Summary:
    """What went, or would go.

    Args:
        parts: What went, or would.
        held: What would have gone and a hold keeps.
        removed: Files of earlier runs, and of compactions, that were removed, as their time of grace was over.
        removed_bytes: Their size.
        of_versions: What became of versions of files that were removed before under Object Lock.
        refused: Table -> why nothing of it can go.
        busy: Tables, and sources' quarantines, that another worker works on.
        waiting: Partitions left to the next run, as somebody else works on their files.
        is_set: Whether any rule is set.
        is_dry: Whether nothing was done, only reported what would be.
    """

    parts: list[Part] = field(default_factory=list)
    held: list[Part] = field(default_factory=list)
    removed: int = 0
    removed_bytes: int = 0
    of_versions: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    waiting: int = 0
    is_set: bool = True
    is_dry: bool = False

    @property
    def message(self) -> str:
        """The run in one line."""
        if not self.is_set:
            return "no retention is set, so nothing is removed; set it under [retention] in the settings"
        events = [part for part in self.parts if part.table != QUARANTINE]
        records = sum(part.rows for part in self.parts if part.table == QUARANTINE)
        partitions = plural(sum(part.partitions for part in events), "partition")
        verb = "would be removed" if self.is_dry else "removed"
        what = f"{plural(sum(part.rows for part in events), 'event')} of {partitions} {verb}"
        freed = size(sum(part.bytes or 0 for part in events))
        message = [f"{what} ({freed})" if events else "no events are past their retention period"]
        if records:
            message.append(f"{plural(records, 'record')} in quarantine {verb}")
        if self.held:
            message.append(f"{plural(sum(part.rows for part in self.held), 'row')} kept by legal holds")
        if self.removed:
            message.append(f"{plural(self.removed, 'file')} of an earlier run removed ({size(self.removed_bytes)})")
        message += self.of_versions
        if self.waiting:
            waiting = plural(self.waiting, "partition")
            message.append(f"{waiting} left to the next run, as their files are in use")
        if self.busy:
            message.append(f"another run is working on {', '.join(self.busy)}")
        return "; ".join(message)


def _now() -> datetime:
    return datetime.now(UTC)


def retain(
    settings: Settings, table: str | None = None, *, dry_run: bool = False, clock: Clock = _now
) -> Summary:  # fmt: skip
    """Removes the events, and records in quarantine, whose time is over by the rules in the settings.

    Args:
        settings: The lake; the rules and the time of grace.
        table: Only this one, or `quarantine`.
        dry_run: Only report what would go; permission to read is enough.
        clock: Gives the time, with a zone.

    Raises:
        ConfigError: There is no such table, or a rule is for a source or table that there is not.
        LostError: Another worker may have taken over; running again continues.
        WriteError: The lake or a catalog refused; running again continues.
        RetriableError: A store, catalog or database does not answer.
    """
    rules = settings.retention
    with opened(settings, with_retries=not dry_run, reading=dry_run, catalogs=True) as lake:
        names = sorted(registry.tables())
        if table not in (None, QUARANTINE, *names):
            raise ConfigError(f"no table {table!r}{nearest(str(table), [*names, QUARANTINE])}")
        rules.check(registry.names(), names)
        summary = Summary(is_dry=dry_run, is_set=rules.is_set)
        run = _Run(lake, clock().astimezone(UTC).date(), _standing(lake), summary)
        if rules.is_set:
            for name in retained.tables(lake.ledger.engine):
                if table in (None, name) and name in names:
                    run.table(name)
                elif table is None and name not in (*names, *BESIDE) and rules.may_end(name):
                    summary.refused[name] = NO_SOURCE
            if table in (None, QUARANTINE):
                run.quarantine()
        if rules.is_set and not dry_run:
            removed = retired.remove(lake, clock())
            summary.removed, summary.removed_bytes = removed.files, removed.bytes
            summary.of_versions = removed.of_versions
    return summary


def _standing(lake: Lake) -> list[Hold]:
    return [hold for hold in holds.listed(lake.ledger.engine) if hold.released_at is None]


@dataclass
class _Due:
    """A partition whose time is over."""

    partition: retained.Held
    rule: Rule


@dataclass
class _Run:
    lake: Lake
    today: date
    holds: list[Hold]
    summary: Summary

    # -- events -------------------------------------------------------------------------------------------------------
    def table(self, table: str) -> None:
        """Removes what is over of one table."""
        name = moving.lease(table)
        with nullcontext(None) if self.summary.is_dry else self.lake.leases.held(name) as lease:
            if not self.summary.is_dry:
                if lease is None:
                    self.summary.busy.append(table)
                    return
                compact.settle_open(self.lake, table, lease)
            due = [item for item in self._due(table) if not self._is_kept(table, item)]
            if due and (reason := self._refusal(table)) is not None:
                self.summary.refused[table] = reason
                return
            for start in range(0, len(due), MOST_PARTITIONS):
                some = due[start : start + MOST_PARTITIONS]
                for item in some if lease is None else self._removed(table, some, lease):
                    _add(self.summary.parts, table, item)

    def _due(self, table: str) -> Iterator[_Due]:
        for partition in retained.partitions(self.lake.ledger.engine, table):
            if (rule := self.over(table, partition)) is not None:
                yield _Due(partition, rule)

    def over(self, table: str, partition: retained.Held) -> Rule | None:
        """The rule by which a partition's time is over; None where it is not.

        Its day is that of the events; where that is not known, that on which its last batch was done.
        """
        _, account, day = partition.values
        ended = partition.last_done[:10].replace("-", "") if day == layout.UNKNOWN else day
        of_day = datetime.strptime(ended, "%Y%m%d").replace(tzinfo=UTC).date()
        retention = self.lake.settings.retention
        rule = longest((retention.rule(source, table, account) for source in sorted(partition.sources)), of_day)
        until = rule.keep.until(of_day) if rule else None
        return rule if until is not None and until <= self.today else None

    def _is_kept(self, table: str, item: _Due) -> bool:
        """Whether a hold keeps a partition, which is reported with the first that does."""
        keeping = holds.of(self.holds, table, item.partition.values)
        if keeping:
            _add(self.summary.held, table, item, keeping[0])
        return bool(keeping)

    def _refusal(self, table: str) -> str | None:
        for catalog in self.lake.catalog.all:
            if (reason := catalog.unemptiable(definition(table))) is not None:
                return f"{catalog.name}: {reason}"
        return None

    def _removed(self, table: str, due: Sequence[_Due], lease: Lease) -> list[_Due]:
        """Removes partitions at one moment; gives those that were."""
        lease.check()
        compactions = Compactions(self.lake.ledger.engine)
        item_by_values = {"/".join(item.partition.values): item for item in due}
        moves = []
        for values, (generation, files) in sorted(compactions.partition_files(table, list(item_by_values)).items()):
            # The rule is for the events that were judged: what came since may be another source's, and kept longer.
            is_judged = len(files) == item_by_values[values].partition.files
            if not is_judged or any(item.is_shipping for item in files):
                self.summary.waiting += 1
                continue
            paths = tuple(item.file.path for item in files)
            moves.append(Move(values, generation + 1, (), {}, paths, str(item_by_values[values].rule)))
        if not moves:
            return []
        text = json.dumps(["retention", table, [[move.values, move.generation, move.removed] for move in moves]])
        plan = Plan(hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS], table, tuple(moves))
        try:
            compactions.plan(plan)
            moving.failpoint("planned", plan.id)
            plan = compactions.fence(plan)
        except (StaleError, HeldError):
            compact.abandon(self.lake, plan)
            self.summary.waiting += len(moves)
            return []
        moving.failpoint("fenced", plan.id)
        moving.forward(self.lake, plan, lease)
        return [item_by_values[move.values] for move in moves]

    # -- quarantine ---------------------------------------------------------------------------------------------------
    def quarantine(self) -> None:
        """Removes what is over of quarantine."""
        if not any(self.lake.settings.retention.of_quarantine(name) for name in registry.names()):
            return
        if not self.summary.is_dry:
            quarantine.finish_purges(self.lake)
        with lake_query.connected(self.lake.settings, f"FROM {QUARANTINE}") as connection:
            files = quarantine.purgeable(self.lake, connection, self._is_over, closed=False)
        for source in sorted({file.source for file in files}):
            own = [file for file in files if file.source == source]
            rule = self.lake.settings.retention.of_quarantine(source)
            keeping = quarantine.keeping(self.holds, source)
            if not keeping and not self.summary.is_dry:
                try:
                    own = quarantine.purge(self.lake, own)
                except quarantine.BusyError:
                    own = []
                    self.summary.busy.append(f"quarantine of {source}")
                if not own:
                    continue
            days = sorted(file.path.split("/")[-2].partition("=")[2] for file in own)
            part = Part(QUARANTINE, source, days[0], days[-1], str(rule), partitions=len(own), bytes=None)
            part.files, part.rows = len(own), sum(file.entries for file in own)
            if keeping:
                part.hold, part.reason = keeping[0].id, keeping[0].reason
            (self.summary.held if keeping else self.summary.parts).append(part)

    def _is_over(self, source: str, moment: datetime) -> bool:
        rule = self.lake.settings.retention.of_quarantine(source)
        until = rule.keep.until(moment.date()) if rule else None
        return until is not None and until <= self.today


def _add(parts: list[Part], table: str, item: _Due, hold: Hold | None = None) -> None:
    """Counts a partition with those of the same table, account, rule and hold, which come in the order of days."""
    _, account, day = item.partition.values
    key = (table, account, str(item.rule), hold.id if hold else "")
    part = next((part for part in parts if (part.table, part.account, part.rule, part.hold) == key), None)
    if part is None:
        part = Part(table, account, day, day, str(item.rule), key[3], hold.reason if hold else "")
        parts.append(part)
    part.first, part.last = min(part.first, day), max(part.last, day)
    part.partitions += 1
    part.rows += item.partition.rows
    part.files += item.partition.files
    part.bytes = (part.bytes or 0) + item.partition.bytes
