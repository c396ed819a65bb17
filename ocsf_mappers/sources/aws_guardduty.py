"""Amazon GuardDuty findings -> OCSF Detection Finding [2004].

Format: https://docs.aws.amazon.com/guardduty/latest/APIReference/API_Finding.html
Severity: https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings-severity.html
Record: one finding as it is at `updatedAt`. GuardDuty sends a finding again, with the same `id` and a higher `count`, each
time the activity goes on: every telling is an event, and the view `guardduty_latest` shows the last one of each.
Files of the S3 export hold one finding a line; EventBridge passes a finding on as `detail`; GetFindings, the AWS CLI and
boto3 give `{"Findings": [...]}` with every member's name beginning with a capital.
Quirks: the member that describes a resource or an action is there or not, whatever `resourceType` and `actionType` say;
times inside details are Unix seconds with decimals in the export and ISO 8601 elsewhere; `asn`, `archived` and `severity`
come as text or not; what is unknown is "", null, `{}` or left out.
What is made of details: their known members become attributes, and the whole detail stays beside them as JSON text in
`data`. Resource types are spelled as Security Hub does (ASFF); those that ASFF lacks are spelled alike.
"""

import pyarrow as pa

from ocsf_mappers import (
    JSON,
    PROTOCOL_NAMES,
    PROTOCOL_NUMBERS,
    Column,
    EventMap,
    Expr,
    Fields,
    JsonRecords,
    Mapper,
    Product,
    coalesce,
    col,
    element,
    object_key,
    outer,
    sql,
    text_struct,
    when,
)

SEVERITY = {9: "Critical", 7: "High", 4: "Medium", 1: "Low"}
"""Floors of GuardDuty's bands: Low 1.0 to 3.9, Medium 4.0 to 6.9, High 7.0 to 8.9, Critical 9.0 to 10.0."""

SEQUENCE_TYPES = {
    # resourceType of an attack sequence -> Security Hub's spelling
    "EC2_INSTANCE": "AwsEc2Instance",
    "EC2_NETWORK_INTERFACE": "AwsEc2NetworkInterface",
    "EC2_LAUNCH_TEMPLATE": "AwsEc2LaunchTemplate",
    "EC2_VPC": "AwsEc2Vpc",
    "EC2_IMAGE": "AwsEc2Image",
    "S3_BUCKET": "AwsS3Bucket",
    "S3_OBJECT": "AwsS3Object",
    "ACCESS_KEY": "AwsIamAccessKey",
    "IAM_INSTANCE_PROFILE": "AwsIamInstanceProfile",
    "EKS_CLUSTER": "AwsEksCluster",
    "KUBERNETES_WORKLOAD": "KubernetesWorkload",
    "CONTAINER": "Container",
    "ECS_CLUSTER": "AwsEcsCluster",
    "ECS_TASK": "AwsEcsTask",
    "AUTOSCALING_AUTO_SCALING_GROUP": "AwsAutoScalingAutoScalingGroup",
    "CLOUDFORMATION_STACK": "AwsCloudFormationStack",
    "BEDROCK_GUARDRAIL": "AwsBedrockGuardrail",
    "BEDROCK_CUSTOM_MODEL": "AwsBedrockCustomModel",
    "BEDROCK_CUSTOM_MODEL_DEPLOYMENT": "AwsBedrockCustomModelDeployment",
    "BEDROCK_IMPORTED_MODEL": "AwsBedrockImportedModel",
    "BEDROCK_PROVISIONED_MODEL": "AwsBedrockProvisionedModel",
    "BEDROCK_INFERENCE_PROFILE": "AwsBedrockInferenceProfile",
    "BEDROCK_APPLICATION_INFERENCE_PROFILE": "AwsBedrockApplicationInferenceProfile",
    "BEDROCK_PROMPT": "AwsBedrockPrompt",
    "BEDROCK_PROMPT_ROUTER": "AwsBedrockPromptRouter",
    "SAGEMAKER_ENDPOINT": "AwsSageMakerEndpoint",
}

# The threat purposes that GuardDuty's documentation says are based on ATT&CK's tactics, see
# https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_finding-format.html#guardduty_threat_purposes. The others are
# none: Backdoor, Recon, Stealth, Trojan, UnauthorizedAccess... each go over several tactics or none.
PURPOSES = {
    "CredentialAccess": "Credential Access",
    "DefenseEvasion": "Defense Evasion",
    "Discovery": "Discovery",
    "Execution": "Execution",
    "Exfiltration": "Exfiltration",
    "Impact": "Impact",
    "InitialAccess": "Initial Access",
    "Persistence": "Persistence",
    "PrivilegeEscalation": "Privilege Escalation",
}
# https://attack.mitre.org/tactics/enterprise/
TACTICS = {
    "Reconnaissance": "TA0043",
    "Resource Development": "TA0042",
    "Initial Access": "TA0001",
    "Execution": "TA0002",
    "Persistence": "TA0003",
    "Privilege Escalation": "TA0004",
    "Defense Evasion": "TA0005",
    "Credential Access": "TA0006",
    "Discovery": "TA0007",
    "Lateral Movement": "TA0008",
    "Collection": "TA0009",
    "Command and Control": "TA0011",
    "Exfiltration": "TA0010",
    "Impact": "TA0040",
}

resource, service, action, sequence = col.resource, col.service, col.service.action, col.service.detection.sequence
runtime, ebs_scan, malware_scan = service.runtimeDetails, service.ebsVolumeScanDetails, service.malwareScanDetails
details = outer.resource


