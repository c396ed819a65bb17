"""Objects of S3 got and put: by the shorter way where there is one, else through s3fs; either way with the same checks.

An object is got only while it has the ETag that was listed, and whole; where that is the MD5 of its bytes, they are
compared. It is put under a name that is free, with checksums that the store verifies and that identify our own object
when the answer to a request was lost.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ocsf_lake.storage import direct, retry, s3
from ocsf_lake.storage.direct import Changed, FailedError, Stream

if TYPE_CHECKING:
    from s3fs import S3FileSystem

MULTIPART_BYTES = 64 << 20
PART_BYTES = 32 << 20
"""Files from the first size on are put in parts of the second, four at once."""

SHA256 = "sha256"
"""Metadata of our objects: the checksum of the bytes, which the ETag of an encrypted or multipart object is not."""
CLAIM = "claim"
"""And of those whose name had to be free: a mark of who has put it, to know our own when an answer was lost."""

_CONTENT_TYPE = "application/vnd.apache.parquet"
_MD5 = re.compile(r"[0-9a-f]{32}")
_PRECONDITION = frozenset(["PreconditionFailed", "412"])


# -- reading ----------------------------------------------------------------------------------------------------------
def fetch(fs: S3FileSystem, path: str, etag: str, size: int) -> Future[bytes]:
    """Starts to get a whole object, if it is still the one with this ETag; of a ledger made anew, the size may be 0.

    The future raises `Changed` when it is not, and otherwise what `s3.translate_errors` tells apart.
    """
    try:
        bucket, key = _direct(fs, path)
    except Exception as error:
        refused: Future[bytes] = Future()
        refused.set_exception(error)
        return refused
    if bucket is None:
        return _fetch(fs, path, etag, size)
    return direct.submit(_get_verified, fs, path, etag, size, bucket, key)


def stream(fs: S3FileSystem, path: str, etag: str) -> Stream | None:
    """A large object to be read from its begin to its end, if there is a shorter way."""
    bucket, key = _direct(fs, path)
    return Stream(bucket, key, etag) if bucket else None


def _direct(fs: S3FileSystem, path: str) -> tuple[direct.Bucket | None, str]:
    bucket, _, key = path.partition("/")
    return (direct.bucket(fs, bucket) if direct.spells(key) else None), key


def _get_verified(fs: S3FileSystem, path: str, etag: str, size: int, bucket: direct.Bucket, key: str) -> bytes:
    data = None
    try:
        data = bucket.get(key, etag, size)
        if not bucket.md5 or not _MD5.fullmatch(etag) or hashlib.md5(data, usedforsecurity=False).hexdigest() == etag:
            return data
    except FailedError:
        pass
    # s3fs compares checksums of other kinds.
    fetched = _fetch(fs, path, etag, size).result()
    if fetched == data:
        bucket.md5 = False  # ETags of what is encrypted with KMS look like MD5
    else:
        bucket.failed()
    return fetched


def fetch_described(fs: S3FileSystem, path: str, etag: str, size: int) -> Future[tuple[bytes, dict[str, str]]]:
    """Starts to get a whole object together with its metadata, as `fetch` does; its names are without `x-amz-meta-`."""
    return asyncio.run_coroutine_threadsafe(_get(fs, path, etag, size), fs.loop)


def _fetch(fs: S3FileSystem, path: str, etag: str, size: int) -> Future[bytes]:
    async def content() -> bytes:
        return (await _get(fs, path, etag, size))[0]

    return asyncio.run_coroutine_threadsafe(content(), fs.loop)


async def _get(fs: S3FileSystem, path: str, etag: str, size: int) -> tuple[bytes, dict[str, str]]:
    from botocore import exceptions as boto

    bucket, _, key = path.partition("/")  # s3fs would take `?versionId=` in a key for a version
    try:
        answer = await fs._call_s3("get_object", fs.req_kw, Bucket=bucket, Key=key, IfMatch=f'"{etag}"')
        async with answer["Body"] as body:
            data = bytes(await body.read())
    except OSError as error:
        if s3.code_of(error) in _PRECONDITION:
            raise Changed from error
        raise
    except (boto.IncompleteReadError, boto.FlexibleChecksumError) as error:
        raise ConnectionError(str(error)) from error
    if size and len(data) != size:
        raise ConnectionError(f"the answer has {len(data)} bytes, not {size}")
    return data, dict(answer.get("Metadata") or {})


# -- writing ----------------------------------------------------------------------------------------------------------
def put(fs: S3FileSystem, path: str, data: bytes) -> None:
    """Puts an object with checksums that the store verifies; bytes that are there already are not put again.

    The name is claimed with `If-None-Match: *`, so that a repeated run makes no new version and no new notification.
    Other bytes under the name are replaced.
    """
    digest = hashlib.sha256(data)
    try:
        _put(fs, path, data, digest.digest(), new=True)
    except Changed:
        size, about = _head(fs, path)
        if (size, about.get(SHA256)) != (len(data), digest.hexdigest()):
            _put(fs, path, data, digest.digest(), new=False)


class Pieces:
    """The bytes of a buffer, a slice of them at a time: those of a file that is not read whole.

    Args:
        data: A buffer of Arrow, such as a file mapped into memory.
    """

    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        return int(self._data.size)

    def __getitem__(self, span: slice) -> bytes:
        start, stop, _ = span.indices(len(self))
        return bytes(self._data.slice(start, stop - start).to_pybytes())


def put_new(fs: S3FileSystem, path: str, data: Pieces, sha256: bytes) -> bool:
    """Puts an object if its name is free; needs no permission but to put. Tries again where that may help.

    Args:
        fs: The file system.
        path: Bucket and key.
        data: The bytes.
        sha256: Their checksum.

    Returns:
        Whether the name was free. What is there already is left as it is.
    """
    # Some stores keep no condition for what comes in parts. Who may not look has S3's word for it.
    if len(data) >= MULTIPART_BYTES and _visible_metadata(fs, path) is not None:
        return False
    claim = uuid.uuid4().hex
    try:
        retry.call(_put, fs, path, data, sha256, new=True, claim=claim)
    except Changed:
        # The answer to a request that was carried out may be lost: then the name is taken by our own object.
        return (_visible_metadata(fs, path) or {}).get(CLAIM) == claim
    return True


def _visible_metadata(fs: S3FileSystem, path: str) -> dict[str, str] | None:
    """The object's metadata, if there is one that we may look at."""
    try:
        return retry.call(_head, fs, path)[1]
    except (FileNotFoundError, PermissionError):
        return None


