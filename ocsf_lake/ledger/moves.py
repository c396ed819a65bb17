"""The way of partitions into their next generation, as it is planned: by a compaction, a re-mapping, or a retention."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ocsf_lake.ledger import generations
from ocsf_lake.ledger.results import State
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition


@dataclass(frozen=True)
class PartitionFile:
    """A file that a compaction may take up.

    Args:
        file: The file.
        batch_id: The batch it belongs to.
        source: Source of its events.
        ocsf_version: Their version.
        targets: Custom sources that it was exported to.
        is_shipping: Whether an export that is not done has it.
    """

    file: FileInfo
    batch_id: str
    source: str
    ocsf_version: str
    targets: tuple[str, ...] = ()
    is_shipping: bool = False


@dataclass(frozen=True)
class Output:
    """A file that a merge writes. Size and checksum are known once it is written."""

    path: str
    rows: int
    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Merge:
    """Files of one partition, class, source and OCSF version that become one file, or a few large ones.

    Args:
        id: Hash of what is merged; in the ledger it is the batch that the outputs belong to.
        source: Source of the events.
        ocsf_version: Their version.
        class_uid: Their class.
        targets: Custom sources that all of them were exported to.
        inputs: Path of each file -> its checksum, by path.
        outputs: What becomes of them.
        mapper_version: Of the mapper by which their records were mapped once more; "" where the rows stay the same.
    """

    id: str
    source: str
    ocsf_version: str
    class_uid: int
    targets: tuple[str, ...]
    inputs: dict[str, str]
    outputs: tuple[Output, ...]
    mapper_version: str = ""


@dataclass(frozen=True)
class Move:
    """One partition's way into its next generation.

    Args:
        values: The partition's values, with `/` between.
        generation: The next one.
        merges: What is merged.
        copied: Path of each file that comes along as it is -> its path then.
        removed: Files that nothing comes in the place of, as a retention has them.
        rule: The rule by which they go, and how long it keeps events; "" where nothing goes.
    """

    values: str
    generation: int
    merges: tuple[Merge, ...]
    copied: dict[str, str]
    removed: tuple[str, ...] = ()
    rule: str = ""


@dataclass(frozen=True)
class Plan:
    """One compaction, or what takes its steps.

    Args:
        id: Hash of what it does.
        table: The table.
        moves: Of each partition.
        state: Planned or fenced.
        number: Of its record, see `ocsf_lake.ledger.marker`; once it is fenced.
    """

    id: str
    table: str
    moves: tuple[Move, ...]
    state: str = State.PLANNED
    number: int = 0

    @property
    def merges(self) -> list[Merge]:
        """Of all partitions."""
        return [merge for move in self.moves for merge in move.merges]

    @property
    def copied(self) -> dict[str, str]:
        """Of all partitions."""
        return {old: new for move in self.moves for old, new in move.copied.items()}

    @property
    def old(self) -> list[str]:
        """Paths of the files that are retired, sorted."""
        merged = (path for merge in self.merges for path in merge.inputs)
        return sorted([*merged, *self.copied, *self.removed])

    @property
    def removed(self) -> list[str]:
        """Of all partitions."""
        return [path for move in self.moves for path in move.removed]

    @property
    def is_retention(self) -> bool:
        """Whether partitions are emptied, by the rules and holds of when it was planned."""
        return any(move.rule for move in self.moves)

    @property
    def is_remap(self) -> bool:
        """Whether rows are mapped once more, which cannot be done from their files alone."""
        return any(merge.mapper_version for merge in self.merges)

    def partition(self, move: Move) -> Partition:
        """The partition of a move."""
        return Partition(self.table, tuple(move.values.split("/")))

    def folder(self, move: Move) -> str:
        """Where a partition's files will be."""
        return generations.folder(self.partition(move), move.generation)

    def new(self) -> Iterator[tuple[str, FileInfo]]:
        """The files that merges write, each with its merge's id."""
        for move in self.moves:
            for merge in move.merges:
                for output in merge.outputs:
                    facts = (output.rows, output.bytes, output.sha256)
                    yield merge.id, FileInfo(output.path, self.partition(move), merge.class_uid, *facts)


def as_json(plan: Plan) -> str:
    """A plan as the ledger keeps it. That of a retention has a form that earlier versions cannot take for theirs."""
    moves = [asdict(move) for move in plan.moves]
    return json.dumps({"emptied": moves} if plan.is_retention else moves, separators=(",", ":"))


def from_json(text: str) -> tuple[Move, ...]:
    """The moves of a plan that the ledger has kept."""
    document = json.loads(text)
    return tuple(_move(item) for item in (document["emptied"] if isinstance(document, dict) else document))


def _move(document: dict[str, Any]) -> Move:
    merges = tuple(
        Merge(**{
            **merge, "targets": tuple(merge["targets"]), "outputs": tuple(Output(**item) for item in merge["outputs"]),
        })
        for merge in document["merges"]
    )  # fmt: skip
    return Move(
        document["values"], document["generation"], merges, document["copied"], tuple(document.get("removed", ())),
        document.get("rule", ""),
    )  # fmt: skip
