"""Settings of a lake, read once: arguments, then `OCSF_LAKE_*` variables, then `ocsf-lake.toml`, then defaults."""

from __future__ import annotations

import os
import tomllib
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from ocsf_lake.receivers import Alerts
from ocsf_lake.redaction.rules import Rule
from ocsf_lake.retention import Retention
from ocsf_lake.storage.s3 import Access, Lock
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError, nearest
from ocsf_mappers.ocsf import shipped
from ocsf_mappers.ocsf.schema import DEFAULT_VERSION

if TYPE_CHECKING:
    from ocsf_mappers.readers.streams import Limits

FILE = "ocsf-lake.toml"
PREFIX = "OCSF_LAKE_"
NOT_SETTINGS = frozenset(["OCSF_LAKE_PURE", "OCSF_LAKE_SAMPLES", "OCSF_LAKE_REDACTION_KEY"])
"""Variables that begin like a setting's and are none: what leaves the compiled reader of `ocsf_mappers` alone, the
folder of logs that tests read, and the key of keyed hashes, which no setting may show."""


class LogFields(BaseModel):
    """Fields of text logs that have no header line, in the order of their values.

    Args:
        uri: Beginning of the objects' URIs, or a glob over whole URIs.
        fields: Names as AWS spells them, with spaces between; also as the format of the flow log, `${version} ...`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str = Field(min_length=1)
    fields: str = Field(min_length=1)

    @field_validator("fields")
    @classmethod
    def _names(cls, fields: str) -> str:
        return " ".join(fields.replace("${", " ").replace("}", " ").replace(",", " ").split())


class ObjectLock(BaseModel):
    """Object Lock of the lake's files.

    Args:
        mode: `GOVERNANCE` or `COMPLIANCE`.
        days: From the moment that a file is put.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["GOVERNANCE", "COMPLIANCE"]
    days: int = Field(ge=1, le=36_500)


class Suppression(BaseModel):
    """Findings that are expected, for some time. Patterns have `*` and `?`.

    Args:
        rule: Name of the rule's file without its ending, its id, or its title.
        about: What the events are about: a person, an address, a thing.
        account: The account.
        reason: Why.
        until: The last day, UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str = Field(min_length=1)
    about: str = "*"
    account: str = "*"
    reason: str = Field(min_length=1)
    until: date


class Prices(BaseModel):
    """What AWS asks, in US dollars: S3 Standard and a vCPU in us-east-1, as docs/scale.md names them.

    Args:
        get_per_1000: A thousand GET requests.
        put_per_1000: A thousand PUT or LIST requests.
        gb_month: A GB (2^30 bytes) stored for a month.
        vcpu_hour: An hour of one processor.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    get_per_1000: float = Field(default=0.0004, ge=0)
    put_per_1000: float = Field(default=0.005, ge=0)
    gb_month: float = Field(default=0.023, ge=0)
    vcpu_hour: float = Field(default=0.03625, ge=0)


