"""Settings of alerts: who is notified of findings, from which severity on, and how. A secret is never among them.

What a service takes as a secret (a key, a URL with a token) is in an environment variable that the settings name.
"""

from __future__ import annotations

import os
import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ocsf_mappers.errors import ConfigError

Severity = Literal["informational", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("informational", "low", "medium", "high", "critical")
"""Sigma's levels, the least first."""
UNSAID: Severity = "medium"
"""What a rule without a level counts as: too many alerts are better than one that nobody got."""

FLOW_AGE_DAYS = 30.0
"""Older findings are of history that was brought in afterwards: nobody is called at night for those."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEEDED = {"webhook": "url or url_variable", "apprise": "url_variable", "sns": "topic", "block": "block"}


class Receiver(BaseModel):
    """Somebody who is notified of findings.

    Args:
        name: What it is called in messages and in the ledger; another name is another receiver.
        kind: `webhook`: signed JSON by HTTP. `apprise`: e-mail, chat and other services by a URL of apprise. `sns`: a
            topic of Amazon SNS. `block`: a notification block of a Prefect server.
        severity: From which severity on, where it is not that of all receivers.
        url: Of a webhook whose URL is no secret.
        url_variable: Environment variable that has the URL.
        key_variable: Environment variable that has the key which a webhook is signed with.
        topic: ARN of the topic.
        role: ARN of the role to publish with.
        endpoint: URL of an SNS other than AWS's own.
        block: The block as TYPE/NAME.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    kind: Literal["webhook", "apprise", "sns", "block"]
    severity: Severity | None = None
    url: str | None = Field(None, repr=False)
    url_variable: str | None = None
    key_variable: str | None = None
    topic: str | None = Field(None, pattern=r"^arn:aws[\w-]*:sns:[\w-]+:\d{12}:[\w-]+(\.fifo)?$")
    role: str | None = None
    endpoint: str | None = None
    block: str | None = Field(None, pattern=r"^[^/]+/[^/]+$")

    @field_validator("url_variable", "key_variable")
    @classmethod
    def _a_variable(cls, name: str | None) -> str | None:
        if name is not None and (not _VARIABLE.fullmatch(name) or name.upper().startswith("OCSF_LAKE_")):
            raise ValueError("it is the name of an environment variable, one that does not begin with OCSF_LAKE_")
        return name

    @field_validator("url", "endpoint")
    @classmethod
    def _a_url(cls, url: str | None) -> str | None:
        if url is not None:
            checked_url(url)
            if "@" in urlsplit(url).netloc:
                raise ValueError("it names a user or password; put such a URL into a variable, and name that one")
        return url

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = {
            "webhook": (self.url is None) != (self.url_variable is None),
            "apprise": self.url_variable is not None and self.url is None,
            "sns": self.topic is not None,
            "block": self.block is not None,
        }
        if not given[self.kind]:
            raise ValueError(f"receiver {self.name} of kind {self.kind} needs {_NEEDED[self.kind]}")
        return self


class Alerts(BaseModel):
    """Who is notified of findings, and how often it is tried.

    Args:
        receivers: Who.
        severity: From which severity on.
        digest: More new findings than this, found by one run, are sent together, as digests; 0 sends all together.
        attempts: After so many failures an alert is set aside, see `ocsf-lake alerts list`.
        retry_seconds: Before the second attempt, at least; then twice as long, and so on up to an hour.
        timeout_seconds: A webhook that does not answer for so long has failed.
        max_age_days: Findings whose last event is older are there, and sent to nobody; 0 for any age. None: flows leave
            out what is older than `FLOW_AGE_DAYS`, a command sends all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    receivers: tuple[Receiver, ...] = ()
    severity: Severity = "medium"
    digest: int = Field(20, ge=0, le=1_000)
    attempts: int = Field(10, ge=1, le=100)
    retry_seconds: float = Field(60, ge=0, le=86_400)
    timeout_seconds: float = Field(10, gt=0, le=300)
    max_age_days: float | None = Field(None, ge=0, le=36_500)

    @field_validator("receivers")
    @classmethod
    def _names(cls, receivers: tuple[Receiver, ...]) -> tuple[Receiver, ...]:
        names = [one.name for one in receivers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two receivers have the same name: {', '.join(twice)}")
        return receivers

    def severity_of(self, receiver: Receiver) -> Severity:
        """From which severity on a receiver is notified."""
        return receiver.severity or self.severity


def checked_url(url: str) -> str:
    """A URL of HTTP.

    Raises:
        ValueError: It is none. It is not shown: it may be a secret.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(ord(one) <= 0x20 for one in url):
        raise ValueError("it is not a URL that begins with http:// or https://")
    return url


def secret(variable: str, what: str) -> str:
    """The value of an environment variable.

    Raises:
        ConfigError: It is not set, or empty.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigError(f"{what} reads the environment variable {variable}, which is not set")
    return value
