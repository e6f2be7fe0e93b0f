"""`GET /openapi.json`, and `GET /docs`: the same for people, without anything of another host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from quart import Blueprint, Response
from quart_trio import QuartTrio

from pyoco_http.access import Access, access
from pyoco_http.openapi.document import build_document
from pyoco_http.operation import HTML, described
from pyoco_server.backend import Backend

_POLICY = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'"


def register_openapi(app: QuartTrio, backend: Backend) -> None:
    """Describe the routes that are registered by now, and these two."""
    blueprint = Blueprint("openapi", __name__)
    made: dict[str, str] = {}

    @blueprint.get("/openapi.json")
    @access(Access.PUBLIC)
    @described("This document", {"application/json": {"type": "object"}})
    async def document() -> Response:
        return Response(made["json"], content_type="application/json")

    @blueprint.get("/docs")
    @access(Access.PUBLIC)
    @described("This document, for people", HTML)
    async def docs() -> Response:
        headers = {"Content-Security-Policy": _POLICY}
        return Response(made["html"], content_type="text/html; charset=utf-8", headers=headers)

    app.register_blueprint(blueprint)
    built = build_document(app, backend)
    made["json"] = json.dumps(built)
    made["html"] = "".join(_page(built))


def _page(document: dict[str, Any]) -> Iterator[str]:
    info = document["info"]
    yield (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(info['title'])} HTTP API</title>"
        "<link rel=stylesheet href=static/docs.css>"
        f"<main><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['description'])}</p>"
        "<p>For programs: <a href=openapi.json>openapi.json</a></p>"
    )
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield from _operation(method.upper(), path, operation)
    yield "<h1>Schemas</h1>"
    for name, schema in document["components"]["schemas"].items():
        yield f"<section id='schema-{escape(name)}'><h2>{escape(name)}</h2>{_json(schema)}</section>"
    yield "</main></html>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield (
        f"<section id='{escape(operation['operationId'])}'>"
        f"<h2><code>{method} {escape(path)}</code></h2><p>{escape(operation['summary'])}. "
        f"{escape(operation.get('description', ''))}</p>"
    )
    if "x-access" in operation:
        yield f"<p>Needs an API key: {escape(operation['x-access'])}.</p>"
    if operation["parameters"]:
        yield "<table><tr><th>Parameter<th>In<th>Takes<th>What it does"
        for param in operation["parameters"]:
            yield (
                f"<tr><td><code>{escape(param['name'])}</code><td>{param['in']}"
                f"<td>{_json(param['schema'])}<td>{escape(param.get('description', ''))}"
            )
        yield "</table>"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<h3>Body: {escape(kind)}</h3>{_json(content['schema'])}"
    yield "<table><tr><th>Status<th>When<th>Body"
    for status, answer in operation["responses"].items():
        kinds = ", ".join(answer["content"])
        yield f"<tr><td>{status}<td>{escape(answer['description'])}<td>{escape(kinds)}"
    yield "</table>"
    for kind, content in operation["responses"]["200"]["content"].items():
        yield f"<details><summary>200: {escape(kind)}</summary>{_json(content['schema'])}</details>"
    yield "</section>"


def _json(schema: Any) -> str:
    text = escape(json.dumps(schema, indent=1))
    return f"<pre>{text}</pre>"
