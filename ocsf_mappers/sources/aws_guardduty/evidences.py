"""What was seen: `evidences`. The whole of each detail stands beside its attributes in `data`."""

from ocsf_mappers import Expr, Fields, coalesce, col, element, outer, text, when
from ocsf_mappers.sources.aws_guardduty.phrases import (
    action,
    details,
    ebs_scan,
    file,
    file_name,
    local,
    malware_scan,
    moment,
    place,
    process,
    protocol,
    remote,
    resource,
    runtime,
    sequence,
    service,
    sha256,
)

key, kubernetes_user = details.accessKeyDetails, details.kubernetesDetails.kubernetesUserDetails
domain, caller, probe = col.domainDetails.domain, col.remoteAccountDetails, action.portProbeAction
inbound = coalesce(action.networkConnectionAction.json("connectionDirection"), "UNKNOWN") == "INBOUND"
login = outer.service.action.rdsLoginAttemptAction
# `value` holds the other members once more as text; where it says nothing, they stay in `unmapped`
additional_text = coalesce(service.additionalInfo.json("value"), "")
context = col.context
started = coalesce(col.process.pid, col.process.uuid, col.process.name).is_not_null()


def principal_arn() -> Expr:
    """The ARN of the principal of an access key, as CloudTrail has it; null where the finding has too little.

    A user's path is not known. Names of users are unique in an account whatever the path, so that the ARN without it is
    no other user's.
    """
    account, name = coalesce(caller.accountId, outer.accountId), key.json("userName")
    session, kind, partition = key.json("principalId").extract(":(.+)$"), key.json("userType"), outer.partition
    return (
        when(kind == "Root").then(text("arn:{}:iam::{}:root", partition, account))
        .when(kind == "IAMUser").then(text("arn:{}:iam::{}:user/{}", partition, account, name))
        .when(kind == "AssumedRole").then(text("arn:{}:sts::{}:assumed-role/{}/{}", partition, account, name, session))
    )  # fmt: skip


def far_end(*, where: Expr) -> Fields:
    """An endpoint of an attack sequence, at the end of the connection where it is."""
    fields = {
        "ip":       col.ip,
        "domain":   col.domain,
        "hostname": col.domain,
        "uid":      coalesce(col.id, "unknown"),
        "port":     col.port,
        "location.city":    col.location.city,
        "location.country": col.location.country,
        "autonomous_system.number": col.autonomousSystem.number,
        "autonomous_system.name":   col.autonomousSystem.name,
    }  # fmt: skip
    return {path: value.where(where) for path, value in fields.items()}


CONNECTION: Fields = {
    "connection_info": {
        "direction_id": col.connectionDirection.replace(INBOUND="Inbound", OUTBOUND="Outbound", UNKNOWN="Unknown"),
        **protocol(col.protocol),
    },
    "data": element,
}

KUBERNETES_USER: Fields = {
    "actor.user.name":   kubernetes_user.json("username"),
    "actor.user.uid":    kubernetes_user.json("uid").as_written(),
    "actor.user.groups": kubernetes_user.json("groups").where(
        coalesce(kubernetes_user.json("username"), kubernetes_user.json("uid")).is_not_null()
    ).each({"name": element}),
}  # fmt: skip

API_CALL: Fields = {
    "api.operation":      col.api,
    "api.service.name":   col.serviceName.where(col.api.is_not_null()),
    "api.response.error": col.errorCode.where(col.api.is_not_null()),
    "actor.user": {
        "type":           key.json("userType"),
        "name":           key.json("userName"),
        "uid":            coalesce(
            principal_arn(),
            # OCSF wants a name, an id or an account of a user
            coalesce(key.json("principalId"), key.json("accessKeyId")).where(
                coalesce(key.json("userName"), caller.accountId).is_null()
            ),
        ),
        "uid_alt":        key.json("principalId"),
        "credential_uid": key.json("accessKeyId"),
        "account.uid":    caller.accountId,
    },
    "actor.invoked_by": caller.awsServiceName,
    "src_endpoint":     place(col.remoteIpDetails),
    # through OCSF 1.3 an endpoint needs more than a domain
    "src_endpoint.domain":     domain,
    "src_endpoint.svc_name":   domain.where(domain.ends_with(".amazonaws.com")),
    "src_endpoint.hostname":   domain.where(~domain.ends_with(".amazonaws.com")),
    "http_request.user_agent": col.userAgent,
    "data": element,
}  # fmt: skip

KUBERNETES_CALL: Fields = KUBERNETES_USER | {
    "api.operation":     col.verb,
    "api.response.code": col.statusCode.where(col.verb.is_not_null()),
    "src_endpoint":      place(col.remoteIpDetails),
    "src_endpoint.intermediate_ips": coalesce(col.sourceIPs, col.sourceIps).where(
        coalesce(col.remoteIpDetails.ipAddressV4, col.remoteIpDetails.ipAddressV6).is_not_null()
    ),
    "http_request.user_agent": col.userAgent,
    "http_request.url.path":   col.requestUri,
    "data": element,
}  # fmt: skip

RUNTIME: Fields = {
    "actor.process": process(col.process) | {
        "cmd_line":       context.commandLineExample,
        "container.uid":  details.containerDetails.json("id").where(started),
        "container.name": details.containerDetails.json("name").where(started),
    },
    "process": process(context.targetProcess),
    "file": file(coalesce(
        context.threatFilePath, context.filePath, context.scriptPath, context.libraryPath, context.moduleFilePath,
        context.socketPath, context.runcBinaryPath, context.releaseAgentPath, context.shellHistoryFilePath,
    )),
    "file.hashes": sha256(context.moduleSha256.where(context.moduleFilePath.is_not_null()), element),
    "connection_info": {"direction_id": "Unknown", **protocol(context.ianaProtocolNumber)},
    "data": element,
}  # fmt: skip

