"""Amazon S3 server access logs -> OCSF API Activity [6003].

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html and sal-cw-log-format.html
Record: one line per request to a bucket, or act of S3 itself such as an expiry, delivered within hours, best effort:
some never come and some come twice. The time in brackets is when the request was received. 18 values until 2019, 27
now, and more may follow; `-` is null. Keys are URL-encoded; request, referer and user agent are quoted, and quotes in
them are not escaped. Objects are named without region and account, unless partitioned names were chosen. CloudWatch Logs
gets JSON, some of whose members have other names, with times in ISO 8601 and null where lines have `-`.
"""

from ocsf_mappers import (
    REQUEST_COLUMNS,
    REQUEST_LINE,
    DelimitedInJson,
    Delivery,
    EventMap,
    Having,
    Lines,
    Mapper,
    Marks,
    ParquetRows,
    Pattern,
    Product,
    Source,
    Switches,
    arn_account,
    aws_partition,
    coalesce,
    col,
    element,
    http_method,
    http_status,
    list_of,
    object_key,
    outer,
    principal_name,
    sql,
    text,
    text_struct,
    when,
)

FIELDS = """bucket_owner bucket time remote_ip requester request_id operation key request_uri http_status error_code
    bytes_sent object_size total_time turn_around_time referer user_agent version_id"""
LATER = """host_id signature_version cipher_suite authentication_type host_header tls_version access_point_arn
    acl_required source_region"""
IN_JSON = "schema_version_id bucket_arn bucket_name request_time bucket_owner_id key_name bytes_sent_size total_duration turn_around_duration"
"""Members that lines do not have, or call otherwise."""

# Whoever sends a request chooses the three texts in quotes, so what must follow each tells where it ends.
SPECIAL = {
    "time": r"\[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]",
    "request_uri": '(?:"(?P<request_uri>.*?)"|-)',
    "http_status": r"(?P<http_status>\d{3}|-)",
    "bytes_sent": r"(?P<bytes_sent>\d+|-)",
    "object_size": r"(?P<object_size>\d+|-)",
    "total_time": r"(?P<total_time>\d+|-)",
    "turn_around_time": r"(?P<turn_around_time>\d+|-)",
    "referer": '(?:"(?P<referer>.*?)"|-)',
    "user_agent": '(?:"(?P<user_agent>.*)"|-)',
}
LINE = (
    " ".join(SPECIAL.get(name, rf"(?P<{name}>[^ ]+)") for name in FIELDS.split())
    + "".join(rf'(?: (?P<{name}>[^ "]+)' for name in LATER.split())
    + "(?: (?P<field_28>.*))?"
    + ")?" * len(LATER.split())
    + " ?"
)
LINES = Lines((Pattern(LINE, parts={"request_uri": REQUEST_LINE}),), label="text (server access logs)")

# 06/Feb/2019:00:00:38 +0000
received = sql(
    "strftime(TRY_STRPTIME(left({0}, 20), '%d/%b/%Y:%H:%M:%S'), '%Y-%m-%dT%H:%M:%S') || substr({0}, 22, 3) || ':' || right({0}, 2)",
    reads=[col.time],
).iso8601()

in_json = col.bucket_name.is_not_null()
asked = col.request_uri.where(in_json)
bucket, key = coalesce(col.bucket, col.bucket_name), coalesce(col.key, col.key_name)

# The verb is the second of three parts: REST.GET.OBJECT, S3.EXPIRE.OBJECT, BATCH.DELETE.OBJECT
reads = col.operation.matches(r"^\w+\.(GET|HEAD|SELECT|OPTIONS|COMPUTE)\.|_GET$")
deletes = col.operation.matches(r"^\w+\.(DELETE|EXPIRE)\.|MULTI_OBJECT_DELETE$|DELETEMARKER$")
creates = col.operation.matches(r"^\w+\.(PUT\.BUCKET|POST\.UPLOADS)$")
updates = col.operation.matches(r"^\w+\.(PUT|COPY|POST|RESTORE)\.")

by_arn = col.requester.starts_with("arn:")
by_canonical_id = col.requester.matches("^[0-9a-f]{20,}$")
by_service = col.requester.is_not_null() & ~by_arn & ~by_canonical_id
region = coalesce(object_key.region, col.host_header.extract(r"\bs3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d+)\.amazonaws\."))
partition = coalesce(col.bucket_arn.extract("^arn:([^:]+):"), aws_partition(region))

