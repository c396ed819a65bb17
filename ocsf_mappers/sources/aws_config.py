"""AWS Config -> OCSF Entity Management [3004] for configuration items, Compliance Finding [2003] for rules.

Format: https://docs.aws.amazon.com/config/latest/APIReference/API_ConfigurationItem.html
Record: a configuration item, a resource as it was from `configurationItemCaptureTime` on; or the change of a rule's
verdict on a resource. History and snapshot files hold `{"configurationItems": [...]}`; notifications (SNS, EventBridge,
a rule's function) hold one in `configurationItem`, one that is too large for SNS a summary of it.
Quirks: an account is `accountId` or `awsAccountId`, an ARN `arn` or `ARN`; times are ISO 8601 or Unix seconds with
decimals; a configuration is an object, or JSON as text; keys have months and days without leading zeros. A snapshot
repeats the items of the history. Messages about Config's own work hold no records and are dropped.
"""

import pyarrow as pa

from ocsf_mappers import (
    Delivery,
    Envelope,
    EventMap,
    Expr,
    Fields,
    Having,
    JsonRecords,
    Latest,
    Mapper,
    Marks,
    Product,
    Source,
    Switches,
    coalesce,
    col,
    first,
    json_struct,
    object_key,
    sql,
    text_struct,
    when,
)


def moment(at: Expr) -> Expr:
    """A time as files write it or as the API does."""
    return coalesce(at.iso8601(), at.epoch_seconds(fraction=True))


account_id = coalesce(col.awsAccountId, col.accountId)
arn, state = col.arn, coalesce(col.configurationStateId, col.configurationItemState)
changed, new, old = col.configurationItemStatus, col.newEvaluationResult, col.oldEvaluationResult
REGION_NAME = r"[a-z]{2,}(?:-[a-z]+)+-\d+"
zone = coalesce(col.availabilityZone, col.availibilityZone)

COMMON: Fields = {
    "cloud.provider": "AWS",
    "cloud.region":   coalesce(
        col.awsRegion, arn.extract(f"^arn:[^:]*:[^:]*:({REGION_NAME})"), zone.extract(f"^({REGION_NAME})[a-z]"),
        object_key.region,
    ),
    # documentation has other texts in its place
    "cloud.account.uid": coalesce(account_id.where(account_id.matches(r"^\d{12}$")), object_key.account),
}  # fmt: skip

# docs.aws.amazon.com/config/latest/developerguide/config-item-table.html: what the item was written for
ITEM: Fields = COMMON | {
    "activity_id": when(changed == "ResourceDeletedNotRecorded").then("Delete").otherwise(
        changed.replace(ResourceDiscovered="Create", OK="Update", ResourceDeleted="Delete")
    ),
    "severity_id": "Informational",
    "status_id":   "Success",
    "time": moment(col.configurationItemCaptureTime),
    "metadata.uid": sql(
        # a summary is no copy of its item, which another object has
        "{0} || '/' || {1} || coalesce('/' || {2}, '') || CASE WHEN {3} IS NULL THEN '' ELSE '/summary' END",
        reads=[coalesce(arn, col.resourceId), col.configurationItemCaptureTime, state, col.changeType],
        carries=False,
    ),
    "metadata.log_version": coalesce(col.version, col.configurationItemVersion),
    "metadata.product.feature.name": "Configuration Items",
    # of a resource that lies in no zone, a text says so
    "cloud.zone":     zone.where(zone.matches(f"^{REGION_NAME}[a-z]")),
    "entity.uid":     first(arn, col.resourceId, default="unknown"),
    "entity.name":    col.resourceName,
    "entity.type":    col.resourceType,
    "entity.version": state,
    "entity.data":    sql(
        "CASE json_type({0}) WHEN 'VARCHAR' THEN json_extract_string({0}, '$') ELSE {0}::VARCHAR END",
        reads=[col.configuration],
    ),
}  # fmt: skip

COMPLIANCE: Fields = COMMON | {
    # without a new verdict, the rule or the resource is gone
    "activity_id": when(new.complianceType.is_null()).then("Close").when(old.complianceType.is_null()).then("Create")
                   .otherwise("Update"),
    # Config rates nothing: what fails a rule is Medium here
    "severity_id": when(new.complianceType == "NON_COMPLIANT").then("Medium").otherwise("Informational"),
    "time": coalesce(moment(new.resultRecordedTime), moment(col.notificationCreationTime)),
    "message": new.annotation,
    "metadata.uid": sql(
        "{0} || ':' || {1} || ':' || {2} || '/' || {3}",
        reads=[
            coalesce(col.configRuleARN, col.configRuleName), col.resourceType, col.resourceId,
            coalesce(new.resultRecordedTime, col.notificationCreationTime),
        ],
        carries=False,
    ),
    "metadata.log_version": col.recordVersion,
    "metadata.product.feature.name": "Config Rules",
    "finding_info.uid": sql(
        "{0} || ':' || {1} || ':' || {2}",
        reads=[coalesce(col.configRuleARN, col.configRuleName), col.resourceType, col.resourceId],
        carries=False,
    ),
    "finding_info.title":         col.configRuleName,
    "finding_info.modified_time": moment(new.resultRecordedTime),
    "compliance.control":         col.configRuleName,
    # OCSF 1.1.0 wants one
    "compliance.standards":       ["AWS Config rules"],
    "compliance.status_id":       new.complianceType.replace(COMPLIANT="Pass", NON_COMPLIANT="Fail"),
    "compliance.status_detail":   new.annotation,
    # 1.1.0 has the one, later versions have both
    "resource.uid":  col.resourceId,
    "resource.type": col.resourceType,
    "resources":     [sql(
        "to_json({{'uid': {0}, 'type': {1}}})", reads=[col.resourceId, col.resourceType], carries=False
    ).where(col.resourceId.is_not_null()).each({"uid": col.uid, "type": col.type})],
}  # fmt: skip

