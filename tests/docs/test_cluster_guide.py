"""The guide to three NATS nodes, followed from a single node to a cluster that lost a node."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.guide import console_lines, type_into_shell
from docs.pages import ROOT
from e2e.programs import BIN, Program, Stage, descendants, open_stage, wait_for
from ports import free_port
from pyoco_server.settings import Settings, describe

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs/guides/cluster.md"


def stop_node(node: Program) -> None:
    """End the nats-server, which nats-bootstrap waits for."""
    for pid in descendants(node.pid):
        os.kill(pid, signal.SIGTERM)
    node.wait()


class Reader:
    """Follows the page on ports of its own."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.nodes: list[Program] = []
        self._ports = {
            port: str(free_port())
            for port in sorted(set(re.findall(r"\b[46]23\d\b", PAGE.read_text())))
        }
        assert len(self._ports) == 6

    def here(self, text: str) -> str:
        return re.sub(r"\b[46]23\d\b", lambda port: self._ports[port.group()], text)

    def type(self, command: str) -> str:
        if not command.startswith("nats-bootstrap"):
            return type_into_shell(self.stage, self.here(command), {})
        self.nodes.append(self.stage.start(*shlex.split(self.here(command))))
        return ""

    def settings(self) -> dict[str, str]:
        (text,) = re.findall(r"^```ini\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        return dict(line.split("=", 1) for line in self.here(text).splitlines())

    def healthy(self) -> bool:
        said = subprocess.run(
            [str(BIN / "pyoco-server"), "doctor", "--server", self.stage.url],
            env=self.stage.env,
            cwd=self.stage.folder,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return said.returncode == 0


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with open_stage(tmp_path) as stage:
        stage.env["PATH"] = f"{BIN}:{stage.env['PATH']}"
        reader = Reader(stage)
        try:
            yield reader
        finally:
            for node in reader.nodes:
                if node.process.poll() is None:
                    stop_node(node)


def test_the_guide_leads_from_one_node_to_three(reader: Reader) -> None:
    stage = reader.stage
    stage.nats()
    old = stage.gateway()
    run_id = stage.submit()
    old.stop()

    *start, backup, restore, dry, migrate, doctor = console_lines(PAGE)
    for command in start:
        reader.type(command)
    assert len(reader.nodes) == 3
    stage.env |= reader.settings()

    reader.type(backup)
    wait_for(lambda: all("ready" in node.text() for node in reader.nodes), what="three nodes")
    wait_for(lambda: any("new metadata leader" in n.text() for n in reader.nodes), what="a leader")
    reader.type(restore)
    would = reader.type(dry)
    changes = [json.loads(line)["changes"] for line in would.splitlines()]
    assert {"num_replicas": [1, 3]} in changes
    assert reader.type(migrate) == would
    assert reader.type(migrate) == ""

    cluster = reader.settings()["PYOCO_NATS_URL"]
    stage.start("pyoco-server", "up", "--port", str(stage.http_port))
    wait_for(stage.ready, what="a ready gateway", within=60)
    stage.start("pyoco-worker", "--tags", "hello", "--worker-id", "w1", "--nats-url", cluster)
    assert stage.ended(run_id)["status"] == "COMPLETED"
    wait_for(reader.healthy, within=60, every=0.5, what="nothing that the doctor finds")
    reader.type(doctor)

    stop_node(reader.nodes[0])
    wait_for(lambda: not reader.healthy(), what="the doctor missing a node")
    wait_for(stage.ready, what="a ready gateway", within=60)
    assert stage.ended(stage.submit())["status"] == "COMPLETED"


@pytest.mark.parametrize(
    "words", [["up", "--cluster", "pyoco"], ["join", "--cluster", "pyoco", "--seed", "127.0.0.1"]]
)
def test_what_nats_bootstrap_cannot_do_is_as_the_page_says(
    words: list[str], tmp_path: Path
) -> None:
    """Where this fails, a newer nats-bootstrap can do it: say so on the page."""
    done = subprocess.run(
        [str(BIN / "nats-bootstrap"), *words, "--datafolder", str(tmp_path / "data")],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "AttributeError" in done.stderr
    assert f"nats-bootstrap {words[0]}" in PAGE.read_text()
    assert not (tmp_path / "data").exists()


def test_the_settings_of_the_page_are_settings() -> None:
    known = {row.env for row in describe(Settings)}
    assert set(re.findall(r"PYOCO_[A-Z_]+", PAGE.read_text())) <= known
