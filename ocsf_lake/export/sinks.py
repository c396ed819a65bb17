"""Where events are forwarded to: OpenSearch, Splunk's HTTP event collector, JSON lines in a store.

A sink takes some events at once, and returns when all of them are safe where they went. Asked again, OpenSearch and a
store have each event once; Splunk has no key to tell repetitions by, so there an event may be twice.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from ocsf_lake.export.signed import Signer, signer
from ocsf_lake.receivers import secret
from ocsf_lake.storage.s3 import Access
from ocsf_lake.storage.store import Store
from ocsf_lake.text import plural
from ocsf_mappers.errors import ConfigError, OcsfMappersError, RetriableError
from ocsf_mappers.shown import escaped

ATTEMPTS = 5
FIRST_SECONDS, LONGEST_SECONDS = 0.5, 30.0
"""Before another attempt at what was busy, twice as long each time; what a server asks for counts as far as this."""
ACK_SECONDS = 60.0
"""So long Splunk may take to have written what it took."""
TIMEOUT_SECONDS = 60.0
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
SHOWN = 3
"""Of events that were refused, so many are named."""
SHOWN_ANSWER = 300
TOO_LARGE = "it is too large for a request (HTTP 413)"

SERVERS = ("opensearch+", "splunk+")
"""Beginnings of targets that are no store."""

Sleep = Callable[[float], None]


class RefusedEventsError(OcsfMappersError):
    """Some events cannot be taken as they are; the others were.

    Args:
        message: Which, and why.
        numbers: Which of those that were to be taken, the first is 0.
    """

    def __init__(self, message: str, numbers: frozenset[int]) -> None:
        self.numbers = numbers
        super().__init__(message)


@dataclass(frozen=True)
class Event:
    """An event as it is forwarded.

    Args:
        id: What it is known by, the same however often.
        time: Milliseconds since 1970; None where it is not known.
        place: Raw object and number of the record.
        body: Its attributes.
    """

    id: str
    time: int | None
    place: str
    body: Mapping[str, Any]


class Sink(Protocol):
    """Takes events."""

    uri: str
    """What the ledger knows it by; no secret is in it."""
    rows: int
    """So many events at once."""

    def put(self, name: str, events: Sequence[Event]) -> None:
        """Takes events; returns when they are safe.

        Args:
            name: The same name always means the same events.
            events: The events.

        Raises:
            RefusedEventsError: Some of them cannot be taken; the others were.
            RetriableError: It is busy or does not answer; some may be there.
            WriteError: It refuses.
        """

    def close(self) -> None:
        """Ends connections."""


def sink(
    target: str, source: str, key_variable: str | None, access: Access, umask: int, sleep: Sleep = time.sleep,
    sign: str | None = None,
) -> Sink:  # fmt: skip
    """The sink that a target means.

    Args:
        target: `opensearch+https://host:9200/INDEX`, `splunk+https://host:8088[/INDEX]`, a folder, or a URI of a store.
        source: Name of the source whose events are sent.
        key_variable: Environment variable with what the sink asks for.
        access: How a store is reached.
        umask: Permissions that new local files do not get.
        sleep: Waits.
        sign: Service, and perhaps region, for which requests to OpenSearch are signed, see `signed.signer`.

    Raises:
        ConfigError: The target cannot be used.
    """
    if sign and (key_variable or not target.startswith("opensearch+")):
        raise ConfigError("--sign is for OpenSearch of AWS, in place of --key-variable")
    kind, _, rest = target.partition("+")
    if not target.startswith(SERVERS):
        if key_variable:
            raise ConfigError("--key-variable is for OpenSearch and Splunk; a store is reached as the lake is")
        return Lines(Store(target, access, umask))
    wrong = f"a target of {kind} is {kind}+https://HOST:PORT/INDEX"
    try:
        parts = urlsplit(rest)
        _ = parts.port  # a number that is none is found when it is asked for
    except ValueError:
        raise ConfigError(wrong) from None
    path = parts.path.strip("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "/" in path:
        raise ConfigError(wrong)
    if "@" in parts.netloc:
        raise ConfigError("the target names a user or password; name a variable with them: --key-variable")
    key = secret(key_variable, "--key-variable") if key_variable else None
    # The same host in capitals is the same sink, and gets nothing twice.
    root = f"{parts.scheme}://{parts.netloc.lower()}"
    if kind == "opensearch":
        if not path or path != path.lower() or path.startswith(("_", "-", "+")):
            raise ConfigError("the target names no index of OpenSearch: opensearch+https://HOST:9200/INDEX, lower case")
        return OpenSearch(root, path, key, sleep, signer(sign, root) if sign else None)
    if key is None:
        raise ConfigError("Splunk asks for a token: --key-variable names the environment variable that has it")
    return Splunk(root, path or None, source, key, sleep)


class _Http:
    """Requests that are made again while the other side is busy."""

    def __init__(self, root: str, headers: Mapping[str, str], sleep: Sleep, signer: Signer | None = None) -> None:
        import httpx

        self.root = root
        self.signer = signer
        self.sleep = sleep
        self.client = httpx.Client(timeout=TIMEOUT_SECONDS, headers=dict(headers), follow_redirects=False)

    def post(self, path: str, body: bytes, content: str, *, passed: Sequence[int] = ()) -> tuple[int, Any]:
        """Status and JSON of the answer to a POST.

        Args:
            path: Below the root.
            body: What is sent.
            content: Its type.
            passed: Other statuses than 2xx that the caller deals with.

        Raises:
            RetriableError: It is busy or does not answer.
            ConfigError: It refuses.
        """
        import httpx

        reason, wait, url = "", FIRST_SECONDS, f"{self.root}{path}"
        for attempt in range(ATTEMPTS):
            if attempt:
                self.sleep(wait)
                wait = min(2 * wait, LONGEST_SECONDS)
            try:
                answer = self.client.post(url, content=body, headers=self._headers(url, body, content))
            except httpx.HTTPError as error:
                reason = f"no answer: {type(error).__name__}"
                continue
            status = answer.status_code
            if answer.is_success or status in passed:
                return status, _json(answer.content)
            text = self.signer.without_secrets(answer.text) if self.signer else answer.text
            words = " ".join(text[:SHOWN_ANSWER].split())
            reason = f"HTTP {status}: {words}"
            if status not in BUSY:
                raise ConfigError(f"{self.root} refuses: {reason}")
            asked = answer.headers.get("Retry-After", "")
            if asked.isdigit():
                wait = min(max(wait, float(asked)), LONGEST_SECONDS)
        raise RetriableError(f"{self.root} does not take events: {reason}; running again continues")

    def _headers(self, url: str, body: bytes, content: str) -> dict[str, str]:
        # Anew for each attempt: a signature counts for some minutes.
        return self.signer.headers("POST", url, body, content) if self.signer else {"Content-Type": content}

    def close(self) -> None:
        """Ends connections."""
        self.client.close()


class OpenSearch(_Http):
    """An index, each event under its id: what is there is not written again.

    A data stream takes them too: each has its `@timestamp`. `unmapped` goes as a list of names and values: its names
    come from logs, and each would be a field of the index.
    """

    rows = 1_000

    def __init__(
        self, root: str, index: str, key: str | None, sleep: Sleep, signer: Signer | None = None
    ) -> None:  # fmt: skip
        self.index = index
        self.uri = f"opensearch+{root}/{index}"
        super().__init__(root, {"Authorization": _authorization(key)} if key else {}, sleep, signer)

    def put(self, name: str, events: Sequence[Event]) -> None:
        """See `Sink`."""
        left: dict[str, Event] = {}
        others = [event for event in events if left.setdefault(event.id, event).body != event.body]
        refused = [(event, "another event has its id") for event in others]
        wait = FIRST_SECONDS
        for attempt in range(ATTEMPTS):
            if attempt:
                self.sleep(wait)
                wait = min(2 * wait, LONGEST_SECONDS)
            busy = self._put(list(left.values()), refused)
            left = {event.id: event for event in busy}
            if not left:
                break
        if left:
            raise RetriableError(f"{self.root} is busy; {plural(len(left), 'event')} left, running again continues")
        _raise_refused(events, refused)

    def _put(self, events: Sequence[Event], refused: list[tuple[Event, str]]) -> list[Event]:
        """Sends events; those are given that OpenSearch was too busy for."""
        lines = []
        for event in events:
            body = {"@timestamp": event.time, **event.body} if event.time is not None else dict(event.body)
            if isinstance(body.get("unmapped"), Mapping):
                body["unmapped"] = [{"name": key, "value": value} for key, value in body["unmapped"].items()]
            lines += [_dumps({"create": {"_id": event.id}}), _dumps(body)]
        data = b"\n".join([*lines, b""])
        status, answer = self.post(f"/{self.index}/_bulk", data, "application/x-ndjson", passed=(413,))
        if status == 413:
            if len(events) == 1:
                refused.append((events[0], TOO_LARGE))
                return []
            half = len(events) // 2
            return [*self._put(events[:half], refused), *self._put(events[half:], refused)]
        items = answer.get("items") if isinstance(answer, dict) else None
        if not isinstance(items, list) or len(items) != len(events):
            raise RetriableError(f"{self.root} does not say what became of each event; it may be no OpenSearch")
        busy = []
        for event, item in zip(events, items, strict=True):
            outcome = item.get("create") or {}
            code = int(outcome.get("status") or 0)
            if 200 <= code < 300 or code == 409:  # 409: it is there
                continue
            if code in BUSY or code == 0:
                busy.append(event)
            else:
                error = outcome.get("error")
                refused.append((event, str(error.get("reason") if isinstance(error, dict) else error)[:SHOWN_ANSWER]))
        return busy


class Splunk(_Http):
    """An HTTP event collector; where it acknowledges, events are safe when it has."""

    rows = 500

    def __init__(self, root: str, index: str | None, source: str, key: str, sleep: Sleep) -> None:
        self.index = index
        self.source = source
        self.uri = f"splunk+{root}{f'/{index}' if index else ''}"
        self.channel = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.uri} {source}"))
        headers = {"Authorization": f"Splunk {key}", "X-Splunk-Request-Channel": self.channel}
        super().__init__(root, headers, sleep)

    def put(self, name: str, events: Sequence[Event]) -> None:
        """See `Sink`."""
        refused: list[tuple[Event, str]] = []
        self._put(list(events), refused)
        _raise_refused(events, refused)

    def _put(self, left: list[Event], refused: list[tuple[Event, str]]) -> None:
        while left:
            data = b"\n".join(_dumps(self._form(event)) for event in left)
            status, answer = self.post("/services/collector/event", data, "application/json", passed=(400, 413))
            if status == 413:
                if len(left) == 1:
                    refused.append((left[0], TOO_LARGE))
                    return
                half = len(left) // 2
                self._put(left[:half], refused)
                left = left[half:]
                continue
            number = answer.get("invalid-event-number") if isinstance(answer, dict) else None
            if status == 400:
                if not isinstance(number, int) or not 0 <= number < len(left):
                    raise ConfigError(f"{self.root} refuses: {_dumps(answer).decode()[:SHOWN_ANSWER]}")
                # What stood before it was taken, what stood behind it was not.
                refused.append((left[number], str(answer.get("text"))))
                left = left[number + 1 :]
                continue
            if not isinstance(answer, dict) or answer.get("code") != 0:
                raise RetriableError(f"{self.root} does not say that it took events; it may be no event collector")
            if answer.get("ackId") is not None:
                self._await(answer["ackId"])
            left = []

    def _form(self, event: Event) -> dict[str, Any]:
        form: dict[str, Any] = {
            "event": event.body, "source": self.source, "sourcetype": "ocsf", "fields": {"ocsf_lake_id": event.id},
        }  # fmt: skip
        if event.time is not None:
            form["time"] = f"{event.time / 1000:.3f}"
        return form | ({"index": self.index} if self.index else {})

    def _await(self, ack: Any) -> None:
        waited, wait = 0.0, FIRST_SECONDS
        path = f"/services/collector/ack?channel={self.channel}"
        while True:
            _, answer = self.post(path, _dumps({"acks": [ack]}), "application/json")
            acks = answer.get("acks") if isinstance(answer, dict) else None
            if isinstance(acks, dict) and acks.get(str(ack)) is True:
                return
            if waited >= ACK_SECONDS:
                raise RetriableError(f"{self.root} has not acknowledged events after {ACK_SECONDS:.0f} s")
            self.sleep(wait)
            waited += wait
            wait = min(2 * wait, LONGEST_SECONDS)


class Lines:
    """Objects of JSON lines, compressed by gzip; the same name always has the same events."""

    rows = 5_000

    def __init__(self, store: Store) -> None:
        self.store = store
        self.uri = store.uri("").rstrip("/")

    def put(self, name: str, events: Sequence[Event]) -> None:
        """See `Sink`."""
        data = b"".join(_dumps({"ocsf_lake_id": event.id, **event.body}) + b"\n" for event in events)
        self.store.put_once(f"{name}.jsonl.gz", gzip.compress(data, mtime=0))

    def close(self) -> None:
        """See `Sink`."""


def event_id(place: Sequence[object]) -> str:
    """What an event is known by: a hash of the record it was made of, its class and its own id.

    Not its own id alone: several deliveries of a finding have the same.
    """
    return hashlib.sha256(json.dumps([None if one is None else str(one) for one in place]).encode()).hexdigest()[:32]


def _authorization(key: str) -> str:
    """A user with a password, or a token."""
    return f"Basic {base64.b64encode(key.encode()).decode()}" if ":" in key else f"Bearer {key}"


def _dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(errors="replace")


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _raise_refused(events: Sequence[Event], refused: Sequence[tuple[Event, str]]) -> None:
    if refused:
        ids = {event.id for event, _ in refused}
        numbers = frozenset(number for number, event in enumerate(events) if event.id in ids)
        named = "; ".join(f"{event.place}: {escaped(reason)}" for event, reason in refused[:SHOWN])
        more = f"; and {len(refused) - SHOWN:,} more" if len(refused) > SHOWN else ""
        number = plural(len(refused), "event")
        raise RefusedEventsError(f"{number} refused, and tried again by the next run: {named}{more}", numbers)
