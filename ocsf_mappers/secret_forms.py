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
_PREFIXED = (
    "password|passwd|passphrase|client[_-]?secret|secret[_-]?key|secret_?access_?key|private[_-]?key|api[_-]key"
    "|session[_-]?token|access[_-]?token|refresh[_-]?token|auth[_-]?token|api[_-]?token|security[_-]?token"
)
_NAMES = f"[A-Za-z0-9_.-]*(?:{_PREFIXED})|id_token|x-amz-signature|signature|secret|apikey"
_ENDINGS = (
    r"(?i:password|passwd|passphrase|client[ _-]?secret|secret[ _-]?key|secret[ _]?access[ _]?key|private[ _-]?key"
    r"|api[ _-]?key|(?:session|access|refresh|auth|api|security)[ _-]?token)",
    "_(?:TOKEN|SECRET|PWD|PASS)", "[A-Za-z0-9]Password",
)  # fmt: skip
CREDENTIAL_NAME = (
    rf'[^"]*(?:[^A-Za-z0-9"]{_ENDINGS[0]}|{_ENDINGS[2]})|(?:[^"]*[^A-Za-z0-9_"])?[A-Z][A-Z0-9_]*{_ENDINGS[1]}'
)
"""Pattern of names that settings, variables and members have whose values are credentials: `DB_PASSWORD`, `x-api-key`,
`GITHUB_TOKEN`, `bindPassword`, `prod/db/password`; not `nextToken`, `secretId`."""
CREDENTIAL_END = (
    "(?:(?i:passw(?:or)?d|passphrase|client[ _-]?secret|secret[ _-]?key|secret[ _]?access[ _]?key"
    "|(?:private|api)[ _-]?key|(?:session|access|refresh|auth|api|security)[ _-]?token)|_(?:TOKEN|SECRET|PWD|PASS))"
)
"""Pattern of the ends of such names. It finds more than them, and all that look for a name share it."""
_PAIRED = f"(?:{CREDENTIAL_NAME}|(?i:password|passwd|passphrase|api[ _-]?key|x-amz-security-token))"
_ESCAPES = r"""(?:\\+(?:[^"\\]|"\s*[^"\\\s,:}\]])[^"\\]*)*"""
"""How a text of JSON goes on behind its first letters, however deep in others: no quote that a comma, a colon or a
bracket follows. Backslashes in a row are taken at once."""
_BETWEEN = (
    r"""(?:\\*"(?:(?i:type)\\*"\s*:\s*\\*"(?:PLAINTEXT|String|SecureString)\\*\""""
    rf"""|(?i:description)\\*"\s*:\s*\\*"[^"\\]*{_ESCAPES}\\*\""""
    r"""|[\w-]+\\*"\s*:\s*(?:true|false|null|-?[0-9.]+))\s*,\s*){0,3}"""
)
"""What may stand between a name and its value, in either order: not a type that makes the value a parameter's name."""


@dataclass(frozen=True)
class Form:
    """One way in which a secret is written.

    Args:
        before: Pattern of what stands before it.
        secret: Pattern of the secret.
        after: Pattern of what stands behind it.
        hint: A pattern that finds no less, and costs less; without `^` and `$`, as texts are searched in a row.
        check: Whether what was found is one; None where the pattern is enough.
        named: What follows `CREDENTIAL_END` in those that `hint` does not find.
    """

    before: str
    secret: str
    after: str
    hint: str
    check: Callable[[str], bool] | None = None
    named: str = ""

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


_NO_SECRETS = frozenset(("null", "none", "nil", "true", "false", "required", "optional", "undefined"))


def is_value(text: str) -> bool:
    """Whether it may be a secret: no word that says whether there is one, and no name by which AWS knows one."""
    return text.lower() not in _NO_SECRETS and not text.startswith("arn:")


def _is_no_drive(text: str) -> bool:
    return is_value(text) and not text.endswith(":")


