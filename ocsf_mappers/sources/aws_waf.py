"""AWS WAF web ACL traffic logs -> OCSF HTTP Activity [4002].

Format: https://docs.aws.amazon.com/waf/latest/developerguide/logging-fields.html
Record: one web request and what the web ACL did with it, a line of JSON each. `timestamp` is Unix milliseconds, UTC; some
tools write it as ISO 8601. `webaclId` is an ARN, of WAF Classic the bare id. The region in the ARN of a web ACL of
CloudFront is us-east-1, in the names of its objects it is `cloudfront`.
Quirks: a rule that only counts never ends the evaluation: `action` then is that of another rule or the default, and the
count stands in `nonTerminatingMatchingRules`. Where a rule inside a group ended it, `terminatingRuleId` is the group, and
the rule stands in `ruleGroupList`. `responseCodeSent` is null unless the ACL has a custom response: what AWS answers by
itself to a blocked request is not in the record, and is not made up here. `country` may be `-`.
"""

import pyarrow as pa

from ocsf_mappers import (
    CLOUDWATCH,
    JSON,
    Delivery,
    EventMap,
    Expr,
    Having,
    JsonRecords,
    Mapper,
    Marks,
    Product,
    Source,
    Switches,
    coalesce,
    col,
    element,
    forwarded_for,
    http_activity,
    http_method,
    list_of,
    object_key,
    outer,
    sql,
    text_struct,
    when,
)

request = col.httpRequest
match = col.terminatingRuleMatchDetails


def first_of(texts: Expr) -> Expr:
    """The first of a list of texts."""
    return sql("{0}[1]", reads=[texts], carries=False)


def headers(name: str) -> Expr:
    """The values of the headers of a name, which is in lower case; all headers stay in `http_headers`."""
    return request.headers.each_of("value", where=col.name.lower() == name)


# it stays with the headers
forwarded = forwarded_for(sql("array_to_string({0}, ',')", reads=[headers("x-forwarded-for")], carries=False))

has_headers = request.headers.is_not_null() & ~request.headers.is_in("[]", "{}", "null")
host = coalesce(first_of(headers("host")), request.host)
hostname = host.extract(r"^([^:\[\]]+)(?::\d+)?$")

# a rule names itself by its name or, in the list of rate-based rules, by its id
fired = (col.rateBasedRuleId == outer.terminatingRuleId) | (col.rateBasedRuleName == outer.terminatingRuleId)


def rate(member: str) -> Expr:
    """A member of the rate-based rule that ended the evaluation; rules that only counted stay in `unmapped`."""
    return first_of(col.rateBasedRuleList.each_of(member, where=fired))


# records that were cut down: OCSF 1.1.0 wants a request of each
nothing_asked = coalesce(request.uri, request.args, request.httpMethod, request.httpVersion).is_null() & ~has_headers

# groups stand in the order in which they were asked, and one that the web ACL only counts has a terminating rule, too
by_group = col.terminatingRuleType.is_in("GROUP", "MANAGED_RULE_GROUP") | (
    col.terminatingRuleType.is_null() & (col.terminatingRuleId != "Default_Action")
)
rule_in_group = sql("{0}[-1]", reads=[col.ruleGroupList.each_of("terminatingRule.ruleId")], carries=False).where(by_group)

# taken over as a whole where there is nothing but names
only_names = col.labels.matches(r'^\[(\{"name":"[^"\\]*"\},?)*\]$')
LABELS = "to_json(json_extract_string({0}, '$[*].name'))"
labels = (
    when(only_names).then(sql(LABELS, reads=[col.labels])).otherwise(sql(LABELS, reads=[col.labels], carries=False))
)

ARN = "^arn:[^:]*:waf[^:]*:"
region = object_key.region

# CAPTCHA and CHALLENGE end the evaluation only where the request has no valid token: it was not let through
ACTIONS = {"ALLOW": "Allowed", "BLOCK": "Denied", "COUNT": "Allowed", "CAPTCHA": "Denied", "CHALLENGE": "Denied"}
DISPOSITIONS = {
    "ALLOW": "Allowed", "BLOCK": "Blocked", "COUNT": "Count", "CAPTCHA": "Captcha", "CHALLENGE": "Challenge",
}  # fmt: skip

