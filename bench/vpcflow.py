"""Invented VPC flow logs: the default format (version 2) and a custom format with all 29 fields of version 5.

Lines come as AWS writes them, grouped by network interface and aggregation interval. Public addresses come from the
ranges reserved for benchmarks and documentation; interfaces, instances and subnets are made up.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

V2 = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
)
V5 = (
    f"{V2} vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr region az-id sublocation-type "
    "sublocation-id pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path"
)
FIRST_SECOND = 1_741_651_200  # 2025-03-11T00:00:00Z
SPAN_SECONDS = 2 * 86_400
FILE_WINDOW_SECONDS = 600
LINES_PER_INTERVAL = 20
MIXED_LINES = 200  # within about this many lines, the order is arbitrary

_SERVICE_PORTS = (443, 443, 443, 8080, 8080, 5432, 3306, 6379, 9092, 9997, 80, 2049, 27017)
_SCANNED_PORTS = (22, 23, 80, 443, 445, 1433, 3389, 5060, 5555, 6379, 8080, 8443, 8728, 9200)
_AWS = ("S3", "S3", "S3", "DYNAMODB", "EC2", "AMAZON", "AMAZON", "CLOUDFRONT")
_ZONES = ("az1", "az2", "az4")
_POOL = 65_536  # pre-drawn volumes


@dataclass(frozen=True)
class Interface:
    """One network interface and what the custom format says about it."""

    eni: str
    address: str
    address6: str
    place: str  # vpc-id, subnet-id and instance-id
    where: str  # region, az-id and no sublocation


def _hex(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def _volumes() -> list[tuple[int, int]]:
    """Packets and bytes of ordinary flows: mostly small, with a long tail."""
    rng = random.Random("volumes")
    out = []
    for _ in range(_POOL):
        packets = 1 + int(rng.lognormvariate(2.2, 1.6))
        out.append((packets, int(packets * rng.choice((52, 60, 74, 130, 380, 900, 1420)) * rng.uniform(0.9, 1.4))))
    return out


_VOLUMES = _volumes()


def _interfaces(account: str, region: str) -> list[Interface]:
    rng = random.Random(f"{account}/{region}/interfaces")
    continent, side, number = region.split("-")
    vpcs = [f"vpc-0{_hex(rng, 16)}" for _ in range(3)]
    subnets = [(vpcs[n % 3], f"subnet-0{_hex(rng, 16)}", n) for n in range(12)]
    out = []
    for _ in range(300):
        vpc, subnet, n = rng.choice(subnets)
        instance = f"i-0{_hex(rng, 16)}" if rng.random() < 0.7 else "-"
        where = f"{region} {continent}{side[0]}{number}-{_ZONES[n % 3]} - -"
        address = f"10.{n}.{rng.randrange(64)}.{rng.randrange(4, 255)}"
        address6 = f"2001:db8:{n:x}:{rng.randrange(64):x}::{rng.randrange(1, 65536):x}"
        out.append(Interface(f"eni-0{_hex(rng, 16)}", address, address6, f"{vpc} {subnet} {instance}", where))
    return out


def lines(seed: str, count: int, account: str, region: str, start_second: int, *, custom: bool) -> list[str]:
    """The header and the lines of one file.

    Args:
        seed: The same seed and place give the same text.
        count: Lines to make, the header not counted.
        account: Account the file belongs to.
        region: Region the file belongs to.
        start_second: Where the file's window begins, in seconds since the first day.
        custom: The 29 fields of version 5 instead of the 14 of version 2.
    """
    rng = random.Random(seed)
    draw, below = rng.random, rng.randrange
    interfaces = _interfaces(account, region)
    remote = [f"198.{below(18, 20)}.{below(256)}.{below(1, 255)}" for _ in range(6000)]
    scanners = [f"203.0.113.{below(1, 255)}" for _ in range(40)] + [
        f"198.19.{below(256)}.{below(1, 255)}" for _ in range(3000)
    ]
    version = "5" if custom else "2"
    out: list[str] = []
    add = out.append

    def flow(
        nic: Interface, begin: int, end: int, source: str, target: str, sport: int, dport: int, protocol: int,
        packets: int, size: int, action: str, outward: bool, path: str = "-", service: str = "-", flags: int = 0,
        original: str = "",
    ) -> None:  # fmt: skip
        line = (
            f"{version} {account} {nic.eni} {source} {target} {sport} {dport} {protocol} {packets} {size} "
            f"{begin + int(draw() * 4)} {end - int(draw() * 8)} {action} OK"
        )
        if custom:
            kind = "IPv6" if ":" in source else "IPv4"
            services = f"- {service} egress {path}" if outward else f"{service} - ingress -"
            packet_source, packet_target = (original or source, target) if outward else (source, original or target)
            line += f" {nic.place} {flags} {kind} {packet_source} {packet_target} {nic.where} {services}"
        add(line)

    while len(out) < count:
        nic = interfaces[int(len(interfaces) * draw() ** 2)]  # some interfaces are busy, most are not
        begin = FIRST_SECOND + start_second + below(FILE_WINDOW_SECONDS)
        end = begin + below(20, 60)
        if draw() < 0.3:
            status = "NODATA" if draw() < 0.97 else "SKIPDATA"
            line = f"{version} {account} {nic.eni} - - - - - - - {begin} {end} - {status}"
            add(line + f" {nic.place} - - - - {nic.where} - - - -" if custom else line)
            continue
        stop = min(count, len(out) + 1 + int(rng.expovariate(1 / LINES_PER_INTERVAL)))
        while len(out) < stop:
            kind = draw()
            packets, size = _VOLUMES[int(draw() * _POOL)]
            high = 32768 + int(draw() * 28232)
            if kind < 0.34:  # a service inside, and its answer
                six = draw() < 0.06
                peer = interfaces[int(len(interfaces) * draw())]
                here, there = (nic.address6, peer.address6) if six else (nic.address, peer.address)
                port = _SERVICE_PORTS[int(draw() * len(_SERVICE_PORTS))]
                flow(nic, begin, end, here, there, high, port, 6, packets, size, "ACCEPT", True, "1", "-", 3)
                flow(
                    nic,
                    begin,
                    end,
                    there,
                    here,
                    port,
                    high,
                    6,
                    1 + packets * 2 // 3,
                    int(size * (0.2 + draw())) + 40,
                    "ACCEPT",
                    False,
                    "-",
                    "-",
                    19,
                )
            elif kind < 0.56:  # out to the internet or an AWS service, and its answer
                other = remote[int(len(remote) * draw() ** 2)]
                service = _AWS[int(draw() * len(_AWS))] if draw() < 0.6 else "-"
                inner = f"10.{int(draw() * 12)}.{int(draw() * 64)}.9" if draw() < 0.15 else ""  # a NAT gateway
                path = "7" if service == "S3" else "8"
                flow(
                    nic,
                    begin,
                    end,
                    nic.address,
                    other,
                    high,
                    443,
                    6,
                    packets,
                    size,
                    "ACCEPT",
                    True,
                    path,
                    service,
                    3,
                    inner,
                )
                flow(
                    nic,
                    begin,
                    end,
                    other,
                    nic.address,
                    443,
                    high,
                    6,
                    packets + int(draw() * 3),
                    int(size * (1 + 4 * draw())),
                    "ACCEPT",
                    False,
                    "-",
                    service,
                    19,
                    inner,
                )
            elif kind < 0.82:  # the internet's background noise
                other = scanners[int(len(scanners) * draw() ** 2)]
                port = _SCANNED_PORTS[int(draw() * len(_SCANNED_PORTS))] if draw() < 0.5 else 1024 + int(draw() * 64511)
                flow(
                    nic,
                    begin,
                    end,
                    other,
                    nic.address,
                    high,
                    port,
                    6,
                    1,
                    40 if draw() < 0.7 else 44,
                    "REJECT",
                    False,
                    flags=2,
                )
            elif kind < 0.94:  # name and time lookups
                other, port = (f"{nic.address.rsplit('.', 2)[0]}.0.2", 53) if draw() < 0.8 else ("198.51.100.123", 123)
                few = 1 + int(draw() * 4)
                flow(nic, begin, end, nic.address, other, high, port, 17, few, few * 76, "ACCEPT", True, "1")
            else:  # ping, from inside or outside
                other = remote[int(len(remote) * draw())]
                accepted = draw() < 0.5
                flow(
                    nic,
                    begin,
                    end,
                    other,
                    nic.address,
                    0,
                    0,
                    1,
                    1 + int(draw() * 5),
                    84,
                    "ACCEPT" if accepted else "REJECT",
                    False,
                )
    del out[count:]
    for first in range(0, count, MIXED_LINES):
        some = out[first : first + MIXED_LINES]
        rng.shuffle(some)
        out[first : first + MIXED_LINES] = some
    return [V5 if custom else V2, *out]
