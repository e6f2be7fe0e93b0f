"""`pyoco-server dev`, as far as nothing has to run for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from commands.calling import caught
from pyoco_cli.common.errors import CliError
from pyoco_cli.server import dev, main


def test_its_nats_is_for_this_machine_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It asks nobody for a key, and whoever reaches it may have anything executed."""
    hosts: list[str] = []

    def free(host: str, port: int) -> int:
        hosts.append(host)
        return port

    def node(_: object, *, host: str, **__: Any) -> None:
        hosts.append(host)
        raise CliError("seen")

    monkeypatch.setenv("PYOCO_HTTP_AUTH_MODE", "api_key")
    monkeypatch.setenv("PYOCO_STATE_DIR", str(tmp_path))
    for name in ("keep_secrets", "collect_seldom", "configure_logging"):
        monkeypatch.setattr(dev, name, lambda **_: None)
    monkeypatch.setattr(dev, "usual_or_free", free)
    monkeypatch.setattr(dev, "node_in_state_dir", node)
    said = caught(lambda: main(["dev", "--host", "0.0.0.0"]))
    assert "- reason: seen" in said.err
    assert hosts == ["127.0.0.1", "127.0.0.1"]
