"""Objects of S3 through obstore, at a fraction of the processor time that s3fs takes for each.

It is the shorter way and never the only one: what it fails at, for whatever reason, s3fs does again, and it is s3fs
that says what is wrong. So this module knows no more of the store than s3fs gives it: its address, its region and the
keys are those with which s3fs has signed a request. obstore would read variables of the environment too, with rules of
its own: they are all set aside, see `_open_bucket`.

obstore cannot spell every key that S3 has, see `spells`. Its threads do not outlast a fork, so that a process whose
parent has used it goes the longer way.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from ocsf_lake.storage import s3

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Credential, S3Store
    from s3fs import S3FileSystem

CONNECTIONS = 32
"""Requests under way at once, at most."""
CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
"""How long a connection may take, and an answer may keep silent; s3fs is more patient."""
PUT_BYTES = 16 << 20
"""Larger objects are not put this way: a slow line takes longer for them than an answer may keep silent."""
TRUSTED_FAILURES, DISTRUST_SECONDS = 3, 60.0
"""After so many failures in a row where s3fs succeeded, it is left to s3fs for so long: a proxy or certificate, say, or
a store that is busy for a moment."""
CHUNK_BYTES = 4 << 20
"""A stream is read so many bytes at a time, and the next ones meanwhile."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]*/\d{8}/([a-z0-9-]+)/s3/aws4_request")
_CONFLICT = "ConditionalRequestConflict"
_making = threading.Lock()
_users: set[int] = set()
"""Processes that have used obstore: this one, or those it is forked from."""


def _after_fork() -> None:
    global _making
    _making = threading.Lock()  # held by a thread that is no more, maybe


os.register_at_fork(after_in_child=_after_fork)

P = ParamSpec("P")
R = TypeVar("R")


class Changed(Exception):  # noqa: N818 - no error: what it means is the caller's to decide
    """The object is not the one that was asked for, or it is there already."""


class FailedError(Exception):
    """The request failed; the error that counts is the one that s3fs raises for the same request."""


def spells(key: str) -> bool:
    """Whether obstore asks for this very key.

    It refuses parts of a key that are empty, `.` or `..`, and control characters; a slash at either end it drops.
    """
    return not _CONTROL.search(key) and not {"", ".", ".."} & set(key.split("/"))


