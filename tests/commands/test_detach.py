"""`up --detach` and `down`, as far as no gateway has to run for it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from commands.calling import Said, caught
from pyoco_cli.server import main
from pyoco_server.background import Background


class _Child:
    """A process that never serves, and ends when it is asked to."""

    def __init__(self, command: list[str], **_: Any) -> None:
        self.command = command
        self.pid = -1
        self.signals: list[signal.Signals] = []
        self.code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            raise KeyboardInterrupt  # as it comes to who waits
        return self.code

    def terminate(self) -> None:
        self.signals.append(signal.SIGTERM)
        self.code = -signal.SIGTERM

    def kill(self) -> None:
        if self.code is None:
            self.signals.append(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        return self.code


def detached(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str, ends: bool
) -> tuple[Said, _Child]:
    """What is said of a process that ends at once, or where Ctrl-C is pressed meanwhile."""
    children: list[_Child] = []

    def start(command: list[str], **more: Any) -> _Child:
        children.append(_Child(command, **more))
        children[0].code = 1 if ends else None
        return children[0]

    monkeypatch.setenv("PYOCO_STATE_DIR", str(folder))
    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(sys, "argv", ["pyoco-server", *options])
    said = caught(main)
    return said, children[0]


@pytest.mark.parametrize("command", [("up",), ()])
def test_all_options_are_handed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    options = (*command, "--detach", "--nats-store", "up")
    said, child = detached(monkeypatch, tmp_path, *options, ends=True)
    assert "did not come up" in said.err
    file = str(tmp_path / "pyoco-server.pid")
    assert child.command[3:] == [*options, "--run-file", file]


def test_ctrl_c_ends_what_was_coming_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said, child = detached(monkeypatch, tmp_path, "up", "--detach", ends=False)
    assert (said.code, said.out) == (130, "")
    assert child.signals == [signal.SIGTERM]


def test_a_gateway_of_another_user_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    background = Background.this_process(url="http://127.0.0.1:1", log="none")
    (tmp_path / "pyoco-server.pid").write_bytes(msgspec.json.encode(background))

    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setenv("PYOCO_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(signal, "pidfd_send_signal", refused)
    said = caught(lambda: main(["down"]))
    assert (said.code, said.out) == (1, "")
    assert f"process {background.pid} is another user's" in said.err
