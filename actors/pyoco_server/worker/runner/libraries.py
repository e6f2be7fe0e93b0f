"""What one run could do to the next through modules of Python's library, which the runs of a child share."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from typing import Any, Final

from pyoco_server.worker.runner.namespaces import Namespaces
from pyoco_server.worker.runner.parts import ProcessPart

# Of which code replaces functions, or which hooks are variables of.
_WATCHED: Final = (
    os,
    os.path,
    io,
    signal,
    socket,
    subprocess,
    threading,
    random,
    json,
    dt,
)


def library_parts() -> list[ProcessPart]:
    """Return those of modules, not read yet."""
    return [
        # Whoever replaced them may remember it: to put them back in part would be worse.
        PatchedLibraries("patched libraries", _WATCHED),
        ProcessPart("event loop", _event_loop, _put_event_loop),
        ProcessPart("start method", _start_method, _put_start_method),
        ProcessPart("decimal", lambda: repr(decimal.DefaultContext)),
    ]


class PatchedLibraries(Namespaces):
    """What modules have; what is new in them, such as submodules, changes nothing."""

    def _differs(self, values: list[list[Any]]) -> bool:
        return super()._differs(
            [now[: len(before)] for now, before in zip(values, self.fresh, strict=True)]
        )


def _event_loop() -> tuple[Any, Any, bool]:
    """The policy, and what it knows of this thread: its loop, and whether one was set (asyncio/events.py)."""
    policy = getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)
    local = getattr(policy, "_local", None)
    return policy, getattr(local, "_loop", None), getattr(local, "_set_called", False)


def _put_event_loop(fresh: tuple[Any, Any, bool]) -> None:
    policy, loop, called = fresh
    vars(sys.modules["asyncio.events"])["_event_loop_policy"] = policy
    if (local := getattr(policy, "_local", None)) is not None:
        local._loop, local._set_called = loop, called


def _default_context() -> Any:
    return getattr(sys.modules.get("multiprocessing.context"), "_default_context", None)


def _start_method() -> Any:
    """The one that was set, which `multiprocessing` allows once, or taken because none was."""
    return getattr(_default_context(), "_actual_context", None)


def _put_start_method(fresh: Any) -> None:
    _default_context()._actual_context = fresh
