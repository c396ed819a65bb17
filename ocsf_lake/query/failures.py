"""DuckDB's errors about the lake's files and its memory, as ours: which file, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from ocsf_mappers.errors import QueryError, ReadError

_RAISED = re.compile(r"^[A-Za-z_][\w.]*: .*$", re.MULTILINE)
"""The lines of a traceback that name an error."""


@contextmanager
def translate_errors(paths: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Translates DuckDB's errors about one of the lake's files into one that names the file and what to do.

    Args:
        paths: The lake's files; asked only after an error.
    """
    try:
        yield
    except (duckdb.Error, FileNotFoundError) as error:
        message = str(error)
        if message.startswith("Out of Memory Error"):
            raise QueryError(
                "the query needs more memory than setting query_memory_bytes (OCSF_LAKE_QUERY_MEMORY_BYTES) lets it "
                "have; an ORDER BY needs less with a LIMIT, or with fewer columns, and without it rows are streamed: "
                f"{message.splitlines()[0]}"
            ) from error
        path = next((path for path in paths() if path in message), None)
        # An error of a file system of Python comes as its traceback, and DuckDB may add where in the query it was.
        raised = _RAISED.findall(message) if message.startswith("Traceback") else []
        if path is None and not raised:
            raise
        if path is not None and _is_denied(path):  # DuckDB finds no such file where it may not enter the folder
            raise ReadError(
                "a file of the lake cannot be read: permission denied; it may be there and whole, and nothing is to be "
                "repaired: let this user read the lake's files and enter its folders (setting umask for new ones)",
                file=path,
            ) from error
        deep = ""
        is_gone = isinstance(error, FileNotFoundError) or any(line.startswith("FileNotFoundError") for line in raised)
        if "No files found" in message or is_gone:
            state = "is gone"
        elif raised:
            raise ReadError(f"a file of the lake cannot be read: {raised[-1]}", file=path) from error
        else:
            state, deep = f"is damaged ({message.splitlines()[0]})", " --deep"
        raise ReadError(
            f"a file of the lake {state}, and a query without its rows would be wrong; `ocsf-lake catalog check{deep}` "
            f"lists what else is, `ocsf-lake catalog sync{deep}` makes it again from the raw objects, or "
            "says what else can be done; a query of other days, accounts or regions does without it",
            file=path,
        ) from error


def _is_denied(path: str) -> bool:
    """Whether this user may not read a file, or not look for it; on S3 an error says so itself."""
    try:
        Path(path).open("rb").close()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def allowed(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The files that a connection may open, see `query.connect`."""
    ((paths,),) = connection.execute("SELECT current_setting('allowed_paths')").fetchall()
    return list(paths)
