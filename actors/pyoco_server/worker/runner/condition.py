"""Whether a child is as good as a fresh one after a run: what the run did to its process is found and undone.

Looked at is what one run could do to the next by the process that they share, as far as it costs next to
nothing to see. Some things nobody can see from here: a function that was replaced in a class, or in a module
that is not watched, what a module keeps for itself, audit hooks, namespaces that root has left.
"""

from __future__ import annotations

import builtins
import gc
import os
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from importlib.machinery import ExtensionFileLoader
from types import ModuleType
from typing import Any, Final

from pyoco_server.worker.runner import kin, libc
from pyoco_server.worker.runner.attributes import Attributes
from pyoco_server.worker.runner.libraries import library_parts
from pyoco_server.worker.runner.namespaces import Namespaces
from pyoco_server.worker.runner.output import Streams
from pyoco_server.worker.runner.parts import (
    Counted,
    EnvironmentPart,
    ProcessPart,
    forget_warnings,
    parts,
)

MEMORY_BYTES: Final = 256 * 1024**2
"""How much a child may grow beyond what it has once its code is imported."""

# Put back whatever is replaced in them; of other ones, see `library_parts`.
_WATCHED: Final = (builtins, sys, tempfile, time, warnings)
_THREAD_SECONDS: Final = 0.05
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Condition:
    """What the process is like when it is as good as fresh.

    Attributes:
        worn: What the runs so far did to the process that cannot be undone.
        bound: Whether modules changed it when they were imported; see `FlowFinished.bound`.
        code_bytes: How much memory came with what runs imported.
    """

    def __init__(self, streams: Streams) -> None:
        self.worn: str | None = None
        self.bound = False
        self.code_bytes = 0
        self._streams = streams
        self._modules: list[ModuleType] = []
        # How many of them are of no run, or of one that has ended.
        self._known = 0
        self._copies: list[dict[str, Any]] = []
        self._python_threads = 0
        self._threads = ProcessPart("threads", Counted("task").links, self._await_threads)
        self._watched = Namespaces("patched modules", _WATCHED, self._put_watched)
        self._import_path = ProcessPart("import path", _import_path, self._put_import_path)
        self._parts = [
            self._threads,
            self._watched,
            # After those, for they stand in one of them.
            ProcessPart("standard streams", lambda: streams.pristine, self._renew_streams),
            self._import_path,
            ProcessPart("modules", self._has_other_modules),
            *library_parts(),
            *parts(),
            Attributes(),
        ]
        # Not looked at while a run has variables of its own.
        self._environment = EnvironmentPart()
        self._memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._mark = 0
        # The memory that it had when it had no run last.
        self._had = 0

    def settle(self) -> None:
        """The process is fresh now."""
        self._had = self.resident()
        self._known = len(sys.modules)
        self._environment.settle()
        self._settle_parts()

    def _settle_parts(self) -> None:
        self._modules = list(sys.modules.values())
        self._copies = [vars(module).copy() for module in _WATCHED]
        self._python_threads = len(sys._current_frames())
        self._settle_threads()
        for part in self._parts:
            if part is not self._threads:
                part.settle()
        self._mark = max(self._mark, self.resident() + MEMORY_BYTES)

    def imported(self) -> bool:
        """The code of a run is imported: what that changed belongs to its modules, which stay.

        Returns whether any are new.
        """
        if len(sys.modules) <= len(self._modules):
            return False
        self.code_bytes += max(0, self.resident() - self._had)
        self._modules = list(sys.modules.values())
        self._allow_native_threads()
        if any(part.changed for part in self._parts):
            self.bound = True
        self._settle_parts()
        return True

    def restore(self, *, failed: bool, workdir: str | None) -> None:
        """Undo what a run did, outside of its surroundings; `worn` says what cannot be undone.

        Blocks for some seconds where the run left processes that cannot be killed, else for next to no time.

        Args:
            failed: Whether its memory may hang on its error.
            workdir: The current directory that it had, if it had one of its own.
        """
        reasons: list[str] = []
        if kin.have_children() and (kin.end_children() or _awaits_processes()):
            reasons.append("processes")
        elif not libc.adopts_orphans():
            # Its guardian has what it may have left, and ends that after it.
            reasons.append("the adoption of processes")
        if failed:
            gc.collect()
        self._had = self.resident()
        if self._had > self._mark:
            _give_memory_back()
            self._had = self.resident()
            if self._had > self._mark:
                reasons.append("memory")
        every = [*self._parts, self._environment]
        if changed := [part for part in every if part.changed]:
            if any(map(_is_extension, self._new_modules())):
                self._allow_native_threads()
            for part in changed:
                part.undo()
            reasons += [part.name for part in every if part.changed]
        forget_warnings()
        if len(sys.modules) > self._known:
            self._modules = list(sys.modules.values())
            if workdir is not None and _any_lies_in(workdir, self._modules[self._known :]):
                reasons.append("modules of its own folder")
            self._known = len(self._modules)
        if reasons:
            self.worn = ", ".join(reasons)

    def resident(self) -> int:
        """Return how much memory this process has, in bytes."""
        return int(os.pread(self._memory, 100, 0).split()[1]) * _PAGE

    def _allow_native_threads(self) -> None:
        """Extension modules make threads for themselves, which are none of a run's."""
        if len(sys._current_frames()) <= self._python_threads:
            self._settle_threads()

    def _settle_threads(self) -> None:
        """Take those that stay for the usual ones: the kernel counts one for a moment beyond its end."""
        self._threads.settle()
        until = time.monotonic() + _THREAD_SECONDS
        while self._threads.fresh - 2 > self._python_threads and time.monotonic() < until:
            time.sleep(0.001)
            self._threads.settle()

    def _await_threads(self, _fresh: int) -> None:
        gc.collect()  # an executor that nobody has any more ends its threads
        until = time.monotonic() + _THREAD_SECONDS
        while self._threads.changed and time.monotonic() < until:
            time.sleep(0.001)

    def _new_modules(self) -> list[ModuleType]:
        return list(sys.modules.values())[len(self._modules) :]

    def _has_other_modules(self) -> bool:
        """Whether one stands for another than before, or all that are new were put there by hand."""
        now = list(sys.modules.values())
        new = now[len(self._modules) :]
        if new:
            del now[-len(new) :]
        if now != self._modules:
            return True
        return bool(new) and all(getattr(module, "__spec__", None) is None for module in new)

    def _put_watched(self, _fresh: object) -> None:
        for module, copy in zip(_WATCHED, self._copies, strict=True):
            space = vars(module)
            for name in space.keys() - copy.keys():
                del space[name]
            for name, value in copy.items():
                if name not in space or space[name] is not value:
                    space[name] = value
        time.tzset()  # the environment is that of before the run again
        if [vars(module) for module in _WATCHED] == self._copies:
            self._watched.settle()  # in another order, maybe

    def _renew_streams(self, _fresh: bool) -> None:
        self._streams.renew()
        self._copies = [vars(module).copy() for module in _WATCHED]
        self._watched.settle()

    def _put_import_path(self, fresh: tuple[list[Any], ...]) -> None:
        path, finders, hooks = fresh
        sys.path[:], sys.path_hooks[:] = path, hooks
        # A finder that came with a module, as that of six does, is needed as long as the module is there.
        beyond = [each for each in sys.meta_path if each not in finders]
        modules = {module.__name__ for module in self._new_modules()}
        if all(getattr(each, "__module__", None) in modules for each in beyond):
            self._import_path.settle()


def _import_path() -> tuple[list[Any], ...]:
    return (list(sys.path), list(sys.meta_path), list(sys.path_hooks))


def _is_extension(module: ModuleType) -> bool:
    spec = getattr(module, "__spec__", None)
    return isinstance(getattr(spec, "loader", None), ExtensionFileLoader)


def _any_lies_in(folder: str, modules: list[ModuleType]) -> bool:
    """Whether one of these was imported from below a folder."""
    below = f"{folder}/", f"{os.path.realpath(folder)}/"
    for module in modules:
        spec = getattr(module, "__spec__", None)
        within = getattr(spec, "submodule_search_locations", None) or ()
        if any(str(place).startswith(below) for place in (getattr(spec, "origin", None), *within)):
            return True
    return False


def _awaits_processes() -> bool:
    """Whether `multiprocessing` remembers processes that were waited for without it."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and bool(vars(process)["_children"])


def _give_memory_back() -> None:
    gc.collect()
    with suppress(AttributeError):  # not every C library has it
        libc.LIBC.malloc_trim(0)
