"""Documents that other AWS services put around a record, opened: CloudWatch Logs, EventBridge, SNS, SQS, Firehose.

A document is recognized by its own members, never by text inside a value. What stood around a record travels beside it,
so that nothing is lost and the document can be put together again (`wrapped`). Documents inside documents are opened
to a bounded depth.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.readers import surrogates
from ocsf_mappers.readers.json_split import split
from ocsf_mappers.readers.members import RepeatedError, raw_members


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True)
class Envelope:
    """A document around a record, as other AWS services pass records on.

    Args:
        marker: Member that tells the envelope from a bare record.
        member: Member that holds the record: an object, or a text that is JSON or a line of a text log.
        drops: Beginning of a text in the record's place -> why such an envelope is a counted drop.
        also: Further members that such a document always has.
        only: Where the marker alone is too common a name: every name that may stand beside it.
        never: Names that no such document has: a document with one of them is a record.
        packed: Whether the text is base64, perhaps of gzip.
        listed: Whether the member holds a list of records; each of them is one, and an empty list holds none.
        holding: Documents that the member may hold besides those that may stand anywhere.
    """

    marker: str
    member: str
    drops: Mapping[str, str] = field(default_factory=dict, hash=False)
    also: tuple[str, ...] = ()
    only: frozenset[str] = frozenset()
    never: tuple[str, ...] = ()
    packed: bool = False
    listed: bool = False
    holding: tuple[Envelope, ...] = ()

    def holds(self, names: Mapping[str, object]) -> bool:
        """Whether a document with members of these names is this envelope."""
        return (
            self.marker in names
            and self.member in names
            and all(name in names for name in self.also)
            and (not self.only or names.keys() <= self.only)
            and not any(name in names for name in self.never)
        )

    def drop_reason(self, text: str) -> str | None:
        """Why an envelope that holds this text is a counted drop, or None."""
        return next((reason for beginning, reason in self.drops.items() if text.startswith(beginning)), None)


CONTROL_DROP = "CloudWatch Logs control message"
CONTROL_TEXT = "CWL CONTROL MESSAGE"
EVENT_LIST = "logEvents"
"""A subscription's document holds log events in a member of this name, and its kind in `messageType`."""
_KIND, _CONTROL = "messageType", b'"CONTROL_MESSAGE"'

CLOUDWATCH = Envelope("message", "message", {CONTROL_TEXT: CONTROL_DROP})
"""A CloudWatch Logs event, for sources whose own records have no member `message`."""

_LOG_EVENT_NAMES = _names(
    "id timestamp message extractedFields ingestionTime eventId logStreamName logGroupName logGroupIdentifier"
    " messageType owner logGroup logStream subscriptionFilters policyLevel raw_data"
)
_OF_EVENTS = ("id", "timestamp", "message", "extractedFields")
LOG_EVENT = Envelope("message", "message", {CONTROL_TEXT: CONTROL_DROP}, only=_LOG_EVENT_NAMES)
EVENTBRIDGE = Envelope("detail-type", "detail", holding=(Envelope("findings", "findings", listed=True),))
"""An event. One of Security Hub may hold several findings, whoever reads it: each has a number of its own."""
SNS = Envelope("TopicArn", "Message", also=("MessageId",))
SNS_TO_LAMBDA = Envelope("EventSource", "Sns", also=("EventSubscriptionArn",))
SQS = Envelope("ReceiptHandle", "Body", also=("MessageId",))
SQS_TO_LAMBDA = Envelope("receiptHandle", "body", also=("messageId",))
_OTEL_NAMES = _names(
    "name body severity_number severity_text dropped_attributes_count flags trace_id span_id attributes scope resource"
)
OTEL = Envelope("body", "body", only=_OTEL_NAMES)
"""What OpenTelemetry's exporter to CloudWatch Logs makes of a log record, as in the CloudWatch agent."""
FIREHOSE_FAILED = Envelope("rawData", "rawData", also=("errorCode",), packed=True)
FIREHOSE_RECORD = Envelope("recordId", "data", packed=True)

CARRIERS = (
    EVENTBRIDGE, LOG_EVENT, SNS, SNS_TO_LAMBDA, SQS, SQS_TO_LAMBDA, OTEL, FIREHOSE_FAILED, FIREHOSE_RECORD
)  # fmt: skip
"""What records of any source may come in, besides the documents of CloudWatch Logs subscriptions."""

DEPTH = 6
"""Documents inside documents are opened this deep; what lies deeper is taken for a record."""

UNPACKED_BYTES = 16 << 20
"""A packed text may grow to this; AWS's services pass on a megabyte at most."""

GZIP_DEPTH = 3
"""Packed texts are unpacked so many times: a sender packs them, and Firehose or a function may pack them again."""

_NULL = msgspec.Raw(b"null")
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_GZIP = b"\x1f\x8b"
_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeError)


