"""The CloudTrail of an invented organisation with its digests, signed by a key of the tests' own.

`python -m tests.digests sample_logs/evidence` made the sample there, with a key that it threw away.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sys
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HOUR = timedelta(hours=1)
ORGANIZATION = "o-exampleorg1"


def key(number: int = 0) -> RSAPrivateKey:
    """A private key; for each number another one. As short as may be, as making one takes long."""
    return _key(number)


@cache
def _key(_number: int) -> RSAPrivateKey:
    return generate_private_key(65537, 1024)


def fingerprint(private: RSAPrivateKey) -> str:
    """How digests name the public key."""
    return hashlib.md5(_public(private), usedforsecurity=False).hexdigest()


def public_keys(*keys: RSAPrivateKey) -> str:
    """What `aws cloudtrail list-public-keys` prints of them."""
    listed = [
        {
            "Value": base64.b64encode(_public(private)).decode(),
            "ValidityStartTime": "2026-05-01T00:00:00+00:00",
            "ValidityEndTime": "2026-06-01T00:00:00+00:00",
            "Fingerprint": fingerprint(private),
        }
        for private in keys
    ]
    return json.dumps({"PublicKeyList": listed}, indent=4)


def _public(private: RSAPrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)


@dataclass
class Tree:
    """Objects below a bucket's prefix: key -> content, and digests' metadata.

    Args:
        bucket: The bucket that they were delivered to.
        prefix: Before `AWSLogs/`.
        trail: Who had them delivered.
        home: Where it was made.
        folder: Between `AWSLogs/` and the accounts: that of the organization, or nothing.
        private: What digests are signed with.
    """

    bucket: str = "org-logs"
    prefix: str = ""
    trail: str = "org-trail"
    home: str = "us-east-1"
    folder: str = f"{ORGANIZATION}/"
    private: RSAPrivateKey = field(default_factory=key)
    objects: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)

    def copy(self) -> Tree:
        """Another one with the same objects."""
        return replace(self, objects=dict(self.objects), metadata=dict(self.metadata))

    def log(self, account: str, region: str, delivered: datetime, number: int = 0) -> str:
        """Adds a log file of one record; gives its key."""
        event = hashlib.sha256(f"{account} {region} {delivered} {number}".encode()).hexdigest()
        name = f"{account}_CloudTrail_{region}_{delivered:%Y%m%dT%H%MZ}_{event[:16]}.json.gz"
        key = f"{self.prefix}AWSLogs/{self.folder}{account}/CloudTrail/{region}/{delivered:%Y/%m/%d}/{name}"
        record = {
            "eventVersion": "1.11",
            "userIdentity": {"type": "IAMUser", "accountId": account, "userName": "ann"},
            "eventTime": f"{delivered - timedelta(minutes=4):%Y-%m-%dT%H:%M:%SZ}",
            "eventSource": "ec2.amazonaws.com",
            "eventName": "DescribeInstances",
            "awsRegion": region,
            "sourceIPAddress": "198.51.100.7",
            "eventID": str(uuid.UUID(event[:32])),
            "eventType": "AwsApiCall",
            "recipientAccountId": account,
        }
        self.objects[key] = gzip.compress(json.dumps({"Records": [record]}).encode(), 9, mtime=0)
        return key

    def name(self, account: str, region: str, end: datetime, suffix: str = "") -> str:
        """The key of a digest."""
        file = f"{account}_CloudTrail-Digest_{region}_{self.trail}_{self.home}_{end:%Y%m%dT%H%M%SZ}{suffix}.json.gz"
        return f"{self.prefix}AWSLogs/{self.folder}{account}/CloudTrail-Digest/{region}/{end:%Y/%m/%d}/{file}"

    def digest(
        self, account: str, region: str, end: datetime, logs: list[str], before: str | None, suffix: str = "",
        **more: object,
    ) -> str:  # fmt: skip
        """Adds a digest; gives its key.

        Args:
            account: Whose.
            region: Of which region.
            end: End of its hour.
            logs: Keys of its log files.
            before: Key of the digest before it.
            suffix: `_backfill` for such a one.
            more: Members with other values than they should have.
        """
        own = self.name(account, region, end, suffix)
        content: dict[str, Any] = {
            "awsAccountId": account,
            "digestStartTime": f"{end - HOUR:%Y-%m-%dT%H:%M:%SZ}",
            "digestEndTime": f"{end:%Y-%m-%dT%H:%M:%SZ}",
            "digestS3Bucket": self.bucket,
            "digestS3Object": own,
            "digestPublicKeyFingerprint": fingerprint(self.private),
            "digestSignatureAlgorithm": "SHA256withRSA",
            "newestEventTime": None,
            "oldestEventTime": None,
            "previousDigestS3Bucket": before and self.bucket,
            "previousDigestS3Object": before,
            "previousDigestHashValue": before and _sha256(self.objects[before]),
            "previousDigestHashAlgorithm": before and "SHA-256",
            "previousDigestSignature": before and self.metadata[before]["signature"],
            "logFiles": [
                {
                    "s3Bucket": self.bucket,
                    "s3Object": log,
                    "hashValue": _sha256(self.objects[log]),
                    "hashAlgorithm": "SHA-256",
                    "newestEventTime": f"{end - HOUR:%Y-%m-%dT%H:%M:%SZ}",
                    "oldestEventTime": f"{end - HOUR:%Y-%m-%dT%H:%M:%SZ}",
                }
                for log in logs
            ],
        }
        self.put(own, {**content, **more})
        return own

    def put(self, own: str, content: dict[str, Any]) -> None:
        """Puts a digest, and its signature into its metadata."""
        data = json.dumps(content).encode()
        said = content["previousDigestSignature"] or "null"
        path = f"{content['digestS3Bucket']}/{content['digestS3Object']}"
        signed = f"{content['digestEndTime']}\n{path}\n{hashlib.sha256(data).hexdigest()}\n{said}"
        signature = self.private.sign(signed.encode(), PKCS1v15(), SHA256()).hex()
        self.objects[own] = gzip.compress(data, 9, mtime=0)
        self.metadata[own] = {"signature": signature, "signature-algorithm": "SHA256withRSA"}

    def read(self, own: str) -> dict[str, Any]:
        """A digest."""
        found: dict[str, Any] = json.loads(gzip.decompress(self.objects[own]))
        return found

    def chain(
        self, account: str, region: str, end: datetime, hours: int, before: str | None = None, every: int = 3
    ) -> list[str]:  # fmt: skip
        """Adds digests hour by hour, with two log files in each that is the last of `every`; gives their keys."""
        found = []
        for number in range(hours):
            logs = []
            if number % every == every - 1:
                first = end - timedelta(minutes=50)
                logs = [self.log(account, region, first + timedelta(minutes=20 * step), step) for step in range(2)]
            before = self.digest(account, region, end, logs, before)
            found.append(before)
            end += HOUR
        return found

    def write(self, folder: Path) -> Path:
        """Copies all of it to a folder, which has no metadata; gives the folder."""
        for own, data in self.objects.items():
            path = folder / own
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder


def _sha256(stored: bytes) -> str:
    return hashlib.sha256(gzip.decompress(stored)).hexdigest()


def moment(text: str) -> datetime:
    """A time, UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def main(folder: Path) -> None:
    """Writes a day of one account in one region, a few hours more, and the public key."""
    private = generate_private_key(65537, 2048)
    tree = Tree("harbour-org-logs", trail="org-trail", home="eu-central-1", private=private)
    tree.chain("111122223333", "eu-central-1", moment("2026-03-17T00:08:15"), 27, every=6)
    tree.write(folder)
    (folder / "public-keys.json").write_text(f"{public_keys(private)}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
