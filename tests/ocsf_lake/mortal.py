"""Works on a lake that die: a process that has imported everything forks a child for each, and SIGKILL ends it.

Run as a program it reads orders as JSON lines and answers with what became of each child.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
TINY = PROJECT / "tests" / "tiny"
"""The package with the source `tiny`; it is installed by being on the path."""
STEPS = [
    *("planned", "begun", "part", "half a file", "renaming"),
    *("written", "kept", "registered", "recorded", "committing", "done"),
]
"""Moments at which a child can be told to die, in the order in which a batch comes to them."""

ICEBERG_STEPS = ["iceberg file", "iceberg commit", "iceberg committed"]
"""And those of Iceberg: before each file that is written for a table, before and after a commit."""

ONE_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}
"""Without these, importing pyarrow and numpy starts threads, and a child forked while one of them holds a lock waits
for it for ever."""


@dataclass
class CrashHarness:
    """Children to be killed."""

    process: subprocess.Popen[str]

    @classmethod
    def born(cls) -> CrashHarness:
        command = [sys.executable, str(Path(__file__))]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OCSF_LAKE_")}
        return cls(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**kept, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(TINY)]), **ONE_THREAD}, cwd="/",
            )
        )  # fmt: skip

    def ingest(self, logs: Path, settings: dict[str, object], source: str | None = None, **death: object) -> str:
        """Ingests in a child; gives `killed`, `done`, or the name of the error that it ended with.

        Args:
            logs: What to ingest.
            settings: Of the lake.
            source: Which source they are of, when that is given.
            death: `step` and `nth`, to die at that moment; `delay`, to die after so many seconds; `reading`, to die
                when an object of this name is read; `file_bytes`, the size at which the system refuses to let a file
                grow.
        """
        return self.do("ingest", settings, str(logs), *([] if source is None else [source]), **death)

    def compact(self, settings: dict[str, object], **death: object) -> str:
        """Compacts in a child; see `ingest`."""
        return self.do("compaction", settings, **death)

    def do(self, work: str, settings: dict[str, object], *given: str, **death: object) -> str:
        """Does one of `works` in a child; see `ingest`."""
        return self._recognized(work, settings, given, death)[0]

    def steps(self, work: str, settings: dict[str, object], *given: str) -> list[str]:
        """The moments that one of `works` comes to, in their order, when nothing ends it."""
        ended, steps = self._recognized(work, settings, given, {})
        assert ended == "done", ended
        return steps

    def _recognized(
        self, work: str, settings: dict[str, object], given: tuple[str, ...], death: dict[str, object]
    ) -> tuple[str, list[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"work": work, "settings": settings, "given": given, **death}) + "\n")
        self.process.stdin.flush()
        ended, steps = json.loads(self.process.stdout.readline())
        return ended, steps

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def works() -> dict[str, Callable[..., object]]:
    """What a child can do, by name: functions of the settings, and of what else is given."""
    from tiny_source import MENDED  # type: ignore[import-not-found]

    from ocsf_lake.export import run as export
    from ocsf_lake.ingest import run as ingest
    from ocsf_lake.lake import opened
    from ocsf_lake.upkeep import check, compact, remap, replay, write_off
    from ocsf_mappers import registry

    def mended(settings: Any) -> object:
        load, registry.load = registry.load, lambda _: MENDED  # type: ignore[assignment]
        try:
            return replay.replay(settings, "tiny")
        finally:
            registry.load = load

    def remapped(settings: Any) -> object:
        chosen = remap.Chosen("tiny", date(2025, 3, 11), date(2025, 3, 11))
        load, registry.load = registry.load, lambda _: MENDED  # type: ignore[assignment]
        try:
            return remap.remap(settings, chosen)
        finally:
            registry.load = load

    def synced(settings: Any) -> object:
        with opened(settings) as lake:
            return check.sync(lake)

    return {
        "ingest": lambda settings, uri, source=None: ingest.ingest([uri], settings, source),
        "replay": mended,
        "export": lambda settings, bucket: export.export(settings, "tiny", bucket, "calls"),
        "compaction": compact.compact,
        "remap": remapped,
        "sync": synced,
        "write-off": lambda settings: write_off.write_off(settings, None, "removed by a rule", "ann"),
    }


def _main() -> None:
    from ocsf_lake import config
    from ocsf_lake.catalogs import iceberg_copied  # noqa: F401
    from ocsf_lake.ingest import plan
    from ocsf_lake.ledger import database
    from ocsf_mappers import DEFAULT_VERSION
    from ocsf_mappers.engine.fingerprint import fingerprint

    os.fsync, database.SYNCHRONOUS = lambda _: None, "OFF"  # what was written outlives a process, if not a machine
    works()  # imported here, not by each child
    from tiny_source import MENDED

    found, _ = plan.mappers(None, config.load())  # and this
    for mapper in [*found.values(), MENDED]:
        fingerprint(mapper, DEFAULT_VERSION)  # compiles it, for which no thread is started
    for line in sys.stdin:
        order = json.loads(line)
        assert threading.active_count() == len(list(Path("/proc/self/task").iterdir())) == 1
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _child(order, writing)
        os.close(writing)
        status = _ended(child, order.get("delay"))
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print('["killed", []]' if killed else said, flush=True)


def _ended(child: int, delay: float | None) -> int:
    if delay is not None:
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return status
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _child(order: dict[str, Any], told: int) -> None:
    ended = "done"
    death = _Death(order.get("step"), order.get("nth", 1))
    try:
        from ocsf_lake import config

        if "file_bytes" in order:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], order["file_bytes"]))
        death.prepare()
        if "reading" in order:
            _die_reading(order["reading"])
        works()[order["work"]](config.load(**order["settings"]), *order["given"])
    except BaseException as error:
        ended = type(error).__name__
        if "file_bytes" not in order:
            traceback.print_exc()
    finally:
        os.write(told, json.dumps([ended, death.steps]).encode())
        os._exit(0)


def _die_reading(name: str) -> None:
    """As an object does that makes a library crash."""
    from ocsf_lake.ingest import parts

    pieces = parts.Source.pieces

    def crashing(self: parts.Source, ref: Any) -> Any:
        for piece in pieces(self, ref):
            if ref.uri.endswith(name):
                os.kill(os.getpid(), signal.SIGKILL)
            yield piece

    parts.Source.pieces = crashing  # type: ignore[method-assign]


class _Death:
    def __init__(self, step: str | None, nth: int) -> None:
        self.step = step
        self.left = nth
        self.steps: list[str] = []

    def failpoint(self, step: str, _: object = None) -> None:
        self.steps.append(step)
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def prepare(self) -> None:
        import sqlalchemy as sa

        from ocsf_lake.ledger.ledger import Ledger
        from ocsf_lake.storage import store

        for name, module in list(sys.modules.items()):
            if name.startswith("ocsf_lake.") and hasattr(module, "failpoint"):
                module.failpoint = self.failpoint
        plan, replace, put, link = Ledger.plan, Path.replace, store._put_local, os.link

        def planned(self_: Any, batches: Any, **instead_of: Any) -> Any:
            written = plan(self_, batches, **instead_of)
            self.failpoint("planned")
            return written

        def renaming(self_: Path, target: Any) -> Any:
            self.failpoint("renaming")
            return replace(self_, target)

        def linking(source: Any, target: Any) -> None:
            link(source, target)
            self.failpoint("linked")

        def putting(path: Path, data: Any, umask: int) -> None:
            if self.step == "half a file" and self.left == 1:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f".{path.name}.tmp").write_bytes(data.to_pybytes()[: data.size // 2])
            self.failpoint("half a file")
            put(path, data, umask)

        Ledger.plan, Path.replace, store._put_local = planned, renaming, putting  # type: ignore[method-assign]
        os.link = linking
        sa.event.listen(sa.Engine, "commit", lambda connection: self.failpoint("committing"))
        if self.step in ICEBERG_STEPS:
            self._prepare_iceberg()

    def _prepare_iceberg(self) -> None:
        from pyiceberg.io.fsspec import FsspecFileIO
        from pyiceberg.table import Table

        output, commit = FsspecFileIO.new_output, Table._do_commit

        def writing(self_: FsspecFileIO, location: str) -> Any:
            self.failpoint("iceberg file")
            return output(self_, location)

        def committing(self_: Table, *given: Any, **named: Any) -> None:
            self.failpoint("iceberg commit")
            commit(self_, *given, **named)
            self.failpoint("iceberg committed")

        FsspecFileIO.new_output, Table._do_commit = writing, committing  # type: ignore[method-assign]


if __name__ == "__main__":
    _main()
