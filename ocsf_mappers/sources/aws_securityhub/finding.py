"""The finding itself, and what differs by class."""

from ocsf_mappers import Column, Expr, Fields, arn_account, coalesce, col, first, obj, object_key, outer, sql, when
from ocsf_mappers.sources.aws_securityhub.evidences import EVIDENCES

SEVERITY = {90: "Critical", 70: "High", 40: "Medium", 1: "Low"}
"""Floors of `Severity.Normalized`: docs.aws.amazon.com/securityhub/latest/userguide/asff-required-attributes.html."""

LABELS = {word.upper(): word for word in ("Informational", "Low", "Medium", "High", "Critical")}

product, checked, severity = col.ProductFields, col.Compliance, col.Severity
provided = col.FindingProviderFields.Severity
workflow, advice = col.Workflow.Status, col.Remediation.Recommendation
outer_advice = outer.Remediation.Recommendation
SERVICE = r"^arn:[^:]*:securityhub:[^:]*:[^:]*:product/aws/([^/]+)$"
service = col.ProductArn.extract(SERVICE)

is_vulnerability = col.Vulnerabilities.json("0", "Id").is_not_null()
is_check = service.is_in("securityhub", "config") | checked.Status.is_not_null()

LABELS_OF = """to_json(list_transform(map_entries(from_json({0}, '"MAP(VARCHAR, VARCHAR)"')),
    lambda tag: tag.key || '=' || coalesce(tag.value, '')))"""
"""Tags as `key=value`."""


def owner(resource: Expr) -> Expr:
    """The account that a resource is in, by its id."""
    return coalesce(arn_account(resource), resource.extract(r"^AWS::::Account:(\d{12})$"))


def rated(severity: Column) -> Expr:
    """A severity by its label, or by its number; Product has the scale of each product."""
    return coalesce(severity.Label.replace(LABELS), severity.Normalized.band(SEVERITY, otherwise="Informational"))


RESOURCE: Fields = {
    "type":              col.Type,
    "uid":               first(col.Id, default="unknown"),
    "cloud_partition":   col.Partition,
    "region":            col.Region,
    "labels":            sql(LABELS_OF, reads=[col.Tags], carries=False).each_of(),
    "owner.account.uid": owner(col.Id),
    "data":              col.Details,
    "role_id":           col.ResourceRole.replace(Actor="Actor", Target="Target"),
}  # fmt: skip

COMMON: Fields = {
    # classification
    "activity_id": (
        when(col.RecordState == "ARCHIVED").then("Close")
        .when(col.CreatedAt == col.UpdatedAt).then("Create")
        .otherwise("Update")
    ),
    "severity_id": coalesce(rated(severity), "Unknown"),
    # as the product rates it, where a customer changed that
    "vendor_attributes.severity_id": rated(provided),
    # somebody was notified: the text itself stays in `unmapped`
    "status_id":   when(workflow == "NOTIFIED").then("In Progress").otherwise(
        workflow.replace(NEW="New", SUPPRESSED="Suppressed", RESOLVED="Resolved")
    ),
    "confidence_score": col.Confidence,
    # the note is a comment; Security Lake has it as the message
    "comment":     col.Note.Text,
    "message":     col.Note.Text,
    # occurrence
    "time": coalesce(col.UpdatedAt.iso8601(), col.LastObservedAt.iso8601(), col.CreatedAt.iso8601()),
    "metadata.uid":            sql("{0} || '/' || {1}", reads=[col.Id, col.UpdatedAt], carries=False),
    "metadata.log_version":    col.SchemaVersion,
    "metadata.processed_time": col.ProcessedAt.iso8601(),
    "metadata.product.uid":    col.ProductArn,
    "metadata.product.name":   coalesce(
        col.ProductName, product.json("aws/securityhub/ProductName"), col.ProductArn.extract("/([^/]+)$")
    ),
    "metadata.product.vendor_name": coalesce(
        col.CompanyName, product.json("aws/securityhub/CompanyName"),
        col.ProductArn.extract(":product/([^/]+)/").replace(aws="AWS"), "AWS",
    ),
    "metadata.product.feature.uid":  col.GeneratorId,
    "metadata.product.feature.name": product.json("aws/guardduty/service/featureName"),
    # context
    "cloud.provider":    "AWS",
    "cloud.region":      coalesce(col.Region, col.ProductArn.extract("^arn:[^:]*:[^:]*:([^:]+):"), object_key.region),
    "cloud.account.uid": coalesce(col.AwsAccountId, object_key.account),
    "cloud.account.name": col.AwsAccountName,
    # the finding
    "finding_info.uid":             first(col.Id, default="unknown"),
    "finding_info.title":           coalesce(col.Title, col.GeneratorId, "Unknown"),
    "finding_info.desc":            col.Description,
    "finding_info.types":           col.Types.each_of(),
    "finding_info.src_url":         col.SourceUrl,
    "finding_info.created_time":    col.CreatedAt.iso8601(),
    "finding_info.modified_time":   col.UpdatedAt.iso8601(),
    "finding_info.first_seen_time": col.FirstObservedAt.iso8601(),
    "finding_info.last_seen_time":  col.LastObservedAt.iso8601(),
    "finding_info.related_events":  col.RelatedFindings.each({
        "uid":         first(col.Id, default="unknown"),
        "product_uid": col.ProductArn,
    }),
}  # fmt: skip

