"""Alerts: each finding is told at least once, with the same id however often, and what is refused is not forgotten."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest

from ocsf_lake.alerts import run, senders
from ocsf_lake.alerts.message import Message, message
from ocsf_lake.config import Settings
from ocsf_lake.lake import opened
from ocsf_lake.ledger.alerts import Alert, AlertLedger
from ocsf_lake.ledger.detections import Detections, Finding, as_json
from ocsf_lake.receivers import Alerts, Receiver
from ocsf_mappers.errors import ConfigError
from tests.ocsf_lake.conftest import ON_BOTH, Make
from tests.ocsf_lake.killed import KilledError
from tests.servers import receiver as http
from tests.servers.receiver import Answer, HttpReceiver

KEY = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, no less").decode()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpReceiver]:
    monkeypatch.setenv("SOC_KEY", KEY)
    with http.running() as receiver:
        yield receiver


def _alerts(hook: HttpReceiver, **more: Any) -> dict[str, Any]:
    soc = {"name": "soc", "kind": "webhook", "url": f"{hook.url}/in", "key_variable": "SOC_KEY"}
    return {"receivers": [soc], "retry_seconds": 0, **more}


def _found(settings: Settings, *names: str, **more: Any) -> list[str]:
    """Notes findings as a run of rules does; gives their ids."""
    ids = [hashlib.sha256(name.encode()).hexdigest()[:32] for name in names]
    findings = []
    for name, uid in zip(names, ids, strict=True):
        record = {
            "id": uid, "rule": "r1", "rule_title": f"Key made {name}", "level": "high", "about": f"user/{name}",
            "account": "111122223333", "first": "2026-05-04T09:00:00.000+00:00", "count": 2,
            "last": "2026-05-04T09:10:00.000+00:00", "events": [{"uid": "s3://logs/a b.json.gz#7"}],
            "attacks": [{"technique_uid": "T1098", "sub_technique_uid": "T1098.001"}], **more,
        }  # fmt: skip
        findings.append(Finding(uid, "r1", 0, 1, 2, as_json(record)))
    with opened(settings) as lake:
        run_id = hashlib.sha256("".join(sorted(names)).encode()).hexdigest()[:32]
        Detections(lake.ledger.engine).note(run_id, [], findings, datetime.now(UTC).isoformat())
    return ids


def _listed(settings: Settings) -> list[Alert]:
    with opened(settings, reading=True) as lake:
        return AlertLedger(lake.ledger.engine).listed(["planned", "failed", "done"], 100)


@ON_BOTH
def test_a_finding_is_told_once_signed_and_with_its_id(settings: Make, hook: HttpReceiver) -> None:
    config = settings(alerts=_alerts(hook))
    run.take(config)
    (uid,) = _found(config, "ada")
    sent = run.send(config)
    assert (dict(sent.alerts), sent.waiting, sent.failed) == ({"soc": 1}, 0, False)
    assert not run.send(config).alerts
    (got,) = hook.got
    assert got.headers["idempotency-key"] == got.headers["webhook-id"] == uid
    key = base64.b64decode(KEY.removeprefix("whsec_"))
    signed = f"{uid}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    (finding,) = got.json["findings"]
    assert (finding["id"], finding["severity"], finding["about"]) == (uid, "high", "user/ada")
    assert finding["techniques"] == ["T1098.001"]
    assert uid in finding["query"]
    assert finding["trace"] == [f"ocsf-lake trace --lake {config.lake} -- 's3://logs/a b.json.gz#7'"]
    assert finding["trace"][0] in got.json["text"]


def test_what_was_found_before_a_receiver_was_named_is_not_told(settings: Make, hook: HttpReceiver) -> None:
    _found(settings(), "old")
    config = settings(alerts=_alerts(hook))
    run.take(config)
    new = _found(config, "new")
    run.send(config)
    assert hook.keys == new


def test_severity_and_suppression(settings: Make, hook: HttpReceiver) -> None:
    config = settings(alerts=_alerts(hook, severity="medium"))
    run.take(config)
    _found(config, "low", level="low")
    _found(config, "expected", suppressed="ada rotates keys")
    told = _found(config, "unsaid", level=None) + _found(config, "critical", level="critical")
    run.send(config)
    assert sorted(hook.keys) == sorted(told)


def test_many_findings_are_told_together(settings: Make, hook: HttpReceiver) -> None:
    config = settings(alerts=_alerts(hook, digest=3))
    run.take(config)
    ids = _found(config, *(f"user{number}" for number in range(120)))
    run.send(config)
    bodies = [got.json for got in hook.got]
    assert [len(body["findings"]) for body in bodies] == [50, 50, 20]
    assert sorted(finding["id"] for body in bodies for finding in body["findings"]) == sorted(ids)
    assert hook.keys == [body["id"] for body in bodies]
    assert len(set(hook.keys)) == 3
    assert "and 40 more" in bodies[0]["text"]


def test_what_is_refused_is_tried_again_and_set_aside_at_last(settings: Make, hook: HttpReceiver) -> None:
    config = settings(alerts=_alerts(hook, attempts=3))
    run.take(config)
    (uid,) = _found(config, "ada")
    hook.answer = lambda _: Answer(500, b"down\x1b[31m")
    for _ in range(2):
        sent = run.send(config)
        assert (sent.refused["soc"], sent.waiting, sent.failed) == (1, 1, False)
    sent = run.send(config)
    assert (sent.set_aside["soc"], sent.failed) == (1, True)
    (alert,) = _listed(config)
    assert (alert.state, alert.tries, alert.id) == ("failed", 3, uid)
    assert alert.error == "HTTP 500: down\\x1b[31m"
    sent = run.send(config)
    assert (dict(sent.alerts), sent.left, sent.failed) == ({}, 1, False)
    assert "1 alert set aside by earlier runs" in sent.messages[0]
    hook.answer = lambda _: Answer()
    assert run.retry(config) == 1
    assert run.send(config).alerts["soc"] == 1
    assert set(hook.keys) == {uid}
    assert run.retry(config) == 0


def test_nobody_waits_for_the_next_attempt(settings: Make, hook: HttpReceiver) -> None:
    config = settings(alerts=_alerts(hook, retry_seconds=60))
    run.take(config)
    _found(config, "ada")
    hook.answer = lambda _: Answer(429, headers={"Retry-After": "600"})
    before = datetime.now(UTC)
    run.send(config)
    assert run.send(config).waiting == 1
    assert len(hook.got) == 1, "the second run came too early"
    (alert,) = _listed(config)
    assert 600 <= (datetime.fromisoformat(alert.due_at) - before).total_seconds() < 660


def test_a_receiver_that_is_away_is_left_alone_and_stops_no_other(settings: Make, hook: HttpReceiver) -> None:
    both = _alerts(hook, digest=1_000)
    away = {"name": "away", "kind": "webhook", "url": "http://127.0.0.1:9/"}
    unset = {"name": "unset", "kind": "apprise", "url_variable": "NOT_SET_ANYWHERE"}
    config = settings(alerts=both | {"receivers": [away, unset, *both["receivers"]]})
    run.take(config)
    _found(config, *(f"user{number}" for number in range(10)))
    sent = run.send(config)
    assert (sent.refused["away"], sent.alerts["soc"]) == (run.ROW, 10)
    assert sent.unusable == ["unset"]
    assert "NOT_SET_ANYWHERE" in sent.reasons["unset"]
    assert sent.failed


def test_a_client_that_fails_keeps_nothing_back_from_other_receivers(settings: Make, hook: HttpReceiver) -> None:
    both = _alerts(hook)
    topic = {"name": "a_topic", "kind": "sns", "topic": "arn:aws:sns:eu-west-1:111122223333:oncall"}
    config = settings(alerts=both | {"receivers": [topic, *both["receivers"]]})
    run.take(config)
    _found(config, "ada")

    def make(receiver: Receiver, alerts: Alerts) -> senders.Sender:
        if receiver.name == "a_topic":
            raise ImportError("no client of it")
        return senders.sender(receiver, alerts)

    sent = run.send(config, make)
    assert (sent.unusable, sent.alerts["soc"], sent.waiting) == (["a_topic"], 1, 1)
    assert sent.reasons["a_topic"] == "the receiver's client failed: ImportError"


def test_one_alert_that_is_refused_keeps_back_no_other(settings: Make, hook: HttpReceiver) -> None:
    config = settings(alerts=_alerts(hook, attempts=2, digest=1_000))
    run.take(config)
    ids = _found(config, *(f"user{number}" for number in range(5)))
    hook.answer = lambda got: Answer(400 if got.headers["idempotency-key"] == ids[2] else 200)
    assert run.send(config).alerts["soc"] == 4
    assert run.send(config).set_aside["soc"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", range(2))
def test_kill_loop(settings: Make, hook: HttpReceiver, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is killed between steps, and whatever is refused: each finding arrives, and keeps its id."""
    chance = random.Random(number)

    def die(_: str) -> None:
        if chance.random() < 0.2:
            raise KilledError

    config = settings(alerts=_alerts(hook, attempts=100, digest=0 if number == 1 else 1_000))
    run.take(config)
    monkeypatch.setattr(run, "failpoint", die)
    hook.answer = lambda _: chance.choice([Answer(), Answer(), Answer(503), None])
    ids: list[str] = []
    kills = 0
    for turn in range(16):
        if turn < 8:
            ids += _found(config, *(f"{turn}-{chance.randrange(10**9)}" for _ in range(chance.randrange(4))))
        try:
            run.send(config)
        except KilledError:
            kills += 1
    monkeypatch.setattr(run, "failpoint", lambda _: None)
    hook.answer = lambda _: Answer()
    while run.send(config).waiting:
        pass
    assert kills
    told = {finding["id"] for got in hook.got for finding in got.json["findings"]}
    assert told == set(ids)
    by_key: dict[str, set[bytes]] = {}
    for got in hook.got:
        by_key.setdefault(got.headers["idempotency-key"], set()).add(got.body)
    assert all(len(bodies) == 1 for bodies in by_key.values()), "the same id, the same bytes"
    if number == 0:
        assert by_key.keys() == set(ids)


