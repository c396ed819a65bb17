"""AWS Security Hub findings, OCSF already -> Vulnerability [2002], Compliance [2003] and Detection Finding [2004].

Format: https://docs.aws.amazon.com/securityhub/latest/userguide/exposure-findings-sample.html
Record: one finding as it is at `finding_info.modified_time`, sent again at each change. EventBridge passes findings on
in `detail.findings` (`Findings Imported V2`); GetFindingsV2 gives `{"Findings": [...]}`.
Quirks: written for OCSF 1.4 to 1.8 with AWS's own extension, so some of it is in no version here; times with nine digits;
`data` of a resource is an object; a Data Security Finding [2006] (Macie) is a class that 1.1.0 does not have.
What the wanted version knows stays where it is; all else is in `unmapped`.
"""

import pyarrow as pa

from ocsf_mappers import (
    Column,
    Delivery,
    EventMap,
    Expr,
    Fields,
    Having,
    JsonRecords,
    Mapper,
    Marks,
    Obj,
    Product,
    Source,
    Switches,
    coalesce,
    col,
    element,
    first,
    json_struct,
    obj,
    object_key,
    text,
    text_struct,
    when,
)


def moment(at: Column, name: str) -> Expr:
    """A time, of which OCSF has two spellings."""
    return coalesce(at[f"{name}_dt"].iso8601(), at[name].epoch_millis())


def caption(number: Expr, label: Expr, captions: str) -> Expr:
    """What an id means: by its number, which counts from 0 in `captions`; of another number by the text beside it."""
    numbers = {str(number): name for number, name in enumerate(captions.split(", "))}
    return coalesce(number.replace(numbers, otherwise=label), label)


SEVERITIES = "Unknown, Informational, Low, Medium, High, Critical, Fatal"
about, compliance, metadata, cloud = col.finding_info, col.compliance, col.metadata, col.cloud

RESOURCE: Fields = {
    "type":              col.type,
    # ASFF's id is the ARN as well, so that findings of both kinds join
    "uid":               first(col.uid_alt, col.uid, col.name, default="unknown"),
    "uid_alt":           col.uid.where(col.uid_alt.is_not_null()),
    "name":              col.name,
    "cloud_partition":   col.cloud_partition,
    "region":            col.region,
    "zone":              col.zone,
    "criticality":       col.criticality,
    "hostname":          col.hostname,
    "ip":                col.ip,
    "labels":            col.tags.each_of(text=text("{}={}", col.name, coalesce(col.value, ""))),
    "owner.account.uid": col.owner.account.uid,
    "data":              col.data,
    "role_id":           caption(col.role_id, col.role, "Unknown, Target, Actor, Affected, Related"),
}  # fmt: skip

COMMON: Fields = {
    # classification
    "activity_id": caption(col.activity_id, col.activity_name, "Unknown, Create, Update, Close"),
    "severity_id": coalesce(caption(col.severity_id, col.severity, SEVERITIES), "Unknown"),
    "status_id":   caption(col.status_id, col.status, "Unknown, New, In Progress, Suppressed, Resolved"),
    "confidence_score": col.confidence_score,
    "comment":     col.comment,
    # as of findings in ASFF
    "message":     coalesce(col.message, col.comment),
    # what the product says, where a customer changed it
    "vendor_attributes.severity_id": caption(
        col.vendor_attributes.severity_id, col.vendor_attributes.severity, SEVERITIES
    ),
    # occurrence
    "time": coalesce(
        col.time_dt.iso8601(), col.time.epoch_millis(), moment(about, "modified_time"), moment(about, "created_time")
    ),
    # the class and the activity as they were given
    "metadata.event_code":     col.type_uid,
    "metadata.uid":            metadata.uid,
    "metadata.log_version":    metadata.version,
    "metadata.processed_time": moment(metadata, "processed_time"),
    "metadata.product.uid":          metadata.product.uid,
    "metadata.product.name":         metadata.product.name,
    "metadata.product.vendor_name":  coalesce(metadata.product.vendor_name, "AWS"),
    "metadata.product.version":      metadata.product.version,
    "metadata.product.feature.uid":  metadata.product.feature.uid,
    "metadata.product.feature.name": metadata.product.feature.name,
    # context
    "cloud.provider":     coalesce(cloud.provider, "AWS"),
    "cloud.region":       coalesce(
        cloud.region, metadata.product.uid.extract("^arn:[^:]*:securityhub:([^:]+):"), object_key.region
    ),
    "cloud.account.uid":  coalesce(cloud.account.uid, object_key.account),
    "cloud.account.name": cloud.account.name,
    "cloud.cloud_partition": cloud.cloud_partition,
    # the finding
    "finding_info.uid":             first(about.uid, default="unknown"),
    "finding_info.title":           coalesce(about.title, "Unknown"),
    "finding_info.desc":            about.desc,
    "finding_info.types":           about.types.each_of(),
    "finding_info.src_url":         about.src_url,
    "finding_info.created_time":    moment(about, "created_time"),
    "finding_info.modified_time":   moment(about, "modified_time"),
    "finding_info.first_seen_time": moment(about, "first_seen_time"),
    "finding_info.last_seen_time":  moment(about, "last_seen_time"),
    "finding_info.analytic": obj({
        "name":    about.analytic.name,
        "uid":     about.analytic.uid,
        "type_id": coalesce(
            caption(
                about.analytic.type_id, about.analytic.type,
                "Unknown, Rule, Behavioral, Statistical, Learning (ML/DL)",
            ), "Unknown",
        ),
    }, needs=("name", "uid")),
    "finding_info.related_events": about.related_events.each({
        "uid":         first(col.uid, default="unknown"),
        "product_uid": coalesce(col.product.uid, col.product_uid),
        "type":        col.type,
        "title":       col.title,
    }),
    "resources": col.resources.each(RESOURCE),
}  # fmt: skip

