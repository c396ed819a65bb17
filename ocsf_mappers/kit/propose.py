"""An OCSF class and rows proposed for what a sample shows: mapped where name and values give it away."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from ocsf_mappers.errors import ConfigError, nearest
from ocsf_mappers.kit.look import Member
from ocsf_mappers.ocsf import schema, shipped

NEAR = 3
"""So many attributes are named for a member that nothing gives away."""
DEPTH = 3
"""Attributes are looked for so deep in the objects of a class."""

CLASSES: Mapping[str, str] = {
    "dns_activity": "query question qname qtype rcode answer answers nxdomain resolver",
    "http_activity": "method status uri url path referer referrer agent http ssl tls cookie host",
    "network_activity": "srcip dstip src dst srcaddr dstaddr srcport dstport port protocol packets bytes flow action",
    "api_activity": "operation api event request requestparameters verb resource eventname eventsource parameters",
    "authentication": "login logon logout signin session mfa password auth authentication",
    "account_change": "user created deleted group attached policy",
    "detection_finding": "finding severity title rule alert threat signature detection tactic technique",
    "compliance_finding": "compliance control standard check passed failed",
    "vulnerability_finding": "cve vulnerability cvss package fix",
    "datastore_activity": "sql query statement database table db rows",
    "file_activity": "file filename directory",
    "process_activity": "process pid ppid cmdline command",
    "email_activity": "email from to subject smtp",
}
"""Class -> words in the names of members that speak for it."""
FALLBACK = "base_event"
NEARLY = 0.7
"""A class that so large a part of the best one's words speaks for is taken where nothing required is missing."""

ADDRESS, PORT, TIME = "address", "number", "time"

