"""OCSF validation as SQL over whole batches of events.

The checks are those of OCSF's own validator: unknown attribute, missing required attribute, attribute of a profile that
is not in force, value outside its enum or range, constraint (`at_least_one`, `just_one`), class, category and type uid,
schema version, plausible time. Those are problems: an event with one is invalid. Regular expressions, maximum lengths
and siblings that disagree with their ids are warnings.

A check is written against columns, so one set of checks serves a mapping query, a Parquet file and JSON read into
columns. Objects with all members null count as absent, as they do in Parquet.
Source: https://github.com/ocsf/ocsf-server (its `validate` API), https://schema.ocsf.io
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from ocsf_mappers import schema, sqltext
from ocsf_mappers.tables import OUTSIDE_OCSF

FIRST_PLAUSIBLE_MS = 946_684_800_000
LAST_PLAUSIBLE_MS = 4_102_444_800_000
"""An event's time lies in the years 2000 to 2099, or its unit or clock is wrong."""

Event = tuple[schema.EventClass, tuple[str, ...]]
"""A class and the profiles in force."""


@dataclass(frozen=True)
class Check:
    """One way to be invalid.

    `path` names the attribute, `test` is SQL that is true where it is invalid, `says` tells what is wrong; `value` is SQL
    for the offending value, where it can be shown.
    """

    path: str
    test: str
    says: str
    value: str | None = None
    warning: bool = False

    @property
    def message(self) -> str:
        """SQL for the whole message."""
        shown = "" if self.value is None else f"({self.value})::VARCHAR || "
        return f"{sqltext.text(self.path + ': ')} || {shown}{sqltext.text(self.says)}"

    def inside(self, items: str, variable: str) -> Check:
        """The same check, made on every element of a list."""
        test = f"list_bool_or(list_transform({items}, lambda {variable}: {self.test}))"
        return Check(self.path, test, self.says, None, self.warning)


def problems(facts: schema.Schema, events: Sequence[Event], columns: pa.Schema) -> str:
    """SQL for the list of an event's problems, null where it is valid.

    Args:
        facts: The OCSF version.
        events: The classes that rows may be of; `class_uid` tells which.
        columns: The columns at hand.
    """
    return listing(checks(facts, events, columns), warnings=False)


def listing(found: Iterable[Check], *, warnings: bool) -> str:
    """SQL for a list of messages, null where no check strikes. The messages are only built for rows that need them."""
    chosen = [check for check in found if check.warning == warnings]
    if not chosen:
        return "NULL"
    said = ", ".join(
        f"CASE WHEN {check.test} THEN {check.message} END" for check in chosen
    )
    struck = " OR ".join(f"({check.test})" for check in chosen)
    return f"CASE WHEN {struck} THEN list_filter([{said}], lambda item: item IS NOT NULL) END"


def checks(facts: schema.Schema, events: Sequence[Event], columns: pa.Schema) -> list[Check]:
    """Every check for these classes, made for the rows of the classes it belongs to."""
    owners: dict[Check, list[int]] = {}
    for event_class, profiles in events:
        for check in _class_checks(facts, event_class, frozenset(profiles), columns):
            owners.setdefault(check, []).append(event_class.uid)
    everywhere = len({event_class.uid for event_class, _ in events})
    uids = ", ".join(str(event_class.uid) for event_class, _ in events)
    found = [Check("class_uid", f"class_uid IS NULL OR class_uid NOT IN ({uids})", "is not a class expected here", "class_uid")]
    for check, classes in owners.items():
        if len(set(classes)) == everywhere:
            found.append(check)
            continue
        chosen = f"class_uid IN ({', '.join(str(uid) for uid in dict.fromkeys(classes))})"
        found.append(replace(check, test=f"{chosen} AND ({check.test})"))
    return found


def _class_checks(
    facts: schema.Schema, event_class: schema.EventClass, profiles: frozenset[str], columns: pa.Schema
) -> Iterator[Check]:
    fields = [field for field in columns if field.name not in OUTSIDE_OCSF]
    present = {field.name for field in fields}
    yield from _members(facts, event_class, profiles, fields, "", "")
    if {"type_uid", "activity_id"} <= present:
        test = f"type_uid <> {event_class.uid * 100} + activity_id"
        yield Check("type_uid", test, " is not the class and activity", "type_uid")
    if "category_uid" in present:
        yield Check("category_uid", f"category_uid <> {event_class.category_uid}", " is not the category of the class", "category_uid")
    if "time" in present:
        test = f"time < {FIRST_PLAUSIBLE_MS} OR time >= {LAST_PLAUSIBLE_MS}"
        yield Check("time", test, " ms is outside the years 2000 to 2099", "time")
    version = f"metadata.version <> {sqltext.text(facts.version)}"
    metadata = next((field.type for field in fields if field.name == "metadata"), None)
    if metadata is not None and metadata.get_field_index("version") >= 0:
        yield Check("metadata.version", version, " is not the version validated against", "metadata.version")


