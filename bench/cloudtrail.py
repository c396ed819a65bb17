"""Invented CloudTrail records, in the shapes and proportions an account with steady traffic sees.

A record is rendered from text: every API call in `cloudtrail_calls.jsonl` is compiled once into literals and tokens,
and a token (`$bucket`, `#bytes`) draws one value, the same throughout a record. Addresses come from the ranges
reserved for documentation and benchmarks, account ids are those of AWS's own documentation; every other name is made
up.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

ACCOUNTS = ("111122223333", "444455556666", "123456789012", "999988887777", "012345678901")
REGIONS = (
    "us-east-1",
    "us-east-1",
    "eu-west-1",
    "us-west-2",
    "ap-southeast-2",
)  # us-east-1 also holds the global calls
FIRST_DAY = datetime(2025, 3, 11, tzinfo=UTC)
SPAN_SECONDS = 2 * 86_400
FILE_WINDOW_SECONDS = 900
LATE_SHARE = 0.01
ERROR_SHARE = 0.055
BURST_SHARE = 0.72  # a caller tends to repeat its last call, mostly on the same things

_TEAMS = (
    "orders", "billing", "search", "ledger", "media", "pricing", "identity", "fraud", "maps", "catalog",
    "delivery", "insight",
)  # fmt: skip
_THINGS = (
    "api", "worker", "loader", "exporter", "indexer", "gateway", "batch", "stream", "audit", "replica",
    "notifier", "planner", "sync",
)  # fmt: skip
_STAGES = ("dev", "test", "stage", "prod")
_PEOPLE = (
    "amara.osei", "bjorn.lund", "carla.mendes", "dinesh.rao", "elif.kaya", "farid.nasser", "greta.holm",
    "hugo.blanc", "ines.costa", "jonas.weiss", "kaori.mori", "liam.doyle", "maya.cohen", "nils.berg",
    "olga.petrova", "pedro.silva", "quinn.hart", "rosa.vidal", "sven.aalto", "tara.singh",
)  # fmt: skip
_SERVICES = (
    "autoscaling", "config", "lambda", "ecs-tasks", "cloudformation", "eks", "elasticloadbalancing", "guardduty",
    "firehose",
)  # fmt: skip
_AGENTS = (
    "aws-cli/2.22.{} md/awscrt#0.23.4 ua/2.0 os/linux#6.1.119 md/arch#x86_64 lang/python#3.12.6",
    "Boto3/1.35.{} md/Botocore#1.35.90 ua/2.0 os/linux#5.10.230 md/arch#aarch64 lang/python#3.11.10",
    "APN/1.0 HashiCorp/1.0 Terraform/1.9.{} (+https://www.terraform.io) terraform-provider-aws/5.82.2",
    "aws-sdk-go-v2/1.30.{} os/linux lang/go#1.22.8 md/GOOS#linux md/GOARCH#amd64 exec-env/AWS_ECS_FARGATE",
    "aws-sdk-java/2.29.{} Linux/5.10.230-223.885.amzn2.x86_64 OpenJDK_64-Bit_Server_VM/17.0.13+11-LTS",
    "[aws-sdk-nodejs/2.16{}.0 linux/v18.20.5 exec-env/AWS_Lambda_nodejs18.x promise]",
    "kube-controller-manager/v1.31.{} (linux/amd64) kubernetes/e19d4f2 aws-sdk-go/1.55.5 (go1.22.8; linux; amd64)",
    "amazon-ssm-agent/3.3.{}.0 aws-sdk-go/1.55.5 (go1.22.8; linux; amd64)",
)
_BROWSER = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/13{}.0.0.0 Safari/537.36"
)
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True)
class Caller:
    """Who makes calls, from where: JSON text ready for the record, and what goes with it."""

    identity: str
    arn: str
    name: str
    address: str
    agent: str
    service: bool = False
    console: bool = False
    endpoint: str = ""
    tls: bool = True


@dataclass(frozen=True)
class Call:
    """One kind of API call: its share of the traffic and the shape of what it carries."""

    service: str
    operation: str
    weight: float
    params: Any = None
    response: Any = None
    writes: bool = False
    extra: Any = None
    resources: Sequence[Mapping[str, str]] = ()
    data: bool = False
    event_type: str = "AwsApiCall"
    by: str = "anyone"  # anyone | service | console | person
    api_version: str = ""


class Scene:
    """The account and region one file is about: its resources, its callers and its clock."""

    def __init__(self, seed: str, account: str, region: str, start: datetime) -> None:
        """Draws everything the file's records may mention; `start` is where the file's window begins."""
        self.start = start
        self.account, self.region = account, region
        self.rng = random.Random(seed)
        place = random.Random(f"{account}/{region}")  # the same account looks the same in every file
        names = [f"{t}-{w}" for t in _TEAMS for w in _THINGS]
        place.shuffle(names)
        self.roles = [(f"{n}-{place.choice(_STAGES)}", _key(place, "AROA")) for n in names[:60]]
        self.buckets = [f"{n}-{place.choice(_STAGES)}-{account[-4:]}" for n in names[:45]]
        self.functions = [f"{n}-{place.choice(_STAGES)}" for n in names[20:90]]
        self.apps = names[:70]
        self.instances = [f"i-0{_hex(place, 16)}" for _ in range(300)]
        self.volumes = [f"vol-0{_hex(place, 16)}" for _ in range(300)]
        self.enis = [f"eni-0{_hex(place, 16)}" for _ in range(300)]
        self.subnets = [f"subnet-0{_hex(place, 16)}" for _ in range(12)]
        self.groups = [f"sg-0{_hex(place, 16)}" for _ in range(60)]
        self.vpcs = [f"vpc-0{_hex(place, 16)}" for _ in range(4)]
        self.images = [f"ami-0{_hex(place, 16)}" for _ in range(25)]
        self.keys = [_uuid(place) for _ in range(30)]
        self.endpoints = [f"vpce-0{_hex(place, 16)}" for _ in range(6)]
        self.users = [(p, _key(place, "AIDA"), _key(place, "AKIA")) for p in _PEOPLE]
        self.callers = [self._session() for _ in range(75)] + [self._user() for _ in range(45)]
        self.callers += [self._federated() for _ in range(8)] + [self._foreign() for _ in range(6)]
        self.people = [self._session(console=True) for _ in range(14)] + [self._user(console=True) for _ in range(4)]
        self.services = [self._service(f"{s}.amazonaws.com") for s in _SERVICES]
        self.root = self._root()
        busy = self.rng.sample(range(len(self.callers)), len(self.callers))
        self.caller_weights = list(accumulate(1 / (rank + 3) for rank in busy))  # a few callers make most calls

    def _public_address(self) -> str:
        rng = self.rng
        if rng.random() < 0.03:
            return f"2001:db8:{rng.randrange(65536):x}:{rng.randrange(65536):x}::{rng.randrange(1, 65536):x}"
        return f"198.{rng.randrange(18, 20)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"

    def _session(self, *, console: bool = False) -> Caller:
        rng, account = self.rng, self.account
        role, role_id = rng.choice(self.roles)
        session = (
            rng.choice(_PEOPLE) + "@corp.example"
            if console
            else rng.choice(
                (rng.choice(self.instances), f"session-{rng.randrange(10**9):09}", role[:24], _hex(rng, 32))
            )
        )
        arn = f"arn:aws:sts::{account}:assumed-role/{role}/{session}"
        created = _clock(self.start - timedelta(seconds=rng.randrange(3600)))
        mfa = "true" if console else "false"
        web = '"webIdFederationData":{},' if rng.random() < 0.3 else ""
        delivery = ',"ec2RoleDelivery":"2.0"' if session.startswith("i-") else ""
        identity = (
            f'{{"type":"AssumedRole","principalId":"{role_id}:{session}","arn":"{arn}","accountId":"{account}",'
            f'"accessKeyId":"{_key(rng, "ASIA")}",'
            f'"sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"{role_id}",'
            f'"arn":"arn:aws:iam::{account}:role/{role}","accountId":"{account}","userName":"{role}"}},{web}'
            f'"attributes":{{"creationDate":"{created}","mfaAuthenticated":"{mfa}"}}{delivery}}}}}'
        )
        inside = rng.random()
        address = (
            self._public_address()
            if console or inside < 0.55
            else f"10.{rng.randrange(4)}.{rng.randrange(256)}.{rng.randrange(4, 255)}"
        )
        endpoint = rng.choice(self.endpoints) if address.startswith("10.") and inside > 0.8 else ""
        return Caller(
            identity,
            arn,
            session,
            address,
            self._agent(console),
            console=console,
            endpoint=endpoint,
            tls=rng.random() < 0.8,
        )

    def _agent(self, console: bool) -> str:
        return (
            _BROWSER.format(self.rng.randrange(10))
            if console
            else self.rng.choice(_AGENTS).format(self.rng.randrange(10, 40))
        )

    def _user(self, *, console: bool = False) -> Caller:
        rng, account = self.rng, self.account
        name, user_id, key = rng.choice(self.users)
        arn = f"arn:aws:iam::{account}:user/{name}"
        created = _clock(self.start - timedelta(seconds=rng.randrange(7200)))
        context = (
            f',"sessionContext":{{"attributes":{{"creationDate":"{created}","mfaAuthenticated":"true"}}}}'
            if console
            else ""
        )
        identity = (
            f'{{"type":"IAMUser","principalId":"{user_id}","arn":"{arn}","accountId":"{account}",'
            f'"accessKeyId":"{key}","userName":"{name}"{context}}}'
        )
        return Caller(identity, arn, name, self._public_address(), self._agent(console), console=console)

    def _federated(self) -> Caller:
        rng = self.rng
        if rng.random() < 0.5:
            user = f"{_hex(rng, 10)}-{_uuid(rng)}"
            store = f"arn:aws:identitystore::{self.account}:identitystore/d-{_hex(rng, 10)}"
            identity = (
                f'{{"type":"IdentityCenterUser","principalId":"{self.account}","accountId":"{self.account}",'
                f'"onBehalfOf":{{"userId":"{user}","identityStoreArn":"{store}"}},"credentialId":"{_hex(rng, 64)}"}}'
            )
            return Caller(identity, store, user, self._public_address(), self._agent(console=True), console=True)
        provider = (
            f"arn:aws:iam::{self.account}:oidc-provider/oidc.eks.{self.region}.amazonaws.com/id/{_hex(rng, 32).upper()}"
        )
        name = f"system:serviceaccount:{rng.choice(_TEAMS)}:{rng.choice(self.apps)}"
        identity = (
            f'{{"type":"WebIdentityUser","principalId":"{provider}:sts.amazonaws.com:{name}","userName":"{name}",'
            f'"identityProvider":"{provider}"}}'
        )
        return Caller(identity, provider, name, self._public_address(), self._agent(console=False))

    def _foreign(self) -> Caller:
        rng = self.rng
        other = rng.choice([a for a in ACCOUNTS if a != self.account])
        identity = f'{{"type":"AWSAccount","principalId":"{_key(rng, "AROA")}:{_hex(rng, 16)}","accountId":"{other}"}}'
        return Caller(identity, f"arn:aws:iam::{other}:root", other, self._public_address(), self._agent(console=False))

    def _service(self, name: str) -> Caller:
        return Caller(f'{{"type":"AWSService","invokedBy":"{name}"}}', name, name, name, name, service=True)

    def _root(self) -> Caller:
        account, created = self.account, _clock(self.start)
        identity = (
            f'{{"type":"Root","principalId":"{account}","arn":"arn:aws:iam::{account}:root","accountId":"{account}",'
            f'"accessKeyId":"{_key(self.rng, "ASIA")}","sessionContext":{{"attributes":{{"creationDate":"{created}",'
            f'"mfaAuthenticated":"true"}}}}}}'
        )
        return Caller(
            identity,
            f"arn:aws:iam::{account}:root",
            "root",
            self._public_address(),
            self._agent(console=True),
            console=True,
        )

    def caller(self, by: str) -> Caller:
        """A caller that may make a call of this kind."""
        rng = self.rng
        if by == "service" or (by == "anyone" and rng.random() < 0.22):
            return rng.choice(self.services)
        if by in ("console", "person"):
            return self.root if rng.random() < 0.02 else rng.choice(self.people)
        return rng.choices(self.callers, cum_weights=self.caller_weights)[0]


def _hex(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def _uuid(rng: random.Random) -> str:
    h = f"{rng.getrandbits(128):032x}"
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"


def _text(rng: random.Random, length: int) -> str:
    """Text that does not compress, like a token or a signature."""
    bits = rng.getrandbits(6 * length)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return "".join([alphabet[(bits >> shift) & 63] for shift in range(0, 6 * length, 6)])


def _key(rng: random.Random, prefix: str) -> str:
    bits = rng.getrandbits(80)
    return prefix + "".join([_BASE32[(bits >> shift) & 31] for shift in range(0, 80, 5)])


def _clock(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


_TRUST = (
    r"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\","
    r"\"Principal\":{\"Service\":\"%s.amazonaws.com\"},"
)
_STATEMENTS = (
    _TRUST % "lambda" + r"\"Action\":\"sts:AssumeRole\"}]}",
    _TRUST % "ecs-tasks" + r"\"Action\":\"sts:AssumeRole\",\"Condition\":{\"StringEquals\":"
    r"{\"aws:SourceOrgID\":\"o-example1234\"}}}]}",
)
_QUERIES = (
    "SELECT day, count(*) AS orders, sum(total) AS revenue FROM sales.orders WHERE day BETWEEN date '2025-03-01' AND "
    "date '2025-03-10' AND region = 'eu' GROUP BY day ORDER BY day",
    "SELECT u.segment, approx_distinct(e.user_id) FROM events.clicks e JOIN users.profile u ON u.id = e.user_id WHERE "
    "e.dt = '2025-03-10' GROUP BY 1",
    "MSCK REPAIR TABLE events.clicks",
)

# What a token stands for. `$name` stands in text, "#name" is replaced with its quotes (numbers, nested JSON);
# `$name_2` is a second, independent draw of `name`.
TOKENS: dict[str, Callable[[Scene], str]] = {
    "account": lambda s: s.account,
    "region": lambda s: s.region,
    "uuid": lambda s: _uuid(s.rng),
    "hex": lambda s: _hex(s.rng, 16),
    "hash": lambda s: _hex(s.rng, 64),
    "token": lambda s: _text(s.rng, 76),
    "long_token": lambda s: _text(s.rng, 300),
    "instance": lambda s: s.rng.choice(s.instances),
    "volume": lambda s: s.rng.choice(s.volumes),
    "eni": lambda s: s.rng.choice(s.enis),
    "subnet": lambda s: s.rng.choice(s.subnets),
    "group": lambda s: s.rng.choice(s.groups),
    "vpc": lambda s: s.rng.choice(s.vpcs),
    "image": lambda s: s.rng.choice(s.images),
    "bucket": lambda s: s.rng.choice(s.buckets),
    "object": lambda s: (
        f"{s.rng.choice(_TEAMS)}/dt=2025-03-{s.rng.randrange(1, 13):02}"
        f"/part-{s.rng.randrange(400):05}-{_hex(s.rng, 12)}"
        f".{s.rng.choice(('parquet', 'json.gz', 'csv', 'avro'))}"
    ),
    "function": lambda s: s.rng.choice(s.functions),
    "app": lambda s: s.rng.choice(s.apps),
    "team": lambda s: s.rng.choice(_TEAMS),
    "stage": lambda s: s.rng.choice(_STAGES),
    "role": lambda s: s.rng.choice(s.roles)[0],
    "role_id": lambda s: s.rng.choice(s.roles)[1],
    "user": lambda s: s.rng.choice(_PEOPLE),
    "key": lambda s: s.rng.choice(s.keys),
    "access_key": lambda s: _key(s.rng, "ASIA"),
    "user_id": lambda s: _key(s.rng, "AIDA"),
    "address": lambda s: f"10.{s.rng.randrange(4)}.{s.rng.randrange(256)}.{s.rng.randrange(4, 255)}",
    "cidr": lambda s: f"10.{s.rng.randrange(4)}.{s.rng.randrange(256)}.0/24",
    "port": lambda s: s.rng.choice(("22", "80", "443", "3306", "5432", "6379", "8080", "9092")),
    "count": lambda s: s.rng.choice(("5", "10", "50", "100", "500", "1000")),
    "few": lambda s: str(s.rng.randrange(1, 9)),
    "bytes": lambda s: str(int(s.rng.lognormvariate(9, 2.2))),
    "millis": lambda s: str(1_741_650_000_000 + s.rng.randrange(172_800_000)),
    "bool": lambda s: s.rng.choice(("true", "false")),
    "seconds": lambda s: s.rng.choice(("900", "3600", "7200", "43200")),
    "size": lambda s: s.rng.choice(("t3.micro", "t3.large", "m6i.xlarge", "c7g.2xlarge", "r6i.4xlarge")),
    "zone": lambda s: s.region + s.rng.choice("abc"),
    "path": lambda s: (
        f"/{s.rng.choice(_STAGES)}/{s.rng.choice(s.apps)}/{s.rng.choice(('db/url', 'db/password', 'token', 'flags'))}"
    ),
    "sql": lambda s: s.rng.choice(_QUERIES),
    "statement": lambda s: s.rng.choice(_STATEMENTS),
    "policy": lambda s: s.rng.choice(
        ("ReadOnlyAccess", "AmazonS3FullAccess", "AWSLambda_FullAccess", "CloudWatchLogsFullAccess")
    ),
    "scope": lambda s: s.rng.choice(("tag:Name", "vpc-id", "instance-state-name", "group-id", "network-interface-id")),
    "mfa": lambda s: s.rng.choice(("Yes", "Yes", "Yes", "No")),
    "outcome": lambda s: s.rng.choices(("Success", "Failure"), (95, 5))[0],
    "sse": lambda s: s.rng.choice(("SSE_S3", "SSE_KMS", "Default_SSE_S3")),
    "log_group": lambda s: f"/aws/{s.rng.choice(('lambda', 'ecs', 'rds'))}/{s.rng.choice(s.functions)}",
    "expiry": lambda s: f"Mar {s.rng.randrange(11, 13)}, 2025, {s.rng.randrange(1, 13)}:{s.rng.randrange(60):02}:00 PM",
    "metric": lambda s: s.rng.choice(
        ("CPUUtilization", "Errors", "Duration", "Throttles", "HTTPCode_Target_5XX_Count")
    ),
    "image_list": lambda s: ",".join(f'{{"imageId":"{i}"}}' for i in s.rng.sample(s.images, s.rng.randrange(1, 4))),
    "instance_list": lambda s: _items("instanceId", s.rng.sample(s.instances, s.rng.choice((1, 1, 1, 2, 5, 20)))),
    "volume_list": lambda s: _items("volumeId", s.rng.sample(s.volumes, s.rng.choice((1, 1, 2, 8)))),
    "group_list": lambda s: _items("groupId", s.rng.sample(s.groups, s.rng.choice((1, 1, 2, 4)))),
    "filters": lambda s: _filters(s),
}


def _items(key: str, values: Sequence[str]) -> str:
    return '{"items":[' + ",".join([f'{{"{key}":"{v}"}}' for v in values]) + "]}"


def _filters(s: Scene) -> str:
    pools = (
        ("vpc-id", s.vpcs),
        ("group-id", s.groups),
        ("network-interface-id", s.enis),
        ("subnet-id", s.subnets),
        ("tag:app", s.apps),
    )
    items = []
    for name, pool in s.rng.sample(pools, s.rng.choice((0, 1, 1, 2))):
        values = ",".join(f'{{"value":"{v}"}}' for v in s.rng.sample(pool, s.rng.choice((1, 1, 3))))
        items.append(f'{{"name":"{name}","valueSet":{{"items":[{values}]}}}}')
    return f'{{"items":[{",".join(items)}]}}' if items else "{}"


CALLS = [
    Call(**json.loads(line)) for line in Path(__file__).with_name("cloudtrail_calls.jsonl").read_text().splitlines()
]

_TOKEN = re.compile(r'"#([a-z_]+?)(_\d)?"|[$#]([a-z_]+?)(_\d)?(?![a-z_0-9])')
_Parts = list[str | tuple[str, Callable[[Scene], str]]]


def _compile(value: Any) -> _Parts:
    """Text with tokens as a list of literals and (name, draw) pairs."""
    text = json.dumps(value, separators=(",", ":")).replace("$$", "\0")
    parts: _Parts = []
    end = 0
    for match in _TOKEN.finditer(text):
        name = match[1] or match[3]
        parts += [text[end : match.start()].replace("\0", "$"), (name + (match[2] or match[4] or ""), TOKENS[name])]
        end = match.end()
    parts.append(text[end:].replace("\0", "$"))
    return parts


def _render(parts: _Parts, seen: dict[str, str], scene: Scene) -> str:
    out = []
    for part in parts:
        if isinstance(part, str):
            out.append(part)
            continue
        name, draw = part
        value = seen.get(name)
        if value is None:
            value = seen[name] = draw(scene)
        out.append(value)
    return "".join(out)


_ERRORS = (
    ("AccessDenied", "User: {arn} is not authorized to perform: {service}:{operation} because no identity-based policy "
     "allows it"),
    ("Client.UnauthorizedOperation", "You are not authorized to perform this operation. User: {arn} is not authorized "
     "to perform: {service}:{operation}. Encoded authorization failure message: {token}"),
    ("ThrottlingException", "Rate exceeded"),
    ("ResourceNotFoundException", "The resource you requested does not exist."),
    ("NoSuchEntityException", ""),
)  # fmt: skip
_VERSIONS = ("1.08", "1.09", "1.10", "1.11", "1.11", "1.11")
_TLS = (
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"),
)
_GLOBAL = ("iam", "signin")
_KEPT = frozenset((
    "bucket", "function", "app", "team", "stage", "role", "role_id", "key", "vpc", "subnet", "group", "image",
    "log_group",
))  # fmt: skip

_BODIES = [(_compile(c.params), _compile(c.response), _compile(c.extra), _compile(list(c.resources))) for c in CALLS]


def _weights(region: str) -> list[float]:
    return list(accumulate(0.0 if c.service in _GLOBAL and region != "us-east-1" else c.weight for c in CALLS))


def records(seed: str, count: int, account: str, region: str, start_second: int) -> list[str]:
    """JSON text of the records of one file, in no order of time, as CloudTrail delivers them.

    Args:
        seed: The same seed and place give the same text.
        count: Records to make.
        account: Account the file belongs to.
        region: Region the file belongs to.
        start_second: Where the file's window begins, in seconds since `FIRST_DAY`.
    """
    scene = Scene(seed, account, region, FIRST_DAY + timedelta(seconds=start_second))
    rng = scene.rng
    kinds = rng.choices(range(len(CALLS)), cum_weights=_weights(region), k=count)
    clock = [_clock(FIRST_DAY + timedelta(seconds=start_second + s)) for s in range(FILE_WINDOW_SECONDS)]
    out = []
    last = kinds[0]
    caller = scene.caller(CALLS[last].by)
    seen: dict[str, str] = {}
    for fresh in kinds:
        if rng.random() < BURST_SHARE:
            kind = last
            seen = {name: value for name, value in seen.items() if name in _KEPT}
        else:
            kind = last = fresh
            caller, seen = scene.caller(CALLS[kind].by), {}
        call, (params, response, extra, resources) = CALLS[kind], _BODIES[kind]
        if rng.random() < LATE_SHARE:  # delivered hours after it happened
            when = _clock(FIRST_DAY + timedelta(seconds=max(0, start_second - rng.randrange(6 * 3600))))
        else:
            when = clock[rng.randrange(FILE_WINDOW_SECONDS)]
        failed = rng.random() < ERROR_SHARE and call.service != "signin"
        error = ""
        if failed:
            code, message = rng.choice(_ERRORS)
            if message:
                filled = message.format(
                    arn=caller.arn,
                    service=call.service,
                    operation=call.operation,
                    token=_text(rng, 160) if "token" in message else "",
                )
                error = f'"errorCode":"{code}","errorMessage":"{filled}",'
            else:
                error = f'"errorCode":"{code}",'
        host = f"{call.service}.{region}.amazonaws.com"
        tail = ""
        if call.event_type == "AwsApiCall":
            tail = f',"apiVersion":"{call.api_version}"' if call.api_version else ""
        tail += (
            f',"managementEvent":{"false" if call.data else "true"},"recipientAccountId":"{account}"'
            f',"eventCategory":"{"Data" if call.data else "Management"}"'
        )
        if caller.service and call.service == "sts":
            tail += f',"sharedEventID":"{_uuid(rng)}"'
        if caller.endpoint:
            tail += f',"vpcEndpointId":"{caller.endpoint}","vpcEndpointAccountId":"{account}"'
        if not caller.service and caller.tls and call.event_type == "AwsApiCall":
            version, cipher = _TLS[len(caller.agent + call.service) % 3]
            tail += f',"tlsDetails":{{"tlsVersion":"{version}","cipherSuite":"{cipher}",'
            tail += f'"clientProvidedHostHeader":"{host}"}}'
        if caller.console and call.event_type == "AwsApiCall":
            tail += ',"sessionCredentialFromConsole":"true"'
        out.append(
            f'{{"eventVersion":"{_VERSIONS[len(call.service) % 6]}","userIdentity":{caller.identity},'
            f'"eventTime":"{when}",'
            f'"eventSource":"{call.service}.amazonaws.com","eventName":"{call.operation}","awsRegion":"{region}",'
            f'"sourceIPAddress":"{caller.address}","userAgent":"{caller.agent}",{error}'
            f'"requestParameters":{_render(params, seen, scene)},'
            f'"responseElements":{"null" if failed else _render(response, seen, scene)},'
            + (f'"additionalEventData":{_render(extra, seen, scene)},' if call.extra else "")
            + f'"requestID":"{_request_id(rng, call)}","eventID":"{_uuid(rng)}",'
            + f'"readOnly":{"false" if call.writes else "true"},'
            + (f'"resources":{_render(resources, seen, scene)},' if call.resources else "")
            + f'"eventType":"{call.event_type}"{tail}}}'
        )
    return out


def _request_id(rng: random.Random, call: Call) -> str:
    return f"{rng.getrandbits(64):016X}" if call.service == "s3" else _uuid(rng)
