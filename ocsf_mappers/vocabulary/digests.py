"""Digests: what a service signs of the log files that it delivered, so that whoever has them can find what was changed.

A digest names the log files of some time with their hashes, and the digest before it with its hash and signature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ocsf_mappers.errors import MappingError


@dataclass(frozen=True)
class DigestName:
    """What the key of a digest says.

    Args:
        account: Twelve digits.
        region: The region whose log files it names.
        trail: Who had it made.
        home_region: Where that trail was made.
        end: End of the time that it covers, UTC.
        backfill: Whether it adds log files to an hour that has a digest already.
    """

    account: str
    region: str
    trail: str
    home_region: str
    end: datetime
    backfill: bool = False


@dataclass(frozen=True)
class HashedObject:
    """An object that a digest names.

    Args:
        bucket: Where it was delivered.
        key: Its key there.
        algorithm: How it was hashed, in the service's words.
        hash: The hash of its uncompressed content, hex.
    """

    bucket: str
    key: str
    algorithm: str
    hash: str


@dataclass(frozen=True)
class Digest:
    """A digest file.

    Args:
        account: Whose log files it names.
        start: Beginning of the time that it covers, UTC.
        end: End of it.
        bucket: Where it was delivered.
        key: Its key there.
        fingerprint: The public key that its signature is checked with.
        algorithm: How it was signed, in the service's words.
        signed: The bytes that were signed.
        previous: The digest before it; None of the first one of a chain.
        previous_signature: Its signature, hex.
        files: The log files of that time.
    """

    account: str
    start: datetime
    end: datetime
    bucket: str
    key: str
    fingerprint: str
    algorithm: str
    signed: bytes
    previous: HashedObject | None
    previous_signature: str | None
    files: tuple[HashedObject, ...]


@dataclass(frozen=True)
class Digests:
    """How a service delivers digests of a log, and how they are read.

    Args:
        pattern: Folders of digests by the day on which their time ends, as `Delivery.patterns` are written.
        logs: Those of the log files that they name.
        name: Key -> what it says; None for what is no digest's.
        read: Uncompressed content -> the digest. Raises ValueError, with the reason, for what is none.
        delivered: Key of a log file -> when it was delivered, to the minute; None where it does not say.
        signature: Metadata of the object that has its signature, hex.
        generated: Metadata that says when a backfill digest was made.
        algorithm: The value of `Digest.algorithm` for RSA, PKCS #1 v1.5, with SHA-256.
        hash_algorithm: The value of `HashedObject.algorithm` for SHA-256.
        keys: Service of AWS whose operation ListPublicKeys gives the public keys of a region.
    """

    pattern: str
    logs: str
    name: Callable[[str], DigestName | None]
    read: Callable[[bytes], Digest]
    delivered: Callable[[str], datetime | None]
    signature: str
    generated: str
    algorithm: str
    hash_algorithm: str
    keys: str

    def __post_init__(self) -> None:
        """Refuses patterns without places for account and region.

        Raises:
            MappingError: Names the pattern.
        """
        for pattern in (self.pattern, self.logs):
            steps = pattern.split("/")
            if len(steps) != 7 or steps[1] != "{account}" or steps[3:] != ["{region}", "{year}", "{month}", "{day}"]:
                raise MappingError(
                    f"digests: {pattern!r} is not AWSLogs/{{account}}/KIND/{{region}}/ and then a day's folders"
                )
