"""What GuardDuty saw, where `ProductFields` says it: texts by path, which the published example has in place of `Action`.

Source: AWS's mapping, https://github.com/ocsf/examples (mappings/markdown/AWS/v1.1.0/Security Hub/Detection Finding).
"""

from ocsf_mappers import (
    Column,
    Expr,
    Fields,
    Obj,
    coalesce,
    col,
    connection_protocol,
    element,
    list_of,
    obj,
    outer,
    when,
)

API, KUBERNETES, CONNECTION = "action/awsApiCallAction", "action/kubernetesApiCallAction", "action/networkConnectionAction"
QUERY, PROCESS = "action/dnsRequestAction", "runtimeDetails/process"


def detail(path: str, fields: Column = outer.ProductFields) -> Expr:
    """A detail of GuardDuty's; an empty text says nothing."""
    value = fields.json(f"aws/guardduty/service/{path}")
    return value.where(value != "")


def listed(path: str, *, unless: Expr | None = None) -> Expr:
    """A list of the detail, of which an evidence is made; none where `Action` has it."""
    value = detail(path, col.ProductFields)
    return value if unless is None else value.where(~unless)


def address(at: str) -> Expr:
    """The address of an endpoint."""
    return coalesce(detail(f"{at}/ipAddressV4"), detail(f"{at}/ipAddressV6"))


def place(at: str) -> Obj:
    """An address, where it is and whose it is."""
    lat, lon = detail(f"{at}/geoLocation/lat"), detail(f"{at}/geoLocation/lon")
    return obj({
        "ip": address(at),
        "location": obj({
            "city":        detail(f"{at}/city/cityName"),
            "country":     coalesce(detail(f"{at}/country/countryCode"), detail(f"{at}/country/countryName")),
            "coordinates": when(lon.is_not_null() & lat.is_not_null()).then([lon, lat]),
            "lat":         lat,
            "long":        lon,
        }, needs=("city", "country")),
        "autonomous_system.number": detail(f"{at}/organization/asn"),
        "autonomous_system.name":   detail(f"{at}/organization/asnOrg"),
        "isp":                      detail(f"{at}/organization/isp"),
        "isp_org":                  detail(f"{at}/organization/org"),
    }, needs="ip")  # fmt: skip


def end(where: str, side: str) -> Fields:
    """One end of a connection; OCSF wants more of it than a port."""
    at, port = f"{CONNECTION}/{side}IpDetails", detail(f"{CONNECTION}/{side}PortDetails/port")
    unknown = address(at).is_null() & port.is_not_null()
    return {where: place(at), f"{where}.port": port, f"{where}.name": when(unknown).then("unknown")}


LOCAL_IP = address(f"{CONNECTION}/localIpDetails")
"""Our end of a connection, of which `Action` has the port alone."""

CONNECTED: Fields = {
    "connection_info.direction_id": detail(f"{CONNECTION}/connectionDirection").replace(
        INBOUND="Inbound", OUTBOUND="Outbound", UNKNOWN="Unknown"
    ),
    **connection_protocol(detail(f"{CONNECTION}/protocol")),
}
path = detail(f"{PROCESS}/executablePath")
STARTED = obj({
    "name":         detail(f"{PROCESS}/name"),
    "pid":          detail(f"{PROCESS}/pid"),
    "uid":          detail(f"{PROCESS}/uuid"),
    "user.name":    detail(f"{PROCESS}/user"),
    "user.uid":     detail(f"{PROCESS}/userId"),
    "created_time": detail(f"{PROCESS}/startTime").iso8601(),
    "parent_process.uid": detail(f"{PROCESS}/parentUuid"),
    "file": obj({
        "path":    path,
        "name":    coalesce(path.extract("([^/]+)$"), path),
        "type_id": "Regular File",
        "hashes":  list_of(detail(f"{PROCESS}/executableSha256").where(path.is_not_null())).each(
            {"algorithm_id": "SHA-256", "value": element}
        ),
    }, needs="path"),
}, needs=("pid", "uid"))  # fmt: skip


def actions(*, call: Column, connected: Expr, query: Column) -> list[Expr]:
    """The evidences that `Action` does not give.

    Args:
        call: Its call of an API.
        connected: Whether it has a connection.
        query: Its DNS query.
    """
    direction = coalesce(detail(f"{CONNECTION}/connectionDirection", col.ProductFields), "UNKNOWN")
    protocol = listed(f"{CONNECTION}/protocol", unless=connected)
    return [
        list_of(listed(f"{API}/api", unless=call.json("Api").is_not_null())).each({
            "api.operation":      element,
            "api.service.name":   detail(f"{API}/serviceName"),
            "api.response.error": detail(f"{API}/errorCode"),
            "src_endpoint":       place(f"{API}/remoteIpDetails"),
        }),
        # in no member of `Action`
        list_of(listed(f"{KUBERNETES}/verb")).each({
            "api.operation":     element,
            "api.response.code": detail(f"{KUBERNETES}/statusCode"),
            "src_endpoint":      place(f"{KUBERNETES}/remoteIpDetails"),
        }),
        # an inbound connection began at the remote end; of others ours is the source
        list_of(protocol.where(direction == "INBOUND")).each(
            CONNECTED | end("src_endpoint", "remote") | end("dst_endpoint", "local")
        ),
        list_of(protocol.where(direction != "INBOUND")).each(
            CONNECTED | end("dst_endpoint", "remote") | end("src_endpoint", "local")
        ),
        list_of(listed(f"{QUERY}/domain", unless=query.json("Domain").is_not_null())).each({
            "query.hostname": element,
            "connection_info.direction_id": when(detail(f"{QUERY}/protocol").is_not_null()).then("Unknown"),
            **connection_protocol(detail(f"{QUERY}/protocol")),
        }),
        list_of(coalesce(listed(f"{PROCESS}/pid"), listed(f"{PROCESS}/uuid"))).each({"actor.process": STARTED}),
    ]  # fmt: skip
