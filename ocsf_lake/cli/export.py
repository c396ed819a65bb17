"""`ocsf-lake export`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, SourceArgument, settings_of_lake, source

EXAMPLE = "ocsf-lake export aws_vpc_flow ./aws-security-data-lake-eu-west-1-demo --name vpc-flow --lake demo_lake"


def export(
    source_name: SourceArgument,
    bucket: Annotated[
        str, typer.Argument(metavar="BUCKET", help="URI of the Security Lake bucket; events go to ext/NAME/ in it.")
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name under which the custom source is registered.")
    ],
    event_class: Annotated[
        str | None,
        typer.Option("--class", metavar="CLASS", help="OCSF class, by name or uid; needed if the source has several."),
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send new events to a custom source of Amazon Security Lake.

    Events of finished batches are sent once, in large objects ordered by time; run it again to continue. A custom
    source holds one class. A partition is exported every five minutes at most.
    """
    source(source_name)
    config = settings_of_lake(lake)
    from ocsf_lake.export.run import export as run

    summary = run(config, source_name, bucket, name, event_class)
    if as_json:
        output.print_json(asdict(summary))
    elif summary.objects:
        rows = [[terminal.count(item.rows), terminal.size(item.bytes), item.uri] for item in summary.objects]
        output.print_table(["events", "bytes", "object"], rows)
    terminal.say(summary.message)
