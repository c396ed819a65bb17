"""What the ledger has of alerts: which receivers get each finding, in which message, and whether it arrived.

A finding is in one alert of a receiver, or in none. Alerts are planned from the findings themselves, so whoever dies
between a finding and its alert leaves nothing behind that the next one does not see.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger.database import lock, select_in
from ocsf_lake.ledger.results import ID_DIGITS, State
from ocsf_lake.ledger.tables import ALERT_RECEIVERS, ALERTED_FINDINGS, ALERTS, FINDINGS

PLANNED_AT_ONCE = 5_000
"""Findings of one transaction."""
DIGEST_FINDINGS = 50
"""Findings of one alert, at most, which bounds its size."""
_MANY = 500


@dataclass(frozen=True)
class Alert:
    """An alert to one receiver.

    Args:
        receiver: Its name.
        id: The finding's id; of an alert about several, a hash of theirs.
        state: planned, done or failed.
        findings: Number of its findings.
        tries: How often it was refused.
        due_at: Not tried before this time.
        error: Why it was refused the last time.
        planned_at: When it was planned.
        ended_at: When it was taken, or set aside.
    """

    receiver: str
    id: str
    state: str
    findings: int
    tries: int
    due_at: str
    error: str | None
    planned_at: str
    ended_at: str | None


class AlertLedger:
    """What one lake's ledger has of alerts. Times are texts of one form, UTC, which sort as the times do.

    Args:
        engine: The ledger's database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def take(self, receivers: Sequence[str], now: str) -> list[str]:
        """Notes receivers that are new: they get alerts of what is found from now on.

        Returns:
            Those that are new.
        """
        with self._engine.begin() as connection:
            lock(connection, "alerts")
            existing = set(connection.scalars(sa.select(ALERT_RECEIVERS.c.name)))
            new = [name for name in receivers if name not in existing]
            for name in new:
                # Findings that another run notes meanwhile are not seen here, and so get alerts.
                before = sa.select(sa.literal(name), FINDINGS.c.id)
                connection.execute(sa.insert(ALERTED_FINDINGS).from_select(["receiver", "finding_id"], before))
                connection.execute(sa.insert(ALERT_RECEIVERS), [{"name": name, "since": now}])
        return new

    def plan(self, receiver: str, is_alerted: Callable[[dict[str, Any]], bool], digest: int, now: str) -> int:
        """Decides for a receiver on findings that it was not decided on.

        Args:
            receiver: Its name.
            is_alerted: Whether it gets an alert of a finding, from the finding's record.
            digest: More findings than this are sent together.
            now: The time.

        Returns:
            How many findings were decided on; 0 when there are no more.
        """
        decided = sa.select(ALERTED_FINDINGS.c.finding_id).where(
            ALERTED_FINDINGS.c.receiver == receiver, ALERTED_FINDINGS.c.finding_id == FINDINGS.c.id
        )
        query = sa.select(FINDINGS.c.id, FINDINGS.c.record).where(~decided.exists()).order_by(FINDINGS.c.id)
        alerted: list[str] = []
        left: list[str] = []
        with self._engine.begin() as connection:
            lock(connection, "alerts")
            for finding, record in connection.execute(query.limit(PLANNED_AT_ONCE)).yield_per(_MANY):
                (alerted if is_alerted(json.loads(record)) else left).append(finding)
            rows: list[dict[str, Any]] = [{"finding_id": finding, "alert_id": None} for finding in left]
            alerts = []
            for some in _parts(alerted, digest):
                alert = alert_id(some)
                alerts.append({"id": alert, "findings": len(some)})
                rows += [{"finding_id": finding, "alert_id": alert} for finding in some]
            always = {"receiver": receiver, "state": State.PLANNED, "tries": 0, "due_at": now, "planned_at": now}
            for start in range(0, len(alerts), _MANY):
                connection.execute(sa.insert(ALERTS), [always | row for row in alerts[start : start + _MANY]])
            for start in range(0, len(rows), _MANY):
                some_rows = [{"receiver": receiver} | row for row in rows[start : start + _MANY]]
                connection.execute(sa.insert(ALERTED_FINDINGS), some_rows)
        return len(rows)

    def due(self, receiver: str, now: str, number: int) -> list[Alert]:
        """Alerts that may be tried now, those that were never refused first.

        Args:
            receiver: Its name.
            now: The time.
            number: So many at most.
        """
        query = _alerts().where(ALERTS.c.receiver == receiver, ALERTS.c.state == State.PLANNED, ALERTS.c.due_at <= now)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(ALERTS.c.tries, ALERTS.c.due_at, ALERTS.c.id).limit(number))
            return [Alert(*row) for row in rows]

    def records(self, alert: Alert) -> list[dict[str, Any]]:
        """The findings of an alert, as they were written, always in the same order."""
        query = (
            sa.select(FINDINGS.c.record)
            .join(ALERTED_FINDINGS, ALERTED_FINDINGS.c.finding_id == FINDINGS.c.id)
            .where(ALERTED_FINDINGS.c.receiver == alert.receiver, ALERTED_FINDINGS.c.alert_id == alert.id)
        )
        with self._engine.connect() as connection:
            return [json.loads(record) for record in connection.scalars(query.order_by(FINDINGS.c.id))]

    def done(self, alert: Alert, now: str) -> None:
        """Notes that the receiver took an alert."""
        self._change(alert, state=State.DONE, ended_at=now, error=None)

    def refused(self, alert: Alert, error: str, due_at: str) -> None:
        """Notes that the receiver refused an alert, and when it is tried again."""
        self._change(alert, tries=alert.tries + 1, error=error, due_at=due_at)

    def failed(self, alert: Alert, error: str, now: str) -> None:
        """Sets an alert aside: it is not tried again by itself."""
        self._change(alert, state=State.FAILED, tries=alert.tries + 1, error=error, ended_at=now)

    def _change(self, alert: Alert, **values: Any) -> None:
        key = (ALERTS.c.receiver == alert.receiver) & (ALERTS.c.id == alert.id) & (ALERTS.c.state != State.DONE)
        with self._engine.begin() as connection:
            connection.execute(sa.update(ALERTS).where(key).values(**values))

    def retry(self, now: str, receiver: str | None = None, ids: Sequence[str] = ()) -> int:
        """Lets alerts be tried at once that were set aside, or wait for their time.

        Args:
            now: The time.
            receiver: Of one receiver only.
            ids: Only these alerts.

        Returns:
            How many.
        """
        chosen = [ALERTS.c.state != State.DONE]
        if receiver is not None:
            chosen.append(ALERTS.c.receiver == receiver)
        changed = sa.update(ALERTS).where(*chosen).values(state=State.PLANNED, tries=0, due_at=now, ended_at=None)
        with self._engine.begin() as connection:
            if not ids:
                return connection.execute(changed).rowcount
            return sum(connection.execute(changed.where(ALERTS.c.id == one)).rowcount for one in dict.fromkeys(ids))

    def listed(self, states: Sequence[str], number: int) -> list[Alert]:
        """Alerts in some states, the newest first.

        Args:
            states: The states.
            number: So many at most.
        """
        with self._engine.connect() as connection:
            query = _alerts().order_by(ALERTS.c.planned_at.desc(), ALERTS.c.receiver, ALERTS.c.id).limit(number)
            return [Alert(*row) for row in connection.execute(query.where(ALERTS.c.state.in_(list(states))))]

    def counts(self) -> dict[tuple[str, str], int]:
        """Receiver and state -> number of alerts."""
        query = sa.select(ALERTS.c.receiver, ALERTS.c.state, sa.func.count()).group_by(
            ALERTS.c.receiver, ALERTS.c.state
        )
        with self._engine.connect() as connection:
            return {(receiver, state): number for receiver, state, number in connection.execute(query)}

    def titles(self, alerts: Sequence[Alert]) -> dict[tuple[str, str], str]:
        """Receiver and id of alerts -> the title of the rule of one of their findings."""
        query = sa.select(ALERTED_FINDINGS.c.receiver, ALERTED_FINDINGS.c.alert_id, FINDINGS.c.record).join(
            FINDINGS, FINDINGS.c.id == ALERTED_FINDINGS.c.finding_id
        )
        with self._engine.connect() as connection:
            rows = select_in(connection, query, ALERTED_FINDINGS.c.alert_id, sorted({alert.id for alert in alerts}))
            return {(receiver, alert): json.loads(record)["rule_title"] for receiver, alert, record in rows}


def alert_id(findings: Sequence[str]) -> str:
    """What an alert is known by, however often it is sent: the finding's id; of several, a hash of theirs."""
    if len(findings) == 1:
        return findings[0]
    return hashlib.sha256(json.dumps(sorted(findings)).encode()).hexdigest()[:ID_DIGITS]


def _parts(findings: Sequence[str], digest: int) -> list[Sequence[str]]:
    size = DIGEST_FINDINGS if len(findings) > digest else 1
    return [findings[start : start + size] for start in range(0, len(findings), size)]


def _alerts() -> sa.Select[Any]:
    return sa.select(*(ALERTS.c[name] for name in Alert.__dataclass_fields__))