@dataclass(frozen=True)
class Carried:
    """What was in a document, or the document itself where it is none that is known.

    Args:
        text: A record: JSON, or a line of a text log.
        around: The documents around it as one JSON object, null where the record was; None for a bare record.
        drop: Why it is no record, but something the service wrote for itself; None for a record.
        member: Member of the innermost document that held it.
        problem: Why a document cannot be opened; its text is the document.
    """

    text: bytes
    around: dict[str, msgspec.Raw] | None = None
    drop: str | None = None
    member: str = ""
    problem: str | None = None


def opened(text: bytes, envelopes: Sequence[Envelope]) -> list[Carried]:
    """The records in a document, in order; a bare record gives itself, a document without any gives none.

    Args:
        text: JSON.
        envelopes: What may stand around a record.
    """
    return list(_opened(text, envelopes, DEPTH))


def _opened(text: bytes, envelopes: Sequence[Envelope], depth: int) -> Iterator[Carried]:
    try:
        members = _MEMBERS.decode(text)
    except _ERRORS:
        yield Carried(text)  # what is wrong with it shows when it is mapped
        return
    is_document = EVENT_LIST in members and _KIND in members
    if depth and (is_document or any(envelope.holds(members) for envelope in envelopes)):
        try:
            members = raw_members(text)
        except RepeatedError as error:
            yield Carried(text, problem=str(error))  # one of them may hold another record
            return
        except _ERRORS:
            yield Carried(text)  # it is as deep as could just be read before
            return
    if depth and is_document:
        events = _events(members)
        if events is not None:
            # a source may know more of its log group's lines than that the service writes some
            outer = (*(envelope for envelope in envelopes if envelope.marker == CLOUDWATCH.marker), CLOUDWATCH)[:1]
            for event in events:
                records = _contents(event, outer, envelopes, depth)
                yield from [Carried(_encoded(event))] if records is None else records
            return
    records = _contents(members, envelopes, envelopes, depth) if depth else None
    yield from [Carried(text)] if records is None else records


def _events(document: dict[str, msgspec.Raw]) -> list[dict[str, msgspec.Raw]] | None:
    """A subscription document's log events, each with the members that stand around all of them."""
    around = dict(document)
    value = bytes(around.pop(EVENT_LIST))
    try:
        if events := _RAWS.decode(value if value != b"null" else b"[]"):
            return [{**around, **_MEMBERS.decode(event)} for event in events]
    except _ERRORS:
        return None
    control = bytes(document[_KIND]) == _CONTROL
    return [{**around, "message": msgspec.Raw(msgspec.json.encode(CONTROL_TEXT))}] if control else []


def _contents(
    members: dict[str, msgspec.Raw], outer: Sequence[Envelope], inner: Sequence[Envelope], depth: int
) -> list[Carried] | None:
    """What the first envelope that these members make holds; None where they make none."""
    for envelope in outer:
        if not envelope.holds(members):
            continue
        payload = _payload(bytes(members[envelope.member]), envelope)
        if payload is None:
            continue
        records = []
        for item in payload:
            if reason := envelope.drop_reason(item[:256].decode(errors="replace")):
                records.append(Carried(item, {**members, envelope.member: _NULL}, reason, envelope.member))
                continue
            is_object = item.lstrip()[:1] == b"{"
            nested = _opened(item, (*envelope.holding, *inner), depth - 1) if is_object else (Carried(item),)
            for one in nested:
                place = _NULL if one.around is None else msgspec.Raw(_encoded(one.around))
                member = one.member or envelope.member
                records.append(Carried(one.text, {**members, envelope.member: place}, one.drop, member, one.problem))
        return records
    return None


def _payload(value: bytes, envelope: Envelope) -> list[bytes] | None:
    """The texts in an envelope's member; None where its value is none that it may hold."""
    if envelope.listed:
        return [bytes(record) for record in _RAWS.decode(value)] if value[:1] == b"[" else None
    if value[:1] == b"{":
        return [value]
    if value[:1] != b'"':
        return None
    try:
        text = msgspec.json.decode(value, type=str)
        data = _unpacked(text) if envelope.packed else None
    except (*_ERRORS, zlib.error):
        return None
    if data is None:
        return [text.encode("utf-8", "replace")]
    if data.lstrip()[:1] in (b"{", b"["):
        piece = split(data, ())
        return [_whole(bytes(record)) for record in piece.records] + [bad for _, _, bad in piece.bad] or None
    if b"\0" in data:
        return None  # no log: as text it would lose what it is, packed it can still be looked at
    return [line for line in data.splitlines() if line.strip()] or None


def _whole(record: bytes) -> bytes:
    """A record that was packed, without halves of surrogate pairs: nothing could see them before."""
    if b"\\ud" not in record and b"\\uD" not in record:
        return record
    try:
        return surrogates.whole(pa.array([record.decode()])).to_pylist()[0].encode()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return record  # what is wrong with it shows when it is read


