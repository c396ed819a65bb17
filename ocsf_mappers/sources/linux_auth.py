"""Sign-ins, sudo, accounts and groups of Linux hosts -> OCSF Authentication [3002], Account Change [3001], Group Management [3006].

Format: https://man.openbsd.org/sshd, https://www.sudo.ws/docs/man/sudoers.man/#LOG_FORMAT and the other programs' sources;
there is no specification of these texts
Record: a line of `/var/log/secure` or `auth.log`: time, host, program, perhaps its number, and a sentence. Older rsyslog writes
`Mar  6 10:00:00`, newer one ISO 8601. The former has no year, which the time of the log event or of the object tells, and
no zone: UTC. Without either there is no time, and the line is quarantined. Or an entry of systemd's journal as JSON
(https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-json-format), with the same sentences in MESSAGE; members whose names begin with
`_` are the journal's own word, the others the sender's. Whoever signs in chooses the user's name, with
blanks and `from` in it. A sign-in writes several lines; each is an event of its own.
"""

from collections.abc import Callable

from ocsf_mappers import (
    SEPARATOR,
    DelimitedInJson,
    Entries,
    EventMap,
    Expr,
    Fields,
    Having,
    Lines,
    Mapper,
    Marks,
    Pattern,
    Product,
    Source,
    coalesce,
    col,
    obj,
    object_key,
    sql,
    text_struct,
    when,
)

STAMP, TIME = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)"
SSHD = "sshd(?:-session|-auth)?"
ACCOUNTS = "useradd|userdel|usermod|groupadd|groupdel|groupmod|gpasswd|passwd|chpasswd|chage|newusers|chsh|chfn"
PROGRAMS = f"{SSHD}|sudo|su|{ACCOUNTS}"
ANY = r"[^\s\[:]+"
WHERE = r"(?P<address>\S+)(?: port (?P<port>\d+))?"
PEER = r"(?P<address>\S+) port (?P<port>\d+)"
PREAUTH = r"(?: \[preauth\])?"
AGAIN, ELSEWHERE = "says again what another line says", "line of another program"

Before = Callable[[str], str]
"""What stands before each message of a program."""


def syslog(program: str) -> str:
    """Of a line."""
    return rf"(?:(?P<time>{TIME})|(?P<stamp>{STAMP})) (?P<host>\S+) (?P<program>{program})(?:\[(?P<pid>\d+)\])?: +"


def journal(program: str) -> str:
    """Of an entry, whose other members stand beside it."""
    return rf"(?P<program>{program}){SEPARATOR} *"


def message_pattern(before: Before, program: str, message: str, drop: str | None = None) -> Pattern:
    """Lines of a program with a message of this form; the whole message is kept too."""
    return Pattern(rf"{before(program)}(?P<message>{message}) ?", drop=drop)


def repeated_pattern(before: Before, program: str, message: str) -> Pattern:
    """What rsyslog writes for equal messages after the first, with how many there were."""
    return Pattern(rf"{before(program)}message repeated (?P<repeated>\d+) times: \[ ?(?P<message>{message}) ?\] ?")


