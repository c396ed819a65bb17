"""Lifecycle rules for the buckets of raw logs that match how long the lake keeps their events, as CloudFormation.

Raw objects are what lost files are made from again and what a row is traced to, so none goes before its events: a
folder of a source and account has the longest rule of all tables that its records go to, counted from the delivery on,
which is later than the events. A folder that a hold covers, or for which a rule is missing, is not expired.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ocsf_lake.config import Settings
from ocsf_lake.inputs import deliveries
from ocsf_lake.lake import opened
from ocsf_lake.ledger import holds, objects
from ocsf_lake.ledger.holds import Hold
from ocsf_lake.retention import Retention, Rule, longest
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.vocabulary.source import ROOT

ARCHIVE_DAYS = 90
LEAST_ARCHIVED_DAYS = 180
"""So long AWS charges for what is in its coldest class, however soon it goes."""

_HEAD = """\
# Lifecycle rules for buckets of raw logs, by `ocsf-lake retain --cloudformation`. A bucket that is there already comes
# into a stack by importing it (aws cloudformation create-change-set --change-set-type IMPORT). The rules take the place
# of all lifecycle rules that the bucket has: add those that are to stay. Everything below a prefix goes, also what the
# lake has not read. What no rule is for is kept: digests of CloudTrail, say, and folders outside of AWS's trees.
# GLACIER_IR is read as before; objects in GLACIER and DEEP_ARCHIVE have to be restored before the lake can read them.
"""


@dataclass
class Folder:
    """A folder of raw logs of one account.

    Args:
        bucket: Its bucket.
        prefix: Its beginning of keys.
        account: The account.
        sources: Sources that AWS delivers there.
        rule: How long they are kept; None for ever.
        hold: The hold that keeps them for now.
    """

    bucket: str
    prefix: str
    account: str
    sources: list[str] = field(default_factory=list)
    rule: Rule | None = None
    hold: Hold | None = None


def template(settings: Settings) -> str:
    """The template, in YAML, for all buckets that the lake has read from.

    Raises:
        ConfigError: No retention is set, a rule is for what there is not, or nothing was read from folders of AWS's.
    """
    rules = settings.retention
    if not rules.is_set:
        raise ConfigError("no retention is set, and there are no lifecycle rules to match it; see [retention]")
    with opened(settings, reading=True) as lake:
        rules.check(registry.names(), registry.tables())
        beginnings = objects.beginnings(lake.ledger.engine)
        standing = [hold for hold in holds.listed(lake.ledger.engine) if hold.released_at is None]
    folders = _folders(beginnings)
    if not folders:
        raise ConfigError("the lake has read nothing from S3 out of folders in which AWS delivers, so no rule is made")
    judge(folders, rules, standing)
    return _HEAD + _holds_comment(folders) + yaml.safe_dump(_document(folders), sort_keys=False, width=110)


def judge(folders: Iterable[Folder], rules: Retention, standing: Sequence[Hold]) -> None:
    """Gives each folder its rule, and the hold that keeps it."""
    for folder in folders:
        pairs = [(name, table) for name in folder.sources for table in registry.sources()[name].mapper.tables]
        folder.rule = longest(rules.rule(name, table, folder.account) for name, table in pairs)
        covering = (hold for hold in standing if any(_covers(hold, table, folder.account) for _, table in pairs))
        folder.hold = next(covering, None)


def _covers(hold: Hold, table: str, account: str) -> bool:
    """Whether a hold may keep events of a table and account, of whichever day."""
    return hold.table_name in (None, table) and hold.account in (None, account)


def _folders(beginnings: Iterable[tuple[str, str]]) -> list[Folder]:
    """The folders in which objects of sources lie whose URIs begin so."""
    folders: dict[tuple[str, str], Folder] = {}
    for uri, source in beginnings:
        scheme, _, path = uri.partition("://")
        for pattern in deliveries.delivery(source).patterns if scheme in ("s3", "s3a") else ():
            if (place := _place(path, pattern)) is not None:
                prefix, account = place
                bucket, _, key = prefix.partition("/")
                folder = folders.setdefault((bucket, key), Folder(bucket, key, account, _delivered_there(path)))
                folder.sources = sorted({*folder.sources, source})
                break
    return [folders[key] for key in sorted(folders)]


def _delivered_there(path: str) -> list[str]:
    """All sources that AWS delivers into the folder of a path: they share what is done with it."""
    names = []
    for name, source in registry.sources().items():
        if any(_place(path, pattern) is not None for pattern in source.delivery.patterns):
            names.append(name)
    return names


def _place(path: str, pattern: str) -> tuple[str, str] | None:
    """The folder of a service and account that a path lies in, by a pattern of deliveries; None where it does not."""
    names = path.split("/")
    if ROOT not in names:
        return None
    number = len(names) - names[::-1].index(ROOT)
    if number < len(names) and deliveries.ORGANIZATION.fullmatch(names[number]):
        number += 1
    bound: dict[str, str] = {}
    for step in pattern.split("/")[1:]:
        if "account" in bound and "{" in step:
            return "/".join(names[:number]) + "/", bound["account"]
        values = deliveries.matched(step, names[number]) if number < len(names) else None
        if values is None:
            return None
        bound |= values
        number += 1
    return None


def _holds_comment(folders: Sequence[Folder]) -> str:
    ids = sorted({folder.hold.id for folder in folders if folder.hold})
    return f"# Not expired, as legal holds stand ({', '.join(ids)}): what they may cover.\n" if ids else ""


def _document(folders: Sequence[Folder]) -> dict[str, Any]:
    buckets: dict[str, list[Folder]] = {}
    for folder in folders:
        buckets.setdefault(folder.bucket, []).append(folder)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "How long buckets keep raw logs, as the lake keeps their events.",
        "Parameters": {
            "ArchiveClass": {
                "Type": "String", "Default": "GLACIER_IR",
                "AllowedValues": ["STANDARD_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"],
                "Description": "Class of objects that are seldom read.",
            },
            "ArchiveAfterDays": {
                "Type": "Number", "Default": ARCHIVE_DAYS, "MinValue": 30, "MaxValue": ARCHIVE_DAYS,
                "Description": "Days after which they get it.",
            },
        },
        "Resources": {
            f"RawBucket{number}": {
                "Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain",
                "Properties": {
                    "BucketName": bucket,
                    "LifecycleConfiguration": {"Rules": list(_rules(own))},
                },
            }
            for number, (bucket, own) in enumerate(sorted(buckets.items()), 1)
        },
    }  # fmt: skip


def _rules(folders: Sequence[Folder]) -> Iterator[dict[str, Any]]:
    for number, folder in enumerate(folders, 1):
        days = folder.rule.keep.days() if folder.rule else None
        rule: dict[str, Any] = {"Id": f"{number}-{folder.account}-{folder.sources[0]}", "Status": "Enabled"}
        rule["Prefix"] = folder.prefix
        if days is None or days >= ARCHIVE_DAYS + LEAST_ARCHIVED_DAYS:
            to = {"StorageClass": {"Ref": "ArchiveClass"}, "TransitionInDays": {"Ref": "ArchiveAfterDays"}}
            rule["Transitions"] = [to]
        if days is not None and folder.hold is None:
            rule["ExpirationInDays"] = days
            rule["NoncurrentVersionExpiration"] = {"NoncurrentDays": 1}
        if len(rule) > 3:
            yield rule
