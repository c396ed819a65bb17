"""Planted passwords, keys and signatures are in no message, ledger, page or traceback.

What Prefect keeps and logs of a run is looked through in test_fanout.py, which has a server.
"""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.cli import terminal
from ocsf_lake.flows.report import Failure, Report
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_mappers.errors import ConfigError, OcsfMappersError, RetriableError
from ocsf_mappers.shown import redacted
from tests.flows.support import environment
from tests.support import PROJECT

SECRET = "Pl4nted-s3cret"
PRESIGNED = f"https://b.s3.amazonaws.com/k.json?X-Amz-Credential=AKIA{SECRET}%2F2026&X-Amz-Signature={SECRET}"


def told(error: BaseException) -> str:
    """All that a log would hold of an error, causes included."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "text",
    [
        f"cannot reach postgresql://ann:{SECRET}@db/x?sslmode=require",
        f"postgresql+asyncpg://ann:{SECRET}/with/slashes@db",
        f"GET {PRESIGNED}",
        f"host=db user=ann password={SECRET} dbname=x",
        f'{{"secretAccessKey": "{SECRET}", "sessionToken": "{SECRET}"}}',
        f"{{'s3.secret-access-key': '{SECRET}'}}",
        f"aws_secret_access_key={SECRET}",
        f"http://proxy:{SECRET}@10.0.0.1:3128",
    ],
)
def test_a_secret_is_taken_out_of_any_message(text: str) -> None:
    assert SECRET not in redacted(text)
    assert SECRET not in str(OcsfMappersError("it failed", cause=text))


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:9000/bucket/a@b",
        "s3://bucket/key:with@signs",
        "Invalid expression / Unexpected token. Line 1, Col: 3",
        "arn:aws:iam::111122223333:user/ann@example.com",
        "expected token: SELECT",
        "setting ledger_url: none",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redacted(text) == text


def test_an_error_steers_no_terminal_whoever_logs_it() -> None:
    error = ConfigError("there is nothing at 'a\x1b[2J'\n  here", object="b\x9b\u202e")
    assert str(error) == "there is nothing at 'a\\x1b[2J'\n  here (object b\\x9b\\u202e)"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:p@{SECRET}:x@db/x",
        f"nonsense {SECRET}",
        f"oracle+none://ann:{SECRET}@db/x",
        f"postgresql://ann:{SECRET}@db:port/x",
    ],
)
def test_a_wrong_url_of_a_ledger_says_nothing_of_its_password(url: str, tmp_path: Path) -> None:
    found = config.load(lake=str(tmp_path / "lake"), ledger_url=url)
    assert SECRET not in repr(found) + str(found)
    with pytest.raises(ConfigError) as error, opened(found):
        pass
    assert SECRET not in told(error.value)


def test_a_database_that_does_not_answer_says_nothing_of_the_password(tmp_path: Path) -> None:
    found = config.load(lake=str(tmp_path / "lake"), ledger_url=f"postgresql://ann:{SECRET}@127.0.0.1:1/x")
    with pytest.raises(RetriableError) as error, opened(found):
        pass
    assert SECRET not in told(error.value)


@pytest.mark.parametrize("setting", ["s3_endpoint", "glue_endpoint"])
def test_an_endpoint_with_a_password_is_refused_without_it(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting}.*credentials come from") as error:
        config.load(**{setting: f"https://ann:{SECRET}@store"})
    assert SECRET not in told(error.value)


@pytest.mark.parametrize(
    "uri",
    [PRESIGNED, f"https://ann:{SECRET}@host/x.json", f"s3://AKIA:{SECRET}@bucket/x", f"ftp://ann:{SECRET}@host/x"],
)
def test_a_uri_that_holds_a_secret_is_refused_before_it_is_noted(uri: str, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with pytest.raises(ConfigError, match="stand in every event") as error:
        ingest.ingest([uri], config.load(lake=str(lake)), "aws_cloudtrail")
    assert SECRET not in told(error.value)
    assert not lake.exists()
    with pytest.raises(ConfigError) as error, opened(config.load(lake=uri, state=tmp_path / "state")):
        pass
    assert SECRET not in told(error.value)


def test_pages_and_messages_of_errors_that_are_not_ours_hide_them_too(capsys: pytest.CaptureFixture[str]) -> None:
    reason = f"HTTPError: GET {PRESIGNED} by http://proxy:{SECRET}@10.0.0.1:3128"
    report = Report("run", "aws_cloudtrail", failures=[Failure("task", reason, ["b1"])])
    terminal.say(f"error: {reason}")
    assert SECRET not in report.markdown() + str(report.failure_rows()) + capsys.readouterr().err
    assert "***" in report.markdown()


def test_the_command_line_tells_of_a_defect_without_secrets_and_escapes(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from ocsf_lake.cli import main as cli\n"
        "def broken():\n"
        f"    raise ValueError('postgresql://ann:{SECRET}@db/x \\x1b[2J')\n"
        "cli._command = lambda name: broken\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert r"ValueError: postgresql://ann:***@db/x \x1b[2J" in done.stderr
    assert "\x1b" not in done.stderr
