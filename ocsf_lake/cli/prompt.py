"""The prompt of `ocsf-lake query`: history, completion, statements of several lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocsf_lake.cli import terminal

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from ocsf_lake.config import Settings

HELP = (
    "a statement ends with ; and may take several lines; Tab completes; ^C stops a query or clears a line, ^D leaves",
    ".tables               the tables that have rows",
    ".columns TABLE [TEXT]  the paths of a table, or those with TEXT in them",
    ".explain SQL          what a query reads, not its rows",
    ".help, .quit",
)

_WORDS = ("help", "quit", "exit")
"""No statement begins with these; alone they are what they are with a dot, as at other prompts."""


def run(
    config: Settings, own: Mapping[str, Any], ask: Callable[[str], None], commands: Mapping[str, Callable[..., None]]
) -> None:
    """Asks for statements until there are no more.

    Args:
        config: The lake.
        own: Tables beside its own.
        ask: Answers a statement.
        commands: What begins with a dot -> what it does with the words behind it; `.explain` gets all of them as one.
    """
    session = _session(config, own)
    terminal.say(f"{config.lake}: .help says how, ^D leaves")
    while True:
        try:
            text = session.prompt("ocsf-lake> ").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if text.rstrip(";").lower() in _WORDS:
            text = f".{text.lower()}"
        if text.rstrip(";") in (".quit", ".exit"):
            return
        if text.rstrip("; \n"):
            _answered(text, ask, commands)


def _answered(text: str, ask: Callable[[str], None], commands: Mapping[str, Callable[..., None]]) -> None:
    """Answers one statement; what goes wrong is said, and the prompt goes on."""
    from ocsf_lake.cli.main import report

    try:
        if not text.startswith("."):
            ask(text)
            return
        name, _, rest = text.rstrip(";").partition(" ")
        if name == ".explain" and rest.strip():
            commands[name](rest.strip())
        elif name in commands and name != ".explain":
            commands[name](*rest.split())
        else:
            terminal.say(*HELP)
    except KeyboardInterrupt:
        terminal.say("stopped")
    except TypeError as error:  # words too many or too few
        if "argument" not in str(error):
            raise
        terminal.say(*HELP)
    except Exception as error:
        if report(error) is None:
            raise


def _session(config: Settings, own: Mapping[str, Any]) -> PromptSession[str]:
    os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")  # half terminals do not answer where the cursor is
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import ThreadedCompleter
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()
    session: PromptSession[str]

    @Condition
    def whole() -> bool:
        text = session.default_buffer.text.strip()
        return not text or text.startswith(".") or text.endswith(";") or text.lower() in _WORDS

    @keys.add("enter", filter=whole)
    def _(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    session = PromptSession(
        history=_history(), completer=ThreadedCompleter(_completer(config, own)), multiline=True, key_bindings=keys,
        complete_while_typing=False, prompt_continuation="       ...> ",
    )  # fmt: skip
    return session


def _history() -> Any:
    """Earlier statements, in a file of this user alone; of this session where there is no place for one."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(state).expanduser() / "ocsf-lake" / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.chmod(0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def _completer(config: Settings, own: Mapping[str, Any]) -> Any:
    from ocsf_lake.cli import completion

    trees = {name: completion.tree(schema) for name, schema in _schemas(config, own).items()}

    def values(table: str, path: str) -> Iterable[str]:
        return completion.values(config.ocsf_version, table).get(path.lower(), ())

    return completion.LakeCompleter(trees, _keywords(), values)


def _schemas(config: Settings, own: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> columns, of tables with rows and of what can always be asked; empty tables would fill the menu."""
    import pyarrow as pa

    from ocsf_lake.query import query
    from ocsf_mappers import registry

    schemas: dict[str, Any] = {}
    for name in query.searched(config):
        if name not in registry.tables():
            continue
        table = registry.table(name)
        names = [name, table.security_lake, table.latest.view if table.latest else None]
        schemas |= dict.fromkeys(filter(None, names), pa.struct(list(table.arrow)))
    schemas |= {name: pa.struct(list(rows.schema)) for name, rows in own.items()}
    others = query.columns_of(config, ["quarantine", "observables", "ledger_batches", "ledger_objects", "ledger_files"])
    return schemas | {name: pa.struct(list(columns)) for name, columns in others.items()}


def _keywords() -> list[str]:
    from ocsf_mappers import duck

    with duck.connect() as connection:
        return [name for (name,) in connection.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()]
