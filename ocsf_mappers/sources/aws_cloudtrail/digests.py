"""CloudTrail's digest files.

Format: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-digest-file-structure.html
What is signed: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-custom-validation.html

A trail has a chain of them for each account and region, one for each hour, also for an hour without log files. Log files
that are delivered too late for the digest of their hour are named by a backfill digest.
"""

import hashlib
import re
from datetime import UTC, datetime

import msgspec

from ocsf_mappers import Digest, DigestName, Digests, HashedObject

YEARS = range(2000, 9000)
"""Others are no year of a digest: nobody should reckon with them, to the end of the calendar."""
_NAME = re.compile(
    r"(?:^|/)AWSLogs/(?:[^/]+/)?(?P<account>\d{12})/CloudTrail-Digest/(?P<region>[a-z0-9-]+)/(?P<day>\d{4}/\d\d/\d\d)/"
    r"(?P=account)_CloudTrail-Digest_(?P=region)_(?P<trail>[^/]+)_(?P<home>[a-z0-9-]+)_(?P<end>\d{8}T\d{6}Z)"
    r"(?P<backfill>_backfill)?\.json\.gz"
)
_DELIVERED = re.compile(r"_CloudTrail_[a-z0-9-]+_(\d{8}T\d{4}Z)_[^/]*")


class _LogFile(msgspec.Struct, rename="camel"):
    s3_bucket: str
    s3_object: str
    hash_value: str
    hash_algorithm: str


class _File(msgspec.Struct, rename="camel"):
    aws_account_id: str
    digest_start_time: str
    digest_end_time: str
    digest_s3_bucket: str
    digest_s3_object: str
    digest_public_key_fingerprint: str
    digest_signature_algorithm: str
    log_files: list[_LogFile]
    previous_digest_s3_bucket: str | None = None
    previous_digest_s3_object: str | None = None
    previous_digest_hash_value: str | None = None
    previous_digest_hash_algorithm: str | None = None
    previous_digest_signature: str | None = None


def name(key: str) -> DigestName | None:
    """What a key says, if it is that of a digest in the folder of its day."""
    match = _NAME.search(key)
    if match is None or match.end() != len(key) or "AWSLogs/" in key[match.end("account") :]:
        return None
    end = _time(match["end"], "%Y%m%dT%H%M%SZ")
    if end is None or match["day"] != f"{end:%Y/%m/%d}":
        return None
    return DigestName(match["account"], match["region"], match["trail"], match["home"], end, bool(match["backfill"]))


def read(content: bytes) -> Digest:
    """A digest file, uncompressed.

    Raises:
        ValueError: It is none.
    """
    try:
        file = msgspec.json.decode(content, type=_File)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error
    start, end = (_time(text, "%Y-%m-%dT%H:%M:%SZ") for text in (file.digest_start_time, file.digest_end_time))
    if start is None or end is None or not start < end:
        raise ValueError("its times are none, or do not follow each other")
    before = (
        file.previous_digest_s3_bucket, file.previous_digest_s3_object, file.previous_digest_hash_algorithm,
        file.previous_digest_hash_value, file.previous_digest_signature,
    )  # fmt: skip
    given = [text for text in before if text is not None]
    if len(given) not in (0, len(before)):
        raise ValueError("it says only a part of what the digest before it is")
    # The first digest of a chain has the word null in the place of a signature, as AWS's own tools write it.
    signed = "\n".join(
        (
            file.digest_end_time,
            f"{file.digest_s3_bucket}/{file.digest_s3_object}",
            hashlib.sha256(content).hexdigest(),
            "null" if file.previous_digest_signature is None else file.previous_digest_signature,
        )
    )
    return Digest(
        file.aws_account_id,
        start,
        end,
        file.digest_s3_bucket,
        file.digest_s3_object,
        file.digest_public_key_fingerprint,
        file.digest_signature_algorithm,
        signed.encode(),
        HashedObject(*given[:4]) if given else None,
        file.previous_digest_signature,
        tuple(HashedObject(log.s3_bucket, log.s3_object, log.hash_algorithm, log.hash_value) for log in file.log_files),
    )


def delivered(key: str) -> datetime | None:
    """When a log file was delivered, as its name says."""
    match = _DELIVERED.search(key)
    return _time(match[1], "%Y%m%dT%H%MZ") if match else None


def _time(text: str, form: str) -> datetime | None:
    try:
        time = datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
    return time if time.year in YEARS else None


DIGESTS = Digests(
    pattern="AWSLogs/{account}/CloudTrail-Digest/{region}/{year}/{month}/{day}",
    logs="AWSLogs/{account}/CloudTrail/{region}/{year}/{month}/{day}",
    name=name,
    read=read,
    delivered=delivered,
    signature="signature",
    generated="backfill-generation-timestamp",
    algorithm="SHA256withRSA",
    hash_algorithm="SHA-256",
    keys="cloudtrail",
)
