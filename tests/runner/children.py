"""Runs flows in real children and gathers what they say."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace

from pyoco_server.model.run import TaskRecord, TaskState
from pyoco_server.worker.runner.guarded import Guardian
from pyoco_server.worker.runner.handle import (
    Exited,
    RunnerEvent,
    RunnerProcess,
    open_runner,
)
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import (
    Execute,
    FlowFinished,
    Output,
    TaskChanged,
    TriesTold,
    TryStored,
)

CODE = str(Path(__file__).parent / "code")
WITHIN_SECONDS = 60


@dataclass
class Told:
    """What a child said of one run."""

    events: list[RunnerEvent] = field(default_factory=list)

    @property
    def last(self) -> RunnerEvent:
        return self.events[-1]

    @property
    def finished(self) -> FlowFinished:
        assert isinstance(self.last, FlowFinished), self.last
        return self.last

    @property
    def exited(self) -> Exited:
        assert isinstance(self.last, Exited), self.last
        return self.last

    def outputs(self, run_id: str | None = None) -> list[Output]:
        return [
            event
            for event in self.events
            if isinstance(event, Output) and run_id in (None, event.run_id)
        ]

    def text(self, task: str | None, stream: str = "stdout") -> str:
        return "".join(
            event.text for event in self.outputs() if (event.task, event.stream) == (task, stream)
        )

    def states(self, name: str) -> list[TaskState]:
        return [
            event.record.state
            for event in self.events
            if isinstance(event, TaskChanged) and event.name == name
        ]


@asynccontextmanager
async def a_child(options: RunnerOptions) -> AsyncIterator[RunnerProcess]:
    """A child that ends with the block, with a guardian of its own."""
    guardian = Guardian(options.python, options.variables)
    try:
        runner = await open_runner(options, guardian)
        try:
            yield runner
        finally:
            await runner.stop(0)
    finally:
        await guardian.close()


class Flows:
    """Sends runs to one child."""

    def __init__(self, runner: RunnerProcess) -> None:
        self.runner = runner
        self.tries: list[TriesTold] = []
        self._records: dict[str, dict[str, TaskRecord]] = {}

    async def send(self, graph: str = "", **tasks: Any) -> str:
        """Send a flow of tasks, each a function of the sample module or a task's configuration."""
        return await self.send_yaml(flow_yaml(graph, tasks))

    async def send_yaml(self, text: str | None, **fields: Any) -> str:
        request: dict[str, Any] = {
            "run_id": str(uuid.uuid4()),
            "attempt": 1,
            "flow_name": "main",
            "workflow_yaml": text,
            **fields,
        }
        await self.runner.send(Execute(**request))
        return request["run_id"]  # type: ignore[no-any-return]

    async def hear(self, until: Any = (FlowFinished, Exited)) -> Told:
        """Gather events up to one of that type, or one that is as wanted.

        The end of a run has the records of all its tasks, as its worker has them by then.
        """
        told = Told()
        with trio.fail_after(WITHIN_SECONDS):
            while True:
                event = await self.runner.next_event()
                if isinstance(event, TriesTold):
                    if event.begins:
                        answer = TryStored(run_id=event.run_id, key=event.key)
                        await self.runner.send(answer)
                    self.tries.append(event)
                    continue
                if isinstance(event, TaskChanged):
                    self._records.setdefault(event.run_id, {})[event.name] = event.record
                elif isinstance(event, FlowFinished):
                    records = self._records.pop(event.run_id, {}) | event.task_records
                    event = replace(event, task_records=records)
                told.events.append(event)
                if isinstance(event, Exited) or (
                    isinstance(event, until) if isinstance(until, type | tuple) else until(event)
                ):
                    return told

    async def run(self, graph: str = "", **tasks: Any) -> Told:
        await self.send(graph, **tasks)
        return await self.hear()

    async def run_yaml(self, text: str | None, **fields: Any) -> Told:
        await self.send_yaml(text, **fields)
        return await self.hear()


def flow_yaml(graph: str, tasks: dict[str, Any], extra: str = "") -> str:
    lines = ["flow:", "  graph: |", *(f"    {line}" for line in graph.splitlines()), "tasks:"]
    for name, task in tasks.items():
        config = {"callable": f"sample_tasks:{task}"} if isinstance(task, str) else dict(task)
        if "function" in config:
            config["callable"] = f"sample_tasks:{config.pop('function')}"
        lines.append(f"  {name}: {json.dumps(config)}")
    return "\n".join(lines) + "\n" + extra
