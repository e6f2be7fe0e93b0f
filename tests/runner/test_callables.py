"""What a flow.yaml may name, as the child sees to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyoco_server.model.run import RunStatus
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import Limits
from runner.children import Flows, a_child
from runner.test_imports import GOOD, plug_in

OURS = """\
import functools
import os
from os import system
from pathlib import Path
from subprocess import Popen, getoutput

from pyoco import task

shell = functools.partial(getoutput, 'id')
upper = str.upper
outside = task(getoutput)


def f():
    return 'fine'


fine = task(f)
again = functools.partial(f)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "tasks.py").write_text(OURS)
    (tmp_path / "beside.py").write_text("raise SystemError('imported')\n")
    return tmp_path


def options(place: Path, callables: str) -> RunnerOptions:
    return RunnerOptions(extra_sys_path=(str(place),), limits=Limits(callables=callables))


async def test_only_what_is_allowed_can_be_named_and_nothing_else_is_imported(place: Path) -> None:
    async with a_child(options(place, "ours.*")) as runner:
        flows = Flows(runner)
        for name in ("f", "fine", "again"):
            told = await flows.run("a", a={"callable": f"ours.tasks:{name}"})
            assert told.finished.status is RunStatus.COMPLETED, told.finished.error
        for callable_ in ("subprocess:getoutput", "beside:f", "oursx:f"):
            error = (await flows.run("a", a={"callable": callable_})).finished.error or ""
            assert f"callable {callable_!r} is not allowed here (PYOCO_FLOW_CALLABLES)" in error


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("getoutput", "subprocess:getoutput"),
        ("system", "posix:system"),
        ("Popen", "subprocess:Popen"),
        ("shell", "subprocess:getoutput"),
        ("outside", "subprocess:getoutput"),
        ("upper", "builtins:str.upper"),
        ("Path", "pathlib:Path"),
    ],
)
async def test_what_an_allowed_module_has_imported_is_not_its_own(
    place: Path, name: str, home: str
) -> None:
    async with a_child(options(place, "ours.*")) as runner:
        told = await Flows(runner).run("a", a={"callable": f"ours.tasks:{name}"})
        error = told.finished.error or ""
        assert f"is {home!r}, which is not allowed here" in error


async def test_what_comes_in_wheels(place: Path) -> None:
    plug_in(place, "greeting", GOOD)
    plug_in(place, "other", "def f(): pass\n")
    for rules, allowed in (("wheel:*", True), ("wheel:greet*", True), ("wheel:x", False)):
        async with a_child(options(place, rules)) as runner:
            flows = Flows(runner)
            told = await flows.run("a", a={"callable": "greeting:greet"})
            assert (told.finished.status is RunStatus.COMPLETED) is allowed, told.finished.error
            error = (await flows.run("a", a={"callable": "ours.tasks:f"})).finished.error or ""
            assert "not allowed" in error
            # What the operator's plug-ins bring by name is theirs to say.
            assert (await flows.run("greet")).finished.status is RunStatus.COMPLETED
