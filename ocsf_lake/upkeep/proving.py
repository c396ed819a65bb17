"""Digests verified beside a lake: what they name is compared with what the lake has read, and what is found is kept.

The ledger keeps what was found of each account and region once it is through, so that `coverage` can say which hours
are proved. Who may only read the lake compares, and keeps nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from ocsf_lake.config import Settings
from ocsf_lake.evidence.beside import UNCHECKED, Ingested, Verdict
from ocsf_lake.evidence.keys import PublicKeys
from ocsf_lake.evidence.report import Fault, Proof, Summary, Window
from ocsf_lake.evidence.verify import Asked, verify
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import objects, proofs
from ocsf_lake.ledger.database import MissingError
from ocsf_lake.ledger.ledger import now as time_now
from ocsf_lake.ledger.proofs import Fault as KeptFault
from ocsf_lake.ledger.proofs import Proof as KeptProof
from ocsf_mappers.errors import ConfigError, WriteError
from ocsf_mappers.vocabulary.source import Source


@dataclass
class Beside:
    """What came of the lake.

    Args:
        compared: Whether the lake has anything of the source, so that it was compared.
        kept: Whether what was found is kept.
        refused: Why it is not.
    """

    compared: bool = False
    kept: bool = False
    refused: str = ""


def beside_lake(
    source: Source, asked: Asked, settings: Settings, keys: PublicKeys | None, summary: Summary, beside: Beside
) -> Iterator[Fault | Proof]:
    """Verifies digests, see `ocsf_lake.evidence.verify.verify`, and holds what they name against a lake.

    Args:
        source: The source.
        asked: What is to be verified.
        settings: The lake.
        keys: The public keys; None to check no signature, and then nothing is kept.
        summary: Takes what was found.
        beside: Takes what came of the lake.

    Raises:
        ConfigError: See there; or there is no such lake.
        RetriableError: The store, or the ledger, does not answer.
    """
    with ExitStack() as stack:
        lake = _opened(stack, settings, beside)
        beside.compared = lake.ledger.has_read(source.name)
        if not beside.compared:
            beside.kept = False
            yield from verify(source, asked, settings, keys, summary)
            return
        beside.kept = beside.kept and keys is not None
        compared = _Compared(lake, source.name, asked.window, keep=beside.kept)
        for item in verify(source, asked, settings, keys, summary, lake=compared):
            if isinstance(item, Fault):
                compared.fault(item)
            yield item
        compared.end()


def _opened(stack: ExitStack, settings: Settings, beside: Beside) -> Lake:
    try:
        lake = stack.enter_context(opened(settings))
        beside.kept = True
    except MissingError:
        raise
    except (ConfigError, WriteError, OSError) as error:
        lake = stack.enter_context(opened(settings, reading=True))
        beside.refused = str(error)
    return lake


@dataclass
class _Place:
    """What was found of an account and region."""

    account: str
    region: str
    proofs: list[KeptProof] = field(default_factory=list)
    faults: list[KeptFault] = field(default_factory=list)
    checked: bool = False


class _Compared:
    """A lake beside a run of `verify`.

    Args:
        lake: The lake.
        source: Name of the source.
        window: The time that is verified.
        keep: Whether what is found is written into the ledger.
    """

    def __init__(self, lake: Lake, source: str, window: Window, *, keep: bool) -> None:
        self._lake = lake
        self._source = source
        self._span = proofs.text(window.start, proofs.FIRST), proofs.text(window.end, proofs.LAST)
        self._keep = keep
        self._place: _Place | None = None
        self._later: dict[tuple[str, str], list[KeptFault]] = defaultdict(list)

    def ingested(self, uris: Sequence[str]) -> Mapping[str, Sequence[Ingested]]:
        """URI -> what the lake has read under it."""
        ingested_by_uri: dict[str, list[Ingested]] = defaultdict(list)
        with self._lake.ledger.engine.connect() as connection:
            refs = objects.done(connection, uris)
            hashes = objects.hashes(connection, (ref.key for ref in refs))
        for ref in refs:
            ingested_by_uri[ref.uri].append(Ingested(ref, hashes.get(ref.key)))
        return ingested_by_uri

    def place(self, account: str, region: str) -> None:
        """Begins an account and region; what was found of the one before is written."""
        self._write()
        self._place = _Place(account, region)

    def digest(self, verdict: Verdict) -> None:
        """Takes what was found of a digest."""
        assert self._place is not None
        self._place.checked |= verdict.state != UNCHECKED
        times = proofs.text(verdict.start), proofs.text(verdict.end)
        proof = KeptProof(verdict.trail, verdict.home_region, *times, verdict.state, 1, verdict.files)
        self._place.proofs.append(proof)

    def fault(self, fault: Fault) -> None:
        """Takes a fault; one without a time is in no hour, and is not kept."""
        if fault.start is None or fault.account is None or fault.region is None:
            return
        start = proofs.text(fault.start)
        end = max(start, proofs.text(fault.end, start))
        if end == start:
            end = proofs.later(start)
        kept = KeptFault(fault.what, fault.object, start, end, fault.reason, fault.sha256, fault.in_lake)
        if self._place and (self._place.account, self._place.region) == (fault.account, fault.region):
            self._place.faults.append(kept)
        else:  # of chains that end before others, reported at the end
            self._later[fault.account, fault.region].append(kept)

    def end(self) -> None:
        """Writes what is left."""
        self._write()
        self._place = None
        if not self._keep:
            return
        with self._lake.ledger.engine.begin() as connection:
            for (account, region), faults in self._later.items():
                proofs.add_faults(connection, self._source, account, region, faults, time_now())

    def _write(self) -> None:
        place = self._place
        # A run without the keys says nothing against an earlier one that had them.
        if place is None or not self._keep or (place.proofs and not place.checked):
            return
        with self._lake.ledger.engine.begin() as connection:
            proofs.replace_all(
                connection, self._source, place.account, place.region, self._span, place.proofs, place.faults,
                time_now(),
            )  # fmt: skip
