"""Objects of S3 by the shorter way: which keys take it, and what it does when something goes wrong."""

import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ocsf_lake.inputs import listing
from ocsf_lake.storage import direct, objects, retry, s3
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_lake.storage.s3 import Access
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import OcsfMappersError, RetriableError, WriteError
from tests.servers import between, seaweed
from tests.servers.between import Between
from tests.servers.rgw import S3Server
from tests.servers.seaweed import TablesServer
from tests.support import often

pytestmark = pytest.mark.integration

SPELLED = [
    *("plain", "a b", " a", "a ", "a+b", "a#b", "a?b", "a&b=c", "%2F", "a%2Fb", "a%2fb", "%", "%zz", "a\\b", "a*b"),
    *("é", "e\u0301", "日本", "\U0001f512", "a:b", "~a", "'\"", "<a>", "a|b^c`d", "...", "..a", "a.", "a/.b/c"),
    *("a{b}[c]", "c" * 1000, "日" * 330, "a?versionId=b", "a%00b", "a%0Ab", "..%2Fa", "%2E%2E", "\ufeff", "a\u202eb"),
]
NOT_SPELLED = ["a//b", "a/", "/a", "a/./b", "a/../b", "./a", "../a", "a/.", "a/..", "a\nb", "a\x7fb", "a\tb", "", "//"]


@pytest.fixture
def proxy(s3_owner: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    """A store that can be troubled, with the bucket in it."""
    monkeypatch.setattr(retry, "sleep", lambda _: None)
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    with between.running(s3_owner.endpoint) as found:
        yield found
        s3.forget()


@pytest.fixture
def ref(s3_owner: S3Server, bucket: str) -> ObjectRef:
    """An object."""
    s3_owner.client().put_object(Bucket=bucket, Key="raw/a.json", Body=b"0123456789" * 10)
    return ObjectRef(f"s3://{bucket}/raw/a.json", hashlib.md5(b"0123456789" * 10).hexdigest(), 100)


def read(ref: ObjectRef, at: Between | S3Server, **more: Any) -> bytes:
    with objects.opened(ref, Access(at.endpoint, **more)) as file:
        return file.read()


# -- keys -------------------------------------------------------------------------------------------------------------
def test_a_key_is_spelled_where_obstore_keeps_it_as_it_is() -> None:
    import obstore
    from obstore.store import MemoryStore

    def kept(key: str) -> bool:
        store = MemoryStore()
        try:
            obstore.put(store, key, b"")
        except ValueError:
            return False
        return [item["path"] for page in obstore.list(store) for item in page] == [key]

    found = [*SPELLED, *NOT_SPELLED, *(f"a{chr(code)}b" for code in range(0x500) if code != ord("/"))]
    assert {key for key in found if kept(key)} == {key for key in found if direct.spells(key)}
    assert not [key for key in SPELLED if not direct.spells(key)]
    assert not [key for key in NOT_SPELLED if direct.spells(key)]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["gateway", "seaweed"])
