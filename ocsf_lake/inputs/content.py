"""What a record says of its source: told from its own members, whatever documents it came in.

Text inside a value says nothing: a call to an API may quote a record of another source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from ocsf_mappers.readers import surrogates
from ocsf_mappers.readers.envelope import CARRIERS, CLOUDWATCH, CONTROL_DROP, Carried, opened
from ocsf_mappers.readers.exported import as_log_events, is_exported
from ocsf_mappers.readers.json_split import Salvage, split

CLOUDTRAIL, VPC_FLOW = "aws_cloudtrail", "aws_vpc_flow"
ROUTE53_RESOLVER = "aws_route53_resolver"
GUARDDUTY = "aws_guardduty"

HEAD_BYTES = 256 << 10
"""Of an object, this much is looked at to tell its source."""
HEAD_LINES = 100
"""Lines of text, or records, are told by this many of them."""

CONTROL_REASON = "it holds nothing but control messages of CloudWatch Logs"
EXPORT_TEST_REASON = "an export task of CloudWatch Logs wrote it to try the bucket"
_EXPORT_TEST = "aws-logs-write-test"

_NAME_CHARACTERS = 80
_VPC_LINE = re.compile(
    rb"[2-9] (?:\d{12}|unknown|-) eni-[0-9a-z]+(?: \S+){7} \d+ \d+ (?:ACCEPT|REJECT|-) (?:OK|NODATA|SKIPDATA)"
)
_TGW_LINE = re.compile(rb"[2-9] TransitGateway (?:\d{12}|unknown|-) tgw-[0-9a-z]+(?: \S+){32}")
VPC_WORDS = frozenset(["srcaddr", "dstaddr", "pkt_srcaddr", "interface_id", "log_status", "srcport", "action"])
_FINDING_ARN = re.compile(rb'"arn:[a-z-]+:guardduty:[a-z0-9-]+:\d+:detector/[^"/]+/finding/')
_LISTS = {"Records": CLOUDTRAIL, "Events": CLOUDTRAIL, "Findings": GUARDDUTY, "findings": GUARDDUTY}
"""Member that holds a list of records -> the source whose list it is, where the list is empty."""
_EVENTS = ((CLOUDTRAIL, re.compile(r"AWS .+ via CloudTrail")), (GUARDDUTY, re.compile(r"GuardDuty Finding")))
"""Source -> the `detail-type` of its events in EventBridge."""
_SERVICES = {"aws.guardduty": GUARDDUTY, "aws.cloudtrail": CLOUDTRAIL}
"""Service that sends events to EventBridge -> the source that stands nearest to it."""

KNOWN = frozenset([CLOUDTRAIL, GUARDDUTY, ROUTE53_RESOLVER, VPC_FLOW])
"""Sources whose records are recognized."""

Members = Mapping[str, msgspec.Raw]


@dataclass(frozen=True)
class Told:
    """What a record says of its source.

    Args:
        source: The source; None where it says nothing.
        stranger: Why it is a record of no source that is known, where the document around it says so.
    """

    source: str | None = None
    stranger: str | None = None


def of_record(text: str | bytes, around: str | bytes | None = None) -> Told:
    """What one record says of its source.

    Args:
        text: The record: JSON, or a line of a text log.
        around: The documents it came in, as one JSON object; None where it came alone.
    """
    event = _event(_members(around)) if around is not None else None
    if event is not None:
        kind = _text(event, "detail-type")
        if found := next((source for source, pattern in _EVENTS if pattern.fullmatch(kind)), None):
            return Told(found)
    data = text.encode() if isinstance(text, str) else text
    source = _of_members(_members(data)) if data.lstrip()[:1] == b"{" else _of_line(data)
    if source is None and event is not None:
        kind, service = (_text(event, name)[:_NAME_CHARACTERS] for name in ("detail-type", "source"))
        return Told(stranger=f"EventBridge event of another kind: {kind!r} of {service}")
    return Told(source)


def _event(members: Members) -> Members | None:
    """The innermost EventBridge event among documents around a record."""
    inner = None
    for value in members.values():
        if bytes(value).startswith(b"{"):
            inner = _event(_members(bytes(value))) or inner
    return inner or (members if "detail-type" in members and "detail" in members else None)


def _text(members: Members, name: str) -> str:
    try:
        return str(msgspec.json.decode(members.get(name, b'""')))
    except (msgspec.DecodeError, RecursionError):
        return ""


def _members(text: str | bytes) -> Members:
    try:
        return msgspec.json.decode(_whole(text), type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return {}


def _whole(text: str | bytes) -> str | bytes:
    """JSON without halves of surrogate pairs, which no parser takes; see `ocsf_mappers.readers.surrogates`."""
    data = text.encode() if isinstance(text, str) else text
    if b"\\ud" not in data and b"\\uD" not in data:
        return text
    return surrogates.without_halves(data.decode(errors="replace"))


def _of_members(members: Members) -> str | None:
    if "CloudTrailEvent" in members or "insightDetails" in members:
        return CLOUDTRAIL
    if "eventSource" in members or "eventVersion" in members:
        # Notifications of S3 and messages of SQS have names like those of CloudTrail.
        return None if bytes(members.get("eventSource", b"")).startswith(b'"aws:') else CLOUDTRAIL
    if "query_name" in members or "query_timestamp" in members:
        return ROUTE53_RESOLVER
    if any(_FINDING_ARN.match(bytes(members[name])) for name in ("arn", "Arn") if name in members):
        return GUARDDUTY
    if {name.lower().replace("-", "_") for name in members} & {"interface_id", "srcaddr"}:
        return VPC_FLOW
    return None


def _of_line(line: bytes) -> str | None:
    return VPC_FLOW if _VPC_LINE.match(line.strip()) or _TGW_LINE.match(line.strip()) else None


# -- a whole object ---------------------------------------------------------------------------------------------------
def of_content(head: bytes) -> str | None:
    """The source whose records begin like this; None when it is none that is known.

    Args:
        head: First bytes, decompressed; more of them tell more.
    """
    if is_exported(head):
        head = b"".join(as_log_events(iter([head.rpartition(b"\n")[0] or head])))
    if head.lstrip()[:1] in (b"{", b"["):
        return _of_json(head)
    first = head.lstrip().partition(b"\n")[0].strip()
    if _VPC_LINE.fullmatch(first) or _TGW_LINE.fullmatch(first):
        return VPC_FLOW
    words = {word.lower().replace("-", "_") for word in first.decode("utf-8", errors="replace").split()}
    if len(words & VPC_WORDS) >= 2:
        return VPC_FLOW
    lines = [line for line in head.split(b"\n")[:HEAD_LINES] if line.strip()]
    if lines and 2 * sum(_VPC_LINE.fullmatch(line.strip()) is not None for line in lines) >= len(lines):
        return VPC_FLOW  # below a first line that is none
    records = [line for line in lines if line.lstrip()[:1] == b"{" and _members(line)]
    # JSON lines with a broken one at their beginning. A page that quotes a record holds mostly other lines.
    return _of_json(b"\n".join(records)) if 0 < len(lines) <= 2 * len(records) else None


def reason_without_records(uri: str, head: bytes, *, whole: bool) -> str | None:
    """Why an object of no source is nothing to read: a service wrote it to try the way.

    Args:
        uri: The object.
        head: First bytes, decompressed.
        whole: Whether that is all of it.
    """
    if uri.rpartition("/")[2] == _EXPORT_TEST and len(head) < HEAD_LINES:
        return EXPORT_TEST_REASON
    if not whole or head.lstrip()[:1] != b"{":
        return None
    found = list(_records(head))
    return CONTROL_REASON if found and all(item.drop == CONTROL_DROP for item in found) else None


def _of_json(head: bytes) -> str | None:
    nearest = None
    for item in _records(head):
        told = of_record(item.text, None if item.around is None else msgspec.json.encode(item.around))
        if told.source is not None:
            return told.source
        if told.stranger is not None and item.around is not None and (event := _event(item.around)):
            nearest = nearest or _SERVICES.get(_text(event, "source"))
    return nearest or next((_LISTS[name] for name, value in _members(head).items() if _is_empty(name, value)), None)


def _is_empty(name: str, value: msgspec.Raw) -> bool:
    return name in _LISTS and b"".join(bytes(value).split()) == b"[]"


def _records(head: bytes) -> Iterator[Carried]:
    """The first records of an object that may be cut off anywhere."""
    lists = tuple(_LISTS)
    if isinstance(text := _whole(head), str):
        head = text.encode()
    piece = split(head, lists) if len(head) < HEAD_BYTES else Salvage(head, lists, more=True).piece()
    for record in piece.records[:HEAD_LINES]:
        yield from opened(bytes(record), (CLOUDWATCH, *CARRIERS))
