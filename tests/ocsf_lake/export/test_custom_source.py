"""What Security Lake would not take is refused, and who puts objects there is who may."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from ocsf_lake.export import custom_source, shipment
from ocsf_lake.ingest import run as ingest
from ocsf_lake.storage import s3, transfer
from ocsf_lake.storage.s3 import Access
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import ConfigError, WriteError
from tests.ocsf_lake.conftest import call, write
from tests.ocsf_lake.export.conftest import (
    API,
    REGION,
    Make,
    Send,
    die_at,
    downloaded,
    held_places,
    objects,
    sent_places,
)
from tests.ocsf_lake.killed import KilledError
from tests.servers.rgw import S3Server


# -- what Security Lake would not take --------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.5.0", "1.8.0"])
def test_newer_versions_of_ocsf_are_refused(
    version: str, settings: Make, send: Send, tmp_path: Path
) -> None:
    found = settings(ocsf_version=version, export_region=REGION)
    write(tmp_path / "in" / "a.json", json.dumps({"Records": [call(1)]}))
    ingest.ingest([str(tmp_path / "in")], found, "aws_cloudtrail")
    with pytest.raises(ConfigError, match=rf"in OCSF {version}, and Security Lake takes OCSF 1.3 or older"):
        send(found)
    assert not (tmp_path / "bucket").exists()
    assert [custom_source.is_accepted(name) for name in ("1.0.0", "1.1.0", "1.3.0", "1.4.0", "1.10.0", "2.0.0")] == [
        True, True, True, False, False, False
    ]  # fmt: skip


def test_a_source_of_several_classes_needs_one_named(filled: Make, send: Send) -> None:
    with pytest.raises(ConfigError, match=r"API Activity \[6003\].* as in --name calls-6003 --class 6003"):
        send(filled(), event_class=None)
    with pytest.raises(ConfigError, match=r"no events of a class 'autentication'.*did you mean 'authentication'"):
        send(filled(), event_class="autentication")
    for said in ("6003", "api_activity", "API Activity"):
        found = custom_source.custom_source("aws_cloudtrail", "s3://a", "x", said, filled())
        assert found.event_class.uid == API
    assert custom_source.custom_source("aws_vpc_flow", "s3://a", "x", None, filled()).event_class.uid == 4001


@pytest.mark.slow
def test_a_custom_source_takes_one_class_of_one_source(filled: Make, send: Send, tmp_path: Path) -> None:
    send(filled())
    before = objects(tmp_path / "bucket")
    with pytest.raises(ConfigError, match=r"takes events of aws_cloudtrail, class 6003; .* name for class 3002"):
        send(filled(), event_class="3002")
    with pytest.raises(ConfigError, match=r"takes events of aws_cloudtrail, class 6003; .* class 4001 of aws_vpc"):
        send(filled(), source="aws_vpc_flow", event_class=None)
    assert objects(tmp_path / "bucket") == before
    assert send(filled(), name="flows", source="aws_vpc_flow", event_class=None).events == 60


@pytest.mark.parametrize("name", ["", "x" * 21, "a/b", "a b", "..", "a:b", "naïve"])
def test_a_name_that_no_custom_source_can_have_is_refused(name: str, filled: Make, send: Send) -> None:
    with pytest.raises(ConfigError, match="not a custom source"):
        send(filled(), name=name)


def test_the_region_is_that_of_the_bucket(filled: Make) -> None:
    def region(bucket: str, said: str | None = None) -> str:
        return custom_source.custom_source("aws_vpc_flow", bucket, "x", None, filled(export_region=said)).region

    lake = "s3://aws-security-data-lake-us-gov-west-1-0abc1def"
    assert region(lake) == region(f"{lake}/") == region(lake, "us-gov-west-1") == "us-gov-west-1"
    assert region("s3://other", "eu-west-3") == "eu-west-3"
    with pytest.raises(ConfigError, match="set OCSF_LAKE_EXPORT_REGION"):
        region("s3://other")
    with pytest.raises(ConfigError, match="is one of us-gov-west-1"):
        region(lake, "eu-west-1")
    with pytest.raises(ConfigError, match="not a region"):
        region("s3://other", "../x")


def test_a_place_is_named_one_way(filled: Make, send: Send, tmp_path: Path) -> None:
    send(filled())
    assert send(filled(), f"file://{tmp_path}/bucket/").objects == []
    with pytest.raises(ConfigError, match=r"name the bucket alone: events go to .*/bucket/ext/calls/"):
        send(filled(), f"{tmp_path}/bucket/ext/calls")
    with pytest.raises(ConfigError, match="is the lake itself"):
        send(filled(), filled().lake)


# -- who we are there -------------------------------------------------------------------------------------------------
def test_the_role_is_that_of_the_custom_source(filled: Make) -> None:
    found = filled(
        export_role="arn:aws:iam::111122223333:role/AmazonSecurityLake-Provider-{name}-{region}",
        export_external_id="shared", export_kms_key="arn:aws:kms:key", lake_role="arn:aws:iam::1:role/lake",
    )  # fmt: skip
    access = custom_source.custom_source("aws_vpc_flow", "s3://a", "flows", None, found).access(found)
    assert s3.role_request(access) == {
        "RoleArn": f"arn:aws:iam::111122223333:role/AmazonSecurityLake-Provider-flows-{REGION}",
        "RoleSessionName": s3.SESSION_NAME, "ExternalId": "shared",
    }  # fmt: skip
    assert (access.kms_key, access.region) == ("arn:aws:kms:key", REGION)
    none = custom_source.custom_source("aws_vpc_flow", "s3://a", "flows", None, filled(lake_role="x")).access(filled())
    assert none.role is None


@pytest.fixture
def as_stranger(s3_owner: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_owner.other_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_owner.other_secret_key)
    s3.forget()
    return s3_owner


def may_put(server: S3Server, bucket: str, name: str) -> None:
    """Lets everybody put objects of a custom source, and nothing else: as the role that Security Lake makes may."""
    resource = [f"arn:aws:s3:::{bucket}/ext/{name}/*"]
    allowed = {"Effect": "Allow", "Principal": "*", "Action": ["s3:PutObject"], "Resource": resource}
    text = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    server.client().put_bucket_policy(Bucket=bucket, Policy=text)


@pytest.mark.slow
@pytest.mark.integration
def test_a_permission_to_put_objects_is_enough(
    filled: Make, send: Send, bucket: str, as_stranger: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WriteError, match="access denied"):
        send(filled(), f"s3://{bucket}")
    may_put(as_stranger, bucket, "calls")
    with monkeypatch.context() as patched:
        patched.setattr(shipment, "failpoint", die_at("put"))
        with pytest.raises(KilledError):
            send(filled(), f"s3://{bucket}")
    send(filled(), f"s3://{bucket}")
    # What a stranger puts is the stranger's, here.
    who = {"aws_access_key_id": as_stranger.other_access_key, "aws_secret_access_key": as_stranger.other_secret_key}
    downloaded(as_stranger, bucket, tmp_path / "bucket", **who)
    assert sent_places(tmp_path / "bucket") == held_places(filled())
    with pytest.raises(WriteError, match="access denied"):
        send(filled(), f"s3://{bucket}", "other")


@pytest.mark.slow
@pytest.mark.integration
def test_the_role_of_the_custom_source_is_taken_on(
    filled: Make, send: Send, bucket: str, as_stranger: S3Server
) -> None:
    name = as_stranger.role.rpartition("/")[2]
    may_put(as_stranger, bucket, name)
    found = filled(export_role=as_stranger.role.replace(name, "{name}"), export_external_id="shared")
    with pytest.raises(ConfigError, match="the role cannot be taken on"):
        send(found, f"s3://{bucket}", "nobody")
    assert send(found, f"s3://{bucket}", name).events == 80


@pytest.mark.integration
def test_objects_are_encrypted_with_the_key_of_the_settings(
    filled: Make, send: Send, bucket: str, s3_owner: S3Server, tmp_path: Path
) -> None:
    send(filled(export_kms_key=s3_owner.kms_key), f"s3://{bucket}")
    found = downloaded(s3_owner, bucket, tmp_path / "bucket")
    assert {item["SSEKMSKeyId"] for item in found.values()} == {s3_owner.kms_key}


@pytest.mark.slow
@pytest.mark.integration
def test_large_objects_are_put_in_parts_and_once(
    bucket: str, s3_owner: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MULTIPART_BYTES", 12 << 20)
    monkeypatch.setattr(transfer, "PART_BYTES", 5 << 20)
    data = secrets.token_bytes(13 << 20)
    (tmp_path / "large").write_bytes(data)
    store = Store(f"s3://{bucket}", Access(s3_owner.endpoint))
    assert [store.put_new("large", tmp_path / "large") for _ in range(2)] == [True, False]
    found = s3_owner.client().get_object(Bucket=bucket, Key="large")
    assert found["ETag"].strip('"').endswith("-3")
    assert found["Body"].read() == data
    assert s3_owner.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
