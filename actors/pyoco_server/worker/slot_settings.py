"""What a slot needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyoco_server.worker.claiming import Claimant
from pyoco_server.worker.runner.handle import RunnerOptions


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """What a slot needs to know.

    Attributes:
        claimant: Who claims.
        runner: How its child is started.
        work_dir: Where each run gets a folder of its own.
        ack_progress_interval: Seconds between two "in progress" acks of a job.
        heartbeat_interval: Seconds between two heartbeats of a run.
        cancel_grace_period: Seconds that a cancelled flow has to end by itself.
        max_backoff: Seconds that a failed run waits at most before its next attempt.
    """

    claimant: Claimant
    runner: RunnerOptions
    work_dir: Path
    ack_progress_interval: float
    heartbeat_interval: float
    cancel_grace_period: float
    max_backoff: float
