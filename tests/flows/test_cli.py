"""The contract of the command line: data on stdout, messages on stderr, 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess
import sys
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path

import pytest
import typer

from ocsf_lake import config
from ocsf_lake.cli import main as cli
from ocsf_lake.cli import options
from ocsf_lake.ingest import run as ingest
from ocsf_mappers.errors import MappingError, WriteError
from tests.flows.conftest import RunCommand
from tests.flows.support import Run, environment
from tests.support import PROJECT, SAMPLE_LOGS

LOGIN = str(SAMPLE_LOGS / "aws_cloudtrail/console_login_success.json")


def commands() -> dict[str, str]:
    """Every command and its example."""
    found = {}
    for name, command in typer.main.get_command(cli.app).commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {key}": value.epilog for key, value in inner.items()} if inner else {name: command.epilog}
    return {name: epilog.partition("Example:\n")[2] for name, epilog in found.items()}


# -- help -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def folder_of_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    (folder / "sample_logs").symlink_to(SAMPLE_LOGS)
    return folder


@pytest.mark.slow
def test_every_example_runs(
    folder_of_examples: Path, ocsf_lake: RunCommand, shell: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which knows the mappers by then; those that need a shell, in one."""
    monkeypatch.chdir(folder_of_examples)

    def run(example: str) -> Run:
        if set(example) & {"$", ">"}:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", example], env=shell, capture_output=True, text=True, timeout=120,
                check=False,
            )  # fmt: skip
            return Run(done.returncode, done.stdout, done.stderr)
        runs = [ocsf_lake(*shlex.split(line)[1:]) for line in example.splitlines()]
        return max(runs, key=lambda run: run.code)

    for name, example in commands().items():
        assert f"ocsf-lake {name}" in example
        if name == "deploy":  # needs a server; tests/flows/test_server.py has one
            continue
        ended = run(example)
        # their examples have something to find; without receivers an alert reaches nobody
        assert ended.code == (1 if name in ("lint", "diff", "alerts test") else 0), ended.err


def test_every_command_is_in_the_list_of_commands() -> None:
    listed = (PROJECT / "docs/commands.md").read_text(encoding="utf-8")
    assert [name for name in commands() if f"`ocsf-lake {name}" not in listed] == []


def test_every_help_page_ends_with_its_example(ocsf_lake: RunCommand) -> None:
    for name, example in commands().items():
        run = ocsf_lake(*name.split(), "--help")
        assert run.code == 0
        assert run.out.rstrip().endswith(example.splitlines()[-1].strip())


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    heavy = "duckdb", "lake", "numpy", "ocsf_mappers", "prefect", "pyarrow", "pydantic_settings", "sqlalchemy"
    code = f"import sys, ocsf_lake.cli.main\nsys.exit(' '.join(set({heavy!r}) & set(sys.modules)) or 0)"
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_help_names_the_defaults_that_are_in_force(ocsf_lake: RunCommand) -> None:
    fields = config.Settings.model_fields
    shown = " ".join(ocsf_lake("ingest", "--help").out.split())
    for name in ("lake", "ocsf_version"):
        assert f"[env: OCSF_LAKE_{name.upper()}; default: {fields[name].default}]" in shown


def test_a_command_that_does_not_exist_is_misuse(ocsf_lake: RunCommand) -> None:
    assert ocsf_lake("nonsense").code == 2
    assert ocsf_lake("query").code == 2


