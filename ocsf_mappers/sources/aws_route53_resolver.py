"""Amazon Route 53 Resolver query logs -> OCSF DNS Activity [4003].

Format: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/resolver-query-logs-format.html
Record: one DNS query that Resolver answered for a VPC, with its answer; queries answered from Resolver's cache are not
logged. `query_timestamp` is ISO 8601, UTC. S3 gets JSON lines; CloudWatch Logs and Firehose wrap them in log events.
Quirks: names end with a dot; `srcport` is text; members of `answers` are capitalised; members of `srcids`
are spelled with an underscore or, in some published records, with a hyphen. The object's key names the VPC and
the account but no region, so the region is the record's. DNS Firewall's members are there only where a rule matched.
`version` 1.100000 is 1.1; a minor version adds members, and those that this table does not know go to `unmapped`.
"""

import pyarrow as pa

from ocsf_mappers import (
    CLOUDWATCH,
    JSON,
    Delivery,
    EventMap,
    Having,
    JsonRecords,
    Mapper,
    Marks,
    Product,
    Source,
    Switches,
    coalesce,
    col,
    connection_protocol,
    object_key,
    text_struct,
    when,
)

# https://www.iana.org/assignments/dns-parameters/dns-parameters.xhtml#dns-parameters-6
RCODES = {
    "NOERROR": "NoError",
    "FORMERR": "FormError",
    "SERVFAIL": "ServError",
    "NXDOMAIN": "NXDomain",
    "NOTIMP": "NotImp",
    "REFUSED": "Refused",
    "YXDOMAIN": "YXDomain",
    "YXRRSET": "YXRRSet",
    "NXRRSET": "NXRRSet",
    "NOTAUTH": "NotAuth",
    "NOTZONE": "NotZone",
    "DSOTYPENI": "DSOTYPENI",
    "BADKEY": "BADKEY",
    "BADTIME": "BADTIME",
    "BADMODE": "BADMODE",
    "BADNAME": "BADNAME",
    "BADALG": "BADALG",
    "BADTRUNC": "BADTRUNC",
    "BADCOOKIE": "BADCOOKIE",
}

firewall = col.firewall_rule_action

MAPPER = Mapper(
    name="aws_route53_resolver",
    product=Product("Route 53", feature="Resolver Query Logs"),
    readers=[JsonRecords(lists=(), envelopes=(CLOUDWATCH,), label="JSON lines (S3, Firehose, CloudWatch Logs)")],
    record=pa.struct([
        *text_struct(
            "version account_id region vpc_id query_timestamp query_name query_type query_class rcode"
            " srcaddr srcport transport firewall_rule_action firewall_rule_group_id firewall_domain_list_id"
        ),
        pa.field("answers", JSON),
        pa.field("srcids", text_struct("instance resolver_endpoint resolver_network_interface resolver-endpoint resolver-network-interface")),
        pa.field("additional_properties", JSON),
    ]),
    table="route53",
    known_values={"version": ["1.000000", "1.100000"]},
    observables={
        "src_endpoint.instance_uid": "Resource UID",
        "dst_endpoint.instance_uid": "Resource UID",
        "answers.rdata": ("IP Address", "Hostname"),
    },
    events=[
        EventMap("dns_activity", profiles=("cloud", "security_control"), fields={
            # classification: a record is a query and its response
            "activity_id":   "Traffic",
            "severity_id":   "Informational",
            # occurrence
            "time":          col.query_timestamp.iso8601(),
            # context
            "metadata.product.version": col.version,
            "cloud.provider":    "AWS",
            "cloud.account.uid": coalesce(col.account_id, object_key.account),
            "cloud.region":      coalesce(col.region, object_key.region),
            # what was asked, and the answer; a query without an answer has an empty list, which queries look for
            "query.hostname": col.query_name,
            "query.type":     col.query_type,
            "query.class":    col.query_class,
            "rcode_id": when(col.rcode.is_in("BADVERS", "BADSIG")).then("BADSIG_VERS").otherwise(col.rcode.replace(RCODES)),
            "answers": col.answers.each({
                # OCSF requires rdata of every answer
                "rdata": coalesce(col.Rdata, when(col.Type.is_not_null() | col.Class.is_not_null()).then("")),
                "type":  col.Type,
                "class": col.Class,
            }, or_empty=True),
            # who asked, and which Resolver endpoint passed it on
            "src_endpoint.ip":            col.srcaddr,
            "src_endpoint.port":          col.srcport,
            "src_endpoint.vpc_uid":       col.vpc_id,
            "src_endpoint.instance_uid":  col.srcids.instance,
            "dst_endpoint.instance_uid":  coalesce(col.srcids.resolver_endpoint, col.srcids["resolver-endpoint"]),
            "dst_endpoint.interface_uid": coalesce(col.srcids.resolver_network_interface, col.srcids["resolver-network-interface"]),
            **connection_protocol(col.transport),
            "connection_info.direction_id": "Unknown",
            # what DNS Firewall did; an alert lets the query through
            "action_id":         firewall.replace(ALLOW="Allowed", ALERT="Allowed", BLOCK="Denied"),
            "disposition_id":    firewall.replace(ALLOW="Allowed", ALERT="Alert", BLOCK="Blocked"),
            "is_alert":          when(firewall == "ALERT").then(True),
            "firewall_rule.uid": col.firewall_rule_group_id,
        }),
    ],
)  # fmt: skip

# docs.aws.amazon.com/Route53/latest/DeveloperGuide/resolver-query-logs-choosing-target-resource.html
SOURCE = Source(
    MAPPER,
    delivery=Delivery(("AWSLogs/{account}/vpcdnsquerylogs/{vpc}/{year}/{month}/{day}",), late_hours=2),
    keys=(
        r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>vpcdnsquerylogs)/[^/]+/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/",
        r"/(?:vpc-[0-9a-z]+_)?(?P<kind>vpcdnsquerylogs)_(?P<account>\d{12})_(?P<date>\d{8})T\d{4,6}Z",
    ),
    marks=Marks(members=(Having(any_of=("query_name", "query_timestamp")),)),
    switches=(Switches("route53resolver.amazonaws.com", off=("DeleteResolverQueryLogConfig", "DisassociateResolverQueryLogConfig"), on=("AssociateResolverQueryLogConfig",)),),
)
