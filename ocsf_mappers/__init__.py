"""Mappers from raw logs to OCSF events: bytes and Arrow in, OCSF Arrow out.

Pure: no network, clock, environment or files of its own. A mapper is written with the names below; a run is
`Engine(registry.load("aws_cloudtrail")).map(...)`.
"""

from ocsf_mappers.engine.batch import RawObject
from ocsf_mappers.engine.engine import Engine
from ocsf_mappers.engine.mapped import Mapped
from ocsf_mappers.ocsf.schema import DEFAULT_VERSION
from ocsf_mappers.ocsf.tables import Latest
from ocsf_mappers.readers import (
    CLOUDWATCH,
    SEPARATOR,
    Delimited,
    DelimitedInJson,
    Entries,
    Envelope,
    FieldNames,
    JsonRecords,
    Lines,
    Pairs,
    ParquetRows,
    Pattern,
    Unheaded,
    Values,
)
from ocsf_mappers.vocabulary import load_balancers
from ocsf_mappers.vocabulary.aws import aws_partition
from ocsf_mappers.vocabulary.digests import Digest, DigestName, Digests, HashedObject
from ocsf_mappers.vocabulary.expr import (
    Column,
    Expr,
    Obj,
    coalesce,
    col,
    element,
    first,
    list_of,
    obj,
    outer,
    sql,
    text,
    when,
)
from ocsf_mappers.vocabulary.http import (
    HTTP_ACTIVITIES,
    REQUEST_COLUMNS,
    REQUEST_LINE,
    http_activity,
    http_code,
    http_method,
    http_status,
)
from ocsf_mappers.vocabulary.mapper import EventMap, Fields, Mapper, Product, carrier, object_key
from ocsf_mappers.vocabulary.protocols import PROTOCOL_NAMES, PROTOCOL_NUMBERS, connection_protocol
from ocsf_mappers.vocabulary.record import JSON, json_struct, text_struct
from ocsf_mappers.vocabulary.source import Delivery, Having, Marks, Source, Switches

__all__ = [
    "CLOUDWATCH",
    "DEFAULT_VERSION",
    "HTTP_ACTIVITIES",
    "JSON",
    "PROTOCOL_NAMES",
    "PROTOCOL_NUMBERS",
    "REQUEST_COLUMNS",
    "REQUEST_LINE",
    "SEPARATOR",
    "Column",
    "Delimited",
    "DelimitedInJson",
    "Delivery",
    "Digest",
    "DigestName",
    "Digests",
    "Engine",
    "Entries",
    "Envelope",
    "EventMap",
    "Expr",
    "FieldNames",
    "Fields",
    "HashedObject",
    "Having",
    "JsonRecords",
    "Latest",
    "Lines",
    "Mapped",
    "Mapper",
    "Marks",
    "Obj",
    "Pairs",
    "ParquetRows",
    "Pattern",
    "Product",
    "RawObject",
    "Source",
    "Switches",
    "Unheaded",
    "Values",
    "aws_partition",
    "carrier",
    "coalesce",
    "col",
    "connection_protocol",
    "element",
    "first",
    "http_activity",
    "http_code",
    "http_method",
    "http_status",
    "json_struct",
    "list_of",
    "load_balancers",
    "obj",
    "object_key",
    "outer",
    "sql",
    "text",
    "text_struct",
    "when",
]
