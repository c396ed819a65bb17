"""Which catalogs have copies, what requests are signed with, and what a catalog's answers become."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest.mock import Mock

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from ocsf_lake import config
from ocsf_lake.catalogs import iceberg_connection
from ocsf_lake.catalogs.base import Kind
from ocsf_lake.catalogs.iceberg_connection import (
    ACCESS,
    LakeFileIO,
    OwnFileIO,
    WaitingRestCatalog,
    are_copied,
    is_s3_tables,
)
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.storage import layout, s3
from ocsf_lake.upkeep import check
from ocsf_mappers.errors import ConfigError, RetriableError

BUCKET = "arn:aws:s3tables:eu-west-1:111122223333:bucket/lake"


@dataclass
class Answering:
    """A server that gives one answer to everything but the question for its configuration."""

    answer: tuple[int, bytes] = (200, b"{}")
    uri: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def answering() -> Iterator[Answering]:
    found = Answering()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(dict(self.headers))
            is_config = "/config" in self.path and found.answer[0] == 200
            code, body = (200, b'{"defaults": {}, "overrides": {}}') if is_config else found.answer
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_POST = do_GET  # noqa: N815 - the server's names

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    found.uri = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without credentials and without a region."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
                 "AWS_DEFAULT_REGION"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def settings(tmp_path: Path, **properties: str) -> config.Settings:
    given = {"type": "rest", "warehouse": BUCKET, **properties}
    return config.load(lake=str(tmp_path / "lake"), catalogs=["iceberg"], iceberg_properties=given)


@pytest.mark.parametrize(
    "properties",
    [
        {"warehouse": BUCKET},
        {"warehouse": "arn:aws-us-gov:s3tables:us-gov-west-1:111122223333:bucket/b"},
        {"uri": "https://s3tables.eu-west-1.amazonaws.com/iceberg", "warehouse": "lake"},
        {"uri": "https://vpce-1.s3tables.eu-west-1.vpce.amazonaws.com/iceberg"},
        {"rest.signing-name": "s3tables"},
        {"uri": "https://glue.eu-west-1.amazonaws.com/iceberg", "warehouse": "111122223333:s3tablescatalog/lake"},
        {"type": "glue", "glue.id": "111122223333:s3tablescatalog/lake"},
    ],
)
def test_s3_tables_is_known_by_its_endpoint_bucket_or_signature(properties: dict[str, str]) -> None:
    assert is_s3_tables(properties)
    assert are_copied("auto", properties)
    assert not are_copied("referenced", properties)


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"type": "sql", "uri": "sqlite:////data/s3tables/iceberg.db", "warehouse": "s3://before-s3tables/warehouse"},
        {"uri": "postgresql://lake@db.example.com/s3tables"},
        {"uri": "https://catalog.example.com/s3tables/iceberg", "rest.signing-name": "execute-api"},
    ],
)
def test_a_name_that_s3tables_is_part_of_is_not_s3_tables(properties: dict[str, str]) -> None:
    assert not are_copied("auto", properties)
    assert are_copied("copied", properties)


@pytest.mark.usefixtures("nobody")
def test_without_credentials_or_region_nothing_is_signed_and_the_reason_is_told(
    tmp_path: Path, answering: Answering
) -> None:
    signed = {"uri": answering.uri, "rest.sigv4-enabled": "true"}
    with pytest.raises(ConfigError, match=r"'rest\.signing-region'"), opened(settings(tmp_path, **signed)):
        pass
    signed["rest.signing-region"] = "eu-west-1"
    with pytest.raises(ConfigError, match="no credentials to sign"), opened(settings(tmp_path, **signed)):
        pass
    assert answering.asked == []


@pytest.mark.usefixtures("nobody")
def test_requests_are_signed_with_the_keys_and_for_the_region_of_this_machine(
    tmp_path: Path, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "hidden"), ("DEFAULT_REGION", "eu-north-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    given = settings(tmp_path, uri=answering.uri, **{"rest.sigv4-enabled": "true", "rest.signing-name": "s3tables"})
    with opened(given):
        pass
    (authorization,) = {headers["Authorization"] for headers in answering.asked}
    assert "Credential=key/" in authorization
    assert "/eu-north-1/s3tables/aws4_request" in authorization


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[]", b'{"config": {"s3.secret-access-key": "hidden"}}'])
def test_an_answer_that_is_not_icebergs_is_an_error_that_does_not_repeat_it(
    body: bytes, tmp_path: Path, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ocsf_lake.catalogs.definitions import definition

    answering.answer = (200, body)
    with opened(settings(tmp_path, uri=answering.uri)) as lake:
        monkeypatch.setattr(lake.catalog.all[0], "sleep", lambda _: None)
        with pytest.raises(RetriableError, match="it answered what is no TableResponse") as told:
            lake.catalog.create_or_evolve(definition("vpc_flow"))
        assert "hidden" not in str(told.value)
        assert told.value.__suppress_context__
        with pytest.raises(RetriableError, match="it answered what is no ListTablesResponse"):
            check.check(lake)


def test_a_catalog_whose_configuration_cannot_be_read_is_an_error_of_the_setup(
    tmp_path: Path, answering: Answering
) -> None:
    answering.answer = (404, b"not here")
    with pytest.raises(ConfigError, match="cannot open the Iceberg catalog"), opened(
        settings(tmp_path, uri=answering.uri)
    ):
        pass


@pytest.mark.parametrize("kind", [{"type": "REST"}, {}])
def test_a_rest_catalog_is_known_by_its_type_or_its_uri(
    kind: dict[str, str], tmp_path: Path, answering: Answering
) -> None:
    found = config.load(
        lake=str(tmp_path / "lake"), catalogs=["iceberg"], iceberg_properties={"uri": answering.uri, **kind}
    )
    with opened(found) as lake:
        assert isinstance(lake.catalog.all[0].catalog, WaitingRestCatalog)  # type: ignore[attr-defined]


@pytest.mark.parametrize("signed", ["true", "false"])
def test_a_catalog_that_never_answers_is_not_waited_for_without_end(
    signed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg_connection, "ANSWER_SECONDS", 0.1)
    keys = {"client.access-key-id": "key", "client.secret-access-key": "hidden", "rest.signing-region": "eu-west-1"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = settings(tmp_path, uri=uri, **{"rest.sigv4-enabled": signed}, **keys)
        with pytest.raises(RetriableError, match="does not answer"), opened(found):
            pass


def test_the_lakes_own_key_is_not_used_in_a_bucket_of_tables() -> None:
    access = {"endpoint": "http://127.0.0.1:1", "region": "eu-west-1", "kms_key": "the-lakes", "requester_pays": True}
    properties = {ACCESS: json.dumps(access)}
    assert "the-lakes" in str(LakeFileIO(properties).get_fs("s3").storage_options)
    own = OwnFileIO(properties).get_fs("s3")
    assert s3.is_s3(own)
    assert "the-lakes" not in str(own.storage_options)
    assert not own.storage_options.get("requester_pays")


@pytest.mark.slow
def test_a_catalog_that_nobody_has_written_to_lacks_files_and_is_not_made_by_reading(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.json"
    log.write_text('{"Tiny": [{"id": "a", "at": "2026-03-16T10:00:00Z", "account": "111122223333"}]}', encoding="utf-8")
    ingest.ingest([str(log)], config.load(lake=str(tmp_path / "lake")), source=tiny)
    settings = config.load(lake=str(tmp_path / "lake"), catalogs=["iceberg"])
    for _ in range(2):
        with opened(settings, reading=True, catalogs=True) as lake:
            findings = check.check(lake)
        assert {(finding.where, finding.kind) for finding in findings} == {("iceberg", Kind.TABLE_MISSING)}
    with opened(settings) as lake:
        assert check.sync(lake).left == []
        # A REST catalog says which questions it answers, and may not list its tables.
        monkeypatch.setattr(SqlCatalog, "list_tables", Mock(side_effect=NotImplementedError))
        assert check.check(lake) == []
        [file] = lake.files.of({"cloud_trail_mgmt": None})["cloud_trail_mgmt"]
        lake.catalog.drop(layout.batch_of(file.path))
        assert {finding.where for finding in check.check(lake)} == {"iceberg"}
