"""Amazon EKS control plane audit log (Kubernetes audit.k8s.io/v1) -> OCSF API Activity [6003].

Format: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/
Record: one stage of one request to the cluster's API server. A request has up to two records, RequestReceived or
ResponseStarted and ResponseComplete, with the same `auditID`; EKS logs RequestReceived of few. Times are RFC 3339 with
microseconds, UTC; tools write them with a space and without a zone.
Delivery: CloudWatch Logs only, log group `/aws/eks/<cluster>/cluster`, from where subscriptions, Firehose and export tasks
pass it on. The same group has other logs of the control plane, whose lines are counted drops. The record names neither
account nor region nor cluster: the account is the owner of the log group, the region is known where the object's name says
it, and the cluster is in the name of the log group.
Quirks: `user` is who called, also where `impersonatedUser` says as whom; `objectRef` of a list or a watch has no name; calls
of the control plane itself have `::1` as address or none.
"""

import pyarrow as pa

from ocsf_mappers import (
    CLOUDWATCH,
    JSON,
    Envelope,
    EventMap,
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
    element,
    list_of,
    object_key,
    outer,
    sql,
    text,
    text_struct,
    when,
)

OTHER_LOG = "a line of another log of the control plane"
AUDIT_GROUP = Envelope(
    CLOUDWATCH.marker,
    CLOUDWATCH.member,
    {
        **CLOUDWATCH.drops,
        # lines of klog begin with severity and month, those of the authenticator with their time
        **{f"{severity}{ten}": OTHER_LOG for severity in "IWEF" for ten in "01"},
        'time="': OTHER_LOG,
    },
)

ACTIVITIES = {
    "create": "Create",
    "get": "Read",
    "list": "Read",
    "watch": "Read",
    "update": "Update",
    "patch": "Update",
    "delete": "Delete",
    "deletecollection": "Delete",
}
"""Verbs of https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb; others, such
as those of URLs that are no resources, keep their text."""

CONTAINERS = [
    f"{template}.{kind}[]"
    for template in ("spec", "spec.template.spec", "spec.jobTemplate.spec.template.spec")
    for kind in ("containers", "initContainers", "ephemeralContainers")
]
CONTAINER = {
    "name": col.name,
    # OCSF requires an image's uid
    "image.uid":  col.image,
    "image.name": col.image.extract(r"^(.+?)(?::[^:/@]+)?(?:@[^@]+)?$"),
    "image.tag":  col.image.extract(r"^[^@]+:([^:/@]+)(?:@[^@]+)?$"),
}  # fmt: skip

who, target, status = col.user, col.objectRef, col.responseStatus
identified = col.auditID.is_not_null()
one_address = col.sourceIPs.matches(r'^\["[^"\\]+"\]$')
caller = {name: who.extra.json(name, "0") for name in ("accessKeyId", "canonicalArn", "sessionName", "principalId")}
by_code = status.code.band({400: "Failure", 100: "Success"}, otherwise="Unknown")

