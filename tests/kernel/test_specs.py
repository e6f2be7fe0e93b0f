"""What specs refuse, and how they say it."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from pyoco_server.kernel import (
    InvalidSpec,
    State,
    SupervisorSpec,
)

from .probe import (
    NO_WAIT,
    Journal,
    node,
    probe,
    running,
    tree,
)


def test_ids_are_checked() -> None:
    with pytest.raises(InvalidSpec, match="id 'a/b': takes letters"):
        probe("a/b", Journal())
    with pytest.raises(InvalidSpec, match="id '': takes letters"):
        SupervisorSpec("", [])
    with pytest.raises(InvalidSpec, match="'root' has two children with the id 'a'"):
        tree(probe("a", Journal()), probe("a", Journal()))


@pytest.mark.parametrize("field", ["shutdown_seconds", "cleanup_seconds", "start_within"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_seconds_are_checked(field: str, value: float) -> None:
    options: dict[str, Any] = {field: value}
    with pytest.raises(InvalidSpec, match=f"{field} .*: takes seconds, zero or more"):
        probe("a", Journal(), **options)


def test_only_a_start_may_take_for_ever() -> None:
    probe("a", Journal(), start_within=float("inf"))
    with pytest.raises(InvalidSpec, match="shutdown_seconds inf"):
        probe("a", Journal(), shutdown_seconds=float("inf"))


def test_capacity_is_checked() -> None:
    with pytest.raises(InvalidSpec, match="mailbox_capacity 0: takes 1 or more"):
        probe("a", Journal(), mailbox_capacity=0)


async def test_a_tree_without_actors_stands_and_ends(autojump_clock: MockClock) -> None:
    async with running(tree(name="empty"), backoff=NO_WAIT) as system:
        assert node(system, "/empty").state is State.SUPERVISING
    assert node(system, "/empty").state is State.STOPPED
    assert system.tree().state is State.STOPPED
