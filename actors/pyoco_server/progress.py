"""What a task says of how far it is: ``pyoco_server.report(done=3, total=10)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Sink: TypeAlias = "Callable[[float | None, float | None, str | None], None]"

_sinks: list[Sink] = []


def report(
    *, done: float | None = None, total: float | None = None, message: str | None = None
) -> None:
    """Tell how far the task is that calls this; outside of a run nothing happens.

    Call it as often as there is something to tell: it is sent on twice a second at most, the last state
    always. What is not given stays as it was. It may be called from coroutines of the task, and from its
    threads as long as no other task runs at the same time; a thread that has the task's context
    (``contextvars``) may always.

    Args:
        done: How much is done, in any unit.
        total: How much there is to do, in the same unit.
        message: What it is at, for people; 200 characters of it are kept.

    Raises:
        TypeError: ``done`` or ``total`` is no number.
    """
    for number in (done, total):
        if number is not None and not hasattr(number, "__float__"):
            raise TypeError(f"done and total are numbers, not {type(number).__name__}")
    for sink in _sinks:
        sink(done, total, message)


def attach(sink: Sink) -> None:
    """Have what is reported handed to ``sink``, and to no other."""
    _sinks[:] = [sink]


def detach() -> None:
    """Have it handed to nobody."""
    _sinks.clear()
