"""Which ledger a lake belongs to, written in the lake, and whether that ledger is the one that was opened.

```
<lake>/_lake/ledger.json                           the ledger's id, and where it was; written once
<lake>/_lake/records/<number>-<batch>.json.gz      what each batch came to, see `ocsf_lake.ledger.records`
```
The ledger gives a number to each attempt at a batch, in the transaction that begins it, and the batch's record stands
in the lake under that number before the ledger counts the batch as done. So a ledger that has come as far as its lake
knows every number there; one that meets a higher number is an older copy. That is one listing when a lake is opened,
and no crash can make it untrue: a number without a record means nothing, and a record has its number from the ledger.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import uuid
from dataclasses import dataclass

import pyarrow as pa
import sqlalchemy as sa

from ocsf_lake.ledger.database import insert, insert_new
from ocsf_lake.ledger.tables import ABOUT, BATCHES
from ocsf_lake.storage import layout
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import ConfigError

NAME = "_lake/ledger.json"
RECORDS = "_lake/records"

_LEDGER, _NUMBER = "ledger", "number"
_OURS = re.compile(r"[0-9a-f]{12,}-\d{5}(-\d+)?\.parquet")
"""Names of the files that batches write."""


@dataclass(frozen=True)
class Marker:
    """A lake's reference to its ledger.

    Args:
        ledger: The ledger's id.
        place: Where it was when the lake was made: a database without its password.
        host: The machine that made the lake.
    """

    ledger: str
    place: str
    host: str


def read(store: Store) -> Marker | None:
    """The lake's marker; None where there is none: it is new, or of a version that wrote no marker.

    Raises:
        ConfigError: It cannot be read, or is damaged.
        RetriableError: The store does not answer.
    """
    data = store.get(NAME)
    if data is None:
        return None
    try:
        document = json.loads(data)
        return Marker(str(document["ledger"]), str(document["place"]), str(document["host"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "the file that says which ledger the lake belongs to is damaged; with the right ledger in place remove it, "
            "and the next ingest writes it again",
            file=store.uri(NAME),
        ) from error


def claim(store: Store, ledger: str, place: str) -> bool:
    """Writes which ledger the lake belongs to, unless that is there already; gives whether it was written."""
    return store.put_once(NAME, _content(ledger, place))


def replace(store: Store, ledger: str, place: str) -> None:
    """Gives the lake another ledger, at one moment: a lake without a marker is one whose batches have no records."""
    store.put(NAME, pa.py_buffer(_content(ledger, place)))


def _content(ledger: str, place: str) -> bytes:
    document = {"ledger": ledger, "place": place, "host": socket.gethostname()}
    return (json.dumps(document, indent=2) + "\n").encode()


# -- in the ledger ----------------------------------------------------------------------------------------------------
def ledger_id(connection: sa.Connection) -> str | None:
    """The ledger's id; None for one that was never used, or only by a version that gave none."""
    value = connection.scalar(sa.select(ABOUT.c.value).where(ABOUT.c.key == _LEDGER))
    return None if value is None else str(value)


def give_id(connection: sa.Connection, chosen: str | None = None) -> str:
    """The ledger's id, a new one if it has none."""
    row = {"key": _LEDGER, "value": chosen or uuid.uuid4().hex}
    insert_new(connection, ABOUT, [row])
    return str(ledger_id(connection))


def next_number(connection: sa.Connection) -> int:
    """A number for a record, higher than all before it."""
    statement = insert(connection, ABOUT).values(key=_NUMBER, value="1")
    higher = sa.cast(sa.cast(ABOUT.c.value, sa.BigInteger) + 1, sa.Text)
    statement = statement.on_conflict_do_update(index_elements=["key"], set_={"value": higher})
    return int(connection.scalar(statement.returning(ABOUT.c.value)))


def last_number(connection: sa.Connection) -> int:
    """The highest number given so far."""
    return int(connection.scalar(sa.select(ABOUT.c.value).where(ABOUT.c.key == _NUMBER)) or 0)


def set_last_number(connection: sa.Connection, number: int) -> None:
    """Makes numbers go on after this one."""
    connection.execute(insert(connection, ABOUT), {"key": _NUMBER, "value": str(number)})


# -- both -------------------------------------------------------------------------------------------------------------
def file_name(number: int, batch_id: str) -> str:
    """Name of a record below `RECORDS`; names are in the order of numbers."""
    return f"{number:012d}-{batch_id}.json.gz"


def check(engine: sa.Engine, store: Store, place: str) -> Marker | None:
    """Whether the ledger is the lake's, and has come as far as the lake; gives the marker, None where there is none.

    Args:
        engine: The ledger.
        store: The lake's files.
        place: Where the ledger is, as messages name it.

    Raises:
        ConfigError: It is not; with the way out.
        RetriableError: The store or the database does not answer.
    """
    marker = read(store)
    with engine.connect() as connection:
        own_id = ledger_id(connection)
        used = connection.scalar(sa.select(sa.literal(1)).select_from(BATCHES).limit(1)) is not None
        number = last_number(connection)
    if marker is None:
        if not used and holds_files(store):
            raise ConfigError(lost(store, None, place))
        return None
    if own_id != marker.ledger:
        raise ConfigError(lost(store, marker, place) if not used else _another(store, marker, place))
    if newer := store.names_after(RECORDS, f"{number:012d}~"):
        # A batch may have been begun since the ledger was asked.
        with engine.connect() as connection:
            number = last_number(connection)
        if any(name > f"{number:012d}~" for name in newer):
            raise ConfigError(
                f"the ledger {place} is an older copy: the lake {store.uri('')!r} has batches that it does not know, "
                f"and what they read would be read again; {_way_out(store, replaces=True)}"
            )
    return marker


def lost(store: Store, marker: Marker | None, place: str) -> str:
    """What is wrong where a lake is there and its ledger is not."""
    was = f"its ledger was {marker.place} on {marker.host}" if marker else "its ledger is not known"
    return (
        f"the lake {store.uri('').rstrip('/')!r} has events, and there is no ledger of it at {place}: {was}; without "
        f"it everything would be read a second time; {_way_out(store)}"
    )


def _another(store: Store, marker: Marker, place: str) -> str:
    return (
        f"the ledger {place} is not that of the lake {store.uri('').rstrip('/')!r}, which belongs to {marker.place} on "
        f"{marker.host}; what one has read the other would read again; {_way_out(store, replaces=True)}"
    )


def _way_out(store: Store, replaces: bool = False) -> str:
    flag = " --replace" if replaces else ""
    return (
        "name the right one (settings lake, state, ledger_url), put a copy of it back, or make it anew from the lake's "
        f"files: ocsf-lake rebuild-ledger{flag} --lake {shlex.quote(store.uri('').removeprefix('file://').rstrip('/'))}"
    )


def is_ours(path: str) -> bool:
    """Whether a file is called as a batch's are."""
    return _OURS.fullmatch(path.rpartition("/")[2]) is not None


def holds_files(store: Store) -> bool:
    """Whether batches have written files here."""
    prefixes = ("aws", "ext", layout.COMPACTED, layout.QUARANTINE_PREFIX)
    return any(is_ours(name) for prefix in prefixes for name in store.some(prefix))
