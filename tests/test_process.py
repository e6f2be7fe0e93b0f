"""Owned processes: nothing of them outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio
import trio.testing

from isolation.families import gone, is_alive
from pyoco_server.process import spawn_owned

# Starts a process of its own, tells its pid, and waits; deaf to SIGTERM when told to be.
PARENT_OF_ONE = """
import signal, subprocess, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
if "crash" in sys.argv:
    sys.exit(3)
time.sleep(600)
"""


def python(code: str, *args: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *args]


def start(argv: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


async def first_line(descriptor: int) -> str:
    stream = trio.lowlevel.FdStream(descriptor)
    text = b""
    with trio.fail_after(60):
        while not text.endswith(b"\n"):
            piece = await stream.receive_some()
            assert piece, "the process ended without a line"
            text += piece
    await stream.aclose()
    return text.decode().strip()


async def test_the_program_takes_the_launchers_place_with_its_arguments_and_surroundings(
    tmp_path: Path,
) -> None:
    reader, writer = os.pipe()
    inherited, kept = os.pipe()
    program = """
        import os, sys
        os.fstat(int(sys.argv[2]))
        print(os.getpid(), os.getpgid(0), os.getcwd(), os.environ["COLOUR"], sys.argv[1])
    """
    process = spawn_owned(
        python(program, "an argument", str(kept)),
        env={"COLOUR": "green"},
        cwd=tmp_path,
        stdout=writer,
        pass_fds=[kept],
    )
    os.close(writer)
    assert (await first_line(reader)).split(" ", 4) == [
        str(process.pid),
        str(process.pid),
        str(tmp_path),
        "green",
        "an argument",
    ]
    with trio.fail_after(60):
        assert await process.wait() == 0
    os.close(inherited)
    os.close(kept)


async def test_the_program_meets_broken_pipes_as_programs_do() -> None:
    reader, writer = os.pipe()
    process = spawn_owned(["grep", "SigIgn", "/proc/self/status"], stdout=writer)
    os.close(writer)
    ignored = int((await first_line(reader)).split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))
    assert not ignored & (1 << (signal.SIGXFSZ - 1))
    await process.wait()


async def test_exit_codes_and_signals_are_told_to_every_waiter() -> None:
    process = spawn_owned(python("import time; time.sleep(600)"))
    codes: list[int] = []

    async def wait() -> None:
        codes.append(await process.wait())

    assert process.returncode is None
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.05)
            process.send_signal(signal.SIGKILL)
    assert codes == [-signal.SIGKILL] * 2
    process.send_signal(signal.SIGKILL)  # nobody there any more: nothing happens
    process.kill_group()
    assert process.returncode == -signal.SIGKILL


async def test_a_program_that_is_not_there_says_so(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as file:
        process = spawn_owned(["/nowhere/program"], stderr=file.fileno())
    with trio.fail_after(60):
        assert await process.wait() == 1
    assert "FileNotFoundError" in said.read_text()


async def test_stop_asks_first() -> None:
    process = spawn_owned(["sleep", "600"])
    with trio.fail_after(60):
        assert await process.stop(10) == -signal.SIGTERM


@pytest.mark.parametrize("obstacle", ["deaf", "stopped"])
async def test_stop_kills_what_does_not_listen_and_all_it_started(obstacle: str) -> None:
    reader, writer = os.pipe()
    process = spawn_owned(python(PARENT_OF_ONE, obstacle), stdout=writer)
    os.close(writer)
    grandchild = int(await first_line(reader))
    if obstacle == "stopped":
        process.send_signal(signal.SIGSTOP)
    with trio.fail_after(60):
        # A stopped process that is killed meets the SIGTERM it did not take yet first.
        assert await process.stop(0.2) in {-signal.SIGKILL, -signal.SIGTERM}
    await gone(grandchild)
    with pytest.raises(ProcessLookupError):  # reaped, no zombie is left
        os.kill(process.pid, 0)


async def test_stop_is_finished_under_cancellation() -> None:
    reader, writer = os.pipe()
    process = spawn_owned(python(PARENT_OF_ONE, "deaf"), stdout=writer)
    os.close(writer)
    grandchild = int(await first_line(reader))
    with trio.fail_after(60), trio.CancelScope() as scope:
        scope.cancel()
        assert await process.stop(0.2) == -signal.SIGKILL
    await gone(grandchild)


async def test_a_cancelled_wait_leaves_the_process_alone() -> None:
    process = spawn_owned(["sleep", "600"])
    with trio.move_on_after(0.05) as scope:
        await process.wait()
    assert scope.cancelled_caught
    assert process.returncode is None
    await process.stop(5)


async def test_what_a_crashed_child_started_ends_when_the_crash_is_noticed() -> None:
    reader, writer = os.pipe()
    process = spawn_owned(python(PARENT_OF_ONE, "crash"), stdout=writer)
    os.close(writer)
    grandchild = int(await first_line(reader))
    with trio.fail_after(60):
        assert await process.wait() == 3
    await gone(grandchild)


OWNER = """
import subprocess, sys, time, trio
from pyoco_server.process import spawn_owned

async def main():
    child = spawn_owned(["sleep", "600"], stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    {then}

trio.run(main)
"""


@pytest.mark.parametrize(
    "then",
    [
        "await trio.sleep_forever()",
        "time.sleep(600)",
        "raise SystemExit(1)",
        "import os; os._exit(0)",
        "import ctypes; ctypes.string_at(0)",
    ],
    ids=["killed", "killed while blocked", "exception", "_exit", "segfault"],
)
async def test_a_child_dies_with_its_owner_however_the_owner_dies(then: str) -> None:
    owner = start(python(OWNER.format(then=then)))
    assert owner.stdout is not None
    child = int(await first_line(os.dup(owner.stdout.fileno())))
    owner.stdout.close()
    if "sleep" in then:
        assert is_alive(child)
        owner.send_signal(signal.SIGKILL)
    await trio.to_thread.run_sync(owner.wait)
    await gone(child)
