"""What logs of AWS have in common."""

from __future__ import annotations

from ocsf_mappers.vocabulary.expr import Expr, when


def aws_partition(region: Expr) -> Expr:
    """The partition of a region, which ARNs begin with: `aws` where the region is not known."""
    china, us_government = region.starts_with("cn-"), region.starts_with("us-gov-")
    return when(china).then("aws-cn").when(us_government).then("aws-us-gov").otherwise("aws")


def arn_account(arn: Expr) -> Expr:
    """The account in an ARN, of a caller its own."""
    return arn.extract(r"^arn:[^:]*:[^:]*:[^:]*:(\d{12}):")


def principal_name(arn: Expr) -> Expr:
    """The name in a caller's ARN: the user's, or the session's of a role that was assumed; root has none."""
    return arn.extract("^arn:[^:]*:(?:iam|sts)::[^:]*:(?:user/(?:.*/)?|assumed-role/[^/]+/|federated-user/)([^/]+)$")
