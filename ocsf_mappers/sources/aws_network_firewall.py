"""AWS Network Firewall alert, flow and TLS logs -> OCSF Detection Finding [2004], Network Activity [4001].

Format: https://docs.aws.amazon.com/network-firewall/latest/developerguide/firewall-logging-contents.html, around events of
Suricata: https://docs.suricata.io/en/suricata-7.0.3/output/eve/eve-json-format.html
Record: an alert of a stateful rule, a flow in one direction (both directions are two records with one `flow_id`, written
when the flow has ended or timed out), or an error of TLS inspection. Times are ISO 8601 with `+0000`, UTC;
`event_timestamp` is Unix seconds, when the log was written. The record names no account.
Quirks: numbers come as text or not; `tcp_flags` is hexadecimal without a prefix; the actions of a policy's default are
alerts without a category; `alert.action` says what the rule would do, and `verdict.action` what was done; records of the
TLS log have no `event_type`; `tls` repeats members; `aws_category` is a JSON list inside a text.
"""

import pyarrow as pa

from ocsf_mappers import (
    CLOUDWATCH,
    JSON,
    Column,
    Delivery,
    EventMap,
    Expr,
    Fields,
    Having,
    JsonRecords,
    Mapper,
    Marks,
    Product,
    Source,
    Switches,
    carrier,
    coalesce,
    col,
    connection_protocol,
    element,
    first,
    http_method,
    list_of,
    obj,
    object_key,
    outer,
    sql,
    text,
    text_struct,
    when,
)

event = col.event
alert, netflow, revocation = event.alert, event.netflow, event.revocation_check


def moment(value: Expr) -> Expr:
    """A time with a zone as Suricata writes it, without a colon."""
    return sql(r"regexp_replace({0}, '[+]00:?00$', 'Z')", reads=[value]).iso8601()


# what flows say of themselves, and alerts in their evidence, where the event is the one around the list
def sni(at: Column) -> Expr:
    """The name that the client asked for."""
    return coalesce(at.sni, at.tls.json("sni"))


def hostname(at: Column) -> Expr:
    """The server's name, as the client says it."""
    return coalesce(sni(at), at.http.json("hostname"))


def tls(at: Column) -> Fields:
    """What the record has of TLS; OCSF requires a version wherever there is some."""
    return {
        "tls.sni":     sni(at),
        "tls.version": first(at.tls.json("version").replace(UNDETERMINED="Unknown"), default="Unknown"),
        **fingerprint("tls.ja3_hash", at.tls.json("ja3", "hash")),
        **fingerprint("tls.ja3s_hash", at.tls.json("ja3s", "hash")),
    }


def fingerprint(where: str, value: Expr) -> Fields:
    """The hash of one side's offer."""
    return {f"{where}.value": value, f"{where}.algorithm_id": when(value.is_not_null()).then("MD5")}


def queried(at: Column, member: str) -> Expr:
    """A member of the first DNS query; releases of Suricata write it in different places."""
    return coalesce(at.dns.json("query", "0", member), at.dns.json("queries", "0", member), at.dns.json(member))


tcp_flags = sql("try_cast('0x' || {0} AS INTEGER)::VARCHAR", reads=[event.tcp.json("tcp_flags")], carries=False)

failed = event.tls_error.error_message.is_not_null() | revocation.action.is_in("drop", "reject", "DROP", "REJECT")
decided = coalesce(event.verdict.action, alert.action)
ACTIONS = {
    "pass": "Allowed", "allowed": "Allowed", "alert": "Allowed",
    "drop": "Denied", "blocked": "Denied", "reject": "Denied",
    # of certificates
    "PASS": "Allowed", "DROP": "Denied", "REJECT": "Denied",
}  # fmt: skip
DISPOSITIONS = {
    "pass": "Allowed", "allowed": "Allowed", "alert": "Alert",
    "drop": "Dropped", "blocked": "Blocked", "reject": "Rejected",
    "PASS": "Allowed", "DROP": "Dropped", "REJECT": "Rejected",
}  # fmt: skip
SEVERITIES = {"1": "High", "2": "Medium", "3": "Low", "4": "Informational"}
"""Suricata's priorities, 1 the gravest."""

def joined(*parts: Expr) -> Expr:
    """A name made of parts, which say what they are elsewhere; null where one is missing."""
    return sql(" || ':' || ".join(f"{{{number}}}" for number in range(len(parts))), reads=parts, carries=False)


