"""What the logs of Application, Network and Classic Load Balancers have in common: where they lie, and ARNs."""

from __future__ import annotations

from ocsf_mappers.vocabulary.aws import aws_partition
from ocsf_mappers.vocabulary.expr import col, text
from ocsf_mappers.vocabulary.mapper import object_key

FOLDERS = ("AWSLogs/{account}/elasticloadbalancing/{region}/{year}/{month}/{day}",)
"""All three are delivered to these; the names of the objects tell them apart."""

arn = text(
    "arn:{}:elasticloadbalancing:{}:{}:loadbalancer/{}",
    aws_partition(object_key.region), object_key.region, object_key.account, col.elb,
)  # fmt: skip
"""The ARN of the load balancer `elb`, of what the object's key says; null where that does not say it."""


def keys(name: str) -> tuple[str, str]:
    """Patterns of the objects' keys, in the folders and copied out of them.

    Args:
        name: How the name of a load balancer begins there, as a regular expression.
    """
    return (
        r"/AWSLogs/(?:[^/]+/)?(?P<account>[^/]+)/(?P<kind>elasticloadbalancing)/(?P<region>[^/]+)/"
        rf"(?P<year>\d{{4}})/(?P<month>\d\d)/(?P<day>\d\d)/[^/]*_elasticloadbalancing_[^_/]+_{name}",
        r"/(?:\w+_log[._])?(?P<account>\d{12})_(?P<kind>elasticloadbalancing)_(?P<region>[^_/]+)_"
        rf"{name}[^/]*_(?P<date>\d{{8}})T\d{{4}}Z",
    )