main = col.resources
REMEDIATION: Fields = {
    # OCSF wants a description wherever there is a remediation
    "desc":       coalesce(col.remediation.desc, col.remediation.references.json("0")),
    "references": col.remediation.references.each_of(),
}
# 1.1.0 has room for one in these classes; later versions have them all beside it
ONE_RESOURCE = obj({
    "type":              main.json("0", "type"),
    "uid":               coalesce(main.json("0", "uid_alt"), main.json("0", "uid")),
    "cloud_partition":   main.json("0", "cloud_partition"),
    "region":            main.json("0", "region"),
    "data":              main.json("0", "data"),
    "owner.account.uid": main.json("0", "owner", "account", "uid"),
}, needs="uid")  # fmt: skip

COMPLIANCE: Fields = COMMON | {
    "resource":    ONE_RESOURCE,
    "remediation": REMEDIATION,
    "compliance": {
        "control":       compliance.control,
        # 1.1.0 wants one
        "standards":     coalesce(compliance.standards.each_of(), ["Unknown"]),
        "requirements":  compliance.requirements.each_of(),
        "status_id":     caption(compliance.status_id, compliance.status, "Unknown, Pass, Warning, Fail"),
        "status_code":   compliance.status_code,
        "status_detail": compliance.status_detail,
    },
}  # fmt: skip

CVSS: Fields = {
    "base_score":    col.base_score,
    "vector_string": col.vector_string,
    "version":       first(col.version, default="unknown"),
    "vendor_name":   col.vendor_name,
    "severity":      col.severity,
}  # fmt: skip

# OCSF wants one of CVE, CWE and, later than 1.1.0, an advisory
no_cve = col.cve.uid.is_null()
WEAKNESSES: Fields = {
    "cve.uid": when(no_cve & col.cwe.uid.is_null()).then(coalesce(col.advisory.uid, "unknown")).otherwise(col.cve.uid),
    "cwe.uid": col.cwe.uid.where(no_cve),
    **{path: value.where(~no_cve) for path, value in {
        "cve.desc":          col.cve.desc,
        "cve.epss.score":    col.cve.epss.score,
        "cve.created_time":  moment(col.cve, "created_time"),
        "cve.modified_time": moment(col.cve, "modified_time"),
        "cve.references":    col.cve.references.each_of(),
        "cve.cvss": col.cve.cvss.each({
            path: value.where(col.base_score.is_not_null()) for path, value in CVSS.items() if isinstance(value, Expr)
        }),
    }.items()},
    "title":        col.title,
    "desc":         col.desc,
    "severity":     col.severity,
    "vendor_name":  col.vendor_name,
    "references":   col.references.each_of(),
    "related_vulnerabilities": col.related_vulnerabilities.each_of(),
    "is_fix_available":     col.is_fix_available,
    "is_exploit_available": col.is_exploit_available,
    "fix_coverage_id":        caption(col.fix_coverage_id, col.fix_coverage, "Unknown, Complete, Partial, None"),
    "exploit_last_seen_time": coalesce(col.exploit_last_seen_time_dt.iso8601(), col.exploit_last_seen_time.epoch_millis()),
    "affected_packages": col.affected_packages.each({
        "name":             first(col.name, default="unknown"),
        "version":          first(col.version, default="unknown"),
        "release":          col.release,
        "epoch":            col.epoch,
        "architecture":     col.architecture,
        "package_manager":  col.package_manager,
        "path":             col.path,
        "fixed_in_version": col.fixed_in_version,
        "remediation.desc": col.remediation.desc,
    }),
    "affected_code": col.affected_code.each({
        "file": {
            "path":    col.file.path,
            "name":    first(col.file.name, col.file.path, default="unknown"),
            "type_id": "Regular File",
        },
        "start_line": col.start_line,
        "end_line":   col.end_line,
    }),
    "remediation": {
        "desc":       coalesce(col.remediation.desc, col.remediation.references.json("0")),
        "references": col.remediation.references.each_of(),
    },
}  # fmt: skip
VULNERABILITY: Fields = COMMON | {
    "resource":        ONE_RESOURCE,
    "vulnerabilities": col.vulnerabilities.each(WEAKNESSES),
}


