"""Times without a year, names that whoever signs in may choose, and the sentences that the samples have none of."""

from __future__ import annotations

import json
import re
from datetime import datetime

import pytest

from ocsf_mappers import RawObject
from tests.support import SAMPLE_LOGS, dig, engine, map_bytes, ocsf, reasons

ENDED = "Disconnected from user ann 203.0.113.7 port 22"


@pytest.mark.parametrize(
    ("time", "seen", "year"),
    [
        ("Mar 16 10:00:00", "2026-03-16T10:00:05Z", 2026),
        ("Mar  6 10:00:00", "2026-03-16T10:00:05Z", 2026),
        ("Mar 17 10:00:00", "2026-03-16T10:00:05Z", 2026),  # a clock that runs ahead
        ("Mar 19 10:00:00", "2026-03-16T10:00:05Z", 2025),
        ("Dec 31 23:59:59", "2026-01-01T00:00:05Z", 2025),
        ("Jan  1 00:00:01", "2025-12-31T23:59:59Z", 2026),
        ("Feb 29 12:00:00", "2024-03-01T00:00:05Z", 2024),
        ("Feb 29 12:00:00", "2025-01-05T00:00:05Z", 2024),
        ("Feb 29 12:00:00", "2026-03-01T00:00:05Z", None),  # in neither of the two years
        ("Feb 30 12:00:00", "2026-03-01T00:00:05Z", None),
    ],
)
@pytest.mark.parametrize("told_by", ["log event", "object"])
def test_the_year_is_the_latest_that_fits(time: str, seen: str, year: int | None, told_by: str) -> None:
    line = f"{time} web-1 sshd[7]: {ENDED}"
    raw_object = RawObject("memory://logs/x", time=seen if told_by == "object" else None)
    if told_by == "log event":
        instant = datetime.fromisoformat(seen).timestamp()
        line = json.dumps({"timestamp": int(instant * 1000), "message": line})
    mapped = map_bytes(engine("linux_auth"), line.encode(), raw_object)
    if year is None:
        assert reasons(mapped) == ["time: required attribute is missing"]
    else:
        (event,) = ocsf(mapped.events)
        assert event["time_dt"][:4] == str(year)
        assert dig(event, "metadata.original_time") == time


@pytest.mark.parametrize(
    ("message", "user", "address", "status"),
    [
        ("Failed password for invalid user a from 192.0.2.1 port 1 ssh2 from 2001:db8::1 port 2 ssh2",
         "a from 192.0.2.1 port 1 ssh2", "2001:db8::1", "Failure"),
        ("Invalid user Accepted password for root from 192.0.2.1 from 198.51.100.9 port 2",
         "Accepted password for root from 192.0.2.1", "198.51.100.9", "Failure"),
        ("Connection closed by invalid user root 192.0.2.1 port 1 198.51.100.9 port 2 [preauth]",
         "root 192.0.2.1 port 1", "198.51.100.9", "Failure"),
        ("Accepted publickey for ann from 198.51.100.9 port 2 ssh2: RSA SHA256:abc", "ann", "198.51.100.9", "Success"),
    ],
)  # fmt: skip
def test_a_name_is_no_address(message: str, user: str, address: str, status: str) -> None:
    line = f"2026-03-16T10:00:00Z web-1 sshd[7]: {message}"
    (event,) = ocsf(map_bytes(engine("linux_auth"), line.encode()).events)
    assert (dig(event, "user.name"), dig(event, "src_endpoint.ip"), event["status"]) == (user, address, status)


PEER = "198.51.100.9 port 4"
PAM = "; logname= uid=0 euid=0 tty=ssh ruser= rhost=198.51.100.9  user=root"


