"""How Iceberg's catalogs are reached: their properties, access to their files, and what their errors mean."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import sqlalchemy as sa  # noqa: TID251 - of Iceberg's own catalog
from pydantic import ValidationError

from ocsf_lake.ledger import database  # noqa: TID251 - its tables may stand in the ledger's PostgreSQL
from ocsf_lake.storage import layout, permissions, s3
from ocsf_lake.storage.s3 import Access
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import ConfigError, RetriableError, WriteError

try:
    import requests
    from pyiceberg import exceptions as iceberg
    from pyiceberg.catalog import BOTOCORE_SESSION, load_catalog
    from pyiceberg.catalog import Catalog as PyIcebergCatalog
    from pyiceberg.catalog.rest import RestCatalog
    from pyiceberg.io.fsspec import FsspecFileIO
except ImportError as missing:
    raise ConfigError(f"Iceberg needs pyiceberg ({missing}): install ocsf-lake[iceberg]") from missing

# It logs, for each file, every column that the writer keeps no statistics of.
logging.getLogger("pyiceberg.io.pyarrow").setLevel(logging.ERROR)

Files = Literal["auto", "referenced", "copied"]
"""What the setting `iceberg_files` may be."""

FOLDER = "_iceberg"
"""Where metadata lies below the lake's root, where data files stay where they are."""

NAME = "ocsf_lake"
"""The catalog's name, which separates the rows of its tables from those of others in the same database."""

CONNECT_SECONDS, ANSWER_SECONDS, SIGNED_RETRIES = 10, 60, 2
"""How long a catalog is waited for, and how often a signed request is repeated that got no answer; POST is not."""

OPENED = 3
"""How often a catalog in SQLite is opened while others make it."""

ACCESS = "ocsf-lake.access"
SIGNED, SIGNING_NAME, SIGNING_REGION = "rest.sigv4-enabled", "rest.signing-name", "rest.signing-region"
CREDENTIALS = {"client.access-key-id", "client.profile-name"}
"""Properties by which pyiceberg finds credentials itself."""

_EMPTY = "sqlite:///file:ocsf-lake-empty?mode=memory&cache=shared&uri=true"
_TABLE_BUCKET = re.compile(r"arn:[a-z-]+:s3tables:|(\d{12}:)?s3tablescatalog(/|$)")
"""A table bucket as S3 Tables names it in `warehouse`, and as Glue does."""
_S3_TABLES_HOST = re.compile(r"(^|\.)s3tables(-fips)?\.")

BUSY = (
    iceberg.ServiceUnavailableError, iceberg.ServerError, iceberg.TooManyRequestsError,
    iceberg.CommitStateUnknownException, requests.exceptions.ConnectionError, requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
)  # fmt: skip
"""The catalog gave no answer, or none that shows whether it has done what it was asked."""
REFUSED = (iceberg.ForbiddenError, iceberg.UnauthorizedError, iceberg.AuthorizationExpiredError, iceberg.OAuthError)
NOT_THERE = (iceberg.NoSuchTableError, iceberg.NoSuchNamespaceError)


class LakeFileIO(FsspecFileIO):
    """Files for pyiceberg, reached the way the lake reaches them, unless the catalog's properties name another."""

    def get_fs(self, scheme: str, hostname: str | None = None) -> Any:
        """The file system of a scheme."""
        if scheme in s3.PROTOCOLS and ACCESS in self.properties:
            return s3.filesystem(self._access(Access(**json.loads(self.properties[ACCESS]))))
        return super().get_fs(scheme, hostname)

    def _access(self, access: Access) -> Access:
        return access


class OwnFileIO(LakeFileIO):
    """The same for files that lie where a catalog puts its tables: it, or its properties, may have keys for them."""

    def get_fs(self, scheme: str, hostname: str | None = None) -> Any:
        """The file system of a scheme."""
        if any(name.startswith("s3.") for name in self.properties):
            return FsspecFileIO.get_fs(self, scheme, hostname)
        return super().get_fs(scheme, hostname)

    def _access(self, access: Access) -> Access:
        # The lake's key is not that of the bucket of tables, which has its own.
        return replace(access, kms_key=None, requester_pays=False)