def _unpacked(text: str) -> bytes | None:
    """The bytes of a base64 text, out of gzip where they are packed so; None when the text is no base64.

    Raises:
        zlib.error: They are damaged, or too many.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    for _ in range(GZIP_DEPTH):
        if not data.startswith(_GZIP):
            break
        inflate = zlib.decompressobj(31)
        data = inflate.decompress(data, UNPACKED_BYTES)
        if not inflate.eof:
            raise zlib.error("the text is cut off, or grows too far")
    return data


def _encoded(members: Mapping[str, msgspec.Raw]) -> bytes:
    return msgspec.json.encode(members)


def around_text(around: Mapping[str, msgspec.Raw] | None) -> str | None:
    """What stood around a record, as the column `_envelope` has it."""
    return None if around is None else _encoded(around).decode()


def wrapped(record: str, around: str, envelopes: Sequence[Envelope]) -> str:
    """The document that a record came in, put together again: reading it gives the same record and surroundings."""
    try:
        msgspec.json.decode(record)
        value = msgspec.Raw(record.encode())
    except (msgspec.DecodeError, RecursionError):
        value = msgspec.Raw(msgspec.json.encode(record))
    return _encoded(_wrapped(value, _MEMBERS.decode(around), envelopes)).decode()


def _wrapped(
    record: msgspec.Raw,
    members: dict[str, msgspec.Raw],
    envelopes: Sequence[Envelope],
    holding: Sequence[Envelope] = (),
) -> dict[str, msgspec.Raw]:
    matching = [envelope for envelope in (*holding, *envelopes, CLOUDWATCH) if envelope.holds(members)]
    # The record's place is null or holds the next document; where several may be meant, the place decides.
    matching.sort(key=lambda envelope: bytes(members[envelope.member])[:1] not in (b"n", b"{"))
    place = bytes(members[matching[0].member])
    inner = record
    if place.startswith(b"{"):
        inner = msgspec.Raw(_encoded(_wrapped(record, _MEMBERS.decode(place), envelopes, matching[0].holding)))
    if matching[0].listed:
        inner = msgspec.Raw(b"[" + bytes(inner) + b"]")
    whole = {**members, matching[0].member: inner}
    if _KIND not in whole:
        return whole
    event: dict[str, msgspec.Raw] = {name: whole.pop(name) for name in _OF_EVENTS if name in whole}
    return {**whole, EVENT_LIST: msgspec.Raw(b"[" + _encoded(event) + b"]")}


_FIRST_NAME = re.compile(rb'\s*\{\s*"([^"\\]*)"')
HEAD_BYTES = 40
_NAMES: Mapping[Envelope, frozenset[str]] = {
    EVENTBRIDGE: _names("version id detail-type source account time region resources detail replay-name"),
    LOG_EVENT: _LOG_EVENT_NAMES | {EVENT_LIST},
    SNS: _names(
        "Type MessageId TopicArn Subject Message Timestamp SequenceNumber MessageAttributes SignatureVersion Signature"
        " SigningCertURL SigningCertUrl UnsubscribeURL UnsubscribeUrl"
    ),
    SNS_TO_LAMBDA: _names("EventSource EventVersion EventSubscriptionArn Sns"),
    SQS: _names("MessageId ReceiptHandle Body MD5OfBody MD5OfMessageAttributes Attributes MessageAttributes"),
    SQS_TO_LAMBDA: _names(
        "messageId receiptHandle body attributes messageAttributes md5OfBody eventSource eventSourceARN"
        " awsRegion"
    ),
    OTEL: _OTEL_NAMES,
    FIREHOSE_FAILED: _names(
        "attemptsMade arrivalTimestamp errorCode errorMessage attemptEndingTimestamp rawData lambdaArn"
    ),
    FIREHOSE_RECORD: _names("recordId data approximateArrivalTimestamp kinesisRecordMetadata"),
}  # fmt: skip
"""The names that a carrier's document may begin with."""


def may_be_carried(documents: pa.Array, text: bytes, envelopes: Sequence[Envelope]) -> bool:
    """Whether some of these documents may be one around a record, found out without reading them.

    Args:
        documents: The documents, binary.
        text: All of them.
        envelopes: Those that records of the source alone come in; these may begin with any member.
    """
    firsts = _first_names(documents)
    markers = {envelope.marker for envelope in envelopes}
    for carrier, names in _NAMES.items():
        if None in firsts or firsts & names:
            markers.add(carrier.marker)
    return any(f'"{marker}"'.encode() in text for marker in markers)


def _first_names(documents: pa.Array) -> set[str | None]:
    """The names of the members that some documents begin with; None among them where one has none."""
    alike = _FIRST_NAME.match(documents[0].as_py()[:HEAD_BYTES]) if len(documents) else None
    if alike and not pc.starts_with(documents, alike[0]).false_count:
        return {alike[1].decode(errors="replace")}  # the records of nearly every object
    matches = map(_FIRST_NAME.match, pc.binary_slice(documents, 0, HEAD_BYTES).unique().to_pylist())
    return {match[1].decode(errors="replace") if match else None for match in matches}