@pytest.mark.parametrize(
    ("program", "message", "count"),
    [
        ("sshd", f"message repeated 4 times: [ Failed password for root from {PEER} ssh2]", 4),
        ("sshd", f"message repeated 2 times: [ pam_unix(sshd:auth): authentication failure{PAM}]", 2),
        ("sshd", f"PAM 3 more authentication failures{PAM}", 3),
        ("sshd", f"pam_unix(sshd:auth): 1 more authentication failure{PAM}", 1),
        ("sshd", f"pam_sss(sshd:auth): authentication failure{PAM}", None),
        ("sshd", "pam_faillock(sshd:auth): Consecutive login failures for user root account temporarily locked", None),
        ("sshd", "User root not allowed because account is locked", None),
        ("sshd", f"ROOT LOGIN REFUSED FROM {PEER}", None),
        ("sshd", "fatal: Access denied for user root by PAM account configuration [preauth]", None),
        ("sshd", "Authentication tried for root with correct key but not from a permitted host"
                 " (host=a.example.com, ip=198.51.100.9, required=10.0.0.0/8).", None),
        ("sshd", "error: PAM: Authentication failure for root from 198.51.100.9", None),
        ("sshd", f"Disconnecting authenticating user root {PEER}: Too many authentication failures [preauth]", None),
        ("sshd", f"Disconnecting invalid user root {PEER}: Change of username or service not allowed:"
                 " (root,ssh-connection) -> (a b,ssh-connection) [preauth]", None),
        ("sudo", "  ann : user NOT in sudoers ; HOST=web-1 ; TTY=pts/0 ; CHROOT=/srv ; PWD=/ ; USER=root"
                 " ; COMMAND=/bin/id", None),
    ],
)  # fmt: skip
def test_a_refusal_is_a_failure_of_its_user(program: str, message: str, count: int | None) -> None:
    line = f"2026-03-16T10:00:00Z web-1 {program}[7]: {message}"
    (event,) = ocsf(map_bytes(engine("linux_auth"), line.encode()).events)
    assert (event["status"], dig(event, "user.name"), event.get("count")) == ("Failure", "root", count)
    assert dig(event, "src_endpoint.ip") == ("198.51.100.9" if "198.51.100.9" in message else None)


def test_a_command_of_several_lines_is_whole() -> None:
    lines = "PWD=/ ; USER=root ; COMMAND=/bin/sh -c", "(command continued) id ; reboot"
    text = "\n".join(f"2026-03-16T10:00:00Z web-1 sudo[7]: ann : {line}" for line in lines)
    events = ocsf(map_bytes(engine("linux_auth"), text.encode()).events)
    assert [dig(event, "actor.process.cmd_line") for event in events] == ["/bin/sh -c", "id ; reboot"]
    assert {(dig(event, "actor.user.name"), event["activity_name"]) for event in events} == {("ann", "sudo")}


@pytest.mark.parametrize(
    ("program", "message", "activity", "user", "group"),
    [
        ("sshd", "pam_unix(sshd:chauthtok): password changed for ann", "Password Change", "ann", None),
        ("passwd", "password for 'ann' changed by 'root'", "Password Change", "ann", None),
        ("usermod", "change user 'ann' home from '/password changed for x' to '/a'", "usermod", "ann", None),
        ("usermod", "change user name 'ann' to 'eve'", "usermod", "ann", None),
        ("chsh", "changed user 'ann' shell to '/bin/sh'", "chsh", "ann", None),
        ("groupmod", "group changed in /etc/group (group ops/1004, new name: adm)", "groupmod", "unknown", "ops"),
        ("gpasswd", "members of group wheel set by root to ann,bob", "gpasswd", "unknown", "wheel"),
        ("gpasswd", "password of group wheel removed by root", "gpasswd", "unknown", "wheel"),
        ("groupdel", "group 'ops' removed", "Delete", "unknown", "ops"),
    ],
)
def test_a_change_of_an_account_or_a_group(
    program: str, message: str, activity: str, user: str, group: str | None
) -> None:
    line = f"2026-03-16T10:00:00Z web-1 {program}[7]: {message}"
    (event,) = ocsf(map_bytes(engine("linux_auth"), line.encode()).events)
    assert event["class_uid"] == (3001 if group is None else 3006)
    assert (event["activity_name"], dig(event, "user.name")) == (activity, user)
    assert event.get("group", {}).get("name") == group


@pytest.mark.parametrize("more", [{}, {"host": "web-1"}, {"group": "wheel", "service": "shop"}])
def test_another_log_in_json_is_no_sign_in(more: dict[str, str]) -> None:
    line = json.dumps({"time": "2026-03-16T10:00:00Z", "user": "ann", **more})
    mapped = map_bytes(engine("linux_auth"), line.encode())
    assert len(mapped.events) == 0
    assert reasons(mapped) == ["authentication: needs at least one of service, dst_endpoint"]


