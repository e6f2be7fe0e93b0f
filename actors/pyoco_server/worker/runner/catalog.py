"""Which provider brings which task, as a worker finds out for its children, once for all of them."""

from __future__ import annotations

import os
import subprocess
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog
import trio

from pyoco_server.process import OwnedProcess, spawn_owned
from pyoco_server.worker.runner import kin, plugins
from pyoco_server.worker.runner.plugins import Trial, Tried
from pyoco_server.worker.runner.protocol import Provider
from pyoco_server.worker.runner.task_user import TaskUser

log = structlog.get_logger(__name__)

_MOST_KEPT: Final = 16
_REPORT_BYTES: Final = 4 * 1024 * 1024
_MARGIN_SECONDS: Final = 2.0
_LINE: Final = msgspec.json.Decoder(Tried)
_NOBODY: Final = Provider(kind="plugin", name="", value="", place="what looks for plug-ins")


@dataclass(frozen=True, slots=True)
class PluginQuery:
    """What is looked at: the same look sees the same, as long as nobody installs anything.

    Attributes:
        python: The interpreter.
        paths: Folders to import from, before all others.
        env: The whole environment.
        seconds: What each import may take.
        only: The package whose plug-ins are looked at; None for all.
        user: Who looks; None for the worker's own user.
    """

    python: str
    paths: tuple[str, ...]
    env: frozenset[tuple[str, str]] = field(repr=False)
    seconds: float
    only: str | None = None
    user: TaskUser | None = None


class PluginCatalog:
    """Remembers what the last few looks found."""

    def __init__(self) -> None:
        self._found: OrderedDict[PluginQuery, tuple[float, tuple[Provider, ...]]] = OrderedDict()
        self._looking = trio.Lock()

    async def find(self, look: PluginQuery, since: float) -> tuple[Provider, ...]:
        """Return all providers, each with the tasks that it brings or what is wrong with it.

        Args:
            look: What to look at.
            since: When, on the monotonic clock, it must have been looked at or later.

        Raises:
            OSError: No process can be made.
        """
        async with self._looking:
            at, providers = self._found.get(look, (-1.0, ()))
            if at < since:
                at = time.monotonic()
                providers = await try_providers(look)
                self._found[look] = at, providers
                if len(self._found) > _MOST_KEPT:
                    self._found.popitem(last=False)
            self._found.move_to_end(look)
            return providers


async def try_providers(look: PluginQuery) -> tuple[Provider, ...]:
    """Import all providers, in a new process after each that the last one did not survive.

    Cancelled, it ends the process.

    Raises:
        OSError: No process can be made.
    """
    found: dict[str, Provider] = {}
    while True:
        done, culprit = await _try(look, frozenset(found))
        found.update((provider.key, provider) for provider in done)
        if culprit is None or culprit.key in found:
            return tuple(found.values())
        log.warning("plug-in cannot be used", plugin=culprit.place, reason=culprit.problem)
        found[culprit.key] = culprit


async def _try(look: PluginQuery, known: frozenset[str]) -> tuple[list[Provider], Provider | None]:
    """Try those that are not known; return which were, and the one that ended the process, if one did."""
    report = os.memfd_create("plug-ins")
    try:
        trial = Trial(
            report=report,
            extra_sys_path=look.paths,
            seconds=look.seconds,
            known=known,
            only=look.only,
            user=look.user,
        )
        process = spawn_owned(
            [look.python, "-P", "-m", plugins.__name__, msgspec.json.encode(trial).decode()],
            env=dict(look.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(report,),
        )
        try:
            await _end_of(process, report, look.seconds + _MARGIN_SECONDS)
        finally:
            _end_all_of(process)
            code = await process.stop(0)
        *lines, last = _lines(report)
    finally:
        os.close(report)
    done = [line.provider for line in (*lines, last) if line.done and line.provider is not None]
    if last.done and last.provider is None:
        return done, None
    culprit = _NOBODY if last.done or last.provider is None else last.provider
    late = not last.done and time.monotonic() - last.at >= look.seconds
    problem = f"did not end within {look.seconds:g} s" if late else _how_it_ended(code)
    return done, msgspec.structs.replace(culprit, problem=problem)


async def _end_of(process: OwnedProcess, report: int, seconds: float) -> None:
    """Wait for the end of a process, or until it says nothing new for that long."""
    size = -1
    while process.returncode is None and size != (size := os.fstat(report).st_size):
        with trio.move_on_after(seconds):
            await process.wait()


def _end_all_of(process: OwnedProcess) -> None:
    """Kill a process with all that it started, whatever group that is in, if it has not ended."""
    if process.returncode is None:
        pidfd = os.pidfd_open(process.pid)
        try:
            kin.end_with_descendants(pidfd, process.pid)
        finally:
            os.close(pidfd)


def _lines(report: int) -> Iterator[Tried]:
    """What was reported, after a line for the case that nothing was."""
    yield Tried(provider=_NOBODY, done=False, at=time.monotonic())
    # A plug-in may have written into it, too.
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        for text in os.pread(report, _REPORT_BYTES, 0).splitlines():
            yield _LINE.decode(text)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended the process that imported it, with exit code {code}"
    return f"had the process that imported it killed by {kin.signal_name(-code)}"
