"""Audit logs of MySQL, MariaDB and Aurora MySQL, and PostgreSQL's log -> OCSF Datastore Activity [6005], Authentication [3002].

Format: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/AuroraMySQL.Auditing.html,
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.MySQL.Options.AuditPlugin.html,
https://www.postgresql.org/docs/current/runtime-config-logging.html and https://github.com/pgaudit/pgaudit
Record: of MySQL ten values with commas between, the statement in single quotes; Aurora's time is microseconds since 1970, the
plugin's `20260316 10:00:00`, UTC. Of PostgreSQL a line that begins with RDS's prefix, `%t:%r:%u@%d:[%p]:`, and those that
belong to it: further lines of a text begin with a tab, and DETAIL, HINT, QUERY, CONTEXT and STATEMENT with the prefix again.
Log events hold these one by one. SQL text may hold passwords, and stays as it is.
"""

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
    Values,
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
PREFIX = rf"(?P<time>{CLOCK}) {ZONE}:{PEER}:(?P<user>[^\n]{{0}}?)@(?P<database>[^@\n]{{0}}?):\[(?P<connection>\d+)\]:"
"""A name may hold an @, that of Kerberos does. The server's own processes have none, those that run scheduled jobs among them."""
ANY_LEVEL = r"[A-Z]+\d?"
ANY_ZONE = r"(?:[A-Z]\w*|[+-]\d+)"
"""RDS logs in UTC; lines in another zone are records too, and go to quarantine."""
AGAIN = rf"\n{CLOCK} {ZONE}:[^\n]*?:\[\d+\]:"
FURTHER = "DETAIL|HINT|QUERY|CONTEXT|LOCATION|STATEMENT"
AFTER = "".join(
    rf"(?:{AGAIN}{level}: +(?P<{name}>.*?))?"
    for level, name in (
        ("DETAIL", "detail"), ("HINT", "hint"), ("QUERY", "internal_query"), ("CONTEXT", "context"), ("LOCATION", "location"),
        ("STATEMENT", "statement"),
    )
)  # fmt: skip
LEFT_OUT = rf"[^\n]*(?:\n(?:\t|{CLOCK} )[^\n]*)*\s*"
"""Nothing but what PostgreSQL writes: a damaged line behind one that is left out must not go with it."""
NO_STATEMENT = AFTER.replace("?P<statement>", "?P<during>")
IN_CSV = '"(?P<{0}>(?:[^"]|"")*)"|(?P<bare_{0}>[^,"]*)'
"""Quotes inside are doubled."""
AUDIT = (
    r"AUDIT: (?P<audit>SESSION|OBJECT),(?P<statement_id>\d+),(?P<substatement_id>\d+),(?P<audit_class>\w+),(?P<command>[^,]*),"
    rf"(?P<object_type>[^,]*),(?:{IN_CSV.format('object')}),(?:{IN_CSV.format('audited')})(?:,(?P<parameters>.*?))?"
)
SESSIONS = "connection received|connection authenticated|connection authorized|replication connection authorized|disconnection"
REFUSALS = (
    r'[\w ]*authentication failed for user "[^\n]*"|no pg_hba\.conf entry for [^\n]*|pg_hba\.conf rejects [^\n]*|role "[^\n]*" does not exist'
    r'|role "[^\n]*" is not permitted to log in|database "[^\n]*" does not exist|database "[^\n]*" is not currently accepting connections'
    r'|permission denied for database "[^\n]*"|too many connections for (?:role|database) "[^\n]*"|sorry, too many clients already'
    r"|remaining connection slots are reserved for [^\n]*|no PostgreSQL user name specified in startup packet"
)


def logged(level: str, body: str, names: str = "+") -> Pattern:
    """Lines with texts of this form; of a session, or with `*` for names of any process."""
    return Pattern(rf"{PREFIX.replace('{0}', names)}(?P<level>{level}): +{body}\s*")


# -- MySQL ------------------------------------------------------------------------------------------------------------
STAMP = r"(?P<micros>\d{16})|(?P<seconds>\d{8} \d\d?:\d\d:\d\d)"
SESSION_OPERATIONS = ("CONNECT", "FAILED_CONNECT", "DISCONNECT", "CHANGEUSER")
OPERATION = {"statement": r"QUERY\w*", "table": "[A-Z_]+"}
"""What stands in the ninth value, by operation: the statement or the table."""
ADDRESS = {"host": r"(?P<address>\d+\.\d+\.\d+\.\d+):(?P<port>\d+)"}


