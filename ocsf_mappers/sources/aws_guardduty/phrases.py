"""What several tables of a finding share: where its parts stand, and objects that occur again and again."""

from ocsf_mappers import (
    PROTOCOL_NAMES,
    PROTOCOL_NUMBERS,
    Column,
    Expr,
    Fields,
    Obj,
    coalesce,
    col,
    element,
    obj,
    outer,
    sql,
    text,
    when,
)

resource, service = col.resource, col.service
action, sequence = service.action, service.detection.sequence
runtime, ebs_scan, malware_scan = service.runtimeDetails, service.ebsVolumeScanDetails, service.malwareScanDetails
details = outer.resource
"""The details of the finding's resource, as elements of a list see them."""


def moment(at: Expr) -> Expr:
    """A time as the export writes it or as the other ways do."""
    return coalesce(at.iso8601(), at.epoch_seconds(fraction=True))


def file_name(path: Expr) -> Expr:
    """The last step of a path."""
    return coalesce(path.extract(r"([^/\\]+)$"), path)


def arn(service_name: str, rest: str, name: Expr) -> Expr:
    """An ARN built from the finding's partition, region and account; null where one of them is missing."""
    return text(f"arn:{{}}:{service_name}:{{}}:{{}}:{rest}{{}}", outer.partition, outer.region, outer.accountId, name)


def labels(tags: Expr) -> Expr:
    """Tags as `key=value`."""
    return tags.each_of(text=text("{}={}", col.key, coalesce(col.value, "")))


def protocol(value: Expr) -> Fields:
    """An IP protocol given by name or number. Zero is what GuardDuty writes where it knows none."""
    name, number = value.lower(), value.matches("^[0-9]+$")
    return {
        "protocol_name": when(~number & name.is_in(*PROTOCOL_NUMBERS)).then(name).when(~number).then(value)
                         .when(number & (value != "0") & value.is_in(*PROTOCOL_NAMES)).then(value.replace(PROTOCOL_NAMES)),
        "protocol_num":  when(number).then(value)
                         .when(name.is_in(*PROTOCOL_NUMBERS)).then(name.replace(PROTOCOL_NUMBERS)),
    }  # fmt: skip


def hashes(fingerprint: Expr) -> Expr:
    """One fingerprint, its algorithm known by its length."""
    return element.each({
        "value":        fingerprint,
        "algorithm_id": when(fingerprint.matches("^[0-9A-Fa-f]{64}$")).then("SHA-256")
                        .when(fingerprint.matches("^[0-9A-Fa-f]{40}$")).then("SHA-1")
                        .when(fingerprint.matches("^[0-9A-Fa-f]{32}$")).then("MD5").otherwise("Unknown"),
    })  # fmt: skip


def sha256(holder: Expr, fingerprint: Expr) -> Expr:
    """The fingerprint of what `holder` describes."""
    return holder.each({"value": fingerprint, "algorithm_id": "SHA-256"})


def file(path: Expr, fingerprint: Expr | None = None) -> Obj:
    """A file; OCSF wants its name."""
    fields: Fields = {"path": path, "name": file_name(path), "type_id": "Unknown"}
    return obj(fields if fingerprint is None else fields | {"hashes": hashes(fingerprint)}, needs="path")


def place(at: Column) -> Obj:
    """An address, where it is and whose it is. Place and network are left out without an address."""
    country, coordinates, organization = at.country, at.geoLocation, at.organization
    lat, lon = coalesce(coordinates.lat, coordinates.latitude), coalesce(coordinates.lon, coordinates.longitude)
    return obj({
        "ip":       coalesce(at.ipAddressV4, at.ipAddressV6),
        "location": obj({
            "city":        at.city.cityName,
            "country":     coalesce(country.countryCode, country.countryName),
            "coordinates": when(lon.is_not_null() & lat.is_not_null()).then([lon, lat]),
            "lat":         lat,
            "long":        lon,
        }, needs=("city", "country")),
        "autonomous_system.number": organization.asn.where(organization.asn != "-1"),
        "autonomous_system.name":   organization.asnOrg,
        "isp":                      organization.isp,
        "isp_org":                  organization.org,
    }, needs="ip")  # fmt: skip


def local(end: str) -> Fields:
    """The endpoint that is ours: an address, an interface, or the resource that the finding is about."""
    ip = coalesce(col.localIpDetails.ipAddressV4, col.localIpDetails.ipAddressV6)
    instance, interface = details.instanceDetails.json("instanceId"), col.localNetworkInterface
    port = col.localPortDetails.port
    # OCSF refuses an endpoint that has but a port
    bare = ip.is_null() & interface.is_null() & instance.is_null() & port.is_not_null()
    return {
        end: {
            "ip":            ip,
            "port":          port,
            "interface_uid": interface,
            "instance_uid":  instance,
            "name":          coalesce(details.lambdaDetails.json("functionName"), when(bare).then("unknown")),
        },
    }  # fmt: skip


def remote(end: str) -> Fields:
    """The endpoint at the other end."""
    ip = coalesce(col.remoteIpDetails.ipAddressV4, col.remoteIpDetails.ipAddressV6)
    port = col.remotePortDetails.port
    return {
        end: place(col.remoteIpDetails),
        f"{end}.port": port,
        f"{end}.name": when(ip.is_null() & port.is_not_null()).then("unknown"),
    }


PARENT = (
    "list_filter(CASE WHEN json_valid({0}) THEN from_json({0}, '[\"JSON\"]') END,"
    " lambda p: json_extract_string(p, '$.uuid') = {1})[1]"
)


def process(at: Column) -> Fields:
    """A process, its user, its file and its parent; OCSF wants a number or an id of it."""
    parent = sql(PARENT, reads=[at.lineage, at.parentUuid])
    return {
        "pid":               at.pid,
        "uid":               coalesce(at.uuid, coalesce(at.executablePath, at.name).where(at.pid.is_null())),
        "name":              at.name,
        "namespace_pid":     at.namespacePid,
        "euid":              at.euid,
        "created_time":      moment(at.startTime),
        "working_directory": at.pwd,
        "user": {"name": at.user, "uid": at.userId},
        "file": obj({
            "path":    at.executablePath,
            "name":    file_name(at.executablePath),
            "type_id": "Regular File",
            "hashes":  sha256(at, col.executableSha256),
        }, needs="path"),
        "parent_process": {
            "uid":  at.parentUuid,
            "name": parent.json("name"),
            "pid":  parent.json("pid"),
            "file": obj({
                "path":    parent.json("executablePath"),
                "name":    file_name(parent.json("executablePath")),
                "type_id": "Regular File",
            }, needs="path"),
        },
        # nearest ancestor first
        "lineage":  at.lineage.each_of("executablePath"),
        "ancestry": at.lineage.each({
            "uid":          coalesce(col.uuid, col.name.where(col.pid.is_null())),
            "pid":          col.pid,
            "name":         col.name,
            "path":         col.executablePath,
            "created_time": moment(col.startTime),
        }),
    }  # fmt: skip
