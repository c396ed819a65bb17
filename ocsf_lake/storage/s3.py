"""S3 and stores that speak its protocol: who we are there, what is there, and what a refusal means.

One connection pool per way of access, kept for the life of the process. Requests are tried again by botocore when the
store is busy; what still fails comes out as one of this project's errors, with the permission or setting to look at.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from ocsf_lake.storage import retry
from ocsf_mappers.errors import ConfigError, OcsfMappersError, RetriableError

if TYPE_CHECKING:
    # Imported where they are used: half a second that a lake on a disk does not need.
    from s3fs import S3FileSystem

PROTOCOLS = ("s3", "s3a")
SESSION_NAME = "ocsf-lake"
ATTEMPTS = 3
"""How often botocore itself asks a busy store again; `ocsf_lake.storage.retry` goes on after it, with longer pauses."""

BUSY = frozenset(
    """
    SlowDown Throttling ThrottlingException ThrottledException RequestLimitExceeded TooManyRequestsException
    RequestThrottled ProvisionedThroughputExceededException BandwidthLimitExceeded ServiceUnavailable InternalError
    InternalFailure InternalServiceException InternalServerException OperationTimeoutException
    ConcurrentModificationException RequestTimeout OperationAborted ConditionalRequestConflict 500 502 503 504
    """.split()  # noqa: SIM905 - names as one reads them
)
"""Codes of a store that will do it later."""
_EXPIRED = frozenset(["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"])
_UNKNOWN_KEYS = frozenset(
    """
    InvalidAccessKeyId SignatureDoesNotMatch InvalidClientTokenId UnrecognizedClientException InvalidToken
    AuthorizationHeaderMalformed RequestTimeTooSkewed
    """.split()  # noqa: SIM905 - names as one reads them
)
_DENIED = frozenset(
    """
    AccessDenied AccessDeniedException AllAccessDisabled AccountProblem UnauthorizedOperation KMS.DisabledException
    KMS.NotFoundException KMS.KMSInvalidStateException KMS.InvalidStateException 403
    """.split()  # noqa: SIM905 - names as one reads them
)
_ARCHIVED = "InvalidObjectState"
VERSION_PAGES = 10
"""Of an object's versions, so many thousands are looked through."""
ARCHIVES = frozenset(["GLACIER", "DEEP_ARCHIVE"])
"""Storage classes of which S3 gives no object before it is restored:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html"""
RESTORE = (
    "it cannot be read before it is restored (`aws s3api restore-object`, or S3 Batch Operations for many); "
    "the next run after that reads it"
)


@dataclass(frozen=True)
class Lock:
    """Object Lock, which keeps versions of objects from being changed or removed.

    Args:
        mode: `GOVERNANCE`, which who may do so can lift, or `COMPLIANCE`, which nobody can.
        days: How long, from the moment that an object is put.
    """

    mode: str
    days: int

    @property
    def arguments(self) -> dict[str, Any]:
        """What a request to put an object sends of it, now."""
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=self.days)
        return {"ObjectLockMode": self.mode, "ObjectLockRetainUntilDate": until}


@dataclass(frozen=True)
class Access:
    """How a store is reached.

    Args:
        endpoint: URL of a store that is not AWS's own.
        region: Region of the bucket; None for the one that variables and profiles name.
        role: ARN of a role to take on first.
        external_id: What that role's trust policy asks for.
        requester_pays: Whether we pay for reading, as some archives ask.
        kms_key: Key that new objects are encrypted with (SSE-KMS); None leaves it to the bucket.
        connections: Requests under way at once, at most.
        lock: Object Lock of new objects; None for the bucket's own default.
    """

    endpoint: str | None = None
    region: str | None = None
    role: str | None = None
    external_id: str | None = field(default=None, repr=False)
    requester_pays: bool = False
    kms_key: str | None = None
    connections: int = 32
    lock: Lock | None = None


def concerns(uri: str) -> bool:
    """Whether a URI is S3's."""
    return uri.partition("://")[0] in PROTOCOLS and "://" in uri


def is_s3(fs: Any) -> bool:
    """Whether a file system of fsspec is S3's."""
    return "s3" in fs.protocol


def filesystem(access: Access) -> S3FileSystem:
    """The file system of fsspec for one way of access; the same one each time."""
    return _filesystem(access, os.getpid())


