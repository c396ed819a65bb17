"""Amazon GuardDuty findings -> OCSF Detection Finding [2004].

Format: https://docs.aws.amazon.com/guardduty/latest/APIReference/API_Finding.html
Severity: https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings-severity.html
Record: one finding as it is at `updatedAt`. GuardDuty sends a finding again, with the same `id` and a higher `count`,
each time the activity goes on: every update is an event, and the view `guardduty_latest` shows the last one of each.
Files of the S3 export hold one finding a line; EventBridge passes a finding on as `detail`; GetFindings, the AWS CLI
and boto3 give `{"Findings": [...]}` with every member's name beginning with a capital.
Quirks: the member that describes a resource or an action is there or not, whatever `resourceType` and `actionType` say;
times inside details are Unix seconds with decimals in the export and ISO 8601 elsewhere; `asn`, `archived` and
`severity` come as text or not; what is unknown is "", null, `{}` or left out.
What is made of details: their known members become attributes, and the whole detail stays beside them as JSON text in
`data`. Resource types are spelled as Security Hub does (ASFF); those that ASFF lacks are spelled alike.
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
from ocsf_mappers.sources.aws_guardduty.finding import FINDING

RECORD = pa.struct([
    *text_struct(
        "schemaVersion accountId region partition id arn type severity confidence createdAt updatedAt title description"
        " associatedAttackSequenceArn customDetectionRuleName"
    ),
    pa.field("resource", pa.struct([
        *text_struct("resourceType"),
        *json_struct(
            "accessKeyDetails s3BucketDetails instanceDetails eksClusterDetails ecsClusterDetails containerDetails"
            " lambdaDetails rdsDbInstanceDetails rdsLimitlessDbDetails rdsDbUserDetails ebsSnapshotDetails"
            " ec2ImageDetails recoveryPointDetails bedrockGuardrailDetails modelDetails"
        ),
        pa.field("kubernetesDetails", json_struct("kubernetesUserDetails kubernetesWorkloadDetails")),
        pa.field("ebsVolumeDetails", json_struct("scannedVolumeDetails skippedVolumeDetails")),
    ])),
    pa.field("service", pa.struct([
        *text_struct(
            "serviceName detectorId featureName archived count eventFirstSeen eventLastSeen resourceRole userFeedback"
        ),
        pa.field("action", pa.struct([
            *text_struct("actionType"),
            *json_struct(
                "awsApiCallAction dnsRequestAction networkConnectionAction portProbeAction kubernetesApiCallAction"
                " kubernetesPermissionCheckedDetails kubernetesRoleBindingDetails kubernetesRoleDetails"
                " rdsLoginAttemptAction"
            ),
        ])),
        pa.field("evidence", json_struct("threatIntelligenceDetails")),
        *json_struct("additionalInfo runtimeDetails ebsVolumeScanDetails malwareScanDetails"),
        pa.field("detection", pa.struct([
            *json_struct("anomaly"),
            pa.field("sequence", pa.struct([
                *text_struct("uid description"),
                *json_struct("actors resources endpoints signals sequenceIndicators additionalSequenceTypes"),
            ])),
        ])),
    ])),
])  # fmt: skip

NO_YEAR = r'("\d{0,3}[^\d]|\d{0,3}[^\d"\s])'
"""Security Hub's findings have a SchemaVersion as well, such as 2018-10-08."""

MAPPER = Mapper(
    name="aws_guardduty",
    product=Product("GuardDuty"),
    readers=[
        JsonRecords(lists=("Findings", "findings"), pascal_case="SchemaVersion", pascal_value=NO_YEAR),
    ],
    record=RECORD,
    blank=("",),
    table="guardduty_findings",
    duplicate_key=("metadata.uid", "cloud.account.uid"),
    known_values={"schemaVersion": ["2.0"]},
    observables={"resources.uid": "Resource UID"},
    drop={"service.serviceName": "it is always guardduty, as metadata.product.name says"},
    events=[
        # of processes in containers and on Linux, OCSF knows more under profiles of their own
        EventMap(
            "detection_finding",
            profiles=("cloud", "container", "linux/linux_users", "security_control", "host"),
            fields=FINDING,
        ),
    ],
)  # fmt: skip

OF_GUARDDUTY = r"arn:[a-z-]+:guardduty:[a-z0-9-]+:\d+:detector/[^\"/]+/finding/"

# docs.aws.amazon.com/guardduty/latest/ug/guardduty_exportfindings.html
SOURCE = Source(
    MAPPER,
    delivery=Delivery(("AWSLogs/{account}/GuardDuty/{region}/{year}/{month}/{day}",), late_hours=7),
    marks=Marks(
        members=(Having(like={"arn": OF_GUARDDUTY}), Having(like={"Arn": OF_GUARDDUTY})),
        detail_types=("GuardDuty Finding",),
        service="aws.guardduty",
    ),
    switches=(Switches("guardduty.amazonaws.com", off=("DeleteDetector", "DeletePublishingDestination", "StopMonitoringMembers"), on=("CreateDetector", "CreatePublishingDestination", "StartMonitoringMembers"), changed=("UpdateDetector", "UpdatePublishingDestination", "UpdateMemberDetectors", "DisassociateMembers", "DeleteMembers")),),
)