# -- phrases that several rows share; a value is a column of the element that `each` goes through -----------------------
def given(value: Expr) -> Expr:
    """The text, null where it is empty."""
    return sql("nullif({0}, '')", reads=[value])


def known(*values: Expr) -> Expr:
    """The first value that is there; OCSF wants one, so of an element that says something it is at least `unknown`."""
    return coalesce(*values, when(~element.is_null()).then("unknown"))


def moment(value: Expr) -> Expr:
    """A time as the export writes it or as the other ways do."""
    return coalesce(value.iso8601(), value.epoch_seconds(fraction=True))


def file_name(path: Expr) -> Expr:
    """The last step of a path."""
    return sql("coalesce(nullif(regexp_extract({0}, '[^/\\\\]+$'), ''), nullif({0}, ''))", reads=[path])


def protocol(value: Expr) -> Fields:
    """An IP protocol given by name or number. Zero is what GuardDuty writes where it knows none."""
    name, number = sql("lower(nullif({0}, ''))", reads=[value]), value.matches("^[0-9]+$")
    return {
        "connection_info.protocol_name": when(~number & name.is_in(*PROTOCOL_NUMBERS)).then(name).when(~number).then(given(value)).when(number & (value != "0") & value.is_in(*PROTOCOL_NAMES)).then(value.replace(PROTOCOL_NAMES)),
        "connection_info.protocol_num":  when(number).then(value).when(name.is_in(*PROTOCOL_NUMBERS)).then(name.replace(PROTOCOL_NUMBERS)),
    }  # fmt: skip


def hashes(value: Expr) -> Expr:
    """One fingerprint, its algorithm told by its length."""
    return element.each({
        "value":        given(value),
        "algorithm_id": when(value.matches("^[0-9A-Fa-f]{64}$")).then("SHA-256")
                        .when(value.matches("^[0-9A-Fa-f]{40}$")).then("SHA-1")
                        .when(value.matches("^[0-9A-Fa-f]{32}$")).then("MD5").otherwise("Unknown"),
    })  # fmt: skip


def file(path: Expr, fingerprint: Expr | None = None) -> Fields:
    """A file; OCSF wants its name."""
    fields: Fields = {"file.path": given(path), "file.name": file_name(path), "file.type_id": "Unknown"}
    if fingerprint is not None:
        fields["file.hashes"] = hashes(when(~given(path).is_null()).then(fingerprint))
    return fields


def place(end: str, remote: Column) -> Fields:
    """An address, where it is and whose it is. Place and network are not said without an address."""
    v4, v6, city, country = remote.ipAddressV4, remote.ipAddressV6, remote.city.cityName, remote.country
    ip = coalesce(given(v4), given(v6))
    named = coalesce(given(city), given(country.countryCode), given(country.countryName))
    there, known = ~ip.is_null(), ~ip.is_null() & ~named.is_null()
    lat, lon = (
        coalesce(remote.geoLocation.lat, remote.geoLocation.latitude),
        coalesce(remote.geoLocation.lon, remote.geoLocation.longitude),
    )
    return {
        f"{end}.ip":                       ip,
        f"{end}.location.city":            when(there).then(given(city)),
        f"{end}.location.country":         when(there).then(coalesce(given(country.countryCode), given(country.countryName))),
        f"{end}.location.coordinates":     when(known & ~lon.is_null() & ~lat.is_null()).then([lon, lat]),
        f"{end}.location.lat":             when(known).then(lat),
        f"{end}.location.long":            when(known).then(lon),
        f"{end}.autonomous_system.number": when(there & (remote.organization.asn != "-1")).then(remote.organization.asn),
        f"{end}.autonomous_system.name":   when(there).then(given(remote.organization.asnOrg)),
        f"{end}.isp":                      when(there).then(given(remote.organization.isp)),
        f"{end}.isp_org":                  when(there).then(given(remote.organization.org)),
    }  # fmt: skip


def local(end: str) -> Fields:
    """The endpoint that is ours: an address, an interface, or the resource that the finding is about."""
    ip = coalesce(given(col.localIpDetails.ipAddressV4), given(col.localIpDetails.ipAddressV6))
    instance, interface, port = (
        details.instanceDetails.json("instanceId"),
        given(col.localNetworkInterface),
        col.localPortDetails.port,
    )
    return {
        f"{end}.ip":            ip,
        f"{end}.port":          port,
        f"{end}.interface_uid": interface,
        f"{end}.instance_uid":  given(instance),
        # OCSF refuses an endpoint that has but a port
        f"{end}.name":          coalesce(
            details.lambdaDetails.json("functionName"),
            when(ip.is_null() & interface.is_null() & given(instance).is_null() & ~port.is_null()).then("unknown"),
        ),
    }  # fmt: skip


def remote(end: str) -> Fields:
    """The endpoint at the other end."""
    ip = coalesce(given(col.remoteIpDetails.ipAddressV4), given(col.remoteIpDetails.ipAddressV6))
    port = col.remotePortDetails.port
    return place(end, col.remoteIpDetails) | {
        f"{end}.port": port,
        f"{end}.name": when(ip.is_null() & ~port.is_null()).then("unknown"),
    }


def far_end(end: str, *, where: Expr) -> Fields:
    """An endpoint of an attack sequence, at the end of the connection where it is."""
    fields = {
        "ip":       given(col.ip),
        "domain":   given(col.domain),
        "hostname": given(col.domain),
        "uid":      coalesce(given(col.id), "unknown"),
        "port":     col.port,
        "location.city":    given(col.location.city),
        "location.country": given(col.location.country),
        "autonomous_system.number": col.autonomousSystem.number,
        "autonomous_system.name":   given(col.autonomousSystem.name),
    }  # fmt: skip
    return {f"{end}.{path}": when(where).then(value) for path, value in fields.items()}


