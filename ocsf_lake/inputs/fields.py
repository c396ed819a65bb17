"""Columns of logs without a header, from the settings `flow_fields` and `realtime_fields`.

A setting decides events, so it is part of the mapper that reads: mappers made here have a fingerprint of their own, and
with it batches. After a change open batches are planned anew, and a replay of quarantine tries its records again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from ocsf_lake.config import LogFields, Settings
from ocsf_mappers import Delimited, DelimitedInJson, Mapper, registry
from ocsf_mappers.errors import ConfigError, nearest
from ocsf_mappers.readers import Named, Reader

SETTINGS = ("flow_fields", "realtime_fields")
"""Readers whose `setting` is one of them take the columns that it names."""


def mapper(name: str, settings: Settings) -> Mapper:
    """A source's mapper as the settings make it.

    Raises:
        ConfigError: There is no such source, or the setting names fields that no log can have.
    """
    return configured(registry.load(name), settings)


def all_configured(mappers: Mapping[str, Mapper], settings: Settings) -> dict[str, Mapper]:
    """Mappers by name, as the settings make them."""
    return {name: configured(mapper, settings) for name, mapper in mappers.items()}


def configured(mapper: Mapper, settings: Settings) -> Mapper:
    """A mapper as the settings make it."""
    if not any(_given(reader, settings) for reader in mapper.readers):
        return mapper
    return replace(mapper, readers=[_reader(reader, settings) for reader in mapper.readers])


def source(uri: str, settings: Settings) -> str | None:
    """The source of an object whose fields the settings name; None where they do not."""
    if not any(_names(uri, getattr(settings, name)) for name in SETTINGS):
        return None
    for name, candidate in registry.sources().items():
        if any(_names(uri, _given(reader, settings)) for reader in candidate.mapper.readers):
            return name
    return None


def _given(reader: Reader, settings: Settings) -> tuple[LogFields, ...]:
    """The columns of a reader by the settings."""
    match reader:
        case Delimited(setting=str(name)) | DelimitedInJson(text=Delimited(setting=str(name))) if name in SETTINGS:
            given: tuple[LogFields, ...] = getattr(settings, name)
            return given
        case _:
            return ()


def _names(uri: str, given: tuple[LogFields, ...]) -> bool:
    return any(fnmatchcase(uri, glob(setting)) for setting in given)


def glob(setting: LogFields) -> str:
    """The pattern that the whole URI has to fit: a URI without `*` stands for all below it.

    A path that is no URI is one of this machine, from the working folder; one that begins with `*` may be anywhere.
    """
    anywhere = "://" in setting.uri or setting.uri.startswith("*")
    uri = setting.uri if anywhere else f"file://{os.path.realpath(setting.uri)}"
    return uri if any(mark in uri for mark in "*?[") else f"{uri}*"


def _reader(reader: Reader, settings: Settings) -> Reader:
    match reader:
        case Delimited():
            return _named(reader, settings)
        case DelimitedInJson(text=Delimited() as text):
            return replace(reader, text=_named(text, settings))
        case _:
            return reader


def _named(reader: Delimited, settings: Settings) -> Delimited:
    return replace(reader, named=tuple(_columns(reader, setting) for setting in _given(reader, settings)))


def _columns(reader: Delimited, setting: LogFields) -> Named:
    names = tuple(name.lower().replace("-", "_") for name in setting.fields.split())
    where = f"setting {reader.setting}, {setting.uri}"
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{where}: {', '.join(repeated)} twice")
    unknown = [name for name in names if name not in reader.columns]
    for name in unknown:
        # AWS adds fields, so one that is not known may be right; one that is nearly a known field is misspelt.
        if hint := nearest(name, reader.columns):
            raise ConfigError(f"{where}: there is no field {name!r}{hint}")
    if len(unknown) * 2 >= len(names):
        raise ConfigError(f"{where}: {len(unknown)} of {len(names)} fields are none of such a log's")
    return Named(glob(setting), names)
