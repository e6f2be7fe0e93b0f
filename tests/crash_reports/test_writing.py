"""What cannot be written of a crash is a line of the log, and no crash of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from pyoco_server.crash_reports import MessageLog
from pyoco_server.crash_reports.writing import open_crash_reports


async def told(folder: Path, death: MessageLog) -> list[Any]:
    """What the log says of a death that is recorded."""
    with capture_logs() as logs:
        async with open_crash_reports(folder) as recorder:
            assert recorder.on_death is not None
            recorder.on_death(death)
    return [(line["event"], line["reason"]) for line in logs]


async def test_where_no_thread_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_sync(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    told_of = await told(tmp_path, MessageLog(path="/a", received=()))
    assert told_of == [("crash not recorded", "can't start new thread")]


async def test_an_error_that_is_no_text(tmp_path: Path) -> None:
    [(event, reason)] = await told(tmp_path, MessageLog(path="/a", received=(), ended="\udc80"))
    assert event == "crash not recorded"
    assert "surrogates" in reason