def process(path: str, at: Column) -> Fields:
    """A process, its user, its file and its parent; OCSF wants a number or an id of it."""
    parent = sql(
        "list_filter(from_json({0}, '[\"JSON\"]'), lambda p: json_extract_string(p, '$.uuid') = {1})[1]",
        reads=[at.lineage, at.parentUuid],
    )
    return {
        f"{path}.pid":               at.pid,
        f"{path}.uid":               coalesce(given(at.uuid), when(at.pid.is_null()).then(coalesce(given(at.executablePath), given(at.name)))),
        f"{path}.name":              given(at.name),
        f"{path}.namespace_pid":     at.namespacePid,
        f"{path}.euid":              at.euid,
        f"{path}.created_time":      moment(at.startTime),
        f"{path}.working_directory": given(at.pwd),
        f"{path}.user.name":         given(at.user),
        f"{path}.user.uid":          at.userId,
        f"{path}.file.path":         given(at.executablePath),
        f"{path}.file.name":         file_name(at.executablePath),
        f"{path}.file.type_id":      when(~given(at.executablePath).is_null()).then("Regular File"),
        f"{path}.file.hashes":       at.each({
            "value":        when(~given(col.executablePath).is_null()).then(given(col.executableSha256)),
            "algorithm_id": "SHA-256",
        }),
        f"{path}.parent_process.uid":  given(at.parentUuid),
        f"{path}.parent_process.name": parent.json("name"),
        f"{path}.parent_process.pid":  parent.json("pid"),
        f"{path}.parent_process.file.path":      parent.json("executablePath"),
        f"{path}.parent_process.file.name":      file_name(parent.json("executablePath")),
        f"{path}.parent_process.file.type_id":   when(~parent.json("executablePath").is_null()).then("Regular File"),
        # nearest ancestor first
        f"{path}.lineage":  sql("list_filter(list_transform(from_json({0}, '[\"JSON\"]'), lambda p: json_extract_string(p, '$.executablePath')), lambda p: p <> '')", reads=[at.lineage]),
        f"{path}.ancestry": at.lineage.each({
            "uid":          coalesce(given(col.uuid), when(col.pid.is_null()).then(given(col.name))),
            "pid":          col.pid,
            "name":         given(col.name),
            "path":         given(col.executablePath),
            "created_time": moment(col.startTime),
        }),
    }  # fmt: skip


def resource_as(
    kind: Expr | str, *, uid: Expr, name: Expr | None = None, tags: Expr | None = None, **more: Expr
) -> Fields:
    """A resource, with everything that GuardDuty says of it in `data`."""
    fields: Fields = {
        "type":              kind,
        "uid":               uid,
        "cloud_partition":   outer.partition,
        "region":            outer.region,
        "owner.account.uid": outer.accountId,
        "data":              element,
        "role_id":           outer.service.resourceRole.replace(TARGET="Target", ACTOR="Actor"),
        **more,
    }  # fmt: skip
    if name is not None:
        fields["name"] = given(name)
    if tags is not None:
        fields["labels"] = labels(tags)
    return fields


def labels(tags: Expr) -> Expr:
    """Tags as `key=value`."""
    pairs = """list_transform(from_json({0}, '[{{"key": "VARCHAR", "value": "VARCHAR"}}]'), lambda t: t.key || '=' || coalesce(t.value, ''))"""
    return sql(pairs, reads=[tags])


def arn(service_name: str, rest: str, value: Expr) -> Expr:
    """An ARN built from the finding's partition, region and account; null where one of them is missing."""
    template = f"'arn:' || {{0}} || ':{service_name}:' || {{1}} || ':' || {{2}} || ':{rest}' || nullif({{3}}, '')"
    return sql(template, reads=[outer.partition, outer.region, outer.accountId, value])


def container() -> Fields:
    """A container of a task, a pod or an instance."""
    return resource_as("Container", uid=known(given(col.id), given(col.name), given(col.image)), name=col.name)


# -- who ----------------------------------------------------------------------------------------------------------------
def principal_arn(key: Expr) -> Expr:
    """The ARN of the principal of an access key, as CloudTrail has it; null where the finding does not tell enough.

    A user's path is not known. Names of users are unique in an account whatever the path, so that the ARN without it is
    no other user's.
    """
    account = coalesce(given(col.remoteAccountDetails.accountId), outer.accountId)
    arns = """CASE {0}
        WHEN 'Root' THEN 'arn:' || {1} || ':iam::' || {2} || ':root'
        WHEN 'IAMUser' THEN 'arn:' || {1} || ':iam::' || {2} || ':user/' || nullif({3}, '')
        WHEN 'AssumedRole' THEN 'arn:' || {1} || ':sts::' || {2} || ':assumed-role/' || nullif({3}, '') || '/'
            || nullif(regexp_extract({4}, ':(.+)$', 1), '') END"""
    said = [key.json("userType"), outer.partition, account, key.json("userName"), key.json("principalId")]
    return sql(arns, reads=said, carries=False)


# -- what the finding is about ------------------------------------------------------------------------------------------
interface = element.json("networkInterfaces").json("0")
AFFECTED = r"""to_json(list_transform(map_entries(from_json({0}, '"MAP(VARCHAR, VARCHAR)"')), lambda i: {{
    'type': CASE WHEN i.key LIKE 'AWS::%::%' THEN 'Aws' || array_to_string(list_transform(string_split(i.key, '::')[2:],
        lambda w: CASE WHEN w = upper(w) THEN w[1] || lower(w[2:]) ELSE w END), '') ELSE i.key END,
    'uid': i.value }}))"""