MAPPER = Mapper(
    name="aws_s3_access",
    product=Product("Amazon S3", feature="Server Access Logs"),
    readers=[ParquetRows(nulls=("-",)), DelimitedInJson(LINES), LINES],
    record=text_struct(f"envelope.owner {FIELDS} {LATER} {IN_JSON} {REQUEST_COLUMNS}"),
    table="s3_access",
    sorted_by=["actor.user.uid"],
    # one request may write several lines: both sides of a copy, each key of a deletion of many
    duplicate_key=["metadata.uid"],
    observables={"resources.uid": "Resource UID"},
    drop={"url": "its path and its query stand by themselves"},
    events=[
        EventMap("api_activity", fields={
            # classification
            "activity_id": when(reads).then("Read").when(deletes).then("Delete").when(creates).then("Create").when(updates).then("Update").otherwise(col.operation),
            "severity_id": "Informational",
            "status_id":   http_status(col.http_status),
            "status_code": col.http_status,
            "status_detail": col.error_code,
            # occurrence
            "time":     coalesce(received, col.request_time.iso8601()),
            "duration": coalesce(col.total_time, col.total_duration),
            # context
            "metadata.uid":        sql("concat_ws('/', {0}, {1}, {2}, {3}, {4})", reads=[col.request_id, col.operation, bucket, key, col.version_id], carries=False),
            "metadata.event_code": col.operation,
            "metadata.log_version": col.schema_version_id,
            "cloud.provider":      "AWS",
            "cloud.account.uid":   coalesce(object_key.account, col["envelope.owner"]),
            "cloud.region":        region,
            # primary
            "actor.user.uid":         when(by_arn | by_canonical_id).then(col.requester),
            "actor.user.name":        when(col.requester.is_null()).then("anonymous").when(by_service).then(col.requester).otherwise(principal_name(col.requester)),
            "actor.user.account.uid": arn_account(col.requester),
            "actor.invoked_by":       when(by_service).then(col.requester),
            "api.operation":      col.operation,
            "api.service.name":   "s3.amazonaws.com",
            "api.request.uid":    coalesce(col.request_id, "unknown"),
            "api.response.code":  col.http_status,
            "api.response.error": col.error_code,
            # S3 itself acts without an address
            "src_endpoint.ip":       col.remote_ip,
            "src_endpoint.svc_name": when(col.remote_ip.is_null()).then("s3.amazonaws.com"),
            "dst_endpoint.hostname": col.host_header,
            "dst_endpoint.svc_name": "s3.amazonaws.com",
            "resources": [
                list_of(text("arn:{}:s3:::{}/{}", partition, bucket, key)).each({"uid": element, "name": coalesce(outer.key, outer.key_name), "type": "AWS::S3::Object", "version": outer.version_id}),
                list_of(text("arn:{}:s3:::{}", partition, bucket)).each({"uid": element, "name": coalesce(outer.bucket, outer.bucket_name), "type": "AWS::S3::Bucket", "owner.uid": coalesce(outer.bucket_owner, outer.bucket_owner_id)}),
            ],
            "http_request.http_method":      http_method(coalesce(col.method, asked.extract(r"^(\S+) "))),
            "http_request.url.url_string":   col.url.where(col.scheme.is_not_null()),
            "http_request.url.path":         coalesce(col.path, col.own_path, col.url, asked.extract(r"^\S+ (?:\w+://[^/?]*)?(/[^?]*?)(?:\?.*)? \S+$"), col.request_uri),
            "http_request.url.query_string": coalesce(col.query, col.own_query, asked.extract(r"^[^?]*\?(.*) \S+$")),
            "http_request.version":          coalesce(col.http_version, asked.extract(r" (HTTP/[\d.]+)$")),
            "http_request.referrer":         col.referer,
            "http_request.user_agent":       col.user_agent,
            # without what HTTP itself adds
            "http_response.code":        col.http_status,
            "http_response.body_length": coalesce(col.bytes_sent, col.bytes_sent_size).where(col.http_status.is_not_null()),
        }),
    ],
)

# docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html: within hours, at best. Where the prefix of the target
# begins, AWS does not say; only partitioned names tell account, region and day.
SOURCE = Source(
    MAPPER,
    delivery=Delivery(lookback_days=3, record_bytes=120, late_hours=24),
    keys=(
        r"/(?P<account>\d{12})/(?P<region>[a-z]{2}(?:-[a-z]+)+-\d+)/(?P<kind>[a-z0-9][a-z0-9.-]{2,62})/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/"
        r"\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-[0-9A-F]{16}$",
        r"(?P<kind>)(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)-\d\d-\d\d-\d\d-[0-9A-F]{16}$",
    ),
    marks=Marks(
        members=(Having(all_of=("schema_version_id", "bucket_arn")),),
        lines=(r"[0-9a-f]{20,} [a-z0-9.-]+ \[\d\d/[A-Z][a-z]{2}/\d{4}:.*",),
        columns=frozenset("schema_version_id bucket_arn request_time key_name".split()),
    ),
    switches=(Switches("s3.amazonaws.com", changed=("PutBucketLogging",)),),
)