def submit(do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """Calls a function on another thread, so that whoever waits for it can be interrupted."""
    return _pool(os.getpid()).submit(do, *args, **kwargs)


@cache
def _pool(_process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="ocsf-lake-s3")


def bucket(fs: S3FileSystem, name: str) -> Bucket | None:
    """The bucket by the shorter way; None where there is only the longer one. Asks the store once for each.

    Raises:
        Exception: What s3fs raises for a store out of reach or without credentials; see `s3.translate_errors`.
    """
    with _making:
        if _users - {os.getpid()}:
            return None
        buckets: dict[str, Bucket | None] = vars(fs).setdefault("_direct_buckets", {})
        if name not in buckets:
            buckets[name] = _open_bucket(fs, name)
            _users.add(os.getpid())
        opened = buckets[name]
        return opened if opened is not None and opened.trusted() else None


class Bucket:
    """A bucket by the shorter way. Several threads may use it.

    Attributes:
        md5: Whether ETags that look like the MD5 of the bytes have been that so far.
    """

    def __init__(self, store: S3Store) -> None:
        self.md5 = True
        self._store = store
        self._failures = 0
        self._distrusted_until = 0.0

    def trusted(self) -> bool:
        """Whether it is worth trying."""
        return time.monotonic() >= self._distrusted_until

    def failed(self) -> None:
        """Notes that s3fs has done what failed here."""
        self._failures += 1
        if self._failures >= TRUSTED_FAILURES:
            self._failures, self._distrusted_until = 0, time.monotonic() + DISTRUST_SECONDS

    def get(self, key: str, etag: str, size: int) -> bytes:
        """A whole object of so many bytes; 0 where that is not known.

        Raises:
            Changed: It has another ETag.
            FailedError: It cannot be got, or not this way.
        """
        import obstore

        with _failing():
            answer = obstore.get(self._store, key, options={"if_match": f'"{etag}"'})
            _check(answer.meta, key, etag)
            data = bytes(answer.bytes())
            if len(data) != (size or answer.meta["size"]):
                raise FailedError
        self._failures = 0
        return data

    def chunks(self, key: str, etag: str) -> Iterator[bytes]:
        """An object's bytes, `CHUNK_BYTES` or more at a time; raises what `get` does."""
        import obstore

        with _failing():
            answer = obstore.get(self._store, key, options={"if_match": f'"{etag}"'})
            _check(answer.meta, key, etag)
            yield from answer.stream(CHUNK_BYTES)
        self._failures = 0

    def put(self, key: str, data: bytes, about: dict[str, str], new: bool) -> None:
        """Puts an object; the store verifies its SHA-256.

        Args:
            key: Its key.
            data: Its bytes.
            about: Its metadata, and `Content-Type`.
            new: Whether the name has to be free.

        Raises:
            Changed: The name is not free.
            FailedError: It cannot be put, or not this way; the store may have it all the same.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with _failing():
            try:
                obstore.put(
                    self._store, key, data, attributes=about, mode="create" if new else "overwrite", use_multipart=False
                )  # fmt: skip
            except AlreadyExistsError as error:
                # obstore raises it as well when another request for the name is under way, whatever will become of it.
                raise (Changed if new and _CONFLICT not in str(error) else FailedError) from error
        self._failures = 0


class Stream:
    """An object that is read from its begin to its end, with what follows on its way meanwhile.

    Args:
        bucket: Its bucket.
        key: Its key.
        etag: The ETag it has to have.
    """

    def __init__(self, bucket: Bucket, key: str, etag: str) -> None:
        self._chunks = bucket.chunks(key, etag)
        self._ahead: Future[bytes] | None = None
        self._chunk = memoryview(b"")
        self._at = 0

    def tell(self) -> int:
        """The place."""
        return self._at

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end. Raises what `Bucket.get` does."""
        if not self._chunk:
            ahead = self._ahead or submit(next, self._chunks, b"")
            self._chunk = memoryview(ahead.result())
            self._ahead = submit(next, self._chunks, b"")
        data = bytes(self._chunk[:size])
        self._chunk = self._chunk[len(data) :]
        self._at += len(data)
        return data

    def close(self) -> None:
        """Gives up what is on its way."""
        if self._ahead is not None:
            self._ahead.cancel()
        self._ahead, self._chunks, self._chunk = None, iter(()), memoryview(b"")


@contextmanager
def _failing() -> Iterator[None]:
    """Makes every failure a `FailedError`, but for `Changed`."""
    from obstore.exceptions import PreconditionError

    try:
        yield
    except (Changed, FailedError):
        raise
    except PreconditionError as error:
        raise Changed from error
    except Exception as error:
        raise FailedError from error


def _check(meta: Any, key: str, etag: str) -> None:
    """The answer is about what was asked for; not every store heeds `If-Match`."""
    if meta["path"] != key or meta["e_tag"] is None:
        raise FailedError
    if meta["e_tag"].strip('"') != etag:
        raise Changed


def _open_bucket(fs: S3FileSystem, name: str) -> Bucket | None:
    signed = _signed(fs, name)
    if signed is None:
        return None
    from obstore.store import S3Store

    url, region = signed
    split = urlsplit(url)
    in_path = split.path.strip("/") == name
    if not in_path and not (split.hostname or "").startswith(f"{name}."):
        return None  # an access point, say
    encrypted = fs.s3_additional_kwargs
    if not encrypted and any(variable.upper() == "AWS_SERVER_SIDE_ENCRYPTION" for variable in os.environ):
        return None  # obstore would heed it, and there is no value for "none"
    endpoint = f"{split.scheme}://{split.netloc}"
    # What obstore would take from variables of the environment is set here, even to its default; of addresses the one
    # of S3 has precedence.
    arguments: dict[str, Any] = {
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "region": region,
        "virtual_hosted_style_request": not in_path,
        "request_payer": bool(fs.req_kw),
        "checksum_algorithm": "SHA256",
        "conditional_put": "etag",
        "s3_express": False,
        "skip_signature": False,
        "unsigned_payload": False,
    }
    if encrypted:
        arguments["server_side_encryption"] = encrypted["ServerSideEncryption"]
        arguments["sse_kms_key_id"] = encrypted["SSEKMSKeyId"]
        arguments["sse_bucket_key_enabled"] = encrypted["BucketKeyEnabled"]
    # s3fs asks again, and counts.
    retries: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=READ_SECONDS)}
    try:
        options = _client(fs, split.scheme)
        store = S3Store(
            name, credential_provider=_credentials(fs), client_options=options, retry_config=retries, **arguments
        )  # fmt: skip
    except Exception:
        return None  # a variable it cannot read, or a file of certificates: s3fs raises if it cannot either
    return Bucket(store)


def _client(fs: S3FileSystem, scheme: str) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": scheme == "http",
        "allow_invalid_certificates": False,
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=READ_SECONDS),
        "timeout": timedelta(hours=1),  # of a whole answer; by default half a minute
        "pool_idle_timeout": timedelta(seconds=10),
        "pool_max_idle_per_host": str(CONNECTIONS),
    }
    if trusted := fs.session.get_config_variable("ca_bundle"):
        options["root_certificate"] = Path(trusted).read_bytes()
    return options


def _signed(fs: S3FileSystem, name: str) -> tuple[str, str] | None:
    """URL and region of a request that s3fs has signed for a bucket; None if it was signed in some other way.

    botocore has its own rules for both, and follows a bucket to another region.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) or name.endswith("--x-s3"):
        return None
    signed: list[tuple[str, str]] = []

    def note(request: Any, **_: Any) -> None:
        header = request.headers.get("Authorization", "")
        signed.append((request.url, header.decode() if isinstance(header, bytes) else header))

    fs.connect()
    events, event = fs.s3.meta.events, "before-send.s3.HeadBucket"
    events.register(event, note)
    try:
        fs.call_s3("head_bucket", fs.req_kw, Bucket=name)
    except OSError as error:
        # Who may not list the bucket may read it all the same; and to this question the store gives no reasons.
        if s3.code_of(error) in ("", *s3.BUSY):
            raise
    finally:
        events.unregister(event, note)
    scope = _SCOPE.match(signed[-1][1]) if signed else None
    return (signed[-1][0], scope[1]) if scope else None


def _credentials(fs: S3FileSystem) -> Callable[[], S3Credential]:
    """The keys that s3fs signs with; a role's are those it has taken on, and are renewed there."""
    from fsspec.asyn import sync

    async def current() -> S3Credential:
        await fs.set_session()
        credentials = await fs.session.get_credentials()
        keys = await credentials.get_frozen_credentials()
        expiry = getattr(credentials, "_expiry_time", None)
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": expiry.astimezone(UTC) if expiry else None,
        }

    def provide() -> S3Credential:
        credentials: S3Credential = sync(fs.loop, current)
        return credentials

    return provide
