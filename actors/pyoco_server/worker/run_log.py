"""The log lines of a run on its worker, and the fields that every line about it has."""

from __future__ import annotations

import structlog

from pyoco_server.model import decisions
from pyoco_server.model.job import Job
from pyoco_server.model.run import RunSnapshot
from pyoco_server.model.trace import log_fields
from pyoco_server.worker.claiming import Claimant

log = structlog.get_logger(__name__)


def open_log(job: Job, claimant: Claimant) -> None:
    """From here on the lines of this task, and of those that it starts, are about the job's run."""
    structlog.contextvars.bind_contextvars(
        run_id=job.run_id,
        flow_name=job.flow_name,
        tag=job.tag,
        worker_id=claimant.worker_id,
        slot=claimant.slot,
        **log_fields(job.request_id, job.traceparent),
    )


def close_log() -> None:
    """From here on the lines of this task are about no run."""
    structlog.contextvars.clear_contextvars()


def tell_start(claim: RunSnapshot) -> None:
    """Log that an attempt begins."""
    waited = max(0.0, (claim.start_time or 0.0) - (claim.submitted_at or claim.start_time or 0.0))
    log.info("run started", attempt=claim.attempt, since_submit_sec=round(waited, 3))


def tell_end(claim: RunSnapshot, decision: decisions.Finish, now: float) -> None:
    """Log how an attempt ended, now."""
    snapshot = decision.snapshot
    log.info(
        "run ended" if isinstance(decision, decisions.Finished) else "attempt ended",
        attempt=claim.attempt,
        status=snapshot.status,
        reason=snapshot.reason,
        duration_ms=round((now - (claim.start_time or now)) * 1000, 1),
    )


def variables(job: Job) -> dict[str, str]:
    """Return what task code finds in its environment, to put into its own logs and requests.

    ``TRACEPARENT`` is the name that OpenTelemetry gives to the trace context of a process
    (https://opentelemetry.io/docs/specs/otel/context/env-carriers/).
    """
    found = {"PYOCO_REQUEST_ID": job.request_id, "TRACEPARENT": job.traceparent}
    return {name: value for name, value in found.items() if value}
