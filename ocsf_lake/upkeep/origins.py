"""What the events of files were made from: batches before all merges, their objects, and files that share these."""

from __future__ import annotations

from collections.abc import Iterable, Set

from ocsf_lake.catalogs.definitions import BESIDE
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import compactions, containers, files
from ocsf_lake.ledger.compactions import Compactions
from ocsf_lake.ledger.results import Kind, State
from ocsf_lake.storage.objects import ObjectRef


class RefusedError(Exception):
    """A partition cannot be rewritten; the message says why."""


class NotThereError(RefusedError):
    """An object is not there any more, or has another content."""


class PassingError(RefusedError):
    """A partition cannot be rewritten as long as something is not mended, or somebody is at work."""


def objects_of(lake: Lake, batch_ids: Iterable[str]) -> list[ObjectRef]:
    """All objects whose records may be in files of batches, also where those were merged from files of others.

    Raises:
        RefusedError: Some are of replays of quarantine, of which the ledger does not have the objects.
    """
    refs: dict[tuple[str, str], ObjectRef] = {}
    for current in before_merges(lake, batch_ids):
        container = containers.of(lake.ledger.engine, current) or current
        if (batch := lake.ledger.batch(container, done=True)) is None:
            continue
        if batch.kind is Kind.REPLAY:
            raise RefusedError("it has events of a replay of quarantine, and nothing else says of which records")
        states = lake.ledger.states(batch.members)
        refs |= {ref.key: ref for ref in batch.members if states[ref.key][0] is State.DONE}
    return [refs[key] for key in sorted(refs)]


def before_merges(lake: Lake, batch_ids: Iterable[str]) -> list[str]:
    """The batches, but no merges: the batches whose files these were made of."""
    compactions = Compactions(lake.ledger.engine)
    waiting = list(batch_ids)
    seen: set[str] = set()
    originals = []
    while waiting:
        if (current := waiting.pop()) in seen:
            continue
        seen.add(current)
        if (inner := compactions.merge(current)) is not None:
            waiting += [batch for batch, _ in inner.inputs.values()]
        else:
            originals.append(current)
    return originals


def other_files(
    lake: Lake, batch_ids: Iterable[str], source: str, own: Set[str]
) -> list[tuple[str, int, str]]:  # fmt: skip
    """Path, size and checksum of a source's other files that may have events of the same objects."""
    with lake.ledger.engine.connect() as connection:
        ids = compactions.with_merges(connection, before_merges(lake, batch_ids))
        candidates = files.of_batches(connection, ids, source, but=BESIDE)
    return [file for file in candidates if file[0] not in own]
