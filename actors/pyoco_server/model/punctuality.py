"""What time does to a run: whether it waits for its time, is too old to start, or is late.

Every ``now`` is the server's time, in unix seconds. What a run does not ask for costs a look at a field.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from pyoco_server.model.run import Late, RunSnapshot, RunState, RunStatus, known

EXPIRED: Final = "expired"
"""The ``reason`` of a run that had not started when it might not any more."""


def has_started(run: RunSnapshot) -> bool:
    """Whether an attempt at it was ever made, or its end was asked for."""
    return run.status is not RunStatus.PENDING or run.attempt > 0


def waits_until(run: RunSnapshot) -> float | None:
    """When a run that waits may be claimed; None for now."""
    if run.next_attempt_at is not None or has_started(run):
        return run.next_attempt_at
    return known(run.scheduled_for)


def is_expired(run: RunSnapshot, now: float) -> bool:
    """Whether a run has not started and may not any more."""
    expires_at = known(run.expires_at)
    return expires_at is not None and expires_at <= now and not has_started(run)


def expired_text(run: RunSnapshot) -> str:
    """Say so, for people."""
    since = run.submitted_at or 0.0
    waited = (known(run.expires_at) or since) - (known(run.scheduled_for) or since)
    return f"expired: the run had not started {max(waited, 0.0):g} s after it might"


def state_of(run: RunSnapshot, now: float) -> RunState:
    """What the run is told to be."""
    if run.status is RunStatus.FAILED and run.reason == EXPIRED:
        return RunState.EXPIRED
    due = known(run.scheduled_for)
    if due is not None and due > now and not has_started(run):
        return RunState.SCHEDULED
    return RunState(run.status.value)


def late_moments(
    may_start_at: float | None,
    late: Late | None,
    start_within: float | None,
    end_within: float | None,
) -> tuple[float | None, float | None]:
    """When a run is late with its start and with its end; None for never, or where that is known already."""
    if may_start_at is None or (start_within is None and end_within is None):
        return None, None
    late = late or Late()
    return (
        None if start_within is None or late.start else may_start_at + start_within,
        None if end_within is None or late.end else may_start_at + end_within,
    )


def with_lateness(run: RunSnapshot, now: float) -> RunSnapshot:
    """Return the run, marked where it has not started, or not ended, by when that was expected.

    A rule that starts or ends a run asks this of how the run was before.
    """
    if run.expected_start_within_sec is UNSET and run.expected_end_within_sec is UNSET:
        return run
    starts, ends = late_moments(
        known(run.scheduled_for) or run.submitted_at,
        known(run.late),
        known(run.expected_start_within_sec),
        known(run.expected_end_within_sec),
    )
    late_start = starts is not None and starts < now and not has_started(run)
    late_end = ends is not None and ends < now and not run.status.terminal
    if not (late_start or late_end):
        return run
    before = known(run.late) or Late()
    return replace(run, late=Late(start=before.start or late_start, end=before.end or late_end))


def moved(
    run: RunSnapshot, *, due: float | None, expires_at: float | None, now: float
) -> RunSnapshot:
    """Return a run that has not started with other times; None leaves one as it is.

    Args:
        run: The run.
        due: When it may start.
        expires_at: When it may not start any more.
        now: The time of the change.
    """
    return replace(
        run,
        scheduled_for=run.scheduled_for if due is None else due,
        expires_at=run.expires_at if expires_at is None else expires_at,
        late=run.late if due is None else UNSET,
        updated_at=now,
    )
