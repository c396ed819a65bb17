"""Lost files of the lake that cannot be made again as they were: what can be done about each."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ocsf_lake.catalogs.base import Drift, Kind
from ocsf_lake.catalogs.definitions import BESIDE
from ocsf_lake.lake import Lake
from ocsf_lake.storage import fetched, layout, objects
from ocsf_lake.storage.fetched import LakeFileError
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.text import plural
from ocsf_lake.upkeep import origins, rebuild, remap
from ocsf_mappers import temporary
from ocsf_mappers.errors import ConfigError, OcsfMappersError


class Way(StrEnum):
    """What can be done about a lost file."""

    SYNC = "sync"
    REMAP = "remap"
    MEND_FIRST = "mend first"
    AGAIN = "again"
    OTHERS_FIRST = "others first"
    DAMAGED = "damaged"
    WRITE_OFF = "write off"


@dataclass(frozen=True)
class Lost:
    """A lost file.

    Args:
        file: The file.
        batch_id: The batch it belongs to.
        source: Source of its rows.
        why: Why it cannot be made again; "" where it can.
        way: What can be done.
        below: With `REMAP`, where all raw objects of its partition lie.
    """

    file: FileInfo
    batch_id: str
    source: str
    why: str
    way: Way
    below: str = ""


def by_batch(drifts: Iterable[Drift]) -> dict[str, set[str]]:
    """Batch -> its files that are gone, or have other bytes, among findings of a check."""
    paths: dict[str, set[str]] = {}
    for item in drifts:
        if item.kind in (Kind.FILE_MISSING, Kind.FILE_CHANGED):
            paths.setdefault(layout.batch_of(item.item), set()).add(item.item)
    return paths


AT_ONCE = (rebuild.Passing, rebuild.Waiting)
"""Reasons of which it is clear what can be done."""


class Judge:
    """Judges what can be done about lost files; results are kept for each partition and object.

    Args:
        lake: The lake, in which nothing may change meanwhile.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._trials: dict[str, remap.Trials] = {}
        self._anew: dict[tuple[str, Partition], tuple[str, Way, str]] = {}
        self._errors: dict[tuple[str, str], OcsfMappersError | None] = {}

    def judged(self, batch_id: str, paths: Iterable[str], why: str | None) -> list[Lost]:
        """What can be done about lost files of a batch.

        Args:
            batch_id: The batch.
            paths: The files.
            why: Why they cannot be made again, see `ocsf_lake.upkeep.rebuild`; None where they can.
        """
        ledger = self._lake.ledger
        batch = ledger.batch(batch_id, done=True)
        asked = set(paths)
        files = [file for file in ledger.files_of(batch_id) if file.path in asked and not _is_there(self._lake, file)]
        if batch is None or not files:
            return []
        raw_error = self._raw_error(batch_id) if why is not None and not isinstance(why, AT_ONCE) else None
        return [Lost(file, batch_id, batch.source, *self._judged(batch.source, file, why, raw_error)) for file in files]

    def _judged(
        self, source: str, file: FileInfo, why: str | None, raw_error: OcsfMappersError | None
    ) -> tuple[str, Way, str]:
        is_gone = self._lake.store.size(file.path) is None
        if why is None or (is_gone and rebuild.version_of(self._lake, file) is not None):
            return "", Way.SYNC, ""
        reason, below = str(why), ""
        if isinstance(why, AT_ONCE):
            way = Way.AGAIN if isinstance(why, rebuild.Passing) else Way.OTHERS_FIRST
        elif raw_error is not None:
            reason += f"; {raw_error}" if str(raw_error) not in why else ""
            way = Way.MEND_FIRST
        else:
            key = source, file.partition
            if key not in self._anew:
                self._anew[key] = self._tried(*key)
            more, way, below = self._anew[key]
            reason += f"; cannot be remapped: {more}" if more else ""
        if way is Way.WRITE_OFF and isinstance(why, rebuild.Failed):
            way = Way.MEND_FIRST
        if way in (Way.WRITE_OFF, Way.OTHERS_FIRST) and not is_gone:
            way = Way.DAMAGED
        return reason, way, below

    def _raw_error(self, batch_id: str) -> OcsfMappersError | None:
        """Why a raw object of a batch is unavailable though it may be there; None where none is."""
        try:
            refs = origins.objects_of(self._lake, [batch_id])
        except origins.RefusedError:
            return None
        for ref in refs:
            if ref.key not in self._errors:
                self._errors[ref.key] = self._error(ref)
            if (error := self._errors[ref.key]) is not None:
                return error
        return None

    def _error(self, ref: ObjectRef) -> OcsfMappersError | None:
        try:
            with objects.opened(ref, self._lake.settings.input_access):
                return None
        except objects.GoneError:
            return None
        except OcsfMappersError as error:
            return error

    def _tried(self, source: str, partition: Partition) -> tuple[str, Way, str]:
        """Why a partition cannot be mapped once more, what can be done, and where all of its raw objects lie."""
        if partition.table in BESIDE:
            return "", Way.WRITE_OFF, ""
        try:
            if source not in self._trials:
                self._trials[source] = remap.Trials(self._lake, source)
            return "", Way.REMAP, _common(self._trials[source].objects_read(partition))
        except LakeFileError as error:
            return str(error), Way.OTHERS_FIRST, ""
        except (origins.PassingError, ConfigError) as error:
            return str(error), Way.MEND_FIRST, ""
        except origins.RefusedError as error:
            return str(error), Way.WRITE_OFF, ""


