"""What pages show to be pasted, where no other test runs it: shell, settings, Python; SQL is in test_cookbook."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ocsf_lake import config
from ocsf_lake.cli.main import app
from tests.support import PROJECT

PAGES = (
    PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md")),
    *sorted((PROJECT / "deploy").rglob("*.md")), *sorted((PROJECT / "ocsf_lake" / "project").rglob("*.md")),
    *sorted((PROJECT / "sample_logs").rglob("*.md")),
)  # fmt: skip
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(ocsf-lake [^`]+)`", re.DOTALL)
COMMANDS = typer.main.get_command(app)


def blocks(*kinds: str) -> Iterator[tuple[str, str]]:
    """Page and text of each block of these kinds."""
    for page in PAGES:
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if kind in kinds:
                yield str(page.relative_to(PROJECT)), text


def scripts() -> Iterator[tuple[str, str]]:
    """Page and shell script: blocks of sh and bash, and what stands behind the prompts of console sessions."""
    yield from blocks("sh", "bash")
    for page, text in blocks("console"):
        for part in re.split(r"^ *\$ ", text, flags=re.MULTILINE)[1:]:
            lines = part.split("\n")
            end = next((at for at, line in enumerate(lines) if not line.endswith("\\")), len(lines) - 1)
            yield page, "\n".join(lines[: end + 1])


def words(script: str) -> Iterator[list[str]]:
    """The words of each `ocsf-lake` command in a script, up to what the shell does with its output."""
    lexer = shlex.shlex(script.replace("\\\n", " "), posix=True, punctuation_chars="|;&\n")
    lexer.whitespace_split, lexer.whitespace = True, " \t\r"
    found: list[str] | None = None
    begins = True
    for word in (*lexer, "\n"):
        ends = set(word) <= set("|;&\n")
        if found is not None and (ends or word.startswith((">", "2>"))):
            yield found
            found = None
        elif found is not None:
            found.append(word)
        elif begins and word == "ocsf-lake":
            found = []
        begins = ends or (begins and "=" in word)  # variables for one command stand before it


def unknown(arguments: list[str]) -> list[str]:
    """Options that the command of these words does not have, or the word that is no command."""
    command: Any = COMMANDS
    rest = list(arguments)
    while getattr(command, "commands", None) and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return [rest[0]]
        command = command.commands[rest.pop(0)]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    if command is COMMANDS:
        known |= {"--install-completion", "--show-completion"}
    if "--" in rest:
        rest = rest[: rest.index("--")]
    return [word for word in rest if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]


def test_shell_snippets_are_shell() -> None:
    found = [text.replace("=...", "=x") for _, text in scripts()]
    assert len(found) > 60
    run = subprocess.run(
        ["bash", "-n"], input="\n".join(found), capture_output=True, text=True, check=False
    )  # one shell for all: a test of sixty processes would take as long as the rest of this file
    assert run.stderr == ""


def test_commands_of_snippets_and_texts_have_the_options_that_they_name() -> None:
    wrong, number = [], 0
    for page, script in scripts():
        for arguments in words(re.sub(r" +#.*", "", script)):
            number += 1
            wrong += [(page, arguments, item) for item in unknown(arguments)]
    for page in PAGES:
        for text in INLINE.findall(page.read_text(encoding="utf-8")):
            try:
                arguments = shlex.split(text)[1:]
            except ValueError:
                arguments = text.split()[1:]
            number += 1
            wrong += [(str(page.relative_to(PROJECT)), arguments, item) for item in unknown(arguments)]
    assert wrong == []
    assert number > 200


@pytest.mark.parametrize(
    "text", ["ocsf-lake querry x", "ocsf-lake query --fromat csv 'a'\n", "A=b ocsf-lake find --all y", "| ocsf-lake x"]
)
def test_a_wrong_command_would_be_found(text: str) -> None:
    assert [item for arguments in words(text) for item in unknown(arguments)]


def test_settings_of_the_pages_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(blocks("toml"))
    assert len(found) > 7
    for page, text in found:
        (tmp_path / "ocsf-lake.toml").write_text(text, encoding="utf-8")
        loaded = config.load()
        assert loaded != config.Settings.model_construct(), page


def test_what_the_page_on_alerts_says_of_signatures_verifies_one() -> None:
    ((_, program),) = (found for found in blocks("python") if found[0] == "docs/alerts.md")
    names: dict[str, Any] = {}
    exec(program, names)  # the page's own text
    headers = {"webhook-id": "a", "webhook-timestamp": "1"}
    mac = hmac.new(b"key", b"a.1.{}", hashlib.sha256).digest()
    headers["webhook-signature"] = f"v1,{base64.b64encode(mac).decode()}"
    assert names["verified"](b"key", headers, b"{}")
    assert not names["verified"](b"key", headers, b"{} ")