# -- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-03-16", date(2026, 3, 16)),
        ("20260316", date(2026, 3, 16)),
        ("today", date(2026, 3, 1)),
        ("yesterday", date(2026, 2, 28)),
        ("0d", date(2026, 3, 1)),
        ("31d", date(2026, 1, 29)),
    ],
)
def test_a_day_is_a_date_or_so_many_days_ago_in_utc(
    given: str, expected: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls(2026, 3, 1, 0, 30, tzinfo=UTC).astimezone(tz)  # in New York, where tests run, the day before

    monkeypatch.setattr(options, "datetime", Clock)
    assert options.day(given) == expected


@pytest.mark.parametrize("given", ["", "-7d", "7", "7 d", "d", "999999d", "2026-02-30", "last week"])
def test_what_is_no_day_is_misuse_and_the_message_says_what_is(given: str, ocsf_lake: RunCommand) -> None:
    run = ocsf_lake("find", "x", f"--from={given}")
    assert run.code == 2
    assert "write 2026-03-16, today, yesterday, or 7d" in " ".join(run.err.split())


@pytest.mark.slow
def test_options_win_over_variables_and_variables_over_the_file(
    ocsf_lake: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ocsf-lake.toml").write_text('lake = "from_file"\n')
    ocsf_lake("ingest", LOGIN)
    monkeypatch.setenv("OCSF_LAKE_LAKE", "from_variable")
    ocsf_lake("ingest", LOGIN)
    ocsf_lake("ingest", LOGIN, "--lake", "from_option")
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"from_file", "from_variable", "from_option"}


@pytest.mark.parametrize(
    ("toml", "said"), [("lake = [", "ocsf-lake.toml is not TOML"), ("lak = 'x'", "did you mean 'lake'?")]
)
def test_a_wrong_settings_file_is_one_line(ocsf_lake: RunCommand, tmp_path: Path, toml: str, said: str) -> None:
    (tmp_path / "ocsf-lake.toml").write_text(toml)
    run = ocsf_lake("status")
    assert run.code == 2
    assert said in run.err
    assert run.err.count("\n") == 1


@pytest.mark.parametrize("command", [["query", "SELECT 1"], ["status"], ["quarantine", "list"], ["quarantine", "show"]])
def test_a_lake_that_is_not_there_is_not_made_by_looking(
    ocsf_lake: RunCommand, tmp_path: Path, command: list[str]
) -> None:
    run = ocsf_lake(*command, "--lake", "nowhere")
    assert run.code == 2
    assert "ocsf-lake ingest URI --lake nowhere" in run.err
    assert list(tmp_path.iterdir()) == []


# -- query ------------------------------------------------------------------------------------------------------------
STEERING = "SELECT 'a' || chr(27) || '[31m' || chr(155) || chr(8238) AS x, 'one' || chr(10) || 'two' AS y"


@pytest.mark.slow
def test_a_table_shows_control_characters_spelled_out(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", STEERING, "--lake", str(ready_lake))
    assert run.out.splitlines()[2].split() == [r"a\x1b[31m\x9b\u202e", r"one\ntwo"]


def test_json_is_an_array_of_objects_without_a_raw_control_character(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", STEERING, "--lake", str(ready_lake), "--format", "json")
    assert json.loads(run.out) == [{"x": "a\x1b[31m\x9b\u202e", "y": "one\ntwo"}]
    assert run.out.isascii()


def test_csv_keeps_text_as_it_is(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    sql = "SELECT 'a,\"b' AS x, NULL AS y, {'k': [1, 2]} AS z, true AS t, TIMESTAMPTZ '2026-03-18 02:11:07Z' AS at"
    run = ocsf_lake("query", sql, "--lake", str(ready_lake), "--format", "csv")
    assert list(csv.reader(io.StringIO(run.out))) == [
        ["x", "y", "z", "t", "at"],
        ['a,"b', "", '{"k": [1, 2]}', "true", "2026-03-18T02:11:07Z"],
    ]


def test_json_has_what_json_can_hold(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    sql = "SELECT sum(1) AS n, 'nan'::DOUBLE AS d, 1.5::DECIMAL(5,2) AS e, MAP {'a': 1} AS m, 1 AS same, 2 AS same"
    (row,) = json.loads(ocsf_lake("query", sql, "--lake", str(ready_lake), "--format", "json").out)
    assert row == {"n": 1, "d": None, "e": 1.5, "m": {"a": 1}, "same": 1, "same_2": 2}


def test_a_long_table_is_cut_and_says_so(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", "FROM range(1001)", "--lake", str(ready_lake))
    assert "1,000 of 1,001 rows shown" in run.err
    assert run.out.splitlines()[-1].strip() == "999"


def test_wrong_sql_shows_where_and_never_a_traceback(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", "SELECT nonsense FROM vpc_flow_2_0", "--lake", str(ready_lake))
    assert run.code == 1
    assert run.err.startswith("error: Binder Error")
    assert "SHOW TABLES" in run.err
    assert "Traceback" not in run.err


def test_a_query_that_would_change_something_is_misuse(ocsf_lake: RunCommand, ready_lake: Path) -> None:
    run = ocsf_lake("query", "DROP VIEW vpc_flow", "--lake", str(ready_lake))
    assert (run.code, run.out) == (2, "")


# -- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "step"),
    [(WriteError("disk full"), "run the same command again"), (MappingError("no such path"), "CONTRIBUTING.md")],
)
def test_an_error_of_ours_is_a_line_and_a_next_step(
    ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch, error: Exception, step: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ingest, "ingest", fails)
    run = ocsf_lake("ingest", LOGIN)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"error: {error}\n")
    assert step in run.err


def test_a_defect_is_not_hidden(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ingest, "ingest", fails)
    run = ocsf_lake("ingest", LOGIN)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("Traceback (most recent call last):")
    assert run.err.endswith("ZeroDivisionError\n")


@pytest.mark.slow
def test_streams_that_are_closed_are_no_defect(tmp_path: Path) -> None:
    def run(arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            f"{sys.executable} -m ocsf_lake {arguments}", shell=True, cwd=tmp_path, env=environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert run(f"ingest {LOGIN} <&- >&- 2>&-").returncode == 0
    assert (run("tables >&-").returncode, run("tables 2>&-").stdout.count("cloud_trail_mgmt")) == (0, 1)
    nothing = run("query - <&-")
    assert (nothing.returncode, "Traceback" in nothing.stderr) == (2, False)
