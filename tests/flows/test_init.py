"""`ocsf-lake init`: a project that works as it is laid down; deploying it is tested in test_server.py."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from ocsf_lake import config
from ocsf_mappers import registry
from tests.flows.conftest import RunCommand
from tests.flows.support import environment
from tests.support import PROJECT, SAMPLE_LOGS

QUERIES = [
    {"at": "2026-03-16T10:00:00Z", "client": "10.0.0.7", "port": 53211, "name": "www.example.com.", "type": "A",
     "code": "NOERROR"},
    {"at": "2026-03-16T10:00:01Z", "client": "10.0.0.8", "name": "none.example.com.", "type": "A", "code": "NXDOMAIN"},
]  # fmt: skip


@pytest.fixture
def project(ocsf_lake: RunCommand, tmp_path: Path) -> Path:
    folder = tmp_path / "my lake"
    run = ocsf_lake("init", str(folder))
    assert run.code == 0, run.err
    files = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    assert sorted(run.out.splitlines()) == files
    assert "cd '" in run.err
    return folder


@pytest.mark.slow
def test_commands_in_the_project_use_its_settings(
    ocsf_lake: RunCommand, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    run = ocsf_lake("ingest", str(SAMPLE_LOGS / "aws_vpc_flow" / "version_5.log"))
    assert run.code == 0, run.err
    assert (project / "lake" / "aws").is_dir()
    assert "vpc_flow" in ocsf_lake("query", "SHOW TABLES").out


def test_the_settings_file_has_every_setting_with_its_default(project: Path) -> None:
    text = (project / "ocsf-lake.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == {"lake": "./lake", "mappers": "./mappers"}
    given = dict(re.findall(r"^(?:# )?([a-z0-9_]+) = ?(.*)$", text, re.MULTILINE))
    assert given.keys() == config.Settings.model_fields.keys()
    defaults = config.Settings.model_construct()
    for name, value in given.items():
        found = tomllib.loads(f"x = {value}")["x"] if value else None
        expected = getattr(defaults, name)
        if isinstance(expected, BaseModel):
            expected = expected.model_dump(exclude_defaults=True)
        assert name in ("lake", "mappers") or found == (list(expected) if isinstance(expected, tuple) else expected)
    assert max(map(len, text.splitlines())) <= 120


def test_what_is_there_is_never_overwritten(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "own.py").write_text("mine\n")
    (tmp_path / "notes.txt").write_text("mine too\n")
    run = ocsf_lake("init", str(tmp_path))
    assert (run.code, run.out) == (2, "")
    assert "has flows/own.py already; nothing was written" in run.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["flows", "notes.txt", "own.py"]
    (tmp_path / "flows" / "own.py").unlink()
    (tmp_path / "ocsf-lake.toml").symlink_to(tmp_path / "nowhere")
    assert ocsf_lake("init", str(tmp_path)).code == 2
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "ocsf-lake.toml").unlink()
    assert ocsf_lake("init", str(tmp_path)).code == 0  # what is of another name disturbs nobody


def test_a_folder_that_cannot_be_made_is_an_error(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = ocsf_lake("init", str(tmp_path / "file"))
    assert run.code == 1
    assert "the project cannot be written" in run.err


def test_deploy_files_are_those_of_deploy(project: Path) -> None:
    for path in (project / "deploy").iterdir():
        assert path.read_bytes() == (PROJECT / "deploy" / path.name).read_bytes()


@pytest.mark.slow
def test_the_example_mapper_is_a_source_of_the_project(
    project: Path, ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "example_dns" not in registry.names()
    monkeypatch.chdir(project)
    assert "example_dns" in ocsf_lake("sources").out
    log = project / "dns.jsonl"
    log.write_text("".join(json.dumps(query) + "\n" for query in QUERIES))
    mapped = ocsf_lake("map", "example_dns", str(log))
    assert mapped.code == 0, mapped.err
    events = [json.loads(line) for line in mapped.out.splitlines()]
    assert [(event["query"]["hostname"], event["rcode"]) for event in events] == [
        ("www.example.com.", "NoError"), ("none.example.com.", "NXDomain"),
    ]  # fmt: skip
    (project / "events.jsonl").write_text(mapped.out)
    checked = ocsf_lake("validate", "events.jsonl")
    assert checked.code == 0, checked.out
    ingested = ocsf_lake("ingest", str(log))  # recognized by its members
    assert ingested.code == 0, ingested.err
    assert "2 DNS Activity" in ingested.out
    assert json.loads(ocsf_lake("query", "--format", "json", "SELECT count(*) AS n FROM example_dns").out) == [{"n": 2}]


@pytest.mark.slow
def test_the_example_mapper_is_a_source_once_it_is_installed(project: Path, tmp_path: Path) -> None:
    about = tmp_path / "installed" / "mine-1.dist-info"
    about.mkdir(parents=True)
    points = tomllib.loads((project / "mappers" / "pyproject.toml").read_text())["project"]["entry-points"]
    listed = "".join(f"{name} = {place}\n" for name, place in points["ocsf_lake.sources"].items())
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[ocsf_lake.sources]\n{listed}")
    # A process of its own, as its user has it.
    path = f"{tmp_path / 'installed'}:{project / 'mappers'}:{PROJECT}"
    (tmp_path / "dns.jsonl").write_text("".join(json.dumps(query) + "\n" for query in QUERIES))
    asked = (
        "import ocsf_lake; from ocsf_mappers import registry\n"
        "lake = ocsf_lake.create('lake'); lake.ingest('dns.jsonl')\n"
        "print(lake.sql('SELECT rcode FROM example_dns ORDER BY 1').to_arrow().to_pydict(), registry.names())"
    )
    run = subprocess.run(
        [sys.executable, "-c", asked], env=environment(PYTHONPATH=path), cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "{'rcode': ['NXDomain', 'NoError']}" in run.stdout, run.stderr
    assert "'example_dns'" in run.stdout
