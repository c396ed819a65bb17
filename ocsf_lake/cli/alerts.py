"""`ocsf-lake alerts list`, `send`, `retry` and `test`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, settings_of_lake

if TYPE_CHECKING:
    from ocsf_lake.alerts.run import Sent
    from ocsf_lake.alerts.senders import Make
    from ocsf_lake.config import Settings

LIST_EXAMPLE = "ocsf-lake alerts list --lake demo_lake"
SEND_EXAMPLE = "ocsf-lake alerts send --lake demo_lake"
RETRY_EXAMPLE = "ocsf-lake alerts retry --lake demo_lake"
TEST_EXAMPLE = "ocsf-lake alerts test --lake demo_lake"

LISTED = 1_000
"""Alerts of a list, at most."""
ERROR_CHARACTERS = 80

app = typer.Typer(help="List, send and test alerts about findings.", no_args_is_help=True, rich_markup_mode=None)

ReceiverOption = Annotated[str | None, typer.Option("--receiver", metavar="NAME", help="Only this receiver.")]
AllOption = Annotated[bool, typer.Option("--all", help="Also alerts that arrived.")]
IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ALERT]...", help="Ids of alerts. Default: all.", show_default=False)
]


def list_alerts(sent: AllOption = False, as_json: JsonOption = False, lake: LakeOption = None) -> None:
    """List alerts that did not arrive: refused too often (failed), or still to be sent (planned).

    The exit code is 0, however many there are.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.lake import opened
    from ocsf_lake.ledger.alerts import AlertLedger

    states = ["failed", "planned", *(["done"] if sent else [])]
    with opened(config, reading=True) as opened_lake:
        ledger = AlertLedger(opened_lake.ledger.engine)
        alerts = ledger.listed(states, LISTED)
        titles = ledger.titles(alerts)
        total = sum(number for (_, state), number in ledger.counts().items() if state in states)
    rows = [asdict(alert) | {"title": titles.get((alert.receiver, alert.id))} for alert in alerts]
    if as_json:
        output.print_json(rows)
    elif rows:
        names = ("state", "receiver", "id", "findings", "title", "tries", "due_at", "error")
        shown = [[_short(row[name]) for name in names] for row in rows]
        output.print_table(["state", "receiver", "alert", "findings", "title", "failures", "due", "reason"], shown)
    else:
        terminal.say("no alerts" if sent else "no alerts are waiting or set aside")
    if total > len(rows):
        terminal.say(f"{len(rows):,} of {total:,} alerts are listed, the newest")


def send(lake: LakeOption = None) -> None:
    """Send alerts for new findings, and retry those that are due.

    `ocsf-lake detect` does the same after running the rules. Exit 1 if alerts have been set aside because they were
    refused too often, or a receiver cannot be reached.
    """
    config = settings_of_lake(lake)
    if not tell(config).messages and config.alerts.receivers:
        terminal.say(
            "nothing to send: a receiver gets only findings made after `detect` or `alerts send` first ran with it"
        )


def retry(ids: IdsArgument = None, receiver: ReceiverOption = None, lake: LakeOption = None) -> None:
    """Retry alerts now that were set aside or are waiting."""
    from ocsf_mappers.errors import ConfigError

    config = settings_of_lake(lake)
    _check(config, receiver)
    from ocsf_lake.alerts import run

    number = run.retry(config, receiver, ids or ())
    if ids and not number:
        raise ConfigError("no such alert is waiting to be sent; `ocsf-lake alerts list` shows their ids")
    terminal.say(f"trying {terminal.plural(number, 'alert')} again")
    tell(config)


def send_test(receiver: ReceiverOption = None, lake: LakeOption = None) -> None:
    """Send each receiver a test alert. Exit 1 if one did not accept it."""
    from ocsf_lake.cli.options import settings

    config = settings(lake)
    _check(config, receiver)
    from ocsf_lake.alerts import run

    results = run.send_test(config, maker(config), receiver)
    for name, reason in results.items():
        terminal.say(f"{name}: {'arrived' if reason is None else reason}")
    if not results:
        terminal.say(run.NOBODY)
    if not results or any(results.values()):
        raise typer.Exit(1)


def tell(settings: Settings, *, ending: bool = True) -> Sent:
    """Sends alerts and says how that went; ends with 1 where somebody has to do something, unless told not to."""
    from ocsf_lake.alerts import run

    sent = run.send(settings, maker(settings))
    terminal.say(*(sent.messages if settings.alerts.receivers else [run.NOBODY]))
    if sent.failed and ending:
        raise typer.Exit(1)
    return sent


def maker(settings: Settings) -> Make:
    """Makes senders, those too that need a Prefect server where the settings name one."""
    from ocsf_lake.alerts import senders

    if any(one.kind == "block" for one in settings.alerts.receivers):
        from ocsf_lake.flows import alerts  # noqa: TID251 - Prefect, only when it is asked for

        return alerts.sender
    return senders.sender


def _check(settings: Settings, receiver: str | None) -> None:
    from ocsf_mappers.errors import ConfigError, nearest

    names = [one.name for one in settings.alerts.receivers]
    if receiver is not None and receiver not in names:
        raise ConfigError(f"the settings have no receiver {receiver!r}{nearest(receiver, names)}")


def _short(value: object) -> object:
    text = value if isinstance(value, str) else None
    return f"{text[:ERROR_CHARACTERS]}…" if text and len(text) > ERROR_CHARACTERS else value
