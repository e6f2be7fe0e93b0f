"""When a child goes on, and when another takes its place."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isolation.lives import Lives, lives
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.control_group import SlotGroup, WorkerGroup


@pytest.fixture
async def slot(tmp_path: Path) -> AsyncIterator[Lives]:
    async with lives(tmp_path / "0") as slot:
        yield slot


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def test_a_child_is_of_one_tenant(slot: Lives) -> None:
    pids = []
    for tenant in ("a", "a", "b", None):
        await slot.run("count", tenant)
        pids.append(slot.pid)
    assert pids[0] == pids[1]
    assert len(set(pids)) == 3


@pytest.mark.parametrize("flow", ["change_locale", "change_umask", "set_an_alarm", "lower_files"])
async def test_what_can_be_undone_costs_no_child(slot: Lives, flow: str) -> None:
    told = await slot.run(flow)
    pid = slot.pid
    assert told.finished.worn is None
    assert (await slot.run("count")).finished.status is RunStatus.COMPLETED
    assert slot.pid == pid


async def test_what_modules_do_when_they_are_imported_is_for_runs_of_their_flow_only(
    slot: Lives,
) -> None:
    flow = {"callable": "sets_itself_up:look"}
    looks = []
    for _ in range(3):
        told = await slot.run(flow)
        assert (told.finished.worn, told.finished.bound) == (None, True)
        looks.append(told.finished.task_records["a"].output)
    assert looks[0] == looks[1] == looks[2] == ["DEBUG", 1, True, 10.0]
    pid = slot.pid
    told = await slot.run("count")
    assert slot.pid != pid
    assert not told.finished.bound


@pytest.mark.parametrize(
    ("path", "module"),
    [("helper.py", "helper"), ("helpers/__init__.py", "helpers"), ("bare/part.py", "bare.part")],
)
async def test_a_module_of_a_runs_own_folder_is_its_own(
    slot: Lives, path: str, module: str
) -> None:
    for value in ("first", "second"):
        inputs = {"path": path, "module": module, "value": value}
        told = await slot.run({"callable": "brings_modules:bring", "inputs": inputs})
        assert told.finished.task_records["a"].output == value


async def test_native_threads_of_an_extension_module_wear_nobody_out(slot: Lives) -> None:
    """As those of the libraries below numpy, made when it is imported."""
    await slot.run("count")
    pid = slot.pid
    told = await slot.run({"callable": "imports_late:work"})
    assert told.finished.worn is None
    assert slot.pid == pid


async def test_failed_runs_keep_no_memory(slot: Lives) -> None:
    await slot.run("fail_with_memory")
    pid, before = slot.pid, resident(slot.pid)
    for _ in range(8):
        told = await slot.run("fail_with_memory")
        assert told.finished.status is RunStatus.FAILED
    assert slot.pid == pid
    assert resident(pid) - before < 30_000_000


async def test_results_keep_no_memory(slot: Lives) -> None:
    await slot.run("save_and_return_much")
    pid, before = slot.pid, resident(slot.pid)
    for _ in range(5):
        assert (await slot.run("save_and_return_much")).finished.worn is None
    assert slot.pid == pid
    assert resident(pid) - before < 30_000_000


async def test_a_child_above_the_mark_is_replaced(slot: Lives) -> None:
    assert (await slot.run("keep_memory")).finished.worn == "memory"
    assert (await slot.run("count")).finished.status is RunStatus.COMPLETED
    assert resident(slot.pid) < 100_000_000


async def test_a_control_group_that_went_with_its_supervisor_is_there_for_the_next_life(
    tmp_path: Path,
) -> None:
    (tmp_path / "pids.max").write_text("1064")
    groups = WorkerGroup(tmp_path, 4)
    group = groups.slot("group")
    assert group is not None
    async with lives(tmp_path / "0", group=group) as slot:
        assert (await slot.run("count")).finished.status is RunStatus.COMPLETED
        await slot.child.stop()
        groups.remove()
        shutil.rmtree(group.folder)  # the kernel's files are no files that are in the way
        await slot.child.replace()
        assert (await slot.run("count")).finished.status is RunStatus.COMPLETED
        assert (group.folder / "cgroup.procs").read_text() == "0"
        assert (group.folder / "pids.max").read_text() == "250"


async def test_a_life_has_all_memory_although_the_one_before_was_bounded(tmp_path: Path) -> None:
    folder = tmp_path / "group"
    folder.mkdir()
    (folder / "memory.max").write_text("max")
    group = SlotGroup(folder)
    async with lives(tmp_path / "0", group=group) as slot:
        await slot.run("count")
        group.bound(300 * 1024 * 1024)
        await slot.child.replace()  # as it is when nobody is there any more to judge the run
        assert (folder / "memory.max").read_text() == "max"
