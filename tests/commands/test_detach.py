"""`up --detach` and `down`, as far as no gateway has to run for it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from commands.calling import caught
from pyoco_cli.server import main
from pyoco_server.background import Background


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
