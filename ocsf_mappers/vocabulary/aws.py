"""What logs of AWS have in common."""

from __future__ import annotations

from ocsf_mappers.vocabulary.expr import Expr, when


def aws_partition(region: Expr) -> Expr:
    """The partition of a region, which ARNs begin with: `aws` where the region is not known."""
    china, us_government = region.starts_with("cn-"), region.starts_with("us-gov-")
    return when(china).then("aws-cn").when(us_government).then("aws-us-gov").otherwise("aws")
