"""Text as it may be shown, logged and stored: nothing in it steers a terminal, and no secret is in it."""

from __future__ import annotations

import re
from functools import cache

from ocsf_mappers.secret_forms import hidden

_MARKS = (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
"""Marks that change how the text around them is shown: directions, ends of lines and paragraphs."""
STEERING = (*range(0x20), *range(0x7F, 0xA0), *_MARKS)
"""Characters by which the text of a log could move the cursor, change colours or hide what stands beside it."""
_NAMED = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
_ESCAPES = {code: _NAMED.get(code, f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}") for code in STEERING}


def escaped(text: str, kept: str = "") -> str:
    """The text with control characters spelled out, an escape as `\\x1b`."""  # noqa: D301 - shown as it is printed
    return text.translate(_escapes(kept))


@cache
def _escapes(kept: str) -> dict[int, str]:
    return {code: shown for code, shown in _ESCAPES.items() if chr(code) not in kept}


_SECRETS = re.compile(
    r"""(?ix)
    (?P<url> [a-z0-9+] :// [^/\s:@'"]* : ) (?! \d{1,5} / ) [^\s'"@]{1,2048} (?=@)
    | (?P<name>
        (?: password | passwd | pwd | secret[\w.-]{0,60} | token | x-amz-credential | awsaccesskeyid
            | (?:x-amz-)?signature | sig )
        (?: = | ["'] \s* : \s* ) ["']? )
      (?! none | null ) [^\s&'",;]+
    """
)
_HIDDEN = "***"


def redacted(text: str) -> str:
    """A message without the passwords of URLs, signatures and the like: messages are logged, stored and shown."""
    text = hidden(text, lambda _: _HIDDEN)
    return _SECRETS.sub(lambda match: f"{match['url'] or match['name']}{_HIDDEN}", text)
