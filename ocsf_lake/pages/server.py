"""A lake's page shown to a browser on this machine, and beside it a prompt that only reads.

Any user of the machine may open a connection to the loopback address, and so may any site that a browser shows. So the
address holds a secret, requests have to name this host, and a query has to come from our own page.
"""

from __future__ import annotations

import hmac
import secrets
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from ocsf_lake.config import Settings
from ocsf_lake.pages import facts as lake_facts
from ocsf_lake.pages import page, prompt
from ocsf_mappers.errors import ConfigError, OcsfMappersError
from ocsf_mappers.shown import redacted

HOST = "127.0.0.1"
RENEW_SECONDS = 300
"""A page that is older is made anew when it is asked for; a browser asks again after as long."""
ASKING_SECONDS = 1.0
"""So long a query waits for another one to end before it is refused."""
_BODY_BYTES = 4 * prompt.CHARACTERS
_IDLE_SECONDS = 30
_POLICY = (
    "default-src 'none'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Type": "text/html; charset=utf-8",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With less, a browser would say of our own form that it comes from nowhere.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server(ThreadingHTTPServer):
    """The server.

    Args:
        settings: The lake.
        port: Its port; 0 for any.
        first: First event day of the page; None for the newest thirty days.
        last: Last one.
    """

    daemon_threads = True

    def __init__(self, settings: Settings, port: int, first: date | None = None, last: date | None = None) -> None:
        super().__init__((HOST, port), _Handler)
        self.settings = settings
        self.token = secrets.token_urlsafe(24)
        self.names = tuple(f"{name}:{self.server_port}" for name in (HOST, "localhost"))
        self.asking = threading.Semaphore(1)
        self.closing = threading.Event()
        self._period = first, last
        self._making = threading.Lock()
        self._made: tuple[float, str] | None = None

    @property
    def url(self) -> str:
        """Where the page is; whoever knows it may read the lake."""
        return f"http://{self.names[0]}/{self.token}/"

    def page(self) -> str:
        """The page, made anew where it is old; one at a time."""
        with self._making:
            if self._made is None or time.monotonic() - self._made[0] > RENEW_SECONDS:
                facts = lake_facts.gather(self.settings, datetime.now(UTC), *self._period)
                self._made = time.monotonic(), page.render(facts, prompt="query", refresh=RENEW_SECONDS)
            return self._made[1]

    def ask(self, sql: str) -> prompt.Answer:
        """The answer to a query; one at a time."""
        if not self.asking.acquire(timeout=ASKING_SECONDS):
            return prompt.Answer(error="another query is under way; wait for it")
        try:
            return prompt.answered(self.settings, sql, closing=self.closing)
        finally:
            self.asking.release()

    def settle(self) -> None:
        """Ends what is asked, and lets nothing more begin: what still computes at its end aborts a process."""
        self.closing.set()
        self.asking.acquire()
        self._making.acquire()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A defect is shown; that a browser went away is none."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "ocsf-lake", ""
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        match self._place():
            case "":
                self._tried(self.server.page)
            case "query":
                self._tried(lambda: self._prompt(""))

    def do_POST(self) -> None:
        if self._place() != "query":
            return
        if self.headers.get("Origin", "") not in {f"http://{name}" for name in self.server.names}:
            self._refuse(403, "the query does not come from this page")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 9 or int(length) > _BODY_BYTES:
            self._refuse(413, "the query is too long")
            return
        body = self.rfile.read(int(length)).decode("utf-8", "replace")
        try:
            sql = parse_qs(body, max_num_fields=4).get("sql", [""])[0]
        except ValueError:
            self._refuse(400, "this is not a query from the page")
            return
        self._tried(lambda: self._prompt(sql.replace("\r\n", "\n")))

    def _place(self) -> str | None:
        """What is asked for, below the secret; None, and an answer, where it may not be had."""
        if self.headers.get("Host", "") not in self.server.names:
            self._refuse(421, "no such host")
            return None
        token, slash, place = self.path.partition("?")[0].removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()) or place not in ("", "query"):
            self._refuse(404, "no such page; the address stands where the server was begun")
            return None
        if not slash:  # links of the page are relative
            self.send_response(308)
            self.send_header("Location", f"/{token}/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return place

    def _prompt(self, sql: str) -> str:
        answer = self.server.ask(sql)
        return page.document(
            "prompt.j2", referrer="same-origin", lake=self.server.settings.lake, sql=page.lines(sql), most=prompt.ROWS,
            seconds=prompt.SECONDS, **vars(answer) | {"error": page.lines(redacted(answer.error))},
        )  # fmt: skip

    def _tried(self, make: Callable[[], str]) -> None:
        try:
            text, status = make(), 200
        except (OcsfMappersError, OSError) as error:
            text, status = page.document("error.j2", referrer="same-origin", message=str(error)), 500
        self._answer(status, text)

    def _refuse(self, status: int, message: str) -> None:
        self.close_connection = True
        self._answer(status, page.document("error.j2", referrer="no-referrer", message=message))

    def _answer(self, status: int, text: str) -> None:
        policy = _POLICY.format(style=page.style_hash())
        body = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Security-Policy": policy, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is written: the address holds the secret."""


def serve(
    settings: Settings, port: int, first: date | None, last: date | None, say: Callable[[str], None]
) -> None:
    """Shows the page until it is interrupted.

    Args:
        settings: The lake.
        port: The port; 0 for any free one.
        first: See `Server`.
        last: See `Server`.
        say: Is given the address.

    Raises:
        ConfigError: The port is taken or refused, or the page cannot be made.
    """
    try:
        server = Server(settings, port, first, last)
    except OSError as error:
        raise ConfigError(f"port {port} cannot be had: {error.strerror}; name another with --port") from error
    with server:
        server.page()  # what is wrong with the lake or the days is said here, not to a browser
        try:
            say(f"{server.url} shows the lake to anyone who has this address, on this machine; ^C stops it")
            server.serve_forever()
        except KeyboardInterrupt:
            server.settle()
            say("ended")
