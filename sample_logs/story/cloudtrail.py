"""The story as CloudTrail tells it: an organisation trail with management, data, Insights and network activity events.

Format: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference.html
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from story.cast import (
    ACCOUNTS,
    ALICE,
    AMERICA,
    BACKDOOR_KEY,
    BASTION,
    BASTION_GROUP,
    CI_DEPLOY,
    CONSOLE_KEY,
    DAYS,
    EUROPE,
    EXPORTS,
    INTRUDER,
    LATE_DELIVERY,
    LEGACY,
    LOG_BUCKET,
    MANAGEMENT,
    MONDAY,
    ORDERS_BUCKET,
    ORGANIZATION,
    PEOPLE,
    RELEASES,
    SANDBOX,
    SHOP,
    STEPS,
    STOLEN_OBJECTS,
    SVC_BACKUP,
    SVC_METRICS,
    THURSDAY,
    TOOLING,
    TRAIL,
    TUESDAY,
    WEB_1,
    WEDNESDAY,
    Account,
    Delivered,
    Dice,
    Person,
    User,
    fixed_uuid,
    hex_id,
    moment,
    unique_id,
)

Json = dict[str, Any]

READS = ("Get", "List", "Describe", "Head", "Lookup", "BatchGet", "Query", "Assume", "Decrypt")
GLOBAL_HOSTS = ("iam",)
IDENTITY_STORE = "d-99670a1b2c"
CLI = (
    "aws-cli/2.22.7 md/awscrt#0.23.4 ua/2.0 os/linux#6.6.15 md/arch#x86_64 lang/python#3.12.6"
    " md/prompt#off md/command#{command}"
)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:135.0) Gecko/20100101 Firefox/135.0"
INTRUDER_BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)
BOTO = "Boto3/1.36.3 md/Botocore#1.36.3 ua/2.0 os/linux#6.1.119 md/arch#aarch64 lang/python#3.12.8 md/pyimpl#CPython"
TERRAFORM = "APN/1.0 HashiCorp/1.0 Terraform/1.10.4 (+https://www.terraform.io) terraform-provider-aws/5.84.0"


@dataclass(frozen=True)
class Record:
    """One CloudTrail record on its way to the bucket; `delivered` is set where delivery is not the usual one."""

    account: Account
    region: str
    at: datetime
    body: Json
    folder: str = "CloudTrail"
    delivered: datetime | None = None


# --- who calls -------------------------------------------------------------------------------------------------------


def iam_user(user: User, key: str = "") -> Json:
    """Give the identity of an IAM user who signs with an access key."""
    return {
        "type": "IAMUser",
        "principalId": unique_id("AIDA", user.name),
        "arn": f"arn:aws:iam::{user.account.uid}:user/{user.name}",
        "accountId": user.account.uid,
        "accessKeyId": key or user.access_key,
        "userName": user.name,
    }


def assumed_role(
    account: Account, role: str, session: str, started: datetime, *, path: str = "", mfa: bool = False
) -> Json:
    """Give the identity of a role session."""
    principal = unique_id("AROA", f"{account.uid}/{role}")
    return {
        "type": "AssumedRole",
        "principalId": f"{principal}:{session}",
        "arn": f"arn:aws:sts::{account.uid}:assumed-role/{role}/{session}",
        "accountId": account.uid,
        "accessKeyId": session_key(account, role, session, started),
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": principal,
                "arn": f"arn:aws:iam::{account.uid}:role/{path}{role}",
                "accountId": account.uid,
                "userName": role,
            },
            "attributes": {"creationDate": stamp(started), "mfaAuthenticated": str(mfa).lower()},
        },
    }


def session_key(account: Account, role: str, session: str, started: datetime) -> str:
    """Give the temporary access key id of a role session."""
    return "ASIAEXAMPLE" + unique_id("", f"{account.uid}/{role}/{session}/{stamp(started)}")[-9:]


def aws_service(name: str) -> Json:
    """Give the identity of an AWS service that calls on its own behalf."""
    return {"type": "AWSService", "invokedBy": f"{name}.amazonaws.com"}


def workforce_role(person: Person) -> str:
    """Give the role that IAM Identity Center makes for a permission set."""
    return f"AWSReservedSSO_{person.role}_{hashlib.sha256(person.role.encode()).hexdigest()[:16]}"


def workforce(person: Person, account: Account, started: datetime) -> Json:
    """Give the identity of an employee inside an account."""
    path = f"aws-reserved/sso.amazonaws.com/{EUROPE}/"
    return assumed_role(account, workforce_role(person), person.name, started, path=path)


# --- one record ------------------------------------------------------------------------------------------------------


def stamp(at: datetime) -> str:
    """Write a time as CloudTrail does."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def long_stamp(at: datetime) -> str:
    """Write a time as API responses do, for example `Mar 18, 2026, 2:19:12 AM`."""
    return f"{at.strftime('%b')} {at.day}, {at.year}, {at.hour % 12 or 12}:{at.strftime('%M:%S %p')}"


@dataclass(frozen=True)
class Scene:
    """A piece of the story: one caller, one place, one source of chance."""

    dice: Dice
    account: Account
    region: str
    who: Json
    source: str
    agent: str

    def call(
        self,
        at: datetime,
        operation: str,
        request: Json | None = None,
        response: Json | None = None,
        *,
        error: tuple[str, str] | None = None,
        resources: list[Json] | None = None,
        extra: Json | None = None,
        data: bool = False,
        console: bool = False,
        api_version: str = "",
        shared: bool = False,
        delivered: datetime | None = None,
    ) -> Record:
        """Record one API call; `operation` is written `service:Name`."""
        service, name = operation.split(":")
        body: Json = {
            "eventVersion": "1.11",
            "userIdentity": self.who,
            "eventTime": stamp(at),
            "eventSource": f"{service}.amazonaws.com",
            "eventName": name,
            "awsRegion": self.region,
            "sourceIPAddress": self.source,
            "userAgent": self.agent,
        }
        if error:
            body |= {"errorCode": error[0], "errorMessage": error[1]}
        body |= {"requestParameters": request, "responseElements": None if error else response}
        if extra:
            body["additionalEventData"] = extra
        body |= {"requestID": self.dice.uuid(), "eventID": self.dice.uuid(), "readOnly": name.startswith(READS)}
        if resources:
            body["resources"] = resources
        body["eventType"] = "AwsApiCall"
        if api_version:
            body["apiVersion"] = api_version
        body |= {"managementEvent": not data, "recipientAccountId": self.account.uid}
        if shared:
            body["sharedEventID"] = self.dice.uuid()
        body["eventCategory"] = "Data" if data else "Management"
        if ".amazonaws.com" not in self.source:
            body["tlsDetails"] = tls(service, self.region)
        if console:
            body["sessionCredentialFromConsole"] = "true"
        return Record(self.account, self.region, at, body, delivered=delivered)

    def event(self, at: datetime, service: str, name: str, event_type: str, **members: object) -> Record:
        """Record something that is not an API call: a sign-in, or what a service did."""
        body: Json = {
            "eventVersion": "1.11",
            "userIdentity": self.who,
            "eventTime": stamp(at),
            "eventSource": f"{service}.amazonaws.com",
            "eventName": name,
            "awsRegion": self.region,
            "sourceIPAddress": self.source,
            "userAgent": self.agent,
            "requestParameters": None,
            "responseElements": None,
        }
        body |= members
        body |= {
            "eventID": self.dice.uuid(),
            "readOnly": False,
            "eventType": event_type,
            "managementEvent": True,
            "recipientAccountId": self.account.uid,
            "eventCategory": "Management",
        }
        return Record(self.account, self.region, at, body)


