"""AWS Security Hub CSPM findings -> OCSF Vulnerability [2002], Compliance [2003] and Detection Finding [2004].

Format: https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format.html (ASFF, 2018-10-08)
Record: one finding as it is at `UpdatedAt`. A finding is sent again, with the same `Id`, each time its product looks
at it again or somebody suppresses, notes or resolves it: every update is an event, and the view `security_hub_latest`
shows the last one of each. EventBridge passes findings on in `detail.findings`; GetFindings gives `{"Findings": [...]}`.
Quirks: a customer's change (workflow, note, severity) leaves `UpdatedAt` alone, which is the product's; what is unknown
is left out, or `{}`; before 2020 a severity has a number and no label; names in `ProductFields` hold `/` and `:`.
Class: of what a finding holds, not of who sent it: vulnerabilities, else a compliance status, else a detection. For
AWS's own products that is what Security Lake does.
"""

import pyarrow as pa

from ocsf_mappers import (
    Delivery,
    EventMap,
    Having,
    JsonRecords,
    Mapper,
    Marks,
    Product,
    Source,
    Switches,
    json_struct,
    text_struct,
)
from ocsf_mappers.sources.aws_securityhub.finding import (
    COMPLIANCE,
    DETECTION,
    VULNERABILITY,
    is_check,
    is_vulnerability,
)

RECORD = pa.struct([
    *text_struct(
        "SchemaVersion Id ProductArn ProductName CompanyName Region GeneratorId AwsAccountId AwsAccountName CreatedAt"
        " UpdatedAt FirstObservedAt LastObservedAt ProcessedAt Title Description SourceUrl RecordState"
        " VerificationState WorkflowState Confidence Criticality"
    ),
    *json_struct(
        "Types Resources RelatedFindings Vulnerabilities Malware Threats ThreatIntelIndicators NetworkPath Detection"
        " Network Process ProductFields"
    ),
    pa.field("Severity", text_struct("Label Normalized Original Product")),
    pa.field("FindingProviderFields", pa.struct([
        pa.field("Severity", text_struct("Label Normalized Original Product")),
    ])),
    pa.field("Workflow", text_struct("Status")),
    pa.field("Note", text_struct("Text UpdatedBy UpdatedAt")),
    pa.field("Compliance", pa.struct([
        *text_struct("Status SecurityControlId"),
        *json_struct("AssociatedStandards RelatedRequirements StatusReasons SecurityControlParameters"),
    ])),
    pa.field("Remediation", pa.struct([pa.field("Recommendation", text_struct("Text Url"))])),
    pa.field("Action", pa.struct([
        *text_struct("ActionType"),
        *json_struct("AwsApiCallAction DnsRequestAction NetworkConnectionAction PortProbeAction"),
    ])),
])  # fmt: skip

MAPPER = Mapper(
    name="aws_securityhub",
    product=Product("Security Hub"),
    readers=[JsonRecords(lists=("Findings", "findings"))],
    record=RECORD,
    table="security_hub",
    drop={"WorkflowState": "it is retired: Workflow.Status has taken its place"},
    # UpdatedAt is the product's: what the customer changed counts as well
    duplicate_key=(
        "finding_info.uid", "finding_info.modified_time_dt", "status_id", "activity_id", "severity_id", "message",
        "compliance.status_id",
    ),
    known_values={
        "SchemaVersion": ["2018-10-08"],
        "RecordState": ["ACTIVE", "ARCHIVED"],
        "Workflow.Status": ["NEW", "NOTIFIED", "SUPPRESSED", "RESOLVED"],
        "Compliance.Status": ["PASSED", "WARNING", "FAILED", "NOT_AVAILABLE"],
    },
    observables={"resources.uid": "Resource UID", "resource.uid": "Resource UID"},
    events=[
        EventMap("vulnerability_finding", where=is_vulnerability, fields=VULNERABILITY),
        EventMap("compliance_finding", where=is_check, fields=COMPLIANCE),
        EventMap("detection_finding", fields=DETECTION),
    ],
)  # fmt: skip

# Nothing is delivered to S3 by itself: an EventBridge rule sends findings to Firehose, whose prefix is the customer's.
SOURCE = Source(
    MAPPER,
    delivery=Delivery(record_bytes=700),
    marks=Marks(
        members=(Having(all_of=("SchemaVersion", "ProductArn", "Id")),),
        detail_types=("Security Hub Findings - (Imported|Custom Action)",),
        service="aws.securityhub",
    ),
    switches=(Switches("securityhub.amazonaws.com", off=("DisableSecurityHub",), on=("EnableSecurityHub",), changed=("BatchDisableStandards", "UpdateSecurityHubConfiguration")),),
)