def _members(
    facts: schema.Schema,
    holder: schema.ObjectType,
    profiles: frozenset[str],
    fields: Sequence[pa.Field],
    parent: str,
    path: str,
) -> Iterator[Check]:
    """Checks of an object's members. `parent` is the object's SQL, "" at the top, where columns stand by name."""
    here = f"{parent} IS NOT NULL AND " if parent else ""
    dot = f"{path}." if path else ""
    reference = {field.name: f"{parent}.{sqltext.name(field.name)}" if parent else sqltext.name(field.name) for field in fields}
    for attribute in holder.attributes.values():
        if not attribute.required or (attribute.profiles and not attribute.profiles & profiles):
            continue
        missing = f"{reference[attribute.name]} IS NULL" if attribute.name in reference else "true"
        yield Check(dot + attribute.name, here + missing, "required attribute is missing")
    yield from _constraints(holder, reference, here, path or holder.name)
    for field in fields:
        value, where = reference[field.name], dot + field.name
        found = holder.attributes.get(field.name)
        if found is None:
            yield Check(where, f"{value} IS NOT NULL", f"OCSF {facts.version} {holder.name} has no such attribute")
        elif found.profiles and not found.profiles & profiles:
            yield Check(where, f"{value} IS NOT NULL", f"needs profile {' or '.join(sorted(found.profiles))}")
        else:
            yield from _value(facts, found, profiles, field.type, value, where, reference)


def _constraints(holder: schema.ObjectType, reference: dict[str, str], here: str, where: str) -> Iterator[Check]:
    if holder.at_least_one:
        absent = " AND ".join(f"{reference[name]} IS NULL" for name in holder.at_least_one if name in reference)
        yield Check(where, here + (absent or "true"), f"needs at least one of {', '.join(holder.at_least_one)}")
    if holder.just_one:
        given = " + ".join(f"({reference[name]} IS NOT NULL)::INTEGER" for name in holder.just_one if name in reference)
        yield Check(where, f"{here}({given or '0'}) <> 1", f"needs just one of {', '.join(holder.just_one)}")


def _value(
    facts: schema.Schema,
    attribute: schema.Attribute,
    profiles: frozenset[str],
    kind: pa.DataType,
    value: str,
    where: str,
    beside: dict[str, str],
) -> Iterator[Check]:
    if pa.types.is_list(kind) != attribute.is_array:
        yield Check(where, f"{value} IS NOT NULL", "is a list where OCSF has one value, or the other way round")
        return
    if attribute.is_array:
        variable = "e_" + where.replace(".", "_").replace("[]", "")
        item = schema.Attribute(**{**vars(attribute), "is_array": False, "sibling": None})
        for check in _value(facts, item, profiles, kind.value_type, variable, f"{where}[]", {}):
            yield check.inside(value, variable)
        return
    if attribute.object is not None:
        members = facts.members(attribute)
        if members is not None and pa.types.is_struct(kind):
            yield from _members(facts, members, profiles, list(kind), value, where)
        elif members is not None:
            yield Check(where, f"{value} IS NOT NULL", "is not an object")
        return
    yield from _scalar(facts, attribute, kind, value, where, beside)


_ARROW_KINDS = {
    "string_t": pa.types.is_string,
    "json_t": pa.types.is_string,
    "integer_t": pa.types.is_integer,
    "long_t": pa.types.is_integer,
    "timestamp_t": pa.types.is_integer,
    "float_t": lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind),
    "boolean_t": pa.types.is_boolean,
    "datetime_t": lambda kind: pa.types.is_timestamp(kind) or pa.types.is_string(kind),
}


def _scalar(
    facts: schema.Schema,
    attribute: schema.Attribute,
    kind: pa.DataType,
    value: str,
    where: str,
    beside: dict[str, str],
) -> Iterator[Check]:
    scalar = facts.scalar(attribute)
    if not _ARROW_KINDS[scalar.base](kind):
        yield Check(where, f"{value} IS NOT NULL", f"is {kind}, not {attribute.type}")
        return
    if attribute.enum is not None:
        ids = list(attribute.enum) if pa.types.is_integer(kind) else [sqltext.text(key) for key in attribute.enum]
        yield Check(where, f"{value} NOT IN ({', '.join(ids)})", " is not in the enum", value)
        if attribute.sibling in beside and pa.types.is_integer(kind):
            captions = " ".join(f"WHEN {key} THEN {sqltext.text(text)}" for key, text in attribute.enum.items())
            test = f"{value} <> 99 AND {beside[attribute.sibling]} <> CASE {value} {captions} END"
            yield Check(where, test, " is not its caption", beside[attribute.sibling], warning=True)
    if scalar.range is not None:
        low, high = scalar.range
        yield Check(where, f"{value} NOT BETWEEN {low} AND {high}", f" is not in {low} to {high}", value)
    if scalar.regex is not None and pa.types.is_string(kind):
        test = f"NOT regexp_matches({value}, {sqltext.text(scalar.regex)})"
        yield Check(where, test, f"does not look like {attribute.type}", warning=True)
    if scalar.max_len is not None and pa.types.is_string(kind):
        yield Check(where, f"length({value}) > {scalar.max_len}", f"longer than {scalar.max_len}", warning=True)
