"""Events forwarded: each once, whatever is busy, refused or killed on the way."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake.config import Settings
from ocsf_lake.export import forward, sinks
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.query import query
from ocsf_lake.upkeep import compact
from ocsf_mappers.errors import ConfigError, RetriableError
from tests.ocsf_lake.conftest import ON_BOTH, Make, call
from tests.ocsf_lake.killed import KilledError
from tests.servers import receiver as http
from tests.servers.receiver import Answer, Got, HttpReceiver
from tests.servers.rgw import S3Server

SOURCE = "aws_cloudtrail"


class Index:
    """An index of OpenSearch, as far as `_bulk` with `create` goes."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.busy = self.refused = lambda _: False

    def __call__(self, got: Got) -> Answer:
        assert (got.path, got.headers["content-type"]) == ("/events/_bulk", "application/x-ndjson")
        assert got.body.endswith(b"\n")
        lines = [json.loads(line) for line in got.body.splitlines()]
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            uid = action["create"]["_id"]
            status = 201
            if uid in self.documents:
                status = 409
            elif self.busy(document):
                status = 429
            elif self.refused(document):
                status = 400
            else:
                self.documents[uid] = document
            error = {"type": "mapper_parsing_exception", "reason": "no \x1b such type"}
            items.append({"create": {"_id": uid, "status": status, **({"error": error} if status > 299 else {})}})
        return Answer(200, json.dumps({"errors": True, "items": items}).encode())


