"""What our engine is measured against: a floor that maps nothing, and what a user would write by hand.

Every function takes the gzipped files and an empty folder, fills the folder with zstd Parquet and gives the number of
records it read. Each runs in a process of its own, so a library is imported where it is used.

The floor decompresses, parses into the source's own columns and writes them: no OCSF, no partitions. The hand-written
versions map about 25 OCSF attributes into nested columns and write partitions by region, account and day. They do what
one script can: no `unmapped`, no observables, no validation, no sort by time, nothing to resume or repeat safely.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import vpcflow

if TYPE_CHECKING:
    import polars as pl

FILES_PER_BATCH = 10  # DuckDB wants tens of thousands of rows a query

# --- CloudTrail: declared members ------------------------------------------------------------------------------------

_ISSUER = dict.fromkeys(("type", "principalId", "arn", "accountId", "userName"), "VARCHAR")
_SESSION = {"sessionIssuer": _ISSUER, "attributes": dict.fromkeys(("creationDate", "mfaAuthenticated"), "VARCHAR")}
_IDENTITY: dict[str, Any] = dict.fromkeys(
    ("type", "principalId", "arn", "accountId", "accessKeyId", "userName", "invokedBy", "identityProvider"), "VARCHAR"
) | {"sessionContext": _SESSION}
RECORD: dict[str, Any] = {
    "eventVersion": "VARCHAR", "userIdentity": _IDENTITY, "eventTime": "VARCHAR", "eventSource": "VARCHAR",
    "eventName": "VARCHAR", "awsRegion": "VARCHAR", "sourceIPAddress": "VARCHAR", "userAgent": "VARCHAR",
    "errorCode": "VARCHAR", "errorMessage": "VARCHAR", "requestParameters": "VARCHAR", "responseElements": "VARCHAR",
    "additionalEventData": "VARCHAR", "requestID": "VARCHAR", "eventID": "VARCHAR", "readOnly": "BOOLEAN",
    "resources": [{"ARN": "VARCHAR", "accountId": "VARCHAR", "type": "VARCHAR"}], "eventType": "VARCHAR",
    "apiVersion": "VARCHAR", "managementEvent": "BOOLEAN", "recipientAccountId": "VARCHAR", "sharedEventID": "VARCHAR",
    "eventCategory": "VARCHAR", "vpcEndpointId": "VARCHAR", "sessionCredentialFromConsole": "VARCHAR",
    "tlsDetails": dict.fromkeys(("tlsVersion", "cipherSuite", "clientProvidedHostHeader"), "VARCHAR"),
}  # fmt: skip


def _batches(files: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(files), FILES_PER_BATCH):
        yield files[start : start + FILES_PER_BATCH]


def floor_cloudtrail(files: Sequence[Path], out: Path) -> int:
    """Gunzip, split the envelope, parse the declared members, write them."""
    import duckdb
    import msgspec
    import pyarrow as pa
    import pyarrow.parquet as pq
    from isal import igzip

    envelope = msgspec.json.Decoder(dict[str, list[msgspec.Raw]])
    query = f"SELECT unnest(from_json(record, '{json.dumps(RECORD)}')) FROM raw"
    records = 0
    with duckdb.connect() as con:
        for number, batch in enumerate(_batches(files)):
            texts: list[bytes] = []
            for file in batch:
                text: bytes = igzip.decompress(file.read_bytes())  # type: ignore[no-untyped-call]
                texts += map(bytes, envelope.decode(text)["Records"])
            con.register("raw", pa.table({"record": pa.array(texts, pa.string())}))
            table = con.sql(query).to_arrow_table()
            con.unregister("raw")
            pq.write_table(table, f"{out}/{number:05}.parquet", compression="zstd")
            records += table.num_rows
    return records


# --- CloudTrail: by hand ---------------------------------------------------------------------------------------------

_AUTHENTICATION = (
    "ConsoleLogin", "CheckMfa", "CredentialChallenge", "CredentialVerification", "UserAuthentication", "AssumeRole",
    "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity",
)  # fmt: skip
_ACCOUNT_CHANGE = (
    r"^((Create|Delete|Update|Tag|Untag)(User|Role|InstanceProfile)|(Attach|Detach|Put|Delete)(User|Role|Group)Policy|"
    r"(Create|Delete|Update)(AccessKey|LoginProfile)|AddUserToGroup|RemoveUserFromGroup|ChangePassword)$"
)
_CREATES, _READS, _DELETES = (
    r"^(Create|Run|Generate)",
    r"^(Get|List|Describe|Search|Lookup|Head)",
    r"^(Delete|Terminate)",
)
_UPDATES = r"^(Update|Put|Modify|Add|Remove|Start|Stop|Attach|Detach|Associate|Tag|Enable|Disable|Register|Authorize)"

_CLOUDTRAIL_SQL = f"""
COPY (
  WITH classed AS (
    SELECT r, CAST(r.eventTime AS TIMESTAMP) AS happened,
      CASE WHEN r.eventName IN {_AUTHENTICATION} 
             AND r.eventSource IN ('sts.amazonaws.com', 'signin.amazonaws.com') THEN 3002
           WHEN r.eventSource = 'iam.amazonaws.com' AND regexp_matches(r.eventName, '{_ACCOUNT_CHANGE}') THEN 3001
           ELSE 6003 END AS class_uid
    FROM records
  ), acted AS (
    SELECT *, CASE class_uid
        WHEN 3002 THEN CASE WHEN r.eventName LIKE 'C%' AND r.eventName <> 'ConsoleLogin' THEN 99 ELSE 1 END
        WHEN 3001 THEN CASE WHEN r.eventName LIKE 'Create%' THEN 1 WHEN r.eventName LIKE 'Delete%' THEN 6
          WHEN r.eventName = 'ChangePassword' THEN 3 WHEN regexp_matches(r.eventName, '^(Attach|Put|Add)') THEN 7
          WHEN regexp_matches(r.eventName, '^(Detach|Remove)') THEN 8 ELSE 99 END
        ELSE CASE WHEN regexp_matches(r.eventName, '{_CREATES}') THEN 1
          WHEN regexp_matches(r.eventName, '{_READS}') THEN 2
          WHEN regexp_matches(r.eventName, '{_UPDATES}') THEN 3 WHEN regexp_matches(r.eventName, '{_DELETES}') THEN 4
          ELSE 99 END
      END AS activity_id
    FROM classed
  )
  SELECT
    class_uid, class_uid // 1000 AS category_uid, activity_id,
    CAST(class_uid AS BIGINT) * 100 + activity_id AS type_uid,
    epoch_ms(happened) AS time, happened AS time_dt, 1 AS severity_id,
    CASE WHEN r.errorCode IS NULL THEN 'Success' ELSE 'Failure' END AS status,
    {{'uid': r.eventID, 'event_code': r.eventType, 'version': '1.1.0', 'product': {{'name': 'CloudTrail',
      'vendor_name': 'AWS', 'version': r.eventVersion, 'feature': {{'name': r.eventCategory}}}}}} AS metadata,
    {{'provider': 'AWS', 'region': r.awsRegion, 'account': {{'uid': r.recipientAccountId}}}} AS cloud,
    {{'operation': r.eventName, 'version': r.apiVersion, 'service': {{'name': r.eventSource}},
      'request': {{'uid': r.requestID, 'data': r.requestParameters}},
      'response': {{'error': r.errorCode, 'message': r.errorMessage, 'data': r.responseElements}}}} AS api,
    {{'user': {{'type': r.userIdentity."type", 'name': r.userIdentity.userName, 'uid': r.userIdentity.arn,
        'uid_alt': r.userIdentity.principalId, 'account': {{'uid': r.userIdentity.accountId}},
        'credential_uid': r.userIdentity.accessKeyId}},
      'session': {{'issuer': r.userIdentity.sessionContext.sessionIssuer.arn,
        'created_time_dt': CAST(r.userIdentity.sessionContext.attributes.creationDate AS TIMESTAMP),
        'is_mfa': r.userIdentity.sessionContext.attributes.mfaAuthenticated = 'true'}},
      'invoked_by': r.userIdentity.invokedBy}} AS actor,
    {{'ip': CASE WHEN regexp_full_match(r.sourceIPAddress, '[0-9a-fA-F.:]+') THEN r.sourceIPAddress END,
      'svc_name': CASE WHEN NOT regexp_full_match(r.sourceIPAddress, '[0-9a-fA-F.:]+') THEN r.sourceIPAddress END,
      'uid': r.vpcEndpointId}} AS src_endpoint,
    {{'user_agent': r.userAgent}} AS http_request,
    list_transform(r.resources, lambda x: {{'uid': x.ARN, 'type': x."type",
      'owner': {{'account': {{'uid': x.accountId}}}}}}) AS resources,
    r.awsRegion AS region, r.recipientAccountId AS accountid, strftime(happened, '%Y%m%d') AS eventday
  FROM acted
) TO {{out}} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (region, accountid, eventday))
"""


def _duckdb_cloudtrail(files: Sequence[Path], out: Path, records: str) -> int:
    import duckdb

    with duckdb.connect(config={"preserve_insertion_order": "false"}) as con:
        con.execute("SET enable_progress_bar = false")
        con.execute(f"CREATE TEMP VIEW records AS {records.replace('files()', _sql_list(files))}")
        return _rows(con.execute(_CLOUDTRAIL_SQL.replace("{out}", _sql_text(out))).fetchone())


def _sql_list(files: Sequence[Path]) -> str:
    return "[" + ", ".join(_sql_text(file) for file in files) + "]"


def _sql_text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _rows(copied: tuple[Any, ...] | None) -> int:
    return int(copied[0]) if copied else 0


def duckdb_cloudtrail(files: Sequence[Path], out: Path) -> int:
    """DuckDB SQL, the quickest way found: each file is one line of text, parsed by `from_json`."""
    return _duckdb_cloudtrail(
        files,
        out,
        f"""SELECT unnest(from_json(line, '{json.dumps({"Records": [RECORD]})}').Records) AS r FROM read_csv(files(),
        columns = {{line: 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', header = false, auto_detect = false,
        max_line_size = 268435456)""",
    )


def _ddl(kind: Any) -> str:
    if isinstance(kind, dict):
        return "STRUCT(" + ", ".join(f'"{name}" {_ddl(member)}' for name, member in kind.items()) + ")"
    return f"{_ddl(kind[0])}[]" if isinstance(kind, list) else str(kind)


def duckdb_read_json_cloudtrail(files: Sequence[Path], out: Path) -> int:
    """DuckDB SQL, the obvious way: `read_json` with a declared schema."""
    return _duckdb_cloudtrail(
        files,
        out,
        f"""SELECT unnest(Records) AS r FROM read_json(files(), format = 'unstructured',
        columns = {{Records: '{_ddl([RECORD])}'}}, maximum_object_size = 268435456)""",
    )


def polars_cloudtrail(files: Sequence[Path], out: Path) -> int:
    """One lazy polars query; a file is one JSON line, so `scan_ndjson` reads it."""
    import polars as pl

    def dtype(kind: Any) -> Any:
        if isinstance(kind, dict):
            return pl.Struct({name: dtype(member) for name, member in kind.items()})
        return pl.List(dtype(kind[0])) if isinstance(kind, list) else pl.Boolean if kind == "BOOLEAN" else pl.String

    c, lit, struct, when = pl.col, pl.lit, pl.struct, pl.when
    who = c("userIdentity").struct
    session = who["sessionContext"].struct
    name, source, address = c("eventName"), c("eventSource"), c("sourceIPAddress")
    numeric = address.str.contains(r"^[0-9a-fA-F.:]+$")
    klass, at = c("class_uid"), c("time_dt")
    authentication = name.is_in(_AUTHENTICATION) & source.is_in(["sts.amazonaws.com", "signin.amazonaws.com"])
    account_change = (source == "iam.amazonaws.com") & name.str.contains(_ACCOUNT_CHANGE)
    on_account = (
        when(name.str.starts_with("Create")).then(1)
        .when(name.str.starts_with("Delete")).then(6)
        .when(name == "ChangePassword").then(3)
        .when(name.str.contains("^(Attach|Put|Add)")).then(7)
        .when(name.str.contains("^(Detach|Remove)")).then(8)
        .otherwise(99)
    )  # fmt: skip
    on_api = (
        when(name.str.contains(_CREATES)).then(1)
        .when(name.str.contains(_READS)).then(2)
        .when(name.str.contains(_UPDATES)).then(3)
        .when(name.str.contains(_DELETES)).then(4)
        .otherwise(99)
    )  # fmt: skip
    logon = when(name.str.starts_with("C") & (name != "ConsoleLogin")).then(99).otherwise(1)
    events = (
        pl.scan_ndjson(list(files), schema={"Records": dtype([RECORD])})
        .explode("Records")
        .unnest("Records")
        .with_columns(
            class_uid=when(authentication).then(3002).when(account_change).then(3001).otherwise(6003),
            time_dt=c("eventTime").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC"),
        )
        .with_columns(
            activity_id=when(klass == 3002).then(logon).when(klass == 3001).then(on_account).otherwise(on_api)
        )
        .select(
            klass,
            (klass // 1000).alias("category_uid"),
            c("activity_id"),
            (klass.cast(pl.Int64) * 100 + c("activity_id")).alias("type_uid"),
            at.dt.epoch("ms").alias("time"),
            at,
            lit(1).alias("severity_id"),
            when(c("errorCode").is_null()).then(lit("Success")).otherwise(lit("Failure")).alias("status"),
            struct(
                c("eventID").alias("uid"),
                c("eventType").alias("event_code"),
                lit("1.1.0").alias("version"),
                struct(
                    lit("CloudTrail").alias("name"),
                    lit("AWS").alias("vendor_name"),
                    c("eventVersion").alias("version"),
                    struct(c("eventCategory").alias("name")).alias("feature"),
                ).alias("product"),
            ).alias("metadata"),
            struct(
                lit("AWS").alias("provider"),
                c("awsRegion").alias("region"),
                struct(c("recipientAccountId").alias("uid")).alias("account"),
            ).alias("cloud"),
            struct(
                name.alias("operation"),
                c("apiVersion").alias("version"),
                struct(source.alias("name")).alias("service"),
                struct(c("requestID").alias("uid"), c("requestParameters").alias("data")).alias("request"),
                struct(
                    c("errorCode").alias("error"),
                    c("errorMessage").alias("message"),
                    c("responseElements").alias("data"),
                ).alias("response"),
            ).alias("api"),
            struct(
                struct(
                    who["type"].alias("type"),
                    who["userName"].alias("name"),
                    who["arn"].alias("uid"),
                    who["principalId"].alias("uid_alt"),
                    struct(who["accountId"].alias("uid")).alias("account"),
                    who["accessKeyId"].alias("credential_uid"),
                ).alias("user"),
                struct(
                    session["sessionIssuer"].struct["arn"].alias("issuer"),
                    session["attributes"]
                    .struct["creationDate"]
                    .str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
                    .alias("created_time_dt"),
                    (session["attributes"].struct["mfaAuthenticated"] == "true").alias("is_mfa"),
                ).alias("session"),
                who["invokedBy"].alias("invoked_by"),
            ).alias("actor"),
            struct(
                when(numeric).then(address).alias("ip"),
                when(~numeric).then(address).alias("svc_name"),
                c("vpcEndpointId").alias("uid"),
            ).alias("src_endpoint"),
            struct(c("userAgent").alias("user_agent")).alias("http_request"),
            c("resources")
            .list.eval(
                struct(
                    pl.element().struct["ARN"].alias("uid"),
                    pl.element().struct["type"].alias("type"),
                    struct(struct(pl.element().struct["accountId"].alias("uid")).alias("account")).alias("owner"),
                )
            )
            .alias("resources"),
            c("awsRegion").alias("region"),
            c("recipientAccountId").alias("accountid"),
            at.dt.strftime("%Y%m%d").alias("eventday"),
        )
    )
    return _sink(events, out)


def _sink(events: pl.LazyFrame, out: Path) -> int:
    """Writes the partitions and counts the rows from the footers."""
    import polars as pl
    import pyarrow.parquet as pq

    target = pl.PartitionBy(out, key=["region", "accountid", "eventday"], include_key=False)
    events.sink_parquet(target, compression="zstd", mkdir=True)
    return sum(pq.read_metadata(file).num_rows for file in out.rglob("*.parquet"))


# --- VPC flow logs ---------------------------------------------------------------------------------------------------

_NUMBERS = {
    "srcport": "INTEGER", "dstport": "INTEGER", "protocol": "INTEGER", "packets": "BIGINT", "bytes": "BIGINT",
    "start": "BIGINT", "end": "BIGINT", "tcp-flags": "INTEGER", "traffic-path": "INTEGER",
}  # fmt: skip


def _by_format(files: Sequence[Path]) -> list[tuple[list[str], list[Path]]]:
    """The files of each line format, with the columns of their header."""
    from isal import igzip

    formats: dict[str, list[Path]] = {}
    for file in files:
        with igzip.open(str(file), "rt") as lines:  # type: ignore[no-untyped-call]
            formats.setdefault(lines.readline().rstrip("\n"), []).append(file)
    return [(header.split(" "), members) for header, members in formats.items()]


def floor_vpc_flow(files: Sequence[Path], out: Path) -> int:
    """Gunzip, parse into typed columns, write them."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from isal import igzip
    from pyarrow import csv

    arrow = {"INTEGER": pa.int32(), "BIGINT": pa.int64()}
    records = 0
    for columns, members in _by_format(files):
        types = {name: arrow.get(_NUMBERS.get(name, ""), pa.string()) for name in columns}
        parse = csv.ParseOptions(delimiter=" ", quote_char=False)
        convert = csv.ConvertOptions(column_types=types, null_values=["-"], strings_can_be_null=True)
        for number, file in enumerate(members):
            text: bytes = igzip.decompress(file.read_bytes())  # type: ignore[no-untyped-call]
            table = csv.read_csv(pa.BufferReader(text), parse_options=parse, convert_options=convert)
            pq.write_table(table, f"{out}/{len(columns)}-{number:05}.parquet", compression="zstd")
            records += table.num_rows
    return records


_VPC_SQL = """
COPY (
  SELECT
    4001 AS class_uid, 4 AS category_uid,
    CASE action WHEN 'ACCEPT' THEN 6 WHEN 'REJECT' THEN 5 ELSE 0 END AS activity_id,
    CAST(400100 + CASE action WHEN 'ACCEPT' THEN 6 WHEN 'REJECT' THEN 5 ELSE 0 END AS BIGINT) AS type_uid,
    "start" * 1000 AS time, make_timestamp("start" * 1000000) AS time_dt,
    make_timestamp("start" * 1000000) AS start_time_dt, make_timestamp("end" * 1000000) AS end_time_dt,
    1 AS severity_id,
    CASE action WHEN 'ACCEPT' THEN 1 WHEN 'REJECT' THEN 2 ELSE 0 END AS action_id,
    CASE action WHEN 'ACCEPT' THEN 'Allowed' WHEN 'REJECT' THEN 'Blocked' END AS disposition,
    "log-status" AS status_code,
    {'version': '1.1.0', 'product': {'name': 'Amazon VPC', 'vendor_name': 'AWS', 'version': version,
      'feature': {'name': 'Flowlogs'}}} AS metadata,
    {'provider': 'AWS', 'account': {'uid': "account-id"}, 'region': region, 'zone': "az-id"} AS cloud,
    {'ip': coalesce("pkt-srcaddr", srcaddr), 'port': srcport, 'svc_name': "pkt-src-aws-service",
      'intermediate_ips': CASE WHEN "pkt-srcaddr" <> srcaddr THEN [srcaddr] END,
      'interface_uid': CASE WHEN outward THEN "interface-id" END, 'vpc_uid': CASE WHEN outward THEN "vpc-id" END,
      'subnet_uid': CASE WHEN outward THEN "subnet-id" END,
      'instance_uid': CASE WHEN outward THEN "instance-id" END} AS src_endpoint,
    {'ip': coalesce("pkt-dstaddr", dstaddr), 'port': dstport, 'svc_name': "pkt-dst-aws-service",
      'intermediate_ips': CASE WHEN "pkt-dstaddr" <> dstaddr THEN [dstaddr] END,
      'interface_uid': CASE WHEN inward THEN "interface-id" END, 'vpc_uid': CASE WHEN inward THEN "vpc-id" END,
      'subnet_uid': CASE WHEN inward THEN "subnet-id" END,
      'instance_uid': CASE WHEN inward THEN "instance-id" END} AS dst_endpoint,
    {'direction_id': CASE WHEN inward THEN 1 WHEN outward THEN 2 ELSE 0 END, 'protocol_num': protocol,
      'protocol_ver': "type", 'tcp_flags': "tcp-flags",
      'boundary_id': coalesce("traffic-path" + 3, 99)} AS connection_info,
    {'packets': packets, 'bytes': bytes} AS traffic,
    coalesce(region, 'unknown') AS region, "account-id" AS accountid,
    strftime(make_timestamp("start" * 1000000), '%Y%m%d') AS eventday
  FROM (SELECT *, "flow-direction" = 'egress' AS outward, "flow-direction" = 'ingress' AS inward FROM flows)
) TO {out} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (region, accountid, eventday))
"""


def duckdb_vpc_flow(files: Sequence[Path], out: Path) -> int:
    """DuckDB SQL over `read_csv` with declared columns."""
    import duckdb

    parts = []
    for columns, members in _by_format(files):
        types = {name: _NUMBERS.get(name, "VARCHAR") for name in columns}
        missing = "".join(
            f', CAST(NULL AS {_NUMBERS.get(name, "VARCHAR")}) AS "{name}"'
            for name in vpcflow.V5.split(" ")
            if name not in types
        )
        parts.append(
            f"SELECT *{missing} FROM read_csv({_sql_list(members)}, delim = ' ', header = true, nullstr = '-', "
            f"quote = '', escape = '', auto_detect = false, columns = {types!r})"
        )
    with duckdb.connect(config={"preserve_insertion_order": "false"}) as con:
        con.execute("SET enable_progress_bar = false")
        con.execute("CREATE TEMP VIEW flows AS " + " UNION ALL BY NAME ".join(parts))
        return _rows(con.execute(_VPC_SQL.replace("{out}", _sql_text(out))).fetchone())


def polars_vpc_flow(files: Sequence[Path], out: Path) -> int:
    """One lazy polars query over `scan_csv` with declared columns."""
    import polars as pl

    c, lit, struct, when = pl.col, pl.lit, pl.struct, pl.when
    kinds = {"INTEGER": pl.Int32(), "BIGINT": pl.Int64()}

    def kind(name: str) -> pl.DataType:
        return kinds.get(_NUMBERS.get(name, ""), pl.String())

    parts = []
    for columns, members in _by_format(files):
        lines = pl.scan_csv(
            members, separator=" ", null_values="-", quote_char=None, schema={name: kind(name) for name in columns}
        )
        missing = [lit(None, dtype=kind(name)).alias(name) for name in vpcflow.V5.split(" ") if name not in columns]
        parts.append(lines.with_columns(missing).select(vpcflow.V5.split(" ")))
    at, until = pl.from_epoch("start"), pl.from_epoch("end")
    outward, inward = c("flow-direction") == "egress", c("flow-direction") == "ingress"
    activity = c("action").replace_strict({"ACCEPT": 6, "REJECT": 5}, default=0, return_dtype=pl.Int32)

    def endpoint(side: str, here: pl.Expr) -> pl.Expr:
        original, address = c(f"pkt-{side}addr"), c(f"{side}addr")
        return struct(
            pl.coalesce(original, address).alias("ip"),
            c(f"{side}port").alias("port"),
            c(f"pkt-{side}-aws-service").alias("svc_name"),
            when(original != address).then(pl.concat_list(address)).alias("intermediate_ips"),
            when(here).then(c("interface-id")).alias("interface_uid"),
            when(here).then(c("vpc-id")).alias("vpc_uid"),
            when(here).then(c("subnet-id")).alias("subnet_uid"),
            when(here).then(c("instance-id")).alias("instance_uid"),
        ).alias(f"{side}_endpoint")

    events = pl.concat(parts).select(
        lit(4001).alias("class_uid"),
        lit(4).alias("category_uid"),
        activity.alias("activity_id"),
        (400_100 + activity.cast(pl.Int64)).alias("type_uid"),
        (c("start") * 1000).alias("time"),
        at.alias("time_dt"),
        at.alias("start_time_dt"),
        until.alias("end_time_dt"),
        lit(1).alias("severity_id"),
        c("action").replace_strict({"ACCEPT": 1, "REJECT": 2}, default=0, return_dtype=pl.Int32).alias("action_id"),
        c("action").replace_strict({"ACCEPT": "Allowed", "REJECT": "Blocked"}, default=None).alias("disposition"),
        c("log-status").alias("status_code"),
        struct(
            lit("1.1.0").alias("version"),
            struct(
                lit("Amazon VPC").alias("name"),
                lit("AWS").alias("vendor_name"),
                c("version"),
                struct(lit("Flowlogs").alias("name")).alias("feature"),
            ).alias("product"),
        ).alias("metadata"),
        struct(
            lit("AWS").alias("provider"),
            struct(c("account-id").alias("uid")).alias("account"),
            c("region"),
            c("az-id").alias("zone"),
        ).alias("cloud"),
        endpoint("src", outward),
        endpoint("dst", inward),
        struct(
            when(inward).then(1).when(outward).then(2).otherwise(0).alias("direction_id"),
            c("protocol").alias("protocol_num"),
            c("type").alias("protocol_ver"),
            c("tcp-flags").alias("tcp_flags"),
            (c("traffic-path") + 3).fill_null(99).alias("boundary_id"),
        ).alias("connection_info"),
        struct(c("packets"), c("bytes")).alias("traffic"),
        c("region").fill_null("unknown"),
        c("account-id").alias("accountid"),
        at.dt.strftime("%Y%m%d").alias("eventday"),
    )
    return _sink(events, out)