def tls(service: str, region: str) -> Json:
    """Give the TLS details of a call from outside AWS."""
    host = f"{service}.amazonaws.com" if service in GLOBAL_HOSTS else f"{service}.{region}.amazonaws.com"
    return {"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256", "clientProvidedHostHeader": host}


def seconds(number: float) -> timedelta:
    """Give a duration in seconds."""
    return timedelta(seconds=number)


def denied(who: Json, action: str, resource: str = "*", reason: str = "") -> tuple[str, str]:
    """Give the error of a caller who lacks a permission."""
    reason = reason or f"because no identity-based policy allows the {action} action"
    text = f"User: {who['arn']} is not authorized to perform: {action} on resource: {resource} {reason}"
    return "AccessDenied", text


def in_turn(start: datetime, dice: Dice, low: int = 1, high: int = 9) -> Iterator[datetime]:
    """Give one time after another, some seconds apart."""
    while True:
        yield start
        start += seconds(dice.between(low, high))


def role_arn(account: Account, role: str) -> str:
    """Give the ARN of a role."""
    return f"arn:aws:iam::{account.uid}:role/{role}"


def role_resource(account: Account, role: str) -> list[Json]:
    """Give the `resources` of a call that names a role."""
    return [{"accountId": account.uid, "type": "AWS::IAM::Role", "ARN": role_arn(account, role)}]


def credentials(account: Account, role: str, session: str, at: datetime) -> Json:
    """Give the response of an AssumeRole call; session tokens are never written out."""
    principal = unique_id("AROA", f"{account.uid}/{role.rsplit('/', 1)[-1]}")
    short = role.rsplit("/", 1)[-1]
    return {
        "credentials": {
            "accessKeyId": session_key(account, short, session, at),
            "sessionToken": "EXAMPLETOKEN",
            "expiration": long_stamp(at + timedelta(hours=1)),
        },
        "assumedRoleUser": {
            "assumedRoleId": f"{principal}:{session}",
            "arn": f"arn:aws:sts::{account.uid}:assumed-role/{short}/{session}",
        },
    }


def service_assumes(
    dice: Dice, at: datetime, account: Account, region: str, service: str, role: str, session: str
) -> Record:
    """Record an AWS service taking a role, as it does for an instance profile or a service-linked role."""
    host = f"{service}.amazonaws.com"
    scene = Scene(dice, account, region, aws_service(service), host, host)
    request = {"roleArn": role_arn(account, role), "roleSessionName": session, "durationSeconds": 3600}
    response = credentials(account, role, session, at)
    return scene.call(at, "sts:AssumeRole", request, response, resources=role_resource(account, role), shared=True)


