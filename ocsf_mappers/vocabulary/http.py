"""Methods of HTTP requests, as OCSF's HTTP Activity wants them."""

from __future__ import annotations

from ocsf_mappers.vocabulary.expr import Expr, sql, when

METHODS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE")
"""The methods that every OCSF version knows. `http_method` may hold no other text; PATCH is one from 1.8.0 on only."""


def http_method(method: Expr) -> Expr:
    """A method for `http_request.http_method`; another text, which is invalid there, stays in `unmapped`."""
    return method.where(method.is_in(*METHODS))


def http_activity(method: Expr) -> Expr:
    """A method for `activity_id` of HTTP Activity; what is no method of HTTP's is Other and keeps its text.

    PATCH, too, is Other before OCSF 1.8.0.
    """
    patch = sql("CASE WHEN {0} = 'PATCH' THEN 'Patch' END", reads=[method], carries=False)
    known = {name: name.capitalize() for name in METHODS}
    return when(method == "PATCH").then(patch).otherwise(method.replace(known))
