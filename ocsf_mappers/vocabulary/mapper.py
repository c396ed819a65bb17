"""The mapper: how one kind of log becomes OCSF events, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from ocsf_mappers.ocsf.tables import Latest, Table
from ocsf_mappers.vocabulary.check import check_new
from ocsf_mappers.vocabulary.expr import Column, Expr, Value, flat
from ocsf_mappers.vocabulary.record import CARRIER, OBJECT_KEY, RecordShape
from ocsf_mappers.vocabulary.table import of_mapper
from ocsf_mappers.vocabulary.word import Word

if TYPE_CHECKING:
    from ocsf_mappers.readers import Reader

Fields: TypeAlias = dict[str, Value]
"""OCSF attribute path -> expression, or the table of an object below it. For an `_id` attribute give the caption."""


object_key = Column((OBJECT_KEY,))
"""What the raw object's own name says, null where it says nothing: `object_key.region`, `object_key.account`;
`object_key.time`, ISO 8601, the beginning of the time that the object covers, and `object_key.window`, how long that is
(`second`, `minute`, `hour` or `day`)."""

carrier = Column((CARRIER,))
"""What the document around a record says, null where there is none: `carrier.account`, `carrier.region` and
`carrier.time`, ISO 8601, of a CloudWatch Logs event or an event of EventBridge; `carrier.log_group` and
`carrier.log_stream`. Of documents in documents the outer one counts. All of it stays in `unmapped` as well."""


@dataclass(frozen=True)
class Product:
    """What wrote the log: `metadata.product`."""

    name: str
    vendor: str = "AWS"
    feature: str | None = None


@dataclass(frozen=True)
class EventMap:
    """One OCSF class that records of a source become.

    Maps are tried in order: the first whose `where` holds takes the record, and the last has none.
    """

    event_class: str
    fields: Fields
    where: Expr | None = None
    profiles: tuple[str, ...] = ("cloud",)

    @cached_property
    def words(self) -> Mapping[str, Word]:
        """OCSF attribute path -> what fills it."""
        return dict(flat(self.fields))

    @property
    def all_profiles(self) -> tuple[str, ...]:
        """The profiles in force, in the order that `metadata.profiles` lists them."""
        return (*self.profiles, "datetime")


@dataclass(frozen=True, eq=False)
class Mapper:
    """A source: how to read its objects, what its records hold, and the table of expressions.

    Equal to itself alone, so that what is computed of one is remembered.

    Args:
        name: `vendor_product`, also the module's name.
        product: What wrote the log.
        readers: Formats the log is delivered in; the first that accepts an object's first bytes reads it.
        record: The record type, see `ocsf_mappers.vocabulary.record`.
        events: Event maps, most specific first.
        table: Name of the lake table, or an expression that gives one. A table that is none of the lake's shared ones
            is the source's own: it has the columns that the events fill. Without it, it is called as the source.
        sorted_by: Of an own table, OCSF paths whose equal values stand together in a file, where they compress best.
        latest: Of an own table, a view with the newest row of each thing that is reported again and again.
        drop: Source path -> reason, for members that say nothing new and are left out of `unmapped`.
        observables: OCSF path -> observable caption, beyond those that the schema marks; `()` lists none there. What
            does not look like an IP address or a host name is not listed as one; of several captions the one that a
            value looks like counts.
        duplicate_key: OCSF paths whose values together stand for one record, however often it is delivered; none where
            equal records may both be true.
        known_values: Source path -> every text that is known to stand there, such as the versions of the format.
            Another text is mapped all the same, and reported as schema drift.
        blank: Texts that mean "not known" in this log: null wherever they are read.
        set_aside: How AWS's keys name a log -> reason, for objects in the same tree that hold no records of this log.
    """

    name: str
    product: Product
    readers: Sequence[Reader]
    record: pa.DataType
    events: Sequence[EventMap]
    table: Value | None = None
    drop: Mapping[str, str] = field(default_factory=dict)
    observables: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    duplicate_key: Sequence[str] = ()
    known_values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    blank: Sequence[str] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)
    sorted_by: Sequence[str] = ()
    latest: Latest | None = None

    def __post_init__(self) -> None:
        check_new(self)

    @cached_property
    def shape(self) -> RecordShape:
        """The record type, taken apart."""
        return RecordShape(self.record)

    @property
    def table_word(self) -> Value:
        """What gives the name of the table."""
        return self.name if self.table is None else self.table

    @cached_property
    def tables(self) -> Mapping[str, Table]:
        """The lake tables that the events go to, by name; all have the same columns."""
        return of_mapper(self)

    @property
    def lake_table(self) -> Table:
        """One of the tables, for what all of them have in common: columns and order."""
        return next(iter(self.tables.values()))
