"""The story as Route 53 Resolver query logs tell it: one query log for each network, delivered to S3.

Format: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/resolver-query-logs-format.html
Resolver logs what it did not answer from its cache. The sample keeps the windows that the flow logs keep.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from story.cast import (
    APP_1,
    APP_2,
    BASTION,
    BUILD_NETWORK,
    CUSTOMERS,
    DATABASE,
    INTRUDER,
    NETWORKS,
    OBJECT_STORE,
    PACKAGES,
    PAYMENTS,
    RUNNER_1,
    RUNNER_2,
    SHOP_NETWORK,
    STEPS,
    TUNNEL,
    TUNNEL_NAME,
    TUNNEL_QUERIES,
    WEB_1,
    WEB_2,
    Delivered,
    Dice,
    Host,
    Network,
    hex_id,
)
from story.vpc_flow import windows

OFFICE_DNS = "192.0.2.53"
ENDPOINT, ENDPOINT_INTERFACE = hex_id("rslvr-in", "office"), hex_id("rni", "office")
FIREWALL = hex_id("rslvr-frg", "harbour")
DYNAMIC_NAMES, LOOKALIKES = hex_id("rslvr-fdl", "dynamic names"), hex_id("rslvr-fdl", "lookalikes")
Answers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Query:
    """One query and its answer."""

    network: Network
    at: datetime
    name: str
    kind: str
    answers: Answers
    source: str
    port: int
    srcids: dict[str, str]
    rcode: str = "NOERROR"
    action: str = ""
    names: str = ""

    def line(self) -> str:
        """Write the record as a JSON line."""
        firewall = {
            "firewall_rule_action": self.action,
            "firewall_rule_group_id": FIREWALL,
            "firewall_domain_list_id": self.names,
        }
        record = {
            "version": "1.100000",
            "account_id": self.network.account.uid,
            "region": self.network.region,
            "vpc_id": self.network.vpc,
            "query_timestamp": f"{self.at:%Y-%m-%dT%H:%M:%SZ}",
            "query_name": self.name,
            "query_type": self.kind,
            "query_class": "IN",
            "rcode": self.rcode,
            "answers": [{"Rdata": data, "Type": kind, "Class": "IN"} for data, kind in self.answers],
            "srcaddr": self.source,
            "srcport": str(self.port),
            "transport": "UDP",
            "srcids": self.srcids,
            **(firewall if self.action else {}),
        }
        return json.dumps(record, separators=(",", ":"))


@dataclass(frozen=True)
class Moment:
    """Five minutes of one network."""

    network: Network
    dice: Dice
    opens: datetime

    def ask(
        self, host: Host, name: str, kind: str = "A", answers: Answers = (), rcode: str = "NOERROR", *,
        action: str = "", names: str = "",
    ) -> Query:  # fmt: skip
        """Give a query of a host."""
        at = self.opens + timedelta(seconds=self.dice.between(0, 299))
        port = self.dice.between(32768, 60999)
        srcids = {"instance": host.instance_id}
        return Query(self.network, at, name, kind, answers, host.address, port, srcids, rcode, action, names)


# --- ordinary queries ------------------------------------------------------------------------------------------------


def shop_queries(now: Moment) -> Iterator[Query]:
    """Tell what the shop's hosts look up, and the office through the inbound endpoint."""
    yield now.ask(APP_1, "s3.eu-central-1.amazonaws.com.", answers=((OBJECT_STORE, "A"),))
    yield now.ask(APP_2, "api.payments.example.net.", answers=((PAYMENTS, "A"),))
    yield now.ask(APP_2, "api.payments.example.net.", "AAAA")
    for app in (APP_1, APP_2):
        yield now.ask(app, "orders-db.harbour.internal.", answers=((DATABASE.address, "A"),))
    for web in (WEB_1, WEB_2):
        yield now.ask(web, "app.harbour.internal.", answers=((APP_1.address, "A"), (APP_2.address, "A")))
    # The resolver of the host tries the network's own domain first.
    yield now.ask(WEB_2, "app.harbour.internal.eu-central-1.compute.internal.", rcode="NXDOMAIN")
    reverse = ".".join(reversed(now.dice.pick(CUSTOMERS[:40]).split(".")))
    yield now.ask(WEB_1, f"{reverse}.in-addr.arpa.", "PTR", rcode="NXDOMAIN")
    if now.opens.hour == 6:
        known = ((now.dice.pick(("198.51.100.61", "198.51.100.62")), "A"),)
        yield now.ask(WEB_2, "weather.dyn.example.net.", answers=known, action="ALERT", names=DYNAMIC_NAMES)
    if 8 <= now.opens.hour <= 16:
        srcids = {"resolver_endpoint": ENDPOINT, "resolver_network_interface": ENDPOINT_INTERFACE}
        at, port = now.opens + timedelta(seconds=now.dice.between(0, 299)), now.dice.between(1024, 60999)
        answers = (("web.harbour.internal.", "CNAME"), (WEB_1.address, "A"))
        yield Query(now.network, at, "shop.harbour.internal.", "A", answers, OFFICE_DNS, port, srcids)


