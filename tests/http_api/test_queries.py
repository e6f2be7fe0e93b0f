"""One reader takes the queries of all routes: what each type takes, and that nothing is ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec import inspect

from contract.populated import populate
from http_api.answers import known_operations
from http_api.gateway import gateway
from http_api.keyed import KEYED, as_key, key_for
from http_api.seeding import put_runs, snapshot
from pyoco_http.problems import Problem
from pyoco_http.query import FLAGS, fields_of, plain_type, read_query
from pyoco_server.api.base import Query
from pyoco_server.api.events import EventsQuery, LogsQuery
from pyoco_server.api.runs import RunListQuery, RunStreamQuery
from pyoco_server.api.workers import Scope, WorkersQuery
from pyoco_server.model.event import EVENT_TYPES

QUERIES = sorted({op.query for op in known_operations().values()}, key=lambda q: q.__name__)
FIELDS = [(kind, name) for kind in QUERIES for name in fields_of(kind)]


def of_type(*types: type) -> list[Any]:
    """The fields of all queries that are of one of these types."""
    return [
        pytest.param(kind, name, id=f"{kind.__name__}-{name}")
        for kind, name in FIELDS
        if isinstance(fields_of(kind)[name].kind, types) and not fields_of(kind)[name].many
    ]


def read(kind: type[Query], name: str, text: str) -> Any:
    return getattr(read_query(kind, f"{name}={text}".encode()), name)


def refusal(kind: type[Query], query: str) -> Problem:
    with pytest.raises(Problem) as caught:
        read_query(kind, query.encode())
    assert caught.value.status == 422
    return caught.value


@pytest.mark.parametrize("text", ["flow=%ff", "flow=caf%e9", "flow=%ed%a0%80", "%ff=1"])
def test_what_is_not_utf_8_is_refused_and_not_looked_for_in_vain(text: str) -> None:
    for kind in QUERIES:
        assert "UTF-8" in refusal(kind, text).extra["reason"]


@pytest.mark.parametrize(("kind", "name"), of_type(inspect.BoolType))
def test_each_truth_value_is_spelt_in_the_same_ways(kind: type[Query], name: str) -> None:
    for text, value in FLAGS.items():
        assert read(kind, name, text) is value
        assert read(kind, name, text.upper()) is value
    assert read(kind, name, "") == getattr(kind(), name), "as if it were absent"
    for wrong in ("perhaps", "2", "oui"):
        problem = refusal(kind, f"{name}={wrong}")
        assert problem.extra["field"] == name
        assert "takes true or false" in problem.extra["reason"]


@pytest.mark.parametrize(("kind", "name"), of_type(inspect.IntType, inspect.FloatType))
def test_each_number_is_one_of_its_range(kind: type[Query], name: str) -> None:
    field = fields_of(kind)[name].kind
    assert isinstance(field, inspect.IntType | inspect.FloatType)
    odd = ("1_0", "%201", "\N{ARABIC-INDIC DIGIT ONE}", "%2B%2B1")
    for wrong in ("", "x", "nan", "inf", "1e999", "--1", "1,2", *odd):
        assert refusal(kind, f"{name}={wrong}").extra["field"] == name, wrong
    for limit, beyond in ((field.ge, -1), (field.le, 1)):
        if limit is not None:
            assert read(kind, name, f"{limit}") == limit
            refusal(kind, f"{name}={limit + beyond}")
    if isinstance(field, inspect.IntType):
        for wrong in ("1.0", "%2B1", "-0"):
            refusal(kind, f"{name}={wrong}")
    else:
        assert read(kind, name, "1.5") == 1.5


@pytest.mark.parametrize(("kind", "name"), of_type(inspect.StrType))
def test_each_text_is_one_line_without_controls(kind: type[Query], name: str) -> None:
    assert read(kind, name, "a%20%C3%A9") == "a é"
    assert read(kind, name, "") == ""
    # Other spaces than one, and what joins signs.
    for sign in ("\u3000", "\u00a0", "\u200d"):
        assert read(kind, name, f"a{quote(sign)}b") == f"a{sign}b"
    for wrong in ("%00", "a%0Ab", "%7F", quote("\u2028"), quote("\u0085")):
        assert refusal(kind, f"{name}={wrong}").extra["field"] == name


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_no_parameter_is_taken_twice_but_lists(kind: type[Query], name: str) -> None:
    field = fields_of(kind)[name]
    if field.many:
        return
    problem = refusal(kind, f"{name}=1&{name}=1")
    assert problem.extra["field"] == name
    assert "takes one value" in problem.extra["reason"]


def test_words_are_known_in_either_case_and_lists_of_them_have_commas_or_come_again() -> None:
    assert read(WorkersQuery, "scope", "ALL") is read(WorkersQuery, "scope", "all") is Scope.ALL
    assert read(LogsQuery, "stream", "StdErr") == "stderr"
    for query in (
        "type=state,log",
        "type=STATE&type=log",
        "type=state,,log,",
        "type=&type=state,log",
    ):
        assert read_query(EventsQuery, query.encode()).type == ("state", "log")
    assert read(EventsQuery, "type", "") == ()
    reason = refusal(EventsQuery, "type=state,nonsense").extra["reason"]
    assert all(word in reason for word in EVENT_TYPES)
    assert read(RunListQuery, "status", "failed,PENDING") == ("FAILED", "PENDING")


@pytest.mark.parametrize("flag", ["counts", "follow"])
def test_the_two_that_differed_do_so_no_more(flag: str) -> None:
    kind = RunStreamQuery if flag == "counts" else EventsQuery
    assert read(kind, flag, "on") is True
    assert not read(kind, flag, "")


def test_every_field_of_a_query_has_a_type_that_can_be_read_and_a_default() -> None:
    for kind, name in FIELDS:
        assert hasattr(kind(), name)
        assert not isinstance(plain_type(fields_of(kind)[name].kind), inspect.AnyType), (kind, name)


async def test_every_route_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    public = {"/health", "/health/ready", "/", "/static/{name}", "/openapi.json", "/docs"}
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        key, _ = await key_for(backend, "a")
        there = await populate(client, backend, key, "a")
        names = {"run_id": there.pending, "seq": there.letter, "worker_id": there.worker}
        for (method, path), operation in known_operations().items():
            url = path.format_map({**names, "name": "x", "task": "x", "schedule_id": "x"})
            answer = await client.request(method, f"{url}?nonsense=1", headers=as_key(key))
            if path in public:
                assert answer.status_code != 422, path
                continue
            assert answer.status_code == 422, (method, path)
            problem = answer.json()
            assert problem["field"] == "nonsense", (method, path)
            assert problem["detail"] == operation.query.refusal or "nonsense" in problem["detail"]
        for path, meant in (("/runs?stauts=FAILED", "status"), ("/workers?limits=1", "limit")):
            answer = await client.get(path, headers=as_key(key))
            assert f"did you mean '{meant}'?" in answer.json()["reason"]
        none = await client.post(f"/runs/{there.pending}/cancel?force=1", headers=as_key(key))
        assert none.json()["reason"] == "no parameter is called 'force'; none is taken here"
        run = await client.get(f"/runs/{there.pending}", headers=as_key(key))
        assert run.json()["status"] == "PENDING", "it was not cancelled"


async def test_a_follower_that_says_nothing_else_is_answered_by_what_it_accepts(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        run_id = "5ec2e700-0000-4000-8000-000000000001"
        await put_runs(backend, [snapshot(run_id)])
        for query in ("", "?follow=", "?follow=off", "?follow=0"):
            page = await client.get(f"/runs/{run_id}/events{query}")
            assert page.headers["content-type"] == "application/json", query
