"""AWS CloudTrail -> OCSF API Activity [6003], Account Change [3001], Authentication [3002].

Format: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
Record: one API call, sign-in, service event or Insights event. `eventTime` is ISO 8601, UTC, to the second. Files hold
`{"Records": [...]}`; EventBridge, CloudTrail Lake and LookupEvents pass the same record on in other wrappings. What
`requestParameters` and `responseElements` hold differs by API and by release, so both stay JSON text from reader to lake.
Quirks: `sourceIPAddress` is a service's name when a service calls; `readOnly` and `managementEvent` are booleans or text;
services reuse names such as CreateUser, so the class is chosen by event source and name together. Insights events have
no caller: they are API Activity about the call they watched, made by CloudTrail, in a table of their own.
"""

from itertools import product

import pyarrow as pa

from ocsf_mappers import (
    JSON,
    Delivery,
    Envelope,
    EventMap,
    Expr,
    Fields,
    Having,
    JsonRecords,
    Mapper,
    Marks,
    Product,
    Source,
    Switches,
    arn_account,
    coalesce,
    col,
    json_struct,
    object_key,
    sql,
    text,
    text_struct,
    when,
)
from ocsf_mappers.sources.aws_cloudtrail.digests import DIGESTS

SIGN_IN_SOURCES = (
    "signin.amazonaws.com", "sts.amazonaws.com", "sso.amazonaws.com", "rolesanywhere.amazonaws.com",
    "eks-auth.amazonaws.com",
)  # fmt: skip
ROLES_ASSUMED = "AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoleForPodIdentity".split()
CREDENTIALS_ISSUED = (
    "AssumeRoot GetSessionToken GetFederationToken GetDelegatedAccessToken GetWebIdentityToken GetSigninToken SwitchRole"
    " RenewRole ExitRole CreateToken GetRoleCredentials CreateSession"
).split()
"""Calls that give their caller credentials or a session, as AssumeRole does:
https://docs.aws.amazon.com/STS/latest/APIReference/API_Operations.html and the pages on sign-in events below."""

SIGN_INS = [
    *ROLES_ASSUMED,
    *CREDENTIALS_ISSUED,
    *"CheckMfa ConsoleLogin CredentialChallenge CredentialVerification ExternalIdPDirectoryLogin UserAuthentication".split(),
]
NO_LOGON = ("CheckMfa", "CredentialChallenge", "CredentialVerification")
"""Steps of a sign-in; what it ends in is another event."""

SIGN_IN_OUTCOMES = (
    "ConsoleLogin CheckMfa CredentialChallenge CredentialVerification ExternalIdPDirectoryLogin UserAuthentication"
    " SwitchRole ExitRole RenewRole GetSigninToken"
).split()
ACCOUNT_OUTCOMES = (
    "PasswordUpdated", "EmailUpdated", "AccountNameUpdated", "PasswordRecoveryRequested", "PasswordRecoveryCompleted",
)  # fmt: skip
"""Events that say under their own name whether they succeeded, as in `"responseElements": {"CheckMfa": "Failure"}`; a
failure need not show as an error. Source:
https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-aws-console-sign-in-events.html and
https://docs.aws.amazon.com/singlesignon/latest/userguide/understanding-sign-in-events.html"""

