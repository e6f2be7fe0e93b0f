"""Tasks that start processes, with a mark among their arguments; untyped, as most users' are."""

# mypy: ignore-errors
# ruff: noqa: PTH123, SIM115

import ctypes
import multiprocessing
import os
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

SLEEP = "import sys, time; time.sleep(600)"


def _command(mark):
    return [sys.executable, "-S", "-c", SLEEP, mark]


def _stay(stay):
    while stay:
        time.sleep(0.01)


def _then(stay, mark):
    """Go on when the process is there."""
    until = time.monotonic() + 20
    while not _is_there(mark):
        assert time.monotonic() < until
        time.sleep(0.005)
    print("started", flush=True)
    _stay(stay)


def _is_there(mark):
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line and b"-S\0-c" in line:
                return True
    return False


def run(mark, stay):
    print("started", flush=True)
    subprocess.run(_command(mark), check=True)


def popen(mark, stay):
    subprocess.Popen(_command(mark))
    _then(stay, mark)


def session(mark, stay):
    subprocess.Popen(_command(mark), start_new_session=True)
    _then(stay, mark)


def daemon(mark, stay):
    subprocess.run(["sh", "-c", 'setsid "$@" & :', "sh", *_command(mark)], check=True)
    _then(stay, mark)


def bare_daemon(mark, stay):
    """Without environment, folder, terminal or descriptors of ours."""
    nothing = subprocess.DEVNULL
    subprocess.run(
        ["env", "-i", "setsid", "-f", *_command(mark)],
        check=True,
        cwd="/",
        stdin=nothing,
        stdout=nothing,
        stderr=nothing,
    )
    _then(stay, mark)


def fork(mark, stay):
    if os.fork() == 0:
        os.setsid()
        os.execv(sys.executable, _command(mark))
    _then(stay, mark)


def _become(mark):
    os.execv(sys.executable, _command(mark))


def multiprocessing_task(mark, stay):
    multiprocessing.get_context("fork").Process(target=_become, args=[mark]).start()
    _then(stay, mark)


def share_memory(stay):
    memory = SharedMemory(create=True, size=4096)
    print(memory.name, flush=True)
    _stay(stay)


def deaf(mark, stay):
    ignore = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; "
    command = [sys.executable, "-S", "-c", ignore + SLEEP, mark]
    subprocess.Popen(["sh", "-c", 'trap "" HUP INT TERM; "$@"; "$@"', "sh", *command])
    _then(stay, mark)


def until_cancelled(ctx, mark, stay):
    subprocess.Popen(_command(mark), start_new_session=True)
    _then(False, mark)
    while not ctx.is_cancelled:
        time.sleep(0.005)


def until_told(mark, stay):
    subprocess.Popen(_command(mark), start_new_session=True)
    _then(False, mark)
    while not (Path(mark) / "told").exists():
        time.sleep(0.005)


def wait_for_copy(way):
    Path("copy").unlink(missing_ok=True)
    # It keeps the GIL meanwhile: a copy without it would wait for a thread that it does not have.
    libc = ctypes.PyDLL(None)
    pid = libc.fork() if way == "in C" else os.fork()
    if pid == 0:
        # Where the descriptors of the protocol were, if they were closed.
        kept = [open("copy", "w") for _ in range(16)]
        globals()["kept"] = kept
        if way == "raise":
            raise ValueError("of a copy")
        if way == "exit":
            sys.exit("of a copy")
        return None
    _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), "bytes": Path("copy").read_text()}
