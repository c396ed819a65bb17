"""What works on a lake is killed at every step that it comes to: readers see each row once at every moment, and run
again it ends as if nothing had happened.

The steps are those that a run which nothing ends has come to, so that a new one is among them by itself: the moments
that the code names (`failpoint`), half a file, before a file gets its name, when it has it beside the name that it was
written under, and before each commit to the ledger.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import marker
from ocsf_lake.query import query
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import check
from tests.ocsf_lake.conftest import contents, write
from tests.ocsf_lake.mortal import CrashHarness, works
from tests.ocsf_lake.test_ingest import rows

PLACES = "SELECT source_object, source_record FROM cloud_trail_mgmt ORDER BY ALL"
BOUNDS: dict[str, object] = {
    "batch_objects": 1, "part_rows": 4, "workers": 1, "attempts": 1_000,
    "export_region": "eu-central-1", "export_object_bytes": 1, "row_group_rows": 6,
}  # fmt: skip
ENTRIES = "SELECT source_object, source_record, state, tries FROM quarantine ORDER BY ALL"
COUNTED = ["read", "events", "quarantined", "dropped"]
BOOKS: dict[str, tuple[list[str], list[str]]] = {
    "batches": ([], COUNTED),
    "objects": (["uri"], COUNTED),
    "meter": (["day"], ["events", "quarantined"]),
    "export_objects": (["shipment_id", "first_row", "rows", "bytes", "sha256"], []),
}
"""Tables of the ledger: by what their rows are taken together, and what is added up."""


@dataclass
class Stage:
    """A folder with logs, a lake, and a bucket for what is exported, that can be had again as it was.

    Always at the same place, as the names of files and objects depend on it.
    """

    folder: Path
    given: dict[str, tuple[str, ...]]

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def order(self) -> dict[str, object]:
        return {"lake": str(self.lake), **BOUNDS}

    @cached_property
    def settings(self) -> Settings:
        return config.load(**self.order)

    def before(self, work: str) -> None:
        """As it is before a work: without a lake, or with one of all logs."""
        for name in ("lake", "bucket"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "bucket").mkdir()
        if work != "ingest":
            shutil.copytree(self.folder / "filled", self.lake)

    def seen(self) -> list[tuple[object, ...]]:
        """The rows that a reader of the lake sees; none where there is no lake yet."""
        return rows(self.settings, PLACES) if (self.lake / "_lake").exists() else []

    def books(self) -> dict[str, object]:
        """What is the same whether a work was interrupted or not."""
        with query.connected(self.settings, PLACES, ENTRIES) as connection:
            found: dict[str, object] = {sql: connection.execute(sql).fetchall() for sql in (PLACES, ENTRIES)}
        with opened(self.settings, reading=True) as lake:
            for name, (keys, counts) in BOOKS.items():
                sums = lake.ledger.arrow(name).group_by(keys).aggregate([(column, "sum") for column in counts])
                found[name] = sorted(map(str, sums.to_pylist()))
            found["unwritten"] = lake.ledger.arrow("export_objects")["written_at"].null_count
        return {**found, "bucket": contents(self.folder / "bucket")}


@pytest.fixture(scope="module")
def stage(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Three objects of two accounts; of each two records wait for a mended mapper, and one for nothing."""
    folder = tmp_path_factory.mktemp("stage")
    for number in range(3):
        times = [{"at": f"2025-03-11T09:{minute:02}:00Z"} for minute in range(8)]
        times += [{"late": "2025-03-11T10:00:00Z"}, {}, {"late": "2025-03-11T10:01:00Z"}]
        account = ("111122223333", "012345678901")[number % 2]
        records = [{"id": f"{number}-{place}", "account": account, **time} for place, time in enumerate(times)]
        write(folder / "logs" / f"{number}.json", json.dumps({"Tiny": records}))
    found = Stage(folder, {"ingest": (str(folder / "logs"), tiny), "export": (str(folder / "bucket"),)})
    ingest.ingest([str(folder / "logs")], found.settings, tiny)
    found.lake.rename(folder / "filled")
    return found


WORKS = [("ingest", 0, 24), ("replay", 24, 30), ("export", 24, 24), ("compaction", 24, 24), ("remap", 24, 24)]
"""What is done, and how many rows there are before and after."""