affected = sql(AFFECTED, reads=[action.awsApiCallAction.json("affectedResources")], carries=False)

RESOURCES = [
    resource.accessKeyDetails.each(resource_as(
        "AwsIamAccessKey",
        # Security Hub's own spelling of the id
        uid=known(sql("'AWS::IAM::AccessKey:' || nullif({0}, '')", reads=[col.accessKeyId]), given(col.principalId), given(col.userName)),
        name=col.userName,
    )),
    resource.s3BucketDetails.each(resource_as(
        "AwsS3Bucket",
        uid=known(given(col.arn), sql("'arn:' || {0} || ':s3:::' || nullif({1}, '')", reads=[outer.partition, col.name]), given(col.name)),
        name=col.name, tags=col.tags, created_time=moment(col.createdAt), **{"owner.uid": given(col.owner.id)},
    )),
    resource.s3BucketDetails.every("[].s3ObjectDetails[]").each(resource_as(
        "AwsS3Object", uid=known(given(col.objectArn), given(col.key)), name=col.key, version=given(col.versionId),
    )),
    resource.instanceDetails.each(resource_as(
        "AwsEc2Instance", uid=known(arn("ec2", "instance/", col.instanceId), given(col.instanceId)), name=col.instanceId,
        tags=col.tags, zone=given(col.availabilityZone), created_time=moment(col.launchTime),
        ip=given(interface.json("privateIpAddress")), hostname=given(interface.json("privateDnsName")),
    )),
    resource.eksClusterDetails.each(resource_as(
        "AwsEksCluster", uid=known(given(col.arn), given(col.name)), name=col.name, tags=col.tags, created_time=moment(col.createdAt),
    )),
    resource.kubernetesDetails.kubernetesWorkloadDetails.each(resource_as(
        "KubernetesWorkload", uid=known(given(col.uid), given(col.name)), name=col.name, namespace=given(col.namespace),
    )),
    resource.kubernetesDetails.kubernetesWorkloadDetails.every("containers[]").each(container()),
    resource.ecsClusterDetails.each(resource_as(
        "AwsEcsCluster", uid=known(given(col.arn), given(col.name)), name=col.name, tags=col.tags,
    )),
    resource.ecsClusterDetails.json("taskDetails").each(resource_as(
        "AwsEcsTask", uid=known(given(col.arn), given(col.definitionArn)), tags=col.tags, version=given(col.version),
        created_time=moment(coalesce(col.createdAt, col.taskCreatedAt)),
    )),
    resource.ecsClusterDetails.every("taskDetails.containers[]").each(container()),
    resource.containerDetails.each(container()),
    resource.lambdaDetails.each(resource_as(
        "AwsLambdaFunction", uid=known(given(col.functionArn), arn("lambda", "function:", col.functionName), given(col.functionName)),
        name=col.functionName, tags=col.tags, version=given(col.functionVersion), modified_time=moment(col.lastModifiedAt),
    )),
    resource.rdsDbInstanceDetails.each(resource_as(
        "AwsRdsDbInstance", uid=known(given(col.dbInstanceArn), arn("rds", "db:", col.dbInstanceIdentifier), given(col.dbiResourceId)),
        name=col.dbInstanceIdentifier, tags=col.tags, version=given(col.engineVersion),
    )),
    resource.rdsLimitlessDbDetails.each(resource_as(
        "AwsRdsDbShardGroup", uid=known(given(col.dbShardGroupArn), given(col.dbShardGroupResourceId), given(col.dbShardGroupIdentifier)),
        name=col.dbShardGroupIdentifier, tags=col.tags, version=given(col.engineVersion),
    )),
    # volumes that were skipped have no part in the finding: `unmapped` names them
    resource.ebsVolumeDetails.scannedVolumeDetails.each(resource_as(
        "AwsEc2Volume", uid=known(given(col.volumeArn), given(col.deviceName)), name=col.deviceName,
    )),
    resource.ebsSnapshotDetails.each(resource_as("AwsEc2Snapshot", uid=known(given(col.snapshotArn)))),
    resource.ec2ImageDetails.each(resource_as("AwsEc2Image", uid=known(given(col.imageArn)))),
    resource.recoveryPointDetails.each(resource_as(
        "AwsBackupRecoveryPoint", uid=known(given(col.recoveryPointArn)), name=col.backupVaultName,
    )),
    resource.bedrockGuardrailDetails.each(resource_as(
        "AwsBedrockGuardrail", uid=known(given(col.guardrailArn)), version=given(col.guardrailVersion),
    )),
    resource.modelDetails.each(resource_as("AwsBedrockModel", uid=known(given(col.modelId)))),
    sequence.resources.each(resource_as(
        col.resourceType.replace(SEQUENCE_TYPES), uid=known(given(col.uid), given(col.name)), name=col.name, tags=col.tags,
    ) | {
        "cloud_partition":   coalesce(given(col.cloudPartition), outer.partition),
        "region":            coalesce(given(col.region), outer.region),
        "owner.account.uid": coalesce(given(col.accountId), outer.accountId),
    }),
    # what the call was about, beside the principal who made it
    affected.each({
        "type":              col.type,
        "uid":               known(given(col.uid)),
        "cloud_partition":   outer.partition,
        "owner.account.uid": outer.accountId,
        "role_id":           "Affected",
    }),
]  # fmt: skip

