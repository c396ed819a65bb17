"""What an object's key and first bytes say: source, account, region, day.

A key says what AWS wrote into it; anyone may have named a file, so each value is checked before it is believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import unquote

from lake import content
from lake.content import CLOUDTRAIL, GUARDDUTY, ROUTE53_RESOLVER, VPC_FLOW
from ocsf_mappers import Mapper
from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers.parquet_pages import Footer
from ocsf_mappers.streams import Blocks, Limits

_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_DAY = re.compile(r"\d{8}")

_KEYS = tuple(
    (source, re.compile(pattern))
    for source, pattern in (
        (
            CLOUDTRAIL,
            r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>CloudTrail[^/]*)/(?P<region>[^/]+)/"
            r"(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/",
        ),
        (
            VPC_FLOW,
            r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>vpcflowlogs)/(?P<region>[^/]+)/"
            r"(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/",
        ),
        (
            VPC_FLOW,
            r"/aws-account-id=(?P<account>[^/]+)/aws-service=(?P<kind>vpcflowlogs)/aws-region=(?P<region>[^/]+)/"
            r"year=(?P<year>\d{4})/month=(?P<month>\d\d)/day=(?P<day>\d\d)/",
        ),
        (
            # no region in these keys
            ROUTE53_RESOLVER,
            r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>vpcdnsquerylogs)/[^/]+/"
            r"(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/",
        ),
        (
            ROUTE53_RESOLVER,
            r"/(?:vpc-[0-9a-z]+_)?(?P<kind>vpcdnsquerylogs)_(?P<account>\d{12})_(?P<date>\d{8})T\d{4,6}Z",
        ),
        (
            GUARDDUTY,
            r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>GuardDuty)/(?P<region>[^/]+)/"
            r"(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/",
        ),
        (
            CLOUDTRAIL,
            r"/(?P<account>\d{12})_(?P<kind>CloudTrail[A-Za-z-]*)_(?P<region>[^_/]+)_(?:[^/]*_)?(?P<date>\d{8})T\d{4,6}Z",
        ),
        (
            VPC_FLOW,
            r"/(?P<account>\d{12})_(?P<kind>vpcflowlogs)_(?P<region>[^_/]+)_(?:[^/]*_)?(?P<date>\d{8})T\d{4,6}Z",
        ),
    )
)  # fmt: skip

_DIGEST = re.compile(rb'\A\s*\{[^{}\[\]]*"digestStartTime"\s*:')
DIGEST_REASON = "a digest proves other files and holds no events"


@dataclass(frozen=True)
class KeyFacts:
    """What an object's key says; None where it says nothing, or nothing believable.

    Args:
        source: Name of the source.
        account: Twelve digits.
        region: AWS's name of the region.
        day: Day of delivery, `YYYYMMDD`, UTC.
        kind: What AWS calls the log in its keys, such as `CloudTrail-Digest`.
    """

    source: str | None = None
    account: str | None = None
    region: str | None = None
    day: str | None = None
    kind: str | None = None


def of_key(uri: str) -> KeyFacts:
    """Source, account, region and day from the names of folders and file."""
    path = "/" + unquote(uri.partition("://")[2] or uri).lstrip("/")
    for source, pattern in _KEYS:
        if found := pattern.search(path):
            named = found.groupdict()
            day = named.get("date") or "".join(named[part] for part in ("year", "month", "day"))
            region = named.get("region", "")
            return KeyFacts(
                source,
                _checked(_ACCOUNT, named["account"]),
                _checked(_REGION, region),
                _checked(_DAY, day),
                named["kind"],
            )
    return KeyFacts()


def _checked(pattern: re.Pattern[str], value: str) -> str | None:
    return value if pattern.fullmatch(value) else None


def of_parquet(columns: list[str]) -> str | None:
    """The source that has these columns."""
    names = {name.lower().replace("-", "_") for name in columns}
    return VPC_FLOW if len(names & content.VPC_WORDS) >= 3 else None


def digest_reason(head: bytes) -> str | None:
    """Why an object that begins like this is set aside: CloudTrail's digests hold no events."""
    return DIGEST_REASON if _DIGEST.match(head[:8192]) else None


def set_aside_reason(uri: str, mapper: Mapper) -> str | None:
    """Why an object of this name holds no records of the log in whose tree it lies, or None."""
    kind = of_key(uri).kind or ""
    return next((reason for text, reason in mapper.set_aside.items() if kind.startswith(text)), None)


@dataclass(frozen=True)
class Sniffed:
    """What an object's beginning says.

    Args:
        source: Its source; None when it is none that is known.
        nothing: Why there is nothing to read in it, whatever its source.
    """

    source: str | None = None
    nothing: str | None = None


def of_bytes(file: BinaryIO, limits: Limits) -> str | None:
    """The source of an object whose name says nothing, from its beginning; see `sniffed`."""
    return sniffed("", file, limits).source


def sniffed(uri: str, file: BinaryIO, limits: Limits) -> Sniffed:
    """The source of an object whose name says nothing, from its beginning, or why nothing in it is to be read.

    Args:
        uri: The object.
        file: The raw object; it is read from here on.
        limits: How far it may grow when it is decompressed.
    """
    blocks = Blocks(file, limits)
    head = blocks.head
    if head.startswith(b"PAR1"):
        try:
            return Sniffed(of_parquet(Footer(file).names))
        except ReadError:
            return Sniffed()
    # A first record may be longer than what is usually enough.
    found = content.of_content(head[: content.HEAD_BYTES]) or content.of_content(head)
    if found is None:
        return Sniffed(nothing=content.reason_without_records(uri, head, whole=len(head) < content.HEAD_BYTES))
    return Sniffed(found)
