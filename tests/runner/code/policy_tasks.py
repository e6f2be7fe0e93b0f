"""Tasks that are tried again, stopped, awaited and repeated; untyped, as most users' are."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

import asyncio
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import trio
from pyoco import task
from yaml.scanner import ScannerError

from pyoco_server import NonRetryable, RetryAfter, policy

LOCK = asyncio.Lock()


def sleeper(seconds=6.0, mark=None):
    try:
        time.sleep(seconds)
    finally:
        if mark is not None:
            Path(mark).write_text("cleaned up")
    return "slept"


def talkative():
    def talk():
        while True:
            print("y" * 2000)

    for _ in range(3):
        threading.Thread(target=talk, daemon=True).start()
    time.sleep(0.2)
    return "r" * 3_000_000


def length(talkative):
    return len(talkative)


def flood():
    while True:
        print("x" * 200_000)


def note_down(mark):
    Path(mark).write_text("cleaned up")


def stubborn(mark):
    Path(mark).write_text(str(os.getpid()))
    while True:
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001 - it does not listen
            print("not me", flush=True)


def start_and_hang(mark):
    process = subprocess.Popen(["sleep", "600"])
    Path(mark).write_text(str(process.pid))
    while True:
        with suppress(BaseException):
            time.sleep(60)


def start_and_wait(mark, own_handler=False):
    """Return whether what the try before this one has started goes on; there is none: start it."""
    if Path(mark).exists():
        return Path(f"/proc/{Path(mark).read_text()}").exists()
    if own_handler:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(mark).write_text(str(process.pid))
    return process.wait()


def busy(mark):
    """Hold the interpreter, which no thread could be stopped in."""
    Path(mark).write_text(str(os.getpid()))
    sum(range(10**12))


def chatty():
    print("to out")
    print("to err", file=sys.stderr)
    return "said"


def note(path, text="x", fail=0, error="ConnectionError"):
    """Note that it was called, and fail as often as told."""
    with Path(path).open("a") as file:
        file.write(f"{text} {time.time()}\n")
    if len(Path(path).read_text().splitlines()) <= fail:
        raise {
            "ConnectionError": ConnectionError("no line"),
            "ValueError": ValueError("no value"),
            "NonRetryable": NonRetryable("no use"),
            "RetryAfter": RetryAfter(0.2, "later"),
        }[error]
    return len(Path(path).read_text().splitlines())


@task
@policy(retries=2, backoff={"delay_sec": 0}, retry_on=["OSError"])
def said_in_python(path, error="ConnectionError"):
    return note(path, fail=2, error=error)


@policy(timeout_sec=0.2, on_failure="isolate")
def short_of_time():
    time.sleep(30)


@task
def engine_retry(path):
    return note(path, fail=2)


engine_retry.task.fail_policy = "retry"


async def wait_for_it(n=1):
    print("waiting")
    await asyncio.sleep(0.01)
    print("waited")
    return n * 10


def indirect(n=1):
    return wait_for_it(n)


partial = functools.partial(wait_for_it, n=7)


async def meet_on_loop(ctx, parties=3):
    """Return once so many are on the same loop."""
    async with LOCK:
        here = ctx.scratch.setdefault("here", [])
        here.append(id(asyncio.get_running_loop()))
    while len(here) < parties:
        await asyncio.sleep(0.005)
    return len(set(here))


async def async_fail():
    await asyncio.sleep(0)
    raise KeyError("user_id")


async def async_exit():
    sys.exit(3)


async def async_forever(mark=None):
    try:
        print("here", flush=True)
        await asyncio.sleep(600)
    finally:
        if mark is not None:
            note_down(mark)


class Waits:
    async def __call__(self):
        await async_forever()


waits = Waits()


async def fail_beside(path, error):
    """Fail as code does that awaits several things at the same time."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(note, path, fail=99, error=error))


@policy(event_loop="trio")
async def fail_beside_on_trio(path, error):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            functools.partial(
                trio.to_thread.run_sync, functools.partial(note, path, fail=99, error=error)
            )
        )


class OwnRetryAfter(RetryAfter):
    def __init__(self):
        Exception.__init__(self, "own")


def own_retry_after():
    raise OwnRetryAfter


def told_with_kinds():
    raise ExceptionGroup("all failed", [KeyError("user_id"), *map(OSError, "abc")])


class NotMadeAnew(Exception):
    def __init__(self, text, more):
        super().__init__(text)


def not_made_anew():
    return NotMadeAnew("text", "more")


def most_at_the_same_time(ctx):
    """Return how many of these run at the moment."""
    here = ctx.scratch.setdefault("here", [])
    here.append(1)
    time.sleep(0.02)
    most = len(here)
    here.pop()
    return most


async def async_block():
    sleeper(60)


