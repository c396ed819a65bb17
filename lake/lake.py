"""A lake opened: its files, ledger and catalog in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from lake import layout, retry, s3
from lake.catalog import Catalog, Catalogs
from lake.catalogs.local import SqlCatalog
from lake.config import Settings
from lake.database import is_postgres
from lake.exports import Exports
from lake.leases import FileLeases, Leases, PostgresLeases
from lake.ledger import Ledger
from lake.store import Store
from ocsf_mappers.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Lake:
    """What a run works with.

    Args:
        settings: The settings in force.
        store: The lake's files.
        ledger: What was read.
        catalog: What is visible.
        leases: Who works on which batch.
    """

    settings: Settings
    store: Store
    ledger: Ledger
    catalog: Catalogs
    leases: Leases

    def exports(self, target: str) -> Exports:
        """What the ledger says of what went to a custom source, by the URI of its folder."""
        return Exports(self.ledger.engine, target)


@contextmanager
def opened(settings: Settings, patient: bool = False) -> Iterator[Lake]:
    """The lake of these settings; it is made when there is none.

    With a ledger in PostgreSQL the catalog and the locks of batches are there too, and any number of hosts share the
    lake; otherwise all three are in a local folder, for the processes of one host.

    Args:
        settings: The settings in force.
        patient: Wait while the database does not answer, as a run does; who looks something up wants to know at once.

    Raises:
        ConfigError: Its databases have no place, cannot be opened, or are those of another lake.
        RetriableError: The database does not answer.
    """
    store = Store(settings.lake, settings.lake_access, settings.mask)
    url = settings.ledger_url
    shared = url is not None and is_postgres(url)
    state = None if shared else _state(settings, store)
    with ExitStack() as stack:
        ledger = _asked(patient, Ledger, url or f"sqlite:///{_in(state, layout.LEDGER_PATH)}", settings.mask)
        stack.callback(ledger.close)
        if url is not None:
            _asked(patient, ledger.belongs_to, store.uri("").rstrip("/"))
        local = _asked(
            patient, SqlCatalog, url if url and shared else f"sqlite:///{_in(state, layout.CATALOG_PATH)}",
            settings.mask,
        )
        stack.callback(local.close)
        others = _others(settings, store, state, url if shared else None)
        for other in others:
            stack.callback(other.close)
        locks = None if shared else _in(state, layout.LOCKS_PATH)
        leases: Leases = FileLeases(locks, settings.mask) if locks else PostgresLeases(ledger.engine)
        stack.callback(leases.close)
        yield Lake(settings, store, ledger, Catalogs(local, others), leases)


def _asked(patient: bool, do: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    return retry.patiently(do, *given, **named) if patient else do(*given, **named)


def _others(settings: Settings, store: Store, state: Path | None, shared: str | None) -> list[Catalog]:
    """The catalogs beside the local one, as the settings name them; each is imported only when it is wanted."""
    found: list[Catalog] = []
    if "glue" in settings.catalogs:
        from lake.catalogs import glue

        if not s3.is_s3(store.fs):
            raise ConfigError(f"Glue's tables stand on S3, and the lake {settings.lake!r} does not")
        projection = glue.Projection(settings.glue_projection_regions, settings.glue_projection_accounts)
        place = glue.Place(
            settings.glue_database, settings.glue_catalog_id, settings.glue_endpoint, settings.lake_access,
            projection if settings.glue_projection else None,
        )  # fmt: skip
        client = s3.aws_client("glue", place.access, place.endpoint)
        found.append(glue.GlueCatalog(place, store, client))
    if "iceberg" in settings.catalogs:
        from lake.catalogs import iceberg

        catalog = iceberg.connect(settings.iceberg_properties, store, state, shared)
        found.append(iceberg.IcebergCatalog(catalog, settings.iceberg_namespace, store))
    return found


def exists(settings: Settings) -> bool:
    """Whether there is a lake of these settings. A ledger that a URL names counts as one."""
    if settings.ledger_url is not None:
        return True
    return (_state(settings, Store(settings.lake, settings.lake_access)) / layout.LEDGER_PATH).exists()


def _in(state: Path | None, name: str) -> Path:
    assert state is not None
    return state / name


def _state(settings: Settings, store: Store) -> Path:
    if settings.state is not None:
        return settings.state.absolute()
    if store.is_local:
        return Path(store.root)
    raise ConfigError(
        f"the lake {settings.lake!r} is not a local folder, so its ledger and catalog need a place; "
        "set OCSF_LAKE_STATE to a folder or OCSF_LAKE_LEDGER_URL to a PostgreSQL database"
    )
