"""The forms of values beyond JSON are those that the reference tells of, and nothing makes them raise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pydantic
import pytest

from docs.pages import ROOT
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.value_forms import with_forms

PAGE = (ROOT / "docs/reference/results.md").read_text()
ROWS = re.findall(r"^\| `([^`]+)`.* \| `([^`]+)`", PAGE, re.MULTILINE)


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int
    secret: str = field(default="s", repr=False)


class Model(pydantic.BaseModel):
    x: int


NAMES: dict[str, Any] = {
    each.__name__: each
    for each in (datetime, date, time, timedelta, Decimal, UUID, Path, Color, Point, Model)
} | {"UTC": UTC}


@pytest.mark.parametrize(("value", "form"), ROWS[1:])
def test_a_value_has_the_form_of_the_reference(value: str, form: str) -> None:
    for module in ("numpy", "pandas"):
        if value.startswith(module):
            NAMES[module] = pytest.importorskip(module)
    made = with_forms(eval(value, NAMES))
    assert (made.value, made.cut) == (json.loads(form), None)


def test_the_reference_was_read() -> None:
    assert len(ROWS) > 20


class Rude:
    """Whatever is looked at, it raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


@dataclass
class Ring:
    next: Any = None


def test_no_value_raises_or_goes_on_for_ever() -> None:
    ring = Ring()
    ring.next = {"again": ring}
    huge = with_forms([{"a": 1}] * 1000, max_values=500)
    assert huge.cut == "it has more than 500 values"
    for value in (
        Rude(),
        ring,
        {frozenset({frozenset(), frozenset({1})})},
        {(1, 2): Rude()},
        Point,
    ):
        encode_json(with_forms(value).value)
    assert with_forms(ring).cut == "it is inside of itself"
    assert with_forms({"a", 1, None}).value == [None, 1, "a"]


def test_a_module_that_only_has_the_name_of_numpy_is_in_nobodys_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "numpy", ModuleType("numpy"))
    assert with_forms([date(2026, 1, 2), 1j]).value == ["2026-01-02", "1j"]


def test_nothing_is_imported_for_the_forms() -> None:
    code = (
        "import sys; from pyoco_server.model.value_forms import with_forms; with_forms([1j]);"
        "print([name for name in ('numpy', 'pandas', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
