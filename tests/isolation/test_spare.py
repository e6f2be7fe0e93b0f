"""A child that is made ahead takes the place of one that has to go."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from isolation.families import gone, parent_of
from isolation.lives import CODE, Lives, lives
from isolation.test_misdeeds import canary
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.control_group import SlotGroup
from pyoco_server.worker.held_folder import make_held
from pyoco_server.worker.runner.guarded import Guardian
from pyoco_server.worker.runner.handle import open_runner
from pyoco_server.worker.runner.kin import children
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.wheel_set import WheelSet


@pytest.fixture
async def slot(tmp_path: Path) -> AsyncIterator[Lives]:
    async with lives(tmp_path / "0") as slot:
        yield slot


async def spare_of(slot: Lives) -> int:
    """The process id of the only other child."""
    guardian = parent_of(slot.pid)
    with trio.fail_after(60):
        while len(others := set(children(guardian)) - {slot.pid}) != 1:
            await trio.sleep(0.01)
    return others.pop()


def made(slot: Lives) -> int:
    return len(children(parent_of(slot.pid)))


async def test_there_is_none_until_a_child_had_to_go(slot: Lives) -> None:
    for _ in range(2):
        await slot.run("count", "a")
    assert made(slot) == 1
    await slot.child.replace(code_changed=True)
    assert made(slot) == 1
    await slot.run("count", "a")
    await slot.run("count", "b")
    await spare_of(slot)


@pytest.mark.parametrize("why", ["another tenant", "misdeed", "end"])
async def test_it_takes_the_place_and_is_as_good_as_fresh(slot: Lives, why: str) -> None:
    fresh = await canary(slot)
    await slot.run("leave_a_thread")
    await slot.run("count")
    for other in "bcd":
        spare = await spare_of(slot)
        tenant = other if why == "another tenant" else "a"
        if tenant == "a":
            await slot.run("leave_a_process" if why == "misdeed" else "kill_itself")
        assert await canary(slot, tenant) == fresh
        assert slot.pid == spare


async def test_it_is_there_before_the_next_run_is(slot: Lives) -> None:
    await slot.run("count", "a")
    await slot.run("count", "b")
    spare = await spare_of(slot)
    await slot.run("count", "a")
    assert slot.pid == spare
    last = await spare_of(slot)
    await slot.child.replace()
    assert slot.pid == last


@pytest.mark.parametrize("killed", ["spare", "guardian"])
async def test_where_it_has_died_another_is_made(slot: Lives, killed: str) -> None:
    await slot.run("count", "a")
    await slot.run("count", "b")
    spare, guardian = await spare_of(slot), parent_of(slot.pid)
    os.kill(spare if killed == "spare" else guardian, signal.SIGKILL)
    await gone(spare if killed == "spare" else guardian)
    told = await slot.run("count", "a")
    assert told.finished.status is RunStatus.COMPLETED
    assert told.finished.worn is None
    assert slot.pid != spare
    await gone(spare)
    assert await spare_of(slot) != spare


async def test_one_whose_death_is_not_told_yet_is_not_taken() -> None:
    options = RunnerOptions()
    guardian = Guardian(options.python, options.variables)
    runner = await open_runner(options, guardian)
    try:
        os.kill(parent_of(runner.pid), signal.SIGSTOP)  # whoever asks for something wakes it
        os.kill(runner.pid, signal.SIGKILL)
        await gone(runner.pid)
        assert not await runner.adopt(options)
    finally:
        await runner.stop(0)
        await guardian.close()


async def test_it_knows_no_code_that_has_changed(tmp_path: Path) -> None:
    code = tmp_path / "flows.py"
    text = (
        "from pyoco import Flow, task\n\n@task\ndef say():\n    return 'old'\n\n"
        "def get(name):\n    return Flow(name=name) >> say\n"
    )
    code.write_text(text)
    async with lives(tmp_path / "0", flow_resolver=f"{code}:get") as slot:
        await slot.run("count", "a")
        await slot.run("count", "b")
        await spare_of(slot)
        code.write_text(text.replace("old", "new, and longer"))
        await slot.child.replace(code_changed=True)
        told = await slot.end(await slot.begin(None, "b"))
        assert told.finished.task_records["say"].output == "new, and longer"


async def test_it_imports_from_the_wheels_of_who_takes_it(slot: Lives, tmp_path: Path) -> None:
    def wheels(name: str) -> WheelSet:
        folder = make_held(tmp_path / "sets", name)
        (folder.path / "whose.py").write_text(f"def tell():\n    return {name!r}\n")
        return WheelSet(name, (), folder)

    of = {name: wheels(name) for name in ("a", "b")}
    slot.wheels = of["a"]
    fresh = await canary(slot)
    for number in range(4):
        name = "ba"[number % 2]
        spare = await spare_of(slot) if number else None
        slot.wheels = of[name]
        told = await slot.run({"callable": "whose:tell"}, name)
        assert told.finished.task_records["a"].output == name
        assert told.finished.worn is None
        assert slot.pid == (spare or slot.pid)
    assert await canary(slot) == fresh
    assert [path for path in fresh["path"] if path == CODE or path.startswith(str(tmp_path))] == [
        str(tmp_path / "sets" / "a"),
        CODE,
    ]


async def test_one_that_imported_a_resolver_is_not_used_with_other_wheels(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text("def get(name):\n    raise KeyError(name)\n")
    async with lives(tmp_path / "0", flow_resolver=f"{tmp_path}/flows.py:get") as slot:
        await slot.run("count", "a")
        await slot.run("count", "b")
        spare = await spare_of(slot)
        slot.wheels = WheelSet("other", (), make_held(tmp_path / "sets", "other"))
        assert (await slot.run("count", "a")).finished.status is RunStatus.COMPLETED
        assert slot.pid != spare
        await gone(spare)


async def test_it_joins_the_group_of_the_slot_and_ends_with_it(tmp_path: Path) -> None:
    group = tmp_path / "group"
    group.mkdir()
    async with lives(tmp_path / "0", group=SlotGroup(group)) as slot:
        await slot.run("count", "a")
        await slot.run("count", "b")
        spare = await spare_of(slot)
        assert (group / "cgroup.procs").read_text() == "0"
        await slot.run("count", "a")
        assert (group / "cgroup.procs").read_text() == str(spare)
        (group / "cgroup.kill").unlink()
        await slot.child.stop()
        assert (group / "cgroup.kill").read_text() == "1"


async def test_a_slot_that_is_stopped_meanwhile_leaves_no_process(slot: Lives) -> None:
    await slot.run("count", "a")
    await slot.run("count", "b")
    spare, guardian = await spare_of(slot), parent_of(slot.pid)
    with trio.CancelScope() as scope:
        scope.cancel()
        await slot.child.replace()
    await slot.child.stop()
    await slot.spare.stop()
    await gone(spare)
    with trio.fail_after(60):
        while children(guardian):
            await trio.sleep(0.01)
