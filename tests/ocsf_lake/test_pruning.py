"""Files are left out before DuckDB sees them, and no query answers otherwise for it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.tables import FILES
from ocsf_lake.query import pruning, query, shown
from tests.ocsf_lake.conftest import call, write
from tests.support import PROJECT

VPC = "FROM vpc_flow"
ONE = "region = 'us-east-1' AND accountid = '444455556666' AND eventday = '20260317'"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = config.load(lake=str(tmp_path_factory.mktemp("pruning") / "lake"))
    ingest.ingest([str(PROJECT / "sample_logs" / "organization")], settings)
    return settings


@pytest.fixture(scope="module")
def whole(lake: Settings) -> Iterator[object]:
    with query.connected(lake) as connection:
        yield connection


def narrowed(lake: Settings, sql: str, table: str = "vpc_flow", **parameters: object) -> tuple[int, int]:
    """Files that are left of a table for a query, and all of them."""
    parts = pruning.parts([sql], shown.part_of, parameters)
    assert parts is not None
    with opened(lake, reading=True) as found:
        left = found.files.of({table: parts[table]})[table]
        return len(left), len(found.files.paths(table))


FEWER = [
    f"SELECT count(*) {VPC} WHERE {ONE}",
    f"SELECT count(*) {VPC} AS v WHERE v.region = 'us-east-1' AND (v.eventday >= '20260318' AND v.activity_id > 0)",
    f"SELECT count(*) {VPC} WHERE eventday BETWEEN '20260317' AND '20260318'",
    f"SELECT count(*) {VPC} WHERE eventday IN ('20260317', '20260319')",
    f"SELECT count(*) {VPC} WHERE eventday = '20260316' OR (eventday = '20260319' AND region = 'us-east-1')",
    f"SELECT count(*) {VPC} WHERE '20260318' < eventday",
    f"SELECT count(*) {VPC} WHERE cloud.account.uid = '444455556666'",
    f"SELECT count(*) {VPC} v WHERE v.cloud.account.uid IN ('444455556666') AND cloud.region = 'us-east-1'",
    f"SELECT count(*) {VPC} WHERE time_dt >= '2026-03-18' AND time_dt < TIMESTAMP '2026-03-19'",
    f"SELECT count(*) {VPC} WHERE time_dt BETWEEN DATE '2026-03-18' AND DATE '2026-03-18' + INTERVAL 1 HOUR",
    f"SELECT count(*) {VPC} WHERE time >= epoch_ms(TIMESTAMP '2026-03-19 12:00:00')",
    f"SELECT count(*) {VPC} WHERE time < 1773705600000",
    f"SELECT count(*) {VPC} WHERE time_dt >= '2026-03-19T01:00:00+02:00'",
    f"SELECT count(*) {VPC} WHERE CAST(time_dt AS DATE) = DATE '2026-03-17'",
    f"SELECT count(*) {VPC} WHERE time_dt > now() - INTERVAL 1 DAY",
    f"SELECT count(*) {VPC} WHERE time_dt >= strptime('17/03/2026', '%d/%m/%Y') AND time_dt < '2026-03-18'",
    f"WITH v AS (SELECT * {VPC} WHERE {ONE}) SELECT count(*) FROM v WHERE dst_endpoint.port > 0",
    f"SELECT (SELECT count(*) {VPC} WHERE {ONE}) + (SELECT count(*) {VPC} WHERE eventday = '20260319')",
    f"SELECT count(*) {VPC} AS a LEFT JOIN route53 AS b ON a.eventday = b.eventday WHERE a.region = 'us-east-1'",
    f"SELECT count(*) {VPC}_2_0 WHERE eventday = '20260318'",
    f"SELECT count(*) {VPC} WHERE {ONE} UNION ALL SELECT count(*) {VPC} WHERE eventday = '20260316'",
    "SELECT count(*) FROM amazon_security_lake_glue_db_us_east_1.amazon_security_lake_table_us_east_1_vpc_flow_2_0",
    "SELECT count(*) FROM amazon_security_lake_table_us_east_1_vpc_flow_2_0 WHERE eventday = '20260318'",
]


@pytest.mark.slow
@pytest.mark.parametrize("sql", FEWER)
def test_a_condition_on_partitions_or_time_leaves_files_out_and_changes_no_answer(
    sql: str, lake: Settings, whole: object
) -> None:
    left, all_files = narrowed(lake, sql)
    assert left < all_files
    with query.connected(lake, sql) as connection:
        assert query.run(connection, sql).equals(query.run(whole, sql))  # type: ignore[arg-type]


ALL = [
    f"SELECT count(*) {VPC}",
    f"SELECT count(*) {VPC} WHERE NOT (region = 'us-east-1')",
    f"SELECT count(*) {VPC} WHERE region <> 'us-east-1'",
    f"SELECT count(*) {VPC} WHERE region = 'us-east-1' OR dst_endpoint.port = 443",
    f"SELECT count(*) {VPC} WHERE lower(region) = 'us-east-1'",
    f"SELECT count(*) {VPC} WHERE region = src_endpoint.ip OR region IS NULL",
    f"SELECT count(*) FILTER (WHERE eventday = '20260318') {VPC}",
    f"SELECT eventday, count(*) {VPC} GROUP BY eventday HAVING eventday = '20260318'",
    f"WITH v AS (SELECT * {VPC}) SELECT count(*) FROM v WHERE {ONE}",
    f"SELECT count(*) {VPC} AS v(region, time) WHERE region = 'x'",
    "SELECT count(*) FROM (SELECT 'us-east-1' AS region) AS r, vpc_flow AS v WHERE r.region = 'us-east-1'",
    "SELECT count(*) FROM route53 AS c ASOF JOIN vpc_flow AS v ON c.time >= v.time WHERE v.eventday = '20260317'",
    f"SELECT (SELECT count(*) {VPC} WHERE {ONE}) + (SELECT count(*) {VPC})",
    f"SELECT count(*) {VPC} WHERE time_dt > (SELECT max(time_dt) {VPC})",
    f"SELECT count(*) {VPC} WHERE time_dt >= 'never'",
    f"SELECT count(*) {VPC} WHERE time > random() * 1773705600000",
    f"SELECT count(*) {VPC} WHERE struct_pack(region := 'x').region = 'x'",
    f"SELECT count(*) {VPC} AS v WHERE (SELECT w.cloud FROM vpc_flow AS w LIMIT 1).region = 'x'",
    f"SELECT count(*) {VPC} WHERE time_dt < date_trunc('month', now())",
]


@pytest.mark.parametrize("sql", ALL)
def test_what_is_not_understood_narrows_nothing(sql: str, lake: Settings) -> None:
    left, all_files = narrowed(lake, sql)
    assert left == all_files


@pytest.mark.parametrize(
    "condition",
    [
        "= '2026-03-17 23:30:00-05'",
        ">= '2026-03-17 23:30:00-05'",
        "<= '2026-03-17 00:30:00+05'",
        "IN ('2026-03-17 00:30:00+05', '2026-03-16')",
        "BETWEEN '2026-03-17 23:30-05' AND DATE '2026-03-19'",
    ],
)
def test_a_text_with_a_zone_that_is_compared_with_a_day_is_that_day_there(
    condition: str, lake: Settings, whole: object
) -> None:
    sql = f"SELECT count(*) {VPC} WHERE CAST(time_dt AS DATE) {condition}"
    with query.connected(lake, sql) as connection:
        assert query.run(connection, sql).equals(query.run(whole, sql))  # type: ignore[arg-type]


def test_the_newest_of_each_is_looked_for_in_all_partitions() -> None:
    sql = "SELECT * FROM guardduty_latest WHERE eventday = '20260318'"
    assert pruning.parts([sql], shown.part_of) == {"guardduty_findings": None}


@pytest.mark.slow
def test_values_of_parameters_narrow_too(lake: Settings) -> None:
    sql = f"SELECT count(*) {VPC} WHERE region = $region AND time_dt >= $since"
    since = datetime(2026, 3, 18, tzinfo=UTC)
    left, all_files = narrowed(lake, sql, region="us-east-1", since=since)
    assert 0 < left < all_files
    assert narrowed(lake, sql)[0] == all_files
    with query.connected(lake, sql, parameters={"region": "us-east-1", "since": since}) as connection:
        found = connection.execute(sql, {"region": "us-east-1", "since": since}).fetchall()
    with query.connected(lake) as connection:
        assert connection.execute(sql, {"region": "us-east-1", "since": since}).fetchall() == found


def test_the_day_of_a_partition_is_that_of_every_time_in_it(whole: object) -> None:
    for table in ("vpc_flow", "cloud_trail_mgmt", "route53", "guardduty_findings"):
        sql = f"SELECT count(*) FROM {table} WHERE eventday <> strftime(time_dt, '%Y%m%d') OR epoch_ms(time_dt) <> time"
        assert query.run(whole, sql).to_pylist() == [{"count_star()": 0}]  # type: ignore[arg-type]


def test_a_file_of_another_region_needs_not_be_there(lake: Settings, tmp_path: Path) -> None:
    sql = f"SELECT count(*) AS n {VPC} WHERE {ONE}"
    with opened(lake, reading=True) as found:
        paths = [path for path in found.files.paths("vpc_flow") if "us-east-1" not in path]
        moved = {found.store.path(path): tmp_path / str(number) for number, path in enumerate(paths)}
    for path, aside in moved.items():
        Path(path).rename(aside)
    try:
        with query.connected(lake, sql) as connection:
            assert query.run(connection, sql).to_pylist()[0]["n"] > 0
    finally:
        for path, aside in moved.items():
            aside.rename(path)


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("SELECT state, count(*) FROM ledger_objects GROUP BY state", {"state", "ledger_objects"}),
        ("SELECT o.uri FROM ledger_objects AS o JOIN ledger_batches USING (batch_id)", None),
        ("SELECT * FROM ledger_objects", None),
        ("FROM ledger_objects", None),
        ("SELECT o FROM ledger_objects AS o", None),
        ("SELECT ledger_objects FROM ledger_objects", None),
        ("SELECT count(*) FROM ledger_objects NATURAL JOIN ledger_files", None),
        ("SELECT COLUMNS('uri') FROM ledger_objects", None),
        ("SELECT main.ledger_objects FROM ledger_objects", None),
        ("SELECT #2, uri FROM ledger_objects", None),
        ("SELECT b FROM ledger_objects AS o(a, b)", None),
        ("SELECT count(*) FROM (DESCRIBE ledger_objects)", None),
        ("SELECT count(*) FROM (SUMMARIZE ledger_objects)", None),
    ],
)
def test_columns_of_the_ledger_are_left_out_only_where_none_of_them_is_read(sql: str, read: set[str] | None) -> None:
    found = pruning.columns([sql])
    if "USING" in sql:
        read = {"o", "uri", "ledger_objects", "ledger_batches", "batch_id"}
    assert found == read


@pytest.mark.slow
def test_the_ledger_s_tables_give_the_same_rows_whatever_is_read_of_them(lake: Settings) -> None:
    counted = "SELECT state, count(*) AS n, sum(events)::BIGINT AS events FROM ledger_objects"
    narrow = f"{counted} GROUP BY state ORDER BY state"
    whole = f"SELECT * FROM (FROM ledger_objects) AS x JOIN ({narrow}) AS y ON x.state = y.state"
    with query.connected(lake, narrow) as connection:
        expected = query.run(connection, narrow).to_pylist()
    with query.connected(lake, whole) as connection:
        assert query.run(connection, whole).num_rows == sum(row["n"] for row in expected) > 0
    with query.connected(lake) as connection:
        assert query.run(connection, narrow).to_pylist() == expected
    with opened(lake, reading=True) as found:
        assert sum(row["events"] for row in found.ledger.arrow("objects").to_pylist()) == sum(
            row["events"] for row in expected
        )


def test_the_ledger_s_tables_are_seen_at_one_moment(lake: Settings) -> None:
    sql = "SELECT count(*) AS n FROM ledger_objects AS a ANTI JOIN ledger_batches AS b ON a.batch_id = b.id"
    with query.connected(lake, sql) as connection, opened(lake) as found:
        before = query.run(connection, sql).to_pylist()
        with found.ledger.engine.begin() as writing:
            writing.exec_driver_sql("CREATE TABLE kept AS SELECT * FROM batches")
            writing.exec_driver_sql("DELETE FROM batches")
        assert query.run(connection, sql).to_pylist() == before
        with query.connected(lake, sql) as later:
            assert query.run(later, sql).to_pylist() != before
        with found.ledger.engine.begin() as writing:
            writing.exec_driver_sql("INSERT INTO batches SELECT * FROM kept")
            writing.exec_driver_sql("DROP TABLE kept")


# -- first rows -------------------------------------------------------------------------------------------------------
ANY_10, LATEST_10 = pruning.FirstRows(10), pruning.FirstRows(10, latest=True)


@pytest.mark.parametrize(
    ("sql", "first"),
    [
        (f"{VPC} LIMIT 10", ANY_10),
        ("SELECT src_endpoint.ip AS ip, unmapped['a'] FROM vpc_flow_2_0 LIMIT 3 OFFSET 4;", pruning.FirstRows(7)),
        ("SELECT * FROM amazon_security_lake_table_us_east_1_vpc_flow_2_0 LIMIT 10", ANY_10),
        (f"{VPC} ORDER BY time_dt DESC LIMIT 10", LATEST_10),
        (f"SELECT region AS r {VPC} ORDER BY TIME DESC, region LIMIT 8 OFFSET 2", LATEST_10),
        (f"{VPC} ORDER BY time LIMIT 10", pruning.FirstRows(10, latest=False)),
        (f"{VPC}", None),
        (f"{VPC} LIMIT 10%", None),
        (f"{VPC} LIMIT $n", None),
        (f"{VPC} WHERE time > 0 LIMIT 10", None),
        (f"{VPC} WHERE time > 0 ORDER BY time LIMIT 10", None),
        (f"{VPC} ORDER BY region, time LIMIT 10", None),
        (f"{VPC} ORDER BY metadata.time LIMIT 10", None),
        (f"{VPC} ORDER BY time + 1 LIMIT 10", None),
        (f"{VPC} ORDER BY 1 LIMIT 10", None),
        (f"{VPC} ORDER BY ALL LIMIT 10", None),
        (f"SELECT src_endpoint.port AS time {VPC} ORDER BY time LIMIT 10", None),
        (f"SELECT * REPLACE (severity AS time_dt) {VPC} ORDER BY time_dt LIMIT 10", None),
        (f"SELECT metadata.time {VPC} ORDER BY time LIMIT 10", None),
        (f"SELECT DISTINCT region {VPC} LIMIT 10", None),
        (f"SELECT unnest(observables) {VPC} LIMIT 10", None),
        (f"SELECT count(*) {VPC} LIMIT 10", None),
        (f"SELECT count(*) OVER () {VPC} LIMIT 10", None),
        (f"{VPC} USING SAMPLE 5 LIMIT 10", None),
        (f"{VPC}, cloud_trail_mgmt LIMIT 10", None),
        (f"(SELECT * {VPC}) UNION ALL {VPC} LIMIT 10", None),
        (f"SELECT (SELECT max(time) {VPC}) {VPC} LIMIT 10", None),
        ("FROM guardduty_latest LIMIT 10", None),
        ("FROM quarantine LIMIT 10", None),
        ("FROM observables LIMIT 10", None),
        ("FROM ledger_files LIMIT 10", None),
        ("not SQL LIMIT 10", None),
    ],
)
def test_queries_that_are_content_with_some_rows(sql: str, first: pruning.FirstRows | None) -> None:
    assert pruning.first_rows([sql]) == first
    assert pruning.first_rows([sql, query.COST_READS]) == first
    assert pruning.first_rows([sql, VPC]) is None


@pytest.mark.parametrize("rows", [0, 1, 30, 10_000])
def test_any_rows_of_a_table_are_those_of_its_newest_files(lake: Settings, rows: int) -> None:
    sql = f"SELECT eventday {VPC} LIMIT {rows}"
    with query.connected(lake, sql, query.COST_READS) as connection:
        found = connection.sql(sql).fetchall()
        cost = query.cost(connection, sql)
    with query.connected(lake) as connection:
        there, newest = connection.sql(f"SELECT count(*), max(eventday) {VPC}").fetchall()[0]
    assert len(found) == cost.rows == min(rows, there)
    assert rows not in (1, 30) or ({day for (day,) in found} == {newest} and cost.files < cost.of_files)


@pytest.mark.parametrize("order", ["time_dt DESC", "time", "time DESC NULLS FIRST"])
@pytest.mark.parametrize("limit", ["3", "1000", "2000 OFFSET 900"])
def test_first_rows_by_time_are_the_same_of_fewer_files(
    lake: Settings, whole: duckdb.DuckDBPyConnection, order: str, limit: str
) -> None:
    place = "source_object, source_record"
    sql = f"SELECT time_dt, {place} {VPC} ORDER BY {order}, {place} LIMIT {limit}"
    with query.connected(lake, sql, query.COST_READS) as connection:
        assert connection.sql(sql).fetchall() == whole.sql(sql).fetchall()
        cost = query.cost(connection, sql)
    assert cost.files < cost.of_files


@pytest.mark.parametrize("latest", [True, False])
def test_files_whose_day_is_not_known_may_have_the_first_rows(tmp_path: Path, latest: bool) -> None:
    """Ingest makes none any more, and earlier versions did."""
    days = ["2025-03-11", "2025-03-12", "2025-03-13"]
    calls = [call(number, eventTime=f"{day}T00:00:00Z") for number, day in enumerate(days)]
    write(tmp_path / "calls.json", json.dumps({"Records": calls}))
    made = config.load(lake=str(tmp_path / "lake"))
    ingest.ingest([str(tmp_path / "calls.json")], made, "aws_cloudtrail")
    with opened(made) as found:
        first, middle, last = found.files.paths("cloud_trail_mgmt")
        with found.ledger.engine.begin() as connection:
            values = sa.func.replace(FILES.c.partition, "20250312", "unknown")
            connection.execute(sa.update(FILES).where(FILES.c.path == middle).values(partition=values))
        files = found.files.of_first_rows({"cloud_trail_mgmt": None}, 1, latest=latest)["cloud_trail_mgmt"]
        newest = found.files.newest({"cloud_trail_mgmt": None}, 1)["cloud_trail_mgmt"]
    assert [file.path for file in files] == sorted([middle, last if latest else first])
    assert [file.path for file in newest] == [last]


def test_any_rows_of_a_region_are_of_that_region(lake: Settings) -> None:
    with query.connected(lake) as connection:
        regions = connection.sql(f"SELECT DISTINCT region {VPC}").fetchall()
    for (region,) in regions:
        sql = f"SELECT region FROM amazon_security_lake_table_{region.replace('-', '_')}_vpc_flow_2_0 LIMIT 5"
        with query.connected(lake, sql) as connection:
            assert connection.sql(sql).fetchall() == [(region,)] * 5
