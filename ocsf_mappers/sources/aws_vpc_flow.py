"""Amazon VPC Flow Logs -> OCSF Network Activity [4001].

Format: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
Record: one line per flow and aggregation interval. `start` and `end` are Unix seconds, UTC; `bytes` and `packets` count
that interval only; `-` is null. The header line names the fields, in the order that the flow log's owner chose; logs
in CloudWatch have no header, and the default fields unless a setting names others. NODATA and SKIPDATA lines carry no
flow: of their endpoints only the network interface is known. Transit gateway flow logs share the format and have no
`action`; their default fields are others, and `flow_direction` is as the gateway sees it. A log whose owner chose neither
`start` nor `end` says the time in the name of its objects alone.
What the interface saw: without `flow_direction` nobody knows which end of the flow `interface_id` is, so it stays in
`unmapped`, in every such record, also where OCSF 1.1.0 wants some endpoint and the interface stands for it.
"""

from ocsf_mappers import (
    PROTOCOL_NAMES,
    Delimited,
    DelimitedInJson,
    Delivery,
    EventMap,
    Having,
    Mapper,
    Marks,
    ParquetRows,
    Product,
    Source,
    Switches,
    Unheaded,
    coalesce,
    col,
    object_key,
    sql,
    text_struct,
    when,
)

DEFAULT_FIELDS = "version account_id interface_id srcaddr dstaddr srcport dstport protocol packets bytes start end action log_status"
"""The fields of version 2, which a flow log has when its owner chose none."""

FIELDS = f"""{DEFAULT_FIELDS}
    vpc_id subnet_id instance_id tcp_flags type pkt_srcaddr pkt_dstaddr
    region az_id sublocation_type sublocation_id
    pkt_src_aws_service pkt_dst_aws_service flow_direction traffic_path
    ecs_cluster_arn ecs_cluster_name ecs_container_instance_arn ecs_container_instance_id ecs_container_id
    ecs_second_container_id ecs_service_name ecs_task_definition_arn ecs_task_arn ecs_task_id reject_reason
    resource_id encryption_status interface_type
    resource_type tgw_id tgw_attachment_id tgw_src_vpc_account_id tgw_dst_vpc_account_id tgw_src_vpc_id tgw_dst_vpc_id
    tgw_src_subnet_id tgw_dst_subnet_id tgw_src_eni tgw_dst_eni tgw_src_az_id tgw_dst_az_id tgw_pair_attachment_id
    packets_lost_no_route packets_lost_blackhole packets_lost_mtu_exceeded packets_lost_ttl_expired"""

BOUNDARIES = {
    "1": "Same VPC",
    "2": "Internet/VPC Gateway",
    "3": "Virtual Private Gateway",
    "4": "Intra-region VPC",
    "5": "Inter-region VPC",
    "6": "Local Gateway",
    "7": "Gateway VPC",
    "8": "Internet Gateway",
}
TGW_FIELDS = """version resource_type account_id tgw_id tgw_attachment_id tgw_src_vpc_account_id tgw_dst_vpc_account_id
    tgw_src_vpc_id tgw_dst_vpc_id tgw_src_subnet_id tgw_dst_subnet_id tgw_src_eni tgw_dst_eni tgw_src_az_id tgw_dst_az_id
    tgw_pair_attachment_id srcaddr dstaddr srcport dstport protocol packets bytes start end log_status type
    packets_lost_no_route packets_lost_blackhole packets_lost_mtu_exceeded packets_lost_ttl_expired tcp_flags region
    flow_direction pkt_src_aws_service pkt_dst_aws_service"""
"""The fields of a transit gateway's flow log when its owner chose none."""

TEXT = Delimited(
    columns=tuple(FIELDS.split()),
    default=tuple(DEFAULT_FIELDS.split()),
    others=(Unheaded(tuple(TGW_FIELDS.split()), "resource_type", "TransitGateway"),),
    setting="flow_fields",
)

