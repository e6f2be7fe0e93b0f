"""Task code of a user of its own, and what that keeps from it. The tests of it take root's rights."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pyoco_server.model.run import RunStatus
from pyoco_server.worker.child import SlotChild
from pyoco_server.worker.runner.guarded import Guardian
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.task_user import TaskUser, TaskUserError
from pyoco_server.worker.spare import SpareChild
from runner.children import Flows, a_child, flow_yaml
from runner.test_imports import GOOD, plug_in

SITES = os.pathsep.join(path for path in sys.path if "site-packages" in path or "actors" in path)


def python_for_all() -> str | None:
    """An interpreter that others than root can execute, too, and that can import what is installed here."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        with suppress(OSError):
            done = subprocess.run(
                [python, "-c", "import pyoco_server.worker.runner.child"],
                env={"PYTHONPATH": SITES},
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                cwd="/",
                check=False,
                capture_output=True,
            )
            if done.returncode == 0:
                return python
    return None


NOBODY = pwd.getpwnam("nobody").pw_uid
PYTHON = (python_for_all() if os.geteuid() == 0 else None) or sys.executable
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give children another user")
LOOKS = """\
import os

def tried(call):
    try:
        return str(call())
    except OSError as error:
        return error.strerror

def look(ctx):
    worker = ctx.params["worker"]
    with open("artifacts/note.txt", "w") as note:
        note.write("mine")
    return {
        "ids": os.getresuid() + os.getresgid(),
        "groups": os.getgroups(),
        "home": os.environ["HOME"],
        "capabilities": open("/proc/self/status").read().split("CapPrm:")[1].split()[0],
        "environ": tried(lambda: open(f"/proc/{worker}/environ").read()),
        "memory": tried(lambda: open(f"/proc/{worker}/mem").read(1)),
        "pipes": tried(lambda: os.listdir(f"/proc/{worker}/fd")),
        "killed": tried(lambda: os.kill(worker, 0)),
        "secret": tried(lambda: open(ctx.params["secret"]).read()),
        "other": tried(lambda: os.listdir(ctx.params["other"])),
        "root": tried(lambda: os.setuid(0)),
        "own": tried(lambda: len(open("/proc/self/environ").read()) > 0),
    }
"""


def runner_options_of(place: Path, user: TaskUser) -> RunnerOptions:
    env = {"PYTHONPATH": SITES}
    return RunnerOptions(python=PYTHON, env=env, extra_sys_path=(str(place),), user=user)


def child_in(folder: Path, options: RunnerOptions) -> SlotChild:
    """One that has not begun to live."""
    return SlotChild(options, folder, SpareChild(Guardian(options.python, options.variables)))


@pytest.fixture
def nobody() -> TaskUser:
    return TaskUser.named("nobody")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others can read; those of pytest cannot be."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "looking.py").write_text(LOOKS)
        yield Path(folder)


@as_root
async def test_a_run_of_another_user_reaches_nothing_of_the_worker(
    place: Path, nobody: TaskUser
) -> None:
    secret = place / "password"
    secret.write_text("of nats")
    secret.chmod(0o600)
    options = runner_options_of(place, nobody)
    child, other = child_in(place / "work" / "0", options), child_in(place / "1", RunnerOptions())
    before = os.umask(0o077)
    await child.make_folder()
    os.umask(before)
    await other.make_folder()
    yaml = flow_yaml("look", {"look": {"callable": "looking:look"}})
    params = {"worker": os.getpid(), "secret": str(secret), "other": str(other.folder)}
    async with a_child(options) as runner:
        told = await Flows(runner).run_yaml(yaml, params=params, workdir=str(child.folder))
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    seen = told.finished.task_records["look"].output
    assert seen["ids"] == [nobody.uid] * 3 + [nobody.gid] * 3
    assert seen["groups"] == list(nobody.groups)
    assert (seen["home"], int(seen["capabilities"], 16), seen["own"]) == (nobody.home, 0, "True")
    for name in ("environ", "memory", "pipes", "secret", "other"):
        assert seen[name] == "Permission denied", name
    assert (seen["killed"], seen["root"]) == ("Operation not permitted",) * 2
    # The worker keeps what it saved, and removes the folder.
    assert (child.folder / "artifacts" / "note.txt").read_text() == "mine"
    assert child.folder.stat().st_mode & 0o777 == 0o700
    await child.remove_folder()
    assert not child.folder.exists()


@as_root
async def test_plug_ins_are_tried_by_that_user_too(place: Path, nobody: TaskUser) -> None:
    check = f"import os\nassert os.getuid() == {nobody.uid}\n"
    plug_in(place, "good", check + GOOD)
    async with a_child(runner_options_of(place, nobody)) as runner:
        folder = place / "run"
        folder.mkdir()
        os.chown(folder, nobody.uid, nobody.gid)
        yaml = "flow: {graph: greet}\n"
        told = await Flows(runner).run_yaml(yaml, workdir=str(folder))
        assert told.finished.status is RunStatus.COMPLETED, told.finished.error


@as_root
def test_a_user_that_can_execute_tasks_and_one_that_cannot(
    place: Path, nobody: TaskUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", SITES)
    nobody.check(place / "state", PYTHON)
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(TaskUserError, match="Permission denied"):
        nobody.check(closed / "state", PYTHON)


@as_root
def test_a_worker_that_is_not_root_is_told(place: Path, nobody: TaskUser) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from pyoco_server.worker.runner.task_user import TaskUser, TaskUserError\n"
        "try: TaskUser.named(sys.argv[1]).check(Path(sys.argv[2]))\n"
        "except TaskUserError as error: print(error)\n"
    )
    for user, why in (("nobody", "the worker's own user"), ("daemon", "may not give")):
        said = subprocess.run(
            [PYTHON, "-c", code, user, str(place)],
            env={"PYTHONPATH": SITES},
            user=nobody.uid,
            group=nobody.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert why in said


def test_users_that_are_none() -> None:
    with pytest.raises(TaskUserError, match="there is no user 'nobody-at-all'"):
        TaskUser.named("nobody-at-all")
    with pytest.raises(TaskUserError, match="root"):
        TaskUser.named("0")


async def test_run_folders_are_of_their_user_only(tmp_path: Path) -> None:
    child = child_in(tmp_path / "work" / "0", RunnerOptions())
    await child.make_folder()
    assert child.folder.stat().st_mode & 0o777 == 0o700
