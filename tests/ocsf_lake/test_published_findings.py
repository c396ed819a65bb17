"""AWS's published queries over Security Lake's findings, on a lake made of GuardDuty's own export.

The numbers are those of the queries that AWS publishes for Security Lake v2; they name the table as Security Lake does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import query

SAMPLES = Path(__file__).parents[2] / "sample_logs"
FINDINGS = "amazon_security_lake_glue_db_eu_west_1.amazon_security_lake_table_eu_west_1_sh_findings_2_0"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The cases of the source, each once and one of them twice in another object, as two exports would deliver it."""
    root = tmp_path_factory.mktemp("guardduty")
    logs = root / "logs"
    shutil.copytree(SAMPLES / "aws_guardduty", logs, ignore=shutil.ignore_patterns("*.expected.json", "SOURCE.md"))
    shutil.copy(logs / "sent_again.jsonl", logs / "sent_again_2.jsonl")
    settings = config.load(lake=str(root / "lake"), workers=1)
    ingest.ingest([str(logs)], settings, source="aws_guardduty")
    with query.connected(settings) as connection:
        yield connection


def rows(lake: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    return lake.execute(sql).fetchall()


@pytest.mark.slow
def test_1_all_findings_of_a_week(lake: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        lake,
        f"""SELECT time_dt, region, accountid, metadata.product.name, finding_info.title, severity, status
        FROM {FINDINGS}
        WHERE time_dt BETWEEN TIMESTAMPTZ '2026-03-02' - INTERVAL 7 DAY AND TIMESTAMPTZ '2026-03-03'
        ORDER BY time_dt DESC""",
    )
    assert len(found) == rows(lake, "SELECT count(*) FROM guardduty_findings")[0][0] == 52
    assert {row[1:4] for row in found} == {("eu-west-1", "123456789012", "GuardDuty")}


def test_20_credentials_of_instances_used_elsewhere(lake: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        lake,
        f"""SELECT type, severity, resources[1].type, evidences[1].actor.user.credential_uid
        FROM {FINDINGS} CROSS JOIN UNNEST(finding_info.types) AS t(type)
        WHERE type LIKE '%InstanceCredentialExfiltration%'""",
    )
    exfiltration = "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.InsideAWS"
    assert found == [(exfiltration, "Critical", "AwsIamAccessKey", "ASIAEXAMPLEKEY000001")]


def test_21_accounts_with_most_findings_on_instances(lake: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        lake,
        f"""SELECT accountid, count(*) FROM {FINDINGS}
        WHERE len(list_filter(resources, lambda e: e.type = 'AwsEc2Instance')) > 0
        GROUP BY accountid ORDER BY 2 DESC""",
    )
    # on instances: connections 3, DNS 1, probe 1, credentials 1, runtime 1, malware 1, EventBridge 3, GetFindings 1,
    # told again 3 and once more 3, between the rejects 1
    assert found == [("123456789012", 21)]


def test_22_findings_told_more_than_once(lake: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        lake,
        f"""SELECT finding_info.uid, max(time_dt), any_value(region), any_value(accountid), count(*)
        FROM {FINDINGS} GROUP BY finding_info.uid HAVING count(*) > 1""",
    )
    ((uid, newest, region, account, told),) = [row for row in found if row[4] == 6]
    assert str(uid).startswith("arn:aws:guardduty:eu-west-1:123456789012:detector/")
    assert (str(newest), region, account, told) == ("2026-03-02 16:30:30.123000+00:00", "eu-west-1", "123456789012", 6)


def test_27_products_that_send_findings(lake: duckdb.DuckDBPyConnection) -> None:
    assert rows(
        lake,
        f"SELECT metadata.product.name, count(*) FROM {FINDINGS} GROUP BY metadata.product.name",
    ) == [("GuardDuty", 52)]


def test_the_view_of_the_newest_rows_has_each_finding_once(lake: duckdb.DuckDBPyConnection) -> None:
    total, findings = rows(lake, "SELECT count(*), count(DISTINCT finding_info.uid) FROM guardduty_latest")[0]
    assert total == findings == 45
    [(count, status, place)] = rows(
        lake,
        """SELECT "count", status, source_object FROM guardduty_latest
        WHERE finding_info.types[1] = 'CryptoCurrency:EC2/BitcoinTool.B'""",
    )
    # both objects hold the same three tellings: which one is shown does not depend on the order of files
    assert (count, status) == (9, "Suppressed")
    assert str(place).endswith("sent_again_2.jsonl")


def test_the_history_of_a_finding_stays(lake: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        lake,
        """SELECT DISTINCT time_dt, "count", activity_name, status FROM guardduty_findings
        WHERE finding_info.types[1] = 'CryptoCurrency:EC2/BitcoinTool.B' ORDER BY time_dt""",
    )
    assert [row[1:] for row in found] == [(1, "Create", "New"), (4, "Update", "New"), (9, "Update", "Suppressed")]


def test_details_are_json_in_sql(lake: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        lake,
        """SELECT json_extract_string(e.data, '$.remoteIpDetails.organization.asnOrg'), e.src_endpoint.ip,
            e.dst_endpoint.port
        FROM guardduty_findings, UNNEST(evidences) AS t(e)
        WHERE finding_info.types[1] = 'UnauthorizedAccess:EC2/SSHBruteForce'""",
    )
    assert found == [("Example Transit", "198.51.100.23", 22)]


def test_no_detail_is_lost_on_the_way_to_parquet(lake: duckdb.DuckDBPyConnection) -> None:
    line = (SAMPLES / "aws_guardduty" / "lambda.jsonl").read_text(encoding="utf-8")
    detail = json.loads(line)["resource"]["lambdaDetails"]
    [(data,)] = rows(
        lake,
        "SELECT resources[1].data FROM guardduty_findings WHERE resources[1].type = 'AwsLambdaFunction'",
    )
    assert json.loads(str(data)) == detail
