"""What a lake holds is for its own user, unless the setting says otherwise; so is what spills."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ocsf_lake.cli.main import app
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.query import query
from ocsf_lake.storage import permissions
from ocsf_mappers import temporary
from ocsf_mappers.errors import ConfigError
from tests.ocsf_lake.conftest import Make


def modes(folder: Path) -> dict[str, str]:
    """Path, with a slash behind a folder's -> permissions, of everything in a folder and of itself."""
    return {
        path.relative_to(folder.parent).as_posix() + "/" * path.is_dir(): oct(stat.S_IMODE(path.stat().st_mode))[2:]
        for path in [folder, *sorted(folder.rglob("*"))]
    }


@pytest.fixture
def usual_umask() -> object:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.slow
@pytest.mark.usefixtures("usual_umask")
@pytest.mark.parametrize(
    ("umask", "folder", "file"), [("077", "700", "600"), ("027", "750", "640"), ("0022", "755", "644")]
)
def test_files_and_folders_have_the_permissions_that_the_setting_leaves(
    umask: str, folder: str, file: str, logs: Path, settings: Make, tmp_path: Path
) -> None:
    found = settings(umask=umask, state=tmp_path / "state" / "of it")
    ingest.ingest([str(logs)], found)
    with opened(found) as lake, lake.ledger.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        seen = modes(tmp_path / "lake") | modes(tmp_path / "state")
    assert {name for name in seen if name.endswith((".db-wal", ".db-shm"))}
    assert {name for name in seen if "_quarantine" in name}
    assert {mode for name, mode in seen.items() if not name.endswith("/")} == {file}
    assert {mode for name, mode in seen.items() if name.endswith("/")} == {folder}


@pytest.mark.parametrize("setting", ["7", "rwx", "0999", "-22"])
def test_a_umask_is_three_octal_digits(setting: str, settings: Make) -> None:
    with pytest.raises(ConfigError, match="umask"):
        settings(umask=setting)


def test_a_stricter_umask_of_the_process_is_kept(tmp_path: Path) -> None:
    before = os.umask(0o277)
    try:
        permissions.make_folder(tmp_path / "a", 0o022)
        permissions.open_file(tmp_path / "b", 0o022).close()
    finally:
        os.umask(before)
    assert modes(tmp_path / "a") == {"a/": "500"}
    assert modes(tmp_path / "b") == {"b": "400"}


@pytest.mark.slow
@pytest.mark.usefixtures("usual_umask")
def test_a_lake_of_before_goes_on_and_check_says_how_to_close_it(logs: Path, settings: Make, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ingest.ingest([str(logs / "stranger.json"), str(logs / "AWSLogs" / "012345678901")], settings(umask="022"))
    ingest.ingest([str(logs)], settings())
    check = ["catalog", "check", "--lake", str(lake)]
    ran = CliRunner().invoke(app, check)
    assert ran.exit_code == 0
    assert f"chmod -R o-rwx {lake / '_ledger'} " in ran.stderr
    lake.chmod(0o750)
    assert "chmod" not in CliRunner().invoke(app, check).stderr
    lake.chmod(0o755)
    for name in ("_ledger", "_quarantine", "aws"):
        subprocess.run(["chmod", "-R", "o-rwx", str(lake / name)], check=True)
    assert "chmod" not in CliRunner().invoke(app, check).stderr


# -- what memory does not hold ----------------------------------------------------------------------------------------
SPILLS = (
    "SELECT count(*) FROM (SELECT range AS n, repeat('x', 200) || range AS t FROM range(600000) ORDER BY t) AS sorted"
)


def test_a_query_spills_into_a_folder_of_this_process_alone(whole: Path) -> None:
    from ocsf_lake import config

    folder = temporary.folder()
    assert modes(folder)[f"{folder.name}/"] == "700"
    assert folder.stat().st_uid == os.getuid()
    with query.connected(config.load(lake=str(whole))) as connection:
        ((found,),) = connection.execute("SELECT current_setting('temp_directory')").fetchall()
    assert Path(found).parent == folder


@pytest.mark.slow
def test_the_folder_goes_when_the_process_ends(tmp_path: Path) -> None:
    program = (
        "from multiprocessing import get_context\n"
        "from ocsf_mappers import duck\n"
        "def spilled():\n"
        "    with duck.connect(memory_limit='60MB', threads=1) as connection:\n"
        f"        connection.execute({SPILLS!r}).fetchall()\n"
        "    print(duck.spill_folder(), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    spilled()\n"
        "    child = get_context('fork').Process(target=spilled)\n"
        "    child.start()\n"
        "    child.join()\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    (tmp_path / "spill").mkdir()
    ran = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "TMPDIR": str(tmp_path / "spill")}, cwd=tmp_path,
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    own, child = ran.stdout.split()
    assert own != child
    assert Path(own).parents[1] == tmp_path / "spill"
    assert list((tmp_path / "spill").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_process_left_is_removed_by_the_next_one_and_what_is_used_is_not(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from ocsf_mappers import temporary\n"
        "folder = temporary.folder()\n"
        "(folder / 'rows').write_text('some')\n"
        "print(folder, flush=True)\n"
        "sys.stdin.read()\n"
    )

    def started(stack: ExitStack) -> tuple[subprocess.Popen[str], Path]:
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", program], env={**os.environ, "TMPDIR": str(tmp_path)}, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        stack.callback(process.kill)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    other_version = tmp_path / "ocsf-lake-abcd"
    other_version.mkdir()
    with ExitStack() as stack:
        killed, left = started(stack)
        _, used = started(stack)
        killed.kill()
        killed.wait()
        assert left.is_dir()
        _, new = started(stack)
        assert sorted(tmp_path.iterdir()) == sorted([other_version, used, new])
        assert (used / "rows").exists()


def test_a_process_whose_folder_was_cleaned_away_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary, "_folder", cache(temporary._folder.__wrapped__))
    temporary.folder().rmdir()
    with temporary.directory("some") as name:
        assert Path(name).parent == temporary.folder()
        assert temporary.folder().parent == tmp_path


@pytest.mark.parametrize("folder", ["ocsf_lake", "ocsf_mappers", "flows"])
def test_duckdb_is_opened_in_one_way(folder: str) -> None:
    root = Path(__file__).parents[2]
    opens = [path for path in (root / folder).rglob("*.py") if "duckdb.connect(" in path.read_text(encoding="utf-8")]
    assert opens == ([root / "ocsf_mappers" / "duck.py"] if folder == "ocsf_mappers" else [])
