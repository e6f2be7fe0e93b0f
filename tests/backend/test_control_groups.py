"""Control groups of slots: what is written where, and what the kernel makes of it where it lets a test."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from backend.stage import eventually
from backend.test_run_resources import MB, a_worker, run, taken
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.attempt import Ending
from pyoco_server.worker.control_group import SlotGroup, WorkerGroup
from pyoco_server.worker.resource_watch import Bounds, ResourceWatch
from pyoco_server.worker.runner.handle import RunnerProcess

CONTROLLERS = "cpuset cpu io memory pids\n"


def a_folder(folder: Path, **files: str) -> Path:
    """A folder as the kernel would show it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def delegated(tmp_path: Path, *others: int, name: str = "/w.service") -> tuple[Path, Path]:
    """The group of this process, and what the kernel tells of it; with these other processes in it."""
    own = a_folder(
        tmp_path / "fs" / name.lstrip("/"),
        cgroup__controllers=CONTROLLERS,
        cgroup__subtree_control="",
        cgroup__procs="".join(f"{pid}\n" for pid in (os.getpid(), *others)),
        pids__max="1064\n",
    )
    a_folder(own / "pyoco-worker", cgroup__procs="")
    process = a_folder(
        tmp_path / "proc",
        cgroup=f"3:memory:/old\n0::{name}\n",
        mountinfo=f"31 23 0:27 / /proc rw - proc proc rw\n32 23 0:28 / {tmp_path / 'fs'} rw - cgroup2 c rw\n",
    )
    return own, process


def test_a_worker_that_is_alone_in_its_group_makes_room_for_its_slots(tmp_path: Path) -> None:
    own, process = delegated(tmp_path)
    group = WorkerGroup.of("auto", 4, process=process)
    assert group is not None
    assert (own / "pyoco-worker" / "cgroup.procs").read_text() == str(os.getpid())
    assert (own / "cgroup.subtree_control").read_text() == "+memory +pids"
    a_folder(own / "i-0", memory__max="max\n")
    slot = group.slot("i-0")
    assert slot is not None
    assert slot.bounds_memory
    assert (slot.folder / "memory.oom.group").read_text() == "1"
    assert (slot.folder / "pids.max").read_text() == "250", "a quarter of what the worker leaves"


def test_a_group_of_others_is_left_alone_but_a_container_is_all_ours(tmp_path: Path) -> None:
    own, process = delegated(tmp_path / "session", 1)
    assert WorkerGroup.of("auto", 4, process=process) is None
    assert (own / "cgroup.subtree_control").read_text() == ""
    own, process = delegated(tmp_path / "machine", 1, name="/")
    assert WorkerGroup.of("auto", 4, process=process) is None, "the root of all groups has no type"
    own, process = delegated(tmp_path / "container", 1, name="/")
    a_folder(own, cgroup__type="domain\n")
    assert WorkerGroup.of("auto", 4, process=process) is not None


@pytest.mark.parametrize("what", ["off", "no memory", "version 1"])
def test_there_may_be_none(tmp_path: Path, what: str) -> None:
    own, process = delegated(tmp_path)
    if what == "no memory":
        a_folder(own, cgroup__controllers="cpu pids\n")
    if what == "version 1":
        a_folder(process, cgroup="3:memory:/old\n")
    assert WorkerGroup.of("off" if what == "off" else "auto", 4, process=process) is None


def test_a_folder_that_is_none_is_told_and_done_without(tmp_path: Path) -> None:
    assert WorkerGroup.of(str(tmp_path / "nowhere"), 4) is None


def test_a_slots_group_is_bounded_for_a_run_and_tells_what_it_took(tmp_path: Path) -> None:
    folder = a_folder(
        tmp_path / "slot",
        memory__max="max\n",
        memory__swap__max="max\n",
        memory__peak="5000\n",
        memory__events="low 0\noom 3\noom_kill 2\noom_group_kill 1\n",
        cpu__stat="usage_usec 1500000\nuser_usec 1\n",
    )
    group = SlotGroup(folder)
    assert group.bound(300 * MB)
    assert (folder / "memory.max").read_text() == str(300 * MB)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert group.bound(None)
    assert (folder / "memory.max").read_text() == (folder / "memory.swap.max").read_text() == "max"
    assert (group.cpu_sec(), group.oom_counts()) == (1.5, (3, 2))
    assert group.peak_bytes() == 0, "not asked for"
    assert group.forget_peak()
    (folder / "memory.peak").write_text("7000\n")
    assert group.peak_bytes() == 7000
    group.remove()


@pytest.fixture
def measured(tmp_path: Path) -> SlotGroup:
    """A group as the kernel would show it."""
    folder = a_folder(
        tmp_path / "slot",
        memory__max="max\n",
        memory__peak="5000\n",
        memory__events="oom 0\noom_kill 0\n",
        cpu__stat="usage_usec 0\n",
    )
    return SlotGroup(folder)


