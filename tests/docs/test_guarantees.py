"""The tests that the pages of guarantees and of security name are there, and every fault has one."""

from __future__ import annotations

import re

import pytest

from docs.pages import ROOT

PAGES = [
    (ROOT / "docs/explanation" / name).read_text() for name in ("guarantees.md", "security.md")
]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", "".join(PAGES))))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_the_page_names_is_there(file: str, test: str) -> None:
    path = ROOT / file
    assert path.is_file()
    if test:
        assert re.search(rf"^(async )?def {test}\(", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_each_row_names_its_test(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("| ") and "tested in" not in line]
    assert len(rows) > 25
    assert [row for row in rows if "--- |" not in row and "`tests/" not in row] == []


def test_every_fault_of_051_is_listed() -> None:
    assert set(map(int, re.findall(r"^\| (\d+)\. ", PAGES[0], re.MULTILINE))) == {*range(1, 29)}
