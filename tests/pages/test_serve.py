"""The page as it is served: only to who has its address, from this host, and with a prompt that only reads."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.pages import charts, prompt, server
from ocsf_lake.pages.server import Server
from ocsf_mappers.errors import ConfigError
from tests.servers.browser import chromium
from tests.support import SAMPLE_LOGS

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A small lake, served."""
    settings = config.load(lake=str(tmp_path_factory.mktemp("served") / "lake"))
    ingest.ingest([str(SAMPLE_LOGS / "aws_vpc_flow/version_5.log")], settings)
    with pytest.MonkeyPatch.context() as patch, Server(settings, 0) as found:
        patch.setattr(charts, "find_spec", lambda _: None)
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(found: Server, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", found.server_port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"Host": found.names[0], **headers}.items():
            connection.putheader(name, value)
        if method == "POST":
            connection.putheader("Content-Length", str(len(body)))
            connection.putheader("Content-Type", FORM)
        connection.endheaders(body.encode())
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def query(found: Server, sql: str, **headers: str) -> tuple[int, str]:
    status, text, _ = ask(
        found, "POST", f"/{found.token}/query", urlencode({"sql": sql}),
        **{"Origin": f"http://{found.names[0]}", **headers},
    )  # fmt: skip
    return status, text


@pytest.mark.slow
def test_the_page_and_the_prompt_are_shown_to_who_has_the_address(served: Server) -> None:
    status, text, headers = ask(served, "GET", f"/{served.token}/")
    assert (status, "<h2>Coverage</h2>" in text, 'href="query"' in text) == (200, True, True)
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "same-origin")
    assert "access-control-allow-origin" not in headers
    assert ask(served, "GET", f"/{served.token}/query")[0] == 200
    status, _, headers = ask(served, "GET", f"/{served.token}")
    assert (status, headers["location"]) == (308, f"/{served.token}/")


@pytest.mark.parametrize("path", ["/", "/x/", "/{}x/", "/{}/..", "/{}/query/x", "/%C3%A9", "http://["])
def test_nobody_else_gets_anything(served: Server, path: str) -> None:
    status, text, _ = ask(served, "GET", path.format(served.token))
    assert status == 404
    assert "version_5" not in text
    assert served.token not in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "", "127.0.0.1.evil.example:1"])
def test_a_request_has_to_name_this_host(served: Server, host: str) -> None:
    assert ask(served, "GET", f"/{served.token}/", Host=host)[0] == 421


@pytest.mark.parametrize("origin", ["", "null", "https://evil.example", "http://127.0.0.1:1"])
def test_a_query_has_to_come_from_the_page(served: Server, origin: str) -> None:
    status, text = query(served, "SELECT 42 AS answer", Origin=origin)
    assert (status, "<td>" in text) == (403, False)


@pytest.mark.slow
def test_the_prompt_answers(served: Server) -> None:
    status, text = query(served, "SELECT count(*) AS n, '<img src=x onerror=alert(1)>' AS h FROM vpc_flow")
    assert (status, "<img" in text) == (200, False)
    assert "<td><bdi>&lt;img src=x onerror=alert(1)&gt;</bdi></td>" in text
    assert "The first 200 rows; there are more." in query(served, "FROM range(1000)")[1]
    assert "SELECT 1,\n  2</textarea>" in query(served, "SELECT 1,\r\n  2")[1]
    assert "2026-01-01" in query(served, "SELECT DATE '2026-01-01' AS d, [1, 2] AS l, NULL AS n")[1]


@pytest.mark.parametrize("sql", [
    "DROP VIEW vpc_flow", "COPY (SELECT 1) TO '/tmp/x.csv'", "SELECT * FROM read_text('/etc/passwd')",
    "INSTALL httpfs", "SET enable_external_access = true", "SELECT 1; SELECT 2", "ATTACH '/tmp/x.db'",
    "SELECT getenv('HOME')",
    "nonsense", "SELECT * FROM '/etc/passwd'", "PRAGMA database_list",
])  # fmt: skip
def test_the_prompt_reads_the_lake_and_nothing_else(served: Server, sql: str) -> None:
    status, text = query(served, sql)
    assert status == 200
    assert 'role="alert"' in text
    assert "root:x:" not in text
    assert "<table>" not in text


HEAVY = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b"


def test_a_query_that_takes_too_long_is_ended(served: Server) -> None:
    assert "ended after 0.3 seconds" in prompt.answered(served.settings, HEAVY, 0.3).error


@pytest.mark.slow
def test_an_interrupt_ends_the_server_and_the_query_under_way(
    served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[str] = []

    def interrupted(found: Server) -> None:
        asked = threading.Thread(target=lambda: answers.append(found.ask(HEAVY).error), daemon=True)
        asked.start()
        while found.asking.acquire(blocking=False):  # until the query has begun
            found.asking.release()
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupted)
    said: list[str] = []
    server.serve(served.settings, 0, None, None, said.append)
    assert (said[1:], answers) == (["ended"], ["ended, as the server ends"])


def test_a_long_query_is_refused_unread(served: Server) -> None:
    status, _ = query(served, "SELECT 1 --" + "x" * server._BODY_BYTES)
    assert status == 413
    place, origin = f"/{served.token}/query", f"http://{served.names[0]}"
    assert ask(served, "POST", place, "a=1&b=1&c=1&d=1&sql=SELECT", Origin=origin)[0] == 400
    assert "at most" in query(served, "SELECT 1 --" + "x" * prompt.CHARACTERS)[1]


def test_one_query_at_a_time(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ASKING_SECONDS", 0.01)
    with served.asking:
        assert "another query is under way" in query(served, "SELECT 1")[1]


def test_a_page_is_made_anew_when_it_is_old(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    before = served.page()
    assert served.page() is before
    monkeypatch.setattr(server, "RENEW_SECONDS", -1)
    assert served.page() is not before


def test_a_port_that_is_taken_is_named(served: Server) -> None:
    with pytest.raises(ConfigError, match=f"port {served.server_port} cannot be had"):
        server.serve(served.settings, served.server_port, None, None, print)


def test_a_lake_that_is_not_there_is_told_before_anything_is_served(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings: Settings = config.load(lake=str(tmp_path_factory.mktemp("no") / "lake"))
    with pytest.raises(ConfigError):
        server.serve(settings, 0, None, None, print)


@pytest.mark.slow
def test_a_browser_asks_through_the_form(served: Server) -> None:
    with chromium() as browser:
        shown = browser.new_page()
        wrong: list[str] = []
        shown.on("console", lambda message: wrong.append(message.text))
        shown.goto(served.url)
        shown.click("text=Ask")
        shown.fill("textarea", "SELECT 6 * 7 AS answer")
        shown.click("text=Run")
        assert shown.locator("td").inner_text() == "42"
        assert shown.input_value("textarea") == "SELECT 6 * 7 AS answer"
        assert wrong == []
