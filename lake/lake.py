"""A lake opened: its files, ledger and catalog in one place."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lake import layout
from lake.catalog import Catalog, LocalCatalog
from lake.config import Settings
from lake.ledger import Ledger
from lake.store import Store
from ocsf_mappers.errors import ConfigError


@dataclass(frozen=True)
class Lake:
    """What a run works with.

    Args:
        settings: The settings in force.
        store: The lake's files.
        ledger: What was read.
        catalog: What is visible.
        state: Local folder of ledger and catalog; also holds the locks of batches.
    """

    settings: Settings
    store: Store
    ledger: Ledger
    catalog: Catalog
    state: Path

    @contextmanager
    def locked(self, batch_id: str) -> Iterator[bool]:
        """Holds a batch for this run alone; gives False when another run holds it. A killed run holds nothing."""
        path = self.state / "_ledger" / "locks" / batch_id
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
            path.unlink(missing_ok=True)


@contextmanager
def opened(settings: Settings) -> Iterator[Lake]:
    """The lake of these settings; it is made when there is none.

    Raises:
        ConfigError: Its databases have no place, or cannot be opened.
    """
    store = Store(settings.lake)
    state = _state(settings, store)
    ledger = Ledger(settings.ledger_url or f"sqlite:///{state / layout.LEDGER_PATH}")
    try:
        catalog = LocalCatalog(f"sqlite:///{state / layout.CATALOG_PATH}")
        try:
            yield Lake(settings, store, ledger, catalog, state)
        finally:
            catalog.close()
    finally:
        ledger.close()


def _state(settings: Settings, store: Store) -> Path:
    if settings.state is not None:
        return settings.state.absolute()
    if store.is_local:
        return Path(store.root)
    raise ConfigError(
        f"the lake {settings.lake!r} is not a local folder, so its ledger and catalog need one; "
        "set OCSF_LAKE_STATE or `state` in ocsf-lake.toml"
    )
