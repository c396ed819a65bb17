"""Source, account, region and time of an object, from its key and first bytes.

A key has what AWS wrote into it; anyone may have named a file, so each value is checked before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO
from urllib.parse import unquote

from ocsf_lake.inputs import content
from ocsf_mappers import Mapper, ParquetRows, RawObject, registry
from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers.parquet_pages import Footer
from ocsf_mappers.readers.streams import Blocks, Limits

_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_DAY = re.compile(r"\d{8}")

_HIVE_REGION = re.compile(r"[a-z]{2,5}(?:-[a-z]+){1,3}-\d{1,2}")
"""A region in a step that anyone may have named: by its form, so that `region=all` or `region=emea` is none."""

_ACCOUNT_STEPS = frozenset(["account", "accountid", "awsaccount", "awsaccountid"])
_REGION_STEPS = frozenset(["region", "awsregion"])

_TIMES = (
    # AWS's own names of files: _20260504T0910Z_
    ("second", re.compile(r"[/_](\d{8})T(\d{6})Z(?=[^/]*\Z)")),
    ("minute", re.compile(r"[/_](\d{8})T(\d{4})Z(?=[^/]*\Z)")),
    # Firehose: stream-1-2026-05-04-09-10-11-0a1b...; the time is that of the first record in the object
    ("second", re.compile(r"-\d+-(\d{4})-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)(?=-[^/]*\Z)")),
    ("hour", re.compile(r"/year=(\d{4})/month=(\d\d)/day=(\d\d)/hour=(\d\d)/")),
    ("hour", re.compile(r"/(\d{4})/(\d\d)/(\d\d)/(\d\d)/")),
    ("day", re.compile(r"/year=(\d{4})/month=(\d\d)/day=(\d\d)/")),
    ("day", re.compile(r"/(?:date|dt|eventday)=(\d{4})-?(\d\d)-?(\d\d)/", re.IGNORECASE)),
    ("day", re.compile(r"/(\d{4})/(\d\d)/(\d\d)/")),
)
"""Precision of a time in a key -> its pattern, the finest first."""


@dataclass(frozen=True)
class KeyFacts:
    """Facts from an object's key; None where it has none, or none that is plausible.

    Args:
        source: Name of the source.
        account: Twelve digits.
        region: AWS's name of the region.
        day: Day of delivery, `YYYYMMDD`, UTC.
        kind: What AWS calls the log in its keys, such as `CloudTrail-Digest`.
        time: Beginning of the time that the object covers, ISO 8601, UTC, as finely as the key has it.
        window: How finely that is: `second`, `minute`, `hour` or `day`.
    """

    source: str | None = None
    account: str | None = None
    region: str | None = None
    day: str | None = None
    kind: str | None = None
    time: str | None = None
    window: str | None = None


def of_key(uri: str) -> KeyFacts:
    """Source, account, region and time from the names of folders and file.

    Keys of AWS's own name the source; of any other key, Hive-style steps (`region=eu-west-1`, `accountId=...`,
    `year=2026`) give the rest.
    """
    path = "/" + unquote(uri.partition("://")[2] or uri).lstrip("/")
    time, window = _time_of(path)
    account, region = _step(path, _ACCOUNT_STEPS, _ACCOUNT), _step(path, _REGION_STEPS, _HIVE_REGION)
    for name, source in registry.sources().items():
        for pattern in source.key_patterns:
            if match := pattern.search(path):
                groups = match.groupdict()
                return KeyFacts(
                    name,
                    _checked(_ACCOUNT, groups.get("account")) or account,
                    _checked(_REGION, groups.get("region")) or region,
                    _checked(_DAY, groups.get("date") or _date(groups)),
                    groups.get("kind"),
                    time,
                    window,
                )
    return KeyFacts(account=account, region=region, time=time, window=window)


def _date(groups: Mapping[str, str | None]) -> str:
    return "".join((groups.get(part) or "").zfill(2) for part in ("year", "month", "day"))


def day_of(uri: str) -> str | None:
    """The day of delivery, `YYYYMMDD`, UTC, in a key."""
    return of_key(uri).day


def raw_object(uri: str, etag: str = "") -> RawObject:
    """An object as the engine takes it, with the facts from its key."""
    facts = of_key(uri)
    return RawObject(uri, etag, region=facts.region, account=facts.account, time=facts.time, window=facts.window)


def time_of(uri: str) -> tuple[str | None, str | None]:
    """The beginning of the time in an object's name, ISO 8601, UTC, and how fine it is; see `KeyFacts`.

    Of a name that only its source's own pattern understands, the day.
    """
    time, window = _time_of("/" + unquote(uri.partition("://")[2] or uri).lstrip("/"))
    if time is None and (day := of_key(uri).day):
        with suppress(ValueError):
            return f"{datetime.strptime(day, '%Y%m%d').replace(tzinfo=UTC):%Y-%m-%dT00:00:00Z}", "day"
    return time, window


def _step(path: str, names: frozenset[str], pattern: re.Pattern[str]) -> str | None:
    """The value that Hive-style folders give a name; None where they give none, no sound one, or several."""
    if "=" not in path:
        return None
    pairs = (step.partition("=") for step in path.split("/")[:-1])
    values = {value for name, _, value in pairs if re.sub("[-_]", "", name.lower()) in names}
    return values.pop() if len(values) == 1 and all(pattern.fullmatch(value) for value in values) else None


def _time_of(path: str) -> tuple[str | None, str | None]:
    """The finest time in a key, and how fine that is; nothing where that is no date."""
    for window, pattern in _TIMES:
        if matches := pattern.findall(path):
            digits = "".join(matches[-1]).ljust(14, "0")
            parts = digits[:4], digits[4:6], digits[6:8], digits[8:10], digits[10:12], digits[12:]
            try:
                moment = datetime(*map(int, parts), tzinfo=UTC)  # type: ignore[arg-type,misc]  # six of them
            except ValueError:
                return None, None
            return moment.isoformat().replace("+00:00", "Z"), window
    return None, None


def _checked(pattern: re.Pattern[str], value: str | None) -> str | None:
    return value if value is not None and pattern.fullmatch(value) else None


def without_records(head: bytes) -> str | None:
    """Why an object that begins like this is set aside: a service writes such objects beside its log."""
    for source in registry.sources().values():
        for pattern, reason in source.marks.set_aside_patterns:
            if pattern.match(head[:8192]):
                return reason
    return None


def set_aside_reason(uri: str, mapper: Mapper) -> str | None:
    """Why an object of this name holds no records of the log in whose tree it lies, or None."""
    name = unquote(uri)
    if not any(text in name for text in mapper.set_aside):
        return None  # as of nearly every object: the log's kind is a part of the name
    kind = of_key(uri).kind or ""
    return next((reason for text, reason in mapper.set_aside.items() if kind.startswith(text)), None)


@dataclass(frozen=True)
class Sniffed:
    """What an object's beginning shows.

    Args:
        source: Its source; None when it is none that is known.
        nothing: Why there is nothing to read in it, whatever its source.
        stranger: Why it is of none, where its content shows that.
    """

    source: str | None = None
    nothing: str | None = None
    stranger: str | None = None


def of_bytes(file: BinaryIO, limits: Limits) -> str | None:
    """The source of an object whose name has none, from its beginning; see `sniffed`."""
    return sniffed("", file, limits).source


def sniffed(uri: str, file: BinaryIO, limits: Limits) -> Sniffed:
    """The source of an object whose name has none, from its beginning, or why nothing in it is to be read.

    Args:
        uri: The object.
        file: The raw object; it is read from here on.
        limits: How far it may grow when it is decompressed.
    """
    blocks = Blocks(file, limits)
    head = blocks.head
    if head.startswith(b"PAR1"):
        try:
            names = Footer(file).names
        except ReadError as error:
            return Sniffed(stranger=str(error))
        source = content.of_columns(names, content.PARQUET_COLUMNS, lambda it: isinstance(it, ParquetRows))
        is_ocsf = source is None and content.OCSF_MEMBERS.issubset(names)
        return Sniffed(source, stranger=content.OCSF_REASON if is_ocsf else None)
    # A first record may be longer than what is usually enough.
    source = content.of_content(head[: content.HEAD_BYTES]) or content.of_content(head)
    if source is not None:
        return Sniffed(source)
    whole = len(head) < content.HEAD_BYTES
    if nothing := content.reason_without_records(uri, head, whole=whole) or without_records(head):
        return Sniffed(nothing=nothing)
    return Sniffed(stranger=_stranger(blocks))


def _stranger(blocks: Blocks) -> str | None:
    """Why an object that nobody recognizes is of no source."""
    if not blocks.head:
        return str(blocks.error or "it is empty: a delivery that is cut off may leave such an object")
    return content.OCSF_REASON if content.is_ocsf(blocks.head) else None