MESSAGES = (
    # sshd: the last ` from ` is its own, those before it are the client's
    (SSHD, rf"Accepted (?P<method>\S+) for (?P<user>.*) from {WHERE}(?: ssh2)?(?:: (?P<key>.+))?"),
    (SSHD, rf"Failed (?P<method>\S+) for (?:(?P<invalid>invalid user) )?(?P<user>.*) from {WHERE}(?: ssh2)?(?:: (?P<key>.+))?{PREAUTH}"),
    (SSHD, rf"(?P<invalid>Invalid user) (?P<user>.*) from {WHERE}"),
    (SSHD, rf"(?:error: )?(?P<refusal>maximum authentication attempts exceeded) for (?:(?P<invalid>invalid user) )?(?P<user>.*) from {WHERE}(?: ssh2)?{PREAUTH}"),
    (SSHD, rf"User (?P<user>.*) from {WHERE} not allowed because (?P<refusal>.+)"),
    (SSHD, r"User (?P<user>.*) not allowed because (?P<refusal>.+)"),
    (SSHD, rf"(?P<refusal>ROOT LOGIN REFUSED) FROM {WHERE}{PREAUTH}"),
    (SSHD, rf"(?:fatal: )?(?P<refusal>Access denied) for user (?P<user>.*) by PAM account configuration{PREAUTH}"),
    (SSHD, r"Authentication tried for (?P<user>.*) with (?P<refusal>correct (?:key|certificate|hostbased key) but not from a permitted host) \(host=(?P<peer>[^,]*), ip=(?P<address>[^,)]+)(?:, required=(?P<permitted>.*))?\)\.?"),
    (SSHD, rf"(?:error: )?PAM: (?P<refusal>.+?) for (?:(?P<invalid>illegal user) )?(?P<user>.*) from (?P<address>\S+){PREAUTH}"),
    (SSHD, rf"Disconnecting (?:authenticating user|(?P<invalid>invalid user)) (?P<user>.*) {PEER}: (?P<refusal>Too many authentication failures|Change of username or service not allowed: .+?){PREAUTH}"),
    (SSHD, rf"(?:Connection (?:closed|reset) by|Disconnected from) (?:authenticating user|(?P<invalid>invalid user)) (?P<user>.*) {PEER}{PREAUTH}"),
    (SSHD, rf"Disconnected from user (?P<user>.*) {PEER}"),
    # PAM, whichever program asks it; its modules write the same sentences
    (ANY, r"(?:pam_\w+\((?P<service>[^:()]+):auth\):|PAM) (?:authentication (?:failure|success)|(?P<more>\d+) more authentication failures?); logname=(?P<logname>\S*) uid=\d* euid=\d* tty=(?P<tty>\S*) ruser=(?P<by>\S*) rhost=(?P<address>\S*)(?: +user=(?P<user>.*))?"),
    (ANY, r"pam_\w+\((?P<service>[^:()]+):auth\): (?P<refusal>Consecutive login failures) for user (?P<user>.+) account temporarily locked"),
    (ANY, r"pam_\w+\((?P<service>[^:()]+):session\): session opened for user (?P<user>[^ (]+)(?:\(uid=(?P<uid>\d+)\))?(?: by (?P<by>[^ (]*)(?:\(uid=(?P<by_uid>\d+)\))?)?"),
    (ANY, r"pam_\w+\((?P<service>[^:()]+):session\): session closed for user (?P<user>\S+)"),
    (ANY, r"pam_\w+\((?P<service>[^:()]+):chauthtok\): password changed for (?P<user>.+)"),
    # sudo and su: one user as another
    ("sudo", r"(?P<by>\S+) : (?:(?P<refusal>[^=;]+) ; )?(?:HOST=(?P<on_host>[^ ;]+) ; )?(?:TTY=(?P<tty>[^ ;]+) ; )?(?:CHROOT=(?P<chroot>.*?) ; )?PWD=(?P<pwd>.*?) ; USER=(?P<user>[^ ;]+)(?: ; GROUP=(?P<as_group>[^ ;]+))?(?: ; TSID=(?P<tsid>\w+))?(?: ; ENV=(?P<env>.*?))?(?: ; COMMAND=(?P<command>.*))?"),
    ("sudo", r"(?P<by>\S+) : \(command continued\) (?P<command>.*)"),
    ("su", r"(?:FAILED SU )?\(to (?P<user>[^ )]+)\) (?P<by>\S+) on (?P<tty>\S+)"),
    ("su", r"(?:Successful|FAILED) su for (?P<user>\S+) by (?P<by>\S+)"),
    # shadow: accounts and groups
    ("useradd|newusers", r"new user: name=(?P<user>[^,]+), UID=(?P<uid>\d+)(?:, GID=(?P<gid>\d+))?(?:, home=(?P<home>[^,]*))?(?:, shell=(?P<shell>[^,]*))?(?:, from=(?P<tty>.*))?"),
    ("userdel", "delete user '(?P<user>[^']+)'"),
    ("usermod", "(?:un)?lock user '(?P<user>[^']+)' password"),
    ("usermod", "change user '(?P<user>[^']+)' (?P<change>.+)"),
    ("usermod", "change user (?P<change>name) '(?P<user>[^']+)' to '(?P<renamed>[^']+)'"),
    ("chsh|chfn", "changed user '(?P<user>[^']+)' (?P<change>.+)"),
    ("passwd|chpasswd", "password (?:for '(?P<user>[^']+)' changed by '(?P<by>[^']+)'|changed for (?P<changed>.+))"),
    ("chage", "changed password expiry for (?P<user>.+)"),
    ("useradd|groupadd|newusers", r"new group: name=(?P<group>[^,]+), GID=(?P<gid>\d+)"),
    ("groupdel", "group '(?P<group>[^']+)' removed"),
    ("groupmod", r"group changed in /etc/group \(group (?P<group>[^/,]+)/(?P<gid>\d+)(?:, (?P<change>.+))?\)"),
    ("userdel", "removed group '(?P<group>[^']+)' owned by '(?P<owner>[^']+)'"),
    ("useradd|usermod", "add '(?P<user>[^']+)' to group '(?P<group>[^']+)'"),
    ("userdel|usermod", "delete '(?P<user>[^']+)' from group '(?P<group>[^']+)'"),
    ("gpasswd", r"user (?P<user>\S+) (?:added by (?P<by>\S+) to|removed by (?P<remover>\S+) from) group (?P<group>\S+)"),
    ("gpasswd", r"(?:members|administrators) of group (?P<group>\S+) set by (?P<by>\S+) to (?P<change>.*)"),
    ("gpasswd", r"password of group (?P<group>\S+) (?P<change>changed|removed) by (?P<by>\S+)"),
)  # fmt: skip


