"""`ocsf-lake coverage`, and `verify` beside a lake, as somebody types them."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.cli import coverage
from ocsf_lake.upkeep.coverage import ALL, Cover, Covered
from ocsf_lake.upkeep.streams import Name
from tests.flows.conftest import RunCommand
from tests.ocsf_lake.test_hours import ACCOUNT, REGION, flow_log, hours, put
from tests.support import SAMPLE_LOGS

GAP = datetime(2025, 3, 15, 7, tzinfo=UTC)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lake with flow logs of 17 days, but of one hour."""
    folder = str(tmp_path_factory.mktemp("covered") / "lake")
    put(config.load(lake=folder), [flow_log(time) for time in hours(17) if time != GAP])
    return folder


def test_coverage_is_a_heat_map_and_fails_on_gaps(ocsf_lake: RunCommand, lake: str) -> None:
    run = ocsf_lake("coverage", "--from", "2025-03-14", "--to", "2025-03-15", "--lake", lake)
    assert run.code == 1
    first, header, *lines = run.out.splitlines()
    assert (first, header.split()) == ("aws_vpc_flow", ["account", "region", "day", "0", "6", "12", "18"])
    assert lines[0].split() == [ACCOUNT, REGION, "2025-03-14", "+" * 24]
    assert lines[1].split() == ["2025-03-15", "+" * 7 + "x" + "+" * 16]
    assert "x suspicious gap" in lines
    assert any(line.startswith("  2025-03-15 07:00 to 2025-03-15 08:00  suspicious gap") for line in lines)
    assert "\x1b" not in run.out
    assert "1 log of a source, account and region: hours 47 present, 1 suspicious gap" in run.err
    assert ocsf_lake("coverage", "--from", "2025-03-13", "--to", "2025-03-14", "--lake", lake).code == 0


def test_coverage_without_days_tells_of_the_silence_since(ocsf_lake: RunCommand, lake: str) -> None:
    run = ocsf_lake("coverage", "aws_vpc_flow", "--from", "2025-03-17", "--lake", lake)
    assert run.code == 1
    assert "hours after 2025-03-19, which is unusual" in run.err


def test_coverage_as_json_has_an_hour_a_row(ocsf_lake: RunCommand, lake: str) -> None:
    days = ["--from", "20250315", "--to", "20250315"]
    run = ocsf_lake("coverage", "--account", ACCOUNT, *days, "--json", "--lake", lake)
    rows = json.loads(run.out)
    assert [row["hour"] for row in rows] == [f"2025-03-15T{hour:02d}:00:00Z" for hour in range(24)]
    assert rows[6] == {
        "source": "aws_vpc_flow", "account": ACCOUNT, "region": REGION, "hour": "2025-03-15T06:00:00Z",
        "state": "present", "objects": 1, "precision": "hour", "reason": None, "changes": [],
    }  # fmt: skip
    assert (rows[7]["state"], rows[7]["objects"]) == ("suspicious gap", 0)


@pytest.mark.parametrize("more", [["aws_waf"], ["aws_wav"], ["--account", "999999999999"], ["--region", "eu-1; x"]])
def test_coverage_of_what_is_not_there_is_misuse(ocsf_lake: RunCommand, lake: str, more: list[str]) -> None:
    run = ocsf_lake("coverage", *more, "--lake", lake)
    assert (run.code, run.out) == (2, "")


@pytest.mark.parametrize(("width", "lines"), [(100, 4), (40, 4), (20, 6)])
def test_the_heat_map_fits_a_narrow_terminal(width: int, lines: int) -> None:
    codes = bytearray([ALL.index(Cover.PRESENT)] * 30)
    stream = Covered(Name("aws_vpc_flow", ACCOUNT, REGION), 24 * 20_000, codes, Counter())
    drawn = list(coverage._Heat(width, colours=True).of(stream))
    assert len(drawn) == lines
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in drawn[2:]) <= width
    assert sum(line.count("+") for line in drawn) == 30
    assert any("\x1b[34m+" in line for line in drawn)


def test_every_state_has_a_character_of_its_own() -> None:
    assert list(coverage.GLYPHS) == [str(state) for state in ALL if state is not Cover.UNKNOWN] + ["unknown"]
    assert len({glyph for glyph, _ in coverage.GLYPHS.values()}) == len(ALL)


@pytest.mark.slow
def test_verify_beside_a_lake_lets_coverage_prove(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    logs, lake = str(SAMPLE_LOGS / "evidence"), str(tmp_path / "lake")
    days = ["--from", "2026-03-17", "--to", "2026-03-17"]
    proving = ["verify", "aws_cloudtrail", logs, *days, "--public-keys", f"{logs}/public-keys.json"]
    assert ocsf_lake("ingest", f"{logs}/AWSLogs", "--lake", lake).code == 0
    assert "?" in ocsf_lake("coverage", *days, "--lake", lake).out
    assert "lake" not in ocsf_lake(*proving, "--no-lake").err
    proved = ocsf_lake(*proving, "--lake", lake)
    assert proved.code == 0
    assert f"8 log files in the lake {lake} as digests say that they were delivered" in proved.err
    assert "oooo#ooooo#ooooo#ooooo#o" in ocsf_lake("coverage", *days, "--lake", lake).out
    assert ocsf_lake(*proving, "--lake", lake, "--no-lake").code == 2
