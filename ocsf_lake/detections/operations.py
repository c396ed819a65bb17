"""What AWS's services are called in CloudTrail, and their operations.

From botocore's models, see `scripts/compile_operations.py`, and what those do not have: calls of consoles and agents,
events that services write by themselves, and names that CloudTrail writes in another way than the API.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ocsf_mappers.errors import nearest

DOMAIN = ".amazonaws.com"
_FILE = Path(__file__).with_name("operations.json.gz")
VERSION = r"(\d{8}(v\d+)?|\d{4}_\d{2}_\d{2})$"
"""The API's version, which Lambda and CloudFront have at the end of names."""

MORE: Mapping[str, str] = {
    "signin": (
        "ConsoleLogin CheckMfa SwitchRole ExitRole GetSigninToken RenewRole PasswordRecoveryRequested "
        "PasswordRecoveryCompleted "
        "PasswordUpdated EmailUpdated UserAuthentication CredentialChallenge CredentialVerification"
    ),
    "sso": (
        "AssociateDirectory DisassociateDirectory Authenticate Federate ListProfilesForApplication ListApplications "
        "AssociateProfile DisassociateProfile CreateProfile DeleteProfile GetProfile UpdateProfile "
        "ListDirectoryAssociations "
        "StartSSO DeleteSSO RegisterRegion GetSSOStatus GetMfaDeviceManagementForDirectory "
        "PutMfaDeviceManagementForDirectory CreateManagedApplicationInstance CreateApplicationInstance"
    ),
    "sso-directory": (
        "CreateUser DeleteUser UpdateUser EnableUser DisableUser UpdatePassword VerifyEmail CreateGroup DeleteGroup "
        "UpdateGroup AddMemberToGroup RemoveMemberFromGroup SearchUsers SearchGroups DescribeDirectory "
        "EnableExternalIdPConfigurationForDirectory DisableExternalIdPConfigurationForDirectory "
        "CreateExternalIdPConfigurationForDirectory DeleteExternalIdPConfigurationForDirectory "
        "UpdateExternalIdPConfigurationForDirectory CreateBearerToken DeleteBearerToken DeleteMfaDeviceForUser "
        "StartVirtualMfaDeviceRegistration CompleteVirtualMfaDeviceRegistration"
    ),
    "s3": (
        "ListAllMyBuckets GetBucketPublicAccessBlock PutBucketPublicAccessBlock DeleteBucketPublicAccessBlock "
        "GetAccountPublicAccessBlock PutAccountPublicAccessBlock DeleteAccountPublicAccessBlock "
        "GetAccelerateConfiguration "
        "PutAccelerateConfiguration GetBucketObjectLockConfiguration PutBucketObjectLockConfiguration "
        "PutBucketLifecycle "
        "GetBucketLifecycle PutBucketReplication GetStorageLensDashboardDataInternal CompleteMultipartUpload "
        "PreflightRequest "
        "GetAnalyticsConfiguration PutAnalyticsConfiguration GetInventoryConfiguration PutInventoryConfiguration "
        "GetMetricsConfiguration PutMetricsConfiguration"
    ),
    "kms": "RotateKey DeleteKey SynchronizeMultiRegionKey",
    "secretsmanager": (
        "StartSecretVersionDelete EndSecretVersionDelete CancelSecretVersionDelete RotationStarted RotationSucceeded "
        "RotationFailed RotationAbandoned SecretDeleted"
    ),
    "ec2": (
        "SharedSnapshotVolumeCreated SharedSnapshotCopyInitiated BidEvictedEvent BidFulfilledEvent "
        "RegisterManagedInstance "
        "DeregisterManagedInstance"
    ),
    "ssm": (
        "UpdateInstanceInformation UpdateInstanceAssociationStatus ListInstanceAssociations PutConfigurePackageResult "
        "RequestManagedInstanceRoleToken RegisterManagedInstance"
    ),
    "ssmmessages": "CreateControlChannel CreateDataChannel OpenControlChannel OpenDataChannel",
    "ec2messages": "SendHeartbeat AcknowledgeMessage GetMessages SendReply FailMessage DeleteMessage GetEndpoint",
    "ec2-instance-connect": "OpenTunnel",
    "billingconsole": "GetAlternateContact GetContactInformation AWSPaymentPortalService.Get GetBillingPreferences",
    "account": "EnableRegion DisableRegion CloseAccount",
    "cloudshell": (
        "CreateEnvironment CreateSession DeleteEnvironment GetEnvironmentStatus GetFileDownloadUrls GetFileUploadUrls "
        "PutCredentials RedeemCode SendHeartBeat StartEnvironment StopEnvironment ExecuteCommand"
    ),
    "cloudtrail": "CreateServiceLinkedChannel UpdateServiceLinkedChannel DeleteServiceLinkedChannel",
    "batch": "JobStatusChanged",
    "macie": "UpdateMacieSession EnableMacie DisableMacie",
    "bedrock": (
        "InvokeModel InvokeModelWithResponseStream Converse ConverseStream PutFoundationModelEntitlement "
        "PutUseCaseForModelAccess CreateFoundationModelAgreement"
    ),
    "autoscaling": "TerminateInstances",
    "rds": "DescribeRecommendations DescribeRecommendationGroups",
    "health": "AWS_HEALTH_EVENT",
}
"""Service -> names that botocore's model of it lacks. Of consoles there is no list; these are those that were seen or
are in AWS's pages."""

