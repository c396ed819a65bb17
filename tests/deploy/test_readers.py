"""Who may read by deploy/aws/readers.yaml: the template as its loops expand it, and as IAM and Lake Formation decide.

Nothing here asks AWS. What the grants do there is AWS's word.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
from cfnlint import decode
from cfnlint.template import Template
from cfnlint.template.transforms import _language_extensions

from ocsf_lake.storage import layout
from ocsf_mappers import registry
from tests.support import PROJECT

AWS = PROJECT / "deploy" / "aws"
TABLE = "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:table/${GlueDatabase}"
FILES = "arn:${AWS::Partition}:s3:::${BucketName}/lake"
SECRET = (layout.QUARANTINE, layout.OUTCOMES, layout.DUPLICATES)


def resources(name: str) -> dict[str, Any]:
    """Resources of a template, with every table of ours where it takes tables."""
    template, _ = decode.decode(str(AWS / name))
    for parameter in ("Tables", "InvestigatorTables"):
        if parameter in template["Parameters"]:
            template["Parameters"][parameter]["Default"] = ",".join(registry.tables())
    faults, expanded = _language_extensions.language_extension(Template(name, template, ["eu-central-1"]))
    assert faults == []
    return dict(expanded["Resources"])


@pytest.fixture(scope="module")
def readers() -> dict[str, Any]:
    return resources("readers.yaml")


def grants(readers: dict[str, Any], role: str) -> list[dict[str, Any]]:
    """What Lake Formation grants to a role."""
    found = [item for item in readers.values() if item["Type"] == "AWS::LakeFormation::PrincipalPermissions"]
    principal = {"DataLakePrincipalIdentifier": {"Fn::GetAtt": [role, "Arn"]}}
    return [item for item in found if item["Properties"]["Principal"] == principal]


def selected(readers: dict[str, Any], role: str, condition: str | None) -> set[str]:
    """Tables that a role may select from, in the stacks where a condition holds."""
    tables = set()
    for item in grants(readers, role):
        if "SELECT" in item["Properties"]["Permissions"] and item.get("Condition") == condition:
            ((_, named),) = item["Properties"]["Resource"].items()
            tables.add(named.get("Name") if "TableName" not in named else named["TableName"])
    return tables


def allows(readers: dict[str, Any], role: str, action: str, resource: str) -> bool:
    """Whether IAM lets a role do this: a Deny wins. Conditions are taken to hold."""
    effects = set()
    (policy,) = readers[role]["Properties"]["Policies"]
    for statement in policy["PolicyDocument"]["Statement"]:
        statement = statement.get("Fn::If", [None, statement])[1]
        actions, named = (
            found if isinstance(found, list) else [found] for found in (statement["Action"], statement["Resource"])
        )
        patterns = [item["Fn::Sub"] if isinstance(item, dict) and "Fn::Sub" in item else str(item) for item in named]
        if any(fnmatchcase(action, each) for each in actions) and any(fnmatchcase(resource, each) for each in patterns):
            effects.add(statement["Effect"])
    return effects == {"Allow"}


def test_readers_are_granted_events_and_nothing_else(readers: dict[str, Any]) -> None:
    events = set(registry.tables())
    assert selected(readers, "Reader", "Unfiltered") == selected(readers, "Reader", "Filtered") == events
    assert selected(readers, "Reader", None) == set()
    for item in grants(readers, "Reader"):
        named = item["Properties"]["Resource"]
        assert ("DataCellsFilter" in named) == (item.get("Condition") == "Filtered")
        assert "TableWildcard" not in str(named)
        assert set(item["Properties"]["Permissions"]) <= {"DESCRIBE", "SELECT"}
        assert item["Properties"]["PermissionsWithGrantOption"] == []


def test_investigators_see_quarantine_too_and_change_nothing(readers: dict[str, Any]) -> None:
    quarantine = {layout.QUARANTINE, layout.OUTCOMES}
    assert selected(readers, "Investigator", None) == set(registry.tables()) | quarantine
    for item in grants(readers, "Investigator"):
        assert set(item["Properties"]["Permissions"]) <= {"DESCRIBE", "SELECT"}
    raw = "arn:${AWS::Partition}:s3:::${RawBucket}/AWSLogs/x.json.gz"
    for place in (f"{FILES}/{layout.QUARANTINE_PREFIX}/x.parquet", f"{FILES}/aws/x.parquet", raw):
        assert allows(readers, "Investigator", "s3:GetObject", place)
        assert allows(readers, "Investigator", "s3:GetObjectVersion", place)
        for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObjectRetention"):
            assert not allows(readers, "Investigator", action, place)
    assert not allows(readers, "Investigator", "glue:UpdateTable", f"{TABLE}/vpc_flow")


def test_iam_keeps_readers_from_files_and_quarantine_whatever_is_granted(readers: dict[str, Any]) -> None:
    assert allows(readers, "Reader", "glue:GetTable", f"{TABLE}/vpc_flow")
    for table in SECRET:
        assert not allows(readers, "Reader", "glue:GetTable", f"{TABLE}/{table}")
        assert allows(readers, "Investigator", "glue:GetTable", f"{TABLE}/{table}")
    for place in ("aws/VPC_FLOW/2.0/x.parquet", f"{layout.QUARANTINE_PREFIX}/x.parquet"):
        assert not allows(readers, "Reader", "s3:GetObject", f"{FILES}/{place}")
    results = "arn:${AWS::Partition}:s3:::${BucketName}/athena/${AWS::StackName}"
    assert allows(readers, "Reader", "s3:GetObject", f"{results}-readers/x.csv")
    assert not allows(readers, "Reader", "s3:GetObject", f"{results}-investigators/x.csv")
    assert not allows(readers, "Investigator", "s3:GetObject", f"{results}-readers/x.csv")


def test_filters_are_those_that_grants_name_and_hold_accounts_alone(readers: dict[str, Any]) -> None:
    filters = resources("filters.yaml")
    places = ("DatabaseName", "TableName", "TableCatalogId")
    made = {tuple(str(item["Properties"][name]) for name in places) for item in filters.values()}
    named = [item["Properties"]["Resource"].get("DataCellsFilter") for item in grants(readers, "Reader")]
    assert {tuple(str(item[name]) for name in places) for item in named if item} == made
    assert all(item["Properties"]["Name"] == {"Ref": "Filter"} for item in filters.values())
    assert all(item["Name"] == {"Ref": "Filter"} for item in named if item)
    accounts = decode.decode(str(AWS / "filters.yaml"))[0]["Parameters"]["Accounts"]["AllowedPattern"]
    assert re.fullmatch(accounts, "012345678901")
    assert not any(re.fullmatch(accounts, wrong) for wrong in ("", "1", "012345678901') OR ('a'='a", "unknown"))


def test_nothing_refers_to_what_loops_make() -> None:
    """CloudFormation does not find such names: aws-cloudformation/cfn-language-discussion, issue 162."""
    for name in ("readers.yaml", "filters.yaml"):
        text = (AWS / name).read_text(encoding="utf-8")
        assert all(re.fullmatch(r'\s+-? ?"\w+&\{Table\}":', line) for line in text.splitlines() if "&{" in line)


# -- the worker of lake.yaml ------------------------------------------------------------------------------------------
def worker_actions(place: str, *, locks: bool) -> set[str]:
    """What the worker's role may do at a place, with Object Lock or without."""
    found: set[str] = set()
    for policy in resources("lake.yaml")["Worker"]["Properties"]["Policies"]:
        policy = policy.get("Fn::If", [None, policy])[1]
        for statement in policy["PolicyDocument"]["Statement"]:
            condition, statement = statement.get("Fn::If", [None, statement])[:2]
            if condition == "Locks" and not locks:
                continue
            actions, named = (
                each if isinstance(each, list) else [each] for each in (statement["Action"], statement["Resource"])
            )
            patterns = [item.get("Fn::Sub", str(item)) if isinstance(item, dict) else str(item) for item in named]
            if place in patterns or any(fnmatchcase(place, pattern) for pattern in patterns):
                found |= set(actions)
    return found