def test_any_key_is_read_and_most_by_the_shorter_way(
    where: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: S3Server | TablesServer
    if where == "gateway":
        server = request.getfixturevalue("s3_owner")
        assert isinstance(server, S3Server)
        endpoint, client = server.endpoint, server.client()
        put = [*SPELLED, "a//b", "c/./b", "a/../b", "a\tb"]
    else:
        server = request.getfixturevalue("tables_server")
        assert isinstance(server, TablesServer)
        endpoint, client = server.s3, server.client("s3")
        for name, value in {"ACCESS_KEY_ID": seaweed.KEY, "SECRET_ACCESS_KEY": seaweed.SECRET}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        s3.forget()
        put = [key for key in SPELLED if key not in UNKNOWN_TO_SEAWEED and len(key.encode()) <= NAME_BYTES_OF_SEAWEED]
    bucket = f"keys-{os.urandom(8).hex()}"
    client.create_bucket(Bucket=bucket)
    for key in put:
        client.put_object(Bucket=bucket, Key=f"raw/{key}", Body=key.encode())
    got: list[str] = []
    really = direct.Bucket.get

    def get(self: direct.Bucket, key: str, etag: str, size: int) -> bytes:
        data = really(self, key, etag, size)
        got.append(key)
        return data

    monkeypatch.setattr(direct.Bucket, "get", get)
    access = Access(endpoint)
    found = {}
    for page in listing.pages(f"s3://{bucket}/raw", listing.Calls(), access):
        for ref in page:
            with objects.opened(ref, access) as file:
                found[ref.uri.removeprefix(f"s3://{bucket}/raw/")] = file.read()
    hidden = {key for key in put if any(step.startswith(".") for step in key.split("/"))}
    assert found == {key: key.encode() for key in put if key not in hidden}
    assert set(got) == {f"raw/{key}" for key in found if direct.spells(key)}
    s3.forget()


UNKNOWN_TO_SEAWEED = ("a\\b",)
"""Keys that it does not keep as they are."""
NAME_BYTES_OF_SEAWEED = 255


# -- reading ----------------------------------------------------------------------------------------------------------
def test_an_object_is_got_with_one_request(proxy: Between, ref: ObjectRef) -> None:
    for _ in range(2):
        assert read(ref, proxy, requester_pays=True) == b"0123456789" * 10
    first, second = proxy.of("GET")
    assert (first.by_obstore, second.by_obstore) == (True, True)
    assert first.headers["if-match"] == f'"{ref.etag}"'
    assert first.headers["x-amz-request-payer"] == "requester"
    assert [asked.method for asked in proxy.asked] == ["HEAD", "GET", "GET"]


@pytest.mark.parametrize(
    "trouble",
    ["503 SlowDown", "500 InternalError", "500 ", "400 RequestTimeout", "reset", "cut", "short", "damaged"],
)
def test_what_fails_is_asked_again_by_the_longer_way(trouble: str, proxy: Between, ref: ObjectRef) -> None:
    proxy.once(trouble, "GET")
    assert read(ref, proxy) == b"0123456789" * 10
    assert [asked.by_obstore for asked in proxy.of("GET")] == [True, False]


def test_an_etag_that_is_no_checksum_is_asked_about_once(proxy: Between, ref: ObjectRef) -> None:
    proxy.spoil = lambda asked: "damaged" if asked.method == "GET" else None  # as good as encrypted with KMS
    for _ in range(3):
        assert read(ref, proxy) == b"1123456789" + b"0123456789" * 9
    assert [asked.by_obstore for asked in proxy.of("GET")] == [True, False, True, True]


def test_an_answer_that_is_late_is_not_waited_for(
    proxy: Between, ref: ObjectRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "READ_SECONDS", 0.2)
    proxy.once("silent", "GET")
    assert read(ref, proxy) == b"0123456789" * 10
    assert [asked.by_obstore for asked in proxy.of("GET")] == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "error", "said"),
    [
        ("503 SlowDown", RetriableError, r"busy or out of order \(SlowDown\).*told so"),
        pytest.param("500 InternalError", RetriableError, "busy or out of order", marks=pytest.mark.slow),
        pytest.param("reset", RetriableError, "cannot be reached", marks=pytest.mark.slow),
        ("short", RetriableError, "cannot be reached: the answer has 50 bytes, not 100"),
        ("403 AccessDenied", ObjectError, r"access denied \(AccessDenied\).*s3:GetObject"),
        ("403 InvalidObjectState", ObjectError, "archived"),
        ("404 NoSuchKey", ObjectError, "gone since it was listed"),
        ("412 PreconditionFailed", ObjectError, "changed since it was listed"),
        ("400 ExpiredToken", OcsfMappersError, "credentials have expired; renew them"),
        ("403 SignatureDoesNotMatch", OcsfMappersError, "does not know these credentials"),
    ],
)
def test_trouble_that_stays_is_told_with_the_object(
    trouble: str, error: type[OcsfMappersError], said: str, proxy: Between, ref: ObjectRef, s3_owner: S3Server
) -> None:
    proxy.spoil = lambda asked: trouble if asked.method == "GET" else None
    with pytest.raises(error, match=said) as raised:
        read(ref, proxy)
    assert raised.value.where["object"] == ref.uri
    assert s3_owner.secret_key not in str(raised.value)
    assert len([asked for asked in proxy.of("GET") if asked.by_obstore]) <= retry.CALL_ATTEMPTS


def test_a_store_that_obstore_cannot_reach_is_left_to_s3fs(proxy: Between, ref: ObjectRef) -> None:
    proxy.spoil = lambda asked: "reset" if asked.method == "GET" and asked.by_obstore else None
    for _ in range(5):
        assert read(ref, proxy) == b"0123456789" * 10
    by_obstore = [asked.by_obstore for asked in proxy.of("GET")]
    assert (by_obstore.count(True), by_obstore.count(False)) == (direct.TRUSTED_FAILURES, 5)