ACCOUNT_SOURCES = ("iam.amazonaws.com", "signin.amazonaws.com", "account.amazonaws.com")
ACCOUNT_CHANGES = {
    # AWS's published choice of names. The activities are those that OCSF's text gives: only a user or a role is created,
    # deleted, enabled or disabled; what changes its policies attaches or detaches one. See docs/mapping-notes.md.
    "Create": "CreateUser CreateRole CreateServiceLinkedRole",
    "Password Change": "ChangePassword PasswordUpdated",
    "Password Reset": "UpdateLoginProfile PasswordRecoveryRequested PasswordRecoveryCompleted",
    "Delete": "DeleteUser DeleteRole DeleteServiceLinkedRole",
    "Attach Policy": "AttachUserPolicy AttachRolePolicy AttachGroupPolicy PutUserPolicy PutRolePolicy PutGroupPolicy"
    " PutUserPermissionsBoundary PutRolePermissionsBoundary AddUserToGroup",
    "Detach Policy": "DetachUserPolicy DetachRolePolicy DetachGroupPolicy DeleteUserPolicy DeleteRolePolicy"
    " DeleteGroupPolicy DeleteUserPermissionsBoundary DeleteRolePermissionsBoundary RemoveUserFromGroup",
    "MFA Factor Enable": "EnableMFADevice",
    "MFA Factor Disable": "DeactivateMFADevice",
    "Other": "CreateInstanceProfile CreateLoginProfile CreateAccessKey CreateVirtualMFADevice CreateAccountAlias"
    " CreateGroup ResyncMFADevice DeleteGroup DeleteInstanceProfile DeleteLoginProfile DeleteAccessKey"
    " DeleteVirtualMFADevice DeletePolicy DeleteAccountAlias DeleteAccountPasswordPolicy UpdateUser UpdateRole"
    " UpdateRoleDescription UpdateGroup UpdateAccessKey UpdateAssumeRolePolicy UpdateAccountPasswordPolicy"
    " UpdateAccountName UpdateAccountEmailAddress AddRoleToInstanceProfile RemoveRoleFromInstanceProfile"
    " RequestSmsMfaRegistration FinalizeSmsMfaRegistration EmailUpdated AccountNameUpdated TagUser TagRole"
    " TagInstanceProfile UntagUser UntagRole UntagInstanceProfile",
}
ACCOUNT_ACTIVITY = {name: activity for activity, names in ACCOUNT_CHANGES.items() for name in names.split()}
OWN_ACCOUNT = (
    "ChangePassword CreateAccessKey CreateLoginProfile DeactivateMFADevice DeleteAccessKey DeleteLoginProfile"
    " PasswordRecoveryCompleted PasswordRecoveryRequested PasswordUpdated UpdateAccessKey"
).split()
"""Calls that change the caller's own account where they name no user:
https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateAccessKey.html"""

VERBS = {
    verb: activity
    for activity, verbs in {
        "Create": "Create Run Generate Allocate Clone Issue Launch Post Provision Publish Purchase Send Submit Upload",
        "Read": "Get List Describe Search Lookup Head Query Scan Select Analyze Calculate Check Compare Count Detect"
        " Discover Download Estimate Evaluate Export Is Poll Predict Preview Recognize Resolve Retrieve Sample Simulate"
        " Test Translate Validate Verify View",
        "Update": "Update Put Modify Add Remove Start Stop Attach Detach Associate Disassociate Tag Untag Enable Disable"
        " Register Deregister Set Change Reboot Replace Reset Restore Copy Import Write Accept Acknowledge Activate Apply"
        " Approve Archive Assign Authorize Cancel CheckInLicense Checkout Checkpoint Close Complete Configure Confirm Deactivate Deauthorize Decrease"
        " Deprecate Disconnect Dissociate Execute Extend Failover Flush Grant Increase Initiate Invite Invoke Lock Merge"
        " Migrate Move Notify Open Pause Promote Rebuild Refresh Reject Reload Rename Request Resend Respond Restart Resume"
        " Retry Revoke Rollback Rotate Schedule Signal Subscribe Suspend Switchover Transfer Unarchive Unassign Undeprecate"
        " Unlock Unsubscribe Upgrade",
        "Delete": "Delete Terminate Abort Deprovision Discard Dispose Evict Expire Purge Release",
    }.items()
    for before in ("Batch", "Admin", "Transact", "")
    for verb in (before + verb for verb in verbs.split())
}
VERBS = dict(sorted(VERBS.items(), key=lambda pair: -len(pair[0])))  # Issue before Is, Checkout before Check
"""How an operation's name begins -> what it does. The first lines are AWS's published choice, the rest by meaning: what
makes a thing creates, what leaves all as it is reads, what ends a thing deletes. See docs/mapping-notes.md."""

