"""Ed25519 keys: the private one that signs a lake's chain, and public ones that check it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ocsf_mappers.errors import ConfigError

CONTEXT = b"ocsf-lake/chain/"
"""Begins what is signed, so that a signature of ours stands for nothing else; the hash follows, in hex."""
KEY_BYTES = 64 << 10
"""A file of keys is no larger."""
_PEM = "-----BEGIN"


def message(own_hash: str) -> bytes:
    """What is signed of a record with this hash."""
    return CONTEXT + own_hash.encode()


@dataclass(frozen=True)
class Signer:
    """Who signs records.

    Args:
        key_id: Of the public key, see `key_id`.
        key: The private key.
    """

    key_id: str
    key: object

    def sign(self, own_hash: str) -> str:
        """Signature of a record with this hash, in hex."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        assert isinstance(self.key, Ed25519PrivateKey)
        return self.key.sign(message(own_hash)).hex()

    def __repr__(self) -> str:
        return f"Signer({self.key_id})"


def signer(given: str) -> Signer:
    """Who signs with a private key.

    Args:
        given: Path of a PEM file, or its text.

    Raises:
        ConfigError: It is no unencrypted private key of Ed25519. The message never has any of it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    is_text = given.lstrip().startswith(_PEM)
    where = "its text" if is_text else repr(given)
    if not is_text and not _is_file(given):
        # Not shown: it may be a key whose first line is missing.
        raise ConfigError(f"setting chain_key names no file, and is no key in PEM itself; {MAKE}")
    data = given.replace("\\n", "\n").encode() if is_text else _read(Path(given), "setting chain_key")
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise ConfigError(f"setting chain_key: the key in {where} is encrypted; give one without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"setting chain_key: {where} is not a private key in PEM; {MAKE}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"setting chain_key: the key in {where} is none of Ed25519; {MAKE}")
    return Signer(_id(key.public_key().public_bytes_raw()), key)


MAKE = "make one with: openssl genpkey -algorithm ed25519 -out chain-key.pem"


def public_keys(files: list[Path]) -> dict[str, bytes]:
    """Id -> raw public key, of those in PEM files; a file may have several.

    Raises:
        ConfigError: One has none, or another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    keys: dict[str, bytes] = {}
    for file in files:
        text = _read(file, "--public-key")
        parts = text.split(_PEM.encode())[1:]
        if not parts:
            raise ConfigError(f"--public-key: {str(file)!r} has no public key in PEM; {SHOW}")
        for part in parts:
            try:
                key = load_pem_public_key(_PEM.encode() + part)
            except (ValueError, UnsupportedAlgorithm):
                raise ConfigError(f"--public-key: {str(file)!r} has no public key in PEM; {SHOW}") from None
            if not isinstance(key, Ed25519PublicKey):
                raise ConfigError(f"--public-key: the key in {str(file)!r} is none of Ed25519")
            raw = key.public_bytes_raw()
            keys[_id(raw)] = raw
    return keys


SHOW = "make it of the private one with: openssl pkey -in chain-key.pem -pubout -out chain-key.pub.pem"


def is_signed(key: bytes, own_hash: str, signature: str) -> bool:
    """Whether a signature, in hex, is the key's for a record with this hash."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(signature), message(own_hash))
    except (InvalidSignature, ValueError):
        return False
    return True


def _id(raw: bytes) -> str:
    """Of a public key: the first 32 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(raw).hexdigest()[:32]


def _is_file(given: str) -> bool:
    try:
        return Path(given).is_file()
    except (OSError, ValueError):
        return False


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(KEY_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > KEY_BYTES:
        raise ConfigError(f"{what}: {str(path)!r} is too large for a key")
    return data
