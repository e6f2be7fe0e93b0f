"""The flow.yaml texts that a scenario submits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pyoco_server.model.flow.yaml_document import parse_yaml
from pyoco_server.scenario.document import Scenario, ScenarioError

_KNOWN: Final[dict[str, dict[str, Any]]] = {
    "quick": {"x": 1},
    "slow": {"seconds": 1.0},
    "stubborn": {"seconds": 60.0},
    "failing": {},
    "crashing": {},
    "printing": {"lines": 100},
    "replayed": {},
}


def flow_text(scenario: Scenario, name: str, params: Mapping[str, Any]) -> str:
    """The text to submit: the file's own flow or one that every scenario knows, with params in it.

    Raises:
        ScenarioError: There is no such flow.
    """
    if name in scenario.flows:
        document: Any = parse_yaml(scenario.flows[name]).value
    elif name in _KNOWN:
        document = {
            "flow": {"graph": name, "defaults": dict(_KNOWN[name])},
            "tasks": {name: {"callable": f"scene_tasks:{name}"}},
        }
    else:
        known = ", ".join([*scenario.flows, *_KNOWN])
        raise ScenarioError(f"there is no flow {name!r}; there are {known}")
    flow = document["flow"]
    flow["defaults"] = {**(flow.get("defaults") or {}), **params}
    return msgspec.yaml.encode(document).decode()