# -- what was seen ------------------------------------------------------------------------------------------------------
key, kubernetes_user = details.accessKeyDetails, details.kubernetesDetails.kubernetesUserDetails
domain, caller = given(col.domainDetails.domain), col.remoteAccountDetails
inbound = coalesce(action.networkConnectionAction.json("connectionDirection"), "UNKNOWN") == "INBOUND"
probe = action.portProbeAction
login = outer.service.action.rdsLoginAttemptAction
# `value` holds the other members once more as text; where it says nothing, they stay in `unmapped`
said_more = coalesce(service.additionalInfo.json("value"), "")
started = ~coalesce(col.process.pid, col.process.uuid, col.process.name).is_null()

CONNECTION: Fields = {
    "connection_info.direction_id":  col.connectionDirection.replace(INBOUND="Inbound", OUTBOUND="Outbound", UNKNOWN="Unknown"),
    **protocol(col.protocol),
    "data": element,
}  # fmt: skip

KUBERNETES_USER: Fields = {
    "actor.user.name":   kubernetes_user.json("username"),
    "actor.user.uid":    kubernetes_user.json("uid"),
    "actor.user.groups": when(~coalesce(kubernetes_user.json("username"), kubernetes_user.json("uid")).is_null()).then(kubernetes_user.json("groups")).each({"name": element}),
}  # fmt: skip

EVIDENCES = [
    # AWS_API_CALL
    action.awsApiCallAction.each({
        "api.operation":      given(col.api),
        "api.service.name":   when(~given(col.api).is_null()).then(given(col.serviceName)),
        "api.response.error": when(~given(col.api).is_null()).then(given(col.errorCode)),
        "actor.user.type":           given(key.json("userType")),
        "actor.user.name":           given(key.json("userName")),
        "actor.user.uid":            coalesce(
            principal_arn(key),
            # OCSF wants a name, an id or an account of a user
            when(coalesce(given(key.json("userName")), given(caller.accountId)).is_null()).then(coalesce(given(key.json("principalId")), given(key.json("accessKeyId")))),
        ),
        "actor.user.uid_alt":        given(key.json("principalId")),
        "actor.user.credential_uid": given(key.json("accessKeyId")),
        "actor.user.account.uid":    given(caller.accountId),
        "actor.invoked_by":          given(caller.awsServiceName),
        **place("src_endpoint", col.remoteIpDetails),
        # through OCSF 1.3 an endpoint needs more than a domain
        "src_endpoint.domain":     domain,
        "src_endpoint.svc_name":   when(domain.ends_with(".amazonaws.com")).then(domain),
        "src_endpoint.hostname":   when(~domain.ends_with(".amazonaws.com")).then(domain),
        "http_request.user_agent": given(col.userAgent),
        "data": element,
    }),
    # NETWORK_CONNECTION: an inbound one began at the remote end; of others ours is the source
    when(inbound).then(action.networkConnectionAction).each(CONNECTION | remote("src_endpoint") | local("dst_endpoint")),
    when(~inbound).then(action.networkConnectionAction).each(CONNECTION | local("src_endpoint") | remote("dst_endpoint")),
    # DNS_REQUEST
    action.dnsRequestAction.each({
        "query.hostname": coalesce(given(col.domain), given(col.domainWithSuffix)),
        **protocol(col.protocol),
        "connection_info.direction_id": "Unknown",
        "data": element,
    }),
    # PORT_PROBE: one for each probed port
    probe.json("portProbeDetails").each({
        "connection_info.direction_id": when(~element.is_null()).then("Inbound"),
        **place("src_endpoint", col.remoteIpDetails),
        **local("dst_endpoint"),
        "data": element,
    }),
    # KUBERNETES_API_CALL
    action.kubernetesApiCallAction.each({
        "api.operation":     given(col.verb),
        "api.response.code": when(~given(col.verb).is_null()).then(col.statusCode),
        **KUBERNETES_USER,
        **place("src_endpoint", col.remoteIpDetails),
        "src_endpoint.intermediate_ips": when(~coalesce(given(col.remoteIpDetails.ipAddressV4), given(col.remoteIpDetails.ipAddressV6)).is_null())
                                         .then(sql("from_json({0}, '[\"VARCHAR\"]')", reads=[coalesce(col.sourceIPs, col.sourceIps)])),
        "http_request.user_agent": given(col.userAgent),
        "http_request.url.path":   given(col.requestUri),
        "data": element,
    }),
    action.kubernetesPermissionCheckedDetails.each({"api.operation": given(col.verb), **KUBERNETES_USER, "data": element}),
    action.kubernetesRoleDetails.each({"data": element}),
    action.kubernetesRoleBindingDetails.each({"data": element}),
    resource.kubernetesDetails.kubernetesUserDetails.each({**KUBERNETES_USER, "data": element}),
    # RDS_LOGIN_ATTEMPT: the attempt, who tried, and as whom
    action.rdsLoginAttemptAction.each({**place("src_endpoint", col.remoteIpDetails), "data": element}),
    coalesce(action.rdsLoginAttemptAction.json("LoginAttributes"), action.rdsLoginAttemptAction.json("loginAttributes")).each({
        "actor.user.name": given(col.user),
        "actor.app_name":  given(col.application),
        "src_endpoint.ip": coalesce(given(login.json("remoteIpDetails", "ipAddressV4")), given(login.json("remoteIpDetails", "ipAddressV6"))),
        "data": element,
    }),
    resource.rdsDbUserDetails.each({
        "actor.user.name":  given(col.user),
        "actor.app_name":   given(col.application),
        "database.name":    given(col.database),
        "database.type_id": "Relational",
        "data": element,
    }),
    # Runtime Monitoring: the process, and what it acted on
    runtime.each({
        **process("actor.process", col.process),
        "actor.process.cmd_line": given(col.context.commandLineExample),
        "actor.process.container.uid":  when(started).then(given(details.containerDetails.json("id"))),
        "actor.process.container.name": when(started).then(given(details.containerDetails.json("name"))),
        **process("process", col.context.targetProcess),
        **file(coalesce(
            given(col.context.threatFilePath), given(col.context.filePath), given(col.context.scriptPath), given(col.context.libraryPath),
            given(col.context.moduleFilePath), given(col.context.socketPath), given(col.context.runcBinaryPath),
            given(col.context.releaseAgentPath), given(col.context.shellHistoryFilePath),
        )),
        "file.hashes": when(~given(col.context.moduleFilePath).is_null()).then(col.context.moduleSha256).each({"value": element, "algorithm_id": "SHA-256"}),
        **protocol(col.context.ianaProtocolNumber),
        "connection_info.direction_id": "Unknown",
        "data": element,
    }),
    runtime.json("context", "modifyingProcess").each({**process("actor.process", element), "data": element}),
    # Malware Protection: the scan, then each file
    ebs_scan.each({"data": element}),
    ebs_scan.every("scanDetections.threatDetectedByName.threatNames[].filePaths[]").each({
        **file(col.filePath, col.hash), "file.volume": given(col.volumeArn), "data": element,
    }),
    malware_scan.each({"data": element}),
    malware_scan.every("threats[].itemPaths[]").each({**file(col.nestedItemPath, col.hash), "data": element}),
    malware_scan.every("threats[].itemDetails[]").each({**file(col.itemPath, col.hash), "data": element}),
    # attack sequences: who, from where, by which signals
    sequence.actors.each({
        "actor.user.name":           given(col.user.name),
        "actor.user.uid":            coalesce(given(col.user.uid), given(col.user.credentialUid)),
        "actor.user.type":           given(col.user.type),
        "actor.user.credential_uid": given(col.user.credentialUid),
        "actor.user.account.uid":    given(col.user.account.uid),
        "actor.user.account.name":   coalesce(given(col.user.account.name), given(col.user.account.account)),
        "actor.session.uid":          given(col.session.uid),
        "actor.session.issuer":       given(col.session.issuer),
        "actor.session.is_mfa":       col.session.mfaStatus.replace(ENABLED="true", DISABLED="false"),
        "actor.session.created_time": moment(col.session.createdTime),
        # a sequence gives processes no number: the actor's own id stands for one
        "actor.process.uid":          when(~coalesce(given(col.process.name), given(col.process.path)).is_null()).then(coalesce(given(col.id), "unknown")),
        "actor.process.name":         given(col.process.name),
        "actor.process.file.path":    given(col.process.path),
        "actor.process.file.name":    file_name(col.process.path),
        "actor.process.file.type_id": when(~given(col.process.path).is_null()).then("Regular File"),
        "actor.process.file.hashes":  col.process.each({"value": when(~given(col.path).is_null()).then(given(col.sha256)), "algorithm_id": "SHA-256"}),
        "data": element,
    }),
    sequence.endpoints.each({
        **far_end("src_endpoint", where=coalesce(col.connection.direction, "INBOUND") != "OUTBOUND"),
        **far_end("dst_endpoint", where=col.connection.direction == "OUTBOUND"),
        "connection_info.direction_id": col.connection.direction.replace(INBOUND="Inbound", OUTBOUND="Outbound"),
        "data": element,
    }),
    sequence.signals.each({"data": element}),
    sequence.signals.every("[].activities[]").each({
        "api.operation":      given(col.api.operation),
        "api.service.name":   when(~given(col.api.operation).is_null()).then(given(col.api.service)),
        "api.response.error": when(~given(col.api.operation).is_null()).then(given(col.api.error)),
        "http_request.user_agent": given(col.api.userAgent),
        "data": element,
    }),
    # what GuardDuty knew, and what was unusual
    service.evidence.threatIntelligenceDetails.each({"data": element}),
    service.detection.anomaly.each({"data": element}),
    when(~said_more.is_in("", "{}", '{"sample":true}')).then(service.additionalInfo).each({"data": element}),
]  # fmt: skip

