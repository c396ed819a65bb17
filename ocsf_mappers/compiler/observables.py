"""Which values of an event are listed among its observables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from ocsf_mappers.compiler.program import Observable
from ocsf_mappers.ocsf import schema, tables
from ocsf_mappers.vocabulary import lists
from ocsf_mappers.vocabulary.table import column_type
from ocsf_mappers.vocabulary.word import Word

if TYPE_CHECKING:
    from ocsf_mappers.vocabulary.mapper import EventMap, Mapper

OBSERVABLE_TYPES = frozenset(range(1, 11))
"""Observables are made of the values whose OCSF type marks them: the ten of 1.1.0 (hostname, IP, MAC, user name, email,
URL, file name, hash, process, resource), which are what AWS writes in every version. Ports, account ids and user
agents, marked later, would double the column for little."""


SHAPES = {
    "IP Address": r"^(\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){2,7}(\d{1,3}(\.\d{1,3}){3})?)$",
    "Hostname": r"^([a-zA-Z0-9_*-]{1,63}\.)+([a-zA-Z][a-zA-Z0-9-]{0,62}\.?)?$",
}
"""What a value looks like where it is the mapper that says which observable a path holds."""


def observables(
    mapper: Mapper, ocsf: schema.Schema, table: tables.Table, mapped: Sequence[Mapping[str, Word]]
) -> list[Observable]:
    """What is listed of a mapper's events; `mapped` is, for each event map, path and word of what it fills."""
    labels = ocsf.observable_captions
    items = []
    for path, kinds in sorted(_marked(mapper, ocsf, table, mapped).items()):
        inside = [name for name in _ancestors(path) if pa.types.is_list(column_type(table, name))]
        owner = inside[0] if inside else None
        members = tuple(path[len(owner) + 1 :].split(".")) if owner and path != owner else ()
        marks = ("[]" if name in inside else "" for name in _ancestors(path))
        name = ".".join(step + mark for step, mark in zip(path.split("."), marks, strict=True))
        for kind in kinds:
            # The schema marks what is one by its type; what a mapper marks may hold something else.
            shape = SHAPES.get(labels[kind]) if path in mapper.observables else None
            observable = Observable(name, owner or path, members, labels[kind], kind, shape)
            items.append(observable)
            if labels[kind] == "Hostname":
                items.append(replace(observable, relative=True))
    return items


def _marked(
    mapper: Mapper, ocsf: schema.Schema, table: tables.Table, mapped: Sequence[Mapping[str, Word]]
) -> dict[str, list[int]]:
    """OCSF paths that hold observables, and their type ids."""
    by_caption = {caption: number for number, caption in ocsf.observable_captions.items()}
    marked: dict[str, list[int]] = {}
    for event, fields in zip(mapper.events, mapped, strict=True):
        for path, word in fields.items():
            for leaf in [f"{path}.{name}" for name, _ in lists.element_fields(word)] or [path]:
                if column_type(table, leaf) is None:
                    continue
                declared = mapper.observables.get(leaf)
                captions = [declared] if isinstance(declared, str) else declared or ()
                kinds = [by_caption[caption] for caption in captions]
                if declared is None and (marked_kind := _marked_by_schema(ocsf, event, leaf)):
                    kinds = [marked_kind]
                if kinds := [kind for kind in kinds if kind in OBSERVABLE_TYPES]:
                    marked[leaf] = kinds
    return marked


def _marked_by_schema(ocsf: schema.Schema, event: EventMap, path: str) -> int | None:
    chain = ocsf.find(event.event_class, path, event.all_profiles)
    return ocsf.scalar(chain[-1]).observable if chain and chain[-1].object is None else None


def _ancestors(path: str) -> Iterator[str]:
    steps = path.split(".")
    for length in range(1, len(steps) + 1):
        yield ".".join(steps[:length])
