"""Cancels of several runs, of which none ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from commands.calling import caught
from pyoco_cli.client import main


class _Stuck:
    """A gateway whose runs stay CANCELLING, and a clock that goes on while a client waits for them."""

    def __init__(self, runs: int) -> None:
        self.now = 0.0
        self.runs = [{"run_id": f"r{n}", "status": "CANCELLING"} for n in range(runs)]

    def find_runs(self, *, status: str, **_: object) -> dict[str, Any]:
        return {"items": [run for run in self.runs if run["status"] in status.split(",")]}

    def cancel_run(self, run_id: str, *, wait: bool, timeout_sec: int, **_: object) -> Any:
        if wait:
            self.now += max(1, timeout_sec)  # a second at least, as in 0.5.1
            raise TimeoutError
        return next(run for run in self.runs if run["run_id"] == run_id)


def test_runs_that_are_cancelling_are_waited_for_and_all_together_no_longer_than_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stuck = _Stuck(30)

    @contextmanager
    def gateway(_: object) -> Iterator[_Stuck]:
        yield stuck

    monkeypatch.setattr("pyoco_cli.client.cancel.gateway", gateway)
    monkeypatch.setattr(
        "pyoco_cli.client.cancel.time", SimpleNamespace(monotonic=lambda: stuck.now)
    )
    said = caught(
        lambda: main(["cancel", "--flow", "etl", "--yes", "--wait", "--timeout-sec", "2"])
    )
    assert (said.code, len(said.last)) == (1, 30)
    assert "30 runs have not ended" in said.err
    assert stuck.now == 2


class _Old:
    """A gateway of 0.5.1: it takes one status, and knows no filter by worker."""

    def __init__(self) -> None:
        self.runs = [
            {"run_id": "r1", "status": "PENDING"},
            {"run_id": "r2", "status": "RUNNING", "worker_id": "w1"},
            {"run_id": "r3", "status": "RUNNING", "worker_id": "w2"},
        ]
        self.cancelled: list[str] = []

    def find_runs(self, *, status: str, **_: object) -> dict[str, Any]:
        return {"items": [run for run in self.runs if run["status"] == status]}

    def cancel_run(self, run_id: str, **_: object) -> Any:
        self.cancelled.append(run_id)
        return {"run_id": run_id, "status": "CANCELLING"}


@pytest.mark.parametrize(
    ("options", "cancelled"),
    [(["--flow", "etl"], ["r1", "r2", "r3"]), (["--worker-id", "w1"], ["r2"])],
)
def test_runs_of_a_gateway_of_051_are_found(
    monkeypatch: pytest.MonkeyPatch, options: list[str], cancelled: list[str]
) -> None:
    old = _Old()

    @contextmanager
    def gateway(_: object) -> Iterator[_Old]:
        yield old

    monkeypatch.setattr("pyoco_cli.client.cancel.gateway", gateway)
    assert caught(lambda: main(["cancel", *options, "--yes"])).code == 0
    assert old.cancelled == cancelled