MARKERS = ".ledger.json.tmp"
"""Stays where a work is killed right after the lake's marker got its name: it is a second name of the marker, which is
never written again."""


OF_MANY = {"part", "half a file", "renaming", "linked", "committing"}
"""Steps that work comes to for many a thing, and not once a batch."""


def kills(steps: list[str], every: bool) -> Iterator[tuple[str, int]]:
    """Each step and the how manyth time it is come to: the first; or, where it can be another, the last.

    And a commit amid the work.
    """
    for step, times in Counter(steps).items():
        some = {times // 2, times} if step == "committing" else {times} if step in OF_MANY else {1}
        others = sorted(nth for nth in some if 1 < nth <= times)
        yield from ((step, nth) for nth in (others if every else [1]))


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["first", "others"])
@pytest.mark.parametrize(("work", "before", "after"), WORKS, ids=[name for name, *_ in WORKS])
def test_a_work_that_is_killed_at_a_step_is_done_once(
    work: str, before: int, after: int, every: bool, stage: Stage, mortals: CrashHarness
) -> None:
    given = stage.given.get(work, ())
    stage.before(work)
    steps = mortals.steps(work, stage.order, *given)
    assert {"half a file", "renaming", "committing"} < set(steps)
    assert len(set(steps)) >= 7, "the moments that the code names are not among them"
    wanted, files = stage.books(), contents(stage.lake)
    assert len(stage.seen()) == after
    for step, nth in kills(steps, every):
        at = f"killed at {step!r}, the {nth}. time"
        stage.before(work)
        assert mortals.do(work, stage.order, *given, step=step, nth=nth) == "killed", at
        seen = stage.seen()
        assert len(seen) == len(set(seen)), at
        assert before <= len(seen) <= after, at
        works()[work](stage.settings, *given)
        assert stage.books() == wanted, at
        if work not in ("compaction", "remap"):  # whose files are in another generation when it had to begin again
            assert contents(stage.lake) == files, at
        left = {path.name for path in stage.folder.rglob("*.tmp")}  # in the lake, its records too, and in the bucket
        assert left <= ({MARKERS} if step == "linked" else set()), at
        with opened(stage.settings) as lake:
            assert check.check(lake, deep=True) == [], at


@pytest.mark.slow
def test_an_ingest_of_two_workers_is_killed_at_any_time(stage: Stage, mortals: CrashHarness) -> None:
    """Again and again on one lake, and on the next one when it came through."""
    given, order = stage.given["ingest"], {**stage.order, "workers": 2}
    stage.before("ingest")
    began = time.monotonic()
    assert mortals.do("ingest", order, *given) == "done"
    usual, wanted, files = time.monotonic() - began, stage.books(), contents(stage.lake)
    chance, kills = Random(20250311), 0
    stage.before("ingest")
    while kills < 6:
        delay = chance.uniform(0.05, 0.9 if kills < 3 else 0.5) * usual
        ended = mortals.do("ingest", order, *given, delay=delay)
        kills += ended == "killed"
        if ended == "done":
            assert (stage.books(), contents(stage.lake)) == (wanted, files)
            stage.before("ingest")
    ingest.ingest([given[0]], stage.settings, "tiny")
    assert (stage.books(), contents(stage.lake)) == (wanted, files)


@pytest.mark.parametrize("committed", [0, 1, 2, 3], ids=["nothing", "tables", "id", "claim"])
def test_a_lake_whose_making_was_killed_is_made_by_the_next_run(
    committed: int, stage: Stage, mortals: CrashHarness
) -> None:
    """The first commits to a new ledger: its tables, its id, and the end of the transaction that marks the lake."""
    stage.before("ingest")
    given = stage.given["ingest"]
    assert mortals.do("ingest", stage.order, *given, step="committing", nth=committed + 1) == "killed"
    said = marker.read(Store(str(stage.lake)))
    assert (said is not None) == (committed >= 2)
    stage.seen()  # whoever only reads is not told of a lost ledger either
    works()["ingest"](stage.settings, *given)
    assert len(stage.seen()) == 24
    with opened(stage.settings, reading=True) as lake, lake.ledger.engine.connect() as connection:
        known = marker.ledger_id(connection)
    assert said is None or said.ledger == known
