"""AWS Glue's double for tests: moto's server in a thread of this process."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

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


def databases() -> MutableMapping[str, Any]:
    """What the double of Glue in this process holds, by the names of its databases."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.glue.models import glue_backends

    held: MutableMapping[str, Any] = glue_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].databases
    return held
