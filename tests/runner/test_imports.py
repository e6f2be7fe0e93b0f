"""Code that misbehaves when it is imported: who did what is told, and only its own runs suffer."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio

from isolation.families import alive_with
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.runner.catalog import PluginCatalog, PluginQuery, try_providers
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import Limits
from runner.children import WITHIN_SECONDS, Flows, a_child, flow_yaml

GOOD = """\
def register(registry):
    registry.register_callable(greet, name='greet')

def greet():
    return 'hi'
"""
STAYS = "import time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass"
MISDEEDS = {
    "import sys; sys.exit(0)": "raised SystemExit: 0",
    "raise KeyboardInterrupt": "raised KeyboardInterrupt",
    "raise ValueError('caf\\udce9')": "raised ValueError: caf\\udce9",
    "raise BaseExceptionGroup('both', [SystemExit()])": "raised BaseExceptionGroup: both",
    "import os; os._exit(0)": "exit code 0",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "SIGKILL",
    "import ctypes; ctypes.string_at(0)": "SIGSEGV",
    "import os; os.execv('/bin/true', ['true'])": "exit code 0",
    STAYS: "did not end within 1 s",
    "import re; re.match('(a+)+b', 'a' * 64)": "did not end within 1 s",
}


def plug_in(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pyoco.tasks]\n{name} = {name}:register\n")
    (info / "RECORD").write_text(f"{name}.py,,\n")


def options(folder: Path, **env: str) -> RunnerOptions:
    return RunnerOptions(extra_sys_path=(str(folder),), env=env, limits=Limits(import_seconds=1.0))


@pytest.mark.parametrize("code", MISDEEDS)
async def test_a_plug_in_that_misbehaves_is_named_and_fails_only_its_own_runs(
    tmp_path: Path, code: str
) -> None:
    plug_in(tmp_path, "bad", f"{code}\n")
    plug_in(tmp_path, "good", GOOD)
    async with a_child(options(tmp_path)) as runner:
        flows = Flows(runner)
        told = await flows.run("greet")
        assert told.finished.status is RunStatus.COMPLETED, told.finished.error
        assert told.finished.task_records["greet"].output == "hi"
        told = await flows.run("missing")
        error = told.finished.error or ""
        assert "task 'missing' has no `callable`" in error
        assert "plug-in 'bad' (module 'bad' of distribution 'bad 1.0')" in error
        assert MISDEEDS[code] in error
        assert (await flows.run("greet")).finished.status is RunStatus.COMPLETED


async def test_a_plug_in_that_misbehaves_when_it_registers_and_a_forked_copy(
    tmp_path: Path,
) -> None:
    plug_in(tmp_path, "bad", "def register(registry):\n    raise SystemExit('no licence')\n")
    plug_in(tmp_path, "forks", f"import os\nos.fork()\n{GOOD.replace('greet', 'forked')}")
    plug_in(tmp_path, "odd", "register = 3\n")
    async with a_child(options(tmp_path)) as runner:
        error = (await Flows(runner).run("missing")).finished.error or ""
        assert "'bad 1.0') raised SystemExit: no licence" in error
        assert "'odd 1.0') raised TypeError: the entry point 'odd:register' is no function" in error
        assert "forks" not in error


LEAVES = """\
import os, time
if not os.fork():
    os.setsid()
    os.execvp('sleep', ['sleep', {mark!r}])
"""


@pytest.mark.parametrize("then", ["", "os._exit(3)", "time.sleep(600)"])
async def test_what_a_plug_in_starts_when_it_is_imported_ends_with_the_look_at_it(
    tmp_path: Path, then: str
) -> None:
    mark = f"600.{os.getpid()}"
    plug_in(tmp_path, "bad", f"{LEAVES.format(mark=mark)}{then}\n")
    plug_in(tmp_path, "good", GOOD)
    async with a_child(options(tmp_path)) as runner:
        told = await Flows(runner).run("greet")
        assert told.finished.status is RunStatus.COMPLETED, told.finished.error
        assert alive_with(mark) == []


async def test_a_plug_in_that_is_mended_or_comes_later_is_found(tmp_path: Path) -> None:
    plug_in(tmp_path, "late", "import sys; sys.exit(1)\n")
    async with a_child(options(tmp_path)) as runner:
        flows = Flows(runner)
        assert "late" in ((await flows.run("greet")).finished.error or "")
        (tmp_path / "late.py").write_text(GOOD)
        assert (await flows.run("greet")).finished.status is RunStatus.COMPLETED
        plug_in(tmp_path, "later", GOOD.replace("greet", "wave"))
        assert (await flows.run("wave")).finished.status is RunStatus.COMPLETED


async def test_what_a_flow_does_not_use_is_not_imported_and_what_it_exposes_is_seen(
    tmp_path: Path,
) -> None:
    plug_in(tmp_path, "other", f"print('other is here')\n{GOOD.replace('greet', 'wave')}")
    plug_in(tmp_path, "good", f"import os\nos.environ['FOR_IT']\n{GOOD}")
    there = RunnerOptions(extra_sys_path=(str(tmp_path),), environ={"FOR_IT": "1"})
    async with a_child(there) as runner:
        flows = Flows(runner)
        assert "KeyError" in ((await flows.run("greet")).finished.error or "")
        yaml = "flow: {graph: greet}\nruntime: {expose_env: [FOR_IT]}\n"
        told = await flows.run_yaml(yaml)
        assert told.finished.status is RunStatus.COMPLETED, told.finished.error
        assert told.text(None) == ""


async def test_a_plug_in_that_does_not_end_holds_up_only_looks_at_the_same(tmp_path: Path) -> None:
    queries: dict[str, PluginQuery] = {}
    for name in ("hangs", "good"):
        folder = tmp_path / name
        folder.mkdir()
        plug_in(folder, name, GOOD)
        there = RunnerOptions(extra_sys_path=(str(folder),))
        queries[name] = there.plugin_query(())
    catalog = PluginCatalog()
    with trio.fail_after(WITHIN_SECONDS / 2):
        before = await catalog.find(queries["hangs"], 0.0)
        begun = tmp_path / "begun"
        (tmp_path / "hangs" / "hangs.py").write_text(
            f"open({str(begun)!r}, 'w').close()\n{STAYS}\n"
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.find, queries["hangs"], time.monotonic())
            while not begun.exists():
                await trio.sleep(0.01)
            for _ in range(2):
                (found,) = await catalog.find(queries["good"], 0.0)
                assert found.tasks == ("greet",)
            assert await catalog.find(queries["hangs"], 0.0) == before
            nursery.cancel_scope.cancel()


LIES = """\
import json, os
for number in range(3, 99):
    try: name = os.readlink(f"/proc/self/fd/{number}")
    except OSError: continue
    if name.startswith("/memfd:"):
        for done in (True, False):
            other = {"kind": "plugin", "name": str(os.getpid()), "value": "a:b", "place": "there"}
            line = {"provider": {**other, "tasks": ["wave"]}, "done": done, "at": 0}
            os.write(number, json.dumps(line).encode() + b"\\n")
