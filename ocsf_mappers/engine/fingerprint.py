"""The name of a mapper as it is now, which batches and files are named by."""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from pathlib import Path

from ocsf_mappers.compiler.compile import BatchShape, compile_mapper
from ocsf_mappers.readers.json_records import JsonRecords
from ocsf_mappers.vocabulary.mapper import Mapper
from ocsf_mappers.vocabulary.record import OBJECT_KEY_COLUMNS


def fingerprint(mapper: Mapper, version: str) -> str:
    """Name of the mapper as it is now: OCSF version and a digest of all that decides its events.

    That is the query, how the source is read, and this package's own code. A changed comment gives a new name too: that
    costs no more than planning open batches anew. A changed reader that kept the name would mix two kinds of events.
    """
    return _fingerprint(mapper, version, _code())


@lru_cache(maxsize=128)
def _fingerprint(mapper: Mapper, version: str, code: bytes) -> str:
    digest = hashlib.sha256(code)
    digest.update(repr((mapper.readers, mapper.record)).encode())
    shapes = []
    json = [isinstance(reader, JsonRecords) for reader in mapper.readers]
    if any(json):
        shapes.append(BatchShape(object_key=OBJECT_KEY_COLUMNS, envelope=True))
    if not all(json):
        shapes.append(BatchShape(frozenset(path[0] for path in mapper.shape.leaves), OBJECT_KEY_COLUMNS))
    for shape in shapes:
        # As an engine asks for it, and most batches are: it is compiled once for both.
        digest.update(repr(compile_mapper(mapper, version, shape, validated=True)).encode())
    return f"{mapper.name}-{version}-{digest.hexdigest()[:12]}"


@cache
def _code() -> bytes:
    """A digest of this package's modules, without the sources, whose tables are compiled into the query.

    What proposes and tests sources has no part in their events.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for module in sorted(root.rglob("*.py")):
        name = module.relative_to(root).as_posix()
        if not name.startswith(("sources/", "kit/", "testing/")):
            digest.update(name.encode() + b"\0" + module.read_bytes() + b"\0")
    return digest.digest()
