"""Which provider brings which task, as a worker finds out for its children, once for all of them."""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Final, TypeVar

import msgspec
import structlog
import trio

from pyoco_server.process import OwnedProcess, spawn_owned
from pyoco_server.worker.runner import kin, plugins
from pyoco_server.worker.runner.plugins import Trial, Tried
from pyoco_server.worker.runner.protocol import Provider
from pyoco_server.worker.runner.task_user import TaskUser

log = structlog.get_logger(__name__)

T = TypeVar("T")

_MOST_KEPT: Final = 16
_MOST_BYTES: Final = 4 * 1024 * 1024
_MARGIN_SECONDS: Final = 2.0
# A whole look may take as long as so many imports that do not end.
_LONGEST_IMPORTS: Final = 5
_LINE: Final = msgspec.json.Decoder(Tried)
_LISTING: Final = msgspec.json.Decoder(Provider)
_NOBODY: Final = Provider(kind="plugin", name="", value="", place="what looks for plug-ins")
_NOTHING: Final = Tried(provider=_NOBODY, done=False, at=math.inf)


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


@dataclass(slots=True, eq=False)
class _LastLook:
    """What it found, when it began, and who looks again."""

    at: float = -1.0
    providers: tuple[Provider, ...] = ()
    looking: trio.Lock = field(default_factory=trio.Lock)


class PluginCatalog:
    """Remembers what the last few looks found. One that takes long holds up only those who ask the same."""

    def __init__(self) -> None:
        self._found: OrderedDict[PluginQuery, _LastLook] = OrderedDict()

    async def find(self, look: PluginQuery, since: float) -> tuple[Provider, ...]:
        """Return all providers, each with the tasks that it brings or what is wrong with it.

        Args:
            look: What to look at.
            since: When, on the monotonic clock, it must have been looked at or later.

        Raises:
            OSError: No process can be made.
        """
        found = self._found.setdefault(look, _LastLook())
        self._found.move_to_end(look)
        if len(self._found) > _MOST_KEPT:
            self._found.popitem(last=False)
        if found.at < since:
            async with found.looking:
                if found.at < since:
                    at = time.monotonic()
                    found.providers = await try_providers(look)
                    found.at = at
        return found.providers


async def try_providers(look: PluginQuery) -> tuple[Provider, ...]:
    """Import all providers, in a new process after each that the last one did not survive.

    Those for which there is no time are told of as such. Cancelled, it ends the process.

    Raises:
        OSError: No process can be made.
    """
    seconds = _LONGEST_IMPORTS * look.seconds
    until = trio.current_time() + seconds
    listed: dict[str, Provider] = {}
    found: dict[str, Provider] = {}
    while True:
        every, report, code = await _try(look, frozenset(found), until)
        listed = listed or {provider.key: provider for provider in every}
        # A plug-in may have written into it, too.
        lines = [line for line in report if line.provider is None or line.provider.key in listed]
        done = [line.provider for line in lines if line.done and line.provider is not None]
        found.update((provider.key, provider) for provider in done)
        last = lines[-1] if lines else _NOTHING
        if (last.done and last.provider is None) or trio.current_time() >= until:
            break
        culprit = _NOBODY if last.done or last.provider is None else last.provider
        if culprit.key in found:
            break
        late = not last.done and time.monotonic() - last.at >= look.seconds
        problem = f"did not end within {look.seconds:g} s" if late else _how_it_ended(code)
        log.warning("plug-in cannot be used", plugin=culprit.place, reason=problem)
        found[culprit.key] = msgspec.structs.replace(culprit, problem=problem)
    problem = f"was not looked at to its end in the {seconds:g} s that all together may take"
    left = {key: msgspec.structs.replace(each, problem=problem) for key, each in listed.items()}
    return tuple((left | found).values())


async def _try(
    look: PluginQuery, known: frozenset[str], until: float
) -> tuple[list[Provider], list[Tried], int]:
    """Try those that are not known, for as long as there is time.

    Returns all that there are, what was reported, and how the process ended.
    """
    with _file() as listing, _file() as report:
        trial = Trial(
            listing=listing.fileno(),
            report=report.fileno(),
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
            pass_fds=(trial.listing, trial.report),
        )
        try:
            with trio.move_on_at(until):
                await _end_of(process, trial.report, look.seconds + _MARGIN_SECONDS)
        finally:
            _end_all_of(process)
            code = await process.stop(0)
        return [*_read(listing, _LISTING)], [*_read(report, _LINE)], code


def _file() -> BinaryIO:
    """A file in memory, for a process to write."""
    return os.fdopen(os.memfd_create("plug-ins"), "rb")


def _read(file: BinaryIO, decoder: msgspec.json.Decoder[T]) -> Iterator[T]:
    """Read the lines of a file up to one that is none."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        for line in os.pread(file.fileno(), _MOST_BYTES, 0).splitlines():
            yield decoder.decode(line)


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


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended the process that imported it, with exit code {code}"
    return f"had the process that imported it killed by {kin.signal_name(-code)}"
