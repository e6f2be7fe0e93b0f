"""Reads answers of a gateway against its API description, strictly: nothing missing, nothing more."""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any
from unittest.mock import MagicMock

import httpx
import jsonschema_rs
from prometheus_client import CollectorRegistry

from pyoco_http.app import GatewayApp, create_app
from pyoco_http.openapi.document import build_document, operations
from pyoco_http.operation import Operation
from pyoco_server.settings import Settings

SEEN: set[tuple[str, str, int]] = set()
"""The answers that were read in this process, by method, path and status."""


@cache
def described_app(auth_mode: str = "none") -> tuple[GatewayApp, dict[str, Any]]:
    """An application that is only looked at, and its description."""
    backend = MagicMock(settings=Settings(http_auth_mode=auth_mode))
    backend.reads.measures.registry = CollectorRegistry()
    app = create_app(backend)
    return app, build_document(app, backend)


def known_operations() -> dict[tuple[str, str], Operation]:
    """What there is, by method and path."""
    return operations(described_app()[0])


@cache
def _document(auth_mode: str = "api_key") -> dict[str, Any]:
    document = copy.deepcopy(described_app(auth_mode)[1])
    for name, schema in document["components"]["schemas"].items():
        if name != "Problem":  # each has more of its own
            _close(schema)
    return document


def _close(schema: dict[str, Any]) -> None:
    """Let no field be there that the schema does not name."""
    if "properties" in schema:
        schema["additionalProperties"] = False


def route_of(method: str, path: str) -> tuple[str, str] | None:
    """The route that answers; one without parameters goes first."""
    for known_method, known in sorted(known_operations(), key=lambda route: route[1].count("{")):
        pattern = re.sub(r"\\\{(\w+)\\\}", _part, re.escape(known))
        if known_method == method and re.fullmatch(pattern, path):
            return known_method, known
    return None


def _part(found: re.Match[str]) -> str:
    return ".+" if found[1] in {"name", "task"} else "[^/]+"


@cache
def _validator(method: str, path: str, status: str, kind: str) -> Any:
    # What is refused without keys, because of where a page comes from, is not described with them.
    for auth_mode in ("api_key", "none"):
        document = _document(auth_mode)
        responses = document["paths"][path][method.lower()]["responses"]
        if status in responses:
            break
    content = responses[status]["content"]
    schema = {**content[kind]["schema"], "components": document["components"]}
    return jsonschema_rs.Draft202012Validator(schema)


@cache
def _event_validator(path: str, event: str) -> Any:
    document = _document()
    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    for told in content["text/event-stream"]["schema"]["oneOf"]:
        if told["properties"]["event"]["const"] == event:
            schema = told["properties"]["data"]["contentSchema"]
            schema = {**schema, "components": document["components"]}
            return jsonschema_rs.Draft202012Validator(schema)
    raise AssertionError(f"{path} tells {event}, which is not described")


class Reader:
    """Reads the answers of one client, below whatever path the gateway is."""

    def read(self, response: httpx.Response) -> None:
        request = response.request
        kind = response.headers.get("content-type", "").partition(";")[0]
        route = route_of(request.method, request.url.path)
        status = response.status_code
        if route is None or not kind.endswith("json") or status == 206:
            return
        try:
            check = _validator(*route, str(status), kind)
        except KeyError:
            raise AssertionError(f"{route} answers {status} {kind}, not described") from None
        for error in check.iter_errors(response.json()):
            raise AssertionError(f"{route} {status}: {error.message} at {error.instance_path}")
        SEEN.add((*route, status))

    def read_event(self, path: str, event: str, data: Any) -> None:
        route = route_of("GET", path.partition("?")[0])
        if route is not None:
            for error in _event_validator(route[1], event).iter_errors(data):
                raise AssertionError(f"{route} {event}: {error.message} at {error.instance_path}")
