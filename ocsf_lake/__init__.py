"""The lake: raw objects in, OCSF events in partitioned Parquet out, each record once, and the means to query them.

    import ocsf_lake

    lake = ocsf_lake.open("s3://bucket/lake")
    lake.sql("SELECT src_endpoint.ip, count(*) AS flows FROM vpc_flow WHERE action = $a GROUP BY 1", a="Denied").df()

docs/python.md describes it. What is not named in `__all__` may change in any release.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocsf_lake.face.events import Events, Problem, Reject, map, validate
    from ocsf_lake.face.lake import Lake, Result, create, open
    from ocsf_lake.face.rows import QueryWarning, Rows
    from ocsf_mappers.errors import ConfigError, QueryError, ReadError, RetriableError, WriteError
    from ocsf_mappers.errors import OcsfMappersError as Error

__all__ = [
    "ConfigError",
    "Error",
    "Events",
    "Lake",
    "Problem",
    "QueryError",
    "QueryWarning",
    "ReadError",
    "Reject",
    "Result",
    "RetriableError",
    "Rows",
    "WriteError",
    "create",
    "map",
    "open",
    "validate",
]

if not TYPE_CHECKING:
    # Loaded when it is asked for: pyarrow and duckdb take half a second, which `ocsf-lake --help` does without.
    _HOMES = {
        "ocsf_lake.face.events": ("Events", "Problem", "Reject", "map", "validate"),
        "ocsf_lake.face.lake": ("Lake", "Result", "create", "open"),
        "ocsf_lake.face.rows": ("QueryWarning", "Rows"),
        "ocsf_mappers.errors": ("ConfigError", "QueryError", "ReadError", "RetriableError", "WriteError"),
    }

    def __getattr__(name):
        if name == "Error":
            return import_module("ocsf_mappers.errors").OcsfMappersError
        home = next((home for home, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(home), name)

    def __dir__():
        return sorted({*globals(), *__all__})
