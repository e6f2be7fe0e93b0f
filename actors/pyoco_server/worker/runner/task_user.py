"""The user that executes task code, where it is another one than the worker's."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from pyoco_server.worker.runner import libc

_LONGEST_SECONDS: Final = 60.0
_LOOK: Final = """\
import os, sys
os.stat(os.path.join(sys.argv[1], '.'))
import pyoco_server.worker.runner.child
"""


class TaskUserError(Exception):
    """A user that task code cannot be executed by; the text says why."""


class TaskUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user as the system knows it.

    Attributes:
        name: Its name.
        uid: Its id.
        gid: The id of its group.
        groups: Those of all its groups.
        home: Its home folder.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @classmethod
    def named(cls, name: str) -> TaskUser:
        """Look a user up, by its name or id.

        Raises:
            TaskUserError: There is none, or it is root.
        """
        try:
            found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        except (KeyError, OverflowError):
            raise TaskUserError(f"PYOCO_WORKER_TASK_USER: there is no user {name!r}") from None
        if found.pw_uid == 0:
            raise TaskUserError("PYOCO_WORKER_TASK_USER is root, which nothing is kept from")
        return cls(
            name=found.pw_name,
            uid=found.pw_uid,
            gid=found.pw_gid,
            groups=tuple(sorted(os.getgrouplist(found.pw_name, found.pw_gid))),
            home=found.pw_dir,
        )

    def check(self, state_dir: Path, python: str = sys.executable) -> None:
        """Make sure that a child of this process can be of this user; blocks for a moment.

        Args:
            state_dir: Where folders of runs will be.
            python: The interpreter of children.

        Raises:
            TaskUserError: It cannot; the text says why.
        """
        if self.uid == os.geteuid():
            raise TaskUserError(
                f"PYOCO_WORKER_TASK_USER is {self.name!r}, the worker's own user: it takes another one"
            )
        state_dir.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(  # noqa: S603 - our own program
                [python, "-P", "-c", _LOOK, str(state_dir.absolute())],
                user=self.uid,
                group=self.gid,
                extra_groups=self.groups,
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_LONGEST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return  # slow is not wrong
        except PermissionError as error:
            if error.filename == python:
                raise TaskUserError(
                    f"PYOCO_WORKER_TASK_USER: {self.name!r} may not execute {python}"
                ) from None
            raise TaskUserError(
                f"PYOCO_WORKER_TASK_USER is {self.name!r}, but this worker may not give its children another "
                "user: start it as root, or with the capabilities of docs/deploy/systemd"
            ) from None
        if done.returncode != 0:
            said = done.stderr.strip().rpartition("\n")[2]
            raise TaskUserError(
                f"PYOCO_WORKER_TASK_USER: {self.name!r} cannot read what a child needs (the Python "
                f"environment, {state_dir}): {said}"
            )

    def become(self) -> None:
        """Make this process one of this user, with no capabilities, for good.

        What it imports from then on is not the worker's. It can be looked at by its own kind again, which the
        kernel ends for a process that changes its user (prctl(2)); and it still ends with its parent.

        Raises:
            OSError: It may not.
        """
        signal, parent = libc.death_signal(), os.getppid()
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        libc.drop_capabilities()  # ambient ones would outlive the change of a worker that is not root
        libc.set_dumpable(1)
        if signal:
            libc.set_death_signal(signal)
            if os.getppid() != parent:
                os._exit(1)
        try:
            os.chdir(os.getcwd())  # noqa: PTH109 - nothing to parse
        except OSError:  # where a run goes back to, it could not
            os.chdir("/")
        os.environ.update(HOME=self.home, USER=self.name, LOGNAME=self.name)
