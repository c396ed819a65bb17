"""`ocsf-lake verify`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.backfill import Accounts, Regions
from ocsf_lake.cli.options import LakeOption, first_day, last_day, settings, settings_of_lake
from ocsf_lake.cli.options import source as mapper
from ocsf_lake.cli.verify_lake import verify_lake

if TYPE_CHECKING:
    from ocsf_lake.config import Settings
    from ocsf_lake.evidence.keys import PublicKeys
    from ocsf_lake.evidence.report import Fault, Proof, Summary
    from ocsf_lake.upkeep.proving import Beside
    from ocsf_mappers import Source

LAKE = "lake"
"""In place of a source: the lake."""
EXAMPLE = (
    "ocsf-lake verify aws_cloudtrail sample_logs/evidence --from 2026-03-17 --to 2026-03-17"
    " --public-keys sample_logs/evidence/public-keys.json\n"
    "ocsf-lake verify lake --lake demo_lake"
)

CHAINS_SHOWN = 40
"""Of chains that are proved, so many are named; JSON has all of them."""

Uri = Annotated[
    str | None,
    typer.Argument(metavar="[URI]", help="A bucket or folder with AWSLogs/, or an account's folder in it."),
]
Name = Annotated[
    str, typer.Argument(metavar="SOURCE|lake", help="A source with digests from AWS, or `lake` for a lake.")
]
First = Annotated[date | None, first_day("First day of delivery, UTC; for a lake, first day of records.")]
Last = Annotated[date | None, last_day("Last day, included; digests must reach its end.")]
Keys = Annotated[
    list[Path] | None,
    typer.Option(
        "--public-keys", metavar="FILE",
        help="Output of `aws cloudtrail list-public-keys`; repeatable. Default: request the keys from AWS.",
    ),
]  # fmt: skip
Unsigned = Annotated[
    bool, typer.Option("--no-signatures", help="Check only that digests and log files match.")
]
LakeKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--public-key", metavar="FILE", help="For a lake: PEM file with the Ed25519 public key that its chain is "
        "signed with; repeatable."
    ),
]
Head = Annotated[
    str | None, typer.Option("--head", metavar="HASH", help="For a lake: hash that a record of its chain must have.")
]
Adopt = Annotated[
    bool, typer.Option("--adopt", help="For a lake: first add to the chain files only the ledger has.")
]
NoLake = Annotated[bool, typer.Option("--no-lake", help="Check only the log files, not a lake.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines, one for each fault, chain, and the summary.")]


def verify(
    source: Name,
    uri: Uri = None,
    first: First = None,
    last: Last = None,
    account: Accounts = None,
    region: Regions = None,
    public_keys: Keys = None,
    no_signatures: Unsigned = False,
    lake: LakeOption = None,
    public_key: LakeKeys = None,
    head: Head = None,
    adopt: Adopt = False,
    as_json: Json = False,
    no_lake: NoLake = False,
) -> None:
    """Prove that log files are complete and unaltered, by digests that AWS signs, or a lake, by its chain.

    Every chain of digests below the URI is followed: signatures, hashes of digests and of each log file's content, what
    is missing, and what was added. Prints one line per fault: when, fault, object, reason. Exit 1 if there is one, or
    if nothing is proved.

    `verify lake` checks the files of a lake, and the ledger if available, against its chain of records.

    If a lake has log files of the source, what digests name is compared with what it has read, and the result is stored
    in its ledger, for `ocsf-lake coverage`.
    """
    from ocsf_mappers.errors import ConfigError, RetriableError

    if source == LAKE:
        if uri or account or region or public_keys or no_signatures or no_lake:
            raise ConfigError("verify lake takes --lake, --from, --to, --public-key, --head, --adopt and --json alone")
        verify_lake(lake, first, last, public_key or [], head, adopt, as_json)
    if uri is None:
        raise ConfigError(f"verify {source} needs the URI of the log files; `verify lake` is for a lake")
    if public_key or head or adopt:
        raise ConfigError("--public-key, --head and --adopt are for `verify lake`")
    if public_keys and no_signatures:
        raise ConfigError("--public-keys and --no-signatures exclude each other")
    if lake and no_lake:
        raise ConfigError("--lake and --no-lake exclude each other")
    from ocsf_lake.evidence import verify as evidence
    from ocsf_lake.evidence.report import Proof, Summary
    from ocsf_lake.lake import exists
    from ocsf_mappers import registry

    chosen = registry.source(mapper(source).name)
    used = _settings(lake)
    asked = evidence.Asked(uri, first, last, tuple(account or ()), tuple(region or ()))
    keys = None if no_signatures else _keys(chosen, public_keys, used)
    summary, beside = Summary(), None
    results = evidence.verify(chosen, asked, used, keys, summary)
    if not no_lake and exists(used):
        from ocsf_lake.upkeep import proving

        beside = proving.Beside()
        results = proving.beside_lake(chosen, asked, used, keys, summary, beside)
    shown: list[Proof] = []
    try:
        for item in results:
            if as_json:
                _print({"type": "chain" if isinstance(item, Proof) else "fault", **asdict(item)})
            elif isinstance(item, Proof):
                shown.append(item)
                if len(shown) <= CHAINS_SHOWN:
                    terminal.say(_chain(item, summary.signatures))
            else:
                sys.stdout.write(f"{terminal.escaped(_line(item))}\n")
    except RetriableError as error:
        terminal.say(f"error: {error}", "not everything was checked; run the same command again, it starts over")
        raise typer.Exit(1) from error
    if as_json:
        _print({"type": "summary", **asdict(summary)})
    if len(shown) > CHAINS_SHOWN:
        terminal.say(f"and {len(shown) - CHAINS_SHOWN:,} more chains; --json has them")
    _tell(summary)
    if beside is not None:
        _tell_of_lake(used.lake, beside, summary)
    raise typer.Exit(int(bool(summary.faults) or not summary.proved))


def _settings(lake: str | None) -> Settings:
    """The settings; a lake that is named has to be there."""
    return settings_of_lake(lake) if lake else settings()


def _tell_of_lake(lake: str, beside: Beside, summary: Summary) -> None:
    if not beside.compared:
        terminal.say(f"the lake {lake} has no log files of this source: not compared")
        return
    number = summary.in_lake or 0
    terminal.say(f"{terminal.plural(number, 'log file')} in the lake {lake} as digests say that they were delivered")
    if beside.refused:
        terminal.say(f"not kept for `ocsf-lake coverage`: {beside.refused}")


def _keys(source: Source, files: list[Path] | None, used: Settings) -> PublicKeys:
    from ocsf_lake.evidence.keys import PublicKeys, from_files

    if files:
        return PublicKeys(from_files(files))
    return PublicKeys({}, source.digests.keys if source.digests else None, used.input_access)


def _print(item: dict[str, Any]) -> None:
    output.print_json_lines([json.dumps({name: _plain(value) for name, value in item.items()}).encode()])


def _plain(value: object) -> object:
    return _time(value) if isinstance(value, datetime) else value


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _line(fault: Fault) -> str:
    when = _time(fault.start) if fault.start else "-"
    return f"{when}  {fault.what}: {fault.object}: {fault.reason}"


def _chain(proof: Proof, signatures: bool) -> str:
    first, last = (_time(time) if time else "?" for time in (proof.first, proof.last))
    kind = "backfill digest" if proof.backfill else "digest"
    begun = " (where the chain begins)" if proof.begins and not proof.backfill else ""
    verdict = "proved" if signatures else "fit each other"
    return (
        f"{proof.account} {proof.region} {proof.trail} ({proof.home_region}):"
        f" {terminal.plural(proof.digests, kind)} from {first}{begun} to {last}, {proof.proved:,} {verdict}"
    )


def _tell(summary: Summary) -> None:
    for origin, number in sorted(summary.copied.items()):
        terminal.say(
            f"{terminal.plural(number, 'digest')} delivered to {origin}, read elsewhere: a copy, whose objects were"
            " matched by their keys from AWSLogs/ on"
        )
    if summary.pending:
        terminal.say(
            f"{terminal.plural(summary.pending, 'log file')} at the edge of what digests cover, not named by one: not"
            " proved"
        )
    if not summary.signatures:
        terminal.say("signatures were not checked: digests and log files match each other, which a forger can arrange")
    if not summary.digests:
        terminal.say("there is no digest of these days: nothing is proved")
    verdict = "proved" if summary.signatures else "not contradicted"
    hours = f"{summary.seconds / 3600:,.1f}".removesuffix(".0")
    terminal.say(
        f"{verdict}: {summary.proved:,} of {terminal.plural(summary.digests, 'digest')} in"
        f" {terminal.plural(summary.chains, 'chain')}, {hours} hours, {terminal.plural(summary.files, 'log file')}"
        f" ({terminal.size(summary.bytes)} uncompressed); {terminal.plural(summary.empty, 'digest')} without log files;"
        f" {terminal.plural(summary.faults, 'fault')}"
    )