ACTOR: Fields = {
    "actor.user": {
        "name":           col.user.name,
        "uid":            coalesce(col.user.uid, col.user.credentialUid),
        "type":           col.user.type,
        "credential_uid": col.user.credentialUid,
        "account.uid":    col.user.account.uid,
        "account.name":   coalesce(col.user.account.name, col.user.account.account),
    },
    "actor.session": {
        "uid":          col.session.uid,
        "issuer":       col.session.issuer,
        "is_mfa":       col.session.mfaStatus.replace(ENABLED="true", DISABLED="false"),
        "created_time": moment(col.session.createdTime),
    },
    "actor.process": {
        # a sequence gives processes no number: the actor's own id stands for one
        "uid":  coalesce(col.id, "unknown").where(coalesce(col.process.name, col.process.path).is_not_null()),
        "name": col.process.name,
        "file": {
            "path":    col.process.path,
            "name":    file_name(col.process.path),
            "type_id": when(col.process.path.is_not_null()).then("Regular File"),
            "hashes":  sha256(col.process, col.sha256.where(col.path.is_not_null())),
        },
    },
    "data": element,
}  # fmt: skip

EVIDENCES = [
    # AWS_API_CALL
    action.awsApiCallAction.each(API_CALL),
    # NETWORK_CONNECTION: an inbound one began at the remote end; of others ours is the source
    action.networkConnectionAction.where(inbound).each(CONNECTION | remote("src_endpoint") | local("dst_endpoint")),
    action.networkConnectionAction.where(~inbound).each(CONNECTION | local("src_endpoint") | remote("dst_endpoint")),
    # DNS_REQUEST
    action.dnsRequestAction.each({
        "query.hostname":  coalesce(col.domain, col.domainWithSuffix),
        "connection_info": {"direction_id": "Unknown", **protocol(col.protocol)},
        "data": element,
    }),
    # PORT_PROBE: one for each probed port
    probe.json("portProbeDetails").each({
        "connection_info.direction_id": when(element.is_not_null()).then("Inbound"),
        "src_endpoint": place(col.remoteIpDetails),
        **local("dst_endpoint"),
        "data": element,
    }),
    # KUBERNETES_API_CALL
    action.kubernetesApiCallAction.each(KUBERNETES_CALL),
    action.kubernetesPermissionCheckedDetails.each({"api.operation": col.verb, **KUBERNETES_USER, "data": element}),
    action.kubernetesRoleDetails.each({"data": element}),
    action.kubernetesRoleBindingDetails.each({"data": element}),
    resource.kubernetesDetails.kubernetesUserDetails.each({**KUBERNETES_USER, "data": element}),
    # RDS_LOGIN_ATTEMPT: the attempt, who tried, and as whom
    action.rdsLoginAttemptAction.each({"src_endpoint": place(col.remoteIpDetails), "data": element}),
    coalesce(
        action.rdsLoginAttemptAction.json("LoginAttributes"), action.rdsLoginAttemptAction.json("loginAttributes")
    ).each({
        "actor.user.name": col.user,
        "actor.app_name":  col.application,
        "src_endpoint.ip": coalesce(
            login.json("remoteIpDetails", "ipAddressV4"), login.json("remoteIpDetails", "ipAddressV6")
        ),
        "data": element,
    }),
    resource.rdsDbUserDetails.each({
        "actor.user.name": col.user,
        "actor.app_name":  col.application,
        "database":        {"name": col.database, "type_id": "Relational"},
        "data": element,
    }),
    # Runtime Monitoring: the process, and what it acted on
    runtime.each(RUNTIME),
    runtime.json("context", "modifyingProcess").each({"actor.process": process(element), "data": element}),
    # Malware Protection: the scan, then each file
    ebs_scan.each({"data": element}),
    ebs_scan.every("scanDetections.threatDetectedByName.threatNames[].filePaths[]").each({
        "file": file(col.filePath, col.hash), "file.volume": col.volumeArn, "data": element,
    }),
    malware_scan.each({"data": element}),
    malware_scan.every("threats[].itemPaths[]").each({"file": file(col.nestedItemPath, col.hash), "data": element}),
    malware_scan.every("threats[].itemDetails[]").each({"file": file(col.itemPath, col.hash), "data": element}),
    # attack sequences: who, from where, by which signals
    sequence.actors.each(ACTOR),
    sequence.endpoints.each({
        "src_endpoint": far_end(where=coalesce(col.connection.direction, "INBOUND") != "OUTBOUND"),
        "dst_endpoint": far_end(where=col.connection.direction == "OUTBOUND"),
        "connection_info.direction_id": col.connection.direction.replace(INBOUND="Inbound", OUTBOUND="Outbound"),
        "data": element,
    }),
    sequence.signals.each({"data": element}),
    sequence.signals.every("[].activities[]").each({
        "api.operation":      col.api.operation,
        "api.service.name":   col.api.service.where(col.api.operation.is_not_null()),
        "api.response.error": col.api.error.where(col.api.operation.is_not_null()),
        "http_request.user_agent": col.api.userAgent,
        "data": element,
    }),
    # what GuardDuty knew, and what was unusual
    service.evidence.threatIntelligenceDetails.each({"data": element}),
    service.detection.anomaly.each({"data": element}),
    service.additionalInfo.where(~additional_text.is_in("", "{}", '{"sample":true}')).each({"data": element}),
]  # fmt: skip
