"""OCSF validation as SQL over whole batches of events.

The checks are those of OCSF's own validator: unknown attribute, missing required attribute, attribute of a profile that
is not in force, wrong type, value outside its enum or range, constraint (`at_least_one`, `just_one`), class, category
and type uid, schema version, plausible time. Those are problems: an event with one is invalid. Regular expressions,
maximum lengths and siblings that disagree with their ids are warnings.

A check is written against columns, so one set of checks serves a mapping query, a Parquet file and JSON read into
columns. Objects with all members null count as absent, as they do in Parquet.
Source: https://github.com/ocsf/ocsf-server (its `validate` API), https://schema.ocsf.io
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from ocsf_mappers import sqltext
from ocsf_mappers.ocsf import schema
from ocsf_mappers.ocsf.tables import OUTSIDE_OCSF

FIRST_PLAUSIBLE_MS = 946_684_800_000
LAST_PLAUSIBLE_MS = 4_102_444_800_000
"""An event's time lies in the years 2000 to 2099, or its unit or clock is wrong."""

TALLIED = 62
"""So many checks of list elements are bits of one number."""


class Columns(Protocol):
    """How checks reach the values of an event."""

    def value(self, path: str) -> str:
        """SQL for the value at a dotted path."""

    def absent(self, path: str) -> str:
        """SQL that is true where nothing is there: `true` or `false` where that is known beforehand."""

    def proven(self, path: str) -> bool:
        """Whether the value is right by construction."""


@dataclass(frozen=True)
class Nested:
    """Columns as they stand in a table: structs, entered by name. `root` is SQL for the object that paths start in."""

    fields: tuple[pa.Field, ...]
    root: str = ""

    def value(self, path: str) -> str:
        """SQL for the value at a dotted path."""
        steps = ".".join(sqltext.name(step) for step in path.split("."))
        return f"{self.root}.{steps}" if self.root else steps

    def absent(self, path: str) -> str:
        """SQL that is true where nothing is there."""
        fields: Sequence[pa.Field] = self.fields
        for step in path.split("."):
            member = next((field for field in fields if field.name == step), None)
            if member is None:
                return "true"
            fields = list(member.type) if pa.types.is_struct(member.type) else ()
        return f"{self.value(path)} IS NULL"

    def proven(self, path: str) -> bool:
        """Nothing is known beforehand."""
        return False


@dataclass(frozen=True)
class Check:
    """One way to be invalid.

    `path` names the attribute, `test` is SQL that is true where it is invalid, `problem` is what is wrong; `value` is
    SQL for the offending value, where it can be shown. A check of a list's elements is made `inside`: `test` is then
    about `variable`, one of `items`. `only` is SQL for the events that it is made for; empty for all.
    """

    path: str
    test: str
    problem: str
    value: str | None = None
    warning: bool = False
    items: str = ""
    variable: str = ""
    only: str = ""

    @property
    def message(self) -> str:
        """SQL for the whole message."""
        prefix = "" if self.value is None else f"({self.value})::VARCHAR || "
        return f"{sqltext.text(self.path + ': ')} || {prefix}{sqltext.text(self.problem)}"

    @property
    def strikes(self) -> str:
        """SQL that is true where the event is invalid."""
        if not self.items:
            return self._guarded(self.test)
        return self._guarded(f"list_bool_or(list_transform({self.items}, lambda {self.variable}: {self.test}))")

    def _guarded(self, test: str) -> str:
        return f"{self.only} AND ({test})" if self.only else test

    def inside(self, items: str, variable: str) -> Check:
        """The same check, made on every element of a list."""
        inner = variable
        if self.items:
            items, inner = f"flatten(list_transform({items}, lambda {variable}: {self.items}))", self.variable
        return Check(self.path, self.test, self.problem.strip(), None, self.warning, items, inner)


Event = tuple[schema.EventClass, tuple[str, ...]]
"""A class and the profiles in force."""