def build_queries(now: Moment) -> Iterator[Query]:
    """Tell what the build runners look up; one build file misspells the package registry."""
    for runner in (RUNNER_1, RUNNER_2):
        answers = (("edge.packages.example.org.", "CNAME"), (PACKAGES, "A"))
        yield now.ask(runner, "registry.packages.example.org.", answers=answers)
    yield now.ask(RUNNER_2, "time.example.org.", answers=(("198.51.100.123", "A"),))
    yield now.ask(RUNNER_1, "s3.amazonaws.com.", answers=((OBJECT_STORE, "A"),))
    yield now.ask(RUNNER_1, "example.org.", "MX", answers=(("10 mail.example.org.", "MX"),))
    if now.opens.hour == 14:
        misspelt = "registry.pakcages.example.org."
        yield now.ask(RUNNER_2, misspelt, rcode="NXDOMAIN", action="BLOCK", names=LOOKALIKES)
    if now.opens.hour == 4:
        yield now.ask(RUNNER_1, "mirror.packages.example.org.", rcode="SERVFAIL")


# --- the intrusion ---------------------------------------------------------------------------------------------------


def tunnel() -> Iterator[Query]:
    """Tell how the bastion sends data away in names, and gets acknowledgements as text."""
    dice = Dice("resolver", "tunnel")
    for number in range(TUNNEL_QUERIES):
        at = STEPS["tunnel"].at + timedelta(seconds=number * 2)
        name = f"{dice.hex(56)}.{dice.hex(40)}.{number:02}.{TUNNEL}"
        yield _of_bastion(at, name, "TXT", ((f'"{dice.hex(8)}"', "TXT"),), dice)


def address() -> Iterator[Query]:
    """Tell how the bastion asks for the name behind which the intruder waits."""
    yield _of_bastion(STEPS["address"].at, TUNNEL_NAME, "A", ((INTRUDER, "A"),), Dice("resolver", "address"))


def _of_bastion(at: datetime, name: str, kind: str, answers: Answers, dice: Dice) -> Query:
    port, srcids = dice.between(32768, 60999), {"instance": BASTION.instance_id}
    source = BASTION.address
    return Query(SHOP_NETWORK, at, name, kind, answers, source, port, srcids, action="ALERT", names=DYNAMIC_NAMES)


# --- delivery --------------------------------------------------------------------------------------------------------


def traffic(network: Network) -> Iterator[Query]:
    """Tell every query of one network."""
    scene = build_queries if network is BUILD_NETWORK else shop_queries
    for opens in windows(network):
        yield from scene(Moment(network, Dice("resolver", network.name, opens.isoformat()), opens))
    if network is SHOP_NETWORK:
        yield from tunnel()
        yield from address()


def deliver() -> list[Delivered]:
    """Give the objects that the query logs write, one for each network and five minutes."""
    objects = []
    for network in NETWORKS:
        files: dict[datetime, list[Query]] = defaultdict(list)
        for query in traffic(network):
            files[query.at.replace(minute=query.at.minute // 5 * 5, second=0)].append(query)
        for opens, queries in sorted(files.items()):
            queries.sort(key=lambda query: (query.at, query.name, query.kind))
            objects.append(delivered(network, opens, [query.line() for query in queries]))
    return objects


def delivered(network: Network, opens: datetime, lines: list[str]) -> Delivered:
    """Give one object; its key names no region."""
    account, vpc = network.account.uid, network.vpc
    suffix = Dice("resolver", "suffix", network.name, opens.isoformat()).hex(8)
    name = f"{vpc}_vpcdnsquerylogs_{account}_{opens:%Y%m%dT%H%MZ}_{suffix}.log.gz"
    content = "\n".join(lines) + "\n"
    return Delivered(f"AWSLogs/{account}/vpcdnsquerylogs/{vpc}/{opens:%Y/%m/%d}/{name}", content.encode())
