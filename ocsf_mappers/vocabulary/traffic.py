"""Bytes of a connection, as OCSF counts them: from its source."""

from __future__ import annotations

from collections.abc import Mapping

from ocsf_mappers.vocabulary.expr import Expr, sql

_SUM = "(TRY_CAST({0} AS BIGINT)::HUGEINT + TRY_CAST({1} AS BIGINT))::VARCHAR"


def traffic(*, sent: Expr, received: Expr) -> Mapping[str, Expr]:
    """Bytes in `traffic`, each way and together; together only where both are known.

    Args:
        sent: What the source, the client, sent.
        received: What it got.
    """
    return {
        "traffic.bytes_out": sent,
        "traffic.bytes_in":  received,
        "traffic.bytes":     sql(_SUM, reads=[sent, received], carries=False),
    }  # fmt: skip
