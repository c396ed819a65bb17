"""A lake's files by the chain, the ledger and a listing, side by side, in a database on disk.

A lake may have a million files, and memory stays small.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from ocsf_lake.ledger.chain import ADOPTED, RETIRING, Listed, Record

LIVE, RETIRED, GONE = "live", "retired", "gone"
"""A file is in the lake; its rows are elsewhere, and it may lie there still; it must not lie there."""
_PORTION = 1_000

_TABLES = """
CREATE TABLE chain (path TEXT PRIMARY KEY, sha256 TEXT, bytes INTEGER, rows INTEGER, number INTEGER, at TEXT,
    state TEXT, earlier INTEGER) WITHOUT ROWID;
CREATE TABLE beside (path TEXT PRIMARY KEY, sha256 TEXT, bytes INTEGER, number INTEGER, at TEXT) WITHOUT ROWID;
CREATE TABLE listing (path TEXT PRIMARY KEY, bytes INTEGER) WITHOUT ROWID;
CREATE TABLE ledger (path TEXT PRIMARY KEY, sha256 TEXT, bytes INTEGER, rows INTEGER) WITHOUT ROWID;
CREATE TABLE retired (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE records (number INTEGER PRIMARY KEY, kind TEXT, subject TEXT, at TEXT, hash TEXT, signature TEXT,
    body TEXT, in_lake INTEGER);
"""


@dataclass(frozen=True)
class Expected:
    """A file and what its bytes have to be.

    Args:
        file: The file.
        number: Of the record that lists it; 0 where the ledger alone has it.
        at: When that was.
        state: See `LIVE`.
        is_listed: Whether the listing has it.
    """

    file: Listed
    number: int
    at: str
    state: str
    is_listed: bool = True


@dataclass(frozen=True)
class LedgerRecord:
    """A row of the ledger's chain."""

    number: int
    kind: str
    subject: str
    at: str
    hash: str
    signature: str
    body: str
    in_lake: int


class State:
    """The files of one lake.

    Args:
        folder: Where the database is made.
    """

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "state.db", isolation_level=None)
        self._connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
        self._connection.execute("BEGIN")

    def close(self) -> None:
        """Ends it."""
        self._connection.close()

    # -- filled -------------------------------------------------------------------------------------------------------
    def take_listing(self, files: Iterable[tuple[str, int]]) -> None:
        """Takes up what lies in the lake."""
        self._connection.executemany("INSERT OR REPLACE INTO listing VALUES (?, ?)", files)

    def take_ledger(self, files: Iterable[Listed], retired: Iterable[str]) -> None:
        """Takes up the files that the ledger has, and those that were retired and are there still."""
        rows = ((file.path, file.sha256, file.bytes, file.rows) for file in files)
        self._connection.executemany("INSERT INTO ledger VALUES (?, ?, ?, ?)", rows)
        self._connection.executemany("INSERT INTO retired VALUES (?)", ((path,) for path in retired))

    def take_records(self, rows: Iterable[LedgerRecord]) -> None:
        """Takes up the records that the ledger has."""
        self._connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(astuple, rows))

    def record(self, number: int) -> LedgerRecord | None:
        """The ledger's record of a number."""
        row = self._connection.execute("SELECT * FROM records WHERE number = ?", (number,)).fetchone()
        return None if row is None else LedgerRecord(*row)

    def last_record(self) -> int:
        """Number of the ledger's last record; 0 without one."""
        return int(self._connection.execute("SELECT coalesce(max(number), 0) FROM records").fetchone()[0])

    def apply(self, record: Record) -> list[str]:
        """Takes up a record; gives what does not fit those before.

        Raises:
            TypeError, ValueError, OverflowError: It lists no files as records do.
        """
        state = RETIRED if record.kind in RETIRING else GONE
        odd = []
        run = self._connection.execute
        for file in record.removed:
            changed = run("UPDATE chain SET state = ? WHERE path = ?", (state, file.path)).rowcount
            if not changed:
                run(
                    "INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
                    (file.path, file.sha256, file.bytes, file.rows, record.number, record.at, state),
                )
        earlier = int(record.kind == ADOPTED)
        for file in record.added:
            before = run("SELECT state, sha256 FROM chain WHERE path = ?", (file.path,)).fetchone()
            if before is not None and before[0] == LIVE and before[1] != file.sha256:
                odd.append(file.path)
            run(
                "INSERT OR REPLACE INTO chain VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (file.path, file.sha256, file.bytes, file.rows, record.number, record.at, LIVE, earlier),
            )
        for path, sha256, size in record.detail.get("beside", ()):
            run("INSERT OR REPLACE INTO beside VALUES (?, ?, ?, ?, ?)",
                (str(path), str(sha256), int(size), record.number, record.at))  # fmt: skip
        for path in record.detail.get("beside_removed", ()):
            run("DELETE FROM beside WHERE path = ?", (str(path),))
        return odd

    # -- asked --------------------------------------------------------------------------------------------------------
    def expected(self, first: str, last: str) -> Iterator[Expected]:
        """Files whose bytes are to be looked at, by path: of records written between two times."""
        yield from self._pages(
            "SELECT c.path, c.sha256, c.bytes, c.rows, c.number, c.at, c.state, l.path IS NOT NULL "
            "FROM chain c LEFT JOIN listing l USING (path) WHERE c.path > ? AND c.at >= ? AND c.at < ? "
            "AND (c.state = 'live' OR (c.state = 'retired' AND l.path IS NOT NULL)) ORDER BY c.path LIMIT ?",
            (first, last),
        )
        yield from self._pages(
            "SELECT path, sha256, bytes, 0, number, at, 'live', 1 FROM beside WHERE path > ? AND at >= ? AND at < ? "
            "ORDER BY path LIMIT ?",
            (first, last),
        )

    def unlisted(self) -> Iterator[Expected]:
        """Files that the ledger has and no record."""
        yield from self._pages(
            "SELECT g.path, g.sha256, g.bytes, g.rows, 0, '', 'live', l.path IS NOT NULL FROM ledger g "
            "LEFT JOIN listing l USING (path) LEFT JOIN chain c USING (path) WHERE g.path > ? AND c.path IS NULL "
            "ORDER BY g.path LIMIT ?",
            (),
        )

    def _pages(self, query: str, given: tuple[str, ...]) -> Iterator[Expected]:
        after = ""
        while page := self._connection.execute(query, (after, *given, _PORTION)).fetchall():
            for path, sha256, size, rows, number, at, state, is_listed in page:
                yield Expected(Listed(path, sha256, size, rows), number, at, state, bool(is_listed))
            after = page[-1][0]

    def strangers(self) -> Iterator[str]:
        """Files that lie there and that neither a record nor the ledger has, by path."""
        yield from self._paths(
            "SELECT l.path FROM listing l LEFT JOIN chain c USING (path) LEFT JOIN beside b USING (path) "
            "LEFT JOIN ledger g USING (path) LEFT JOIN retired r USING (path) WHERE l.path > ? AND c.path IS NULL "
            "AND b.path IS NULL AND g.path IS NULL AND r.path IS NULL ORDER BY l.path LIMIT ?"
        )

    def back(self) -> Iterator[str]:
        """Files that lie there although a record has removed them, by path."""
        yield from self._paths(
            "SELECT c.path FROM chain c JOIN listing l USING (path) WHERE c.path > ? AND c.state = 'gone' "
            "ORDER BY c.path LIMIT ?"
        )

    def not_in_ledger(self) -> Iterator[str]:
        """Files that the chain has and the ledger has not, by path."""
        yield from self._paths(
            "SELECT c.path FROM chain c LEFT JOIN ledger g USING (path) WHERE c.path > ? AND c.state = 'live' "
            "AND g.path IS NULL ORDER BY c.path LIMIT ?"
        )

    def still_in_ledger(self) -> Iterator[str]:
        """Files that the ledger has although a record has removed them, by path."""
        yield from self._paths(
            "SELECT c.path FROM chain c JOIN ledger g USING (path) WHERE c.path > ? AND c.state <> 'live' "
            "ORDER BY c.path LIMIT ?"
        )

    def _paths(self, query: str) -> Iterator[str]:
        after = ""
        while page := self._connection.execute(query, (after, _PORTION)).fetchall():
            yield from (path for (path,) in page)
            after = page[-1][0]

    def otherwise(self) -> Iterator[tuple[str, Listed, Listed]]:
        """Files on which chain and ledger differ: path, the chain's, the ledger's."""
        query = (
            "SELECT c.path, c.sha256, c.bytes, c.rows, g.sha256, g.bytes, g.rows FROM chain c JOIN ledger g "
            "USING (path) WHERE c.path > ? AND c.state = 'live' AND (c.sha256, c.bytes, c.rows) <> (g.sha256, g.bytes, "
            "g.rows) ORDER BY c.path LIMIT ?"
        )
        after = ""
        while page := self._connection.execute(query, (after, _PORTION)).fetchall():
            for path, *facts in page:
                yield path, Listed(path, *facts[:3]), Listed(path, *facts[3:])
            after = page[-1][0]

    def state(self, path: str) -> str | None:
        """The state of a file by the chain; None for one that it does not have."""
        row = self._connection.execute("SELECT state FROM chain WHERE path = ?", (path,)).fetchone()
        return None if row is None else str(row[0])

    def has_live(self, folder: str) -> bool:
        """Whether the chain has a file right in a folder, or below it."""
        query = "SELECT 1 FROM chain WHERE path > ? AND path < ? AND state = 'live' LIMIT 1"
        return self._connection.execute(query, (f"{folder}/", f"{folder}0")).fetchone() is not None

    def has_beside(self, path: str) -> bool:
        """Whether the chain names a file that is none of rows."""
        return self._connection.execute("SELECT 1 FROM beside WHERE path = ?", (path,)).fetchone() is not None

    def counts(self) -> dict[str, int]:
        """How many files are `live`, are `retired` and lie there, and are `earlier` than the chain and named by it."""
        query = (
            "SELECT (SELECT count(*) FROM chain WHERE state = 'live'), "
            "(SELECT count(*) FROM chain JOIN listing USING (path) WHERE state = 'retired'), "
            "(SELECT count(*) FROM chain WHERE earlier = 1)"
        )
        return dict(zip(("live", "retired", "earlier"), self._connection.execute(query).fetchone(), strict=True))
