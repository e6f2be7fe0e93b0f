"""Programs that were written for the Python client of 0.5.1 go on working."""

from __future__ import annotations

import inspect
import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

import pyoco_server

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
