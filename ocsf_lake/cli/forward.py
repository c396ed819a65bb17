"""`ocsf-lake forward`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, SourceArgument, settings_of_lake, source

EXAMPLE = "ocsf-lake forward aws_vpc_flow ./forwarded --lake demo_lake"


def forward(
    source_name: SourceArgument,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="opensearch+https://HOST:9200/INDEX, splunk+https://HOST:8088/INDEX, or a folder or URI of a store.",
        ),
    ],
    key_variable: Annotated[
        str | None,
        typer.Option(
            "--key-variable", metavar="NAME",
            help="Environment variable that holds user:password or a token for OpenSearch, or a token for Splunk.",
        ),
    ] = None,
    sign: Annotated[
        str | None,
        typer.Option(
            "--sign", metavar="SERVICE",
            help="Sign requests with AWS credentials: es for Amazon OpenSearch Service, aoss for Serverless; "
            "es:REGION if the host name does not contain the region.",
        ),
    ] = None,
    as_json: JsonOption = False,
    lake: LakeOption = None,
) -> None:
    """Send a source's new events to OpenSearch, to Splunk, or as JSON lines to a store.

    Run it again to continue. To send findings, use the source lake_detections. OpenSearch and stores get each event
    once; Splunk may get one twice if a run was interrupted. Exit 1 if events were refused; the others are sent.
    """
    source(source_name)
    config = settings_of_lake(lake)
    from ocsf_lake.export.forward import forward as run

    summary = run(config, source_name, target, key_variable, sign)
    if as_json:
        output.print_json(asdict(summary))
    terminal.say(summary.message, *summary.errors)
    if summary.errors:
        raise typer.Exit(1)
