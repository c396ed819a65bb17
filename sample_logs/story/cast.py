"""Who is who, where, and when: the facts that every log of the story shares.

Everything here is invented. Addresses come from the documentation ranges (192.0.2.0/24 the company,
198.51.100.0/24 and 203.0.113.0/24 the Internet, 2001:db8::/32) and from RFC 1918; names from example.com.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

T = TypeVar("T")

COMPANY = "Harbour Books"
ORGANIZATION = "o-exampleorg1"
LOG_BUCKET = "harbour-org-logs"
TRAIL = "org-trail"
EUROPE, AMERICA = "eu-central-1", "us-east-1"
DAYS = tuple(date(2026, 3, 16) + timedelta(days=n) for n in range(4))  # Monday to Thursday
MONDAY, TUESDAY, WEDNESDAY, THURSDAY = DAYS


@dataclass(frozen=True)
class Account:
    """One AWS account of the organisation."""

    uid: str
    name: str
    purpose: str


MANAGEMENT = Account("111122223333", "harbour-management", "billing, IAM Identity Center, the organisation trail")
SHOP = Account("012345678901", "harbour-shop", "the web shop: production; its id begins with a zero")
TOOLING = Account("444455556666", "harbour-tooling", "build runners and Terraform plans")
SANDBOX = Account("777788889999", "harbour-sandbox", "experiments; one old IAM user is left there")
ACCOUNTS = (MANAGEMENT, SHOP, TOOLING, SANDBOX)


@dataclass(frozen=True)
class Person:
    """An employee, who signs in through IAM Identity Center."""

    name: str
    work: str
    address: str
    role: str


OFFICE = "192.0.2.10"
ALICE = Person("alice.arden", "platform engineer", OFFICE, "AdministratorAccess")
BRUNO = Person("bruno.costa", "developer, works from home over IPv6", "2001:db8:51::27", "PowerUserAccess")
CHIARA = Person("chiara.duval", "finance", "192.0.2.11", "Billing")
PEOPLE = (ALICE, BRUNO, CHIARA)


@dataclass(frozen=True)
class User:
    """An IAM user with a long-lived access key."""

    name: str
    account: Account
    access_key: str
    address: str
    work: str


CI_DEPLOY = User("ci-deploy", SHOP, "AKIAEXAMPLECIDEPLOY1", "192.0.2.64", "deploys the shop; its key leaks")
SVC_METRICS = User(
    "svc-metrics", SHOP, "AKIAEXAMPLEMETRICS01", "192.0.2.70", "dashboards; its key is rotated on Tuesday"
)
SVC_BACKUP = User(
    "svc-backup", SHOP, "AKIAEXAMPLEBACKUP001", "192.0.2.71", "backups; idle, and the intruder's second identity"
)
LEGACY = User("dana.legacy", SANDBOX, "AKIAEXAMPLEDANALEG01", OFFICE, "an old console user who forgets the password")
USERS = (CI_DEPLOY, SVC_METRICS, SVC_BACKUP, LEGACY)

INTRUDER = "203.0.113.77"
BACKDOOR_KEY = "AKIAEXAMPLEBACKUP002"  # the second key of svc-backup, created by the intruder
CONSOLE_KEY = "ASIAEXAMPLECONSOLE77"  # the intruder's console session

EXPORTS, ORDERS_BUCKET, RELEASES = "harbour-customer-exports", "harbour-shop-orders", "harbour-shop-releases"
STOLEN_OBJECTS = 84
TUNNEL, TUNNEL_NAME = "t.dyn.example.net.", "files.dyn.example.net."
TUNNEL_QUERIES = 48


@dataclass(frozen=True)
class Step:
    """One moment of the intrusion, on Wednesday, UTC."""

    clock: str
    log: str
    text: str

    @property
    def at(self) -> datetime:
        """The moment itself."""
        return moment(WEDNESDAY, self.clock)


def moment(day: date, clock: str) -> datetime:
    """Give the UTC time of a day and a clock reading such as `02:11:07`."""
    return datetime.fromisoformat(f"{day.isoformat()}T{clock}").replace(tzinfo=UTC)


STEPS = {
    "whoami": Step("02:11:07", "CloudTrail", "GetCallerIdentity with the leaked key of ci-deploy, from a new address"),
    "buckets": Step("02:11:52", "CloudTrail", "ListBuckets"),
    "denied_details": Step("02:12:31", "CloudTrail", "GetAccountAuthorizationDetails: AccessDenied"),
    "denied_secrets": Step("02:12:58", "CloudTrail", "ListSecrets: AccessDenied"),
    "denied_instances": Step("02:13:24", "CloudTrail", "DescribeInstances: Client.UnauthorizedOperation"),
    "denied_user": Step("02:13:49", "CloudTrail", "CreateUser support-sync: AccessDenied"),
    "users": Step("02:14:40", "CloudTrail", "ListUsers"),
    "access_key": Step("02:19:12", "CloudTrail", f"CreateAccessKey for svc-backup gives {BACKDOOR_KEY}"),
    "login_profile": Step("02:20:03", "CloudTrail", "CreateLoginProfile for svc-backup (delivered a day late)"),
    "sign_in": Step("02:26:44", "CloudTrail", "ConsoleLogin as svc-backup, MFAUsed No"),
    "stop_logging": Step("02:31:15", "CloudTrail", "StopLogging of the organisation trail: AccessDenied"),
    "list_objects": Step("02:33:50", "CloudTrail", f"ListObjects of {EXPORTS} with {BACKDOOR_KEY}"),
    "first_object": Step("02:34:05", "CloudTrail", f"first of {STOLEN_OBJECTS} GetObject on {EXPORTS}, one every 8 s"),
    "last_object": Step("02:45:09", "CloudTrail", "last GetObject"),
    "first_knock": Step("02:47:10", "VPC Flow", "first of 12 rejected flows to ports 22 and 3389 of the bastion"),
    "look_around": Step("02:50:31", "CloudTrail", "DescribeInstances and DescribeSecurityGroups in the console"),
    "last_knock": Step("02:51:34", "VPC Flow", "last rejected flow"),
    "open_group": Step(
        "02:52:08", "CloudTrail", "AuthorizeSecurityGroupIngress: port 22 of the bastion for the intruder"
    ),
    "ssh": Step("02:55:20", "VPC Flow", "first accepted SSH flow to the bastion"),
    "tunnel": Step(
        "02:56:10", "Resolver", f"first of {TUNNEL_QUERIES} TXT queries of the bastion below {TUNNEL}, one every 2 s"
    ),
    "database": Step("02:58:00", "VPC Flow", "bastion reads the order database (port 5432), until 03:03:59"),
    "address": Step("03:04:41", "Resolver", f"bastion asks for {TUNNEL_NAME} and gets the intruder's address"),
    "egress": Step("03:05:00", "VPC Flow", "bastion sends to port 443 of the intruder, until 03:24:59"),
    "last_ssh": Step("03:27:59", "VPC Flow", "end of the last SSH flow"),
    "data_finding": Step("02:48:31", "GuardDuty", f"Exfiltration:S3/AnomalousBehavior on {EXPORTS}"),
    "volume_finding": Step("03:20:12", "GuardDuty", "Behavior:EC2/TrafficVolumeUnusual, the bastion: told three times"),
    "sequence": Step("03:10:44", "GuardDuty", "AttackSequence:S3/CompromisedData: critical, told twice"),
    "close_group": Step("03:52:40", "CloudTrail", "RevokeSecurityGroupIngress: the rule is taken away again"),
}
LATE_DELIVERY = moment(THURSDAY, "02:25:00")


@dataclass(frozen=True)
class Delivered:
    """One object in the log bucket: its key, and its content before gzip."""

    key: str
    content: bytes


class Dice:
    """Repeatable chance: the same names give the same numbers, whatever other scenes do."""

    def __init__(self, *names: str) -> None:
        """Seed from names, for example the kind of log, the scene and the day."""
        self._random = random.Random("/".join(names))

    def between(self, low: int, high: int) -> int:
        """Give a whole number, both ends included."""
        return self._random.randint(low, high)

    def pick(self, choices: Sequence[T]) -> T:
        """Give one of the choices."""
        return choices[self._random.randrange(len(choices))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Give the items in another order."""
        return self._random.sample(list(items), len(items))

    def text(
        self, length: int, alphabet: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    ) -> str:
        """Give random characters."""
        return "".join(self.pick(alphabet) for _ in range(length))

    def hex(self, length: int) -> str:
        """Give random lower-case hexadecimal digits."""
        return self.text(length, "0123456789abcdef")

    def uuid(self) -> str:
        """Give a random UUID (version 4)."""
        return f"{self.hex(8)}-{self.hex(4)}-4{self.hex(3)}-{self.pick('89ab')}{self.hex(3)}-{self.hex(12)}"