_HINTS: Sequence[tuple[str, str | None, Sequence[str]]] = (
    # (names, look that values must have, attributes in order of preference)
    (r"((src|source|client|remote|caller|c|peer|from|orig)?_?(ip|addr|address|ip_address))"
     r"|saddr|src|source|client|remote|caller",
     ADDRESS, ("src_endpoint.ip", "device.ip")),
    (r"((dst|dest|destination|server|target|s|to|resp)_?(ip|addr|address|ip_address)?)|daddr",
     ADDRESS, ("dst_endpoint.ip",)),
    (r"((src|source|client|remote|c|s|orig)?_?port)|spt", PORT, ("src_endpoint.port",)),
    (r"((dst|dest|destination|server|target|d|resp)_?port)|dpt", PORT, ("dst_endpoint.port",)),
    (r"(http_?)?(request_?)?(method|verb)", "HTTP method", ("http_request.http_method",)),
    (r".*user_?agent", None, ("http_request.user_agent",)),
    (r"(request_?)?(uri|url)", "URL", ("http_request.url.url_string",)),
    (r"(request_?)?(uri|url|path|uri_stem)", "path", ("http_request.url.path",)),
    (r"refer+er", None, ("http_request.referrer",)),
    (r"(http_?)?host", "host", ("http_request.url.hostname", "src_endpoint.hostname", "device.hostname")),
    (r"(http_?)?(response_?)?(sc_?)?(status|code|status_code|response_code)", "HTTP status", ("http_response.code",)),
    (r"(query_?name|qname|question|query|name|domain)", "host", ("query.hostname",)),
    (r"(query_?type|qtype|type)", None, ("query.type",)),
    (r"(query_?class|qclass)", None, ("query.class",)),
    (r"proto(col)?|transport", "number", ("connection_info.protocol_num",)),
    (r"proto(col)?|transport", None, ("connection_info.protocol_name",)),
    (r"bytes|num_bytes|octets", "number", ("traffic.bytes",)),
    (r"(bytes_?(in|received|recv))|(in_?bytes)", "number", ("traffic.bytes_in",)),
    (r"(bytes_?(out|sent))|(out_?bytes)", "number", ("traffic.bytes_out",)),
    (r"packets|num_packets", "number", ("traffic.packets",)),
    (r"user_?name|user|principal|login|account_?name|username", "email", ("actor.user.email_addr", "user.email_addr")),
    (r"user_?name|user|principal|login|username", None, ("actor.user.name", "user.name")),
    (r"user_?id|principal_?id|uid|userid", None, ("actor.user.uid", "user.uid")),
    (r".*", "ARN", ("actor.user.uid", "user.uid")),
    (r"email(_?addr(ess)?)?", None, ("actor.user.email_addr", "user.email_addr")),
    (r"(event_?name|operation|operation_?name|action|api|api_?call|command)", None, ("api.operation",)),
    (r"(event_?source|service|service_?name)", None, ("api.service.name",)),
    (r"request_?id|trace_?id|correlation_?id", None, ("api.request.uid", "metadata.correlation_uid")),
    (r"(event_?)?(id|uid|uuid|guid)", None, ("finding_info.uid", "metadata.uid")),
    (r"finding_?id", None, ("finding_info.uid", "metadata.uid")),
    (r"error_?code", None, ("api.response.error", "status_code")),
    (r"error(_?message)?", None, ("api.response.error_message", "status_detail")),
    (r"(aws_?)?(account|account_?id|owner_?id|accountid)", "account", ("cloud.account.uid",)),
    (r"(aws_?)?region", "region", ("cloud.region",)),
    (r"vpc(_?id)?", None, ("src_endpoint.vpc_uid",)),
    (r"subnet(_?id)?", None, ("src_endpoint.subnet_uid",)),
    (r"instance(_?id)?", None, ("src_endpoint.instance_uid", "device.instance_uid")),
    (r"session(_?id)?", None, ("actor.session.uid", "session.uid")),
    (r"title|finding|name", None, ("finding_info.title",)),
    (r"desc(ription)?", None, ("finding_info.desc", "message")),
    (r"(message|msg|log)", None, ("message",)),
    (r"start(_?time)?|first_?seen(_?at)?|began?|begin", TIME, ("start_time",)),
    (r"end(_?time)?|last_?seen(_?at)?|ended", TIME, ("end_time",)),
    (r"duration(_?ms)?", "number", ("duration",)),
    (r"(log_?)?version|schema_?version", None, ("metadata.product.version",)),
    (r"count", "number", ("count",)),
)  # fmt: skip
"""What names and values give away, the surest first."""

_TIME_NAMES = r"@?(event_?)?(time|timestamp|ts|at|date|datetime|created(_?at)?|occurred(_?at)?|logged(_?at)?)"


@dataclass
class Row:
    """One member, and what is proposed for it.

    Args:
        member: The member.
        path: Where it goes; None where nothing gives it away.
        expression: What is made of it, where that is more than the column; `{0}` stands for that.
        near: Attributes that are called alike, for a row that is left to the author.
    """

    member: Member
    path: str | None = None
    expression: str = "{0}"
    near: Sequence[str] = ()


@dataclass
class Proposal:
    """A class for the events of a source, with rows for every member.

    Args:
        event_class: Name of the class.
        reason: Why this one.
        rows: One for each member.
        missing: Attributes that OCSF requires of the class and nothing gives away.
        unknown: Those of them that may be said to be unknown.
        activities: What `activity_id` may be.
        version: The first OCSF version with the class.
        cloud: Whether its events have the profile `cloud`.
    """

    event_class: str
    reason: str
    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    activities: list[str] = field(default_factory=list)
    version: str = ""
    cloud: bool = False

    def row_of(self, path: str) -> Row | None:
        """The row that fills an attribute."""
        return next((row for row in self.rows if row.path == path), None)


