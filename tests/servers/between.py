"""A proxy between us and a store, which spoils requests on the way there and answers on the way back."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

OBSTORE = "object_store"
"""What obstore calls itself."""


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def by_obstore(self) -> bool:
        """Whether obstore has sent it."""
        return self.headers["user-agent"].startswith(OBSTORE)


@dataclass
class Between:
    """Where it is, what was asked, and what goes wrong.

    `spoil` names the trouble for a request, None for none: the code of an error such as `503 SlowDown`; `reset`, `cut`
    (the answer ends half-way), `short` (and says so), `lost` (the store has it, the answer does not come), `flipped` (a
    byte of what is sent), `damaged` (a byte of the answer), `silent` (no answer before `wake` is set).
    """

    endpoint: str = ""
    asked: list[Asked] = field(default_factory=list)
    spoil: Callable[[Asked], str | None] = lambda _: None
    wake: threading.Event = field(default_factory=threading.Event)

    def once(self, trouble: str, method: str) -> None:
        """The trouble for the next request of this method, and for no other."""
        left = [trouble]
        self.spoil = lambda asked: left.pop() if left and asked.method == method else None

    def of(self, method: str) -> list[Asked]:
        """The requests of a method that name an object."""
        return [asked for asked in self.asked if asked.method == method and asked.path.count("/") > 1]


@contextmanager
def running(store: str) -> Iterator[Between]:
    """A proxy in front of a store.

    Args:
        store: The store's URL.
    """
    found = Between()
    target = urlsplit(store).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a body waits for the acknowledgement of its headers, 40 ms

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
            found.asked.append(asked)
            trouble = found.spoil(asked)
            if trouble == "reset":
                self.reset()
            elif trouble == "silent":
                found.wake.wait(30)
                self.close_connection = True
            elif trouble and trouble[0].isdigit():
                status, _, code = trouble.partition(" ")
                said = f"<Error><Code>{code}</Code><Message>told so</Message></Error>" if code else ""
                self.answer(int(status), {}, said.encode())
            else:
                if trouble == "flipped":
                    body = bytes([body[0] ^ 1]) + body[1:]
                self.forward(body, trouble)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815 - names that http.server asks for

        def forward(self, body: bytes, trouble: str | None) -> None:
            connection = http.client.HTTPConnection(target, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "expect":
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            if trouble == "short":
                data = data[: len(data) // 2]
            if trouble == "damaged":
                data = bytes([data[0] ^ 1]) + data[1:]
            if trouble == "lost":
                self.reset()
                return
            kept = {
                name: value for name, value in answer.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "content-length")
            }  # fmt: skip
            length = int(answer.getheader("Content-Length") or 0) if self.command == "HEAD" else len(data)
            self.answer(answer.status, kept, data[: len(data) // 2] if trouble == "cut" else data, length)
            if trouble == "cut":
                self.close_connection = True

        def answer(self, status: int, headers: dict[str, str], data: bytes, length: int | None = None) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) if length is None else length))
            self.end_headers()
            self.wfile.write(data)

        def reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            self.close_connection = True

        def finish(self) -> None:
            if self.connection.fileno() >= 0:
                super().finish()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is none of ours."""

        def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
            if request.fileno() >= 0:
                super().shutdown_request(request)

    server = Server(("127.0.0.1", 0), Handler)
    found.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.wake.set()
        server.shutdown()
        server.server_close()
        thread.join()
