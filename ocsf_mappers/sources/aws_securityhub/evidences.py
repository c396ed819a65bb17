"""What a detection has seen: `evidences`. The whole of each detail stands beside its attributes in `data`."""

from ocsf_mappers import Column, Expr, Fields, Obj, coalesce, col, connection_protocol, element, obj, when
from ocsf_mappers.sources.aws_securityhub.guardduty import LOCAL_IP, actions

action = col.Action
call, connection = action.AwsApiCallAction, action.NetworkConnectionAction
inbound = coalesce(connection.json("ConnectionDirection"), "UNKNOWN") == "INBOUND"
# of an action that was not, Security Hub keeps the empty members: `{"LocalPortDetails": {}}`
connected = coalesce(
    connection.json("ConnectionDirection"), connection.json("Protocol"), connection.json("RemoteIpDetails", "IpAddressV4"),
    connection.json("RemotePortDetails", "Port"), connection.json("LocalPortDetails", "Port"),
).is_not_null()  # fmt: skip


def place(at: Column) -> Obj:
    """An address, where it is and whose it is."""
    lat, lon = at.GeoLocation.Lat, at.GeoLocation.Lon
    return obj({
        "ip": at.IpAddressV4,
        "location": obj({
            "city":        at.City.CityName,
            "country":     coalesce(at.Country.CountryCode, at.Country.CountryName),
            "coordinates": when(lon.is_not_null() & lat.is_not_null()).then([lon, lat]),
            "lat":         lat,
            "long":        lon,
        }, needs=("city", "country")),
        "autonomous_system.number": at.Organization.Asn,
        "autonomous_system.name":   at.Organization.AsnOrg,
        "isp":                      at.Organization.Isp,
        "isp_org":                  at.Organization.Org,
    }, needs="ip")  # fmt: skip


def end(where: str, ip: Expr, port: Expr) -> Fields:
    """An endpoint of which OCSF wants more than a port."""
    return {f"{where}.port": port, f"{where}.name": when(ip.is_null() & port.is_not_null()).then("unknown")}


REMOTE = col.RemoteIpDetails.IpAddressV4
CONNECTION: Fields = {
    "connection_info.direction_id": col.ConnectionDirection.replace(INBOUND="Inbound", OUTBOUND="Outbound", UNKNOWN="Unknown"),
    **connection_protocol(col.Protocol),
    "data": element,
}

domain = col.DomainDetails.Domain
EVIDENCES = [
    call.where(call.json("Api").is_not_null()).each({
        "api.operation":    col.Api,
        "api.service.name": col.ServiceName,
        "src_endpoint":     place(col.RemoteIpDetails),
        # through OCSF 1.3 an endpoint needs more than a domain
        "src_endpoint.domain":   domain,
        "src_endpoint.svc_name": domain.where(domain.ends_with(".amazonaws.com")),
        "src_endpoint.hostname": domain.where(~domain.ends_with(".amazonaws.com")),
        "data": element,
    }),
    # an inbound connection began at the remote end; of others ours is the source
    connection.where(connected & inbound).each(CONNECTION | {
        "src_endpoint": place(col.RemoteIpDetails),
        **end("src_endpoint", REMOTE, col.RemotePortDetails.Port),
        "dst_endpoint.ip": LOCAL_IP,
        **end("dst_endpoint", LOCAL_IP, col.LocalPortDetails.Port),
    }),
    connection.where(connected & ~inbound).each(CONNECTION | {
        "dst_endpoint": place(col.RemoteIpDetails),
        **end("dst_endpoint", REMOTE, col.RemotePortDetails.Port),
        "src_endpoint.ip": LOCAL_IP,
        **end("src_endpoint", LOCAL_IP, col.LocalPortDetails.Port),
    }),
    action.DnsRequestAction.each({
        "query.hostname": col.Domain,
        "connection_info.direction_id": when(col.Protocol.is_not_null()).then("Unknown"),
        **connection_protocol(col.Protocol),
        "data": element,
    }),
    action.PortProbeAction.json("PortProbeDetails").each({
        "connection_info.direction_id": when(element.is_not_null()).then("Inbound"),
        "src_endpoint": place(col.RemoteIpDetails),
        "dst_endpoint.ip": col.LocalIpDetails.IpAddressV4,
        **end("dst_endpoint", col.LocalIpDetails.IpAddressV4, col.LocalPortDetails.Port),
        "data": element,
    }),
    # retired, and still sent by partners' products
    col.Network.each({
        "connection_info.direction_id": col.Direction.replace(IN="Inbound", OUT="Outbound"),
        **connection_protocol(col.Protocol),
        "src_endpoint.ip":     coalesce(col.SourceIpV4, col.SourceIpV6),
        "src_endpoint.domain": col.SourceDomain,
        "src_endpoint.mac":    col.SourceMac,
        **end("src_endpoint", coalesce(col.SourceIpV4, col.SourceIpV6), coalesce(col.SourcePort, col.SourceDomain, col.SourceMac)),
        "src_endpoint.port":   col.SourcePort,
        "dst_endpoint.ip":     coalesce(col.DestinationIpV4, col.DestinationIpV6),
        "dst_endpoint.domain": col.DestinationDomain,
        **end("dst_endpoint", coalesce(col.DestinationIpV4, col.DestinationIpV6), coalesce(col.DestinationPort, col.DestinationDomain)),
        "dst_endpoint.port":   col.DestinationPort,
        "data": element,
    }),
    col.Process.each({
        "actor.process": {
            "pid":          col.Pid,
            # OCSF wants a number or an id of a process
            "uid":          when(col.Pid.is_null()).then(coalesce(col.Path, col.Name)),
            "name":         col.Name,
            "created_time": col.LaunchedAt.iso8601(),
            "parent_process.pid": col.ParentPid,
            "file": obj({
                "path":    col.Path,
                "name":    coalesce(col.Path.extract(r"([^/\\]+)$"), col.Path),
                "type_id": "Regular File",
            }, needs="path"),
        },
        "data": element,
    }),
    col.Malware.each({
        "file": obj({
            "path":    col.Path,
            "name":    coalesce(col.Path.extract(r"([^/\\]+)$"), col.Path),
            "type_id": "Unknown",
        }, needs="path"),
        "data": element,
    }),
    *(seen.each({"data": element}) for seen in (
        col.Threats, col.ThreatIntelIndicators, col.NetworkPath, col.Detection.json("Sequence"),
    )),
    *actions(call=call, connected=connected, query=action.DnsRequestAction),
]  # fmt: skip
