"""Access logs of Network Load Balancers -> OCSF Network Activity [4001].

Format: https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-access-logs.html
Record: one line per connection to a TLS listener, written when it has ended; other listeners write none. `time` is that
end and `tls_connection_creation_time` the beginning, UTC without a zone; `-` is null, times are milliseconds. 21 values
at first, 22 now, and more may follow. The list of protocols that the client would speak is quoted and holds no blanks.
"""

from ocsf_mappers import (
    DelimitedInJson,
    Delivery,
    EventMap,
    Lines,
    Mapper,
    Marks,
    Product,
    Source,
    Switches,
    Values,
    coalesce,
    col,
    load_balancers,
    object_key,
    text_struct,
    traffic,
    when,
)

FIELDS = """type version time elb listener client destination connection_time tls_handshake_time received_bytes
    sent_bytes incoming_tls_alert chosen_cert_arn chosen_cert_serial tls_cipher tls_protocol_version tls_keyexchange
    domain_name alpn_fe_protocol alpn_be_protocol alpn_client_preference_list tls_connection_creation_time"""

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z?"

LINES = Lines(
    (
        Values(
            FIELDS,
            optional=1,
            more=True,
            fits={
                "type": r"[a-z]+",
                "version": r"\d+\.\d+",
                "time": TIME,
                "connection_time": r"\d+|-",
                "received_bytes": r"\d+|-",
                "sent_bytes": r"\d+|-",
            },
            parts={
                "client": r"(?P<client_ip>.+):(?P<client_port>\d+)",
                "destination": r"(?P<destination_ip>.+):(?P<destination_port>\d+)",
            },
        ),
    ),
    label="text (access logs of TLS listeners)",
)

# a connection without a cipher is one whose handshake failed
failed = col.tls_cipher.is_null()

MAPPER = Mapper(
    name="aws_nlb",
    product=Product("Elastic Load Balancing", feature="Network Load Balancer"),
    readers=[DelimitedInJson(LINES), LINES],
    record=text_struct(f"envelope.owner {FIELDS} client_ip client_port destination_ip destination_port"),
    table="nlb",
    sorted_by=["src_endpoint.ip"],
    known_values={"version": ["2.0"], "type": ["tls"]},
    events=[
        EventMap("network_activity", profiles=("cloud", "load_balancer"), fields={
            # classification
            "activity_id": when(failed).then("Fail").otherwise("Traffic"),
            "severity_id": "Informational",
            "status_id":   when(failed).then("Failure").otherwise("Success"),
            # occurrence
            "time":       col.time.iso8601(),
            "start_time": col.tls_connection_creation_time.iso8601(),
            "end_time":   col.time.iso8601(),
            "duration":   col.connection_time,
            # context
            "metadata.product.version": col.version,
            "cloud.provider":    "AWS",
            "cloud.account.uid": coalesce(object_key.account, col["envelope.owner"]),
            "cloud.region":      object_key.region,
            # primary: where the client connected to is an address of the load balancer
            "src_endpoint.ip":       col.client_ip,
            "src_endpoint.port":     col.client_port,
            "src_endpoint.name":     col.client,
            "dst_endpoint.ip":       col.destination_ip,
            "dst_endpoint.port":     col.destination_port,
            "dst_endpoint.name":     coalesce(col.destination, col.elb),
            "dst_endpoint.hostname": col.domain_name,
            "load_balancer.name":    col.elb,
            "load_balancer.uid":     load_balancers.arn,
            "connection_info.direction_id":  "Inbound",
            "connection_info.protocol_num":  6,
            "connection_info.protocol_name": "tcp",
            **traffic(sent=col.received_bytes, received=col.sent_bytes),
            "tls.version":       col.tls_protocol_version,
            "tls.cipher":        col.tls_cipher.where(col.tls_protocol_version.is_not_null()),
            "tls.sni":           col.domain_name.where(col.tls_protocol_version.is_not_null()),
            "tls.alert":         col.incoming_tls_alert.where(col.tls_protocol_version.is_not_null()),
            "tls.handshake_dur": col.tls_handshake_time.where(col.tls_protocol_version.is_not_null()),
        }),
    ],
)

# Every five minutes, in the folders of the other load balancers; `net.` in the name tells these.
SOURCE = Source(
    MAPPER,
    delivery=Delivery(load_balancers.FOLDERS, record_bytes=60, late_hours=2),
    keys=load_balancers.keys(r"net\."),
    marks=Marks(lines=(rf"[a-z]+ \d+\.\d+ {TIME} net/\S+ .*",)),
    switches=(Switches("elasticloadbalancing.amazonaws.com", off=("DeleteLoadBalancer",), on=("CreateLoadBalancer",), changed=("ModifyLoadBalancerAttributes",)),),
)
