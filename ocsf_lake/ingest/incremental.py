"""What is new: the deliveries of the last days, listed again each time, less what the ledger has.

Keys arrive out of order and late, so neither the last key nor the time of an event says what is new; the ledger does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ocsf_lake.config import Settings
from ocsf_lake.ingest import backfill
from ocsf_lake.ingest.plan import Planned
from ocsf_lake.inputs import deliveries
from ocsf_lake.inputs.deliveries import Wanted
from ocsf_lake.inputs.window import Window


def plan_fresh(
    source: str, uri: str, settings: Settings, now: datetime, sweep: bool = False,
    accounts: tuple[str, ...] = (), regions: tuple[str, ...] = (),
) -> Planned:  # fmt: skip
    """Plans what was delivered lately and is not in the lake.

    Args:
        source: Name of the source.
        uri: Bucket or folder.
        settings: The lake and the bounds of batches.
        now: The time, with a zone.
        sweep: Look back as far as AWS may deliver late, instead of as far as it usually does.
        accounts: Only these; empty for all.
        regions: Only these; empty for all.

    Raises:
        ConfigError: There is no such source, nothing at the URI, or nothing of an account or region.
    """
    delivery = deliveries.delivery(source)
    today = now.astimezone(UTC).date()
    first = today - timedelta(days=delivery.sweep_days if sweep else delivery.hot_days)
    wanted = Wanted(first, today, tuple(accounts), tuple(regions))
    return backfill.plan_window(Window(source, uri, wanted, lake=settings.lake), settings)
