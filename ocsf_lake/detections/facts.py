"""What is known of the values that members of AWS's logs have."""

from __future__ import annotations

from collections.abc import Mapping

_YES_NO = ("true", "false")

ENUMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "aws_cloudtrail": {
        "userIdentity.type": (
            "Root", "IAMUser", "AssumedRole", "Role", "FederatedUser", "Directory", "AWSAccount", "AWSService",
            "Unknown", "SAMLUser", "WebIdentityUser", "IdentityCenterUser",
        ),
        "eventType": (
            "AwsApiCall", "AwsServiceEvent", "AwsConsoleAction", "AwsConsoleSignIn", "AwsVpceEvent",
            "AwsCloudTrailInsight", "AwsMfa", "AwsAgentEvent",
        ),
        "eventCategory": ("Management", "Data", "Insight", "NetworkActivity"),
        "readOnly": _YES_NO, "managementEvent": _YES_NO,
        "responseElements.ConsoleLogin": ("Success", "Failure"),
        "additionalEventData.MFAUsed": ("Yes", "No"),
        "userIdentity.sessionContext.attributes.mfaAuthenticated": _YES_NO,
        "userIdentity.sessionContext.sessionIssuer.type": ("Role", "Root", "IAMUser", "User", "FederatedUser"),
    },
    "aws_vpc_flow": {
        "action": ("ACCEPT", "REJECT"), "log_status": ("OK", "NODATA", "SKIPDATA"),
        "flow_direction": ("ingress", "egress"),
        "type": ("IPv4", "IPv6", "EFA"),
    },
    "aws_route53_resolver": {
        "firewall_rule_action": ("ALLOW", "BLOCK", "ALERT"), "transport": ("UDP", "TCP", "DOH"),
        "rcode": (
            "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
            "NOTAUTH",
            "NOTZONE", "BADSIG", "BADVERS",
        ),
    },
    "aws_waf": {"action": ("ALLOW", "BLOCK", "COUNT", "CAPTCHA", "CHALLENGE")},
    "aws_guardduty": {"service.archived": _YES_NO},
    "aws_eks_audit": {
        "stage": ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"),
        "level": ("None", "Metadata", "Request", "RequestResponse"),
        "verb": (
            "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "post", "put", "head",
            "options", "connect",
        ),
    },
}  # fmt: skip
"""Source -> member -> every value that AWS writes there."""

_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE")
LIKELY: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "aws_waf": {
        "httpRequest.httpMethod": _METHODS, "cs-method": _METHODS,
        "httpRequest.httpVersion": ("HTTP/1.1", "HTTP/2.0", "HTTP/1.0"),
    },
    "aws_alb": {"type": ("http", "https", "h2", "grpcs", "ws", "wss"), "http_version": ("HTTP/1.1", "HTTP/2.0"),
                "method": _METHODS, "cs-method": _METHODS},
    "aws_clb": {"http_version": ("HTTP/1.1", "HTTP/1.0"), "method": _METHODS, "cs-method": _METHODS},
    "aws_nlb": {"type": ("tls",), "version": ("2.0", "1.0")},
}
"""The same of members that may have others."""

DOCUMENTS = ("requestParameters", "responseElements", "additionalEventData", "serviceEventDetails")
"""Members of CloudTrail that hold anything."""

BLIND: Mapping[tuple[str, str, str], tuple[str, str]] = {
    ("modifyinstanceattribute", "requestParameters.attribute", "userdata"): (
        "requestParameters.userData",
        "the console, the CLI and SDKs write user data as requestParameters.userData, without attribute",
    ),
}
"""Operation, member and value -> the member where records mostly have it instead, and the reason."""

PERMISSIONS: Mapping[str, str] = {
    "putencryptionconfiguration": "PutBucketEncryption", "putlifecycleconfiguration": "PutBucketLifecycle",
    "putreplicationconfiguration": "PutBucketReplication", "replicateobject": "PutObject",
    "listbucket": "ListObjects", "getlifecycleconfiguration": "GetBucketLifecycle",
    "getencryptionconfiguration": "GetBucketEncryption",
}  # fmt: skip
"""Permissions of S3 that are taken for operations, in lower case -> what CloudTrail writes."""


def problem_of_value(source: str, member: str, text: str) -> str | None:
    """Why a member never has a value; None where it may."""
    values = ENUMS.get(source, {}).get(member)
    if values is None or text.lower() in map(str.lower, values):
        return None
    return f"{member}: never {text!r}; it is one of {', '.join(values)}"


def is_arn(member: str) -> bool:
    """Whether a member's values are ARNs, by its name."""
    return member.rsplit(".", 1)[-1].lower().endswith("arn")