def processors() -> int:
    """The processors that this process may run on, at least one; a container's share of time does not count."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


class Settings(BaseSettings):
    """What can be set. Sizes are in bytes unless the name says otherwise.

    Everything that decides which file an event is written to, or its bytes, is here and nowhere else: two runs with the
    same settings, inputs and mapper write the same files.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, toml_file=FILE, extra="forbid", frozen=True, validate_default=True
    )

    lake: str = Field("./ocsf_lake", description="Root of the lake: a folder, or a URI of fsspec such as s3://bucket/lake.")
    state: Path | None = Field(
        None, description="Folder for ledger and catalog; needed when the lake is not a local folder."
    )
    ledger_url: str | None = Field(
        None, repr=False, description="SQLAlchemy URL of the ledger, instead of SQLite in the lake."
    )
    umask: str = Field(
        "077", pattern="^0?[0-7]{3}$",
        description="Permissions removed from new local files: 077 keeps them private, 027 lets the group read.",
    )  # fmt: skip
    ocsf_version: str = Field(DEFAULT_VERSION, description="OCSF version of the events.")

    s3_endpoint: str | None = Field(None, description="URL of an S3 store other than AWS's own.")
    s3_region: str | None = Field(None, description="Region of the buckets, instead of the profile's.")
    s3_connections: int = Field(32, ge=1, le=512, description="Maximum number of concurrent requests to S3.")
    input_role: str | None = Field(None, description="ARN of the role to read raw objects with.")
    input_external_id: str | None = Field(
        None, repr=False, description="External id that the role for reading requires."
    )
    input_requester_pays: bool = Field(False, description="Pay for reading raw objects in requester-pays buckets.")
    lake_role: str | None = Field(None, description="ARN of the role to use the lake with.")
    lake_external_id: str | None = Field(
        None, repr=False, description="External id that the role for the lake requires."
    )
    lake_kms_key: str | None = Field(None, description="KMS key for the lake's files, instead of the bucket's default.")

    export_role: str | None = Field(
        None, description="ARN of the role to write to Security Lake with; {name} and {region} are the custom source's."
    )
    export_external_id: str | None = Field(
        None, repr=False, description="External id that the role for exports requires."
    )
    export_kms_key: str | None = Field(None, description="KMS key for exported objects, not the bucket's default.")
    export_region: str | None = Field(
        None, description="Region of the export bucket, if its name does not contain it as Security Lake's does."
    )
    export_object_bytes: int = Field(
        256 << 20, gt=0, description="Size after which exported events continue in another object."
    )

    object_lock: ObjectLock | None = Field(
        None, description="S3 Object Lock of the lake's files: a table of mode (GOVERNANCE or COMPLIANCE) and days."
    )
    object_lock_compact: bool = Field(
        False, description="Compact and remap under COMPLIANCE too: the old files stay, and are paid for as well."
    )
    chain_key: str | None = Field(
        None, repr=False,
        description="Ed25519 private key that signs the lake's chain: a PEM file, or its text in the variable.",
    )  # fmt: skip

    catalogs: tuple[Literal["glue", "iceberg"], ...] = Field(
        (), description="Catalogs to register with besides the lake's own: glue, iceberg."
    )
    glue_database: str = Field("ocsf_lake", description="Database of the tables in Glue.")
    glue_catalog_id: str | None = Field(None, description="Account that owns the Glue Data Catalog, if not ours.")
    glue_endpoint: str | None = Field(None, description="URL of a Glue other than AWS's own.")
    glue_projection: bool = Field(
        False, description="Let Athena compute partitions instead of registering each, for very many of them."
    )
    glue_projection_regions: tuple[str, ...] = Field(
        (), description="Regions of the projection; without them each query must name one."
    )
    glue_projection_accounts: tuple[str, ...] = Field(
        (), description="Accounts of the projection; without them each query must name one."
    )
    athena_workgroup: str = Field("primary", description="Workgroup that `ocsf-lake query --athena` runs in.")
    iceberg_namespace: str = Field("ocsf_lake_iceberg", description="Namespace of the tables in Iceberg.")
    iceberg_properties: dict[str, str] = Field(
        {}, repr=False,
        description="pyiceberg's properties of the catalog (type, uri). Default: SQLite next to the lake's own."
    )  # fmt: skip
    iceberg_files: Literal["auto", "referenced", "copied"] = Field(
        "auto",
        description="Whether Iceberg's tables reference the lake's files or copy their rows, for catalogs that decide "
        "where tables are stored; auto copies only for Amazon S3 Tables.",
    )

    batch_bytes: int = Field(48 << 20, gt=0, description="Maximum size of a batch's objects, as stored (compressed).")
    batch_objects: int = Field(1_000, gt=0, description="Maximum number of objects in a batch.")
    batch_records: int = Field(500_000, gt=0, description="Maximum records in a batch, estimated by size.")
    part_rows: int = Field(65_536, gt=0, description="Maximum number of records mapped by one query.")
    part_bytes: int = Field(40 << 20, gt=0, description="Maximum raw text per query; one record may exceed it.")
    compact_file_bytes: int = Field(
        256 << 20, gt=1, description="Maximum size of compacted files; those at least half that size are not merged."
    )
    compact_grace_hours: float = Field(
        24, ge=0, description="How long merged files stay, for queries that are running."
    )
    workers: int = Field(
        default_factory=lambda: min(2, processors()), ge=1, le=64,
        description="Batches in parallel. Each needs about 550 MB of memory, 650 MB for GuardDuty findings, 800 MB "
        "for objects of hundreds of megabytes. Default: 2, or 1 on one CPU.",
    )  # fmt: skip

    attempts: int = Field(
        3, ge=2, le=1_000, description="Failures after which a batch is split, and a single object is skipped."
    )
    task_runner: Literal["threads", "processes", "dask"] = Field(
        "threads", description="How a flow run processes its batches, as many in parallel as there are workers."
    )
    dask_scheduler: str | None = Field(
        None, description="Address of a Dask scheduler such as tcp://dask:8786; without it, a cluster on this machine."
    )
    retries: int = Field(4, ge=0, le=50, description="How often a flow retries after a transient error.")
    retry_seconds: float = Field(10, ge=0, description="Wait before the first retry; doubled for each further one.")
    task_seconds: int = Field(3_600, gt=0, description="Time after which a task in a process is killed.")

    alert_quarantined: float = Field(
        0.01, ge=0, le=1, description="Share of a source's records of 24 hours in quarantine that raises an alert."
    )
    fail_quarantined: float = Field(
        0.1, ge=0, le=1, description="Share of a source's records in quarantine above which a flow run fails."
    )
    alert_lag_minutes: float = Field(
        120, gt=0, description="Longest time from an object's timestamp to its events in the lake; slower is reported."
    )
    prices: Prices = Field(
        Prices(), description="US dollar prices for `ocsf-lake report`: get_per_1000, put_per_1000, gb_month, "
        "vcpu_hour.",
    )  # fmt: skip

    max_object_bytes: int = Field(32 << 30, gt=0, description="Decompressed size at which reading an object stops.")
    max_object_ratio: int = Field(250, gt=1, description="Decompression ratio at which reading an object stops.")

    duplicates: dict[str, Literal["keep", "mark", "drop"]] = Field(
        default_factory=dict, description="Source -> keep, mark or drop: what to do with events already in the lake."
    )

    retention: Retention = Field(
        Retention(),
        description="How long events are kept (400d, 7y, forever): default, sources, tables, accounts, quarantine; "
        "without a rule, forever. `ocsf-lake retain` removes older ones.",
    )

    mappers: Path | None = Field(
        None, description="Folder with your own sources, one Python file or package each; its code is executed."
    )
    flow_fields: tuple[LogFields, ...] = Field(
        (), description="Fields of flow logs without a header line: tables of uri (prefix or glob) and fields."
    )
    realtime_fields: tuple[LogFields, ...] = Field(
        (), description="Fields of CloudFront's real-time logs, which have no header line: tables of uri and fields."
    )

    redact_default: bool = Field(
        True, description="Hide known credentials and secrets in logs before they are written to the lake."
    )
    redact: tuple[Rule, ...] = Field(
        (), description="What else to hide: tables of name, path, member or detect, action, sources and accounts."
    )
    redaction_key_file: Path | None = Field(
        None, description="File with the key for hashes, instead of the variable OCSF_LAKE_REDACTION_KEY."
    )
    rules: tuple[Path, ...] = Field(
        (), description="Folders with Sigma rules that `ocsf-lake detect` runs; pack for the built-in ones."
    )
    backfill_rules: bool = Field(
        True, description="Run rules on what the flow `backfill` ingests; if false, only `detect --from --to` does."
    )
    rule_placeholders: dict[str, tuple[str, ...]] = Field(
        {}, description="Name of a placeholder in rules, without its %, -> its values."
    )

    rule_suppressions: tuple[Suppression, ...] = Field(
        (), description="Expected findings: tables of rule, about, account, reason and until (the last day)."
    )

    alerts: Alerts = Field(
        default_factory=lambda: Alerts.model_validate({}),
        description="Alerts about findings: receivers, severity, digest, attempts, retry_seconds, timeout_seconds, "
        "max_age_days.",
    )

    verify_reads: bool = Field(
        True, description="Check the local files that a query read against their checksums before it returns."
    )

    query_memory_bytes: int = Field(
        1 << 30, ge=64 << 20,
        description="Memory that DuckDB may use for a query. Sorts and aggregates that need more spill to disk, or "
        "end the query.",
    )  # fmt: skip
    content_hashes: Literal["digests", "all", "none"] = Field(
        "digests",
        description="For which sources to keep the SHA-256 of the decompressed raw objects: those for which AWS "
        "delivers digests, all, or none.",
    )

    compression_level: int = Field(1, ge=1, le=22, description="zstd level of Parquet files.")
    row_group_rows: int = Field(131_072, gt=0, description="Maximum number of rows in a row group.")
    data_page_bytes: int = Field(1 << 20, gt=0, le=1 << 20, description="Maximum size of an uncompressed data page.")

    @field_validator("ocsf_version")
    @classmethod
    def _known_version(cls, version: str) -> str:
        if version not in shipped.versions():
            raise ValueError(
                f"no OCSF version {version!r}; shipped are {', '.join(shipped.versions())}"
                f"{nearest(version, shipped.versions())}"
            )
        return version

    @field_validator("lake", "state", "mappers", "redaction_key_file", mode="before")
    @classmethod
    def _named(cls, place: object) -> object:
        # As a path it would be the working folder: a lake would be made there, and what Python it has be run.
        if isinstance(place, str) and not place.strip():
            raise ValueError("it is empty, as a variable is that was not set; name a place, or leave it out")
        return place

    @field_validator("iceberg_properties")
    @classmethod
    def _no_settings(cls, properties: dict[str, str]) -> dict[str, str]:
        for name in properties:
            if name in cls.model_fields:
                raise ValueError(_by_itself(name))
        return properties

    @field_validator("s3_endpoint", "glue_endpoint")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        if url and "@" in url:
            raise ValueError("it names a user or password; credentials come from the environment or a role")
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("it is not a URL that begins with http:// or https://")
        return url

    def use_mappers(self) -> None:
        """Let the sources in the folder of mappers be known to this process.

        Raises:
            ConfigError: There is no such folder.
        """
        if self.mappers is not None:
            if not self.mappers.is_dir():
                raise ConfigError(f"setting mappers: there is no folder {str(self.mappers)!r}")
            registry.use_folder(self.mappers)

    @property
    def mask(self) -> int:
        """The setting `umask` as a number."""
        return int(self.umask, 8)

    @property
    def limits(self) -> Limits:
        """Limits of decompression, as the readers take them."""
        from ocsf_mappers.readers.streams import Limits

        return Limits(max_bytes=self.max_object_bytes, max_ratio=self.max_object_ratio)

    @property
    def input_access(self) -> Access:
        """How raw objects on S3 are reached."""
        return Access(
            self.s3_endpoint, self.s3_region, self.input_role, self.input_external_id, self.input_requester_pays,
            connections=self.s3_connections,
        )  # fmt: skip

    @property
    def lake_access(self) -> Access:
        """How a lake on S3 is reached."""
        return Access(
            self.s3_endpoint, self.s3_region, self.lake_role, self.lake_external_id, kms_key=self.lake_kms_key,
            connections=self.s3_connections,
            lock=Lock(self.object_lock.mode, self.object_lock.days) if self.object_lock else None,
        )  # fmt: skip

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(**overrides: Any) -> Settings:
    """The settings in force; what is given here wins, None counts as not given.

    Raises:
        ConfigError: Some setting is unknown or has no valid value, or the file is no TOML; the message lists them all.
    """
    problems = _unknown_variables()
    settings = None
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{FILE} is not TOML: {error}")
    except SettingsError as error:  # its text names our variable by the field alone
        name = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        problems.append(f"variable {PREFIX}{name.upper()}: what it holds is not JSON")
    except ValidationError as error:
        problems += [_problem(item["loc"], item["msg"]) for item in error.errors(include_url=False)]
    if settings is None or problems:
        raise ConfigError("; ".join(problems))
    settings.use_mappers()
    return settings


