"""Amazon CloudFront standard logs -> OCSF HTTP Activity [4002].

Format: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logs-reference.html
Record: one request that an edge location answered, logged when the answer was sent. W3C text names its columns in a line
`#Fields:`, values between tabs, percent-encoded; version 2 writes JSON lines or Parquet as well, and the columns that
were chosen. `-` is null; date and time are UTC, times in seconds. `000` is the status where the client left.
"""

from ocsf_mappers import (
    DelimitedInJson,
    Delivery,
    EventMap,
    FieldNames,
    Having,
    Lines,
    Mapper,
    Marks,
    ParquetRows,
    Product,
    Source,
    Values,
    coalesce,
    col,
    encoded_forwarded_for,
    encoded_user_agent,
    http_activity,
    http_code,
    http_method,
    http_status,
    object_key,
    sql,
    text_struct,
    traffic,
)

FIELDS = """date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent)
    cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken
    x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status
    fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len
    sc-range-start sc-range-end"""
CHOSEN = "timestamp timestamp(ms) distributionid distribution-tenant-id connection-id origin-fbl origin-lbl asn c-country"
"""What version 2 can write beside them."""
IN_PARQUET = "cs_host cs_referer cs_user_agent cs_cookie timestamp_ms"
"""How names with brackets are spelled where a format has none."""

LINES = Lines(
    # without a line that names the columns; the format grew at the end
    layouts=(
        Values(
            FIELDS,
            sep="\t",
            optional=10,
            more=True,
            fits={"date": r"\d{4}-\d\d-\d\d", "time": r"\d\d:\d\d:\d\d", "x-edge-location": r"[A-Z]{3}[A-Z0-9-]*"},
        ),
    ),
    fields=FieldNames("#Fields:", sep="\t"),
    comment="#",
    label="W3C text",
)

moment = coalesce(
    sql("{0} || 'T' || {1} || 'Z'", reads=[col.date, col.time], carries=False).iso8601(),
    col.timestamp.epoch_seconds(fraction=True),
    coalesce(col["timestamp(ms)"], col.timestamp_ms).epoch_millis(),
)
host, referer, agent = coalesce(col["cs(Host)"], col.cs_host), coalesce(col["cs(Referer)"], col.cs_referer), coalesce(col["cs(User-Agent)"], col.cs_user_agent)
failed = col.sc_status.matches("^([4-9]|0)")

MAPPER = Mapper(
    name="aws_cloudfront",
    product=Product("Amazon CloudFront", feature="Standard Logs"),
    readers=[ParquetRows(nulls=("-",)), DelimitedInJson(LINES), LINES],
    record=text_struct(f"envelope.owner {FIELDS} {CHOSEN} {IN_PARQUET}".replace("-", "_").replace("User_Agent", "User-Agent")),
    table="cloudfront",
    sorted_by=["src_endpoint.ip"],
    duplicate_key=["http_request.uid"],
    drop={"date": "it stands in `time`", "time": "it stands in `time`"},
    events=[
        EventMap("http_activity", fields={
            # classification
            "activity_id":   coalesce(http_activity(col.cs_method), "Unknown"),
            "severity_id":   "Informational",
            "status_id":     http_status(col.sc_status),
            "status_code":   col.sc_status,
            "status_detail": col.x_edge_detailed_result_type.where(failed),
            # occurrence: when the answer had been sent
            "time":     moment,
            "duration": col.time_taken.seconds_to_millis(),
            # context; CloudFront belongs to no region
            "metadata.product.feature.uid": col.distributionid,
            "cloud.provider":    "AWS",
            "cloud.account.uid": coalesce(object_key.account, col["envelope.owner"]),
            # primary
            "src_endpoint.ip":               col.c_ip,
            "src_endpoint.port":             col.c_port,
            "src_endpoint.location.country": col.c_country,
            "src_endpoint.autonomous_system.number": col.asn,
            "dst_endpoint.hostname":         host,
            "dst_endpoint.zone":             col.x_edge_location,
            "dst_endpoint.svc_name":         "cloudfront.amazonaws.com",
            "http_request.http_method":      http_method(col.cs_method),
            "http_request.url.scheme":       col.cs_protocol,
            "http_request.url.hostname":     col.x_host_header,
            "http_request.url.path":         col.cs_uri_stem,
            "http_request.url.query_string": col.cs_uri_query,
            "http_request.version":          col.cs_protocol_version,
            "http_request.user_agent":       encoded_user_agent(agent),
            "http_request.referrer":         referer,
            "http_request.uid":              col.x_edge_request_id,
            "http_request.x_forwarded_for":  encoded_forwarded_for(col.x_forwarded_for),
            "http_response.code":         http_code(col.sc_status),
            "http_response.content_type": col.sc_content_type,
            "http_response.length":       col.sc_bytes,  # headers and all; sc-content-len is what a header said
            "http_response.latency":      col.time_to_first_byte.seconds_to_millis(),
            **traffic(sent=col.cs_bytes, received=col.sc_bytes),
            "connection_info.uid":          col.connection_id,
            "connection_info.direction_id": "Inbound",
            "tls.version": col.ssl_protocol,
            "tls.cipher":  col.ssl_cipher.where(col.ssl_protocol.is_not_null()),
        }),
    ],
)

# docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logging.html: within an hour, some after a day.
# Where the prefix of the target begins, and what follows it in version 2, is the owner's choice.
SOURCE = Source(
    MAPPER,
    delivery=Delivery(lookback_days=2, record_bytes=60),
    keys=(
        r"/AWSLogs/(?:aws-account-id=)?(?P<account>\d{12})/(?P<kind>CloudFront)/(?:[^/]*/)*(?:[^/]*\.)?(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)-\d\d\.[^/]*$",
        r"/(?P<kind>)E[0-9A-Z]{8,16}\.(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)-\d\d\.[0-9a-f]{8}(?:\.[a-z]+)*$",
    ),
    marks=Marks(
        members=(Having(all_of=("x-edge-request-id",)), Having(all_of=("x_edge_request_id",))),
        heads=(r"(?:#[^\n]*\n)*#Fields:[^\n]* x-edge-location",),
        lines=(r"\d{4}-\d\d-\d\d\t\d\d:\d\d:\d\d\t[A-Z]{3}[A-Z0-9-]*\t.*",),
        columns=frozenset("x_edge_location x_edge_request_id x_edge_result_type cs_uri_stem sc_status".split()),
    ),
)
