"""A lake names its ledger: lost, older or another one is noticed before anything is read, and it can be made again."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import marker
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.tables import SHOWN
from ocsf_lake.query import query
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import check, rebuild_ledger, remap, replay
from ocsf_mappers.errors import ConfigError, ReadError
from tests.ocsf_lake.conftest import BOUNDS, Make, at_steps, contents, flow, sqlite_database, write
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.mortal import STEPS, CrashHarness
from tests.ocsf_lake.test_ingest import rows
from tests.servers.rgw import S3Server
from tests.support import PROJECT

EVENTS = "SELECT (SELECT count(*) FROM cloud_trail_mgmt) + (SELECT count(*) FROM vpc_flow)"


@pytest.fixture
def lake(whole: Path, tmp_path: Path) -> Path:
    """A lake of the logs, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "lake"))


@pytest.fixture
def settings(lake: Path) -> Settings:
    return config.load(lake=str(lake), **BOUNDS)


def tables(path: Path) -> dict[str, list[dict[str, object]]]:
    """All that a ledger says of what was done; what was planned or looked at only is left out."""
    ledger = Ledger(f"sqlite:///{path}", reading=True)
    found = {name: ledger.arrow(name).to_pylist() for name in SHOWN if name not in ("about", "traces")}
    ledger.close()
    found["objects"] = [row for row in found["objects"] if row["batch_id"]]
    return found


def test_a_lost_ledger_is_noticed_before_anything_is_read(lake: Path, settings: Settings, logs: Path) -> None:
    before = contents(lake)
    (lake / "_ledger" / "ledger.db").unlink()
    for use in (lambda: ingest.ingest([str(logs)], settings), lambda: query.connect(settings, EVENTS)):
        with pytest.raises(ConfigError, match=r"read a second time.*rebuild-ledger"):
            use()
    assert contents(lake) == before
    assert not (lake / "_ledger" / "ledger.db").exists()


def test_a_lost_ledger_of_a_lake_without_a_marker_is_noticed(lake: Path, settings: Settings, logs: Path) -> None:
    shutil.rmtree(lake / "_ledger")
    shutil.rmtree(lake / "_lake")
    with pytest.raises(ConfigError, match="rebuild-ledger"):
        ingest.ingest([str(logs)], settings)


@pytest.mark.slow
def test_an_older_copy_of_the_ledger_is_noticed(lake: Path, settings: Settings, tmp_path: Path) -> None:
    shutil.copy(lake / "_ledger" / "ledger.db", tmp_path / "backup.db")
    more = write(tmp_path / "raw" / "aws_vpc_flow_more.log", flow(1))
    assert ingest.ingest([str(more)], settings, "aws_vpc_flow").counts.read == 1
    shutil.copy(tmp_path / "backup.db", lake / "_ledger" / "ledger.db")
    for use in (lambda: ingest.ingest([str(more)], settings), lambda: query.connect(settings, EVENTS)):
        with pytest.raises(ConfigError, match=r"older copy.*--replace"):
            use()
    with pytest.raises(ConfigError, match="--replace"):
        rebuild_ledger.rebuild(settings)
    rebuild_ledger.rebuild(settings, replacing=True)
    assert ingest.ingest([str(more)], settings, "aws_vpc_flow").counts.read == 0
    assert rows(settings, EVENTS) == [(141,)]


@pytest.mark.slow
def test_another_state_or_ledger_moves_nothing_away(lake: Path, logs: Path, tmp_path: Path) -> None:
    before = contents(lake)
    others = [{"state": tmp_path / "state"}, {"ledger_url": f"sqlite:///{tmp_path}/other.db"}]
    for other in others:
        there = config.load(lake=str(lake), **other, **BOUNDS)
        for use in (lambda: ingest.ingest([str(logs)], there), lambda: check.sync(next(iter(_open(there))))):  # noqa: B023
            with pytest.raises(ConfigError, match="rebuild-ledger"):
                use()
    elsewhere = config.load(lake=str(tmp_path / "second"), **BOUNDS)
    ingest.ingest([str(logs)], elsewhere)
    with pytest.raises(ConfigError, match="is not that of the lake"):
        query.connect(config.load(lake=str(lake), state=tmp_path / "second", **BOUNDS), EVENTS)
    assert contents(lake) == before


