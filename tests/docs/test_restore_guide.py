"""A node of `up --with-nats-bootstrap` is restored as the guide says."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.guide import console_lines, open_hub_stage, type_into_shell
from docs.pages import ROOT
from e2e.programs import BIN, HTTP, Program, Stage, wait_for
from ports import free_port

pytestmark = pytest.mark.slow

GUIDE = ROOT / "docs/guides/backup-and-restore.md"
UP = "pyoco-server up --with-nats-bootstrap --detach"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_hub_stage(tmp_path) as stage:
        stage.env |= {"PATH": f"{BIN}:{os.environ['PATH']}", "PYOCO_NATS_URL": stage.nats_url}
        yield stage


def test_a_hub_of_one_command_is_restored(stage: Stage) -> None:
    ports = f"--port {stage.http_port} --nats-client-port {stage.nats_port} --nats-http-port {free_port()}"
    type_into_shell(stage, f"{UP} {ports}", {})
    kept = stage.submit()
    later: str | None = None
    node: Program | None = None
    for command in console_lines(GUIDE):
        match command.split()[:2]:
            case ["nats-server", _]:
                wait_for(lambda: not stage.nats_answers(), what="the end of the hub's NATS")
                node = stage.start(*command.split())
            case [_, "up"]:
                assert node is not None
                node.send(signal.SIGINT)
                node.wait()
                type_into_shell(stage, f"{command} {ports}", {})
            case _:
                type_into_shell(stage, command, {})
        if command.startswith("pyoco-server backup"):
            later = stage.submit()
    assert later is not None
    wait_for(stage.ready, what="a ready gateway")
    assert stage.get(kept)["status"] == "PENDING"
    assert HTTP.get(f"{stage.url}/runs/{later}").status_code == 404
    type_into_shell(stage, "pyoco-server down", {})
