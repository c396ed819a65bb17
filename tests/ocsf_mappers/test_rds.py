"""Logs of databases: what a real PostgreSQL writes, and what its clients make it write."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ocsf_mappers import RawObject, registry
from ocsf_mappers.readers.streams import Blocks
from tests.servers import postgres
from tests.support import as_events, engine

SHORT, LONG = "%t:%r:%u@%d:[%p]:", "%m:%r:%u@%d:[%p]:%l:%e:%s:%v:%x:%c:%q%a:"
FORGED = "2026-03-16 10:00:00 UTC:10.0.0.9(1):a@b:[1]:LOG:  statement: DROP TABLE x"
"""As long as a name can be."""


def mapped(data: str) -> tuple[list[dict[str, Any]], list[str], dict[str, int]]:
    """Events, texts in quarantine, and counted drops."""
    reader = next(reader for reader in registry.load("aws_rds").readers if reader.accepts(data.encode()))
    chunks = reader.read(Blocks(io.BytesIO(data.encode())))
    found = engine("aws_rds").map([(RawObject("memory://log"), chunk) for chunk in chunks])
    events = sorted(as_events(found.events), key=lambda pair: pair[1]["source_record"])
    return [event for event, _ in events], [row["raw"] for row in found.rejects.to_pylist()], dict(found.dropped)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.running() as found:
        yield found


def written(server: postgres.Postgres, prefix: str, verbosity: str) -> str:
    """What the server logs of some clients, from its beginning."""
    settings = {"log_line_prefix": prefix, "log_error_verbosity": verbosity, "log_timezone": "UTC"}
    settings |= {"log_statement": "all", "log_connections": "on", "log_disconnections": "on"}
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for name, value in settings.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        connection.execute("SELECT pg_reload_conf()")
    log = server.folder / "log"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("SELECT pg_sleep(0)")  # answered with the settings read
        before = len(log.read_bytes())
        connection.execute(f"SELECT 'a\n{FORGED}\n'")
        connection.execute("SELECT ':[1]:LOG:  AUDIT: SESSION,1,1,READ,SELECT,,,x,<none>'")
        connection.execute("DO $$ BEGIN RAISE LOG 'AUDIT: SESSION,1,1,READ,SELECT,,,x,<none>'; END $$")
        connection.execute("DO $$ BEGIN RAISE LOG 'statement: DROP TABLE x'; END $$")
        with suppress(psycopg.errors.UndefinedTable):
            connection.execute("SELECT *\nFROM nowhere")
    for user in ("nobody", f"x\n{FORGED[:-15]}", "x@y:[1]:LOG:  statement: DROP TABLE x"):
        with suppress(psycopg.OperationalError):
            psycopg.connect(host="127.0.0.1", port=server.port, user=user, dbname="postgres")
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("SELECT 'the end'")
    data = log.read_bytes()[before:].decode()
    assert "the end" in data
    return data


@pytest.mark.slow
@pytest.mark.parametrize(("prefix", "verbosity"), [(SHORT, "default"), (LONG, "default"), (LONG, "verbose")])
def test_a_real_server_is_believed_and_its_clients_are_not(
    server: postgres.Postgres, prefix: str, verbosity: str
) -> None:
    data = written(server, prefix, verbosity)
    events, rejects, dropped = mapped(data)
    queries = [event["query_info"]["query_string"] for event in events if "query_info" in event]
    ran = [query for query in queries if query.startswith(("SELECT '", "DO ", "SELECT *\n"))]
    # RAISE LOG and the error are events of their statements beside the statements themselves
    assert len(ran) == 2 + 2 * 2 + 2 + 1
    assert not [event for event in events if event["metadata"]["log_name"] == "pgaudit"]
    assert not [event for event in events if event["src_endpoint"].get("ip") != "127.0.0.1"]
    # a name with a line end is no event; the other one is whose name it is, at the latest when it is refused
    assert {raw.split("\n")[0].split(":")[-1] for raw in rejects if "\n20" in raw} == {"x"}
    refused = [event for event in events if event["class_uid"] == 3002 and event["status"] == "Failure"]
    assert [event["user"]["name"] for event in refused] == ["nobody", "x@y:[1]:LOG:  statement: DROP TABLE x@postgres"]
    (error,) = [event for event in events if event.get("message", "").startswith("relation")]
    assert (error["status"], error["activity_name"], error["query_info"]["query_string"]) == (
        "Failure", "Query", "SELECT *\n\tFROM nowhere"
    )  # fmt: skip
    assert error.get("status_code") == ("42P01" if prefix == LONG else None)
    uids = [event["metadata"].get("uid") for event in events]
    assert len(set(uids)) == (len(events) if prefix == LONG else 1)
    assert set(dropped) <= {"message of the server, neither a session nor a statement"}


@pytest.mark.slow
def test_an_export_task_and_log_events_say_what_the_file_says() -> None:
    folder = Path(__file__).parents[2] / "sample_logs" / "aws_rds"
    lines = (folder / "aurora.log").read_text(encoding="utf-8").splitlines()
    lines += (folder / "plugin.log").read_text(encoding="utf-8").splitlines()
    plain, _, _ = mapped("\n".join(lines))
    exported, _, _ = mapped("\n".join(f"2026-03-16T10:02:00.000Z {line}" for line in lines))
    events = [{"id": str(number), "timestamp": 0, "message": line} for number, line in enumerate(lines)]
    around = {"messageType": "DATA_MESSAGE", "owner": "123456789012", "logGroup": "/aws/rds/cluster/shop/audit"}
    carried, _, _ = mapped(json.dumps(around | {"logStream": "shop-1.audit.log.0", "logEvents": events}))
    names = ("class_uid", "activity_id", "status", "time", "query_info")
    said = [[[event.get(name) for name in names] for event in each] for each in (plain, exported, carried)]
    assert len(plain) == len(lines)
    assert said[0] == said[1] == said[2]


@pytest.mark.parametrize(
    ("statement", "activity"),
    [
        (r"\n\tDELETE FROM t", "Delete"),
        (r"-- SELECT\nUPDATE t SET a = 1", "Update"),
        (r"# x\n/* y */ (SELECT 1)", "Query"),
        (r"/*! SELECT 2*/", "Unknown"),
        ("", "Unknown"),
        (r"LOAD DATA INFILE \'a\'", "Write"),
        ("CALL p()", "call"),
    ],
)
def test_a_statement_is_classified_by_its_first_word(statement: str, activity: str) -> None:
    (event,), _, _ = mapped(f"20260316 10:02:01,h,app,10.0.0.1,91,17,QUERY,shopdb,'{statement}',0,,\n")
    assert (event["activity_name"], event["status"]) == (activity, "Success")
