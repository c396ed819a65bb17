"""`ocsf-lake` without its start: a process that has imported everything forks a child for each command.

For shells that run many commands. What a user waits for until a command begins is in tests/flows/test_startup.py.
"""

from __future__ import annotations

import array
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

PROJECT = Path(__file__).parents[2]
ONE_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}
"""Without these, importing pyarrow and numpy starts threads, and a child forked while one of them holds a lock waits
for it for ever."""
CLIENT = """\
#!{python} -IS
import array, json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
order = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
streams = array.array("i", [0, 1, 2])
server.sendmsg([len(order).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(order)
sys.exit(server.recv(1)[0])
"""
"""Hands its arguments, folder, variables and streams over, and ends as the command did."""


class Commands:
    """A folder with a program `ocsf-lake`, to be put first on the path.

    Args:
        folder: A new folder, whose path is short: it holds a socket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        address = str(folder / "socket")
        program = folder / "ocsf-lake"
        program.write_text(CLIENT.format(python=sys.executable, address=address))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OCSF_LAKE_", "PREFECT_"))}
        self._process = subprocess.Popen(
            [sys.executable, __file__, address], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd="/",
            env={**kept, "PYTHONPATH": str(PROJECT), **ONE_THREAD},
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        """Ends the process; commands that run go on."""
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _main(address: str) -> None:
    import threading

    from ocsf_lake import config
    from ocsf_lake.cli import main
    from ocsf_lake.ingest import plan, run
    from ocsf_lake.query import query
    from ocsf_mappers import DEFAULT_VERSION
    from ocsf_mappers.engine.fingerprint import fingerprint

    del run, query  # only to have imported them
    for mapper in plan.mappers(None, config.load())[0].values():
        fingerprint(mapper, DEFAULT_VERSION)
    assert threading.active_count() == len(list(Path("/proc/self/task").iterdir())) == 1
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        print("ready", flush=True)
        while True:
            asked, _ = server.accept()
            if os.fork() == 0:
                server.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(asked, main.main)
            asked.close()


def _answer(asked: socket.socket, run: object) -> None:
    """Forks the command and waits for it, as whatever kills it must not keep its end from being told."""
    room = socket.CMSG_SPACE(3 * array.array("i").itemsize)
    head, ancillary, _, _ = asked.recvmsg(4, room)
    streams = array.array("i", ancillary[0][2])
    size, order = int.from_bytes(head, "big"), b""
    while len(order) < size:
        order += asked.recv(size - len(order))
    child = os.fork()
    if child == 0:
        asked.close()
        _command(streams, *json.loads(order), run)
    for stream in streams:
        os.close(stream)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(OSError):
        asked.send(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def _command(
    streams: array.array[int], arguments: list[str], folder: str, variables: dict[str, str], run: object
) -> None:
    code = 0
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = ["ocsf-lake", *arguments]
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
        out, err = (io.BufferedWriter(io.FileIO(number, "w", closefd=False)) for number in (1, 2))
        sys.stdout, sys.stderr = io.TextIOWrapper(out, "utf-8"), io.TextIOWrapper(err, "utf-8", line_buffering=True)
        run()  # type: ignore[operator]
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _main(sys.argv[1])
