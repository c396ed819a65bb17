"""A real S3 server for tests: Ceph's RADOS gateway with one monitor and one store in memory, on loopback.

It checks signatures, conditional puts, checksums, SSE-KMS and roles as S3 does. Up in two seconds; the workers of one
test run share it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.servers import sharing

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool")
START_SECONDS = 90

ROLE = "reader"


@dataclass(frozen=True)
class S3Server:
    """Where it is, and who may use it."""

    endpoint: str
    access_key: str = "owner"
    secret_key: str = "owner-secret"
    other_access_key: str = "stranger"
    other_secret_key: str = "stranger-secret"
    kms_key: str = "lake-key"
    role: str = f"arn:aws:iam:::role/{ROLE}"

    def client(self, **more: Any) -> Any:
        """A boto3-like client of its owner; the same one each time, as one costs a tenth of a second of CPU."""
        given = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key, **more}
        return _client(self.endpoint, **given)


@cache
def _client(endpoint: str, **given: Any) -> Any:
    import botocore.session

    session = botocore.session.get_session()
    return session.create_client("s3", endpoint_url=endpoint, region_name="us-east-1", **given)


def shared(folder: Path) -> Iterator[S3Server]:
    """The server that all who name this folder share; the first one starts it and the last one stops it."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs a RADOS gateway (see .ci/install): no {', '.join(missing)}")
    for facts in sharing.shared(folder, _start):
        yield S3Server(facts["endpoint"])


def _start(folder: Path) -> dict[str, Any]:
    for name in ("mon", "osd", "rgw", "run", "log"):
        (folder / name).mkdir(parents=True)
    port, *monitor = sharing.free_ports(3)
    config = folder / "ceph.conf"
    cluster = str(uuid.uuid4())
    config.write_text(_config(folder, cluster, port, monitor))
    environment = {**os.environ, "CEPH_CONF": str(config)}
    pids: list[int] = []

    def run(*command: str, check: bool = True) -> str:
        done = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def begin(*command: str) -> None:
        pids.append(sharing.begin(list(command), folder / "log" / f"{command[0]}.out", env=environment))

    keyring, monmap = str(folder / "keyring"), str(folder / "monmap")
    try:
        run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        addresses = f"[v2:127.0.0.1:{monitor[0]},v1:127.0.0.1:{monitor[1]}]"
        run("monmaptool", "--create", "--clobber", "--fsid", cluster, "--addv", "a", addresses, monmap)
        run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
        begin("ceph-mon", "-i", "a", "-f")
        run("ceph", "osd", "create")
        run("ceph-osd", "-i", "0", "--mkfs")
        begin("ceph-osd", "-i", "0", "-f")
        run("ceph", "osd", "crush", "add", "osd.0", "1", "root=default", "host=h", check=False)
        begin("radosgw", "-n", "client.rgw", "-f")
        server = S3Server(f"http://127.0.0.1:{port}")
        admin = ("radosgw-admin", "-n", "client.rgw")
        owner, other = (server.access_key, server.secret_key), (server.other_access_key, server.other_secret_key)
        for name, secret in (owner, other):
            run(*admin, "user", "create", f"--uid={name}", f"--display-name={name}", f"--access-key={name}",
                f"--secret-key={secret}")  # fmt: skip
        _make_role(run, admin, server)
        _await(server.endpoint)
    except BaseException:
        sharing.stop(pids)
        raise
    return {**asdict(server), "pids": pids}


def _make_role(run: Any, admin: tuple[str, ...], server: S3Server) -> None:
    """A role that both may take on and that reads everything."""
    users = [f"arn:aws:iam:::user/{name}" for name in (server.access_key, server.other_access_key)]
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": users}, "Action": ["sts:AssumeRole"]}],
    }
    reads = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "arn:aws:s3:::*"}],
    }
    run(*admin, "role", "create", f"--role-name={ROLE}", "--path=/", f"--assume-role-policy-doc={json.dumps(trust)}")
    run(*admin, "role-policy", "put", f"--role-name={ROLE}", "--policy-name=reads", f"--policy-doc={json.dumps(reads)}")


def _await(endpoint: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(endpoint, timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
            continue
        return
    raise RuntimeError(f"the gateway did not answer within {START_SECONDS} s")


def _config(folder: Path, cluster: str, port: int, monitor: list[int]) -> str:
    key = base64.b64encode(os.urandom(32)).decode()
    return f"""
[global]
fsid={cluster}
mon_host=[v2:127.0.0.1:{monitor[0]},v1:127.0.0.1:{monitor[1]}]
mon_initial_members=a
auth_cluster_required=none
auth_service_required=none
auth_client_required=none
auth_supported=none
osd_pool_default_size=1
osd_pool_default_min_size=1
osd_pool_default_pg_num=4
osd_pool_default_pgp_num=4
osd_pool_default_pg_autoscale_mode=off
mon_allow_pool_size_one=true
osd_crush_chooseleaf_type=0
public_addr=127.0.0.1
cluster_addr=127.0.0.1
ms_bind_ipv6=false
run_dir={folder}/run
admin_socket=
pid_file=
log_file={folder}/log/$name.log
mon_data={folder}/mon
osd_data={folder}/osd
osd_objectstore=memstore
memstore_device_bytes=4294967296
mon_data_avail_crit=1
mon_data_avail_warn=2
# Else the monitor gathers changes for a second each time, and the start is a row of them: each pool is one.
paxos_propose_interval=0.02
# Messages that are kept for a crash, and are a fifth of the CPU time.
debug_ms=0/0
debug_objclass=0/0
debug_objecter=0/0
debug_osd=0/0
debug_rgw=0/0
keyring={folder}/keyring
crash_dir={folder}/run
heartbeat_file=
[client.rgw]
# Without these two the gateway hangs while it connects.
ms_mon_client_mode=crc
auth_client_required=none
# Else an answer with a body waits for the client's delayed acknowledgement, 40 ms.
rgw_frontends=beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_data={folder}/rgw
rgw_dns_name=127.0.0.1
rgw_crypt_require_ssl=false
rgw_crypt_s3_kms_backend=testing
rgw_crypt_s3_kms_encryption_keys=lake-key={key}
rgw_s3_auth_use_sts=true
rgw_sts_key=0123456789abcdef
"""
