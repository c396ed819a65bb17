"""Lost files that nothing can bring back: the lake goes on without their rows, if somebody decides so.

A file is lost that the ledger has and the store has not; a store that does not answer has lost nothing. What can be
made again is left to `ocsf-lake catalog sync` and `ocsf-lake backfill --remap`. Of the others

1. a record is written into the lake,
2. the ledger forgets them, in one transaction, and notes what went, why, by whose decision and when,
3. catalogs are updated.

Whoever dies in between is continued by running it again, or by a sync. Batches, their counts and objects stay in the
ledger: what was read stays read. A file that is there again afterwards is taken back, see `ocsf_lake.upkeep.returned`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field

from ocsf_lake.catalogs import definitions
from ocsf_lake.catalogs.definitions import BESIDE, OUTCOMES, QUARANTINE, definition
from ocsf_lake.config import Settings
from ocsf_lake.ingest import moving
from ocsf_lake.lake import Lake, exists, no_lake, opened
from ocsf_lake.ledger import holds, replays, written_off
from ocsf_lake.ledger.holds import Hold
from ocsf_lake.ledger.ledger import now
from ocsf_lake.ledger.written_off import Decision
from ocsf_lake.text import plural
from ocsf_lake.upkeep import check, compact, hold, quarantine, rebuild
from ocsf_lake.upkeep import lost as lost_files
from ocsf_lake.upkeep.lost import Lost, Way
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError, nearest


@dataclass(frozen=True)
class Part:
    """A lost file.

    Args:
        table: Its table.
        partition: Values of its partition, with `/` between.
        source: Source of its rows.
        rows: How many it had.
        path: Below the lake's root.
        way: What can be done about it, see `Way`.
        why: Why it cannot be made again.
        holds: Names of the legal holds that cover its partition.
    """

    table: str
    partition: str
    source: str
    rows: int
    path: str
    way: Way
    why: str
    holds: tuple[str, ...] = ()


@dataclass
class Summary:
    """What was written off, or would be.

    Args:
        parts: The files.
        left: Lost files that can be mended, or may be.
        ways: What can be done about those, in words.
        sent: Objects that an export which was not done has put, or may have, with rows of these files.
        copied: Whether a table in S3 Tables may have copies of the rows, which go with it.
        busy: What another run works on.
        is_dry: Whether nothing was done, only reported what would be.
    """

    parts: list[Part] = field(default_factory=list)
    left: list[Part] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    copied: bool = False
    busy: list[str] = field(default_factory=list)
    is_dry: bool = False

    @property
    def message(self) -> str:
        """The run in one line."""
        if not self.parts:
            message = ["nothing to write off"]
        else:
            rows, files = plural(sum(part.rows for part in self.parts), "row"), plural(len(self.parts), "lost file")
            message = [f"{rows} of {files} {'to be written off' if self.is_dry else 'written off'}"]
        if self.left:
            message.append(f"{plural(len(self.left), 'lost file')} left, which may be recoverable")
        return "; ".join(message)


def write_off(
    settings: Settings, table: str | None = None, reason: str = "", by: str | None = None, *,
    all_of_them: bool = False, dry_run: bool = False,
) -> Summary:  # fmt: skip
    """Makes the lake go on without the rows of lost files that cannot be made again.

    Args:
        settings: The lake.
        table: Only files of this one.
        reason: Why it is to do without them.
        by: Who decided it; None for the user of this process.
        all_of_them: Also those that could be made again if something was mended first, as access to raw objects.
        dry_run: Only report what would be done.

    Raises:
        ConfigError: There is no such lake or table; or no reason.
        WriteError: The lake or a catalog refused; running again continues.
        RetriableError: A store, catalog or database does not answer.
    """
    names = definitions.names()
    if table is not None and table not in names:
        raise ConfigError(f"no table {table!r}{nearest(table, names)}")
    if not dry_run and not reason.strip():
        raise ConfigError("say why these rows are given up: --reason")
    if not exists(settings):
        raise no_lake(settings)
    summary = Summary(is_dry=dry_run)
    with opened(settings, with_retries=not dry_run) as lake:
        decision = Decision(reason.strip(), by or hold.user(), now())
        ways = {Way.WRITE_OFF, *([Way.MEND_FIRST] if all_of_them else [])}
        for name in sorted(registry.tables()) if not dry_run else ():
            moving.settle(lake, name)  # lost files get their last names
        due = _judge(lake, table, ways, summary)
        while due and not dry_run:
            of_due = sorted({part.table for part in due})
            done = [part for name in of_due for part in _table(lake, name, due, decision, summary)]
            summary.parts += done
            due = _judge(lake, table, ways, summary) if done else []  # what waited for these can be judged now
        if dry_run:
            summary.parts = due
        else:
            summary.busy += check.repair_catalogs(lake)
        summary.copied = _are_copied(settings) and any(part.table not in BESIDE for part in summary.parts)
    return summary


def _judge(lake: Lake, table: str | None, ways: Set[Way], summary: Summary) -> list[Part]:
    """The files of a table, or of all, that can be written off; notes the others."""
    lost = _lost(lake)
    due = _due(lost, ways)
    standing = [one for one in holds.listed(lake.ledger.engine) if one.released_at is None]
    of_table = [item for item in lost if table in (None, item.file.partition.table)]
    summary.left = [_part(item, standing) for item in of_table if item.file.path not in due]
    summary.ways = list(lost_files.ways(item for item in of_table if item.file.path not in due))
    return [_part(item, standing) for item in of_table if item.file.path in due]


def _are_copied(settings: Settings) -> bool:
    if "iceberg" not in settings.catalogs:
        return False
    from ocsf_lake.catalogs import iceberg_connection  # which takes long to load

    return iceberg_connection.are_copied(settings.iceberg_files, settings.iceberg_properties)


def _lost(lake: Lake) -> list[Lost]:
    """The files that are gone, with what can be done about each."""
    paths = lost_files.by_batch(check.missing(lake))
    lost: list[Lost] = []
    judge = lost_files.Judge(lake)
    for batch_id in lake.ledger.in_order(paths.keys()):
        why = rebuild.rebuild_batch(lake, batch_id, paths[batch_id], dry_run=True)
        lost += judge.judged(batch_id, paths[batch_id], why)
    return sorted(lost, key=lambda item: item.file.path)


def _due(lost: Sequence[Lost], ways: Set[Way]) -> set[str]:
    """Paths of those that nothing can bring back. One that waits for others has none of its source to wait for."""
    has_others = {item.source for item in lost if item.way is not Way.OTHERS_FIRST}
    alone = {item.file.path for item in lost if item.way is Way.OTHERS_FIRST and item.source not in has_others}
    return alone | {item.file.path for item in lost if item.way in ways}


def _part(item: Lost, standing: Sequence[Hold]) -> Part:
    partition = item.file.partition
    if partition.table in BESIDE:
        is_kept = partition.table in (QUARANTINE, OUTCOMES)
        keeping = quarantine.keeping(standing, item.source) if is_kept else []
    else:
        keeping = holds.of(standing, partition.table, partition.values)
    return Part(
        partition.table, "/".join(partition.values), item.source, item.file.rows, item.file.path, item.way, item.why,
        tuple(one.id for one in keeping),
    )  # fmt: skip


def _table(lake: Lake, table: str, due: Sequence[Part], decision: Decision, summary: Summary) -> list[Part]:
    """Writes off what is due of one table and is gone still; gives that."""
    parts = [part for part in due if part.table == table]
    with ExitStack() as stack:
        lease = stack.enter_context(lake.leases.held(moving.lease(table)))
        sources = sorted({part.source for part in parts}) if table in BESIDE else []
        if lease is None or None in [stack.enter_context(replays.held(lake.leases, name)) for name in sources]:
            summary.busy.append(f"table {table}: {moving.BUSY}")
            return []
        if table not in BESIDE:
            compact.settle_open(lake, table, lease)
        gone = {item.item for item in check.missing(lake, [definition(table)])}
        causes = {part.path: part.why for part in parts if part.path in gone}
        lease.check()
        if causes:
            summary.sent += written_off.write_off(lake.ledger.engine, lake.store, table, causes, decision)
            lake.publish_chain()
    return [part for part in parts if part.path in causes]