fired = joined(col.firewall_name, event.flow_id, alert.signature_id, event.timestamp)

# us-east-1a, us-west-2-lax-1a
region_of_zone = col.availability_zone.extract(r"^([a-z]+(?:-[a-z]+)+-\d+)")

COMMON: Fields = {
    # occurrence
    "metadata.event_code":          event.event_type,
    "metadata.original_time":       event.timestamp,
    "metadata.logged_time":         col.event_timestamp.epoch_seconds(),
    # context
    "metadata.product.feature.uid": col.firewall_name,
    "cloud.provider":    "AWS",
    "cloud.account.uid": coalesce(object_key.account, carrier.account),
    "cloud.region":      coalesce(object_key.region, carrier.region, region_of_zone),
    "cloud.zone":        col.availability_zone,
}  # fmt: skip

TRAFFIC: Fields = COMMON | {
    # classification
    "activity_id":   when(failed).then("Fail").otherwise("Traffic"),
    "severity_id":   "Informational",
    "status_id":     when(failed).then("Failure"),
    "status_code":   revocation.status,
    "status_detail": event.tls_error.error_message,
    # occurrence
    "time":       coalesce(moment(netflow.start), moment(event.timestamp), col.event_timestamp.epoch_seconds()),
    "start_time": moment(netflow.start),
    "end_time":   moment(netflow.end),
    # context
    "metadata.uid":                  joined(col.firewall_name, event.flow_id, event.src_ip, netflow.start),
    "metadata.product.feature.name": when(netflow.start.is_not_null() | (event.event_type == "netflow")).then("flow")
                                     .when(event.event_type.is_null()).then("tls").otherwise(event.event_type),
    # only what was found out of a certificate has consequences
    "action_id":      revocation.action.replace(ACTIONS),
    "disposition_id": revocation.action.replace(DISPOSITIONS),
    # primary: of a flow the source is who sent what is counted here
    "src_endpoint.ip":       event.src_ip,
    "src_endpoint.port":     event.src_port,
    "src_endpoint.name":     when(event.src_ip.is_null()).then("unknown"),
    "dst_endpoint.ip":       event.dest_ip,
    "dst_endpoint.port":     event.dest_port,
    "dst_endpoint.hostname": hostname(event),
    "dst_endpoint.name":     when(event.dest_ip.is_null() & hostname(event).is_null()).then("unknown"),
    "connection_info.uid":           event.flow_id,
    "connection_info.direction_id":  "Unknown",
    **connection_protocol(event.proto),
    "connection_info.tcp_flags":     tcp_flags,
    "app_protocol_name":   when(~event.app_proto.is_in("unknown", "failed")).then(event.app_proto),
    "traffic.bytes":       netflow.bytes,
    "traffic.bytes_out":   netflow.bytes,
    "traffic.packets":     netflow.pkts,
    "traffic.packets_out": netflow.pkts,
    **tls(event),
}  # fmt: skip

