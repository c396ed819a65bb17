"""A second opinion on events: OCSF's rules in plain Python, read from the compiled facts and sharing no code with
`ocsf_mappers.ocsf.validate`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from ocsf_mappers.ocsf import shipped
from tests.support import Json

Facts = Mapping[str, Any]

_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "string_t": str,
    "json_t": str,
    "integer_t": int,
    "long_t": int,
    "timestamp_t": int,
    "float_t": (int, float),
    "boolean_t": bool,
    "datetime_t": str,
}


@cache
def facts(version: str) -> Facts:
    return json.loads(shipped.read(f"ocsf-{version}.json"))


def problems(version: str, event: Json) -> list[str]:
    """What is invalid in the event, one sentence each."""
    known = facts(version)
    event_class = next(found for found in known["classes"].values() if found.get("uid") == event["class_uid"])
    profiles = set(event["metadata"]["profiles"])
    found = list(_object(known, event_class, profiles, event, ""))
    activity = event_class["attributes"]["activity_id"]["enum"][str(event["activity_id"])]
    expected = {
        "class_name": event_class["caption"],
        "category_uid": known["categories"][event_class["category"]]["uid"],
        "category_name": known["categories"][event_class["category"]]["caption"],
        "type_uid": event_class["uid"] * 100 + event["activity_id"],
        "type_name": f"{event_class['caption']}: {activity}",
    }
    found += [
        f"{name}: {event.get(name)!r}, not {value!r}" for name, value in expected.items() if event.get(name) != value
    ]
    if event["metadata"]["version"] != version:
        found.append(f"metadata.version: {event['metadata']['version']}")
    return found


def _object(known: Facts, holder: Facts, profiles: set[str], value: Json, path: str) -> Iterator[str]:
    attributes = holder["attributes"]
    for name, attribute in attributes.items():
        in_force = not attribute.get("profiles") or profiles & set(attribute["profiles"])
        if attribute.get("requirement") == "required" and in_force and name not in value:
            yield f"{path}{name}: required and missing"
    for kind, wanted in holder.get("constraints", {}).items():
        given = sum(name in value for name in wanted)
        if (kind == "at_least_one" and given < 1) or (kind == "just_one" and given != 1):
            yield f"{path}: {given} of {kind} {wanted}"
    for name, item in value.items():
        attribute = attributes.get(name)
        if attribute is None:
            yield f"{path}{name}: unknown attribute"
        elif attribute.get("profiles") and not profiles & set(attribute["profiles"]):
            yield f"{path}{name}: its profile is not in force"
        elif attribute.get("is_array") != isinstance(item, list) and (
            attribute.get("is_array") or isinstance(item, list)
        ):
            yield f"{path}{name}: list or not"
        else:
            for one in item if isinstance(item, list) else [item]:
                yield from _value(known, attribute, profiles, one, f"{path}{name}", value)


def _value(known: Facts, attribute: Facts, profiles: set[str], value: Any, path: str, beside: Json) -> Iterator[str]:
    if attribute.get("object"):
        holder = known["objects"][attribute["object"]]
        if holder["attributes"]:
            yield from _object(known, holder, profiles, value, f"{path}.")
        return
    kind, limits = _scalar(known, attribute["type"])
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean_t"):
        yield f"{path}: {value!r} is no {kind}"
        return
    if (enum := attribute.get("enum")) is not None:
        if str(value) not in enum:
            yield f"{path}: {value} is not in the enum"
        elif sibling := attribute.get("sibling"):
            yield from _sibling(enum, value, beside.get(sibling), path)
    if "range" in limits and not limits["range"][0] <= value <= limits["range"][1]:
        yield f"{path}: {value} is out of range"


def _sibling(enum: Mapping[str, str], number: int, text: str | None, path: str) -> Iterator[str]:
    if number == 99:
        if not text:
            yield f"{path}: 99 without the source's own text"
    elif text is not None and text != enum[str(number)]:
        yield f"{path}: {number} beside {text!r}"


def _scalar(known: Facts, name: str) -> tuple[str, Facts]:
    limits: dict[str, Any] = {}
    while name not in _KINDS:
        found = known["types"][name]
        limits = {**found, **limits}
        name = found.get("base", "string_t")
    return name, limits


def odd_texts(version: str, event: Json) -> list[tuple[str, str]]:
    """Path and text of what OCSF's regular expressions do not like: warnings, not errors."""
    known = facts(version)
    event_class = next(found for found in known["classes"].values() if found.get("uid") == event["class_uid"])
    return list(_odd(known, event_class, event, ""))


def _odd(known: Facts, holder: Facts, value: Json, path: str) -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        attribute = holder["attributes"].get(name)
        for one in item if isinstance(item, list) else [item]:
            if attribute is None:
                continue
            if attribute.get("object"):
                if isinstance(one, dict):
                    yield from _odd(known, known["objects"][attribute["object"]], one, f"{path}{name}.")
            elif isinstance(one, str):
                limits = known["types"].get(attribute["type"], {})
                if limits.get("regex") and not re.search(limits["regex"], one):
                    yield f"{path}{name}", one