# -- MITRE ATT&CK, where an attack sequence names it: "T1562.008 - Impair Defenses: Disable or Modify Cloud Logs" ---------
NAMED = """to_json(flatten(list_transform(
    list_filter(from_json({{0}}, '["JSON"]'), lambda i: json_extract_string(i, '$.key') = '{}'),
    lambda i: from_json(json_extract(i, '$.values'), '["VARCHAR"]'))))"""
TACTIC: Fields = {"tactic.name": element, "tactic.uid": when(element.is_in(*TACTICS)).then(element.replace(TACTICS))}
named_purpose = col.type.extract("^([A-Za-z]+):")
purpose = when(named_purpose.is_in(*PURPOSES)).then(named_purpose.replace(PURPOSES))
ATTACKS = [
    sql(NAMED.format("ATTACK_TACTIC"), reads=[sequence.sequenceIndicators], carries=False).each(TACTIC),
    sql("CASE WHEN {0} IS NOT NULL THEN to_json([{0}]) END", reads=[purpose], carries=False).each(TACTIC),
    sql(NAMED.format("ATTACK_TECHNIQUE"), reads=[sequence.sequenceIndicators], carries=False).each({
        "technique.uid":      element.extract(r"^(T\d{4})"),
        "technique.name":     coalesce(element.extract(r"^T[\d.]+ - ([^:]+)"), when(~element.matches(r"^T\d{4}")).then(element)),
        "sub_technique.uid":  element.extract(r"^(T\d{4}\.\d{3})"),
        "sub_technique.name": element.extract(r"^T\d{4}\.\d{3} - [^:]+: (.+)$"),
    }),
]  # fmt: skip

