"""Findings sent to receivers, each at least once, with the same id however often it is sent.

1. A receiver is noted in the ledger before rules are asked. 2. Findings of the ledger that a receiver was not decided
on are planned as alerts for it. 3. Alerts that are due are sent, and then noted as sent. Whoever dies in between is
followed by one that goes on there; an alert that was sent and not noted is sent again, with the same id.

Nobody waits here: an alert that is refused is tried by a later run, after a time that grows, and set aside at last.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ocsf_lake.alerts import senders
from ocsf_lake.alerts.message import message
from ocsf_lake.alerts.senders import Make, RefusedError, Sender
from ocsf_lake.config import Settings
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger.alerts import Alert, AlertLedger
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.results import ID_DIGITS, State
from ocsf_lake.receivers import SEVERITIES, UNSAID, Receiver, Severity
from ocsf_lake.storage.store import Store
from ocsf_lake.text import plural
from ocsf_mappers.errors import OcsfMappersError

LEASE = hashlib.sha256(b"alerts").hexdigest()[:ID_DIGITS]
"""One sender at a time: what a lease is called is made like a batch's id."""
ROW = 3
"""After so many refusals one after the other a receiver is left alone for this run."""
LONGEST_SECONDS = 3_600
_PAGE = 100
LIST = "`ocsf-lake alerts list` shows them, `ocsf-lake alerts retry` tries them again"
NOBODY = (
    "findings are not sent: the settings have no receivers; see docs/alerts.md, [[alerts.receivers]] in "
    "ocsf-lake.toml"
)


def failpoint(step: str) -> None:
    """Called between the steps of a run; does nothing. Tests interrupt a run here."""


@dataclass
class Sent:
    """What a run sent.

    Args:
        alerts: Receiver -> alerts it took.
        refused: Receiver -> alerts it refused, and that are tried again later.
        set_aside: Receiver -> alerts that were refused too often.
        reasons: Receiver -> why it refused, or cannot be sent to.
        unusable: Receivers that cannot be sent to as they are set up.
        left: Alerts that earlier runs set aside, and nobody tried again.
        waiting: Alerts that are still to be sent, to all receivers.
        busy: Whether somebody else was sending, so that this run sent nothing.
        aged: Findings that were left out as their events are too old, see setting `max_age_days`.
    """

    alerts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    unusable: list[str] = field(default_factory=list)
    left: int = 0
    waiting: int = 0
    busy: bool = False
    aged: set[str] = field(default_factory=set)

    @property
    def failed(self) -> bool:
        """Whether somebody has to do something: alerts were set aside, or a receiver cannot be sent to."""
        return bool(self.set_aside or self.unusable)

    @property
    def messages(self) -> list[str]:
        """Messages about it, one line each."""
        lines = [f"{plural(number, 'alert')} sent to {name}" for name, number in sorted(self.alerts.items())]
        for name, reason in sorted(self.reasons.items()):
            if name in self.unusable:
                lines.append(f"receiver {name} cannot be reached, and its alerts wait: {reason}")
            else:
                number = self.refused[name] + self.set_aside[name]
                lines.append(f"{plural(number, 'alert')} refused by {name}: {reason}")
        if self.set_aside:
            number = sum(self.set_aside.values())
            lines.append(f"{plural(number, 'alert')} refused too often and set aside; {LIST}")
        if self.left:
            lines.append(f"{plural(self.left, 'alert')} set aside by earlier runs; {LIST}")
        if self.aged:
            of_old = plural(len(self.aged), "finding")
            lines.append(f"{of_old} of old events not sent (max_age_days of the setting alerts)")
        if self.busy:
            lines.append("another run is sending alerts; what it does not send is sent by the next run")
        elif self.waiting:
            waiting = plural(self.waiting, "alert")
            lines.append(f"{waiting} still to be sent, by the next `ocsf-lake detect` or `ocsf-lake alerts send`")
        return lines


def take(settings: Settings) -> None:
    """Notes the receivers of the settings, before rules are asked: they get what is found from now on."""
    if settings.alerts.receivers:
        with opened(settings) as lake:
            _take(lake)


def send(settings: Settings, make: Make = senders.sender, age_days: float = 0) -> Sent:
    """Sends receivers the findings that they have not been sent yet.

    Args:
        settings: The lake, and its receivers.
        make: Makes the sender of a receiver.
        age_days: What is older is sent to nobody, where the settings have no age; 0 for any age.

    Raises:
        RetriableError: The ledger does not answer.
    """
    sent = Sent()
    if not settings.alerts.receivers:
        return sent
    with opened(settings) as lake:
        _take(lake)
        ledger = AlertLedger(lake.ledger.engine)
        for receiver in settings.alerts.receivers:
            _plan(settings, ledger, receiver, age_days, sent)
        failpoint("planned")
        with lake.leases.held(LEASE) as lease:
            if lease is None:
                sent.busy = True
                return sent
            for receiver in settings.alerts.receivers:
                _send_to(settings, ledger, receiver, lease, make, sent)
        numbers: Counter[str] = Counter()
        for (name, state), number in ledger.counts().items():
            if name in {receiver.name for receiver in settings.alerts.receivers}:
                numbers[state] += number
        sent.waiting = numbers[State.PLANNED]
        sent.left = numbers[State.FAILED] - sum(sent.set_aside.values())
    return sent


