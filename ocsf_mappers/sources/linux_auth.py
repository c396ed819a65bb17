"""Sign-ins, sudo, accounts and groups of Linux hosts -> OCSF Authentication [3002], Account Change [3001], Group Management [3006].

Format: https://man.openbsd.org/sshd, https://www.sudo.ws/docs/man/sudoers.man/#LOG_FORMAT and the other programs' sources;
there is no specification of these texts
Record: a line of `/var/log/secure` or `auth.log`: time, host, program, perhaps its number, and a sentence. Older rsyslog writes
`Mar  6 10:00:00`, newer one ISO 8601. The former has no year, which the time of the log event or of the object tells, and
no zone: UTC. Without either there is no time, and the line is quarantined. Whoever signs in chooses the user's name, with
blanks and `from` in it. A sign-in writes several lines; each is an event of its own.
"""

from ocsf_mappers import (
    DelimitedInJson,
    EventMap,
    Fields,
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
ACCOUNTS = "useradd|userdel|usermod|groupadd|groupdel|groupmod|gpasswd|passwd|chpasswd|chage|newusers"
PROGRAMS = f"{SSHD}|sudo|su|{ACCOUNTS}"
ANY = r"[^\s\[:]+"
WHERE = r"(?P<address>\S+)(?: port (?P<port>\d+))?"
PEER = r"(?P<address>\S+) port (?P<port>\d+)"
PREAUTH = r"(?: \[preauth\])?"
AGAIN = "says again what another line says"


def said(program: str, message: str, drop: str | None = None) -> Pattern:
    """Lines of a program with a message of this form; the whole message is kept too."""
    return Pattern(
        rf"(?:(?P<time>{TIME})|(?P<stamp>{STAMP})) (?P<host>\S+) (?P<program>{program})(?:\[(?P<pid>\d+)\])?: +(?P<message>{message}) ?",
        drop=drop,
    )


LINES = Lines(
    (
        # sshd: the last ` from ` is its own, those before it are the client's
        said(SSHD, rf"Accepted (?P<method>\S+) for (?P<user>.*) from {WHERE}(?: ssh2)?(?:: (?P<key>.+))?"),
        said(SSHD, rf"Failed (?P<method>\S+) for (?:(?P<invalid>invalid user) )?(?P<user>.*) from {WHERE}(?: ssh2)?(?:: (?P<key>.+))?{PREAUTH}"),
        said(SSHD, rf"(?P<invalid>Invalid user) (?P<user>.*) from {WHERE}"),
        said(SSHD, rf"(?:error: )?(?P<refusal>maximum authentication attempts exceeded) for (?:(?P<invalid>invalid user) )?(?P<user>.*) from {WHERE}(?: ssh2)?{PREAUTH}"),
        said(SSHD, rf"User (?P<user>.*) from {WHERE} not allowed because (?P<refusal>.+)"),
        said(SSHD, rf"(?:Connection (?:closed|reset) by|Disconnected from) (?:authenticating user|(?P<invalid>invalid user)) (?P<user>.*) {PEER}{PREAUTH}"),
        said(SSHD, rf"Disconnected from user (?P<user>.*) {PEER}"),
        # PAM, whichever program asks it
        said(ANY, r"pam_unix\((?P<service>[^:()]+):auth\): authentication failure; logname=(?P<logname>\S*) uid=\d* euid=\d* tty=(?P<tty>\S*) ruser=(?P<by>\S*) rhost=(?P<address>\S*)(?: +user=(?P<user>.*))?"),
        said(ANY, r"pam_unix\((?P<service>[^:()]+):session\): session opened for user (?P<user>[^ (]+)(?:\(uid=(?P<uid>\d+)\))?(?: by (?P<by>[^ (]*)(?:\(uid=(?P<by_uid>\d+)\))?)?"),
        said(ANY, r"pam_unix\((?P<service>[^:()]+):session\): session closed for user (?P<user>\S+)"),
        said(ANY, r"pam_unix\((?P<service>[^:()]+):chauthtok\): password changed for (?P<user>.+)"),
        # sudo and su: one user as another
        said("sudo", r"(?P<by>\S+) : (?:(?P<refusal>[^=;]+) ; )?(?:TTY=(?P<tty>[^ ;]+) ; )?PWD=(?P<pwd>.*?) ; USER=(?P<user>[^ ;]+)(?: ; GROUP=(?P<as_group>[^ ;]+))?(?: ; TSID=(?P<tsid>\w+))?(?: ; ENV=(?P<env>.*?))?(?: ; COMMAND=(?P<command>.*))?"),
        said("su", r"(?:FAILED SU )?\(to (?P<user>[^ )]+)\) (?P<by>\S+) on (?P<tty>\S+)"),
        said("su", r"(?:Successful|FAILED) su for (?P<user>\S+) by (?P<by>\S+)"),
        # shadow: accounts and groups
        said("useradd|newusers", r"new user: name=(?P<user>[^,]+), UID=(?P<uid>\d+)(?:, GID=(?P<gid>\d+))?(?:, home=(?P<home>[^,]*))?(?:, shell=(?P<shell>[^,]*))?(?:, from=(?P<tty>.*))?"),
        said("userdel", "delete user '(?P<user>[^']+)'"),
        said("usermod", "(?:un)?lock user '(?P<user>[^']+)' password"),
        said("usermod", "change user '(?P<user>[^']+)' (?P<change>.+)"),
        said("passwd|chpasswd", "password (?:for '(?P<user>[^']+)' changed by '(?P<by>[^']+)'|changed for (?P<changed>.+))"),
        said("chage", "changed password expiry for (?P<user>.+)"),
        said("useradd|groupadd|newusers", r"new group: name=(?P<group>[^,]+), GID=(?P<gid>\d+)"),
        said("groupdel", "group '(?P<group>[^']+)' removed"),
        said("userdel", "removed group '(?P<group>[^']+)' owned by '(?P<owner>[^']+)'"),
        said("useradd|usermod", "add '(?P<user>[^']+)' to group '(?P<group>[^']+)'"),
        said("userdel|usermod", "delete '(?P<user>[^']+)' from group '(?P<group>[^']+)'"),
        said("gpasswd", r"user (?P<user>\S+) (?:added by (?P<by>\S+) to|removed by (?P<remover>\S+) from) group (?P<group>\S+)"),
        # the rest is counted
        said(ACCOUNTS, "group added to .*|(?:add|delete) '[^']+' (?:to|from) shadow group .*|group '[^']+' removed from .*|removed shadow group .*", drop=AGAIN),
        said(SSHD, "Received disconnect from .*|Disconnected from .*|Connection (?:closed|reset) by .*", drop="sshd: end of a connection, without a user"),
        said(PROGRAMS, ".*", drop="says neither who signed in nor what account was changed"),
        said(ANY, ".*", drop="line of another program"),
    ),
    null="",
    label="text (secure, auth.log)",
)  # fmt: skip

# The latest year that puts the time no later than two days after the log event, else the object. A clock may run ahead,
# and the time of an object is the beginning of what it covers.
REFERENCE = "coalesce(make_timestamp(TRY_CAST({1} AS BIGINT) * 1000), TRY_CAST({1} AS TIMESTAMP), TRY_CAST({2} AS TIMESTAMP))"
IN_YEAR = f"TRY_STRPTIME(CAST(year({REFERENCE}) + %d AS VARCHAR) || ' ' || replace({{0}}, '  ', ' '), '%%Y %%b %%d %%H:%%M:%%S')"
NOT_LATER = f"CASE WHEN {IN_YEAR} <= {REFERENCE} + INTERVAL 2 DAY THEN {IN_YEAR} END"
dated = sql(
    f"strftime(coalesce({NOT_LATER % (1, 1)}, {NOT_LATER % (0, 0)}, {IN_YEAR % -1}), '%Y-%m-%dT%H:%M:%SZ')",
    reads=[col.stamp, col["envelope.timestamp"], object_key.time],
    carries=False,
).iso8601()

is_line = col.program.is_not_null() & col.message.is_not_null()
numeric = col.address.matches(r"^(?:\d{1,3}\.){3}\d{1,3}$|^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$")
pam = col.message.starts_with("pam_unix(")
switch = col.program.is_in("sudo", "su") & ~pam
instance = col["envelope.logStream"].extract(r"(\bi-[0-9a-f]{8,17}\b)")

COMMON: Fields = {
    "severity_id": "Informational",
    "status_id":   "Success",
    "time":        coalesce(col.time.iso8601(), dated),
    "message":     col.message,
    "metadata.original_time": coalesce(col.time, col.stamp),
    "metadata.event_code":    coalesce(when(pam).then("pam"), col.program),
    # the account in whose CloudWatch Logs the line is; the host may be anywhere
    "cloud.provider":    "AWS",
    "cloud.account.uid": coalesce(col["envelope.owner"], object_key.account),
    "cloud.region":      object_key.region,
    "device.hostname":     col.host,
    "device.instance_uid": instance,
    "device.type_id":      when(instance.is_not_null()).then("Virtual").otherwise("Unknown"),
    "actor.user.name":     coalesce(col.by, col.remover),
    "actor.user.uid":      col.by_uid,
    "actor.process":       obj({"pid": col.pid, "name": col.program, "cmd_line": col.command}, needs="pid"),
    "user.name":           coalesce(col.user, col.changed, "unknown"),
    "user.uid":            col.uid,
}  # fmt: skip

failed = coalesce(col.refusal, col.invalid).is_not_null() | col.message.matches(
    r"^(?:Failed |FAILED |Connection (?:closed|reset) by |Disconnected from (?:authenticating|invalid) |pam_unix\([^)]*:auth\))"
)
ended = col.message.matches(r"^Disconnected from user |^pam_unix\([^)]*\): session closed ")

MAPPER = Mapper(
    name="linux_auth",
    product=Product("Linux authentication log", vendor="Linux"),
    readers=[DelimitedInJson(LINES), LINES],
    record=text_struct(
        "time stamp host program pid message method user invalid key refusal address port service logname tty by by_uid uid"
        " pwd as_group tsid env command gid home shell change changed group owner remover"
        " envelope.owner envelope.timestamp envelope.logStream"
    ),
    sorted_by=["device.hostname", "user.name"],
    events=[
        EventMap("group_management", where=col.group.is_not_null() & is_line, profiles=("cloud", "host"), fields=COMMON | {
            "activity_id": when(col.message.matches("^(?:add|user .* added by) ")).then("Add User").when(col.message.matches("^(?:delete|user .* removed by) ")).then("Remove User")
                           .when(col.message.starts_with("new ")).then("Create").otherwise("Delete"),
            # OCSF 1.1.0 wants a user where a group is made, too
            "user.name":   coalesce(col.user, sql("CASE WHEN {0} IS NOT NULL THEN 'unknown' END", reads=[col.group], carries=False)),
            "group.name":  col.group,
            "group.uid":   col.gid,
        }),
        EventMap("account_change", where=col.program.matches(f"^(?:{ACCOUNTS})$") & ~col.message.contains(":session)") & ~col.message.contains(":auth)"), profiles=("cloud", "host"), fields=COMMON | {
            "activity_id": when(col.message.starts_with("new user")).then("Create").when(col.message.starts_with("delete user")).then("Delete")
                           .when(col.message.starts_with("lock ")).then("Lock").when(col.message.starts_with("unlock ")).then("Enable")
                           .when(col.message.contains("password changed for ") | col.message.contains(" changed by ") | (col.change == "password")).then("Password Change")
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
            "dst_endpoint.hostname": col.host.where(is_line),
        }),
    ],
)  # fmt: skip

# No service delivers it by itself: the CloudWatch agent sends lines to a log group of the user's choice.
SOURCE = Source(
    MAPPER,
    marks=Marks(lines=(rf"(?:{TIME}|{STAMP}) \S+ (?:{PROGRAMS})(?:\[\d+\])?: .*",)),
)
