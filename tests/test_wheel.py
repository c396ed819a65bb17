"""What is installed: the wheel and the sdist, built, looked into, and used from folders with packages of our names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml

from ocsf_lake.cli import init
from tests.support import PROJECT, SAMPLE_LOGS

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What a command prints; none of the project's folders is on its path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OCSF_LAKE_", "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**kept, **variables}, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


VERSION = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
NAME = f"ocsf_lake-{VERSION}"
LIBRARY = "ocsf_mappers/readers/_jsoncolumns.so"

NO_INDEX = {
    "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "UV_OFFLINE": "1", "UV_NO_CACHE": "1",
}  # fmt: skip
"""Variables with which neither pip nor uv finds anything to install."""

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python")
"""This environment's pip, for another one, which then needs none of its own."""

BUILD = """
import os, sys
from hatchling import build
os.chdir(sys.argv[2])
getattr(build, f"build_{sys.argv[1]}")(sys.argv[3])
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, the wheel, one without compiler, and such a one made from the sdist, in folders."""
    folder = tmp_path_factory.mktemp("built")
    venv.create(folder / "env")
    python = folder / "env/bin/python"
    requires = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    run(*PIP, python, "install", "--quiet", *requires, cwd=folder)
    run(python, "-c", BUILD, "wheel", PROJECT, folder / "pure", cwd=folder, **NO_INDEX)
    run(python, "-c", BUILD, "sdist", PROJECT, folder / "sdist", cwd=folder)
    run(python, "-c", BUILD, "wheel", PROJECT, folder / "wheel", cwd=folder, **compiler(folder / "compiler"))
    with tarfile.open(only(folder / "sdist")) as archive:
        archive.extractall(folder / "source", filter="data")
    run(python, "-c", BUILD, "wheel", only(folder / "source"), folder / "again", cwd=folder, **NO_INDEX)
    return folder


def compiler(folder: Path) -> dict[str, str]:
    """Variables with which a build finds a compiler in this folder, which gives out what the real one has made.

    The real one, to fetch which and to run it cold takes most of a minute, made this checkout's library when that was
    installed. It makes the wheel where there is no such library, and in a test of acceptance.
    """
    if not (PROJECT / LIBRARY).exists():
        return {}
    text = (PROJECT / "hatch_build.py").read_text(encoding="utf-8")
    name, series = re.findall(r'^COMPILER, SERIES = "(.+)", "(.+)"$', text, re.MULTILINE)[0]
    about = folder / f"{name}-{series}.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {series}.0\n")
    (folder / f"{name}.py").write_text(f"import shutil, sys\nshutil.copy({str(PROJECT / LIBRARY)!r}, sys.argv[-2])\n")
    return {"PYTHONPATH": str(folder), **NO_INDEX}


