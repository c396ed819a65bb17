"""`ocsf-lake schema`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocsf_lake.cli import output
from ocsf_lake.cli.options import JsonOption, VersionOption, settings
from ocsf_lake.text import Lines

if TYPE_CHECKING:
    from ocsf_mappers.ocsf.schema import Attribute, ObjectType, Schema

EXAMPLE = "ocsf-lake schema dns_activity query"

DEPTH = 4
"""`--like` looks so deep into objects."""


def schema(
    class_name: Annotated[
        str | None, typer.Argument(metavar="[CLASS]", help="Name or uid of an event class. Default: list all.")
    ] = None,
    path: Annotated[str | None, typer.Argument(metavar="[PATH]", help="An attribute of the class, dotted.")] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="TEXT", help="Attributes whose path contains this, at any depth.")
    ] = None,
    ocsf_version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look up OCSF offline: classes, attributes, types, captions.

    Mappers use the attribute paths shown here, and captions for attributes that have values.
    """
    from ocsf_mappers.ocsf import schema as ocsf_schema

    ocsf = ocsf_schema.load(settings(ocsf_version=ocsf_version).ocsf_version)
    rows = list(_classes(ocsf)) if class_name is None else list(_selected(ocsf, class_name, path, like))
    if as_json:
        output.print_json(rows)
        return
    columns = list(rows[0]) if rows else ["attribute"]
    output.print_table(columns, [[_shown(item[name]) for name in columns] for item in rows])


def _shown(value: object) -> object:
    return Lines(str(item) for item in value) if isinstance(value, list) else value


def _classes(ocsf: Schema) -> Iterator[dict[str, Any]]:
    for name, event_class in sorted(ocsf.classes.items(), key=lambda item: item[1].uid):
        yield {
            "class": name, "uid": event_class.uid, "caption": event_class.caption,
            "category": event_class.category_name,
        }  # fmt: skip


def _selected(ocsf: Schema, class_name: str, path: str | None, like: str | None) -> Iterator[dict[str, Any]]:
    from ocsf_mappers.errors import ConfigError, MappingError

    by_uid = ocsf.class_by_uid(int(class_name)) if class_name.isascii() and class_name.isdecimal() else None
    try:
        event_class = by_uid or ocsf.event_class(class_name)
        holder: ObjectType = event_class
        before = ""
        if path is not None:
            attribute = ocsf.resolve(event_class.name, path, _every_profile(ocsf))[-1]
            members = ocsf.members(attribute)
            if members is None:
                yield _row(ocsf, path, attribute, every_value=True)
                return
            holder, before = members, f"{path}."
    except MappingError as error:
        raise ConfigError(str(error)) from error
    if like is None:
        for name, attribute in holder.attributes.items():
            yield _row(ocsf, f"{before}{name}", attribute)
    else:
        for at, attribute in _below(ocsf, holder, before):
            if like.lower() in at.lower():
                yield _row(ocsf, at, attribute)


def _every_profile(ocsf: Schema) -> frozenset[str]:
    return frozenset(profile for event_class in ocsf.classes.values() for profile in event_class.profiles)


def _below(ocsf: Schema, holder: ObjectType, before: str, depth: int = 1) -> Iterator[tuple[str, Attribute]]:
    for name, attribute in holder.attributes.items():
        yield f"{before}{name}", attribute
        if depth < DEPTH and (members := ocsf.members(attribute)) is not None:
            yield from _below(ocsf, members, f"{before}{name}.", depth + 1)


def _row(ocsf: Schema, path: str, attribute: Attribute, *, every_value: bool = False) -> dict[str, Any]:
    kind = attribute.object or attribute.type.removesuffix("_t")
    return {
        "attribute": path,
        "type": f"list of {kind}" if attribute.is_array else kind,
        "requirement": attribute.requirement,
        "profile": sorted(attribute.profiles),
        "values": _values(attribute.enum or {}, every_value),
    }


def _values(captions: Mapping[str, str], every_value: bool) -> list[str]:
    texts = [f"{number} {caption}" if number != caption else caption for number, caption in captions.items()]
    return texts if every_value or len(texts) <= 12 else [*texts[:11], f"and {len(texts) - 11} more"]
