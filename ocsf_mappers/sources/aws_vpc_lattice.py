"""Amazon VPC Lattice access logs -> OCSF HTTP Activity [4002], resource access logs -> Network Activity [4001].

Format: https://docs.aws.amazon.com/vpc-lattice/latest/ug/monitoring-access-logs.html
Record: one request to a service, or one connection to a resource, a line of JSON each. `startTime` and `eventTimestamp`
are ISO 8601, UTC; durations are milliseconds; `bytesReceived` is what the client sent.
Quirks: what is unknown is `-` or the text `null`; addresses have their port behind the last colon, IPv6 without brackets;
`requestPath` begins with `LatticePath?:`; `requestId` may be the client's own choice; VPC Lattice answers by itself where
`authDeniedReason` or `failureReason` says why.
"""

from ocsf_mappers import (
    CLOUDWATCH,
    Delivery,
    EventMap,
    Expr,
    Fields,
    Having,
    JsonRecords,
    Mapper,
    Marks,
    Product,
    Source,
    Switches,
    arn_account,
    carrier,
    coalesce,
    col,
    connection_protocol,
    http_activity,
    http_method,
    object_key,
    principal_name,
    text_struct,
    traffic,
    when,
)

is_resource = col.resourceConfigurationArn.is_not_null()


def address(value: Expr) -> Expr:
    """The address before the last colon, where it is one."""
    return coalesce(
        value.extract(r"^((?:\d{1,3}\.){3}\d{1,3})(?::\d{1,5})?$"),
        value.extract(r"^\[?([0-9a-fA-F:]*:[0-9a-fA-F:.]*?)\]?:\d{1,5}$"),
    )


def port(value: Expr) -> Expr:
    """The port behind the last colon."""
    return value.extract(r":(\d{1,5})$")


ACCOUNT, REGION = r"^arn:[^:]*:vpc-lattice:[^:]*:(\d{12}):", r"^arn:[^:]*:vpc-lattice:([^:]+):"
VPC = r"(vpc-[0-9a-f]+)$"


def owned_by(arn: Expr) -> Fields:
    """Whose log it is: as the object's name says, else the owner of what was called."""
    return {
        "cloud.provider":    "AWS",
        "cloud.account.uid": coalesce(object_key.account, carrier.account, arn.extract(ACCOUNT)),
        "cloud.region":      coalesce(object_key.region, carrier.region, arn.extract(REGION)),
        "metadata.product.feature.uid": col.serviceNetworkArn,
        "src_endpoint.ip":   address(col.sourceIpPort),
        "src_endpoint.port": port(col.sourceIpPort),
        "src_endpoint.name": coalesce(when(address(col.sourceIpPort).is_null()).then(col.sourceIpPort), when(col.sourceIpPort.is_null()).then("unknown")),
    }  # fmt: skip


prefixed = col.requestPath.starts_with("LatticePath?:")
path = when(prefixed).then(col.requestPath.extract(r"^LatticePath\?:([^?]+)")).otherwise(col.requestPath.extract(r"^([^?]+)"))
query = when(prefixed).then(col.requestPath.extract(r"^LatticePath\?:[^?]*\?(.+)$")).otherwise(col.requestPath.extract(r"^[^?]*\?(.+)$"))
hostname = col.hostHeader.extract(r"^([^:\[\]]+)(?::\d+)?$")
answered = col.responseCode.band({400: "Failure", 100: "Success"}, otherwise="Unknown")
refused = col.authDeniedReason.is_not_null()
principal = coalesce(col.callerPrincipal, when(col.resolvedUser.starts_with("arn:")).then(col.resolvedUser))
started = col.startTime.iso8601()

REQUEST: Fields = owned_by(col.serviceArn) | {
    # classification
    "activity_id":   http_activity(col.requestMethod),
    "severity_id":   "Informational",
    "status_id":     when(refused | col.failureReason.is_not_null()).then("Failure").otherwise(answered),
    "status_code":   col.responseCode,
    "status_detail": coalesce(col.failureReason, col.authDeniedReason),
    # occurrence
    "time":       started,
    "start_time": started,
    "duration":   col.duration,
    "metadata.product.feature.name": "Access Logs",
    # who, where the service asks for it
    "actor.user.uid":         principal,
    "actor.user.name":        when(~col.resolvedUser.starts_with("arn:")).then(col.resolvedUser).otherwise(principal_name(principal)),
    "actor.user.account.uid": arn_account(principal),
    # whether the service's policy let it in
    "action_id":      when(refused).then("Denied").otherwise("Allowed"),
    "disposition_id": when(refused).then("Unauthorized").otherwise("Allowed"),
    # from where to where: the address is the target's, of which a refused request has none
    "src_endpoint.vpc_uid":  coalesce(col.sourceVpcId, col.sourceVpcArn.extract(VPC)),
    "dst_endpoint.uid":      col.serviceArn,
    "dst_endpoint.hostname": hostname,
    "dst_endpoint.ip":       address(col.targetIpPort),
    "dst_endpoint.port":     port(col.targetIpPort),
    "dst_endpoint.vpc_uid":  col.destinationVpcId,
    "dst_endpoint.name":     when(col.serviceArn.is_null() & hostname.is_null() & address(col.targetIpPort).is_null()).then("unknown"),
    # what
    "http_request.uid":              col.requestId,
    "http_request.http_method":      http_method(col.requestMethod),
    "http_request.version":          col.protocol,
    "http_request.user_agent":       col.userAgent,
    "http_request.url.path":         path,
    "http_request.url.query_string": query.where(path.is_not_null()),
    "http_request.url.hostname":     hostname.where(path.is_not_null()),
    # OCSF 1.1.0 requires a response with a code, and 0 is no code of HTTP's
    "http_response.code":    coalesce(col.responseCode, "0"),
    "http_response.latency": col.responseFromTargetDuration,
    **traffic(sent=col.bytesReceived, received=col.bytesSent),
    "tls.version": col.tlsVersion,
    "tls.cipher":  col.sslCipher.where(col.tlsVersion.is_not_null()),
    "tls.sni":     col.serverNameIndication.where(col.tlsVersion.is_not_null()),
}  # fmt: skip

