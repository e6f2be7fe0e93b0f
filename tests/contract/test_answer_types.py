"""What the client's methods give is typed by the structs that the routes answer with."""

from __future__ import annotations

import inspect
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec
import pytest
from msgspec import UNSET, UnsetType
from msgspec.inspect import type_info

from contract.answer_types import MODULE, answer_kinds, module, name_of, written_out
from contract.client_calls import EXAMPLES, Example
from http_api.answers import known_operations
from pyoco_server.client import AsyncPyocoHttpClient

APART: Final = {
    "all_schedules": "list[ScheduleViewDict]",
    "events": "AsyncGenerator[EventDict, None]",
    "get_api_description": "Document",
    "logs": "AsyncGenerator[OutputDict, None]",
    "wait_run": "RunDict",
}
"""Methods that give something else than what their first route answers with."""


def test_they_are_current() -> None:
    assert MODULE.read_text() == module(), "run `uv run poe client`"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.method}-{e.route[1]}")
def test_a_method_gives_what_its_route_answers_with(example: Example) -> None:
    given = inspect.signature(getattr(AsyncPyocoHttpClient, example.method)).return_annotation
    answers = {name_of(kind) for kind in answer_kinds(known_operations()[example.route])}
    if example.method in APART:
        assert given == APART[example.method]
    elif answers:
        assert set(given.split(" | ")) <= answers
    else:
        assert given in {"str", "Any", "AsyncGenerator[Document, None]"}


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Wheel(msgspec.Struct, frozen=True, omit_defaults=True):
    """A wheel."""

    size: int
    worn: bool = False


class Car(msgspec.Struct, frozen=True, kw_only=True, tag="car", tag_field="type"):
    """A car."""

    colour: Colour
    wheels: tuple[Wheel, ...] = ()
    owner: str | None = None
    weight: float | UnsetType = UNSET
    gear: Literal["first", "second"] = "first"
    more: dict[str, Any] = {}


class Journey(msgspec.Struct, frozen=True):
    begin: str = msgspec.field(name="from")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Colour, "ColourWord: TypeAlias = Literal['red', 'blue']"),
        (
            Wheel,
            """\
class WheelDict(TypedDict):
    '''A wheel.'''

    size: int
    worn: NotRequired[bool]
""",
        ),
        (
            Car,
            """\
class CarDict(TypedDict):
    '''A car.'''

    type: Literal['car']
    colour: ColourWord
    wheels: list[WheelDict]
    owner: str | None
    weight: NotRequired[float]
    gear: Literal['first', 'second']
    more: dict[str, Any]
""",
        ),
        (Journey, "JourneyDict = TypedDict('JourneyDict', {'from': 'str'})"),
    ],
)
def test_a_type_has_the_fields_of_its_struct_and_says_which_may_be_missing(
    kind: type, text: str
) -> None:
    assert written_out(type_info(kind)) == text.replace("'''", '"""')
