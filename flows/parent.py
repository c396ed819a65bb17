"""Processes of a task runner, which end with the one that started them.

One that was killed, as by the kernel for want of memory, tells them nothing: they would wait for tasks for ever, and
Prefect's worker with them, as it reads the output of a run until nobody can write to it.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.process import BaseProcess


def end_with_it() -> None:
    """Ends this process as soon as its parent has ended."""

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if parent := multiprocessing.parent_process():
        threading.Thread(target=watch, args=(parent,), daemon=True).start()
