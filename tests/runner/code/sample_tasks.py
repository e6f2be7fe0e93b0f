"""Tasks that the children of these tests import; untyped, as most users' are."""

# mypy: allow-untyped-defs, allow-untyped-calls

import ctypes
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from pyoco import task
from pyoco.core.models import Flow, Task

from pyoco_server.worker.runner.pipe import BELL

NOT_A_FUNCTION = 3
SEEN_AT_IMPORT = os.environ.get("SECRET_OF_THE_FLOW")


def one():
    return 1


def two():
    return 2


def add(left, right):
    return left + right


def first_of(ctx):
    return sorted(name for name in ("slow", "quick") if ctx.get_result(name) is not None)


def slow():
    time.sleep(0.5)
    return "slow"


def meet(ctx, parties=2):
    """Return once so many tasks are in here at the same time."""
    waiting = ctx.scratch.setdefault("barrier", threading.Barrier(parties))
    waiting.wait(20)
    return "met"


class Late(Exception):
    pass


def be_late(number, frame):
    raise Late


def print_until_late(seconds):
    """As a decorator for timeouts does it."""
    signal.signal(signal.SIGALRM, be_late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    with suppress(Late):
        while True:
            print("x" * 20_000)
    print("done")
    return "ok"


def double(n):
    return n * 2


def count(ctx):
    ctx.scratch["count"] = ctx.scratch.get("count", 0) + 1
    return ctx.scratch["count"]


def item(ctx):
    return ctx.get_var("n")


def fail():
    raise ValueError("no good: \ud800")


def miss_a_key():
    raise KeyError("user_id")


def fail_an_assertion():
    raise AssertionError


def raise_a_number():
    raise ValueError(5)


def leave():
    sys.exit(3)


def interrupt():
    raise KeyboardInterrupt


def until_cancelled(ctx):
    deadline = time.monotonic() + 30
    while not ctx.is_cancelled:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return "done waiting"


def forever():
    print("here for good", flush=True)
    while True:
        time.sleep(0.05)


def crash():
    print("last words", flush=True)
    ctypes.string_at(0)


def vanish():
    os._exit(7)


def speak_nonsense():
    """Into the pipe of the child's messages; then ring for its worker."""
    for descriptor in range(3, 64):
        with suppress(OSError):  # there is none, or it is one to read from
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"no frame at all")
    os.eventfd_write(BELL, 1)
    time.sleep(600)


def odd():
    return {"when": {1, 2}, "raw": b"\x00\xff", "not": float("nan"), "text": "\ud800", 5: object}


def large(size):
    return "x" * size


def talk(lines, width=60):
    for number in range(lines):
        print(f"{number:08} {'.' * (width - 10)}")
    return lines


def say(text, seconds=0.0):
    print(text)
    time.sleep(seconds)
    print(text, file=sys.stderr)
    return text


def write_bytes():
    sys.stdout.buffer.write("bytes of é\n".encode())
    sys.stdout.flush()


def write_raw():
    os.write(1, b"raw one\n")
    os.write(2, b"raw two\n")
    subprocess.run(["echo", "from a process"], check=True)
    subprocess.run(["echo", "to our stdout"], check=True, stdout=sys.stdout)
    return sys.stdin.read()


def _print_forked():
    print("from a fork")


def fork():
    process = get_context("fork").Process(target=_print_forked)
    process.start()
    process.join()


def leave_process_behind(path):
    process = subprocess.Popen(["sleep", "600"])
    Path(path).write_text(str(process.pid))
    os._exit(9)


def look_around():
    Path("note.txt").write_text("mine")
    return {
        "environ": dict(os.environ),
        "cwd": str(Path.cwd()),
        "artifacts": Path("artifacts").is_dir(),
        "at_import": SEEN_AT_IMPORT,
    }


def disturb():
    os.environ["LEFT_BEHIND"] = "1"
    os.environ.pop("PATH", None)
    os.chdir("/")


def hear_signals():
    return [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]


@task
def flaky(ctx):
    tries = ctx.scratch["tries"] = ctx.scratch.get("tries", 0) + 1
    if tries < 3:
        raise ConnectionError(f"try {tries}")
    return f"try {tries} worked"


flaky.task.retries = 5
KEPT = Flow(name="kept")
KEPT.add_task(Task(func=one, name="one"))


def resolve(name):
    if name == "wrong":
        return "not a flow"
    if name == "broken":
        raise ZeroDivisionError("the resolver broke")
    return {"kept": KEPT}[name]


async def miss_a_key_later() -> None:
    raise KeyError("user_id")
