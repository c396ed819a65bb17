"""Whether log files are those that were delivered, all of them and unaltered, as far as digests prove it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain

from ocsf_lake.config import Settings
from ocsf_lake.evidence import tree
from ocsf_lake.evidence.beside import Lake
from ocsf_lake.evidence.chain import HOUR, UTC_TIME
from ocsf_lake.evidence.days import DUE, THREADS, Days, Run, midnight
from ocsf_lake.evidence.keys import PublicKeys
from ocsf_lake.evidence.report import Fault, Proof, Summary, Window
from ocsf_lake.evidence.tree import Place
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.storage import objects, s3
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.vocabulary.source import Source


@dataclass(frozen=True)
class Asked:
    """What is to be verified.

    Args:
        uri: A folder that holds `AWSLogs/`, lies above it, or is that of an organization or account in it.
        first: First day, UTC; None for all.
        last: Last day, included.
        accounts: Only these; empty for all.
        regions: Only these; empty for all.
    """

    uri: str
    first: date | None = None
    last: date | None = None
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    @property
    def window(self) -> Window:
        """The time of these days."""
        first = midnight(self.first) if self.first else None
        return Window(first, midnight(self.last + timedelta(days=1)) if self.last else None)


def verify(
    source: Source, asked: Asked, settings: Settings, keys: PublicKeys | None, summary: Summary,
    now: datetime | None = None, lake: Lake | None = None,
) -> Iterator[Fault | Proof]:  # fmt: skip
    """Gives each fault as it is found, and what is proved of each chain.

    Args:
        source: The source.
        asked: What is to be verified.
        settings: How objects are reached, and how far they may grow.
        keys: The public keys; None to check no signature.
        summary: Takes what was found.
        now: The time; that of the clock if it is not given.
        lake: A lake whose log files are compared with what digests name; None for none.

    Raises:
        ConfigError: There is nothing of the source, or it has no digests, or the store refuses us.
        RetriableError: The store is out of reach.
    """
    if source.digests is None:
        raise ConfigError(f"AWS delivers no digests of {source.name}: nothing proves that its log files are complete")
    for day in (asked.first, asked.last):
        if day and day.year not in tree.YEARS:
            raise ConfigError(f"there are no logs of {day}")
    if asked.first and asked.last and asked.first > asked.last:
        raise ConfigError(f"the first day, {asked.first}, is after the last one, {asked.last}")
    access = settings.input_access
    objects.check([asked.uri], access)
    fs, path = objects.filesystem(asked.uri, access)
    fs.invalidate_cache()
    calls = Calls()
    summary.signatures = keys is not None
    summary.in_lake = None if lake is None else 0
    with s3.translate_errors(asked.uri), ThreadPoolExecutor(THREADS, thread_name_prefix="ocsf-lake-verify") as pool:
        run = Run(source.digests, asked.window, settings, keys, summary, calls, pool, now or datetime.now(UTC), lake)
        places = tree.places(fs, path, source, asked.accounts, asked.regions, calls)
        for item in chain(_all(run, places, asked), _behind(run)):
            if isinstance(item, Proof):
                summary.add(item)
            else:
                summary.faults += 1
            yield item
        for uri, reason in calls.refused.items():
            summary.faults += 1
            yield Fault("folder not read", uri, reason)


def _all(run: Run, places: Iterable[Place], asked: Asked) -> Iterator[Fault | Proof]:
    for place in places:
        yield from Days(run, place).all(asked.first, asked.last)


def _behind(run: Run) -> Iterator[Fault]:
    """Chains that end while others of the same trail go on: it has a digest each hour in every region."""
    for chains in run.ends.values():
        furthest = max(proof.last for proof, _ in chains if proof.last)
        for proof, uri in chains:
            if proof.last and furthest - proof.last > HOUR / 2 and run.now - proof.last > DUE:
                yield Fault(
                    "chain ends", uri, "it is the last digest of its chain, while the trail has others until"
                    f" {furthest:{UTC_TIME}} elsewhere: digests after it are missing, or none were made there",
                    proof.last, furthest, proof.account, proof.region, proof.trail, proof.home_region,
                )  # fmt: skip
