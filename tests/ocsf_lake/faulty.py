"""A store in memory that fails now and then, as object stores do: `faulty://`."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FaultyFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """See `failing` and `holding`; without them it is a store in memory."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    share = 0.0
    room: int | None = None
    chance = Random(0)
    faults: ClassVar[dict[str, int]] = {}

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, str):
            return MemoryFileSystem._strip_protocol(path.removeprefix("faulty:/"))
        return MemoryFileSystem._strip_protocol(path)

    def info(self, path: str, **kwargs: Any) -> Any:
        self._maybe_fail()
        return super().info(path, **kwargs)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        self._maybe_fail()
        return super().ls(path, detail, **kwargs)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> Any:
        self._maybe_fail()
        kind = FaultyFileSystem
        if kind.room is not None:
            if len(value) > kind.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            kind.room -= len(value)
        return super().pipe_file(path, value, mode, **kwargs)

    def rm_file(self, path: str) -> Any:
        self._maybe_fail()
        return super().rm_file(path)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode != "rb":
            return super()._open(path, mode, **kwargs)
        self._maybe_fail()
        with super()._open(path, mode, **kwargs) as file:
            data = file.read()
        return _Answer(self, data)

    def _maybe_fail(self) -> None:
        if self._now():
            error = self.chance.choice([
                OSError(errno.EBUSY, "Please reduce your request rate."),
                OSError(errno.EREMOTEIO, "We encountered an internal error. Please try again."),
                TimeoutError("timed out"),
                ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
            ])  # fmt: skip
            self.faults[str(error)] = self.faults.get(str(error), 0) + 1
            raise error

    def _now(self) -> bool:
        return self.chance.random() < FaultyFileSystem.share


class _Answer(io.BytesIO):
    """The bytes of an object, which may end early, or break off."""

    def __init__(self, fs: FaultyFileSystem, data: bytes) -> None:
        if fs._now():
            fs.faults["cut short"] = fs.faults.get("cut short", 0) + 1
            data = data[: len(data) // 2]
        super().__init__(data)
        self.fs = fs

    def read(self, size: int | None = -1) -> bytes:
        self.fs._maybe_fail()
        return super().read(size)


fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)


@contextmanager
def failing(share: float, seed: int) -> Iterator[dict[str, int]]:
    """So many of all calls fail; gives how many of which kind there were."""
    FaultyFileSystem.share, FaultyFileSystem.chance = share, Random(seed)
    FaultyFileSystem.faults.clear()
    try:
        yield FaultyFileSystem.faults
    finally:
        FaultyFileSystem.share = 0.0


@contextmanager
def holding(room: int) -> Iterator[None]:
    """There is room for so many bytes."""
    FaultyFileSystem.room = room
    try:
        yield
    finally:
        FaultyFileSystem.room = None


def stored(root: str) -> dict[str, bytes]:
    """The objects below a folder but records of batches, which tell of times: path below it -> bytes."""
    prefix = f"/{root}/"
    return {
        path.removeprefix(prefix): file.getvalue()
        for path, file in FaultyFileSystem.store.items()
        if path.startswith(prefix) and not path.startswith(f"{prefix}_lake/")
    }
