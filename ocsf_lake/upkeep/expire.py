"""Earlier moments of tables that readers of Iceberg may go back to, forgotten when they are old enough.

Each batch is a snapshot, and each snapshot keeps files alive that were merged or taken out since. If none ever went,
metadata would grow with every batch, and files that a compaction has merged would never be removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ocsf_lake.catalogs.base import Expired
from ocsf_lake.config import Settings
from ocsf_lake.lake import opened
from ocsf_lake.ledger import holds
from ocsf_lake.text import plural, size
from ocsf_mappers import registry

OLDER_THAN = timedelta(days=5)
"""As long as S3 Tables keeps them."""

Clock = Callable[[], datetime]


@dataclass
class Summary:
    """What expired, or would expire.

    Args:
        tables: What became of each table that had something to forget.
        left: Catalog, or catalog and table -> why it is left alone.
        is_dry: Whether nothing was done, only reported what would be.
    """

    tables: list[Expired] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    is_dry: bool = False

    @property
    def message(self) -> str:
        """The run in one line."""
        snapshots, files, bytes_ = (sum(getattr(item, name) for item in self.tables) for name in _COUNTED)
        would = "would be " if self.is_dry else ""
        removed = f"{plural(files, 'file')} of metadata {would}removed ({size(bytes_)})"
        return f"{plural(snapshots, 'snapshot')} {would}expired, {removed}"


_COUNTED = ("snapshots", "files", "bytes")


def _now() -> datetime:
    return datetime.now(UTC)


def expire(
    settings: Settings, older_than: timedelta = OLDER_THAN, *, dry_run: bool = False, clock: Clock = _now
) -> Summary:
    """Forgets snapshots that were made so long ago; what a table is now stays, however long ago it became so.

    A table of which a legal hold keeps something is left alone: what it was earlier may be what the hold is about.

    Args:
        settings: The lake.
        older_than: Their age.
        dry_run: Only report what would be done.
        clock: Gives the time, with a zone.

    Raises:
        WriteError: A catalog refused.
        RetriableError: A catalog or store does not answer.
    """
    summary = Summary(is_dry=dry_run)
    before = clock() - older_than
    with opened(settings, with_retries=True) as lake:
        standing = [hold for hold in holds.listed(lake.ledger.engine) if hold.released_at is None]
        for catalog in lake.catalog.all:
            for table in sorted(registry.tables()):
                hold = next((hold for hold in standing if hold.table_name in (None, table)), None)
                done = catalog.expire(table, before, dry_run=dry_run or hold is not None)
                if hold is not None and isinstance(done, Expired):
                    if done.snapshots:
                        summary.left[f"{catalog.name} {table}"] = f"hold {hold.id} keeps {hold.subject}"
                    continue
                if isinstance(done, str):
                    summary.left[catalog.name] = done
                elif done is not None and (done.snapshots or done.files):
                    summary.tables.append(done)
    return summary