@cache
def _filesystem(access: Access, _process: int) -> S3FileSystem:
    from s3fs import S3FileSystem

    sse = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": access.kms_key, "BucketKeyEnabled": True}
    fs = S3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        endpoint_url=access.endpoint,
        client_kwargs={"region_name": access.region} if access.region else {},
        config_kwargs={
            "max_pool_connections": access.connections,
            "retries": {"mode": "standard", "max_attempts": ATTEMPTS},
            "connect_timeout": 10,
            "read_timeout": 60,
        },
        requester_pays=access.requester_pays,
        s3_additional_kwargs=sse if access.kms_key else {},
        session=_assumed(access) if access.role else None,
        default_block_size=16 << 20,
        max_concurrency=4,
    )
    fs.retries = 1  # of its own, around botocore's
    fs.object_lock = access.lock
    return fs


def forget() -> None:
    """Drops all connections, so that the next one looks for credentials anew."""
    _filesystem.cache_clear()


def _assumed(access: Access) -> Any:
    """A session that takes on the role when it is first used, and again before the role's keys expire."""
    from aiobotocore.credentials import AioDeferredRefreshableCredentials
    from aiobotocore.session import AioSession
    from botocore.exceptions import ClientError

    caller, assumed = AioSession(), AioSession()

    async def refresh() -> dict[str, str]:
        async with caller.create_client("sts", region_name=access.region, endpoint_url=access.endpoint) as sts:
            try:
                credentials = (await sts.assume_role(**role_request(access)))["Credentials"]
            except ClientError as error:
                raise ConfigError(f"the role cannot be taken on: {error}", role=access.role) from error
        expiry = credentials["Expiration"]
        return {
            "access_key": credentials["AccessKeyId"],
            "secret_key": credentials["SecretAccessKey"],
            "token": credentials["SessionToken"],
            "expiry_time": expiry if isinstance(expiry, str) else expiry.isoformat(),
        }

    assumed._credentials = AioDeferredRefreshableCredentials(refresh_using=refresh, method="assume-role")
    return assumed


def role_request(access: Access) -> dict[str, str]:
    """Arguments of AssumeRole."""
    external = {"ExternalId": access.external_id} if access.external_id else {}
    return {"RoleArn": str(access.role), "RoleSessionName": SESSION_NAME, **external}


def kind(fs: S3FileSystem, path: str) -> str | None:
    """`file`, `directory`, or None when nothing is there; s3fs's own question takes what is denied for absent.

    Raises:
        OSError: The store refuses us.
    """
    bucket, _, key = path.partition("/")
    query = {"Bucket": bucket, "Prefix": key, "MaxKeys": 1}
    names = [item["Key"] for item in retry.call(fs.call_s3, "list_objects_v2", fs.req_kw, **query).get("Contents", ())]
    if not key:
        return "directory"
    if names == [key]:
        return "file"
    response = retry.call(fs.call_s3, "list_objects_v2", fs.req_kw, **{**query, "Prefix": f"{key}/"})
    return "directory" if response.get("KeyCount") else None


def names_after(fs: S3FileSystem, folder: str, last: str) -> list[str]:
    """Names right below a folder that come after another one, in order; the first thousand, which is one request."""
    bucket, _, key = folder.partition("/")
    query = {"Bucket": bucket, "Prefix": f"{key}/", "StartAfter": f"{key}/{last}"}
    items = retry.call(fs.call_s3, "list_objects_v2", fs.req_kw, **query).get("Contents", ())
    return [item["Key"].rpartition("/")[2] for item in items]


def walk(fs: S3FileSystem, folder: str) -> Iterator[tuple[str, int]]:
    """Path and size of each object below a folder, a thousand for each request."""
    bucket, _, key = folder.partition("/")
    query = {"Bucket": bucket, "Prefix": f"{key}/"}
    while True:
        page = retry.call(fs.call_s3, "list_objects_v2", fs.req_kw, **query)
        yield from ((f"{bucket}/{item['Key']}", int(item["Size"])) for item in page.get("Contents", ()))
        if not page.get("IsTruncated"):
            return
        query["ContinuationToken"] = page["NextContinuationToken"]


def lock_of(fs: Any) -> dict[str, Any]:
    """What requests to put an object send of Object Lock."""
    lock: Lock | None = getattr(fs, "object_lock", None)
    return lock.arguments if lock is not None else {}


_NO_LOCK = frozenset(
    ["ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration", "NotImplemented", "MethodNotAllowed"]
)


def check_lock(fs: S3FileSystem, bucket: str) -> None:
    """Whether a bucket has Object Lock; who may not ask is refused when something is put.

    Raises:
        ConfigError: It has not.
    """

    def ask() -> dict[str, Any]:
        try:
            return dict(fs.call_s3("get_object_lock_configuration", Bucket=bucket))
        except OSError as error:
            if code_of(error) in _NO_LOCK:
                return {}
            raise

    try:
        answer = retry.call(ask)
    except PermissionError:
        return
    if answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
        raise ConfigError(
            f"setting object_lock: the bucket {bucket!r} has no Object Lock; it is switched on when a bucket is made, "
            "or later where versions are kept (`aws s3api put-object-lock-configuration`)"
        )


