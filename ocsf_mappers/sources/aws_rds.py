"""Audit logs of MySQL, MariaDB and Aurora MySQL, and PostgreSQL's log -> OCSF Datastore Activity [6005], Authentication [3002].

Format: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/AuroraMySQL.Auditing.html,
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.MySQL.Options.AuditPlugin.html,
https://www.postgresql.org/docs/current/runtime-config-logging.html and https://github.com/pgaudit/pgaudit
Record: of MySQL ten values with commas between, the statement in single quotes; Aurora's time is microseconds since 1970, the
plugin's `20260316 10:00:00`, UTC. Of PostgreSQL a line that begins with one of RDS's two prefixes, `%t:%r:%u@%d:[%p]:` or
`%m:%r:%u@%d:[%p]:%l:%e:%s:%v:%x:%c:%q%a:`, and those that belong to it: further lines of a text begin with a tab, and DETAIL,
HINT, QUERY, CONTEXT, LOCATION and STATEMENT with the prefix again. Log events hold these one by one. SQL text may hold
passwords, and stays as it is. Names are written as the client gave them, line ends too.
"""

import re

from ocsf_mappers import (
    DelimitedInJson,
    EventMap,
    Expr,
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

# -- PostgreSQL -------------------------------------------------------------------------------------------------------
CLOCK = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?"
ZONE = "(?:UTC|GMT)"
PEER = r"(?:(?P<host>[^\s()]+)\((?P<port>\d+)\)|(?P<socket>\[local\]))?"
NAME, NAME_AT = r"(?:[^:@\n]|:+[^:@\[\n])*", r"(?:[^:\n]|:+[^:\[\n])*"
"""Without what ends a prefix. A user's may hold an @, that of Kerberos does; the server's own processes have none."""
NO_LEVEL = r"[^\n][^GROELCTYN1-5\n]|[^ON\n]G|[^O\n]R|[^F\n]O|[^C\n]E|[^AI\n]L|[^I\n]C|[^NX\n]T|[^R\n]Y|[^O\n]N|[^G\n][1-5]"
"""Two letters that no level ends in."""
APPLICATION = rf"(?:[^:\n]?: )?(?:[^:\n]|:+[^: \n]|(?:{NO_LEVEL}): )*?"
"""A client's choice too: without what looks like a level and a colon, or it could begin the message."""
MORE = (
    r"(?:(?P<line>\d+):(?P<sqlstate>[0-9A-Z]{5}):(?P<session_start>[^\n]{19,40}?):(?P<vxid>[\d/]*):(?P<txid>\d+):"
    rf"(?P<session_id>[0-9a-f]+\.[0-9a-f]+):(?P<application>{APPLICATION}):?)?"
)
"""What the longer prefix has further."""
PREFIX = rf"(?P<time>{CLOCK}) {ZONE}:{PEER}:(?P<user>{NAME_AT}?)@(?P<database>{NAME}?):\[(?P<connection>\d+)\]:{MORE}"
LEVELS = "DEBUG[1-5]|INFO|NOTICE|WARNING|LOG|ERROR|FATAL|PANIC"
FURTHER = ("DETAIL", "HINT", "QUERY", "CONTEXT", "LOCATION", "STATEMENT")
"""Lines that say more of the one before them, in this order."""
ANY_FURTHER = "|".join(FURTHER)
CODE = r"(?:(?P<code>[0-9A-Z]{2}(?:[0-9A-Z]\d\d|00[A-Z])): +)?"
"""Where log_error_verbosity is verbose, as is LOCATION."""
TEXT = r"[^\n]*(?:\n\t[^\n]*)*"
IN_CSV = '"(?P<{0}>(?:[^"]|"")*)"|(?P<bare_{0}>[^,"\\n]*)'
"""Quotes inside are doubled."""
AUDIT = (
    r"AUDIT: (?P<audit>SESSION|OBJECT),(?P<statement_id>\d+),(?P<substatement_id>\d+),(?P<audit_class>\w+),(?P<command>[^,]*),"
    rf"(?P<object_type>[^,]*),(?:{IN_CSV.format('object')}),(?:{IN_CSV.format('audited')})(?:,(?P<parameters>{TEXT}))?"
)
SESSIONS = "connection received|connection authenticated|connection authorized|connection ready|replication connection authorized|disconnection"
REFUSALS = (
    r'[\w ]*authentication failed for user "[^\n]*"|no pg_hba\.conf entry for [^\n]*|pg_hba\.conf rejects [^\n]*|role "[^\n]*" does not exist'
    r'|role "[^\n]*" is not permitted to log in|database "[^\n]*" does not exist|database "[^\n]*" is not currently accepting connections'
    r'|permission denied for database "[^\n]*"|too many connections for (?:role|database) "[^\n]*"|sorry, too many clients already'
    r"|remaining connection slots are reserved for [^\n]*|no PostgreSQL user name specified in startup packet"
)
REFUSED = f"(?P<message>(?P<refusal>{REFUSALS}))"
STATEMENT = r"(?:duration: (?P<duration>[\d.]+) ms +)?(?:statement|(?P<phase>parse|bind|execute(?: fetch from)?) (?P<prepared>[^\n]+?)): +"


def unnamed(pattern: str) -> str:
    """An expression without columns."""
    return re.sub(r"\(\?P<\w+>", "(?:", pattern)


BARE = unnamed(PREFIX)


def then(*levels: str) -> str:
    """Lines that may follow, each a column; what has others is no line of the server's own, but written by somebody's SQL."""
    return "".join(rf"(?:\n{BARE}{level}: +(?P<{level.lower()}>{TEXT}))?" for level in levels)


def logged(level: str, body: str, prefix: str = PREFIX) -> Pattern:
    """Lines with texts of this form."""
    return Pattern(rf"{prefix}(?P<level>{level}): +{CODE}{body}\s*")


ODD = PREFIX.replace(f"(?P<user>{NAME_AT}?)@(?P<database>{NAME}?)", r"(?P<user>[^\n]{0,130}:\[\d+\]:[^\n]{0,130})")
"""With names that hold the end of a prefix: of what is written before anybody is in, what stands behind the last one is the server's."""

POSTGRESQL = (
    logged("FATAL", REFUSED + then("DETAIL", "LOCATION"), ODD),
    logged("DETAIL|LOCATION", r'(?P<message>(?:Connection matched |Role "|User "|Password )[^\n]*(?:\n\tConnection matched [^\n]*)?|\w+, [\w./]+:\d+)', ODD),
    logged(LEVELS, AUDIT + then("LOCATION")),
    logged("LOG", f"(?P<message>(?P<session>{SESSIONS}): {NAME_AT})" + then("LOCATION")),
    logged("FATAL", REFUSED + then("DETAIL", "LOCATION")),
    logged("LOG", STATEMENT + f"(?P<statement>{TEXT})" + then("DETAIL", "LOCATION")),
    logged(LEVELS, f"(?P<message>AUDIT: {TEXT})" + then(*FURTHER)),
    Pattern(rf"{CLOCK} {ZONE}::@:\[\d+\]:{TEXT}(?:\n{BARE}(?:{ANY_FURTHER}): {TEXT})*\s*", drop="message of the server, neither a session nor a statement"),
    logged("ERROR|FATAL|PANIC", f"(?P<message>{TEXT})" + then(*FURTHER)),
    logged(LEVELS, f"(?P<message>{TEXT})" + then(*FURTHER).removesuffix("?")),
    logged("STATEMENT", f"(?P<statement>{TEXT})"),
    logged("DETAIL|QUERY", f"(?P<message>{TEXT})"),
    Pattern(rf"{BARE}(?:{ANY_FURTHER}): {TEXT}(?:\n{BARE}(?:{ANY_FURTHER}): {TEXT})*\s*", drop="says more of another line of the log"),
    Pattern(rf"{BARE}(?:{LEVELS}): {TEXT}(?:\n{BARE}(?:{ANY_FURTHER}): {TEXT})*\s*", drop="message of the server, neither a session nor a statement"),
)  # fmt: skip

# -- MySQL ------------------------------------------------------------------------------------------------------------
STAMP = r"(?:(?P<micros>\d{16})|(?P<seconds>\d{8} \d\d?:\d\d:\d\d))"
SESSION_OPERATIONS = ("CONNECT", "FAILED_CONNECT", "DISCONNECT", "CHANGEUSER", "PROXY_CONNECT")


def audited(operation: str, subject: str, retcode: str) -> Pattern:
    """Lines of an audit log with this in the ninth value. A name may hold commas and quotes; a quote in a statement has a backslash."""
    return Pattern(
        rf"{STAMP},(?P<serverhost>[^,\n]*),(?P<user>[^\n]*?),(?P<host>[^,\n]*),(?P<connection>\d+),(?P<queryid>\d+),"
        rf"(?P<operation>{operation}),(?P<database>[^,\n]*),{subject},(?P<retcode>{retcode})(?:,(?P<connection_type>\d|[A-Za-z][\w/. ]*)?,?)?\s*",
        parts={"host": r"(?P<address>\d+\.\d+\.\d+\.\d+):(?P<port>\d+)"},
    )


FIRST_LEVEL = unnamed(MORE).replace(APPLICATION, rf"(?:(?!(?:{LEVELS}|{ANY_FURTHER}): )[^\n]){{0,63}}")

LINES = Lines(
    (*POSTGRESQL, audited(r"QUERY\w*", r"'(?P<statement>[^\n]*)'", r"-?\d+"), audited("[A-Z_]+", r"'?(?P<object>[^,'\n]*)'?", r"-?\d*")),
    null="",
    # any line but one with a tab, and those that say more; a line end in a name does not end what stands before the text
    begins=rf"(?!{CLOCK} {ZONE}:(?:(?!:\[\d+\]:)[^\n])*:\[\d+\]:{FIRST_LEVEL}(?:{ANY_FURTHER}): )"
    rf"(?:{CLOCK} {ZONE}:(?s:.{{0,500}}?):\[\d+\]:|{unnamed(STAMP)},(?s:.{{0,500}}?),\d+,\d+,[A-Z_]+,|[^\t\n])",
    label="text (audit log, PostgreSQL log)",
)  # fmt: skip

# -- what both are ----------------------------------------------------------------------------------------------------
ACTIVITIES = {
    **dict.fromkeys(("select", "with", "values", "show", "explain", "describe", "desc", "fetch"), "Query"),
    **dict.fromkeys(("insert", "replace", "load", "import", "write"), "Write"),
    **dict.fromkeys(("update", "alter", "rename", "grant", "revoke", "merge"), "Update"),
    **dict.fromkeys(("delete", "drop", "truncate"), "Delete"),
    "read": "Read",
    "create": "Create",
}
"""First word of a statement, or an audit log's operation on a table, in lower case -> activity."""
FIRST_WORD = r"^(?:[\s(]|\\[nrt]|/\*(?s:.*?)\*/|(?:--|#)(?:[^\n\\]|\\[^n])*(?:\n|\\n))*([A-Za-z]+)"
"""Behind blanks and comments; an audit log writes a line end as a backslash and an n."""

postgresql = col.time.is_not_null()
query = coalesce(
    col.statement.where(postgresql | ~col.statement.contains("\\'")), sql(r"replace({0}, '\''', '''')", reads=[col.statement], carries=False),
    col.audited.where(~col.audited.contains('""')), sql("""replace({0}, '""', '"')""", reads=[col.audited], carries=False), col.bare_audited,
)  # fmt: skip
"""Without the signs that a log puts before quotes; with them it stays by itself too."""
written = coalesce(col.statement, col.audited, col.bare_audited)
verb = coalesce(col.command, written, col.operation.where(col.operation != "QUERY")).extract(FIRST_WORD).lower()
copies_in = (col.audit_class == "WRITE") | (col.audit_class.is_null() & written.matches(r"(?is)\sfrom\s+(?:stdin|program|')"))

session = coalesce(col.session_id, col.connection)
numeric = col.host.matches(r"^(?:\d{1,3}\.){3}\d{1,3}$|^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$")
local = col.host == "localhost"
# of a cluster's log group the stream is called as the instance
group = col["envelope.logGroup"]
instance = coalesce(
    group.extract("^/aws/rds/instance/([^/]+)/"), col.serverhost,
    col["envelope.logStream"].where(group.starts_with("/aws/rds/cluster/")).extract("^([A-Za-z][A-Za-z0-9-]*)"),
)  # fmt: skip
failed_code = col.retcode.is_not_null() & ~col.retcode.matches("^0+$")
stopped = col.level.is_in("ERROR", "FATAL", "PANIC")


def joined(*parts: Expr) -> Expr:
    """Values that are an id together; each stays by itself too."""
    return sql(" || '/' || ".join(f"{{{number}}}" for number in range(len(parts))), reads=parts, carries=False)


audit_entry = (col.serverhost, coalesce(col.micros, col.seconds), col.connection, col.queryid, col.operation)

COMMON: Fields = {
    "time": coalesce(
        sql("replace({0}, ' ', 'T') || 'Z'", reads=[col.time]).iso8601(),
        sql("CAST(TRY_CAST({0} AS BIGINT) // 1000 AS VARCHAR)", reads=[col.micros], carries=False).epoch_millis(),
        sql("strftime(TRY_STRPTIME({0}, '%Y%m%d %H:%M:%S'), '%Y-%m-%dT%H:%M:%SZ')", reads=[col.seconds], carries=False).iso8601(),
    ),
    "message":     col.message,
    "status_code": coalesce(col.retcode, *(state.where(state != "00000") for state in (col.sqlstate, col.code))),
    # context: an id that CloudWatch Logs gives, else what makes a line one of its kind; PostgreSQL's shorter prefix has nothing like it
    "metadata.uid":             coalesce(
        col["envelope.id"], joined(col.session_id, col.line, col.time),
        joined(*audit_entry, col.object), joined(*audit_entry),
    ),
    "metadata.correlation_uid": coalesce(joined(col.connection, col.queryid), joined(col.connection, col.time)),
    "metadata.original_time":   coalesce(col.time, col.micros, col.seconds),
    "metadata.log_name":        when(col.audit.is_not_null()).then("pgaudit").when(postgresql).then("postgresql").when(col.operation.is_not_null()).then("audit"),
    "metadata.event_code":      coalesce(col.operation, col.session, col.level),
    "cloud.provider":    "AWS",
    "cloud.account.uid": coalesce(col["envelope.owner"], object_key.account),
    "cloud.region":      object_key.region,
    # primary: a client and the instance
    "src_endpoint.ip":       coalesce(col.host.where(numeric), col.address),
    "src_endpoint.hostname": col.host.where(~numeric & ~local),
    "src_endpoint.svc_name": when(local).then(col.host).when(col.host.is_null() & col.address.is_null()).then(coalesce(col.socket, when(postgresql).then("localhost"), "unknown")),
    "src_endpoint.port":     col.port,
    "dst_endpoint.name":     coalesce(col.serverhost, instance),
}  # fmt: skip

MAPPER = Mapper(
    name="aws_rds",
    product=Product("Amazon RDS"),
    readers=[DelimitedInJson(LINES), LINES],
    record=text_struct(
        "time micros seconds level code host socket address port user database connection message session refusal duration phase prepared"
        " line sqlstate session_start vxid txid session_id application statement detail hint query context location"
        " audit statement_id substatement_id audit_class command object_type object bare_object audited bare_audited parameters"
        " serverhost queryid operation retcode connection_type envelope.id envelope.owner envelope.logGroup envelope.logStream"
    ),
    table="rds",
    sorted_by=["actor.user.name"],
    duplicate_key=["metadata.uid"],
    blank=("[unknown]", "<none>", "<not logged>"),
    events=[
        EventMap("authentication", where=col.session.is_not_null() | col.refusal.is_not_null() | col.operation.is_in(*SESSION_OPERATIONS), fields=COMMON | {
            # a connection that is only received or authenticated is no sign-in yet: the one that is authorized is
            "activity_id":   when(col.session.is_in("connection received", "connection authenticated", "connection ready") | col.operation.is_in("CHANGEUSER", "PROXY_CONNECT")).then(coalesce(col.session, col.operation))
                             .when((col.session == "disconnection") | (col.operation == "DISCONNECT")).then("Logoff").otherwise("Logon"),
            "severity_id":   when(failed_code | col.refusal.is_not_null() | (col.operation == "FAILED_CONNECT")).then("Low").otherwise("Informational"),
            "status_id":     when(failed_code | col.refusal.is_not_null() | (col.operation == "FAILED_CONNECT")).then("Failure").when(col.session == "connection received").then("Unknown").otherwise("Success"),
            "status_detail": coalesce(col.refusal, col.detail),
            "user.name":     coalesce(col.user, "unknown"),
            "session.uid":   session,
            "service.name":  when(postgresql).then("PostgreSQL").when(col.operation.is_not_null()).then("MySQL"),
        }),
        EventMap("datastore_activity", fields=COMMON | {
            "activity_id":   when(col.phase.is_in("parse", "bind")).then(col.phase).when((verb == "copy") & copies_in).then("Write").when(verb == "copy").then("Read").otherwise(coalesce(verb.replace(ACTIVITIES), "Unknown")),
            "severity_id":   when(col.level == "PANIC").then("High").when(col.level == "FATAL").then("Medium").when(stopped | failed_code).then("Low").otherwise("Informational"),
            # a statement is logged before it runs, so that without a duration nobody knows
            "status_id":     when(stopped | failed_code).then("Failure").when(col.retcode.is_not_null() | col.duration.is_not_null()).then("Success").otherwise("Unknown"),
            "status_detail": col.detail,
            "duration":      sql("TRY_CAST(round(TRY_CAST({0} AS DOUBLE)) AS BIGINT)", reads=[col.duration], carries=False),
            "actor.user.name":   coalesce(col.user, "unknown"),
            "actor.session.uid": session,
            "database.name":    col.database,
            "database.uid":     instance,
            "database.type_id": "Relational",
            # of RENAME the object is both names, `old|database.new`
            "table.name":       when(col.operation == "RENAME").then(col.object.extract(r"^([^|]+)")).when(col.operation.is_not_null()).then(col.object)
                                .when(col.object_type == "TABLE").then(coalesce(col.object, col.bare_object)),
            "query_info": obj({
                "query_string": query,
                "uid": coalesce(joined(col.statement_id, col.substatement_id), col.queryid, joined(col.connection, col.time)),
            }, needs="query_string"),
        }),
    ],
)  # fmt: skip

# CloudWatch Logs, /aws/rds/instance/NAME/postgresql or /audit and /aws/rds/cluster/NAME/...; no service delivers it to S3.
SOURCE = Source(
    MAPPER,
    marks=Marks(
        lines=(
            rf"{CLOCK} {ZONE}:{unnamed(PEER)}:[^@]*@.*?:\[\d+\]:(?:[^\n]*?:)?(?:{LEVELS}|{ANY_FURTHER}): .*",
            r"(?:\d{16}|\d{8} \d\d?:\d\d:\d\d),[^,]*,.*,[^,]*,\d+,\d+,[A-Z_]+,.*",
        ),
        set_aside={rf"{CLOCK} {ZONE},(?:\"[^\"]*\")?,(?:\"[^\"]*\")?,\d+,": "PostgreSQL's log as CSV, which repeats the text log beside it"},
    ),
)