def retry(settings: Settings, receiver: str | None = None, ids: Sequence[str] = ()) -> int:
    """Lets alerts be tried at once that were set aside, or wait for their time.

    Args:
        settings: The lake.
        receiver: Of one receiver only.
        ids: Only these alerts.

    Returns:
        How many.
    """
    with opened(settings) as lake:
        return AlertLedger(lake.ledger.engine).retry(_text(_now()), receiver, ids)


def severity(record: dict[str, Any]) -> Severity:
    """How severe a finding is, from its record."""
    level = record.get("level")
    return level if level in SEVERITIES else UNSAID


def send_test(settings: Settings, make: Make = senders.sender, only: str | None = None) -> dict[str, str | None]:
    """Sends each receiver an alert that says it is a test; nothing of it is in the ledger.

    Args:
        settings: The receivers.
        make: Makes the sender of a receiver.
        only: Only this receiver.

    Returns:
        Receiver -> why it did not take it; None where it did.
    """
    now = _now()
    record: dict[str, Any] = {
        "id": hashlib.sha256(_text(now).encode()).hexdigest()[:ID_DIGITS], "rule": "test", "level": "informational",
        "rule_title": "A test of alerts: nothing was found", "first": _text(now), "last": _text(now), "count": 1,
        "about": "receivers of alerts",
    }  # fmt: skip
    content = message(record["id"], [record], ["informational"], _root(settings))
    results: dict[str, str | None] = {}
    for receiver in settings.alerts.receivers:
        if only not in (None, receiver.name):
            continue
        results[receiver.name] = None
        try:
            with closing(make(receiver, settings.alerts)) as to:
                to.send(content)
        except Exception as error:  # of a service's client; the other receivers are tried too
            results[receiver.name] = _reason(error)
    return results


def _reason(error: Exception) -> str:
    """Why an alert was not sent. The message of a service's client may have a URL with a token in it."""
    if isinstance(error, OcsfMappersError):
        return str(error)
    return f"the receiver's client failed: {type(error).__name__}"


def _take(lake: Lake) -> None:
    AlertLedger(lake.ledger.engine).take([one.name for one in lake.settings.alerts.receivers], _text(_now()))


def _plan(settings: Settings, ledger: AlertLedger, receiver: Receiver, age_days: float, sent: Sent) -> None:
    least = SEVERITIES.index(settings.alerts.severity_of(receiver))
    given = settings.alerts.max_age_days
    days = age_days if given is None else given
    oldest = _now() - timedelta(days=days) if days else None

    def is_for_receiver(record: dict[str, Any]) -> bool:
        if SEVERITIES.index(severity(record)) < least or record.get("suppressed"):
            return False
        if oldest is not None and datetime.fromisoformat(record["last"]) < oldest:
            sent.aged.add(record["id"])
            return False
        return True

    while ledger.plan(receiver.name, is_for_receiver, settings.alerts.digest, _text(_now())):
        pass


def _send_to(
    settings: Settings, ledger: AlertLedger, receiver: Receiver, lease: Lease, make: Make, sent: Sent
) -> None:  # fmt: skip
    name, row = receiver.name, 0
    try:
        sender = make(receiver, settings.alerts)
    except Exception as error:  # one that cannot be used keeps nothing back from the others
        sent.reasons[name] = _reason(error)
        sent.unusable.append(name)
        return
    with closing(sender):
        for alert in _due(ledger, name):
            lease.check()
            try:
                _send(settings, ledger, alert, sender)
            except RefusedError as error:
                sent.reasons[name] = str(error)
                row += 1
                _refused(settings, ledger, alert, error, sent)
                if row == ROW:
                    return
                continue
            failpoint("sent")
            ledger.done(alert, _text(_now()))
            sent.alerts[name] += 1
            row = 0


def _send(settings: Settings, ledger: AlertLedger, alert: Alert, to: Sender) -> None:
    """Sends an alert, whose commands name the lake so that they work in any folder."""
    records = ledger.records(alert)
    if not records:
        raise RefusedError("its findings are not in the ledger any more")
    content = message(alert.id, records, [severity(record) for record in records], _root(settings))
    try:
        to.send(content)
    except RefusedError:
        raise
    except Exception as error:  # whatever goes wrong with one alert keeps back no other
        raise RefusedError(_reason(error)) from error


def _root(settings: Settings) -> str:
    store = Store(settings.lake, settings.lake_access, settings.mask)
    return store.root if store.is_local else settings.lake


def _due(ledger: AlertLedger, receiver: str) -> Iterator[Alert]:
    """Alerts that may be tried, each once: what is refused meanwhile is due again later than the run began."""
    began = _text(_now())
    seen: set[str] = set()
    while some := [alert for alert in ledger.due(receiver, began, _PAGE) if alert.id not in seen]:
        for alert in some:
            seen.add(alert.id)
            yield alert


def _refused(settings: Settings, ledger: AlertLedger, alert: Alert, error: RefusedError, sent: Sent) -> None:
    alerts, now = settings.alerts, _now()
    if alert.tries + 1 >= alerts.attempts:
        ledger.failed(alert, str(error), _text(now))
        sent.set_aside[alert.receiver] += 1
        return
    wait = min(alerts.retry_seconds * 2**alert.tries, max(LONGEST_SECONDS, alerts.retry_seconds))
    wait = max(wait, min(error.wait or 0.0, 24 * LONGEST_SECONDS))
    ledger.refused(alert, str(error), _text(now + timedelta(seconds=wait)))
    sent.refused[alert.receiver] += 1


def _now() -> datetime:
    return datetime.now(UTC)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