def s3_object(
    scene: Scene, at: datetime, name: str, bucket: str, key: str, size: int, delivered: datetime | None = None
) -> Record:
    """Record one S3 object operation, a data event."""
    reads = name == "GetObject"
    extra = {
        "SignatureVersion": "SigV4",
        "CipherSuite": "TLS_AES_128_GCM_SHA256",
        "bytesTransferredIn": 0 if reads else size,
        "AuthenticationMethod": "AuthHeader",
        "x-amz-id-2": scene.dice.text(24) + "=",
        "bytesTransferredOut": size if reads else 0,
    }
    resources = [
        {"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{bucket}/{key}"},
        {"accountId": scene.account.uid, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{bucket}"},
    ]
    request = {"bucketName": bucket, "Host": f"{bucket}.s3.{scene.region}.amazonaws.com", "key": key}
    response = None if reads else {"x-amz-server-side-encryption": "AES256"}
    return scene.call(
        at, f"s3:{name}", request, response, resources=resources, extra=extra, data=True, delivered=delivered
    )


# --- ordinary days ---------------------------------------------------------------------------------------------------


def service_checks(account: Account, day: date) -> Iterator[Record]:
    """Tell how AWS Config looks at an account, three times a day."""
    for clock in ("03:40:00", "11:40:00", "19:40:00"):
        dice = Dice("cloudtrail", "config", account.uid, day.isoformat(), clock)
        at = moment(day, clock) + seconds(dice.between(5, 50))
        role, path = "AWSServiceRoleForConfig", "aws-service-role/config.amazonaws.com/"
        yield service_assumes(dice, at, account, EUROPE, "config", path + role, "AWSConfig-Describe")
        who = assumed_role(account, role, "AWSConfig-Describe", at, path=path)
        who["invokedBy"] = "config.amazonaws.com"
        scene = Scene(dice, account, EUROPE, who, "config.amazonaws.com", "config.amazonaws.com")
        times = in_turn(at + seconds(2), dice, 1, 4)
        sweep = (
            "ec2:DescribeVpcs",
            "ec2:DescribeSecurityGroups",
            "rds:DescribeDBInstances",
            "lambda:ListFunctions20150331",
        )
        for operation in dice.shuffled(sweep)[:3]:
            yield scene.call(next(times), operation)


def trail_deliveries(day: date) -> Iterator[Record]:
    """Tell how CloudTrail makes sure that it may write to its bucket."""
    for clock in ("00:20:00", "06:20:00", "12:20:00", "18:20:00"):
        dice = Dice("cloudtrail", "trail", day.isoformat(), clock)
        scene = Scene(
            dice, MANAGEMENT, EUROPE, aws_service("cloudtrail"), "cloudtrail.amazonaws.com", "cloudtrail.amazonaws.com"
        )
        yield scene.call(
            moment(day, clock) + seconds(dice.between(1, 59)),
            "s3:GetBucketAcl",
            {"bucketName": LOG_BUCKET, "Host": f"{LOG_BUCKET}.s3.{EUROPE}.amazonaws.com", "acl": ""},
            resources=[{"accountId": MANAGEMENT.uid, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{LOG_BUCKET}"}],
            shared=True,
        )


def orders(day: date) -> Iterator[Record]:
    """Tell how the shop takes orders: DynamoDB, S3 and Lambda data events under instance and function roles."""
    for hour in (1, 5, 8, 10, 12, 15, 18, 21):
        dice = Dice("cloudtrail", "orders", day.isoformat(), str(hour))
        at = moment(day, f"{hour:02}:{dice.between(2, 12):02}:{dice.between(0, 59):02}")
        yield service_assumes(dice, at, SHOP, EUROPE, "ec2", "orders-api", WEB_1.instance_id)
        who = assumed_role(SHOP, "orders-api", WEB_1.instance_id, at)
        who["sessionContext"]["ec2RoleDelivery"] = "2.0"
        scene = Scene(dice, SHOP, EUROPE, who, WEB_1.address, BOTO)
        times = in_turn(at + seconds(3), dice, 2, 14)
        for _ in range(dice.between(2, 4)):
            yield dynamodb_item(scene, next(times), dice.pick(("GetItem", "PutItem", "UpdateItem")))
        for _ in range(dice.between(2, 4)):
            order = f"orders/{day:%Y/%m/%d}/{dice.hex(8)}.json"
            yield s3_object(
                scene, next(times), dice.pick(("GetObject", "PutObject")), ORDERS_BUCKET, order, dice.between(900, 9000)
            )
        yield confirmation(dice, next(times))


def dynamodb_item(scene: Scene, at: datetime, name: str) -> Record:
    """Record one DynamoDB item operation, a data event; CloudTrail hides the values."""
    table = f"arn:aws:dynamodb:{EUROPE}:{SHOP.uid}:table/orders"
    request: Json = {"tableName": "orders", "key": {"orderId": "HIDDEN_DUE_TO_SECURITY_REASONS"}}
    if name == "PutItem":
        request = {"tableName": "orders", "item": {"orderId": "HIDDEN_DUE_TO_SECURITY_REASONS"}}
    resources = [{"accountId": SHOP.uid, "type": "AWS::DynamoDB::Table", "ARN": table}]
    return scene.call(at, f"dynamodb:{name}", request, resources=resources, data=True, api_version="2012-08-10")


def confirmation(dice: Dice, at: datetime) -> Record:
    """Record EventBridge invoking the function that confirms orders, a data event."""
    function = f"arn:aws:lambda:{EUROPE}:{SHOP.uid}:function:order-confirmation"
    scene = Scene(dice, SHOP, EUROPE, aws_service("events"), "events.amazonaws.com", "events.amazonaws.com")
    request = {
        "functionName": function,
        "invocationType": "Event",
        "sourceArn": f"arn:aws:events:{EUROPE}:{SHOP.uid}:rule/new-order",
    }
    resources = [{"accountId": SHOP.uid, "type": "AWS::Lambda::Function", "ARN": function}]
    extra = {"functionVersion": f"{function}:$LATEST"}
    return scene.call(at, "lambda:Invoke", request, resources=resources, extra=extra, data=True, shared=True)


def releases(day: date) -> Iterator[Record]:
    """Tell how ci-deploy releases the shop, three times a day, from its own address."""
    for clock in ("08:30:00", "13:15:00", "16:40:00"):
        dice = Dice("cloudtrail", "release", day.isoformat(), clock)
        times = in_turn(moment(day, clock) + seconds(dice.between(0, 50)), dice)
        version = f"{day:%Y%m%d}.{clock[:2]}"
        user = iam_user(CI_DEPLOY)
        hello = Scene(dice, SHOP, AMERICA, user, CI_DEPLOY.address, CLI.format(command="sts.get-caller-identity"))
        yield hello.call(next(times), "sts:GetCallerIdentity")
        scene = Scene(dice, SHOP, EUROPE, user, CI_DEPLOY.address, BOTO)
        yield s3_object(
            scene, next(times), "PutObject", RELEASES, f"shop/{version}/app.zip", dice.between(8_000_000, 9_000_000)
        )
        yield s3_object(
            scene, next(times), "PutObject", RELEASES, f"shop/{version}/manifest.json", dice.between(2000, 3000)
        )
        yield scene.call(next(times), "ecr:GetAuthorizationToken")
        yield scene.call(next(times), "cloudformation:DescribeStacks", {"stackName": "shop"})
        change = {"stackName": "shop", "changeSetName": f"release-{version.replace('.', '-')}"}
        stack = {"id": f"arn:aws:cloudformation:{EUROPE}:{SHOP.uid}:changeSet/{change['changeSetName']}/{dice.uuid()}"}
        yield scene.call(next(times), "cloudformation:CreateChangeSet", change, stack)
        yield scene.call(next(times), "cloudformation:DescribeChangeSet", change)
        yield scene.call(next(times), "cloudformation:ExecuteChangeSet", change)
        for function in ("order-confirmation", "price-update"):
            yield update_function(scene, next(times), function, version)
        yield scene.call(next(times), "lambda:GetFunction20150331v2", {"functionName": "order-confirmation"})
        group = {"autoScalingGroupName": "web", "desiredCapacity": 2}
        yield scene.call(next(times), "autoscaling:SetDesiredCapacity", group)
        if clock == "13:15:00":
            flags = f"arn:aws:ssm:{EUROPE}:{SHOP.uid}:parameter/shop/feature-flags"
            error = denied(user, "ssm:GetParameter", flags)
            yield scene.call(next(times), "ssm:GetParameter", {"name": "/shop/feature-flags"}, error=error)
        yield scene.call(next(times), "cloudformation:DescribeStacks", {"stackName": "shop"})


def update_function(scene: Scene, at: datetime, function: str, version: str) -> Record:
    """Record a new version of a function."""
    request = {
        "functionName": function,
        "s3Bucket": RELEASES,
        "s3Key": f"shop/{version}/app.zip",
        "publish": True,
        "dryRun": False,
    }
    response = {
        "functionName": function,
        "functionArn": f"arn:aws:lambda:{EUROPE}:{SHOP.uid}:function:{function}",
        "runtime": "python3.12",
        "codeSize": scene.dice.between(8_000_000, 9_000_000),
        "timeout": 30,
        "memorySize": 256,
        "version": str(scene.dice.between(100, 200)),
        "state": "Active",
    }
    return scene.call(at, "lambda:UpdateFunctionCode20150331v2", request, response)


def plans(day: date) -> Iterator[Record]:
    """Tell how Terraform plans read the tooling account, twice a day, after a web identity sign-in."""
    for clock in ("07:05:00", "14:45:00"):
        dice = Dice("cloudtrail", "plan", day.isoformat(), clock)
        at = moment(day, clock) + seconds(dice.between(0, 40))
        yield web_identity(dice, at)
        who = assumed_role(TOOLING, "terraform-plan", "plan", at)
        who["sessionContext"]["webIdFederationData"] = {
            "federatedProvider": f"arn:aws:iam::{TOOLING.uid}:oidc-provider/token.ci.example.com",
            "attributes": {},
        }
        scene = Scene(dice, TOOLING, AMERICA, who, "192.0.2.65", TERRAFORM)
        times = in_turn(at + seconds(2), dice, 1, 5)
        for operation, request in terraform_reads():
            yield scene.call(next(times), operation, request)
        _, text = denied(who, "organizations:ListAccounts")
        yield scene.call(next(times), "organizations:ListAccounts", error=("AccessDeniedException", text))


def web_identity(dice: Dice, at: datetime) -> Record:
    """Record the OIDC sign-in of the plan job."""
    subject = "repo:harbour-books/infrastructure:ref:refs/heads/main"
    who = {
        "type": "WebIdentityUser",
        "principalId": f"arn:aws:iam::{TOOLING.uid}:oidc-provider/token.ci.example.com:sts.amazonaws.com:{subject}",
        "userName": subject,
        "identityProvider": f"arn:aws:iam::{TOOLING.uid}:oidc-provider/token.ci.example.com",
    }
    scene = Scene(dice, TOOLING, AMERICA, who, "192.0.2.65", TERRAFORM)
    request = {"roleArn": role_arn(TOOLING, "terraform-plan"), "roleSessionName": "plan", "durationSeconds": 3600}
    response = {
        "subjectFromWebIdentityToken": subject,
        **credentials(TOOLING, "terraform-plan", "plan", at),
        "provider": who["identityProvider"],
        "audience": "sts.amazonaws.com",
    }
    resources = role_resource(TOOLING, "terraform-plan")
    return scene.call(at, "sts:AssumeRoleWithWebIdentity", request, response, resources=resources)


def terraform_reads() -> list[tuple[str, Json | None]]:
    """Give what a plan reads."""
    return [
        ("sts:GetCallerIdentity", None),
        ("ec2:DescribeVpcs", {"vpcSet": {}, "filterSet": {}}),
        ("ec2:DescribeSubnets", {"subnetSet": {}, "filterSet": {}}),
        ("ec2:DescribeSecurityGroups", {"securityGroupSet": {}, "filterSet": {}}),
        ("ec2:DescribeInstances", {"instancesSet": {}, "filterSet": {}}),
        ("ec2:DescribeRouteTables", {"routeTableIdSet": {}, "filterSet": {}}),
        ("ec2:DescribeFlowLogs", {"DescribeFlowLogsRequest": {"MaxResults": 100}}),
        ("iam:GetRole", {"roleName": "terraform-plan"}),
        ("iam:ListAttachedRolePolicies", {"roleName": "terraform-plan"}),
        ("s3:GetBucketTagging", {"bucketName": "harbour-build-cache"}),
        ("s3:GetBucketPolicy", {"bucketName": "harbour-build-cache", "policy": ""}),
        ("logs:DescribeLogGroups", {"logGroupNamePrefix": "/build/"}),
        ("kms:ListAliases", None),
        ("route53:ListHostedZones", None),
    ]


def workday(person: Person, day: date) -> Iterator[Record]:
    """Tell how an employee signs in through IAM Identity Center and looks around in the console."""
    dice = Dice("cloudtrail", "workday", person.name, day.isoformat())
    at = moment(day, f"{dice.between(7, 8):02}:{dice.between(0, 29):02}:{dice.between(0, 59):02}")
    times = in_turn(at, dice, 2, 20)
    yield from identity_center(person, dice, times)
    account = MANAGEMENT if person.role == "Billing" else SHOP
    started = next(times)
    yield saml_role(person, account, dice, started)
    who = workforce(person, account, started)
    door = Scene(dice, account, AMERICA, who, person.address, BROWSER)
    yield door.event(
        next(times),
        "signin",
        "ConsoleLogin",
        "AwsConsoleSignIn",
        responseElements={"ConsoleLogin": "Success"},
        additionalEventData={"MobileVersion": "No", "MFAUsed": "No", "SamlProviderArn": saml_provider(account)},
    )
    scene = Scene(dice, account, EUROPE, who, person.address, BROWSER)
    for operation in dice.shuffled(console_reads(person))[: dice.between(3, 5)]:
        yield scene.call(next(times), operation, console=True)


def identity_center(person: Person, dice: Dice, times: Iterator[datetime]) -> Iterator[Record]:
    """Tell the three steps of an Identity Center sign-in; they are recorded in the management account."""
    user_id = fixed_uuid(person.name)
    who = {
        "type": "IdentityCenterUser",
        "accountId": MANAGEMENT.uid,
        "onBehalfOf": {
            "userId": user_id,
            "identityStoreArn": f"arn:aws:identitystore::{MANAGEMENT.uid}:identitystore/{IDENTITY_STORE}",
        },
        "credentialId": dice.uuid(),
    }
    scene = Scene(dice, MANAGEMENT, EUROPE, who, person.address, BROWSER)
    workflow = dice.uuid()
    steps = (
        ("CredentialChallenge", "CredentialChallenge", "PASSWORD"),
        ("CredentialVerification", "CredentialVerification", "PASSWORD"),
        ("CredentialVerification", "CredentialVerification", "TOTP"),
        ("UserAuthentication", "UserAuthentication", "PASSWORD,TOTP"),
    )
    for name, outcome, credential in steps:
        extra = {"AuthWorkflowID": workflow, "UserName": person.name, "CredentialType": credential}
        if name == "UserAuthentication":
            extra["LoginTo"] = "https://harbour-books.awsapps.com/start/"
        yield scene.event(
            next(times),
            "signin",
            name,
            "AwsServiceEvent",
            additionalEventData=extra,
            requestID=dice.uuid(),
            serviceEventDetails={outcome: "Success"},
        )


def saml_provider(account: Account) -> str:
    """Give the SAML provider that Identity Center keeps in an account."""
    return f"arn:aws:iam::{account.uid}:saml-provider/AWSSSO_0123456789abcdef_DO_NOT_DELETE"


def saml_role(person: Person, account: Account, dice: Dice, at: datetime) -> Record:
    """Record Identity Center taking the employee's role."""
    who = {
        "type": "SAMLUser",
        "principalId": f"{dice.text(27)}=:{person.name}",
        "userName": person.name,
        "identityProvider": f"{dice.text(27)}=",
    }
    path = f"aws-reserved/sso.amazonaws.com/{EUROPE}/{workforce_role(person)}"
    request = {
        "sAMLAssertionID": f"_{dice.uuid()}",
        "roleSessionName": person.name,
        "durationSeconds": 3600,
        "roleArn": role_arn(account, path),
        "principalArn": saml_provider(account),
    }
    response = {
        **credentials(account, path, person.name, at),
        "issuer": "https://portal.sso.example.com/saml/assertion",
        "subject": person.name,
        "subjectType": "persistent",
        "audience": "https://signin.aws.amazon.com/saml",
    }
    scene = Scene(dice, account, AMERICA, who, person.address, "aws-internal/3")
    resources = [
        *role_resource(account, path),
        {"accountId": account.uid, "type": "AWS::IAM::SAMLProvider", "ARN": saml_provider(account)},
    ]
    return scene.call(at, "sts:AssumeRoleWithSAML", request, response, resources=resources)


def console_reads(person: Person) -> tuple[str, ...]:
    """Give what an employee's console pages read."""
    if person.role == "Billing":
        return (
            "ce:GetCostAndUsage",
            "ce:GetCostForecast",
            "budgets:DescribeBudgets",
            "organizations:DescribeOrganization",
            "ce:GetDimensionValues",
        )
    return (
        "ec2:DescribeInstances",
        "ec2:DescribeSecurityGroups",
        "cloudwatch:DescribeAlarms",
        "cloudformation:ListStacks",
        "rds:DescribeDBInstances",
        "logs:DescribeLogGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    )


def experiments(day: date) -> Iterator[Record]:
    """Tell what Bruno tries in the sandbox, with the errors that trying brings."""
    dice = Dice("cloudtrail", "sandbox", day.isoformat())
    at = moment(day, f"10:{dice.between(2, 40):02}:07")
    who = workforce(PEOPLE[1], SANDBOX, at)
    scene = Scene(dice, SANDBOX, AMERICA, who, PEOPLE[1].address, CLI.format(command="ec2.run-instances"))
    times = in_turn(at, dice, 3, 25)
    request = {
        "instancesSet": {"items": [{"imageId": "ami-0example000000001", "minCount": 1, "maxCount": 1}]},
        "instanceType": "t4g.small",
        "blockDeviceMapping": {},
        "monitoring": {"enabled": False},
    }
    yield scene.call(
        next(times),
        "ec2:RunInstances",
        request,
        error=("Client.DryRunOperation", "Request would have succeeded, but DryRun flag is set."),
    )
    instance = hex_id("i", f"sandbox-{day}")
    item = {"instanceId": instance, "imageId": "ami-0example000000001", "instanceState": {"code": 0, "name": "pending"}}
    yield scene.call(next(times), "ec2:RunInstances", request, {"instancesSet": {"items": [item]}})
    tags = {
        "resourcesSet": {"items": [{"resourceId": instance}]},
        "tagSet": {"items": [{"key": "owner", "value": "bruno.costa"}]},
    }
    yield scene.call(next(times), "ec2:CreateTags", tags, {"requestId": dice.uuid(), "_return": True})
    for _ in range(3):
        yield scene.call(
            next(times),
            "ec2:DescribeInstances",
            {"instancesSet": {"items": [{"instanceId": instance}]}, "filterSet": {}},
        )
    bucket = {"bucketName": "harbour-sandbox-trial", "Host": f"s3.{AMERICA}.amazonaws.com"}
    yield scene.call(next(times), "s3:GetBucketTagging", bucket, error=("NoSuchTagSet", "The TagSet does not exist"))
    yield scene.call(next(times), "ec2:TerminateInstances", {"instancesSet": {"items": [{"instanceId": instance}]}})


def nightly_export(night: date) -> Iterator[Record]:
    """Tell how customers are exported around midnight; CloudTrail delivers both days in one file."""
    dice = Dice("cloudtrail", "export", night.isoformat())
    at = moment(night, "23:57:41")
    scene = Scene(dice, SHOP, EUROPE, assumed_role(SHOP, "customer-export", "nightly", at), "10.20.11.20", BOTO)
    times = in_turn(at, dice, 60, 80)
    both_days = moment(night, "00:05:00") + timedelta(days=1)
    for part in range(1, 5):
        key = f"exports/{night:%Y/%m/%d}/part-{part:04}.csv.gz"
        yield s3_object(
            scene, next(times), "PutObject", EXPORTS, key, dice.between(4_000_000, 6_000_000), delivered=both_days
        )


# --- ordinary days, once ---------------------------------------------------------------------------------------------


def root_reads_the_invoice() -> Iterator[Record]:
    """Tell the one use of the root user, with MFA, from the office."""
    dice = Dice("cloudtrail", "root")
    root = {
        "type": "Root",
        "principalId": MANAGEMENT.uid,
        "arn": f"arn:aws:iam::{MANAGEMENT.uid}:root",
        "accountId": MANAGEMENT.uid,
        "accessKeyId": "",
    }
    scene = Scene(dice, MANAGEMENT, AMERICA, root, ALICE.address, BROWSER)
    extra = {"LoginTo": "https://console.aws.amazon.com/billing/home", "MobileVersion": "No", "MFAUsed": "Yes"}
    response = {"ConsoleLogin": "Success"}
    yield scene.event(
        moment(MONDAY, "09:02:17"),
        "signin",
        "ConsoleLogin",
        "AwsConsoleSignIn",
        responseElements=response,
        additionalEventData=extra,
    )
    yield scene.call(moment(MONDAY, "09:02:51"), "account:GetContactInformation", console=True)


def forgotten_password(day: date) -> Iterator[Record]:
    """Tell how the old sandbox user types the wrong password twice, then the right one."""
    dice = Dice("cloudtrail", "legacy", day.isoformat())
    known = iam_user(LEGACY) | {"accessKeyId": ""}
    unproven = {member: value for member, value in known.items() if member != "arn"}
    times = in_turn(moment(day, "09:44:03"), dice, 11, 30)
    for outcome in ("Failure", "Failure", "Success"):
        who = known if outcome == "Success" else unproven
        scene = Scene(dice, SANDBOX, AMERICA, who, LEGACY.address, BROWSER)
        members: Json = {"errorMessage": "Failed authentication"} if outcome == "Failure" else {}
        members["responseElements"] = {"ConsoleLogin": outcome}
        members["additionalEventData"] = {
            "LoginTo": "https://console.aws.amazon.com/console/home",
            "MobileVersion": "No",
            "MFAUsed": "Yes",
        }
        yield scene.event(next(times), "signin", "ConsoleLogin", "AwsConsoleSignIn", **members)


def key_rotation() -> Iterator[Record]:
    """Tell how Alice rotates a key on Tuesday: the harmless twin of the intruder's CreateAccessKey."""
    dice = Dice("cloudtrail", "rotation")
    times = in_turn(moment(TUESDAY, "10:05:22"), dice, 10, 40)
    scene = Scene(dice, SHOP, AMERICA, workforce(ALICE, SHOP, moment(TUESDAY, "10:01:02")), ALICE.address, BROWSER)
    user = {"userName": SVC_METRICS.name}
    yield scene.call(next(times), "iam:ListAccessKeys", user, console=True)
    at = next(times)
    yield scene.call(
        at, "iam:CreateAccessKey", user, new_access_key(SVC_METRICS, "AKIAEXAMPLEMETRICS02", at), console=True
    )
    old = user | {"accessKeyId": SVC_METRICS.access_key}
    yield scene.call(next(times), "iam:UpdateAccessKey", old | {"status": "Inactive"}, console=True)
    yield scene.call(next(times), "iam:DeleteAccessKey", old, console=True)


def new_access_key(user: User, key: str, at: datetime) -> Json:
    """Give the response of CreateAccessKey; the secret is never recorded."""
    return {"accessKey": {"accessKeyId": key, "status": "Active", "userName": user.name, "createDate": long_stamp(at)}}


def new_colleague() -> Iterator[Record]:
    """Tell what Alice sets up on Tuesday: a role, a group member, and a workforce user in the directory."""
    dice = Dice("cloudtrail", "colleague")
    times = in_turn(moment(TUESDAY, "11:20:10"), dice, 5, 30)
    who = workforce(ALICE, SHOP, moment(TUESDAY, "11:18:44"))
    scene = Scene(dice, SHOP, AMERICA, who, ALICE.address, TERRAFORM)
    role: Json = {"roleName": "report-reader"}
    at = next(times)
    made = {
        "role": {
            "roleName": "report-reader",
            "arn": role_arn(SHOP, "report-reader"),
            "path": "/",
            "createDate": long_stamp(at),
        }
    }
    yield scene.call(at, "iam:CreateRole", role | {"assumeRolePolicyDocument": "{}"}, made)
    yield scene.call(
        next(times), "iam:AttachRolePolicy", role | {"policyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}
    )
    yield scene.call(next(times), "iam:TagRole", role | {"tags": [{"key": "team", "value": "finance"}]})
    yield scene.call(next(times), "iam:PutRolePolicy", role | {"policyName": "reports", "policyDocument": "{}"})
    yield scene.call(next(times), "iam:AddUserToGroup", {"groupName": "dashboards", "userName": SVC_METRICS.name})
    home = Scene(
        dice, MANAGEMENT, EUROPE, workforce(ALICE, MANAGEMENT, moment(TUESDAY, "11:30:00")), ALICE.address, BROWSER
    )
    user = {"userName": "HIDDEN_DUE_TO_SECURITY_REASONS", "identityStoreId": IDENTITY_STORE}
    yield home.call(
        moment(TUESDAY, "11:31:48"),
        "sso-directory:CreateUser",
        user,
        {"userId": fixed_uuid("new colleague")},
        console=True,
    )


def services_at_work() -> Iterator[Record]:
    """Tell what AWS does by itself: a key rotates each morning, a spot instance is taken back on Thursday."""
    for day in DAYS:
        dice = Dice("cloudtrail", "kms", day.isoformat())
        key = fixed_uuid(f"key {day}")
        arn = f"arn:aws:kms:{EUROPE}:{SHOP.uid}:key/{key}"
        who = {"accountId": SHOP.uid, "invokedBy": "AWS Internal"}
        scene = Scene(dice, SHOP, EUROPE, who, "AWS Internal", "AWS Internal")
        yield scene.event(
            moment(day, "04:04:30"),
            "kms",
            "RotateKey",
            "AwsServiceEvent",
            resources=[{"accountId": SHOP.uid, "type": "AWS::KMS::Key", "ARN": arn}],
            serviceEventDetails={"keyId": key},
        )
    host = "ec2.amazonaws.com"
    scene = Scene(
        Dice("cloudtrail", "spot"), TOOLING, AMERICA, {"accountId": TOOLING.uid, "invokedBy": host}, host, host
    )
    details = {"instanceIdSet": [hex_id("i", "runner-spot")]}
    yield scene.event(
        moment(THURSDAY, "14:52:09"), "ec2", "BidEvictedEvent", "AwsServiceEvent", serviceEventDetails=details
    )


# --- the intrusion ---------------------------------------------------------------------------------------------------


def leaked_key() -> Iterator[Record]:
    """Tell how the intruder tries the key of ci-deploy, and makes a way back in through svc-backup."""
    dice = Dice("cloudtrail", "leaked key")
    user = iam_user(CI_DEPLOY)

    def cli(command: str, region: str = AMERICA) -> Scene:
        return Scene(dice, SHOP, region, user, INTRUDER, CLI.format(command=command))

    yield cli("sts.get-caller-identity").call(STEPS["whoami"].at, "sts:GetCallerIdentity")
    yield cli("s3.ls").call(STEPS["buckets"].at, "s3:ListBuckets", {"Host": f"s3.{AMERICA}.amazonaws.com"})
    yield cli("iam.get-account-authorization-details").call(
        STEPS["denied_details"].at,
        "iam:GetAccountAuthorizationDetails",
        error=denied(user, "iam:GetAccountAuthorizationDetails"),
    )
    yield cli("secretsmanager.list-secrets", EUROPE).call(
        STEPS["denied_secrets"].at, "secretsmanager:ListSecrets", error=denied(user, "secretsmanager:ListSecrets")
    )
    yield cli("ec2.describe-instances", EUROPE).call(
        STEPS["denied_instances"].at,
        "ec2:DescribeInstances",
        {"maxResults": 1000, "instancesSet": {}, "filterSet": {}},
        error=("Client.UnauthorizedOperation", "You are not authorized to perform this operation."),
    )
    yield cli("iam.create-user").call(
        STEPS["denied_user"].at,
        "iam:CreateUser",
        error=denied(user, "iam:CreateUser", f"arn:aws:iam::{SHOP.uid}:user/support-sync"),
    )
    yield cli("iam.list-users").call(STEPS["users"].at, "iam:ListUsers")
    target = {"userName": SVC_BACKUP.name}
    at = STEPS["access_key"].at
    yield cli("iam.create-access-key").call(
        at, "iam:CreateAccessKey", target, new_access_key(SVC_BACKUP, BACKDOOR_KEY, at)
    )
    at = STEPS["login_profile"].at
    profile = {"loginProfile": target | {"createDate": long_stamp(at), "passwordResetRequired": False}}
    request = target | {"passwordResetRequired": False}
    yield cli("iam.create-login-profile").call(at, "iam:CreateLoginProfile", request, profile, delivered=LATE_DELIVERY)


def console_session() -> Iterator[Record]:
    """Tell what the intruder does in the console as svc-backup, up to closing the door behind."""
    dice = Dice("cloudtrail", "intruder console")
    who = iam_user(SVC_BACKUP)
    door = Scene(dice, SHOP, AMERICA, who | {"accessKeyId": ""}, INTRUDER, INTRUDER_BROWSER)
    extra = {"LoginTo": "https://console.aws.amazon.com/console/home", "MobileVersion": "No", "MFAUsed": "No"}
    response = {"ConsoleLogin": "Success"}
    yield door.event(
        STEPS["sign_in"].at,
        "signin",
        "ConsoleLogin",
        "AwsConsoleSignIn",
        responseElements=response,
        additionalEventData=extra,
    )
    attributes = {"creationDate": stamp(STEPS["sign_in"].at), "mfaAuthenticated": "false"}
    session = who | {"accessKeyId": CONSOLE_KEY, "sessionContext": {"attributes": attributes}}
    scene = Scene(dice, SHOP, EUROPE, session, INTRUDER, INTRUDER_BROWSER)
    trail = f"arn:aws:cloudtrail:{EUROPE}:{MANAGEMENT.uid}:trail/{TRAIL}"
    error = denied(who, "cloudtrail:StopLogging", trail, "with an explicit deny in a service control policy")
    yield scene.call(STEPS["stop_logging"].at, "cloudtrail:StopLogging", {"name": trail}, error=error, console=True)
    look = STEPS["look_around"].at
    yield scene.call(look, "ec2:DescribeInstances", {"instancesSet": {}, "filterSet": {}}, console=True)
    yield scene.call(
        look + seconds(4), "ec2:DescribeSecurityGroups", {"securityGroupSet": {}, "filterSet": {}}, console=True
    )
    rule = security_group_rule()
    opened = {"requestId": dice.uuid(), "_return": True, "securityGroupRuleSet": {"items": [opened_rule()]}}
    yield scene.call(STEPS["open_group"].at, "ec2:AuthorizeSecurityGroupIngress", rule, opened, console=True)
    closed = {"requestId": dice.uuid(), "_return": True}
    yield scene.call(STEPS["close_group"].at, "ec2:RevokeSecurityGroupIngress", rule, closed, console=True)


def security_group_rule() -> Json:
    """Give the request that opens, and later closes, port 22 of the bastion for the intruder."""
    permission = {
        "ipProtocol": "tcp",
        "fromPort": 22,
        "toPort": 22,
        "groups": {},
        "ipRanges": {"items": [{"cidrIp": f"{INTRUDER}/32", "description": "support"}]},
        "ipv6Ranges": {},
        "prefixListIds": {},
    }
    return {"groupId": BASTION_GROUP, "ipPermissions": {"items": [permission]}}


def opened_rule() -> Json:
    """Give the rule as the response describes it."""
    return {
        "groupOwnerId": SHOP.uid,
        "groupId": BASTION_GROUP,
        "securityGroupRuleId": hex_id("sgr", f"{BASTION.name}-{INTRUDER}"),
        "isEgress": False,
        "ipProtocol": "tcp",
        "fromPort": 22,
        "toPort": 22,
        "cidrIpv4": f"{INTRUDER}/32",
    }


def stolen_exports() -> Iterator[Record]:
    """Tell how the customer exports are copied out with the backdoor key."""
    dice = Dice("cloudtrail", "stolen exports")
    scene = Scene(dice, SHOP, EUROPE, iam_user(SVC_BACKUP, BACKDOOR_KEY), INTRUDER, CLI.format(command="s3.sync"))
    listing = {
        "list-type": "2",
        "bucketName": EXPORTS,
        "prefix": "exports/",
        "Host": f"{EXPORTS}.s3.{EUROPE}.amazonaws.com",
    }
    resources = [{"type": "AWS::S3::Object", "ARNPrefix": f"arn:aws:s3:::{EXPORTS}/exports/"}]
    yield scene.call(STEPS["list_objects"].at, "s3:ListObjects", listing, resources=resources, data=True)
    at = STEPS["first_object"].at
    for number in range(STOLEN_OBJECTS):
        day = moment(MONDAY, "00:00:00") - timedelta(days=1 + number // 4)
        key = f"exports/{day:%Y/%m/%d}/part-{number % 4 + 1:04}.csv.gz"
        yield s3_object(scene, at, "GetObject", EXPORTS, key, dice.between(4_000_000, 6_000_000))
        at += seconds(8)
    assert at - seconds(8) == STEPS["last_object"].at, at


# --- the folders beside CloudTrail -----------------------------------------------------------------------------------


def insights() -> Iterator[Record]:
    """Tell what CloudTrail Insights found: a burst of releases on Tuesday, a burst of errors on Wednesday."""
    releases = ("lambda", "UpdateFunctionCode20150331v2", "ApiCallRateInsight", None, CI_DEPLOY.name)
    errors = ("iam", "GetAccountAuthorizationDetails", "ApiErrorRateInsight", "AccessDenied", CI_DEPLOY.name)
    yield from insight("release", releases, EUROPE, moment(TUESDAY, "13:15:00"), 4)
    yield from insight("errors", errors, AMERICA, moment(WEDNESDAY, "02:12:00"), 3)


def insight(
    name: str, what: tuple[str, str, str, str | None, str], region: str, start: datetime, minutes: int
) -> Iterator[Record]:
    """Give the start and the end of one Insight."""
    dice = Dice("cloudtrail", "insight", name)
    shared = dice.uuid()
    service, operation, kind, error, user = what
    average = dice.between(2, 9) / 4
    caller = {
        "attribute": "userIdentityArn",
        "insight": [{"value": f"arn:aws:iam::{SHOP.uid}:user/{user}", "average": average}],
    }
    for state in ("Start", "End"):
        at = start if state == "Start" else start + timedelta(minutes=minutes)
        statistics: Json = {
            "baseline": {"average": 0.0001220703125},
            "insight": {"average": average},
            "insightDuration": 1,
        }
        statistics["baselineDuration"] = 10080
        if state == "End":
            statistics["insightDuration"] = minutes
        details: Json = {
            "state": state,
            "eventSource": f"{service}.amazonaws.com",
            "eventName": operation,
            "insightType": kind,
            "insightContext": {"statistics": statistics, "attributions": [caller | {"baseline": []}]},
        }
        if error:
            details["errorCode"] = error
        body: Json = {
            "eventVersion": "1.11",
            "eventTime": stamp(at),
            "awsRegion": region,
            "eventID": dice.uuid(),
            "eventType": "AwsCloudTrailInsight",
            "recipientAccountId": SHOP.uid,
            "sharedEventID": shared,
            "insightDetails": details,
            "eventCategory": "Insight",
        }
        yield Record(SHOP, region, at, body, folder="CloudTrail-Insight", delivered=at + timedelta(minutes=25))


def network_activity() -> Iterator[Record]:
    """Tell what passes the VPC endpoint of KMS; one call, by a stranger's credentials, is denied."""
    for day in (TUESDAY, WEDNESDAY):
        dice = Dice("cloudtrail", "endpoint", day.isoformat())
        times = in_turn(moment(day, "10:15:20"), dice, 5, 40)
        for name in ("Decrypt", "GenerateDataKey", "DescribeKey"):
            yield endpoint_event(
                dice, next(times), name, assumed_role(SHOP, "orders-api", WEB_1.instance_id, moment(day, "09:58:11"))
            )
        if day == WEDNESDAY:
            stranger = {"type": "AWSAccount", "principalId": unique_id("AIDA", "stranger"), "accountId": "999999999999"}
            yield endpoint_event(dice, next(times), "ListKeys", stranger, denied=True)


def endpoint_event(dice: Dice, at: datetime, name: str, who: Json, *, denied: bool = False) -> Record:
    """Record one network activity event; such records have no agent, no parameters and no readOnly."""
    body: Json = {
        "eventVersion": "1.11",
        "userIdentity": who,
        "eventTime": stamp(at),
        "eventSource": "kms.amazonaws.com",
        "eventName": name,
        "awsRegion": EUROPE,
        "sourceIPAddress": WEB_1.address,
    }
    if denied:
        body |= {"errorCode": "VpceAccessDenied", "errorMessage": "The request was denied due to a VPC endpoint policy"}
    body |= {
        "requestID": dice.uuid(),
        "eventID": dice.uuid(),
        "eventType": "AwsVpceEvent",
        "recipientAccountId": SHOP.uid,
        "sharedEventID": dice.uuid(),
        "vpcEndpointId": hex_id("vpce", "kms"),
        "vpcEndpointAccountId": SHOP.uid,
        "eventCategory": "NetworkActivity",
    }
    return Record(SHOP, EUROPE, at, body, folder="CloudTrail-NetworkActivity")


# --- delivery --------------------------------------------------------------------------------------------------------

ONCE: tuple[Callable[[], Iterator[Record]], ...] = (
    root_reads_the_invoice,
    key_rotation,
    new_colleague,
    services_at_work,
    leaked_key,
    console_session,
    stolen_exports,
    insights,
    network_activity,
)


def records() -> Iterator[Record]:
    """Tell the whole story, scene by scene."""
    for day in DAYS:
        for account in ACCOUNTS:
            yield from service_checks(account, day)
        for scene in (trail_deliveries, orders, releases, plans, experiments):
            yield from scene(day)
        for person in PEOPLE:
            yield from workday(person, day)
    for night in DAYS[:-1]:
        yield from nightly_export(night)
    for day in (MONDAY, THURSDAY):
        yield from forgotten_password(day)
    for chapter in ONCE:
        yield from chapter()


def delivery_time(record: Record) -> datetime:
    """Give the minute in the file name: the end of the five-minute slot, unless the record says otherwise."""
    if record.delivered:
        return record.delivered
    slot = record.at.replace(minute=record.at.minute // 5 * 5, second=0)
    return slot + timedelta(minutes=5)


def folder_key(account: Account, folder: str, region: str, day: datetime) -> str:
    """Give the day's folder of one account and region."""
    return f"AWSLogs/{ORGANIZATION}/{account.uid}/{folder}/{region}/{day:%Y/%m/%d}"


def deliver() -> list[Delivered]:
    """Give the objects that CloudTrail writes, digests included; inside a file the order is not that of time."""
    files: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for record in records():
        at = delivery_time(record)
        folder = folder_key(record.account, record.folder, record.region, at)
        name = f"{record.account.uid}_{record.folder}_{record.region}_{at:%Y%m%dT%H%MZ}"
        files[folder, name].append(record.body)
    objects = []
    for (folder, name), bodies in sorted(files.items()):
        dice = Dice("cloudtrail", "file", name)
        content = compact({"Records": dice.shuffled(bodies)})
        objects.append(Delivered(f"{folder}/{name}_{dice.text(16)}.json.gz", content))
    return objects + digests(objects)


def compact(value: Json) -> bytes:
    """Write JSON without spaces, as CloudTrail does."""
    return json.dumps(value, separators=(",", ":")).encode()


def digests(objects: list[Delivered]) -> list[Delivered]:
    """Give the hourly digests of the shop around the intrusion; their hashes are true, their signatures invented."""
    made: list[Delivered] = []
    for region in (EUROPE, AMERICA):
        previous = Delivered(digest_key(region, moment(WEDNESDAY, "01:08:15")), b"")
        for hour in (2, 3, 4, 5):
            end = moment(WEDNESDAY, f"{hour:02}:08:15")
            previous = digest(region, end, objects, previous)
            made.append(previous)
    return made


def digest_key(region: str, end: datetime) -> str:
    """Give the key of the digest that ends at a time."""
    folder = folder_key(SHOP, "CloudTrail-Digest", region, end)
    return f"{folder}/{SHOP.uid}_CloudTrail-Digest_{region}_{TRAIL}_{EUROPE}_{end:%Y%m%dT%H%M%SZ}.json.gz"


def digest(region: str, end: datetime, objects: list[Delivered], previous: Delivered) -> Delivered:
    """Give one digest: the files delivered in the hour before `end`, with the SHA-256 of their uncompressed content."""
    start = end - timedelta(hours=1)
    covered = [item for item in objects if is_covered(item.key, region, start, end)]
    times = sorted(record["eventTime"] for item in covered for record in json.loads(item.content)["Records"])
    key = digest_key(region, end)
    dice = Dice("cloudtrail", "digest", key)
    body = {
        "awsAccountId": SHOP.uid,
        "digestStartTime": stamp(start),
        "digestEndTime": stamp(end),
        "digestS3Bucket": LOG_BUCKET,
        "digestS3Object": key,
        "digestPublicKeyFingerprint": "0" * 24 + "5ea1edda",
        "digestSignatureAlgorithm": "SHA256withRSA",
        "newestEventTime": times[-1] if times else None,
        "oldestEventTime": times[0] if times else None,
        "previousDigestS3Bucket": LOG_BUCKET,
        "previousDigestS3Object": previous.key,
        "previousDigestHashValue": hashlib.sha256(previous.content).hexdigest(),
        "previousDigestHashAlgorithm": "SHA-256",
        "previousDigestSignature": dice.hex(64),
        "logFiles": [covered_file(item) for item in covered],
    }
    return Delivered(key, compact(body))


def is_covered(key: str, region: str, start: datetime, end: datetime) -> bool:
    """Say whether a log file of the shop was delivered in a digest's hour."""
    name = key.rsplit("/", 1)[1]
    if not name.startswith(f"{SHOP.uid}_CloudTrail_{region}_"):
        return False
    return f"{start:%Y%m%dT%H%MZ}" < name.split("_")[3] <= f"{end:%Y%m%dT%H%MZ}"


def covered_file(item: Delivered) -> Json:
    """Give a digest's line on one log file."""
    times = sorted(record["eventTime"] for record in json.loads(item.content)["Records"])
    return {
        "s3Bucket": LOG_BUCKET,
        "s3Object": item.key,
        "hashValue": hashlib.sha256(item.content).hexdigest(),
        "hashAlgorithm": "SHA-256",
        "newestEventTime": times[-1],
        "oldestEventTime": times[0],
    }
