"""What makes published queries return nothing without an error, one by one, on real logs of an invented organisation.

Two more, `[]` for null and the final dot of DNS names, are in `test_published_queries.py`; queries that read everything
in `test_lint.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import query
from tests.support import SAMPLE_LOGS


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """One day of the organisation's calls and flows, and flows of a log without directions."""
    settings = config.load(lake=str(tmp_path_factory.mktemp("traps")), workers=1)
    organization = str(SAMPLE_LOGS / "organization")
    ingest.ingest([f"{organization}/**/CloudTrail/**/18/*"], settings, "aws_cloudtrail")
    ingest.ingest([f"{organization}/**/vpcflowlogs/**/18/*"], settings, "aws_vpc_flow")
    with query.connected(settings) as connection:
        yield connection


def one(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[object, ...]:
    (row,) = connection.execute(sql).fetchall()
    return row


@pytest.mark.slow
def test_trap_b_an_address_is_an_address_and_a_service_is_a_domain(lake: duckdb.DuckDBPyConnection) -> None:
    wrong = "count(*) FILTER (NOT regexp_matches(src_endpoint.ip, '^[0-9a-fA-F.:]+$'))"
    services = "count(*) FILTER (src_endpoint.domain LIKE '%.amazonaws.com' AND src_endpoint.ip IS NULL)"
    addresses = "count(*) FILTER (src_endpoint.ip IS NOT NULL)"
    found = one(lake, f"SELECT {wrong}, {services} > 0, {addresses} > 0 FROM cloud_trail_mgmt_2_0")
    assert found == (0, True, True)


def test_trap_d_the_user_s_uid_is_the_arn_and_uid_alt_the_principal(lake: duckdb.DuckDBPyConnection) -> None:
    users = "actor.user.uid LIKE 'arn:aws:%' AND actor.user.uid_alt NOT LIKE 'arn:%'"
    # A web identity's principal is an ARN by itself, and there is no other uid.
    swapped = "actor.user.uid_alt LIKE 'arn:%' AND actor.user.type <> 'WebIdentityUser'"
    sql = f"SELECT count(*) FILTER ({users}) > 0, count(*) FILTER ({swapped}) FROM cloud_trail_mgmt_2_0"
    assert one(lake, sql) == (True, 0)


def test_trap_e_a_rejected_flow_is_refuse_denied_and_blocked(lake: duckdb.DuckDBPyConnection) -> None:
    rejected = lake.execute(
        "SELECT DISTINCT activity_name, action, disposition FROM vpc_flow_2_0 WHERE action_id = 2"
    ).fetchall()
    assert rejected == [("Refuse", "Denied", "Blocked")]
    assert one(lake, "SELECT count(*) FROM vpc_flow_2_0 WHERE action = 'REJECT'") == (0,)


def test_trap_f_status_is_spelled_success_and_failure(lake: duckdb.DuckDBPyConnection) -> None:
    statuses = {row[0] for row in lake.execute("SELECT DISTINCT status FROM cloud_trail_mgmt_2_0").fetchall()}
    assert {"Success", "Failure"} <= statuses <= {"Success", "Failure", "Other", "Unknown", None}
    assert one(lake, "SELECT count(*) > 0 FROM cloud_trail_mgmt_2_0 WHERE status = 'Failure'") == (True,)


def test_trap_g_calls_sign_ins_and_changes_of_accounts_are_in_one_table(lake: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT list(DISTINCT class_uid ORDER BY class_uid) FROM cloud_trail_mgmt_2_0"
    (classes,) = one(lake, sql)
    assert set(classes) >= {3002, 6003}  # type: ignore[call-overload]


def test_trap_h_unmapped_is_a_map_and_requests_are_json_text(lake: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT count(*) > 0 FROM cloud_trail_mgmt_2_0 WHERE len(map_keys(unmapped)) > 0"
    assert one(lake, sql) == (True,)
    invalid = "count(*) FILTER (NOT json_valid(api.request.data))"
    assert one(lake, f"SELECT {invalid}, count(api.request.data) > 0 FROM cloud_trail_mgmt_2_0") == (0, True)


def test_trap_i_region_and_account_are_the_events_own(lake: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT count(*) FILTER (region <> cloud.region), count(*) > 0 FROM cloud_trail_mgmt_2_0"
    assert one(lake, sql) == (0, True)
    sql = "SELECT count(*) FILTER (accountid <> cloud.account.uid), min(len(accountid)), count(*) > 0 FROM vpc_flow_2_0"
    assert one(lake, sql) == (0, 12, True)


def test_trap_j_event_days_are_text_of_eight_digits_that_sort_as_days(lake: duckdb.DuckDBPyConnection) -> None:
    # Published queries compare with ten characters as well; a dash sorts before every digit.
    sql = "SELECT count(*) FILTER (eventday BETWEEN '20260317' AND '20260319'), count(*) FROM vpc_flow_2_0"
    within, everything = one(lake, sql)
    assert within == everything
    assert one(lake, "SELECT count(*) FROM vpc_flow_2_0 WHERE eventday > '2026-03-18'") == (everything,)
    assert one(lake, "SELECT DISTINCT typeof(eventday) FROM vpc_flow_2_0") == ("VARCHAR",)


def test_trap_k_a_direction_stands_only_where_the_log_has_one(lake: duckdb.DuckDBPyConnection) -> None:
    found = lake.execute("SELECT DISTINCT connection_info.direction FROM vpc_flow_2_0").fetchall()
    directions = {row[0] for row in found}
    assert {"Inbound", "Outbound"} <= directions
    assert directions - {"Inbound", "Outbound"} <= {None, "-", "Unknown"}
