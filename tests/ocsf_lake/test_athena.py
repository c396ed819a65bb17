"""Queries through Athena's API, against a stub that answers in its form."""

from typing import Any

import pytest

from ocsf_lake.query import athena
from ocsf_mappers.errors import ConfigError, RetriableError


class Stub:
    """An Athena that ends as it is told."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self.states = list(states)
        self.started: dict[str, Any] = {}

    def start_query_execution(self, **given: Any) -> dict[str, Any]:
        self.started = given
        return {"QueryExecutionId": "q1"}

    def get_query_execution(self, QueryExecutionId: str) -> dict[str, Any]:  # noqa: N803 - Athena's name
        return {"QueryExecution": {"Status": self.states.pop(0), "Statistics": {"DataScannedInBytes": 1234}}}

    def get_query_results(self, QueryExecutionId: str, NextToken: str = "") -> dict[str, Any]:  # noqa: N803
        columns = {"ColumnInfo": [{"Name": "ip"}, {"Name": "n"}]}
        first = [{"Data": [{"VarCharValue": "ip"}, {"VarCharValue": "n"}]}, {"Data": [{"VarCharValue": "1"}, {}]}]
        rows = [{"Data": [{"VarCharValue": "2"}, {"VarCharValue": "3"}]}] if NextToken else first
        return {"ResultSet": {"Rows": rows, "ResultSetMetadata": columns}, **({} if NextToken else {"NextToken": "t"})}


def test_rows_of_all_pages_come_without_the_header() -> None:
    stub = Stub({"State": "QUEUED"}, {"State": "RUNNING"}, {"State": "SUCCEEDED"})
    waited: list[float] = []
    answer = athena.run(stub, "SELECT 1", "ocsf_lake", "analysts", waited.append)
    assert answer == athena.Answer(["ip", "n"], [["1", None], ["2", "3"]], 1234)
    assert len(waited) == 2
    assert stub.started == {
        "QueryString": "SELECT 1", "QueryExecutionContext": {"Database": "ocsf_lake"}, "WorkGroup": "analysts",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"State": "FAILED", "StateChangeReason": "HIVE_PARTITION_SCHEMA_MISMATCH"}, ConfigError),
        ({"State": "CANCELLED", "StateChangeReason": "Bytes scanned limit was exceeded"}, ConfigError),
        ({"State": "FAILED", "StateChangeReason": "busy", "AthenaError": {"Retryable": True}}, RetriableError),
    ],
)
def test_a_query_that_failed_says_why(state: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=state["StateChangeReason"]):
        athena.run(Stub(state), "SELECT 1", "db", "primary", lambda _: None)
