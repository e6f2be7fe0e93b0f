"""The tests that the page of guarantees names are there."""

from __future__ import annotations

import re

import pytest

from docs.pages import ROOT

PAGE = (ROOT / "docs/explanation/guarantees.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_the_page_names_is_there(file: str, test: str) -> None:
    path = ROOT / file
    assert path.is_file()
    if test:
        assert re.search(rf"^(async )?def {test}\(", path.read_text(), re.MULTILINE)


def test_each_row_names_its_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "tested in" not in line]
    assert len(rows) > 30
    assert [row for row in rows if "--- |" not in row and "`tests/" not in row] == []
