"""A team's first day goes as its guide says, key and wheel included."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from docs.guide import console_lines, open_hub_stage
from docs.pages import ROOT
from e2e.programs import BIN, HTTP, Stage, wait_for
from ports import free_port

pytestmark = pytest.mark.slow

GUIDE = ROOT / "docs/guides/first-day.md"


def write_profile(stage: Stage, api_key: str) -> None:
    path = Path(stage.env["XDG_CONFIG_HOME"]) / "pyoco/client.toml"
    path.parent.mkdir()
    path.write_text(f'[default]\nserver = "{stage.url}"\napi_key = "{api_key}"\n')
    path.chmod(0o600)


def type_on(stage: Stage, command: str, words: Mapping[str, str]) -> str:
    """Do what a line of the page says, with what differs here put in its place; return what it printed."""
    for usual, own in words.items():
        command = command.replace(usual, own)
    if command.startswith("pyoco-worker"):
        stage.start(*command.split())
        return ""
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=stage.folder,
        env={**stage.env, "PATH": f"{BIN}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # The doctor's is that of its worst finding: that NATS asks for no password.
    wanted = 2 if command.startswith("pyoco-server doctor") else 0
    assert done.returncode == wanted, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_hub_stage(tmp_path) as stage:
        yield stage


def test_a_team_gets_its_code_to_run(stage: Stage) -> None:
    words = {"4222": str(stage.nats_port), "8000": str(stage.http_port)}
    words["--detach"] = f"--nats-http-port {free_port()} --detach"
    key = {"X-API-Key": ""}
    for command in console_lines(GUIDE):
        said = type_on(stage, command, words)
        match command.split():
            case ["pyoco-server-admin", *_]:
                key["X-API-Key"] = json.loads(said)["api_key"]
                write_profile(stage, key["X-API-Key"])
            case ["pyoco-client", "workers", *_]:
                assert said == "(no items)\n"
            case ["pyoco-client", "wheel-build", *_]:
                assert json.loads(said)["tags"] == ["cpu"]
            case ["pyoco-client", "submit-yaml", *_]:
                assert json.loads(said.splitlines()[-1])["status"] == "COMPLETED"
                [worker] = HTTP.get(f"{stage.url}/workers", headers=key).json()
                words["<worker_id>"] = worker["worker_id"]
            case ["pyoco-client", "list", *_]:
                assert "COMPLETED" in said
            case ["pyoco-server", "doctor", *_]:
                assert "asks nobody for a password" in said
            case ["pyoco-client", "worker-drain", *_]:
                assert stage.programs[-1].wait() == 0
            case ["pyoco-server", "down"]:
                wait_for(lambda: not stage.nats_answers(), what="the end of NATS")
            case _:
                assert command.startswith(("PYOCO_HTTP", "pyoco-server init", "pyoco-worker"))
