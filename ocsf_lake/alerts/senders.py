"""How alerts reach receivers: by HTTP, signed; by apprise; by Amazon SNS; by whatever the caller knows besides.

A sender sends once and says how that went. When it is tried again, is decided in `run`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from ocsf_lake.alerts.message import Message
from ocsf_lake.receivers import Alerts, Receiver, checked_url, secret
from ocsf_lake.storage import s3
from ocsf_mappers.errors import ConfigError, RetriableError

SHOWN_ANSWER = 200
"""Of what a receiver answers, so many characters are kept."""
SNS_BYTES = 255 << 10
"""SNS takes messages of 256 KiB, subject and attributes included."""
SNS_SUBJECT = 99
"""Characters of a subject; SNS wants fewer than 100."""


class RefusedError(RetriableError):
    """The receiver did not take an alert.

    Args:
        message: Why.
        wait: Seconds that the receiver asks to be left alone for, where it does.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        self.wait = wait
        super().__init__(message)


class Sender(Protocol):
    """Sends alerts to one receiver."""

    def send(self, message: Message) -> None:
        """Sends an alert; returns when the receiver has it.

        Raises:
            RefusedError: It may not have it.
        """

    def close(self) -> None:
        """Ends connections."""


Make = Callable[[Receiver, Alerts], Sender]
"""Makes the sender of a receiver."""


def sender(receiver: Receiver, alerts: Alerts) -> Sender:
    """The sender of a receiver.

    Raises:
        ConfigError: A variable that it reads is not set, or what stands there cannot be used.
    """
    if receiver.kind == "webhook":
        return Webhook(receiver, alerts.timeout_seconds)
    if receiver.kind == "apprise":
        return Apprise(receiver)
    if receiver.kind == "sns":
        return Topic(receiver)
    raise ConfigError(f"receiver {receiver.name}: blocks are sent with by a Prefect server's client, which is not here")


class Webhook:
    """JSON by POST, signed as https://www.standardwebhooks.com says; the alert's id also as `Idempotency-Key`."""

    def __init__(self, receiver: Receiver, timeout: float) -> None:
        import httpx

        what = f"receiver {receiver.name}"
        self.url = receiver.url or secret(str(receiver.url_variable), what)
        try:
            checked_url(self.url)
        except ValueError as error:
            raise ConfigError(f"{what}, variable {receiver.url_variable}: {error}") from None
        self.is_secret = receiver.url is None
        self.key = signing_key(secret(receiver.key_variable, what), what) if receiver.key_variable else None
        # A redirect would take the findings to somebody whom nobody named.
        self.client = httpx.Client(timeout=timeout, follow_redirects=False)

    def send(self, message: Message) -> None:
        """See `Sender`."""
        import httpx

        body = json.dumps(message.form, ensure_ascii=False, sort_keys=True).encode(errors="replace")
        moment = str(int(datetime.now(UTC).timestamp()))
        headers = {
            "Content-Type": "application/json", "User-Agent": "ocsf-lake", "Idempotency-Key": message.id,
            "webhook-id": message.id, "webhook-timestamp": moment,
        }  # fmt: skip
        if self.key is not None:
            headers["webhook-signature"] = signature(self.key, message.id, moment, body)
        try:
            with self.client.stream("POST", self.url, content=body, headers=headers) as answer:
                if answer.is_success:
                    return
                start = next(answer.iter_bytes(SHOWN_ANSWER), b"").decode(errors="replace")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Its text may have the URL in it.
            raise RefusedError(f"no answer: {type(error).__name__}") from None
        wait = waiting_time(answer.headers.get("Retry-After"), datetime.now(UTC))
        # Servers repeat the path in their answers, and of a URL that is a secret the path is it.
        words = "" if self.is_secret else " ".join(start.split())
        raise RefusedError(f"HTTP {answer.status_code}{f': {words}' if words else ''}", wait)

    def close(self) -> None:
        """See `Sender`."""
        self.client.close()


class Apprise:
    """E-mail, chat and other services, by a URL of apprise."""

    def __init__(self, receiver: Receiver) -> None:
        import apprise

        what = f"receiver {receiver.name}"
        self.notifier = apprise.Apprise()
        url = secret(str(receiver.url_variable), what)
        if not self.notifier.add(url) or not len(self.notifier):
            raise ConfigError(f"{what}: apprise cannot use what is in the variable {receiver.url_variable}")
        for one in self.notifier:
            # What is too long for a service is refused by it each time.
            if one.overflow_mode == apprise.OverflowMode.UPSTREAM:
                one.overflow_mode = apprise.OverflowMode.SPLIT
        self.service = ", ".join(sorted({str(one.service_name) for one in self.notifier}))

    def send(self, message: Message) -> None:
        """See `Sender`."""
        import apprise

        kind = {"high": "warning", "critical": "failure"}.get(message.severity, "info")
        form = apprise.NotifyFormat.TEXT
        about = apprise.NotifyType(kind)
        sent = self.notifier.notify(body=message.text, title=message.title, notify_type=about, body_format=form)
        if not sent:
            raise RefusedError(f"{self.service} did not take it, or did not answer")

    def close(self) -> None:
        """See `Sender`."""


class Topic:
    """A topic of Amazon SNS; one of the kind FIFO leaves out what comes again with the same id within five minutes."""

    def __init__(self, receiver: Receiver) -> None:
        self.topic = str(receiver.topic)
        access = s3.Access(region=self.topic.split(":")[3], role=receiver.role)
        self.client = s3.aws_client("sns", access, receiver.endpoint)

    def send(self, message: Message) -> None:
        """See `Sender`."""
        from botocore.exceptions import BotoCoreError, ClientError

        body = json.dumps(message.form, ensure_ascii=False, sort_keys=True)
        if len(body.encode(errors="replace")) > SNS_BYTES:
            body = message.text
        more: dict[str, Any] = {}
        if self.topic.endswith(".fifo"):
            more = {"MessageDeduplicationId": message.id, "MessageGroupId": "ocsf-lake"}
        else:
            # Of e-mails alone: ASCII, one line.
            more = {"Subject": "".join(one if " " <= one <= "~" else "?" for one in message.title)[:SNS_SUBJECT]}
        attributes = {
            "id": {"DataType": "String", "StringValue": message.id},
            "severity": {"DataType": "String", "StringValue": message.severity},
        }
        try:
            self.client.publish(TopicArn=self.topic, Message=body, MessageAttributes=attributes, **more)
        except (BotoCoreError, ClientError) as error:
            raise RefusedError(str(error)) from error

    def close(self) -> None:
        """See `Sender`."""
        self.client.close()


# -- signatures -------------------------------------------------------------------------------------------------------
def signing_key(text: str, what: str) -> bytes:
    """A key as Standard Webhooks writes it, `whsec_` and base64; any other text is the key itself.

    Raises:
        ConfigError: It begins with `whsec_`, and what follows is no base64.
    """
    if not text.startswith("whsec_"):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ConfigError(f"{what}: the key begins with whsec_, and what follows is no base64") from None


def signature(key: bytes, message_id: str, moment: str, body: bytes) -> str:
    """The header `webhook-signature`."""
    signed = b".".join([message_id.encode(), moment.encode(), body])
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


def waiting_time(value: str | None, now: datetime) -> float | None:
    """Seconds that a header `Retry-After` asks for, a number or a date; None where it says neither."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value.strip()[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
