"""`pyoco-server init`: what it writes runs, is tested by its own test, and is described by its schema."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from docs.pages import ROOT
from e2e.programs import Stage
from pyoco_cli.server import main

SCHEMA = json.loads((ROOT / "cli/pyoco_cli/server/flow.schema.json").read_text())
TAKES = jsonschema_rs.validator_for(SCHEMA).is_valid


@pytest.mark.slow
def test_what_init_writes_passes_its_own_test(stage: Stage) -> None:
    stage.run("pyoco-server", "init", "mine")
    folder = stage.folder / "mine"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"],
        cwd=folder,
        env={**stage.env, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_nothing_is_written_over_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks.py").write_text("mine")
    assert main(["init", str(tmp_path)]) == 1
    assert f"{tmp_path} has tasks.py already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.py"]


def test_init_is_of_the_present_folder_unless_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert capsys.readouterr().out.endswith("\n\npyoco-server dev flow.yaml\n")
    for name in ("flow.yaml", "tasks.py", "test_flow.py", ".env", "flow.schema.json"):
        assert (tmp_path / name).is_file()
    assert TAKES(yaml.safe_load((tmp_path / "flow.yaml").read_text()))


def test_the_schema_takes_what_the_reference_shows_and_no_other_key() -> None:
    page = (ROOT / "docs/reference/flow_yaml.md").read_text()
    flow = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    assert TAKES(flow)
    for wrong in ({**flow, "flows": {}}, {**flow, "tasks": {"a": {"call": "m:f"}}}, {}):
        assert not TAKES(wrong)
    keys = set(re.findall(r"^\| `([a-z_]+)[.`]", page, re.MULTILINE))
    assert keys <= set(SCHEMA["properties"])
