"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nats_fixtures import Node, node_in


@pytest.fixture
async def nats_node(tmp_path: Path) -> AsyncIterator[Node]:
    """A NATS node of the test's own, on a free port."""
    async with node_in(tmp_path / "nats") as node:
        yield node