def audited(subject: str) -> tuple[Values, Pattern]:
    """Lines of an audit log; the second takes those in which a name holds commas or quotes, or the statement is cut off."""
    return (
        Values(
            f"stamp serverhost user host connection queryid operation database {subject} retcode connection_type",
            sep=",",
            quotes=("''",),
            optional=1,
            fits={"stamp": r"\d{16}|\d{8} \d\d?:\d\d:\d\d", "connection": r"\d+", "queryid": r"\d+", "operation": OPERATION[subject], "retcode": r"-?\d*"},
            parts={"stamp": STAMP} | ADDRESS,
        ),
        Pattern(
            rf"(?:{STAMP}),(?P<serverhost>[^,]*),(?P<user>.*?),(?P<host>[^,]*),(?P<connection>\d+),(?P<queryid>\d+),"
            rf"(?P<operation>{OPERATION[subject]}),(?P<database>[^,]*),(?:'(?P<{subject}>.*)'|[^,']*),(?P<retcode>-?\d*)(?:,(?P<connection_type>[^,']*))?\s*",
            parts=ADDRESS,
        ),
    )  # fmt: skip


LINES = Lines(
    (
        logged(ANY_LEVEL, AUDIT, "*"),
        logged(ANY_LEVEL, "(?P<message>AUDIT: .*?)", "*"),
        logged("LOG", f"(?P<message>(?P<session>{SESSIONS}): .*?)"),
        logged("FATAL", f"(?P<message>(?P<refusal>{REFUSALS})){NO_STATEMENT}"),
        logged("LOG", rf"(?:duration: (?P<duration>[\d.]+) ms +)?(?:statement|(?P<phase>parse|bind|execute(?: fetch from)?) (?P<prepared>[^\n]+?)): +(?P<statement>.*?){NO_STATEMENT}", "*"),
        logged("ERROR|FATAL|PANIC", f"(?P<message>.*?){AFTER}"),
        logged("STATEMENT", "(?P<statement>.*?)"),
        logged("DETAIL|QUERY", "(?P<message>.*?)"),
        Pattern(rf"{CLOCK} {ZONE}:[^\n]*?:\[\d+\]:(?:{FURTHER}): {LEFT_OUT}", drop="says more of another line of the log"),
        Pattern(rf"{CLOCK} {ZONE}:[^\n]*?:\[\d+\]:{ANY_LEVEL}: {LEFT_OUT}", drop="message of the server, neither a session nor a statement"),
        *audited("statement"),
        *audited("table"),
    ),
    null="",
    # the first `:[pid]:` is the prefix's own: a later one is in somebody's SQL
    begins=rf"(?:{CLOCK} {ANY_ZONE}:(?!(?:(?!:\[\d+\]:)[^\n])*:\[\d+\]:(?:{FURTHER}): )|(?:\d{{16}}|\d{{8}} \d\d?:\d\d:\d\d),)",
    label="text (audit log, PostgreSQL log)",
)  # fmt: skip

# -- what both are ----------------------------------------------------------------------------------------------------
ACTIVITIES = {
    **dict.fromkeys(("select", "with", "values", "show", "explain", "describe", "desc", "fetch", "query"), "Query"),
    **dict.fromkeys(("insert", "replace", "load", "import", "write"), "Write"),
    **dict.fromkeys(("update", "alter", "rename", "grant", "revoke", "merge"), "Update"),
    **dict.fromkeys(("delete", "drop", "truncate"), "Delete"),
    "read": "Read",
    "create": "Create",
}
"""First word of a statement, or an audit log's operation on a table, in lower case -> activity."""
FIRST_WORD = r"^(?:[\s(]|/\*(?s:.*?)\*/|--[^\n]*\n)*([A-Za-z]+)"

postgresql = col.time.is_not_null()
single = sql("replace({0}, '\"\"', '\"')", reads=[col.audited], carries=False)
query = coalesce(col.statement, col.audited.where(~col.audited.contains('""')), single, col.bare_audited)
verb = coalesce(col.command.extract(FIRST_WORD), query.extract(FIRST_WORD), col.operation).lower()
copies_in = (col.audit_class == "WRITE") | (col.audit_class.is_null() & query.matches(r"(?is)\sfrom\s+(?:stdin|program|')"))

numeric = col.host.matches(r"^(?:\d{1,3}\.){3}\d{1,3}$|^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$")
local = col.host == "localhost"
instance = coalesce(col["envelope.logGroup"].extract("^/aws/rds/(?:instance|cluster)/([^/]+)/"), col.serverhost)
failed_code = col.retcode.is_not_null() & ~col.retcode.matches("^0+$")
stopped = col.level.is_in("ERROR", "FATAL", "PANIC")


def joined(*parts: Expr) -> Expr:
    """Values that are an id together; each stays by itself too."""
    return sql(" || '/' || ".join(f"{{{number}}}" for number in range(len(parts))), reads=parts, carries=False)


