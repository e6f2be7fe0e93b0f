"""The disk of a worker is full: its runs go to others, and it goes on when there is room."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import trio
from msgspec.structs import replace

from backend.stage import ended, new_run, running, worker_options
from pyoco_server.backend import Backend, open_backend
from pyoco_server.kernel import TapEvent, TapKind
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.child import SlotChild
from pyoco_server.worker.held_folder import hold
from pyoco_server.worker.messages import SlotUnfit

pytestmark = pytest.mark.nats


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """No working folder can be made below ``folder``."""
    real = SlotChild.make_folder

    async def make_folder(child: SlotChild) -> None:
        if child.folder.is_relative_to(folder):
            raise OSError(errno.ENOSPC, "No space left on device", str(child.folder))
        await real(child)

    with mock.patch.object(SlotChild, "make_folder", make_folder):
        yield


@contextmanager
def unfit_slots(backend: Backend) -> Iterator[trio.MemoryReceiveChannel[int]]:
    """Which slots say that they can take no run, as they say it; none may crash."""
    send, receive = trio.open_memory_channel[int](100)

    def listen(event: TapEvent) -> None:
        assert event.kind is not TapKind.CRASHED, event
        if event.kind is TapKind.HANDLED and isinstance(event.message, SlotUnfit):
            send.send_nowait(event.message.index)

    with backend.system.tap(listen):
        yield receive


async def test_a_run_waits_until_there_is_room(tmp_path: Path) -> None:
    async with running(tmp_path, worker=worker_options(tmp_path, slots=2)) as backend:
        with unfit_slots(backend) as unfit, trio.fail_after(60):
            with full_disk(tmp_path):
                run = await backend.submit(new_run("quick"))
                # There is no other worker, so that it comes to the other slot.
                assert {await unfit.receive(), await unfit.receive()} == {0, 1}
                snapshot = await backend.get(run.run_id)
                assert (snapshot.status, snapshot.attempt) == (RunStatus.PENDING, 0)
            end = await ended(backend, run.run_id)
        assert (end.status, end.attempt) == (RunStatus.COMPLETED, 1)


async def test_another_worker_takes_it_and_the_first_one_can_stop(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        other = replace(backend.settings_with_node(), state_dir=str(tmp_path / "other"))
        with full_disk(tmp_path / "state"), trio.fail_after(60):
            with unfit_slots(backend) as unfit:
                run = await backend.submit(new_run("quick"))
                await unfit.receive()
                options = worker_options(tmp_path, worker_id="w2")
                async with open_backend(other, gateway=False, worker=options):
                    end = await ended(backend, run.run_id)
            assert (end.status, end.attempt, end.worker_id) == (RunStatus.COMPLETED, 1, "w2")
            assert await backend.drain(within=20)


async def test_a_folder_that_is_removed_beneath_the_worker_is_made_and_held_anew(
    tmp_path: Path,
) -> None:
    """The slot rested for ever."""
    async with running(tmp_path) as backend:
        for _ in range(3):
            run = await backend.submit(new_run("quick"))
            assert (await ended(backend, run.run_id)).status is RunStatus.COMPLETED
            (own,) = (tmp_path / "state" / "work").iterdir()
            assert hold(own, alone=True) is None, "the worker holds it"
            shutil.rmtree(tmp_path / "state" / "work")