def problems(ocsf: schema.Schema, events: Sequence[Event], columns: pa.Schema) -> str:
    """SQL for the list of an event's problems, null where it is valid.

    Args:
        ocsf: The OCSF version.
        events: The classes that rows may be of; `class_uid` tells which.
        columns: The columns at hand, structs entered by name.
    """
    return listing(checks(ocsf, events, columns), warnings=False)


def listing(all_checks: Iterable[Check], *, warnings: bool) -> str:
    """SQL for a list of messages, null where no check strikes. The messages are only built for rows that need them."""
    selected = [check for check in all_checks if check.warning == warnings]
    if not selected:
        return "NULL"
    messages = ", ".join(f"CASE WHEN {check.strikes} THEN {check.message} END" for check in selected)
    strikes = " OR ".join(f"({check.strikes})" for check in selected)
    return f"CASE WHEN {strikes} THEN list_filter([{messages}], lambda item: item IS NOT NULL) END"


def tallied(all_checks: Iterable[Check], prefix: str) -> tuple[dict[str, str], list[Check]]:
    """Checks of list elements brought down to one pass over each list.

    Returns:
        Columns to compute first, by name: numbers whose bits say which checks some element fails. And all the checks,
        those of elements reading these columns.
    """
    all_checks = list(all_checks)
    by_list: dict[tuple[str, str], list[Check]] = {}
    for check in all_checks:
        if check.items:
            by_list.setdefault((check.items, check.variable), []).append(check)
    columns: dict[str, str] = {}
    bits: dict[Check, str] = {}
    for (items, variable), checks_of_list in by_list.items():
        for start in range(0, len(checks_of_list), TALLIED):
            name, group = f"{prefix}{len(columns)}", checks_of_list[start : start + TALLIED]
            tests = [f"CASE WHEN {check.test} THEN {1 << place} ELSE 0 END" for place, check in enumerate(group)]
            columns[name] = f"list_bit_or(list_transform({items}, lambda {variable}: ({' + '.join(tests)})::BIGINT))"
            bits |= {check: f"{name} & {1 << place} <> 0" for place, check in enumerate(group)}
    return columns, [replace(check, test=bits[check], items="") if check in bits else check for check in all_checks]


def checks(ocsf: schema.Schema, events: Sequence[Event], columns: pa.Schema) -> list[Check]:
    """Every check for these classes over nested columns."""
    uids = ", ".join(str(event_class.uid) for event_class, _ in events)
    owned_checks = [
        for_class(check, "class_uid", [event_class.uid], len(events))
        for event_class, profiles in events
        for check in class_checks(ocsf, event_class, profiles, columns, Nested(tuple(columns)))
    ]
    expected = Check(
        "class_uid", f"class_uid IS NULL OR class_uid NOT IN ({uids})", " is not a class expected here", "class_uid"
    )
    return [expected, *merged(owned_checks)]


@dataclass(frozen=True)
class Owned:
    """A check and the event maps or classes it is made for, out of `total`."""

    check: Check
    key: str
    owners: tuple[int, ...]
    total: int


def for_class(check: Check, key: str, owners: Sequence[int], total: int) -> Owned:
    """A check that is made only where column `key` is one of `owners`."""
    return Owned(check, key, tuple(owners), total)


def merged(owned_checks: Iterable[Owned]) -> list[Check]:
    """Checks that several classes share, made once; a check of all classes needs no test of the class."""
    owners: dict[Check, list[Owned]] = {}
    for owned in owned_checks:
        owners.setdefault(owned.check, []).append(owned)
    result = []
    for check, shared in owners.items():
        uids = list(dict.fromkeys(uid for owned in shared for uid in owned.owners))
        if len(uids) < shared[0].total:
            condition = f"{shared[0].key} IN ({', '.join(str(uid) for uid in uids)})"
            check = replace(check, only=condition)
        result.append(check)
    return result


