"""What CONTRIBUTING.md tells a newcomer is so."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Final

import pytest
import yaml

from docs.pages import ROOT

PAGE: Final = (ROOT / "CONTRIBUTING.md").read_text()
TASKS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["poe"]["tasks"]


def test_every_task_is_told_and_every_one_that_is_told_is_there() -> None:
    assert set(re.findall(r"^\| `uv run poe (\w+)`", PAGE, re.MULTILINE)) == set(TASKS)
    assert set(re.findall(r"\bpoe (\w+)`", PAGE)) <= set(TASKS)


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:tests|docs|scenarios|actors|http|cli)/[\w./]*)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_commit_that_is_named_is_there() -> None:
    shallow = subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if shallow.stdout.strip() != "false":
        pytest.skip("there is no whole history here")
    for commit in re.findall(r"`([0-9a-f]{7})`", PAGE):
        subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, check=True)


def test_what_is_checked_before_a_commit_and_a_push_is_what_ci_checks() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    assert hooks == [f"uv run poe {name}" for name in TASKS["check"]["sequence"]]
    assert "uv run poe check" in (ROOT / ".ci/run").read_text()
