"""What went wrong in a task: for the run to fail with, for its record, and for its policy to decide by."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from pyoco_server.model.flow.task_policy import MAX_SECONDS, RetryAfter

_OURS: Final = __name__.rpartition(".")[0]
_TOLD_OF_GROUP: Final = 3
_WHITE: Final = re.compile(r"\s")
_MERE_VALUE: Final = re.compile(r"""(?s)(['"]).*\1|\(.*\)|[-\d.]*|\s*|None|True|False""")
"""What an error "says" that was only given a value, such as a KeyError."""
# Names of Python's own for classes that are called otherwise.
_ALIASES: Final[dict[type, tuple[str, ...]]] = {
    OSError: ("EnvironmentError", "IOError", "select.error", "socket.error"),
    TimeoutError: ("asyncio.TimeoutError", "concurrent.futures.TimeoutError", "socket.timeout"),
}


class TaskInterrupted(Exception):
    """A task raised what is meant to end a program or thread, e.g. ``SystemExit``."""


class TaskTimeout(TimeoutError):
    """A try of a task took longer than it may, and was stopped."""


class TaskCancelled(Exception):
    """A task ended because its run was cancelled."""


class TaskNotBegun(OSError):
    """The machine has no thread or process for a task, of whose code nothing has begun."""


class TaskProcessDied(Exception):
    """The process of a task that has a time limit ended by itself."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is told.

    Attributes:
        text: What it says, with its kind where that says nothing.
        kinds: The names of its class and of those that it is derived from, with and without their modules, or
            the packages that they are imported from as well; of a group those of the errors in it, too.
        traceback: Where it arose.
        retry_after: The wait that it asks for, in seconds.
    """

    text: str
    kinds: tuple[str, ...]
    traceback: str
    retry_after: float | None = None


class RemoteError(Exception):
    """An error that was raised in another process.

    Attributes:
        failure: What is known of it.
    """

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.text)


def interrupted(error: BaseException) -> TaskInterrupted:
    """Return the error for one that is meant to end a program."""
    told = TaskInterrupted(f"the task raised {_with_type(error)}")
    told.__cause__ = error
    return told


def failure_of(error: BaseException) -> Failure:
    """Return what there is to tell of an error."""
    if isinstance(error, RemoteError):
        return error.failure
    kinds: dict[str, None] = {}
    errors = [error, *_inside(error)]
    if isinstance(error, TaskInterrupted) and error.__cause__ is not None:
        errors += [error.__cause__, *_inside(error.__cause__)]
    for kind in dict.fromkeys(type(each) for each in errors):
        for each in kind.__mro__[:-1]:
            kinds |= dict.fromkeys(_names(each))
    return Failure(
        text=says(error),
        kinds=tuple(kinds),
        traceback=_where(error),
        retry_after=max(
            (wait for each in errors if (wait := _wait(each)) is not None), default=None
        ),
    )


def _names(kind: type) -> Iterator[str]:
    """Yield what a class may be called in a policy."""
    yield from (kind.__name__, kind.__qualname__, f"{kind.__module__}.{kind.__qualname__}")
    yield from _ALIASES.get(kind, ())
    package = kind.__module__.rpartition(".")[0]
    while package:
        # Not by getattr, which executes code of some packages.
        if getattr(sys.modules.get(package), "__dict__", {}).get(kind.__name__) is kind:
            yield f"{package}.{kind.__name__}"
        package = package.rpartition(".")[0]


def _inside(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors of a group, which code raises that awaits several things at the same time."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            if isinstance(each, BaseExceptionGroup):
                yield from _inside(each)
            else:
                yield each


def _wait(error: BaseException) -> float | None:
    """The wait that an error asks for; code of the flow may have made another class of it."""
    seconds = getattr(error, "seconds", None) if isinstance(error, RetryAfter) else None
    return seconds if isinstance(seconds, float) and 0 <= seconds <= MAX_SECONDS else None


def says(error: BaseException) -> str:
    """Return what an error says, with its type where that says nothing or it is no ordinary error."""
    kind = type(error).__name__
    try:
        text = str(error)
    except BaseException as unspeakable:  # noqa: BLE001 - the error's own code may raise anything
        return f"{kind}, whose text cannot be told: {type(unspeakable).__name__}"
    if isinstance(error, RemoteError):
        return text
    if inside := list(_inside(error)):
        told = [_with_type(each) for each in inside[:_TOLD_OF_GROUP]]
        if len(inside) > _TOLD_OF_GROUP:
            told.append(f"and {len(inside) - _TOLD_OF_GROUP} more")
        return f"{kind if text.startswith(' ') else ''}{text}: {'; '.join(told)}"
    only_a_name = isinstance(error, LookupError | AttributeError) and not _WHITE.search(text)
    if isinstance(error, Exception) and not only_a_name and not _MERE_VALUE.fullmatch(text):
        return text
    return f"{kind}: {text}".rstrip(": \n\t")


def _with_type(error: BaseException) -> str:
    kind, text = type(error).__name__, says(error)
    return text if text.startswith(kind) else f"{kind}: {text}"


def _where(error: BaseException) -> str:
    """Return the traceback of an error, from the code of the flow on."""
    if isinstance(error, RemoteError):
        return error.failure.traceback
    frames = _outside(error.__traceback__)
    if frames is error.__traceback__ and type(error).__module__.startswith(f"{_OURS}."):
        frames = None  # It is about the flow, and has come through none of its code.
    return "".join(traceback.format_exception(type(error), error, frames))


def _outside(frames: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of this package that an error came through at last, if there are others."""
    inner = frames
    while inner is not None:
        if not str(inner.tb_frame.f_globals.get("__name__", "")).startswith(f"{_OURS}."):
            return inner
        inner = inner.tb_next
    return frames
