"""What tasks report of how far they are: sent seldom, the last state always, and of the right task."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from pyoco.core.models import TaskState as EngineTaskState

import pyoco_server
from busyness import assert_cheap
from pyoco_server.model.run import RunStatus, TaskProgress, TaskRecord, TaskState
from pyoco_server.worker.runner.handle import RunnerEvent
from pyoco_server.worker.runner.output import OutputPump
from pyoco_server.worker.runner.pipe import EventPipe
from pyoco_server.worker.runner.progress import INTERVAL_SECONDS, ProgressBook
from pyoco_server.worker.runner.protocol import FlowFinished, FromChild, ProgressMade, TaskChanged
from runner.children import Flows, Told, flow_yaml


def sent(told: Told) -> list[TaskProgress]:
    return [
        made
        for event in told.events
        if isinstance(event, ProgressMade)
        for made in event.progress.values()
    ]


async def one(flows: Flows, function: str) -> Told:
    await flows.send("a", a={"callable": f"reporting:{function}"})
    told = await flows.hear()
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    return told


async def test_what_is_reported_often_is_sent_seldom_and_the_last_always(flows: Flows) -> None:
    told = await one(flows, "fast")
    made = sent(told)
    assert (made[-1].done, made[-1].total) == (20_000, 20_000)
    seconds = made[-1].at - made[0].at
    assert len(made) <= 2 + seconds / INTERVAL_SECONDS
    assert told.finished.task_records["a"].progress == made[-1]
    assert not told.finished.worn


async def test_a_task_that_says_nothing_more_is_told_of_before_its_end(flows: Flows) -> None:
    """And what it does not say anew stays as it was."""
    told = await one(flows, "then_silent")
    made = sent(told)
    assert [(each.done, each.total, each.message) for each in made] == [(1, 3, None), (2, 3, "two")]
    heard = next(at for at, event in enumerate(told.events) if isinstance(event, ProgressMade))
    assert heard < len(told.events) - 2
    assert all(later.at >= earlier.at for earlier, later in pairwise(made))


async def test_threads_of_a_task_report_for_it(flows: Flows) -> None:
    told = await one(flows, "in_a_thread")
    assert told.finished.task_records["a"].progress.done == 7  # type: ignore[union-attr]
    each = {name: {"callable": "reporting:beside", "inputs": {"name": name}} for name in "ab"}
    await flows.send("a & b", **each)
    finished = (await flows.hear()).finished
    for name in "ab":
        assert finished.task_records[name].progress.message == name  # type: ignore[union-attr]


async def test_a_task_runs_and_reports_until_its_last_iteration_has_ended(
    flows: Flows, tmp_path: Path
) -> None:
    loop = "foreach(over=numbers, item=n, parallel=2) { each }"
    text = flow_yaml(loop, {"each": {"callable": "reporting:one_after_the_other"}})
    await flows.send_yaml(text, params={"numbers": [0, 1]})
    told = await flows.hear(lambda event: isinstance(event, FlowFinished) or has_iterations(event))
    assert told.states("each")[-1] is TaskState.RUNNING
    (tmp_path / "told").touch()
    told = await flows.hear()
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    assert [(made.done, made.total) for made in sent(told)] == [(1, 1)]
    record = told.finished.task_records["each"]
    assert (record.state, record.progress) == (TaskState.SUCCEEDED, sent(told)[-1])
    assert record.iteration_counts == {"SUCCEEDED": 2}


def has_iterations(event: RunnerEvent) -> bool:
    return isinstance(event, TaskChanged) and bool(event.record.iterations)


async def test_coroutines_and_tasks_with_a_process_of_their_own_report_as_well(
    flows: Flows,
) -> None:
    for more in ({}, {"timeout_sec": 30}):
        await flows.send(
            "a & b",
            a={"callable": "reporting:from_a_coroutine", **more},
            b={"callable": "reporting:fast", "inputs": {"count": 100}, **more},
        )
        finished = (await flows.hear()).finished
        assert finished.status is RunStatus.COMPLETED, finished.error
        last = {name: record.progress for name, record in finished.task_records.items()}
        assert (last["a"].done, last["b"].done) == (3, 100)  # type: ignore[union-attr]


async def test_a_line_that_is_written_over_and_over_is_one_line_and_progress(flows: Flows) -> None:
    for more in ({}, {"timeout_sec": 30}):
        await flows.send("a", a={"callable": "reporting:bar", **more})
        told = await flows.hear()
        assert told.finished.status is RunStatus.COMPLETED, told.finished.error
        assert told.text("a", "stderr") == "100%|##########| 100/100\n"
        assert told.text("a", "stdout") == "done\nplain\nnever ended"
        messages = [made.message or "" for made in sent(told)]
        assert any("%|" in message for message in messages)
        assert not told.finished.worn
    await flows.send("a", a={"callable": "reporting:bar_and_report"})
    told = await flows.hear()
    assert told.text("a", "stderr") == "theirs"
    assert told.finished.task_records["a"].progress.message == "mine"  # type: ignore[union-attr]


async def test_odd_reports_do_no_harm(flows: Flows) -> None:
    progress = (await one(flows, "odd")).finished.task_records["a"].progress
    assert progress
    assert (progress.done, progress.total) == (None, None)
    assert len(progress.message or "") == 200
    await one(flows, "late")


class Nowhere(EventPipe):
    """Sends nothing."""

    def __init__(self) -> None:
        super().__init__(-1)

    def send(self, message: FromChild, *, quietly: bool = False) -> None:
        pass


class AfterABegin:
    """The lock of a book, which is got when another iteration has just begun."""

    def __init__(self, book: ProgressBook) -> None:
        self.book, self.lock = book, book._lock

    def __enter__(self) -> None:
        self.book._lock = self.lock
        self.book.begin("a")

    def __exit__(self, *_: object) -> None:
        pass


def test_an_iteration_may_begin_while_the_end_of_another_is_told() -> None:
    pipe = Nowhere()
    book = ProgressBook("r", {"a": EngineTaskState.RUNNING}, OutputPump(pipe, 0), pipe)
    book.report(1, 2, None)
    record = TaskRecord(state=TaskState.RUNNING)
    assert book.told_in("a", record).progress
    book._lock = cast("Any", AfterABegin(book))
    assert book.told_in("a", record) == record


def test_outside_of_a_run_nothing_happens() -> None:
    def tell() -> None:
        for done in range(10_000):
            pyoco_server.report(done=done, total=10_000, message="m")

    assert_cheap(tell)