def layouts(before: Before) -> tuple[Pattern, ...]:
    """Every message, whatever carries it; what is none of them is counted."""
    return (
        *(message_pattern(before, program, message) for program, message in MESSAGES),
        *(repeated_pattern(before, program, message) for program, message in MESSAGES),
        message_pattern(before, ACCOUNTS, "group (?:added to|changed in) .*|(?:add|delete) '[^']+' (?:to|from) shadow group .*|group '[^']+' removed from .*|removed shadow group .*", drop=AGAIN),
        message_pattern(before, SSHD, "Received disconnect from .*|Disconnected from .*|Connection (?:closed|reset) by .*", drop="sshd: end of a connection, without a user"),
        message_pattern(before, PROGRAMS, ".*", drop="says neither who signed in nor what account was changed"),
        message_pattern(before, ANY, ".*", drop=ELSEWHERE),
    )  # fmt: skip


LINES = Lines(layouts(syslog), null="", label="text (secure, auth.log)")

JOURNAL = Entries(
    marks=("SYSLOG_IDENTIFIER", "syslog_identifier", "_BOOT_ID", "_boot_id", "BOOT_ID", "boot_id"),
    parts=(("SYSLOG_IDENTIFIER", "syslog_identifier", "_COMM", "_comm", "COMM", "comm"), ("MESSAGE", "message")),
    # one of ours that says nothing comes first: it is no drop
    lines=Lines((Pattern(journal(PROGRAMS)), *layouts(journal), Pattern(".*", drop=ELSEWHERE)), null=""),
    prefix="journal.",
)

# The latest year that puts the time no later than two days after the log event, else the object. A clock may run ahead,
# and the time of an object is the beginning of what it covers.
SEEN = "CASE WHEN TRY_CAST({1} AS BIGINT) BETWEEN 0 AND 99999999999999 THEN make_timestamp(TRY_CAST({1} AS BIGINT) * 1000) END"
REFERENCE = f"coalesce({SEEN}, TRY_CAST({{1}} AS TIMESTAMP), TRY_CAST({{2}} AS TIMESTAMP))"
IN_YEAR = f"TRY_STRPTIME(CAST(year({REFERENCE}) + %d AS VARCHAR) || ' ' || replace({{0}}, '  ', ' '), '%%Y %%b %%d %%H:%%M:%%S')"
NOT_LATER = f"CASE WHEN {IN_YEAR} <= {REFERENCE} + INTERVAL 2 DAY THEN {IN_YEAR} END"
dated = sql(
    f"strftime(coalesce({NOT_LATER % (1, 1)}, {NOT_LATER % (0, 0)}, {IN_YEAR % -1}), '%Y-%m-%dT%H:%M:%SZ')",
    reads=[col.stamp, col["envelope.timestamp"], object_key.time],
    carries=False,
).iso8601()


