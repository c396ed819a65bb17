"""Objects of one source in batches of bounded size, the same ones every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

from ocsf_lake.config import Settings
from ocsf_lake.inputs import deliveries
from ocsf_lake.ledger.results import ID_DIGITS, Batch
from ocsf_lake.storage.objects import ObjectRef


def batches(source: str, mapper_version: str, refs: Iterable[ObjectRef], settings: Settings) -> Iterator[Batch]:
    """Objects of one source in batches of bounded size.

    Args:
        source: Name of the source.
        mapper_version: Fingerprint of its mapper.
        refs: The objects; a batch holds neighbours.
        settings: Bounds of a batch.
    """
    builder = BatchBuilder(source, mapper_version, settings)
    for ref in refs:
        yield from builder.add(ref)
    yield from builder.rest()


class BatchBuilder:
    """Puts objects of one source into batches, in the order in which they are given.

    Args:
        source: Name of the source.
        mapper_version: Fingerprint of its mapper.
        settings: Bounds of a batch.
    """

    def __init__(self, source: str, mapper_version: str, settings: Settings) -> None:
        self.source = source
        self.mapper_version = mapper_version
        self.settings = settings
        # Records are not counted before they are read. Their usual size is a constant, so that the same objects are
        # grouped the same way whatever was read before.
        self._most_bytes = min(settings.batch_bytes, settings.batch_records * deliveries.delivery(source).record_bytes)
        self._members: list[ObjectRef] = []
        self._bytes = 0

    def add(self, ref: ObjectRef) -> Iterator[Batch]:
        """Takes an object in; gives the batch that was full before it."""
        full = len(self._members) == self.settings.batch_objects or self._bytes + ref.size > self._most_bytes
        if self._members and full:
            yield from self.rest()
        self._members.append(ref)
        self._bytes += ref.size

    def rest(self) -> Iterator[Batch]:
        """The last batch, if anything is left."""
        if self._members:
            yield self.batch(self._members)
            self._members, self._bytes = [], 0

    def batch(self, refs: Iterable[ObjectRef]) -> Batch:
        """Some objects as a batch, whatever its size."""
        members = tuple(sorted(refs))
        version = self.settings.ocsf_version
        number = batch_id(self.mapper_version, version, members)
        return Batch(number, self.source, self.mapper_version, version, members)


def batch_id(mapper_version: str, ocsf_version: str, members: Sequence[ObjectRef]) -> str:
    """The batch's name: a hash of what decides its events."""
    text = json.dumps([mapper_version, ocsf_version, [list(member.key) for member in members]])
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]
