"""A real PostgreSQL on loopback, from Debian's package, as a process of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest

PROGRAMS = Path("/usr/lib/postgresql")
_numbers = count()
MEMORY = Path("/dev/shm")
"""Where there is such a folder, databases are there: each is 300 files, which a disk is slow to make and remove."""
LEAST_FREE = 2 << 30


@dataclass(frozen=True)
class Postgres:
    """A server of PostgreSQL.

    Args:
        folder: Its data, its log and its socket.
        programs: Folder of `pg_ctl` and the like.
        port: On loopback.
    """

    folder: Path
    programs: Path
    port: int

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The URL of a database made for this call."""
        name = f"lake_{next(_numbers)}"
        # Not by createdb: to start a program from a process of a gigabyte costs more than to make the database.
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Removes a database, whoever is connected to it; 300 files each are too many to keep to the end."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def make(self) -> None:
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Starts it; returns when it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        options += " -c fsync=off -c full_page_writes=off"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Ends it and every connection at once."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "fast", "stop")

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        # PostgreSQL refuses to run as root. Output goes to a file: the server that pg_ctl starts keeps a pipe open.
        user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        with tempfile.TemporaryFile("w+") as said:
            run = subprocess.run(
                [str(self.programs / program), *arguments], user=user and user.pw_uid, group=user and user.pw_gid,
                extra_groups=[] if user else None, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False,
                timeout=120, cwd="/",
            )  # fmt: skip
            said.seek(0)
            assert run.returncode == 0, said.read()


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    if not sorted(PROGRAMS.glob("*/bin/initdb")):
        return "needs a PostgreSQL server: Debian's package postgresql, see .ci/debian-packages"
    return None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A server with no databases of tests in it."""
    if reason := missing():
        pytest.skip(reason)
    with running() as server:
        yield server


@contextmanager
def running() -> Iterator[Postgres]:
    """A server in a folder of its own, while the block runs."""
    is_free = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= LEAST_FREE
    folder = Path(tempfile.mkdtemp(prefix="ocsf-lake-postgres-", dir=MEMORY if is_free else None))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    programs = max(PROGRAMS.glob("*/bin"), key=lambda path: int(path.parent.name))
    server = Postgres(folder, programs, port)
    try:
        server.make()
        server.start()
        yield server
        if (folder / "data" / "postmaster.pid").exists():  # a test that failed may have left it stopped
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
