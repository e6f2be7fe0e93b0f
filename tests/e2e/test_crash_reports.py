"""From a crash in a real process to a test of five lines."""

from __future__ import annotations

import random
import runpy
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import cast

import httpx
import pytest
import trio
from trio.testing import MockClock

from docs.pages import ROOT
from drills.fake_connection import FakeConnection, Trouble
from drills.fake_nats import Server
from e2e.programs import Stage, open_stage, wait_for
from pyoco_server.crash_reports import MessageLog, replay
from pyoco_server.gateway.canceller import Canceller
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.settings import Settings
from pyoco_server.store.queue import JobQueue
from pyoco_server.store.runs import RunStore

pytestmark = pytest.mark.nats

BROKEN = ROOT / "scenarios/broken/crashes_on_friday.py"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as stage:
        yield stage


@pytest.fixture
def log(stage: Stage) -> MessageLog:
    """What a gateway wrote down whose canceller crashed."""
    patch = stage.folder / "patch"
    patch.mkdir()
    shutil.copy(BROKEN, patch / "broken.py")
    loader = files("pyoco_server.scenario").joinpath("break_loader.py").read_text()
    (patch / "sitecustomize.py").write_text(loader)
    reports = stage.folder / "reports"
    stage.env |= {"PYTHONPATH": str(patch), "PYOCO_CRASH_REPORTS_DIR": str(reports)}
    stage.nats()
    stage.gateway()
    run_id = stage.submit()
    with httpx.Client(base_url=stage.url, timeout=60) as client:
        for reason in ("monday", "friday", "friday", "tuesday"):
            client.post(f"/runs/{run_id}/cancel", json={"reason": reason}).raise_for_status()
        assert client.post(f"/runs/{run_id}/cancel", json={"reason": "friday"}).status_code == 503
        # The supervisor has started it again, and it has forgotten the other fridays.
        answered = client.post(f"/runs/{run_id}/cancel", json={"reason": "friday"})
        assert answered.status_code == 200
    found: list[Path] = wait_for(lambda: list(reports.glob("*.json")), what="a crash report")
    [path] = found
    assert path.stat().st_mode & 0o777 == 0o600
    return MessageLog.decode(path.read_bytes())


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same fault in this process."""
    patch = runpy.run_path(str(BROKEN))["BREAK"]["pyoco_server.gateway.canceller:Canceller.handle"]
    monkeypatch.setattr(Canceller, "handle", patch(Canceller.handle))


def new_canceller(nursery: trio.Nursery) -> Canceller:
    server = FakeConnection(Server(nursery, 0.0), Trouble(), random.Random(1))
    connection = cast("Connection", server)
    runs = RunStore(KeyValue(connection, "pyoco_runs"), max_bytes=0)
    return Canceller(connection, runs, JobQueue(connection, Settings()))


async def test_what_crashed_in_a_real_process_crashes_again(
    log: MessageLog, fault: None, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    replayed = await replay(log, lambda: new_canceller(nursery))
    assert replayed.ended == log.ended == "ZeroDivisionError: the third friday"


async def test_without_the_fault_it_lives_on(
    log: MessageLog, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    assert log.complete
    replayed = await replay(log, lambda: new_canceller(nursery))
    assert replayed.ended is None
