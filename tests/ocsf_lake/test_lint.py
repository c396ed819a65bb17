"""Queries that cannot return rows, or read every file, are told with the corrected form; sound ones are left alone."""

import pytest

from ocsf_lake.catalogs import security_lake
from ocsf_lake.query import lint
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError

LATELY = "time_dt BETWEEN TIMESTAMP '2026-03-16 00:00:00' AND TIMESTAMP '2026-03-20 00:00:00'"


def where(condition: str, table: str = "vpc_flow_2_0") -> str:
    return f"SELECT src_endpoint.ip FROM {table} WHERE {condition}"


@pytest.mark.parametrize(
    "sql",
    [
        where(LATELY),
        where("eventday >= '20250311' AND action = 'Denied'"),
        where("region IN ('eu-west-1') AND connection_info.direction = 'Inbound'"),
        where(f"{LATELY} AND (src_endpoint.ip = '1' OR dst_endpoint.ip = '1')"),
        where(f"({LATELY} AND src_endpoint.ip = '1') OR (eventday = '20250311' AND dst_endpoint.ip = '1')"),
        where(f"{LATELY} AND query.hostname LIKE '%.example.net.'", "route53"),
        where(f"{LATELY} AND activity_name = 'DeleteAccessKey'", "cloud_trail_mgmt"),
        where(f"{LATELY} AND api.operation = 'anything' AND status = 'Failure'", "cloud_trail_mgmt"),
        "SELECT count(*) FROM other_table",
        "SELECT count(*) FROM other_table WHERE status = 'ok'",
        f"WITH own AS ({where(LATELY)}) SELECT * FROM own",
    ],
)
def test_a_sound_query_is_left_alone(sql: str) -> None:
    assert lint.lint(sql) == lint.Report([], sql)


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("SELECT * FROM vpc_flw", "there is no table 'vpc_flw'; did you mean 'vpc_flow'?"),
        ("SELECT * FROM dns", "there is no table 'dns'; there is route53"),
        ("WITH a AS (SELECT 1) SELECT * FROM a JOIN (SELECT * FROM xyzzyq) ON TRUE", "there is no table 'xyzzyq'"),
    ],
)
def test_a_table_that_no_lake_has_is_told_with_the_nearest(sql: str, hint: str) -> None:
    for dialect in ("trino", "duckdb"):
        assert lint.lint(sql, dialect, every_table=True) == lint.Report([lint.Hint(lint.NO_SUCH_TABLE, hint)], sql)
    assert lint.lint(sql) == lint.Report([], sql)  # it may be a table of somebody's own


@pytest.mark.parametrize(
    "sql",
    [
        f"WITH own AS ({where(LATELY)}) SELECT * FROM own",
        *(f"SELECT * FROM {table}" for table in ("quarantine_entries", "ledger_batches", "coverage", "other_db.flows")),
        f"SELECT o.name FROM vpc_flow CROSS JOIN UNNEST(observables) AS t(o) WHERE {LATELY}",
        "SELECT * FROM 'own.parquet'",
        "SELECT * FROM range(3) AS r, (VALUES (1)) AS v(a)",
    ],
)
def test_tables_that_there_are_and_those_of_others_are_known(sql: str) -> None:
    assert lint.lint(sql, "duckdb", every_table=True) == lint.Report([], sql)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("status = 'failed'", "status = 'Failure'"),
        ("status = 'SUCCESS'", "status = 'Success'"),
        ("action = 'REJECT'", "action = 'Denied'"),
        ("disposition = 'reject'", "disposition = 'Blocked'"),
        ("activity_name = 'REJECT'", "activity_name = 'Refuse'"),
        ("connection_info.direction = 'ingress'", "connection_info.direction = 'Inbound'"),
        ("accountid = '12345678901'", "accountid = '012345678901'"),
        ("accountid = 12345678901", "accountid = '012345678901'"),
        ("eventday = '2025-03-11'", "eventday = '20250311'"),
        ("region = 'eu_west_1'", "region = 'eu-west-1'"),
        ("region IN ('EU-WEST-1')", "region IN ('eu-west-1')"),
        ("query.hostname = 's3.amazonaws.com'", "query.hostname = 's3.amazonaws.com.'"),
        ("action IN ('ACCEPT', 'Denied')", "action IN ('Allowed', 'Denied')"),
    ],
)
def test_a_value_that_no_row_has_is_told_with_the_one_that_was_meant(written: str, meant: str) -> None:
    report = lint.lint(where(f"{LATELY} AND {written}"))
    assert [(finding.rule, finding.instead) for finding in report.findings] == [("no-such-value", meant)]
    assert report.corrected.endswith(meant)
    assert lint.lint(report.corrected).findings == []


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("src_endpoint.ip = '10.0.0.0/8'", "rows have single addresses; those of a network are in_network("),
        ("src_endpoint.ip LIKE 'fd00::/8'", "rows have single addresses; those of a network are in_network("),
        ("src_endpoint.ip = '10.20.1.999'", "this is not an address"),
        ("dst_endpoint.ip IN ('10.20.1.9', 'fd00:::1')", "this is not an address"),
        ("status_id = 'failed'", "status = 'Failure'"),
        ("status_id = 'xyzzyq'", "status may be Fail, Failure, "),
        ("activity_id = 'Xyzzyq'", "activity_name = 'Xyzzyq'"),
        ("connection_info.direction_id <> 'ingress'", "direction = 'Inbound'"),
        ("severity = 1", "severity_id = 1"),
    ],
)
def test_a_value_of_another_kind_is_told_with_the_column_that_has_such(written: str, says: str) -> None:
    (hint,) = lint.lint(where(f"{LATELY} AND {written}")).findings
    assert (hint.rule, says in hint.says, hint.instead, hint.counts_with_rows) == ("no-such-value", True, "", False)
    sound = ("src_endpoint.ip = '10.0.0.8'", "status_id = 2", "status_id = '2'", "severity = 'High'")
    assert [lint.lint(where(f"{LATELY} AND {condition}")).findings for condition in sound] == [[]] * len(sound)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("eventday > '2025-03-11'", "eventday > '20250311'"),
        ("eventday BETWEEN '2025-03-11' AND '2025-03-12'", "eventday BETWEEN '20250311' AND '20250312'"),
        ("'2025-03-11' <= eventday", "'20250311' <= eventday"),
    ],
)
def test_bounds_of_event_days_that_bound_other_days_are_told(written: str, meant: str) -> None:
    report = lint.lint(where(f"{LATELY} AND {written}"))
    assert [(finding.rule, finding.instead) for finding in report.findings] == [("other-days", meant)]
    assert report.corrected.endswith(meant)
    assert lint.lint(report.corrected).findings == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("time > 1688990400", "time > 1688990400000"),
        ("vpc_flow_2_0.time BETWEEN 1688990400 AND '1688990401'",
         "vpc_flow_2_0.time BETWEEN 1688990400000 AND 1688990401000"),
        ("time >= '2023-07-10'", "time_dt >= CAST('2023-07-10' AS TIMESTAMP)"),
    ],
)  # fmt: skip
def test_times_in_another_unit_than_milliseconds_are_told(written: str, meant: str) -> None:
    report = lint.lint(where(written))
    assert [(finding.rule, finding.instead) for finding in report.findings] == [("other-times", meant)]
    assert report.corrected.endswith(meant)
    assert lint.lint(report.corrected).findings == []


