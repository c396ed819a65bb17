"""A custom source of Amazon Security Lake: what it may be called, which events it takes, where they lie in its bucket.

```
s3://aws-security-data-lake-<region>-<id>/ext/<name>/region=<region>/accountId=<account>/eventDay=<YYYYMMDD>/<object>
```
A custom source holds events of one OCSF class, of OCSF 1.3 or older. Its `region` is that of the bucket, whatever the
region of the event. Source: https://docs.aws.amazon.com/security-lake/latest/userguide/custom-sources.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ocsf_lake.config import Settings
from ocsf_lake.storage import layout
from ocsf_lake.storage.s3 import Access
from ocsf_lake.storage.store import Store
from ocsf_mappers import Mapper, registry
from ocsf_mappers.errors import ConfigError, nearest
from ocsf_mappers.ocsf import schema
from ocsf_mappers.ocsf.schema import EventClass

FOLDER = "ext"
NEWEST_OCSF = (1, 3)
"""The newest OCSF version, without its patch, that Security Lake takes from custom sources."""

EXTERNAL = "external"
"""Stands for the account of events that have none of AWS's."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,20}")
"""Of 64 characters of a role's name `AmazonSecurityLake-Provider-<name>-<region>` leaves so many."""
_BUCKET = re.compile(r"aws-security-data-lake-([a-z]{2,3}(?:-[a-z]+)+-\d+)-.+")
_REGION = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True)
class CustomSource:
    """Where events of one class go.

    Args:
        uri: Folder of the custom source; nobody else's objects are below it.
        name: Its name in Security Lake.
        source: Name of our source.
        event_class: The OCSF class of its events.
        region: Region of the bucket.
    """

    uri: str
    name: str
    source: str
    event_class: EventClass
    region: str

    def folder(self, account: str, day: str) -> str:
        """Where a partition's objects lie, below `uri`."""
        return f"region={self.region}/accountId={account}/eventDay={day}"

    def access(self, settings: Settings) -> Access:
        """How its bucket is reached. `{name}` and `{region}` in the role stand for those of the custom source."""
        role = settings.export_role
        if role is not None:
            role = role.replace("{name}", self.name).replace("{region}", self.region)
        return replace(
            settings.lake_access, region=self.region, role=role, external_id=settings.export_external_id,
            kms_key=settings.export_kms_key,
        )  # fmt: skip


def custom_source(source: str, bucket: str, name: str, event_class: str | None, settings: Settings) -> CustomSource:
    """The custom source that is meant.

    Args:
        source: Name of our source.
        bucket: URI of Security Lake's bucket.
        name: Name that the custom source was registered under.
        event_class: The class, by name or uid; needed when the source has several.
        settings: The region, where the bucket's name does not have it.

    Raises:
        ConfigError: Security Lake would not take a name, class or region, or they do not fit each other.
    """
    mapper = registry.load(source)
    if not _NAME.fullmatch(name) or not name.strip("."):
        raise ConfigError(
            f"{name!r} is not a custom source's name: up to 20 letters, digits and _ . -, because Security Lake "
            "names a role after it"
        )
    # One spelling of one place: the ledger knows custom sources by it.
    root = Store(bucket, settings.lake_access).uri("").rstrip("/")
    if FOLDER in root.split("/")[-2:]:
        raise ConfigError(f"name the bucket alone: events go to {root.rpartition(f'/{FOLDER}')[0]}/{FOLDER}/{name}/")
    if root == Store(settings.lake, settings.lake_access).uri("").rstrip("/"):
        raise ConfigError(f"{bucket!r} is the lake itself, and events are exported to another place")
    chosen = _class(mapper, name, event_class)
    return CustomSource(f"{root}/{FOLDER}/{name}", name, source, chosen, _region(root, settings))


def is_accepted(ocsf_version: str) -> bool:
    """Whether Security Lake takes events of an OCSF version from custom sources."""
    return tuple(int(number) for number in ocsf_version.split(".")[:2]) <= NEWEST_OCSF


def place(values: tuple[str, ...]) -> tuple[str, str] | None:
    """Account and day of a partition of the lake; None where the day of its events is not known."""
    _, account, day = values
    if day == layout.UNKNOWN:
        return None
    return (EXTERNAL if account == layout.UNKNOWN else account), day


def _class(mapper: Mapper, name: str, event_class: str | None) -> EventClass:
    facts = schema.load()
    classes = [facts.event_class(one) for one in dict.fromkeys(event.event_class for event in mapper.events)]
    captions = ", ".join(f"{item.caption} [{item.uid}]" for item in classes)
    if event_class is None:
        if len(classes) == 1:
            return classes[0]
        raise ConfigError(
            f"events of {mapper.name} are of several classes ({captions}), and a custom source holds one: register "
            f"one for each and name its class, as in --name {name[:15]}-{classes[0].uid} --class {classes[0].uid}"
        )
    for item in classes:
        if event_class.lower() in (str(item.uid), item.name, item.caption.lower()):
            return item
    hint = nearest(event_class, [item.name for item in classes])
    raise ConfigError(f"{mapper.name} has no events of a class {event_class!r}, but of {captions}{hint}")


def _region(root: str, settings: Settings) -> str:
    match = _BUCKET.fullmatch(root.rpartition("/")[2])
    named, configured = match and match[1], settings.export_region
    if named and configured and named != configured:
        raise ConfigError(f"setting export_region is {configured!r}, and the bucket {root!r} is one of {named}")
    region = named or configured
    if region is None:
        raise ConfigError(
            f"the name of {root!r} does not say its region, as aws-security-data-lake-<region>-<id> does: "
            "set OCSF_LAKE_EXPORT_REGION"
        )
    if not _REGION.fullmatch(region):
        raise ConfigError(f"setting export_region: {region!r} is not a region")
    return region