RESULT = pa.struct([
    *text_struct("complianceType resultRecordedTime configRuleInvokedTime annotation resultToken"),
    *json_struct("evaluationResultIdentifier"),
])  # fmt: skip
RECORD = pa.struct([
    *text_struct(
        "version configurationItemVersion accountId awsAccountId configurationItemCaptureTime configurationItemStatus"
        " configurationStateId configurationItemState configurationItemMD5Hash arn resourceType resourceId"
        " resourceName awsRegion availabilityZone availibilityZone resourceCreationTime recordingFrequency"
        " configurationItemDeliveryTime changeType messageType recordVersion notificationCreationTime configRuleName configRuleARN"
    ),
    *json_struct("configuration supplementaryConfiguration relationships relatedEvents tags"),
    pa.field("newEvaluationResult", RESULT),
    pa.field("oldEvaluationResult", RESULT),
])  # fmt: skip

OWN_WORK = "a message about Config's own work holds no record"
MESSAGES = (
    "ScheduledNotification ConfigRulesEvaluationStarted ConfigurationSnapshotDeliveryStarted"
    " ConfigurationSnapshotDeliveryCompleted ConfigurationSnapshotDeliveryFailed ConfigurationHistoryDeliveryCompleted"
    " ConfigurationHistoryDeliveryFailed"
).split()

MAPPER = Mapper(
    name="aws_config",
    product=Product("Config"),
    readers=[
        JsonRecords(
            lists=("configurationItems", "baseConfigurationItems"),
            envelopes=(
                Envelope("invokingEvent", "invokingEvent"),
                Envelope("configurationItem", "configurationItem"),
                Envelope("configurationItem", "configurationItem", listed=True),
                Envelope("configurationItemSummary", "configurationItemSummary"),
            ),
            renamed={"ARN": "arn", "configurationStateID": "configurationStateId"},
            drops={"messageType": dict.fromkeys(MESSAGES, OWN_WORK)},
        ),
    ],
    record=RECORD,
    sorted_by=("entity.uid",),
    # an id that is no ARN may be of several types, accounts and Regions
    latest=Latest(
        "aws_config_latest",
        key=("cloud.account.uid", "cloud.region", "entity.type", "entity.uid", "finding_info.uid"),
        newest=("time",),
    ),
    # a snapshot repeats items of the history
    duplicate_key=("metadata.uid", "cloud.account.uid"),
    known_values={
        "newEvaluationResult.complianceType": ["COMPLIANT", "NON_COMPLIANT", "NOT_APPLICABLE", "INSUFFICIENT_DATA"],
    },
    observables={"entity.uid": "Resource UID", "resource.uid": "Resource UID", "resources.uid": "Resource UID"},
    events=[
        EventMap(
            "compliance_finding",
            where=(col.messageType == "ComplianceChangeNotification") | new.complianceType.is_not_null(),
            fields=COMPLIANCE,
        ),
        EventMap("entity_management", fields=ITEM),
    ],
)  # fmt: skip

# docs.aws.amazon.com/config/latest/developerguide/view-manage-resource-config-snapshots.html: history every six hours
SOURCE = Source(
    MAPPER,
    delivery=Delivery(
        ("AWSLogs/{account}/Config/{region}/{year}/{month_unpadded}/{day_unpadded}",),
        record_bytes=600,
        late_hours=7,
    ),
    marks=Marks(
        members=(
            Having(all_of=("configurationItemCaptureTime", "resourceType")),
            Having(all_of=("messageType", "newEvaluationResult")),
            Having(all_of=("messageType", "configurationItem")),
            Having(all_of=("messageType", "configurationItemSummary")),
            Having(all_of=("invokingEvent", "configRuleName")),
            Having(all_of=("messageType", "recordVersion")),
        ),
        detail_types=("Config Configuration Item Change", "Config Rules Compliance Change"),
        service="aws.config",
    ),
    switches=(Switches("config.amazonaws.com", off=("StopConfigurationRecorder", "DeleteConfigurationRecorder", "DeleteDeliveryChannel"), on=("StartConfigurationRecorder",), changed=("PutConfigurationRecorder", "PutDeliveryChannel")),),
)
