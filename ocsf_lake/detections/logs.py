"""The logs that rules are for: their tables, and where members stand that a mapper cannot be read backwards for.

A member is looked for in this order: a row by hand, a row of the mapper (`inverse`), a path in a JSON column,
`unmapped`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property

from sqlglot import exp

from ocsf_lake.detections import asked, inverse, places
from ocsf_lake.detections.asked import Relation
from ocsf_lake.detections.places import Column, Documents, Field, Items, Kind, Member, Place, Unmappable, Unmapped
from ocsf_mappers import Mapper, registry
from ocsf_mappers.errors import nearest

Row = tuple[str | Items | Column, ...] | str
"""Columns by path, or SQL in brackets, the first with a value counting; a text is another name of a member, or, after
`NEVER`, the reason why it stands nowhere."""

NEVER = "never: "


@dataclass(frozen=True)
class Part:
    """One source's share of a log.

    Args:
        source: Name of the source.
        rows: Member -> row by hand.
        documents: Member -> the column that has it as JSON text.
        key: SQL of whom events are about, for grouping.
        listed: Member -> the list column in whose objects it is JSON text, as `data`; what is below it is looked for in
            all of them.
        listed_where: Member of those -> condition on rows that have it.
        columns: Table -> column -> SQL, where a table has something else in a column than its members.
    """

    source: str
    rows: Mapping[str, Row] = field(hash=False)
    key: str
    documents: Mapping[str, str] = field(default_factory=dict, hash=False)
    listed: Mapping[str, str] = field(default_factory=dict, hash=False)
    listed_where: Mapping[str, exp.Expr] = field(default_factory=dict, hash=False)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)

    @property
    def mapper(self) -> Mapper:
        """Its mapper."""
        return registry.load(self.source)

    @property
    def tables(self) -> list[str]:
        """The tables that hold it, sorted."""
        return sorted(self.mapper.tables)

    @cached_property
    def relation(self) -> Relation:
        """Its tables as one relation."""
        table = self.mapper.lake_table.arrow
        names = frozenset([*table.names, "accountid", "region", "eventday"])
        given = {name for columns in self.columns.values() for name in columns}
        about, read = asked.flattened(places.sql(self.key), names | given)
        own = {"source_object", "source_record", "time", "accountid", "region", *read}
        uid = asked.PLACE
        if inverse.kind_of(table, "metadata.uid") is not None:
            own.add("metadata.uid")
            uid = f'coalesce("metadata.uid", {asked.PLACE})'
        columns = tuple(sorted(own))
        return Relation(self.source, tuple(self.tables), names, self.columns, about.sql("duckdb"), uid, columns)

    @cached_property
    def declared(self) -> Mapping[str, bool]:
        """Every member that the mapper declares, and whether it is JSON of any shape."""
        return dict(inverse.members(self.mapper))

    def field(self, name: str) -> Field:
        """Where a member stands.

        Raises:
            Unmappable: It stands nowhere.
        """
        row = self.rows.get(name)
        if isinstance(row, str):
            if row.startswith(NEVER):
                raise Unmappable(row.removeprefix(NEVER))
            return self.field(row)
        if row is not None:
            return Field((*map(self._place, row), *self._leftover(name)))
        if (carried := inverse.fields(self.mapper).get(name)) is not None:
            return carried
        for document, column in self.documents.items():
            if name.startswith(f"{document}."):
                path = tuple(name.removeprefix(f"{document}.").split("."))
                return Field((Member(places.column(column), path), *self._leftover(name)))
        for member, items in self.listed.items():
            if name.startswith(f"{member}."):
                path = tuple(name.removeprefix(f"{member}.").split("."))
                where = self.listed_where.get(member)
                return Field((*self._leftover(name), Documents(places.column(items), "data", path, where)))
        first = name.split(".")[0]
        tops = {member.split(".")[0] for member in self.declared}
        note = None if first in tops else f"no record of {self.source} has a member {first}{nearest(first, tops)}"
        return Field(self._leftover(name), note)

    def _place(self, given: str | Items | Column) -> Place:
        if not isinstance(given, str):
            return given
        if given.startswith("("):
            return Column(places.sql(given))
        kind = inverse.kind_of(self.mapper.lake_table.arrow, given)
        assert kind is not None, f"{self.source}: no column {given}"
        return Column(places.column(given), kind)

    def _leftover(self, name: str) -> tuple[Place, ...]:
        """`unmapped`: the member itself, and what it may be a part of."""
        steps = name.split(".")
        begins = [".".join(steps[:number]) for number in range(1, len(steps))]
        if self.declared.get(name) is False:
            return (Unmapped(name),)  # a text
        # No member that is declared as a text has members of its own, and a structure is taken apart.
        structures = {begin for begin in begins if any(member.startswith(f"{begin}.") for member in self.declared)}
        within = [
            Member(places.node(places.UNMAPPED, places.text(begin)), tuple(steps[number + 1 :]))
            for number, begin in enumerate(begins)
            if begin not in structures and self.declared.get(begin) is not False
        ]
        return (Unmapped(name, may_be_list=True), *reversed(within))


@dataclass(frozen=True)
class Log:
    """A log, as rules name it.

    Args:
        name: What we call it.
        parts: Its sources.
        logsources: Product, service and category of rules for it, None for what they may leave out.
    """

    name: str
    parts: tuple[Part, ...]
    logsources: frozenset[tuple[str | None, str | None, str | None]]


def _time(path: str) -> Column:
    value = places.column(path)
    return Column(value if path == "time" else places.node(places.MILLIS, value), Kind.TIME)


def _seconds(path: str) -> Column:
    millis = places.node(places.MILLIS, places.column(path))
    return Column(exp.IntDiv(this=millis, expression=exp.Literal.number(1000)), Kind.NUMBER)


def _captions(path: str, **captions: str) -> str:
    """SQL that gives the log's own text for a caption."""
    whens = " ".join(f"WHEN '{caption}' THEN '{text}'" for text, caption in captions.items())
    return f"(CASE {path} {whens} END)"


