"""S3 Tables' double for tests: SeaweedFS with its S3, its buckets of tables and its Iceberg REST catalog, on loopback.

It checks signatures and refuses tables that have a location of their own outside the bucket, objects beside a table's
own, and the removal of those. Up in about a second; the workers of one test run share it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import sharing

START_SECONDS = 60
KEY, SECRET = "owner", "owner-secret"
REGION = "us-east-1"


@dataclass(frozen=True)
class TablesServer:
    """Where it is."""

    s3: str
    rest: str

    def client(self, service: str) -> Any:
        """A client of boto3's for `s3` or `s3tables`."""
        import boto3

        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        return boto3.client(service, endpoint_url=self.s3, region_name=REGION, **keys)

    def new_bucket(self) -> str:
        """ARN of a new bucket of tables."""
        return str(self.client("s3tables").create_table_bucket(name=f"tables-{uuid.uuid4().hex}")["arn"])

    def properties(self, bucket: str) -> dict[str, str]:
        """What pyiceberg has to know of a bucket's catalog."""
        return {
            "type": "rest", "uri": self.rest, "warehouse": bucket,
            "rest.sigv4-enabled": "true", "rest.signing-name": "s3tables", "rest.signing-region": REGION,
            "client.access-key-id": KEY, "client.secret-access-key": SECRET,
            "s3.endpoint": self.s3, "s3.access-key-id": KEY, "s3.secret-access-key": SECRET, "s3.region": REGION,
        }  # fmt: skip


def shared(folder: Path) -> Iterator[TablesServer]:
    """The server that all who name this folder share; the first one starts it and the last one stops it."""
    if _program() is None:
        pytest.skip("needs SeaweedFS (extra `dev`): no weed")
    for facts in sharing.shared(folder, _start):
        yield TablesServer(facts["s3"], facts["rest"])


def _program() -> str | None:
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


def _start(folder: Path) -> dict[str, Any]:
    data = folder / "data"
    data.mkdir(parents=True)
    names = ("master", "volume", "filer", "s3", "admin")
    ports = sharing.free_ports(2 * len(names) + 1)
    options = {f"{name}.port": ports[2 * number] for number, name in enumerate(names)}
    # Else ten thousand above the others, which a port may not be.
    options |= {f"{name}.port.grpc": ports[2 * number + 1] for number, name in enumerate(names)}
    options |= {"s3.port.iceberg": ports[-1], "s3.port.lance": 0}
    program = _program()
    assert program is not None
    command = [program, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false"]
    command += ["-admin.ui=false", "-master.telemetry=false", *(f"-{name}={port}" for name, port in options.items())]
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {**keys, "HOME": str(folder)}
    pids = [sharing.begin(command, folder / "weed.out", env=environment, cwd=folder)]
    server = TablesServer(f"http://127.0.0.1:{options['s3.port']}", f"http://127.0.0.1:{options['s3.port.iceberg']}")
    try:
        _await(server)
    except BaseException:
        sharing.stop(pids)
        raise
    return {"s3": server.s3, "rest": server.rest, "pids": pids}


def _await(server: TablesServer) -> None:
    deadline = time.monotonic() + START_SECONDS
    for uri in (server.s3, f"{server.rest}/v1/config"):
        while True:
            try:
                urllib.request.urlopen(uri, timeout=2).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"SeaweedFS did not answer within {START_SECONDS} s") from None
                time.sleep(0.1)
