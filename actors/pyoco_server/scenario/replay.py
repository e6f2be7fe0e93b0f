"""Plays what was recorded: each run takes as long as it took, and ends as it ended."""

from __future__ import annotations

from random import Random
from typing import Any, Final, Literal

import trio

from pyoco_server.model.run import RunStatus
from pyoco_server.scenario.clients import Clients
from pyoco_server.scenario.flows import flow_text
from pyoco_server.scenario.judge import judge
from pyoco_server.scenario.play import Play
from pyoco_server.scenario.recording import RecordedRun, RecordedWorker, Recording, as_history
from pyoco_server.scenario.steps import Submit
from pyoco_server.scenario.troubles import Troubles

GROUP: Final = "recorded"
_PATIENCE_SECONDS: Final = 60.0
# An attempt that was repeated needs room for one more, where this machine loses one of its own.
_SPARE_ATTEMPTS: Final = 3
# Reasons of attempts that flows' own code ended.
_RAISED: Final = {"execution_error", "timeout", "flow_not_found", "invalid_job"}


async def replay(
    play: Play, clients: Clients, troubles: Troubles, recording: Recording, random: Random
) -> list[str]:
    """Play a recording; return which runs ended otherwise than they did.

    What broke an invariant at the time is returned too: a history that was wrong stays wrong.
    """
    play.say(f"replay {len(recording.runs)} runs, {len(recording.workers)} moves of workers")
    wrong = judge(as_history(recording), _judged(recording))
    missed = [f"recorded {violation}" for violation in wrong]
    ids: dict[str, str] = {}
    async with trio.open_nursery() as nursery:
        for move in recording.workers:
            nursery.start_soon(_move, play, troubles, move, recording, random, ids)
        for run in recording.runs:
            nursery.start_soon(_run, play, clients, run, ids)
    for run in recording.runs:
        last = play.history.last(ids[run.run]) if run.run in ids else None
        status = None if last is None else last.status
        if run.final.terminal and status is not run.final:
            missed.append(f"run {run.run} ended {run.final}, replayed it is {status}")
    return missed


def _judged(recording: Recording) -> list[str]:
    ended = all(run.final.terminal for run in recording.runs)
    return ["I1", "I2", "I3", "I7"] if ended else ["I2", "I3"]


async def _run(play: Play, clients: Clients, run: RecordedRun, ids: dict[str, str]) -> None:
    await play.until(run.states[0].at)
    step = Submit(flow=run.flow, tag=run.tag, group=GROUP, max_attempts=_most_attempts(run))
    plan = _plan(run, play.speed)
    # Not its params: nobody looks at them, and they may be more than a flow.yaml takes.
    text = flow_text(play.scenario, "replayed", {"replayed_plan": plan})
    run_id = await clients.accepted(step, GROUP, text)
    if run_id is None:
        return
    ids[run.run] = run_id
    cancel = next((s for s in run.states if s.status is RunStatus.CANCELLING), None)
    if run.final is RunStatus.CANCELLED:
        # Not before the attempt in which it came, or it would be another history.
        await play.until(cancel.at if cancel is not None else run.states[-1].at)
        await _reached(play, run_id, len(run.attempts))
        await clients.cancel_one(run_id, 0.0)
    if run.final.terminal:
        with trio.move_on_after(_PATIENCE_SECONDS + run.states[-1].at / play.speed):
            await play.ended(run_id)


async def _move(
    play: Play,
    troubles: Troubles,
    move: RecordedWorker,
    recording: Recording,
    random: Random,
    ids: dict[str, str],
) -> None:
    """Let a worker go when it did, and not before it has ended what it ended then."""
    await play.until(move.at)
    with trio.move_on_after(_PATIENCE_SECONDS):
        for run in recording.runs:
            if run.states[-1].worker == move.id and run.final.terminal:
                while run.run not in ids:
                    await play.observer.changed()
                await play.ended(ids[run.run])
    act = {"came": troubles.start, "stopped": troubles.stop, "lost": troubles.kill}[move.what]
    await act(move.id, random)


async def _reached(play: Play, run_id: str, attempt: int) -> None:
    with trio.move_on_after(_PATIENCE_SECONDS):
        while attempt and (
            (last := play.history.last(run_id)) is None
            or (last.status is RunStatus.PENDING or last.attempt < attempt)
        ):
            await play.observer.changed()


def _most_attempts(run: RecordedRun) -> int | None:
    count = len(run.attempts)
    if count <= 1:
        return None
    return count if run.final is RunStatus.FAILED else count + _SPARE_ATTEMPTS


def _plan(run: RecordedRun, speed: float) -> list[list[Any]]:
    """For each attempt: seconds, and how it ends."""
    plan = [
        [round(seconds / speed, 4), _end(status, reason)]
        for seconds, status, reason in run.attempts
    ]
    if not plan or run.final is RunStatus.CANCELLED:
        # None began, yet one may now; the last one of a cancelled run waits for its cancel.
        plan[-1:] = [[0.0, "raise" if run.final is RunStatus.FAILED else "wait"]]
    return plan


def _end(status: RunStatus, reason: str | None) -> Literal["return", "raise", "crash", "wait"]:
    if status is RunStatus.COMPLETED:
        return "return"
    if status is RunStatus.RUNNING or status is RunStatus.CANCELLED:
        return "wait"
    return "raise" if reason is None or reason in _RAISED else "crash"