COMMON: Fields = {
    "time": coalesce(
        sql("replace({0}, ' ', 'T') || 'Z'", reads=[col.time]).iso8601(),
        sql("CAST(TRY_CAST({0} AS BIGINT) // 1000 AS VARCHAR)", reads=[col.micros], carries=False).epoch_millis(),
        sql("strftime(TRY_STRPTIME({0}, '%Y%m%d %H:%M:%S'), '%Y-%m-%dT%H:%M:%SZ')", reads=[col.seconds], carries=False).iso8601(),
    ),
    "message":     col.message,
    "status_code": col.retcode,
    # context: an id that CloudWatch Logs gives, else what an audit log has; PostgreSQL's lines alone have none
    "metadata.uid":             coalesce(col["envelope.id"], joined(col.serverhost, coalesce(col.micros, col.seconds), col.connection, col.queryid, col.operation)),
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
    "src_endpoint.svc_name": when(local).then(col.host).when(col.host.is_null() & col.address.is_null()).then(coalesce(col.socket, "localhost")),
    "src_endpoint.port":     col.port,
    "dst_endpoint.name":     coalesce(col.serverhost, instance),
}  # fmt: skip

MAPPER = Mapper(
    name="aws_rds",
    product=Product("Amazon RDS"),
    readers=[DelimitedInJson(LINES), LINES],
    record=text_struct(
        "time micros seconds level host socket address port user database connection message session refusal duration phase prepared"
        " statement detail hint internal_query context location during audit statement_id substatement_id audit_class command"
        " object_type object bare_object audited bare_audited parameters"
        " serverhost queryid operation table retcode connection_type envelope.id envelope.owner envelope.logGroup"
    ),
    table="rds",
    sorted_by=["actor.user.name"],
    duplicate_key=["metadata.uid"],
    blank=("[unknown]", "<none>", "<not logged>"),
    events=[
        EventMap("authentication", where=col.session.is_not_null() | col.refusal.is_not_null() | col.operation.is_in(*SESSION_OPERATIONS), fields=COMMON | {
            # a connection that is only received or authenticated is no sign-in yet: the one that is authorized is
            "activity_id":   when(col.session.is_in("connection received", "connection authenticated") | (col.operation == "CHANGEUSER")).then(coalesce(col.session, col.operation))
                             .when((col.session == "disconnection") | (col.operation == "DISCONNECT")).then("Logoff").otherwise("Logon"),
            "severity_id":   when(failed_code | col.refusal.is_not_null() | (col.operation == "FAILED_CONNECT")).then("Low").otherwise("Informational"),
            "status_id":     when(failed_code | col.refusal.is_not_null() | (col.operation == "FAILED_CONNECT")).then("Failure").when(col.session == "connection received").then("Unknown").otherwise("Success"),
            "status_detail": coalesce(col.refusal, col.detail),
            "user.name":     coalesce(col.user, "unknown"),
            "session.uid":   col.connection,
            "service.name":  when(postgresql).then("PostgreSQL").when(col.operation.is_not_null()).then("MySQL"),
        }),
        EventMap("datastore_activity", fields=COMMON | {
            "activity_id":   when(col.phase.is_in("parse", "bind")).then(col.phase).when((verb == "copy") & copies_in).then("Write").when(verb == "copy").then("Read").otherwise(coalesce(verb.replace(ACTIVITIES), "Unknown")),
            "severity_id":   when(col.level == "PANIC").then("High").when(col.level == "FATAL").then("Medium").when(stopped | failed_code).then("Low").otherwise("Informational"),
            # a statement is logged before it runs, so that without a duration nobody knows
            "status_id":     when(stopped | failed_code).then("Failure").when(col.retcode.is_not_null() | col.duration.is_not_null()).then("Success").otherwise("Unknown"),
            "status_detail": col.detail,
            "duration":      sql("CAST(round(TRY_CAST({0} AS DOUBLE)) AS BIGINT)", reads=[col.duration], carries=False),
            "actor.user.name":   coalesce(col.user, "unknown"),
            "actor.session.uid": col.connection,
            "database.name":    col.database,
            "database.uid":     instance,
            "database.type_id": "Relational",
            "table.name":       coalesce(col.table, coalesce(col.object, col.bare_object).where(col.object_type == "TABLE")),
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
            rf"{CLOCK} {ZONE}:[^:\s]*(?::[0-9a-fA-F:.]*\(\d+\))?:[^@]*@.*?:\[\d+\]:[A-Z]+\d?: .*",
            r"(?:\d{16}|\d{8} \d\d?:\d\d:\d\d),[^,]*,.*,[^,]*,\d+,\d+,[A-Z_]+,.*",
        ),
    ),
)
