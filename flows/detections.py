"""Rules asked of what a flow run brought, where the settings name folders of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect.logging import get_run_logger

from ocsf_lake.config import Settings
from ocsf_lake.flows.report import Failure, Report
from ocsf_lake.lake import opened
from ocsf_lake.ledger.detections import Detections
from ocsf_mappers.errors import OcsfMappersError, RetriableError


def detect(settings: Settings, report: Report) -> None:
    """Runs the rules on all batches that they have not looked at, whichever run brought them, and sends alerts.

    What goes wrong is in the report, and takes nothing back of what was ingested: the next run looks at the same
    batches. Alerts are sent, however that ended: findings may have been noted before.

    Args:
        settings: The lake; without rules nothing is done.
        report: Of the run.
    """
    if not settings.rules:
        return
    from ocsf_lake.flows import alerts

    logger = get_run_logger()
    _ask(settings, report, logger)
    alerts.send(settings, report, logger)


def leave_out(settings: Settings, batches: Sequence[str]) -> None:
    """Notes batches as looked at, so that rules are asked of them only where somebody names their time."""
    with opened(settings, with_retries=True) as lake:
        Detections(lake.ledger.engine).leave_out(batches, datetime.now(UTC).isoformat())


def _ask(settings: Settings, report: Report, logger: Any) -> None:
    from ocsf_lake.alerts import run as alerting
    from ocsf_lake.detections import compiled, run

    try:
        alerting.take(settings)
        chosen = compiled.load(settings.rules, settings.rule_placeholders, settings.mappers)
        done = run.detect(settings, chosen)
    except RetriableError as error:
        logger.warning("detections left to the next run: %s", error)
        return
    except Exception as error:  # a defect in detections is no reason to hide what was ingested
        if not isinstance(error, OcsfMappersError):
            logger.exception("detections failed; the next run looks at the same batches")
        report.failures.append(Failure("detect", str(error) or type(error).__name__, []))
        return
    for number, reason in sorted(done.reasons.items()):
        logger.warning("rule %s cannot be used: %s", chosen[number].path, reason)
    for number, reason in sorted(done.failed.items()):
        message = f"rule {chosen[number].path} failed on these events; `ocsf-lake detect --all` runs it again: {reason}"
        report.failures.append(Failure("detect", message, []))
    for number in done.full:
        logger.warning("rule %s: no room for more of its values in the ledger", chosen[number].path)
    for finding, about in done.undone:
        logger.warning("finding %s stays, though late events show that it was not new: %s", finding, about)
    logger.info("batches=%d rules=%d findings=%d", done.batches, len(chosen), done.new)