RELATED = [
    sequence.signals.each({
        "uid":             known(given(col.uid), given(col.name)),
        "type":            given(col.type),
        "title":           given(col.name),
        "desc":            given(col.description),
        "count":           col.count,
        "severity_id":     col.severity.band(SEVERITY, otherwise="Informational"),
        "created_time":    moment(col.createdAt),
        "modified_time":   moment(col.updatedAt),
        "first_seen_time": moment(col.firstSeenAt),
        "last_seen_time":  moment(col.lastSeenAt),
    }),
    sql("to_json(list_filter([{0}, {1}], lambda i: i <> ''))", reads=[col.associatedAttackSequenceArn, ebs_scan.json("triggerFindingId")]).each({"uid": element}),
]  # fmt: skip

MALWARE = [
    ebs_scan.every("scanDetections.threatDetectedByName.threatNames[]").each({
        "name":               known(given(col.name)),
        "classification_ids": [0],
        "num_infected":       col.itemCount,
        "severity_id":        col.severity.replace(LOW="Low", MEDIUM="Medium", HIGH="High", CRITICAL="Critical"),
        "files":              col.filePaths.each({
            "path": given(col.filePath), "name": coalesce(given(col.fileName), file_name(col.filePath)),
            "type_id": "Unknown", "hashes": hashes(col.hash),
        }),
    }),
    malware_scan.every("threats[]").each({
        "name":               known(given(col.name)),
        "provider":           given(col.source),
        "classification_ids": [0],
        "num_infected":       col.count,
    }),
]  # fmt: skip

hex_id = col.id.matches("^[0-9a-f]{32}$") & col.region.matches("^[a-z0-9-]+$") & (col.partition == "aws")
console = "'https://' || {0} || '.console.aws.amazon.com/guardduty/home?region=' || {0} || '#/findings?macros=current&fId=' || {1}"

blocked = coalesce(
    *(
        sql("nullif({0}, '')", reads=[at.json("blocked")], carries=False)
        for at in (action.networkConnectionAction, action.portProbeAction, action.dnsRequestAction)
    )
)

# -- the affected host: in every version of OCSF the place of its addresses ----------------------------------------------
instance = resource.instanceDetails
first = {
    name: given(instance.json("networkInterfaces", "0", name))
    for name in ("privateIpAddress", "privateDnsName", "networkInterfaceId", "subnetId", "vpcId")
}
DEVICE: Fields = {
    "device.instance_uid":  given(instance.json("instanceId")),
    "device.ip":            first["privateIpAddress"],
    "device.hostname":      first["privateDnsName"],
    "device.interface_uid": first["networkInterfaceId"],
    "device.subnet_uid":    first["subnetId"],
    "device.vpc_uid":       first["vpcId"],
    "device.type_id":       when(~coalesce(given(instance.json("instanceId")), first["privateIpAddress"], first["privateDnsName"], first["networkInterfaceId"]).is_null()).then("Virtual"),
    "device.network_interfaces": [
        instance.every("networkInterfaces[]").each({"ip": given(col.publicIp), "hostname": given(col.publicDnsName), "type_id": "Unknown"}),
        instance.every("networkInterfaces[].ipv6Addresses[]").each({"ip": given(element), "type_id": "Unknown"}),
        instance.every("networkInterfaces[].privateIpAddresses[]").each({"ip": given(col.privateIpAddress), "hostname": given(col.privateDnsName), "type_id": "Unknown"}),
    ],
}  # fmt: skip