def test_values_of_logs_do_nothing_in_a_message() -> None:
    hostile = "<!channel> @everyone \x1b[2J\nnew line http://evil.example `x` *b* \u202e" + "a" * 500
    record = {
        "id": "ab12", "rule": "r", "rule_title": hostile, "about": hostile, "first": "f", "last": "l", "count": 1,
        "events": [{"uid": "$(reboot)'; rm -rf /"}, {"uid": "a\nb"}, {"uid": "-x"}, {"uid": "<!here>"}],
    }  # fmt: skip
    told = message("ab12", [record], ["high"], "/lake of/ours")
    for text in (told.title, told.text):
        assert not any(bad in text for bad in ("<!", "@everyone", "\x1b", "://evil", "`", "\u202e", "a" * 300))
    assert "\n" not in told.title
    assert told.form["findings"][0]["trace"] == [
        "ocsf-lake trace --lake '/lake of/ours' -- '$(reboot)'\"'\"'; rm -rf /'",
        "ocsf-lake trace --lake '/lake of/ours' -- -x",
        "ocsf-lake trace --lake '/lake of/ours' -- '<!here>'",
    ]
    assert told.form["findings"][0]["about"] == hostile


def test_a_query_holds_nothing_but_an_id() -> None:
    record = {"id": "x' OR 1=1 --", "rule": "r", "rule_title": "t", "first": "f", "last": "l"}
    query = message("a", [record], ["low"], "lake").form["findings"][0]["query"]
    sql = "SELECT * FROM detections WHERE finding_info.uid = 'xOR11'"
    assert query == f'ocsf-lake query "{sql}" --format json --lake lake'


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_apprise_gets_the_text(monkeypatch: pytest.MonkeyPatch, hook: HttpReceiver) -> None:
    monkeypatch.setenv("CHAT", hook.url.replace("http://", "json://"))
    sender = senders.sender(Receiver(name="chat", kind="apprise", url_variable="CHAT"), Alerts())
    told = Message("id1", "[high] a title", "line <b>\nline", "high", {})
    sender.send(told)
    assert (hook.got[0].json["title"], hook.got[0].json["message"]) == (told.title, told.text)
    assert hook.got[0].json["type"] == "warning"
    monkeypatch.setattr("apprise.plugins.custom_json.NotifyJSON.body_maxlen", 100)
    hook.got.clear()
    sender.send(Message("id1", "title", "word " * 30, "high", {}))
    assert "".join(got.json["message"] for got in hook.got).count("word") == 30
    assert len(hook.got) > 1, "what is too long for a service is told in parts"
    hook.answer = lambda _: Answer(500)
    with pytest.raises(senders.RefusedError, match="JSON did not take it"):
        sender.send(told)
    monkeypatch.setenv("CHAT", "nonsense://secret-token")
    with pytest.raises(ConfigError) as error:
        senders.sender(Receiver(name="chat", kind="apprise", url_variable="CHAT"), Alerts())
    assert "secret-token" not in str(error.value)