def every(tests: Sequence[str]) -> str:
    """All tests joined with AND; `true` and `false` are folded, and no tests are true."""
    if "false" in tests:
        return "false"
    effective = list(dict.fromkeys(test for test in tests if test != "true"))
    return " AND ".join(f"({test})" for test in effective) if effective else "true"


def class_checks(
    ocsf: schema.Schema, event_class: schema.EventClass, profiles: Sequence[str], columns: pa.Schema, at: Columns
) -> list[Check]:
    """The checks of one class."""
    fields = [field for field in columns if field.name not in OUTSIDE_OCSF]
    walk = _Walk(ocsf, frozenset(profiles))
    candidates = [*walk.members(event_class, fields, "", at), *_own_checks(ocsf, event_class, at)]
    return [check for check in candidates if check.test not in ("false", "")]


def _own_checks(ocsf: schema.Schema, event_class: schema.EventClass, at: Columns) -> Iterator[Check]:
    """What holds between an event's own members."""
    if not at.proven("type_uid"):
        test = f"{at.value('type_uid')} <> {event_class.uid * 100} + {at.value('activity_id')}"
        if "true" not in (at.absent("type_uid"), at.absent("activity_id")):
            yield Check("type_uid", test, " is not the class and activity", at.value("type_uid"))
    for path, expected, message in (
        ("category_uid", str(event_class.category_uid), " is not the category of the class"),
        ("metadata.version", sqltext.text(ocsf.version), " is not the version validated against"),
    ):
        if not at.proven(path) and at.absent(path) != "true":
            yield Check(path, f"{at.value(path)} <> {expected}", message, at.value(path))
    if at.absent("time") != "true":
        time = at.value("time")
        test = f"{time} NOT BETWEEN {FIRST_PLAUSIBLE_MS} AND {LAST_PLAUSIBLE_MS - 1}"
        yield Check("time", test, " ms is outside the years 2000 to 2099", time)


_ARROW_KINDS = {
    "string_t": pa.types.is_string,
    "json_t": pa.types.is_string,
    "integer_t": pa.types.is_integer,
    "long_t": pa.types.is_integer,
    "timestamp_t": pa.types.is_integer,
    "float_t": lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_integer(kind),
    "boolean_t": pa.types.is_boolean,
    "datetime_t": lambda kind: pa.types.is_timestamp(kind) or pa.types.is_string(kind),
}


