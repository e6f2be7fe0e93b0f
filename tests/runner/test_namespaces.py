"""What was replaced in a module is found, however little is looked at."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from pyoco_server.worker.runner import namespaces
from pyoco_server.worker.runner.namespaces import Namespaces


@pytest.fixture(params=["numbered", "compared"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if request.param == "compared":
        monkeypatch.setattr(namespaces, "NUMBERED", False)
    made = ModuleType("made")
    vars(made).update(answer=42, listed=["equal"])
    return made


def test_what_was_replaced_added_or_removed_is_found_until_it_is_put_back(
    module: Any,
) -> None:
    part = Namespaces("made", [sys, module])
    part.settle()
    assert not part.changed
    module.answer = 43
    assert part.changed
    assert part.changed
    module.answer = 42
    assert not part.changed
    listed, module.listed = module.listed, ["equal"]
    assert part.changed
    module.listed = listed
    assert not part.changed
    vars(module)["more"] = 1
    assert part.changed
    del vars(module)["more"]
    assert not part.changed
    del vars(module)["answer"]
    assert part.changed
    part.settle()
    assert not part.changed


def test_this_python_numbers_the_changes_of_dicts_or_says_that_it_does_not() -> None:
    assert (sys.version_info < (3, 13)) >= namespaces.NUMBERED
    if sys.version_info < (3, 13) and sys.implementation.name == "cpython":
        assert namespaces.NUMBERED
