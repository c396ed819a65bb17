"""S3, on a real server: raw objects from it, a lake on it, and what its refusals mean."""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch
from ocsf_lake.ingest import run as ingest
from ocsf_lake.inputs import listing
from ocsf_lake.ledger.results import State
from ocsf_lake.query import query
from ocsf_lake.storage import direct, objects, retry, s3, transfer
from ocsf_lake.storage.objects import ObjectError, ObjectRef, Prefetcher
from ocsf_lake.storage.s3 import Access
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import ConfigError, RetriableError, WriteError
from tests.ocsf_lake.conftest import contents
from tests.servers.rgw import S3Server

pytestmark = pytest.mark.integration

Make = Callable[..., Settings]


@pytest.fixture
def access(s3_owner: S3Server) -> Access:
    return Access(s3_owner.endpoint)


@pytest.fixture
def on_s3(settings: Make, bucket: str, tmp_path: Path) -> Make:
    """Settings of a lake in the bucket, with its state in the test's folder."""
    return lambda **more: settings(**{"lake": f"s3://{bucket}/the lake", "state": tmp_path / "state", **more})


def uploaded(folder: Path, bucket: str, server: S3Server) -> str:
    client = server.client()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.put_object(Bucket=bucket, Key=f"raw/{path.relative_to(folder).as_posix()}", Body=path.read_bytes())
    return f"s3://{bucket}/raw"


@pytest.fixture
def raw(logs: Path, bucket: str, s3_owner: S3Server) -> str:
    """The logs as objects below `raw/`."""
    return uploaded(logs, bucket, s3_owner)


@pytest.fixture
def one(bucket: str, s3_owner: S3Server) -> str:
    """One object below `raw/`, for tests of access alone."""
    s3_owner.client().put_object(Bucket=bucket, Key="raw/a.json", Body=b"{}")
    return f"s3://{bucket}/raw"


def refs_at(uri: str, access: Access) -> list[ObjectRef]:
    return [ref for page in listing.pages(uri, listing.Calls(), access) for ref in page]


def read(uri: str, access: Access) -> list[bytes]:
    """The bytes of all objects at a URI, checked, listed and opened as a run does it."""
    objects.check([uri], access)
    found = []
    for ref in refs_at(uri, access):
        with objects.opened(ref, access) as file:
            found.append(file.read())
    return found


def keys(server: S3Server, bucket: str, prefix: str = "") -> dict[str, str]:
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", [])}


def rows(settings: Settings, sql: str) -> list[tuple[object, ...]]:
    with query.connected(settings, sql) as connection:
        return connection.execute(sql).fetchall()


# -- a lake on S3, from S3 --------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_lake_on_s3_from_s3_is_the_lake_on_a_disk_from_a_disk(
    raw: str, on_s3: Make, whole: Path, s3_owner: S3Server, bucket: str
) -> None:
    found = on_s3()
    summary = ingest.ingest([raw], found)
    assert (summary.counts.read, summary.counts.events, summary.counts.quarantined) == (146, 140, 2)
    assert rows(found, "SELECT count(*), count(DISTINCT source_object) FROM cloud_trail_mgmt") == [(80, 4)]
    assert rows(found, "SELECT count(*) FROM vpc_flow WHERE accountid = '012345678901'") == [(30,)]
    assert rows(found, "SELECT DISTINCT source_object[:5] FROM vpc_flow") == [("s3://",)]
    names = {key.removeprefix("the lake/") for key in keys(s3_owner, bucket, "the lake/")}
    folders = {name.rpartition("/")[0] for name in names if not name.startswith("_lake/")}
    assert folders == {name.rpartition("/")[0] for name in contents(whole)}
    before = keys(s3_owner, bucket)
    again = ingest.ingest([raw], found)
    assert (again.counts.read, again.known) == (0, 9)
    assert keys(s3_owner, bucket) == before


