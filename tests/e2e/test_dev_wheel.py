"""`pyoco-server dev --wheel`: runs come from a wheel of the folder, and say from which."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.programs import FLOW_YAML, Program, Stage, wait_for
from e2e.wheel_programs import client

pytestmark = pytest.mark.slow

TASK = """\
from importlib.resources import files


def tell():
    try:
        import tests.helper

        outside = "imported"
    except ImportError:
        outside = "not there"
    data = files("parts").joinpath("data.txt").read_text()
    return {"said": "one", "data": data, "from": __file__, "outside": outside}
"""
RESOLVER = "def resolve(name):\n    raise KeyError(name)\n"
FLOW = "flow:\n  graph: tell\ntasks:\n  tell: {callable: 'telling:tell'}\n"


def dev(stage: Stage, folder: Path, *options: str) -> Program:
    stage.folder = folder
    ports = ["--port", str(stage.http_port), "--nats-port", str(stage.nats_port)]
    return stage.start("pyoco-server", "dev", *options, "flow.yaml", *ports)


def folder_of_tasks(stage: Stage) -> Path:
    folder = stage.folder / "My Tasks"
    for name, text in {
        "telling.py": TASK,
        "parts/__init__.py": "",
        "parts/data.txt": "first",
        "tests/helper.py": "",
        "flow.yaml": FLOW,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    stage.env["PYTHONPATH"] = str(folder)
    return folder


def edit(folder: Path, name: str, text: str) -> None:
    """Write a file in one step, as editors do: half a file would be a change of its own."""
    fresh = folder.parent / "fresh"
    fresh.write_text(text)
    fresh.replace(folder / name)


def runs(stage: Stage) -> list[dict[str, Any]]:
    """All runs that have ended, the oldest first."""
    listed = httpx.get(f"{stage.url}/runs", timeout=60).json()
    items = listed["items"] if isinstance(listed, dict) else listed
    full = [stage.get(item["run_id"]) for item in items]
    return sorted((run for run in full if run.get("end_time")), key=lambda run: run["submitted_at"])


def next_run(stage: Stage, count: int) -> dict[str, Any]:
    """The run of that number, when it has ended."""
    run = wait_for(lambda: runs(stage)[count - 1 : count], what=f"run {count}")[0]
    assert run["status"] == "COMPLETED", run
    return dict(run)


def output(run: dict[str, Any]) -> dict[str, Any]:
    (record,) = run["task_records"].values()
    told: dict[str, Any] = record["output"]
    return told


def versions(run: dict[str, Any]) -> list[tuple[str, str]]:
    return [(wheel["name"], wheel["version"]) for wheel in run["wheels"]]


def test_each_change_is_a_wheel_that_runs_come_from_and_name(stage: Stage) -> None:
    folder = folder_of_tasks(stage)
    (folder / "resolving.py").write_text(RESOLVER)
    program = dev(stage, folder, "--wheel", "--flow-resolver", "resolving:resolve")
    wait_for(stage.ready, what="a ready gateway")
    first = next_run(stage, 1)
    assert versions(first) == [("my-tasks", "0.1.0")]
    told = output(first)
    assert (told["said"], told["data"], told["outside"]) == ("one", "first", "not there")
    assert Path(told["from"]).is_relative_to(folder / ".pyoco/wheels/sets")

    began = time.monotonic()
    edit(folder, "telling.py", TASK.replace('"one"', '"two"'))
    second = next_run(stage, 2)
    print(f"from the edit of a module to the end of its run: {time.monotonic() - began:.1f} s")
    assert (versions(second), output(second)["said"]) == ([("my-tasks", "0.1.1")], "two")
    edit(folder, "parts/data.txt", "second")
    third = next_run(stage, 3)
    assert (versions(third), output(third)["data"]) == ([("my-tasks", "0.1.2")], "second")
    # Another flow is no other code.
    edit(folder, "flow.yaml", FLOW + "# changed\n")
    assert versions(next_run(stage, 4)) == [("my-tasks", "0.1.2")]

    # What cannot be built is told, and runs go on with what could.
    edit(folder, "pyproject.toml", "[project\n")
    fifth = next_run(stage, 5)
    assert versions(fifth) == [("my-tasks", "0.1.2")]
    (line,) = [line for line in program.text().splitlines() if "no wheel of this folder" in line]
    assert "pyproject.toml" in line
    assert line.endswith("runs go on with the wheel before")

    wheels = {wheel["version"]: wheel["sha256_hex"] for wheel in client(stage, "wheels")}
    assert sorted(wheels) == ["0.1.0", "0.1.1", "0.1.2"]
    for run in (first, second, third):
        assert run["wheels"][0]["sha256"] == wheels[run["wheels"][0]["version"]]
    program.send(signal.SIGINT)
    assert program.wait() == 130
    assert "Traceback" not in program.text()

    # Begun again, versions go on where they were.
    (folder / "pyproject.toml").unlink()
    again = dev(stage, folder, "--wheel")
    wait_for(stage.ready, what="a ready gateway")
    assert versions(next_run(stage, 6)) == [("my-tasks", "0.1.3")]
    again.send(signal.SIGINT)
    assert again.wait() == 130


NO_BACKEND = """\
[build-system]
requires = []
build-backend = "nobody.has.it"
[project]
name = "a"
version = "1"
"""


@pytest.mark.parametrize(
    ("described", "why"),
    [
        ("[project]\nversion = '1'\n", "has no [project] with a name"),
        (NO_BACKEND, "cannot be built"),
    ],
)
def test_a_folder_that_cannot_be_built_is_used_itself(
    stage: Stage, described: str, why: str
) -> None:
    folder = folder_of_tasks(stage)
    (folder / "pyproject.toml").write_text(described)
    program = dev(stage, folder, "--wheel")
    wait_for(stage.ready, what="a ready gateway")
    run = next_run(stage, 1)
    assert run["wheels"] == []
    assert output(run)["from"] == str(folder / "telling.py")
    (line,) = [line for line in program.text().splitlines() if "no wheel of this folder" in line]
    assert why in line
    assert line.endswith("runs import from the folder itself")
    edit(folder, "telling.py", TASK.replace('"one"', '"two"'))
    assert output(next_run(stage, 2))["said"] == "two"
    assert client(stage, "wheels") == []


def test_a_folder_without_modules_gives_no_wheel(stage: Stage) -> None:
    folder = stage.folder / "empty"
    folder.mkdir()
    (folder / "flow.yaml").write_text(FLOW_YAML)
    program = dev(stage, folder, "--wheel")
    wait_for(stage.ready, what="a ready gateway")
    assert next_run(stage, 1)["wheels"] == []
    assert "holds no Python module and no package" in program.text()
    assert client(stage, "wheels") == []


def test_without_the_option_no_wheel_is_made(stage: Stage) -> None:
    folder = folder_of_tasks(stage)
    program = dev(stage, folder)
    wait_for(stage.ready, what="a ready gateway")
    run = next_run(stage, 1)
    assert (run["wheels"], output(run)["from"]) == ([], str(folder / "telling.py"))
    assert output(run)["outside"] == "imported"
    began = time.monotonic()
    edit(folder, "telling.py", TASK.replace('"one"', '"two"'))
    assert output(next_run(stage, 2))["said"] == "two"
    print(f"from the edit of a module to the end of its run: {time.monotonic() - began:.1f} s")
    assert client(stage, "wheels") == []
    assert "wheel" not in program.text()


def test_what_would_make_the_wheel_a_lie_is_refused(stage: Stage) -> None:
    folder = folder_of_tasks(stage)
    resolver = dev(stage, folder, "--wheel", "--flow-resolver", "telling.py:tell")
    assert resolver.wait() != 0
    assert "module:function" in resolver.text()
    stage.env["PYOCO_STATE_DIR"] = "data"
    data = dev(stage, folder, "--wheel")
    assert data.wait() != 0
    assert "would be part of the wheel" in data.text()
    assert not (folder / "data").exists()