MAPPER = Mapper(
    name="aws_waf",
    product=Product("AWS WAF"),
    readers=[JsonRecords(lists=(), envelopes=(CLOUDWATCH,), label="JSON lines (S3, Firehose, CloudWatch Logs)")],
    record=pa.struct([
        *text_struct(
            "timestamp formatVersion webaclId terminatingRuleId terminatingRuleType action httpSourceName httpSourceId"
            " responseCodeSent ja3Fingerprint ja4Fingerprint requestBodySize requestBodySizeInspectedByWAF clientAsn"
            " forwardedAsn cfDistributionTenantId"
        ),
        pa.field("httpRequest", pa.struct([
            *text_struct("clientIp country uri args httpVersion httpMethod requestId fragment scheme host"),
            pa.field("headers", JSON),
        ])),
        *(pa.field(name, JSON) for name in (
            "terminatingRuleMatchDetails", "ruleGroupList", "rateBasedRuleList", "nonTerminatingMatchingRules",
            "requestHeadersInserted", "labels", "captchaResponse", "challengeResponse", "oversizeFields",
            "monetizeVerifyResponse",
        )),
    ]),
    table="waf",
    blank=("", "-"),
    duplicate_key=("metadata.product.feature.uid", "http_request.uid", "time", "firewall_rule.uid"),
    known_values={"formatVersion": ["1"], "action": list(ACTIONS)},
    observables={
        "dst_endpoint.uid": "Resource UID",
        "http_request.url.hostname": (),  # dst_endpoint.hostname is the same
    },
    events=[
        EventMap("http_activity", profiles=("cloud", "security_control"), fields={
            # classification
            "activity_id": http_activity(request.httpMethod),
            "severity_id": "Informational",
            "status_code": col.responseCodeSent,
            # occurrence
            "time": coalesce(col.timestamp.epoch_millis(), col.timestamp.iso8601()),
            # context
            "metadata.product.version":      col.formatVersion,
            "metadata.product.feature.uid":  col.webaclId,
            "metadata.product.feature.name": col.webaclId.extract("/webacl/([^/]+)"),
            "metadata.labels":               labels,
            "cloud.provider":    "AWS",
            "cloud.account.uid": coalesce(col.webaclId.extract(rf"{ARN}[^:]*:(\d{{12}}):"), object_key.account),
            "cloud.region":      coalesce(col.webaclId.extract(f"{ARN}([^:]+):"), when(region == "cloudfront").then("us-east-1").otherwise(region)),
            # what the web ACL did, and by which rule
            "action_id":      col.action.replace(ACTIONS),
            "disposition_id": col.action.replace(DISPOSITIONS),
            "firewall_rule.uid":            col.terminatingRuleId,
            "firewall_rule.type":           col.terminatingRuleType,
            "firewall_rule.name":           coalesce(rate("rateBasedRuleName"), rule_in_group),
            "firewall_rule.rate_limit":     rate("maxRateAllowed"),
            "firewall_rule.condition":      match.json("0", "conditionType"),
            "firewall_rule.sensitivity":    match.json("0", "sensitivityLevel"),
            "firewall_rule.match_location": match.json("0", "location"),
            "firewall_rule.match_details":  sql("{0}", reads=[match.json("0", "matchedData")]),
            # who asked; Security Lake writes the protected resource here as well
            "src_endpoint.ip":               request.clientIp,
            "src_endpoint.location.country": request.country,
            "src_endpoint.autonomous_system.number": col.clientAsn,
            "src_endpoint.svc_name":         col.httpSourceName,
            "src_endpoint.uid":              col.httpSourceId,
            "src_endpoint.name":             when(request.clientIp.is_null() & col.httpSourceName.is_null() & col.httpSourceId.is_null()).then("unknown"),
            # the protected resource
            "dst_endpoint.svc_name": col.httpSourceName,
            "dst_endpoint.uid":      col.httpSourceId,
            "dst_endpoint.hostname": hostname,
            "dst_endpoint.name":     when(col.httpSourceName.is_null() & col.httpSourceId.is_null() & hostname.is_null()).then("unknown"),
            # the request
            "http_request.uid":             coalesce(request.requestId, when(nothing_asked).then("unknown")),
            "http_request.http_method":     http_method(request.httpMethod),
            "http_request.version":         request.httpVersion,
            "http_request.args":            request.args,
            "http_request.user_agent":      first_of(headers("user-agent")),
            "http_request.referrer":        first_of(headers("referer")),
            "http_request.x_forwarded_for": forwarded,
            "http_request.body_length":     col.requestBodySize,
            "http_request.http_headers":    request.headers.each({"name": col.name.as_written(), "value": col.value.as_written()}),
            # OCSF wants a path of every URL
            "http_request.url.path":         request.uri,
            "http_request.url.query_string": request.args.where(request.uri.is_not_null()),
            "http_request.url.scheme":       request.scheme.where(request.uri.is_not_null()),
            "http_request.url.hostname":     hostname.where(request.uri.is_not_null()),
            "http_request.url.port":         host.extract(r"^[^\[\]]+:(\d{1,5})$").where(request.uri.is_not_null()),
            # OCSF 1.1.0 requires a response with a code, and 0 is no code of HTTP's
            "http_response.code": coalesce(col.responseCodeSent, "0"),
            "http_status":        col.responseCodeSent,
            # TLS fingerprints of the client; OCSF wants the version that was agreed on, which is not logged
            "tls.version":               when(col.ja3Fingerprint.is_not_null()).then("Unknown"),
            "tls.ja3_hash.value":        col.ja3Fingerprint,
            "tls.ja3_hash.algorithm_id": when(col.ja3Fingerprint.is_not_null()).then("MD5"),
            "ja4_fingerprint_list":      list_of(col.ja4Fingerprint).each({"type_id": "JA4", "value": element}),
        }),
    ],
)  # fmt: skip

# docs.aws.amazon.com/waf/latest/developerguide/logging-s3.html: every five minutes, folders go down to the minute
SOURCE = Source(
    MAPPER,
    delivery=Delivery(("AWSLogs/{account}/WAFLogs/{region}/{acl}/{year}/{month}/{day}",), record_bytes=250, late_hours=2),
    keys=(
        r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>WAFLogs)/(?P<region>[^/]+)/[^/]+/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/",
        r"/(?P<account>\d{12})_(?P<kind>waflogs)_(?P<region>[^_/]+)_(?:[^/]*_)?(?P<date>\d{8})T\d{4,6}Z",
    ),
    marks=Marks(members=(Having(all_of=("webaclId", "httpRequest", "terminatingRuleId")),)),
    switches=(Switches("wafv2.amazonaws.com", off=("DeleteLoggingConfiguration", "DeleteWebACL"), on=("PutLoggingConfiguration",)),),
)