class Collector:
    """Splunk's event collector, which acknowledges when it was asked twice."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.asked: Counter[int] = Counter()

    def __call__(self, got: Got) -> Answer:
        assert got.headers["authorization"] == "Splunk t0ken"
        if got.path.startswith("/services/collector/ack"):
            (ack,) = got.json["acks"]
            self.asked[ack] += 1
            return Answer(200, json.dumps({"acks": {str(ack): self.asked[ack] > 1}}).encode())
        assert got.headers["x-splunk-request-channel"]
        self.events += [json.loads(line) for line in got.body.splitlines()]
        return Answer(200, json.dumps({"text": "Success", "code": 0, "ackId": len(self.asked)}).encode())


@pytest.fixture
def server() -> Iterator[HttpReceiver]:
    with http.running() as receiver:
        yield receiver


@pytest.fixture
def lake(settings: Make, tmp_path: Path) -> Settings:
    config = settings()
    _bring(config, tmp_path, range(6))
    return config


def _bring(config: Settings, folder: Path, numbers: range) -> None:
    file = folder / f"calls{numbers.start}.jsonl"
    file.write_text("\n".join(json.dumps(call(number)) for number in numbers), encoding="utf-8")
    assert not ingest.ingest([str(file)], config, SOURCE).failures


def _forward(config: Settings, target: str, **more: Any) -> forward.Summary:
    return forward.forward(config, SOURCE, target, sleep=lambda _: None, **more)


def _files(config: Settings) -> int:
    with opened(config, reading=True) as found:
        return sum(row["class_uid"] == 6003 for row in found.ledger.arrow("files").to_pylist())


def _uids(config: Settings) -> list[str]:
    sql = "SELECT metadata.uid FROM cloud_trail_mgmt ORDER BY 1"
    with query.connected(config, sql) as connection:
        return [uid for (uid,) in connection.execute(sql).fetchall()]


@pytest.mark.slow
@ON_BOTH
def test_opensearch_has_each_event_once(lake: Settings, server: HttpReceiver, tmp_path: Path) -> None:
    index = Index()
    server.answer = index
    target = f"opensearch+{server.url}/events"
    assert _forward(lake, target).events == 6
    assert _forward(lake, target).events == 0
    _bring(lake, tmp_path, range(6, 9))
    assert _forward(lake, target).events == 3
    assert sorted(one["metadata"]["uid"] for one in index.documents.values()) == _uids(lake)
    one = next(iter(index.documents.values()))
    assert (one["class_uid"], "source_object" in one, None in one.values()) == (6003, True, False)


@pytest.mark.slow
def test_what_is_merged_is_not_sent_again(lake: Settings, server: HttpReceiver, tmp_path: Path) -> None:
    index = Index()
    server.answer = index
    target = f"opensearch+{server.url}/events"
    _forward(lake, target)
    _bring(lake, tmp_path, range(6, 9))
    _forward(lake, target)
    before = _files(lake)
    compact.compact(lake)
    assert (before, _files(lake)) == (2, 1)
    assert _forward(lake, target).events == 0
    assert len(index.documents) == 9


def test_what_opensearch_is_too_busy_for_is_sent_again(lake: Settings, server: HttpReceiver) -> None:
    index, chance = Index(), random.Random(1)
    index.busy = lambda _: chance.random() < 0.4
    asked: list[int] = []

    def answer(got: Got) -> Answer | None:
        asked.append(1)
        return [None, Answer(503, b"busy", {"Retry-After": "1"})][len(asked) - 1] if len(asked) < 3 else index(got)

    server.answer = answer
    assert _forward(lake, f"opensearch+{server.url}/events").events == 6
    assert len(index.documents) == 6
    server.answer = lambda _: Answer(503)
    with pytest.raises(RetriableError, match="HTTP 503"):
        _forward(lake, f"opensearch+{server.url}/other")


@pytest.mark.slow
def test_events_that_are_refused_are_named_and_keep_back_no_other(lake: Settings, server: HttpReceiver) -> None:
    index = Index()
    uids = _uids(lake)
    index.refused = lambda document: document["metadata"]["uid"] == uids[2]
    server.answer = index
    target = f"opensearch+{server.url}/events"
    for _ in range(2):
        (error,) = _forward(lake, target).errors
        assert "1 event refused" in error
        assert "calls0.jsonl#3: no \\x1b such type" in error
        assert len(index.documents) == 5
    index.refused = lambda _: False
    assert not _forward(lake, target).errors
    assert len(index.documents) == 6


def test_a_request_that_is_too_large_is_divided(lake: Settings, server: HttpReceiver) -> None:
    index = Index()
    server.answer = lambda got: Answer(413) if got.body.count(b"\n") > 4 else index(got)
    assert _forward(lake, f"opensearch+{server.url}/events").events == 6
    assert len(index.documents) == 6


@pytest.mark.slow
def test_splunk_is_asked_whether_it_has_what_it_took(
    lake: Settings, server: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEC", "t0ken")
    collector = Collector()
    server.answer = collector
    target = f"splunk+{server.url}/main"
    assert _forward(lake, target, key_variable="HEC").events == 6
    assert _forward(lake, target, key_variable="HEC").events == 0
    assert sorted(one["event"]["metadata"]["uid"] for one in collector.events) == _uids(lake)
    assert len({one["fields"]["ocsf_lake_id"] for one in collector.events}) == 6
    one = collector.events[0]
    assert (one["index"], one["source"]) == ("main", SOURCE)
    assert float(one["time"]) * 1000 == one["event"]["time"]
    assert set(collector.asked.values()) == {2}


@pytest.mark.slow
def test_one_event_that_splunk_refuses(lake: Settings, server: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEC", "t0ken")
    bad = _uids(lake)[2]
    taken: list[str] = []  # Splunk has no key for repetitions: whatever is sent again is there twice

    def answer(got: Got) -> Answer:
        for number, line in enumerate(got.body.splitlines()):
            uid = json.loads(line)["event"]["metadata"]["uid"]
            if uid == bad:
                said = {"text": "Invalid data format", "code": 6, "invalid-event-number": number}
                return Answer(400, json.dumps(said).encode())
            taken.append(uid)
        return Answer(200, b'{"text": "Success", "code": 0}')

    server.answer = answer
    for events in (5, 0):
        summary = _forward(lake, f"splunk+{server.url}", key_variable="HEC")
        (error,) = summary.errors
        assert "1 event refused" in error
        assert "Invalid data format" in error
        assert summary.events == events
        assert sorted(taken) == sorted(set(_uids(lake)) - {bad}), "the others are not sent again"
    taken.clear()
    bad = ""
    assert _forward(lake, f"splunk+{server.url}", key_variable="HEC").events == 1
    assert len(taken) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["opensearch", "lines"])
@pytest.mark.parametrize("step", ["planned", "put", "shipped"])
def test_a_forwarding_that_dies_is_ended_by_the_next(
    lake: Settings, server: HttpReceiver, tmp_path: Path, kind: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index()
    server.answer = index
    target = f"opensearch+{server.url}/events" if kind == "opensearch" else str(tmp_path / "out")

    def die(at: str, _: str) -> None:
        if at == step:
            raise KilledError

    monkeypatch.setattr(sinks.Lines, "rows", 2)
    monkeypatch.setattr(sinks.OpenSearch, "rows", 2)
    monkeypatch.setattr(forward, "failpoint", die)
    with pytest.raises(KilledError):
        _forward(lake, target)
    monkeypatch.setattr(forward, "failpoint", lambda *_: None)
    _bring(lake, tmp_path, range(6, 9))
    _forward(lake, target)
    events = list(index.documents.values())
    for file in sorted((tmp_path / "out").rglob("*.gz")):
        events += [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert sorted(one["metadata"]["uid"] for one in events) == _uids(lake)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("opensearch+https://host:9200", "no index"),
        ("opensearch+https://host:9200/_all", "no index"),
        ("opensearch+https://host:9200/a/b", "opensearch\\+https://HOST"),
        ("opensearch+https://ada:pw@host/events", "--key-variable"),
        ("opensearch+ftp://host/events", "opensearch\\+https://HOST"),
        ("splunk+https://host:8088", "token"),
        ("splunk+https://[::1/x", "HOST:PORT"),
        ("opensearch+https://host:99999/x", "HOST:PORT"),
    ],
)
def test_targets_that_cannot_be(lake: Settings, target: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        _forward(lake, target)
    assert "pw@" not in str(error.value)


def test_a_host_in_capitals_is_the_same_sink(lake: Settings) -> None:
    made = sinks.sink("opensearch+HTTPS://Search.Example.com:9200/events", SOURCE, None, lake.lake_access, lake.mask)
    assert made.uri == "opensearch+https://search.example.com:9200/events"
    made.close()


def test_a_lake_is_no_sink_of_its_own(lake: Settings) -> None:
    for target in (lake.lake, f"{lake.lake}/out", str(Path(lake.lake).parent)):
        with pytest.raises(ConfigError, match="another place"):
            _forward(lake, target)


@pytest.mark.slow
@pytest.mark.integration
def test_json_lines_on_s3(lake: Settings, bucket: str, s3_owner: S3Server) -> None:
    s3 = lake.model_copy(update={"s3_endpoint": s3_owner.endpoint, "s3_region": "us-east-1"})
    target = f"s3://{bucket}/out"
    assert (_forward(s3, target).events, _forward(s3, target).events) == (6, 0)
    client = s3_owner.client()
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket, Prefix="out/")["Contents"]]
    objects = [client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys]
    lines = [line for data in objects for line in gzip.decompress(data).splitlines()]
    assert sorted(json.loads(line)["metadata"]["uid"] for line in lines) == _uids(lake)


def test_one_who_refuses_us_is_not_asked_again(lake: Settings, server: HttpReceiver) -> None:
    server.answer = lambda _: Answer(401, b"who are you?")
    with pytest.raises(ConfigError, match="HTTP 401: who are you"):
        _forward(lake, f"opensearch+{server.url}/events")
    assert len(server.got) == 1
    with opened(lake, reading=True) as found:
        shipments = found.ledger.arrow("export_shipments").to_pylist()
    assert [row["state"] for row in shipments] == ["planned"]
