"""A lake opened: its files, ledger and catalogs in one place."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from ocsf_lake.catalogs.base import Catalog, Catalogs
from ocsf_lake.config import Settings
from ocsf_lake.ledger import chain, marker, records, signing
from ocsf_lake.ledger.database import URL, DamagedError, MissingError, is_postgres, lock, parsed, shown, sqlite_url
from ocsf_lake.ledger.exports import Exports
from ocsf_lake.ledger.files import Files
from ocsf_lake.ledger.leases import FileLeases, Leases, PostgresLeases
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.storage import layout, retry, s3
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import ConfigError, RetriableError, WriteError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Lake:
    """What a run works with.

    Args:
        settings: The settings in force.
        store: The lake's files.
        ledger: What was read.
        files: What its queries read.
        catalog: The catalogs beside the ledger.
        leases: Who works on which batch.
    """

    settings: Settings
    store: Store
    ledger: Ledger
    files: Files
    catalog: Catalogs
    leases: Leases

    def exports(self, target: str) -> Exports:
        """What the ledger says of what went to a custom source, by the URI of its folder."""
        return Exports(self.ledger.engine, target)

    def versions(self, paths: Iterable[str]) -> dict[str, list[s3.Version]]:
        """Path -> its versions, for ledger and chain: with Object Lock, a file that goes is only hidden."""
        if self.settings.object_lock is None:
            return {}
        versions_by_path = {path: [item for item in self.store.versions(path) if not item.is_marker] for path in paths}
        return {path: items for path, items in versions_by_path.items() if items}

    @property
    def lock_days(self) -> int:
        """How long files are locked from when they are put."""
        return self.settings.object_lock.days if self.settings.object_lock else 0

    def publish_chain(self) -> None:
        """Puts new records of the chain into the lake; who comes next does what cannot be done now.

        What they are of is done: no error here may make it look as if it was not.
        """
        try:
            chain.publish(self.ledger.engine, self.store)
        except (RetriableError, WriteError) as error:
            logging.getLogger(__name__).debug("records of the chain wait for the next writer: %s", error)


@contextmanager
def opened(
    settings: Settings,
    with_retries: bool = False,
    *,
    reading: bool = False,
    catalogs: bool = False,
    absent: bool = False,
) -> Iterator[Lake]:
    """The lake of these settings; it is made when there is none, unless it is only to be read.

    With a ledger in PostgreSQL the locks of batches are there too, and any number of hosts share the lake; otherwise
    both are in a local folder, for the processes of one host.

    Args:
        settings: The settings in force.
        with_retries: Wait while the database does not answer, as a run does; who looks something up wants to know at
            once.
        reading: Make and change nothing: permission to read is enough.
        catalogs: Who only reads wants the catalogs beside the ledger too, to look at them.
        absent: A lake that is not there counts as an empty one; it is not made.

    Raises:
        ConfigError: Its databases have no place, cannot be opened, or are not those of this lake.
        MissingError: It is only to be read, and there is none.
        RetriableError: The database or the store does not answer.
    """
    reading = reading or absent
    settings.use_mappers()  # they may have come from another process
    store = Store(settings.lake, settings.lake_access, settings.mask)
    if settings.object_lock is not None and not reading:
        _call(with_retries, store.check_lock)
    url, state, shared = _places(settings, store)
    target = parsed(url or sqlite_url(_in(state, layout.LEDGER_PATH)))
    place = shown(target)
    with ExitStack() as stack:
        ledger = _ledger(settings, store, target, with_retries, reading, absent)
        stack.callback(ledger.close)
        if url is not None:
            _call(with_retries, ledger.belongs_to, store.uri("").rstrip("/"), reading=reading)
        lake_marker = _call(with_retries, marker.check, ledger.engine, store, place)
        if lake_marker is None and not reading:
            _call(with_retries, _claim, ledger, store, place)
        if not reading:
            _sign(settings, ledger)
            _call(with_retries, chain.begin, ledger.engine, store)
            _call(with_retries, chain.publish, ledger.engine, store)
        if state is not None and not reading:
            _remove_former_catalog(state)
        others = _others(settings, store, state, url if shared else None, reading) if catalogs or not reading else []
        for other in others:
            stack.callback(other.close)
        locks = None if shared else _in(state, layout.LOCKS_PATH)
        leases: Leases = FileLeases(locks, settings.mask) if locks else PostgresLeases(ledger.engine)
        stack.callback(leases.close)
        yield Lake(settings, store, ledger, Files(ledger.engine), Catalogs(others), leases)


@contextmanager
def bare(settings: Settings) -> Iterator[tuple[Store, Ledger, str]]:
    """A lake's files, and the database of its ledger as it is, whose ever it may be; for who makes the ledger anew.

    A damaged file is moved aside first.

    Yields:
        The files, the ledger, and the database as messages name it.
    """
    store = Store(settings.lake, settings.lake_access, settings.mask)
    url, state, _ = _places(settings, store)
    target = parsed(url or sqlite_url(_in(state, layout.LEDGER_PATH)))
    try:
        ledger = Ledger(target, settings.mask)
    except DamagedError:
        path = Path(str(target.database))
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            if (file := path.with_name(name)).exists():
                file.replace(file.with_name(f"{name}.damaged"))
        ledger = Ledger(target, settings.mask)
    with closing(ledger):
        _sign(settings, ledger)
        yield store, ledger, shown(target)


def _sign(settings: Settings, ledger: Ledger) -> None:
    """Has the records of the chain signed, where the settings have a key."""
    if settings.chain_key is not None:
        ledger.engine.update_execution_options(**{chain.SIGNER: signing.signer(settings.chain_key)})


def _places(settings: Settings, store: Store) -> tuple[str | None, Path | None, bool]:
    """The ledger's URL where one is set, the folder for what is in none, and whether hosts share the ledger."""
    url = settings.ledger_url
    shared = url is not None and is_postgres(url)
    return url, None if shared else _state(settings, store), shared


