"""The ways to install that the README names, from a wheel, with what a user needs and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT

pytestmark = pytest.mark.slow

DEVELOPERS = {"mypy", "playwright", "pyright", "pytest", "ruff", "hypothesis", "schemathesis"}


def said(*argv: str, folder: Path) -> str:
    done = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    said("uv", "build", "--quiet", "--wheel", "--out-dir", str(out), str(ROOT), folder=out)
    [built] = out.glob("*.whl")
    return built


def lines(page: str) -> list[str]:
    [block] = re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return str(block).splitlines()


def test_both_languages_name_the_same_ways() -> None:
    assert lines("README.md") == lines("README_ja.md")
    assert [line.split()[0] for line in lines("README.md")] == ["uvx", "pipx", "python3"]


def test_uvx_runs_the_demo_of_a_wheel(wheel: Path, tmp_path: Path) -> None:
    words = lines("README.md")[0].replace(" . ", f" {wheel} ").split()
    # Each checkout builds another wheel of the same name.
    text = said(words[0], "--refresh-package", "pyoco-server", *words[1:], folder=tmp_path)
    assert "COMPLETED" in text


def test_a_venv_with_the_wheel_holds_what_a_user_needs(wheel: Path, tmp_path: Path) -> None:
    line = lines("README.md")[2].replace("install .", f"install --quiet {wheel}")
    line = line.replace("python3", sys.executable)
    said("bash", "-c", f"{line} && pyoco-server --version && pyoco-client --help", folder=tmp_path)
    listed = said(str(tmp_path / ".venv/bin/pip"), "list", "--format=freeze", folder=tmp_path)
    names = {name.partition("==")[0].lower() for name in listed.splitlines()}
    assert "pyoco-server" in names
    assert names & DEVELOPERS == set()