def _is_there(lake: Lake, file: FileInfo) -> bool:
    """Whether a file is as it was, as somebody has put it back meanwhile."""
    if lake.store.size(file.path) != file.bytes:
        return False
    with temporary.directory("lost") as folder:
        try:
            fetched.fetch(lake.store, [(file.path, file.sha256)], Path(folder))
        except LakeFileError:
            return False
    return True


def _common(uris: Iterable[str]) -> str:
    """The folder that all of some objects are below; of several buckets, the store."""
    parts = [uri.split("/")[:-1] for uri in uris]
    common = []
    for steps in zip(*parts, strict=False):
        if len(set(steps)) > 1:
            break
        common.append(steps[0])
    return "/".join(common) if len(common) > 2 else f"{common[0]}//"


def ways(lost: Iterable[Lost]) -> Iterator[str]:
    """What can be done about lost files, in words, each way and reason once."""
    by_place: dict[tuple[str, ...], list[Lost]] = {}
    messages: dict[str, None] = {}
    to_sync = 0
    for item in lost:
        if item.way is Way.REMAP:
            by_place.setdefault((item.source, *item.file.partition.values[:2]), []).append(item)
        elif item.way is Way.SYNC:
            to_sync += 1
        else:
            messages[f"{item.why}: {WORDS[item.way]}"] = None
    for (source, region, account), items in sorted(by_place.items()):
        days = sorted(item.file.partition.values[2] for item in items)
        below = _common(f"{item.below}/" for item in items)
        options = ["--from", _dashed(days[0]), "--to", _dashed(days[-1]), "--account", account, "--region", region]
        command = shlex.join(["ocsf-lake", "backfill", source, below, *options, "--remap"])
        yield f"{items[0].why}: `{command}` rebuilds the events of those days with today's mapper"
    yield from messages
    if to_sync:
        yield f"`ocsf-lake catalog sync` rebuilds {plural(to_sync, 'lost file')}"


WORDS = {
    Way.MEND_FIRST: "fix that, then `ocsf-lake catalog sync`; if you cannot, `ocsf-lake catalog write-off --all` "
    "lists what is lost for good",
    Way.AGAIN: "`ocsf-lake catalog sync` tries again",
    Way.OTHERS_FIRST: "the other lost files first",
    Way.DAMAGED: "put a good copy in its place; to give up its rows, remove it, and `ocsf-lake catalog write-off` "
    "lists them",
    Way.WRITE_OFF: "put a copy of it back, or give up its rows: `ocsf-lake catalog write-off` lists them",
}
"""What follows on the reason."""


def _dashed(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
