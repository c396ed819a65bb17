"""Records of raw objects that are mapped once more: which of them are selected, and what came out of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from ocsf_lake.ingest.parts import Part, PartBuilder, SetAsideError, Source
from ocsf_lake.storage import objects
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.upkeep.origins import PassingError, RefusedError
from ocsf_mappers.errors import OcsfMappersError, ReadError

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Selection:
    """Records of an object that are selected, and what came out of them.

    Args:
        numbers: Their numbers; None for all that come out in the partition.
        but: Of all, those that are not.
        required: Of all, those that have to be among them, where that is known.
        seen: The numbers of those that came out in the partition.
        places: Where any came out.
        reasons: Number -> why the record is no event, of the first ones.
    """

    numbers: Numbers | None
    but: Set[int]
    required: Numbers | None
    seen: list[Numbers] = field(default_factory=list)
    places: set[Partition] = field(default_factory=set)
    reasons: dict[int, str] = field(default_factory=dict)

    def has(self, numbers: Numbers) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of some records are selected."""
        if self.numbers is not None:
            return np.isin(numbers, self.numbers)
        return np.isin(numbers, sorted(self.but), invert=True)


def parts_of(reading: Source, refs: Sequence[ObjectRef]) -> Iterator[Part]:
    """The records of objects, those of small ones together.

    Raises:
        RefusedError: An object cannot be read; a `PassingError` where it may be possible later.
    """
    builder = PartBuilder(reading.settings)
    for ref in refs:
        try:
            for piece in reading.pieces(ref):
                yield from builder.add(piece)
        except (OcsfMappersError, SetAsideError, OSError) as error:
            if isinstance(error, objects.GoneError | ReadError | SetAsideError):
                raise RefusedError(f"{ref.uri}: {error}") from error
            if isinstance(error, objects.ObjectError | OSError):
                raise PassingError(f"{ref.uri}: {error}") from error
            raise
    yield from builder.rest()


def only_selected(rows: pa.Table, selection_by_uri: Mapping[str, Selection]) -> pa.Table:
    """Those that are of selected records."""
    numbers, keep = rows["source_record"].to_numpy(), np.zeros(len(rows), bool)
    for uri, own in by_object(rows):
        keep[own] = selection_by_uri[uri].has(numbers[own])
    return rows if keep.all() else rows.filter(pa.array(keep))


def by_object(rows: pa.Table) -> Iterator[tuple[str, Numbers]]:
    """URI of each object that rows are of, and which they are."""
    uris = rows["source_object"].combine_chunks().dictionary_encode()
    codes = uris.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(1, len(uris.dictionary)))
    for uri, own in zip(uris.dictionary.to_pylist(), np.split(order, bounds), strict=False):  # of no rows, one part
        if len(own):
            yield uri, own
