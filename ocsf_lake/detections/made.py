"""Records made up: an ordinary one of each source, with members as somebody wants them.

They go the way of real ones, through reader and mapper, so that a rule can be tried on what it is meant for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ocsf_lake.detections.logs import Part

Json = dict[str, Any]

ORDINARY: Mapping[str, Json] = {
    "aws_cloudtrail": {
        "eventVersion": "1.11", "eventTime": "2026-05-04T09:10:11Z", "eventSource": "ec2.amazonaws.com",
        "eventName": "DescribeTags", "awsRegion": "eu-west-1", "sourceIPAddress": "198.51.100.7",
        "userAgent": "aws-cli/2",
        "userIdentity": {
            "type": "IAMUser", "userName": "ada", "arn": "arn:aws:iam::111122223333:user/ada",
            "accountId": "111122223333",
        },
        "requestID": "r1", "eventID": "e1", "eventType": "AwsApiCall", "managementEvent": True,
        "recipientAccountId": "111122223333", "eventCategory": "Management",
    },
    "aws_route53_resolver": {
        "version": "1.100000", "account_id": "111122223333", "region": "eu-west-1", "vpc_id": "vpc-0a1b2c3d",
        "query_timestamp": "2026-05-04T09:10:11Z", "query_name": "www.example.com.", "query_type": "A",
        "query_class": "IN", "rcode": "NOERROR", "answers": [], "srcaddr": "10.0.0.7", "srcport": "53211",
        "transport": "UDP", "srcids": {"instance": "i-0a1b2c3d"},
    },
    "aws_guardduty": {
        "schemaVersion": "2.0", "accountId": "111122223333", "region": "eu-west-1", "partition": "aws", "id": "f1",
        "arn": "arn:aws:guardduty:eu-west-1:111122223333:detector/d1/finding/f1",
        "type": "Recon:EC2/PortProbeUnprotectedPort",
        "resource": {"resourceType": "Instance"}, "severity": 2, "createdAt": "2026-05-04T09:10:11.000Z",
        "updatedAt": "2026-05-04T09:10:11.000Z", "title": "A finding", "description": "A finding.",
        "service": {
            "serviceName": "guardduty", "detectorId": "d1", "archived": False, "count": 1, "resourceRole": "TARGET",
            "eventFirstSeen": "2026-05-04T09:00:00.000Z", "eventLastSeen": "2026-05-04T09:05:00.000Z",
        },
    },
    "aws_waf": {
        "timestamp": 1777885811000, "formatVersion": 1, "action": "ALLOW", "terminatingRuleId": "Default_Action",
        "webaclId": "arn:aws:wafv2:eu-west-1:111122223333:regional/webacl/shop/1b2c3d4e-0000-4000-8000-000000000001",
        "terminatingRuleType": "REGULAR", "httpSourceName": "ALB",
        "httpSourceId": "111122223333-app/shop/0123456789abcdef",
        "httpRequest": {
            "clientIp": "198.51.100.7", "country": "DE", "headers": [{"name": "Host", "value": "shop.example.com"}],
            "uri": "/", "args": "", "httpVersion": "HTTP/1.1", "httpMethod": "GET", "requestId": "1-6750a1b2-0",
        },
    },
    "aws_eks_audit": {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": "a1",
        "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/shop/pods/web", "verb": "get",
        "user": {"username": "ada", "groups": ["system:authenticated"]}, "sourceIPs": ["198.51.100.7"],
        "userAgent": "kubectl/v1.31.2", "objectRef": {"resource": "pods", "namespace": "shop", "name": "web",
        "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200}, "requestReceivedTimestamp": "2026-05-04T09:10:11.000000Z",
        "stageTimestamp": "2026-05-04T09:10:11.000000Z",
    },
    "aws_vpc_flow": {
        "version": "5", "account_id": "111122223333", "interface_id": "eni-1", "srcaddr": "198.51.100.7",
        "dstaddr": "10.20.1.10", "srcport": "50001", "dstport": "443", "protocol": "6", "packets": "14",
        "bytes": "2210",
        "start": "1777885811", "end": "1777885871", "action": "ACCEPT", "log_status": "OK", "vpc_id": "vpc-1",
        "subnet_id": "subnet-1", "instance_id": "i-1", "tcp_flags": "2", "type": "IPv4", "pkt_srcaddr": "-",
        "pkt_dstaddr": "-",
        "region": "eu-west-1", "az_id": "euw1-az1", "pkt_src_aws_service": "-", "pkt_dst_aws_service": "-",
        "flow_direction": "ingress", "traffic_path": "-", "reject_reason": "-",
    },
    "aws_alb": {
        "type": "https", "time": "2026-05-04T09:10:11.186641Z", "elb": "app/shop/50dc6c495c0c9188",
        "client": "198.51.100.7:49152", "target": "10.20.1.10:8080", "request_processing_time": "0.001",
        "target_processing_time": "0.048", "response_processing_time": "0.000", "elb_status_code": "200",
        "target_status_code": "200", "received_bytes": "512", "sent_bytes": "2048",
        "request": "GET https://shop.example.com:443/cart?item=17 HTTP/1.1", "user_agent": "Mozilla/5.0",
        "ssl_cipher": "-", "ssl_protocol": "-", "target_group_arn": "-",
        "trace_id": "Root=1-67a09776-1e32ac363382765a21447e3c",
        "domain_name": "-", "chosen_cert_arn": "-", "matched_rule_priority": "1",
        "request_creation_time": "2026-05-04T09:10:11.137000Z", "actions_executed": "forward", "redirect_url": "-",
        "error_reason": "-", "target_list": "10.20.1.10:8080", "target_status_code_list": "200", "classification": "-",
        "classification_reason": "-",
    },
    "aws_clb": {
        "time": "2026-05-04T09:10:11.945958Z", "elb": "shop", "client": "198.51.100.7:2817", "backend": "10.20.1.10:80",
        "request_processing_time": "0.000073", "backend_processing_time": "0.001048",
        "response_processing_time": "0.000057",
        "elb_status_code": "200", "backend_status_code": "200", "received_bytes": "0", "sent_bytes": "29",
        "request": "GET http://shop.example.com:80/ HTTP/1.1", "user_agent": "Mozilla/5.0", "ssl_cipher": "-",
        "ssl_protocol": "-",
    },
    "aws_nlb": {
        "type": "tls", "version": "2.0", "time": "2026-05-04T09:10:11", "elb": "net/mail/c6e77e28c25b2234",
        "listener": "g3d4b5e8bb8464cd", "client": "198.51.100.7:51341", "destination": "10.20.1.10:443",
        "connection_time": "5",
        "tls_handshake_time": "2", "received_bytes": "98", "sent_bytes": "246", "incoming_tls_alert": "-",
        "chosen_cert_arn": "-", "chosen_cert_serial": "-", "tls_cipher": "-", "tls_protocol_version": "tlsv12",
        "tls_keyexchange": "-", "domain_name": "mail.example.com", "alpn_fe_protocol": "-", "alpn_be_protocol": "-",
        "alpn_client_preference_list": "-", "tls_connection_creation_time": "2026-05-04T09:10:10",
    },
    "aws_s3_access": {
        "bucket_owner": "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be", "bucket": "example-reports",
        "time": "[04/May/2026:09:10:11 +0000]", "remote_ip": "198.51.100.7",
        "requester": "arn:aws:iam::111122223333:user/ada", "request_id": "3E57427F3EXAM001",
        "operation": "REST.GET.OBJECT",
        "key": "report.csv", "request_uri": "GET /report.csv HTTP/1.1", "http_status": "200", "error_code": "-",
        "bytes_sent": "2048", "object_size": "2048", "total_time": "41", "turn_around_time": "39", "referer": "-",
        "user_agent": "aws-cli/2.15.0", "version_id": "-", "host_id": "s9lzHYrFp76ZVxRcpX9",
        "signature_version": "SigV4",
        "cipher_suite": "TLS_AES_128_GCM_SHA256", "authentication_type": "AuthHeader",
        "host_header": "example-reports.s3.eu-west-1.amazonaws.com", "tls_version": "TLSv1.3", "access_point_arn": "-",
        "acl_required": "-",
    },
}  # fmt: skip
"""Source -> a record that no rule is for; of logs of lines, the fields of a line in their order."""

LINES = frozenset(["aws_vpc_flow", "aws_alb", "aws_clb", "aws_nlb", "aws_s3_access"])
"""Sources whose records are lines of fields."""
FIRST_RECORD = {"aws_vpc_flow": 2}
"""Source -> number of the first record of an object, where it is not 1, as a line with names is before it."""
_QUOTED_IN = {
    "aws_alb": frozenset([
        "request", "user_agent", "trace_id", "domain_name", "chosen_cert_arn", "actions_executed", "redirect_url",
        "error_reason", "target_list", "target_status_code_list", "classification", "classification_reason",
    ]),
    "aws_clb": frozenset(["request", "user_agent"]),
    "aws_s3_access": frozenset(["request_uri", "referer", "user_agent"]),
}  # fmt: skip

_OTHER_NAMES: Mapping[str, Mapping[str, str]] = {
    "aws_route53_resolver": {
        "query": "query_name", "QueryName": "query_name", "c-dns-query": "query_name", "answer": "answers.Rdata",
        "answers": "answers.Rdata",
    },
    "aws_waf": {"cs-host": "httpRequest.headers.Host", "cs-user-agent": "httpRequest.headers.User-Agent",
                "cs-referer": "httpRequest.headers.Referer"},
    "aws_vpc_flow": {"src_ip": "srcaddr", "dst_ip": "dstaddr", "protocol_name": "protocol"},
}  # fmt: skip
_LISTS: Mapping[str, tuple[str, ...]] = {
    "aws_cloudtrail": ("resources",), "aws_route53_resolver": ("answers",), "aws_waf": ("labels",),
    "aws_eks_audit": ("sourceIPs", "user.groups", "requestObject.spec.containers", "requestObject.spec.volumes"),
}  # fmt: skip
"""Members that are lists, whichever record has them."""


class Impossible(Exception):  # noqa: N818  it is an answer
    """Why no record can be made."""


def record(part: Part, members: Mapping[str, Any]) -> Json:
    """An ordinary record with some members as wanted; None takes one away.

    Args:
        part: The source.
        members: Members, as rules name them, and their values.

    Raises:
        Impossible: Of one member two things are wanted, or it is no part of a line, or cannot be in one.
    """
    made: Json = json.loads(json.dumps(ORDINARY[part.source]))
    for name, value in members.items():
        raw = _raw_name(part, name)
        if part.source in LINES:
            text = "-" if value is None else str(value)
            try:
                _set_field(made, raw, text)
                is_in_a_line = b"\n" not in text.encode()
            except ValueError:  # no URL, no address with a port, half of a surrogate pair
                is_in_a_line = False
            if not is_in_a_line:
                raise Impossible(f"{name}: {text!r} cannot be in a line of this log")
        else:
            _set_member(made, raw, value, _LISTS.get(part.source, ()))
    return made


def file_of(source: str, records: list[Json]) -> bytes:
    """An object with records, as the source's reader wants it."""
    if source not in LINES:
        return "".join(f"{json.dumps(record, separators=(',', ':'))}\n" for record in records).encode()
    quoted = _QUOTED_IN.get(source, frozenset())
    lines = [
        " ".join(_quoted(value) if name in quoted else value for name, value in record.items()) for record in records
    ]
    if source == "aws_vpc_flow":
        lines.insert(0, " ".join(name.replace("_", "-") for name in records[0]))
    return "".join(f"{line}\n" for line in lines).encode()


