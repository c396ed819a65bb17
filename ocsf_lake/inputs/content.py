"""Recognizes the source of a record by its own members, whatever documents it came in.

Text inside a value does not count: a call to an API may quote a record of another source.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import msgspec

from ocsf_mappers import registry
from ocsf_mappers.readers import Reader, surrogates
from ocsf_mappers.readers.envelope import CARRIERS, CLOUDWATCH, CONTROL_DROP, Carried, opened
from ocsf_mappers.readers.exported import as_log_events, is_exported
from ocsf_mappers.readers.json_split import Salvage, split

HEAD_BYTES = 256 << 10
"""Of an object, this much is looked at to recognize its source."""
HEAD_LINES = 100
"""Lines of text, or records, are recognized by this many of them."""
HEADER_COLUMNS, PARQUET_COLUMNS = 2, 3
"""By so many of its columns a log is recognized, in a header line and in a Parquet file."""

CONTROL_REASON = "it holds nothing but control messages of CloudWatch Logs"
OCSF_REASON = "it holds events that are OCSF already; `ocsf-lake validate` checks them"
OCSF_MEMBERS = frozenset(["class_uid", "metadata", "time"])
"""Every event of OCSF has these."""
EXPORT_TEST_REASON = "an export task of CloudWatch Logs wrote it to try the bucket"
_EXPORT_TEST = "aws-logs-write-test"

_NAME_CHARACTERS = 80
_HOLDING_MEMBERS = tuple(dict.fromkeys(envelope.member for envelope in (CLOUDWATCH, *CARRIERS)))
Members = Mapping[str, msgspec.Raw]


@dataclass(frozen=True)
class Recognition:
    """What is known of a record's source.

    Args:
        source: The source; None where it is not recognized.
        stranger: Why it is a record of no source that is known, where the document around it shows that.
    """

    source: str | None = None
    stranger: str | None = None


def recognized_sources() -> frozenset[str]:
    """Sources whose records are recognized."""
    return frozenset(name for name, source in registry.sources().items() if source.marks)


def of_record(text: str | bytes, around: str | bytes | None = None) -> Recognition:
    """Recognizes the source of one record.

    Args:
        text: The record: JSON, or a line of a text log.
        around: The documents it came in, as one JSON object; None where it came alone.
    """
    event = _event(_members(around)) if around is not None else None
    if event is not None:
        kind = _text(event, "detail-type")
        for name, source in registry.sources().items():
            if any(re.fullmatch(pattern, kind) for pattern in source.marks.detail_types):
                return Recognition(name)
    data = text.encode() if isinstance(text, str) else text
    if data.lstrip()[:1] == b"{":
        source_name = _of_members(_members(data))
    else:
        # a record may hold a text where documents hold a line: then its other members decide
        source_name = _of_line(data) or (None if around is None else _of_members(_innermost(_members(around))))
    if source_name is None and event is not None:
        kind, service = (_text(event, name)[:_NAME_CHARACTERS] for name in ("detail-type", "source"))
        return Recognition(stranger=f"EventBridge event of another kind: {kind!r} of {service}")
    return Recognition(source_name)


def _event(members: Members) -> Members | None:
    """The innermost EventBridge event among documents around a record."""
    inner = None
    for value in members.values():
        if bytes(value).startswith(b"{"):
            inner = _event(_members(bytes(value))) or inner
    return inner or (members if "detail-type" in members and "detail" in members else None)


def _innermost(members: Members) -> Members:
    """The document that held a text itself, among documents around it."""
    while True:
        inner = (bytes(members[name]) for name in _HOLDING_MEMBERS if name in members)
        document = next((value for value in inner if value.startswith(b"{")), None)
        if document is None:
            return members
        members = _members(document)  # a loop, for senders choose how deep documents stand


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
    """The source whose marks a record has; of several, the one that asks for most."""
    best, most = None, 0
    for name, source in registry.sources().items():
        for having in source.marks.members:
            if having.weight > most and having.fits(members):
                best, most = name, having.weight
    return best


def _of_line(line: bytes) -> str | None:
    line = line.strip()
    for name, source in registry.sources().items():
        if any(pattern.fullmatch(line) for pattern in source.marks.line_patterns):
            return name
    return None


def of_columns(columns: Iterable[str], least: int, reads: Callable[[Reader], bool]) -> str | None:
    """The source of whose columns the most are named here, if it is so many; upper case and hyphens do not count.

    Of several, it is the one with the fewest others.

    Args:
        columns: Names.
        least: So many are enough.
        reads: Whether a reader is one for such objects; of a source without any they are not.
    """
    names = {name.lower().replace("-", "_") for name in columns}
    matches = {
        name: (number, -len(source.marks.columns))
        for name, source in registry.sources().items()
        if (number := len(names & source.marks.columns)) >= least
        and any(map(reads, source.mapper.readers))
    }
    return max(matches, key=lambda name: matches[name], default=None)


# -- a whole object ---------------------------------------------------------------------------------------------------
def of_content(head: bytes) -> str | None:
    """The source whose records begin like this; None when it is none that is known.

    Args:
        head: First bytes, decompressed; the more of them, the more is recognized.
    """
    if is_exported(head):
        head = b"".join(as_log_events(iter([head.rpartition(b"\n")[0] or head])))
    if head.lstrip()[:1] in (b"{", b"["):
        return _of_json(head)
    for name, source in registry.sources().items():
        if any(pattern.match(head) for pattern in source.marks.head_patterns):
            return name
    first = head.lstrip().partition(b"\n")[0].strip()
    if source_name := _of_line(first) or _of_header(first, head):
        return source_name
    lines = [line for line in head.split(b"\n")[:HEAD_LINES] if line.strip()]
    # below a first line that is none
    counts = Counter(source_name for line in lines if (source_name := _of_line(line)))
    if counts and 2 * counts.most_common(1)[0][1] >= len(lines):
        return counts.most_common(1)[0][0]
    records = [line for line in lines if line.lstrip()[:1] == b"{" and _members(line)]
    # JSON lines with a broken one at their beginning. A page that quotes a record holds mostly other lines.
    return _of_json(b"\n".join(records)) if 0 < len(lines) <= 2 * len(records) else None


def _of_header(line: bytes, head: bytes) -> str | None:
    names = line.decode("utf-8", errors="replace").split()
    return of_columns(names, HEADER_COLUMNS, lambda reader: reader.accepts(head))


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
    records = list(_records(head))
    return CONTROL_REASON if records and all(item.drop == CONTROL_DROP for item in records) else None


def is_ocsf(head: bytes) -> bool:
    """Whether an object that begins like this holds events of OCSF."""
    if head.lstrip()[:1] not in (b"{", b"["):
        return False
    return any(OCSF_MEMBERS.issubset(_members(item.text)) for item in islice(_records(head), 1))


def _of_json(head: bytes) -> str | None:
    nearest = None
    for item in _records(head):
        recognized = of_record(item.text, None if item.around is None else msgspec.json.encode(item.around))
        if recognized.source is not None:
            return recognized.source
        if recognized.stranger is not None and item.around is not None and (event := _event(item.around)):
            nearest = nearest or _of_service(_text(event, "source"))
    lists = _lists()
    empty = (name for name, value in _members(head).items() if name in lists and _is_empty(value))
    return nearest or next((lists[name] for name in empty), None)


def _of_service(service: str) -> str | None:
    named = (name for name, source in registry.sources().items() if source.marks.service == service)
    return next(named, None)


def _lists() -> dict[str, str]:
    """Member that holds a list of records -> the first source whose list it may be."""
    source_by_member: dict[str, str] = {}
    for name, source in registry.sources().items():
        for member in source.lists if source.marks else ():
            source_by_member.setdefault(member, name)
    return source_by_member


def _is_empty(value: msgspec.Raw) -> bool:
    return b"".join(bytes(value).split()) == b"[]"


def _records(head: bytes) -> Iterator[Carried]:
    """The first records of an object that may be cut off anywhere."""
    lists = tuple(_lists())
    if isinstance(text := _whole(head), str):
        head = text.encode()
    piece = split(head, lists) if len(head) < HEAD_BYTES else Salvage(head, lists, more=True).piece()
    for record in piece.records[:HEAD_LINES]:
        yield from opened(bytes(record), (CLOUDWATCH, *CARRIERS))