def _head(fs: S3FileSystem, path: str) -> tuple[int, dict[str, str]]:
    """Size and metadata of the object."""
    bucket, _, key = path.partition("/")
    response = fs.call_s3("head_object", fs.req_kw, Bucket=bucket, Key=key)
    return int(response["ContentLength"]), response["Metadata"]


def _put(fs: S3FileSystem, path: str, data: bytes | Pieces, sha256: bytes, *, new: bool, claim: str = "") -> None:
    """Puts an object; raises `Changed` where it has to be new and is not."""
    about = {SHA256: sha256.hex(), **({CLAIM: claim} if claim else {})}
    # The shorter way names a lock once for all objects, and the date moves on.
    is_short = len(data) <= min(direct.PUT_BYTES, MULTIPART_BYTES - 1) and not s3.lock_of(fs)
    bucket, key = _direct(fs, path) if is_short else (None, "")
    if bucket is None:
        _put_slowly(fs, path, data, about, new=new)
        return
    data = data[:]
    try:
        direct.submit(bucket.put, key, data, {**about, "Content-Type": _CONTENT_TYPE}, new).result()
    except FailedError:
        _put_slowly(fs, path, data, about, new=new)
        bucket.failed()


def _put_slowly(fs: S3FileSystem, path: str, data: bytes | Pieces, about: dict[str, str], *, new: bool) -> None:
    bucket, _, key = path.partition("/")
    common = {"Metadata": about, "ContentType": _CONTENT_TYPE, **s3.lock_of(fs)}
    try:
        if len(data) >= MULTIPART_BYTES:
            mode = "create" if new else "overwrite"
            fs.pipe_file(path, data, chunksize=PART_BYTES, max_concurrency=4, mode=mode, **common)
            return
        data = data[:]
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        checksum = base64.b64encode(bytes.fromhex(about[SHA256])).decode()
        condition = {"IfNoneMatch": "*"} if new else {}
        fs.call_s3(
            "put_object", fs.s3_additional_kwargs, Bucket=bucket, Key=key, Body=data, ContentMD5=md5,
            ChecksumSHA256=checksum, **common, **condition,
        )  # fmt: skip
    except OSError as error:
        code = s3.code_of(error)
        if code in _PRECONDITION or isinstance(error, FileExistsError):
            raise Changed from error
        if new and code in ("NotImplemented", "501"):
            if CLAIM in about and _visible_metadata(fs, path) is not None:
                raise Changed from error
            _put_slowly(fs, path, data, about, new=False)
            return
        raise
