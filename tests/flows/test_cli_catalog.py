"""`ocsf-lake catalog check`, `sync`, `expire` and `views`: exit codes, what stdout holds and what stderr says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.flows.conftest import RunCommand
from tests.flows.support import Run
from tests.support import SAMPLE_LOGS

AGREE = "storage and ledger agree\n"


@pytest.fixture
def own_lake(ready_lake: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(ready_lake, tmp_path / "own"))


def a_file(lake: Path) -> Path:
    return min((lake / "aws" / "VPC_FLOW").rglob("*.parquet"))


@pytest.mark.slow
def test_a_true_lake_is_said_to_be_on_stderr_alone(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    for more in ([], ["--deep"]):
        run = ocsf_lake("catalog", "check", *more, "--lake", str(ready_lake))
        assert (run.code, run.out, run.err) == (0, "", AGREE)
    run = ocsf_lake("catalog", "check", "--json", "--lake", str(ready_lake))
    assert (run.code, json.loads(run.out), run.err) == (0, [], "")
    run = ocsf_lake("catalog", "sync", "--lake", str(ready_lake))
    assert (run.code, run.out, run.err) == (0, "", "0 findings before, 0 left\n")


def test_what_is_untrue_is_a_table_on_stdout_and_exit_code_1(ocsf_lake: RunCommand, own_lake: Path) -> None:
    path = a_file(own_lake)
    path.unlink()
    run = ocsf_lake("catalog", "check", "--lake", str(own_lake))
    assert run.code == 1
    heading, _, row = run.out.splitlines()
    assert heading.split() == ["where", "table", "what", "item", "means"]
    assert row.startswith("storage   vpc_flow   file missing   ")
    assert path.relative_to(own_lake).as_posix() in row
    assert run.err == "`ocsf-lake catalog sync` repairs what can be repaired\n"
    (found,) = json.loads(ocsf_lake("catalog", "check", "--json", "--lake", str(own_lake)).out)
    assert found.keys() == {"where", "table", "kind", "item", "says", "harmless"}
    assert (found["kind"], found["harmless"]) == ("file missing", False)


@pytest.mark.slow
def test_sync_says_what_it_did(ocsf_lake: RunCommand, own_lake: Path) -> None:
    path = a_file(own_lake)
    data = path.read_bytes()
    path.unlink()
    stranger = path.with_name("stranger.parquet")
    stranger.write_bytes(data)
    run = ocsf_lake("catalog", "sync", "--lake", str(own_lake))
    assert (run.code, run.out) == (0, "")
    name, batch_id = stranger.relative_to(own_lake).as_posix(), path.name.partition("-")[0]
    assert run.err.splitlines() == [
        "2 findings before, 0 left", f"moved aside: {name}", f"repaired: batch {batch_id}",
    ]  # fmt: skip
    assert path.read_bytes() == data
    assert (own_lake / "_foreign" / name).read_bytes() == data
    assert ocsf_lake("catalog", "check", "--deep", "--lake", str(own_lake)).err == AGREE


@pytest.mark.slow
def test_what_cannot_be_mended_is_exit_code_1_and_the_reason(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    raw = tmp_path / "flows.log"
    header = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    line = "2 111122223333 eni-0a1b 10.0.0.1 10.0.1.9 40000 443 6 9 900 1741651200 1741651259 ACCEPT OK"
    raw.write_text(f"{header}log-status\n{line}\n")
    assert ocsf_lake("ingest", "aws_vpc_flow", str(raw), "--lake", "own").code == 0
    path = a_file(tmp_path / "own")
    path.unlink()
    raw.unlink()
    run = ocsf_lake("catalog", "sync", "--lake", "own")
    assert run.code == 1
    assert "file missing" in run.out
    assert "1 finding before, 1 left\n" in run.err
    assert "cannot be repaired: a raw object is unavailable" in run.err
    found = json.loads(ocsf_lake("catalog", "sync", "--json", "--lake", "own").out)
    assert found.keys() == {"found", "left", "rebuilt", "moved", "taken_back", "ended", "refused"}
    assert len(found["refused"]) == len(found["left"]) == 1


@pytest.mark.parametrize("command", [["check"], ["sync"], ["expire"], ["views", "--security-lake"]])
def test_a_lake_that_is_not_there_is_misuse_and_is_not_made(
    ocsf_lake: RunCommand, tmp_path: Path, command: list[str]
) -> None:
    run = ocsf_lake("catalog", *command, "--lake", "nowhere")
    assert (run.code, run.out) == (2, "")
    assert "there is no lake at 'nowhere'" in run.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_snapshots_of_iceberg_expire(
    ocsf_lake: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCSF_LAKE_CATALOGS", '["iceberg"]')
    for name in ("version_5.log", "default_v2.log"):
        assert ocsf_lake("ingest", "aws_vpc_flow", str(SAMPLE_LOGS / "aws_vpc_flow" / name), "--lake", "own").code == 0
    expire = ["catalog", "expire", "--lake", "own"]
    nothing = "0 snapshots expired, 0 files of metadata removed (0 B)\n"
    assert ocsf_lake(*expire) == Run(0, "", nothing)
    run = ocsf_lake(*expire, "--older-than", "0h", "--dry-run")
    assert run.out.splitlines()[0].split() == ["table", "snapshots", "files", "bytes"]
    assert run.err == "1 snapshot would be expired, 0 files of metadata would be removed (0 B)\n"
    (done,) = json.loads(ocsf_lake(*expire, "--older-than", "0h", "--json").out)["tables"]
    assert done == {"table": "vpc_flow", "snapshots": 1, "files": 0, "bytes": 0}
    assert ocsf_lake(*expire, "--older-than", "0h") == Run(0, "", nothing)
    run = ocsf_lake(*expire, "--older-than", "soon")
    assert (run.code, run.err) == (2, "error: 'soon' is not an age; write 2d for two days, 12h for twelve hours\n")


def test_views_are_statements_for_the_regions_that_have_events(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    lake = ["--lake", str(ready_lake)]
    sql = "SELECT DISTINCT region FROM vpc_flow_2_0 UNION SELECT region FROM cloud_trail_mgmt_2_0"
    rows = json.loads(ocsf_lake("query", sql, "--format", "json", *lake).out)
    regions = sorted({row["region"] for row in rows} - {"unknown"})
    run = ocsf_lake("catalog", "views", "--security-lake", *lake)
    assert (run.code, run.err) == (0, "")
    statements = run.out.splitlines()
    assert all(statement.endswith(";") for statement in statements)
    databases = [f"amazon_security_lake_glue_db_{region.replace('-', '_')}" for region in regions]
    made = [statement for statement in statements if statement.startswith("CREATE DATABASE")]
    assert made == [f"CREATE DATABASE IF NOT EXISTS {database};" for database in databases]
    assert databases


def test_views_are_made_for_any_region_over_the_database_of_the_settings(
    ocsf_lake: RunCommand, ready_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCSF_LAKE_GLUE_DATABASE", "soc")
    command = ["catalog", "views", "--security-lake", "--lake", str(ready_lake)]
    run = ocsf_lake(*command, "--region", "ap-south-1", "--region", "eu-west-1")
    for region in ("ap_south_1", "eu_west_1"):
        view = f"amazon_security_lake_glue_db_{region}.amazon_security_lake_table_{region}_vpc_flow_2_0"
        where = f"WHERE region = '{region.replace('_', '-')}';"
        assert f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM soc.vpc_flow {where}\n" in run.out
    run = ocsf_lake(*command, "--region", "eu'; DROP TABLE x")
    assert (run.code, run.out) == (2, "")
    assert "is not the name of a database or region" in run.err


def test_views_want_to_be_told_under_which_names(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("catalog", "views", "--lake", str(ready_lake))
    assert (run.code, run.out, run.err) == (2, "", "error: say which names: --security-lake\n")