_CALLER = "coalesce(actor.\"user\".uid, actor.\"user\".\"name\", src_endpoint.ip, src_endpoint.svc_name)"
_FEATURE = "metadata.product.feature.\"name\""
_CATEGORIES = ("Management", "Data", "Insight", "NetworkActivity")
"""Of records without one the mapper writes another text."""
_INSIGHT = {"api": "NULL", "actor": "NULL", "insight": "api"}

CLOUDTRAIL = Part(
    "aws_cloudtrail",
    {
        "eventName": ("api.operation",),
        "eventSource": ("api.service.name",),
        "eventTime": (_time("time"),),
        "eventCategory": (_captions(_FEATURE, **{name: name for name in _CATEGORIES}),),
        "sourceIPAddress": ("src_endpoint.ip", "src_endpoint.domain"),
        "additionalEventData.MFAUsed": ("(CASE WHEN is_mfa THEN 'Yes' WHEN NOT is_mfa THEN 'No' END)",),
        "additionalEventData.LoginTo": ("dst_endpoint.svc_name",),
        "userIdentity.invokedBy": ("actor.invoked_by",),
        "userIdentity.sessionContext.attributes.creationDate": (_time("actor.session.created_time_dt"),),
        "userIdentity.onBehalfOf.userId": ("(CASE WHEN actor.idp.uid IS NOT NULL THEN actor.\"user\".uid_alt END)",),
        "resources": ("(CAST(to_json(resources) AS VARCHAR))",),
        "resources.ARN": (Items(places.column("resources"), "uid"),),
        "resources.type": (Items(places.column("resources"), "type"),),
        "resources.accountId": (Items(places.column("resources"), "owner.account.uid"),),
        "insightDetails.eventName": ("(insight.operation)",),
        "insightDetails.eventSource": ("(insight.service.\"name\")",),
    },
    key=_CALLER,
    documents={"requestParameters": "api.request.data", "responseElements": "api.response.data"},
    columns={"cloud_trail_insight": _INSIGHT},
)
"""In the table of Insights the call is the one that was watched, which is no call of that record's."""

