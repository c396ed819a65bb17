"""`ocsf-lake new`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import files, terminal
from ocsf_lake.cli.options import settings

if TYPE_CHECKING:
    from ocsf_mappers.kit.look import Look
    from ocsf_mappers.kit.propose import Proposal

EXAMPLE = "ocsf-lake new acme_dns --from sample_logs/aws_route53_resolver/firewall.jsonl --into mappers"

READ_BYTES = 64 << 20
"""Of the sample file, at most so much is read; compressed as it is."""
PROJECT = Path("ocsf_mappers") / "sources"
"""In a checkout of this project, sources are here, and their samples in `sample_logs`."""


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the source and its table, as vendor_product.")],
    sample: Annotated[Path, typer.Option("--from", metavar="FILE", help="File with real or realistic records.")],
    event_class: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="OCSF class by name or uid. Default: as proposed.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="DIR", help="Folder for sources. Default: as in the settings, else `mappers`."),
    ] = None,
) -> None:
    """Draft a source from real records: mapper, sample, golden, page and test.

    Every member of the records is listed: mapped if its name and values are clear, otherwise as a comment with
    similarly named attributes. The draft works immediately. You add which activity a record is and what else the class
    requires, and check that the proposal is right.
    """
    from ocsf_mappers import registry
    from ocsf_mappers.errors import ConfigError
    from ocsf_mappers.kit.look import look
    from ocsf_mappers.kit.propose import propose

    if not registry.NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a valid source name: use lower-case letters, digits and single underscores")
    config = settings()
    if name in registry.names():
        raise ConfigError(f"there is a source {name!r} already; `ocsf-lake sources` lists them")
    with files.opened(sample) as stream:
        survey = look(stream.read(READ_BYTES))
    proposal = propose(name, survey.members, event_class)
    folder = into or config.mappers or (PROJECT if PROJECT.is_dir() else Path("mappers"))
    module = _write(folder, name, sample, survey, proposal)
    registry.use_file(module)
    _tell(name, module, survey, proposal)


def _write(folder: Path, name: str, sample: Path, survey: Look, proposal: Proposal) -> Path:
    """Writes the files, none over another, and gives the module's."""
    from ocsf_mappers.errors import ConfigError, WriteError
    from ocsf_mappers.kit import scaffold

    stem = re.sub(r"\W+", "_", sample.name.partition(".")[0], flags=re.ASCII).strip("_").lower() or "sample"
    in_project = folder == PROJECT
    home = folder if in_project else folder / name
    samples = Path("sample_logs") / name if in_project else home / "samples"
    module = home / (f"{name}.py" if in_project else "__init__.py")
    texts = {
        module: scaffold.module(name, survey, proposal).encode(),
        samples / f"{stem}{survey.suffix}": survey.sample,
        (samples if in_project else home) / "SOURCE.md": scaffold.page(
            name, survey, proposal, f"{stem}{survey.suffix}"
        ).encode(),
    }
    if not in_project:
        texts[home / f"test_{name}.py"] = scaffold.test(name).encode()
    if existing := [str(path) for path in texts if path.exists()]:
        raise ConfigError(f"{', '.join(existing)} is there already; nothing was written")
    try:
        for path, data in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            typer.echo(terminal.escaped(str(path)))
    except OSError as error:
        raise WriteError(f"the source cannot be written: {error}") from error
    return module


def _tell(name: str, module: Path, survey: Look, proposal: Proposal) -> None:
    from ocsf_lake.cli.check import lines
    from ocsf_mappers.ocsf import schema
    from ocsf_mappers.testing import check

    caption = schema.load(proposal.version).classes[proposal.event_class].caption
    unmapped = sum(row.path is None for row in proposal.rows)
    terminal.say(
        f"{caption}: {proposal.reason}",
        f"{terminal.plural(len(survey.members), 'member')} in {terminal.plural(survey.records, 'record')}:"
        f" {len(survey.members) - unmapped} mapped, {unmapped} left to you",
    )
    if survey.more:
        terminal.say(f"{terminal.plural(survey.more, 'more member')} left in unmapped: too many to look at")
    if proposal.missing:
        terminal.say(f"{caption} requires, and nothing gives away: {', '.join(proposal.missing)}")
    check(name, update_golden=True)
    sys.stdout.write("".join(f"{terminal.escaped(line)}\n" for line in lines(check(name))))
    terminal.say("next:", f"  $EDITOR {module}", f"  ocsf-lake check {module} --watch")
