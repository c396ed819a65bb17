"""The story as VPC Flow Logs tell it: one network with the default format, one with a custom version 5 format.

Format: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
The sample is thinned: of every two hours one five-minute file, and all files around the intrusion.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from story.cast import (
    APP_1,
    APP_2,
    BASTION,
    BUILD_NETWORK,
    CACHE,
    CUSTOMERS,
    CUSTOMERS_6,
    DATABASE,
    DAYS,
    INTRUDER,
    MONDAY,
    NAT,
    NETWORKS,
    OBJECT_STORE,
    OFFICE,
    PACKAGES,
    PAYMENTS,
    RUNNER_1,
    RUNNER_2,
    SCANNERS,
    SHOP_NETWORK,
    SPARE,
    STANDBY,
    STEPS,
    TUESDAY,
    WEB_1,
    WEB_2,
    WEDNESDAY,
    Delivered,
    Dice,
    Host,
    Network,
    moment,
)

TCP, UDP, ICMP, ICMP_6 = 6, 17, 1, 58
SYN, FIN, SYN_ACK = 2, 1, 18
SAME_VPC, GATEWAY_ENDPOINT, INTERNET = "1", "7", "8"
WINDOW = timedelta(minutes=5)
ZONES = {"eu-central-1": "euc1-az{}", "us-east-1": "use1-az{}"}
LINES_PER_FILE = 60


@dataclass(frozen=True)
class Flow:
    """One line: one direction of one conversation, seen at one network interface in one minute."""

    host: Host
    outbound: bool
    src: str
    dst: str
    srcport: int
    dstport: int
    protocol: int
    packets: int
    size: int
    start: datetime
    end: datetime
    action: str = "ACCEPT"
    flags: int = 0
    path: str = "-"
    pkt_src: str = ""
    pkt_dst: str = ""
    src_service: str = "-"
    dst_service: str = "-"
    status: str = "OK"

    def line(self) -> str:
        """Write the line in the format of the host's network."""
        values = self.empty() if self.status != "OK" else self.values()
        return " ".join(values.get(field, "-") for field in self.host.network.fields.split())

    def empty(self) -> dict[str, str]:
        """Give what a NODATA or SKIPDATA line still says."""
        custom = self.host.network is SHOP_NETWORK
        return {
            "version": "5" if custom else "2",
            "account-id": self.host.network.account.uid,
            "interface-id": self.host.interface,
            "start": str(int(self.start.timestamp())),
            "end": str(int(self.end.timestamp())),
            "log-status": self.status,
        }

    def values(self) -> dict[str, str]:
        """Give every field that a format may ask for."""
        network = self.host.network
        return self.empty() | {
            "srcaddr": self.src,
            "dstaddr": self.dst,
            "srcport": str(self.srcport),
            "dstport": str(self.dstport),
            "protocol": str(self.protocol),
            "packets": str(self.packets),
            "bytes": str(self.size),
            "action": self.action,
            "vpc-id": network.vpc,
            "subnet-id": self.host.subnet,
            "instance-id": self.host.instance_id,
            "tcp-flags": str(self.flags),
            "type": "IPv6" if ":" in self.src else "IPv4",
            "pkt-srcaddr": self.pkt_src or self.src,
            "pkt-dstaddr": self.pkt_dst or self.dst,
            "region": network.region,
            "az-id": ZONES[network.region].format(self.host.zone + 1),
            "pkt-src-aws-service": self.src_service,
            "pkt-dst-aws-service": self.dst_service,
            "flow-direction": "egress" if self.outbound else "ingress",
            "traffic-path": self.path if self.outbound else "-",
        }


def answer(flow: Flow, packets: int, size: int, path: str = INTERNET) -> Flow:
    """Give the opposite direction of a flow, at the same interface and time."""
    return replace(
        flow,
        outbound=not flow.outbound,
        src=flow.dst,
        dst=flow.src,
        srcport=flow.dstport,
        dstport=flow.srcport,
        packets=packets,
        size=size,
        flags=flow.flags | SYN_ACK if flow.flags & SYN else flow.flags,
        path=path,
        pkt_src=flow.pkt_dst,
        pkt_dst=flow.pkt_src,
        src_service=flow.dst_service,
        dst_service=flow.src_service,
    )


