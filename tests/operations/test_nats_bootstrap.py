"""The commands of nats-bootstrap do in our environment what docs/guides/operations.md says of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from docs.pages import ROOT
from e2e.programs import BIN, wait_for
from operations.servers import free_port

pytestmark = pytest.mark.nats
PAGE = (ROOT / "docs/guides/operations.md").read_text().partition("## nats-bootstrap")[2]
COMMANDS = (
    "up",
    "join",
    "status",
    "doctor",
    "backup",
    "restore",
    "leave",
    "down",
    "service",
    "controller",
)

BOOTSTRAP = """\
cluster: c
datafolder: d
system_account: {name: SYS, user: sys, password_env: HOME}
app_account: {name: APP, user: app, password_env: HOME}
advertise: {client: "127.0.0.1:4222", cluster: "127.0.0.1:6222"}
"""


def env(folder: Path) -> dict[str, str]:
    # Without the folders where a developer may have the `nats` binary, and without their configuration.
    return {**os.environ, "PATH": str(BIN), "HOME": str(folder)}


def bootstrap(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "nats-bootstrap"), *line.split()],
        cwd=folder,
        env=env(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_has_the_commands_that_the_page_tells_of(tmp_path: Path) -> None:
    done = bootstrap(tmp_path, "--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert command in done.stdout
        assert f"`nats-bootstrap {command}" in PAGE


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_it_finds_our_nats_server(tmp_path: Path, command: str) -> None:
    done = bootstrap(tmp_path, command)
    assert done.returncode == 0, done
    assert f"{command}: ok\n" in done.stdout
    assert "nats-server: " in done.stdout


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("up --cluster c --datafolder d", 1, "AttributeError"),
        ("up --bootstrap-config {folder}/bootstrap.yaml", 1, "AttributeError"),
        ("join --cluster c --seed 127.0.0.1:1 --datafolder d", 1, "AttributeError"),
        ("join -- -v", 1, "AttributeError"),
        ("backup --stream PYOCO_WORK --output there", 2, "nats cli not found"),
        ("restore --input there --confirm", 2, "nats cli not found"),
        ("leave --confirm", 2, "controller endpoints are required"),
        (
            "controller start --nats-url nats://127.0.0.1:1 --sys-creds none",
            2,
            "sys.creds not found",
        ),
        ("service install", 2, "service is only supported on Windows"),
        ("down --confirm", 2, "pid file not found"),
    ],
)
def test_what_does_not_work_is_what_the_page_names(
    tmp_path: Path, line: str, code: int, said: str
) -> None:
    (tmp_path / "bootstrap.yaml").write_text(BOOTSTRAP)
    done = bootstrap(tmp_path, line.replace("{folder}", str(tmp_path)))
    assert done.returncode == code, done
    assert said in done.stderr
    assert f"`{said}`" in PAGE


def test_down_ends_a_node_with_a_pid_file(tmp_path: Path) -> None:
    port = free_port()
    node = [
        "-js",
        "-sd",
        str(tmp_path),
        "-a",
        "127.0.0.1",
        "-p",
        str(port),
        "-P",
        "nats-server.pid",
    ]
    process = subprocess.Popen(
        [str(BIN / "nats-bootstrap"), "up", "--", *node],
        cwd=tmp_path,
        env=env(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    pid_file = tmp_path / "nats-server.pid"
    try:
        wait_for(pid_file.exists, what="the node")
        done = bootstrap(tmp_path, "down --confirm")
        assert (done.returncode, done.stdout) == (0, "down: ok\n")
        assert process.wait(20) is not None
    finally:
        if process.poll() is None and pid_file.exists():
            os.kill(int(pid_file.read_text()), 9)
        process.kill()
        process.wait(10)
