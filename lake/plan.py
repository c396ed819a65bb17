"""Which objects are new, and in which batches they go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

from lake.config import Settings
from lake.ledger import Batch
from lake.objects import ObjectRef

ID_DIGITS = 32


def batches(source: str, mapper_version: str, refs: Sequence[ObjectRef], settings: Settings) -> list[Batch]:
    """Objects of one source in batches of bounded size.

    Args:
        source: Name of the source.
        mapper_version: Fingerprint of its mapper.
        refs: The objects; their order does not matter.
        settings: Bounds of a batch.
    """
    version = settings.ocsf_version
    return [
        Batch(batch_id(mapper_version, version, members), source, mapper_version, version, members)
        for members in _grouped(sorted(refs), settings)
    ]


def _grouped(refs: Sequence[ObjectRef], settings: Settings) -> Iterator[tuple[ObjectRef, ...]]:
    held: list[ObjectRef] = []
    size = 0
    for ref in refs:
        if held and (len(held) == settings.batch_objects or size + ref.size > settings.batch_bytes):
            yield tuple(held)
            held, size = [], 0
        held.append(ref)
        size += ref.size
    if held:
        yield tuple(held)


def batch_id(mapper_version: str, ocsf_version: str, members: Sequence[ObjectRef]) -> str:
    """The batch's name: a hash of what decides its events."""
    said = json.dumps([mapper_version, ocsf_version, [list(member.key) for member in members]])
    return hashlib.sha256(said.encode()).hexdigest()[:ID_DIGITS]
