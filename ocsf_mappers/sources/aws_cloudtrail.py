"""AWS CloudTrail -> OCSF API Activity [6003], Account Change [3001], Authentication [3002].

Format: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
Record: one API call, sign-in, service event or Insights event. `eventTime` is ISO 8601, UTC, to the second. Files hold
`{"Records": [...]}`; EventBridge, CloudTrail Lake and LookupEvents pass the same record on in other wrappings. What
`requestParameters` and `responseElements` hold differs by API and by release, so both stay JSON text from reader to lake.
Quirks: `sourceIPAddress` is a service's name when a service calls; `readOnly` and `managementEvent` are booleans or text;
services reuse names such as CreateUser, so the class is chosen by event source and name together. Insights events have
no caller: they are API Activity about the call they watched, made by CloudTrail, in a table of their own.
"""

import pyarrow as pa

from ocsf_mappers import (
    JSON,
    Envelope,
    EventMap,
    Fields,
    JsonRecords,
    Mapper,
    Product,
    coalesce,
    col,
    object_key,
    text_struct,
    when,
)

SIGN_IN_SOURCES = ("signin.amazonaws.com", "sts.amazonaws.com")
SIGN_INS = (
    "AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity CheckMfa ConsoleLogin CredentialChallenge"
    " CredentialVerification ExternalIdPDirectoryLogin UserAuthentication"
).split()

SIGN_IN_OUTCOMES = (
    "ConsoleLogin CheckMfa CredentialChallenge CredentialVerification ExternalIdPDirectoryLogin UserAuthentication"
).split()
ACCOUNT_OUTCOMES = ("PasswordUpdated", "EmailUpdated", "AccountNameUpdated")
CONSOLE_OUTCOMES = ("SwitchRole", "GetSigninToken", "PasswordRecoveryRequested", "PasswordRecoveryCompleted")
"""Events that say under their own name whether they succeeded, as in `"responseElements": {"CheckMfa": "Failure"}`; a
failure need not show as an error. Source:
https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-aws-console-sign-in-events.html and
https://docs.aws.amazon.com/singlesignon/latest/userguide/understanding-sign-in-events.html"""

ACCOUNT_SOURCES = ("iam.amazonaws.com", "signin.amazonaws.com", "account.amazonaws.com")
ACCOUNT_CHANGES = {
    # AWS's published choice of names and activities for Security Lake
    "Create": "CreateUser CreateRole CreateServiceLinkedRole CreateInstanceProfile CreateLoginProfile CreateAccessKey"
    " CreateVirtualMFADevice CreateAccountAlias CreateGroup EnableMFADevice ResyncMFADevice",
    "Password Change": "ChangePassword PasswordUpdated",
    "Delete": "DeleteUser DeleteRole DeleteGroup DeleteInstanceProfile DeleteLoginProfile DeleteAccessKey"
    " DeleteVirtualMFADevice DeletePolicy DeleteUserPolicy DeleteRolePolicy DeleteGroupPolicy"
    " DeleteUserPermissionsBoundary DeleteRolePermissionsBoundary DeleteServiceLinkedRole DeleteAccountAlias"
    " DeleteAccountPasswordPolicy",
    "Attach Policy": "AttachUserPolicy AttachRolePolicy AttachGroupPolicy PutUserPolicy PutRolePolicy PutGroupPolicy"
    " PutUserPermissionsBoundary PutRolePermissionsBoundary AddUserToGroup",
    "Detach Policy": "DetachUserPolicy DetachRolePolicy DetachGroupPolicy RemoveUserFromGroup"
    " RemoveRoleFromInstanceProfile",
    "Other": "UpdateUser UpdateRole UpdateRoleDescription UpdateGroup UpdateLoginProfile UpdateAccessKey"
    " UpdateAssumeRolePolicy UpdateAccountPasswordPolicy UpdateAccountName UpdateAccountEmailAddress"
    " AddRoleToInstanceProfile DeactivateMFADevice RequestSmsMfaRegistration FinalizeSmsMfaRegistration EmailUpdated"
    " AccountNameUpdated TagUser TagRole TagInstanceProfile UntagUser UntagRole UntagInstanceProfile",
}
ACCOUNT_ACTIVITY = {name: activity for activity, names in ACCOUNT_CHANGES.items() for name in names.split()}