def origins() -> dict[str, list[str]]:
    """Where the value of each setting is given: the file's name, the variable's, of a table perhaps both, or none.

    A variable takes the place of what the file says, but tables have the keys of both.
    """
    by_variable, in_file = EnvSettingsSource(Settings)(), TomlConfigSettingsSource(Settings)()
    variables = {name.lower(): name for name in os.environ}
    places = {}
    for name in Settings.model_fields:
        is_joined = all(isinstance(values.get(name), dict) for values in (by_variable, in_file))
        files = [FILE] if name in in_file and (name not in by_variable or is_joined) else []
        places[name] = files + ([f"variable {variables[f'{PREFIX}{name}'.lower()]}"] if name in by_variable else [])
    return places


def _unknown_variables() -> list[str]:
    """A misspelt variable would leave its setting at the default without a word: another lake, say."""
    valid = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    lower_names = set(map(str.lower, valid))  # as it is read: some letters have a capital that is another letter's
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.lower() not in lower_names)
    return [f"variable {name}: no such setting{nearest(name, valid)}" for name in unknown if name not in NOT_SETTINGS]


def _by_itself(name: str) -> str:
    return f"{name} is a setting by itself: put it above the first table of {FILE}"


def _problem(place: tuple[int | str, ...], message: str) -> str:
    name = ".".join(str(step) for step in place)
    is_setting = bool(place) and place[0] in Settings.model_fields
    hint = "" if is_setting else nearest(name, Settings.model_fields)
    if is_setting and len(place) == 2:
        members = getattr(Settings.model_fields[str(place[0])].annotation, "model_fields", {})
        if place[1] in Settings.model_fields and place[1] not in members:
            hint = f"; {_by_itself(str(place[1]))}"
    return f"setting {name}: {message.removeprefix('Value error, ')}{hint}"
