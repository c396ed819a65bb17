"""Is every value of a record in its event? By value, after the normalisations that the mapping documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ocsf_mappers import Mapper
from ocsf_mappers.readers import Chunk
from tests.support import Json, leaves

CAPTIONS: Mapping[str, Mapping[str, str]] = {
    # what an enum's caption says instead of the source's word
    "action": {"ACCEPT": "Traffic", "REJECT": "Refuse"},
    "flow_direction": {"ingress": "Inbound", "egress": "Outbound"},
    "additionalEventData.MFAUsed": {"Yes": "true", "No": "false"},
    "firewall_rule_action": {"ALLOW": "Allowed", "ALERT": "Alert", "BLOCK": "Blocked"},
    "rcode": {
        "NOERROR": "NoError",
        "FORMERR": "FormError",
        "SERVFAIL": "ServError",
        "NXDOMAIN": "NXDomain",
        "NOTIMP": "NotImp",
        "REFUSED": "Refused",
        "YXDOMAIN": "YXDomain",
        "YXRRSET": "YXRRSet",
        "NXRRSET": "NXRRSet",
        "NOTAUTH": "NotAuth",
        "NOTZONE": "NotZone",
    },
    "service.archived": {"true": "Suppressed", "false": "New", "True": "Suppressed", "False": "New"},
}
BOUNDARY_OFFSET = 3
"""OCSF's boundary ids count on from the traffic paths of a flow log."""

_ISO = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?$")
_EPOCH = re.compile(r"^\d{10}(\.\d{1,6})?$")
_DECIMAL = re.compile(r"^-?\d+(\.\d+)?([eE][-+]?\d+)?$")


def records(chunk: Chunk) -> Iterator[tuple[int, Json]]:
    """Number and content of each record; a text log's line by column, what stood around a JSON record as `envelope`."""
    for row in chunk.records.to_pylist():
        number = row.pop("_record")
        if "_raw" not in row:
            yield number, row
            continue
        record = _loads(row["_raw"])
        if row.get("_envelope") is not None:
            record = {"envelope": _loads(row["_envelope"]), **record}
        yield number, record


def lost(mapper: Mapper, record: Json, event: Json) -> list[tuple[str, str]]:
    """Path and value of what the record says and the event does not."""
    kept = found_in(event)
    found = []
    for path, value in leaves(record):
        if value is None or value == {} or path in mapper.drop or path.replace("[]", "") in mapper.drop:
            continue
        if not spellings(path, value) & kept:
            found.append((path, str(value)))
    return found


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=str)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _double(text: str) -> str | None:
    return f"={float(text)!r}" if _DECIMAL.match(text) else None


def _instant(text: str) -> str | None:
    if _ISO.match(text):
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return f"@{moment.timestamp():.6f}"
    return f"@{float(text):.6f}" if _EPOCH.match(text) else None


def _other_spellings(text: str) -> set[str]:
    return {other for other in (_instant(text), _double(text)) if other}


def spellings(path: str, value: Any) -> set[str]:
    """Every way in which an event may say a value."""
    text = _text(value)
    found = {text, CAPTIONS.get(path, {}).get(text, text)}
    if text.lower() in ("true", "false"):
        found.add(text.lower())
    found |= _other_spellings(text)
    if path == "traffic_path" and text.isdigit():
        found.add(f"boundary {int(text) + BOUNDARY_OFFSET}")
    return found


def found_in(event: Json) -> set[str]:
    """What an event says, JSON text taken apart, in every spelling."""
    found: set[str] = set()
    for path, value in leaves(event):
        text = _text(value)
        found.add(text)
        found |= _other_spellings(text)
        if path == "connection_info.boundary_id":
            found.add(f"boundary {text}")
        if isinstance(value, str) and value[:1] in ("{", "[", '"') and (inner := _json(value)) is not None:
            for _, item in leaves(inner):
                found |= {_text(item), *_other_spellings(_text(item))}
    return found


def _json(text: str) -> Any:
    try:
        return _loads(text)
    except ValueError:
        return None


# -- the same records with a value of its own at each place, so that none can be taken for another ---------------------
CONTROL = re.compile(
    r"(?x) ^( event(Name|Source|Type|Category|Time) | managementEvent | sourceIPAddress"
    r"| insightDetails\.event(Name|Source)"
    r"| .*\.creationDate | .*\.mfaAuthenticated | responseElements\.ConsoleLogin | serviceEventDetails\..*"
    r"| additionalEventData\.MFAUsed | .*\.userIdentity\.type | recipientAccountId"
    r"| createdAt | updatedAt | severity | service\.event(First|Last)Seen | .*\.connectionDirection"
    r"| .*\.uuid | .*\.parentUuid | .*\.mfaStatus | .*\.resourceType"
    r"| action | flow_direction | traffic_path | start | end"
    r"| rcode | firewall_rule_action | query_timestamp | srcport )$"
)
"""Values that decide how a record is mapped, or that only mean something as they are."""
_ADDRESSES = frozenset({"srcaddr", "dstaddr", "pkt_srcaddr", "pkt_dstaddr"})
_NUMBERS = frozenset({"srcport", "dstport", "protocol", "packets", "bytes", "tcp_flags", "version"})


def told_apart(chunk: Chunk) -> Chunk:
    """The chunk with a different value in each place that does not steer the mapping."""
    table = chunk.records
    if "_raw" in table.column_names:
        raw = [json.dumps(_numbered(json.loads(text), number)) for number, text in enumerate(table["_raw"].to_pylist())]
        return Chunk(table.set_column(table.schema.get_field_index("_raw"), "_raw", pa.array(raw, pa.string())))
    for position, name in enumerate(table.column_names):
        if name == "_record" or CONTROL.match(name):
            continue
        values = [None if value is None else _cell(name, value, position) for value in table[name].to_pylist()]
        table = table.set_column(position, name, pa.array(values, pa.string()))
    return Chunk(table)


def _cell(name: str, value: str, position: int) -> str:
    if name in _ADDRESSES:
        return f"2001:db8::{position + 1:x}" if ":" in value else f"10.99.0.{position + 1}"
    return str(2000 + position) if name in _NUMBERS else f"{value}~{position}"


def _numbered(record: Any, start: int) -> Any:
    counter = iter(range(start * 10_000, (start + 1) * 10_000))

    def changed(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {key: changed(item, f"{path}.{key}" if path else key) for key, item in value.items()}
        if isinstance(value, list):
            return [changed(item, f"{path}[]") for item in value]
        if CONTROL.match(path) or value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return f"{value}~{next(counter)}"
        return 7_000_000 + next(counter)

    return changed(record, "")