def members(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_the_wheel_holds_two_packages_and_each_file_once(built: Path) -> None:
    names = members(only(built / "wheel"))
    assert {name.split("/")[0] for name in names} == {"ocsf_lake", "ocsf_mappers", f"{NAME}.dist-info"}
    assert max(Counter(names).values()) == 1
    assert not [name for name in names if name.endswith("ruff.toml") or "__pycache__" in name]
    flows = {f"ocsf_lake/flows/{path.name}" for path in (PROJECT / "flows").glob("*.py")}
    assert {name for name in names if name.startswith("ocsf_lake/flows/")} == flows
    for package in ("ocsf_lake", "ocsf_mappers"):
        sources = {f"{path.relative_to(PROJECT)}" for path in (PROJECT / package).rglob("*.py")}
        assert sources <= set(names)
        assert f"{package}/py.typed" in names
    data = {f"ocsf_mappers/schemas/{path.name}" for path in (PROJECT / "schemas").glob("*.json")}
    assert data <= set(names)


def test_a_wheel_made_from_the_sdist_is_the_same(built: Path) -> None:
    """What compiles the reader, and its source, are in the sdist as they are here: compiling once is enough."""
    assert sorted(members(only(built / "again"))) == sorted(members(only(built / "pure")))
    with tarfile.open(only(built / "sdist")) as archive:
        names = archive.getnames()
    for name in ("hatch_build.py", "pyproject.toml", "ocsf_mappers/readers/jsoncolumns.c"):
        assert (only(built / "source") / name).read_bytes() == (PROJECT / name).read_bytes()
    assert max(Counter(names).values()) == 1
    assert not [name for name in names if "/ocsf_lake/flows" in name]
    assert [name for name in names if name.endswith("/flows/ingest.py")] == [f"{NAME}/flows/ingest.py"]


def test_the_wheel_holds_the_compiled_reader_where_it_can_be_made(built: Path) -> None:
    """On other platforms, and without the compiler, it is one for all."""
    assert only(built / "pure").name == f"{NAME}-py3-none-any.whl"
    assert LIBRARY not in members(only(built / "pure"))
    machine = sysconfig.get_platform()
    if machine not in ("linux-x86_64", "linux-aarch64"):
        pytest.skip(f"the reader may not be made for {machine}")
    name = only(built / "wheel").name
    assert re.fullmatch(re.escape(NAME) + r"-py3-none-(many|musl)linux_\d+_\d+_(x86_64|aarch64)\.whl", name)
    assert LIBRARY in members(only(built / "wheel"))


@pytest.mark.acceptance
def test_the_compiler_is_fetched_where_it_is_not_there(built: Path) -> None:
    """As it is wherever this is installed, from a checkout too: tests/ocsf_mappers/test_json_columns.py uses that."""
    run(built / "env/bin/python", "-c", BUILD, "wheel", PROJECT, built / "fetched", cwd=built)
    assert sorted(members(only(built / "fetched"))) == sorted(members(only(built / "wheel")))


def test_the_compiled_reader_is_used_unless_told_not_to(built: Path, installed: Path) -> None:
    ask = "from ocsf_mappers.readers import json_columns; print(json_columns.state())"
    if "none-any" not in only(built / "wheel").name:
        assert run(installed / "python", "-c", ask, cwd=installed) == "compiled\n"
    said = run(installed / "python", "-c", ask, cwd=installed, OCSF_LAKE_PURE="1")
    assert said == "pure Python: OCSF_LAKE_PURE is 1\n"


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a fresh environment with the wheel; what it depends on comes from this one."""
    env = tmp_path_factory.mktemp("installed") / "env"
    venv.create(env)
    python = env / "bin/python"
    run(*PIP, python, "install", "--quiet", "--no-deps", "--no-compile", only(built / "wheel"), cwd=env)
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=env).strip()
    # Behind the new environment's own packages, and not as a site folder: this one's .pth files name the checkout.
    (Path(purelib) / "those.pth").write_text(sysconfig.get_path("purelib"))
    assert run(python, "-c", "import ocsf_lake; print(ocsf_lake.__file__)", cwd=env).startswith(purelib)
    return env / "bin"


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A project that has packages of its own, named as ours might be, each of which fails on import."""
    for name in ("flows", "lake", "schemas", "deploy", "cli", "query", "text", "events"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('the other {name} was imported')\n")
    return tmp_path


def test_commands_work_where_others_have_packages_of_such_names(installed: Path, crowded: Path) -> None:
    logs = SAMPLE_LOGS / "aws_vpc_flow" / "version_5.log"
    run(installed / "ocsf-lake", "ingest", logs, "--lake", "here", cwd=crowded)
    query = ("query", "SELECT count(*) > 0 AS any FROM vpc_flow", "--lake", "here", "--format", "csv")
    assert run(installed / "python", "-m", "ocsf_lake", *query, cwd=crowded) == "any\ntrue\n"
    ask = "import ocsf_lake; print(len(ocsf_lake.open('here')['vpc_flow']) > 0)"
    assert run(installed / "python", "-c", ask, cwd=crowded) == "True\n"


def test_entrypoints_of_deployments_are_installed(installed: Path, crowded: Path) -> None:
    """The commented ones of prefect.yaml too."""
    text = (PROJECT / "deploy" / "prefect.yaml").read_text(encoding="utf-8")
    names = sorted(set(re.findall(r"entrypoint: (\S+)", text)))
    assert "ocsf_lake.flows.ingest.ingest" in names
    assert "ocsf_lake.flows.export.export" in names
    code = (
        "import sys\nfrom prefect import Flow\nfrom prefect.flows import load_flow_from_entrypoint\n"
        "assert all(isinstance(load_flow_from_entrypoint(name), Flow) for name in sys.argv[1:])\n"
    )
    run(installed / "python", "-c", code, *names, cwd=crowded)


def test_an_installed_package_lays_down_the_same_project(installed: Path, tmp_path: Path) -> None:
    run(installed / "ocsf-lake", "init", "project", cwd=tmp_path)
    laid = {
        path.relative_to(tmp_path / "project").as_posix(): path.read_text(encoding="utf-8")
        for path in (tmp_path / "project").rglob("*") if path.is_file()
    }  # fmt: skip
    assert laid == dict(init.project())
    assert yaml.safe_load(laid["deploy/prefect.yaml"])["deployments"]
