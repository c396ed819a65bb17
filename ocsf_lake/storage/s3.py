"""S3 and stores that speak its protocol: who we are there, how objects are got and put, and what a refusal means.

One connection pool per way of access, kept for the life of the process. Requests are tried again by botocore when the
store is busy; what still fails comes out as one of this project's errors, with the permission or setting to look at.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
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
"""How often botocore itself asks a busy store; `ocsf_lake.storage.retry` goes on after it, with longer pauses."""

MULTIPART_BYTES = 64 << 20
PART_BYTES = 32 << 20
"""Files from the first size on are put in parts of the second, four at once."""

SHA256 = "sha256"
"""Metadata of our objects: the checksum of the bytes, which the ETag of an encrypted or multipart object is not."""

_BUSY = frozenset(
    """
    SlowDown Throttling ThrottlingException ThrottledException RequestLimitExceeded TooManyRequestsException
    RequestThrottled ProvisionedThroughputExceededException BandwidthLimitExceeded ServiceUnavailable InternalError
    InternalFailure InternalServiceException InternalServerException OperationTimeoutException
    ConcurrentModificationException RequestTimeout OperationAborted 500 502 503 504
    """.split()  # noqa: SIM905 - names as one reads them
)
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
ARCHIVES = frozenset(["GLACIER", "DEEP_ARCHIVE"])
"""Storage classes of which S3 gives no object before it is restored:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html"""
RESTORE = (
    "it cannot be read before it is restored (`aws s3api restore-object`, or S3 Batch Operations for many); "
    "the next run after that reads it"
)
_PRECONDITION = frozenset(["PreconditionFailed", "412", "ConditionalRequestConflict"])


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
    """

    endpoint: str | None = None
    region: str | None = None
    role: str | None = None
    external_id: str | None = field(default=None, repr=False)
    requester_pays: bool = False
    kms_key: str | None = None
    connections: int = 32


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
    return fs


def forget() -> None:
    """Drops all connections, so that the next one looks for credentials anew."""
    _filesystem.cache_clear()


def _assumed(access: Access) -> Any:
    """A session that takes on the role when it is first used, and again before the role's keys expire."""
    from aiobotocore.credentials import AioDeferredRefreshableCredentials
    from aiobotocore.session import AioSession
    from botocore.exceptions import ClientError

    own, taken = AioSession(), AioSession()

    async def refresh() -> dict[str, str]:
        async with own.create_client("sts", region_name=access.region, endpoint_url=access.endpoint) as sts:
            try:
                found = (await sts.assume_role(**role_request(access)))["Credentials"]
            except ClientError as error:
                raise ConfigError(f"the role cannot be taken on: {error}", role=access.role) from error
        expiry = found["Expiration"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": expiry if isinstance(expiry, str) else expiry.isoformat(),
        }

    taken._credentials = AioDeferredRefreshableCredentials(refresh_using=refresh, method="assume-role")
    return taken


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
    asked = {"Bucket": bucket, "Prefix": key, "MaxKeys": 1}
    names = [item["Key"] for item in retry.call(fs.call_s3, "list_objects_v2", fs.req_kw, **asked).get("Contents", ())]
    if not key:
        return "directory"
    if names == [key]:
        return "file"
    found = retry.call(fs.call_s3, "list_objects_v2", fs.req_kw, **{**asked, "Prefix": f"{key}/"})
    return "directory" if found.get("KeyCount") else None


def names_after(fs: S3FileSystem, folder: str, last: str) -> list[str]:
    """Names right below a folder that come after another one, in order; the first thousand, which is one request."""
    bucket, _, key = folder.partition("/")
    asked = {"Bucket": bucket, "Prefix": f"{key}/", "StartAfter": f"{key}/{last}"}
    found = retry.call(fs.call_s3, "list_objects_v2", fs.req_kw, **asked).get("Contents", ())
    return [item["Key"].rpartition("/")[2] for item in found]


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
    made = boto3.Session(botocore_session=session)
    return made.client(service, region_name=access.region, endpoint_url=endpoint, config=config)


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
        own = boto3.client("sts", region_name=access.region)

        def refresh() -> dict[str, str]:
            taken = own.assume_role(**role_request(access))["Credentials"]
            return {
                "access_key": taken["AccessKeyId"],
                "secret_key": taken["SecretAccessKey"],
                "token": taken["SessionToken"],
                "expiry_time": taken["Expiration"].isoformat(),
            }

        session._credentials = DeferredRefreshableCredentials(refresh_using=refresh, method="assume-role")
    return session


# -- reading ----------------------------------------------------------------------------------------------------------
def fetch(fs: S3FileSystem, path: str, etag: str) -> Future[bytes]:
    """Starts to get a whole object, if it is still the one with this ETag.

    The future raises `Changed` when it is not, and otherwise what `explained` tells apart.
    """
    return asyncio.run_coroutine_threadsafe(_get(fs, path, etag), fs.loop)


class Changed(Exception):  # noqa: N818 - no error: the caller says what it means
    """The object is not the one that was asked for, or it is there already."""


async def _get(fs: S3FileSystem, path: str, etag: str) -> bytes:
    from botocore import exceptions as boto

    bucket, key, _ = fs.split_path(path)
    try:
        answer = await fs._call_s3("get_object", fs.req_kw, Bucket=bucket, Key=key, IfMatch=f'"{etag}"')
        async with answer["Body"] as body:
            return bytes(await body.read())
    except OSError as error:
        if _code(error) in _PRECONDITION:
            raise Changed from error
        raise
    except boto.IncompleteReadError as error:
        raise ConnectionError(str(error)) from error