MEMBERS = (
    "__cursor __realtime_timestamp _source_realtime_timestamp source_realtime_timestamp timestamp date _hostname hostname host _machine_id machine_id"
    " _boot_id boot_id _pid pid syslog_pid _comm comm _exe exe _cmdline cmdline _uid uid _audit_session audit_session"
    # known, and left in `unmapped`
    " __monotonic_timestamp __seqnum __seqnum_id _transport _gid _cap_effective _selinux_context _audit_loginuid _runtime_scope priority"
    " syslog_facility syslog_timestamp _systemd_unit _systemd_slice _systemd_cgroup _systemd_session _systemd_owner_uid"
    " _systemd_user_slice _systemd_user_unit _systemd_invocation_id source_type"
)  # fmt: skip
"""Members of an entry, in lower case; in `unmapped` others are spelled as they came."""


def entry(*names: str) -> Expr:
    """The first of these members of an entry; Fluent Bit and Vector call some otherwise than the journal."""
    return coalesce(*(col[f"journal.{name}"] for name in names))


as_is = entry("_boot_id", "_transport", "_pid").is_not_null()
"""Every entry has these, unless a shipper took all `_` away."""


def own(name: str) -> Expr:
    """A member that the journal itself writes; without its `_` it is the sender's, where others have theirs."""
    return coalesce(col[f"journal._{name}"], col[f"journal.{name}"].where(~as_is))


sent, received = own("source_realtime_timestamp"), entry("__realtime_timestamp")
shipped = coalesce(
    entry("timestamp").iso8601(), entry("date").epoch_seconds(fraction=True),
    col["envelope.timestamp"].where(col.time.is_null() & col.stamp.is_null()).epoch_millis(),
    col["envelope.timestamp"].where(col.time.is_null() & col.stamp.is_null()).iso8601(),
)  # fmt: skip
host = coalesce(col.host, own("hostname"), entry("host"))
exe = own("exe")

is_line = col.program.is_not_null() & col.message.is_not_null()
numeric = col.address.matches(r"^(?:\d{1,3}\.){3}\d{1,3}$|^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$")
pam = col.message.matches(r"^pam_\w+\(|^PAM \d")
switch = col.program.is_in("sudo", "su") & ~pam
instance = col["envelope.logStream"].extract(r"(\bi-[0-9a-f]{8,17}\b)")

# pam_unix writes who is logged in, and as whom its process runs: `by ann(uid=0)` is root's process in ann's session
COMMON: Fields = {
    "severity_id": "Informational",
    "status_id":   "Success",
    "time":        coalesce(col.time.iso8601(), dated, sent.epoch_micros(), received.epoch_micros(), shipped),
    "message":     col.message,
    "count":       coalesce(col.repeated, col.more),
    "metadata.uid":           entry("__cursor"),
    "metadata.logged_time":   received.epoch_micros(),
    "metadata.original_time": coalesce(col.time, col.stamp, sent, received),
    "metadata.event_code":    coalesce(when(pam).then("pam"), col.program),
    # the account in whose CloudWatch Logs the line is; the host may be anywhere
    "cloud.provider":    "AWS",
    "cloud.account.uid": coalesce(col["envelope.owner"], object_key.account),
    "cloud.region":      object_key.region,
    "device.hostname":     host,
    "device.uid":          own("machine_id"),
    "device.boot_uid":     own("boot_id"),
    "device.instance_uid": instance,
    "device.type_id":      when(instance.is_not_null()).then("Virtual").otherwise("Unknown"),
    "actor.user.name":     coalesce(col.by, col.remover),
    "actor.user.uid":      col.by_uid.where((col.by_uid != "0") | col.by.is_null() | (col.by == "root")),
    "actor.session.uid":   own("audit_session"),
    "actor.process": obj({
        "pid":      coalesce(col.pid, own("pid"), entry("syslog_pid")),
        "name":     coalesce(own("comm"), col.program.where(~as_is | (col.program == own("comm")))),
        "cmd_line": coalesce(col.command, own("cmdline")),
        "user.uid": coalesce(own("uid"), col.by_uid),
        "working_directory": col.pwd,
        "file": obj({"path": exe, "name": exe.extract("([^/]+)$"), "type_id": "Regular File"}, needs="name"),
    }, needs="pid"),
    # OCSF wants a user, 1.1.0 also where a group is made
    "user.name":           coalesce(col.user, col.changed, when(col.refusal == "ROOT LOGIN REFUSED").then("root"), when(is_line).then("unknown")),
    "user.uid":            col.uid,
}  # fmt: skip

