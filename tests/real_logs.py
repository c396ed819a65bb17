"""The real logs of each source, which are not part of the project (see the `samples` fixture), read and mapped once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ocsf_mappers import DEFAULT_VERSION, Mapped, RawObject, registry
from ocsf_mappers.readers import Chunk
from tests import support

FOLDERS = {
    "aws_alb": "alb",
    "aws_clb": "clb",
    "aws_cloudfront": "cloudfront",
    "aws_cloudtrail": "cloudtrail",
    "aws_config": "config",
    "aws_eks_audit": "eks",
    "aws_guardduty": "guardduty",
    "aws_network_firewall": "networkfirewall",
    "aws_nlb": "nlb",
    "aws_rds": "rds",
    "aws_route53_resolver": "route53",
    "aws_s3_access": "s3access",
    "aws_securityhub": "securityhub",
    "aws_vpc_flow": "vpcflow",
    "aws_waf": "waf",
}
"""Source -> folder of the real logs."""


@cache
def parts(samples: Path, source: str) -> list[tuple[RawObject, Chunk]]:
    """Every real log of a source, and what else lies beside them."""
    mapper = registry.load(source)
    found: list[tuple[RawObject, Chunk]] = []
    for path in sorted((samples / FOLDERS[source]).rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                where = RawObject(path.relative_to(samples).as_posix())
                found += [(where, chunk) for chunk in support.read(mapper, file)]
    return found


@cache
def mapped(samples: Path, source: str, version: str = DEFAULT_VERSION) -> Mapped:
    """What the real logs of a source map to."""
    return support.engine(source, version).map(parts(samples, source))
