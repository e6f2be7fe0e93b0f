"""What a flow finds around it, and what it leaves to the next one."""

from __future__ import annotations

import os
from pathlib import Path

from pyoco_server.worker.runner.options import RunnerOptions
from runner.children import CODE, Flows, a_child, flow_yaml

WORKERS_OWN = {
    **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYOCO_NATS_URL": "nats://user:password@host",
    "NATS_TOKEN": "secret",
    "SECRET_OF_THE_FLOW": "for the flow",
    "SECRET_OF_OTHERS": "for others",
}


async def test_a_flow_sees_the_few_variables_that_it_needs_and_those_that_it_names(
    tmp_path: Path,
) -> None:
    options = RunnerOptions(extra_sys_path=(CODE,), env={"ADDED": "1"}, environ=WORKERS_OWN)
    async with a_child(options) as runner:
        flows = Flows(runner)
        exposing = flow_yaml(
            "look",
            {"look": "look_around"},
            "runtime: {expose_env: [SECRET_OF_THE_FLOW, NOT_SET, PYOCO_NATS_URL, NATS_TOKEN]}\n",
        )
        told = await flows.run_yaml(
            exposing, run_id="r1", attempt=3, env={"MORE": "2"}, workdir=str(tmp_path / "r1")
        )
        seen = told.finished.task_records["look"].output
        environ = seen["environ"]
        # Python itself sets this one where it finds the C locale.
        environ.pop("LC_CTYPE", None)
        assert environ == {
            **{name: WORKERS_OWN[name] for name in ("PATH", "HOME", "LC_ALL", "TZ")},
            "ADDED": "1",
            "MORE": "2",
            "PYOCO_RUN_ID": "r1",
            "PYOCO_RUN_ATTEMPT": "3",
            "SECRET_OF_THE_FLOW": "for the flow",
        }
        assert seen["at_import"] == "for the flow"

        told = await flows.run("look", look="look_around")
        environ = told.finished.task_records["look"].output["environ"]
        assert not environ.keys() & {"SECRET_OF_THE_FLOW", "MORE"}


async def test_a_variable_that_is_no_utf_8_is_seen_as_it_is() -> None:
    environ = WORKERS_OWN | {"SECRET_OF_THE_FLOW": "caf\udce9"}
    async with a_child(RunnerOptions(extra_sys_path=(CODE,), environ=environ)) as runner:
        raw = {"callable": "os:fsencode", "inputs": {"filename": "$env.SECRET_OF_THE_FLOW"}}
        exposing = "runtime: {expose_env: [SECRET_OF_THE_FLOW]}\n"
        told = await Flows(runner).run_yaml(flow_yaml("raw", {"raw": raw}, exposing))
        assert told.finished.task_records["raw"].output == repr(b"caf\xe9")


async def test_each_run_has_a_directory_of_its_own(flows: Flows, tmp_path: Path) -> None:
    yaml = flow_yaml("look", {"look": "look_around"})
    for name in ("r1", "r2"):
        told = await flows.run_yaml(yaml, workdir=str(tmp_path / "runs" / name))
        seen = told.finished.task_records["look"].output
        assert seen["cwd"] == str(tmp_path / "runs" / name)
        assert seen["artifacts"] is True
        assert (tmp_path / "runs" / name / "note.txt").read_text() == "mine"
    assert not (tmp_path / "artifacts").exists()


async def test_what_is_saved_is_the_runs_wherever_its_code_has_gone(tmp_path: Path) -> None:
    """It was lost without a word behind a change of the current directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "wanderer.py").write_text(
        f"import os\n\nos.chdir({str(elsewhere)!r})\n\n\n"
        f"def save(ctx):\n    os.chdir({str(elsewhere)!r})\n"
        "    return ctx.save_artifact('a.txt', 'x')\n"
    )
    async with a_child(RunnerOptions(extra_sys_path=(str(tmp_path),))) as runner:
        flows = Flows(runner)
        for name, limit in (("r1", {}), ("r2", {"timeout_sec": 20})):
            yaml = flow_yaml("a", {"a": {"callable": "wanderer:save", **limit}})
            told = await flows.run_yaml(yaml, workdir=str(tmp_path / name))
            kept = tmp_path / name / "artifacts" / "a.txt"
            assert told.finished.task_records["a"].output == str(kept)
            assert kept.read_text() == "x"
    assert list(elsewhere.iterdir()) == []


async def test_what_a_flow_changes_is_put_back(flows: Flows, tmp_path: Path) -> None:
    await flows.run("disturb", disturb="disturb")
    told = await flows.run("look", look="look_around")
    seen = told.finished.task_records["look"].output
    assert "LEFT_BEHIND" not in seen["environ"]
    assert "PATH" in seen["environ"]
    assert seen["cwd"] == str(tmp_path)


async def test_the_current_directory_is_not_on_the_import_path(tmp_path: Path) -> None:
    (tmp_path / "local_tasks.py").write_text("def f(): return 1\n")
    local = {"callable": "local_tasks:f"}
    async with a_child(RunnerOptions()) as runner:
        told = await Flows(runner).run("a", a=local)
        assert "No module named 'local_tasks'" in (told.finished.error or "")
    async with a_child(RunnerOptions(extra_sys_path=(".",))) as runner:
        told = await Flows(runner).run("a", a=local)
        assert told.finished.task_records["a"].output == 1


async def test_ctrl_c_is_for_the_worker(flows: Flows) -> None:
    told = await flows.run("a", a="hear_signals")
    ignored, default = told.finished.task_records["a"].output
    assert "SIG_IGN" in ignored
    assert "SIG_DFL" in default


def test_the_options_do_not_show_the_environment() -> None:
    assert "secret" not in repr(RunnerOptions(environ=WORKERS_OWN, env=WORKERS_OWN))
