from __future__ import annotations

import pytest

from pyoco_server.model.flow.callables import callable_rules


@pytest.mark.parametrize(
    ("text", "allowed", "refused"),
    [
        ("*", ["subprocess:getoutput", "a.b:c"], []),
        ("ours.*", ["ours:f", "ours.a.b:f"], ["oursx:f", "subprocess:run", "os:system"]),
        ("ours", ["ours:f"], ["ours.a:f"]),
        ("a:f, b.c:load_*", ["a:f", "b.c:load_x"], ["a:g", "b.c:store", "b:load_x"]),
        ("ours.* theirs.tasks", ["ours.x:f", "theirs.tasks:f"], ["theirs:f"]),
        ("our?_tasks", ["our1_tasks:f"], ["our12_tasks:f"]),
    ],
)
def test_patterns(text: str, allowed: list[str], refused: list[str]) -> None:
    rules = callable_rules(text)
    for callable_ in allowed:
        assert rules.allows(callable_, None)
        assert rules.may_allow(callable_)
    for callable_ in refused:
        assert not rules.allows(callable_, "any-wheel")
        assert not rules.may_allow(callable_)


def test_what_comes_in_wheels_only_the_worker_can_tell() -> None:
    rules = callable_rules("wheel:our-*")
    assert rules.may_allow("tasks:f")
    assert rules.allows("tasks:f", "our-tasks")
    assert not rules.allows("tasks:f", "their-tasks")
    assert not rules.allows("tasks:f", None)
    assert not rules.may_allow("subprocess:getoutput")
    assert not rules.may_allow("os.path:join")
    assert not rules.open