@pytest.mark.parametrize(
    "sql", [where("time > 1688990400000"), where("time > 0"), "SELECT * FROM own WHERE time > 1688990400"]
)
def test_milliseconds_and_times_of_other_tables_are_left_alone(sql: str) -> None:
    assert lint.lint(sql).findings == []


@pytest.mark.parametrize(
    ("condition", "is_told"),
    [
        ("src_endpoint.ip BETWEEN '10.0.0.0' AND '10.255.255.255'", True),
        ("src_endpoint.ip >= '2001:db8::'", True),
        ("'10.0.0.0' < dst_endpoint.ip", True),
        ("src_endpoint.ip > 'a'", False),
        ("src_endpoint.ip > dst_endpoint.ip", False),
        ("src_endpoint.ip = '10.0.0.1'", False),
    ],
)
def test_addresses_as_bounds_are_told(condition: str, is_told: bool) -> None:
    sql = where(condition)
    found = [finding.rule for finding in lint.lint(sql).findings]
    assert ("other-addresses" in found) is is_told
    assert bool(lint.explanations(sql, "trino", is_empty=False)) is is_told


def test_addresses_as_bounds_are_looked_for_where_there_are_rows() -> None:
    assert lint.concerns("FROM vpc_flow WHERE src_endpoint.ip BETWEEN '10.0.0.0' AND '10.255.255.255'")
    assert lint.concerns("FROM vpc_flow WHERE src_endpoint.\"ip\" >= '10.0.0.0'")
    assert not lint.concerns("FROM vpc_flow WHERE src_endpoint.ip = '10.0.0.1'")


def test_bounds_in_two_units_are_told_and_not_corrected() -> None:
    sql = where("time BETWEEN 1688990400 AND '2023-07-10'")
    assert [(finding.rule, finding.instead) for finding in lint.lint(sql).findings] == [("other-times", "")]


@pytest.mark.parametrize(
    "sql",
    [
        "FROM security_hub WHERE vulnerabilities[1].severity = 'HIGH'",
        "SELECT v.severity FROM (SELECT unnest(vulnerabilities) v FROM security_hub) WHERE v.severity IN ('HIGH')",
        "WITH f AS (SELECT lower(action) AS action FROM vpc_flow) SELECT count(*) FROM f WHERE action = 'denied'",
        "FROM (SELECT CASE WHEN true THEN 'REJECT' END AS action FROM vpc_flow) WHERE action = 'REJECT'",
        "SELECT count(*) FROM vpc_flow JOIN (VALUES ('ok', 1)) o(status, x) ON true WHERE o.status = 'ok'",
        "SELECT lower(action) AS action FROM vpc_flow GROUP BY ALL HAVING action = 'denied'",
        "SELECT * FROM vpc_flow v JOIN (SELECT time // 1000 AS time FROM vpc_flow) s ON true WHERE s.time > 1688990400",
        "SELECT time // 1000 AS time, count(*) FROM vpc_flow GROUP BY 1 HAVING time > 1688990400",
        "WITH vpc_flow AS (SELECT 1 AS time) SELECT * FROM vpc_flow WHERE time > 1688990400",
        "SELECT * FROM vpc_flow, unnest([1]) AS s(time) WHERE s.time > 1688990400",
    ],
)
def test_columns_of_other_values_make_no_row_wrong(sql: str) -> None:
    assert [finding for finding in lint.lint(sql, "duckdb").findings if finding.counts_with_rows] == []


