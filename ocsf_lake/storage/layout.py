"""Where things lie in a lake: names of folders and files, none of which holds text that came with a log.

```
<lake>/aws/VPC_FLOW/2.0/region=eu-west-1/accountId=111122223333/eventDay=20250311/<batch>-<part>-<class>.parquet
<lake>/compacted/aws/VPC_FLOW/2.0/region=eu-west-1/accountId=111122223333/eventDay=20250311/g0001/<...>.parquet
<lake>/_quarantine/source=aws_vpc_flow/day=20250311/<batch>-<part>.parquet
<lake>/_duplicates/source=aws_cloudtrail/<batch>-<part>.parquet
<lake>/_quarantine_outcomes/source=aws_vpc_flow/<replay>-<part>.parquet
<lake>/_foreign/<path that it had>      <lake>/_ledger/ledger.db      <lake>/_catalog/iceberg.db
<lake>/_lake/records/<...>.json.gz      <lake>/_detections/<run>.jsonl
```
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

UNKNOWN = "unknown"
"""Stands in a path for a value that is missing or malformed."""

QUARANTINE, OUTCOMES = "quarantine", "quarantine_outcomes"
OUTCOMES_PREFIX = "_quarantine_outcomes"
DUPLICATES, DUPLICATES_PREFIX = "duplicates", "_duplicates"
QUARANTINE_PREFIX, LEDGER_PATH, CATALOGS = "_quarantine", "_ledger/ledger.db", "_catalog"
FORMER_CATALOG = f"{CATALOGS}/catalog.db"
"""Earlier versions repeated there what the ledger records of files."""
LOCKS_PATH = "_ledger/locks"
FOREIGN = "_foreign"
"""Folder of files that the ledger does not have and that were moved aside, each with its whole path."""
COMPACTED, PLAN = "compacted", "_plan.json"
"""Folder of partitions that were compacted, and the file in each that lists what it was made of."""
PATH_KEYS = {"region": "region", "accountid": "accountId", "eventday": "eventDay", "source": "source", "day": "day"}
"""Partition key in the catalog -> its spelling in paths."""

MS_PER_DAY = 86_400_000
_GENERATION = re.compile(r"g(\d{4,18})")
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_ACCOUNT = re.compile(r"\d{12}|external(_[A-Za-z0-9-]{1,64})?")
_OF_A_LAKE = re.compile(
    r"_(ledger|lake|catalog|iceberg|detections|quarantine|quarantine_outcomes|duplicates|foreign)/"
    r"|(compacted/)?(aws|ext)/.+/region=[^/]+/accountId=[^/]+/eventDay=[^/]+/"
)
_FIRST_DAY, _LAST_DAY = 0, (datetime(9999, 12, 31, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days


@dataclass(frozen=True, order=True)
class Partition:
    """One partition of one table.

    Args:
        table: Name of the table.
        values: Values of its partition keys, in order.
    """

    table: str
    values: tuple[str, ...]


def region(value: str | None) -> str:
    """The region as it may stand in a path."""
    return value if value and _REGION.fullmatch(value) else UNKNOWN


def account(value: str | None) -> str:
    """The account as it may stand in a path: twelve digits, or Security Lake's `external_<id>`."""
    return value if value and value.isascii() and _ACCOUNT.fullmatch(value) else UNKNOWN


def event_day(day: int | None) -> str:
    """`YYYYMMDD` of a number of days since 1970-01-01; `unknown` before that and after the year 9999."""
    if day is None or not _FIRST_DAY <= day <= _LAST_DAY:
        return UNKNOWN
    return datetime.fromtimestamp(day * MS_PER_DAY / 1000, UTC).strftime("%Y%m%d")


def folder(prefix: str, keys: Sequence[str], values: Sequence[str], generation: int = 0) -> str:
    """Path of a partition below the lake's root.

    Args:
        prefix: The table's folder.
        keys: Its partition keys.
        values: The partition's.
        generation: How often the partition was compacted. Later generations lie outside the table's folder: engines
            that read a partition's folder look below it too, and would count rows of both.
    """
    steps = [prefix, *(f"{PATH_KEYS[key]}={value}" for key, value in zip(keys, values, strict=True))]
    return "/".join([COMPACTED, *steps, f"g{generation:04d}"] if generation else steps)


def folder_of(path: str) -> str:
    """The folder that a file is in."""
    return path.rpartition("/")[0]


def is_compacted(folder: str) -> bool:
    """Whether a folder is that of a later generation of a partition."""
    return folder.startswith(f"{COMPACTED}/")


def generation_of(folder: str) -> int:
    """The generation that the last step of a partition's folder, or of its URI, names."""
    match = _GENERATION.fullmatch(folder.rpartition("/")[2])
    return int(match[1]) if match else 0


def file_name(batch_id: str, number: int, class_uid: int | None) -> str:
    """Name of a batch's file in a partition.

    Args:
        batch_id: The batch.
        number: From 0; a batch has several files in a partition where one would be too large.
        class_uid: Class of the events; None where the table's rows are no events.
    """
    return f"{batch_id}-{number:05d}.parquet" if class_uid is None else f"{batch_id}-{number:05d}-{class_uid}.parquet"


def batch_of(path: str) -> str:
    """Id of the batch that a file's name begins with; unfinished files have a dot before it."""
    return path.rpartition("/")[2].removeprefix(".").partition("-")[0]


def is_own(path: str) -> bool:
    """Whether a path below a lake's root is that of a file of the lake, and not of something that lies there too."""
    return _OF_A_LAKE.match(path) is not None
