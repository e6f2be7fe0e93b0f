"""Stages for real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.programs import Stage, old_version, open_stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as stage:
        yield stage


@pytest.fixture(scope="session")
def old_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of pyoco-server 0.5.1."""
    return old_version(Path.home() / ".cache" / "pyoco-server-tests")
