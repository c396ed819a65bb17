"""Batches die while raw objects go, come back and are written over: what the lake held of them once, it holds."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from ocsf_lake import config
from ocsf_lake.ingest import batch, moving, unfinished
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.results import State
from ocsf_lake.storage import layout, retry
from ocsf_lake.upkeep import compact, remap, replay
from ocsf_mappers import registry
from tests.ocsf_lake.conftest import write
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.losing import made_anew, synced
from tests.ocsf_lake.test_ingest import answers
from tests.ocsf_lake.test_remap import is_sound

DAY = date(2025, 3, 1)
STEPS = [
    *("begun", "part", "written", "written", "kept", "kept", "registered", "recorded", "done", "copied"),
    *("moving aside", "moved aside", "fenced", "complete", "compacted", "removed"),
]
EVENTS = "SELECT source_object, source_etag, source_record FROM cloud_trail_mgmt"
WAITING = "SELECT source_object, source_etag, source_record FROM quarantine"
STATES = "SELECT uri, etag, state FROM ledger_objects"
BOOKS = "SELECT sum(read) - sum(events) - sum(quarantined) - sum(dropped) FROM ledger_batches"
Object = tuple[str, str]
"""URI and ETag."""
Place = tuple[str, str, int]
"""URI and ETag of an object, number of a record in it."""


class Model:
    """A lake and its raw objects, and what may not get lost.

    Args:
        folder: A new folder.
        seed: The same one gives the same works.
        mended: Another version of the mapper.
    """

    def __init__(self, folder: Path, seed: int, mended: object) -> None:
        self._chance = Random(seed)
        self._logs, self._away = folder / "logs", folder / "away"
        self._mended = mended
        self._written = 0
        self.settings = config.load(
            lake=str(folder / "lake"), batch_objects=3, part_rows=4, workers=1, attempts=3, compact_grace_hours=0,
            **({"catalogs": ["iceberg"]} if seed % 3 == 0 else {}),
        )  # fmt: skip
        self.records: dict[Object, int] = {}
        self.places: dict[Place, set[str]] = {}
        self.said: list[str] = []
        for path in (self._logs, self._away):
            path.mkdir()

    def step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Does one thing, which may be killed, also so that nobody excuses the batch."""
        raw = [self.lose, self.lose, self.bring_back, self.write_over]
        works = [
            *(self.add, self.add, self.ingest, self.resume, self.sync, self.sync, self.replay, self.remap),
            *(self.compact, self.compact, self.rebuild, self.ingest_mended),
        ]
        work = self._chance.choice([*raw, *works]) if self.records else self.add
        dies = self._chance.choice(STEPS) if work in works and self._chance.random() < 0.75 else None
        self.said.append(f"{work.__name__} dies at {dies}")
        with monkeypatch.context() as patched:

            def die(now: str, _: object = None) -> None:
                if now == dies:
                    raise KilledError

            for module in (batch, moving, unfinished):
                patched.setattr(module, "failpoint", die)
            if dies and self._chance.random() < 0.5:
                patched.setattr(Ledger, "fail", lambda *_, **__: None)
            try:
                work()
            except KilledError:
                self.said.append("killed")

    # -- raw objects --------------------------------------------------------------------------------------------------
    def write_one(self, path: Path) -> None:
        """Writes an object of some records, of which some become no event."""
        records = []
        for number in range(self._chance.randint(0, 4)):
            kind = self._chance.choice(["at", "at", "late", "none"])
            time = {kind: f"{DAY}T09:{number:02}:00Z"} if kind != "none" else {}
            records.append({"id": f"{self._written}-{number}", "account": "111122223333", **time})
        self._written += 1
        write(path, json.dumps({"Tiny": records, "number": self._written}))
        self.records[_object(path)] = len(records)

    def add(self) -> None:
        for _ in range(self._chance.randint(1, 4)):
            self.write_one(self._logs / f"{self._written}.json")
        self.ingest()

    def lose(self) -> None:
        for path in sorted(self._logs.iterdir()):
            if self._chance.random() < 0.5:
                shutil.move(path, self._away / path.name)

    def bring_back(self, least: float = 0.6) -> None:
        for path in sorted(self._away.iterdir()):
            if self._chance.random() >= least and not (self._logs / path.name).exists():
                shutil.move(path, self._logs / path.name)

    def write_over(self) -> None:
        if paths := sorted(self._logs.iterdir()):
            self.write_one(self._chance.choice(paths))

    # -- works --------------------------------------------------------------------------------------------------------
    def ingest(self) -> None:
        if any(self._logs.iterdir()):
            ingest.ingest([str(self._logs)], self.settings, "tiny", again=True)

    def resume(self) -> None:
        ingest.resume(self.settings)

    def sync(self) -> None:
        synced(self.settings)

    def compact(self) -> None:
        compact.compact(self.settings)

    def rebuild(self) -> None:
        made_anew(self.settings)

    def _with_mended(self, work: Callable[[], object]) -> None:
        load, registry.load = registry.load, lambda _: self._mended  # type: ignore[assignment]
        try:
            work()
        finally:
            registry.load = load

    def ingest_mended(self) -> None:
        self._with_mended(self.ingest)

    def replay(self) -> None:
        self._with_mended(lambda: replay.replay(self.settings, "tiny"))

    def remap(self) -> None:
        self._with_mended(lambda: remap.remap(self.settings, remap.Chosen("tiny", DAY, DAY)))

    # -- what has to be -----------------------------------------------------------------------------------------------
    def see(self) -> None:
        """What was in a file is in one, or can be read again; what the ledger counts is there once, and no more."""
        said = "\n".join(self.said)
        before, self.places = self.places, self._stored()
        there = {_object(path) for path in self._logs.iterdir()}
        assert [place for place in before.keys() - self.places.keys() if place[:2] not in there] == [], said
        events, waiting, states = answers(self.settings, EVENTS, WAITING, STATES)
        for rows in (events, waiting):
            assert len(rows) == len(set(rows)), said
        done = {(uri, etag) for uri, etag, state in states if state == State.DONE}
        every = {(*one, number) for one in self.records for number in range(1, self.records[one] + 1)}
        assert {*events, *waiting} == {place for place in every if place[:2] in done}, said

    def _stored(self) -> dict[Place, set[str]]:
        """Every record that a file has, whether the ledger knows it or not, and the files."""
        lake, found = Path(self.settings.lake), defaultdict(set)
        for top in ("aws", layout.COMPACTED, layout.QUARANTINE_PREFIX, layout.FOREIGN):
            for path in (lake / top).rglob("[!.]*.parquet"):
                for row in pq.read_table(path, columns=["source_object", "source_etag", "source_record"]).to_pylist():
                    found[row["source_object"], row["source_etag"], row["source_record"]].add(top)
        return dict(found)

    def end(self) -> None:
        """Nobody dies any more: all is settled, first with the objects that are there, and then with all of them."""
        self.said.append("end")
        for least in (1, 0):
            self.bring_back(least)
            for _ in range(3):
                for work in (self.sync, self.ingest, self.resume, self.replay):
                    work()
            self.see()
            is_sound(self.settings)
            events, waiting, books = answers(self.settings, EVENTS, WAITING, BOOKS)
            missing = self.places.keys() - {*events, *waiting}
            assert all(layout.FOREIGN in self.places[place] for place in missing), "\n".join(self.said)
            assert books in ([(0,)], [(None,)])
        assert {place[:2] for place in missing}.isdisjoint(_object(path) for path in self._logs.iterdir())


def _object(path: Path) -> Object:
    return path.as_uri(), hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.acceptance] * (seed not in (0, 1))) for seed in range(20)]
)
def test_nothing_that_was_written_is_lost_when_raw_objects_come_and_go(
    seed: int, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the seeds a run of CI has one with Iceberg and one without; the others are for `-m acceptance`."""
    from tiny_source import MENDED  # type: ignore[import-not-found]

    monkeypatch.setattr(retry, "sleep", lambda _: None)
    model = Model(tmp_path, seed, MENDED)
    for _ in range(10):
        model.step(monkeypatch)
        model.see()
    model.end()
