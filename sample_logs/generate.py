"""Write `organization/`: the logs of an invented organisation, in the exact form in which AWS delivers them.

    python sample_logs/generate.py            writes organization/AWSLogs and organization/SOURCE.md
    python sample_logs/generate.py --check    writes nothing; exit 1 where a file is missing, extra or different

No clock, no network, fixed seeds: the content never changes. The compressed bytes are the same wherever zlib is;
`--check` therefore compares what is inside.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from story import cast, cloudtrail, guardduty, resolver, vpc_flow
from story.cast import Delivered

TARGET = Path(__file__).parent / "organization"

EXPECTED: dict[str, dict[str, int]] = {
    "CloudTrail": {
        "IAM Identity Center sign-in": 48,
        "Insights (CloudTrail-Insight)": 4,
        "console sign-in": 20,
        "data event: dynamodb": 94,
        "data event: lambda": 32,
        "data event: s3": 216,
        "management: AssumeRole": 80,
        "management: AssumeRoleWithSAML": 12,
        "management: AssumeRoleWithWebIdentity": 8,
        "management: IAM change": 11,
        "management: other read": 432,
        "management: other write": 80,
        "network activity (CloudTrail-NetworkActivity)": 7,
        "service event": 5,
    },
    "GuardDuty": {
        "AttackSequence:S3/CompromisedData": 2,
        "Behavior:EC2/TrafficVolumeUnusual": 3,
        "Discovery:IAMUser/AnomalousBehavior": 1,
        "Exfiltration:S3/AnomalousBehavior": 2,
        "Persistence:IAMUser/AnomalousBehavior": 1,
        "Recon:EC2/PortProbeUnprotectedPort": 4,
        "UnauthorizedAccess:IAMUser/ConsoleLoginSuccess.B": 1,
    },
    "VPC Flow Logs": {
        "custom, version 5: ACCEPT": 2272,
        "custom, version 5: NODATA": 58,
        "custom, version 5: REJECT": 202,
        "custom, version 5: SKIPDATA": 1,
        "default, version 2: ACCEPT": 1022,
        "default, version 2: NODATA": 47,
        "default, version 2: REJECT": 159,
        "default, version 2: SKIPDATA": 1,
    },
    "Route 53 Resolver": {
        "A: NOERROR": 556,
        "A: NXDOMAIN": 58,
        "A: SERVFAIL": 4,
        "AAAA: NOERROR": 58,
        "DNS Firewall: ALERT": 53,
        "DNS Firewall: BLOCK": 4,
        "MX: NOERROR": 47,
        "PTR: NXDOMAIN": 58,
    },
}
"""Lines of the counts table in SOURCE.md, by log and kind; a change here is a change of the story."""


def deliver() -> list[Delivered]:
    """Give every object of the log bucket, all logs together; a further log adds its own `deliver()` here."""
    return cloudtrail.deliver() + vpc_flow.deliver() + resolver.deliver() + guardduty.deliver()


# --- counts ----------------------------------------------------------------------------------------------------------


def cloudtrail_records(objects: Iterable[Delivered]) -> Iterator[dict[str, Any]]:
    """Give the records of every CloudTrail object, Insights and network activity included, digests not."""
    for item in objects:
        if "/CloudTrail" in item.key and "/CloudTrail-Digest/" not in item.key:
            yield from json.loads(item.content)["Records"]


def findings(objects: Iterable[Delivered]) -> Iterator[dict[str, Any]]:
    """Give every telling of every GuardDuty finding."""
    for item in objects:
        if "/GuardDuty/" in item.key:
            yield from map(json.loads, item.content.splitlines())


def cloudtrail_kind(record: dict[str, Any]) -> str:
    """Name the kind of a record, as the counts table does."""
    source, name = record.get("eventSource", "").removesuffix(".amazonaws.com"), record.get("eventName", "")
    match record["eventCategory"], record["eventType"], source:
        case "Insight", _, _:
            return "Insights (CloudTrail-Insight)"
        case "NetworkActivity", _, _:
            return "network activity (CloudTrail-NetworkActivity)"
        case "Data", _, _:
            return f"data event: {source}"
        case _, "AwsConsoleSignIn", _:
            return "console sign-in"
        case _, _, "signin":
            return "IAM Identity Center sign-in"
        case _, "AwsServiceEvent", _:
            return "service event"
        case _, _, "sts" if name.startswith("AssumeRole"):
            return f"management: {name}"
        case _, _, "iam" if not record["readOnly"]:
            return "management: IAM change"
    return "management: other read" if record["readOnly"] else "management: other write"


def flow_kind(fields: str, line: str) -> str:
    """Name the kind of a line, as the counts table does."""
    values = dict(zip(fields.split(), line.split(), strict=True))
    kind = values["log-status"] if values["action"] == "-" else values["action"]
    return f"{'custom, version 5' if 'vpc-id' in values else 'default, version 2'}: {kind}"


def query_records(objects: Iterable[Delivered]) -> Iterator[dict[str, Any]]:
    """Give the records of every Resolver query log object."""
    for item in objects:
        if "/vpcdnsquerylogs/" in item.key:
            yield from (json.loads(line) for line in item.content.decode().splitlines())


def query_kind(record: dict[str, Any]) -> str:
    """Name the kind of a query, as the counts table does."""
    action = record.get("firewall_rule_action")
    return f"DNS Firewall: {action}" if action else f"{record['query_type']}: {record['rcode']}"


def counts(objects: list[Delivered]) -> dict[str, Counter[str]]:
    """Count the records of each log by kind."""
    lines: Counter[str] = Counter()
    for item in objects:
        if "/vpcflowlogs/" in item.key:
            header, *rest = item.content.decode().splitlines()
            lines.update(flow_kind(header, line) for line in rest)
    return {
        "CloudTrail": Counter(cloudtrail_kind(record) for record in cloudtrail_records(objects)),
        "VPC Flow Logs": lines,
        "Route 53 Resolver": Counter(query_kind(record) for record in query_records(objects)),
        "GuardDuty": Counter(finding["type"] for finding in findings(objects)),
    }


def folders(objects: list[Delivered]) -> Counter[str]:
    """Count the objects of each kind of folder."""
    names = [item.key.split("/") for item in objects]
    return Counter(parts[3] if parts[1] == cast.ORGANIZATION else parts[2] for parts in names)


def check_counts(found: dict[str, Counter[str]]) -> None:
    """Stop where the story no longer has the number of records that it is known to have."""
    for log, expected in EXPECTED.items():
        if dict(found[log]) != expected:
            sys.exit(
                f"{log}: found {json.dumps(dict(sorted(found[log].items())), indent=4)}\nwhich EXPECTED does not say"
            )


# --- the description -------------------------------------------------------------------------------------------------


def table(*rows: tuple[object, ...]) -> str:
    """Write a Markdown table; the first row is the head."""
    lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def code(value: object) -> str:
    """Set a value in code type."""
    return f"`{value}`"


def describe(objects: list[Delivered]) -> str:
    """Write SOURCE.md from the same facts that the logs are written from."""
    found = counts(objects)
    accounts = [(code(a.uid), a.name, a.purpose) for a in cast.ACCOUNTS]
    people = [(p.name, p.work, code(p.address), p.role) for p in cast.PEOPLE]
    users = [(u.name, code(u.account.uid), code(u.access_key), code(u.address), u.work) for u in cast.USERS]
    networks = [
        (n.name, code(n.account.uid), n.region, code(n.cidr), code(n.vpc), code(n.flow_log), len(n.fields.split()))
        for n in cast.NETWORKS
    ]
    hosts = [(h.name, code(h.address), code(h.interface), code(h.instance_id), h.network.name) for h in cast.HOSTS]
    steps = [
        (code(step.clock), step.log, step.text) for step in sorted(cast.STEPS.values(), key=lambda step: step.clock)
    ]
    kinds = [(log, kind, number) for log, kinds in found.items() for kind, number in sorted(kinds.items())]
    kinds += [(log, "**all**", sum(kinds.values())) for log, kinds in found.items()]
    return PAGE.format(
        company=cast.COMPANY,
        organization=cast.ORGANIZATION,
        first=cast.DAYS[0],
        last=cast.DAYS[-1],
        bucket=cast.LOG_BUCKET,
        accounts=table(("account", "name", "what for"), *accounts),
        people=table(("person", "work", "address", "permission set"), *people),
        users=table(("IAM user", "account", "access key", "usual address", "work"), *users),
        networks=table(("network", "account", "region", "range", "VPC", "flow log", "fields"), *networks),
        hosts=table(("host", "address", "interface", "instance", "network"), *hosts),
        intruder=cast.INTRUDER,
        leaked=cast.CI_DEPLOY.access_key,
        backdoor=cast.BACKDOOR_KEY,
        console=cast.CONSOLE_KEY,
        group=cast.BASTION_GROUP,
        exports=cast.EXPORTS,
        day=cast.WEDNESDAY,
        late=f"{cast.LATE_DELIVERY:%Y-%m-%d %H:%M}",
        steps=table(("time", "log", "what happens"), *steps),
        sent=f"{intruder_bytes(objects):,}",
        calls=sum(record.get("sourceIPAddress") == cast.INTRUDER for record in cloudtrail_records(objects)),
        tunnel=cast.TUNNEL,
        answers=sum(cast.INTRUDER in json.dumps(record["answers"]) for record in query_records(objects)),
        lines=sum(cast.INTRUDER in line.split() for line in flow_lines(objects)),
        told=sum(1 for _ in findings(objects)),
        found=sum(cast.INTRUDER in json.dumps(finding) for finding in findings(objects)),
        kinds=table(("log", "kind", "records"), *kinds),
        objects=table(("folder", "objects"), *sorted(folders(objects).items())),
    )


def flow_lines(objects: list[Delivered]) -> Iterator[str]:
    """Give every flow log line, headers left out."""
    for item in objects:
        if "/vpcflowlogs/" in item.key:
            yield from item.content.decode().splitlines()[1:]


def intruder_bytes(objects: list[Delivered]) -> int:
    """Sum what the bastion sent to the intruder on port 443."""
    split = (line.split() for line in flow_lines(objects))
    return sum(int(values[9]) for values in split if values[4] == cast.INTRUDER and values[6] == "443")


PAGE = """# {company}: an invented organisation