S3_OBJECT_CALLS = (
    "AbortMultipartUpload CompleteMultipartUpload CopyObject CreateMultipartUpload DeleteObject DeleteObjects"
    " DeleteObjectTagging GetObject GetObjectAcl GetObjectAttributes GetObjectTagging GetObjectTorrent HeadObject"
    " ListObjects ListParts PutObject PutObjectAcl PutObjectTagging RestoreObject SelectObjectContent UploadPart"
    " UploadPartCopy"
).split()
"""Data events, recognized by name in records older than `managementEvent` and `eventCategory`."""

IPV4 = r"^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$"
IPV6 = r"^[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){2,7}(:\d+\.\d+\.\d+\.\d+)?$"

YES_OR_NO = {
    "".join(letters): meaning
    for word, meaning in (("yes", "true"), ("no", "false"))
    for letters in product(*((letter, letter.upper()) for letter in word))
}
"""Either word in every mixture of upper and lower case."""

BLANK = ("", "-")
"""These texts mean that there is no value."""


def given(value: Expr) -> Expr:
    """A text that says something."""
    return when(~value.is_in(*BLANK)).then(value)


def missing(value: Expr) -> Expr:
    """Whether there is no text, or a blank one."""
    return value.is_null() | value.is_in(*BLANK)


who, session = col.userIdentity, col.userIdentity.sessionContext
source = col.sourceIPAddress
host = col.tlsDetails.clientProvidedHostHeader
nowhere = missing(source)
from_ip = source.matches(f"{IPV4}|{IPV6}")
from_name = ~from_ip & ~nowhere
from_service = source.ends_with(".amazonaws.com") | (source == "AWS Internal")
session_name = when(who.type == "AssumedRole").then(who.principalId.extract(":(.+)"))
nameless = missing(who.arn) & missing(who.accountId) & missing(who.userName)
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
without_error = missing(col.errorCode) & missing(col.errorMessage)
by_error = when(without_error).then("Success").otherwise("Failure")

by_role = col.eventName.is_in(*ROLES_ASSUMED, "AssumeRoot")
by_saml = (col.eventName == "AssumeRoleWithSAML") | more.json("SamlProviderArn").is_not_null()
own_account = col.eventName.is_in(*OWN_ACCOUNT) & request.json("userName").is_null()
EXPIRATION = "coalesce(strftime(try_strptime({0}, ['%b %d, %Y, %I:%M:%S %p', '%b %d, %Y %I:%M:%S %p']), '%Y-%m-%dT%H:%M:%SZ'), {0})"
"""STS writes "Jul 10, 2023, 1:04:10 PM", in UTC; a time in ISO 8601 stays as it is."""

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
    # who; of an assumed role the session's name says who stands behind it
    "actor.user.type":           who.type,
    "actor.user.name":           coalesce(given(who.userName), col.additionalEventData.json("UserName"), session_name),
    # OCSF requires a name, an id or an account of every user; a service that calls by itself has none of them
    "actor.user.uid":            coalesce(given(who.arn), when(nameless).then(coalesce(given(who.invokedBy), given(who.principalId), who.type))),
    "actor.user.uid_alt":        coalesce(given(who.principalId), who.onBehalfOf.userId),
    "actor.user.account.uid":    given(who.accountId),
    "actor.user.credential_uid": coalesce(given(who.accessKeyId), given(who.credentialId)),
    "actor.session.created_time": session.attributes.creationDate.iso8601(),
    "actor.session.is_mfa":       session.attributes.mfaAuthenticated,
    "actor.session.issuer":       given(session.sessionIssuer.arn),
    "actor.invoked_by":           coalesce(given(who.invokedBy), who.invokedByDelegate.accountId),
    "actor.idp.name":             coalesce(given(who.identityProvider), session.webIdFederationData.json("federatedProvider")),
    "actor.idp.uid":              who.onBehalfOf.identityStoreArn,
    "metadata.correlation_uid":   given(col.sharedEventID),
    # what
    "api.operation":        col.eventName,
    "api.service.name":     col.eventSource,
    "api.version":          given(col.apiVersion),
    # OCSF requires request.uid wherever there is a request; the event's own id stands in for a missing requestID
    "api.request.uid":      coalesce(given(col.requestID), when(col.requestParameters.is_not_null()).then(col.eventID)),
    "api.request.data":     when(col.requestID.is_not_null() | col.eventID.is_not_null()).then(col.requestParameters),
    "api.response.data":    col.responseElements,
    "api.response.error":   given(col.errorCode),
    "api.response.message": given(col.errorMessage),
    # from where: through OCSF 1.3 an endpoint needs more than a domain
    "src_endpoint.ip":       when(from_ip).then(source),
    "src_endpoint.domain":   when(from_name).then(source),
    "src_endpoint.svc_name": when(from_name & from_service).then(source).when(nowhere).then(who.invokedBy),
    "src_endpoint.name":     when(from_name & ~from_service).then(source).when(nowhere & who.invokedBy.is_null()).then("unknown"),
    "src_endpoint.uid":      given(col.vpcEndpointId),
    "http_request.user_agent":   given(col.userAgent),
    "http_request.url.hostname":   given(host),
    # OCSF wants a path or the whole URL beside it; all that is known of it is that TLS was spoken
    "http_request.url.url_string": text("https://{}", given(host)),
}  # fmt: skip