def _open(settings: Settings) -> Iterator[object]:
    with opened(settings) as found:
        yield found


@pytest.mark.slow
def test_a_ledger_made_again_is_the_one_that_was(lake: Path, settings: Settings, logs: Path, tmp_path: Path) -> None:
    replay.replay(settings, again=True)
    before = shutil.copy(lake / "_ledger" / "ledger.db", tmp_path / "before.db")
    shutil.rmtree(lake / "_ledger")
    summary = rebuild_ledger.rebuild(settings)
    assert (summary.exact, summary.events, summary.missing, summary.unknown) == (True, 140, [], [])
    assert tables(lake / "_ledger" / "ledger.db") == tables(Path(before))
    assert any(row["kind"] == "replay" for row in tables(Path(before))["batches"])
    files = contents(lake)
    assert ingest.ingest([str(logs)], settings).counts.read == 0
    assert contents(lake) == files
    assert rows(settings, EVENTS) == [(140,)]
    with opened(settings) as found:
        assert check.check(found, deep=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("step", ["put", "put_once", "remove"])
def test_a_ledger_is_made_of_records_when_whoever_made_it_died(
    step: str, lake: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shutil.copytree(lake / "_ledger", lake.parent / "before")
    shutil.rmtree(lake / "_ledger")
    done = getattr(Store, step)

    def die(*given: object) -> None:
        done(*given)
        raise KilledError

    with monkeypatch.context() as patch, suppress(KilledError):
        patch.setattr(Store, step, die)
        rebuild_ledger.rebuild(settings)
    assert rebuild_ledger.rebuild(settings, replacing=True).exact
    assert tables(lake / "_ledger" / "ledger.db") == tables(before / "ledger.db")


def test_a_ledger_made_of_rows_alone_reads_nothing_twice(lake: Path, settings: Settings, logs: Path) -> None:
    counts = "SELECT uri, etag, events, quarantined FROM ledger_objects WHERE events + quarantined > 0 ORDER BY ALL"
    before, files = rows(settings, counts), contents(lake)
    for name in ("_ledger", "_lake"):
        shutil.rmtree(lake / name)
    summary = rebuild_ledger.rebuild(settings)
    assert (summary.exact, summary.events) == (False, 140)
    assert rows(settings, counts) == before
    assert ingest.ingest([str(logs)], settings).counts.events == 0
    assert contents(lake) == files


@pytest.mark.slow
def test_a_lake_from_before_markers_opens_and_is_known_from_then_on(lake: Path, settings: Settings, logs: Path) -> None:
    shutil.rmtree(lake / "_lake")
    with sqlite_database(lake / "_ledger" / "ledger.db") as connection:
        connection.execute("DELETE FROM about")
    assert rows(settings, EVENTS) == [(140,)]
    assert not (lake / "_lake").exists()  # who only reads writes none
    assert ingest.ingest([str(logs)], settings).counts.read == 0
    before = tables(lake / "_ledger" / "ledger.db")
    shutil.rmtree(lake / "_ledger")
    rebuild_ledger.rebuild(settings)
    assert tables(lake / "_ledger" / "ledger.db") == before


@pytest.mark.slow
@at_steps(*(step for step in STEPS if step not in ("half a file", "renaming")), often=("written",))
def test_a_run_that_died_anywhere_leaves_a_ledger_that_is_the_lakes(
    step: str, logs: Path, tmp_path: Path, mortals: CrashHarness
) -> None:
    """And if the ledger is lost right then, the one made again reads what was not done, once."""
    given: dict[str, object] = {"lake": str(tmp_path / "lake"), **BOUNDS}
    nth = {"committing": 9, "planned": 1}.get(step, 2)
    assert mortals.ingest(logs, given, step=step, nth=nth) == "killed"
    shutil.copytree(tmp_path / "lake", tmp_path / "lost")
    settings, lost = config.load(**given), config.load(**{**given, "lake": str(tmp_path / "lost")})
    assert ingest.ingest([str(logs)], settings).counts.events <= 140
    assert rows(settings, EVENTS) == [(140,)]
    shutil.rmtree(tmp_path / "lost" / "_ledger")
    rebuild_ledger.rebuild(lost)
    ingest.ingest([str(logs)], lost)
    sums = ("SELECT sum(events) FROM ledger_batches", "SELECT sum(events) FROM ledger_objects")
    assert rows(lost, f"SELECT ({EVENTS}), ({sums[0]}), ({sums[1]})") == [(140, 140, 140)]


def test_two_that_make_a_lake_at_once_with_ledgers_of_their_own(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "lake"))
    assert marker.claim(store, "one", "here")
    assert not marker.claim(store, "other", "there")
    assert (found := marker.read(store)) is not None
    assert found.ledger == "one"


# -- catalogs, paths, bytes -------------------------------------------------------------------------------------------
OFTEN = ["region=zz/accountId=9/time=3", "{a,b} [ab]*'%41\"#?", "[ab]", "a::b", "a%41"]
ALONE = ["a?b", "a#b", "a b'c\"d", "a*b", "{a,b}"]
"""Signs of the second name by themselves."""
NAMES = [*OFTEN, *(pytest.param(name, marks=pytest.mark.acceptance) for name in ALONE)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_lake_may_lie_in_any_folder(name: str, logs: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "ab" / "lake").mkdir(parents=True)  # what a pattern might take for the folder
    place = tmp_path / name
    settings = config.load(lake=str(place / "lake"), state=place / "state", catalogs=["iceberg"], **BOUNDS)
    account = "111122223333"
    assert ingest.ingest([str(logs / "AWSLogs" / account)], settings).counts.events == 70
    assert ingest.ingest([str(logs / "AWSLogs" / account)], settings).counts.read == 0
    said = "SELECT region, accountid, eventday, min(time), count(*) FROM {} WHERE accountid = '{}' GROUP BY ALL"
    both = " UNION ALL ".join(said.format(table, account) for table in ("cloud_trail_mgmt", "vpc_flow"))
    said = f"{both} ORDER BY ALL"
    assert rows(settings, said) == rows(config.load(lake=str(whole), **BOUNDS), said)
    assert rows(settings, "SELECT DISTINCT source FROM quarantine") == [("aws_cloudtrail",)]
    with opened(settings) as found:
        assert check.check(found, deep=True) == []


@pytest.mark.slow
def test_a_query_below_such_a_folder_opens_only_the_files_it_needs(logs: Path, tmp_path: Path) -> None:
    settings = config.load(lake=str(tmp_path / "region=zz" / "lake"), **BOUNDS)
    ingest.ingest([str(logs)], settings)
    sql = (
        "SELECT count(DISTINCT source_object) FROM cloud_trail_mgmt "
        "WHERE region = 'us-east-1' AND accountid = '111122223333'"
    )
    with query.connected(settings, sql, query.COST_READS) as connection:
        cost = query.cost(connection, sql)
    assert 0 < cost.files < cost.of_files


@pytest.mark.slow
def test_a_flipped_bit_is_an_error_and_no_other_value(lake: Path, settings: Settings) -> None:
    path = min((lake / "aws" / "VPC_FLOW").rglob("*.parquet"))
    right, sql = path.read_bytes(), "SELECT * FROM vpc_flow"
    expected = rows(settings, sql)
    for place in range(40, len(right), len(right) // 12):
        wrong = bytearray(right)
        wrong[place] ^= 1 << (place % 8)
        path.write_bytes(wrong)
        with pytest.raises(ReadError, match="lake"), query.connected(settings, sql) as connection:
            query.run(connection, sql)
    path.write_bytes(right)
    assert rows(settings, sql) == expected


def test_files_have_checksums_of_pages(lake: Path) -> None:
    path = min((lake / "aws" / "VPC_FLOW").rglob("*.parquet"))
    wrong = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(0)
    wrong[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 1] ^= 1
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(pa.BufferReader(bytes(wrong)), page_checksum_verification=True)


# -- who may only read ------------------------------------------------------------------------------------------------
READS = [
    ["status"], ["query", "SELECT count(*) FROM vpc_flow"], ["catalog", "check"], ["quarantine", "list"],
    ["quarantine", "show"], ["quarantine", "purge", "--older-than", "0"],
    ["status", "aws_vpc_flow", "--fail-on", "failed"], ["compact", "--dry-run", "--json"],
    ["backfill", "aws_vpc_flow", str(PROJECT / "sample_logs"), "--from", "2025-01-01", "--to", "2026-12-31", "--remap",
     "--dry-run", "--json"],
]  # fmt: skip


READER = """
import contextlib, io, json, sys
from ocsf_lake.cli import main as cli

lake, said = sys.argv[1], []
for arguments in json.load(sys.stdin):
    sys.argv = ["ocsf-lake", *arguments, "--lake", lake]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
    said.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(said))
"""
"""Commands one after the other, as starting a process for each takes longer than what they do."""


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="mounts a folder")
def test_a_lake_on_a_read_only_mount_can_be_read(lake: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*")}
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(lake), sys.executable, "-c", READER, str(lake)],
        input=json.dumps(READS), capture_output=True, text=True, check=False, cwd="/",
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    if done.returncode and "unshare:" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(READS)
    for arguments, (code, out, err) in zip(READS, found, strict=True):
        assert code == 0, (arguments, err)
        assert out or "agree" in err, arguments
    assert {path: path.stat().st_mtime_ns for path in lake.rglob("*")} == before


def test_a_ledger_with_a_log_beside_it_can_be_read_without_writing(lake: Path, tmp_path: Path) -> None:
    """As a run leaves it that was killed, on a file system that is mounted read-only."""
    held = sqlite3.connect(lake / "_ledger" / "ledger.db", isolation_level=None)
    held.execute("INSERT INTO about VALUES ('late', 'yes')")
    other = tmp_path / "copy"
    other.mkdir()
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(lake / "_ledger" / name, other / name)
    held.close()
    from ocsf_lake.ledger import sqlite_reading

    original = sqlite_reading._connected

    def refused(path: Path, how: str) -> sqlite3.Connection:
        if path.parent == other and how.startswith("mode="):
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return original(path, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_reading, "_connected", refused)
        ledger = Ledger(f"sqlite:///{other}/ledger.db", reading=True)
        said = {row["key"]: row["value"] for row in ledger.arrow("about").to_pylist()}
        ledger.close()
    assert said["late"] == "yes"


def test_what_is_no_lake_stays_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no lake at"):
        query.connect(config.load(lake=str(tmp_path)), EVENTS)
    assert list(tmp_path.iterdir()) == []


URLS = [
    "mysql://ann:s3cret@host/x", "sqlite://", "s3cret", "postgresql://ann:s3cret@host:port/x",
    "postgresql://ann:s3cret@127.0.0.1:1/x?password=s3cret", "sqlite:////dev/null/s/ledger.db", "sqlite:////tmp",
    "sqlite:///{damaged}",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_a_bad_ledger_is_one_line(url: str, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database at all" * 1000)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is the next line's business
        Ledger(url.format(damaged=damaged))
    said = str(raised.value)
    assert type(raised.value).__name__ in ("ConfigError", "DamagedError", "RetriableError")
    for wrong in ("\n", "\\n", "s3cret", "sqlalche.me", "Traceback"):
        assert wrong not in said


def test_a_damaged_ledger_is_moved_aside_and_made_again(lake: Path, settings: Settings, logs: Path) -> None:
    path = lake / "_ledger" / "ledger.db"
    path.write_bytes(path.read_bytes()[: 3 * 4096] + b"x" * 5000)
    for use in (lambda: ingest.ingest([str(logs)], settings), lambda: query.connect(settings, EVENTS)):
        with pytest.raises(ConfigError, match=r"is damaged .*rebuild-ledger"):
            use()
    rebuild_ledger.rebuild(settings)
    assert path.with_name("ledger.db.damaged").exists()
    assert rows(settings, EVENTS) == [(140,)]


# -- PostgreSQL and S3 ------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.integration
def test_a_ledger_in_postgres_is_read_by_who_may_only_read(logs: Path, shared: Make, tmp_path: Path) -> None:
    settings = shared()
    ingest.ingest([str(logs)], settings)
    admin = sa.create_engine(str(settings.ledger_url).replace("://", "+psycopg://"), poolclass=sa.NullPool)
    role = f"reader_{admin.url.database}"
    with admin.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA ocsf_ledger TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA ocsf_ledger TO {role}")
    url = sa.make_url(settings.ledger_url).set(username=role).render_as_string(hide_password=False)
    reader = config.load(lake=str(tmp_path / "lake"), ledger_url=url, **BOUNDS)
    assert rows(reader, EVENTS) == [(140,)]
    with opened(reader, reading=True) as found:
        assert check.check(found) == []
    chosen = remap.Chosen("aws_vpc_flow", date(2025, 1, 1), date(2026, 12, 31))
    assert remap.remap(reader, chosen, dry_run=True).current > 0
    with pytest.raises(ConfigError, match="refuses us"):
        ingest.ingest([str(logs)], reader)


@pytest.mark.slow
@pytest.mark.integration
def test_two_hosts_with_one_ledger_in_postgres_leave_records_that_make_it_again(
    logs: Path, shared: Make, tmp_path: Path
) -> None:
    settings = shared()
    with opened(settings):
        pass
    with ThreadPoolExecutor(2) as hosts:
        events = list(hosts.map(lambda _: ingest.ingest([str(logs)], settings).counts.events, range(2)))
    assert sum(events) == 140
    counts = "SELECT id, source, read, events, quarantined, dropped, done_at FROM ledger_batches ORDER BY id"
    before = rows(settings, counts)
    empty = config.load(lake=settings.lake, ledger_url=shared("empty").ledger_url, **BOUNDS)
    with pytest.raises(ConfigError, match="rebuild-ledger"):
        ingest.ingest([str(logs)], empty)
    rebuild_ledger.rebuild(empty)
    assert rows(empty, counts) == before
    assert ingest.ingest([str(logs)], empty).counts.read == 0
    with pytest.raises(ConfigError, match="is not that of the lake"):
        ingest.ingest([str(logs)], settings)


@pytest.mark.slow
@pytest.mark.integration
def test_a_lake_on_s3_names_its_ledger(logs: Path, bucket: str, s3_owner: S3Server, tmp_path: Path) -> None:
    given: dict[str, object] = {"lake": f"s3://{bucket}/a #%lake", "s3_endpoint": s3_owner.endpoint, **BOUNDS}
    settings = config.load(state=tmp_path / "state", **given)
    ingest.ingest([str(logs)], settings)
    shutil.copytree(tmp_path / "state", tmp_path / "old")
    more = write(tmp_path / "raw" / "aws_vpc_flow_more.log", flow(1))
    assert ingest.ingest([str(more)], settings, "aws_vpc_flow").counts.read == 1
    for state, said in (("none", "read a second time"), ("old", "older copy")):
        with pytest.raises(ConfigError, match=said):
            ingest.ingest([str(logs)], config.load(state=tmp_path / state, **given))
    anew = config.load(state=tmp_path / "none", **given)
    rebuild_ledger.rebuild(anew)
    assert ingest.ingest([str(logs)], anew).counts.read == 0
    assert rows(anew, EVENTS) == [(141,)]