Written by `sample_logs/generate.py`, this page included; do not edit. All of it is invented: no record was taken from
a real account. Keys and formats are those in which AWS delivers to S3: bucket `{bucket}`, organisation
`{organization}`, {first} to {last}, all times UTC. Try it: `ocsf-lake ingest sample_logs/organization`.

## Who is who

{accounts}

People sign in through IAM Identity Center (account `111122223333`), then work in an account under a role:

{people}

{users}

Builds reach AWS from `192.0.2.64` (releases) and `192.0.2.65` (Terraform plans, role `terraform-plan`). Customers,
scanners and providers have addresses in `198.51.100.0/24`, `203.0.113.0/24` and `2001:db8::/32`.

{networks}

{hosts}

## The intrusion

The access key `{leaked}` of `ci-deploy` leaks. On {day} somebody uses it from `{intruder}`, an address
that no log mentions before or after. `ci-deploy` may manage the keys and passwords of service users, so the intruder
makes a second key (`{backdoor}`) and a password for the idle user `svc-backup`, which may read the exports
and change security groups (console session `{console}`), copies the customer exports, opens the bastion's
security group `{group}`, tries a way out of the bastion through names below `{tunnel}`, reads the order
database from the bastion, and sends the result out.

{steps}

Traces of `{intruder}`: {calls} CloudTrail records as source address, {lines} flow log lines, {answers} answer of a DNS
query, {found} of the {told} lines that GuardDuty wrote, {sent} bytes sent from the bastion to its port 443. The stolen
bucket is `{exports}`.

