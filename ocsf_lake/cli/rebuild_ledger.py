"""`ocsf-lake rebuild-ledger`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, settings

EXAMPLE = "ocsf-lake rebuild-ledger --replace --lake demo_lake"

SHOWN_FILES = 3
"""Of the files that are missing or unknown, so many are named; --json names all."""


def rebuild_ledger(
    lake: LakeOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an existing ledger that has batches; its contents are lost.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the lake's ledger from its files, after it was lost or an old copy was restored.

    Afterwards the lake belongs to the new ledger, and what it has read is not read again. Do not let other runs work on
    the lake meanwhile.
    """
    config = settings(lake)
    from ocsf_lake.upkeep import rebuild_ledger as rebuilding

    summary = rebuilding.rebuild(config, replacing=replace)
    if as_json:
        output.print_json(asdict(summary))
    else:
        row = [summary.batches, summary.objects, summary.events, summary.quarantined, summary.files]
        output.print_table(["batches", "objects", "events", "quarantined", "files"], [list(map(terminal.count, row))])
    if not summary.exact:
        terminal.say(
            "the lake is of a version that kept no records of batches: objects that gave nothing, what was dropped, "
            "sizes, purges and exports are not known, and a batch that died halfway counts as done"
        )
    _tell(summary.missing, "missing", "`ocsf-lake catalog sync` rebuilds them from the raw objects")
    _tell(summary.unknown, "of no finished batch", "`ocsf-lake catalog sync` moves them aside")


def _tell(names: list[str], state: str, remedy: str) -> None:
    if names:
        terminal.say(f"{terminal.plural(len(names), 'file')} {state}: {', '.join(names[:SHOWN_FILES])}; {remedy}")