@pytest.mark.slow
def test_a_store_that_does_not_heed_the_etag_is_found_out(
    s3_owner: S3Server, ref: ObjectRef, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    really = obstore.get
    monkeypatch.setattr(obstore, "get", lambda store, key, options: really(store, key))
    s3_owner.client().put_object(Bucket=bucket, Key="raw/a.json", Body=b"other")
    with pytest.raises(ObjectError, match="changed since it was listed"):
        read(ref, s3_owner)


def test_a_busy_moment_does_not_take_the_shorter_way_for_good(
    proxy: Between, ref: ObjectRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(direct.time, "monotonic", lambda: now[0])
    proxy.spoil = lambda asked: "503 SlowDown" if asked.method == "GET" and asked.by_obstore else None
    for _ in range(direct.TRUSTED_FAILURES):
        read(ref, proxy)
    proxy.spoil = lambda _: None
    proxy.asked.clear()
    read(ref, proxy)
    now[0] += direct.DISTRUST_SECONDS
    read(ref, proxy)
    assert [asked.by_obstore for asked in proxy.of("GET")] == [False, True]


@pytest.mark.parametrize(
    ("answers", "asks"),
    [(["403 "], 1), (["400 "], 1), (["405 "], 1), (["501 "], 1), (["503 ", "500 ", "reset"], 4)],
    ids=lambda found: "+".join(found) if isinstance(found, list) else str(found),
)
def test_a_bucket_that_says_nothing_about_itself_is_read(
    answers: list[str], asks: int, proxy: Between, ref: ObjectRef
) -> None:
    proxy.spoil = lambda asked: answers.pop(0) if answers and asked.method == "HEAD" else None
    assert read(ref, proxy) == b"0123456789" * 10
    assert [asked.by_obstore for asked in proxy.of("GET")] == [True]
    assert [asked.method for asked in proxy.asked].count("HEAD") == asks


def test_an_object_of_no_bytes_is_got(proxy: Between, s3_owner: S3Server, bucket: str) -> None:
    s3_owner.client().put_object(Bucket=bucket, Key="empty", Body=b"")
    assert read(ObjectRef(f"s3://{bucket}/empty", hashlib.md5(b"").hexdigest(), 0), proxy) == b""
    assert [asked.by_obstore for asked in proxy.of("GET")] == [True]


VARIABLES = {
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT": "http://127.0.0.1:1",
    "AWS_SERVER_SIDE_ENCRYPTION": "AES256",
    "AWS_SSE_CUSTOMER_KEY_BASE64": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "AWS_S3_EXPRESS": "true",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_UNSIGNED_PAYLOAD": "true",
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_CHECKSUM_ALGORITHM": "CRC64NVME",
    "AWS_REQUEST_PAYER": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    "AWS_BUCKET": "another-bucket",
    "AWS_TOKEN": "another-token",
    "AWS_COPY_IF_NOT_EXISTS": "no such way",
}
"""Variables that obstore reads and s3fs does not, or gives less weight than settings."""


@pytest.mark.parametrize("variable", often(VARIABLES, ["AWS_ENDPOINT_URL", "AWS_BUCKET", "AWS_TOKEN"]))
def test_variables_for_obstore_change_nothing(
    variable: str, proxy: Between, ref: ObjectRef, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, VARIABLES[variable])
    store = Store(f"s3://{bucket}/lake", Access(proxy.endpoint))
    assert read(ref, proxy) == b"0123456789" * 10
    assert (store.put_once("name", b"data"), store.put_once("name", b"other")) == (True, False)
    asked = [*proxy.of("GET"), *proxy.of("PUT")]
    longer = variable in ("AWS_SERVER_SIDE_ENCRYPTION", "AWS_COPY_IF_NOT_EXISTS")
    assert [by.by_obstore for by in asked] == [not longer] * 3
    for by in asked:
        assert by.path.startswith(f"/{bucket}/")
        assert "authorization" in by.headers
        assert not [name for name in by.headers if "encryption" in name or "payer" in name or "token" in name]
    for by in asked[1:]:
        assert by.headers["if-none-match"] == "*"
        assert "x-amz-checksum-sha256" in by.headers


def test_bytes_are_those_of_the_store_whatever_it_calls_them(s3_owner: S3Server, bucket: str) -> None:
    import gzip

    data = gzip.compress(b"{}")
    s3_owner.client().put_object(Bucket=bucket, Key="a.json", Body=data, ContentEncoding="gzip")
    assert read(ObjectRef(f"s3://{bucket}/a.json", hashlib.md5(data).hexdigest(), len(data)), s3_owner) == data


# -- large objects ----------------------------------------------------------------------------------------------------
@pytest.fixture
def large(s3_owner: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> tuple[ObjectRef, bytes]:
    """An object of several chunks that is not got whole."""
    monkeypatch.setattr(objects, "WHOLE_BYTES", 0)
    monkeypatch.setattr(direct, "CHUNK_BYTES", 1 << 20)
    data = os.urandom(5_000_000)
    s3_owner.client().put_object(Bucket=bucket, Key="large", Body=data)
    return ObjectRef(f"s3://{bucket}/large", hashlib.md5(data).hexdigest(), len(data)), data


def test_a_large_object_is_one_request_read_as_it_comes(proxy: Between, large: tuple[ObjectRef, bytes]) -> None:
    ref, data = large
    assert read(ref, proxy) == data
    assert [asked.by_obstore for asked in proxy.of("GET")] == [True]


def test_a_large_object_that_is_cut_off_is_read_on(proxy: Between, large: tuple[ObjectRef, bytes]) -> None:
    ref, data = large
    proxy.once("cut", "GET")
    with objects.opened(ref, Access(proxy.endpoint)) as file:
        assert file.read(1_000_000) + file.read() == data
    first, *others = [asked.by_obstore for asked in proxy.of("GET")]
    assert first
    assert others
    assert not any(others)


def test_a_large_object_that_is_read_here_and_there_is_not_read_whole(
    proxy: Between, large: tuple[ObjectRef, bytes]
) -> None:
    ref, data = large
    with objects.opened(ref, Access(proxy.endpoint)) as file:
        file.seek(-8, os.SEEK_END)
        assert file.read(8) == data[-8:]
        file.seek(100)
        assert file.read(8) == data[100:108]
    assert not [asked for asked in proxy.of("GET") if asked.by_obstore]


def test_a_large_object_that_changes_before_it_is_read_is_told(
    proxy: Between, large: tuple[ObjectRef, bytes], s3_owner: S3Server, bucket: str
) -> None:
    def read_late() -> None:
        with objects.opened(large[0], Access(proxy.endpoint)) as file:
            s3_owner.client().put_object(Bucket=bucket, Key="large", Body=b"other")
            file.read()

    with pytest.raises(ObjectError, match="changed while it was read"):
        read_late()


def test_a_large_object_that_changes_while_it_is_read_on_is_told(
    proxy: Between, large: tuple[ObjectRef, bytes], s3_owner: S3Server, bucket: str
) -> None:
    ref, data = large

    def read_late() -> None:
        with objects.opened(ref, Access(proxy.endpoint)) as file:
            assert file.read(1_000_000) == data[:1_000_000]
            s3_owner.client().put_object(Bucket=bucket, Key="large", Body=data[::-1])
            file.read()

    proxy.once("cut", "GET")
    with pytest.raises(ObjectError, match="changed while it was read"):
        read_late()


# -- writing ----------------------------------------------------------------------------------------------------------
def sent(way: str, store: Store, folder: Path, data: bytes) -> bool | None:
    """Writes `name` in one of the three ways."""
    if way == "put":
        store.put("name", pa.py_buffer(data))
        return None
    if way == "put_once":
        return store.put_once("name", data)
    (folder / "file").write_bytes(data)
    return store.put_new("name", folder / "file")


@pytest.mark.parametrize("way", ["put", "put_new", "put_once"])
def test_an_object_is_put_with_one_request(
    way: str, proxy: Between, bucket: str, s3_owner: S3Server, tmp_path: Path
) -> None:
    store = Store(f"s3://{bucket}/the lake", Access(proxy.endpoint, kms_key=s3_owner.kms_key))
    sent(way, store, tmp_path, b"data")
    (asked,) = proxy.of("PUT")
    assert asked.by_obstore
    assert asked.headers["if-none-match"] == "*"
    assert asked.headers["x-amz-checksum-sha256"] == "Om6weQ85rIfJTzhWst0sXREOaBFgImGpqSPTuyOtyLc="
    head = s3_owner.client().head_object(Bucket=bucket, Key="the lake/name")
    assert (head["SSEKMSKeyId"], head["ContentType"]) == (s3_owner.kms_key, "application/vnd.apache.parquet")
    assert head["Metadata"]["sha256"] == hashlib.sha256(b"data").hexdigest()
    assert ("claim" in head["Metadata"]) == (way != "put")


@pytest.mark.parametrize("shorter", [True, False])
@pytest.mark.parametrize("way", ["put", "put_new", "put_once"])
def test_an_object_whose_answer_was_lost_is_ours(
    way: str, shorter: bool, proxy: Between, bucket: str, s3_owner: S3Server, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(direct, "spells", lambda _: shorter)
    store = Store(f"s3://{bucket}/lake", Access(proxy.endpoint))
    proxy.once("lost", "PUT")
    assert sent(way, store, tmp_path, b"data") in (None, True)
    assert [asked.by_obstore for asked in proxy.of("PUT")] == [shorter, False]
    assert store.get("name") == b"data"
    if way != "put":
        assert sent(way, store, tmp_path, b"data") is False


@pytest.mark.parametrize("way", ["put_new", "put_once"])
def test_an_object_of_others_is_not_taken_for_ours(way: str, proxy: Between, bucket: str, tmp_path: Path) -> None:
    store = Store(f"s3://{bucket}/lake", Access(proxy.endpoint))
    store.put("name", pa.py_buffer(b"theirs"))
    proxy.once("lost", "PUT")
    assert sent(way, store, tmp_path, b"data") is False
    assert store.get("name") == b"theirs"


@pytest.mark.parametrize("way", ["put", "put_new", "put_once"])
def test_a_name_that_another_request_is_about_to_take_is_asked_for_again(
    way: str, proxy: Between, bucket: str, tmp_path: Path
) -> None:
    answers = ["409 ConditionalRequestConflict"] * 2
    proxy.spoil = lambda asked: answers.pop() if answers and asked.method == "PUT" else None
    store = Store(f"s3://{bucket}/lake", Access(proxy.endpoint))
    assert sent(way, store, tmp_path, b"data") in (None, True)
    assert len(proxy.of("PUT")) == 3
    assert store.get("name") == b"data"


def test_bytes_that_were_damaged_on_the_way_are_not_kept(proxy: Between, bucket: str) -> None:
    store = Store(f"s3://{bucket}/lake", Access(proxy.endpoint))
    proxy.once("flipped", "PUT")
    store.put("once", pa.py_buffer(b"data"))
    assert [asked.by_obstore for asked in proxy.of("PUT")] == [True, False]
    assert store.get("once") == b"data"
    proxy.spoil = lambda asked: "flipped" if asked.method == "PUT" else None
    with pytest.raises(RetriableError, match="Mismatch"):
        store.put("always", pa.py_buffer(b"data"))
    assert store.get("always") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "error", "said"),
    [
        ("503 SlowDown", RetriableError, "busy or out of order"),
        ("reset", RetriableError, "cannot be reached"),
        ("403 AccessDenied", WriteError, "access denied.*s3:PutObject"),
        ("400 InvalidRequest", WriteError, "cannot write to the lake"),
    ],
)
def test_trouble_with_writing_is_told(
    trouble: str, error: type[OcsfMappersError], said: str, proxy: Between, bucket: str, s3_owner: S3Server
) -> None:
    proxy.spoil = lambda asked: trouble if asked.method == "PUT" else None
    with pytest.raises(error, match=said) as raised:
        Store(f"s3://{bucket}/lake", Access(proxy.endpoint)).put("a", pa.py_buffer(b"data"))
    assert s3_owner.secret_key not in str(raised.value)


def test_a_store_without_conditions_is_written_to(proxy: Between, bucket: str) -> None:
    proxy.spoil = lambda asked: "501 NotImplemented" if "if-none-match" in asked.headers else None
    store = Store(f"s3://{bucket}/lake", Access(proxy.endpoint))
    store.put("a", pa.py_buffer(b"data"))
    assert (store.put_once("a", b"other"), store.put_once("b", b"data")) == (False, True)
    assert (store.get("a"), store.get("b")) == (b"data", b"data")


# -- processes --------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_forked_process_goes_the_longer_way_and_all_end_in_silence(s3_owner: S3Server, ref: ObjectRef) -> None:
    program = f"""
        import os
        from ocsf_lake.storage import direct, objects, s3
        from ocsf_lake.storage.objects import ObjectRef
        ref, access = ObjectRef({ref.uri!r}, {ref.etag!r}, {ref.size}), s3.Access({s3_owner.endpoint!r})
        def read():
            with objects.opened(ref, access) as file:
                assert len(file.read()) == 100
            return direct.bucket(s3.filesystem(access), ref.uri.split("/")[2]) is not None
        assert read()
        child = os.fork()
        if child == 0:
            os._exit(read() + 10)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
        assert read()
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_keys_of_a_role_are_renewed_before_they_expire(s3_owner: S3Server) -> None:
    fs = s3.filesystem(Access(s3_owner.endpoint, role=s3_owner.role))
    fs.connect()
    given = direct._credentials(fs)()
    own = direct._credentials(s3.filesystem(Access(s3_owner.endpoint)))()
    assert given["token"]
    assert given["expires_at"] is not None
    assert str(given["expires_at"].tzinfo) == "UTC"
    assert (own["access_key_id"], own["expires_at"]) == (s3_owner.access_key, None)
