"""AWS Glue's double for tests: moto's server in a thread of this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


def running() -> Iterator[str]:
    """The endpoint of a server that knows nothing yet."""
    server = pytest.importorskip("moto.server", reason="needs moto (extra `dev`)")
    found = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    host, port = found.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        found.stop()
