"""Engines, kept: one costs from a tenth of a second to one second of CPU until it has mapped once.

An engine is for one thread at a time, and what it has mapped before changes nothing of what it maps. So each thread
keeps its own for whatever it does next, be it a batch, a replay or a lost file. When it ends, another one gets them.
"""

from __future__ import annotations

import threading
from functools import cache

from ocsf_lake.config import Settings
from ocsf_lake.ingest.routing import Engines
from ocsf_lake.inputs import fields
from ocsf_mappers import Engine, Mapper

_Cache = dict[tuple[Mapper, str], Engine]
_left: list[_Cache] = []
"""Engines of threads that have ended."""


class _ThreadEngines:
    """A thread's engines."""

    def __init__(self) -> None:
        try:
            self.engines = _left.pop()
        except IndexError:
            self.engines = {}

    def __del__(self, left: list[_Cache] = _left) -> None:
        left.append(self.engines)


class _Threads(threading.local):
    def __init__(self) -> None:
        self.own = _ThreadEngines()  # made in each thread, and gone with it


_threads = _Threads()


def engine(mapper: Mapper, version: str) -> Engine:
    """The calling thread's engine of a mapper for an OCSF version."""
    engines = _threads.own.engines
    if (current := engines.get((mapper, version))) is None:
        # Of the same source, as settings make mappers anew, one other stays.
        for key in [key for key in engines if (key[0].name, key[1]) == (mapper.name, version)][:-1]:
            del engines[key]
        current = engines[mapper, version] = Engine(mapper, version)
    return current


def of_settings(version: str, settings: Settings) -> Engines:
    """Gives the engines of sources for an OCSF version, their mappers as the settings make them."""
    mapper = cache(lambda name: fields.mapper(name, settings))
    return lambda name: engine(mapper(name), version)
