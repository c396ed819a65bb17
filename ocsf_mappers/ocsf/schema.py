"""One OCSF version: classes, objects, attributes, types; read from the compiled facts in `schemas/`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import msgspec

from ocsf_mappers.errors import MappingError, SchemaError, nearest
from ocsf_mappers.ocsf import shipped

Made = TypeVar("Made")
Entry = TypeVar("Entry")

DEFAULT_VERSION = "1.1.0"
"""What Security Lake v2 writes and AWS's published queries expect."""


@dataclass(frozen=True)
class Attribute:
    """One attribute of a class or object.

    `enum` maps ids to captions (ids of string enums stay text); `sibling` is the text attribute beside an `_id`;
    `caption` is its name in words.
    """

    name: str
    type: str
    requirement: str
    object: str | None = None
    is_array: bool = False
    profiles: frozenset[str] = frozenset()
    enum: Mapping[str, str] | None = None
    sibling: str | None = None
    observable: int | None = None
    caption: str = ""

    @property
    def required(self) -> bool:
        """Whether an event or object without this attribute is invalid."""
        return self.requirement == "required"


@dataclass(frozen=True)
class ObjectType:
    """An OCSF object or event class: its attributes and the constraints on them."""

    name: str
    caption: str
    attributes: Mapping[str, Attribute]
    at_least_one: tuple[str, ...] = ()
    just_one: tuple[str, ...] = ()


@dataclass(frozen=True)
class EventClass(ObjectType):
    """An OCSF event class."""

    uid: int = 0
    category_uid: int = 0
    category_name: str = ""
    profiles: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ScalarType:
    """An OCSF scalar type with its limits; `base` is one of the eight kinds in `BASES`."""

    name: str
    base: str
    regex: str | None = None
    max_len: int | None = None
    range: tuple[int, int] | None = None
    observable: int | None = None


BASES = frozenset({"string_t", "integer_t", "long_t", "float_t", "boolean_t", "json_t", "timestamp_t", "datetime_t"})


@dataclass(frozen=True)
class Schema:
    """The facts of one OCSF version."""

    version: str
    classes: Mapping[str, EventClass]
    objects: Mapping[str, ObjectType]
    types: Mapping[str, ScalarType]

    def event_class(self, name: str) -> EventClass:
        """The class of this name, such as `api_activity`."""
        try:
            return self.classes[name]
        except KeyError:
            hint = nearest(name, self.classes)
            raise MappingError(f"OCSF {self.version} has no class {name!r}{hint}") from None

    def class_by_uid(self, uid: int) -> EventClass | None:
        """The class with this `class_uid`, or None."""
        return next((event_class for event_class in self.classes.values() if event_class.uid == uid), None)

    def members(self, attribute: Attribute) -> ObjectType | None:
        """The object type behind an attribute; None for scalars and for `object`, which declares no attributes."""
        if attribute.object is None:
            return None
        object_type = self.objects[attribute.object]
        return object_type if object_type.attributes else None

    def find(self, class_name: str, path: str, profiles: Iterable[str]) -> list[Attribute] | None:
        """The attributes along a dotted path, outermost first; None where a step does not exist under the profiles."""
        holder: ObjectType | None = self.event_class(class_name)
        chain: list[Attribute] = []
        for step in path.split("."):
            if holder is None or step not in holder.attributes:
                return None
            attribute = holder.attributes[step]
            if attribute.profiles and attribute.profiles.isdisjoint(profiles):
                return None
            chain.append(attribute)
            holder = self.members(attribute)
        return chain

    def resolve(self, class_name: str, path: str, profiles: Iterable[str]) -> list[Attribute]:
        """The attributes along a dotted path, outermost first.

        Raises:
            MappingError: A step does not exist, or needs a profile that is not in force; names the nearest.
        """
        if (attributes := self.find(class_name, path, profiles)) is not None:
            return attributes
        holder: ObjectType | None = self.event_class(class_name)
        chain: list[Attribute] = []
        active = set(profiles)
        for step in path.split("."):
            if holder is None:
                raise MappingError(f"{path}: {chain[-1].name} has no members in OCSF {self.version}")
            attribute = holder.attributes.get(step)
            if attribute is None:
                hint = nearest(step, holder.attributes)
                raise MappingError(f"{path}: OCSF {self.version} {holder.name} has no {step!r}{hint}")
            if attribute.profiles and not attribute.profiles & active:
                names = " or ".join(sorted(attribute.profiles))
                raise MappingError(f"{path}: {step!r} needs profile {names}; name it in the event map's profiles")
            chain.append(attribute)
            holder = self.members(attribute)
        return chain

    def scalar(self, attribute: Attribute) -> ScalarType:
        """The scalar type of an attribute that is not an object."""
        return self.types[attribute.type]

    @property
    def observable_captions(self) -> Mapping[int, str]:
        """Observable type ids and their captions."""
        enum = self.objects["observable"].attributes["type_id"].enum or {}
        return {int(key): caption for key, caption in enum.items()}


