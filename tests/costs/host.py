"""Runs one of the project's commands, and tells what it has cost so far whenever it is asked.

`python -m costs.host pyoco-worker --tags hello`, with a connected socket as standard input: each byte that
comes is answered with a line of JSON. What is counted is work, not time.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final, cast

import msgspec
import trio

COMMANDS: Final = {
    "pyoco-server": "pyoco_cli.server",
    "pyoco-worker": "pyoco_cli.worker",
}


_dumps = json.dumps  # as it is: what is told is not counted


class Tally:
    """A number that only rises; threads count at the same time without losing one."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._looks = 0

    def add(self) -> None:
        """Count one."""
        next(self._numbers)

    def total(self) -> int:
        """How many were counted. For one thread only."""
        self._looks += 1
        return next(self._numbers) - self._looks + 1

    def counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with each call counted."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.add()
            return function(*args, **kwargs)

        return counted


TALLIES: Final = {
    name: Tally()
    for name in (
        "task_steps",
        "io_waits",
        "json_encodes",
        "json_decodes",
        "sql_statements",
        "collections",
    )
}


class Steps(trio.abc.Instrument):
    """Counts what trio does: steps of tasks, and waits for the system (`epoll_wait`)."""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step."""
        TALLIES["task_steps"].add()

    def before_io_wait(self, timeout: float) -> None:
        """Count a wait."""
        TALLIES["io_waits"].add()


def _coders(kind: type[Any], methods: Sequence[str], tally: Tally) -> type[Any]:
    """A stand-in for msgspec's `Encoder` or `Decoder`, which cannot be derived from."""

    class Counted:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._coder = kind(*args, **kwargs)
            for method in methods:
                setattr(self, method, tally.counting(getattr(self._coder, method)))

        def __class_getitem__(cls, _: Any) -> type[Any]:
            return cls

        def __getattr__(self, name: str) -> Any:
            return getattr(self._coder, name)

    return Counted


def count() -> None:
    """Have everything counted that this process does from now on; for before the project is imported."""
    encodes, decodes = TALLIES["json_encodes"], TALLIES["json_decodes"]
    here: Any = msgspec.json
    here.Encoder = _coders(msgspec.json.Encoder, ("encode", "encode_into", "encode_lines"), encodes)
    here.Decoder = _coders(msgspec.json.Decoder, ("decode", "decode_lines"), decodes)
    for module, encode, decode in ((here, "encode", "decode"), (json, "dumps", "loads")):
        setattr(module, encode, encodes.counting(getattr(module, encode)))
        setattr(module, decode, decodes.counting(getattr(module, decode)))
    connect, run = sqlite3.connect, trio.run

    def connected(*args: Any, **kwargs: Any) -> Any:
        database = connect(*args, **kwargs)
        database.set_trace_callback(lambda _: TALLIES["sql_statements"].add())
        return database

    def instrumented(*args: Any, **kwargs: Any) -> Any:
        return run(*args, **kwargs, instruments=[Steps()])

    def collecting(phase: str, _: object) -> None:
        if phase == "start":
            TALLIES["collections"].add()

    gc.callbacks.append(collecting)
    sqlite3.connect = connected
    trio.run = cast("Any", instrumented)


def tell(asker: socket.socket) -> None:
    """Answer whoever asks, in a thread that costs trio nothing."""
    while asker.recv(1):
        found = {name: tally.total() for name, tally in TALLIES.items()}
        asker.sendall(_dumps(found).encode() + b"\n")


def main() -> int:
    """Run the command of the command line."""
    asker = socket.socket(fileno=os.dup(0))
    count()
    threading.Thread(target=tell, args=(asker,), daemon=True).start()
    command = import_module(COMMANDS[sys.argv[1]])
    code: int = command.main(sys.argv[2:])
    return code


if __name__ == "__main__":
    sys.exit(main())