@pytest.mark.parametrize("topic", ["oncall", "oncall.fifo"])
def test_sns_gets_the_id(monkeypatch: pytest.MonkeyPatch, hook: HttpReceiver, topic: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    answer = (
        '<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>1</MessageId>'
        "</PublishResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></PublishResponse>"
    )
    hook.answer = lambda _: Answer(200, answer.encode(), {"Content-Type": "text/xml"})
    arn = f"arn:aws:sns:eu-west-1:111122223333:{topic}"
    sender = senders.sender(Receiver(name="sns", kind="sns", topic=arn, endpoint=hook.url), Alerts())
    sender.send(Message("id1", f"[high] ü {'title' * 30}", "text", "high", {"id": "id1"}))
    sender.send(Message("id2", "title", "short", "high", {"id": "x" * senders.SNS_BYTES}))
    sender.close()
    subject = parse_qs(hook.got[0].body.decode()).get("Subject", [""])[0]
    assert (subject[:9], len(subject)) == (("[high] ? ", 99) if topic == "oncall" else ("", 0))
    assert parse_qs(hook.got[1].body.decode())["Message"] == ["short"]
    sent = hook.got[0].body.decode()
    assert "id1" in sent
    assert ("MessageDeduplicationId=id1" in sent) == topic.endswith(".fifo")
    assert "eu-west-1" in hook.got[0].headers["authorization"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"kind": "webhook"}, "needs url"),
        ({"kind": "webhook", "url": "ftp://x"}, "http://"),
        ({"kind": "webhook", "url": "https://ada:pw@x"}, "user or password"),
        ({"kind": "webhook", "url": "https://x", "url_variable": "X"}, "needs url"),
        ({"kind": "apprise", "url": "https://x"}, "needs url_variable"),
        ({"kind": "apprise", "url_variable": "OCSF_LAKE_X"}, "does not begin with OCSF_LAKE_"),
        ({"kind": "sns", "topic": "oncall"}, "pattern"),
        ({"kind": "block", "block": "oncall"}, "pattern"),
    ],
)
def test_receivers_that_cannot_be(settings: Make, given: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        settings(alerts={"receivers": [{"name": "soc", **given}]})
    assert "pw@" not in str(error.value)


def test_no_secret_is_kept(settings: Make, hook: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", f"{hook.url}/services/T0KEN")
    secret = {"name": "soc", "kind": "webhook", "url_variable": "HOOK", "key_variable": "SOC_KEY"}
    config = settings(alerts=_alerts(hook) | {"receivers": [secret]})
    run.take(config)
    _found(config, "ada")
    hook.answer = lambda got: Answer(403, f"Cannot POST {got.path}".encode())
    sent = run.send(config)
    said = json.dumps([sent.messages, repr(config), [vars(alert) for alert in _listed(config)]], default=str)
    assert "HTTP 403" in said
    assert not any(secret in said for secret in ("T0KEN", KEY, base64.b64decode(KEY[6:]).decode()))


def test_times_to_wait() -> None:
    now = datetime(2026, 5, 4, tzinfo=UTC)
    waits = [senders.waiting_time(text, now) for text in ("5", "Mon, 04 May 2026 00:01:00 GMT", "soon", "-1", None)]
    assert waits == [5.0, 60.0, None, None, None]


@pytest.mark.parametrize(
    ("given", "asked", "told"), [(None, 0.0, 2), (None, 30.0, 1), (7, 0.0, 1), (0, 30.0, 2), (1, 30.0, 1)]
)
def test_findings_of_old_events_are_there_and_told_to_nobody(
    settings: Make, hook: HttpReceiver, given: float | None, asked: float, told: int
) -> None:
    """A command tells all unless the settings say otherwise; flows ask for what is not older than a month."""
    config = settings(alerts=_alerts(hook, **({} if given is None else {"max_age_days": given})))
    run.take(config)
    last = datetime.now(UTC) - timedelta(hours=1)
    new = _found(config, "new", last=last.isoformat(timespec="milliseconds"))
    old = _found(config, "old", last=(last - timedelta(days=365)).isoformat(timespec="milliseconds"))
    sent = run.send(config, age_days=asked)
    assert sorted(hook.keys) == sorted(new + old if told == 2 else new)
    assert sent.aged == (set() if told == 2 else set(old))
    assert any("max_age_days" in line for line in sent.messages) == (told == 1)
    assert not run.send(config).alerts, "what was left out is not told later"
