"""Builds the OpenAPI 3.1 document out of the routes of the application and their descriptions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec
from quart_trio import QuartTrio
from werkzeug.routing import Rule

from pyoco_http.access import Access, access_of
from pyoco_http.bodies import BodyLimit, limit_of
from pyoco_http.openapi.operation import Operation, Operations, Schema
from pyoco_http.openapi.run_events import RUN_EVENTS
from pyoco_http.openapi.runs import RUNS
from pyoco_http.openapi.system import SYSTEM
from pyoco_server.backend import Backend

OPERATIONS: Final[Operations] = {**RUNS, **RUN_EVENTS, **SYSTEM}

_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457, with the detail that clients match and the ids of the error.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "err_id": {"type": "string", "pattern": "^ERR-PYOCO-[0-9]{4}$"},
        "msg_id": {"type": "string", "pattern": "^MSG-PYOCO-[0-9]{4}$"},
        "reason": {"type": ["string", "null"]},
        "field": {"type": "string"},
    },
    "required": ["type", "status", "detail"],
}
_DESCRIPTION: Final = (
    "Every error is a problem: `detail` says what is wrong, `err_id` names it, `reason` and `field` say "
    "more. Every answer carries `X-Request-ID`, and each that asks for a key `X-Pyoco-Seen`: sent along with "
    "a later call, no gateway answers with less, or it says `X-Pyoco-Stale: true`. Further fields may come; "
    "ignore what you do not know."
)


def path_of(rule: Rule) -> str:
    """The path of a route, as OpenAPI writes it."""
    return re.sub(r"<(?:[a-z]+:)?([a-z_]+)>", r"{\1}", rule.rule)


def routes(app: QuartTrio) -> Iterator[tuple[str, str, Rule]]:
    """Every method and path that the application answers, without HEAD and OPTIONS."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, path_of(rule), rule


def build_document(app: QuartTrio, backend: Backend) -> dict[str, Any]:
    """Describe every route of the application that has a description."""
    settings = backend.settings
    keyed = settings.http_auth_mode == "api_key"
    default = BodyLimit(settings.http_max_body_bytes)
    structs = sorted(set(_structs(OPERATIONS)), key=lambda struct: struct.__name__)
    _, components = msgspec.json.schema_components(
        structs, ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for method, path, rule in sorted(routes(app), key=lambda route: route[:2]):
        operation = OPERATIONS.get((method, path))
        if operation is not None:
            view = app.view_functions[rule.endpoint]
            level = access_of(view) or Access.ADMIN
            described = _describe(operation, path, level, limit_of(view, default), keyed=keyed)
            described["operationId"] = f"{rule.endpoint}.{method.lower()}".replace(".", "_")
            described["tags"] = [rule.endpoint.partition(".")[0]]
            paths.setdefault(path, {})[method.lower()] = described
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "pyoco-server",
            "version": version("pyoco-server"),
            "description": _DESCRIPTION,
        },
        "paths": paths,
        "components": {"schemas": {**components, "Problem": _PROBLEM_SCHEMA}},
    }
    if keyed:
        scheme = {"type": "apiKey", "in": "header", "name": settings.http_api_key_header}
        document["components"]["securitySchemes"] = {"api_key": scheme}
    return document


def _describe(
    operation: Operation, path: str, level: Access, limit: BodyLimit, *, keyed: bool
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": [*_path_params(path), *_params(operation)],
        "responses": _responses(operation, level, limit, keyed=keyed),
    }
    if operation.doc:
        described["description"] = operation.doc
    if operation.body:
        content = _content(operation.body)
        if operation.files:
            content["multipart/form-data"]["encoding"] = _encodings(operation.files)
        described["requestBody"] = {"required": operation.body_required, "content": content}
    if keyed and level is not Access.PUBLIC:
        role = f"role {level.role}" if level.role else "any valid key"
        described["security"] = [{"api_key": []}]
        described["x-access"] = role
    return described


def _path_params(path: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"\{([a-z_]+)\}", path):
        schema = {"type": "string", "minLength": 1, "format": name.replace("_", "-")}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _params(operation: Operation) -> Iterator[dict[str, Any]]:
    for param in operation.params:
        yield {
            "name": param.name,
            "in": param.place,
            "description": param.doc,
            "schema": _schema(param.schema),
        }


def _responses(
    operation: Operation, level: Access, limit: BodyLimit, *, keyed: bool
) -> dict[str, Any]:
    refusals: dict[int, str] = {}
    if keyed and level is not Access.PUBLIC:
        refusals |= {
            401: "api key required",
            403: "invalid api key, or one without the role",
            429: "too many keys are being checked, or too many event streams are open",
        }
    elif operation.body or level.role is not None:
        refusals[403] = "cross-origin request refused"
    if not keyed and level is not Access.PUBLIC:
        refusals[421] = "host not served here"
    if "text/event-stream" in operation.answer:
        refusals[429] = "too many event streams are open"
    if operation.body:
        refusals |= {
            408: "request timeout: the body came too slowly",
            413: f"{limit.detail}: at most {limit.most_bytes} bytes, or what names its own limit",
        }
    if level is not Access.PUBLIC:
        refusals[503] = "nats unavailable"
    refusals |= operation.refusals
    answers: dict[str, Any] = {
        "200": {"description": "Done", "content": _content(operation.answer)}
    }
    for status, detail in sorted(refusals.items()):
        answers[str(status)] = {"description": detail, "content": _PROBLEM}
    for status, schemas in operation.bodies.items():
        answers[str(status)]["content"] = _content(schemas)
    return answers


def _content(schemas: Mapping[str, Schema]) -> dict[str, Any]:
    return {kind: {"schema": _schema(schema)} for kind, schema in schemas.items()}


def _encodings(files: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {
            "contentType": "application/octet-stream",
            "headers": {
                "Content-Disposition": {
                    "schema": {"type": "string"},
                    "example": f'form-data; name="{name}"; filename="{filename}"',
                }
            },
        }
        for name, filename in files.items()
    }


def _schema(schema: Any) -> Any:
    """The schema with a reference in the place of each struct."""
    match schema:
        case type():
            return {"$ref": f"#/components/schemas/{schema.__name__}"}
        case dict():
            return {name: _schema(value) for name, value in schema.items()}
        case list():
            return [_schema(value) for value in schema]
        case _:
            return schema


def _structs(operations: Operations) -> Iterator[type]:
    def inside(schema: Any) -> Iterator[type]:
        match schema:
            case type():
                yield schema
            case dict():
                for value in schema.values():
                    yield from inside(value)
            case list():
                for value in schema:
                    yield from inside(value)
            case _:
                return

    for operation in operations.values():
        for schemas in (operation.answer, operation.body):
            for schema in schemas.values():
                yield from inside(schema)
