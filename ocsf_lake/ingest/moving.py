"""Partitions that move into their next generation, see `ocsf_lake.upkeep.compact`: what a batch that meets one does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set

import pyarrow as pa

from ocsf_lake.catalogs.base import HeldFile
from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import chain, records
from ocsf_lake.ledger.compactions import FENCED, Compactions
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.ledger import now
from ocsf_lake.ledger.moves import Move, Plan
from ocsf_lake.ledger.results import ID_DIGITS
from ocsf_lake.storage import layout, retry
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_mappers.errors import WriteError

BUSY = "another run is working on its partitions; run it again"
WAIT_SECONDS = 0.2
PLAN_FORMAT = 1


def lease(table: str) -> str:
    """Name of the lease of whoever compacts a table."""
    return hashlib.sha256(f"compaction of {table}".encode()).hexdigest()[:ID_DIGITS]


def failpoint(step: str, of: str) -> None:
    """Called between the steps of a compaction; does nothing. Tests interrupt it here."""


def settle(lake: Lake, table: str) -> None:
    """Waits until no partition of a table is closed to batches, and finishes the compaction of a worker that died.

    Raises:
        LostError: Another worker may have taken it over.
        WriteError: The lake or a catalog refused.
        RetriableError: A store, catalog or database does not answer.
    """
    compactions = Compactions(lake.ledger.engine)
    while compactions.is_fenced(table):
        with lake.leases.held(lease(table)) as lock:
            plan = compactions.open(table) if lock is not None else None
            if lock is not None and plan is not None and plan.state == FENCED:
                forward(lake, plan, lock)
                return
        retry.sleep(WAIT_SECONDS)


def forward(lake: Lake, plan: Plan, lock: Lease) -> None:
    """What is left of a compaction once it is fenced; each step can be done again."""
    compactions = Compactions(lake.ledger.engine)
    lost = set()
    for old, new in plan.copied.items():
        lock.check()
        if not _copied(lake, old, new):
            lost.add(new)
        failpoint("copied", plan.id)
    beside = []
    for move in plan.moves:
        path, data = f"{plan.folder(move)}/{layout.PLAN}", _plan_file(plan, move)
        lake.store.put(path, pa.py_buffer(data))
        beside.append(chain.beside(path, data))
    failpoint("complete", plan.id)
    if plan.is_retention:
        _empty(lake, plan, lock)
    else:
        _replace(lake, plan, lock, lost)
    lock.check()
    at = now()
    beside.append(records.write_moved(lake.store, plan.number, plan.id, compactions.rows(plan, at), plan.copied))
    failpoint("recorded", plan.id)
    compactions.finish(plan, at, beside)
    failpoint("compacted", plan.id)
    lake.publish_chain()


def _copied(lake: Lake, old: str, new: str) -> bool:
    """Copies a file; one that was lost since the fence stays lost, under its new name, if it was not copied before."""
    try:
        lake.store.copy(old, new)
    except WriteError:
        if lake.store.size(old) is not None:
            raise
        return lake.store.size(new) is not None
    return True


def _empty(lake: Lake, plan: Plan, lock: Lease) -> None:
    for catalog in lake.catalog.all:
        lock.check()
        catalog.empty(plan.id, [plan.partition(move) for move in plan.moves])
        failpoint("replaced", plan.id)


def _replace(lake: Lake, plan: Plan, lock: Lease, lost: Set[str]) -> None:
    compactions = Compactions(lake.ledger.engine)
    before = {path: _held_file(path, batch_id, file) for path, (batch_id, file) in compactions.files(plan.old).items()}
    after = [_held_file(file.path, merge_id, file) for merge_id, file in plan.new()]
    copied = {old: new for old, new in plan.copied.items() if new not in lost}
    after += [_held_file(new, before[old].batch_id, before[old]) for old, new in copied.items()]
    for catalog in lake.catalog.all:
        lock.check()
        catalog.create_or_evolve(definition(plan.table))
        catalog.replace(plan.id, [before[path] for path in plan.old], sorted(after))
        failpoint("replaced", plan.id)


def _held_file(path: str, batch_id: str, file: FileInfo | HeldFile) -> HeldFile:
    return HeldFile(path, file.partition, batch_id, file.rows, file.bytes, file.sha256)


def _plan_file(plan: Plan, move: Move) -> bytes:
    """The plan file of a folder: from it anybody knows which of a partition's folders counts."""
    content = {
        "format": PLAN_FORMAT, "table": plan.table, "partition": move.values.split("/"),
        "generation": move.generation, "compaction": plan.id,
        "merged": [
            {"inputs": sorted(one.inputs), "outputs": [output.path for output in one.outputs]} for one in move.merges
        ],
        "copied": move.copied, **({"removed": list(move.removed), "rule": move.rule} if move.rule else {}),
    }  # fmt: skip
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
