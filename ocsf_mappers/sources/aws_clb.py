"""Access logs of Classic Load Balancers -> OCSF HTTP Activity [4002], Network Activity [4001].

Format: https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/access-log-collection.html
Record: one line per request of an HTTP or HTTPS listener, or per connection of a TCP or SSL one, which has no codes and
the request `- - - `. `time` is when the load balancer received it, UTC. 15 values, 12 until 2015. `-` is null; times in
seconds are -1 where a request went no further.
"""

from ocsf_mappers import (
    REQUEST_COLUMNS,
    REQUEST_LINE,
    DelimitedInJson,
    Delivery,
    EventMap,
    Fields,
    Lines,
    Mapper,
    Marks,
    Pattern,
    Product,
    Source,
    Switches,
    Values,
    coalesce,
    col,
    http_activity,
    http_code,
    http_method,
    http_status,
    load_balancers,
    object_key,
    sql,
    text_struct,
    traffic,
)

FIELDS = """time elb client backend request_processing_time backend_processing_time response_processing_time
    elb_status_code backend_status_code received_bytes sent_bytes request user_agent ssl_cipher ssl_protocol"""

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"
NUMBER = r"-?[\d.]+|-"

PARTS = {
    "client": r"(?P<client_ip>.+):(?P<client_port>\d+)",
    "backend": r"(?P<backend_ip>.+):(?P<backend_port>\d+)",
    "request": REQUEST_LINE,
}
# Whoever sends a request chooses what stands in it and in its user agent, quotes and what looks like the rest of a line
# among it: in lines whose quotes do not tell the values apart these take all up to the last that could be the rest.
UNTOLD = (
    " ".join(rf'(?P<{name}>[^ "]+)' for name in FIELDS.split()[:11])
    + r' "(?P<request>.* HTTP/[\d.]+|- .*)" "(?P<user_agent>.*)" (?P<ssl_cipher>[^ "]+) (?P<ssl_protocol>[^ "]+)'
    + '(?: (?P<field_16>[^"]*))?'
)

LINES = Lines(
    (
        Values(
            FIELDS,
            quotes=('""',),
            optional=3,
            fits={
                "time": TIME,
                "request_processing_time": NUMBER,
                "elb_status_code": r"\d{1,3}|-",
                "received_bytes": NUMBER,
                "sent_bytes": NUMBER,
            },
            parts=PARTS,
        ),
        Pattern(UNTOLD, parts=PARTS),
    ),
    label="text (access logs)",
)

secure = col.ssl_protocol.is_not_null()
# from when the request came in to when the last of the answer was ready: none where it went no further
milliseconds = sql(
    "CASE WHEN least(TRY_CAST({0} AS DOUBLE), TRY_CAST({1} AS DOUBLE), TRY_CAST({2} AS DOUBLE)) >= 0 THEN"
    " TRY_CAST(round(1000 * (TRY_CAST({0} AS DOUBLE) + TRY_CAST({1} AS DOUBLE) + TRY_CAST({2} AS DOUBLE))) AS BIGINT) END",
    reads=[col.request_processing_time, col.backend_processing_time, col.response_processing_time],
    carries=False,
)

BOTH: Fields = {
    "severity_id": "Informational",
    "time":       col.time.iso8601(),
    "start_time": col.time.iso8601(),
    "duration":   milliseconds,
    "cloud.provider":    "AWS",
    "cloud.account.uid": coalesce(object_key.account, col["envelope.owner"]),
    "cloud.region":      object_key.region,
    # primary: the client speaks with the load balancer, which speaks with an instance behind it
    "src_endpoint.ip":       col.client_ip,
    "src_endpoint.port":     col.client_port,
    "src_endpoint.name":     col.client,
    "dst_endpoint.name":     col.elb,
    "dst_endpoint.svc_name": "elasticloadbalancing.amazonaws.com",
    "load_balancer.name":    col.elb,
    "load_balancer.uid":     load_balancers.arn,
    "load_balancer.code":              col.backend_status_code,
    "load_balancer.dst_endpoint.ip":   col.backend_ip,
    "load_balancer.dst_endpoint.port": col.backend_port,
    "load_balancer.dst_endpoint.name": col.backend,
    "connection_info.direction_id":  "Inbound",
    "connection_info.protocol_num":  6,
    "connection_info.protocol_name": "tcp",
    **traffic(sent=col.received_bytes, received=col.sent_bytes),
    "tls.version": col.ssl_protocol,
    "tls.cipher":  col.ssl_cipher.where(secure),
}  # fmt: skip

MAPPER = Mapper(
    name="aws_clb",
    product=Product("Elastic Load Balancing", feature="Classic Load Balancer"),
    readers=[DelimitedInJson(LINES), LINES],
    record=text_struct(f"envelope.owner {FIELDS} client_ip client_port backend_ip backend_port {REQUEST_COLUMNS}"),
    table="clb",
    sorted_by=["src_endpoint.ip"],
    events=[
        EventMap("network_activity", where=col.elb_status_code.is_null() & col.method.is_null(), profiles=("cloud", "load_balancer"), fields={
            "activity_id": "Traffic",
            **BOTH,
        }),
        EventMap("http_activity", profiles=("cloud", "load_balancer"), fields={
            "activity_id": coalesce(http_activity(col.method), "Unknown"),
            "status_id":   http_status(col.elb_status_code),
            "status_code": col.elb_status_code,
            **BOTH,
            "dst_endpoint.hostname":         col.host,
            "dst_endpoint.port":             col.port,
            "http_request.http_method":      http_method(col.method),
            "http_request.url.url_string":   coalesce(col.url, col.request),
            "http_request.url.scheme":       col.scheme,
            "http_request.url.hostname":     col.host,
            "http_request.url.port":         col.port,
            "http_request.url.path":         coalesce(col.path, col.own_path),
            "http_request.url.query_string": coalesce(col.query, col.own_query),
            "http_request.version":          col.http_version,
            "http_request.user_agent":       col.user_agent,
            "http_response.code":    http_code(col.elb_status_code),
            "http_response.latency": col.backend_processing_time.seconds_to_millis(),
        }),
    ],
)

# Every 5 or 60 minutes, not compressed, in the folders of the other load balancers; these names have no dot before `_`.
SOURCE = Source(
    MAPPER,
    delivery=Delivery(load_balancers.FOLDERS, record_bytes=250, late_hours=2),
    keys=load_balancers.keys(r"[^_./]+(?=_\d{8}T\d{4}Z)"),
    marks=Marks(lines=(rf'{TIME} \S+ \S+:\d+ \S+(?: -?[\d.]+){{3}} (?:\d{{1,3}}|-) \S+ .*',)),
    switches=(Switches("elasticloadbalancing.amazonaws.com", off=("DeleteLoadBalancer",), on=("CreateLoadBalancer",), changed=("ModifyLoadBalancerAttributes",)),),
)