def hex_id(prefix: str, name: str) -> str:
    """Give the fixed AWS-style id of a named thing, for example `i-` and 17 hexadecimal digits."""
    return f"{prefix}-0{hashlib.sha256(f'{prefix}/{name}'.encode()).hexdigest()[:16]}"


def unique_id(prefix: str, name: str) -> str:
    """Give the fixed 21-character IAM id of a user (`AIDA`) or role (`AROA`), plainly an example."""
    digits = hashlib.sha256(f"{prefix}/{name}".encode()).hexdigest().upper()
    return f"{prefix}EXAMPLE{digits[:10]}"


def fixed_uuid(name: str) -> str:
    """Give the fixed UUID of a named thing."""
    return Dice("fixed", name).uuid()


@dataclass(frozen=True)
class Network:
    """A VPC with one flow log."""

    name: str
    account: Account
    region: str
    cidr: str
    fields: str

    @property
    def vpc(self) -> str:
        """The id of the VPC."""
        return hex_id("vpc", self.name)

    @property
    def flow_log(self) -> str:
        """The id of its flow log."""
        return hex_id("fl", self.name)


DEFAULT_FIELDS = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
)
CUSTOM_FIELDS = (
    DEFAULT_FIELDS + " vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr region az-id"
    " pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path"
)
SHOP_NETWORK = Network("shop", SHOP, EUROPE, "10.20.0.0/16", CUSTOM_FIELDS)
BUILD_NETWORK = Network("build", TOOLING, AMERICA, "10.40.0.0/16", DEFAULT_FIELDS)
NETWORKS = (SHOP_NETWORK, BUILD_NETWORK)


