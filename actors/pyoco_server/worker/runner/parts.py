"""What of a process one run could do to the next, part by part: how it is read, and put back."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import locale
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, takewhile
from operator import attrgetter
from typing import Any, Final

from pyoco_server.worker.runner.libc import LIBC

# `signal.getsignal` makes a name of each handler, which takes twenty times as long.
_get_handler: Final[Callable[[int], Any]] = importlib.import_module("_signal").getsignal
_SIGNALS: Final = tuple(sorted(signal.valid_signals()))
_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_LIMITS: Final = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CORE,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_MEMLOCK,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_STACK,
)
_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)


def leave(_fresh: Any) -> None:
    """Put nothing back."""


@dataclass
class ProcessPart:
    """Something that is as in a fresh process, or not.

    Attributes:
        name: What it is, for people.
        read: Looks at it.
        put_back: Makes it what it was read to be, as far as that can be done and is certain.
        fresh: What it is to be.
    """

    name: str
    read: Callable[[], Any]
    put_back: Callable[[Any], object] = leave
    fresh: Any = None

    def settle(self) -> None:
        """It is as it should be now."""
        self.fresh = self.read()

    @property
    def changed(self) -> bool:
        """Whether it is not as it should be."""
        return bool(self.read() != self.fresh)

    def undo(self) -> None:
        """Put it back."""
        self.put_back(self.fresh)


def parts() -> list[ProcessPart]:
    """Return those that need nothing but themselves, not read yet."""
    return [
        ProcessPart("descriptors", partial(_descriptors, Counted("fd")), _put_descriptors),
        ProcessPart("interpreter", _interpreter, _put_interpreter),
        ProcessPart("arguments", _arguments, _put_arguments),
        ProcessPart("signal handlers", _handlers, _put_handlers),
        # To let blocked ones through might be the end of the process.
        ProcessPart("blocked signals", lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        ProcessPart("timers", _has_timers, _stop_timers),
        ProcessPart("resource limits", lambda: [*map(resource.getrlimit, _LIMITS)], _put_limits),
        ProcessPart("umask", _umask, os.umask),
        ProcessPart("scheduling", _scheduling, _put_scheduling),
        ProcessPart("identity", lambda: (os.getresuid(), os.getresgid())),
        ProcessPart("root folder", lambda: os.stat("/")[1:3]),  # noqa: PTH116 - nothing to parse
        ProcessPart("locale", lambda: locale.setlocale(locale.LC_ALL), _put_locale),
        ProcessPart("default socket timeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
        ProcessPart("warning filters", lambda: list(warnings.filters), _put_warnings),
        ProcessPart("logging", _loggers, _put_loggers),
    ]


class Counted:
    """A folder of /proc that tells of this process how many of something there are."""

    def __init__(self, name: str) -> None:
        self._path = f"/proc/self/{name}"
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def links(self) -> int:
        """Return two and the number of threads of ``task``; those of C code count."""
        return os.fstat(self._descriptor).st_nlink

    def size(self) -> int:
        """Return how many descriptors ``fd`` has."""
        # Linux tells it since 6.2.
        return os.fstat(self._descriptor).st_size or len(os.listdir(self._path))  # noqa: PTH208


class EnvironmentPart(ProcessPart):
    """The variables that processes inherit, be they known to `os.environ` or not."""

    def __init__(self) -> None:
        super().__init__("environment", _environment, _put_environment)
        self._where = b""

    def settle(self) -> None:
        """They are as they should be now."""
        super().settle()
        self._where = self._pointers()

    @property
    def changed(self) -> bool:
        """Whether they are not as they should be."""
        if self._pointers() == self._where:
            return False
        if super().changed:
            return True
        self._where = self._pointers()  # one was changed, and put back
        time.tzset()  # C code may have looked at it meanwhile
        return False

    def _pointers(self) -> bytes:
        """Where the texts are: they are replaced, not changed."""
        found = ctypes.c_void_p.in_dll(LIBC, "environ").value
        return ctypes.string_at(found, (len(self.fresh) + 1) * _POINTER) if found else b""


def _descriptors(folder: Counted) -> list[int]:
    """Their number, and what the standard ones are and how these are written."""
    seen = [folder.size()]
    with suppress(OSError):
        for number in (0, 1, 2):
            found = os.fstat(number)
            seen += (found.st_dev, found.st_ino, os.get_blocking(number))
    return seen


def _put_descriptors(_fresh: list[int]) -> None:
    gc.collect()  # a file that nobody has any more is closed
    for number in (0, 1, 2):
        with suppress(OSError):
            os.set_blocking(number, True)


def _put_collector_callbacks(fresh: int) -> None:
    del gc.callbacks[fresh:]


# What is read, and how it is put back.
_INTERPRETER: Final[tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...]] = (
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.getswitchinterval, sys.setswitchinterval),
    (sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    (sys.getprofile, sys.setprofile),
    (sys.gettrace, sys.settrace),
    (threading.getprofile, leave),
    (gc.get_threshold, lambda fresh: gc.set_threshold(*fresh)),
    (gc.isenabled, lambda fresh: gc.enable() if fresh else gc.disable()),
    (gc.get_debug, gc.set_debug),
    (lambda: len(gc.callbacks), _put_collector_callbacks),
    (faulthandler.is_enabled, lambda fresh: faulthandler.enable(2) if fresh else None),
    (sys.get_asyncgen_hooks, lambda fresh: sys.set_asyncgen_hooks(*fresh)),
    (sys.get_coroutine_origin_tracking_depth, sys.set_coroutine_origin_tracking_depth),
    (threading.stack_size, threading.stack_size),
    (tracemalloc.is_tracing, lambda fresh: None if fresh else tracemalloc.stop()),
)


def _interpreter() -> list[Any]:
    return [read() for read, _ in _INTERPRETER]


def _put_interpreter(fresh: list[Any]) -> None:
    for (_, put_back), value in zip(_INTERPRETER, fresh, strict=True):
        put_back(value)


def _arguments() -> tuple[list[str], ...]:
    """Those of the program, and of the interpreters that it starts."""
    return list(sys.argv), list(sys.warnoptions)


def _put_arguments(fresh: tuple[list[str], ...]) -> None:
    sys.argv[:], sys.warnoptions[:] = fresh


def _handlers() -> list[Any]:
    return [*map(_get_handler, _SIGNALS)]


def _put_handlers(fresh: list[Any]) -> None:
    for number, handler in zip(_SIGNALS, fresh, strict=True):
        if handler is not None and _get_handler(number) != handler:
            signal.signal(number, handler)
    # Its own may have been among them.
    faulthandler.disable()
    faulthandler.enable(2)


def _has_timers() -> bool:
    return any(signal.getitimer(timer)[0] for timer in _TIMERS)


def _stop_timers(_fresh: bool) -> None:
    for timer in _TIMERS:
        signal.setitimer(timer, 0)


def _put_limits(fresh: list[tuple[int, int]]) -> None:
    for number, limits in zip(_LIMITS, fresh, strict=True):
        with suppress(OSError, ValueError):  # the hard one can only be lowered
            resource.setrlimit(number, limits)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _scheduling() -> tuple[Any, ...]:
    return (
        os.sched_getaffinity(0),
        os.sched_getscheduler(0),
        os.getpriority(os.PRIO_PROCESS, 0),
    )


def _put_scheduling(fresh: tuple[Any, ...]) -> None:
    with suppress(OSError):
        os.sched_setaffinity(0, fresh[0])


def _put_locale(fresh: str) -> None:
    with suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, fresh)


# Has the next run see again what was warned of in this one; `warnings` has no name for it in typeshed.
forget_warnings: Final[Callable[[], None]] = importlib.import_module("_warnings")._filters_mutated


def _put_warnings(fresh: list[Any]) -> None:
    warnings.resetwarnings()  # what it has worked out from the filters goes, too
    warnings.filters[:] = fresh  # type: ignore[index]


_OF_LOGGING: Final = (
    "_loggerClass",
    "_logRecordFactory",
    "_warnings_showwarning",
    "lastResort",
    "raiseExceptions",
    "root.manager.disable",
    "root.manager.loggerClass",
    "root.manager.logRecordFactory",
)
_of_logging: Final = attrgetter(*_OF_LOGGING)


def _loggers() -> list[Any]:
    """The root, and those that are not as they come; libraries make new ones all the time.

    Before them, what is set for all.
    """
    manager = logging.root.manager
    return [
        _of_logging(logging),
        _set_up_as(logging.root),
        *[
            _set_up_as(logger)
            for logger in manager.loggerDict.values()
            if isinstance(logger, logging.Logger) and _is_set_up(logger)
        ],
    ]


def _put_loggers(fresh: list[Any]) -> None:
    for_all, *loggers = fresh
    for name, value in zip(_OF_LOGGING, for_all, strict=True):
        place, _, attribute = name.rpartition(".")
        setattr(attrgetter(place)(logging) if place else logging, attribute, value)
    logging.disable(logging.root.manager.disable)  # what loggers have worked out from it goes, too
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and _is_set_up(logger):
            silent = [each for each in logger.handlers if type(each) is logging.NullHandler]
            _set_up((logger, logging.NOTSET, silent, [], True, False))
    for each in loggers:
        _set_up(each)


def _is_set_up(logger: logging.Logger) -> bool:
    if logger.level or logger.disabled or not logger.propagate or logger.filters:
        return True
    return any(type(handler) is not logging.NullHandler for handler in logger.handlers)


def _set_up_as(logger: logging.Logger) -> tuple[Any, ...]:
    how = logger.level, list(logger.handlers), list(logger.filters)
    return (logger, *how, logger.propagate, logger.disabled)


def _set_up(how: tuple[Any, ...]) -> None:
    logger, level, handlers, filters, logger.propagate, logger.disabled = how
    logger.setLevel(level)
    logger.handlers[:] = handlers
    logger.filters[:] = filters


def _environment() -> set[bytes]:
    found = ctypes.POINTER(ctypes.c_char_p).in_dll(LIBC, "environ")
    if not found:  # type: ignore[truthy-bool]  # clearenv(3)
        return set()
    return set(takewhile(lambda variable: variable is not None, map(found.__getitem__, count())))


def _put_environment(fresh: set[bytes]) -> None:
    now = _environment()
    for variable in now - fresh:
        os.unsetenv(variable.partition(b"=")[0])
    for variable in fresh - now:
        name, _, value = variable.partition(b"=")
        os.putenv(name, value)
    time.tzset()  # C code may have looked at it meanwhile
