"""Statements of SQLAlchemy as SQL for SQLite, compiled once a process.

By itself an engine remembers only its own, and each opening of a lake makes engines: where a process opens many lakes,
or one again and again, compiling again was a quarter of the CPU of a small ingest.
"""

from __future__ import annotations

from typing import Any

KEPT = 1_000
"""More than there are; with so many all are forgotten."""


class _Compiled(dict[Any, Any]):
    """What SQLAlchemy remembers by dialect and statement, by the dialect's kind instead.

    Two dialects of SQLite in a process differ in nothing: all come from the same library.
    """

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_of_kind(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        if len(self) >= KEPT:
            self.clear()
        super().__setitem__(_of_kind(key), compiled)


def _of_kind(key: tuple[Any, ...]) -> tuple[Any, ...]:
    dialect, *rest = key
    return type(dialect), *rest


OPTIONS = {"compiled_cache": _Compiled()}
"""`execution_options` of every engine for SQLite."""
