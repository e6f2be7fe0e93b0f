"""The scripts of the guide on embedding, as they stand there, in a folder and a process of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT

pytestmark = pytest.mark.nats

PAGE = (ROOT / "docs/guides/embedding.md").read_text()
FLOW = "version: 1\nflow:\n  graph: greet\ntasks:\n  greet:\n    callable: tasks:greet\n"


def block(mark: str) -> str:
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found, mark
    return found[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(block("file: tasks.py"))
    (tmp_path / "flow.yaml").write_text(FLOW)
    return tmp_path


def run(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("kind", ["trio", "asyncio"])
def test_a_script_of_less_than_25_lines_runs_a_flow(project: Path, kind: str) -> None:
    text = block(f"run: {kind}")
    assert len([line for line in text.splitlines() if line.strip()]) < 25
    (project / "script.py").write_text(text)
    ended = run(project, "script.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().splitlines()[-1] == "COMPLETED hello you", ended.stdout


def test_the_cells_of_a_notebook_run_inside_of_its_loop(project: Path) -> None:
    cells = [block("run: notebook, first cell"), block("run: notebook, next cell"), "stack.close()"]
    (project / "notebook.py").write_text(
        "import asyncio\n\n"
        "async def notebook():\n"
        "    names = {}\n"
        f"    for cell in {cells!r}:\n"
        "        exec(cell, names)\n"
        "        await asyncio.sleep(0)\n\n"
        "asyncio.run(notebook())\n"
    )
    ended = run(project, "notebook.py")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().splitlines()[-1] == "COMPLETED hello you", ended.stdout


def test_the_pytest_plugin_in_a_project_of_its_own(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    test = project / "test_flow.py"
    test.write_text(block("file: test_flow.py"))
    passed = run(project, "-m", "pytest", "-q")
    assert passed.returncode == 0, passed.stdout + passed.stderr

    (project / "tasks.py").write_text("def greet(name):\n    print('greets', name)\n    return 1\n")
    failed = run(project, "-m", "pytest", "-q")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "greets you" in failed.stdout