def _quoted(value: str) -> str:
    return f'"{value}"'


def _raw_name(part: Part, name: str) -> str:
    if (other := _OTHER_NAMES.get(part.source, {}).get(name)) is not None:
        return other
    row = part.rows.get(name)
    return _raw_name(part, row) if isinstance(row, str) and not row.startswith("never: ") else name


# -- JSON -------------------------------------------------------------------------------------------------------------
def _set_member(made: Json, name: str, value: Any, lists: tuple[str, ...]) -> None:
    if name.startswith("httpRequest.headers."):
        headers = made["httpRequest"]["headers"]
        header = name.removeprefix("httpRequest.headers.")
        if header in ("name", "value"):
            headers[0][header] = value  # of one header both
        else:
            headers.append({"name": header, "value": value})
        return
    steps = name.split(".")
    place = made
    for number, step in enumerate(steps):
        is_list = ".".join(steps[: number + 1]) in lists
        if number == len(steps) - 1:
            if value is None:
                place.pop(step, None)
            elif isinstance(place.get(step), dict) and not isinstance(value, dict):
                raise Impossible(f"{name}: both {value!r} and members of its own")
            else:
                place[step] = [value] if is_list and not isinstance(value, list) else value
            return
        inner = place.setdefault(step, [] if is_list else {})
        if isinstance(inner, list):
            if not inner:
                inner.append({})
            inner = inner[0]
        if not isinstance(inner, dict):
            raise Impossible(f"{name}: {'.'.join(steps[: number + 1])} is {inner!r}, which has no members")
        place = inner


