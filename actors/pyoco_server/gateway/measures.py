"""What this gateway measures of runs: kept in memory, read by `GET /metrics`."""

from __future__ import annotations

import bisect
import math
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from pyoco_server.gateway.read_model.writer import Applied
from pyoco_server.model.schedules.schedule import Schedule, TickOutcome, TickRecord
from pyoco_server.model.schedules.ticks import due_at

_WAITS: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200)
_LATE: Final = {"start": 1, "end": 2}
_LATENESS: Final = (0.05, 0.25, 1, 5, 30, 300, 3600)
_RUNS: Final = (0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600, 14400)
_CPU: Final = (0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)
_MEMORY: Final = tuple(2**power * 1024 * 1024 for power in range(5, 15))


class Measures:
    """The gateway's registry, and the histograms that the read side fills.

    Every gateway sees every run: of several, take one, or the average, but never the sum.
    """

    def __init__(self) -> None:
        # When each of them began would be a tenth of the text, and nobody asks.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        histogram = partial(Histogram, registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        self._waits = histogram(
            "pyoco_run_queue_wait_seconds",
            "Time from a run's submission, or from when it was to start, to its start.",
            buckets=_WAITS,
        )
        self._runs = histogram(
            "pyoco_run_duration_seconds",
            "Time from a run's start to its end.",
            ["status"],
            buckets=_RUNS,
        )
        self._late = counter(
            "pyoco_runs_marked_late",
            "Runs that did not start, or not end, by when that was expected.",
            ["what"],
        )
        for what in _LATE:
            self._late.labels(what)
        self._memory = histogram(
            "pyoco_run_peak_memory_bytes",
            "The most memory that a run's last attempt had.",
            buckets=_MEMORY,
        )
        self._cpu = histogram(
            "pyoco_run_cpu_seconds",
            "Processor time that a run's last attempt took.",
            buckets=_CPU,
        )
        self._ticks = counter(
            "pyoco_schedule_ticks",
            "Ticks of schedules that this gateway saw to, by what became of them.",
            ["outcome"],
        )
        self._lateness = histogram(
            "pyoco_schedule_lateness_seconds",
            "Time from when a tick was due to when its run was submitted, by this gateway.",
            buckets=_LATENESS,
        )

    def ticks_settled(self, schedule: Schedule, ticks: list[TickRecord], now: float) -> None:
        """Take what became of ticks."""
        progress = schedule.progress
        # Ticks are not computed where everybody would wait for that: these come next of what is known.
        later = {math.inf, progress.next_tick or math.inf, *progress.waiting}
        known = sorted(later.union(tick.tick for tick in ticks))
        for tick in ticks:
            self._ticks.labels(tick.outcome).inc(tick.count)
            if tick.outcome is TickOutcome.RUN:
                following = known[bisect.bisect_right(known, tick.tick)]
                due = due_at(schedule, tick.tick, following)
                self._lateness.observe(max(now - due, 0.0))

    def observe(self, applied: Applied) -> None:
        """Take the starts and ends of runs out of what was written."""
        for before, row in applied.changed:
            newly_late = row.late if before is None else row.late & ~before.late
            for what, bit in _LATE.items():
                if newly_late & bit:
                    self._late.labels(what).inc()
            if row.start_time is None:
                continue
            started_before = before is not None and before.start_time is not None
            if not started_before and row.submitted_at is not None:
                waited = row.start_time - (row.scheduled_for or row.submitted_at)
                self._waits.observe(max(waited, 0.0))
            ended_before = before is not None and before.status.terminal
            if row.status.terminal and not ended_before and row.end_time is not None:
                self._runs.labels(row.status).observe(max(row.end_time - row.start_time, 0.0))
                if row.peak_memory_bytes is not None:
                    self._memory.observe(row.peak_memory_bytes)
                if row.cpu_sec is not None:
                    self._cpu.observe(max(row.cpu_sec, 0.0))