@pytest.mark.slow
def test_a_run_that_died_is_finished_by_the_next_one(
    logs: Path, bucket: str, on_s3: Make, s3_owner: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = uploaded(logs / "AWSLogs" / "111122223333" / "vpcflowlogs", bucket, s3_owner)
    found = on_s3(batch_objects=1)

    def die(failpoint: str, _: str) -> None:
        if failpoint == "registered":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", die)
        with pytest.raises(KeyboardInterrupt):
            ingest.ingest([raw], found, "aws_vpc_flow")
    assert ingest.ingest([raw], found, "aws_vpc_flow").counts.events == 30
    assert rows(found, "SELECT count(*), count(DISTINCT source_object) FROM vpc_flow") == [(30, 2)]
    assert len(keys(s3_owner, bucket, "the lake/aws/")) == 2


@pytest.mark.slow
def test_objects_too_large_to_be_got_whole_are_read_piece_by_piece(
    s3_owner: S3Server, bucket: str, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "WHOLE_BYTES", 0)
    data = os.urandom(1 << 20) * 20
    s3_owner.client().put_object(Bucket=bucket, Key="raw/large", Body=data)
    assert read(f"s3://{bucket}/raw", access) == [data]


def test_a_lake_needs_a_place_for_its_state(settings: Make, bucket: str, one: str) -> None:
    with pytest.raises(ConfigError, match="OCSF_LAKE_STATE"):
        ingest.ingest([one], settings(lake=f"s3://{bucket}/lake"))


# -- listing and reading ----------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_more_objects_than_a_page_are_listed(s3_owner: S3Server, bucket: str, access: Access) -> None:
    client = s3_owner.client()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: client.put_object(Bucket=bucket, Key=f"in/{n:05d}.json", Body=b"{}"), range(1_010)))
    refs = refs_at(f"s3://{bucket}/in", access)
    assert len(refs) == 1_010
    assert refs[0] == ObjectRef(f"s3://{bucket}/in/00000.json", hashlib.md5(b"{}").hexdigest(), 2)
    assert len(refs_at(f"s3://{bucket}/in/0000*", access)) == 10
    assert len(list(s3.walk(s3.filesystem(access), f"{bucket}/in"))) == 1_010
    with Prefetcher_(refs[:60], access) as opener:
        for ref in refs[:60]:
            with opener.opened(ref) as file:
                assert file.read() == b"{}"


class Prefetcher_(Prefetcher):  # noqa: N801
    def __enter__(self) -> "Prefetcher_":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_objects_are_fetched_ahead_within_bounds_and_in_any_order(
    s3_owner: S3Server, bucket: str, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "AHEAD_BYTES", 25)
    for number in range(6):
        s3_owner.client().put_object(Bucket=bucket, Key=f"in/{number}", Body=b"0123456789")
    refs = refs_at(f"s3://{bucket}/in", access)
    with Prefetcher_(refs, access) as opener:
        with opener.opened(refs[0]) as file:
            assert file.read() == b"0123456789"
        assert [ref.uri[-1] for ref in opener._fetched] == ["1"]
        for number in (4, 0, 5):
            with opener.opened(refs[number]) as file:
                assert file.read() == b"0123456789"


@pytest.mark.parametrize("whole_bytes", [0, 1 << 20])
def test_an_object_that_changed_or_went_after_listing_is_told(
    whole_bytes: int, s3_owner: S3Server, bucket: str, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "WHOLE_BYTES", whole_bytes)
    client = s3_owner.client()
    for key in ("changed", "gone"):
        client.put_object(Bucket=bucket, Key=key, Body=b"before")
    changed, gone = refs_at(f"s3://{bucket}", access)
    client.put_object(Bucket=bucket, Key="changed", Body=b"after")
    client.delete_object(Bucket=bucket, Key="gone")
    with pytest.raises(ObjectError, match="changed since it was listed"), objects.opened(changed, access):
        pass
    with pytest.raises(ObjectError, match="gone since it was listed"), objects.opened(gone, access):
        pass


def test_one_denied_object_does_not_stop_the_others(
    logs: Path, settings: Make, s3_owner: S3Server, bucket: str
) -> None:
    raw = uploaded(logs / "AWSLogs" / "111122223333" / "vpcflowlogs", bucket, s3_owner)
    denied = min(keys(s3_owner, bucket))
    resource = [f"arn:aws:s3:::{bucket}/{denied}"]
    statement = {"Effect": "Deny", "Principal": "*", "Action": ["s3:GetObject"], "Resource": resource}
    s3_owner.client().put_bucket_policy(Bucket=bucket, Policy=policy(statement))
    summary = ingest.ingest([raw], settings(), "aws_vpc_flow")
    assert summary.counts.events == 15
    failed = [item for item in summary.not_read if item.state is State.FAILED]
    assert [item.uri for item in failed] == [f"s3://{bucket}/{denied}"]
    assert "access denied" in failed[0].reason


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


