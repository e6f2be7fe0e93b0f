"""`up --detach` and `down`: what runs in the background, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from e2e.programs import BIN, Stage, alive, descendants, wait_for

pytestmark = pytest.mark.nats


def call(stage: Stage, *argv: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [BIN / "pyoco-server", *argv],
        cwd=stage.folder,
        env=stage.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def up(stage: Stage, *more: str) -> tuple[int, str, str]:
    return call(
        stage,
        *["up", "--with-nats-bootstrap", "--detach", "--port", str(stage.http_port)],
        *["--nats-client-port", str(stage.nats_port), "--nats-http-port", "0", *more],
    )


def background(stage: Stage) -> int:
    """The process in the background."""
    return int(json.loads((stage.folder / ".pyoco" / "pyoco-server.pid").read_text())["pid"])


def test_it_serves_in_the_background_until_it_is_taken_down(stage: Stage) -> None:
    code, out, err = up(stage)
    assert code == 0, err
    assert stage.url in out
    pid = background(stage)
    try:
        wait_for(stage.ready, what="a ready gateway")
        family = {pid} | descendants(pid)
        node = int((stage.folder / ".pyoco" / "nats-server.pid").read_text())
        assert node in family
        assert (
            "sync_interval: always"
            in (stage.folder / ".pyoco" / "nats" / "nats-server.conf").read_text()
        )
        assert "Server is ready" in (stage.folder / ".pyoco" / "nats-server.log").read_text()

        code, _, err = up(stage)
        assert code == 1
        assert f"process {pid}" in err
        assert "pyoco-server down" in err
    finally:
        code, out, err = call(stage, "down")
    assert (code, err) == (0, "")
    assert str(pid) in out
    assert not any(map(alive, family))
    assert not (stage.folder / ".pyoco" / "pyoco-server.pid").exists()

    code, _, err = call(stage, "down")
    assert code == 1
    assert "nothing runs in the background here" in err


def test_a_start_that_fails_says_why(stage: Stage) -> None:
    stage.nats()  # on the port that the node wants
    code, _, err = up(stage)
    assert code == 1
    assert f"port 127.0.0.1:{stage.nats_port} is already in use" in err
    assert err.startswith("ERR-PYOCO-0018")
    assert "--nats-client-port" in err
    assert err.count("- reason:") == 1
    assert not (stage.folder / ".pyoco" / "pyoco-server.pid").exists()


def test_a_process_of_the_same_id_that_is_not_ours_is_left_alone(stage: Stage) -> None:
    file = stage.folder / ".pyoco" / "pyoco-server.pid"
    file.parent.mkdir()
    file.write_text(json.dumps({"pid": os.getpid(), "started": "boot 1", "url": "u", "log": "l"}))
    code, out, _ = call(stage, "down")
    assert code == 0
    assert "had ended already" in out
    assert not file.exists()


def test_one_that_does_not_end_is_told_and_can_be_killed(stage: Stage) -> None:
    code, _, err = up(stage)
    assert code == 0, err
    pid = background(stage)
    family = {pid} | descendants(pid)
    os.kill(pid, signal.SIGSTOP)
    code, _, err = call(stage, "down", "--timeout-sec", "0.3")
    assert code == 1
    assert "--kill" in err
    code, _, err = call(stage, "down", "--timeout-sec", "0.3", "--kill")
    assert (code, err) == (0, "")
    wait_for(lambda: not any(map(alive, family)), within=60, what="the end of the family")


def test_the_store_and_its_sync_can_be_chosen(stage: Stage, tmp_path: Path) -> None:
    store = tmp_path / "elsewhere"
    code, _, err = up(stage, "--nats-store", str(store), "--no-nats-sync")
    try:
        assert code == 0, err
        assert "sync_interval" not in (store / "nats-server.conf").read_text()
        assert "a temporary folder" in (stage.folder / ".pyoco" / "pyoco-server.log").read_text()
    finally:
        call(stage, "down")
