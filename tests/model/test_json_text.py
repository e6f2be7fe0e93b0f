from __future__ import annotations

import datetime as dt
import json
import math
from collections import OrderedDict
from contextlib import suppress
from enum import IntEnum, StrEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoco_server.model.json_text import (
    MAX_REPR_CHARACTERS,
    NotJson,
    check_json,
    decode_json,
    encode_json,
    json_safe,
)
from pyoco_server.model.run import TaskRecord


class Number(IntEnum):
    ONE = 1


class Word(StrEnum):
    A = "a"


class Stopped(msgspec.Struct, tag="stopped"):
    why: str


class Deadly:
    """Ends the program of whoever looks at it."""

    def __repr__(self) -> str:
        raise SystemExit(3)


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class RudeMapping(OrderedDict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        (None, None),
        (True, True),
        (1, 1),
        (10**40, 10**40),
        (1.5, 1.5),
        ("é", "é"),
        ((1, 2), [1, 2]),
        (Number.ONE, 1),
        (Word.A, "a"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (b"ab", "b'ab'"),
        ({1}, "{1}"),
        (dt.date(2026, 1, 2), "datetime.date(2026, 1, 2)"),
        (
            {2: "a", None: "b", True: "c", (1, 2): "d"},
            {"2": "a", "null": "b", "true": "c", "(1, 2)": "d"},
        ),
        ({"a": {"b": [math.nan]}}, {"a": {"b": ["nan"]}}),
        ("\ud800x", "\\ud800x"),
        ({"\ud800": 1}, {"\\ud800": 1}),
        (Rude(), "<Rude object; its repr raised RuntimeError>"),
        ([Deadly()], ["<Deadly object; its repr raised SystemExit>"]),
        ([Rude()], ["<Rude object; its repr raised RuntimeError>"]),
        (TaskRecord(error="x").state, "PENDING"),
    ],
)
def test_what_json_cannot_carry_becomes_its_repr(value: object, safe: object) -> None:
    made = json_safe(value)
    assert made == safe
    assert type(made) is type(safe)


def test_a_foreign_mapping_that_raises_does_not_get_through() -> None:
    assert isinstance(json_safe(RudeMapping(a=1)), str)


def test_a_number_of_more_digits_than_python_writes_is_described() -> None:
    assert json_safe(1 << 20_000) == "<integer of 20001 bits>"


def test_a_long_repr_is_cut() -> None:
    text = json_safe(b"x" * 50_000)
    assert isinstance(text, str)
    assert len(text) < MAX_REPR_CHARACTERS + 50
    assert "50003 characters" in text


def test_a_cycle_ends() -> None:
    cyclic: list[Any] = [1]
    cyclic += [cyclic, cyclic]
    assert json_safe(cyclic) == [1, *["[1, [1, [...], [...]], [1, [...], [...]]]"] * 2]


def test_a_deep_value_ends_in_a_short_repr() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert b"[...]" in encode_json(json_safe(deep))


def test_shared_parts_do_not_multiply() -> None:
    shared: list[Any] = ["x"]
    for _ in range(40):
        shared = [shared, shared]
    assert len(encode_json(json_safe(shared))) < 20_000_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.none() | st.floats(), inner)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(json_values)
def test_a_safe_value_survives_every_strict_reader(value: object) -> None:
    safe = json_safe(value)
    text = json.dumps(safe, allow_nan=False)
    assert json.loads(text) == safe
    assert decode_json(encode_json(safe)) == safe
    assert json_safe(safe) == safe


@given(json_values)
def test_what_is_taken_comes_out_as_it_is(value: object) -> None:
    with suppress(NotJson):
        check_json(value)
        assert decode_json(encode_json(value)) == json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"a": [1.5, {"b": math.nan}]}, "cannot carry nan"),
        ({"a": b"x"}, "cannot carry b'x'"),
        ({"a": {1}}, "cannot carry {1}"),
        ({"a": dt.date(2026, 1, 2)}, "cannot carry datetime.date"),
        ({"a": "\ud800"}, "cannot carry"),
        ({"a": 10**5000}, "cannot carry"),
        ({"a": {1: 2}}, "a key must be text, not 1"),
        ({"a": {(1, 2): 2}}, "a key must be text"),
        ({"\ud800": 1}, "cannot carry"),
    ],
)
def test_what_would_come_out_as_something_else_is_refused(value: object, why: str) -> None:
    with pytest.raises(NotJson, match=why):
        check_json(value)


def test_what_cannot_be_encoded_is_made_safe_as_a_last_resort() -> None:
    assert encode_json({"a": Rude(), "b": "\ud800"}) == (
        b'{"a":"<Rude object; its repr raised RuntimeError>","b":"\\\\ud800"}'
    )
    record = TaskRecord(output=Rude(), error="\ud800")
    written = decode_json(encode_json(record))
    assert written["output"].startswith("<Rude object")
    assert written.keys() == decode_json(encode_json(TaskRecord())).keys()
    stopped = encode_json([Stopped(why="\ud800")])
    assert stopped == b'[{"type":"stopped","why":"\\\\ud800"}]'


def test_the_extensions_that_python_writes_are_read() -> None:
    raw = json.dumps({"a": [math.nan, math.inf, -math.inf], "b": "\ud800"}).encode()
    assert decode_json(raw) == {"a": ["nan", "inf", "-inf"], "b": "\\ud800"}


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 9000, b"9" * 5000, b'{"a":1}x'])
def test_what_is_no_json_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_json(raw)