VERBS = {
    verb: activity
    for activity, verbs in {
        "Create": "Create Run Generate",
        "Read": "Get List Describe Search Lookup Head BatchGet Query Scan Select",
        "Update": "Update Put Modify Add Remove Start Stop Attach Detach Associate Disassociate Tag Untag Enable Disable"
        " Register Deregister Set Change Reboot Replace Reset Restore Copy Import BatchWrite",
        "Delete": "Delete Terminate",
    }.items()
    for verb in verbs.split()
}

S3_OBJECT_CALLS = (
    "AbortMultipartUpload CompleteMultipartUpload CopyObject CreateMultipartUpload DeleteObject DeleteObjects"
    " DeleteObjectTagging GetObject GetObjectAcl GetObjectAttributes GetObjectTagging GetObjectTorrent HeadObject"
    " ListObjects ListParts PutObject PutObjectAcl PutObjectTagging RestoreObject SelectObjectContent UploadPart"
    " UploadPartCopy"
).split()
"""Data events, told by name in records older than `managementEvent` and `eventCategory`."""

IPV4 = r"^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$"
IPV6 = r"^[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){2,7}(:\d+\.\d+\.\d+\.\d+)?$"

who, session = col.userIdentity, col.userIdentity.sessionContext
source = col.sourceIPAddress
from_ip = source.matches(f"{IPV4}|{IPV6}")
from_service = source.ends_with(".amazonaws.com") | (source == "AWS Internal")
nameless = who.arn.is_null() & who.accountId.is_null() & who.userName.is_null()
account = coalesce(col.recipientAccountId, who.accountId, object_key.account)
insight = col.eventType == "AwsCloudTrailInsight"
network = (col.eventCategory == "NetworkActivity") | (col.eventType == "AwsVpceEvent")
data = (
    (col.eventCategory == "Data")
    | (col.eventCategory.is_null() & col.managementEvent.is_in("false", "False"))
    | (col.eventCategory.is_null() & col.managementEvent.is_null() & (col.eventSource == "s3.amazonaws.com") & col.eventName.is_in(*S3_OBJECT_CALLS))
)  # fmt: skip

request, response = col.requestParameters, col.responseElements
more, details = col.additionalEventData, col.serviceEventDetails

by_sign_in = col.eventSource == "signin.amazonaws.com"
without_error = (col.errorCode.is_null() | (col.errorCode == "")) & (col.errorMessage.is_null() | (col.errorMessage == ""))
by_error = when(without_error).then("Success").otherwise("Failure")

COMMON: Fields = {
    # classification
    "severity_id": "Informational",
    "status_id":   by_error,
    # occurrence
    "time": col.eventTime.iso8601(),
    "metadata.uid":                  col.eventID,
    "metadata.event_code":           col.eventType,
    "metadata.product.version":      col.eventVersion,
    "metadata.product.feature.name": coalesce(col.eventCategory, "Management, Data, and Insights"),
    # context
    "cloud.provider":    "AWS",
    "cloud.region":      col.awsRegion,
    "cloud.account.uid": account,
    # who
    "actor.user.type":           who.type,
    "actor.user.name":           coalesce(who.userName, col.additionalEventData.json("UserName")),
    # OCSF requires a name, an id or an account of every user; a service that calls by itself has none of them
    "actor.user.uid":            coalesce(who.arn, when(nameless).then(coalesce(who.invokedBy, who.principalId, who.type))),
    "actor.user.uid_alt":        coalesce(who.principalId, who.onBehalfOf.userId),
    "actor.user.account.uid":    who.accountId,
    "actor.user.credential_uid": coalesce(who.accessKeyId, who.credentialId),
    "actor.session.created_time": session.attributes.creationDate.iso8601(),
    "actor.session.is_mfa":       session.attributes.mfaAuthenticated,
    "actor.session.issuer":       session.sessionIssuer.arn,
    "actor.invoked_by":           who.invokedBy,
    "actor.idp.name":             coalesce(who.identityProvider, session.webIdFederationData.json("federatedProvider")),
    "actor.idp.uid":              who.onBehalfOf.identityStoreArn,
    # what
    "api.operation":        col.eventName,
    "api.service.name":     col.eventSource,
    "api.version":          col.apiVersion,
    # OCSF requires request.uid wherever there is a request; the event's own id stands in for a missing requestID
    "api.request.uid":      coalesce(col.requestID, when(~col.requestParameters.is_null()).then(col.eventID)),
    "api.request.data":     when(~col.requestID.is_null() | ~col.eventID.is_null()).then(col.requestParameters),
    "api.response.data":    col.responseElements,
    "api.response.error":   col.errorCode,
    "api.response.message": col.errorMessage,
    # from where: through OCSF 1.3 an endpoint needs more than a domain
    "src_endpoint.ip":       when(from_ip).then(source),
    "src_endpoint.domain":   when(~from_ip).then(source),
    "src_endpoint.svc_name": when(~from_ip & from_service).then(source).when(source.is_null()).then(who.invokedBy),
    "src_endpoint.name":     when(~from_ip & ~from_service).then(source).when(source.is_null() & who.invokedBy.is_null()).then("unknown"),
    "src_endpoint.uid":      col.vpcEndpointId,
    "http_request.user_agent": col.userAgent,
}  # fmt: skip

