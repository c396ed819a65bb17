"""For each rule of the pack: records that it is for, and records close to those that it is not for.

Records are members that differ from an ordinary record. `@` in a text becomes what no other case has, `days` is so many
days later.
"""

from __future__ import annotations

from typing import Any

Members = dict[str, Any]
Case = tuple[list[Members], list[Members]]

FAILED = {"errorCode": "AccessDenied"}


def call(service: str, name: str, **more: Any) -> Members:
    """A call; of its parameters a `__` is a dot."""
    return {"eventSource": f"{service}.amazonaws.com", "eventName": name} | {
        key.replace("__", "."): value for key, value in more.items()
    }


def asked(service: str, name: str, **parameters: Any) -> Members:
    """A call with parameters of its request."""
    return call(service, name) | {f"requestParameters.{key.replace('__', '.')}": value for key, value in parameters.items()}


LOGIN = call("signin", "ConsoleLogin") | {"eventType": "AwsConsoleSignIn", "additionalEventData.MFAUsed": "No"}
GOOD = LOGIN | {"responseElements.ConsoleLogin": "Success"}
BAD = LOGIN | {"responseElements.ConsoleLogin": "Failure"}
EVERYONE = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}]}
OURS = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "s3:GetObject", "Resource": "*"}]}
INSTANCE = {
    "userIdentity.type": "AssumedRole", "userIdentity.accessKeyId": "ASIA@",
    "userIdentity.arn": "arn:aws:sts::111122223333:assumed-role/web/i-0123456789abcdef0",
}  # fmt: skip
SSH = asked("ec2", "AuthorizeSecurityGroupIngress") | {
    "requestParameters.ipPermissions": {"items": [{"fromPort": 22, "toPort": 22, "ipRanges": {"items": [{"cidrIp": "203.0.113.77/32"}]}}]}
}  # fmt: skip
INSIDE = SSH | {
    "requestParameters.ipPermissions": {"items": [{"fromPort": 22, "toPort": 22, "ipRanges": {"items": [{"cidrIp": "10.1.0.0/16"}]}}]}
}  # fmt: skip
OUT = {"srcaddr": "10.9.0.@", "dstaddr": "203.0.113.9"}
POD = {"verb": "create", "objectRef.resource": "pods", "requestObject.spec.containers": [{"name": "a", "securityContext": {"privileged": True}}]}
POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "%s", "Resource": "*"}]}'