@pytest.mark.parametrize("name", ["action", "vpc_flow.action", "v.action"])
def test_a_word_of_the_raw_log_makes_rows_wrong(name: str) -> None:
    table = "vpc_flow AS v" if name.startswith("v.") else "vpc_flow"
    (finding,) = lint.lint(f"SELECT count(*) FROM {table} WHERE {name} <> 'REJECT' AND eventday > '20250311'").findings
    assert (finding.counts_with_rows, finding.instead) == (True, f"{name} <> 'Denied'")


@pytest.mark.parametrize(("table", "activity"), [("waf", "Get"), ("rds", "Query"), ("vpc_flow", "Refuse")])
def test_captions_of_every_class_of_our_sources_are_values(table: str, activity: str) -> None:
    assert lint.lint(where(f"{LATELY} AND activity_name = '{activity}'", table)).findings == []
    (finding,) = lint.lint(where(f"{LATELY} AND activity_name = '{activity.upper()}'", table)).findings
    assert finding.instead == f"activity_name = '{activity}'"


def test_the_captions_are_those_of_the_classes_of_our_sources() -> None:
    ours = [registry.source(name) for name in registry.names()]
    assert {events.event_class for source in ours for events in source.mapper.events} == set(lint._CLASSES)


def test_a_value_that_stands_for_nothing_lists_what_there_is() -> None:
    (finding,) = lint.lint(where(f"{LATELY} AND status = 'whatever'")).findings
    assert "Failure" in finding.says
    assert finding.instead == ""


def test_trap_l_a_query_without_a_condition_on_time_or_partition_reads_everything() -> None:
    for sql in (where("src_endpoint.ip = '1'"), "SELECT count(*) FROM vpc_flow"):
        (finding,) = lint.lint(sql).findings
        assert finding.rule == "no-pruning"


def test_trap_l_an_or_that_defeats_the_time_filter_is_bracketed() -> None:
    day = "eventday >= '20250311'"
    sql = where(f"{day} AND src_endpoint.ip = '1' AND dst_endpoint.ip = '2' OR src_endpoint.ip = '2' AND port = 1")
    report = lint.lint(sql)
    assert [finding.rule for finding in report.findings] == ["or-defeats-pruning"]
    either = "(src_endpoint.ip = '1' AND dst_endpoint.ip = '2') OR (src_endpoint.ip = '2' AND port = 1)"
    assert report.corrected == where(f"{day} AND ({either})")
    assert lint.lint(report.corrected).findings == []


def test_what_is_no_sql_is_told() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        lint.lint("SELEC FROM WHERE (")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("vpc_flow", "vpc_flow"),
        ("VPC_FLOW_2_0", "vpc_flow"),
        ("amazon_security_lake_table_us_east_1_s3_data_2_0", "s3_data"),
        ("amazon_security_lake_table_ap_southeast_3_cloud_trail_mgmt_2_0", "cloud_trail_mgmt"),
        ("amazon_security_lake_table_us_east_1_unheard_of_2_0", None),
        ("orders", None),
    ],
)
def test_tables_are_known_by_each_of_their_names(name: str, table: str | None) -> None:
    assert security_lake.table_of(name) == table


def test_views_are_made_for_the_regions_asked_for() -> None:
    statements = list(security_lake.views("ocsf_lake", ["eu-west-1"]))
    assert statements[0] == "CREATE DATABASE IF NOT EXISTS amazon_security_lake_glue_db_eu_west_1"
    view = "amazon_security_lake_glue_db_eu_west_1.amazon_security_lake_table_eu_west_1_vpc_flow_2_0"
    made = f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM ocsf_lake.vpc_flow WHERE region = 'eu-west-1'"
    assert made in statements
    with pytest.raises(ConfigError, match="not the name"):
        list(security_lake.views("ocsf_lake", ["eu'; DROP TABLE x"]))


@pytest.mark.parametrize("dialect", ["trino", "duckdb"])
def test_what_is_no_query_is_not_a_query_without_mistakes(dialect: str) -> None:
    for text in ("selct", "saved.sql", "queries/saved.sql", "action = 'REJECT'"):
        with pytest.raises(ConfigError, match="is no query"):
            lint.lint(text, dialect)
        assert lint.explanations(text, dialect, is_empty=True) == []
    for sql in ("FROM vpc_flow", "TABLE vpc_flow", "DESCRIBE vpc_flow", "(SELECT 1)", "SELECT 1 UNION SELECT 2"):
        assert lint.lint(sql, dialect)