def propose(name: str, members: Sequence[Member], event_class: str | None = None) -> Proposal:
    """The class that the members speak for, or the one that is wanted, with their rows.

    Of classes that are nearly as likely as the best, the first is taken whose required attributes are all given away.

    Args:
        name: Of the source; one of `aws_` is a cloud's.
        members: What the records have.
        event_class: Name or uid of the class that is wanted.

    Raises:
        ConfigError: There is no such class.
    """
    cloud = name.startswith("aws_")
    if event_class is not None:
        return _proposal(_class_name(event_class), "it was asked for", members, cloud)
    words = {word for member in members for word in _words(member.name)}
    shared_words = {candidate: sorted(words & set(typical.split())) for candidate, typical in CLASSES.items()}
    best = None
    for candidate in sorted(shared_words, key=lambda candidate: -len(shared_words[candidate])):
        score = len(shared_words[candidate])
        if score < 2 or (best is not None and score < NEARLY * len(shared_words[best.event_class])):
            break
        proposal = _proposal(candidate, f"the members speak of {', '.join(shared_words[candidate])}", members, cloud)
        best = best or proposal
        if not proposal.missing:
            return proposal
    if best is not None:
        return best
    return _proposal(FALLBACK, "no class can be guessed from the members; name one with --class", members, cloud)


def _class_name(event_class: str) -> str:
    names: dict[str, str] = {}
    for version in shipped.versions():
        for name, item in schema.load(version).classes.items():
            names |= {name: name, str(item.uid): name}
    if event_class not in names:
        raise ConfigError(f"OCSF has no class {event_class!r}{nearest(event_class, names)}")
    return names[event_class]


def _proposal(name: str, reason: str, members: Sequence[Member], cloud: bool) -> Proposal:
    """The rows under the profile `cloud` where the source, or a member of it, is a cloud's; without it otherwise."""
    proposal = _rows(name, reason, members, frozenset({"datetime", "cloud"}))
    proposal.cloud = cloud or any(proposal.row_of(path) for path in ("cloud.account.uid", "cloud.region"))
    return proposal if proposal.cloud else _rows(name, reason, members, frozenset({"datetime"}))


def _rows(name: str, reason: str, members: Sequence[Member], profiles: frozenset[str]) -> Proposal:
    ocsf = next(ocsf for ocsf in map(schema.load, shipped.versions()) if name in ocsf.classes)
    attributes = _attributes(name, ocsf.version, profiles)
    proposal = Proposal(name, reason, version=ocsf.version)
    activity = ocsf.classes[name].attributes["activity_id"].enum or {}
    proposal.activities = [caption for number, caption in activity.items() if number not in ("0", "99")]
    used: set[str] = set()
    times = sorted((member for member in members if time_call(member)), key=_how_much_a_time, reverse=True)
    for member in members:
        row = Row(member)
        if times and member is times[0]:
            row.path, row.expression = "time", f"{{0}}.{time_call(member)}"
        elif not member.is_json:
            row.path = _path_for(member, attributes, used)
            if row.path is not None and (call := time_call(member)) and attributes[row.path] == "timestamp_t":
                row.expression = f"{{0}}.{call}"
        if row.path is None:
            row.near = _near(member, attributes)
        else:
            used.add(row.path)
        proposal.rows.append(row)
    # a URL that was asked for says where
    url = proposal.row_of("http_request.url.url_string")
    if url is not None and url.expression == "{0}" and not _filled("dst_endpoint", used):
        proposal.rows.append(Row(url.member, "dst_endpoint.hostname", "{0}.extract(r\"^[a-z]+://([^/:?#]+)\")"))
        used.add("dst_endpoint.hostname")
    for path, attribute in _required(ocsf, ocsf.classes[name], used):
        (proposal.unknown if "0" in (attribute.enum or {}) else proposal.missing).append(path)
    if not times:
        proposal.missing.append("time")
    return proposal