VPC_FLOW = Part(
    "aws_vpc_flow",
    {
        "srcaddr": ("(coalesce(src_endpoint.intermediate_ips[1], src_endpoint.ip))",),
        "dstaddr": ("(coalesce(dst_endpoint.intermediate_ips[1], dst_endpoint.ip))",),
        "interface_id": ("src_endpoint.interface_uid", "dst_endpoint.interface_uid"),
        "vpc_id": ("src_endpoint.vpc_uid", "dst_endpoint.vpc_uid"),
        "subnet_id": ("src_endpoint.subnet_uid", "dst_endpoint.subnet_uid"),
        "instance_id": ("src_endpoint.instance_uid", "dst_endpoint.instance_uid"),
        "start": (_seconds("start_time_dt"),),
        "end": (_seconds("end_time_dt"),),
        "action": (_captions("action", ACCEPT="Allowed", REJECT="Denied"),),
        "flow_direction": (_captions("connection_info.direction", ingress="Inbound", egress="Outbound"),),
        "reject_reason": ("status_detail",),
        "traffic_path": (_captions("connection_info.boundary", **{
            "1": "Same VPC", "2": "Internet/VPC Gateway", "3": "Virtual Private Gateway", "4": "Intra-region VPC",
            "5": "Inter-region VPC", "6": "Local Gateway", "7": "Gateway VPC", "8": "Internet Gateway",
        }),),
        "src_ip": ("src_endpoint.ip",),
        "dst_ip": ("dst_endpoint.ip",),
        "src_port": "srcport",
        "dst_port": "dstport",
        "protocol_name": ("connection_info.protocol_name",),
    },
    key="coalesce(src_endpoint.ip, src_endpoint.interface_uid, dst_endpoint.interface_uid)",
)  # fmt: skip

_HOST = Column(places.sql("rtrim(query.hostname, '.')"))
ROUTE53 = Part(
    "aws_route53_resolver",
    {
        # rules write names without the dot at their end
        "query": (_HOST,),
        "QueryName": (_HOST,),
        "c-dns-query": (_HOST,),
        "record_type": "query_type",
        "query_timestamp": (_time("time"),),
        "answer": (Items(places.column("answers"), "rdata"),),
        "answers": "answer",
        "answers.Rdata": "answer",
        "answers.Type": (Items(places.column("answers"), "type"),),
        "answers.Class": (Items(places.column("answers"), "class"),),
        "rcode": (_captions("rcode", FORMERR="FormError", SERVFAIL="ServError"), "(upper(rcode))"),
        "transport": ("(upper(connection_info.protocol_name))",),
        "firewall_rule_action": (_captions("disposition", ALLOW="Allowed", BLOCK="Blocked", ALERT="Alert"),),
        "src_ip": "srcaddr",
        "src_port": "srcport",
    },
    key="coalesce(src_endpoint.instance_uid, src_endpoint.ip)",
)  # fmt: skip

_RESOURCES = (
    "accessKeyDetails", "s3BucketDetails", "instanceDetails", "eksClusterDetails", "ecsClusterDetails",
    "containerDetails", "lambdaDetails", "rdsDbInstanceDetails", "rdsDbUserDetails",
)  # fmt: skip
_ACTIONS = {
    "awsApiCallAction": "AWS_API_CALL", "dnsRequestAction": "DNS_REQUEST", "portProbeAction": "PORT_PROBE",
    "networkConnectionAction": "NETWORK_CONNECTION", "kubernetesApiCallAction": "KUBERNETES_API_CALL",
    "rdsLoginAttemptAction": "RDS_LOGIN_ATTEMPT",
}  # fmt: skip


def _is_action(name: str) -> exp.Expr:
    kind = places.node(places.UNMAPPED, places.text("service.action.actionType"))
    return exp.EQ(this=kind, expression=places.text(name))


