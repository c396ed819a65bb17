"""Servers that the workers of one test run share: the first who asks starts one, the last who has used it ends it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_STARTED: list[subprocess.Popen[bytes]] = []
"""Kept, as they live on when another worker uses them last."""


def shared(folder: Path, start: Callable[[Path], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What is known of the server that all who name this folder share.

    Args:
        folder: The folder.
        start: Starts it in a new folder; gives facts of it, `pids` among them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _users(folder) as users:
        if not users:
            (folder / "server.json").write_text(json.dumps(start(folder / uuid.uuid4().hex)))
        users.append(os.getpid())
    facts = json.loads((folder / "server.json").read_text())
    try:
        yield facts
    finally:
        with _users(folder) as users:
            users.remove(os.getpid())
            if not users:
                stop(facts["pids"])


@contextmanager
def _users(folder: Path) -> Iterator[list[int]]:
    """The processes that use the server, held by one at a time."""
    with (folder / "users.json").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        users = [pid for pid in json.loads(file.read() or "[]") if Path(f"/proc/{pid}").exists()]
        yield users
        file.seek(0)
        file.truncate()
        file.write(json.dumps(users))


def begin(command: list[str], out: Path, **more: Any) -> int:
    """Starts a program that outlives this process; gives its number."""
    with out.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True, **more
        )
    _STARTED.append(process)
    return process.pid


def stop(pids: list[int]) -> None:
    """Ends programs, the last one first."""
    for pid in reversed(pids):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    for process in _STARTED:
        if process.pid in pids:
            process.wait()


def free_ports(number: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]
    finally:
        for found in sockets:
            found.close()
