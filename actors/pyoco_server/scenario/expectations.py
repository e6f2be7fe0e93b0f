"""Whether what a scenario expects is so, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import httpx
import trio

from pyoco_server.scenario.figures import figures
from pyoco_server.scenario.history import History
from pyoco_server.scenario.judge import judge
from pyoco_server.scenario.play import Play
from pyoco_server.scenario.stage import Stage
from pyoco_server.scenario.steps import Expect

_LOOK_SECONDS = 0.2


async def check(expect: Expect, play: Play) -> list[str]:
    """Wait until everything is as expected; return what is not in the end, and what is so instead."""
    began = trio.current_time()
    while True:
        unmet = [
            *_of_runs(expect, play.history),
            *map(str, judge(play.history, expect.invariants)[:20]),
            *_of_figures(expect, play.history, play.now),
            *await _of_results(expect, play),
            *await _of_ticks(expect, play.stage),
            *await _of_others(expect, play.stage),
        ]
        waited = trio.current_time() - began
        if not unmet or waited >= expect.within or play.in_vain(unmet, waited):
            return unmet
        with trio.move_on_after(_LOOK_SECONDS):
            await play.observer.changed()


def _of_runs(expect: Expect, history: History) -> Iterator[str]:
    runs = history.group(expect.group)
    who = expect.group or "all runs"
    snapshots = {run.run_id: history.last(run.run_id) for run in runs}
    statuses = Counter(s.status.value if s else "not seen" for s in snapshots.values())
    shown = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "none"
    if expect.runs is not None and len(runs) != expect.runs:
        yield f"{who}: {expect.runs} runs expected, there are {len(runs)}"
    if expect.all is not None and statuses != {expect.all: len(runs)}:
        yield f"{who}: all {expect.all} expected, there are {shown}"
    for status, count in expect.counts.items():
        if statuses[status] != count:
            yield f"{who}: {count} {status} expected, there are {shown}"
    if expect.outputs is not None:
        for run_id, snapshot in snapshots.items():
            records = snapshot.task_records.values() if snapshot else ()
            last = max(records, key=lambda record: record.ended_at or 0.0, default=None)
            output = None if last is None else last.output
            if output not in expect.outputs:
                yield f"{who}: result {output!r} of {run_id}, not one of {expect.outputs}"


def _of_figures(expect: Expect, history: History, seconds: float) -> Iterator[str]:
    found = figures(history, seconds) if expect.figures else {}
    for bound in expect.figures:
        value = found.get(bound.figure)
        if value is None:
            yield f"no figure {bound.figure}; there are {', '.join(found)}"
        elif bound.most is not None and value > bound.most:
            yield f"{bound.figure} is {value:g}, at most {bound.most:g} expected"
        elif bound.least is not None and value < bound.least:
            yield f"{bound.figure} is {value:g}, at least {bound.least:g} expected"


async def _of_results(expect: Expect, play: Play) -> list[str]:
    unmet = []
    for task, value in expect.results.items():
        for run in play.history.group(expect.group):
            found = await _ask(play.stage, f"/runs/{run.run_id}/results/{quote(task)}", {})
            if found != value:
                unmet.append(f"result of {task} of {run.run_id}: {found!r}, not {value!r}")
    return unmet


async def _of_others(expect: Expect, stage: Stage) -> list[str]:
    unmet = []
    if expect.ready is not None:
        for gateway in stage.gateways:
            if stage.programs[gateway.name].running:
                ready = await stage.ready(gateway)
                if ready is not expect.ready:
                    unmet.append(f"gateway {gateway.name} is {'' if ready else 'not '}ready")
    if expect.workers:
        listed = await _ask(stage, "/workers", {"scope": "all", "include_hidden": "true"})
        states = {worker["worker_id"]: worker["state"] for worker in listed or []}
        for name, state in expect.workers.items():
            if states.get(name) != state:
                unmet.append(f"worker {name}: {state} expected, it is {states.get(name)}")
    if expect.letters:
        letters = await _all(stage, "/dlq", {}) or []
        reasons = Counter(letter["reason"] for letter in letters)
        for reason, count in expect.letters.items():
            if reasons[reason] != count:
                unmet.append(f"{count} dead letters {reason} expected, there are {dict(reasons)}")
    return unmet


async def _of_ticks(expect: Expect, stage: Stage) -> list[str]:
    unmet = []
    for name, count in expect.ticks.items():
        schedule = await _ask(stage, f"/schedules/{quote(name)}", {})
        listed = await _all(stage, "/runs", {"schedule_id": name, "updated_after": "0"})
        if schedule is None or listed is None:
            unmet.append(f"schedule {name} cannot be read")
            continue
        # Ticks are whole seconds; a run that was triggered is of none.
        runs = [run for run in listed if (run.get("scheduled_at") or 0.5) % 1 == 0]
        ticks = Counter(run["scheduled_at"] for run in runs)
        unmet += [
            f"schedule {name}: {number} runs of the tick at {tick:.0f}"
            for tick, number in sorted(ticks.items())
            if number > 1
        ]
        every = schedule.get("every_sec")
        unmet += [
            f"schedule {name}: no run of the ticks between {earlier:.0f} and {later:.0f}"
            for earlier, later in pairwise(sorted(ticks))
            if every is not None
            and not all(
                _is_paused(schedule, tick)
                for tick in range(int(earlier + every), int(later), int(every))
            )
        ]
        ended = sum(run["status"] == "COMPLETED" for run in runs)
        if ended < count:
            unmet.append(f"schedule {name}: {count} runs expected, {ended} are COMPLETED")
    return unmet


def _is_paused(schedule: Mapping[str, Any], tick: float) -> bool:
    """Whether a tick has no run because its schedule was paused."""
    orders = [
        change["action"]
        for change in schedule["changes"]
        if change["action"] in ("pause", "resume") and change["changed_at"] < tick
    ]
    return orders[-1:] == ["pause"]


async def _all(stage: Stage, path: str, query: dict[str, str]) -> list[Any] | None:
    """What a list holds, over all of its pages; None where one of them cannot be read."""
    items: list[Any] = []
    page: dict[str, str] = {}
    while True:
        found = await _ask(stage, path, {**query, **page, "limit": "200"})
        if found is None:
            return None
        items += found["items"]
        if not found.get("next_cursor"):
            return items
        page = {"cursor": found["next_cursor"]}


async def _ask(stage: Stage, path: str, query: dict[str, str]) -> Any:
    for gateway in stage.gateways:
        if stage.programs[gateway.name].running:
            try:
                async with httpx.AsyncClient(timeout=5.0) as client:
                    answer = await client.get(gateway.url + path, params=query)
            except httpx.HTTPError:
                continue
            if answer.status_code == 200:
                return answer.json()
    return None