@policy(event_loop="trio")
async def on_trio(n=2):
    print("on trio")
    with trio.move_on_after(5):
        await trio.sleep(0.01)
    return n * 100


def on_trio_that_comes_late():
    """At the first call, nobody can import it."""
    sys.modules["trio"] = None if sys.modules["trio"] is trio else trio  # type: ignore[assignment]
    return on_trio()


@policy(event_loop="trio")
async def trio_forever(mark=None):
    try:
        print("here", flush=True)
        await trio.sleep_forever()
    finally:
        if mark is not None:
            note_down(mark)


@policy(event_loop="trio")
async def trio_block(mark):
    sleeper(60, mark)


def square(n):
    return n * n


def one_of(n, index=None):
    if n == 2:
        raise ValueError(f"not {n}")
    return [n, index]


def total(square):
    return sum(square)


def together(n, ctx):
    """Be here with another one."""
    here = ctx.scratch.setdefault("here", [])
    here.append(n)
    until = time.monotonic() + 20
    while len(here) < 2 and time.monotonic() < until:
        time.sleep(0.002)
    return n


def remove_folder(ctx):
    ctx.save_artifact("made.txt", "made")
    shutil.rmtree(ctx.artifact_dir)


def save_together(ctx, n):
    """Say whether there was a folder, and save something once another one has looked as well."""
    there = Path(ctx.artifact_dir).exists()
    together(n, ctx)
    ctx.save_artifact(f"{n}.txt", "made")
    return there


def two_step(square):
    return square + 1


def change(ctx, items):
    ctx.scratch["made"] = {"by": os.getpid()}
    ctx.save_artifact("made.txt", "made")
    return len(items)


def look(ctx):
    return ctx.scratch["made"]["by"] != os.getpid()


def unpicklable():
    return lambda: None


def die():
    os.kill(os.getpid(), 9)


def die_of_no_name():
    os.kill(os.getpid(), signal.SIGRTMIN + 5)


def die_beside_a_copy():
    """Die as code does whose pool of processes lives on and holds what it has inherited."""
    if not os.fork():
        time.sleep(600)
        os._exit(0)
    os.kill(os.getpid(), 9)


def any_result(ctx):
    return sorted(ctx.results)


def needs(itemz):
    return itemz


def items():
    return [1, 2]


def until_cancelled(ctx):
    print("here", flush=True)
    until = time.monotonic() + 30
    while not ctx.is_cancelled:
        assert time.monotonic() < until
        time.sleep(0.005)
    return "done waiting"


def own_error():
    class OddError(Exception):
        pass

    raise OddError("odd")


class Broken(Exception):
    class Pipe(LookupError):
        pass

    def __str__(self):
        raise SystemExit("no text")


class Stop(BaseException):
    def __str__(self):
        raise ValueError("no text")


ERRORS = {
    "attribute": lambda: AttributeError("user_id"),
    "blank": lambda: ValueError(" \n"),
    "broken": Broken,
    "exit": lambda: SystemExit("bye"),
    "key": lambda: KeyError("user_id"),
    "lookup": lambda: LookupError("user_id"),
    "mute group": lambda: ExceptionGroup("", [ValueError("no value")]),
    "none": lambda: ValueError(None),
    "pipe": lambda: Broken.Pipe("no such pipe"),
    "stop": Stop,
    "stops": lambda: BaseExceptionGroup("both", [KeyboardInterrupt(), NonRetryable("no use")]),
    "text": lambda: RetryAfter(json.loads('"5"')),
    "timeout": lambda: TimeoutError("late"),
    "wire": lambda: json.JSONDecodeError("no JSON", "x", 0),
    "yaml": lambda: ScannerError("no", None, "YAML", None),
}


def raises(kind, path=None):
    if path is not None:
        with Path(path).open("a") as file:
            file.write("x\n")
    error = ERRORS[kind]()
    raise error


async def leave_an_exit():
    async def leave():
        await asyncio.sleep(0)
        sys.exit(3)

    globals()["left"] = asyncio.create_task(leave())


async def leave_an_exit_to_trio():
    async def leave():
        sys.exit(3)

    trio.lowlevel.spawn_system_task(leave)


def outlive_loops():
    until = time.monotonic() + 20
    while any(
        thread.name.endswith(("asyncio tasks", "trio tasks")) for thread in threading.enumerate()
    ):
        assert time.monotonic() < until
        time.sleep(0.01)
    return "outlived"


async def raises_on_loop(kind, path=None):
    raises(kind, path)


@policy(retries=2, on_failure="isolate")
def bold(path):
    raises("key", path)


async def squares(n=3):
    for number in range(n):
        await asyncio.sleep(0)
        yield number * number


async def forgetful(n=1):
    return wait_for_it(n)


async def endless():
    print("waiting")
    while True:
        await asyncio.sleep(0.01)
        yield 1


def only_evens(n):
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n