FINDING: Fields = {
    # classification
    "activity_id": when(col.createdAt == col.updatedAt).then("Create").otherwise("Update"),
    # the number itself is in `unmapped`: OCSF has no place for 5.5
    "severity_id": col.severity.band(SEVERITY, otherwise="Informational"),
    # archived by a suppression rule or by hand, which the finding does not tell apart
    "status_id":   coalesce(service.archived.replace({"true": "Suppressed", "True": "Suppressed", "false": "New", "False": "New"}), "New"),
    "is_alert":    when(service.archived.is_in("true", "True")).then("false").otherwise("true"),
    "confidence_score": sql("regexp_replace({0}, '[.]0+$', '')", reads=[col.confidence]),
    "count":       service.count,
    "message":     col.title,
    # occurrence
    "time": coalesce(col.updatedAt.iso8601(), col.createdAt.iso8601(), service.eventLastSeen.iso8601()),
    # one telling of a finding, and the finding that all its tellings share
    "metadata.uid":             sql("{0} || '/' || {1}", reads=[col.id, col.updatedAt]),
    "metadata.correlation_uid": col.id,
    "metadata.log_version":     col.schemaVersion,
    "metadata.product.uid":          col.arn.extract("^(arn:[^/]+:detector/[^/]+)"),
    "metadata.product.feature.name": service.featureName,
    # where Security Hub's copy of the finding has the detector
    "metadata.product.feature.uid":  col.arn.extract("^(arn:[^/]+:detector/[^/]+)"),
    # context
    "cloud.provider":        "AWS",
    "cloud.region":          coalesce(col.region, object_key.region),
    "cloud.account.uid":     coalesce(col.accountId, object_key.account),
    "cloud.cloud_partition": col.partition,
    # the finding
    "finding_info.uid":             coalesce(col.arn, col.id),
    "finding_info.uid_alt":         col.id,
    "finding_info.title":           coalesce(col.title, col.type),
    "finding_info.desc":            col.description,
    "finding_info.types":           [col.type],
    "finding_info.created_time":    col.createdAt.iso8601(),
    "finding_info.modified_time":   col.updatedAt.iso8601(),
    "finding_info.first_seen_time": service.eventFirstSeen.iso8601(),
    "finding_info.last_seen_time":  service.eventLastSeen.iso8601(),
    # the address that Security Hub gives; other partitions have consoles of their own
    "finding_info.src_url":          when(hex_id).then(sql(console, reads=[col.region, col.id])),
    "finding_info.analytic.uid":     col.type,
    "finding_info.analytic.name":    coalesce(col.customDetectionRuleName, col.type),
    "finding_info.analytic.type_id": when(~col.customDetectionRuleName.is_null()).then("Rule")
                                     .when(col.type.contains("AnomalousBehavior")).then("Learning (ML/DL)").otherwise("Unknown"),
    "finding_info.attacks":          ATTACKS,
    "finding_info.related_events":   RELATED,
    # whether security groups and network ACLs let the connection through
    "action_id":      blocked.replace({"true": "Denied", "True": "Denied", "false": "Allowed", "False": "Allowed"}),
    "disposition_id": blocked.replace({"true": "Blocked", "True": "Blocked", "false": "Allowed", "False": "Allowed"}),
    **DEVICE,
    "malware": MALWARE,
    "malware_scan_info.name":         when(~ebs_scan.is_null() | ~malware_scan.is_null()).then("GuardDuty Malware Protection"),
    "malware_scan_info.uid":          coalesce(ebs_scan.json("scanId"), malware_scan.json("scanId")),
    "malware_scan_info.type_id":      coalesce(ebs_scan.json("scanType"), malware_scan.json("scanType")).replace(ON_DEMAND="Manual"),
    "malware_scan_info.start_time":   moment(ebs_scan.json("scanStartedAt")),
    "malware_scan_info.end_time":     moment(ebs_scan.json("scanCompletedAt")),
    "malware_scan_info.num_files":    ebs_scan.json("scanDetections", "scannedItemCount", "files"),
    "malware_scan_info.num_volumes":  ebs_scan.json("scanDetections", "scannedItemCount", "volumes"),
    "malware_scan_info.num_infected": ebs_scan.json("scanDetections", "threatsDetectedItemCount", "files"),
    "malware_scan_info.unique_malware_count": coalesce(ebs_scan.json("scanDetections", "threatDetectedByName", "uniqueThreatNameCount"), malware_scan.json("uniqueThreatCount")),
    "resources": RESOURCES,
    "evidences": EVIDENCES,
}  # fmt: skip


def json_fields(names: str) -> list[pa.Field]:
    """Members that stay JSON, named in one string."""
    return [pa.field(name, JSON) for name in names.split()]


RECORD = pa.struct([
    *text_struct(
        "schemaVersion accountId region partition id arn type severity confidence createdAt updatedAt title description"
        " associatedAttackSequenceArn customDetectionRuleName"
    ),
    pa.field("resource", pa.struct([
        *text_struct("resourceType"),
        *json_fields(
            "accessKeyDetails s3BucketDetails instanceDetails eksClusterDetails ecsClusterDetails containerDetails lambdaDetails"
            " rdsDbInstanceDetails rdsLimitlessDbDetails rdsDbUserDetails ebsSnapshotDetails ec2ImageDetails recoveryPointDetails"
            " bedrockGuardrailDetails modelDetails"
        ),
        pa.field("kubernetesDetails", pa.struct(json_fields("kubernetesUserDetails kubernetesWorkloadDetails"))),
        pa.field("ebsVolumeDetails", pa.struct(json_fields("scannedVolumeDetails skippedVolumeDetails"))),
    ])),
    pa.field("service", pa.struct([
        *text_struct("serviceName detectorId featureName archived count eventFirstSeen eventLastSeen resourceRole userFeedback"),
        pa.field("action", pa.struct([
            *text_struct("actionType"),
            *json_fields(
                "awsApiCallAction dnsRequestAction networkConnectionAction portProbeAction kubernetesApiCallAction"
                " kubernetesPermissionCheckedDetails kubernetesRoleBindingDetails kubernetesRoleDetails rdsLoginAttemptAction"
            ),
        ])),
        pa.field("evidence", pa.struct(json_fields("threatIntelligenceDetails"))),
        *json_fields("additionalInfo runtimeDetails ebsVolumeScanDetails malwareScanDetails"),
        pa.field("detection", pa.struct([
            *json_fields("anomaly"),
            pa.field("sequence", pa.struct([
                *text_struct("uid description"),
                *json_fields("actors resources endpoints signals sequenceIndicators additionalSequenceTypes"),
            ])),
        ])),
    ])),
])  # fmt: skip

MAPPER = Mapper(
    name="aws_guardduty",
    product=Product("GuardDuty"),
    readers=[
        JsonRecords(
            lists=("Findings", "findings"),
            pascal_case="SchemaVersion",
        ),
    ],
    record=RECORD,
    table="guardduty_findings",
    duplicate_key=("metadata.uid", "cloud.account.uid"),
    listed={"schemaVersion": ["2.0"]},
    drop={"service.serviceName": "it is always guardduty, as metadata.product.name says"},
    events=[
        # of processes in containers and on Linux, OCSF knows more under profiles of their own
        EventMap("detection_finding", profiles=("cloud", "container", "linux/linux_users", "security_control", "host"), fields=FINDING),
    ],
)  # fmt: skip
