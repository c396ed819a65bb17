"""Requests to OpenSearch of AWS: a receiver reckons each signature again, and takes no other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ocsf_lake.export import sinks
from ocsf_lake.export.sinks import Event
from ocsf_lake.storage.s3 import Access
from ocsf_mappers.errors import ConfigError
from tests.servers import receiver as http
from tests.servers.receiver import Answer, Got, HttpReceiver

OURS = Credentials("AKIDEXAMPLE", "a secret key", "a session token")
EVENTS = [Event(f"id{number}", 1_700_000_000_000, f"s3://logs/a#{number}", {"message": "ü"}) for number in range(3)]


class Domain:
    """Amazon OpenSearch, as far as signatures go: what is signed is made again from the request alone."""

    def __init__(self, url: str, service: str, region: str = "eu-west-1") -> None:
        self.url, self.service, self.region = url, service, region
        self.documents: dict[str, Any] = {}
        self.busy = 0

    def __call__(self, got: Got) -> Answer:
        if self.busy:
            self.busy -= 1
            return Answer(503)
        if not self._is_signed(got):
            text = f"The request signature we calculated does not match, x-amz-security-token:{OURS.token}"
            return Answer(403, json.dumps({"message": text}).encode())
        lines = [json.loads(line) for line in got.body.splitlines()]
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            self.documents[action["create"]["_id"]] = document
            items.append({"create": {"status": 201}})
        return Answer(200, json.dumps({"items": items}).encode())

    def _is_signed(self, got: Got) -> bool:
        """The signature of the secret key over the request as it came."""
        given = got.headers["authorization"]
        names = given.split("SignedHeaders=")[1].split(",")[0].split(";")
        if not {"host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"} <= set(names):
            return False
        if got.headers["x-amz-content-sha256"] != hashlib.sha256(got.body).hexdigest():
            return False
        if got.headers["host"] != self.url.removeprefix("http://"):
            return False
        headers = {name: got.headers[name] for name in names if name != "x-amz-security-token"}
        request = AWSRequest(got.method, self.url + got.path, headers=headers, data=got.body)
        request.context["timestamp"] = got.headers["x-amz-date"]
        request.headers["X-Amz-Security-Token"] = str(OURS.token)
        signer = SigV4Auth(OURS.get_frozen_credentials(), self.service, self.region)
        scope = f"{got.headers['x-amz-date'][:8]}/{self.region}/{self.service}/aws4_request"
        text = signer.string_to_sign(request, signer.canonical_request(request))
        return f"Credential={OURS.access_key}/{scope}," in given and given.endswith(
            f"Signature={signer.signature(text, request)}"
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpReceiver]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OURS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OURS.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", str(OURS.token))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with http.running() as receiver:
        yield receiver


def _sink(server: HttpReceiver, sign: str) -> sinks.Sink:
    return sinks.sink(f"opensearch+{server.url}/events", "s", None, Access(), 0o077, lambda _: None, sign)


@pytest.mark.parametrize("service", ["es", "aoss"])
def test_what_is_signed_is_taken(server: HttpReceiver, service: str) -> None:
    server.answer = domain = Domain(server.url, service)
    domain.busy = 2
    sink = _sink(server, f"{service}:eu-west-1")
    sink.put("part", EVENTS)
    sink.close()
    assert list(domain.documents) == ["id0", "id1", "id2"]
    assert OURS.secret_key not in repr(server.got)
    assert "AKID" not in sink.uri


@pytest.mark.parametrize("wrong", ["service", "region", "key", "body"])
def test_a_wrong_signature_is_refused_and_no_secret_is_told(
    server: HttpReceiver, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    server.answer = domain = Domain(server.url, "es")
    if wrong == "key":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another key")
    if wrong == "body":
        take = domain.__call__
        server.answer = lambda got: take(Got(got.method, got.path, got.headers, got.body + b"{}\n{}\n"))
    sink = _sink(server, {"service": "aoss:eu-west-1", "region": "es:us-east-1"}.get(wrong, "es:eu-west-1"))
    with pytest.raises(ConfigError, match=r"403.*does not match") as error:
        sink.put("part", EVENTS)
    sink.close()
    assert not domain.documents
    assert str(OURS.token) not in str(error.value)


def test_credentials_that_change_are_used(server: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = Domain(server.url, "es")
    sink = _sink(server, "es:eu-west-1")
    assert isinstance(sink, sinks.OpenSearch)
    assert sink.signer is not None
    # as those of a role do when they end
    monkeypatch.setattr(sink.signer.credentials, "secret_key", "another key")
    with pytest.raises(ConfigError, match="403"):
        sink.put("part", EVENTS)
    sink.close()


@pytest.mark.parametrize(
    ("host", "sign", "region"),
    [
        ("search-logs-abc.eu-west-1.es.amazonaws.com", "es", "eu-west-1"),
        ("abc.us-gov-west-1.aoss.amazonaws.com", "aoss", "us-gov-west-1"),
        ("search-logs-abc.aos.ap-southeast-2.on.aws", "es", "ap-southeast-2"),
        ("logs.example.com", "es:eu-north-1", "eu-north-1"),
    ],
)
def test_the_region_is_in_the_host_or_given(server: HttpReceiver, host: str, sign: str, region: str) -> None:
    sink = sinks.sink(f"opensearch+https://{host}/events", "s", None, Access(), 0o077, sign=sign)
    assert isinstance(sink, sinks.OpenSearch)
    assert sink.signer is not None
    assert (sink.signer.service, sink.signer.region) == (sign.partition(":")[0], region)
    sink.close()


@pytest.mark.parametrize(
    ("target", "sign", "key", "reason"),
    [
        ("opensearch+https://logs.example.com/events", "es", None, "does not say its region: --sign es:REGION"),
        ("opensearch+https://eu-west-1.example.com/events", "es", None, "does not say its region"),
        ("opensearch+https://logs.example.com/events", "s3:eu-west-1", None, "--sign takes es"),
        ("opensearch+https://logs.example.com/events", "es:../../etc", None, "--sign takes es"),
        ("opensearch+https://logs.example.com/events", "es:eu-west-1", "KEY", "in place of --key-variable"),
        ("splunk+https://logs.example.com/events", "es:eu-west-1", None, "is for OpenSearch"),
        ("s3://bucket/events", "es:eu-west-1", None, "is for OpenSearch"),
    ],
)
def test_what_cannot_be_signed_is_said_before_anything_is_sent(
    server: HttpReceiver, target: str, sign: str, key: str | None, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        sinks.sink(target, "s", key, Access(), 0o077, sign=sign)


def test_without_credentials_nothing_is_sent(server: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigError, match="no AWS credentials"):
        _sink(server, "es:eu-west-1")
