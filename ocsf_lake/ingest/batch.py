"""One batch from raw objects to registered files. Doing it again gives the same files under the same names.

`complete` is how batches of any kind become part of the lake; `run` maps objects, `ocsf_lake.upkeep.replay` entries of
quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from ocsf_lake.catalogs.definitions import partition_of
from ocsf_lake.ingest import duplicates, moving, routed, undo, unfinished
from ocsf_lake.ingest.attempt import Attempt, NotAloneError, UnprovedError, Work
from ocsf_lake.ingest.divide import Failure, PartialReadError
from ocsf_lake.ingest.engines import of_settings
from ocsf_lake.ingest.routing import Engines
from ocsf_lake.inputs import discovery
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import chain, duplicated, generations, mapping_coverage, orphans, records, redactions
from ocsf_lake.ledger.database import Connection
from ocsf_lake.ledger.duplicated import DuplicatePolicy
from ocsf_lake.ledger.generations import MovedError
from ocsf_lake.ledger.leases import Lease, LostError
from ocsf_lake.ledger.ledger import WORKER, LeftOut, now
from ocsf_lake.ledger.results import Batch, Kind, Outcome, Result, State
from ocsf_lake.redaction import policy as redaction
from ocsf_lake.redaction.policy import Policy
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.storage.store import Store
from ocsf_mappers import Engine
from ocsf_mappers.errors import RetriableError

SHOWN = 3
"""Of the objects of a batch that fails as a whole, so many are named."""


def run(
    batch: Batch, lake: Lake, engine: Engine, lease: Lease, last: bool = False, engines: Engines | None = None
) -> Result:
    """Maps a batch, writes and registers its files, marks it done.

    An object or record that makes the work fail is found and left out, with the reason; the others are done. Records of
    other sources among its own are done with it, each source's under a batch of its own. Of what an earlier attempt has
    written of objects that are not to be had nothing is lost, see `ocsf_lake.ingest.unfinished`.

    Args:
        batch: The batch.
        lake: The lake.
        engine: Of the batch's source.
        lease: On the batch.
        engines: Gives the engines of other sources; None for those of the lake's settings.
        last: No further attempt will be made now: an object that the store does not give is left out.

    Raises:
        CountError: What was read is not what came out.
        Exception: Every object of the batch fails, this is why the first one does.
        LostError: Another worker has taken it over.
        RetriableError: A store or the database does not answer.
        WriteError: The lake refused a file.
    """
    left_out: Mapping[ObjectRef, Outcome] = {}
    again = unfinished.has_left(lake, batch)
    missing = unfinished.missing(lake, batch) if again else {}
    if missing and (result := _from_record(batch, lake, lease)) is not None:
        return result
    if engine.fingerprint != batch.mapper_version:
        raise RetriableError("its mapper has changed since it was planned; the next run plans it again", batch=batch.id)
    if missing:
        left_out = _failed(unfinished.move_aside(lake, batch, missing, lease))
    policy = duplicates.policy(lake.settings, engine.mapper)
    engines = engines or of_settings(engine.version, lake.settings)
    hides = redaction.of(lake.settings)
    work = Work(lake, engine, engines, lease, lake.store, last, ended=part_ended, redaction=hides, again=again)
    alone = set() if policy is DuplicatePolicy.KEEP else {batch.source}
    while True:
        # Always in one order, so that two batches never wait for each other.
        with ExitStack() as stack:
            for name in sorted(alone):
                stack.enter_context(duplicates.alone(lake, name))
            make = partial(made, work=replace(work, alone=frozenset(alone)), policy=policy, left_out=left_out)
            try:
                return complete(batch, lake, lease, make, policy, engine.mapper.duplicate_key)
            except NotAloneError as error:
                alone.add(error.source)


def end_abandoned(batch: Batch, lake: Lake, lease: Lease) -> Result | None:
    """Ends a batch that died and all of whose objects are gone since; gives None where one may be there.

    It is finished, or else forgotten, and its objects failed.

    Args:
        batch: The batch.
        lake: The lake.
        lease: On the batch.

    Raises:
        LostError: Another worker has taken it over.
        RetriableError: A store, catalog or database does not answer.
        WriteError: The lake or a catalog refused.
    """
    if not unfinished.is_abandoned(lake, batch):
        return None
    result = _from_record(batch, lake, lease)
    if result is None:
        left_out = unfinished.move_aside(lake, batch, dict.fromkeys(batch.members, unfinished.GONE), lease)
        lake.ledger.plan([], instead_of=(batch.id, undo.batch(lake, batch.id, lease)), left_out=left_out)
        lease.check()  # else another one may have ended it before, and nothing was left out
        result = Result(_failed(left_out))
    return result


def _failed(left_out: Iterable[LeftOut]) -> dict[ObjectRef, Outcome]:
    return {one.ref: Outcome(state=State.FAILED, reason=one.reason) for one in left_out}


def _from_record(batch: Batch, lake: Lake, lease: Lease) -> Result | None:
    """Finishes a batch as an attempt that died has recorded it; gives None where that cannot be."""
    record = unfinished.kept_record(lake, batch)
    if record is None or (facts := record.facts) is None:
        return None
    with ExitStack() as stack:
        for name in unfinished.searched(record):
            stack.enter_context(duplicates.alone(lake, name))
        if not unfinished.is_whole(lake, record):
            return None
        make = partial(unfinished.recorded, lake, record)
        return complete(batch, lake, lease, make, DuplicatePolicy(facts.policy), facts.key, facts.routed)


def complete(
    batch: Batch, lake: Lake, lease: Lease, make: Callable[[Batch], Result],
    policy: DuplicatePolicy = DuplicatePolicy.KEEP, key: Sequence[str] = (),
    routed_policies: records.Routed | None = None,
) -> Result:  # fmt: skip
    """Has the files of a planned batch made, and makes them part of the lake at one moment, once.

    Whoever dies here leaves the batch open: it is begun again, with the same files, or taken back by what
    `ocsf_lake.ingest.undo` gives.

    Args:
        batch: The batch, of any kind.
        lake: The lake.
        lease: What keeps others from it.
        make: Writes its files, into folders that it notes before, see `ocsf_lake.ledger.orphans`.
        policy: What became of duplicates.
        key: The source's own key of an event.
        routed_policies: The same of records of other sources; None for those of the settings.

    Raises:
        CountError: What was read is not what came out.
        LostError: Another worker has taken it over.
        RetriableError: A store or the database does not answer.
        WriteError: The lake refused a file.
    """
    while True:
        try:
            return _completed(lake.ledger.begin(batch), lake, lease, make, policy, key, routed_policies)
        except MovedError as error:
            # Its files are written once more where the partition's are now, under the same names.
            lake.ledger.fail(batch.id, None, excused=True)
            moving.settle(lake, error.table)


def _completed(
    batch: Batch, lake: Lake, lease: Lease, make: Callable[[Batch], Result], policy: DuplicatePolicy,
    key: Sequence[str], routed_policies: records.Routed | None,
) -> Result:  # fmt: skip
    failpoint("begun", batch.id)
    result = make(batch)
    failpoint("written", batch.id)
    lease.check()
    of_others = duplicates.routed(lake.settings, result) if routed_policies is None else routed_policies
    head = None
    if any(one != DuplicatePolicy.KEEP for one in (policy, *(one for one, _ in of_others.values()))):
        with lake.ledger.engine.connect() as connection:
            head = chain.last_number(connection)
    facts = records.Facts(now(), WORKER, policy, tuple(key), of_others, head)
    record = records.encoded(batch, result, facts)
    stale: list[str] = []
    earlier_ids: list[str] = []
    earlier_folders: list[str] = []
    if batch.attempts > 1:
        written = {file.path for file in result.all_files}
        with lake.ledger.engine.connect() as connection:
            stale += sorted(set(orphans.left(connection, lake.store, batch.id)) - written)
            earlier_ids += orphans.ids(connection, batch.id)
            earlier_folders += orphans.folders(connection, batch.id)

    def make_visible() -> None:
        lease.check()
        with lake.ledger.engine.connect() as connection:
            generations.check(connection, result.all_files)
        # An earlier attempt may have registered records of another source under another mapper.
        for batch_id in set(earlier_ids) - {batch.id, *(one.id for one, _ in result.routed)}:
            lake.catalog.drop(batch_id)
        for one, one_result in [(batch, result), *result.routed]:
            register(one, lake, one_result, earlier_folders)
        failpoint("registered", batch.id)
        if batch.attempts > 1:
            records.forget(lake.store, batch.id, batch.planned_at)
        result.record = records.put(lake.store, batch.number, batch.id, record)
        failpoint("recorded", batch.id)

    def also(connection: Connection) -> None:
        generations.check(connection, result.all_files)
        orphans.forget(connection, batch.id)
        result.drift.update(mapping_coverage.record(connection, batch, result, discovery.day_of, facts.done_at))
        duplicated.note(connection, batch, policy, result, key)
        redactions.note(connection, batch, result)
        routed.record(connection, batch, result, facts)

    try:
        if batch.kind is Kind.INGEST:
            lake.ledger.keep_record(batch, record)
            failpoint("kept", batch.id)
        lease.check()
        lake.store.remove(stale)
        lake.ledger.finish(batch, result, make_visible, also, facts.done_at)
    except LostError:
        # What it was made of is in other batches by now; what was written here would count it twice.
        lake.ledger.unless_planned(batch.id, lambda _: _forget(batch, lake, result))
        raise
    failpoint("done", batch.id)
    lake.publish_chain()
    failpoint("published", batch.id)
    return result


def _forget(batch: Batch, lake: Lake, result: Result) -> None:
    records.forget(lake.store, batch.id, batch.planned_at)
    for one in (batch, *(one for one, _ in result.routed)):
        lake.catalog.drop(one.id)
    lake.store.remove(file.path for file in result.all_files)


def rebuild_files(
    batch: Batch, lake: Lake, engine: Engine, lease: Lease, policy: DuplicatePolicy, store: Store,
    read: Collection[ObjectRef], *, parts_alone: bool = False, hides: Policy | None = None,
) -> Result:  # fmt: skip
    """Maps a finished batch once more and writes its files elsewhere; nothing is registered or marked.

    Args:
        batch: The batch.
        lake: The lake.
        engine: Of the batch's source.
        lease: On the batch.
        policy: What became of duplicates then; earlier batches are looked at as they are now.
        store: Where to write.
        read: The members that were read then; the others failed or were set aside.
        parts_alone: See `Work`.
        hides: The policy that was in force then.

    Raises:
        CountError: What was read is not what came out.
        RetriableError: A store or the database does not answer.
    """
    others = of_settings(engine.version, lake.settings)
    work = Work(
        lake, engine, others, lease, store, ended=part_ended, parts_alone=parts_alone, redaction=hides
    )
    left_out = {ref: _NOT_READ for ref in batch.members if ref not in read}
    return made(batch, work, policy, left_out=left_out)


def failpoint(step: str, batch_id: str) -> None:
    """Called between the steps of a batch; does nothing. Tests interrupt a run here."""


def part_ended(batch_id: str) -> None:
    """Called after each part of an attempt."""
    failpoint("part", batch_id)


def made(
    batch: Batch, work: Work, policy: DuplicatePolicy, *, attempted: Callable[..., Attempt] = Attempt,
    left_out: Mapping[ObjectRef, Outcome] = MappingProxyType({}),
) -> Result:  # fmt: skip
    """Writes the files of a batch; objects that make the work fail are left out.

    Args:
        batch: The batch.
        work: What it needs.
        policy: What becomes of duplicates.
        attempted: Gives an attempt, see `Attempt`.
        left_out: Members that are not read, and their outcomes.

    Raises:
        CountError: What was read is not what came out.
        Exception: Every object of the batch fails, this is why the first one does.
        RetriableError: A store or the database does not answer.
        WriteError: The lake refused a file.
    """
    failures: dict[ObjectRef, Failure] = {}
    while True:
        attempt = attempted(batch, work, left_out, policy)
        try:
            with closing(attempt):
                result = attempt.run()
            break
        except UnprovedError:
            work = replace(work, proves=True)
        except PartialReadError as broken:
            # Some of its records may be in files by now. Without it those files come out anew, under the same names.
            failures |= {failure.ref: failure for failure in broken.failures}
            left_out = {**left_out, **{ref: failure.outcome for ref, failure in failures.items()}}
        work.lease.check()
        work.store.remove(file.path for one in attempt.all for file in one.result.files)
    failures |= attempt.failures
    every = failures and all(outcome.state is State.FAILED for outcome in result.outcomes.values())
    if every and batch.kind is Kind.INGEST:
        _check_blame(batch, list(failures.values()))
    attempt.check()
    return result


def _check_blame(batch: Batch, failures: Sequence[Failure]) -> None:
    """Where all objects fail in the same way it may be for another reason than what is in them.

    If it is not, the ledger divides the batch after some attempts, and each object is found guilty on its own.
    """
    error = failures[0].error
    away = all(isinstance(failure.error, RetriableError) for failure in failures)
    if away or (len(failures) > 1 and all(failure.is_defect for failure in failures)):
        uris = ", ".join(ref.uri for ref in batch.members[:SHOWN])
        error.add_note(f"none of the {len(batch.members)} objects of the batch can be read; the first: {uris}")
        raise error


_NOT_READ = Outcome(state=State.FAILED)


def register(batch: Batch, lake: Lake, result: Result, earlier: Iterable[str] = ()) -> None:
    """Registers a batch's files in the catalogs.

    Args:
        batch: The batch.
        lake: The lake.
        result: What became of it.
        earlier: Folders that an earlier attempt may have registered files in.
    """
    elsewhere = {partition for folder in earlier if (partition := partition_of(folder)) is not None}
    lake.catalog.register(batch.id, result.files, sorted(elsewhere - {file.partition for file in result.files}))
