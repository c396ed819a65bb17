"""Alerts of a flow run, and alerts by notification blocks of a Prefect server."""

from __future__ import annotations

import inspect
from typing import Any

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block

from ocsf_lake.alerts import run, senders
from ocsf_lake.alerts.message import Message
from ocsf_lake.alerts.senders import RefusedError, Sender
from ocsf_lake.config import Settings
from ocsf_lake.flows.report import Failure, Report
from ocsf_lake.receivers import FLOW_AGE_DAYS, Alerts, Receiver
from ocsf_mappers.errors import ConfigError, OcsfMappersError


class BlockSender:
    """A notification block, by its name TYPE/NAME."""

    def __init__(self, receiver: Receiver) -> None:
        from ocsf_lake.flows import deployments

        what = f"receiver {receiver.name}"
        deployments.server()
        try:
            block: Any = Block.load(str(receiver.block))
        except Exception as error:  # the client has many, of a server that is away and of a block that is not there
            reason = str(error).split("\n")[0]
            raise ConfigError(f"{what}: the block {receiver.block!r} cannot be loaded: {reason}") from error
        if not isinstance(block, NotificationBlock):
            raise ConfigError(f"{what}: the block {receiver.block!r} does not notify anybody")
        self.block: Any = block  # its method waits by itself where nothing is asynchronous, which its type hides

    def send(self, message: Message) -> None:
        """See `ocsf_lake.alerts.senders.Sender`."""
        try:
            # Otherwise the block swallows what goes wrong, and an alert that nobody got counts as sent.
            with self.block.raise_on_failure():
                sent = self.block.notify(message.text, message.title)
        except Exception as error:  # each kind of block has its own; its text may have the block's URL in it
            status = getattr(getattr(error, "response", None), "status_code", None)
            reason = type(error).__name__ if status is None else f"HTTP {status}"
            raise RefusedError(f"the block did not send it: {reason}") from None
        if inspect.iscoroutine(sent):
            sent.close()
            raise RefusedError("the block sends nothing while something asynchronous goes on")

    def close(self) -> None:
        """See `ocsf_lake.alerts.senders.Sender`."""


def sender(receiver: Receiver, alerts: Alerts) -> Sender:
    """The sender of a receiver of any kind.

    Raises:
        ConfigError: It cannot be used as it is set up.
    """
    return BlockSender(receiver) if receiver.kind == "block" else senders.sender(receiver, alerts)


def send(settings: Settings, report: Report, logger: Any) -> None:
    """Sends receivers what they have not got yet; what goes wrong for good is in the report.

    Args:
        settings: The lake, and the receivers.
        report: Of the run.
        logger: Of the run.
    """
    if not settings.alerts.receivers:
        logger.warning("%s", run.NOBODY)
        return
    try:
        sent = run.send(settings, sender, FLOW_AGE_DAYS)
    except OcsfMappersError as error:
        report.failures.append(Failure("alerts", str(error), []))
        return
    for line in sent.messages:
        logger.info("%s", line)
    if sent.failed:
        report.failures.append(Failure("alerts", "; ".join(sent.messages), []))
