"""The commands for who writes a source: `new`, `check`, `schema`, `diff`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from ocsf_lake.cli import check, new
from ocsf_mappers.testing import Report
from tests.flows.conftest import RunCommand
from tests.flows.support import environment
from tests.support import PROJECT, SAMPLE_LOGS

FLOWS = [SAMPLE_LOGS / "aws_vpc_flow" / name for name in ("default_v2.log", "version_5.log")]
RECORDS = [
    {"at": "2026-03-16T10:00:00Z", "client": "10.0.0.7", "question": "www.example.com", "qtype": "A"},
    {"at": "2026-03-16T10:00:01Z", "client": "10.0.0.8", "question": "example.net", "qtype": "AAAA", "extra": [1]},
]


def written(path: Path) -> Path:
    """A file with the records."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in RECORDS))
    return path


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return written(tmp_path / "dns.jsonl")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a source that was begun, to be copied."""
    folder = tmp_path_factory.mktemp("begun")
    new.new("acme_dns", written(folder / "dns.jsonl"), into=folder / "mappers")
    return folder / "mappers" / "acme_dns"


@pytest.fixture
def source(begun: Path) -> Path:
    """A source that was begun, where `new` begins it."""
    return Path(shutil.copytree(begun, "mappers/acme_dns"))


@pytest.fixture
def flows(tmp_path: Path) -> str:
    """A folder of flow logs."""
    (tmp_path / "flows").mkdir()
    for path in FLOWS:
        shutil.copy(path, tmp_path / "flows")
    return str(tmp_path / "flows")


# -- new --------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_new_source_is_a_folder_with_all_that_belongs_to_it(sample: Path, ocsf_lake: RunCommand) -> None:
    assert ocsf_lake("new", "acme_dns", "--from", str(sample)).code == 0
    source = Path("mappers/acme_dns")
    assert sorted(path.relative_to(source).as_posix() for path in source.rglob("*.*") if "cache" not in str(path)) == [
        "SOURCE.md", "__init__.py", "samples/dns.expected.json", "samples/dns.jsonl", "test_acme_dns.py",
    ]  # fmt: skip


@pytest.mark.slow
def test_nothing_is_written_over_a_source_that_is_there(source: Path, sample: Path, ocsf_lake: RunCommand) -> None:
    before = (source / "__init__.py").read_bytes()
    again = ocsf_lake("new", "acme_dns", "--from", str(sample))
    assert again.code == 2
    assert "already" in again.err
    assert (source / "__init__.py").read_bytes() == before


@pytest.mark.parametrize("name", ["Acme", "acme-dns", "../acme", "aws_vpc_flow", "acme__dns", ""])
def test_a_name_that_no_source_can_have_is_refused(sample: Path, ocsf_lake: RunCommand, name: str) -> None:
    assert ocsf_lake("new", name, "--from", str(sample)).code == 2
    assert not Path("mappers").exists()


@pytest.mark.slow
def test_inside_a_checkout_the_files_go_where_this_project_has_them(
    sample: Path, tmp_path: Path, ocsf_lake: RunCommand
) -> None:
    (tmp_path / "ocsf_mappers" / "sources").mkdir(parents=True)
    assert ocsf_lake("new", "acme_dns", "--from", str(sample)).code == 0
    assert Path("ocsf_mappers/sources/acme_dns.py").exists()
    assert {path.name for path in Path("sample_logs/acme_dns").iterdir()} == {
        "SOURCE.md", "dns.jsonl", "dns.expected.json",
    }  # fmt: skip


# -- check ------------------------------------------------------------------------------------------------------------
def test_every_problem_is_told_with_its_line(source: Path, ocsf_lake: RunCommand) -> None:
    module = source / "__init__.py"
    text = module.read_text().replace('"query.hostname"', '"qury.hostname"').replace("col.client", "col.cleint")
    module.write_text(text)
    run = ocsf_lake("check", str(module))
    assert run.code == 1
    lines = text.splitlines()
    for words, said in (("qury.hostname", "did you mean 'query'"), ("col.cleint", "did you mean 'client'")):
        number = next(number for number, line in enumerate(lines, start=1) if words in line)
        assert any(f"__init__.py:{number}: " in line and said in line for line in run.out.splitlines()), run.out


@pytest.mark.slow
def test_a_changed_event_is_a_problem_until_its_golden_is_written(source: Path, ocsf_lake: RunCommand) -> None:
    module = source / "__init__.py"
    module.write_text(module.read_text().replace('"severity_id": "Informational"', '"severity_id": "Low"'))
    run = ocsf_lake("check", str(module))
    assert run.code == 1
    assert 'record 1: severity: "Informational" -> "Low"' in run.out
    assert "if it is right, rewrite the golden with `ocsf-lake check " in run.out
    assert ocsf_lake("check", str(module), "--update-golden").code == 0
    assert ocsf_lake("check", str(module)).code == 0


@pytest.mark.slow
def test_check_as_json_has_counts_and_coverage(source: Path, ocsf_lake: RunCommand) -> None:
    (found,) = json.loads(ocsf_lake("check", str(source / "__init__.py"), "--json").out)
    assert (found["source"], found["problems"]) == ("acme_dns", [])
    assert found["counts"] == {"read": 2, "events": 2, "quarantined": 0, "dropped": 0}
    assert found["coverage"]["unmapped"] == {"extra": 1}


def test_a_source_without_samples_is_told_so(source: Path, ocsf_lake: RunCommand) -> None:
    for path in (source / "samples").iterdir():
        path.unlink()
    run = ocsf_lake("check", str(source / "__init__.py"))
    assert run.code == 1
    assert "there are no samples" in run.out


@pytest.mark.slow
def test_watching_checks_again_when_a_file_changes(source: Path) -> None:
    module = source / "__init__.py"
    command = [sys.executable, "-m", "ocsf_lake", "check", str(module), "--watch"]
    with (
        subprocess.Popen(
            command, env=environment(PYTHONPATH=str(PROJECT)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        ExitStack() as at_last,
    ):
        at_last.callback(process.kill)  # it ends by no other means
        assert process.stdout is not None
        assert process.stderr is not None
        assert "waiting for changes" in process.stderr.readline()
        module.write_text(module.read_text().replace("acme_dns", "acme_dns", 1) + "\nraise SystemExit('mended')\n")
        os.utime(module)
        assert any("SystemExit: mended" in line for line in process.stdout)


# -- schema -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("given", ["dns_activity", "4003"])
def test_a_class_is_looked_up_by_name_and_uid(ocsf_lake: RunCommand, given: str) -> None:
    found = {item["attribute"]: item for item in json.loads(ocsf_lake("schema", given, "--json").out)}
    assert found["query"]["type"] == "dns_query"
    assert found["activity_id"]["values"] == ["0 Unknown", "1 Query", "2 Response", "6 Traffic", "99 Other"]


def test_objects_are_entered_and_searched(ocsf_lake: RunCommand) -> None:
    (found,) = json.loads(ocsf_lake("schema", "dns_activity", "query.hostname", "--json").out)
    assert (found["type"], found["requirement"]) == ("hostname", "required")
    listed = json.loads(ocsf_lake("schema", "dns_activity", "query", "--like", "opcode", "--json").out)
    assert [item["attribute"] for item in listed] == ["query.opcode", "query.opcode_id"]
    assert len(json.loads(ocsf_lake("schema", "--json").out)) >= 50


@pytest.mark.parametrize(("given", "hint"), [(["dns_activty"], "dns_activity"), (["dns_activity", "qury"], "query")])
def test_what_ocsf_has_not_is_answered_with_the_nearest(ocsf_lake: RunCommand, given: list[str], hint: str) -> None:
    run = ocsf_lake("schema", *given)
    assert run.code == 2
    assert f"did you mean '{hint}'" in run.err


# -- diff -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def former(tmp_path: Path) -> Path:
    """The mapper of flow logs as it was: it said that what was rejected is unknown."""
    text = (PROJECT / "ocsf_mappers" / "sources" / "aws_vpc_flow.py").read_text()
    path = tmp_path / "former.py"
    path.write_text(text.replace('REJECT="Denied"', 'REJECT="Unknown"'))
    return path


@pytest.mark.slow
def test_two_versions_of_a_mapper_differ_where_they_were_changed(
    ocsf_lake: RunCommand, former: Path, flows: str
) -> None:
    run = ocsf_lake("diff", "aws_vpc_flow", "--against", str(former), "--on", flows, "--format", "json")
    assert run.code == 1
    found = json.loads(run.out)
    assert sorted(found["changes"]) == ["action", "action_id"]
    change = found["changes"]["action"]
    assert (change["added"], change["removed"]) == (0, 0)
    assert {(item["before"], item["after"]) for item in change["examples"]} == {("Unknown", "Denied")}


@pytest.mark.slow
def test_differences_are_results_for_code_review(
    ocsf_lake: RunCommand, former: Path, flows: str
) -> None:
    run = ocsf_lake("diff", "aws_vpc_flow", "--against", str(former), "--on", flows, "--format", "sarif")
    (of_run,) = json.loads(run.out)["runs"]
    found = {item["ruleId"]: item for item in of_run["results"]}
    place = found["action_id"]["locations"][0]["physicalLocation"]
    lines = (PROJECT / "ocsf_mappers" / "sources" / "aws_vpc_flow.py").read_text().splitlines()
    assert '"action_id":' in lines[place["region"]["startLine"] - 1]


@pytest.mark.slow
def test_the_same_mapper_twice_differs_in_nothing(ocsf_lake: RunCommand, flows: str) -> None:
    run = ocsf_lake("diff", "aws_vpc_flow", "--against", "1.1.0", "--on", flows)
    assert (run.code, run.out) == (0, "")
    assert "0 columns differ" in run.err


@pytest.mark.slow
def test_another_version_of_ocsf_differs_by_attributes_and_mixed_folders_are_told(
    ocsf_lake: RunCommand, flows: str
) -> None:
    others = SAMPLE_LOGS / "aws_route53_resolver" / "firewall.jsonl"
    run = ocsf_lake("diff", "aws_vpc_flow", "--against", "1.8.0", "--on", flows, "--on", str(others))
    assert run.code == 1
    assert "observation_point_id" in run.out
    assert "it is a log of aws_route53_resolver" in run.err


def test_a_version_that_is_none_is_refused(ocsf_lake: RunCommand, flows: str) -> None:
    assert ocsf_lake("diff", "aws_vpc_flow", "--against", "1.2.3", "--on", flows).code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "time,src ip,dst.ip,user,action\n2026-03-16T10:00:00Z,10.0.0.1,10.0.0.2,al,allow\n",
        "time user client\n2026-03-16T10:00:00Z al 10.0.0.1\n",
        "time\tuser\tclient\n2026-03-16T10:00:00Z\tal\t10.0.0.1\n",
        'time,client,text\n2026-03-16T10:00:00Z,10.0.0.1,"a, b"\n',
        '"time","client","text"\n"2026-03-16T10:00:00Z","10.0.0.1","a, b"\n',
        f"time,{','.join(f'column{number}' for number in range(60))}\n2026-03-16T10:00:00Z{',1' * 60}\n",
    ],
)
def test_a_text_log_is_recognized_by_its_header_and_prose_is_not(
    ocsf_lake: RunCommand, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "some.log"
    path.write_text(text)
    (tmp_path / "readme.txt").write_text("the user tells the time to a client\nand more\n")
    made = ocsf_lake("new", "acme_log", "--from", str(path), "--class", "base_event")
    assert made.code == 0, made.err
    assert "no problems" in made.out
    Path("ocsf-lake.toml").write_text('mappers = "mappers"\n')
    run = ocsf_lake("ingest", str(path), str(tmp_path / "readme.txt"))
    assert "1 Base Event" in run.out, run.err
    assert "1 object skipped" in run.out + run.err


def test_watching_waits_for_a_file_that_an_editor_took_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "acme_dns.py"
    path.write_text("1")
    steps = iter([path.unlink, lambda: path.write_text("2")])
    monkeypatch.setattr(check.time, "sleep", lambda _: next(steps)())
    check._wait([Report("acme_dns", file=path)])
    assert path.read_text() == "2"