COMMON = ("iam", "sts", "ec2", "s3", "kms", "lambda", "rds", "cloudtrail", "guardduty", "organizations", "signin")
WITHOUT_LIST = frozenset(["billingconsole", "cloudshell", "payments"])
"""Services of consoles, whose calls nobody lists: every name may be one."""


@dataclass(frozen=True)
class Operations:
    """The table.

    Args:
        names: Service -> its operations in lower case -> as AWS writes them.
        members: Service and operation in lower case -> first members of its request.
    """

    names: Mapping[str, Mapping[str, str]]
    members: Mapping[tuple[str, str], tuple[str, ...]]


@cache
def load() -> Operations:
    """All services and operations."""
    read = json.loads(gzip.decompress(_FILE.read_bytes()))["operations"]
    names = {service: {name.lower(): name for name in operations} for service, operations in read.items()}
    for service, more in MORE.items():
        names.setdefault(service, {}).update({name.lower(): name for name in more.split()})
    members = {
        (service, name.lower()): tuple(members)
        for service, operations in read.items()
        for name, members in operations.items()
    }
    return Operations(names, members)


def bare(name: str) -> str:
    """An operation in lower case and without its version."""
    return re.sub(VERSION, "", name).lower()


def service_of(source: str) -> str:
    """The service of an event source."""
    return source.lower().removesuffix(DOMAIN)


def _rank(service: str) -> tuple[int, str]:
    """What rules are mostly about comes first."""
    return (COMMON.index(service) if service in COMMON else len(COMMON)), service


def problem_of_source(source: str) -> str | None:
    """What is wrong with an event source; None where nothing is."""
    services = {*load().names, *WITHOUT_LIST}
    if service_of(source) in services and source.lower().endswith(DOMAIN):
        return None
    return f"no service is {source!r} in CloudTrail{nearest(source, [f'{one}{DOMAIN}' for one in sorted(services)])}"


def problem_of_name(name: str, source: str | None) -> str | None:
    """What is wrong with an operation of a service, or of any; None where nothing is."""
    names = load().names
    if source is not None:
        service = service_of(source)
        if service in WITHOUT_LIST or service not in names or bare(name) in names[service]:
            return None
        others = [one for one in sorted(names, key=_rank) if bare(name) in names[one]]
        if others:
            shown = ", ".join(f"{one}{DOMAIN}" for one in others[:3])
            have = "has" if len(others) == 1 else "and others have" if len(others) > 3 else "have"
            return f"{source} has no operation {name!r}, which {shown} {have}"
        return f"{source} has no operation {name!r}{nearest(name, sorted(names[service].values()))}"
    if any(bare(name) in service_names for service_names in names.values()):
        return None
    every = sorted({given for service_names in names.values() for given in service_names.values()})
    return f"no service has an operation {name!r}{nearest(name, every)}"


def problem_of_member(name: str, source: str, member: str) -> str | None:
    """What is wrong with a member of `requestParameters`; None where nothing is, or where nobody knows.

    S3 and EC2 write their members in CloudTrail in another way than their API has them.
    """
    service = service_of(source)
    if service in ("s3", "ec2") or (service, bare(name)) not in load().members:
        return None
    members = load().members[service, bare(name)]
    if member.lower() in map(str.lower, members):
        return None
    if not members:
        return f"requestParameters.{member}: {name} has no parameters in its model"
    hint = nearest(member, [f"{one[:1].lower()}{one[1:]}" for one in members])
    return f"requestParameters.{member}: {name} has no such parameter in its model{hint}"
