"""What is new of one source: the deliveries since the last look, and of some days before, less what the ledger has."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ocsf_lake.config import Settings
from ocsf_lake.ingest import backfill
from ocsf_lake.ingest.plan import Planned, mappers
from ocsf_lake.ingest.relisting import first_day
from ocsf_lake.inputs import deliveries
from ocsf_lake.inputs.deliveries import Scope
from ocsf_lake.inputs.window import Window
from ocsf_lake.lake import opened
from ocsf_lake.ledger import listings
from ocsf_lake.storage import retry


def plan_fresh(
    source: str, uri: str, settings: Settings, now: datetime, sweep: bool = False,
    accounts: tuple[str, ...] = (), regions: tuple[str, ...] = (),
) -> Planned:  # fmt: skip
    """Plans what was delivered lately of one source and is not in the lake.

    The first time that is what was delivered in the last days, and the coverage lists what older objects there are;
    later, everything since the run before, and as many days more.

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
    days = delivery.sweep_days if sweep else delivery.lookback_days
    kinds = ["days", "sweep"] if sweep else ["days"]
    what = [json.dumps([kind, sorted(accounts), sorted(regions)]) for kind in kinds]
    usable, _ = mappers(source, settings)
    with opened(settings, with_retries=True) as lake:
        engine = lake.ledger.engine
        since = retry.with_retries(listings.remembered, engine, uri, source, "").get(what[-1], now)
        scope = Scope(first_day(since, now, days), now.astimezone(UTC).date(), tuple(accounts), tuple(regions))
        planned = backfill.plan_window(Window(source, uri, scope, lake=settings.lake), lake, usable)
        if not planned.refused:
            retry.with_retries(listings.remember, engine, [uri], source, what, "", now)
        return planned
