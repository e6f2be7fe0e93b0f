"""What the architecture page draws is what runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backend.stage import running
from docs.pages import ROOT

pytestmark = pytest.mark.nats
_PAGE = ROOT / "docs/explanation/architecture.md"


def drawn() -> dict[str, str]:
    """Patterns of the paths of the tree that the page draws, each with its line."""
    tree = _PAGE.read_text().partition("## The tree")[2].split("```")[1]
    found: dict[str, str] = {}
    above: list[str] = []
    for line in tree.strip().splitlines()[1:]:
        match = re.fullmatch(r"((?:│   |    )*)[├└]── (\S+) *(.*)", line)
        assert match, line
        indent, name, told = match.groups()
        name = {"…": r"\d+"}.get(name, name.replace("…", r"[\w-]+"))
        above[len(indent) // 4 :] = [name]
        path = "/" + "/".join(above)
        found[path] = line
        # Children in a row behind their supervisor's strategy.
        if inside := re.fullmatch(r"rest_for_one: (.*)", told):
            found |= {f"{path}/{each}": line for each in inside[1].split(", ")}
    return found


async def test_the_tree_is_drawn_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path, http_auth_mode="api_key", wheel_sync_enabled=True) as backend:
        paths = {node.path for node in backend.system.tree().walk()} - {"/"}
    patterns = drawn()
    assert [each for each in paths if not any(re.fullmatch(p, each) for p in patterns)] == []
    for pattern, line in patterns.items():
        if r"\d+" not in pattern:  # further slots
            assert any(re.fullmatch(pattern, each) for each in paths), line