class WaitingRestCatalog(RestCatalog):
    """A REST catalog that is not waited for without end, as pyiceberg does."""

    def _create_session(self) -> requests.Session:
        session = super()._create_session()
        limited = partial(session.request, timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
        session.request = limited  # type: ignore[method-assign]
        return session


def is_s3_tables(properties: Mapping[str, str]) -> bool:
    """Whether properties name Amazon S3 Tables, or what speaks its protocol: by endpoint, table bucket or signature."""
    host = urlsplit(properties.get("uri", "")).hostname or ""
    buckets = (properties.get("warehouse", ""), properties.get("glue.id", ""))
    is_bucket = any(_TABLE_BUCKET.match(bucket) for bucket in buckets)
    return is_bucket or _S3_TABLES_HOST.search(host) is not None or properties.get(SIGNING_NAME) == "s3tables"


def are_copied(files: Files, properties: Mapping[str, str]) -> bool:
    """Whether tables have copies of rows, in a place that the catalog gives them, and not the lake's own files."""
    return is_s3_tables(properties) if files == "auto" else files == "copied"


def connect(
    properties: dict[str, str], store: Store, state: Path | None, shared: str | None = None, *,
    reading: bool = False, files: Files = "auto",
) -> PyIcebergCatalog:  # fmt: skip
    """The catalog of pyiceberg with these properties.

    Args:
        properties: pyiceberg's own. Without `type` and `uri` the catalog is beside the ledger: in its PostgreSQL, under
            the names of tables that every JDBC catalog of Iceberg has, or in SQLite.
        store: The lake's files.
        state: Folder of the ledger, where it is SQLite.
        shared: URL of the ledger, where it is in PostgreSQL.
        reading: Its tables are not made.
        files: See `are_copied`.

    Raises:
        ConfigError: It cannot be opened.
        RetriableError: It, or its database, does not answer.
    """
    options: dict[str, Any] = dict(properties)
    copied = are_copied(files, properties)
    if reading:
        options.setdefault("init_catalog_tables", "false")
    if not {"type", "uri", "catalog-impl", "py-catalog-impl"} & options.keys():
        options |= {"type": "sql", "uri": shared or _beside_the_ledger(state, store.umask)}
    if options.get("uri", "").startswith("postgres"):
        options["uri"] = database.postgres_url(options["uri"])
        options.setdefault("pool_pre_ping", "true")
    file_io = OwnFileIO if copied else LakeFileIO
    options.setdefault("py-io-impl", f"{file_io.__module__}.{file_io.__qualname__}")
    options.setdefault("warehouse", store.uri(FOLDER))
    if store.is_local:
        permissions.make_folder(Path(store.path(FOLDER)), store.umask)  # pyiceberg's own files have no mode to choose
    options[ACCESS] = json.dumps(asdict(store.access))
    if _is_rest(options):
        options.pop("type", None)
        options["py-catalog-impl"] = f"{WaitingRestCatalog.__module__}.{WaitingRestCatalog.__qualname__}"
        options.setdefault("rest.sigv4.max-retries", str(SIGNED_RETRIES))
    if options.get(SIGNED, "").lower() == "true":
        with s3.translate_errors(options["warehouse"]):
            _sign(options, store.access)
    catalog = _opened(options)
    if isinstance(engine := getattr(catalog, "engine", None), sa.Engine):
        database.sort_out_errors(engine)
        if reading and not sa.inspect(engine).has_table("iceberg_tables"):
            # Nobody has written to it yet, and whoever reads makes no tables: one without tables stands for it.
            catalog.close()
            return _opened(options | {"type": "sql", "uri": _EMPTY, "init_catalog_tables": "true"})
    return catalog


def _is_rest(properties: Mapping[str, str]) -> bool:
    """Whether pyiceberg takes these for a REST catalog's."""
    if {"catalog-impl", "py-catalog-impl"} & properties.keys():
        return False
    return properties.get("type", "").lower() == "rest" or (
        "type" not in properties and properties.get("uri", "").startswith("http")
    )


def _sign(options: dict[str, Any], access: Access) -> None:
    """Adds what requests are signed with; pyiceberg fails without words where there is nothing of the kind."""
    session = s3.aws_session("Iceberg's catalog", access)
    region = access.region or session.get_config_variable("region")
    if not {SIGNING_REGION, "client.region"} & options.keys():
        if region is None:
            raise ConfigError(f"signed requests to an Iceberg catalog need {SIGNING_REGION!r} in iceberg_properties")
        options[SIGNING_REGION] = region
    if CREDENTIALS & options.keys():
        return
    if session.get_credentials() is None:
        raise ConfigError(
            "there are no credentials to sign requests to the Iceberg catalog with; set AWS_PROFILE, AWS_ACCESS_KEY_ID "
            "or a role of this machine"
        )
    options[BOTOCORE_SESSION] = session


def _beside_the_ledger(state: Path | None, umask: int) -> str:
    if state is None:
        raise ConfigError("an Iceberg catalog needs `uri` and `type` in iceberg_properties, or a folder for state")
    place = state / layout.CATALOGS
    permissions.make_folder(place, umask)
    # As SQLite's own URI: SQLAlchemy would end a path at its first question mark.
    return f"sqlite:///file:{quote(str(place / 'iceberg.db'))}?uri=true"


def _opened(properties: dict[str, Any]) -> PyIcebergCatalog:
    uri = properties.get("uri", "")
    for attempt in range(OPENED):
        try:
            # pyiceberg looks for its tables and then makes them; another process may do so in between.
            locked = database.locked(uri, "tables of iceberg") if uri.startswith("postgresql") else nullcontext()
            with locked, s3.translate_errors(properties["warehouse"]):  # not the URI, which may have a password
                return load_catalog(NAME, **properties)
        except BUSY as error:
            raise RetriableError(f"the Iceberg catalog does not answer: {error}") from error
        except ValidationError as error:
            raise ConfigError(f"cannot open the Iceberg catalog: {_unreadable(error)}") from None
        except (ValueError, ImportError, iceberg.NotInstalledError, iceberg.RESTError) as error:
            raise ConfigError(f"cannot open the Iceberg catalog: {error}") from error
        except sa.exc.DBAPIError as error:
            if attempt + 1 == OPENED:
                raise ConfigError(f"cannot open the Iceberg catalog: {error.orig}") from error
    raise AssertionError("the last attempt ended neither way")


def _unreadable(error: ValidationError) -> str:
    """What is wrong with an answer, without the answer: it may have credentials for the table's files."""
    wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(step) for step in wrong["loc"])
    return f"it answered what is no {error.title}: {wrong['msg']}{f' ({place})' if place else ''}"


@contextmanager
def translated(table: str, uri: str) -> Iterator[None]:
    """Makes errors of the catalog, and of the store of its files, this project's; a lost commit passes through.

    Args:
        table: What is being worked on.
        uri: Where its files are.

    Raises:
        RetriableError: The catalog or the store is busy or out of reach.
        WriteError: It refused.
    """
    try:
        with s3.translate_errors(uri, denied=WriteError):
            yield
    except BUSY as error:
        raise RetriableError(f"the Iceberg catalog failed: {error}", table=table) from error
    except ValidationError as error:
        raise RetriableError(f"the Iceberg catalog failed: {_unreadable(error)}", table=table) from None
    except REFUSED as error:
        raise WriteError(f"the Iceberg catalog refused: {error}", table=table) from error
    except iceberg.RESTError as error:
        raise WriteError(f"the Iceberg catalog cannot do it: {error}", table=table) from error
