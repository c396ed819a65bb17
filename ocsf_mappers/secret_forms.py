"""How secrets look in any text: patterns that both RE2 and Python read, with few false finds.

Each is what stands before a secret, the secret, and what stands behind it. Repeats are bounded or cannot overlap, so
that a hostile text costs no more than its length.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

MARK = "[redacted:"
"""Begins what stands where a value was masked; the name of the rule and `]` follow."""
HIDDEN = re.compile(
    r"\[redacted:|hmac-sha256:[0-9a-f]{8}:|HIDDEN_DUE_TO_SECURITY_REASONS|<?sensitiveDataRemoved|\*+\Z|REDACTED\Z"
    r"|Value hidden"
)
"""Beginnings of what stands where AWS, or we, have hidden a value already."""

_BLANK = "(?: |%20|\\+)"
_NAMES = (
    "password|passwd|passphrase|client_secret|secret_key|secretaccesskey|aws_secret_access_key|aws_session_token"
    "|access_token|refresh_token|id_token|x-amz-security-token|x-amz-signature|signature|secret"
)


@dataclass(frozen=True)
class Form:
    """One way in which a secret is written.

    Args:
        before: Pattern of what stands before it.
        secret: Pattern of the secret.
        after: Pattern of what stands behind it.
        hint: A pattern that finds no less, and costs less.
        check: Whether what was found is one; None where the pattern is enough.
    """

    before: str
    secret: str
    after: str
    hint: str
    check: Callable[[str], bool] | None = None

    @property
    def pattern(self) -> str:
        """All of it, in three groups."""
        return f"({self.before})({self.secret})({self.after})"


def _has_digit(text: str) -> bool:
    return any("0" <= letter <= "9" for letter in text)


def _is_basic(text: str) -> bool:
    """Whether it is a user and a password as HTTP sends them."""
    try:
        return b":" in base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return False


SECRETS: Mapping[str, tuple[Form, ...]] = {
    "private_key": (
        Form(
            "",
            rf'-----BEGIN{_BLANK}(?:[A-Z0-9]+{_BLANK})*PRIVATE{_BLANK}KEY(?:{_BLANK}BLOCK)?-----'
            r'(?:[^-"\\]|\\[^"]|-[^-"\\])*(?:-----END[A-Z0-9 %+]*-----)?',
            "",
            "-----BEGIN",
        ),
    ),
    "jwt": (
        Form("", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?", "", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ"),
    ),
    "github_token": (
        Form(r"\b", "(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})", "", "gh[pousr]_|github_pat_"),
    ),
    "gitlab_token": (Form(r"\b", "glpat-[A-Za-z0-9_-]{20,}", "", "glpat-"),),
    "slack_token": (
        Form(r"\b", "(?:xox[abeoprs]-|xapp-[0-9]-)[A-Za-z0-9-]{10,}", "", "xox[abeoprs]-|xapp-[0-9]"),
        Form("hooks\\.slack\\.com/services/", "[A-Za-z0-9/_-]{10,}", "", "hooks\\.slack\\.com"),
    ),
    "bearer": (
        Form(f"(?i:bearer){_BLANK}+", "[A-Za-z0-9._~+/=-]{16,}", "", f"(?i:bearer){_BLANK}", _has_digit),
    ),
    "basic_auth": (
        Form(
            "(?:^|[\"'=:] ?)(?i:basic)(?: |%20)+", "[A-Za-z0-9+/]{8,}={0,2}", "",
            "(?i:basic)(?: |%20)+[A-Za-z0-9+/]{8}", _is_basic,
        ),
    ),
    "url_password": (
        Form(
            r"""[A-Za-z0-9+]://[^/\s:@"'\\]*:""", r"""[^/\s@"'\\]+""", "@", r"""://[^/\s:@"'\\]*:[^/\s@"'\\]+@""",
        ),
    ),
    "assignment": (
        Form(
            rf"""(?:^|[?&;,\s"'\[{{(]|%26|%3[Ff]|--)(?i:{_NAMES})(?: ?= ?|%3[Dd])["']?""", r"""[^&;,\s"'\\)}]+""", "",
            f"(?i:{_NAMES})(?: ?=|%3[Dd])",
        ),
        # `PWD=/home/...` in a log of commands is a folder.
        Form(
            r"""(?:^|[?&;,\s"'])(?i:pwd)=""", r"""[^/&;,\s"'\\][^&;,\s"'\\]*""", "", "(?i:pwd)=[^/]",
        ),
        Form(
            r"(?i:aws_secret_access_key|aws_session_token)\s*:\s*", r"""[^&;,\s"'\\)\]}]{16,}""", "",
            r"(?i:aws_secret_access_key|aws_session_token)\s*:",
        ),
    ),
}  # fmt: skip
"""Detectors of secrets, by name."""


def hidden(text: str, shown: Callable[[str], str]) -> str:
    """A message without the secrets in it.

    Args:
        text: The message.
        shown: Gives what stands in place of a secret of the detector with this name.
    """
    for name, form, pattern in _compiled():
        if not pattern.search(text):
            continue

        def changed(found: re.Match[str], name: str = name, form: Form = form) -> str:
            secret = found[2]
            if HIDDEN.match(secret) or (form.check is not None and not form.check(secret)):
                return found[0]
            return f"{found[1]}{shown(name)}{found[3]}"

        text = pattern.sub(changed, text)
    return text


@cache
def _compiled() -> tuple[tuple[str, Form, re.Pattern[str]], ...]:
    return tuple(_all())


def _all() -> Iterator[tuple[str, Form, re.Pattern[str]]]:
    for name, forms in SECRETS.items():
        for form in forms:
            yield name, form, re.compile(form.pattern, re.ASCII)
