"""`pyoco-server dev`, as far as nothing has to run for it."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from rich.console import Console

from commands.calling import caught
from pyoco_cli.common.errors import CliError
from pyoco_cli.server import dev, main


async def test_what_cannot_be_watched_is_told_and_dev_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def full(*_: Any, **__: Any) -> AsyncIterator[Any]:
        raise OSError(28, "OS file watch limit reached")
        yield

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dev, "awatch", full)
    console = Console(file=io.StringIO())
    changed, _ = trio.open_memory_channel[set[str]](1)
    await dev._watch_code(None, None, tmp_path / ".pyoco", changed, console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert told == "changes are not seen: [Errno 28] OS file watch limit reached\n"


async def test_folders_beside_one_that_cannot_be_read_are_watched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The watch of the folder above ends where it comes to that one."""
    asked: dict[str, Any] = {}

    async def watch(*paths: Path, **more: Any) -> AsyncIterator[Any]:
        asked.update(more, paths=set(paths))
        for _ in ():
            yield

    for name in ("closed", "code", "code/deep"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dev, "awatch", watch)
    changed, _ = trio.open_memory_channel[set[str]](1)

    async def watched() -> set[Path]:
        await dev._watch_code(None, None, tmp_path / ".pyoco", changed, Console())
        return set(asked["paths"])

    assert await watched() == {tmp_path}
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "closed")
    assert await watched() >= {tmp_path, tmp_path / "code", tmp_path / "code/deep"}
    assert asked["ignore_permission_denied"]


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