GUARDDUTY = Part(
    "aws_guardduty",
    {
        "createdAt": (_time("finding_info.created_time_dt"),),
        "updatedAt": (_time("time"),),
        "service.eventFirstSeen": (_time("finding_info.first_seen_time_dt"),),
        "service.eventLastSeen": (_time("finding_info.last_seen_time_dt"),),
        "service.detectorId": ("(regexp_extract(metadata.product.uid, 'detector/(.+)$', 1))",),
        "service.serviceName": ("('guardduty')",),  # the mapper leaves out what is always the same
        "service.archived": (_captions("status", true="Suppressed", false="New"),),
        "partition": ("cloud.cloud_partition", "(resources[1].cloud_partition)"),
    },
    key="coalesce(finding_info.uid_alt, finding_info.uid)",
    listed={
        **{f"resource.{name}": "resources" for name in _RESOURCES},
        **{f"service.action.{name}": "evidences" for name in _ACTIONS},
        "resource.kubernetesDetails.kubernetesUserDetails": "evidences",
        "service.evidence.threatIntelligenceDetails": "evidences",
        "service.ebsVolumeScanDetails": "evidences",
        "service.malwareScanDetails": "evidences",
    },
    listed_where={f"service.action.{name}": _is_action(kind) for name, kind in _ACTIONS.items()},
)

WAF = Part(
    "aws_waf",
    {
        "timestamp": ("(CAST(time AS VARCHAR))",),
        "action": (
            _captions(
                "disposition", ALLOW="Allowed", BLOCK="Blocked", COUNT="Count", CAPTCHA="Captcha", CHALLENGE="Challenge"
            ),
        ),
        "httpRequest.httpMethod": ("http_request.http_method",),
        "httpRequest.headers.name": (Items(places.column("http_request.http_headers"), "name"),),
        "httpRequest.headers.value": (Items(places.column("http_request.http_headers"), "value"),),
        "labels.name": (Items(places.column("metadata.labels")),),
        "c-ip": "httpRequest.clientIp",
        "src_ip": "httpRequest.clientIp",
        "cs-method": "httpRequest.httpMethod",
        "cs-uri-stem": "httpRequest.uri",
        "cs-uri-query": "httpRequest.args",
        "cs-user-agent": ("http_request.user_agent",),
        "cs-referer": ("http_request.referrer",),
        "cs-host": ("dst_endpoint.hostname",),
        "sc-status": "responseCodeSent",
    },
    key="src_endpoint.ip",
)

EKS = Part(
    "aws_eks_audit",
    {
        "stageTimestamp": ("metadata.original_time",),
        "requestReceivedTimestamp": (_time("start_time_dt"),),
        "user.groups": (Items(places.column("actor.user.groups"), "name"),),
        "objectRef.resource": ("(split_part(resources[1].type, '/', 1))",),
        "objectRef.subresource": ("(nullif(split_part(resources[1].type, '/', 2), ''))",),
        "objectRef.namespace": ("(resources[1].namespace)",),
        # of a call about all things of a kind the mapper writes the kind
        "objectRef.name": ("(CASE WHEN resources[1].\"name\" <> resources[1].type THEN resources[1].\"name\" END)",),
        "objectRef.uid": ("(resources[1].uid)",),
        "objectRef.resourceVersion": ("(resources[1].version)",),
        "sourceIPs": ("src_endpoint.ip",),
        "src_ip": "sourceIPs",
        "verb": ("api.operation",),
    },
    key="coalesce(actor.\"user\".\"name\", src_endpoint.ip)",
    documents={"requestObject": "api.request.data", "responseObject": "api.response.data"},
)

_WEB: Mapping[str, Row] = {
    "src_ip": "client_ip",
    "src_port": "client_port",
    "c-ip": "client_ip",
    "cs-method": "method",
    "cs-uri": "url",
    "cs-uri-stem": "path",
    "cs-uri-query": "query",
    "cs-user-agent": "user_agent",
    "cs-host": "host",
    "sc-status": "elb_status_code",
    "time": (_time("time"),),
}
_LINE = "http_request.http_method, http_request.url.url_string, http_request.\"version\""
_REQUEST = f"(nullif(concat_ws(' ', {_LINE}), ''))"
ALB = Part(
    "aws_alb",
    {
        **_WEB,
        "elb_status_code": ("status_code",),
        "ssl_protocol": ("tls.version",),
        "ssl_cipher": ("tls.cipher",),
        "request_creation_time": (_time("start_time_dt"),),
        "request": (_REQUEST,),
    },
    key="src_endpoint.ip",
)
CLB = Part("aws_clb", {**_WEB, "elb_status_code": ("status_code",), "request": (_REQUEST,)}, key="src_endpoint.ip")
NLB = Part("aws_nlb", {name: _WEB[name] for name in ("src_ip", "c-ip", "src_port", "time")}, key="src_endpoint.ip")