API_ACTIVITY: Fields = COMMON | {
    "status_id":   coalesce(*(when(by_sign_in).then(place.json(name)) for place in (response, more) for name in CONSOLE_OUTCOMES), by_error),
    "activity_id": col.eventName.replace_prefix(VERBS, otherwise=col.eventName),
    "resources": col.resources.each({
        "uid":  coalesce(col.ARN, col.arn, col.ARNPrefix),
        "type": col.type,
        "owner.account.uid": col.accountId,
        "name": when(col.ARN.is_null() & col.arn.is_null() & col.ARNPrefix.is_null()).then(coalesce(col.type, "unknown")),
    }),
}  # fmt: skip

ACCOUNT_CHANGE: Fields = COMMON | {
    "status_id":   coalesce(*(when(by_sign_in).then(place.json(name)) for place in (response, more) for name in ACCOUNT_OUTCOMES), by_error),
    "activity_id": col.eventName.replace({name: activity for name, activity in ACCOUNT_ACTIVITY.items() if activity != "Other"}, otherwise=col.eventName),
    "user.name": coalesce(
        response.json("user", "userName"), response.json("role", "roleName"),
        request.json("userName"), request.json("roleName"),
        when(col.eventName.is_in("ChangePassword", "PasswordUpdated")).then(who.userName),
    ),
    "user.uid":         coalesce(response.json("user", "arn"), response.json("role", "arn")),
    "user.uid_alt":     coalesce(response.json("user", "userId"), response.json("role", "roleId")),
    "user.account.uid": account,
    "policy.uid":       request.json("policyArn"),
    "policy.name":      request.json("policyName"),
}  # fmt: skip

AUTHENTICATION: Fields = COMMON | {
    "activity_id": when(~col.eventName.is_in("CheckMfa", "CredentialChallenge", "CredentialVerification")).then("Logon").otherwise(col.eventName),
    "status_id": coalesce(*(place.json(name) for place in (response, details, more) for name in SIGN_IN_OUTCOMES), by_error),
    "is_mfa":                more.json("MFAUsed").replace(Yes="true", No="false"),
    "user.name":             coalesce(request.json("roleSessionName"), who.userName, more.json("UserName")),
    "user.uid":              coalesce(request.json("roleArn"), who.arn),
    "user.uid_alt":          who.principalId,
    "user.account.uid":      account,
    "session.uid":            response.json("assumedRoleUser", "arn"),
    "session.uid_alt":        response.json("assumedRoleUser", "assumedRoleId"),
    "session.credential_uid": response.json("credentials", "accessKeyId"),
    "session.issuer":         request.json("roleArn"),
    "dst_endpoint.svc_name":  more.json("LoginTo"),
    # OCSF requires the service or an endpoint; only console sign-ins name the latter
    "service.name":           col.eventSource,
}  # fmt: skip