inbound, outbound = col.flow_direction == "ingress", col.flow_direction == "egress"
undirected = ~coalesce(col.flow_direction, "-").is_in("ingress", "egress")
untimed = col.start.is_null() & col.end.is_null()
time_note = sql("'start and end are missing: time is the ' || {0} || ' in the name of the object'", reads=[object_key.window], carries=False)
# a look at the interface that leaves it in `unmapped` as well
interface = sql("{0}", reads=[col.interface_id], carries=False)
# without `log_status`, a record that counts something or names an address is a flow
is_flow = (col.log_status == "OK") | (col.log_status.is_null() & ~coalesce(col.srcaddr, col.pkt_srcaddr, col.bytes, col.packets).is_null())
transit = col.resource_type == "TransitGateway"
no_source, no_destination = coalesce(col.pkt_srcaddr, col.srcaddr).is_null(), coalesce(col.pkt_dstaddr, col.dstaddr).is_null()

MAPPER = Mapper(
    name="aws_vpc_flow",
    product=Product("Amazon VPC", feature="Flowlogs"),
    readers=[
        ParquetRows(zero_padded={"account_id": 12, "tgw_src_vpc_account_id": 12, "tgw_dst_vpc_account_id": 12}),
        DelimitedInJson(TEXT),
        TEXT,
    ],
    record=text_struct(FIELDS),
    table="vpc_flow",
    known_values={"version": "2 3 4 5 6 7 8 9 10".split()},
    observables={"src_endpoint.instance_uid": "Resource UID", "dst_endpoint.instance_uid": "Resource UID"},
    events=[
        EventMap("network_activity", profiles=("cloud", "security_control"), fields={
            # classification
            # where the log has no action, a flow is reported and nothing says that it was refused
            "activity_id":    when(col.action.is_not_null()).then(col.action.replace(ACCEPT="Traffic", REJECT="Refuse")).when(is_flow).then("Traffic"),
            "severity_id":    "Informational",
            "status_code":    col.log_status,
            "status_detail":  when(untimed & object_key.window.is_not_null() & col.reject_reason.is_not_null()).then(sql("{0} || '; ' || {1}", reads=[col.reject_reason, time_note]))
                              .when(untimed & object_key.window.is_not_null()).then(time_note).otherwise(col.reject_reason),
            # occurrence
            "time":           coalesce(col.start.epoch_seconds(fraction=True), col.end.epoch_seconds(fraction=True), when(untimed).then(object_key.time.iso8601())),
            "start_time":     col.start.epoch_seconds(fraction=True),
            "end_time":       col.end.epoch_seconds(fraction=True),
            # context
            "metadata.product.version": col.version,
            "cloud.provider":    "AWS",
            "cloud.account.uid": coalesce(when(col.account_id != "unknown").then(col.account_id), object_key.account),
            "cloud.region":      coalesce(col.region, object_key.region),
            "cloud.zone":        col.az_id,
            # what the security group or network ACL did
            "action_id":      col.action.replace(ACCEPT="Allowed", REJECT="Denied"),
            "disposition_id": col.action.replace(ACCEPT="Allowed", REJECT="Blocked"),
            # primary: pkt_* is the packet's own address where a gateway or load balancer stands between
            "src_endpoint.ip":               coalesce(col.pkt_srcaddr, col.srcaddr),
            "src_endpoint.intermediate_ips": when(col.pkt_srcaddr != col.srcaddr).then([col.srcaddr]),
            "src_endpoint.port":             col.srcport,
            "src_endpoint.svc_name":         col.pkt_src_aws_service,
            "src_endpoint.interface_uid":    coalesce(when(outbound).then(col.interface_id).when(undirected & no_source).then(interface), col.tgw_src_eni, when(no_source).then(col.tgw_attachment_id)),
            "src_endpoint.vpc_uid":          coalesce(when(outbound).then(col.vpc_id), col.tgw_src_vpc_id),
            "src_endpoint.subnet_uid":       coalesce(when(outbound).then(col.subnet_id), col.tgw_src_subnet_id),
            "src_endpoint.instance_uid":     when(outbound).then(col.instance_id),
            "src_endpoint.zone":             col.tgw_src_az_id,
            "src_endpoint.owner.account.uid": col.tgw_src_vpc_account_id,
            "dst_endpoint.ip":               coalesce(col.pkt_dstaddr, col.dstaddr),
            "dst_endpoint.intermediate_ips": when(col.pkt_dstaddr != col.dstaddr).then([col.dstaddr]),
            "dst_endpoint.port":             col.dstport,
            "dst_endpoint.svc_name":         col.pkt_dst_aws_service,
            "dst_endpoint.interface_uid":    coalesce(when(inbound).then(col.interface_id).when(undirected & no_destination).then(interface), col.tgw_dst_eni, when(no_destination).then(col.tgw_attachment_id)),
            "dst_endpoint.vpc_uid":          coalesce(when(inbound).then(col.vpc_id), col.tgw_dst_vpc_id),
            "dst_endpoint.subnet_uid":       coalesce(when(inbound).then(col.subnet_id), col.tgw_dst_subnet_id),
            "dst_endpoint.instance_uid":     when(inbound).then(col.instance_id),
            "dst_endpoint.zone":             col.tgw_dst_az_id,
            "dst_endpoint.owner.account.uid": col.tgw_dst_vpc_account_id,
            "observation_point_id":          when(transit).then("Neither").otherwise(col.flow_direction.replace(egress="Source", ingress="Destination")),
            "connection_info.direction_id":  col.flow_direction.replace(ingress="Inbound", egress="Outbound"),
            "connection_info.protocol_num":  col.protocol,
            "connection_info.protocol_name": when(col.protocol.is_in(*PROTOCOL_NAMES)).then(col.protocol.replace(PROTOCOL_NAMES)),
            "connection_info.protocol_ver":  col.type,
            "connection_info.tcp_flags":     col.tcp_flags,
            "connection_info.boundary_id":   col.traffic_path.replace(BOUNDARIES),
            "traffic.bytes":   col.bytes,
            "traffic.packets": col.packets,
        }),
    ],
)

