"""What was found of digests when they were last verified: which time they prove, and what is wrong in it.

Who verifies some days of an account and region replaces what is known of that time; of the rest it stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger.database import upsert
from ocsf_lake.ledger.tables import DIGEST_FAULTS, DIGEST_PROOFS

PROVED = "proved"
_FORM = "%Y-%m-%dT%H:%M:%SZ"
FIRST, LAST = "0000", "9999"
"""Before and after all times."""


@dataclass(frozen=True)
class Proof:
    """What one digest proves, or several without log files that follow each other.

    Args:
        trail: The trail.
        home_region: Where it was made.
        start: Beginning of its time, UTC, ISO 8601.
        end: End of it.
        state: `proved`, `fault`, or `unchecked` where a key is not known.
        digests: How many they are.
        files: Log files that they name.
    """

    trail: str
    home_region: str
    start: str
    end: str
    state: str
    digests: int = 1
    files: int = 0


@dataclass(frozen=True)
class Fault:
    """A fault.

    Args:
        what: Its kind.
        object: URI of the object.
        start: Beginning of the time concerned, UTC, ISO 8601.
        end: End of it.
        sha256: Of a log file, by the digest.
        in_lake: Whether the lake has that content; None where that is not known.
        reason: What is wrong.
        verified_at: When it was found.
    """

    what: str
    object: str
    start: str
    end: str
    reason: str
    sha256: str | None = None
    in_lake: bool | None = None
    verified_at: str = ""


def text(time: datetime | None, otherwise: str = "") -> str:
    """A time as these tables have it; what is given where there is none."""
    return time.astimezone(UTC).strftime(_FORM) if time else otherwise


def later(time: str) -> str:
    """A second after a time."""
    return text(moment(time) + timedelta(seconds=1))


def storable(value: str) -> str:
    """Text that every database takes: PostgreSQL has no NUL."""
    return value.replace("\0", "\\u0000")


def replace_all(
    connection: sa.Connection, source: str, account: str, region: str, span: tuple[str, str],
    proofs: Iterable[Proof], faults: Iterable[Fault], at: str,
) -> None:  # fmt: skip
    """Writes what was found of an account and region in some time, instead of what was known of it.

    Args:
        connection: The transaction.
        source: Name of the source.
        account: Twelve digits.
        region: The region.
        span: The time that was verified: beginning and end.
        proofs: What digests prove; some may reach beyond it.
        faults: What is wrong.
        at: When it was verified.
    """
    all_proofs = sorted(proofs, key=lambda proof: (proof.trail, proof.home_region, proof.start))
    place = {"source": source, "account": account, "region": region}
    start, end = span
    for table in (DIGEST_PROOFS, DIGEST_FAULTS):
        row = table.c
        mine = [row[name] == value for name, value in place.items()]
        overlapping = [*mine, row.start < end, row.end > start]
        if table is DIGEST_PROOFS:
            # New proofs may reach beyond the time; what they overlap is theirs.
            ends: dict[tuple[str, str], tuple[str, str]] = {}
            for proof in all_proofs:
                before = ends.get((proof.trail, proof.home_region), span)
                ends[proof.trail, proof.home_region] = min(before[0], proof.start), max(before[1], proof.end)
            for proof in _rows(connection, overlapping):
                all_proofs += _outside(proof, *ends.get((proof.trail, proof.home_region), span))
        connection.execute(sa.delete(table).where(*overlapping))
    of_proofs = [{**place, **asdict(proof), "verified_at": at} for proof in _joined(all_proofs)]
    upsert(connection, DIGEST_PROOFS, (*place, "trail", "home_region", "start"), of_proofs)
    add_faults(connection, source, account, region, faults, at)


def add_faults(
    connection: sa.Connection, source: str, account: str, region: str, faults: Iterable[Fault], at: str
) -> None:
    """Writes faults beside those that are known. See `replace_all`."""
    place = {"source": source, "account": account, "region": region}
    unique = {(fault.what, fault.object, fault.start): fault for fault in faults}
    rows = []
    for fault in unique.values():
        row = {**place, **asdict(fault), "in_lake": None if fault.in_lake is None else int(fault.in_lake)}
        row |= {name: storable(str(row[name])) for name in ("object", "reason")}
        rows.append(row | {"verified_at": at})
    upsert(connection, DIGEST_FAULTS, (*place, "what", "object", "start"), rows)


def _outside(proof: Proof, start: str, end: str) -> Iterator[Proof]:
    """What of an earlier proof lies before and after a time. A digest is whole or not at all; runs of them are cut."""
    if proof.digests == 1:
        return
    if proof.start < start:
        yield replace(proof, end=start, digests=max(1, proof.digests - 1))
    if proof.end > end:
        yield replace(proof, start=end, digests=max(1, proof.digests - 1))


def _joined(proofs: Sequence[Proof]) -> list[Proof]:
    """Proofs in order; those of the same kind and without log files that follow each other are one."""
    joined: list[Proof] = []
    ordered = sorted(proofs, key=lambda proof: (proof.trail, proof.home_region, proof.start))
    for proof in ordered:
        last = joined[-1] if joined else None
        if (
            last
            and (last.trail, last.home_region, last.end) == (proof.trail, proof.home_region, proof.start)
            and last.state == proof.state == PROVED
            and not last.files
            and not proof.files
        ):
            joined[-1] = replace(last, end=proof.end, digests=last.digests + proof.digests)
        else:
            joined.append(proof)
    return joined


def of(connection: sa.Connection, source: str, account: str, region: str, start: str, end: str) -> list[Proof]:
    """What is known of some time, by trail and time."""
    row = DIGEST_PROOFS.c
    where = [row.source == source, row.account == account, row.region == region, row.start < end, row.end > start]
    return sorted(_rows(connection, where), key=lambda proof: (proof.trail, proof.home_region, proof.start))


def faults_of(connection: sa.Connection, source: str, account: str, region: str, start: str, end: str) -> list[Fault]:
    """The faults in some time."""
    row = DIGEST_FAULTS.c
    names = ("what", "object", "start", "end", "reason", "sha256", "in_lake", "verified_at")
    query = sa.select(*(row[name] for name in names)).where(
        row.source == source, row.account == account, row.region == region, row.start < end, row.end > start
    )
    faults = (Fault(*columns) for columns in connection.execute(query.order_by(row.start, row.what, row.object)))
    return [replace(fault, in_lake=None if fault.in_lake is None else bool(fault.in_lake)) for fault in faults]


def places(connection: sa.Connection) -> list[tuple[str, str, str]]:
    """Source, account and region of what was verified."""
    row = DIGEST_PROOFS.c
    query = sa.select(row.source, row.account, row.region).distinct()
    return [(source, account, region) for source, account, region in connection.execute(query)]


def merged(proofs: Sequence[Proof]) -> Iterator[tuple[datetime, datetime]]:
    """Times that the digests of a chain prove without a gap."""
    span: tuple[str, str] | None = None
    keys = [(proof.trail, proof.home_region) for proof in proofs]
    for number, proof in enumerate(proofs):
        if proof.state != PROVED:
            continue
        if span and number and keys[number - 1] == keys[number] and span[1] >= proof.start:
            span = span[0], max(span[1], proof.end)
            continue
        if span:
            yield moment(span[0]), moment(span[1])
        span = proof.start, proof.end
    if span:
        yield moment(span[0]), moment(span[1])


def moment(time: str) -> datetime:
    """A time of these tables."""
    return datetime.strptime(time, _FORM).replace(tzinfo=UTC)


def _rows(connection: sa.Connection, where: Sequence[sa.ColumnElement[bool]]) -> list[Proof]:
    row = DIGEST_PROOFS.c
    names = ("trail", "home_region", "start", "end", "state", "digests", "files")
    columns: list[sa.ColumnElement[Any]] = [row[name] for name in names]
    return [Proof(*values) for values in connection.execute(sa.select(*columns).where(*where))]
