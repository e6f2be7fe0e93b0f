"""Real children."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pyoco_server.worker.runner.options import RunnerOptions
from runner.children import CODE, Flows, a_child


@pytest.fixture
def runner_options() -> RunnerOptions:
    return RunnerOptions(extra_sys_path=(CODE,))


@pytest.fixture
async def flows(runner_options: RunnerOptions) -> AsyncIterator[Flows]:
    """A child that runs the sample tasks."""
    async with a_child(runner_options) as runner:
        yield Flows(runner)


@pytest.fixture(autouse=True)
def in_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the engine makes in the current directory out of the tree."""
    monkeypatch.chdir(tmp_path)
