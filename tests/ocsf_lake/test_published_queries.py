"""The queries that AWS publishes for Security Lake find in our tables what the raw logs say they should.

Each is written in Athena's dialect over Security Lake's names and transpiled to DuckDB's. What it has to return is
counted from the raw logs of `sample_logs/organization`, without the mappers. To add one, add a `Published` to the list.
The numbers are those of the items in AWS's page:
https://docs.aws.amazon.com/security-lake/latest/userguide/security-lake-query-examples.html
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import lint, query
from tests.support import SAMPLE_LOGS

ORGANIZATION = SAMPLE_LOGS / "organization"
EUROPE, AMERICA = "eu-central-1", "us-east-1"
INTRUDER, BASTION = "203.0.113.77", "10.20.1.40"
LEAKED_KEY = "AKIAEXAMPLECIDEPLOY1"

Json = dict[str, Any]
Rows = list[tuple[Any, ...]]


# -- the raw logs -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Logs:
    """The organisation's logs as they were delivered, read without the mappers."""

    root: Path = field(default=ORGANIZATION)

    def _objects(self, folder: str) -> Iterator[str]:
        for path in sorted(self.root.rglob("*.gz")):
            if folder in path.parts:
                yield gzip.decompress(path.read_bytes()).decode()

    @cached_property
    def queries(self) -> list[Json]:
        """Every record of the Resolver query logs."""
        return [json.loads(line) for text in self._objects("vpcdnsquerylogs") for line in text.splitlines()]

    @cached_property
    def calls(self) -> list[Json]:
        """Every CloudTrail management event."""
        records = [record for text in self._objects("CloudTrail") for record in json.loads(text)["Records"]]
        return [record for record in records if record["eventCategory"] == "Management"]

    @cached_property
    def flows(self) -> list[dict[str, str]]:
        """Every flow log line by field."""
        found = []
        for text in self._objects("vpcflowlogs"):
            header, *lines = text.splitlines()
            found += [dict(zip(header.split(), line.split(), strict=True)) for line in lines]
        return found

    def asked(self, **wanted: str) -> list[Json]:
        """The DNS queries with these values."""
        return [record for record in self.queries if all(record[name] == value for name, value in wanted.items())]

    def flowed(self, **wanted: str) -> list[dict[str, str]]:
        """The flows of the European network with these values; `_` in names stands for `-`."""
        keys = {name.replace("_", "-"): value for name, value in wanted.items()}
        return [flow for flow in self.flows if "vpc-id" in flow and all(flow[key] == keys[key] for key in keys)]


    def flows_between(self, one: str, other: str) -> list[dict[str, str]]:
        """The flows of the European network from one address to another, and back."""
        return [*self.flowed(pkt_srcaddr=one, pkt_dstaddr=other), *self.flowed(pkt_srcaddr=other, pkt_dstaddr=one)]


def seconds(text: str) -> datetime:
    """A flow log's time."""
    return datetime.fromtimestamp(int(text), UTC)


def between(flow: dict[str, str]) -> tuple[Any, ...]:
    """What query 37 selects of a flow. Of the two ends the log knows the interface of its own, see flow-direction."""
    egress = flow["flow-direction"] == "egress"
    ports, traffic = ((int(flow[a]), int(flow[b])) for a, b in (("srcport", "dstport"), ("packets", "bytes")))
    return (
        seconds(flow["start"]), seconds(flow["end"]), flow["interface-id"] if egress else None,
        "Outbound" if egress else "Inbound", flow["pkt-srcaddr"], flow["pkt-dstaddr"], *ports, *traffic,
    )  # fmt: skip


# -- the queries ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Published:
    """One published query.

    Args:
        item: Its number in AWS's page.
        asks: What it asks.
        sql: Its tables, columns and conditions in Athena's dialect. `{route53}` is a table under Security Lake's name
            in `region`, `{lately}` the condition on `time_dt` that the page has in every query.
        returns: The rows, in any order, from the raw logs.
        region: AWS's name.
    """

    item: int
    asks: str
    sql: str
    returns: Callable[[Logs], Rows]
    region: str = EUROPE

    def transpiled(self) -> str:
        """The query in DuckDB's dialect."""
        words = self.region.replace("-", "_")
        names = {
            suffix: f'"amazon_security_lake_glue_db_{words}"."amazon_security_lake_table_{words}_{suffix}_2_0"'
            for suffix in ("cloud_trail_mgmt", "s3_data", "lambda_execution", "vpc_flow", "route53")
        }
        lately = "time_dt BETWEEN TIMESTAMP '2026-03-16 00:00:00' AND TIMESTAMP '2026-03-20 00:00:00'"
        tree = sqlglot.parse_one(self.sql.format(**names, lately=lately), read="trino")
        return tree.transform(_any_match).sql(dialect="duckdb")


