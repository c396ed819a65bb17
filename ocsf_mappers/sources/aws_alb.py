"""Access and connection logs of Application Load Balancers -> OCSF HTTP Activity [4002], Network Activity [4001].

Format: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html and
load-balancer-connection-logs.html
Record: one line per request, or WebSocket, that the load balancer answered or passed on, written when it has ended;
`time` is that end, `request_creation_time` the beginning, UTC. 25 values at first (2018), 34 now, and more may follow.
`-` is null; times in seconds are -1 where a request went no further. Connection logs have a line per TLS connection and
name neither the load balancer nor its own address. Health check logs, in the same folders, say nothing of clients.
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
    text_struct,
    traffic,
    when,
)

ACCESS = """type time elb client target request_processing_time target_processing_time response_processing_time
    elb_status_code target_status_code received_bytes sent_bytes request user_agent ssl_cipher ssl_protocol
    target_group_arn trace_id domain_name chosen_cert_arn matched_rule_priority request_creation_time actions_executed
    redirect_url error_reason target_list target_status_code_list classification classification_reason conn_trace_id
    transformed_host transformed_uri request_transform_status ip_address"""
CONNECTION = """time client_ip client_port listener_port tls_protocol tls_cipher tls_handshake_latency
    leaf_client_cert_subject leaf_client_cert_validity leaf_client_cert_serial_number tls_verify_status conn_trace_id
    tls_keyexchange"""
HEALTH_CHECK = "type time latency target target_group status status_code reason_code elb ip_address"

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"
NUMBER = r"-?[\d.]+|-"
TYPE = "https?|h2|grpcs?|wss?"
NAMES = ACCESS.split()
QUOTED = frozenset("trace_id domain_name chosen_cert_arn actions_executed redirect_url error_reason".split())
"""Of the values that every line has, those that are in quotes, beside the two below."""
# Whoever sends a request chooses what stands in it and in its user agent, quotes and what looks like the rest of a line
# among it: in lines whose quotes do not tell the values apart these take all up to the last that could be the rest.
FREE = {"request": r'"(?P<request>.* HTTP/[\d.]+|- .*)"', "user_agent": '"(?P<user_agent>.*)"'}
VALUE, QUOTED_VALUE = '(?P<{}>[^ "]+)', '"(?P<{}>[^"]*)"'
UNTOLD = (
    " ".join(FREE.get(name) or (QUOTED_VALUE if name in QUOTED else VALUE).format(name) for name in NAMES[:25])
    + "".join(rf'(?: "?(?P<{name}>[^" ]*)"?' for name in NAMES[25:])
    + "(?: (?P<field_35>.*))?"
    + ")?" * len(NAMES[25:])
)
PARTS = {
    "client": r"(?P<client_ip>.+):(?P<client_port>\d+)",
    "target": r"(?P<target_ip>.+):(?P<target_port>\d+)",
    "request": REQUEST_LINE,
}

LINES = Lines(
    (
        Values(
            ACCESS,
            quotes=('""',),
            optional=9,
            fits={
                "type": TYPE,
                "time": TIME,
                "elb_status_code": r"\d{3}|-",
                "received_bytes": NUMBER,
                "sent_bytes": NUMBER,
                "matched_rule_priority": NUMBER,
                "request_creation_time": f"{TIME}|-",
            },
            parts=PARTS,
        ),
        Values(
            CONNECTION,
            quotes=('""',),
            optional=1,
            more=True,
            fits={"time": TIME, "client_ip": r"[0-9a-f.:]+", "client_port": r"\d+", "listener_port": r"\d+"},
        ),
        Values(
            HEALTH_CHECK,
            quotes=('""',),
            more=True,
            fits={"type": TYPE, "time": TIME, "latency": NUMBER, "status": "PASS|FAIL"},
            drop="health check of a target by the load balancer",
        ),
        Pattern(UNTOLD, parts=PARTS),
    ),
    label="text (access and connection logs)",
)

secure = col.ssl_protocol.is_not_null()
blocked = col.actions_executed.matches(r"(^|,)waf$")

CLOUD: Fields = {
    "cloud.provider": "AWS",
    "cloud.account.uid": coalesce(object_key.account, col["envelope.owner"]),
    "cloud.region": object_key.region,
}

MAPPER = Mapper(
    name="aws_alb",
    product=Product("Elastic Load Balancing", feature="Application Load Balancer"),
    readers=[DelimitedInJson(LINES), LINES],
    record=text_struct(
        f"envelope.owner {ACCESS} client_ip client_port target_ip target_port {REQUEST_COLUMNS}"
        " listener_port tls_protocol tls_cipher tls_handshake_latency leaf_client_cert_subject leaf_client_cert_validity"
        " leaf_client_cert_serial_number tls_verify_status tls_keyexchange"
    ),
    table="alb",
    sorted_by=["src_endpoint.ip"],
    events=[
        EventMap("network_activity", where=col.listener_port.is_not_null(), profiles=("cloud", "load_balancer"), fields={
            # a connection: it is there once the client's certificate, if one is asked for, was accepted
            "activity_id":   when(col.tls_verify_status.starts_with("Failed")).then("Fail").otherwise("Open"),
            "severity_id":   "Informational",
            "status_id":     when(col.tls_verify_status.starts_with("Failed")).then("Failure").otherwise("Success"),
            "status_code":   col.tls_verify_status.extract("^Failed:(.+)$"),
            "status_detail": col.tls_verify_status,
            "time":          col.time.iso8601(),
            **CLOUD,
            "src_endpoint.ip":       col.client_ip,
            "src_endpoint.port":     col.client_port,
            "dst_endpoint.port":     col.listener_port,
            "dst_endpoint.svc_name": "elasticloadbalancing.amazonaws.com",
            "connection_info.uid":          col.conn_trace_id,
            "connection_info.direction_id": "Inbound",
            "connection_info.protocol_num": 6,
            "connection_info.protocol_name": "tcp",
            "tls.version":       col.tls_protocol,
            "tls.cipher":        col.tls_cipher.where(col.tls_protocol.is_not_null()),
            "tls.handshake_dur": col.tls_handshake_latency.seconds_to_millis().where(col.tls_protocol.is_not_null()),
        }),
        EventMap("http_activity", profiles=("cloud", "load_balancer"), fields={
            # classification
            "activity_id":   coalesce(http_activity(col.method), "Unknown"),
            "severity_id":   when(col.classification == "Severe").then("Low").otherwise("Informational"),
            "status_id":     http_status(col.elb_status_code),
            "status_code":   col.elb_status_code,
            "status_detail": when(blocked).then("blocked by AWS WAF").otherwise(col.error_reason),
            # occurrence
            "time":          col.time.iso8601(),
            "start_time":    col.request_creation_time.iso8601(),
            "end_time":      col.time.iso8601(),
            # context
            **CLOUD,
            # primary: the client speaks with the load balancer, which speaks with a target, or answers by itself
            "src_endpoint.ip":       col.client_ip,
            "src_endpoint.port":     col.client_port,
            "src_endpoint.name":     col.client,
            "dst_endpoint.name":     col.elb,
            "dst_endpoint.hostname": col.host,
            "dst_endpoint.port":     col.port,
            "dst_endpoint.svc_name": "elasticloadbalancing.amazonaws.com",
            "load_balancer.name":              col.elb,
            "load_balancer.uid":               load_balancers.arn,
            "load_balancer.ip":                col.ip_address,
            "load_balancer.code":              col.target_status_code,
            "load_balancer.dst_endpoint.ip":   col.target_ip,
            "load_balancer.dst_endpoint.port": col.target_port,
            "load_balancer.dst_endpoint.name": col.target,
            "load_balancer.classification":    col.classification,
            "load_balancer.status_detail":     col.classification_reason,
            "load_balancer.error_message":     col.error_reason,
            "http_request.http_method":      http_method(col.method),
            "http_request.url.url_string":   coalesce(col.url, col.request),
            "http_request.url.scheme":       col.scheme,
            "http_request.url.hostname":     col.host,
            "http_request.url.port":         col.port,
            "http_request.url.path":         coalesce(col.path, col.own_path),
            "http_request.url.query_string": coalesce(col.query, col.own_query),
            "http_request.version":          col.http_version,
            "http_request.user_agent":       col.user_agent,
            "http_request.uid":              col.trace_id,
            "http_response.code":    http_code(col.elb_status_code),
            "http_response.latency": col.target_processing_time.seconds_to_millis(),
            **traffic(sent=col.received_bytes, received=col.sent_bytes),
            "connection_info.uid":          col.conn_trace_id,
            "connection_info.direction_id": "Inbound",
            "connection_info.protocol_num": 6,
            "connection_info.protocol_name": "tcp",
            "tls.version": col.ssl_protocol,
            "tls.cipher":  col.ssl_cipher.where(secure),
            "tls.sni":     col.domain_name.where(secure),
        }),
    ],
)

# docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html#access-log-file-format: every
# five minutes. The other load balancers' objects lie in the same folders; `app.` in the name tells these.
SOURCE = Source(
    MAPPER,
    delivery=Delivery(load_balancers.FOLDERS, record_bytes=90, late_hours=2),
    keys=load_balancers.keys(r"app\."),
    marks=Marks(
        lines=(
            rf'(?:{TYPE}) {TIME} \S+/\S+ \S+ \S+(?: -?[\d.]+){{3}} (?:\d{{3}}|-) .*',
            rf"{TIME} [0-9a-f.:]+ \d+ \d+ .*",
            rf"(?:{TYPE}) {TIME} [\d.]+ \S+ \S+ (?:PASS|FAIL) .*",
        ),
    ),
    switches=(Switches("elasticloadbalancing.amazonaws.com", off=("DeleteLoadBalancer",), on=("CreateLoadBalancer",), changed=("ModifyLoadBalancerAttributes",)),),
)
