"""What takes a value's place: the name of a rule, a keyed hash, or nothing."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ocsf_lake.redaction.rules import Action
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.secret_forms import HIDDEN, MARK

KEY_VARIABLE = "OCSF_LAKE_REDACTION_KEY"
KEY_BYTES = 32
"""A key is at least so long; less can be guessed."""

HASHED = "hmac-sha256:"
PLACEHOLDER = r"\[redacted:[a-z][a-z0-9_-]{0,39}\]|hmac-sha256:[0-9a-f]{8}:[0-9a-f]{64}"
"""Pattern of what takes a value's place."""

Replace = Callable[[str], str | None]
"""Gives what takes a text's place; None where it is hidden already, or empty."""


@dataclass(frozen=True)
class Key:
    """The key of keyed hashes.

    Args:
        secret: The key.
    """

    secret: bytes

    @property
    def id(self) -> str:
        """Distinguishes keys and reveals nothing of them; it stands in every hash."""
        return hashlib.sha256(b"ocsf-lake redaction key\0" + self.secret).hexdigest()[:8]

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def hashed(self, text: str) -> str:
        """HMAC-SHA256 of a text, in UTF-8, with the key's id before it."""
        digest = hmac.new(self.secret, text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()
        return f"{HASHED}{self.id}:{digest}"


def key(file: Path | None) -> Key | None:
    """The key from a file, else from the environment; None without one. Blanks around it are none of it.

    Raises:
        ConfigError: The file cannot be read, or the key is too short.
    """
    place = KEY_VARIABLE if file is None else f"the file of the setting redaction_key_file, {file}"
    try:
        secret = os.environ.get(KEY_VARIABLE, "").encode() if file is None else file.read_bytes()
    except OSError as error:
        raise ConfigError(f"the key of redaction cannot be read: {error}") from error
    secret = secret.strip()
    if file is None and not secret:
        return None
    if len(secret) < KEY_BYTES:
        raise ConfigError(
            f"the key of redaction in {place} has {len(secret)} bytes; it needs {KEY_BYTES}: `openssl rand -hex 32` "
            "gives one"
        )
    return Key(secret)


_IN_PLACE = re.compile(rf'\\*"?(?:{PLACEHOLDER})\\*"?')
"""A placeholder with the quotes that it has in JSON: what it stands for may have had none."""


def is_redacted(kept: str, text: str) -> bool:
    """Whether a text that was kept is this one with some of its values hidden, under whatever policy."""
    first, *pieces = _IN_PLACE.split(kept)
    if not pieces or not text.startswith(first):
        return False
    at = len(first)
    for piece in pieces[:-1]:
        place = text.find(piece, at)
        if place < 0:
            return False
        at = place + len(piece)
    return len(text) - at >= len(pieces[-1]) and text.endswith(pieces[-1])


def replacing(name: str, action: Action, secret: Key | None) -> Replace:
    """What a rule puts in a text's place.

    Args:
        name: Of the rule.
        action: What it does.
        secret: The key, which `hash` needs.
    """
    masked = f"{MARK}{name}]"

    def replace(text: str) -> str | None:
        if not text or HIDDEN.match(text):
            return None
        if action == "hash":
            assert secret is not None
            return secret.hashed(text)
        return masked if action == "mask" else ""

    return replace
