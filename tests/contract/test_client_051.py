"""Programs that were written for the Python client of 0.5.1 go on working."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

import pyoco_server
from http_api.answers import known_operations, route_of
from pyoco_http.query import read_query

LOOK = """
import dataclasses, inspect, json
import pyoco_server as old
methods = {
    name: [(p.name, p.kind.name, p.default is not p.empty) for p in inspect.signature(f).parameters.values()]
    for name, f in vars(old.PyocoHttpClient).items()
    if inspect.isfunction(f) and (name == "__init__" or not name.startswith("_"))
}
fields = {f.name: repr(f.default) for f in dataclasses.fields(old.NatsBackendConfig)}
print(json.dumps({"methods": methods, "fields": fields}))
"""

# Calls every method with every argument; what is answered does not matter.
CALL = """
import inspect, json
import httpx
import pyoco_server as old
sent = []
def answer(request):
    kind = request.headers.get("content-type", "").partition(";")[0]
    body = request.read().decode("latin-1")
    sent.append([request.method, request.url.path, request.url.query.decode(), kind, body])
    return httpx.Response(200, json={"status": "COMPLETED"})
client = old.PyocoHttpClient("http://gateway.invalid")
client._client = httpx.Client(
    base_url="http://gateway.invalid", transport=httpx.MockTransport(answer)
)
values = {
    "params": {"x": 1}, "tags": ["a"], "full": True, "limit": 5, "updated_after": 1.5, "since": 1.5,
    "include_records": True, "timeout_sec": 5, "status": "FAILED", "scope": "all", "state": "IDLE",
    "include_hidden": True, "hidden": True, "action": "upload", "data": b"x", "replace": True,
    "wait": True, "until_terminal": True, "max_events": 1,
}
for name, method in vars(old.PyocoHttpClient).items():
    if inspect.isfunction(method) and not name.startswith("_") and name != "close":
        given = list(inspect.signature(method).parameters)[1:]
        before = len(sent)
        try:
            result = getattr(client, name)(**{each: values.get(each, "x") for each in given})
            if inspect.isgenerator(result):
                list(result)
        except Exception as error:
            assert len(sent) > before, (name, error)
print(json.dumps(sent))
"""


@pytest.fixture(scope="module")
def old(old_bin: Path) -> dict[str, Any]:
    said = subprocess.run(
        [str(old_bin / "python"), "-c", LOOK], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def test_each_call_of_051_is_one_of_ours(old: dict[str, Any]) -> None:
    assert len(old["methods"]) > 15
    for name, parameters in old["methods"].items():
        ours = inspect.signature(getattr(pyoco_server.PyocoHttpClient, name)).parameters
        for parameter, kind, optional in parameters:
            assert parameter in ours, (name, parameter)
            assert ours[parameter].kind.name == kind, (name, parameter)
            if optional:
                assert ours[parameter].default is not inspect.Parameter.empty, (name, parameter)
        known = {parameter for parameter, _, _ in parameters}
        needed = [
            p.name
            for p in ours.values()
            if p.default is p.empty and p.kind is not p.VAR_KEYWORD and p.name not in known
        ]
        assert needed == [], name


def test_its_settings_have_the_same_names_and_defaults(old: dict[str, Any]) -> None:
    ours = {f.name: f.default for f in msgspec.structs.fields(pyoco_server.NatsBackendConfig)}
    for name, default in old["fields"].items():
        assert name in ours
        assert ours[name] == eval(default, {}), name
    assert pyoco_server.NatsBackendConfig.from_env().nats_url
    assert callable(pyoco_server.configure_logging)


def test_it_sends_nothing_that_we_do_not_know(old_bin: Path) -> None:
    said = subprocess.run(
        [str(old_bin / "python"), "-c", CALL], capture_output=True, text=True, check=True
    )
    calls = json.loads(said.stdout)
    assert len(calls) > 15
    for method, path, query, kind, body in calls:
        route = route_of(method, path)
        assert route is not None, (method, path)
        operation = known_operations()[route]
        read_query(operation.query, query.encode())
        if kind:
            taken = operation.body[kind]
            names = (
                json.loads(body) if kind.endswith("json") else re.findall(r' name="(\w+)"', body)
            )
            assert set(names) <= set(taken.__struct_fields__), (method, path)