# -- writing ----------------------------------------------------------------------------------------------------------
def put(fs: S3FileSystem, path: str, data: bytes) -> None:
    """Puts an object with checksums that the store verifies; bytes that are there already are not put again.

    The name is claimed with `If-None-Match: *`, so that a repeated run makes no new version and no new notification.
    Other bytes under the name are replaced.
    """
    digest = hashlib.sha256(data)
    try:
        _put(fs, path, data, digest.digest(), IfNoneMatch="*")
    except Changed:
        if _held(fs, path) != (len(data), digest.hexdigest()):
            _put(fs, path, data, digest.digest())


class Pieces:
    """The bytes of a buffer, a slice of them at a time: those of a file that is not read whole.

    Args:
        data: A buffer of Arrow, such as a file mapped into memory.
    """

    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        return int(self._data.size)

    def __getitem__(self, wanted: slice) -> bytes:
        start, stop, _ = wanted.indices(len(self))
        return bytes(self._data.slice(start, stop - start).to_pybytes())


def put_new(fs: S3FileSystem, path: str, data: Pieces, sha256: bytes) -> bool:
    """Puts an object if its name is free; needs no permission but to put.

    Args:
        fs: The file system.
        path: Bucket and key.
        data: The bytes.
        sha256: Their checksum.

    Returns:
        Whether the name was free. What is there already is left as it is.
    """
    # Some stores keep no condition for what comes in parts. Who may not look has S3's word for it.
    if len(data) >= MULTIPART_BYTES and _is_there(fs, path):
        return False
    try:
        _put(fs, path, data, sha256, IfNoneMatch="*")
    except Changed:
        return False
    return True


def _is_there(fs: S3FileSystem, path: str) -> bool:
    try:
        _held(fs, path)
    except (FileNotFoundError, PermissionError):
        return False
    return True


def _held(fs: S3FileSystem, path: str) -> tuple[int, str | None]:
    bucket, key, _ = fs.split_path(path)
    found = fs.call_s3("head_object", fs.req_kw, Bucket=bucket, Key=key)
    return int(found["ContentLength"]), found["Metadata"].get(SHA256)


def _put(fs: S3FileSystem, path: str, data: bytes | Pieces, sha256: bytes, **condition: str) -> None:
    bucket, key, _ = fs.split_path(path)
    common = {"Metadata": {SHA256: sha256.hex()}, "ContentType": "application/vnd.apache.parquet"}
    try:
        if len(data) >= MULTIPART_BYTES:
            mode = "create" if condition else "overwrite"
            fs.pipe_file(path, data, chunksize=PART_BYTES, max_concurrency=4, mode=mode, **common)
            return
        data = data[:]
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        checksum = base64.b64encode(sha256).decode()
        fs.call_s3(
            "put_object", fs.s3_additional_kwargs, Bucket=bucket, Key=key, Body=data, ContentMD5=md5,
            ChecksumSHA256=checksum, **common, **condition,
        )  # fmt: skip
    except OSError as error:
        code = _code(error)
        if code in _PRECONDITION or isinstance(error, FileExistsError):
            raise Changed from error
        if condition and code in ("NotImplemented", "501"):
            _put(fs, path, data, sha256)
            return
        raise


# -- errors -----------------------------------------------------------------------------------------------------------
@contextmanager
def explained(uri: str, denied: type[OcsfMappersError] = ConfigError) -> Iterator[None]:
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
        # Given up by `ocsf_lake.storage.retry`: what the store said is told in our words.
        cause = error.__cause__
        if cause is not None and "botocore" in sys.modules:
            found = error_for(cause, uri, denied)
            if isinstance(found, RetriableError):
                raise found from cause
        raise
    except OcsfMappersError:
        raise
    except Exception as error:
        if "botocore" in sys.modules and (found := error_for(error, uri, denied)) is not None:
            raise found from error
        raise


def error_for(error: BaseException, uri: str, denied: type[OcsfMappersError] = ConfigError) -> OcsfMappersError | None:
    """This project's error for one of botocore's or s3fs's; None where there is none, as for a missing object."""
    import aiohttp
    from botocore import exceptions as boto

    code = _code(error)
    message = str(error)
    if code == "NoSuchBucket":
        return ConfigError(f"there is no bucket {_bucket(uri)!r}", object=uri)
    if code in _EXPIRED:
        return ConfigError("the credentials have expired; renew them and run the same command again", object=uri)
    if code in _UNKNOWN_KEYS:
        return ConfigError(f"the store does not know these credentials ({code}): {message}", object=uri)
    if code == _ARCHIVED:
        told = _client_error(error).response["Error"]
        tier = told.get("AccessTier") or told.get("StorageClass")
        return denied(f"the object is archived{f' ({tier})' if tier else ''}: {RESTORE}", object=uri)
    if code in _DENIED:
        return denied(
            f"access denied ({code}): {message}; reading needs s3:GetObject and s3:ListBucket, writing s3:PutObject, "
            "and an encrypted bucket kms:Decrypt and kms:GenerateDataKey for its key",
            object=uri,
        )
    if code in _BUSY:
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


def _code(error: BaseException) -> str:
    found = _client_error(error)
    return str(found.response.get("Error", {}).get("Code", "")) if found else ""


def _bucket(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[0]
