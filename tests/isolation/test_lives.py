"""When a child goes on, and when another takes its place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isolation.lives import Lives, lives
from pyoco_server.model.run import RunStatus


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
