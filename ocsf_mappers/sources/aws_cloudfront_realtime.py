"""Amazon CloudFront real-time logs -> OCSF HTTP Activity [4002].

Format: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/real-time-logs.html
Record: one request that an edge location answered, logged seconds later; a sample of the requests, as its owner chose.
Values between tabs, of the fields that were chosen, in AWS's order and without a header: the setting `realtime_fields`
names them. `timestamp` is in seconds, UTC, with decimals, when the answer had been sent. Unlike in standard logs,
`cs-host` is the host that the viewer asked for, `x-host-header` the distribution's, and `cs-uri-stem` has the query.
"""

from ocsf_mappers import (
    Delimited,
    Delivery,
    EventMap,
    Mapper,
    Marks,
    Product,
    Source,
    coalesce,
    col,
    encoded_forwarded_for,
    encoded_user_agent,
    http_activity,
    http_code,
    http_method,
    http_status,
    object_key,
    text_struct,
    traffic,
)

FIELDS = """timestamp c-ip s-ip time-to-first-byte sc-status sc-bytes cs-method cs-protocol cs-host cs-uri-stem cs-bytes
    x-edge-location x-edge-request-id x-host-header time-taken cs-protocol-version c-ip-version cs-user-agent cs-referer
    cs-cookie cs-uri-query x-edge-response-result-type x-forwarded-for ssl-protocol ssl-cipher x-edge-result-type
    fle-encrypted-fields fle-status sc-content-type sc-content-len sc-range-start sc-range-end c-port
    x-edge-detailed-result-type c-country cs-accept-encoding cs-accept cache-behavior-path-pattern cs-headers
    cs-header-names cs-headers-count primary-distribution-id primary-distribution-dns-name origin-fbl origin-lbl asn
    cmcd-encoded-bitrate cmcd-buffer-length cmcd-buffer-starvation cmcd-content-id cmcd-object-duration cmcd-deadline
    cmcd-measured-throughput cmcd-next-object-request cmcd-next-range-request cmcd-object-type cmcd-playback-rate
    cmcd-requested-maximum-throughput cmcd-streaming-format cmcd-session-id cmcd-stream-type cmcd-startup
    cmcd-top-bitrate cmcd-version r-host sr-reason x-edge-mqcs distribution-tenant-id connection-id""".replace("-", "_")

failed = col.sc_status.matches("^([4-9]|0)")
path = col.cs_uri_stem.extract(r"^([^?]*)")
query = coalesce(col.cs_uri_query, col.cs_uri_stem.extract(r"\?(.*)$"))

MAPPER = Mapper(
    name="aws_cloudfront_realtime",
    product=Product("Amazon CloudFront", feature="Real-time Logs"),
    readers=[Delimited(tuple(FIELDS.split()), tuple(FIELDS.split()), sep="\t", has_header=False, label="text without a header line", setting="realtime_fields")],
    record=text_struct(FIELDS),
    table="cloudfront_realtime",
    sorted_by=["src_endpoint.ip"],
    duplicate_key=["http_request.uid"],
    events=[
        EventMap("http_activity", fields={
            # classification
            "activity_id":   coalesce(http_activity(col.cs_method), "Unknown"),
            "severity_id":   "Informational",
            "status_id":     http_status(col.sc_status),
            "status_code":   col.sc_status,
            "status_detail": col.x_edge_detailed_result_type.where(failed),
            # occurrence: when the answer had been sent
            "time":     col.timestamp.epoch_seconds(fraction=True),
            "duration": col.time_taken.seconds_to_millis(),
            # context; CloudFront belongs to no region
            "cloud.provider":    "AWS",
            "cloud.account.uid": object_key.account,
            # primary
            "src_endpoint.ip":               col.c_ip,
            "src_endpoint.port":             col.c_port,
            "src_endpoint.location.country": col.c_country,
            "src_endpoint.autonomous_system.number": col.asn,
            "dst_endpoint.ip":               col.s_ip,
            "dst_endpoint.hostname":         col.x_host_header,
            "dst_endpoint.zone":             col.x_edge_location,
            "dst_endpoint.svc_name":         "cloudfront.amazonaws.com",
            "http_request.http_method":      http_method(col.cs_method),
            "http_request.url.scheme":       col.cs_protocol,
            "http_request.url.hostname":     col.cs_host,
            "http_request.url.path":         path,
            "http_request.url.query_string": query,
            "http_request.version":          col.cs_protocol_version,
            "http_request.user_agent":       encoded_user_agent(col.cs_user_agent),
            "http_request.referrer":         col.cs_referer,
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

# Kinesis Data Streams holds them, and Firehose writes them where its owner chose, within minutes.
SOURCE = Source(
    MAPPER,
    delivery=Delivery(lookback_days=2, record_bytes=60),
    marks=Marks(lines=(r"1\d{9}\.\d+\t[0-9a-fA-F.:]+\t[0-9a-fA-F.:]+\t\d+\.\d{3}\t\d{3}\t.*",)),
)