# -- lines ------------------------------------------------------------------------------------------------------------
def _set_field(made: Json, name: str, value: str) -> None:
    """Sets a field of a line, or the part of one that the reader takes out of it."""
    if name in made:
        made[name] = value
        return
    if match := re.fullmatch(r"(client|target|backend|destination)_(ip|port)", name):
        address, port = made[match[1]].rsplit(":", 1)
        made[match[1]] = f"{value}:{port}" if match[2] == "ip" else f"{address}:{value}"
        return
    request = "request" if "request" in made else "request_uri"
    if name not in ("method", "url", "path", "query", "host", "scheme", "port", "http_version") or request not in made:
        raise Impossible(f"{name}: no field of a line")
    method, url, version = made[request].split(" ", 2)
    if name == "method":
        method = value
    elif name == "http_version":
        if not value.startswith("HTTP/"):
            raise ValueError(value)
        version = value
    elif name == "url":
        url = value
    else:
        url = _with_part(url, name, value)
    made[request] = f"{method} {url} {version}"


def _with_part(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    host, _, port = parts.netloc.partition(":")
    if name in ("host", "port"):
        return parts._replace(netloc=f"{value}:{port}" if name == "host" else f"{host}:{value}").geturl()
    return parts._replace(**{name: value}).geturl()