HOME, AWAY = {"sourceIPAddress": "198.51.100.7"}, {"sourceIPAddress": "203.0.113.9"}
KEY = {"userIdentity.accessKeyId": "AKIA@"}
GRANTS = asked("iam", "AttachRolePolicy", policyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
ROLE = {
    "userIdentity.type": "AssumedRole", "userIdentity.arn": "arn:aws:sts::111122223333:assumed-role/deploy@/s",
    "userIdentity.sessionContext.sessionIssuer.arn": "arn:aws:iam::111122223333:role/deploy@",
}  # fmt: skip
TAKEN = call("sts", "AssumeRole", userIdentity__type="AWSAccount", recipientAccountId="999900000@")
ABROAD = {"service.action.actionType": "AWS_API_CALL", "resource.accessKeyDetails": {"userName": "user@"}}


def news(ordinary: Members, usual: Members, new: Members, **missed: Members) -> Case:
    """Something new after three weeks; and what is not: new in the first days, known, or not what the rule is for."""
    first, known = ordinary | usual, ordinary | usual | {"days": 20}
    late, soon = ordinary | new | {"days": 21}, ordinary | new | {"days": 13}
    return [first, known, late], [first, known, soon, late, *(first | one | {"days": 22} for one in missed.values())]


def country(name: str) -> Members:
    """Where a call came from, as GuardDuty has it."""
    action = {"remoteIpDetails": {"ipAddressV4": "203.0.113.9", "country": {"countryName": name}}}
    return {"service.action.awsApiCallAction": {"api": "ListUsers", **action}}


CASES: dict[str, Case] = {
    "root_used": ([{"userIdentity.type": "Root"}], [{"userIdentity.type": "Root", "userIdentity.invokedBy": "support.amazonaws.com"}, {}]),
    "console_login_without_mfa": ([GOOD], [GOOD | {"additionalEventData.MFAUsed": "Yes"}, BAD, GOOD | {"userIdentity.type": "AssumedRole"}]),
    "console_login_failures": ([BAD] * 5, [BAD] * 4 + [GOOD]),
    "access_key_for_another_user": (
        [asked("iam", "CreateAccessKey", userName="bob")],
        [asked("iam", "CreateAccessKey", userName="user@"), asked("iam", "CreateAccessKey", userName="bob") | FAILED, asked("iam", "CreateAccessKey")],
    ),
    "password_for_another_user": (
        [asked("iam", "UpdateLoginProfile", userName="bob")],
        [asked("iam", "UpdateLoginProfile", userName="user@"), asked("iam", "CreateLoginProfile", userName="bob") | FAILED],
    ),
    "new_key_used_at_once": (
        [asked("iam", "CreateAccessKey") | {"responseElements.accessKey.accessKeyId": "AKIANEW@"}, {"userIdentity.accessKeyId": "AKIANEW@"}],
        [{"userIdentity.accessKeyId": "AKIAOLD@"}, asked("iam", "CreateAccessKey") | {"responseElements.accessKey.accessKeyId": "AKIAOLD@"}],
    ),
    "key_from_several_addresses": (
        [{"userIdentity.accessKeyId": "AKIA@", "sourceIPAddress": "203.0.113.1"}, {"userIdentity.accessKeyId": "AKIA@", "sourceIPAddress": "2001:db8::1"}],
        [{"userIdentity.accessKeyId": "AKIA@"}, {"userIdentity.accessKeyId": "AKIA@"}, {"userIdentity.accessKeyId": "AKIA@", "sourceIPAddress": "cloudformation.amazonaws.com"}],
    ),
    "instance_credentials_from_two_addresses": (
        [INSTANCE | {"sourceIPAddress": "203.0.113.1"}, INSTANCE | {"sourceIPAddress": "203.0.113.2"}],
        [INSTANCE, INSTANCE, INSTANCE | {"sourceIPAddress": "10.0.0.9", "vpcEndpointId": "vpce-1"}],
    ),
    "trail_switched_off": ([call("cloudtrail", "StopLogging"), call("cloudtrail", "DeleteTrail") | FAILED], [call("cloudtrail", "StartLogging"), call("cloudtrail", "UpdateTrail")]),
    "trail_narrowed": ([call("cloudtrail", "PutEventSelectors")], [call("cloudtrail", "GetEventSelectors")]),
    "detection_switched_off": (
        [call("guardduty", "DeleteDetector"), asked("guardduty", "UpdateDetector", enable=False), call("securityhub", "DisableSecurityHub"),
         call("config", "StopConfigurationRecorder"), call("macie2", "DisableMacie")],
        [asked("guardduty", "UpdateDetector", enable=True), call("config", "StartConfigurationRecorder"), call("cognito-idp", "DeleteMembers")],
    ),
    "network_logs_deleted": ([call("ec2", "DeleteFlowLogs"), call("wafv2", "DeleteLoggingConfiguration")], [call("ec2", "CreateFlowLogs"), call("wafv2", "GetLoggingConfiguration")]),
    "bucket_policy_for_everyone": (
        [asked("s3", "PutBucketPolicy", bucketPolicy=EVERYONE), asked("s3", "PutBucketPolicy", bucketPolicy={"Statement": {"Effect": "Allow", "Principal": {"AWS": "*"}}})],
        [asked("s3", "PutBucketPolicy", bucketPolicy=OURS), asked("s3", "PutBucketPolicy", bucketPolicy={"Statement": [{"Effect": "Deny", "Principal": "*"}]})],
    ),
    "bucket_acl_for_everyone": (
        [asked("s3", "PutBucketAcl") | {"requestParameters.x-amz-acl": "public-read"},
         asked("s3", "PutObjectAcl", AccessControlPolicy={"AccessControlList": {"Grant": [
             {"Grantee": {"URI": "http://acs.amazonaws.com/groups/global/AllUsers"}, "Permission": "READ"}, {"Grantee": {"ID": "1"}}]}})],
        [asked("s3", "PutBucketAcl") | {"requestParameters.x-amz-acl": "private"}, asked("s3", "PutBucketAcl", AccessControlPolicy={"AccessControlList": {"Grant": {"Grantee": {"ID": "1"}}}})],
    ),
    "public_access_block_removed": (
        [call("s3", "DeleteBucketPublicAccessBlock"), asked("s3", "PutBucketPublicAccessBlock", PublicAccessBlockConfiguration={"BlockPublicAcls": True, "BlockPublicPolicy": False})],
        [asked("s3", "PutBucketPublicAccessBlock", PublicAccessBlockConfiguration={"BlockPublicAcls": True, "BlockPublicPolicy": True})],
    ),
    "snapshot_or_image_shared": (
        [asked("ec2", "ModifySnapshotAttribute", createVolumePermission={"add": {"items": [{"userId": "444455556666"}]}}),
         asked("rds", "ModifyDBSnapshotAttribute", attributeName="restore", valuesToAdd=["all"])],
        [asked("ec2", "ModifySnapshotAttribute", createVolumePermission={"remove": {"items": [{"userId": "444455556666"}]}}),
         asked("rds", "ModifyDBSnapshotAttribute", attributeName="restore", valuesToRemove=["all"])],
    ),
    "role_trust_changed": ([asked("iam", "UpdateAssumeRolePolicy", roleName="web")], [asked("iam", "UpdateAssumeRolePolicy") | FAILED, asked("iam", "UpdateRole")]),
    "role_taken_from_another_account": (
        [call("sts", "AssumeRole", userIdentity__type="AWSAccount", userIdentity__accountId="444455556666")],
        [call("sts", "AssumeRole"), call("sts", "AssumeRole", userIdentity__type="AWSService")],
    ),
    "administrator_policy_attached": (
        [asked("iam", "AttachUserPolicy", policyArn="arn:aws:iam::aws:policy/AdministratorAccess")],
        [asked("iam", "AttachUserPolicy", policyArn="arn:aws:iam::aws:policy/ReadOnlyAccess"), asked("iam", "AttachRolePolicy", policyArn="arn:aws:iam::aws:policy/AdministratorAccess") | FAILED],
    ),
    "policy_allows_everything": (
        [asked("iam", "PutUserPolicy", policyDocument=POLICY % "*"), asked("iam", "CreatePolicy", policyDocument='{"Statement":[{"Effect":"Allow","Action":["*"]}]}')],
        [asked("iam", "PutUserPolicy", policyDocument=POLICY % "s3:*"), asked("iam", "PutUserPolicy", policyDocument=(POLICY % "*").replace("Allow", "Deny"))],
    ),
    "policy_version_switched": ([call("iam", "SetDefaultPolicyVersion"), asked("iam", "CreatePolicyVersion", setAsDefault=True)], [asked("iam", "CreatePolicyVersion", setAsDefault=False)]),
    "user_made_and_armed": (
        [asked("iam", "CreateUser", userName="new@"), asked("iam", "CreateAccessKey", userName="new@")],
        [asked("iam", "CreateAccessKey", userName="new@"), asked("iam", "CreateUser", userName="new@")],
    ),
    "second_factor_removed": ([call("iam", "DeactivateMFADevice")], [call("iam", "EnableMFADevice"), call("iam", "DeactivateMFADevice") | FAILED]),
    "identity_provider_added": ([call("iam", "CreateSAMLProvider"), call("rolesanywhere", "CreateTrustAnchor")], [call("iam", "ListSAMLProviders"), call("rolesanywhere", "ListTrustAnchors")]),
    "console_session_from_a_key": (
        [call("sts", "GetFederationToken"), call("signin", "GetSigninToken")],
        [call("sts", "GetFederationToken") | FAILED, call("signin", "GetSigninToken", userIdentity__type="AssumedRole")],
    ),
    "many_calls_refused": ([{"eventName": f"List{n}"} | FAILED for n in range(4)], [{"eventName": "ListUsers"} | FAILED] * 6 + [{"eventName": "ListRoles"}]),
    "secrets_read_in_bulk": (
        [asked("secretsmanager", "GetSecretValue", secretId=f"s{n}") for n in range(5)],
        [asked("secretsmanager", "GetSecretValue", secretId="s")] * 8 + [asked("secretsmanager", "GetSecretValue", secretId="t")],
    ),
    "mass_object_reads": (
        [asked("s3", "GetObject", bucketName="b@", key=f"{n}") for n in range(50)],
        [asked("s3", "GetObject", bucketName="b@", key=f"{n}") for n in range(49)] + [asked("s3", "GetObject", bucketName="c@")],
    ),
    "deletion_burst": (
        [call("ec2", "DeleteVolume", readOnly=False)] * 30,
        [call("ec2", "DeleteVolume", readOnly=False)] * 29 + [call("ec2", "DeleteVolume", readOnly=False) | FAILED],
    ),
    "backups_or_keys_destroyed": ([call("kms", "ScheduleKeyDeletion"), call("backup", "DeleteRecoveryPoint")], [call("kms", "CancelKeyDeletion"), call("kms", "DisableKey", userIdentity__invokedBy="backup.amazonaws.com")]),
    "bucket_recovery_switched_off": (
        [asked("s3", "PutBucketVersioning", VersioningConfiguration={"Status": "Suspended"}), asked("s3", "PutBucketLifecycle", LifecycleConfiguration={"Rule": [{"Expiration": {"Days": 1}}, {"ID": "a"}]})],
        [asked("s3", "PutBucketVersioning", VersioningConfiguration={"Status": "Enabled"}), asked("s3", "PutBucketLifecycle", LifecycleConfiguration={"Rule": {"Expiration": {"Days": 30}}})],
    ),
    "instances_in_many_regions": (
        [call("ec2", "RunInstances", awsRegion=region) for region in ("eu-west-1", "us-east-1", "us-west-2")],
        [call("ec2", "RunInstances", awsRegion=region) for region in ("eu-west-1", "us-east-1", "eu-west-1")],
    ),
    "large_instances_started": (
        [asked("ec2", "RunInstances", instanceType=kind) for kind in ("p4d.24xlarge", "g5.xlarge", "c5.18xlarge", "m6i.metal")],
        [asked("ec2", "RunInstances", instanceType=kind) for kind in ("t3.micro", "m5.large", "c6gn.2xlarge")],
    ),
    "seldom_used_region": ([{"awsRegion": "af-south-1", "readOnly": False}], [{"awsRegion": "af-south-1", "readOnly": True}, {"readOnly": False}]),
    "admin_port_opened": ([SSH], [INSIDE, SSH | FAILED]),
    "user_data_changed": ([asked("ec2", "ModifyInstanceAttribute", userData="<sensitiveDataRemoved>")], [asked("ec2", "ModifyInstanceAttribute", instanceId="i-1")]),
    "shell_on_an_instance": ([call("ssm", "SendCommand"), call("ec2-instance-connect", "SendSSHPublicKey")], [call("ssm", "ListCommands"), call("ssm", "SendCommand", userIdentity__invokedBy="scheduler.amazonaws.com")]),
    "organization_left": ([call("organizations", "LeaveOrganization")], [call("organizations", "DescribeOrganization")]),
    "function_opened_to_everyone": (
        [asked("lambda", "CreateFunctionUrlConfig", authType="NONE"), asked("lambda", "AddPermission20150331v2", principal="*")],
        [asked("lambda", "CreateFunctionUrlConfig", authType="AWS_IAM"), asked("lambda", "AddPermission20150331v2", principal="s3.amazonaws.com")],
    ),
    "database_opened": ([asked("rds", "ModifyDBInstance", publiclyAccessible=True)], [asked("rds", "ModifyDBInstance", publiclyAccessible=False), asked("rds", "ModifyDBInstance")]),
    "models_used_with_a_long_term_key": (
        [call("bedrock", "InvokeModel", userIdentity__accessKeyId="AKIA@")],
        [call("bedrock", "InvokeModel", userIdentity__accessKeyId="ASIA@", userIdentity__type="AssumedRole"), call("bedrock", "ListFoundationModels", userIdentity__accessKeyId="AKIA@")],
    ),
    "port_scan": ([{"action": "REJECT", "dstport": n} for n in range(20)], [{"action": "REJECT", "dstport": n % 5} for n in range(30)]),
    "refused_then_accepted": (
        [{"action": "REJECT", "dstport": 22}, {"action": "ACCEPT", "dstport": 22}],
        [{"action": "ACCEPT", "dstport": 22}, {"action": "REJECT", "dstport": 22}, {"action": "ACCEPT", "dstport": 22, "dstaddr": "10.20.1.11"}],
    ),
    "much_data_out": ([OUT | {"bytes": 60000000}] * 5, [OUT | {"bytes": 60000000}] * 4 + [OUT | {"bytes": 6000000}, {"srcaddr": "10.9.1.@", "dstaddr": "10.1.1.1", "bytes": 60000000}]),
    "database_port_from_outside": ([{"dstport": 5432}], [{"dstport": 5432, "srcaddr": "10.0.0.1"}, {"dstport": 5432, "action": "REJECT"}, {"dstport": 443}]),
    "mining_ports": ([OUT | {"dstport": 14444}], [OUT, {"dstport": 14444}, OUT | {"dstport": 14444, "dstaddr": "10.1.1.1"}]),
    "dns_tunnel": (
        [{"query_type": "TXT", "query_name": f"{n}.t.example.net."} for n in range(30)],
        [{"query_type": "TXT", "query_name": f"{n % 9}.t.example.net."} for n in range(40)] + [{"query_name": f"{n}.t.example.net."} for n in range(40)],
    ),
    "mining_pool_names": ([{"query_name": "xmr-eu1.nanopool.org."}, {"query_name": "pool.SUPPORTXMR.com."}], [{"query_name": "nanopool.org.example.com."}, {}]),
    "dns_firewall_blocked": ([{"firewall_rule_action": "BLOCK"}], [{"firewall_rule_action": "ALERT"}, {}]),
    "many_unknown_names": (
        [{"rcode": "NXDOMAIN", "query_name": f"a{n}.example.com."} for n in range(50)],
        [{"rcode": "NXDOMAIN", "query_name": f"a{n}.example.com."} for n in range(49)] + [{"rcode": "NXDOMAIN", "query_name": "1.0.0.10.in-addr.arpa."}],
    ),
    "guardduty_high": ([{"severity": 8}], [{"severity": 5}, {"severity": 8, "service.archived": True}]),
    "guardduty_stolen_credentials": (
        [{"type": "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS"}, {"type": "AttackSequence:S3/CompromisedData", "resource.resourceType": "AttackSequence"}],
        [{"type": "UnauthorizedAccess:IAMUser/ConsoleLoginSuccess.B"}],
    ),
    "waf_many_blocked": ([{"action": "BLOCK"}] * 50, [{"action": "BLOCK"}] * 49 + [{"action": "ALLOW"}]),
    "waf_attack_let_through": (
        [{"labels": [{"name": "awswaf:clientip:geo:country:NL"}, {"name": "awswaf:managed:aws:sql-database:SQLi_QueryArguments"}]}],
        [{"labels": [{"name": "awswaf:clientip:geo:country:NL"}]}, {"action": "BLOCK", "labels": [{"name": "awswaf:managed:aws:sql-database:SQLi_Body"}]}],
    ),
    "eks_anonymous_allowed": (
        [{"user.username": "system:anonymous"}],
        [{"user.username": "system:anonymous", "responseStatus.code": 403}, {"user.username": "system:anonymous", "requestURI": "/healthz"}],
    ),
    "eks_shell_in_a_pod": ([{"verb": "create", "objectRef.subresource": "exec"}], [{"verb": "create"}, {"verb": "get", "objectRef.subresource": "log"}]),
    "eks_secrets_listed": (
        [{"verb": "list", "objectRef.resource": "secrets", "objectRef.name": None}],
        [{"verb": "list", "objectRef.resource": "secrets", "user.username": "system:serviceaccount:kube-system:x"}, {"verb": "get", "objectRef.resource": "secrets"}],
    ),
    "eks_administrator_bound": (
        [{"verb": "create", "objectRef.resource": "clusterrolebindings", "requestObject": {"roleRef": {"name": "cluster-admin"}}}],
        [{"verb": "create", "objectRef.resource": "clusterrolebindings", "requestObject": {"roleRef": {"name": "view"}}}],
    ),
    "eks_pod_that_owns_its_host": (
        [POD, {"verb": "create", "requestObject": {"spec": {"hostPID": True}}}],
        [POD | {"requestObject.spec.containers": [{"name": "a"}]}, POD | {"user.username": "system:serviceaccount:kube-system:ds"}],
    ),
    "web_attack_answered": (
        [{"url": "https://shop.example.com:443/.env"}, {"user_agent": "sqlmap/1.7"}],
        [{"url": "https://shop.example.com:443/.env", "elb_status_code": 404}, {}],
    ),
    "web_paths_guessed": (
        [{"url": f"https://shop.example.com:443/{n}", "elb_status_code": 404} for n in range(50)],
        [{"url": f"https://shop.example.com:443/{n % 7}", "elb_status_code": 404} for n in range(60)],
    ),
    "s3_read_without_signing_in": ([{"requester": None}], [{}, {"requester": None, "http_status": 403}]),
    "s3_objects_deleted": (
        [{"operation": "REST.DELETE.OBJECT", "http_status": 204}] * 50,
        [{"operation": "REST.DELETE.OBJECT", "http_status": 204}] * 49 + [{}],
    ),
    "new_network_at_console_login": news(GOOD, HOME, AWAY, neighbour={"sourceIPAddress": "198.51.100.8"}, failed=BAD | {"sourceIPAddress": "192.0.2.1"}),
    "new_network_of_a_key": news(KEY, HOME, AWAY, service={"sourceIPAddress": "cloudformation.amazonaws.com"}),
    "new_network_at_sensitive_call": news(GRANTS, HOME, AWAY, other=call("iam", "ListUsers") | {"sourceIPAddress": "192.0.2.1"}),
    "new_network_of_a_role": news(
        GRANTS | ROLE, HOME, AWAY,
        person={"sourceIPAddress": "192.0.2.1", "userIdentity.arn": "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_admin_1/ada"},
    ),
    "new_region_of_a_user": news({}, {"awsRegion": "eu-west-1"}, {"awsRegion": "ap-east-1"}, everywhere=call("iam", "ListUsers") | {"awsRegion": "us-east-1"}, refused=FAILED | {"awsRegion": "af-south-1"}),
    "new_account_takes_a_role": news(TAKEN, {"userIdentity.accountId": "444455556666"}, {"userIdentity.accountId": "777788889999"}, refused=FAILED | {"userIdentity.accountId": "123412341234"}),
    "new_service_of_a_key": news(KEY, call("s3", "GetObject"), call("iam", "ListUsers"), session={"userIdentity.accessKeyId": "ASIA@", "eventSource": "sqs.amazonaws.com"}),
    "new_country_in_guardduty": news(ABROAD, country("Germany"), country("Atlantis")),
}  # fmt: skip
