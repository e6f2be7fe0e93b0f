"""Figures of a history, for reports and for expectations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from pyoco_server.scenario.history import History
from pyoco_server.scenario.judge import judge

_SUBMITS: Final = {"POST /runs", "POST /runs/yaml", "POST /runs/batch"}


def figures(history: History, seconds: float) -> dict[str, float]:
    """What can be counted or measured.

    Args:
        history: What happened.
        seconds: How long it took.
    """
    ended = [
        (run, snapshot)
        for run in history.accepted.values()
        if (snapshot := history.last(run.run_id)) is not None and snapshot.status.terminal
    ]
    statuses = Counter(snapshot.status.lower() for _, snapshot in ended)
    waits = [
        snapshot.start_time - snapshot.submitted_at
        for _, snapshot in ended
        if snapshot.start_time is not None and snapshot.submitted_at is not None
    ]
    answers = [each for each in history.answers if each.call in _SUBMITS]
    troubles = Counter(
        name
        for trouble in history.troubles
        for name in (f"{trouble.what}s", f"{trouble.what}s_{trouble.kind}")
    )
    found = {
        "seconds": seconds,
        "runs": float(len(history.accepted)),
        "runs_per_second": len(ended) / seconds if seconds else 0.0,
        "attempts": float(sum(snapshot.attempt for _, snapshot in ended)),
        "executions": float(len(history.executions)),
        "executions_cut_off": float(sum(each.ended is None for each in history.executions)),
        "submits_refused": float(sum(each.status == 503 for each in answers)),
        **{name: float(count) for name, count in statuses.items()},
        **{name: float(count) for name, count in sorted(troubles.items())},
        "cancels": float(len(history.cancels)),
        "violations": float(len(judge(history))),
    }
    for name, values in (
        ("recovery", history.recoveries),
        ("queue", waits),
        ("submit", [each.seconds for each in answers]),
    ):
        if values:
            found[f"{name}_p50"] = quantile(values, 0.5)
            found[f"{name}_p99"] = quantile(values, 0.99)
    return found


def quantile(values: Sequence[float], part: float) -> float:
    """The value that ``part`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