CONNECTION: Fields = owned_by(col.resourceConfigurationArn) | {
    # classification: a connection to a resource is begun
    "activity_id": "Open",
    "severity_id": "Informational",
    # occurrence
    "time": col.eventTimestamp.iso8601(),
    "metadata.product.feature.name": "Resource Access Logs",
    # from where to where: the resource's own address stays in `unmapped`, with the gateway's
    "src_endpoint.vpc_uid": col.sourceVpcArn.extract(VPC),
    "src_endpoint.uid":     col.vpcEndpointId,
    "dst_endpoint.uid":     col.resourceConfigurationArn,
    "dst_endpoint.ip":      address(col.destinationIpPort),
    "dst_endpoint.port":    port(col.destinationIpPort),
    **connection_protocol(col.protocol),
    "connection_info.direction_id": "Unknown",
}  # fmt: skip

MAPPER = Mapper(
    name="aws_vpc_lattice",
    product=Product("Amazon VPC Lattice"),
    readers=[JsonRecords(lists=(), envelopes=(CLOUDWATCH,), label="JSON lines (S3, Firehose, CloudWatch Logs)")],
    record=text_struct(
        "callerPrincipalTags hostHeader sslCipher serviceNetworkArn resolvedUser authDeniedReason requestMethod"
        " targetGroupArn tlsVersion userAgent serverNameIndication destinationVpcId sourceIpPort targetIpPort serviceArn"
        " sourceVpcId requestPath startTime protocol responseCode bytesReceived bytesSent duration"
        " requestToTargetDuration responseFromTargetDuration grpcResponseCode requestId callerPrincipal"
        " callerPrincipalOrgID callerX509SubjectCN callerX509IssuerOU callerX509SANNameCN callerX509SANDNS"
        " callerX509SANURI sourceVpcArn failureReason listenerId listenerType"
        " eventTimestamp serviceNetworkResourceAssociationId vpcEndpointId resourceConfigurationArn destinationIpPort"
        " gatewayIpPort resourceIpPort"
    ),
    table=when(is_resource).then("vpc_lattice_resources").otherwise("vpc_lattice"),
    blank=("", "-", "null"),
    observables={
        "dst_endpoint.uid": "Resource UID",
        "http_request.url.hostname": (),  # dst_endpoint.hostname is the same
    },
    sorted_by=("src_endpoint.ip",),
    events=[
        EventMap("network_activity", where=is_resource, fields=CONNECTION),
        EventMap("http_activity", profiles=("cloud", "security_control", "host"), fields=REQUEST),
    ],
)  # fmt: skip

# docs.aws.amazon.com/vpc-lattice/latest/ug/monitoring-access-logs.html: some six minutes later
SOURCE = Source(
    MAPPER,
    delivery=Delivery(
        tuple(
            f"AWSLogs/{{account}}/VpcLattice/{kind}/{{region}}/{{year}}/{{month}}/{{day}}"
            for kind in ("AccessLogs", "ResourceAccessLogs")
        ),
        late_hours=2,
    ),
    keys=(
        r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>VpcLattice)/[^/]+/(?P<region>[^/]+)/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/",
        r"/(?P<account>\d{12})_(?P<kind>VpcLattice\w*?)_(?P<region>[^_/]+)_(?:[^/]*_)?(?P<date>\d{8})T\d{4,6}Z",
    ),
    marks=Marks(
        members=(
            Having(all_of=("serviceArn", "sourceIpPort")),
            Having(all_of=("resourceConfigurationArn", "resourceIpPort")),
        )
    ),
    switches=(Switches("vpc-lattice.amazonaws.com", off=("DeleteAccessLogSubscription",), on=("CreateAccessLogSubscription",), changed=("UpdateAccessLogSubscription",)),),
)