# OCSF wants a description wherever there is a remediation
REMEDIATION: Fields = {
    "desc":       coalesce(advice.Text, advice.Url),
    "references": [advice.Url],
}

main = col.Resources
ONE_RESOURCE: Fields = {
    # Vulnerability and Compliance Findings have one resource in 1.1.0; later versions have them all beside it
    "resource": obj({
        "type":            main.json("0", "Type"),
        "uid":             main.json("0", "Id"),
        "cloud_partition": main.json("0", "Partition"),
        "region":          main.json("0", "Region"),
        "criticality":     col.Criticality,
        "data":            main.json("0", "Details"),
        "owner.account.uid": owner(main.json("0", "Id")),
    }, needs="uid"),
    "resources": main.each(RESOURCE),
}  # fmt: skip

reasons = checked.StatusReasons
COMPLIANCE: Fields = COMMON | ONE_RESOURCE | {
    "compliance.control":      coalesce(
        checked.SecurityControlId, product.json("ControlId"), product.json("RuleId"),
    ),
    # a list is never empty: 1.1.0 wants one
    "compliance.standards":    coalesce(
        checked.AssociatedStandards.each_of("StandardsId"),
        [coalesce(product.json("StandardsArn"), product.json("StandardsGuideArn"), col.GeneratorId, "Unknown")],
    ),
    "compliance.requirements": checked.RelatedRequirements.each_of(),
    "compliance.status_id":    checked.Status.replace(PASSED="Pass", WARNING="Warning", FAILED="Fail"),
    "compliance.status_code":  sql(
        "nullif(array_to_string(json_extract_string({0}, '$[*].ReasonCode'), ','), '')", reads=[reasons], carries=False
    ),
    "compliance.status_detail": sql(
        "nullif(array_to_string(json_extract_string({0}, '$[*].Description'), ','), '')", reads=[reasons], carries=False
    ),
    "remediation": REMEDIATION,
}  # fmt: skip

CVSS = {
    "base_score":    col.BaseScore,
    "vector_string": col.BaseVector,
    "version":       first(col.Version, default="unknown"),
    "vendor_name":   col.Source,
}  # fmt: skip
"""A score; OCSF wants the number."""

# Inspector's code findings are known by a weakness; OCSF wants one of CVE and CWE
cwe = coalesce(col.Id, "").starts_with("CWE-")
VULNERABILITIES = col.Vulnerabilities.each({
    "cwe.uid": col.Id.where(cwe),
    # the format requires an id
    "cve.uid": when(col.Id.is_null()).then("unknown").when(~cwe).then(col.Id),
    "cve.epss.score":    col.EpssScore.where(~cwe),
    "cve.created_time":  col.Vendor.VendorCreatedAt.iso8601().where(~cwe),
    "cve.modified_time": col.Vendor.VendorUpdatedAt.iso8601().where(~cwe),
    "cve.cvss": col.Cvss.where(~cwe).each({path: value.where(col.BaseScore.is_not_null()) for path, value in CVSS.items()}),
    "severity":     col.Vendor.VendorSeverity,
    "vendor_name":  col.Vendor.Name,
    "references":   col.ReferenceUrls.each_of(),
    "related_vulnerabilities": col.RelatedVulnerabilities.each_of(),
    # a fix for some of the packages is a fix; which ones stays in `unmapped`
    "is_fix_available":     when(col.FixAvailable == "PARTIAL").then("true").otherwise(
        col.FixAvailable.replace(YES="true", NO="false")
    ),
    "fix_coverage_id":      col.FixAvailable.replace(YES="Complete", PARTIAL="Partial", NO="None"),
    "is_exploit_available": col.ExploitAvailable.replace(YES="true", NO="false"),
    "exploit_last_seen_time": col.LastKnownExploitAt.iso8601(),
    "affected_packages": col.VulnerablePackages.each({
        "name":             first(col.Name, default="unknown"),
        "version":          first(col.Version, default="unknown"),
        "release":          col.Release,
        "epoch":            col.Epoch,
        "architecture":     col.Architecture,
        "package_manager":  col.PackageManager,
        "path":             col.FilePath,
        "fixed_in_version": col.FixedInVersion,
        "remediation.desc": col.Remediation,
    }),
    "affected_code": col.CodeVulnerabilities.each({
        "file": {
            "path":    col.FilePath.FilePath,
            "name":    first(col.FilePath.FileName, col.FilePath.FilePath, default="unknown"),
            "type_id": "Regular File",
        },
        "start_line": col.FilePath.StartLine,
        "end_line":   col.FilePath.EndLine,
    }),
    "remediation": {"desc": coalesce(outer_advice.Text, outer_advice.Url), "references": [outer_advice.Url]},
})  # fmt: skip

VULNERABILITY: Fields = COMMON | ONE_RESOURCE | {
    "vulnerabilities": VULNERABILITIES,
}  # fmt: skip

DETECTION: Fields = COMMON | {
    "resources": main.each(RESOURCE),
    "remediation": REMEDIATION,
    "evidences": EVIDENCES,
}  # fmt: skip
