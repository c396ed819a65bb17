"""Inputs that were got wrong once, all in one run beside good files: each ends where it should, and stops nothing.

They lie beside the corpus of real logs, see the `samples` fixture.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake import config
from ocsf_lake.query import query
from tests.flows.conftest import RunCommand
from tests.support import SAMPLE_LOGS

GOOD = {"good/flow.log": "aws_vpc_flow/default_v2.log", "good/trail.json": "aws_cloudtrail/root.json"}
BLAST = (
    "names/blast/AWSLogs/111122223333/vpcflowlogs/eu-west-1/2026/05/04/111122223333_vpcflowlogs_eu-west-1_"
    "fl-0a1b2c3d4e5f6000"
)
TREES = "AWSLogs/{0}/CloudTrail/eu-west-1/2026/05/04/{0}_CloudTrail_eu-west-1_20260504T0915Z_Ab3dEf6hIj9lMn0"
FIREHOSE = "firehose_region/flow/region=eu-west-1/year=2026/month=05/day=04/hour=09/flow-1-2026-05-04-09-10-11-0a1b2c3d"

EXPECTED = {
    "account_change/in.json": (21, 0, 0),
    "cloudwatch_carrier/lines.json": (3, 0, 0),
    "cloudwatch_carrier/with_control.gz": (3, 0, 1),
    "damaged_document/one_damaged_record_of_50.json": (49, 1, 0),
    "eventbridge_archive/mixed.json": (3, 0, 1),
    "export_task/vpc/000000.gz": (2, 0, 0),
    FIREHOSE: (2, 0, 0),
    "good/flow.log": (4, 0, 0),
    "good/trail.json": (3, 0, 0),
    "guardduty_others/scan_result.json": (0, 0, 1),
    "half_surrogate/in.json": (22, 4, 0),
    **{f"internal_names/{name}.log": (1, 0, 0) for name in ("_more", "_record", "b0", "u0")},
    **{f"{BLAST}1_20260504T091{number}Z_0a1b2c3{number}.log": (1, 0, 0) for number in (1, 2, 3)},
    f"{BLAST}2_20260504T0914Z_0a1b2c39.log": (1, 0, 0),
    "names/blast/ct.json": (2, 0, 0),
    **{f"names/hdr_{name}.log": (1, 0, 0) for name in ("record", "trailing", "u2")},
    **{f"names/json_{name}.json": (1, 0, 0) for name in ("empty", "record")},
    **{f"names/pq_{name}.parquet": (1, 0, 0) for name in ("empty", "index")},
    "names/pq_record7.parquet": (2, 0, 0),
    "no_header/custom_nohdr.log": (2, 0, 0),
    "no_header/v5_firehose.json": (1, 0, 0),
    "repeated_header/dup14.log": (1, 0, 0),
    "repeated_header/dup18.log": (1, 0, 0),
    f"several_trees/two/{TREES.format(111122223333)}1.json.gz": (1, 0, 0),
    f"several_trees/two/security/{TREES.format(111122223333)}2.json.gz": (1, 0, 0),
    f"several_trees/two/team/audit/{TREES.format(444455556666)}3.json.gz": (1, 0, 0),
    "splunk_json/vpc_time.json": (1, 0, 0),
    "transit_gateway/mixed.log": (3, 0, 0),
}
"""Object -> its events, records in quarantine and records dropped."""

SETTINGS = '''
lake = "lake"

[[flow_fields]]
uri = "raw/no_header/custom_nohdr.log"
fields = """account-id action az-id bytes dstaddr dstport end flow-direction instance-id interface-id log-status packets
    pkt-dst-aws-service pkt-dstaddr pkt-src-aws-service pkt-srcaddr protocol region srcaddr srcport start sublocation-id
    sublocation-type subnet-id tcp-flags traffic-path type version vpc-id"""

[[flow_fields]]
uri = "raw/no_header/v5_firehose.json"
fields = """version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action
    log-status vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr region az-id sublocation-type
    sublocation-id pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path"""
'''


def rows(cwd: Path, sql: str) -> list[dict[str, Any]]:
    with query.connected(config.load(lake=str(cwd / "lake")), sql) as connection:
        return list(query.run(connection, sql).to_pylist(maps_as_pydicts="strict"))


@pytest.fixture(scope="module")
def ran(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lake of one run over all cases and some good files."""
    cases = samples.parent / "cases"
    if not cases.is_dir():
        pytest.skip(f"needs the folder {cases.name!r} beside the real logs")
    folder = tmp_path_factory.mktemp("cases")
    shutil.copytree(cases, folder / "raw", ignore=shutil.ignore_patterns("*.md"), copy_function=shutil.copyfile)
    for path in (folder / "raw", *(folder / "raw").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for name, sample in GOOD.items():
        (folder / "raw" / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(SAMPLE_LOGS / sample, folder / "raw" / name)
    (folder / "ocsf-lake.toml").write_text(SETTINGS, encoding="utf-8")
    command = [sys.executable, "-m", "ocsf_lake.cli.main", "ingest", "raw"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "empty_json_line/empty.jsonl" in done.stdout, "what says nothing of its source is named"
    return folder


def test_each_object_ends_as_it_should(ran: Path) -> None:
    found = rows(ran, "SELECT uri, read, events, quarantined, dropped FROM ledger_objects WHERE state = 'done'")
    counts = {row["uri"].partition("/raw/")[2]: row for row in found}
    assert {name: (row["events"], row["quarantined"], row["dropped"]) for name, row in counts.items()} == EXPECTED
    assert all(row["read"] == row["events"] + row["quarantined"] + row["dropped"] for row in found)


def test_records_stand_in_the_table_of_their_own_source(ran: Path) -> None:
    sql = "SELECT count(*) AS n FROM {} WHERE contains(source_object, '/eventbridge_archive/')"
    assert [rows(ran, sql.format(table))[0]["n"] for table in ("cloud_trail_mgmt", "guardduty_findings")] == [2, 1]


def test_names_of_the_data_decide_nothing(ran: Path) -> None:
    (row,) = rows(ran, "SELECT unmapped FROM vpc_flow WHERE contains(source_object, '/splunk_json/')")
    assert (row["unmapped"]["_time"], row["unmapped"]["_index"]) == ("2026-05-04", "main")
    sql = "SELECT source_record, unmapped, src_endpoint.ip AS ip FROM vpc_flow WHERE contains(source_object, '{}')"
    (row,) = rows(ran, sql.format("/internal_names/_record.log"))
    assert (row["source_record"], row["unmapped"]["_record"], row["ip"]) == (2, "true", "10.0.0.9")


def test_a_key_gives_the_region_and_the_status_the_activity(ran: Path) -> None:
    sql = "SELECT DISTINCT region, accountid FROM vpc_flow WHERE contains(source_object, '/firehose_region/')"
    assert rows(ran, sql) == [{"region": "eu-west-1", "accountid": "111122223333"}]
    sql = "SELECT activity_name FROM vpc_flow WHERE contains(source_object, '/transit_gateway/')"
    assert {row["activity_name"] for row in rows(ran, sql)} == {"Traffic"}


def test_a_second_run_reads_nothing_again(
    ran: Path, ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ran)
    done = ocsf_lake("ingest", "raw", "--json")
    assert (done.code, json.loads(done.out)["sources"]) == (0, {})


@pytest.mark.slow
def test_a_backfill_sees_every_tree(ran: Path, ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ran)
    days = ("--from", "2026-05-04", "--to", "2026-05-04", "--lake", "backfilled", "--json")
    done = ocsf_lake("backfill", "aws_cloudtrail", "raw/several_trees/two", *days)
    assert done.code == 0, done.err
    assert json.loads(done.out)["sources"]["aws_cloudtrail"]["objects"] == 3