def _ledger(
    settings: Settings, store: Store, target: URL, with_retries: bool, reading: bool, absent: bool
) -> Ledger:
    """The ledger; none is made where the lake had one."""
    file = None if target.get_backend_name() == "postgresql" else Path(str(target.database))
    if file is not None and not file.exists() and not file.is_symlink():
        lake_marker = _call(with_retries, marker.read, store)
        if lake_marker is not None or marker.holds_files(store):
            raise MissingError(marker.lost(store, lake_marker, shown(target)))
    try:
        return _call(with_retries, Ledger, target, settings.mask, reading=reading)
    except MissingError as error:
        if absent:
            return Ledger(None)
        raise no_lake(settings) from error


def _claim(ledger: Ledger, store: Store, place: str) -> None:
    """Writes into the lake whose it is, after what the ledger knows that no record says.

    The ledger has its id for good before the lake names it: whoever dies in between leaves a lake without a marker,
    and the next one goes on with the same id. The other way round the lake would name a ledger that nobody has.
    """
    with ledger.engine.begin() as connection:
        ledger_id = marker.give_id(connection)
    with ledger.engine.begin() as connection:
        lock(connection, "claim")
        if marker.read(store) is None:
            records.checkpoint(connection, store)
            marker.claim(store, ledger_id, place)
            if chain.last_number(connection):  # else its first record has it
                chain.append(connection, kind="claim", detail={"beside": chain.of_marker(store)})
    marker.check(ledger.engine, store, place)


def _remove_former_catalog(state: Path) -> None:
    """Removes what earlier versions kept beside the ledger; nobody reads it any more, and it goes stale."""
    former = state / layout.FORMER_CATALOG
    for name in (former.name, f"{former.name}-wal", f"{former.name}-shm"):
        former.with_name(name).unlink(missing_ok=True)
    with suppress(OSError):  # Iceberg's catalog may be there too
        former.parent.rmdir()


def _call(with_retries: bool, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return retry.with_retries(do, *args, **kwargs) if with_retries else do(*args, **kwargs)


def _others(
    settings: Settings, store: Store, state: Path | None, shared: str | None, reading: bool
) -> list[Catalog]:
    """The catalogs beside the local one, as the settings name them; each is imported only when it is wanted."""
    catalogs: list[Catalog] = []
    if "glue" in settings.catalogs:
        from ocsf_lake.catalogs import glue

        if not s3.is_s3(store.fs):
            raise ConfigError(f"Glue's tables stand on S3, and the lake {settings.lake!r} does not")
        projection = glue.Projection(settings.glue_projection_regions, settings.glue_projection_accounts)
        place = glue.Place(
            settings.glue_database, settings.glue_catalog_id, settings.glue_endpoint, settings.lake_access,
            projection if settings.glue_projection else None,
        )  # fmt: skip
        client = s3.aws_client("glue", place.access, place.endpoint)
        catalogs.append(glue.GlueCatalog(place, store, client))
    if "iceberg" in settings.catalogs:
        from ocsf_lake.catalogs import iceberg_connection

        properties, files = settings.iceberg_properties, settings.iceberg_files
        catalog = iceberg_connection.connect(properties, store, state, shared, reading=reading, files=files)
        if iceberg_connection.are_copied(files, properties):
            from ocsf_lake.catalogs.iceberg_copied import CopiedCatalog

            catalogs.append(CopiedCatalog(catalog, settings.iceberg_namespace, store))
        else:
            from ocsf_lake.catalogs.iceberg import IcebergCatalog

            catalogs.append(IcebergCatalog(catalog, settings.iceberg_namespace, store))
    return catalogs


def no_lake(settings: Settings) -> MissingError:
    """The error for a lake that is not there."""
    return MissingError(
        f"there is no lake at {settings.lake!r}; name one with --lake, or make it: "
        f"ocsf-lake ingest URI --lake {shlex.quote(settings.lake)}"
    )


def exists(settings: Settings) -> bool:
    """Whether there is a lake of these settings, or was; its ledger may be lost.

    Raises:
        ConfigError: Its databases have no place, or the store refuses us.
    """
    if settings.ledger_url is not None:
        return True
    store = Store(settings.lake, settings.lake_access, settings.mask)
    file = _state(settings, store) / layout.LEDGER_PATH
    return file.exists() or marker.read(store) is not None or marker.holds_files(store)


def _in(state: Path | None, name: str) -> Path:
    assert state is not None
    return state / name


def _state(settings: Settings, store: Store) -> Path:
    if settings.state is not None:
        return settings.state.absolute()
    if store.is_local:
        return Path(store.root)
    raise ConfigError(
        f"the lake {settings.lake!r} is not a local folder, so its ledger needs a place; "
        "set OCSF_LAKE_STATE to a folder or OCSF_LAKE_LEDGER_URL to a PostgreSQL database"
    )