def _attribute(name: str, entry: Mapping[str, Any]) -> Attribute:
    return Attribute(
        name=name,
        type=entry["type"],
        requirement=entry.get("requirement", "optional"),
        object=entry.get("object"),
        is_array=entry.get("is_array", False),
        profiles=frozenset(entry.get("profiles", ())),
        enum=entry.get("enum"),
        sibling=entry.get("sibling"),
        observable=entry.get("observable"),
        caption=entry.get("caption", ""),
    )


def _holder(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a class and an object have in common."""
    constraints = entry.get("constraints", {})
    return {
        "name": name, "caption": entry["caption"], "attributes": _Lazily(entry["attributes"], _attribute),
        **{kind: tuple(constraints.get(kind, ())) for kind in ("at_least_one", "just_one")},
    }  # fmt: skip


class _Lazily(Mapping[str, Made]):
    """What a version has by name, each made when it is asked for: of 20,000 attributes a mapper names a few."""

    def __init__(self, entries: Mapping[str, Entry], make: Callable[[str, Entry], Made]) -> None:
        self._entries = entries
        self._make = make
        self._made: dict[str, Made] = {}

    def __getitem__(self, name: str) -> Made:
        if name not in self._made:
            self._made[name] = self._make(name, self._entries[name])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _scalar_types(types: Mapping[str, Mapping[str, Any]]) -> dict[str, ScalarType]:
    def base(name: str) -> str:
        return name if name in BASES else base(types[name].get("base", "string_t"))

    return {
        name: ScalarType(
            name=name,
            base=base(name),
            regex=entry.get("regex"),
            max_len=entry.get("max_len"),
            range=tuple(entry["range"]) if "range" in entry else None,
            observable=entry.get("observable"),
        )
        for name, entry in types.items()
    }


@cache
def load(version: str = DEFAULT_VERSION) -> Schema:
    """The facts of one OCSF version.

    Raises:
        SchemaError: The version is not shipped.
    """
    if version not in shipped.versions():
        versions = ", ".join(shipped.versions())
        raise SchemaError(f"OCSF {version} is not shipped; choose one of {versions}, or compile it (see schemas/)")
    document = msgspec.json.decode(shipped.read(f"ocsf-{version}.json"), type=_Document)

    def event_class(name: str, text: msgspec.Raw) -> EventClass:
        entry = msgspec.json.decode(text)
        category = document.categories.get(entry.get("category"), {})
        return EventClass(
            **_holder(name, entry),
            uid=entry.get("uid", 0),
            category_uid=entry.get("category_uid", category.get("uid", 0)),
            category_name=category.get("caption", "Uncategorized"),
            profiles=frozenset(entry.get("profiles", ())),
        )

    def object_type(name: str, text: msgspec.Raw) -> ObjectType:
        return ObjectType(**_holder(name, msgspec.json.decode(text)))

    classes, objects = _Lazily(document.classes, event_class), _Lazily(document.objects, object_type)
    return Schema(document.ocsf_version, classes, objects, _scalar_types(document.types))


class _Document(msgspec.Struct):
    """A file of compiled facts; of what is large each entry is the text of one class or object."""

    ocsf_version: str
    categories: dict[str, dict[str, Any]]
    types: dict[str, dict[str, Any]]
    classes: dict[str, msgspec.Raw]
    objects: dict[str, msgspec.Raw]
