"""`scenario run --report` tells of every scenario that was played, also of one that failed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CALM = "name: calm\nabout: Nothing happens.\nsteps: [{say: nothing}]\n"
WRONG = "name: wrong\nabout: It cannot be.\nsteps: [{expect: {runs: 1, within: 0}}]\n"
SLEEPY = "name: sleepy\nabout: Minutes.\nlong: true\nsteps: [{wait: 100}]\n"


def played(folder: Path, report: str) -> Path:
    """Play a scenario that holds, one that does not, and one that is not played; return the report."""
    files = []
    for text in (CALM, WRONG, SLEEPY):
        files.append(folder / f"{text.split()[1]}.yaml")
        files[-1].write_text(text)
    command = str(Path(sys.executable).with_name("pyoco-server"))
    done = subprocess.run(
        [command, "scenario", "run", *map(str, files), "--report", report],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return folder / report


@pytest.mark.slow
def test_one_for_programs_holds_all_in_their_order(tmp_path: Path) -> None:
    found = json.loads(played(tmp_path, "out.json").read_text())
    assert [(each["scenario"], each["passed"]) for each in found] == [
        ("calm", True),
        ("wrong", False),
    ]
    assert found[1]["unmet"] == ["all runs: 1 runs expected, there are 0"]
    assert found[0]["transcript"][0]["text"] == "nothing"


@pytest.mark.slow
def test_one_for_people_begins_with_what_came_of_each(tmp_path: Path) -> None:
    page = played(tmp_path, "out.html").read_text()
    assert page.count("<html") == 1
    assert page.index("href='#calm'") < page.index("href='#wrong'") < page.index("id='calm'")
    assert "<section id='wrong'><h1>wrong: <span class='bad'>failed</span></h1>" in page
