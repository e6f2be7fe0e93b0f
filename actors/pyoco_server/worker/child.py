"""The child process of a slot over its lives, and the folder that its runs have."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from pyoco_server.model.artifact import FOLDER
from pyoco_server.model.job import Job
from pyoco_server.store.threads import in_thread
from pyoco_server.worker.control_group import SlotGroup
from pyoco_server.worker.held_folder import HeldFolder, make_held, remove_folder
from pyoco_server.worker.runner.handle import RunnerProcess
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.task_user import TaskUser
from pyoco_server.worker.spare import SpareChild
from pyoco_server.worker.wheel_set import NO_WHEELS, WheelSet

_STOP_GRACE_SECONDS = 1.0
# Where a run has a limit of memory, earlier ones have left at most a tenth of that, or so many bytes: every
# child grows a little with its first runs.
_KEPT_PART: Final = 10
_KEPT_BYTES: Final = 16 * 1024 * 1024


class SlotChild:
    """A warm child process; a new one takes the place of each that ended.

    One life is of one tenant only, and of one flow only where that flow's modules changed their process when
    they were imported.

    Attributes:
        folder: Where its runs have their current directory, one after the other.
        group: The control group that it is in, if any.

    Args:
        spare: Gives it its lives.
    """

    def __init__(
        self,
        options: RunnerOptions,
        folder: Path,
        spare: SpareChild,
        group: SlotGroup | None = None,
    ) -> None:
        self._options = options
        self._spare = spare
        self.folder = folder
        self._looked_at = _looked_at(folder)
        self.group = group
        self._runner: RunnerProcess | None = None
        self._wheels = NO_WHEELS
        # Whether the present life executed a run, whose, and which flow's alone it did and may execute.
        self._used = False
        self._tenant: str | None = None
        self._only: str | None = None
        self._flow: str | None = None
        # The worker's folder, which it is in.
        self._held: HeldFolder | None = None
        # How the folder looks as long as no run has used it; None where there is none.
        self._untouched: tuple[int, ...] | None = None

    @property
    def runner(self) -> RunnerProcess:
        """Its present life, which may have ended; there is one as soon as it was told what to `use`."""
        assert self._runner is not None
        return self._runner

    def has_died(self) -> bool:
        """Whether its present life has ended after it was given a run."""
        return self._used and self._runner is not None and self._runner.has_ended()

    async def _start(self, *, worn: bool) -> None:
        """Start a life; where the one before was worn out, the one after it is made ahead."""
        # Wheels first: what lies about in the worker's folder is not to stand in for what was uploaded.
        paths = (*self._wheels.import_paths, *self._options.extra_sys_path)
        self._runner = None  # what has ended is not used again, should there be no other
        if self.group is not None:
            self.group.renew()
        options = replace(
            self._options,
            extra_sys_path=paths,
            group=None if self.group is None else str(self.group.folder),
        )
        self._runner = await self._spare.take(options)
        if worn:
            self._spare.prepare(options)
        self._used, self._tenant, self._only, self._flow = False, None, None, None

    async def stop(self) -> None:
        """End the present life, within a few seconds; does nothing when there is none."""
        if self._runner is not None:
            await self._runner.stop(_STOP_GRACE_SECONDS)

    async def use(
        self, wheels: WheelSet, job: Job | None = None, memory_bytes: int | None = None
    ) -> None:
        """Import from these wheels from now on and be fit for a job, which may take a new life.

        Args:
            wheels: What is current for its tenant.
            job: What comes next, if that is known.
            memory_bytes: How much memory it may have; None for as much as there is.

        Raises:
            OSError: No process can be made.
        """
        worn = job is not None and (
            self._is_of_others(job) or self._has_kept_much(job, memory_bytes)
        )
        if self._runner is None or wheels != self._wheels or worn:
            await self.stop()
            if wheels != self._wheels and wheels.digest == self._wheels.digest:
                # Its folder was made anew: who looked there meanwhile does not look again.
                await self._spare.stop()
            # The set before may go now: nothing imports from it any more.
            self._wheels = wheels
            await self._start(worn=worn)
        if job is not None:
            self._only = _flow(job) if not self._used or self._only == _flow(job) else None
            self._used, self._tenant = True, job.tenant_id

    def _is_of_others(self, job: Job) -> bool:
        other_tenant = self._used and self._tenant != job.tenant_id
        return other_tenant or self._flow not in (None, _flow(job))

    def _has_kept_much(self, job: Job, memory_bytes: int | None) -> bool:
        """Whether what runs left in the present life is a good part of the memory that a job may have.

        Code that it would import itself is none of that.
        """
        if self._runner is None or not self._used or memory_bytes is None:
            return False
        kept = self._runner.kept_bytes(without_code=self._only == _flow(job))
        return kept > max(_KEPT_BYTES, memory_bytes // _KEPT_PART)

    def bind(self, job: Job) -> None:
        """Execute only runs of this job's flow from now on, in the present life."""
        self._flow = _flow(job)

    async def replace(self, *, code_changed: bool = False) -> None:
        """End the present life and start the next, with all code imported anew if it has changed.

        Raises:
            OSError: No process can be made.
        """
        await self.stop()
        if code_changed:
            await self._spare.stop()
        await self._start(worn=not code_changed)

    async def make_folder(self) -> None:
        """Make the folder for the next run, if it is not there.

        Raises:
            OSError: There is no room for a run.
        """
        if self._untouched is not None and _is_there(self.folder):
            return
        self._untouched = None
        if self._held is None or not self._held.is_there():
            # What nobody holds is swept away by other workers, with the children of whose it was.
            above = self.folder.parent
            self._held = await in_thread(make_held, above.parent, above.name)
        self._untouched = await in_thread(_make, self.folder, self._options.user)

    def is_touched(self) -> bool:
        """Whether a run left anything in the folder; one that was not touched can stay for the next run."""
        try:
            return _marks(self._looked_at) != self._untouched
        except OSError:
            return True

    async def remove_folder(self) -> None:
        """Remove the folder with all that a run left in it."""
        self._untouched = None
        await in_thread(remove_folder, self.folder)