os._exit(0)
"""


async def test_a_plug_in_cannot_tell_of_others(tmp_path: Path) -> None:
    """It was looked at again and again, for each that it made up."""
    plug_in(tmp_path, "bad", LIES)
    plug_in(tmp_path, "good", GOOD)
    with trio.fail_after(WITHIN_SECONDS / 2):
        found = await try_providers(RunnerOptions(extra_sys_path=(str(tmp_path),)).plugin_query(()))
    assert {each.name: each.tasks for each in found} == {"bad": (), "good": ("greet",)}


async def test_a_look_at_all_plug_ins_has_a_limit_of_its_own(tmp_path: Path) -> None:
    for number in range(7):
        plug_in(tmp_path, f"hangs{number}", STAYS)
    found = await try_providers(options(tmp_path).plugin_query(()))
    problems = [each.problem for each in found]
    assert len(problems) == 7
    late = "was not looked at to its end in the 5 s that all together may take"
    assert set(problems) == {"did not end within 1 s", late}


async def test_discovery_modules_are_guarded_too(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import os; os._exit(3)\n")
    (tmp_path / "fine.py").write_text(
        "from pyoco import task\n\n@task\ndef greet():\n    return 'hi'\n"
    )
    found = options(tmp_path, PYOCO_DISCOVERY_MODULES="ends, fine nowhere")
    async with a_child(found) as runner:
        flows = Flows(runner)
        assert (await flows.run("greet")).finished.status is RunStatus.COMPLETED
        error = (await flows.run("missing")).finished.error or ""
        assert "module 'ends' ended the process that imported it, with exit code 3" in error
        assert "module 'nowhere' raised ModuleNotFoundError" in error


@pytest.mark.parametrize("code", MISDEEDS)
async def test_a_callable_whose_module_misbehaves_is_named(tmp_path: Path, code: str) -> None:
    plug_in(tmp_path, "bad", f"{code}\n")
    async with a_child(options(tmp_path)) as runner:
        told = await Flows(runner).run_yaml(flow_yaml("task", {"task": {"callable": "bad:f"}}))
        if MISDEEDS[code].startswith("raised"):
            error = told.finished.error or ""
            assert "task 'task': callable 'bad:f' cannot be loaded" in error
        else:
            error = told.exited.text.replace("exited with", "exit code")
            assert "while it imported module 'bad' of distribution 'bad 1.0'" in error
        assert "module 'bad' of distribution 'bad 1.0'" in error
        assert MISDEEDS[code] in error


async def test_a_module_that_is_not_there_says_how_it_is_brought(tmp_path: Path) -> None:
    (tmp_path / "lacks.py").write_text("import dependency_of_nobody\n")
    async with a_child(options(tmp_path)) as runner:
        flows = Flows(runner)
        for module in ("nowhere", "nowhere.inside"):
            flow = flow_yaml("task", {"task": {"callable": f"{module}:f"}})
            error = (await flows.run_yaml(flow)).finished.error or ""
            assert "No module named 'nowhere'" in error
            assert f"this worker imports from {tmp_path} and what is installed" in error
            assert f"holds {module!r}" in error
            assert "wheel-build FOLDER" in error
            assert "--wheel-sync" in error
        flow = flow_yaml("task", {"task": {"callable": "lacks:f"}})
        error = (await flows.run_yaml(flow)).finished.error or ""
        assert "dependency_of_nobody" in error
        assert "--wheel-sync" not in error


async def test_what_dies_later_is_not_put_down_to_an_import(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text("import os\n\ndef f():\n    os._exit(3)\n")
    async with a_child(options(tmp_path)) as runner:
        told = await Flows(runner).run_yaml(flow_yaml("task", {"task": {"callable": "dies:f"}}))
        assert told.exited.text == "the child process exited with 3"