def _any_match(node: exp.Expression) -> exp.Expression:
    """Trino's any_match, which sqlglot has no DuckDB word for, as a filtered list that is not empty."""
    if isinstance(node, exp.Anonymous) and node.name.lower() == "any_match":
        return exp.GT(
            this=exp.func("len", exp.func("list_filter", *node.expressions, dialect="duckdb")),
            expression=exp.Literal.number(0),
        )
    return node


PUBLISHED = [
    Published(
        2, "flows from one address",
        "SELECT time_dt, dst_endpoint.ip FROM {vpc_flow} WHERE time_dt > TIMESTAMP '2026-03-16 00:00:00'"
        f" AND src_endpoint.ip = '{INTRUDER}' ORDER BY time_dt ASC LIMIT 1000",
        lambda logs: [(seconds(flow["start"]), flow["dstaddr"]) for flow in logs.flowed(pkt_srcaddr=INTRUDER)],
    ),
    Published(
        3, "the same flows, in order of `time`",
        "SELECT time, time_dt, dst_endpoint.ip FROM {vpc_flow} WHERE time_dt > TIMESTAMP '2026-03-16 00:00:00'"
        f" AND src_endpoint.ip = '{INTRUDER}' ORDER BY time ASC LIMIT 1000",
        lambda logs: [
            (int(flow["start"]) * 1000, seconds(flow["start"]), flow["dstaddr"])
            for flow in logs.flowed(pkt_srcaddr=INTRUDER)
        ],
    ),
    Published(
        6, "observables that two logs share",
        f"""
        WITH flows AS (
            SELECT observable.name AS name, observable.value AS value
            FROM {{vpc_flow}}, UNNEST(observables) AS t(observable)
            WHERE {{lately}} AND observable.name = 'src_endpoint.ip' AND observable.value = '{BASTION}'
        ), lookups AS (
            SELECT observable.name AS name, observable.value AS value, query.hostname AS hostname
            FROM {{route53}}, UNNEST(observables) AS t(observable)
            WHERE {{lately}} AND observable.name = 'src_endpoint.ip' AND observable.value = '{BASTION}'
        )
        SELECT flows.value, lookups.hostname, COUNT(*) FROM flows
        LEFT JOIN lookups ON flows.value = lookups.value AND flows.name = lookups.name GROUP BY 1, 2
        """,
        lambda logs: [
            (BASTION, record["query_name"], len(logs.flowed(pkt_srcaddr=BASTION)))
            for record in logs.asked(srcaddr=BASTION, region=EUROPE)
        ],
    ),
    Published(
        10, "calls that were not authorised",
        "SELECT api.operation, api.response.error, actor.user.uid, src_endpoint.ip FROM {cloud_trail_mgmt}"
        " WHERE {lately} AND api.response.error IN ('Client.UnauthorizedOperation',"
        " 'Client.InvalidPermission.NotFound', 'Client.OperationNotPermitted', 'AccessDenied')",
        lambda logs: [
            (call["eventName"], call["errorCode"], call["userIdentity"]["arn"], call["sourceIPAddress"])
            for call in logs.calls
            if call["awsRegion"] == EUROPE and call.get("errorCode") in ("Client.UnauthorizedOperation", "AccessDenied")
        ],
    ),
    Published(
        11, "calls from one address",
        "SELECT api.operation, api.request.uid FROM {cloud_trail_mgmt} WHERE {lately}"
        f" AND src_endpoint.ip = '{INTRUDER}'",
        lambda logs: [
            (call["eventName"], call["requestID"])
            for call in logs.calls
            if call["awsRegion"] == EUROPE and call["sourceIPAddress"] == INTRUDER
        ],
    ),
    Published(
        12, "what happened in IAM",
        "SELECT api.operation FROM {cloud_trail_mgmt} WHERE {lately} AND api.service.name = 'iam.amazonaws.com'",
        lambda logs: [
            (call["eventName"],)
            for call in logs.calls
            if call["awsRegion"] == AMERICA and call["eventSource"] == "iam.amazonaws.com"
        ],
        region=AMERICA,
    ),
    Published(
        13, "uses of one access key",
        "SELECT actor.user.uid, actor.user.uid_alt, actor.user.account.uid FROM {cloud_trail_mgmt} WHERE {lately}"
        f" AND actor.user.credential_uid = '{LEAKED_KEY}'",
        lambda logs: [
            (call["userIdentity"]["arn"], call["userIdentity"]["principalId"], call["userIdentity"]["accountId"])
            for call in logs.calls
            if call["awsRegion"] == EUROPE and call["userIdentity"].get("accessKeyId") == LEAKED_KEY
        ],
    ),
    Published(
        16, "lookups of one name, absolute as the log has it",
        "SELECT time_dt, src_endpoint.ip, query.hostname FROM {route53} WHERE {lately}"
        " AND query.hostname LIKE 's3.amazonaws.com.'",
        lambda logs: [
            (datetime.fromisoformat(record["query_timestamp"]), record["srcaddr"], record["query_name"])
            for record in logs.asked(query_name="s3.amazonaws.com.")
        ],
        region=AMERICA,
    ),
    Published(
        17, "lookups without an answer",
        "SELECT time_dt, query.hostname, rcode FROM {route53} WHERE cardinality(answers) = 0 AND {lately}",
        lambda logs: [
            (
                datetime.fromisoformat(record["query_timestamp"]), record["query_name"],
                {"NXDOMAIN": "NXDomain", "NOERROR": "NoError"}[record["rcode"]],
            )
            for record in logs.asked(region=EUROPE)
            if not record["answers"]
        ],
    ),
    Published(
        18, "lookups that gave one address",
        f"SELECT query.hostname, answer.rdata FROM {{route53}}, UNNEST(answers) AS st(answer)"
        f" WHERE answer.rdata = '{INTRUDER}' AND {{lately}}",
        lambda logs: [
            (record["query_name"], answer["Rdata"])
            for record in logs.asked(region=EUROPE)
            for answer in record["answers"]
            if answer["Rdata"] == INTRUDER
        ],
    ),
    Published(
        31, "flows of some regions",
        "SELECT region, COUNT(*) FROM {vpc_flow} WHERE {lately}"
        " AND region IN ('us-east-1', 'us-east-2') GROUP BY region",
        lambda logs: [(AMERICA, sum("vpc-id" not in flow for flow in logs.flows))],
        region=AMERICA,
    ),
    Published(
        32, "flows from one address and port",
        "SELECT dst_endpoint.ip FROM {vpc_flow} WHERE {lately}"
        f" AND src_endpoint.ip = '{BASTION}' AND src_endpoint.port = 22",
        lambda logs: [(flow["dstaddr"],) for flow in logs.flowed(pkt_srcaddr=BASTION, srcport="22")],
    ),
    Published(
        33, "how many destinations",
        f"SELECT COUNT(DISTINCT dst_endpoint.ip) FROM {{vpc_flow}} WHERE {{lately}} AND src_endpoint.ip = '{BASTION}'",
        lambda logs: [(len({flow["pkt-dstaddr"] for flow in logs.flowed(pkt_srcaddr=BASTION)}),)],
    ),
    Published(
        37, "traffic between two addresses",
        "SELECT start_time_dt, end_time_dt, src_endpoint.interface_uid, connection_info.direction, src_endpoint.ip,"
        " dst_endpoint.ip, src_endpoint.port, dst_endpoint.port, traffic.packets, traffic.bytes FROM {vpc_flow}"
        f" WHERE {{lately}} AND src_endpoint.ip = '{INTRUDER}' AND dst_endpoint.ip = '{BASTION}'"
        f" OR src_endpoint.ip = '{BASTION}' AND dst_endpoint.ip = '{INTRUDER}' ORDER BY start_time_dt ASC LIMIT 1000",
        lambda logs: [between(flow) for flow in logs.flows_between(INTRUDER, BASTION)],
    ),
    *(
        Published(
            item, f"{direction.lower()} flows",
            f"SELECT COUNT(*) FROM {{vpc_flow}} WHERE {{lately}} AND connection_info.direction = '{direction}'",
            lambda logs, word=word: [(len(logs.flowed(flow_direction=word)),)],
        )
        for item, direction, word in ((38, "Inbound", "ingress"), (39, "Outbound", "egress"))
    ),
    Published(
        40, "rejected flows",
        "SELECT COUNT(*) FROM {vpc_flow} WHERE {lately} AND action = 'Denied'",
        lambda logs: [(len(logs.flowed(action="REJECT")),)],
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def logs() -> Logs:
    return Logs()


@pytest.fixture(scope="module")
def organization(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A lake of the organisation's logs."""
    settings = config.load(lake=str(tmp_path_factory.mktemp("organization")), workers=1)
    ingest.ingest([str(ORGANIZATION)], settings)
    with query.connected(settings) as connection:
        yield connection


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> Rows:
    return connection.execute(sql).fetchall()


@pytest.mark.slow
@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: str(published.item))
def test_a_published_query_returns_what_the_raw_logs_say(
    organization: duckdb.DuckDBPyConnection, logs: Logs, published: Published
) -> None:
    expected = published.returns(logs)
    assert expected, "the raw logs hold nothing that the query asks for"
    found = rows(organization, published.transpiled())
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    if "ORDER BY" in published.sql:  # its first column, in each of them
        assert [row[0] for row in found] == sorted(row[0] for row in found)


def test_37_as_published_leaves_one_direction_without_a_time_and_lint_mends_it(
    organization: duckdb.DuckDBPyConnection, logs: Logs
) -> None:
    one, other = "10.20.1.10", "192.0.2.10"
    asked = Published(
        37, "", "SELECT start_time_dt, src_endpoint.ip FROM {vpc_flow}"
        " WHERE time_dt BETWEEN TIMESTAMP '2026-03-17 00:00:00' AND TIMESTAMP '2026-03-18 00:00:00'"
        f" AND src_endpoint.ip = '{one}' AND dst_endpoint.ip = '{other}'"
        f" OR src_endpoint.ip = '{other}' AND dst_endpoint.ip = '{one}'", lambda _: [],
    )  # fmt: skip
    flows = [(seconds(flow["start"]), flow["pkt-srcaddr"]) for flow in logs.flows_between(one, other)]
    that_day = [flow for flow in flows if flow[0].day == 17]
    assert that_day
    published = rows(organization, asked.transpiled())
    assert sorted(published) == sorted({*that_day, *(flow for flow in flows if flow[1] == other)})
    report = lint.lint(asked.transpiled(), "duckdb")
    assert [finding.rule for finding in report.findings] == ["or-defeats-pruning"]
    assert sorted(rows(organization, report.corrected)) == sorted(that_day)
    assert len(that_day) < len(published)


def test_a_lookup_without_an_answer_has_an_empty_list_and_never_null(organization: duckdb.DuckDBPyConnection) -> None:
    counted = rows(
        organization,
        "SELECT count(*) FILTER (answers IS NULL), count(*) FILTER (len(answers) = 0) > 100,"
        " count(*) FILTER (rcode = 'NXDomain' AND len(answers) > 0) FROM route53",
    )
    assert counted == [(0, True, 0)]


def test_names_keep_their_dot_and_observables_have_them_without(
    organization: duckdb.DuckDBPyConnection, logs: Logs
) -> None:
    asked = len(logs.asked(query_name="files.dyn.example.net."))
    assert rows(organization, "SELECT count(*) FROM route53 WHERE query.hostname = 'files.dyn.example.net'") == [(0,)]
    assert asked == 1
    for name in ("files.dyn.example.net", "files.dyn.example.net."):
        found = f"len(list_filter(observables, lambda seen: seen.value = '{name}' AND seen.type = 'Hostname'))"
        assert rows(organization, f"SELECT count(*) FROM route53 WHERE {found} = 1") == [(asked,)]


@pytest.mark.parametrize(
    ("action", "action_id", "disposition", "disposition_id"),
    [("ALERT", 1, "Alert", 19), ("BLOCK", 2, "Blocked", 2)],
)
def test_what_dns_firewall_did_is_found_by_id_and_by_caption(
    organization: duckdb.DuckDBPyConnection,
    logs: Logs,
    action: str,
    action_id: int,
    disposition: str,
    disposition_id: int,
) -> None:
    matched = [record for record in logs.queries if record.get("firewall_rule_action") == action]
    for condition in (
        f"disposition = '{disposition}'",
        f"disposition_id = {disposition_id} AND action_id = {action_id}",
        f"action_id = {action_id} AND firewall_rule.uid IS NOT NULL",
    ):
        assert rows(organization, f"SELECT count(*) FROM route53_2_0 WHERE {condition}") == [(len(matched),)]


def test_any_match_runs(organization: duckdb.DuckDBPyConnection) -> None:
    asked = Published(
        0, "", f"SELECT COUNT(*) FROM {{route53}} WHERE any_match(answers, e -> e.rdata = '{INTRUDER}')", lambda _: []
    )
    assert rows(organization, asked.transpiled()) == [(1,)]
