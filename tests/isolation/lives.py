"""A slot's child over its lives, as a slot uses it, without all that a worker does besides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from pyoco_server.model.job import Job
from pyoco_server.worker.child import SlotChild
from pyoco_server.worker.control_group import SlotGroup
from pyoco_server.worker.runner.guarded import Guardian
from pyoco_server.worker.runner.handle import Exited
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import Execute, FlowFinished
from pyoco_server.worker.spare import SpareChild
from pyoco_server.worker.wheel_set import NO_WHEELS, WheelSet
from runner.children import Flows, Told, flow_yaml

CODE = str(Path(__file__).parent / "code")


class Lives:
    """Executes one run after the other in the child of a slot."""

    def __init__(self, child: SlotChild, spare: SpareChild) -> None:
        self.child = child
        self.spare = spare
        self.wheels: WheelSet = NO_WHEELS
        self._runs = 0

    @property
    def pid(self) -> int:
        return self.child.runner.pid

    async def begin(self, task: dict[str, Any] | str | None, tenant: str | None = "a") -> Flows:
        """Have the child execute one of the misdeeds, a task as of a flow.yaml, or the resolver's flow."""
        self._runs += 1
        config = {"callable": f"misdeeds:{task}"} if isinstance(task, str) else task
        self.job = Job(
            run_id=f"r{self._runs}",
            flow_name="main",
            tenant_id=tenant,
            workflow_yaml=None if config is None else flow_yaml("a", {"a": config}),
        )
        await self.child.make_folder()
        await self.child.use(self.wheels, self.job)
        flows = Flows(self.child.runner)
        await self.child.runner.send(
            Execute(
                run_id=self.job.run_id,
                attempt=1,
                flow_name="main",
                workflow_yaml=self.job.workflow_yaml,
                workdir=str(self.child.folder),
            )
        )
        return flows

    async def end(self, flows: Flows) -> Told:
        """Hear of a run to its end, and see to the child's next life where it needs one."""
        told = await flows.hear()
        last = told.last
        if isinstance(last, Exited) or (isinstance(last, FlowFinished) and last.worn is not None):
            await self.child.replace()
        elif isinstance(last, FlowFinished) and last.bound:
            self.child.bind(self.job)
        if self.child.is_touched():
            await self.child.remove_folder()
        return told

    async def run(self, task: dict[str, Any] | str, tenant: str | None = "a") -> Told:
        return await self.end(await self.begin(task, tenant))


@asynccontextmanager
async def lives(
    folder: Path, marks: range | None = None, group: SlotGroup | None = None, **options: Any
) -> AsyncIterator[Lives]:
    """A child that ends with the block, with its guardian."""
    given = RunnerOptions(extra_sys_path=(CODE,), **options)
    guardian = Guardian(given.python, given.variables, marks=marks)
    spare = SpareChild(guardian)
    child = SlotChild(given, folder, spare, group)
    try:
        yield Lives(child, spare)
    finally:
        with trio.CancelScope(shield=True):
            await child.stop()
            await spare.stop()
            await guardian.close()
