"""What GuardDuty found: the intrusion, and scanners that knock at the web hosts.

Findings are told again as they grow, at most every 15 minutes; each telling is a line of an object of its own minute.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from story.cast import (
    AMERICA,
    BACKDOOR_KEY,
    BASTION,
    CI_DEPLOY,
    CONSOLE_KEY,
    DAYS,
    EUROPE,
    EXPORTS,
    INTRUDER,
    SCANNERS,
    SHOP,
    STEPS,
    STOLEN_OBJECTS,
    SVC_BACKUP,
    WEB_1,
    Delivered,
    Dice,
    Host,
    User,
    fixed_uuid,
    hex_id,
    moment,
    unique_id,
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One telling of a finding. `first` and `last` bound the activity, `created` and `updated` the finding."""

    type: str
    title: str
    severity: float
    region: str
    resource: Json
    service: Json
    first: datetime
    last: datetime
    created: datetime
    updated: datetime
    count: int = 1

    @property
    def uid(self) -> str:
        """The id that all tellings share."""
        return Dice("guardduty", self.type, self.region, self.created.isoformat()).hex(32)

    def told(self) -> Json:
        """Give the finding as the export writes it."""
        detector = fixed_uuid(f"detector/{SHOP.uid}/{self.region}").replace("-", "")
        return {
            "schemaVersion": "2.0",
            "accountId": SHOP.uid,
            "region": self.region,
            "partition": "aws",
            "id": self.uid,
            "arn": f"arn:aws:guardduty:{self.region}:{SHOP.uid}:detector/{detector}/finding/{self.uid}",
            "type": self.type,
            "resource": self.resource,
            "service": {
                "serviceName": "guardduty",
                "detectorId": detector,
                "evidence": None,
                "additionalInfo": {"value": "{}", "type": "default"},
                **self.service,
                "eventFirstSeen": zulu(self.first),
                "eventLastSeen": zulu(self.last),
                "archived": False,
                "count": self.count,
            },
            "severity": self.severity,
            "createdAt": zulu(self.created),
            "updatedAt": zulu(self.updated),
            "title": self.title,
            "description": self.title,
        }