@dataclass(frozen=True)
class Version:
    """One version of an object.

    Args:
        id: Its id; `null` in a bucket without versions.
        size: Its size.
        is_marker: Whether it only marks that the object was removed.
        is_latest: Whether it is what the key stands for.
        at: When it was put.
    """

    id: str
    size: int
    is_marker: bool
    is_latest: bool
    at: datetime


def versions(fs: S3FileSystem, path: str) -> list[Version]:
    """All versions of an object and the markers between them; none of those that stand beyond `VERSION_PAGES`.

    Raises:
        OSError: The store does not let us look.
    """
    bucket, _, key = path.partition("/")
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": key}
    listed: list[Version] = []
    for _page in range(VERSION_PAGES):
        answer = retry.call(fs.call_s3, "list_object_versions", fs.req_kw, **asked)
        for kind in ("Versions", "DeleteMarkers"):
            listed += [
                Version(
                    item["VersionId"], int(item.get("Size", 0)), kind == "DeleteMarkers", bool(item["IsLatest"]),
                    item["LastModified"],
                )
                for item in answer.get(kind, ()) if item["Key"] == key
            ]  # fmt: skip
        if answer.get("NextKeyMarker") != key:
            break
        asked |= {"KeyMarker": key, "VersionIdMarker": answer["NextVersionIdMarker"]}
    return listed


def remove_version(fs: S3FileSystem, path: str, version: str) -> bool:
    """Removes one version of an object for good; gives whether it may go: not while it is locked, or we may not."""
    bucket, _, key = path.partition("/")
    try:
        retry.call(fs.call_s3, "delete_object", fs.req_kw, Bucket=bucket, Key=key, VersionId=version)
    except FileNotFoundError:
        return True
    except OSError as error:
        if isinstance(error, PermissionError) or code_of(error) in _LOCKED:
            return False
        raise
    return True


_LOCKED = frozenset(["AccessDenied", "InvalidRequest", "ObjectLocked"])


def version_of(fs: S3FileSystem, path: str, etag: str) -> tuple[str, int] | None:
    """Id and size of the newest version of an object that has an ETag; None where the bucket has none.

    Raises:
        OSError: The store does not let us look.
    """
    bucket, _, key = path.partition("/")
    asked = {"Bucket": bucket, "Prefix": key}
    for _page in range(VERSION_PAGES):
        answer = retry.call(fs.call_s3, "list_object_versions", fs.req_kw, **asked)
        for item in answer.get("Versions", ()):
            if item["Key"] == key and item["ETag"].strip('"') == etag and item["VersionId"] != "null":
                return item["VersionId"], item["Size"]
        # Longer names with this beginning come after all versions of the object.
        if answer.get("NextKeyMarker") != key:
            return None
        asked |= {"KeyMarker": answer["NextKeyMarker"], "VersionIdMarker": answer["NextVersionIdMarker"]}
    return None


def read_version(fs: S3FileSystem, path: str, version: str) -> bytes:
    """The bytes of one version of an object."""
    from fsspec import asyn

    bucket, _, key = path.partition("/")

    async def got() -> bytes:
        answer = await fs._call_s3("get_object", fs.req_kw, Bucket=bucket, Key=key, VersionId=version)
        async with answer["Body"] as body:
            return bytes(await body.read())

    return bytes(retry.call(asyn.sync, fs.loop, got))


def is_aws(fs: Any) -> bool:
    """Whether a file system's store is AWS's own, not another one that speaks its protocol."""
    return not fs.endpoint_url and ".amazonaws.com" in str(fs.s3.meta.endpoint_url)


def is_archived(fs: S3FileSystem, info: Mapping[str, Any]) -> bool:
    """Whether a listed object cannot be read before it is restored.

    A listing of AWS's own says which objects are restored. Other stores do not, so there the attempt to read decides,
    as it does for the archives of Intelligent-Tiering, which no listing shows.
    """
    restored = (info.get("RestoreStatus") or {}).get("RestoreExpiryDate")
    return info.get("StorageClass") in ARCHIVES and not restored and is_aws(fs)


def aws_client(service: str, access: Access, endpoint: str | None = None) -> Any:
    """A client of another service of AWS, which may be used by several threads.

    Args:
        service: Its name, such as `glue`.
        access: Role and region.
        endpoint: URL of a service other than AWS's own.

    Raises:
        ConfigError: boto3 is not installed.
    """
    session = aws_session(service, access)
    import boto3
    from botocore.config import Config

    retries = {"mode": "adaptive", "max_attempts": 6}
    config = Config(retries=retries, connect_timeout=10, read_timeout=60)
    boto_session = boto3.Session(botocore_session=session)
    return boto_session.client(service, region_name=access.region, endpoint_url=endpoint, config=config)