failed = coalesce(col.refusal, col.invalid).is_not_null() | col.message.matches(
    r"^(?:Failed |FAILED |Connection (?:closed|reset) by |Disconnected from (?:authenticating|invalid) |pam_\w+\([^)]*:auth\): (?:auth.* failure|\d+ more)|PAM \d)"
)
password = col.message.matches(r"^pam_\w+\([^)]*:chauthtok\): ")
ended = col.message.matches(r"^Disconnected from user |^pam_\w+\([^)]*\): session closed ")

MAPPER = Mapper(
    name="linux_auth",
    product=Product("Linux authentication log", vendor="Linux"),
    readers=[DelimitedInJson(LINES, JOURNAL, label="JSON (systemd's journal, CloudWatch Logs, Firehose)"), LINES],
    record=text_struct(
        "time stamp host program pid message repeated more method user invalid key refusal address port service logname tty by by_uid uid"
        " on_host chroot peer permitted"
        " pwd as_group tsid env command gid home shell change changed renamed group owner remover"
        " envelope.owner envelope.timestamp envelope.logStream "
        + " ".join(f"journal.{name}" for name in MEMBERS.split())
    ),
    sorted_by=["device.hostname", "user.name"],
    duplicate_key=["metadata.uid"],
    blank=("",),
    events=[
        EventMap("group_management", where=col.group.is_not_null() & is_line, profiles=("cloud", "host"), fields=COMMON | {
            "activity_id": when(col.message.matches("^(?:add|user .* added by) ")).then("Add User").when(col.message.matches("^(?:delete|user .* removed by) ")).then("Remove User")
                           .when(col.message.starts_with("new ")).then("Create").when(col.message.matches("^(?:removed )?group '")).then("Delete").otherwise(col.program),
            "group.name":  col.group,
            "group.uid":   col.gid,
        }),
        EventMap("account_change", where=(col.program.matches(f"^(?:{ACCOUNTS})$") & ~pam) | password, profiles=("cloud", "host"), fields=COMMON | {
            "activity_id": when(col.message.starts_with("new user")).then("Create").when(col.message.starts_with("delete user")).then("Delete")
                           .when(col.message.starts_with("lock ")).then("Lock").when(col.message.starts_with("unlock ")).then("Enable")
                           .when(password | col.message.matches("^password (?:changed )?for ") | (col.change == "password")).then("Password Change")
                           .otherwise(col.program),
        }),
        EventMap("authentication", profiles=("cloud", "host"), fields=COMMON | {
            # classification: OCSF 1.1.0 has no switch of accounts, so it is Other, with the program beside it
            "activity_id":   when(switch).then(col.program).when(ended).then("Logoff").otherwise("Logon"),
            "severity_id":   when(failed & switch).then("Medium").when(failed).then("Low").otherwise("Informational"),
            "status_id":     when(failed).then("Failure").otherwise("Success"),
            "status_detail": coalesce(col.refusal, col.invalid),
            # primary
            "auth_protocol_id": col.method,
            "logon_type_id":    when((col.service == "sshd") | (~pam & ~switch)).then("Remote Interactive").when(col.service.matches("^crond?$")).then("Batch").when(col.service.is_in("login", "gdm-password")).then("Interactive"),
            "is_remote":        when((col.service == "sshd") | (~pam & ~switch)).then(True),
            # without these two it is no event, so that JSON with members of the same names is quarantined
            "service.name":     coalesce(col.service, col.program).where(is_line),
            "session.terminal": col.tty,
            "src_endpoint.ip":       col.address.where(numeric),
            "src_endpoint.hostname": col.address.where(~numeric),
            "src_endpoint.port":     col.port,
            "dst_endpoint.hostname": host.where(is_line),
        }),
    ],
)  # fmt: skip

# No service delivers it by itself: the CloudWatch agent sends lines to a log group of the user's choice.
SOURCE = Source(
    MAPPER,
    marks=Marks(
        members=(
            Having(("syslog_identifier", "_boot_id"), any_of=("message",), any_case=True),
            Having(("syslog_identifier", "boot_id"), any_of=("message",), any_case=True),
        ),
        lines=(rf"(?:{TIME}|{STAMP}) \S+ (?:{PROGRAMS})(?:\[\d+\])?: .*",),
    ),
)
