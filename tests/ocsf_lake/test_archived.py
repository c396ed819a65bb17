"""Objects in an archive: named as such, with what to do, and read as soon as they are restored."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.plan import Planner, mappers
from ocsf_lake.inputs import listing
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.lake import opened
from ocsf_lake.ledger.results import State
from ocsf_lake.storage import s3
from ocsf_lake.storage.objects import ObjectRef
from tests.ocsf_lake.conftest import Make, call

KEY = "AWSLogs/111122223333/CloudTrail/eu-west-1/2025/03/11/111122223333_CloudTrail_eu-west-1_20250311T09{}Z_a.json.gz"
KEYS = [KEY.format(f"{number:02d}") for number in range(3)]
BODY = gzip.compress(json.dumps({"Records": [call(1)]}).encode(), mtime=0)


class Store(BaseHTTPRequestHandler):
    """An S3 store with three objects, of which its server says which are archived; it answers as S3 does."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        archived: dict[str, str] = self.server.archived  # type: ignore[attr-defined]
        name = path.removeprefix("/bucket/")
        if name in KEYS:
            if name in archived:
                self.answer(403, f"<Error><Code>InvalidObjectState</Code><Message>no</Message>{archived[name]}</Error>")
            else:
                self.answer(200, BODY)
            return
        items = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(BODY)}</Size><ETag>&quot;{number:032x}&quot;</ETag>"
            f"<StorageClass>{'GLACIER' if key in archived else 'STANDARD'}</StorageClass></Contents>"
            for number, key in enumerate(KEYS)
        )
        self.answer(200, f"<ListBucketResult><Name>bucket</Name><KeyCount>3</KeyCount>{items}</ListBucketResult>")

    def answer(self, status: int, body: str | bytes) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    server.archived = {}  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    s3.forget()


@pytest.mark.slow
def test_what_the_store_does_not_give_is_named_as_archived_and_read_once_restored(store: Any, settings: Make) -> None:
    found = settings(s3_endpoint=f"http://127.0.0.1:{store.server_port}", s3_region="eu-west-1")
    store.archived = {
        KEYS[0]: "<StorageClass>GLACIER</StorageClass>",
        KEYS[1]: "<StorageClass>INTELLIGENT_TIERING</StorageClass><AccessTier>DEEP_ARCHIVE_ACCESS</AccessTier>",
    }
    summary = ingest.ingest(["s3://bucket"], found, "aws_cloudtrail")
    assert summary.counts.events == 1
    assert [item.state for item in summary.not_read] == [State.FAILED, State.FAILED]
    first, second = (item.reason for item in summary.not_read)
    assert "archived (GLACIER)" in first
    assert "archived (DEEP_ARCHIVE_ACCESS)" in second
    assert "restore" in first
    assert "denied" not in first + second
    store.archived = {}
    again = ingest.ingest(["s3://bucket"], found, "aws_cloudtrail")
    assert (again.known, again.not_read) == (1, [])
    assert sum(source.objects for source in again.sources.values()) == 2


class Listing:
    """s3fs as it stands for AWS's own store, with one page."""

    protocol = ("s3",)
    endpoint_url = None

    class s3:  # noqa: N801 - as it is called there
        class meta:  # noqa: N801
            endpoint_url = "https://s3.eu-west-1.amazonaws.com"

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, name = path.partition("/")
        return bucket, name, None

    def unstrip_protocol(self, path: str) -> str:
        return f"s3://{path}"

    def call_s3(self, _: str, __: object, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        common = {"Size": 9, "ETag": '"e"'}
        under_way = {"IsRestoreInProgress": True}
        done = {"IsRestoreInProgress": False, "RestoreExpiryDate": "2027-01-01T00:00:00Z"}
        return {
            "Name": asked["Bucket"],
            "Contents": [
                {"Key": "a", **common, "StorageClass": "GLACIER"},
                {"Key": "b", **common, "StorageClass": "DEEP_ARCHIVE", "RestoreStatus": under_way},
                {"Key": "c", **common, "StorageClass": "GLACIER", "RestoreStatus": done},
                {"Key": "d", **common, "StorageClass": "GLACIER_IR"},
                {"Key": "e", **common, "StorageClass": "STANDARD"},
            ],
        }


def test_a_listing_of_aws_says_which_objects_are_archived() -> None:
    fs = Listing()
    found = {ref.uri: ref.archived for page in listing.below(fs, "bucket", Calls()) for ref in page}
    assert [uri[-1] for uri, archived in found.items() if archived] == ["a", "b"]
    assert fs.asked[0]["OptionalObjectAttributes"] == ["RestoreStatus"]


def test_an_object_that_is_listed_as_archived_is_in_no_batch_and_not_counted_as_work(settings: Make) -> None:
    refs = [ObjectRef(f"s3://bucket/{key}", "e" * 32, 9, archived=key != KEYS[2]) for key in KEYS]
    found: Settings = settings()
    with opened(found) as lake:
        of_source, _ = mappers("aws_cloudtrail", found)
        counted = Planner(lake, of_source).counted([refs], "aws_cloudtrail")
        planned = Planner(lake, of_source).plan([refs], "aws_cloudtrail")
        assert (counted.objects, counted.archived, counted.batches) == (3, 2, 1)
        assert len(planned.batch_ids) == 1
        assert {item.reason for item in planned.not_read} == {f"the object is archived: {s3.RESTORE}"}
        # Restored meanwhile.
        again = Planner(lake, of_source).plan(
            [[ObjectRef(ref.uri, ref.etag, ref.size) for ref in refs]], "aws_cloudtrail"
        )
        assert again.not_read == []
        assert len(again.batch_ids) == 2
