"""Limits of memory and processor time, watched while a run that has any is executed."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import gt
from typing import Final

import structlog
import trio

from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.job import Job
from pyoco_server.model.run import RunSnapshot, RunStatus, Usage, known
from pyoco_server.settings import Settings
from pyoco_server.store.threads import in_thread
from pyoco_server.worker.attempt import Ending
from pyoco_server.worker.control_group import SlotGroup
from pyoco_server.worker.runner import kin
from pyoco_server.worker.runner.handle import RunnerProcess
from pyoco_server.worker.runner.meter import cpu_sec_of, memory_of

log = structlog.get_logger(__name__)

MIB: Final = 1024 * 1024
TERMINATE_SECONDS: Final = 2.0
"""What code that handles SIGTERM has for that before it is killed."""

_LOOK_SECONDS: Final = 0.05
_LONGEST_SECONDS: Final = 1.0
# To look at what processes share takes the kernel its time, and holds them up: for so many times as long,
# they are left alone.
_PAUSE_TIMES: Final = 10.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the processes of an attempt may have together.

    Attributes:
        memory_mb: MB of memory; None for as much as there is.
        cpu_sec: Seconds of processor time; None for as much as there is.
    """

    memory_mb: int | None
    cpu_sec: float | None

    @classmethod
    def of(cls, run: RunSnapshot | Job, settings: Settings) -> Bounds | None:
        """What a run may have on this worker: the less of what either says; None where none says anything."""
        memory = min(filter(None, (known(run.memory_mb), settings.worker_memory_mb)), default=None)
        cpu = min(filter(None, (known(run.cpu_sec), settings.worker_cpu_sec)), default=None)
        return None if memory is None and cpu is None else cls(memory, cpu)

    @property
    def memory_bytes(self) -> int | None:
        """The same memory in bytes."""
        return None if self.memory_mb is None else self.memory_mb * MIB


class ResourceWatch:
    """Looks at the processes of a run and ends them when they take more than they may.

    Args:
        runner: The child that is about to execute it.
        group: That child's control group, in which the kernel sees to the memory.
    """

    def __init__(self, bounds: Bounds, runner: RunnerProcess, group: SlotGroup | None) -> None:
        self._bounds = bounds
        self._runner = runner
        self._group = group
        self._memory_bytes = bounds.memory_bytes
        self._peak_bytes = 0
        self._cpu_taken = 0.0
        self._breach: DeadLetterReason | None = None
        self._scope = trio.CancelScope()
        # Whether the kernel sees to the memory, and tells how much there was of it at most from now on.
        self._by_kernel = self._has_peak = False
        if group is not None and group.bounds_memory and self._memory_bytes is not None:
            self._by_kernel = group.bound(self._memory_bytes)
            self._has_peak = group.forget_peak()
        self._oom_before = (0, 0) if group is None else group.oom_counts()
        # Found by the first look at the processes for which there is a descriptor.
        self._cpu_before: float | None = None
        with suppress(OSError):
            self._cpu_before = self._cpu_sec(self._processes())

    async def keep(self) -> None:
        """Watch until the end is told of."""
        with self._scope:
            while True:
                began, wait = trio.current_time(), _LOOK_SECONDS
                try:
                    seen = await in_thread(self._look, abandon_on_cancel=True)
                    await trio.lowlevel.checkpoint_if_cancelled()  # the end was told of meanwhile
                except OSError as error:  # the worker has no descriptor left, say
                    log.debug("a run is not looked at this time", reason=str(error))
                else:
                    wait = self._weigh(*seen)
                if self._breach is not None:
                    break
                took = trio.current_time() - began
                await trio.sleep(max(wait, _PAUSE_TIMES * took))
            log.warning("a run takes more than it may, ending it", reason=self._breach)
            if self._breach is DeadLetterReason.CPU_LIMIT:
                self._runner.terminate()
                await trio.sleep(TERMINATE_SECONDS)
            self._runner.kill()

    def _look(self) -> tuple[int | None, float | None]:
        """Return the memory and processor time that is taken, where it is to be looked at; in a thread."""
        memory, processes = None if self._by_kernel else self._memory_bytes, self._processes()
        return (
            None if memory is None else memory_of(processes, memory),
            None if self._bounds.cpu_sec is None else self._cpu_sec(processes),
        )

    def _weigh(self, has: int | None, cpu_sec: float | None) -> float:
        """Take in what was seen; return how long it is until it can be too much."""
        wait = _LONGEST_SECONDS
        if has is not None and self._memory_bytes is not None:
            self._peak_bytes = max(self._peak_bytes, has)
            wait = _LOOK_SECONDS
            if has > self._memory_bytes:
                self._breach = DeadLetterReason.OUT_OF_MEMORY
        if cpu_sec is not None and self._bounds.cpu_sec is not None:
            if self._cpu_before is None:
                self._cpu_before = cpu_sec
            self._cpu_taken = max(self._cpu_taken, cpu_sec - self._cpu_before)
            left = self._bounds.cpu_sec - self._cpu_taken
            wait = min(wait, max(_LOOK_SECONDS, left / (os.cpu_count() or 1)))
            if left <= 0:
                self._breach = self._breach or DeadLetterReason.CPU_LIMIT
        return wait

    def _processes(self) -> set[int]:
        pid = self._runner.pid
        return {pid} | kin.descendants(pid) if pid else set()

    def _cpu_sec(self, processes: set[int]) -> float:
        return cpu_sec_of(processes) if self._group is None else self._group.cpu_sec()

    def judge(self, ending: Ending | None) -> Ending | None:
        """Stop watching; return how the attempt ended in the light of what was seen."""
        self._scope.cancel()
        if self._group is not None and self._has_peak:
            self._peak_bytes = max(self._peak_bytes, self._group.peak_bytes())
        if self._group is not None and self._by_kernel:
            # Killed without having been at its limit, it was the machine that had no memory left.
            if all(map(gt, self._group.oom_counts(), self._oom_before)):
                self._breach = DeadLetterReason.OUT_OF_MEMORY
            self._group.bound(None)
        if ending is None:
            return None
        usage = ending.usage or Usage()
        # What was seen may be more: of processes that nobody has waited for.
        usage = Usage(
            peak_memory_bytes=max(usage.peak_memory_bytes or 0, self._peak_bytes) or None,
            cpu_sec=max(usage.cpu_sec or 0.0, self._cpu_taken) or None,
        )
        ending = replace(ending, usage=usage)
        if self._breach is None or ending.status is not RunStatus.FAILED:
            return ending
        return replace(ending, reason=self._breach, error=f"{self._breach}: {self._text(usage)}")

    @property
    def breached(self) -> bool:
        """Whether the child was told to end, or may yet be."""
        return self._breach is not None

    def _text(self, usage: Usage) -> str:
        if self._breach is DeadLetterReason.CPU_LIMIT:
            return (
                f"the attempt took {usage.cpu_sec or 0.0:.1f} s of processor time, and may take "
                f"{self._bounds.cpu_sec:g} s"
            )
        peak = max(usage.peak_memory_bytes or 0, self._memory_bytes or 0) / MIB
        return (
            f"the processes of the attempt had {peak:.0f} MB of memory, and may have "
            f"{self._bounds.memory_mb} MB"
        )
