"""A lake with the events of a source that is not there any more: what still works, and what is said of the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import ocsf_lake
from ocsf_lake.catalogs.base import Kind
from ocsf_lake.cli import status
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.query import query
from ocsf_lake.upkeep import check, compact, rebuild_ledger
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError
from tests.ocsf_lake.conftest import Make, call, write
from tests.ocsf_mappers.test_registry import write as write_source

RECORD = {"at": "2026-03-16T10:00:00Z", "client": "10.0.0.7"}
ROWS = """
    "src_endpoint.ip": col.client, "dst_endpoint.ip": col.client,
    "http_request.http_method": "GET", "http_response.code": "200", "cloud.provider": "Other",
"""
SAID = "bring its source back"


def count(settings: Settings, table: str) -> int:
    sql = f"SELECT count(*) FROM {table}"
    with query.connected(settings, sql) as connection:
        return int(query.run(connection, sql).column(0)[0].as_py())


@pytest.fixture
def lake(tmp_path: Path, settings: Make) -> Settings:
    """A lake with events of `acme_proxy`, which is gone, and of CloudTrail."""
    write_source(tmp_path / "mappers", row=ROWS)
    registry.use_folder(tmp_path / "mappers")
    write(tmp_path / "logs" / "one.jsonl", json.dumps(RECORD))
    write(tmp_path / "logs" / "two.json", json.dumps({"Records": [call(1), call(2)]}))
    ingest.ingest([str(tmp_path / "logs")], settings())
    assert count(settings(), "acme_proxy") == 1
    (tmp_path / "mappers" / "acme_proxy.py").rename(tmp_path / "acme_proxy.py")
    registry.forget()
    return settings()


@pytest.mark.slow
def test_its_table_is_named_with_the_reason_and_others_are_queried(lake: Settings) -> None:
    with pytest.raises(ConfigError, match=f"table acme_proxy: .*{SAID}"):
        count(lake, "acme_proxy")
    assert count(lake, "cloud_trail_mgmt") == 2
    assert count(lake, "ledger_batches") == 2


@pytest.mark.slow
def test_status_has_it_still(lake: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    status.show_sources(lake, as_json=False)
    shown = capsys.readouterr().out
    assert {"acme_proxy", "aws_cloudtrail"} <= set(shown.split())
    assert f"{SAID}" in shown


@pytest.mark.slow
def test_catalog_check_says_that_it_was_not_looked_at(lake: Settings) -> None:
    with opened(lake) as open_lake:
        (finding,) = check.check(open_lake)
        assert (finding.kind, finding.table) == (Kind.TABLE_UNKNOWN, "acme_proxy")
        assert check.sync(open_lake).left == [finding]
    compact.compact(lake)


@pytest.mark.slow
def test_a_rebuilt_ledger_has_its_files(lake: Settings, tmp_path: Path) -> None:
    summary = rebuild_ledger.rebuild(lake, replacing=True)
    assert (summary.missing, summary.unknown) == ([], [])
    (tmp_path / "acme_proxy.py").rename(tmp_path / "mappers" / "acme_proxy.py")
    registry.forget()
    assert count(lake, "acme_proxy") == 1


@pytest.mark.slow
def test_a_ledger_is_not_made_from_files_whose_source_cannot_be_told(lake: Settings) -> None:
    for path in Path(lake.lake).glob("_*"):  # what records say of a batch is among it
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ConfigError, match=f"table acme_proxy: .*{SAID}"):
        rebuild_ledger.rebuild(lake)


@pytest.mark.slow
def test_a_folder_that_is_named_later_brings_its_tables(tmp_path: Path, settings: Make) -> None:
    with opened(settings()):
        pass
    write_source(tmp_path / "mappers")
    with ocsf_lake.open(settings().lake, mappers=tmp_path / "mappers") as lake:
        assert "acme_proxy" in lake.sql("SHOW TABLES").to_arrow()["name"].to_pylist()


@pytest.mark.slow
def test_a_mapper_with_a_mistake_stops_no_other_table(lake: Settings, tmp_path: Path) -> None:
    write_source(tmp_path / "mappers", row='"src_endpont.ip": col.client,')
    registry.forget()
    assert "src_endpont.ip" in registry.usable()[1]["acme_proxy"]
    assert count(lake, "cloud_trail_mgmt") == 2
    with query.connected(lake, "SHOW TABLES") as connection:
        query.run(connection, "SHOW TABLES")
    with opened(lake) as open_lake:
        assert [finding.kind for finding in check.check(open_lake)] == [Kind.TABLE_UNKNOWN]
    compact.compact(lake)
    write(tmp_path / "logs" / "three.jsonl", json.dumps({**RECORD, "begun": "2026-03-16T10:00:01Z"}))
    summary = ingest.ingest([str(tmp_path / "logs")], lake)
    assert any("src_endpont.ip" in item.reason for item in summary.not_read)


@pytest.mark.slow
def test_what_a_mapper_no_longer_fills_stays_in_the_table(tmp_path: Path, settings: Make) -> None:
    rows = ['"proxy.ip": col.client, "status_detail": "x",', '"proxy.name": col.client,']
    for number, row in enumerate(rows):
        write_source(tmp_path / "mappers", row=ROWS + row)
        registry.use_folder(tmp_path / "mappers")
        registry.forget()
        write(tmp_path / "logs" / f"{number}.jsonl", json.dumps(RECORD))
        ingest.ingest([str(tmp_path / "logs")], settings())
    sql = """SELECT proxy.ip, proxy.name, status_detail
             FROM acme_proxy ORDER BY source_object"""
    with query.connected(settings(), sql) as connection:
        assert query.run(connection, sql).to_pylist() == [
            {"ip": RECORD["client"], "name": None, "status_detail": "x"},
            {"ip": None, "name": RECORD["client"], "status_detail": None},
        ]
    assert "columns that this release does not know" in compact.compact(settings()).refused["acme_proxy"]