RULE: Fields = {"uid": alert.signature_id, "name": alert.signature, "version": alert.rev, "category": alert.category}
seen = outer.event
ALERT: Fields = COMMON | {
    # classification
    "activity_id": "Create",
    "severity_id": alert.severity.replace(SEVERITIES),
    "status_id":   "New",
    "is_alert":    True,
    "message":     alert.signature,
    # occurrence
    "time": coalesce(moment(event.timestamp), col.event_timestamp.epoch_seconds()),
    # context
    "metadata.uid":                  fired,
    "metadata.product.feature.name": "alert",
    # what the firewall did with the packet; without a verdict, what the rule says
    "action_id":      decided.replace(ACTIONS),
    "disposition_id": decided.replace(DISPOSITIONS),
    # a rule fires again and again: its id alone is no finding's
    "finding_info.uid":              coalesce(fired, joined(col.firewall_name, coalesce(event.timestamp, col.event_timestamp))),
    "finding_info.title":            coalesce(alert.signature, text("Network Firewall rule {}", alert.signature_id), "Network Firewall alert"),
    "finding_info.created_time":     moment(event.timestamp),
    "finding_info.analytic": obj({"type_id": "Rule", **RULE}, needs=("uid", "name")),
    "firewall_rule":         obj(RULE, needs=("uid", "name")),
    "resources": list_of(col.firewall_name).each({"name": element, "type": "AWS::NetworkFirewall::Firewall"}),
    # the packet that matched
    "evidences": list_of(coalesce(event.src_ip, event.dest_ip, queried(event, "rrname"))).each({
        "src_endpoint.ip":       seen.src_ip,
        "src_endpoint.port":     seen.src_port,
        "dst_endpoint.ip":       seen.dest_ip,
        "dst_endpoint.port":     seen.dest_port,
        # the client says it, and the packet may be one of the server's
        "src_endpoint.hostname": hostname(seen).where(seen.direction == "to_client"),
        "dst_endpoint.hostname": hostname(seen).where(coalesce(seen.direction, "to_server") != "to_client"),
        "connection_info.uid":           seen.flow_id,
        "connection_info.direction_id":  "Unknown",
        **connection_protocol(seen.proto),
        "query.hostname": queried(seen, "rrname"),
        "query.type":     queried(seen, "rrtype"),
        "http_request.http_method":  http_method(seen.http.json("http_method")),
        "http_request.url.path":     seen.http.json("url"),
        "http_request.url.hostname": seen.http.json("hostname").where(seen.http.json("url").is_not_null()),
        "http_request.user_agent":   seen.http.json("http_user_agent"),
        "http_request.referrer":     seen.http.json("http_refer"),
        "http_request.version":      seen.http.json("protocol"),
        # where the answer had come; the length is that of its body
        "http_response.code":         seen.http.json("status"),
        "http_response.content_type": seen.http.json("http_content_type").where(seen.http.json("status").is_not_null()),
        "http_response.body_length":  seen.http.json("length").where(seen.http.json("status").is_not_null()),
        **tls(seen),
    }),
}  # fmt: skip

MAPPER = Mapper(
    name="aws_network_firewall",
    product=Product("AWS Network Firewall"),
    readers=[JsonRecords(lists=(), envelopes=(CLOUDWATCH,), label="JSON lines (S3, Firehose, CloudWatch Logs)")],
    record=pa.struct([
        *text_struct("firewall_name availability_zone event_timestamp aws_category"),
        pa.field("event", pa.struct([
            *text_struct(
                "timestamp flow_id event_type src_ip src_port dest_ip dest_port proto app_proto icmp_type icmp_code"
                " direction pkt_src tx_id tls_inspected sni"
            ),
            pa.field("verdict", pa.struct([*text_struct("action"), pa.field("reject", JSON)])),
            pa.field("alert", pa.struct([
                *text_struct("action signature_id gid rev signature category severity"), pa.field("metadata", JSON),
            ])),
            pa.field("netflow", text_struct("pkts bytes start end age min_ttl max_ttl tx_cnt")),
            pa.field("tls_error", text_struct("error_message")),
            pa.field("revocation_check", text_struct("leaf_cert_fpr status action")),
            *(pa.field(name, JSON) for name in ("tcp", "http", "tls", "dns", "metadata")),
        ])),
    ]),
    table=when(event.event_type == "alert").then("network_firewall_alerts").otherwise("network_firewall"),
    blank=("", "-"),
    sorted_by=("src_endpoint.ip",),
    duplicate_key=("metadata.uid",),
    events=[
        EventMap("detection_finding", where=event.event_type == "alert", profiles=("cloud", "security_control"), fields=ALERT),
        EventMap("network_activity", profiles=("cloud", "security_control"), fields=TRAFFIC),
    ],
)  # fmt: skip

# docs.aws.amazon.com/network-firewall/latest/developerguide/logging-s3.html
SOURCE = Source(
    MAPPER,
    delivery=Delivery(
        ("AWSLogs/{account}/network-firewall/{log}/{region}/{firewall}/{year}/{month}/{day}",),
        record_bytes=80,
        late_hours=2,
    ),
    keys=(
        r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>network-firewall)/[^/]+/(?P<region>[^/]+)/[^/]+/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/",
        r"/(?P<account>\d{12})_(?P<kind>network-firewall)_[^_/]+_(?P<region>[^_/]+)_(?:[^/]*_)?(?P<date>\d{8})T\d{4,6}Z",
    ),
    marks=Marks(members=(Having(all_of=("firewall_name", "event")),)),
    switches=(Switches("network-firewall.amazonaws.com", off=("DeleteFirewall",), on=("CreateFirewall",), changed=("UpdateLoggingConfiguration",)),),
)