@dataclass(frozen=True)
class Host:
    """A network interface that the flow logs see; `instance` is false for what AWS runs."""

    name: str
    address: str
    network: Network
    zone: int
    instance: bool = True
    address6: str = ""

    @property
    def interface(self) -> str:
        """The id of the network interface."""
        return hex_id("eni", self.name)

    @property
    def subnet(self) -> str:
        """The id of the subnet."""
        return hex_id("subnet", f"{self.network.name}/{self.address.rsplit('.', 1)[0]}")

    @property
    def instance_id(self) -> str:
        """The id of the instance, `-` where AWS shows none."""
        return hex_id("i", self.name) if self.instance else "-"


WEB_1 = Host("web-1", "10.20.1.10", SHOP_NETWORK, 1, address6="2001:db8:20:1::10")
WEB_2 = Host("web-2", "10.20.2.10", SHOP_NETWORK, 2)
APP_1 = Host("app-1", "10.20.11.20", SHOP_NETWORK, 1)
APP_2 = Host("app-2", "10.20.12.20", SHOP_NETWORK, 2)
DATABASE = Host("orders-db", "10.20.21.30", SHOP_NETWORK, 1, instance=False)
NAT = Host("shop-nat", "10.20.1.5", SHOP_NETWORK, 1, instance=False)
BASTION = Host("bastion", "10.20.1.40", SHOP_NETWORK, 1)
STANDBY = Host("standby", "10.20.22.30", SHOP_NETWORK, 2, instance=False)
RUNNER_1 = Host("runner-1", "10.40.1.21", BUILD_NETWORK, 1)
RUNNER_2 = Host("runner-2", "10.40.1.22", BUILD_NETWORK, 1)
CACHE = Host("build-cache", "10.40.2.15", BUILD_NETWORK, 2)
SPARE = Host("runner-spare", "10.40.2.29", BUILD_NETWORK, 2)
HOSTS = (WEB_1, WEB_2, APP_1, APP_2, DATABASE, NAT, BASTION, STANDBY, RUNNER_1, RUNNER_2, CACHE, SPARE)
BASTION_GROUP = hex_id("sg", "bastion")

PAYMENTS = "198.51.100.200"  # the payment provider
OBJECT_STORE = "198.51.100.160"  # stands for the public addresses of Amazon S3
PACKAGES = "198.51.100.180"  # the package registry that builds use
CUSTOMERS = tuple(f"198.51.100.{n}" for n in range(20, 60)) + tuple(f"203.0.113.{n}" for n in range(120, 150))
CUSTOMERS_6 = tuple(f"2001:db8:c0de:{n:x}::2" for n in range(16, 24))
SCANNERS = tuple(f"203.0.113.{n}" for n in (3, 14, 28, 41, 59, 88, 96)) + tuple(f"198.51.100.{n}" for n in (7, 91, 133))