# docs.aws.amazon.com/vpc/latest/userguide/flow-logs-s3-path.html: by the end of the aggregation interval; hourly folders
# may follow. The second form is that of Hive-compatible prefixes.
SOURCE = Source(
    MAPPER,
    delivery=Delivery(
        (
            "AWSLogs/{account}/vpcflowlogs/{region}/{year}/{month}/{day}",
            "AWSLogs/aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}/year={year}/month={month}/day={day}",
        ),
        record_bytes=25,
        late_hours=2,
    ),
    keys=(
        r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>vpcflowlogs)/(?P<region>[^/]+)/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/",
        r"/aws-account-id=(?P<account>[^/]+)/aws-service=(?P<kind>vpcflowlogs)/aws-region=(?P<region>[^/]+)/"
        r"year=(?P<year>\d{4})/month=(?P<month>\d\d)/day=(?P<day>\d\d)/",
        r"/(?P<account>\d{12})_(?P<kind>vpcflowlogs)_(?P<region>[^_/]+)_(?:[^/]*_)?(?P<date>\d{8})T\d{4,6}Z",
    ),
    marks=Marks(
        members=(Having(any_of=("interface_id", "srcaddr"), any_case=True),),
        lines=(
            r"[2-9] (?:\d{12}|unknown|-) eni-[0-9a-z]+(?: \S+){7} \d+ \d+ (?:ACCEPT|REJECT|-) (?:OK|NODATA|SKIPDATA)",
            r"[2-9] TransitGateway (?:\d{12}|unknown|-) tgw-[0-9a-z]+(?: \S+){32}",
        ),
        columns=frozenset("srcaddr dstaddr pkt_srcaddr interface_id log_status srcport action".split()),
    ),
    switches=(Switches("ec2.amazonaws.com", off=("DeleteFlowLogs",), on=("CreateFlowLogs",)),),
)
