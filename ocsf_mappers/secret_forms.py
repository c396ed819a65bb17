"""How secrets look in any text: patterns that both RE2 and Python read, with few false finds.

Each is what stands before a secret, the secret, and what stands behind it. Repeats are bounded or cannot overlap, so
that a hostile text costs no more than its length.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

MARK = "[redacted:"
"""Begins what stands where a value was masked; the name of the rule and `]` follow."""
HIDDEN = re.compile(
    r"\[redacted:|hmac-sha256:[0-9a-f]{8}:|HIDDEN_DUE_TO_SECURITY_REASONS|<?sensitiveDataRemoved|\*+\Z|REDACTED\Z"
    r"|<secret>\Z|Value hidden"
)
"""Beginnings of what stands where AWS, or we, have hidden a value already."""

_BLANK = "(?: |%20|\\+)"
_HOLDERS = "session|access|refresh|auth|api|security|bearer|jwt|github|gitlab|slack|npm|vault|deploy|bot"
_ACCOUNTS = "db|database|sql|postgres|redis|ldap|smtp|user|root|admin|store"
_SHARERS = "client|shared|signing|webhook|app|consumer|session|cookie|auth|jwt|hmac|api"
_VARIABLE = (
    "(?:[A-Z][A-Z0-9_]*_(?:PWD|PASS|PAT)|TOKEN|SECRET|APIKEY"
    "|(?:[A-Z][A-Z0-9_]*_)?(?:(?:SIGNING|ENCRYPTION|MASTER|LICENSE|STORAGE|ACCOUNT)_KEY|SECRET_KEY_BASE))"
)
"""Pattern of names of variables that are a credential's in capitals alone."""


def _words(sign: str) -> str:
    """A pattern for what a name ends in that is a credential's, whatever stands before it, in any case.

    Args:
        sign: Pattern of what may stand between two words.
    """
    return (
        f"passw(?:or)?d[0-9]?|passphrase|(?:{_SHARERS}){sign}?secret|secret{sign}?key|secret{sign}?access{sign}?key"
        f"|shared{sign}?access{sign}?key"
        f"|(?:{_HOLDERS}){sign}?token|(?:{_ACCOUNTS}){sign}?(?:pwd|pass)"
    )