@dataclass(frozen=True)
class _Walk:
    """Walks an event's columns beside its class."""

    ocsf: schema.Schema
    profiles: frozenset[str]

    def _in_force(self, attribute: schema.Attribute) -> bool:
        return not attribute.profiles or bool(attribute.profiles & self.profiles)

    def members(self, holder: schema.ObjectType, fields: Sequence[pa.Field], path: str, at: Columns) -> Iterator[Check]:
        """Checks of an object's members; `path` is its own, "" for the event."""
        absent = at.absent(path) if path else "false"
        if absent == "true":
            return
        is_present = [] if absent == "false" else [f"NOT ({absent})"]
        dot = f"{path}." if path else ""
        for attribute in holder.attributes.values():
            if attribute.required and self._in_force(attribute):
                test = every([*is_present, at.absent(dot + attribute.name)])
                yield Check(dot + attribute.name, test, "required attribute is missing")
        if holder.at_least_one:
            test = every([*is_present, *(at.absent(dot + name) for name in holder.at_least_one)])
            yield Check(path or holder.name, test, f"needs at least one of {', '.join(holder.at_least_one)}")
        if holder.just_one:
            count = " + ".join(f"(NOT ({at.absent(dot + name)}))::INTEGER" for name in holder.just_one)
            test = every([*is_present, f"({count}) <> 1"])
            yield Check(path or holder.name, test, f"needs just one of {', '.join(holder.just_one)}")
        for field in fields:
            yield from self._member(holder, field, dot + field.name, at)

    def _member(self, holder: schema.ObjectType, field: pa.Field, path: str, at: Columns) -> Iterator[Check]:
        absent = at.absent(path)
        if absent == "true":
            return
        attribute = holder.attributes.get(field.name)
        if attribute is None:
            message = f"OCSF {self.ocsf.version} {holder.name} has no such attribute"
            yield Check(path, f"NOT ({absent})", message)
        elif not self._in_force(attribute):
            yield Check(path, f"NOT ({absent})", f"needs profile {' or '.join(sorted(attribute.profiles))}")
        elif pa.types.is_list(field.type) != attribute.is_array:
            yield Check(path, f"NOT ({absent})", "is a list where OCSF has one value, or the other way round")
        elif not attribute.is_array:
            yield from self._value(attribute, field.type, path, at)
        elif not at.proven(path):
            yield from self._items(attribute, field.type.value_type, path, at)

    def _items(self, attribute: schema.Attribute, kind: pa.DataType, path: str, at: Columns) -> Iterator[Check]:
        """Checks of a list's elements."""
        variable = "e_" + path.replace(".", "_").replace("[]", "")
        inner = schema.Attribute(**{**vars(attribute), "is_array": False, "sibling": None})
        if attribute.object is None:
            element_checks = self._scalar(inner, kind, path, variable, None)
        else:
            members = self.ocsf.members(attribute)
            fields = tuple(kind) if pa.types.is_struct(kind) else ()
            element_checks = self.members(members, fields, "", Nested(fields, variable)) if members else iter(())
        for check in element_checks:
            name = f"{path}[]" if check.path in (path, attribute.object) else f"{path}[].{check.path}"
            # What is checked inside an inner list is about that list's elements, which are not null.
            test = check.test if check.items else f"{variable} IS NOT NULL AND ({check.test})"
            yield replace(check, path=name, test=test).inside(at.value(path), variable)

    def _value(self, attribute: schema.Attribute, kind: pa.DataType, path: str, at: Columns) -> Iterator[Check]:
        if attribute.object is None:
            if not at.proven(path):
                head, _, _ = path.rpartition(".")
                sibling_path = f"{head}.{attribute.sibling}" if head else attribute.sibling
                has_sibling = attribute.sibling is not None and at.absent(sibling_path or "") != "true"
                yield from self._scalar(
                    attribute, kind, path, at.value(path), at.value(sibling_path or "") if has_sibling else None
                )
            return
        members = self.ocsf.members(attribute)
        if members is not None and pa.types.is_struct(kind):
            yield from self.members(members, list(kind), path, at)
        elif members is not None:
            yield Check(path, f"NOT ({at.absent(path)})", "is not an object")

    def _scalar(
        self, attribute: schema.Attribute, kind: pa.DataType, path: str, value: str, sibling: str | None
    ) -> Iterator[Check]:
        scalar = self.ocsf.scalar(attribute)
        if not _ARROW_KINDS[scalar.base](kind):
            yield Check(path, f"{value} IS NOT NULL", f"is {kind}, not {attribute.type}")
            return
        text = pa.types.is_string(kind)
        if attribute.enum is not None:
            ids = [sqltext.text(key) for key in attribute.enum] if text else list(attribute.enum)
            yield Check(path, f"{value} NOT IN ({', '.join(ids)})", " is not in the enum", value)
            if sibling is not None and not text:
                captions = " ".join(f"WHEN {key} THEN {sqltext.text(name)}" for key, name in attribute.enum.items())
                test = f"{value} <> 99 AND {sibling} <> CASE {value} {captions} END"
                yield Check(path, test, " is not its caption", sibling, warning=True)
        if scalar.range is not None:
            low, high = scalar.range
            yield Check(path, f"{value} NOT BETWEEN {low} AND {high}", f" is not in {low} to {high}", value)
        if scalar.regex is not None and text:
            test = f"NOT regexp_matches({value}, {sqltext.text(scalar.regex)})"
            yield Check(path, test, f"does not look like {attribute.type}", warning=True)
        if scalar.max_len is not None and text:
            yield Check(path, f"length({value}) > {scalar.max_len}", f"longer than {scalar.max_len}", warning=True)
