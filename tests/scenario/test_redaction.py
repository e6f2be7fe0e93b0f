"""A redacted recording tells what happened, and nothing that anybody wrote."""

from __future__ import annotations

import time
from pathlib import Path

from backend.stage import ended, new_run, running, started, worker_options
from pyoco_server.model.run import RunStatus
from pyoco_server.scenario.document import Scenario, write_scenario
from pyoco_server.scenario.recorder import record, redact_run
from pyoco_server.scenario.recording import RecordedRun, RecordedState

SECRET = "hunter2"
SENDER = "mallory@example.org"
WHY = "the customer Jane Doe called"
FLOWS = """\
import time

from pyoco.core.models import Flow
from pyoco.dsl.syntax import task


@task
def tells(password):
    raise ValueError(f"wrong password {password}")


@task
def sleeps(ctx, password):
    end = time.time() + 60
    while time.time() < end and not ctx.is_cancelled:
        time.sleep(0.01)


def resolve(name):
    return Flow(name=name) >> {"tells": tells, "sleeps": sleeps}[name]
"""


async def test_nothing_that_anybody_wrote_is_left(tmp_path: Path) -> None:
    flows = tmp_path / "told.py"
    flows.write_text(FLOWS)
    worker = worker_options(tmp_path, flow_resolver=f"{flows}:resolve")
    began = time.time() - 60
    async with running(tmp_path, worker=worker) as backend:
        told = await backend.submit(new_run("tells", password=SECRET))
        assert SECRET in str((await ended(backend, told.run_id)).error)
        slept = await backend.submit(new_run("sleeps", password=SECRET))
        await started(backend, slept.run_id)
        await backend.cancel(slept.run_id, by=SENDER, reason=WHY)
        assert (await ended(backend, slept.run_id)).status is RunStatus.CANCELLED

        async def recorded(*, redact: bool) -> Scenario:
            return await record(
                backend.connection,
                backend.settings,
                since=began,
                now=time.time(),
                redact=redact,
            )

        whole = write_scenario(await recorded(redact=False))
        redacted = await recorded(redact=True)
    assert SECRET in whole
    assert WHY in whole
    assert SENDER not in whole
    assert "wrong password" not in whole
    text = write_scenario(redacted)
    for written in (SECRET, SENDER, WHY, "wrong password"):
        assert written not in text
    replay = redacted.steps[0].replay
    assert replay is not None
    reasons = {run.flow: [state.reason for state in run.states] for run in replay.runs}
    assert reasons["tells"][-1] == "execution_error"
    assert reasons["sleeps"][-2:] == ["redacted", "cancelled"]
    assert [run.params for run in replay.runs] == [{"password": "redacted"}] * 2


def test_a_reason_of_another_version_counts_as_written_by_somebody() -> None:
    state = RecordedState(at=0, status=RunStatus.FAILED, reason="jane said so")
    run = RecordedRun(run="r", flow="f", tag="t", states=[state])
    assert redact_run(run).states[0].reason == "redacted"
