"""Schedules that spread out: `H` in a cron expression is a number of its own for each lake and deployment.

The sign is Jenkins' (https://www.jenkins.io/doc/book/pipeline/syntax/#cron-syntax). A hash chooses the number, so it is
the same at every deploy, and a hundred lakes on one server, or at one bucket, do not all begin at minute 0.
"""

from __future__ import annotations

import hashlib
import re

from ocsf_mappers.errors import ConfigError

FIELDS = {"minute": (0, 59), "hour": (0, 23), "day of month": (1, 28), "month": (1, 12), "day of week": (0, 6)}
"""The fields of a cron expression, in order, and what `H` alone may become; every month has 28 days."""
_HASHED = re.compile(r"H(?:\((\d+)-(\d+)\))?(?:/(\d+))?")


def resolved(cron: str, key: str) -> str:
    """A cron expression without `H`; one that has none stays as it is.

    `H` becomes one number of its field, `H(3-5)` one of these, `H/5` every fifth from one of the first five on.

    Args:
        cron: Five fields.
        key: Whose schedule it is; the same key gives the same numbers.

    Raises:
        ConfigError: A field begins with H and is none of these.
    """
    fields = cron.split()
    if not any(field.startswith("H") for field in fields):
        return cron
    if len(fields) != len(FIELDS):
        raise ConfigError(f"cron {cron!r}: {len(fields)} fields, and one with H has {len(FIELDS)}")
    return " ".join(_field(cron, field, name, key) for field, name in zip(fields, FIELDS, strict=True))


def _field(cron: str, field: str, name: str, key: str) -> str:
    if not field.startswith("H"):
        return field
    match = _HASHED.fullmatch(field)
    if match is None:
        raise ConfigError(f"cron {cron!r}: {field!r} is none of H, H/5, H(3-5) and H(0-29)/5")
    least, most = FIELDS[name]
    first, last = (least, most) if match[1] is None else (int(match[1]), int(match[2]))
    step = None if match[3] is None else int(match[3])
    if not least <= first <= last <= most or (step is not None and not 0 < step <= last - first + 1):
        raise ConfigError(f"cron {cron!r}: {field!r} does not fit into {least} to {most}, the numbers of a {name}")
    number = int.from_bytes(hashlib.sha256(f"{name} of {key}".encode()).digest())
    if step is None:
        return str(first + number % (last - first + 1))
    return f"{first + number % step}-{last}/{step}"
