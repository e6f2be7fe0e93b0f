"""The Python client has a method for every route, blocking and for trio alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from contract.client_calls import EXAMPLES, LEFT_OUT, Example, Route
from http_api import answers
from pyoco_http.query import fields_of, read_query
from pyoco_server.api.runs import RunsQuery
from pyoco_server.api.schedules import CalendarQuery, SchedulesQuery
from pyoco_server.api.submissions import FlowForm, SubmitBody
from pyoco_server.api.times import MoveBody, TimesBody
from pyoco_server.client import AsyncPyocoHttpClient, PyocoHttpClient
from pyoco_server.client.answers import RunsQueryDict
from pyoco_server.client.requests import (
    CANCEL_WAIT_SECONDS,
    LimitArguments,
    MoveArguments,
    TimeArguments,
)

URL = "http://gateway.invalid"


class Asked(Exception):
    """A request was about to be sent."""

    def __init__(self, request: httpx.Request) -> None:
        self.method = request.method
        self.path = request.url.path
        self.query = request.url.query


def stop(request: httpx.Request) -> httpx.Response:
    raise Asked(request)


async def stop_async(request: httpx.Request) -> httpx.Response:
    raise Asked(request)


def methods(client: type) -> dict[str, Callable[..., Any]]:
    found = inspect.getmembers(client, inspect.isfunction)
    return {name: method for name, method in found if name[0] != "_" and name != "close"}


def route_of(asked: Asked) -> Route:
    """The route of the description that a request asks."""
    found = answers.route_of(asked.method, asked.path)
    assert found is not None, f"{asked.method} {asked.path} is no route"
    return found


def test_every_route_has_a_method_or_a_reason() -> None:
    called = {example.route for example in EXAMPLES}
    assert called | set(LEFT_OUT) == set(answers.known_operations())
    assert not called & set(LEFT_OUT)


@pytest.mark.parametrize("client", [PyocoHttpClient, AsyncPyocoHttpClient])
def test_every_method_has_an_example(client: type) -> None:
    assert {example.method for example in EXAMPLES} == set(methods(client))


def test_both_clients_take_the_same() -> None:
    trio_methods = methods(AsyncPyocoHttpClient)
    for name, method in methods(PyocoHttpClient).items():
        ours, theirs = inspect.signature(method), inspect.signature(trio_methods[name])
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name


def begin(method: Callable[..., Any], example: Example) -> None:
    answer = method(*example.args, **example.kwargs)
    next(answer)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.method}-{e.route[1]}")
def test_a_method_asks_its_route(example: Example) -> None:
    with PyocoHttpClient(URL, transport=httpx.MockTransport(stop)) as client:
        method = getattr(client, example.method)
        with pytest.raises(Asked) as found:
            begin(method, example)
    assert route_of(found.value) == example.route


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.method}-{e.route[1]}")
async def test_a_trio_method_asks_its_route(example: Example) -> None:
    transport = httpx.MockTransport(stop_async)
    async with AsyncPyocoHttpClient(URL, transport=transport) as client:
        answer = getattr(client, example.method)(*example.args, **example.kwargs)
        with pytest.raises(Asked) as found:
            await (anext(answer) if inspect.isasyncgen(answer) else answer)
    assert route_of(found.value) == example.route


def test_what_the_client_can_ask_is_what_the_gateway_takes() -> None:
    assert set(RunsQueryDict.__annotations__) == set(fields_of(RunsQuery))
    for method, query in (("list_schedules", SchedulesQuery), ("get_calendar", CalendarQuery)):
        taken = inspect.signature(methods(PyocoHttpClient)[method]).parameters
        assert set(taken) - {"self"} == set(fields_of(query))
    assert set(MoveArguments.__annotations__) == set(MoveBody.__struct_fields__)
    assert set(TimeArguments.__annotations__) == set(TimesBody.__struct_fields__)
    named = {"flow_name", "params", "tag"}
    assert set(LimitArguments.__annotations__) == set(SubmitBody.__struct_fields__) - named - {
        "tags"
    }
    assert set(LimitArguments.__annotations__) == set(FlowForm.__struct_fields__) - named - {
        "workflow"
    }


@pytest.mark.parametrize("client", [PyocoHttpClient, AsyncPyocoHttpClient])
def test_how_long_a_cancel_is_waited_for_is_said_where_it_is_asked_for(client: type) -> None:
    said = inspect.getdoc(methods(client)["cancel_run"])
    assert said is not None
    assert f"(default {CANCEL_WAIT_SECONDS})" in said


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.method}-{e.route[1]}")
def test_a_method_sends_only_what_is_known(example: Example) -> None:
    transport = httpx.MockTransport(stop)
    with PyocoHttpClient(URL, transport=transport) as client, pytest.raises(Asked) as found:
        begin(getattr(client, example.method), example)
    operation = answers.known_operations()[example.route]
    read_query(operation.query, found.value.query)