S3_ACCESS = Part(
    "aws_s3_access",
    {
        "time": (_time("time"),),
        "bucket": ("(list_filter(resources, LAMBDA item : item.type = 'AWS::S3::Bucket')[1].\"name\")",),
        "key": ("(list_filter(resources, LAMBDA item : item.type = 'AWS::S3::Object')[1].\"name\")",),
        "requester": ("actor.user.uid", "actor.invoked_by"),
        "bucket_owner": ("(list_filter(resources, LAMBDA item : item.type = 'AWS::S3::Bucket')[1].\"owner\".uid)",),
        "src_ip": "remote_ip",
        "c-ip": "remote_ip",
        "cs-method": "method",
        "cs-uri-stem": "path",
        "cs-uri-query": "query",
        "cs-user-agent": "user_agent",
        "cs-referer": "referer",
        "sc-status": "http_status",
    },
    key="coalesce(actor.\"user\".uid, actor.\"user\".\"name\", src_endpoint.ip)",
)


def _aws(*services: str) -> set[tuple[str | None, str | None, str | None]]:
    return {("aws", service, None) for service in services}


LOGS: tuple[Log, ...] = (
    Log("cloudtrail", (CLOUDTRAIL,), frozenset(_aws("cloudtrail"))),
    Log(
        "vpcflow", (VPC_FLOW,),
        frozenset({
            *_aws("vpcflow", "vpc_flow", "vpc", "vpcflowlogs"), (None, None, "firewall"), ("aws", None, "firewall"),
        }),
    ),
    Log(
        "route53", (ROUTE53,),
        frozenset({*_aws("route53", "route53_resolver", "dns"), (None, None, "dns"), ("aws", None, "dns")}),
    ),
    Log("guardduty", (GUARDDUTY,), frozenset(_aws("guardduty"))),
    Log("waf", (WAF,), frozenset({*_aws("waf"), ("aws", "waf", "webserver")})),
    Log(
        "eks", (EKS,),
        frozenset({
            *_aws("eks", "eks_audit"), ("kubernetes", "audit", None), ("kubernetes", "audit", "application"),
            ("kubernetes", None, "application"),
        }),
    ),
    Log("elb", (ALB, CLB, NLB), frozenset({*_aws("elb"), (None, None, "webserver"), ("aws", None, "webserver")})),
    Log("alb", (ALB,), frozenset(_aws("alb"))),
    Log("clb", (CLB,), frozenset(_aws("clb"))),
    Log("nlb", (NLB,), frozenset(_aws("nlb"))),
    Log("s3", (S3_ACCESS,), frozenset(_aws("s3", "s3access", "s3_access", "s3_server_access"))),
)  # fmt: skip


@cache
def _by_logsource() -> dict[tuple[str | None, str | None, str | None], Log]:
    return {source: log for log in LOGS for source in log.logsources}


def log_of(product: str | None, service: str | None, category: str | None) -> Log:
    """The log that a rule is for.

    Raises:
        Unmappable: The lake has no such log.
    """
    logsource = (product, service, category)
    if (log := _by_logsource().get(logsource)) is not None:
        return log
    named = zip(("product", "service", "category"), logsource, strict=True)
    words = ", ".join(f"{name} {value}" for name, value in named if value) or "no product, service or category"
    raise Unmappable(f"the lake has no log of {words}{nearest(service or '', _services())}")


def _services() -> list[str]:
    return sorted({service for _, service, _ in _by_logsource() if service})
