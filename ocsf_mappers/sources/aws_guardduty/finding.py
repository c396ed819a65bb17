"""The finding itself: how severe and whose, the attack, the host and the malware."""

from ocsf_mappers import Fields, coalesce, col, element, first, list_of, object_key, sql, text, when
from ocsf_mappers.sources.aws_guardduty.evidences import EVIDENCES
from ocsf_mappers.sources.aws_guardduty.phrases import (
    action,
    ebs_scan,
    file_name,
    hashes,
    malware_scan,
    moment,
    resource,
    sequence,
    service,
)
from ocsf_mappers.sources.aws_guardduty.resources import RESOURCES

SEVERITY = {9: "Critical", 7: "High", 4: "Medium", 1: "Low"}
"""Floors of GuardDuty's bands: Low 1.0 to 3.9, Medium 4.0 to 6.9, High 7.0 to 8.9, Critical 9.0 to 10.0."""

# The threat purposes that GuardDuty's documentation says are based on ATT&CK's tactics, see
# https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_finding-format.html#guardduty_threat_purposes. The others
# are none: Backdoor, Recon, Stealth, Trojan, UnauthorizedAccess... each go over several tactics or none.
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

# -- MITRE ATT&CK, where an attack sequence names it: "T1562.008 - Impair Defenses: Disable or Modify Cloud Logs" ------
indicators = sequence.sequenceIndicators
named_purpose = col.type.extract("^([A-Za-z]+):")
purpose = named_purpose.replace(PURPOSES).where(named_purpose.is_in(*PURPOSES))
TACTIC: Fields = {"tactic": {"name": element, "uid": element.replace(TACTICS).where(element.is_in(*TACTICS))}}
ATTACKS = [
    indicators.each_of("values[]", where=col.key == "ATTACK_TACTIC").each(TACTIC),
    list_of(purpose).each(TACTIC),
    indicators.each_of("values[]", where=col.key == "ATTACK_TECHNIQUE").each({
        "technique.uid":      element.extract(r"^(T\d{4})"),
        "technique.name":     coalesce(
            element.extract(r"^T[\d.]+ - ([^:]+)"), element.where(~element.matches(r"^T\d{4}"))
        ),
        "sub_technique.uid":  element.extract(r"^(T\d{4}\.\d{3})"),
        "sub_technique.name": element.extract(r"^T\d{4}\.\d{3} - [^:]+: (.+)$"),
    }),
]  # fmt: skip

RELATED = [
    sequence.signals.each({
        "uid":             first(col.uid, col.name, default="unknown"),
        "type":            col.type,
        "title":           col.name,
        "desc":            col.description,
        "count":           col.count,
        "severity_id":     col.severity.band(SEVERITY, otherwise="Informational"),
        "created_time":    moment(col.createdAt),
        "modified_time":   moment(col.updatedAt),
        "first_seen_time": moment(col.firstSeenAt),
        "last_seen_time":  moment(col.lastSeenAt),
    }),
    list_of(col.associatedAttackSequenceArn, ebs_scan.json("triggerFindingId")).each({"uid": element}),
]  # fmt: skip

MALWARE = [
    ebs_scan.every("scanDetections.threatDetectedByName.threatNames[]").each({
        "name":               first(col.name, default="unknown"),
        "classification_ids": [0],
        "num_infected":       col.itemCount,
        "severity_id":        col.severity.replace(LOW="Low", MEDIUM="Medium", HIGH="High", CRITICAL="Critical"),
        "files":              col.filePaths.each({
            "path":    col.filePath,
            "name":    coalesce(col.fileName, file_name(col.filePath)),
            "type_id": "Unknown",
            "hashes":  hashes(col.hash),
        }),
    }),
    malware_scan.every("threats[]").each({
        "name":               first(col.name, default="unknown"),
        "provider":           col.source,
        "classification_ids": [0],
        "num_infected":       col.count,
    }),
]  # fmt: skip

# only what it means is kept: the text itself stays in `data` or `unmapped`
blocked = coalesce(*(at.json("blocked").extract("(?s)^(.+)$") for at in (
    action.networkConnectionAction, action.portProbeAction, action.dnsRequestAction,
)))  # fmt: skip

# the address that Security Hub gives; other partitions have consoles of their own
hex_id = col.id.matches("^[0-9a-f]{32}$") & col.region.matches("^[a-z0-9-]+$") & (col.partition == "aws")
CONSOLE = "https://{}.console.aws.amazon.com/guardduty/home?region={}#/findings?macros=current&fId={}"