def zulu(at: datetime) -> str:
    """Give a time as GuardDuty writes it."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def remote(address: str) -> Json:
    """Tell what GuardDuty knows of an address."""
    return {
        "ipAddressV4": address,
        "organization": {
            "asn": "64511",
            "asnOrg": "Example Hosting",
            "isp": "Example Hosting",
            "org": "Example Hosting",
        },
        "country": {"countryName": "Exampleland"},
        "city": {"cityName": "Example Port"},
        "geoLocation": {"lat": 0.0, "lon": 0.0},
    }


def access_key(user: User, key: str) -> Json:
    """Describe who called."""
    principal = unique_id("AIDA", user.name)
    return {"accessKeyId": key, "principalId": principal, "userType": "IAMUser", "userName": user.name}


def instance(host: Host) -> Json:
    """Describe a host."""
    interface = {
        "ipv6Addresses": [host.address6] if host.address6 else [],
        "networkInterfaceId": host.interface,
        "privateIpAddress": host.address,
        "subnetId": host.subnet,
        "vpcId": host.network.vpc,
        "securityGroups": [{"groupName": host.name, "groupId": hex_id("sg", host.name)}],
    }
    return {
        "instanceId": host.instance_id,
        "instanceType": "t3.medium",
        "launchTime": "2026-01-12T08:00:00.000Z",
        "networkInterfaces": [interface],
        "tags": [{"key": "Name", "value": host.name}],
        "instanceState": "running",
        "availabilityZone": f"{host.network.region}{'abc'[host.zone - 1]}",
    }


def call(name: str, service: str, resources: Json | None = None, error: str | None = None) -> Json:
    """Describe an API call of the intruder."""
    details = {
        "api": name,
        "serviceName": service,
        "callerType": "Remote IP",
        "remoteIpDetails": remote(INTRUDER),
        "affectedResources": resources or {},
    }
    if error:
        details["errorCode"] = error
    return {"action": {"actionType": "AWS_API_CALL", "awsApiCallAction": details}, "resourceRole": "TARGET"}


def bucket() -> Json:
    """Describe the bucket of the customer exports."""
    return {
        "arn": f"arn:aws:s3:::{EXPORTS}",
        "name": EXPORTS,
        "type": "Destination",
        "createdAt": 1735689600.0,
        "tags": [],
    }


def growing(finding: Finding, *tellings: tuple[int, timedelta]) -> Iterator[Finding]:
    """Tell a finding, then again with a higher count, so much later."""
    yield finding
    for count, later in tellings:
        yield replace(finding, count=count, last=finding.last + later, updated=finding.updated + later)


def intrusion() -> Iterator[Finding]:
    """Tell the findings of the night."""
    at = {name: step.at for name, step in STEPS.items()}
    ci, backup = access_key(CI_DEPLOY, CI_DEPLOY.access_key), access_key(SVC_BACKUP, BACKDOOR_KEY)
    minutes = timedelta(minutes=1)
    yield Finding(
        "Discovery:IAMUser/AnomalousBehavior",
        "User IAMUser : ci-deploy is anomalously invoking APIs commonly used in Discovery tactics.",
        2,
        AMERICA,
        {"resourceType": "AccessKey", "accessKeyDetails": ci},
        call("GetAccountAuthorizationDetails", "iam.amazonaws.com", error="AccessDenied"),
        at["whoami"],
        at["users"],
        at["users"] + 11 * minutes,
        at["users"] + 11 * minutes,
        5,
    )
    yield Finding(
        "Persistence:IAMUser/AnomalousBehavior",
        "User IAMUser : ci-deploy is anomalously invoking APIs commonly used in Persistence tactics.",
        5,
        AMERICA,
        {"resourceType": "AccessKey", "accessKeyDetails": ci},
        call("CreateAccessKey", "iam.amazonaws.com"),
        at["access_key"],
        at["login_profile"],
        at["login_profile"] + 10 * minutes,
        at["login_profile"] + 10 * minutes,
        2,
    )
    yield Finding(
        "UnauthorizedAccess:IAMUser/ConsoleLoginSuccess.B",
        "Console login of svc-backup from an address that was not seen before.",
        5,
        AMERICA,
        {"resourceType": "AccessKey", "accessKeyDetails": access_key(SVC_BACKUP, CONSOLE_KEY)},
        call("ConsoleLogin", "signin.amazonaws.com"),
        at["sign_in"],
        at["sign_in"],
        at["sign_in"] + 9 * minutes,
        at["sign_in"] + 9 * minutes,
    )
    yield from growing(
        Finding(
            "Exfiltration:S3/AnomalousBehavior",
            f"User IAMUser : svc-backup anomalously invoked GetObject on {EXPORTS}.",
            8,
            EUROPE,
            {"resourceType": "S3Bucket", "accessKeyDetails": backup, "s3BucketDetails": [bucket()]},
            call("GetObject", "s3.amazonaws.com", {"AWS::S3::Bucket": EXPORTS}) | {"featureName": "S3DataEvents"},
            at["first_object"],
            at["first_object"] + 4 * minutes,
            at["data_finding"],
            at["data_finding"],
            31,
        ),
        (STOLEN_OBJECTS, 15 * minutes),
    )
    connection = {
        "connectionDirection": "OUTBOUND",
        "localIpDetails": {"ipAddressV4": BASTION.address},
        "localPortDetails": {"port": 49822, "portName": "Unknown"},
        "localNetworkInterface": BASTION.interface,
        "remoteIpDetails": remote(INTRUDER),
        "remotePortDetails": {"port": 443, "portName": "HTTPS"},
        "protocol": "TCP",
        "blocked": False,
    }
    yield from growing(
        Finding(
            "Behavior:EC2/TrafficVolumeUnusual",
            f"EC2 instance {BASTION.instance_id} is sending unusually much to {INTRUDER} on port 443.",
            5,
            EUROPE,
            {"resourceType": "Instance", "instanceDetails": instance(BASTION)},
            {
                "action": {"actionType": "NETWORK_CONNECTION", "networkConnectionAction": connection},
                "resourceRole": "ACTOR",
            },
            at["egress"],
            at["egress"] + 10 * minutes,
            at["volume_finding"],
            at["volume_finding"],
            2,
        ),
        (4, 15 * minutes),
        (5, 30 * minutes),
    )
    yield from growing(
        Finding(
            "AttackSequence:S3/CompromisedData",
            f"Potential data compromise of {EXPORTS} indicated by a sequence of actions of svc-backup.",
            9,
            EUROPE,
            {"resourceType": "AttackSequence"},
            {
                "action": {},
                "resourceRole": "TARGET",
                "featureName": "Correlation",
                "detection": {"sequence": sequence()},
            },
            at["whoami"],
            at["last_object"],
            at["sequence"],
            at["sequence"],
            1,
        ),
        (2, 30 * minutes),
    )


def sequence() -> Json:
    """Describe the attack sequence: who, from where, on what, by which signals."""
    first, last = STEPS["first_object"].at.timestamp(), STEPS["last_object"].at.timestamp()
    account = {"uid": SHOP.uid, "account": SHOP.name}
    signal = {
        "createdAt": last,
        "updatedAt": last,
        "firstSeenAt": first,
        "lastSeenAt": last,
        "count": 1,
        "resourceUids": [f"arn:aws:s3:::{EXPORTS}"],
        "actorIds": ["actor-1"],
        "endpointIds": ["endpoint-1"],
    }
    activity = {"type": "API_CALL", "api": {"operation": "GetObject", "service": "s3.amazonaws.com"}}
    return {
        "uid": fixed_uuid("sequence"),
        "description": "An idle user got a new key, which copied a bucket.",
        "actors": [
            {
                "id": "actor-1",
                "user": {
                    "name": SVC_BACKUP.name,
                    "uid": unique_id("AIDA", SVC_BACKUP.name),
                    "type": "IAMUser",
                    "credentialUid": BACKDOOR_KEY,
                    "account": account,
                },
            }
        ],
        "resources": [
            {
                "uid": f"arn:aws:s3:::{EXPORTS}",
                "name": EXPORTS,
                "accountId": SHOP.uid,
                "resourceType": "S3_BUCKET",
                "region": EUROPE,
                "cloudPartition": "aws",
                "data": {"s3Bucket": {"publicReadAccess": "BLOCKED"}},
            },
            {
                "uid": BACKDOOR_KEY,
                "name": SVC_BACKUP.name,
                "accountId": SHOP.uid,
                "resourceType": "ACCESS_KEY",
                "region": EUROPE,
                "cloudPartition": "aws",
                "data": {"accessKey": {"userName": SVC_BACKUP.name}},
            },
        ],
        "endpoints": [
            {
                "id": "endpoint-1",
                "ip": INTRUDER,
                "location": {"city": "Example Port", "country": "Exampleland"},
                "autonomousSystem": {"name": "Example Hosting", "number": 64511},
                "connection": {"direction": "INBOUND"},
            }
        ],
        "signals": [
            {
                "uid": fixed_uuid("signal/key"),
                "type": "CLOUD_TRAIL",
                "name": "CreateAccessKey",
                "severity": 5.0,
                **signal,
            },
            {
                "uid": fixed_uuid("signal/objects"),
                "type": "S3_DATA_EVENTS",
                "name": "GetObject",
                "severity": 8.0,
                "activities": [activity],
                **signal,
                "count": STOLEN_OBJECTS,
            },
        ],
        "sequenceIndicators": [
            {"key": "ATTACK_TACTIC", "values": ["Persistence", "Exfiltration"], "title": "MITRE tactics"},
            {
                "key": "ATTACK_TECHNIQUE",
                "values": [
                    "T1098.001 - Account Manipulation: Additional Cloud Credentials",
                    "T1530 - Data from Cloud Storage",
                ],
                "title": "MITRE techniques",
            },
        ],
    }


def scans() -> Iterator[Finding]:
    """Tell one finding a day of scanners at web-1."""
    for day in DAYS:
        dice = Dice("guardduty", "scan", day.isoformat())
        at = moment(day, "06:30:00") + timedelta(seconds=dice.between(0, 3600))
        probes = [
            {
                "localPortDetails": {"port": port, "portName": name},
                "localIpDetails": {"ipAddressV4": WEB_1.address},
                "remoteIpDetails": remote(dice.pick(SCANNERS)),
            }
            for port, name in ((443, "HTTPS"), (80, "HTTP"))
        ]
        yield Finding(
            "Recon:EC2/PortProbeUnprotectedPort",
            f"Unprotected ports on EC2 instance {WEB_1.instance_id} are being probed.",
            2,
            EUROPE,
            {"resourceType": "Instance", "instanceDetails": instance(WEB_1)},
            {
                "action": {
                    "actionType": "PORT_PROBE",
                    "portProbeAction": {"portProbeDetails": probes, "blocked": False},
                },
                "resourceRole": "TARGET",
            },
            at - timedelta(hours=2),
            at - timedelta(minutes=8),
            at,
            at,
            dice.between(2, 9),
        )


def deliver() -> list[Delivered]:
    """Give the objects of the export: the findings told in one minute of one region are one object."""
    files: dict[tuple[str, datetime], list[Finding]] = {}
    for finding in sorted([*scans(), *intrusion()], key=lambda found: (found.updated, found.type)):
        exported = (finding.updated + timedelta(minutes=4)).replace(second=0)
        files.setdefault((finding.region, exported), []).append(finding)
    objects = []
    for (region, at), findings in files.items():
        name = Dice("guardduty", "object", region, at.isoformat()).uuid()
        key = f"AWSLogs/{SHOP.uid}/GuardDuty/{region}/{at:%Y/%m/%d}/{name}.jsonl.gz"
        objects.append(Delivered(key, "".join(json.dumps(found.told()) + "\n" for found in findings).encode()))
    return objects