API_ACTIVITY: Fields = COMMON | {
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
    "activity_id": (
        when((col.eventName == "UpdateAccessKey") & (request.json("status") == "Active")).then("Enable")
        .when((col.eventName == "UpdateAccessKey") & (request.json("status") == "Inactive")).then("Disable")
        .otherwise(col.eventName.replace({name: activity for name, activity in ACCOUNT_ACTIVITY.items() if activity != "Other"}, otherwise=col.eventName))
    ),
    "user.name": coalesce(
        response.json("user", "userName"), response.json("role", "roleName"),
        request.json("userName"), request.json("roleName"),
        response.json("accessKey", "userName"), response.json("loginProfile", "userName"),
        when(own_account).then(given(who.userName)),
    ),
    "user.uid":         coalesce(response.json("user", "arn"), response.json("role", "arn"), when(own_account).then(given(who.arn))),
    "user.uid_alt":     coalesce(response.json("user", "userId"), response.json("role", "roleId"), when(own_account).then(given(who.principalId))),
    "user.account.uid": account,
    "user.credential_uid": coalesce(response.json("accessKey", "accessKeyId"), request.json("accessKeyId")),
    "policy.uid":       request.json("policyArn"),
    "policy.name":      request.json("policyName"),
}  # fmt: skip

AUTHENTICATION: Fields = COMMON | {
    "activity_id": when(col.eventName == "ExitRole").then("Logoff").when(~col.eventName.is_in(*NO_LOGON)).then("Logon").otherwise(col.eventName),
    "status_id": coalesce(*(place.json(name) for place in (response, details, more) for name in SIGN_IN_OUTCOMES), by_error),
    "auth_protocol_id": when(by_saml).then("SAML").when(col.eventName == "AssumeRoleWithWebIdentity").then("OpenID"),
    "is_mfa": more.json("MFAUsed").replace(YES_OR_NO),
    # who is signed in: the session that a role gives, not its caller, who is the actor
    "user.name":        coalesce(request.json("roleSessionName"), request.json("name"), when(~by_role).then(coalesce(given(who.userName), more.json("UserName"), session_name))),
    "user.uid":         coalesce(request.json("roleArn"), request.json("targetPrincipal"), response.json("federatedUser", "arn"), given(who.arn)),
    "user.uid_alt":     coalesce(response.json("assumedRoleUser", "assumedRoleId"), response.json("federatedUser", "federatedUserId"), when(~by_role).then(coalesce(given(who.principalId), who.onBehalfOf.userId))),
    "user.account.uid": coalesce(arn_account(request.json("roleArn")), request.json("targetPrincipal").extract(r"(\d{12})"), account),
    "session.uid":             response.json("assumedRoleUser", "arn"),
    "session.uid_alt":         response.json("assumedRoleUser", "assumedRoleId"),
    "session.credential_uid":  response.json("credentials", "accessKeyId"),
    "session.issuer":          request.json("roleArn"),
    "session.expiration_time": sql(EXPIRATION, reads=[response.json("credentials", "expiration")]).iso8601(),
    "dst_endpoint.svc_name":   more.json("LoginTo"),
    # OCSF requires the service or an endpoint; only console sign-ins name the latter
    "service.name":            col.eventSource,
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
    pa.field("invokedByDelegate", text_struct("accountId")),
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
    *json_struct(
        "requestParameters responseElements additionalEventData resources serviceEventDetails addendum"
        " edgeDeviceDetails eventContext"
    ),
    pa.field("tlsDetails", text_struct("tlsVersion cipherSuite clientProvidedHostHeader keyExchange")),
    pa.field("insightDetails", pa.struct([
        *text_struct("state eventSource eventName insightType errorCode"), pa.field("insightContext", JSON),
    ])),
])  # fmt: skip

