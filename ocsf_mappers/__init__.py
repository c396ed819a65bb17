"""Mappers from raw logs to OCSF events: bytes and Arrow in, OCSF Arrow out.

Pure: no network, clock, environment or files of its own. A mapper is written with the names below; a run is
`Engine(registry.load("aws_cloudtrail")).map(...)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from ocsf_mappers.vocabulary.aws import arn_account, aws_partition, principal_name
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
        encoded_forwarded_for,
        encoded_user_agent,
        forwarded_for,
        http_activity,
        http_code,
        http_method,
        http_status,
    )
    from ocsf_mappers.vocabulary.mapper import EventMap, Fields, Mapper, Product, carrier, object_key
    from ocsf_mappers.vocabulary.protocols import PROTOCOL_NAMES, PROTOCOL_NUMBERS, connection_protocol
    from ocsf_mappers.vocabulary.record import JSON, json_struct, text_struct
    from ocsf_mappers.vocabulary.source import Delivery, Having, Marks, Source, Switches
    from ocsf_mappers.vocabulary.traffic import traffic

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
    "arn_account",
    "aws_partition",
    "carrier",
    "coalesce",
    "col",
    "connection_protocol",
    "element",
    "encoded_forwarded_for",
    "encoded_user_agent",
    "first",
    "forwarded_for",
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
    "principal_name",
    "sql",
    "text",
    "text_struct",
    "traffic",
    "when",
]

if not TYPE_CHECKING:
    # Loaded when it is asked for: who only asks the lake pays for no engine, which is most of what there is to import.
    _HOMES = {
        "ocsf_mappers.engine.batch": ("RawObject",),
        "ocsf_mappers.engine.engine": ("Engine",),
        "ocsf_mappers.engine.mapped": ("Mapped",),
        "ocsf_mappers.ocsf.schema": ("DEFAULT_VERSION",),
        "ocsf_mappers.ocsf.tables": ("Latest",),
        "ocsf_mappers.readers": (
            "CLOUDWATCH", "SEPARATOR", "Delimited", "DelimitedInJson", "Entries", "Envelope", "FieldNames",
            "JsonRecords", "Lines", "Pairs", "ParquetRows", "Pattern", "Unheaded", "Values",
        ),
        "ocsf_mappers.vocabulary.aws": ("arn_account", "aws_partition", "principal_name"),
        "ocsf_mappers.vocabulary.digests": ("Digest", "DigestName", "Digests", "HashedObject"),
        "ocsf_mappers.vocabulary.expr": (
            "Column", "Expr", "Obj", "coalesce", "col", "element", "first", "list_of", "obj", "outer", "sql", "text",
            "when",
        ),
        "ocsf_mappers.vocabulary.http": (
            "HTTP_ACTIVITIES", "REQUEST_COLUMNS", "REQUEST_LINE", "encoded_forwarded_for", "encoded_user_agent",
            "forwarded_for", "http_activity", "http_code",
            "http_method", "http_status",
        ),
        "ocsf_mappers.vocabulary.mapper": ("EventMap", "Fields", "Mapper", "Product", "carrier", "object_key"),
        "ocsf_mappers.vocabulary.protocols": ("PROTOCOL_NAMES", "PROTOCOL_NUMBERS", "connection_protocol"),
        "ocsf_mappers.vocabulary.record": ("JSON", "json_struct", "text_struct"),
        "ocsf_mappers.vocabulary.source": ("Delivery", "Having", "Marks", "Source", "Switches"),
        "ocsf_mappers.vocabulary.traffic": ("traffic",),
    }

    def __getattr__(name):
        if name == "load_balancers":
            return import_module("ocsf_mappers.vocabulary.load_balancers")
        home = next((home for home, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