def aws_session(service: str, access: Access) -> Any:
    """A session of botocore's with the role taken on, where there is one.

    Args:
        service: What it is for.
        access: Role and region.

    Raises:
        ConfigError: boto3 is not installed.
    """
    try:
        import boto3
        from botocore.credentials import DeferredRefreshableCredentials
        from botocore.session import get_session
    except ImportError as error:
        raise ConfigError(f"{service} needs boto3: install ocsf-lake[glue]") from error
    session = get_session()
    if access.role:
        sts = boto3.client("sts", region_name=access.region)

        def refresh() -> dict[str, str]:
            credentials = sts.assume_role(**role_request(access))["Credentials"]
            return {
                "access_key": credentials["AccessKeyId"],
                "secret_key": credentials["SecretAccessKey"],
                "token": credentials["SessionToken"],
                "expiry_time": credentials["Expiration"].isoformat(),
            }

        session._credentials = DeferredRefreshableCredentials(refresh_using=refresh, method="assume-role")
    return session


# -- errors -----------------------------------------------------------------------------------------------------------
@contextmanager
def translate_errors(uri: str, denied: type[OcsfMappersError] = ConfigError) -> Iterator[None]:
    """Makes errors of the store this project's; those of other file systems pass through.

    Args:
        uri: What was asked for.
        denied: What to raise where access to it is denied, or its key is.

    Raises:
        ConfigError: No such bucket, no or wrong or expired credentials, a role that cannot be taken on.
        RetriableError: The store is too busy, out of order or out of reach.
    """
    try:
        yield
    except RetriableError as error:
        # Given up by `ocsf_lake.storage.retry`: the store's error is translated.
        cause = error.__cause__
        if cause is not None and "botocore" in sys.modules:
            translated = error_for(cause, uri, denied)
            if isinstance(translated, RetriableError):
                raise translated from cause
        raise
    except OcsfMappersError:
        raise
    except Exception as error:
        if "botocore" in sys.modules and (translated := error_for(error, uri, denied)) is not None:
            raise translated from error
        raise


def error_for(error: BaseException, uri: str, denied: type[OcsfMappersError] = ConfigError) -> OcsfMappersError | None:
    """This project's error for one of botocore's or s3fs's; None where there is none, as for a missing object."""
    import aiohttp
    from botocore import exceptions as boto

    code = code_of(error)
    message = str(error)
    if message in ("", "None"):  # the store sent none
        message = "no reason given"
    if code == "NoSuchBucket":
        return ConfigError(f"there is no bucket {_bucket(uri)!r}", object=uri)
    if code in _EXPIRED:
        return ConfigError("the credentials have expired; renew them and run the same command again", object=uri)
    if code in _UNKNOWN_KEYS:
        return ConfigError(f"the store does not know these credentials ({code}): {message}", object=uri)
    if code == _ARCHIVED:
        details = _client_error(error).response["Error"]
        tier = details.get("AccessTier") or details.get("StorageClass")
        return denied(f"the object is archived{f' ({tier})' if tier else ''}: {RESTORE}", object=uri)
    if code in _DENIED:
        return denied(
            f"access denied ({code}): {message}; reading needs s3:GetObject and s3:ListBucket, writing s3:PutObject, "
            "and an encrypted bucket kms:Decrypt and kms:GenerateDataKey for its key",
            object=uri,
        )
    if code in BUSY:
        return RetriableError(f"the store is busy or out of order ({code}): {message}", object=uri)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return ConfigError(f"{message}; set AWS_PROFILE, AWS_ACCESS_KEY_ID or a role of this machine", object=uri)
    if isinstance(error, boto.NoRegionError | boto.ProfileNotFound | boto.ParamValidationError):
        return ConfigError(message, object=uri)
    remote = isinstance(error, boto.HTTPClientError | boto.ConnectionError | aiohttp.ClientError)
    if remote or (concerns(uri) and isinstance(error, TimeoutError | ConnectionError)):
        return RetriableError(f"the store cannot be reached: {message}", object=uri)
    return None


def _client_error(error: BaseException | None) -> Any:
    from botocore.exceptions import ClientError

    while error is not None and not isinstance(error, ClientError):
        error = error.__cause__
    return error


def code_of(error: BaseException) -> str:
    """What S3 calls the error, such as `AccessDenied`; "" where it is none of S3's."""
    client_error = _client_error(error)
    return str(client_error.response.get("Error", {}).get("Code", "")) if client_error else ""


def _bucket(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[0]