DIGEST = "a digest proves other files and holds no events"

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
        "CloudTrail-Digest": DIGEST,
        "CloudTrail-Aggregated": "aggregated events are summaries of events that other files hold",
    },
    duplicate_key=("metadata.uid", "cloud.account.uid"),
    known_values={"eventVersion": "1.0 1.00 1.01 1.02 1.03 1.04 1.05 1.06 1.07 1.08 1.09 1.10 1.11".split()},
    observables={
        "src_endpoint.domain": "Hostname",
        "resources.uid": "Resource UID",  # marked by the schema after 1.1.0 only; AWS lists them there too
        "http_request.url.hostname": (),  # the API's own endpoint, in nearly every record
        "http_request.url.url_string": (),
    },
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

# docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html: every five minutes or so;
# delivery to a bucket that could not be reached is tried for 30 days. Digests and aggregates are set aside.
KINDS = ("", "-Insight", "-NetworkActivity", "-Aggregated", "-Digest")
SOURCE = Source(
    MAPPER,
    delivery=Delivery(
        tuple(f"AWSLogs/{{account}}/CloudTrail{kind}/{{region}}/{{year}}/{{month}}/{{day}}" for kind in KINDS),
        sweep_days=31,
        record_bytes=160,
        late_hours=3,
    ),
    keys=(
        r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>CloudTrail[^/]*)/(?P<region>[^/]+)/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/",
        r"/(?P<account>\d{12})_(?P<kind>CloudTrail[A-Za-z-]*)_(?P<region>[^_/]+)_(?:[^/]*_)?(?P<date>\d{8})T\d{4,6}Z",
    ),
    marks=Marks(
        members=(
            Having(any_of=("CloudTrailEvent", "insightDetails")),
            # notifications of S3 and messages of SQS have names like those of CloudTrail
            Having(any_of=("eventSource", "eventVersion"), unlike={"eventSource": "aws:"}),
        ),
        detail_types=("AWS .+ via CloudTrail",),
        service="aws.cloudtrail",
        set_aside={r'\s*\{[^{}\[\]]*"digestStartTime"\s*:': DIGEST},
    ),
    digests=DIGESTS,
    switches=(Switches("cloudtrail.amazonaws.com", off=("StopLogging", "DeleteTrail"), on=("StartLogging", "CreateTrail"), changed=("UpdateTrail", "PutEventSelectors", "PutInsightSelectors"), wide=True),),
    calls="cloud_trail_mgmt",
)