# -- the affected host: in every version of OCSF the place of its addresses -------------------------------------------
instance = resource.instanceDetails
instance_id = instance.json("instanceId")
address, host, interface = (
    instance.json("networkInterfaces", "0", name)
    for name in ("privateIpAddress", "privateDnsName", "networkInterfaceId")
)
DEVICE: Fields = {
    "instance_uid":  instance_id,
    "ip":            address,
    "hostname":      host,
    "interface_uid": interface,
    "subnet_uid":    instance.json("networkInterfaces", "0", "subnetId"),
    "vpc_uid":       instance.json("networkInterfaces", "0", "vpcId"),
    "type_id":       when(coalesce(instance_id, address, host, interface).is_not_null()).then("Virtual"),
    "network_interfaces": [
        instance.every("networkInterfaces[]").each({
            "ip": col.publicIp, "hostname": col.publicDnsName, "type_id": "Unknown",
        }),
        instance.every("networkInterfaces[].ipv6Addresses[]").each({"ip": element, "type_id": "Unknown"}),
        instance.every("networkInterfaces[].privateIpAddresses[]").each({
            "ip": col.privateIpAddress, "hostname": col.privateDnsName, "type_id": "Unknown",
        }),
    ],
}  # fmt: skip

MALWARE_SCAN: Fields = {
    "name":         when(ebs_scan.is_not_null() | malware_scan.is_not_null()).then("GuardDuty Malware Protection"),
    "uid":          coalesce(ebs_scan.json("scanId"), malware_scan.json("scanId")),
    "type_id":      coalesce(ebs_scan.json("scanType"), malware_scan.json("scanType")).replace(ON_DEMAND="Manual"),
    "start_time":   moment(ebs_scan.json("scanStartedAt")),
    "end_time":     moment(ebs_scan.json("scanCompletedAt")),
    "num_files":    ebs_scan.json("scanDetections", "scannedItemCount", "files"),
    "num_volumes":  ebs_scan.json("scanDetections", "scannedItemCount", "volumes"),
    "num_infected": ebs_scan.json("scanDetections", "threatsDetectedItemCount", "files"),
    "unique_malware_count": coalesce(
        ebs_scan.json("scanDetections", "threatDetectedByName", "uniqueThreatNameCount"),
        malware_scan.json("uniqueThreatCount"),
    ),
}  # fmt: skip

FINDING: Fields = {
    # classification
    "activity_id": when(col.createdAt == col.updatedAt).then("Create").otherwise("Update"),
    # the number itself is in `unmapped`: OCSF has no place for 5.5
    "severity_id": col.severity.band(SEVERITY, otherwise="Informational"),
    # archived by a suppression rule or by hand, which the finding does not tell apart
    "status_id":   coalesce(
        service.archived.replace({"true": "Suppressed", "True": "Suppressed", "false": "New", "False": "New"}), "New"
    ),
    "is_alert":    when(service.archived.is_in("true", "True")).then("false").otherwise("true"),
    "confidence_score": sql("regexp_replace({0}, '[.]0+$', '')", reads=[col.confidence]),
    "count":       service.count,
    "message":     col.title,
    # occurrence
    "time": coalesce(col.updatedAt.iso8601(), col.createdAt.iso8601(), service.eventLastSeen.iso8601()),
    # one telling of a finding, and the finding that all its tellings share
    "metadata.uid":             sql("{0} || '/' || {1}", reads=[col.id, col.updatedAt], carries=False),
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
    "finding_info.desc":            col.description.as_written(),
    "finding_info.types":           [col.type],
    "finding_info.created_time":    col.createdAt.iso8601(),
    "finding_info.modified_time":   col.updatedAt.iso8601(),
    "finding_info.first_seen_time": service.eventFirstSeen.iso8601(),
    "finding_info.last_seen_time":  service.eventLastSeen.iso8601(),
    "finding_info.src_url":          text(CONSOLE, col.region, col.region, col.id).where(hex_id),
    "finding_info.analytic.uid":     col.type,
    "finding_info.analytic.name":    coalesce(col.customDetectionRuleName, col.type),
    "finding_info.analytic.type_id": when(col.customDetectionRuleName.is_not_null()).then("Rule")
                                     .when(col.type.contains("AnomalousBehavior")).then("Learning (ML/DL)")
                                     .otherwise("Unknown"),
    "finding_info.attacks":          ATTACKS,
    "finding_info.related_events":   RELATED,
    # whether security groups and network ACLs let the connection through
    "action_id":      blocked.replace({"true": "Denied", "True": "Denied", "false": "Allowed", "False": "Allowed"}),
    "disposition_id": blocked.replace({"true": "Blocked", "True": "Blocked", "false": "Allowed", "False": "Allowed"}),
    "device":            DEVICE,
    "malware":           MALWARE,
    "malware_scan_info": MALWARE_SCAN,
    "resources":         RESOURCES,
    "evidences":         EVIDENCES,
}  # fmt: skip
