"""A report of many accounts, whose names and reasons are as hostile as logs can be; no lake is behind most of it."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime

from ocsf_lake.config import Settings
from ocsf_lake.ledger.reported import New, Stored
from ocsf_lake.pages import asked, heat, lag
from ocsf_lake.pages.facts import Facts
from ocsf_lake.upkeep.health import Alarm

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "\u202eevil\u202c",
    "\"><svg onload=alert(2)>'`${7*7}{{7*7}}$(id);id",
    "\x1b[31mred\x00",
    "\ud800 \ufffe \uffff",
    "a" * 300,
)
DAYS = heat.day_range(date(2026, 1, 1), date(2026, 3, 31))


def facts(settings: Settings, sources: int = 13, accounts: int = 100) -> Facts:
    """Ninety days of sources and accounts; one day of 600 lacks something."""
    chance = random.Random(7)
    states, weights = ("complete and proved", "late", "missing", "present"), (97, 1, 0.17, 2)
    every = []
    for number in range(sources):
        source = heat.Source(f"aws_source_{number}")
        for account in range(accounts):
            name = f"{account:012d}" if account else HOSTILE[number % len(HOSTILE)]
            source.rows.append(heat.Row(name, chance.choices(states, weights, k=len(DAYS))))
        source.settle()
        every.append(source)
    names = [source.name for source in every]
    classes = ("API Activity", "Network Activity", "DNS Activity", "HTTP Activity", "Detection Finding")
    return Facts(
        settings, datetime(2026, 4, 1, 6, tzinfo=UTC), DAYS,
        heat=heat.Heat(DAYS, every, judged=True),
        lags=lag.Lags([lag.Lag(n, d, 5, chance.uniform(8, 400), 10) for n in names for d in DAYS], [], cut=False),
        volume={(day, name): chance.randint(10**4, 10**6) for day in DAYS for name in classes},
        spent={}, stored=[Stored("vpc_flow", 10**9, 5_000, 2 * 10**9, "20250101", "20260331")], aside_bytes=10**6,
        drift=[New("aws_cloudtrail", "member", text, text, "2026-03-01T00:00", 5) for text in HOSTILE],
        drift_number=99, not_read=[], failing=[], replaced=2, without_source=[HOSTILE[0]], listed={},
        alarms=[Alarm(check, text, text) for check in ("failed", "freshness") for text in HOSTILE],
        refused=asked.Refused(tuple(asked.Reason("aws_vpc_flow", text, 10, 2, text) for text in HOSTILE), 40, 90),
        findings=[
            asked.FindingCount("guardduty_latest", text, severity, 3, f"x = {number}")
            for number, text in enumerate(HOSTILE) for severity in ("Critical", "High", "Medium", "Low", "Unknown")
        ],
        not_looked=[HOSTILE[0], f"quarantine: {HOSTILE[1]}"],
    )  # fmt: skip