What resembles it and is harmless:

* `alice.arden` creates an access key for `svc-metrics` on Tuesday at 10:05: a rotation.
* `dana.legacy` fails to sign in twice, on Monday and on Thursday.
* `ci-deploy` gets one AccessDenied in each release at 13:15, each Terraform plan one AccessDeniedException.
* Scanners knock at ports 22 and 3389 of all public hosts all the time.
* The office uses SSH on the bastion in working hours.
* `web-2` asks for `weather.dyn.example.net.` at six every morning: DNS Firewall alerts on all of `dyn.example.net.`.
* `runner-2` asks for `registry.pakcages.example.org.`, which DNS Firewall blocks: a misspelt name in a build file.
* Names that do not exist are asked for all the time: with the network's own domain behind them, or backwards.
* Employees' console sign-ins say `MFAUsed` No: Identity Center asked for the second factor.

## What is peculiar, on purpose

* The CreateLoginProfile record of `02:20:03` is delivered a day late, in the file of {late}.
* `customer-export` works from 23:57 to past midnight; the file of `00:05` of the next day holds records of both days.
* Flow log lines that end just after midnight began the day before; the file's folder is the day of their end.
* A window with more than 60 lines is split over several flow log files.
* IAM and console sign-in records are in us-east-1, where AWS records global services; IAM Identity Center sign-ins and
  the roles that services take are in eu-central-1.
