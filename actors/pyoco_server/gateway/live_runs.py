"""The runs that have not ended, and when each of them last gave a sign of life, as this process saw it.

Silence is measured by this process's own clock, from when it saw a change; clocks of workers do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import structlog
import trio

from pyoco_server.jetstream.keyvalue import Entry
from pyoco_server.jetstream.watch import Batch
from pyoco_server.model.run import TERMINAL_STATUSES, RunStatus

log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 64


class _Glance(msgspec.Struct):
    """What matters here of a snapshot; the rest is skipped, not decoded."""

    status: RunStatus
    tag: str | None = None
    worker_instance_id: str | None = None
    next_attempt_at: float | None = None
    end_time: float | None = None


_DECODER = msgspec.json.Decoder(_Glance)


@dataclass(slots=True)
class LiveRun:
    """A run that has not ended.

    Attributes:
        run_id: The run.
        revision: Of its snapshot.
        status: Its status.
        tag: Where its job is queued.
        claimed: Whether a worker of this version holds it.
        due_at: When it may be claimed again, in unix seconds, where it waits for that.
        changed_at: When this process saw the change, on trio's clock.
        look_again_at: Not to be looked at before, on trio's clock.
        looks: How often it was looked at and left alone.
    """

    run_id: str
    revision: int
    status: RunStatus
    tag: str
    claimed: bool
    due_at: float | None
    changed_at: float
    look_again_at: float = 0.0
    looks: int = 0

    def leave_alone(self, now: float, pause: float) -> None:
        """Somebody may still take it: look again after a pause, a longer one each time."""
        self.look_again_at = now + pause * min(2**self.looks, _LONGEST_PAUSE)
        self.looks += 1


class LiveRuns:
    """Kept up to date with `apply`."""

    def __init__(self) -> None:
        self._live: dict[str, LiveRun] = {}
        self._kept: dict[str, float] = {}
        self.caught_up = False

    def __len__(self) -> int:
        return len(self._live)

    def get(self, run_id: str) -> LiveRun | None:
        """The run, if it has not ended."""
        return self._live.get(run_id)

    def apply(self, batch: Batch) -> None:
        """Take in changes of the runs bucket."""
        if batch.anew:
            self._live.clear()
            self._kept.clear()
        for event in batch.events:
            if isinstance(event, Entry):
                self._take(event)
            else:
                self._live.pop(event.key, None)
                self._kept.pop(event.key, None)
        self.caught_up |= batch.caught_up

    def start_anew(self) -> None:
        """Nothing was heard for a while, for reasons of our own: give every run its full time again."""
        now = trio.current_time()
        for run in self._live.values():
            run.changed_at = now

    def silent(
        self, now: float, patience: float, patience_unclaimed_cancel: float
    ) -> Iterator[LiveRun]:
        """Runs without a sign of life for longer than ``patience`` seconds, that are due to be looked at.

        Args:
            now: On trio's clock.
            patience: Seconds.
            patience_unclaimed_cancel: The same for a cancelled run that no worker had.
        """
        for run in self._live.values():
            unclaimed = run.status is RunStatus.CANCELLING and not run.claimed
            silence = patience_unclaimed_cancel if unclaimed else patience
            if now - run.changed_at > silence and now >= run.look_again_at:
                yield run

    def expired(self, before: float) -> list[str]:
        """Runs that ended before that moment, in unix seconds, and do not go away by themselves."""
        return [run_id for run_id, ended in self._kept.items() if ended < before]

    def forget(self, run_id: str) -> None:
        """The run was deleted in a way that watches do not see."""
        self._kept.pop(run_id, None)

    def _take(self, entry: Entry) -> None:
        try:
            glance = _DECODER.decode(entry.value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.debug("unreadable snapshot", run_id=entry.key, reason=str(error))
            return
        if glance.status in TERMINAL_STATUSES:
            self._live.pop(entry.key, None)
            if entry.expires_at is None:
                self._kept[entry.key] = glance.end_time or entry.created
            return
        self._live[entry.key] = LiveRun(
            entry.key,
            entry.revision,
            glance.status,
            glance.tag or "",
            glance.worker_instance_id is not None,
            glance.next_attempt_at,
            trio.current_time(),
        )