def _flow(job: Job) -> str:
    return job.workflow_yaml or job.flow_name


def _is_there(folder: Path) -> bool:
    """Return whether a folder is where it was made; it may have been removed beneath the worker.

    Raises:
        OSError: There is no room in it.
    """
    try:
        room = os.statvfs(folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    ours = os.geteuid() == 0  # what is set aside for root, too
    blocks = room.f_bfree if ours else room.f_bavail
    files = room.f_ffree if ours else room.f_favail
    # File systems without a limit tell of none.
    if (room.f_blocks and not blocks) or (room.f_files and not files):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    return True


def _make(folder: Path, user: TaskUser | None) -> tuple[int, ...]:
    """Make a folder with what the engine wants to find in it, for one user; return how it looks."""
    remove_folder(folder)
    saved = folder / FOLDER
    saved.mkdir(parents=True)
    for above in folder.parents[:2] if user is not None else ():
        above.chmod(above.stat().st_mode | 0o011)  # the worker's own, to be passed through
    for made in (saved, folder):
        made.chmod(0o700)
        if user is not None:
            os.chown(made, user.uid, user.gid)
        os.utime(made, (0, 0))  # what is done in it within the same tick of the clock shows as well
    return _marks(_looked_at(folder))


def _looked_at(folder: Path) -> tuple[str, ...]:
    """Where it shows what was done in a folder: there, and in its folder of artifacts."""
    return str(folder), str(folder / FOLDER)


def _marks(paths: tuple[str, ...]) -> tuple[int, ...]:
    """What changes with all that is done in folders (inode(7))."""
    marks: list[int] = []
    for path in paths:
        found = os.lstat(path)
        marks += (found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
    return tuple(marks)
