"""Tables of the chain over the lake, and of what digests proved of raw logs."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import METADATA, index_where

CHAIN = sa.Table(
    "chain",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("in_lake", sa.Integer, nullable=False),
    info={"since": "chain"},
)
"""Records of what changed which files the lake has, see `ocsf_lake.ledger.chain`: that they are in the lake too is
known some time after they are written here."""
index_where("chain_waiting", CHAIN, "number", "in_lake = 0")
DIGEST_PROOFS = sa.Table(
    "digest_proofs",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("region", sa.Text, primary_key=True),
    sa.Column("trail", sa.Text, primary_key=True),
    sa.Column("home_region", sa.Text, primary_key=True),
    sa.Column("start", sa.Text, primary_key=True),
    sa.Column("end", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("digests", sa.BigInteger, nullable=False),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("verified_at", sa.Text, nullable=False),
)
"""What `verify` found of digests the last time, see `ocsf_lake.ledger.proofs`: `proved`, `fault` or `unchecked`. Proved
ones without log files that follow each other are one row."""
DIGEST_FAULTS = sa.Table(
    "digest_faults",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("region", sa.Text, primary_key=True),
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("object", sa.Text, primary_key=True),
    sa.Column("start", sa.Text, primary_key=True),
    sa.Column("end", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text),
    sa.Column("in_lake", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("verified_at", sa.Text, nullable=False),
)
"""The faults that it found; of log files the hash in their digest, and whether the lake has that content."""
