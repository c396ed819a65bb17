"""Flow logs changed at random: see `tests.mutations`."""

import os
import subprocess
import sys

import pytest

from tests import mutations
from tests.support import PROJECT

BOUND = 1_000 << 20


@pytest.mark.slow  # a line changed by hypothesis loses nothing either: test_lossless
def test_of_changed_flow_logs_nothing_is_lost_and_nothing_stops() -> None:
    # OCSF_LAKE_MUTATIONS=200000 looks longer.
    records = int(os.environ.get("OCSF_LAKE_MUTATIONS", "1000"))
    command = [sys.executable, "-m", "tests.mutations", str(records)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stderr[-5_000:]
    assert int(done.stdout.split()[-2]) << 20 < BOUND, done.stdout


def test_the_same_seed_changes_the_same() -> None:
    one, other = mutations.Mutator(7), mutations.Mutator(7)
    assert [one.object() for _ in range(50)] == [other.object() for _ in range(50)]


def test_a_lost_value_would_be_noticed() -> None:
    event = {"src_endpoint": {"ip": "192.0.2.1", "port": 8080}, "unmapped": {"own": "x"}}
    cells = [("srcaddr", "192.0.2.1"), ("srcport", 8080.0), ("own", "x"), ("dstaddr", None), ("v6", "gone"), ("o", [1])]
    assert mutations._lost(cells, event) == [("v6", "gone"), ("o", 1)]
