"""Invented Route 53 Resolver query logs, one JSON object a line, as S3 gets them.

Few names are asked for often, by every instance of a VPC; names inside a cluster are tried with each search suffix
first, and fail; some names are asked for once. Addresses come from the ranges reserved for documentation and
benchmarks, names from `example` domains and AWS's own endpoints; instances are made up.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from datetime import timedelta
from itertools import accumulate

from bench.cloudtrail import FIRST_DAY

FILE_WINDOW_SECONDS = 300
ONCE_SHARE, TCP_SHARE, FIREWALL_SHARE = 0.03, 0.02, 0.008
"""Shares of queries: for a name that is asked for once, over TCP, that a DNS Firewall rule matched."""

_WORDS = (
    "orders", "billing", "search", "ledger", "media", "pricing", "identity", "fraud", "maps", "catalog", "delivery",
    "insight", "cache", "events", "metrics", "assets", "login", "images",
)  # fmt: skip
_ENDPOINTS = ("s3", "sts", "sqs", "dynamodb", "logs", "monitoring", "kms", "ec2", "secretsmanager", "ecr.api", "ssm")
_NOERROR, _NXDOMAIN, _SERVFAIL = "NOERROR", "NXDOMAIN", "SERVFAIL"


def vpc_of(account: str, region: str) -> str:
    """The VPC whose queries a file of this account and region holds."""
    return f"vpc-0{random.Random(f'{account}/{region}/vpc').getrandbits(64):016x}"


def _answers(rng: random.Random, name: str, kind: str) -> str:
    """JSON text of a name's answers: often an alias first, then addresses, which rotate with each query."""
    answers = []
    if kind in ("A", "AAAA") and rng.random() < 0.4:
        alias = f"{rng.choice(_WORDS)}-{rng.getrandbits(32):08x}.edge.example.net."
        answers.append(f'{{"Rdata":"{alias}","Type":"CNAME","Class":"IN"}}')
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        if kind == "A":
            value = f"198.{rng.randrange(18, 20)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        elif kind == "AAAA":
            value = f"2001:db8:{rng.randrange(65536):x}::{rng.randrange(1, 65536):x}"
        elif kind == "SRV":
            value = f"0 100 {rng.choice((389, 443, 5432))} node-{rng.randrange(9)}.{name}"
        elif kind == "TXT":
            value = f'\\"v=spf1 include:_spf.{name} -all\\"'
        elif kind == "MX":
            value = f"10 mail-{rng.randrange(4)}.{name}"
        else:
            value = name.replace("in-addr.arpa.", "ptr.example.org.")
        answers.append(f'{{"Rdata":"{value}","Type":"{kind}","Class":"IN"}}')
    return ",".join(answers)


def _repeated(rng: random.Random, region: str) -> list[tuple[float, str]]:
    """How often a query is made, and its members from `query_name` to `answers` as JSON text."""
    queries: list[tuple[float, str]] = []

    def add(weight: float, name: str, kind: str, rcode: str = _NOERROR, answered: bool = True, some: int = 4) -> None:
        for _ in range(some if answered else 1):
            answers = _answers(rng, name, kind) if answered else ""
            queries.append((weight / some if answered else weight, _members(name, kind, rcode, answers)))

    for number in range(1_500):
        name = f"{rng.choice(_WORDS)}-{number}.{rng.choice(('example.com', 'example.net', 'example.org'))}."
        weight = 1 / (number + 3)  # a few names get most of the queries
        add(weight * 0.6, name, "A")
        add(weight * 0.3, name, "AAAA", answered=rng.random() < 0.5)
        if number % 40 == 0:
            add(weight, name, rng.choice(("SRV", "TXT", "MX")))
    for service in _ENDPOINTS:
        add(0.15, f"{service}.{region}.amazonaws.com.", "A")
        add(0.10, f"{service}.{region}.amazonaws.com.", "AAAA", answered=False)
    for word in _WORDS:
        for suffix in ("svc.cluster.local.", "cluster.local.", f"{region}.compute.internal."):
            add(0.02, f"{word}.default.{suffix}", "A", _NXDOMAIN, answered=False)
            add(0.02, f"{word}.default.{suffix}", "AAAA", _NXDOMAIN, answered=False)
    for _ in range(300):
        add(0.002, f"{rng.randrange(1, 255)}.{rng.randrange(256)}.0.10.in-addr.arpa.", "PTR", some=1)
    add(0.03, "flaky.example.org.", "A", _SERVFAIL, answered=False)
    return queries


def _members(name: str, kind: str, rcode: str, answers: str) -> str:
    return f'"query_name":"{name}","query_type":"{kind}","query_class":"IN","rcode":"{rcode}","answers":[{answers}]'


def lines(seed: str, count: int, account: str, region: str, start_second: int) -> Sequence[str]:
    """The lines of one file.

    Args:
        seed: The same seed and place give the same text.
        count: Queries to make.
        account: Account the file belongs to.
        region: Region of the VPC.
        start_second: Where the file's window begins, in seconds since the first day.
    """
    place = random.Random(f"{account}/{region}/names")  # the same VPC asks for the same names in every file
    repeated = _repeated(place, region)
    limits = list(accumulate(weight for weight, _ in repeated))
    inside = place.randrange
    askers = [
        (f"10.{inside(12)}.{inside(64)}.{inside(4, 255)}", f"i-0{place.getrandbits(64):016x}") for _ in range(400)
    ]
    firewall = (
        f',"firewall_rule_action":"ALERT","firewall_rule_group_id":"rslvr-frg-{place.getrandbits(64):016x}"'
        f',"firewall_domain_list_id":"rslvr-fdl-{place.getrandbits(64):016x}"'
    )
    rng = random.Random(seed)
    draw, start = rng.random, FIRST_DAY + timedelta(seconds=start_second)
    moments = [f"{start + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}" for second in range(FILE_WINDOW_SECONDS)]
    head = f'{{"version":"1.100000","account_id":"{account}","region":"{region}","vpc_id":"{vpc_of(account, region)}"'
    out = []
    for number in range(count):
        if draw() < ONCE_SHARE:
            name = f"{rng.getrandbits(48):012x}.beacon.example.org."
            members = _members(name, "A", _NOERROR, _answers(rng, name, "A"))
        else:
            members = repeated[bisect(limits, draw() * limits[-1])][1]
        address, instance = askers[int(len(askers) * draw() ** 2)]
        out.append(
            f'{head},"query_timestamp":"{moments[number * FILE_WINDOW_SECONDS // count]}",{members},'
            f'"srcaddr":"{address}","srcport":"{32768 + int(draw() * 28232)}",'
            f'"transport":"{"TCP" if draw() < TCP_SHARE else "UDP"}","srcids":{{"instance":"{instance}"}}'
            f"{firewall if draw() < FIREWALL_SHARE else ''}}}"
        )
    return out