CREDENTIAL_NAME = (
    rf'[^"]*(?:(?i:{_words("[ _-]")}|private[ _-]?key|[ _/-](?:token|secret))|[^"](?i:api[ _-]?key))'
    rf'|(?:[^"]*[^A-Za-z0-9_"])?{_VARIABLE}'
)
"""Pattern of names that settings, variables and members have whose values are credentials: `DB_PASSWORD`, `x-api-key`,
`ci/github_token`, `dbpasswd`, `bindPassword`, `/prod/db/password`; not `nextToken`, `secretId`."""
_OTHER_END = (
    "(?:(?i:next|prev|previous|page|pagination|continuation|start|starting|resume|cursor|marker"
    "|scroll|sequence|checkpoint|sync|client|request|idempotency|creation|update|change|lock|version)[ _/-][Tt]oken"
    "|(?i:pull|existing|manager|secretsmanager|kubernetes|tls)[ _/-][Ss]ecret)"
)
OTHER_NAME = rf'(?:[^"]*[^A-Za-z0-9"])?{_OTHER_END}|[^"]*(?:removePrivateKey|syncSessionToken)'
"""Pattern of those of them that are no credentials': of tokens that say where a list goes on, that a request is the
same as another or what was changed last, of what names a secret, and two of AWS's, an id and a state."""
CREDENTIAL_END = (
    "(?i:passw(?:or)?d[0-9]?|passphrase|(?:secret|private|api)[ _-]?key|(?:secret|shared)[ _-]?access[ _-]?key|secret"
    "|pwd|pass|_pat|[egnrt]_key|secret_key_base|(?:[^A-Za-z0-9]|[bdhikmnrsy]|[ow]t|ault)token)"
)
"""Pattern of the ends of such names, which all that look for a name share. It finds more than them, as single letters
cost less than words; not `nextToken`, `clientToken`, which many logs are full of."""
_WORD = rf"[A-Za-z0-9_./-]*(?:{_words('[_-]')}|(?:private|api)[_-]?key|[_/-](?:token|secret))|secret|(?-i:{_VARIABLE})"
_ASSIGNED = rf"{_WORD}|id_token|x-(?:amz|goog)-signature|signature|accountkey"
_START = r"\\[nrt]|%(?:25)*(?:0[AaDd]|2[036]|3[Ff])|[^A-Za-z0-9_./-]|^"
"""What may stand before a name to which something is assigned; an escape's letter is none of the name's."""
_EQUALS = r"""\\*["']?(?:[ \t]*(?::=|=>?)[ \t]*|%(?:25)*3[Dd])"""
_IN_QUOTES = (
    (r"\\*'", r"""[^\s'"\\,:}\]][^'"\\]*(?:\\+[^'"\\]+)*"""),
    (r'\\*"', r"""[^\s"\\,:}\]][^"\\]*(?:\\+[^"\\]+)*"""),
)
"""Quotes, and what stands in them; behind one that closes a string of JSON there is a comma, a colon or a bracket."""
_LINE = r"(?:[\n\r]|\\[nr]|^)[ \t]*(?:-[ \t]+)?"
_HEADER = "(?:proxy-)?authorization|private-token|x-[a-z0-9-]*(?:token|api-?key|secret)"
_SPACES = r"(?:\s|\\+[nrt])*"
_ARGUMENT = rf"--?(?i:[A-Za-z0-9_.-]*(?:{_words('[_-]')}|api[_-]?key|[_-](?:token|secret|pwd))|token|secret|pass)"
_LAST_WORD = r'[^"]*(?i:passw(?:or)?d[0-9]?|passphrase|secret|token|key|pwd|pass|_pat|key_base)'
"""Pattern of what no name of a credential in a pair is without, and few others are not."""
_PAIRED = (
    rf'"(?i:(?:parameter|option)?(?:name|key))\\*"\s*:\s*\\*"(?!(?:{OTHER_NAME})\\*")'
    rf'(?:{CREDENTIAL_NAME}|(?i:api[ _-]?key|x-amz-security-token))\\*"'
)
_ESCAPES = r"""(?:\\+(?:[^"\\]|"\s*[^"\\\s,:}\]])[^"\\]*)*"""
"""How a text of JSON goes on behind its first letters, however deep in others: no quote that a comma, a colon or a
bracket follows. Backslashes in a row are taken at once."""
_BETWEEN = (
    r"""(?:\\*"(?:(?i:type)\\*"\s*:\s*\\*"(?:PLAINTEXT|String|SecureString)\\*\""""
    r"""|(?i:description|keyId|tier|dataType|allowedPattern|namespace|resourceName|resolvedValue)\\*"\s*:\s*\\*\""""
    rf"""[^"\\]*{_ESCAPES}\\*\""""
    r"""|[\w-]+\\*"\s*:\s*(?:true|false|null|-?[0-9.]+|\[[^\[\]]*\]))\s*,\s*){0,3}"""
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
        name: Pattern of Python that finds the name of a secret in what stands before it or behind.
        inner: Where the name stands before: pattern that finds in what follows another name that a secret may have.
        other: Pattern of what `hint` or `named` finds that is no secret's name: a text with no more of those has none.
    """

    before: str
    secret: str
    after: str
    hint: str
    check: Callable[[str], bool] | None = None
    named: str = ""
    name: str = ""
    inner: str = ""
    other: str = ""

    @property
    def pattern(self) -> str:
        """All of it, in three groups."""
        return f"({self.before})({self.secret})({self.after})"

    def hides_another(self, before: str, secret: str) -> bool:
        """Whether what was found is no secret by its name, and may have taken one along."""
        return bool(self.inner) and not self.is_named(before, "") and re.search(self.inner, secret) is not None

    @cached_property
    def _parts(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return re.compile(self.before, re.ASCII), re.compile(self.secret, re.ASCII)

    def is_named(self, before: str, after: str) -> bool:
        """Whether the name of a secret stands around it, where it has to have one."""
        return bool(re.search(self.name, before) or re.search(self.name, after))

    def holds(self, before: str, secret: str, after: str) -> bool:
        """Whether what the three groups found is a secret."""
        return self.is_named(before, after) and (self.check is None or self.check(secret))

    def replaced(self, text: str, replace: Callable[[str], str | None]) -> tuple[str, bool]:
        """A text without the secrets of a form with `inner`; whether there were any.

        Args:
            text: The text.
            replace: Gives what takes a secret's place; None where it stays.
        """
        named, secret = self._parts
        kept, done, at = list[str](), 0, 0
        while match := named.search(text, at):
            at = match.end() - 1  # a blank or quote, which the next name may begin behind
            if not self.is_named(match[0], "") or (value := secret.match(text, match.end())) is None:
                continue
            at = value.end()
            if self.holds(match[0], value[0], "") and (instead := replace(value[0])) is not None:
                kept += [text[done : value.start()], instead]
                done = at
        return "".join([*kept, text[done:]]), bool(kept)


def _has_digit(text: str) -> bool:
    return any("0" <= letter <= "9" for letter in text)


def _is_header(text: str) -> bool:
    """Whether it may be a credential, and not how a request to AWS is signed, which names a key."""
    return _has_digit(text) and not text.startswith("AWS4-")


def _is_basic(text: str) -> bool:
    """Whether it is a user and a password as HTTP sends them."""
    try:
        return b":" in base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return False


_NO_SECRETS = frozenset(
    (
        "null", "none", "nil", "undefined", "true", "false", "yes", "no", "enabled", "disabled", "required", "optional",
        "seconds", "minutes", "hours", "days",
    )
)  # fmt: skip


REFERENCE = re.compile(
    r"arn:|alias/|file://|id=|\$[A-Z_]+\Z|\$\{[A-Za-z_]+\}?\Z|\$\([a-z./-]+(?:\s|\Z)|\{\{resolve:[a-z-]+:"
)
"""Where a secret is found: a name of AWS's, a file, a variable, another command."""


def is_value(text: str) -> bool:
    """Whether it may be a secret: no word that says whether there is one or how long it holds, and not where one is."""
    return text.lower() not in _NO_SECRETS and REFERENCE.match(text) is None


def _is_no_drive(text: str) -> bool:
    return is_value(text) and not text.endswith(":")


def _is_paired(text: str) -> bool:
    return is_value(text) and not text.endswith('"')


def _is_word(text: str) -> bool:
    """Whether it is one word, with a comment perhaps, and no block, list or reference of YAML."""
    return re.fullmatch(r"[^\s|>&*!{\[]\S*\s*(?:\s#.*)?", text) is not None and is_value(text.split(maxsplit=1)[0])


def _is_no_port(text: str) -> bool:
    return re.match(r"[0-9]{1,5}[?#]", text) is None


def _assigned(quote: str, secret: str) -> Form:
    return Form(
        f"(?:{_START})(?i:{_ASSIGNED}){_EQUALS}{quote}", secret, "",
        f"(?:(?i:id_token|signature|secret|accountkey)|TOKEN){_EQUALS}", is_value, named=_EQUALS,
        name=rf"^(?>{_START})(?!(?:{OTHER_NAME}){_EQUALS})[A-Za-z0-9_./-]",
        inner=rf"(?:{CREDENTIAL_END}|(?i:signature|accountkey)|TOKEN)(?:{_EQUALS}|\Z)",
        other=f"(?:^|[^A-Za-z0-9]){_OTHER_END}{_EQUALS}",
    )  # fmt: skip


def _argument(between: str, secret: str) -> Form:
    return Form(
        rf"""(?:^|[\s"'\\])(?:{_ARGUMENT}){between}""", secret, "",
        rf"""-[A-Za-z0-9_.-]*{CREDENTIAL_END}(?:\s|\\*["'])""", is_value,
        name=rf"^[^-]*--?(?!(?:{OTHER_NAME})[^A-Za-z0-9])[A-Za-z]",
    )  # fmt: skip


_SERVICE_TOKENS = (
    ("[sr]k_(?:live|test)_", "[A-Za-z0-9]{16,}"), ("whsec_", "[A-Za-z0-9+/]{24,}"),  # Stripe
    ("sk-(?:ant|proj|svcacct|admin)-", "[A-Za-z0-9_-]{20,}"),
    ("AIza[A-Za-z0-9_-]", "[A-Za-z0-9_-]{34}"), (r"ya29\.", "[A-Za-z0-9_-]{20,}"), ("GOCSPX-", "[A-Za-z0-9_-]{20,}"),
    ("npm_[A-Za-z0-9]", "[A-Za-z0-9]{30,}"), ("pypi-[A-Za-z0-9]", "[A-Za-z0-9_-]{50,}"), ("rubygems_", "[a-f0-9]{40,}"),
    ("dckr_[op]at_", "[A-Za-z0-9_-]{20,}"), (r"SG\.[A-Za-z0-9_-]", r"[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{30,}"),
    ("hf_[A-Za-z0-9]", "[A-Za-z0-9]{30,}"), (r"hv[bsr]\.", "[A-Za-z0-9_-]{20,}"), (r"atlasv1\.", "[A-Za-z0-9_-]{50,}"),
    ("do[opr]_v1_", "[a-f0-9]{40,}"), ("shp(?:at|ca|pa|ss)_", "[A-Za-z0-9]{30,}"), ("dapi[a-f0-9]{8}", "[a-f0-9]{24}"),
    ("AT[AC]TT3x", "[A-Za-z0-9_=-]{40,}"), ("gl(?:sa|c)_", "[A-Za-z0-9_+/=]{30,}"), ("NRAK-", "[A-Z0-9]{20,}"),
    ("lin_api_", "[A-Za-z0-9]{30,}"), ("ntn_[A-Za-z0-9]", "[A-Za-z0-9]{30,}"), ("PMAK-", "[A-Za-z0-9-]{40,}"),
    ("sntry[su]_", "[A-Za-z0-9_+/=]{30,}"), ("tskey-", "[A-Za-z0-9-]{20,}"), ("AGE-SECRET-KEY-1", "[A-Z0-9]{40,}"),
    ("ABSK[A-Za-z0-9+/]", "[A-Za-z0-9+/]{90,}=*"),  # Amazon Bedrock
)  # fmt: skip
"""How tokens of services begin, and go on."""


SECRETS: Mapping[str, tuple[Form, ...]] = {
    "private_key": (
        Form(
            "",
            rf'-----BEGIN{_BLANK}(?:[A-Z0-9]+{_BLANK})*PRIVATE{_BLANK}KEY(?:{_BLANK}BLOCK)?-----'
            r'(?:[^-"\\]|\\[^"]|-[^-"\\])*(?:-----END[A-Z0-9 %+]*-----)?',
            "",
            "-----BEGIN",
        ),
        # The same in base64, as a kubeconfig has it.
        Form(
            "", "LS0tLS1CRUdJTiB(?:[A-Za-z0-9+/]{0,20}(?:UFJJVkFURS|QUklWQVRF|BSSVZBVE))[A-Za-z0-9+/=]*", "",
            "LS0tLS1CRUdJTiB",
        ),
    ),
    "jwt": (
        # Without its second part it is found as well, and let go: else each of its letters could begin another.
        Form(
            "", r"eyJ[A-Za-z0-9_-]{8,}(?:\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?)?", "",
            r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8}", lambda text: "." in text,
        ),
    ),
    "github_token": (
        Form(r"\b", "(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})", "", "gh[pousr]_|github_pat_"),
    ),
    "gitlab_token": (
        Form(
            r"\b", "gl(?:pat|rt|dt|ptt|cbt|ft|soat|agent)-[A-Za-z0-9_.-]{20,}", "",
            "gl(?:pat|rt|dt|ptt|cbt|ft|soat|agent)-",
        ),
    ),
    "slack_token": (
        Form(r"\b", "(?:xox[abeoprs][.-]|xapp-[0-9]-)[A-Za-z0-9.-]{10,}", "", "xox[abeoprs][.-]|xapp-[0-9]"),
        Form(
            "hooks\\.slack\\.com/(?:services|workflows|triggers)/", "[A-Za-z0-9/_-]{10,}", "", "hooks\\.slack\\.com",
        ),
    ),
    "service_token": (
        Form(
            r"\b", "|".join(begin + rest for begin, rest in _SERVICE_TOKENS), "",
            "|".join(begin for begin, _ in _SERVICE_TOKENS),
        ),
        Form(r"\bsk-", "[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20,}", "", "T3BlbkFJ"),  # OpenAI, before there were projects
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
            r"""[A-Za-z0-9+]://[^/\s:@"'\\]*:""", r"""[^/\s@"'\\]+(?:@[^/\s@"'\\?#&=]+)*""", "@(?:sha256:)?",
            r"""://[^/\s:@"'\\]*:[^/\s@"'\\]+@""", _is_no_port, name=r"@\Z",  # not the version of an image
        ),
    ),
    "assignment": (
        # SQL.
        Form(
            r"(?i:password(?:\s+for\s+\S+)?|identified\s+(?:with\s+\S+\s+)?(?:by|as)|secret_access_key|session_token)"
            r"(?:\s*[=(]\s*|\s+)[NEne]?\\*'", r"""[^'"\\]+(?:''[^'"\\]+)*""", r"\\*'",
            r"(?i:password(?:\s+for\s+\S+)?|\s(?:by|as)|secret_access_key|session_token)[\s=(]+[NEne]?\\*'", is_value,
        ),
        Form(
            r'(?i:create|alter)\s+(?i:user)\s+\S+\s+(?i:identified\s+by)\s+(?:\\*")?', r"""[^\s'"\\;,]+""", "",
            r'(?i:user)\s+\S+\s+(?i:identified\s+by)\s', is_value,
        ),
        *(_assigned(quote, secret) for quote, secret in _IN_QUOTES),
        _assigned("", r"""=*[^=&;,\s"'\\)}][^&;,\s"'\\)}]*"""),
        Form(
            "(?:^|[?&#]|%(?:25)*(?:2[36]|3[Ff]))(?i:token|sig|jwt|pass|samlresponse)(?:=|%(?:25)*3[Dd])",
            r"""[^&;,\s"'\\)}]{8,}""", "", "(?i:token|sig|jwt|pass|samlresponse)(?:=|%(?:25)*3[Dd])", is_value,
        ),
        # Arguments of commands, in one text or as a list.
        *(_argument(rf"(?:\s+|{quote}\s*,\s*){quote}", secret) for quote, secret in _IN_QUOTES),
        _argument(r"\s+", r"""[^\s"'\\,&;|>-][^\s"'\\]*"""),
        # JSON with escaped quotes in a text that is none, or deeper than it is gone into; dictionaries of Python.
        Form(
            rf'\\"[^"\\]*{CREDENTIAL_END}\\+"{_SPACES}:{_SPACES}\\+"', rf'[^"\\]+{_ESCAPES}', "", "", is_value,
            named=rf'\\+"{_SPACES}:', name=rf'"(?!(?:{OTHER_NAME})\\)(?:{CREDENTIAL_NAME})\\', inner='"',
        ),
        Form(
            rf"""'[^'"\\]*{CREDENTIAL_END}\\*'\s*:\s*[bu]?\\*'""", r"""[^'"\\]+""", "", "", is_value, named=r"\\*'\s*:",
            name=rf"""^'(?!(?:{OTHER_NAME})[\\'])(?:{CREDENTIAL_NAME})[\\']""",
        ),
        # A line of YAML with one word, a header of HTTP, an element of XML.
        Form(
            rf"""(?:{_LINE})(?i:{_WORD}):[ \t]+(?:\\*["'])?""", r"""[^\n\r"'\\]+""", "", r"TOKEN:[ \t]", _is_word,
            named=r":[ \t]",
            name=rf"^(?>{_LINE})(?!(?:{OTHER_NAME}):)[A-Za-z0-9_./-]",
        ),
        Form(
            rf"""(?:\\[nrt]|[\s"'\\]|^)(?i:{_HEADER}):[ \t]+(?:(?i:token|bearer|basic|apikey)[ \t]+)?""",
            "[A-Za-z0-9._~+/=:-]{8,}", "", r"(?i:authorization):[ \t]", _is_header, named=r":[ \t]",
            name=rf"""^(?>\\[nrt]|[\s"'\\]?)(?!(?:{OTHER_NAME}):)[A-Za-z]""",
        ),
        Form(
            rf"<(?i:[A-Za-z0-9_.:-]*(?:{_words('[_-]')}|(?:private|api|pre_?shared)[_-]?key|[_-](?:token|secret)))>",
            r'[^<>"\\]+', r"<\\*/", "(?i:shared_?key)>", is_value, named=">", name=rf"^<(?!(?:{OTHER_NAME})>)[A-Za-z]",
        ),
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
            rf""""(?i:(?:parameter|option)?(?:name|key))\\*"\s*:\s*\\*"{_LAST_WORD}\\*"\s*,\s*{_BETWEEN}"""
            rf"""\\*"(?i:(?:parameter|option)?value)\\*"\s*:\s*\\*\"""",
            rf"""[^"\\]+{_ESCAPES}(?:\\*"\s*,\s*\\*"type\\*"\s*:\s*\\*"(?:PARAMETER_STORE|SECRETS_MANAGER)\\*")?""",
            "", "", _is_paired, named=r"""\\*"\s*,""", name=_PAIRED, inner='"',
        ),
        Form(
            r""""(?i:(?:parameter|option)?value)\\*"\s*:\s*\\*\"""", rf"""[^"\\]+{_ESCAPES}""",
            rf"""\\*"\s*,\s*{_BETWEEN}\\*"(?i:(?:parameter|option)?(?:name|key))\\*"\s*:\s*\\*"{_LAST_WORD}\\*\"""",
            "", is_value, named=r"""\\*"\s*[^\s:]""", name=_PAIRED,
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

        def instead(secret: str, name: str = name) -> str | None:
            return None if HIDDEN.match(secret) else shown(name)

        def changed(match: re.Match[str], form: Form = form, instead: Callable[[str], str | None] = instead) -> str:
            replacement = instead(match[2]) if form.holds(*match.groups()) else None
            return match[0] if replacement is None else f"{match[1]}{replacement}{match[3]}"

        text = form.replaced(text, instead)[0] if form.inner else pattern.sub(changed, text)
    return text


@cache
def _compiled() -> tuple[tuple[str, Form, re.Pattern[str]], ...]:
    return tuple(_all())


def _all() -> Iterator[tuple[str, Form, re.Pattern[str]]]:
    for name, forms in SECRETS.items():
        for form in forms:
            yield name, form, re.compile(form.pattern, re.ASCII)
