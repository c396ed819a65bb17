"""Storage, ledger and catalogs against each other: false after each kind of damage, true again after a repair."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.catalogs.base import Drift, Kind
from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.query import query
from ocsf_lake.storage import layout, writer
from ocsf_lake.upkeep import check
from tests.ocsf_lake.conftest import contents


@pytest.fixture(scope="module")
def ready(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw logs and a lake made of them, registered in Iceberg too."""
    root = tmp_path_factory.mktemp("ready")
    shutil.copytree(logs, root / "raw")
    settings = config.load(lake=str(root / "lake"), batch_objects=2, part_rows=25, catalogs=["iceberg"])
    ingest.ingest([str(root / "raw")], settings)
    return root


@pytest.fixture
def settings(ready: Path) -> Settings:
    """The lake where it was made, as its ledger knows absolute places; each test leaves it as it was."""
    return config.load(lake=str(ready / "lake"), batch_objects=2, part_rows=25, catalogs=["iceberg"])


def kinds(findings: list[Drift]) -> set[tuple[str, str]]:
    return {(finding.where, finding.kind) for finding in findings}


def a_file(lake: Path, table: str = "VPC_FLOW") -> Path:
    return min((lake / "aws" / table).rglob("*.parquet"))


def rows(settings: Settings) -> list[tuple[object, ...]]:
    with query.connected(settings) as connection:
        return [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            for table in ("vpc_flow", "cloud_trail_mgmt", "quarantine")
        ]


def delete_a_file(lake: Path) -> None:
    a_file(lake).unlink()


def delete_files_of_rejects(lake: Path) -> None:
    for path in (lake / "_quarantine").rglob("*.parquet"):
        path.unlink()


def cut_a_file(lake: Path) -> None:
    a_file(lake).write_bytes(a_file(lake).read_bytes()[:-10])


def add_a_file(lake: Path) -> None:
    shutil.copy(a_file(lake), a_file(lake).with_name("stranger.parquet"))


DAMAGES = [
    (delete_a_file, {("storage", Kind.FILE_MISSING)}),
    (delete_files_of_rejects, {("storage", Kind.FILE_MISSING)}),
    (cut_a_file, {("storage", Kind.FILE_CHANGED)}),
    (add_a_file, {("storage", Kind.FILE_FOREIGN)}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "found"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_damage_is_found_and_mended(
    damage: Callable[[Path], None], found: set[tuple[str, str]], settings: Settings, ready: Path
) -> None:
    lake = ready / "lake"
    before = {name: data for name, data in contents(lake).items() if name.startswith(("aws", "_quarantine"))}
    with opened(settings) as open_lake:
        assert check.check(open_lake, deep=True) == []
        damage(lake)
        assert kinds(check.check(open_lake)) == found
        assert not check.consistent(check.check(open_lake))
        repair = check.sync(open_lake)
        assert (repair.left, repair.refused) == ([], [])
        assert check.check(open_lake, deep=True) == []
    after = contents(lake)
    assert {name: after[name] for name in before} == before
    assert rows(settings) == [(60,), (80,), (2,)]


@pytest.mark.slow
def test_a_file_nobody_wrote_is_kept_aside(settings: Settings, ready: Path) -> None:
    add_a_file(ready / "lake")
    with opened(settings) as open_lake:
        moved = check.sync(open_lake).moved
        assert moved == [a_file(ready / "lake").with_name("stranger.parquet").relative_to(ready / "lake").as_posix()]
    assert (ready / "lake" / layout.FOREIGN / moved[0]).exists()


@pytest.mark.slow
def test_other_bytes_of_the_same_size_are_found_by_a_deep_look(settings: Settings, ready: Path) -> None:
    path = a_file(ready / "lake")
    data = path.read_bytes()
    path.write_bytes(bytes([data[0]]) + bytes([data[1] ^ 1]) + data[2:])
    with opened(settings) as open_lake:
        assert check.check(open_lake) == []
        assert kinds(check.check(open_lake, deep=True)) == {("storage", Kind.FILE_CHANGED)}
        assert check.sync(open_lake, deep=True).left == []
    assert path.read_bytes() == data


@pytest.mark.slow
def test_a_file_whose_raw_objects_are_gone_is_not_made_worse(settings: Settings, ready: Path) -> None:
    path = a_file(ready / "lake")
    data = path.read_bytes()
    shutil.move(ready / "raw", ready / "away")
    path.unlink()
    before = contents(ready / "lake")
    with opened(settings) as open_lake:
        repair = check.sync(open_lake)
        assert "a raw object is unavailable" in repair.refused[0]
        assert kinds(repair.left) == {("storage", Kind.FILE_MISSING)}
    assert contents(ready / "lake").keys() == before.keys()
    shutil.move(ready / "away", ready / "raw")
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["part", "written", "registered"])
def test_work_under_way_is_no_finding_that_counts(
    step: str, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.load(lake=str(tmp_path / "lake"), batch_objects=2, part_rows=25, workers=1)

    def die(failpoint: str, _: str) -> None:
        if failpoint == step:
            raise KeyboardInterrupt

    vpc = str(logs / "AWSLogs" / "111122223333" / "vpcflowlogs")
    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", die)
        patched.setattr(writer, "MOST_BYTES", -1)  # so that a part of the batch has files
        with pytest.raises(KeyboardInterrupt):
            ingest.ingest([vpc], settings, "aws_vpc_flow")
    with opened(settings) as lake:
        findings = check.check(lake)
        assert kinds(findings) == {("storage", Kind.FILE_UNFINISHED)}
        assert check.consistent(findings)
        assert check.sync(lake).left == findings
    ingest.ingest([vpc], settings, "aws_vpc_flow")
    with opened(settings) as lake:
        assert check.check(lake) == []