def a_watch(group: SlotGroup, *, memory_mb: int | None = None) -> ResourceWatch:
    runner = cast("RunnerProcess", SimpleNamespace(pid=0))
    return ResourceWatch(Bounds(memory_mb, cpu_sec=10.0), runner, group)


def peak(watch: ResourceWatch) -> int | None:
    judged = watch.judge(Ending(RunStatus.COMPLETED, 0.0))
    assert judged is not None
    assert judged.usage is not None
    return judged.usage.peak_memory_bytes


def test_the_peak_of_a_group_is_told_of_the_run_for_which_it_was_measured(
    measured: SlotGroup,
) -> None:
    limited = a_watch(measured, memory_mb=300)
    (measured.folder / "memory.peak").write_text("7000\n")
    assert peak(limited) == 7000
    assert peak(a_watch(measured)) is None


def test_a_kernel_that_does_not_measure_the_peak_anew_tells_none(
    measured: SlotGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.12 it is that of all runs, and root can open it for writing all the same."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "pwrite", refuse)
    assert peak(a_watch(measured, memory_mb=300)) is None


@pytest.mark.parametrize(
    ("memory_mb", "events", "reason"),
    [
        (300, "oom 1\noom_kill 1\n", "out_of_memory"),
        (300, "oom 0\noom_kill 1\n", "worker_crashed"),
        (300, "oom 1\noom_kill 0\n", "worker_crashed"),
        (None, "oom 0\noom_kill 1\n", "worker_crashed"),
    ],
)
def test_a_run_is_over_its_memory_only_if_it_was_killed_at_its_own_limit(
    measured: SlotGroup, memory_mb: int | None, events: str, reason: str
) -> None:
    watch = a_watch(measured, memory_mb=memory_mb)
    (measured.folder / "memory.events").write_text(events)
    crashed = Ending(RunStatus.FAILED, 0.0, "killed by SIGKILL", "worker_crashed")
    judged = watch.judge(crashed)
    assert judged is not None
    assert judged.reason == reason
    assert ("may have 300 MB" in (judged.error or "")) is (reason == "out_of_memory")


# With the kernel --------------------------------------------------------------------------------------


def mounted() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return Path(line.split()[4])
    return None


@pytest.fixture
def a_group() -> Iterator[Path]:
    """A control group without processes."""
    if (root := mounted()) is None:
        pytest.skip("no control groups of version 2 here")
    group = root / f"pyoco-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    try:
        yield group
    finally:
        for folder in slots_of(group):
            folder.rmdir()
        group.rmdir()


def slots_of(group: Path) -> list[Path]:
    return [folder for folder in group.iterdir() if folder.is_dir()]


def children_in(group: Path) -> list[int]:
    """What is in the group of the only slot."""
    (slot,) = slots_of(group)
    return [int(pid) for pid in (slot / "cgroup.procs").read_text().split()]


@pytest.mark.nats
async def test_a_slot_is_in_its_group_and_is_measured_and_ended_as_a_whole(
    tmp_path: Path, a_group: Path
) -> None:
    async with a_worker(tmp_path, worker_cgroup=str(a_group)) as backend:
        snapshot = await run(backend, "burn_beside", cpu_sec=0.5)
        assert snapshot.reason == "cpu_limit"
        assert taken(snapshot)[1] >= 0.5
        snapshot = await run(backend, "burn", {"seconds": 0.3}, cpu_sec=0.5)
        assert snapshot.status == "COMPLETED"
        (child,) = children_in(a_group)
        os.kill(child, signal.SIGKILL)

        async def another_is_there() -> bool:
            return len(children_in(a_group)) == 1 and children_in(a_group) != [child]

        await eventually(another_is_there)
        assert (await run(backend, "one")).status == "COMPLETED"
        await backend.system.restart("/worker")
        assert (await run(backend, "one")).status == "COMPLETED"
        assert len(children_in(a_group)) == 1
    assert slots_of(a_group) == []


@pytest.mark.nats
async def test_the_kernel_holds_a_run_to_its_memory(tmp_path: Path, a_group: Path) -> None:
    if "memory" not in (a_group / "cgroup.controllers").read_text():
        pytest.skip("memory belongs to control groups of version 1 here")
    async with a_worker(tmp_path, worker_cgroup=str(a_group)) as backend:
        for task, inputs in (
            ("allocate", {"mb": 400}),
            ("allocate_beside", {"mb": 100, "count": 3}),
        ):
            snapshot = await run(backend, task, inputs, memory_mb=200)
            assert snapshot.reason == "out_of_memory"
            assert (snapshot.error or "").endswith("may have 200 MB")
        snapshot = await run(backend, "allocate", {"mb": 250, "seconds": 0})
        assert snapshot.status == "COMPLETED"