def elsewhere(flow: Flow, host: Host) -> Flow:
    """Give the same packets as the interface at the other end sees them."""
    return replace(flow, host=host, outbound=not flow.outbound, path=SAME_VPC)


# --- ordinary traffic ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """Five minutes of one network."""

    dice: Dice
    opens: datetime

    @property
    def busy(self) -> bool:
        """Whether Europe is awake."""
        return 7 <= self.opens.hour <= 21

    def minute(self) -> tuple[datetime, datetime]:
        """Give the start and end of a line; the end lies inside the five minutes, the start perhaps before."""
        end = self.opens + timedelta(seconds=self.dice.between(0, 299))
        return end - timedelta(seconds=self.dice.between(4, 58)), end

    def flow(self, host: Host, src: str, dst: str, dstport: int, protocol: int = TCP, *, size: int = 900) -> Flow:
        """Give one whole conversation's client side, seen at a host."""
        start, end = self.minute()
        size = self.dice.between(size // 2, size * 2)
        sport = 0 if protocol in (ICMP, ICMP_6) else self.dice.between(32768, 60999)
        outbound = src in (host.address, host.address6)
        flags = SYN | FIN if protocol == TCP else 0
        packets = self.dice.between(max(2, size // 700), max(4, size // 300))
        path = INTERNET if outbound else "-"
        return Flow(
            host, outbound, src, dst, sport, dstport, protocol, packets, size, start, end, flags=flags, path=path
        )


def customers(now: Moment) -> Iterator[Flow]:
    """Tell how readers browse the shop, over IPv4 and IPv6."""
    for _ in range(now.dice.between(5, 8) if now.busy else now.dice.between(2, 4)):
        web = now.dice.pick((WEB_1, WEB_2))
        visit = now.flow(web, now.dice.pick(CUSTOMERS), web.address, 443, size=4_000)
        yield visit
        yield answer(visit, visit.packets * 2, visit.size * now.dice.between(6, 20))
    if now.busy:
        visit = now.flow(WEB_1, now.dice.pick(CUSTOMERS_6), WEB_1.address6, 443, size=4_000)
        yield visit
        yield answer(visit, visit.packets * 2, visit.size * now.dice.between(6, 20))


def inside(now: Moment, client: Host, server: Host, port: int, size: int) -> Iterator[Flow]:
    """Tell a conversation between two hosts of one network: four lines, two at each interface."""
    request = replace(now.flow(client, client.address, server.address, port, size=size), path=SAME_VPC)
    reply = answer(request, request.packets + 3, request.size * now.dice.between(2, 9), SAME_VPC)
    yield from (request, reply, elsewhere(request, server), elsewhere(reply, server))


def shop_tiers(now: Moment) -> Iterator[Flow]:
    """Tell how the web servers ask the application, and the application the database."""
    for web, app in ((WEB_1, APP_1), (WEB_2, APP_2)):
        yield from inside(now, web, app, 8080, 9_000)
        yield from inside(now, app, DATABASE, 5432, 5_000)


def object_store(now: Moment) -> Iterator[Flow]:
    """Tell how the application writes orders to Amazon S3 through the gateway endpoint."""
    upload = now.flow(APP_1, APP_1.address, OBJECT_STORE, 443, size=30_000)
    upload = replace(upload, dst_service="S3", path=GATEWAY_ENDPOINT)
    yield upload
    yield answer(upload, upload.packets // 2 + 1, 2_000)


def payments(now: Moment) -> Iterator[Flow]:
    """Tell how the application reaches the payment provider through the NAT gateway."""
    ask = replace(now.flow(APP_2, APP_2.address, PAYMENTS, 443, size=3_000), path=SAME_VPC)
    reply = answer(ask, ask.packets + 1, 5_200)
    yield from (ask, reply)
    port = now.dice.between(1024, 60999)
    inner = replace(ask, host=NAT, outbound=False, dst=NAT.address, pkt_dst=PAYMENTS, path="-")
    outer = replace(ask, host=NAT, src=NAT.address, srcport=port, path=INTERNET)
    back = answer(outer, reply.packets, reply.size)
    home = replace(reply, host=NAT, outbound=True, src=NAT.address, pkt_src=PAYMENTS, path=SAME_VPC)
    yield from (inner, outer, back, home)


def scanners(now: Moment, targets: tuple[Host, ...]) -> Iterator[Flow]:
    """Tell how strangers knock at closed ports."""
    for _ in range(now.dice.between(2, 5)):
        host = now.dice.pick(targets)
        port = now.dice.pick((22, 23, 445, 1433, 3389, 5900, 6379, 8443))
        knock = now.flow(host, now.dice.pick(SCANNERS), host.address, port, size=60)
        yield replace(knock, action="REJECT", packets=1, size=now.dice.pick((40, 44, 60)), flags=SYN)


def administration(now: Moment) -> Iterator[Flow]:
    """Tell how the office pings the web server and, in working hours, uses the bastion."""
    ping = now.flow(WEB_1, OFFICE, WEB_1.address, 0, ICMP, size=336)
    yield ping
    yield answer(ping, ping.packets, ping.size)
    if 8 <= now.opens.hour <= 16 and now.dice.between(0, 1):
        shell = now.flow(BASTION, OFFICE, BASTION.address, 22, size=6_000)
        yield shell
        yield answer(shell, shell.packets, shell.size * 2)


def silence(now: Moment, host: Host, status: str) -> Flow:
    """Give a line that carries no flow."""
    start, end = now.minute()
    return Flow(host, False, "-", "-", 0, 0, 0, 0, 0, start, end, status=status)


def shop_traffic(now: Moment) -> Iterator[Flow]:
    """Tell five ordinary minutes of the shop."""
    for scene in (customers, shop_tiers, object_store, payments, administration):
        yield from scene(now)
    yield from scanners(now, (WEB_1, WEB_2, BASTION))
    yield silence(now, STANDBY, "NODATA")
    if now.opens == moment(TUESDAY, "12:00:00"):
        yield silence(now, WEB_2, "SKIPDATA")


def build_traffic(now: Moment) -> Iterator[Flow]:
    """Tell five ordinary minutes of the build network."""
    for runner in (RUNNER_1, RUNNER_2):
        for _ in range(now.dice.between(2, 5) if now.busy else 1):
            fetch = now.flow(runner, runner.address, PACKAGES, 443, size=2_500)
            yield fetch
            yield answer(fetch, fetch.packets * 9, fetch.size * now.dice.between(40, 90))
        yield from inside(now, runner, CACHE, 6379, 15_000)
        clock = now.flow(runner, runner.address, "198.51.100.123", 123, UDP, size=76)
        yield replace(clock, srcport=123)
        yield replace(answer(clock, 1, 76), dstport=123)
    yield from scanners(now, (RUNNER_1, RUNNER_2))
    yield silence(now, SPARE, "NODATA")
    if now.opens == moment(WEDNESDAY, "16:00:00"):
        yield silence(now, CACHE, "SKIPDATA")


# --- the intrusion ---------------------------------------------------------------------------------------------------


def knocks() -> Iterator[Flow]:
    """Tell the rejected attempts on ports 22 and 3389 of the bastion."""
    dice = Dice("vpc flow", "knocks")
    at, port = STEPS["first_knock"].at, 22
    while at <= STEPS["last_knock"].at:
        end = at + timedelta(seconds=15)
        sport = dice.between(40000, 60000)
        yield Flow(BASTION, False, INTRUDER, BASTION.address, sport, port, TCP, 3, 180, at, end, "REJECT", SYN)
        at, port = at + timedelta(seconds=24), 3389 if port == 22 else 22


def minutes(first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Give the one-minute slices of a long conversation, as Nitro instances report it."""
    while first <= last:
        end = min(first.replace(second=59), last)
        yield first, end
        first = end + timedelta(seconds=1)


def flags_of(start: datetime, end: datetime, first: datetime, last: datetime) -> int:
    """Give the TCP flags of a slice: SYN in the first, FIN in the last."""
    return (SYN if start == first else 0) | (FIN if end == last else 0)


def shell() -> Iterator[Flow]:
    """Tell the SSH session from the intruder's address to the bastion."""
    dice = Dice("vpc flow", "shell")
    first, last = STEPS["ssh"].at, STEPS["last_ssh"].at
    for start, end in minutes(first, last):
        flags = flags_of(start, end, first, last)
        packets = dice.between(20, 90)
        size = packets * dice.between(70, 110)
        typed = Flow(BASTION, False, INTRUDER, BASTION.address, 51544, 22, TCP, packets, size, start, end, flags=flags)
        yield typed
        yield answer(typed, packets + dice.between(0, 20), size * 3)


def database_copy() -> Iterator[Flow]:
    """Tell how the bastion, which never spoke to the database before, reads it for six minutes."""
    dice = Dice("vpc flow", "database copy")
    first = STEPS["database"].at
    last = first + timedelta(minutes=6, seconds=-1)
    for start, end in minutes(first, last):
        flags = flags_of(start, end, first, last)
        ask = Flow(
            BASTION,
            True,
            BASTION.address,
            DATABASE.address,
            44810,
            5432,
            TCP,
            9_000,
            620_000,
            start,
            end,
            flags=flags,
            path=SAME_VPC,
        )
        size = dice.between(760_000_000, 800_000_000)
        reply = answer(ask, size // 8_900, size, SAME_VPC)
        yield from (ask, reply, elsewhere(ask, DATABASE), elsewhere(reply, DATABASE))


def egress() -> Iterator[Flow]:
    """Tell the large transfer from the bastion to the intruder's address."""
    dice = Dice("vpc flow", "egress")
    first = STEPS["egress"].at
    last = first + timedelta(minutes=20, seconds=-1)
    for start, end in minutes(first, last):
        flags = flags_of(start, end, first, last)
        size = dice.between(228_000_000, 240_000_000)
        sent = Flow(
            BASTION,
            True,
            BASTION.address,
            INTRUDER,
            49822,
            443,
            TCP,
            size // 1_440,
            size,
            start,
            end,
            flags=flags,
            path=INTERNET,
        )
        yield sent
        yield answer(sent, sent.packets // 20, sent.packets // 20 * 52)


def intrusion() -> Iterator[Flow]:
    """Tell all that the network saw of the intruder."""
    for scene in (knocks, shell, database_copy, egress):
        yield from scene()


# --- delivery --------------------------------------------------------------------------------------------------------


def windows(network: Network) -> list[datetime]:
    """Give the five-minute windows that the sample keeps, in order."""
    kept = {moment(day, f"{hour:02}:00:00") for day in DAYS for hour in range(0, 24, 2)}
    kept.remove(moment(MONDAY, "00:00:00"))
    if network is SHOP_NETWORK:
        kept |= {moment(WEDNESDAY, "02:40:00") + WINDOW * n for n in range(11)}
    return sorted(kept)


def traffic(network: Network) -> Iterator[Flow]:
    """Tell everything that one network saw."""
    scene = build_traffic if network is BUILD_NETWORK else shop_traffic
    for opens in windows(network):
        yield from scene(Moment(Dice("vpc flow", network.name, opens.isoformat()), opens))
    if network is SHOP_NETWORK:
        yield from intrusion()


def window_of(flow: Flow) -> datetime:
    """Give the five minutes in which a line ends: the time in its file's name."""
    return flow.end.replace(minute=flow.end.minute // 5 * 5, second=0)


def deliver() -> list[Delivered]:
    """Give the objects that the flow logs write; a full window is split over several files."""
    objects = []
    for network in NETWORKS:
        files: dict[datetime, list[Flow]] = defaultdict(list)
        for flow in traffic(network):
            files[window_of(flow)].append(flow)
        for opens, flows in sorted(files.items()):
            lines = Dice("vpc flow", "file", network.name, opens.isoformat()).shuffled([flow.line() for flow in flows])
            parts = range(0, len(lines), LINES_PER_FILE)
            objects += [delivered(network, opens, part, lines[part : part + LINES_PER_FILE]) for part in parts]
    return objects


def delivered(network: Network, opens: datetime, part: int, lines: list[str]) -> Delivered:
    """Give one object, header line first."""
    account, region = network.account.uid, network.region
    suffix = Dice("vpc flow", "suffix", network.name, opens.isoformat(), str(part)).hex(8)
    name = f"{account}_vpcflowlogs_{region}_{network.flow_log}_{opens:%Y%m%dT%H%MZ}_{suffix}.log.gz"
    content = "\n".join([network.fields, *lines]) + "\n"
    return Delivered(f"AWSLogs/{account}/vpcflowlogs/{region}/{opens:%Y/%m/%d}/{name}", content.encode())
