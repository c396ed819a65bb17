"""Public keys that digests are signed with: from files, or from AWS."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ocsf_lake.storage import s3
from ocsf_lake.storage.s3 import Access
from ocsf_mappers.errors import ConfigError, OcsfMappersError

FILE_BYTES = 16 << 20
"""A file of keys is no larger; a key takes half a kilobyte."""
PRINTED = "`aws cloudtrail list-public-keys` prints"
AROUND = timedelta(hours=2)
"""AWS is asked for the keys of so long before and after the end of a digest: keys change at some moment."""


def signed(key: RSAPublicKey, signature: str, content: bytes) -> bool:
    """Whether a signature, hex, is the key's for the content: RSA, PKCS #1 v1.5, SHA-256."""
    try:
        key.verify(bytes.fromhex(signature), content, PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


class PublicKeys:
    """Public keys by fingerprint. Several threads may ask.

    Args:
        keys: Those that are known.
        service: Service of AWS that is asked for others; None for no one.
        access: Who asks.

    Attributes:
        refused: Region -> why its keys could not be had.
    """

    def __init__(
        self, keys: Mapping[str, RSAPublicKey], service: str | None = None, access: Access | None = None
    ) -> None:
        self.refused: dict[str, str] = {}
        self._keys = dict(keys)
        self._service = service
        self._access = access or Access()
        self._asked: set[tuple[str, str, date]] = set()
        self._lock = threading.Lock()

    def of(self, fingerprint: str, region: str, time: datetime) -> RSAPublicKey | None:
        """The key of a fingerprint, which a digest of this region and time was signed with; None for an unknown one."""
        if fingerprint in self._keys or self._service is None:
            return self._keys.get(fingerprint)
        with self._lock:
            question = region, fingerprint, time.date()
            if fingerprint not in self._keys and question not in self._asked and region not in self.refused:
                self._asked.add(question)
                self._ask(region, time)
            return self._keys.get(fingerprint)

    def _ask(self, region: str, time: datetime) -> None:
        try:
            with s3.translate_errors(f"{self._service}:ListPublicKeys in {region}"):
                # The S3 endpoint of the settings is none of this service's.
                client = s3.aws_client(str(self._service), replace(self._access, region=region, endpoint=None))
                request = {"StartTime": time - AROUND, "EndTime": time + AROUND}
                while True:
                    answer = client.list_public_keys(**request)
                    for item in answer.get("PublicKeyList", ()):
                        self._keys[item["Fingerprint"]] = _key(item["Value"], item["Fingerprint"])
                    if not (token := answer.get("NextToken")):
                        return
                    request["NextToken"] = token
        except Exception as error:
            self.refused[region] = _reason(error)


def _reason(error: Exception) -> str:
    hint = "" if isinstance(error, OcsfMappersError) else "; it needs cloudtrail:ListPublicKeys"
    return f"{error}{hint}"


def from_files(paths: Sequence[Path]) -> dict[str, RSAPublicKey]:
    """The keys in files as `aws cloudtrail list-public-keys` prints them; a file may hold several such answers.

    Raises:
        ConfigError: A file cannot be read, is none such, or has no key.
    """
    keys: dict[str, RSAPublicKey] = {}
    for path in paths:
        items = list(_items(path))
        if not items:
            raise ConfigError(f"{str(path)!r} holds no keys; {PRINTED} those of a region")
        for item in items:
            fingerprint, value = item.get("Fingerprint"), item.get("Value")
            if not isinstance(fingerprint, str) or not isinstance(value, str):
                raise ConfigError(f"{str(path)!r}: a key has no Fingerprint or no Value")
            try:
                key = _key(base64.b64decode("".join(value.split()), validate=True), fingerprint)
            except (binascii.Error, ConfigError) as error:
                raise ConfigError(f"{str(path)!r}: the key {fingerprint!r} cannot be read: {error}") from error
            if keys.setdefault(fingerprint, key) != key:
                raise ConfigError(f"{str(path)!r}: the fingerprint {fingerprint!r} stands for two keys")
    return keys


def _items(path: Path) -> Iterator[dict[str, Any]]:
    """The keys in a file that holds one JSON document after the other."""
    try:
        if path.stat().st_size > FILE_BYTES:
            raise ConfigError(f"{str(path)!r} is too large for a file of public keys")
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error}") from error
    decoder = json.JSONDecoder()
    while text:
        try:
            document, end = decoder.raw_decode(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{str(path)!r} is no JSON: {error}") from error
        text = text[end:].lstrip()
        answers = document if isinstance(document, list) else [document]
        for answer in answers:
            # AWS's documentation spells it both ways.
            spelled = ("PublicKeyList", "publicKeyList")
            lists = [answer.get(name) for name in spelled] if isinstance(answer, dict) else []
            if not any(isinstance(items, list) for items in lists):
                raise ConfigError(f"{str(path)!r} has no PublicKeyList; {PRINTED} one")
            for items in lists:
                yield from (item for item in items or () if isinstance(item, dict))


def _key(der: bytes, fingerprint: str) -> RSAPublicKey:
    """A key from PKCS #1 or SubjectPublicKeyInfo."""
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"the public key {fingerprint!r} is none: {error}") from error
    if not isinstance(key, RSAPublicKey):
        raise ConfigError(f"the public key {fingerprint!r} is not RSA's")
    return key
