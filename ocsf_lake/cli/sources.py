"""`ocsf-lake sources` and `ocsf-lake explain`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, SourceArgument, VersionOption, settings, source
from ocsf_lake.text import Lines

SOURCES_EXAMPLE = "ocsf-lake sources"
EXPLAIN_EXAMPLE = "ocsf-lake explain aws_vpc_flow"


def sources(as_json: JsonOption = False) -> None:
    """List the sources with formats, OCSF classes and tables."""
    from ocsf_mappers import registry

    settings()  # they may name a folder of sources
    items = described()
    broken = registry.usable()[1]
    for reason in broken.values():
        terminal.say(f"error: {reason}")
    for name, path in registry.shadowed().items():
        terminal.say(f"{path} is not read: there is a source {name!r} already; give it another name")
    if as_json:
        output.print_json(items)
        raise typer.Exit(int(bool(broken)))
    rows = [
        [item["source"], item["product"], *(Lines(item[name]) for name in ("formats", "classes", "tables"))]
        for item in items
    ]
    output.print_table(["source", "product", "formats", "OCSF classes", "tables"], rows)
    raise typer.Exit(int(bool(broken)))


def described() -> list[dict[str, Any]]:
    """Every source that can be used: name, product, and lists of formats, classes and tables."""
    from ocsf_mappers import registry
    from ocsf_mappers.ocsf import schema

    ocsf = schema.load()
    items = []
    for name, mapper in registry.usable()[0].items():
        product = mapper.product
        name_of_product = product.name.removeprefix(f"{product.vendor} ")  # AWS WAF is not AWS's AWS WAF
        classes = [ocsf.event_class(name) for name in dict.fromkeys(event.event_class for event in mapper.events)]
        items.append(
            {
                "source": name,
                "product": " ".join(filter(None, [product.vendor, name_of_product, product.feature])),
                "formats": [reader.label for reader in mapper.readers],
                "classes": [f"{item.caption} [{item.uid}]" for item in classes],
                "tables": list(mapper.tables),
            }
        )
    return items


def explain(
    source_name: SourceArgument,
    sql: Annotated[bool, typer.Option("--sql", help="Print the DuckDB query that the mapping compiles to.")] = False,
    ocsf_version: VersionOption = None,
) -> None:
    """Print a source's mapping as Markdown.

    Shows where each OCSF attribute comes from, and what the OCSF version lacks.
    """
    mapper, config = source(source_name), settings(ocsf_version=ocsf_version)
    from ocsf_mappers.compiler import explain as explained

    render = explained.query if sql else explained.markdown
    sys.stdout.write(render(mapper, config.ocsf_version))
