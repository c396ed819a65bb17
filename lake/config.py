"""Settings of a lake, read once: arguments, then `OCSF_LAKE_*` variables, then `ocsf-lake.toml`, then defaults."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

import schemas
from ocsf_mappers import DEFAULT_VERSION
from ocsf_mappers.errors import ConfigError, nearest
from ocsf_mappers.streams import Limits

FILE = "ocsf-lake.toml"
PREFIX = "OCSF_LAKE_"
NOT_SETTINGS = frozenset(["OCSF_LAKE_SAMPLES"])
"""Variables that begin like a setting's and are none: the folder of logs that tests read."""


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
    ledger_url: str | None = Field(None, description="SQLAlchemy URL of the ledger, instead of SQLite in the lake.")
    ocsf_version: str = Field(DEFAULT_VERSION, description="OCSF version of the events.")

    batch_bytes: int = Field(16 << 20, gt=0, description="Objects of one batch, compressed as they are, at most.")
    batch_objects: int = Field(1_000, gt=0, description="Objects of one batch, at most.")
    batch_records: int = Field(500_000, gt=0, description="Records of one batch, as its size suggests, at most.")
    part_rows: int = Field(65_536, gt=0, description="Records mapped by one query, at most.")
    part_bytes: int = Field(32 << 20, gt=0, description="Raw text mapped by one query; passed by one record at most.")
    workers: int = Field(2, ge=1, le=64, description="Batches worked on at once. Each needs up to 500 MB of memory.")

    max_object_bytes: int = Field(32 << 30, gt=0, description="Decompressed size at which reading an object stops.")
    max_object_ratio: int = Field(250, gt=1, description="Growth by decompression at which reading stops.")

    compression_level: int = Field(1, ge=1, le=22, description="Level of zstd in Parquet files.")
    row_group_rows: int = Field(131_072, gt=0, description="Rows of a row group, at most.")
    data_page_bytes: int = Field(1 << 20, gt=0, le=1 << 20, description="Uncompressed data page, at most.")

    @field_validator("ocsf_version")
    @classmethod
    def _known_version(cls, version: str) -> str:
        if version not in schemas.versions():
            raise ValueError(
                f"no OCSF version {version!r}; shipped are {', '.join(schemas.versions())}"
                f"{nearest(version, schemas.versions())}"
            )
        return version

    @property
    def limits(self) -> Limits:
        """Limits of decompression, as the readers take them."""
        return Limits(max_bytes=self.max_object_bytes, max_ratio=self.max_object_ratio)

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


def load(**given: Any) -> Settings:
    """The settings in force; what is given here wins, None counts as not given.

    Raises:
        ConfigError: Some setting is unknown or has no valid value, or the file is no TOML; the message lists them all.
    """
    problems = _unknown_variables()
    found = None
    try:
        found = Settings(**{name: value for name, value in given.items() if value is not None})
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{FILE} is not TOML: {error}")
    except ValidationError as error:
        problems += [_problem(item["loc"], item["msg"]) for item in error.errors(include_url=False)]
    if found is None or problems:
        raise ConfigError("; ".join(problems))
    return found


def _unknown_variables() -> list[str]:
    """A misspelt variable would leave its setting at the default without a word: another lake, say."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    given = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    return [f"variable {name}: no such setting{nearest(name, known)}" for name in given if name not in NOT_SETTINGS]


def _problem(place: tuple[int | str, ...], message: str) -> str:
    name = ".".join(str(step) for step in place)
    hint = "" if name in Settings.model_fields else nearest(name, Settings.model_fields)
    return f"setting {name}: {message.removeprefix('Value error, ')}{hint}"
