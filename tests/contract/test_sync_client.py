"""The blocking client is what the one for trio says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contract.unasync import CLIENT, RULES, blocking, sources, target


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_it_is_current(source: Path) -> None:
    assert target(source).read_text() == blocking(source), "run `uv run poe client`"


def test_nothing_is_left_of_a_module_that_is_gone() -> None:
    assert set(CLIENT.glob("sync*.py")) == {target(source) for source in sources()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[0])
def test_every_rule_is_needed(rule: tuple[str, str]) -> None:
    assert any(re.search(rule[0], source.read_text(), re.MULTILINE) for source in sources())


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_nothing_of_trio_is_left(source: Path) -> None:
    text = blocking(source).partition("\n")[2]
    assert re.findall(r"\b(?:async|await|trio|aclos\w+|aio)\b|\bAsync", text) == []