@cache
def _attributes(event_class: str, version: str, profiles: frozenset[str]) -> Mapping[str, str]:
    """Path -> type of the single values of a class, those in lists left out."""
    ocsf = schema.load(version)
    types: dict[str, str] = {}

    def enter(holder: schema.ObjectType, before: str, depth: int) -> None:
        for name, attribute in holder.attributes.items():
            path = f"{before}{name}"
            if attribute.profiles and not attribute.profiles & profiles:
                continue
            if attribute.object is None:
                if not attribute.is_array:
                    types[path] = attribute.type
            elif not attribute.is_array and depth < DEPTH and (inner := ocsf.members(attribute)) is not None:
                enter(inner, f"{path}.", depth + 1)

    enter(ocsf.classes[event_class], "", 1)
    return types


_MADE = frozenset(["category_uid", "class_uid", "type_uid", "metadata", "activity_id", "severity_id", "time", "osint"])


def _required(
    ocsf: schema.Schema, holder: schema.ObjectType, used: set[str], before: str = ""
) -> Iterator[tuple[str, schema.Attribute]]:
    """What OCSF requires of the class, and of its objects that are there, and nothing fills."""
    for name, attribute in holder.attributes.items():
        path = f"{before}{name}"
        if path in _MADE or attribute.profiles:
            continue
        if not _filled(path, used):
            if attribute.required:
                yield path, attribute
        elif (inner := ocsf.members(attribute)) is not None:
            yield from _required(ocsf, inner, used, f"{path}.")


def _filled(name: str, used: set[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for path in used)


# -- names ------------------------------------------------------------------------------------------------------------
def _snake(name: str) -> str:
    """`sourceIPAddress` and `source-ip address` as `source_ip_address`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^a-zA-Z0-9@]+", "_", spaced).strip("_").lower()


def _words(name: str) -> list[str]:
    return [word for word in _snake(name).split("_") if word]


def time_call(member: Member) -> str | None:
    """The call of the vocabulary that reads a member's values as times; None where they are none."""
    looks = member.looks or set()
    for look, call in (
        ("time in ISO 8601", "iso8601()"), ("time in seconds", "epoch_seconds(fraction=True)"),
        ("time in milliseconds", "epoch_millis()"), ("time in microseconds", "epoch_micros()"),
    ):  # fmt: skip
        if look in looks:
            return call
    return None


def _how_much_a_time(member: Member) -> tuple[int, bool, int]:
    """The time of an event is in every record, and called so."""
    called = re.fullmatch(_TIME_NAMES, _snake(member.path[-1])) is not None
    return member.count, called, -len(member.path)


def _path_for(member: Member, attributes: Mapping[str, str], used: set[str]) -> str | None:
    looks = member.looks or set()
    names = {_snake(member.path[-1]), _snake(member.name)}
    for pattern, look, paths in _HINTS:
        if look == TIME and time_call(member) is None:
            continue
        if look not in (None, TIME) and look not in looks:
            continue
        if not any(re.fullmatch(pattern, name) for name in names):
            continue
        for path in paths:
            if path in attributes and path not in used and _suits(member, attributes[path]):
                return path
    return None


def _suits(member: Member, kind: str) -> bool:
    """Whether every value is one of the attribute's type."""
    looks = member.looks or set()
    if kind in ("integer_t", "long_t", "port_t", "float_t"):
        return "number" in looks
    return "address" in looks if kind == "ip_t" else True


def _near(member: Member, attributes: Mapping[str, str]) -> list[str]:
    """Attributes that are called alike, the nearest first; captions are chosen by hand, so theirs are named too."""
    name, words = _snake(member.path[-1]), set(_words(member.name))

    def likeness(path: str) -> float:
        last = path.rpartition(".")[2]
        shared = len(words & set(_words(path))) / max(len(words), 1)
        return difflib.SequenceMatcher(None, name, last).ratio() + shared

    ranked = sorted(attributes, key=lambda path: (-likeness(path), len(path)))
    return [path for path in ranked[:NEAR] if likeness(path) > 0.7]