def _is_paired(text: str) -> bool:
    return is_value(text) and not text.endswith('"')


def _is_no_port(text: str) -> bool:
    return re.match(r"[0-9]{1,5}[?#]", text) is None


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
            r"""[A-Za-z0-9+]://[^/\s:@"'\\]*:""", r"""[^/\s@"'\\]+(?:@[^/\s@"'\\?#&=]+)*""", "@", r"""://[^/\s:@"'\\]*:[^/\s@"'\\]+@""",
            _is_no_port,
        ),
    ),
    "assignment": (
        Form(
            rf"""(?:^|[?&;,\s"'\[{{(]|%26|%3[Ff])(?i:{_NAMES})(?: ?= ?|%3[Dd])["']?""", r"""[^&;,\s"'\\)}]+""", "",
            "(?i:id_token|signature|secret|apikey)(?: ?=|%3[Dd])", is_value, named=" ?=|%3[Dd]",
        ),
        Form(
            "(?:^|[?&]|%26|%3[Ff])(?i:token|sig)(?:=|%3[Dd])", r"""[^&;,\s"'\\)}]{8,}""", "",
            "(?i:token|sig)(?:=|%3[Dd])", is_value,
        ),
        # Arguments of commands, in one text or as a list.
        Form(
            r"""(?:^|[\s"'])--[A-Za-z0-9-]*(?i:password|passphrase|secret-key|client-secret|auth-token|api-key)"""
            r"""(?:\s+|\\*"\s*,\s*\\*")["']?""", r"""[^\s"'\\,&;|>-][^\s"'\\]*""", "",
            "--[A-Za-z0-9-]*(?i:password|passphrase|secret-key|client-secret|auth-token|api-key)", is_value,
        ),
        # SQL.
        Form(r"(?i:password|identified by)\s+'", r"""[^'"\\]+""", "'", r"(?i:password|identified by)\s+'"),
        # `PWD=/home/...` in a log of commands is a folder.
        Form(
            r"""(?:^|[?&;,\s"']|[A-Za-z]_)(?i:pwd)=""", r"""[^/&;,\s"'\\][^&;,\s"'\\]*""", "", "(?i:pwd)=[^/]",
            _is_no_drive,
        ),
        Form(
            r"(?i:aws_secret_access_key|aws_session_token)(?:\s*:\s*|\s+)", r"""[^&;,\s"'\\)\]}]{16,}""", "",
            r"(?i:aws_secret_access_key|aws_session_token)[\s:]",
        ),
    ),
    # Variables and headers as JSON has them in lists, in either order. Of CodeBuild a value may be a parameter's name.
    "named_value": (
        Form(
            rf""""(?i:name|key|parameterKey)\\*"\s*:\s*\\*"{_PAIRED}\\*"\s*,\s*{_BETWEEN}"""
            rf"""\\*"(?i:value|parameterValue)\\*"\s*:\s*\\*\"""",
            rf"""[^"\\]+{_ESCAPES}(?:\\*"\s*,\s*\\*"type\\*"\s*:\s*\\*"(?:PARAMETER_STORE|SECRETS_MANAGER)\\*")?""",
            "", "", _is_paired, named=r"""\\*"\s*,""",
        ),
        Form(
            r""""(?i:value|parameterValue)\\*"\s*:\s*\\*\"""", rf"""[^"\\]+{_ESCAPES}""",
            rf"""\\*"\s*,\s*{_BETWEEN}\\*"(?i:name|key|parameterKey)\\*"\s*:\s*\\*"{_PAIRED}\\*\"""",
            "", is_value, named=r"""\\*"\s*[^\s:]""",
        ),
    ),
    "aws_session_token": (
        Form(
            "", "(?:IQoJb3JpZ2lu|F[Qw]oGZXIvYXdz)[A-Za-z0-9+/]{50,}=*", "", "IQoJb3JpZ2lu|F[Qw]oGZXIvYXdz",
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
