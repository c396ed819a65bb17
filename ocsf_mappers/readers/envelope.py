"""Documents that other AWS services put around a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa

from ocsf_mappers.json_split import KEPT_BYTES
from ocsf_mappers.members import RepeatedError, raw_members
from ocsf_mappers.readers.chunk import Bad, Chunk


@dataclass(frozen=True)
class Envelope:
    """A document around a record, as other AWS services pass records on.

    Args:
        marker: Member that tells the envelope from a bare record.
        member: Member that holds the record: an object, or JSON text in a string.
        drops: Beginning of a text in the record's place -> why such an envelope is a counted drop.
    """

    marker: str
    member: str
    drops: Mapping[str, str] = field(default_factory=dict, hash=False)

    def drop_reason(self, text: str) -> str | None:
        """Why an envelope that holds this text is a counted drop, or None."""
        return next((reason for beginning, reason in self.drops.items() if text.startswith(beginning)), None)


CONTROL_DROP = "CloudWatch Logs control message"
CONTROL_TEXT = "CWL CONTROL MESSAGE"
CLOUDWATCH = Envelope("message", "message", {CONTROL_TEXT: CONTROL_DROP})
"""A CloudWatch Logs event with a JSON record as its message; subscriptions deliver lists of them in `logEvents`."""


def unwrap(records: pa.Table, envelope: Envelope) -> Chunk:
    """JSON records taken out of their envelopes; what stood around each goes into `_envelope`. Bare records stay."""
    raw: list[str] = []
    around: list[str | None] = []
    keep: list[bool] = []
    bad: list[Bad] = []
    dropped: Counter[str] = Counter()
    for number, text in zip(records["_record"].to_pylist(), records["_raw"].to_pylist(), strict=True):
        try:
            inner = _inner(text, envelope)
        except RepeatedError as error:
            keep.append(False)
            bad.append(Bad(number, str(error), text[:KEPT_BYTES]))
            continue
        keep.append(inner is None or inner[0].lstrip().startswith("{"))
        if keep[-1]:
            raw.append(text if inner is None else inner[0])
            around.append(None if inner is None else inner[1])
        elif inner and (reason := envelope.drop_reason(inner[0])):
            dropped[reason] += 1
        else:
            bad.append(Bad(number, f"{envelope.member} holds no JSON object", text[:KEPT_BYTES]))
    if not all(keep):
        records = records.filter(pa.array(keep))
    records = records.set_column(records.column_names.index("_raw"), "_raw", pa.array(raw, pa.string()))
    if any(around):
        records = records.append_column("_envelope", pa.array(around, pa.string()))
    return Chunk(records, bad, dropped)


def _inner(text: str, envelope: Envelope) -> tuple[str, str] | None:
    """The record inside an envelope and the envelope without it; None when the text is a bare record.

    Raises:
        RepeatedError: The envelope has two members of the same name: one of them may hold another record.
    """
    try:
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if envelope.marker in members and envelope.member in members:
            members = raw_members(text)
        if envelope.marker not in members or envelope.member not in members:
            return None
        held = bytes(members.pop(envelope.member))
        record = msgspec.json.decode(held, type=str) if held.startswith(b'"') else held.decode()
        return record, msgspec.json.encode(members).decode()
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None  # what is wrong with it shows when it is mapped


def wrapped(record: str, around: str, envelopes: Sequence[Envelope]) -> str:
    """The document that a record came in, put together again: reading it gives the same record and surroundings."""
    members = msgspec.json.decode(around, type=dict[str, msgspec.Raw])
    # An envelope whose marker is the record itself has none left to be told by.
    told = sorted(envelopes, key=lambda envelope: (envelope.marker not in members, envelope.marker != envelope.member))
    try:
        held = msgspec.Raw(record.encode())
        msgspec.json.decode(record)
    except (msgspec.DecodeError, RecursionError):
        held = msgspec.Raw(msgspec.json.encode(record))
    return msgspec.json.encode({**members, told[0].member: held}).decode()