@pytest.mark.slow
def test_the_worker_may_do_what_the_lake_asks_of_s3_and_no_more() -> None:
    file, bucket = "${Bucket.Arn}/lake/aws/x.parquet", str({"Fn::GetAtt": ["Bucket", "Arn"]})
    always = {"s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}
    anywhere = {"cloudtrail:ListPublicKeys"}
    assert worker_actions(file, locks=False) - anywhere == always
    assert worker_actions(file, locks=True) - anywhere == always | {"s3:PutObjectRetention", "s3:DeleteObjectVersion"}
    assert {"s3:ListBucket", "s3:ListBucketVersions"} <= worker_actions(bucket, locks=False)
    assert "s3:GetBucketObjectLockConfiguration" in worker_actions(bucket, locks=True)
    raw = "arn:${AWS::Partition}:s3:::${RawBucket}"
    assert worker_actions(f"{raw}/AWSLogs/x.json.gz", locks=True) - anywhere == {"s3:GetObject"}
    assert worker_actions(raw, locks=True) - anywhere == {"s3:ListBucket"}


def test_the_worker_may_make_each_call_to_glue_that_the_catalog_makes() -> None:
    source = (PROJECT / "ocsf_lake" / "catalogs" / "glue.py").read_text(encoding="utf-8")
    calls = set(re.findall(r"\"((?:batch_)?(?:get|create|update|delete)_(?:tables?|partitions?|database))\"", source))
    assert {"get_partition", "get_partitions", "create_table", "batch_delete_partition"} <= calls
    needed = {"glue:" + "".join(word.title() for word in call.split("_")) for call in calls}
    place = "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:table/${GlueDatabase}/vpc_flow"
    # The stack makes the database.
    assert needed - worker_actions(place, locks=False) == {"glue:CreateDatabase"}


def test_a_locked_bucket_expires_no_versions_by_itself() -> None:
    rules = resources("lake.yaml")["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = [rule for rule in rules if "NoncurrentVersionExpiration" in str(rule)]
    assert [(rule["Fn::If"][0], "NoncurrentVersionExpiration" in rule["Fn::If"][2]) for rule in expiring] == [
        ("Locks", True)
    ]