def entry(**members: object) -> dict[str, object]:
    return {
        "_BOOT_ID": "b0", "_HOSTNAME": "web-1", "_PID": "7", "_COMM": "sshd", "SYSLOG_IDENTIFIER": "sshd",
        "_SOURCE_REALTIME_TIMESTAMP": "1773655200123456", "__REALTIME_TIMESTAMP": "1773655200123999", "MESSAGE": ENDED,
    } | members  # fmt: skip


@pytest.mark.parametrize(
    ("members", "time"),
    [
        ({}, "2026-03-16T10:00:00.123456Z"),
        ({"_SOURCE_REALTIME_TIMESTAMP": None}, "2026-03-16T10:00:00.123999Z"),
        ({"_SOURCE_REALTIME_TIMESTAMP": "x"}, "2026-03-16T10:00:00.123999Z"),
        ({"_SOURCE_REALTIME_TIMESTAMP": None, "__REALTIME_TIMESTAMP": None, "date": 1773655200.5},
         "2026-03-16T10:00:00.500000Z"),
        ({"_SOURCE_REALTIME_TIMESTAMP": None, "__REALTIME_TIMESTAMP": None}, "2026-03-16T10:00:01Z"),
    ],
)  # fmt: skip
def test_the_time_of_an_entry_is_when_it_was_written(members: dict[str, object], time: str) -> None:
    event = {"timestamp": 1773655201000, "message": json.dumps(entry(**members))}
    (event,) = ocsf(map_bytes(engine("linux_auth"), json.dumps(event).encode()).events)
    assert event["time_dt"] == time


@pytest.mark.slow
@pytest.mark.parametrize("program", ["sshd", "sudo", "useradd", "usermod", "gpasswd", "passwd", "groupdel", "su"])
def test_a_sentence_means_the_same_in_a_line_and_in_an_entry(program: str) -> None:
    lines = (SAMPLE_LOGS / "linux_auth" / "accounts.log", SAMPLE_LOGS / "linux_auth" / "secure.log")
    lines += (SAMPLE_LOGS / "linux_auth" / "switch.log",)
    found = [
        match for path in lines for line in path.read_text().splitlines()
        if (match := re.fullmatch(rf"(\S+) (\S+) ({program})\[(\d+)\]: (.*)", line))
    ]  # fmt: skip
    assert found
    for match in found:
        time, host, _, pid, message = match.groups()
        micros = str(int(datetime.fromisoformat(time).timestamp() * 1_000_000))
        members = entry(_HOSTNAME=host, _PID=pid, _COMM=program, SYSLOG_IDENTIFIER=program, MESSAGE=message)
        members |= {"_SOURCE_REALTIME_TIMESTAMP": micros, "__REALTIME_TIMESTAMP": micros}
        line, told = (
            map_bytes(engine("linux_auth"), data.encode()) for data in (match[0], json.dumps(members))
        )
        assert line.dropped == told.dropped
        if not len(line.events):
            continue
        (written,), (said,) = ocsf(line.events), ocsf(told.events)
        for event in (written, said):
            event["metadata"].pop("original_time")
        for extra in ("logged_time_dt", "logged_time"):
            said["metadata"].pop(extra, None)
        said["unmapped"].pop("journal._boot_id")
        assert {**said, "unmapped": said["unmapped"] or None} == {**written, "unmapped": written.get("unmapped")}


def test_what_a_sender_calls_itself_is_not_who_it_is() -> None:
    forged = entry(_COMM="logger", _EXE="/usr/bin/logger", _UID="1001")
    forged |= {"MESSAGE": f"Accepted password for root from {PEER}"}
    forged |= {"PID": "1", "HOSTNAME": "db-1", "user": "eve", "program": "cron"}
    (event,) = ocsf(map_bytes(engine("linux_auth"), json.dumps(forged).encode()).events)
    process = dig(event, "actor.process")
    assert (process["name"], process["pid"], process["user"]["uid"]) == ("logger", 7, "1001")
    assert [dig(event, path) for path in ("service.name", "user.name", "device.hostname")] == ["sshd", "root", "web-1"]
    assert {"journal.user": "eve", "journal.program": "cron"}.items() <= event["unmapped"].items()
    assert {"1", "db-1"} <= set(event["unmapped"].values())


