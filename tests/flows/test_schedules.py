"""`H` in cron expressions: a number that is the same each time, and another one for another lake."""

from __future__ import annotations

import pytest

from ocsf_lake.flows import schedules
from ocsf_mappers.errors import ConfigError

KEYS = [f"ingest/aws_cloudtrail of s3://lake-{number}" for number in range(200)]


@pytest.mark.parametrize(
    ("cron", "field", "expected"),
    [
        ("H * * * *", 0, {str(minute) for minute in range(60)}),
        ("H/5 * * * *", 0, {f"{first}-59/5" for first in range(5)}),
        ("H(10-19)/5 * * * *", 0, {f"{first}-19/5" for first in range(10, 15)}),
        ("7 H(3-5) * * *", 1, {"3", "4", "5"}),
        ("7 3 H * *", 2, {str(day) for day in range(1, 29)}),
        ("7 3 * * H", 4, {str(day) for day in range(7)}),
    ],
)
def test_every_number_of_a_field_is_some_key_s(cron: str, field: int, expected: set[str]) -> None:
    found = [schedules.resolved(cron, f"{key} {more}").split() for key in KEYS for more in range(4)]
    assert {fields[field] for fields in found} == expected
    for fields in found:
        assert [*fields[:field], *fields[field + 1 :]] == [*cron.split()[:field], *cron.split()[field + 1 :]]


def test_the_numbers_of_a_key_stay() -> None:
    """A deploy after an upgrade must not move every schedule."""
    assert schedules.resolved("H H(3-5) * * *", KEYS[0]) == "30 4 * * *"


def test_an_expression_without_h_stays_as_it_is() -> None:
    for cron in ("41 3 * * THU", "@hourly", "*/5 0-3 1,15 MAR *"):
        assert schedules.resolved(cron, KEYS[0]) == cron


@pytest.mark.parametrize(
    "cron", ["H", "H/0 * * * *", "H/61 * * * *", "H,5 * * * *", "H(5-3) * * * *", "0 H(3-24) * * *"]
)
def test_an_h_that_fits_nowhere_is_refused(cron: str) -> None:
    with pytest.raises(ConfigError, match="cron '"):
        schedules.resolved(cron, KEYS[0])
