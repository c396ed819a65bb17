"""All that works on a lake in any order, each now and then killed amid its work: a model says what has to be there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.export import run as export
from ocsf_lake.export import shipment
from ocsf_lake.ingest import batch, moving
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.upkeep import check, compact, hold, rebuild_ledger, remap, replay, retain, verify
from ocsf_mappers import registry
from tests.ocsf_lake.conftest import write
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.test_ingest import answers

ACCOUNTS = "111122223333", "444455556666"
FIRST = date(2025, 3, 1)
DAYS = 6
KEPT = 4_000
PLACES = "SELECT source_object, source_record FROM cloud_trail_mgmt"
WAITING = "SELECT source_object, source_record FROM quarantine WHERE state = 'open'"
BOOKS = "SELECT sum(read) - sum(events) - sum(quarantined) - sum(dropped) FROM ledger_batches"
Place = tuple[str, int]
"""URI of an object, number of a record in it."""


class Model:
    """A lake, and what it has to hold after what was done to it.

    Args:
        folder: A new folder.
        seed: The same one gives the same works.
    """

    def __init__(self, folder: Path, seed: int, mended: object) -> None:
        self._chance = Random(seed)
        self._logs = folder / "logs"
        self._mended = mended
        self._today = FIRST + timedelta(days=KEPT - 1)
        self._objects = 0
        self._hides = False
        self._holds: dict[str, tuple[str, date]] = {}
        catalogs = {"catalogs": ["iceberg"]} if seed % 3 == 0 else {}
        (folder / "bucket").mkdir()
        self._bucket = str(folder / "bucket")
        self._settings = [
            config.load(
                lake=str(folder / "lake"), retention={"default": f"{KEPT}d", "quarantine": "forever"}, batch_objects=1,
                part_rows=4, workers=1, attempts=1_000, row_group_rows=6, compact_grace_hours=0,
                export_region="eu-central-1", export_object_bytes=1, redact=hidden, **catalogs,
            )
            for hidden in ((), ({"name": "people", "path": "actor.user.name"},))
        ]  # fmt: skip
        self.events: dict[Place, tuple[str, date]] = {}
        self.late: dict[Place, tuple[str, date]] = {}
        self.said: list[str] = []

    @property
    def settings(self) -> Settings:
        """The settings of now, which hide names or do not."""
        return self._settings[self._hides]

    def step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Does one thing, which may be killed first and is then done again."""
        works = [
            *(self.ingest, self.ingest, self.replay, self.remap, self.compact, self.retain, self.hold, self.release),
            *(self.rebuild, self.export),
        ]
        self._hides ^= self._chance.random() < 0.2
        work = self._chance.choice(works) if self.events else self.ingest
        prepared = work()
        dies = self._chance.choice(STEPS) if self._chance.random() < 0.7 else None
        self.said.append(f"{work.__name__} {self._today} dies at {dies}")
        if dies:
            with monkeypatch.context() as patched:
                nth = [self._chance.randint(1, 2)]

                def die(now: str, _: object = None) -> None:
                    if now == dies:
                        nth[0] -= 1
                        if not nth[0]:
                            raise KilledError

                for module in (batch, moving, shipment, export):
                    patched.setattr(module, "failpoint", die)
                try:
                    prepared()
                except KilledError:
                    self.said.append("killed")
                    self.seen(dying=True)
                    if self.events and self._chance.random() < 0.3:
                        other = self._chance.choice([self.remap, self.compact, self.hold, self.release, self.rebuild])
                        self.said.append(f"before it is done again: {other.__name__}")
                        other()()
        prepared()

    # -- works: each says what will be there, and gives what does it --------------------------------------------------
    def ingest(self) -> Callable[[], object]:
        for _ in range(self._chance.randint(1, 3)):
            account, day = self._chance.choice(ACCOUNTS), FIRST + timedelta(days=self._chance.randrange(DAYS))
            path = self._logs / f"{self._objects}.json"
            self._objects += 1
            records = []
            for number in range(self._chance.randint(1, 6)):
                place = (path.as_uri(), number + 1)
                kind = self._chance.choice(["at", "at", "at", "late", "none"])
                time = {kind: f"{day}T09:{number:02}:00Z"} if kind != "none" else {}
                records.append({"id": f"{path.stem}-{number}", "account": account, **time})
                if kind == "at":
                    self.events[place] = account, day
                if kind == "late":
                    self.late[place] = account, day
            write(path, json.dumps({"Tiny": records}))
        return lambda: ingest.ingest([str(self._logs)], self.settings, "tiny")

    def _with_mended(self, work: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            load, registry.load = registry.load, lambda _: self._mended  # type: ignore[assignment]
            try:
                return work()
            finally:
                registry.load = load

        return run

    def replay(self) -> Callable[[], object]:
        self.events |= self.late
        self.late = {}
        return self._with_mended(lambda: replay.replay(self.settings, "tiny"))

    def remap(self) -> Callable[[], object]:
        first = FIRST + timedelta(days=self._chance.randrange(DAYS))
        chosen = remap.Chosen("tiny", first, first + timedelta(days=2))
        return self._with_mended(lambda: remap.remap(self.settings, chosen))

    def compact(self) -> Callable[[], object]:
        return lambda: compact.compact(self.settings, clock=self.clock)

    def clock(self) -> datetime:
        return datetime(self._today.year, self._today.month, self._today.day, 12, tzinfo=UTC)

    def retain(self) -> Callable[[], object]:
        self._today += timedelta(days=self._chance.randint(0, 2))

        def run() -> object:
            done = retain.retain(self.settings, clock=self.clock)
            last = self._today - timedelta(days=KEPT)
            for place, (account, day) in list(self.events.items()):
                if day < last and (account, day) not in self._holds.values():
                    del self.events[place]
            return done

        return run

    def hold(self) -> Callable[[], object]:
        account, day = self._chance.choice(sorted(set(self.events.values())))

        def run() -> object:
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
            placed = hold.add(self.settings, account, None, moment, moment, "a case")
            self._holds[placed.hold.id] = account, day
            return placed

        return run

    def release(self) -> Callable[[], object]:
        def run() -> object:
            for hold_id in list(self._holds):
                hold.release(self.settings, hold_id, reason="over")
                del self._holds[hold_id]
            return None

        return run

    def export(self) -> Callable[[], object]:
        return lambda: export.export(self.settings, "tiny", self._bucket, "calls", clock=self.clock)

    def rebuild(self) -> Callable[[], object]:
        def run() -> object:
            (Path(self.settings.lake) / "_ledger" / "ledger.db").unlink()
            return rebuild_ledger.rebuild(self.settings)

        return run

    # -- what has to be ------------------------------------------------------------------------------------------------
    def seen(self, dying: bool = False) -> None:
        said = "\n".join(self.said)
        if not (Path(self.settings.lake) / "_lake").exists():
            return
        places, waiting, books = answers(self.settings, PLACES, WAITING, BOOKS)
        found = Counter(places)
        assert found.total() == len(found), said
        if dying:
            return
        assert set(found) == set(self.events), said
        assert set(waiting) >= set(self.late), said
        assert books == [(0,)], said
        with opened(self.settings) as lake:
            assert check.check(lake, deep=True) == [], said
        summary = verify.Summary()
        assert list(verify.verify(self.settings, verify.Asked(), summary)) == [], said


STEPS = [
    "planned", "begun", "part", "half a file", "renaming", "written", "registered", "recorded", "merged", "fenced",
    "copied", "complete", "replaced", "compacted", "removed", "rewritten", "shipped", "sent", "put", "noted", "object",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.acceptance] * (seed not in (0, 1))) for seed in range(20)]
)
def test_the_lake_holds_what_it_has_to_in_whichever_order(
    seed: int, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the seeds a run of CI has one with Iceberg and one without; the others are for `-m acceptance`."""
    from tiny_source import MENDED  # type: ignore[import-not-found]

    model = Model(tmp_path, seed, MENDED)
    for _ in range(10):
        model.step(monkeypatch)
        model.seen()
