"""Queries in Athena: the same SQL over the same tables, through its API.

https://docs.aws.amazon.com/athena/latest/APIReference/API_StartQueryExecution.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ocsf_lake.storage import s3
from ocsf_mappers.errors import ConfigError, RetriableError

FIRST_SECONDS, MOST_SECONDS = 0.2, 5.0
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass(frozen=True)
class Answer:
    """What Athena returned.

    Args:
        columns: Names of the columns.
        rows: Rows, each value as the text that Athena gives, None for null.
        scanned: Bytes read, which Athena charges for.
    """

    columns: list[str]
    rows: list[list[str | None]]
    scanned: int


def run(
    athena: Any, sql: str, database: str, workgroup: str, sleep: Callable[[float], None] = time.sleep
) -> Answer:
    """The rows of one query.

    Args:
        athena: A client of Athena.
        sql: One statement in Athena's dialect.
        database: Database of the tables.
        workgroup: Says where results go, and how much a query may read.
        sleep: How to wait, in seconds.

    Raises:
        ConfigError: Athena refused the query, or cancelled it at the workgroup's limit.
        RetriableError: Athena is busy or out of reach.
    """
    with s3.translate_errors(f"athena:{workgroup}"):
        request = {"QueryString": sql, "QueryExecutionContext": {"Database": database}, "WorkGroup": workgroup}
        query = athena.start_query_execution(**request)["QueryExecutionId"]
        execution = _ended(athena, query, sleep)
        status = execution["Status"]
        if status["State"] != "SUCCEEDED":
            reason = status.get("StateChangeReason", "without a reason")
            retriable = status.get("AthenaError", {}).get("Retryable", False)
            raise (RetriableError if retriable else ConfigError)(f"Athena: {status['State'].lower()}: {reason}")
        pages = list(_pages(athena, query))
    columns = [item["Name"] for item in pages[0]["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]]
    rows = [
        [value.get("VarCharValue") for value in row["Data"]] for page in pages for row in page["ResultSet"]["Rows"]
    ]
    if rows and rows[0] == columns:
        del rows[0]  # the first page of a SELECT begins with the names
    return Answer(columns, rows, int(execution.get("Statistics", {}).get("DataScannedInBytes", 0)))


def _ended(athena: Any, query: str, sleep: Callable[[float], None]) -> dict[str, Any]:
    pause = FIRST_SECONDS
    try:
        while True:
            execution: dict[str, Any] = athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]
            if execution["Status"]["State"] in _ENDED:
                return execution
            sleep(pause)
            pause = min(pause * 1.5, MOST_SECONDS)
    except KeyboardInterrupt:
        athena.stop_query_execution(QueryExecutionId=query)
        raise


def _pages(athena: Any, query: str) -> Iterator[dict[str, Any]]:
    token: dict[str, str] = {}
    while True:
        page = athena.get_query_results(QueryExecutionId=query, **token)
        yield page
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}