# Success or failure, error and address are those of the watched calls, not of the watching
INSIGHT: Fields = {path: value for path, value in COMMON.items() if path not in ("status_id", "src_endpoint.name")} | {
    "activity_id":      col.insightDetails.eventName.replace_prefix(VERBS, otherwise=col.insightDetails.eventName),
    "metadata.product.feature.name": coalesce(col.eventCategory, "Insight"),
    "api.operation":    col.insightDetails.eventName,
    "api.service.name": col.insightDetails.eventSource,
    "actor.invoked_by": "cloudtrail.amazonaws.com",
    "src_endpoint.svc_name": "cloudtrail.amazonaws.com",
}  # fmt: skip

ISSUER = text_struct("type principalId arn accountId userName")
IDENTITY = pa.struct([
    *text_struct("type userName principalId arn accountId accessKeyId invokedBy identityProvider credentialId"),
    pa.field("onBehalfOf", text_struct("userId identityStoreArn")),
    pa.field("inScopeOf", JSON),
    pa.field("sessionContext", pa.struct([
        pa.field("sessionIssuer", ISSUER),
        pa.field("attributes", text_struct("creationDate mfaAuthenticated")),
        pa.field("webIdFederationData", JSON),
        *text_struct("ec2RoleDelivery sourceIdentity assumedRoot"),
    ])),
])  # fmt: skip
RECORD = pa.struct([
    pa.field("userIdentity", IDENTITY),
    *text_struct(
        "eventVersion eventTime eventSource eventName awsRegion sourceIPAddress userAgent errorCode errorMessage requestID"
        " eventID eventType apiVersion managementEvent readOnly recipientAccountId sharedEventID vpcEndpointId"
        " vpcEndpointAccountId eventCategory sessionCredentialFromConsole"
    ),
    *(pa.field(name, JSON) for name in ("requestParameters", "responseElements", "additionalEventData", "resources")),
    *(pa.field(name, JSON) for name in ("serviceEventDetails", "addendum", "edgeDeviceDetails", "eventContext")),
    pa.field("tlsDetails", text_struct("tlsVersion cipherSuite clientProvidedHostHeader keyExchange")),
    pa.field("insightDetails", pa.struct([
        *text_struct("state eventSource eventName insightType errorCode"), pa.field("insightContext", JSON),
    ])),
])  # fmt: skip

MAPPER = Mapper(
    name="aws_cloudtrail",
    product=Product("CloudTrail"),
    readers=[
        JsonRecords(
            lists=("Records", "Events"),
            envelopes=(Envelope("CloudTrailEvent", "CloudTrailEvent"),),
        ),
    ],
    record=RECORD,
    table=when(insight).then("cloud_trail_insight")
    .when(network).then("cloud_trail_network")
    .when(data & (col.eventSource == "s3.amazonaws.com")).then("s3_data")
    .when(data & (col.eventSource == "lambda.amazonaws.com")).then("lambda_execution")
    .when(data).then("cloud_trail_data")
    .otherwise("cloud_trail_mgmt"),
    set_aside={
        "CloudTrail-Digest": "a digest proves other files and holds no events",
        "CloudTrail-Aggregated": "aggregated events are summaries of events that other files hold",
    },
    duplicate_key=("metadata.uid", "cloud.account.uid"),
    listed={"eventVersion": "1.0 1.00 1.01 1.02 1.03 1.04 1.05 1.06 1.07 1.08 1.09 1.10 1.11".split()},
    observables={"src_endpoint.domain": "Hostname"},
    events=[
        EventMap("api_activity", where=insight, fields=INSIGHT),
        EventMap(
            "authentication",
            where=col.eventSource.is_in(*SIGN_IN_SOURCES) & col.eventName.is_in(*SIGN_INS),
            fields=AUTHENTICATION,
        ),
        EventMap(
            "account_change",
            where=col.eventSource.is_in(*ACCOUNT_SOURCES) & col.eventName.is_in(*ACCOUNT_ACTIVITY),
            fields=ACCOUNT_CHANGE,
        ),
        EventMap("api_activity", fields=API_ACTIVITY),
    ],
)  # fmt: skip
