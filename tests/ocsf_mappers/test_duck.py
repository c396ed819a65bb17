"""DuckDB as every room opens it."""

import subprocess
import sys

SLOW = """
from ocsf_mappers import duck
connection = duck.connect()
connection.execute("SET progress_bar_time = 1")  # as if a query of a millisecond were a long one
connection.execute("CREATE TABLE t AS SELECT i, repeat('x', 100) || i AS s FROM range(500000) r(i)")
rows = connection.sql("SELECT i, md5(s) AS m FROM t ORDER BY m").to_arrow_table()
"""


def test_nothing_is_drawn_among_the_data_while_a_query_takes_long() -> None:
    run = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "")