# -- writing ----------------------------------------------------------------------------------------------------------
def test_the_same_bytes_are_put_once_and_other_bytes_replace_them(
    s3_owner: S3Server, bucket: str, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3_owner.client()
    store = Store(f"s3://{bucket}/lake", access)
    puts: list[str] = []
    really = transfer._put

    def put(*given: Any, **condition: str) -> None:
        try:
            really(*given, **condition)
            puts.append("stored")
        except direct.Changed:
            puts.append("refused")
            raise

    monkeypatch.setattr(transfer, "_put", put)
    for data in (b"one", b"one", b"one"):
        store.put("a/b", pa.py_buffer(data))
    assert puts == ["stored", "refused", "refused"]
    store.put("a/b", pa.py_buffer(b"two"))
    assert puts[3:] == ["refused", "stored"]
    found = client.get_object(Bucket=bucket, Key="lake/a/b")
    assert (found["Body"].read(), found["Metadata"]["sha256"]) == (b"two", hashlib.sha256(b"two").hexdigest())
    assert (store.size("a/b"), store.size("a/c")) == (3, None)
    assert store.sizes("a") == {"a/b": 3}
    store.remove(["a/b", "a/c"])
    assert store.size("a/b") is None


def test_large_files_are_put_in_parts(
    s3_owner: S3Server, bucket: str, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MULTIPART_BYTES", 12 << 20)
    monkeypatch.setattr(transfer, "PART_BYTES", 5 << 20)
    store = Store(f"s3://{bucket}/lake", access)
    data = os.urandom(1 << 20) * 13
    for _ in range(2):
        store.put("large", pa.py_buffer(data))
    found = s3_owner.client().get_object(Bucket=bucket, Key="lake/large")
    assert found["ETag"].strip('"').endswith("-3")
    assert found["Metadata"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert found["Body"].read() == data


def test_bytes_that_were_damaged_on_the_way_are_refused(
    bucket: str, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"s3://{bucket}/lake", access)
    monkeypatch.setattr(direct, "spells", lambda _: False)
    monkeypatch.setattr(transfer.hashlib, "md5", lambda data, usedforsecurity: hashlib.sha1(data[:-1]))
    with pytest.raises(WriteError, match="cannot write to the lake"):
        store.put("a", pa.py_buffer(b"data"))
    assert store.size("a") is None


def test_files_are_encrypted_with_the_key_of_the_settings(
    on_s3: Make, s3_owner: S3Server, bucket: str
) -> None:
    store = Store(f"s3://{bucket}/lake", on_s3(lake_kms_key=s3_owner.kms_key).lake_access)
    for _ in range(2):
        store.put("a", pa.py_buffer(b"secret"))
    head = s3_owner.client().head_object(Bucket=bucket, Key="lake/a")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", s3_owner.kms_key)
    assert read(f"s3://{bucket}/lake", store.access) == [b"secret"]
    with pytest.raises(ConfigError, match="nobody-s-key"):
        Store(f"s3://{bucket}/lake", Access(s3_owner.endpoint, kms_key="nobody-s-key")).put("b", pa.py_buffer(b"x"))


# -- who we are -------------------------------------------------------------------------------------------------------
@pytest.fixture
def as_stranger(s3_owner: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_owner.other_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_owner.other_secret_key)
    s3.forget()
    return s3_owner


def test_what_is_denied_is_said_before_anything_is_made(
    one: str, settings: Make, as_stranger: S3Server, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"access denied .*s3:ListBucket"):
        ingest.ingest([one], settings())
    assert not (tmp_path / "lake").exists()


def test_a_role_is_taken_on_with_its_external_id(one: str, settings: Make, as_stranger: S3Server) -> None:
    access = settings(input_role=as_stranger.role, input_external_id="shared-secret").input_access
    assert s3.role_request(access)["ExternalId"] == "shared-secret"
    assert read(one, access) == [b"{}"]
    with pytest.raises(WriteError, match="access denied"):
        Store(one, access).put("b", pa.py_buffer(b"x"))


def test_a_role_that_is_not_ours_is_told(one: str, as_stranger: S3Server) -> None:
    with pytest.raises(ConfigError, match="the role cannot be taken on"):
        read(one, Access(as_stranger.endpoint, role="arn:aws:iam:::role/nobody"))


@pytest.mark.slow
def test_who_reads_pays_where_the_bucket_asks_for_it(
    one: str, bucket: str, s3_owner: S3Server, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3_owner.client()
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    everyone = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": resources}
    client.put_bucket_policy(Bucket=bucket, Policy=policy(everyone))
    client.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_owner.other_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_owner.other_secret_key)
    s3.forget()
    with pytest.raises(ConfigError, match="access denied"):
        read(one, settings().input_access)
    assert read(one, settings(input_requester_pays=True).input_access) == [b"{}"]


def test_a_wrong_secret_is_told(one: str, access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3.forget()
    with pytest.raises(ConfigError, match=r"SignatureDoesNotMatch|AccessDenied"):
        read(one, access)


def test_no_credentials_at_all_are_told(one: str, access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    s3.forget()
    with pytest.raises(ConfigError, match="AWS_PROFILE"):
        read(one, access)


def test_a_bucket_that_is_not_there_is_told(access: Access, settings: Make) -> None:
    with pytest.raises(ConfigError, match="no bucket 'nobody-s'"):
        ingest.ingest(["s3://nobody-s/raw"], settings())
    with pytest.raises(ConfigError, match="no bucket 'nobody-s'"):
        Store("s3://nobody-s/lake", access).put("a", pa.py_buffer(b"x"))
    with pytest.raises(ConfigError, match="names no bucket"):
        ingest.ingest(["s3://"], settings())


def test_a_prefix_without_objects_is_told(bucket: str, settings: Make) -> None:
    with pytest.raises(ConfigError, match="there is nothing at"):
        ingest.ingest([f"s3://{bucket}/nothing/here"], settings())


# -- a store in trouble -----------------------------------------------------------------------------------------------
class Trouble(BaseHTTPRequestHandler):
    """Answers with the codes of its server one after the other, the last one for ever."""

    def do_GET(self) -> None:
        codes: list[str] = self.server.codes  # type: ignore[attr-defined]
        code = codes.pop(0) if len(codes) > 1 else codes[0]
        self.server.asked += 1  # type: ignore[attr-defined]
        body = f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode()
        if code == "ok":
            body = b"<ListBucketResult><KeyCount>1</KeyCount></ListBucketResult>"
        self.send_response({"SlowDown": 503, "ok": 200}.get(code, 400))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def trouble(s3_owner: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    monkeypatch.setattr(retry, "sleep", lambda _: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Trouble)
    server.asked = 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_busy_store_is_asked_again(trouble: Any) -> None:
    trouble.codes = ["SlowDown", "ok"]
    objects.check(["s3://bucket/raw"], Access(f"http://127.0.0.1:{trouble.server_port}"))
    assert trouble.asked == 3  # for the name, again, and for a folder of that name


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        pytest.param("SlowDown", RetriableError, "busy", marks=pytest.mark.slow),
        ("ExpiredToken", ConfigError, "credentials have expired; renew them"),
        ("SignatureDoesNotMatch", ConfigError, "does not know these credentials"),
        ("RequestTimeTooSkewed", ConfigError, "told so"),
    ],
)
def test_trouble_is_told_apart(code: str, error: type[Exception], said: str, trouble: Any) -> None:
    trouble.codes = [code]
    with pytest.raises(error, match=said):
        objects.check(["s3://bucket/raw"], Access(f"http://127.0.0.1:{trouble.server_port}"))


@pytest.mark.slow
def test_a_store_out_of_reach_can_be_tried_again(trouble: Any) -> None:
    trouble.shutdown()
    trouble.server_close()
    with pytest.raises(RetriableError, match="cannot be reached"):
        objects.check(["s3://bucket/raw"], Access(f"http://127.0.0.1:{trouble.server_port}"))