MAPPER = Mapper(
    name="aws_eks_audit",
    product=Product("Amazon EKS", feature="Elastic Kubernetes Service"),
    readers=[
        JsonRecords(lists=("items",), envelopes=(AUDIT_GROUP,), label="JSON (CloudWatch Logs, Firehose, JSON lines)")
    ],
    record=pa.struct([
        *text_struct(
            "kind apiVersion level auditID stage requestURI verb userAgent requestReceivedTimestamp stageTimestamp timestamp"
        ),
        pa.field("user", pa.struct([
            *text_struct("username uid"), pa.field("groups", JSON), pa.field("extra", JSON),
        ])),
        pa.field("objectRef", text_struct("resource namespace name uid apiGroup apiVersion resourceVersion subresource")),
        pa.field("responseStatus", pa.struct([
            *text_struct("status message reason code"), pa.field("metadata", JSON), pa.field("details", JSON),
        ])),
        *(pa.field(name, JSON) for name in (
            "impersonatedUser", "sourceIPs", "requestObject", "responseObject", "annotations", "metadata",
        )),
    ]),
    table="eks_audit",
    duplicate_key=("metadata.uid",),
    known_values={"apiVersion": ["audit.k8s.io/v1", "audit.k8s.io/v1beta1"], "stage": ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"]},
    drop={"kind": "it is Event in every record of the log"},
    observables={"resources.uid": "Resource UID"},
    events=[
        EventMap("api_activity", fields={
            # classification
            "activity_id": col.verb.replace(ACTIVITIES),
            "severity_id": "Informational",
            "status_id": (
                when(col.annotations.json("authorization.k8s.io/decision") == "forbid").then("Failure")
                .otherwise(coalesce(by_code, when(status.status.is_in("Success", "Failure")).then(status.status)))
            ),
            "message": col.stage,
            # occurrence
            "time":       coalesce(col.stageTimestamp.iso8601(), col.requestReceivedTimestamp.iso8601(), col.timestamp.iso8601(), carrier.time.iso8601()),
            "start_time": col.requestReceivedTimestamp.iso8601(),
            # context
            "metadata.uid":             text("{}/{}", col.auditID, col.stage),
            "metadata.correlation_uid": col.auditID,
            "metadata.original_time":   coalesce(col.stageTimestamp, col.timestamp),
            "metadata.log_level":       col.level,
            "metadata.product.version": col.apiVersion,
            "cloud.provider":    "AWS",
            "cloud.account.uid": coalesce(carrier.account, object_key.account),
            "cloud.region":      coalesce(carrier.region, object_key.region),
            # who called, also where somebody else is impersonated; OCSF requires some user
            "actor.user.name":              coalesce(who.username, when(who.uid.is_null()).then("Unknown")),
            "actor.user.uid":               who.uid,
            "actor.user.uid_alt":           caller["principalId"],
            "actor.user.account.uid":       arn_account(who.extra.json("arn", "0")),
            "actor.user.groups":            who.groups.each({"name": element}),
            "actor.user.type_id":           "Unknown",
            "actor.session.uid":            caller["sessionName"],
            "actor.session.credential_uid": caller["accessKeyId"],
            "actor.session.issuer":         caller["canonicalArn"],
            # what: the service is the API server of the cluster
            "api.operation":    coalesce(col.verb, "Unknown"),
            "api.version":      target.apiVersion,
            "api.group.name":   target.apiGroup,
            "api.service.name": carrier.log_group.extract("^/aws/eks/([^/]+)/cluster$"),
            # OCSF requires an id of every request
            "api.request.uid":         col.auditID,
            "api.request.data":        when(identified).then(col.requestObject),
            "api.request.containers":  [col.requestObject.every(path).each(CONTAINER).where(identified) for path in CONTAINERS],
            "api.response.code":       status.code,
            "api.response.message":    status.message,
            "api.response.error":      status.reason,
            "api.response.error_message": when(by_code == "Failure").then(status.message),
            "api.response.data":       col.responseObject,
            "api.response.containers": [col.responseObject.every(path).each(CONTAINER) for path in CONTAINERS],
            # a call about all resources of a kind names the kind
            "resources": list_of(coalesce(target.name, target.uid, target.resource)).each({
                "name":      coalesce(outer.objectRef.name, when(outer.objectRef.uid.is_null()).then(outer.objectRef.resource)),
                "uid":       outer.objectRef.uid,
                "type":      coalesce(text("{}/{}", outer.objectRef.resource, outer.objectRef.subresource), outer.objectRef.resource),
                "namespace": outer.objectRef.namespace,
                "version":   outer.objectRef.resourceVersion,
            }),
            # from where; the control plane's own calls need not say
            "src_endpoint.ip": when(one_address).then(sql("json_extract_string({0}, '$[0]')", reads=[col.sourceIPs])).otherwise(col.sourceIPs.json("0")),
            "src_endpoint.intermediate_ips": sql("nullif(to_json(json_extract_string({0}, '$[*]')[2:])::VARCHAR, '[]')", reads=[col.sourceIPs]),
            "src_endpoint.svc_name": when(col.sourceIPs.json("0").is_null()).then("eks.amazonaws.com"),
            # the whole text, query included, as Security Lake has it
            "http_request.url.path":         col.requestURI,
            "http_request.url.query_string": col.requestURI.extract(r"\?(.+)$"),
            "http_request.user_agent":       col.userAgent,
        }),
    ],
)  # fmt: skip

# docs.aws.amazon.com/eks/latest/userguide/control-plane-logs.html: no way to S3 of its own
SOURCE = Source(
    MAPPER,
    marks=Marks(
        members=(
            Having(like={"kind": "Event", "apiVersion": r"audit\.k8s\.io/"}),
            Having(all_of=("auditID", "stage")),
            Having(all_of=("objectRef", "verb", "user")),
        ),
    ),
    switches=(Switches("eks.amazonaws.com", off=("DeleteCluster",), changed=("UpdateClusterConfig",)),),
)
