"""A Prefect server, and workers, as processes of their own on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.support import PROJECT

ENVIRONMENT = PROJECT / "deploy" / "prefect.env"
START_SECONDS = 180
HEARTBEAT_SECONDS = 30
"""Between the heartbeats of a run; the least that Prefect takes."""
PAUSE_SECONDS = 0.5
"""Between two looks at the server, each of which costs it and its database something."""

Found = TypeVar("Found")


def until(look: Callable[[], Found | None], seconds: float, what: str) -> Found:
    """What a look gives as soon as it gives anything true.

    Raises:
        TimeoutError: It did not in this time.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} seconds for {what}")
        time.sleep(PAUSE_SECONDS)
    return found


def settings() -> dict[str, str]:
    """What deploy/prefect.env says."""
    lines = ENVIRONMENT.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Server:
    """A server that runs.

    Args:
        folder: Its PREFECT_HOME, its log and those of its workers.
        port: On loopback.
        http: One client for all requests: each reads the list of certificate authorities, of no use on loopback.
    """

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(verify=False, timeout=60))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def environment(self, **more: str) -> dict[str, str]:
        """Variables of a shell that talks to this server; the project's own settings are not among them."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OCSF_LAKE_", "PREFECT_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
        said = {"PATH": path, "PYTHONPATH": str(PROJECT), "PREFECT_HOME": str(self.folder), "PREFECT_API_URL": self.url}
        return {**kept, **settings(), **said, "PREFECT_LOGGING_LEVEL": "WARNING", **more}

    def run(self, *command: str, **variables: str) -> str:
        """What a command prints.

        Raises:
            AssertionError: It failed.
        """
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(**variables), capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, name: str, *command: str, **variables: str) -> subprocess.Popen[bytes]:
        """Starts a process in a group of its own; its output goes to a file of that name."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment(**variables), stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def worker(self, name: str, queue: str, **variables: str) -> subprocess.Popen[bytes]:
        """Starts a worker of the pool `lake`, one flow run at a time."""
        command = ("prefect", "worker", "start", "--pool", "lake", "--work-queue", queue, "--name", name)
        more = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": f"{HEARTBEAT_SECONDS}"}
        return self.start(name, *command, "--limit", "1", **more, **variables)

    def post(self, path: str, body: object = None) -> Any:
        """The answer of the API, as JSON."""
        answer = self.http.post(f"{self.url}{path}", json=body or {})
        answer.raise_for_status()
        return answer.json()

    def flow_runs(self, **which: object) -> list[dict[str, Any]]:
        """Runs of flows, see the filter of Prefect's API."""
        return list(self.post("/flow_runs/filter", {"limit": 200, **which}))

    def log(self, name: str = "server") -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """Ends every process and those that they started."""
        self.http.close()
        for process in reversed(self.processes):
            end(process)


def end(process: subprocess.Popen[bytes], kill: bool = False) -> None:
    """Ends a process and the processes of its group."""
    import signal

    for how in [signal.SIGKILL] if kill else [signal.SIGTERM, signal.SIGKILL]:
        try:
            os.killpg(process.pid, how)
            process.wait(20)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


@contextmanager
def started(folder: Path, database_url: str | None = None) -> Iterator[Server]:
    """A server with an empty database.

    Args:
        folder: For everything that it writes.
        database_url: `postgresql+asyncpg://...`; SQLite without it.
    """
    server = Server(folder, free_port())
    more = {"PREFECT_API_DATABASE_CONNECTION_URL": database_url} if database_url else {}
    command = ("prefect", "server", "start", "--no-ui", "--host", "127.0.0.1", "--port", str(server.port))
    process = server.start("server", *command, **more)

    def healthy() -> bool:
        assert process.poll() is None, server.log()
        try:
            return server.http.get(f"{server.url}/health", timeout=5).is_success
        except httpx.HTTPError:
            return False

    try:
        until(healthy, START_SECONDS, "the server to start")
        yield server
    finally:
        server.stop()