* Account `012345678901` begins with a zero.
* GuardDuty tells a finding again as it grows: same id, later `updatedAt`, higher `count`. It sees the calls to IAM in
  us-east-1 and the rest in eu-central-1. Its port probes of web-1 are the scanners of every day.
* The directory user created on Tuesday at 11:31:48 is `CreateUser` of `sso-directory.amazonaws.com`, not of IAM.
* Query logs have no region in their keys, and the inbound endpoint's queries have no instance.
* Digests exist for account `012345678901` and four hours of {day}; their hashes are true, their signatures not.
* Flow logs and query logs are thinned: one five-minute file of every two hours, all files around the intrusion.

## Counts

{kinds}

{objects}
"""


# --- files -----------------------------------------------------------------------------------------------------------


def gzipped(content: bytes) -> bytes:
    """Compress without a time, a name or a trace of the machine."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def write(target: Path, objects: list[Delivered], page: str) -> None:
    """Write everything anew."""
    shutil.rmtree(target / "AWSLogs", ignore_errors=True)
    for item in objects:
        path = target / item.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzipped(item.content))
    (target / "SOURCE.md").write_text(page, encoding="utf-8", newline="\n")


def differences(target: Path, objects: list[Delivered], page: str) -> list[str]:
    """Name the files that are missing, extra, or hold something else."""
    wanted = {item.key: item.content for item in objects}
    there = {path.relative_to(target).as_posix() for path in (target / "AWSLogs").rglob("*.gz")}
    wrong = [f"missing {key}" for key in wanted.keys() - there] + [f"extra {key}" for key in there - wanted.keys()]
    both = wanted.keys() & there
    wrong += [f"different {key}" for key in both if gzip.decompress((target / key).read_bytes()) != wanted[key]]
    description = target / "SOURCE.md"
    if not description.exists() or description.read_text(encoding="utf-8") != page:
        wrong.append("different SOURCE.md")
    return sorted(wrong)


def main(arguments: list[str]) -> int:
    """Write the files, or check them; give the exit code."""
    objects = deliver()
    if len({item.key for item in objects}) != len(objects):
        sys.exit("two objects have one key")
    check_counts(counts(objects))
    page = describe(objects)
    if arguments == ["--check"]:
        wrong = differences(TARGET, objects, page)
        print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
        return 1 if wrong else 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    write(TARGET, objects, page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