def place(at: Column) -> Obj:
    """An endpoint that has an address."""
    return obj({
        "ip":       at.ip,
        "port":     at.port,
        "domain":   at.domain,
        "hostname": at.hostname,
        "svc_name": at.svc_name,
        "location.city":    at.location.city,
        "location.country": at.location.country,
        "autonomous_system.number": at.autonomous_system.number,
        "autonomous_system.name":   at.autonomous_system.name,
    }, needs=("ip", "hostname", "svc_name"))  # fmt: skip


DETECTION: Fields = COMMON | {
    "remediation": REMEDIATION,
    # known members become attributes; the whole piece stays in `data`
    "evidences": [
        col.evidences.each({
            "api.operation":    col.api.operation,
            "api.service.name": col.api.service.name.where(col.api.operation.is_not_null()),
            "src_endpoint":     place(col.src_endpoint),
            "dst_endpoint":     place(col.dst_endpoint),
            "query.hostname":   col.query.hostname,
            "connection_info.direction_id": caption(
                col.connection_info.direction_id, col.connection_info.direction, "Unknown, Inbound, Outbound, Lateral"
            ),
            "actor.user": obj({
                "name":           col.actor.user.name,
                "uid":            col.actor.user.uid,
                "uid_alt":        col.actor.user.uid_alt,
                "type":           col.actor.user.type,
                "credential_uid": col.actor.user.credential_uid,
                "account.uid":    col.actor.user.account.uid,
            }, needs=("name", "uid")),
            "actor.process.name": col.actor.process.name.where(col.actor.process.pid.is_not_null()),
            "actor.process.pid":  col.actor.process.pid,
            "data": element,
        }),
        # of a Data Security Finding
        col.databucket.each({"data": element}),
        col.data_security.each({"data": element}),
    ],
}  # fmt: skip

TIMES = "created_time created_time_dt modified_time modified_time_dt first_seen_time first_seen_time_dt last_seen_time"
RECORD = pa.struct([
    *text_struct(
        "activity_id activity_name category_name category_uid class_name class_uid type_name type_uid severity_id"
        " severity status_id status confidence_score message comment time time_dt"
    ),
    pa.field("cloud", pa.struct([
        *text_struct("provider region cloud_partition"),
        pa.field("account", text_struct("uid name type type_id")),
    ])),
    pa.field("metadata", pa.struct([
        *text_struct("uid version processed_time processed_time_dt"),
        *json_struct("profiles extensions"),
        pa.field("product", pa.struct([
            *text_struct("uid name vendor_name version"),
            pa.field("feature", text_struct("uid name")),
        ])),
    ])),
    pa.field("finding_info", pa.struct([
        *text_struct(f"uid title desc src_url {TIMES} last_seen_time_dt"),
        *json_struct("types related_events"),
        pa.field("analytic", text_struct("uid name type type_id category")),
    ])),
    pa.field("vendor_attributes", text_struct("severity severity_id")),
    pa.field("compliance", pa.struct([
        *text_struct("control status_id status status_code status_detail"),
        *json_struct("standards requirements"),
    ])),
    pa.field("remediation", pa.struct([*text_struct("desc"), *json_struct("references")])),
    *json_struct("resources vulnerabilities evidences databucket data_security"),
])  # fmt: skip

SAID = "the type's number, metadata.event_code, says it"
MAPPER = Mapper(
    name="aws_securityhub_ocsf",
    product=Product("Security Hub"),
    readers=[JsonRecords(lists=("Findings", "findings"))],
    record=RECORD,
    table="security_hub",
    drop=dict.fromkeys(("class_uid", "class_name", "category_uid", "category_name", "type_name"), SAID),
    duplicate_key=(
        "finding_info.uid", "finding_info.modified_time_dt", "status_id", "activity_id", "severity_id", "message",
        "compliance.status_id",
    ),
    observables={"resources.uid": "Resource UID", "resource.uid": "Resource UID"},
    events=[
        EventMap(
            "vulnerability_finding",
            where=(col.class_uid == "2002") & col.vulnerabilities.json("0").is_not_null(),
            fields=VULNERABILITY,
        ),
        EventMap("compliance_finding", where=col.class_uid == "2003", fields=COMPLIANCE),
        EventMap("detection_finding", fields=DETECTION),
    ],
)  # fmt: skip

# as findings in ASFF: an EventBridge rule sends them to Firehose, whose prefix is the customer's
SOURCE = Source(
    MAPPER,
    delivery=Delivery(record_bytes=700),
    marks=Marks(
        members=(
            Having(all_of=("class_uid", "finding_info"), like={"metadata": r'(?s)\{.*"arn:[^":]*:[^"]*:productv2/'}),
        ),
        detail_types=("Findings Imported V2",),
    ),
    switches=(Switches("securityhub.amazonaws.com", off=("DisableSecurityHubV2",), on=("EnableSecurityHubV2",)),),
)