# the journal has no name of a process that ended at once
UNKNOWN = {"_COMM": None, "_HOSTNAME": None}
CLAIMS = {"COMM": "sshd", "EXE": "/usr/sbin/sshd", "CMDLINE": "sshd: ann", "AUDIT_SESSION": "9", "HOSTNAME": "db-1"}
PATHS = "actor.process.name", "actor.process.file", "actor.process.cmd_line", "actor.session", "dst_endpoint.hostname"


def test_what_a_sender_claims_is_not_taken_where_the_journal_itself_says_nothing() -> None:
    claimed = entry(**UNKNOWN, **CLAIMS, host="web-1")
    (event,) = ocsf(map_bytes(engine("linux_auth"), json.dumps(claimed).encode()).events)
    assert [dig(event, path) for path in PATHS] == [None, None, None, None, "web-1"]
    assert set(CLAIMS.values()) <= set(event["unmapped"].values())


def test_a_shipper_may_take_underscores_away() -> None:
    plain = {name.strip("_").lower(): value for name, value in (entry(**UNKNOWN) | CLAIMS).items() if value}
    (event,) = ocsf(map_bytes(engine("linux_auth"), json.dumps(plain).encode()).events)
    assert [dig(event, path) for path in PATHS[::2]] == ["sshd", "sshd: ann", "db-1"]


@pytest.mark.parametrize(
    ("members", "user"),
    [
        ({"MESSAGE": list(b"Invalid user \xff\x01 from 192.0.2.1 port 1")}, "\\xff\x01"),
        ({"MESSAGE": ["Invalid user ann from 192.0.2.1 port 1", "second"]}, "ann"),
        ({"MESSAGE": None, "message": "Invalid user ann from 192.0.2.1 port 1"}, "ann"),
        ({"SYSLOG_IDENTIFIER": ["sshd", "x"], "MESSAGE": "Invalid user ann from 192.0.2.1 port 1"}, "ann"),
        ({"SYSLOG_IDENTIFIER": "", "MESSAGE": "Invalid user ann from 192.0.2.1 port 1"}, "ann"),
    ],
)
def test_a_text_in_any_form_of_the_journal(members: dict[str, object], user: str) -> None:
    (event,) = ocsf(map_bytes(engine("linux_auth"), json.dumps(entry(**members)).encode()).events)
    assert dig(event, "user.name") == user
    for value in members.values():
        if isinstance(value, list):
            assert json.dumps(value, separators=(",", ":")) in event["unmapped"].values()


@pytest.mark.parametrize("name", ["MESSAGE", "SYSLOG_IDENTIFIER"])
def test_of_a_repeated_member_none_is_lost(name: str) -> None:
    data = json.dumps(entry(MESSAGE="Invalid user ann from 192.0.2.1 port 1"))
    (event,) = ocsf(map_bytes(engine("linux_auth"), f'{{"{name}":"cron",{data[1:]}'.encode()).events)
    assert dig(event, "user.name") == "ann"
    assert event["unmapped"][f"journal.{name}"] == "cron"


@pytest.mark.parametrize("missing", [None, [], ""])
def test_an_entry_of_ours_without_its_text_is_no_drop(missing: object) -> None:
    mapped = map_bytes(engine("linux_auth"), json.dumps(entry(MESSAGE=missing)).encode())
    assert (reasons(mapped), mapped.dropped) == (["the entry has no text in MESSAGE or message"], {})
    other = map_bytes(engine("linux_auth"), json.dumps(entry(MESSAGE=missing, SYSLOG_IDENTIFIER="podman")).encode())
    assert (reasons(other), other.dropped) == ([], {"line of another program": 1})


def test_what_is_kept_of_a_quarantined_entry_is_read_again() -> None:
    document = json.dumps({"timestamp": 1773655201000, "message": json.dumps({"body": entry(MESSAGE=None)})})
    mapped = map_bytes(engine("linux_auth"), document.encode())
    (kept,) = mapped.rejects["raw"].to_pylist()
    assert reasons(map_bytes(engine("linux_auth"), kept.encode())) == reasons(mapped)
