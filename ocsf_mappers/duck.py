"""DuckDB opened: nothing is loaded from outside, and what memory does not hold goes where no other user can read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb

from ocsf_mappers import temporary

_INTERRUPTED = re.compile(r"^Query interrupted$|KeyboardInterrupt(: )?\s*$", re.MULTILINE)
_INTERRUPTED_ALONE = re.compile(
    r"Query interrupted|Invalid Input Error: exporting a stream from the object registered as '\w+' failed: "
    r"KeyboardInterrupt: ?"
)


@contextmanager
def interruptible(*, over_logs: bool = False) -> Iterator[None]:
    """Has ^C in a call of DuckDB be what it is anywhere else.

    DuckDB asks Python for signals, columns and files, and makes an error of its own of what is raised meanwhile.

    Args:
        over_logs: Values of logs are computed with, and errors may quote them: only whole messages count, which DuckDB
            makes of nothing that a log says.

    Raises:
        KeyboardInterrupt: Instead of such an error.
    """
    try:
        yield
    except (duckdb.Error, RuntimeError) as error:
        if _INTERRUPTED_ALONE.fullmatch(str(error)) if over_logs else _INTERRUPTED.search(str(error)):
            raise KeyboardInterrupt from error
        raise


@interruptible()
def connect(**config: str | bool | int | float | list[str]) -> duckdb.DuckDBPyConnection:
    """An empty database in memory.

    Args:
        config: More of DuckDB's settings.
    """
    ours: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "temp_directory": spill_folder(),
        # DuckDB 2.0 ends with an internal error where it finds the first rows by a member of an object, and reads other
        # columns of them afterwards: WHERE actor.user.type = 'Root' ORDER BY time_dt LIMIT 10.
        "late_materialization_max_rows": 0,
    }
    connection = duckdb.connect(config={**ours, **config})
    # By itself DuckDB draws a bar among the data on stdout, even of a pipe, when a query takes two seconds. Where it is
    # off, as in Jupyter without ipywidgets, changing any of its settings is refused.
    ((drawn,),) = connection.execute("SELECT current_setting('enable_progress_bar')").fetchall()
    if drawn:
        connection.execute("SET enable_progress_bar = false; SET enable_progress_bar_print = false")
    return connection


def count_progress(connection: duckdb.DuckDBPyConnection) -> None:
    """Lets `query_progress` of a connection give a number, without a bar that DuckDB draws."""
    with suppress(duckdb.Error):  # refused where bars are off, as in Jupyter without ipywidgets
        connection.execute("SET enable_progress_bar_print = false; SET enable_progress_bar = true")


def spill_folder() -> str:
    """A folder of this process and this user alone; statements that are refused all other files may read it."""
    folder = temporary.folder() / "duckdb"
    folder.mkdir(exist_ok=True)
    return str(folder)
