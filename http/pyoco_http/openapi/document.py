"""Builds the OpenAPI 3.1 document out of the routes of the application and what they say of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from quart_trio import QuartTrio
from werkzeug.routing import Rule

from pyoco_http.access import Access, access_of
from pyoco_http.bodies import BodyLimit
from pyoco_http.openapi.schemas import Schemas, parameter
from pyoco_http.operation import Content, Operation, operation_of
from pyoco_http.query import fields_of
from pyoco_server.backend import Backend

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
    "ignore what you do not know. A parameter or a field of a body that the gateway does not know is refused "
    "with a 422 that names it."
)


def path_of(rule: Rule) -> str:
    """The path of a route, as OpenAPI writes it."""
    return re.sub(r"<(?:[a-z]+:)?([a-z_]+)>", r"{\1}", rule.rule)


def routes(app: QuartTrio) -> Iterator[tuple[str, str, Rule]]:
    """Every method and path that the application answers, without HEAD and OPTIONS."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, path_of(rule), rule


def operations(app: QuartTrio) -> dict[tuple[str, str], Operation]:
    """What the routes say of themselves, by method and path."""
    found = {}
    for method, path, rule in routes(app):
        operation = operation_of(app.view_functions[rule.endpoint])
        if operation is not None:
            found[method, path] = operation
    return found


def build_document(app: QuartTrio, backend: Backend) -> dict[str, Any]:
    """Describe every route of the application."""
    settings = backend.settings
    keyed = settings.http_auth_mode == "api_key"
    default = BodyLimit(settings.http_max_body_bytes)
    schemas = Schemas(operations(app).values())
    paths: dict[str, dict[str, Any]] = {}
    for method, path, rule in sorted(routes(app), key=lambda route: route[:2]):
        view = app.view_functions[rule.endpoint]
        operation = operation_of(view)
        if operation is not None:
            level = access_of(view) or Access.ADMIN
            writer = _Writer(operation, level, operation.limit or default, schemas, keyed)
            described = writer.describe(path)
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
        "components": {"schemas": {**schemas.components, "Problem": _PROBLEM_SCHEMA}},
    }
    if keyed:
        scheme = {"type": "apiKey", "in": "header", "name": settings.http_api_key_header}
        document["components"]["securitySchemes"] = {"api_key": scheme}
    return document


@dataclass(frozen=True, slots=True)
class _Writer:
    """Describes one operation of a gateway; ``keyed``: whether that asks for keys."""

    operation: Operation
    level: Access
    limit: BodyLimit
    schemas: Schemas
    keyed: bool

    @property
    def needs_key(self) -> bool:
        return self.keyed and self.level is not Access.PUBLIC

    def describe(self, path: str) -> dict[str, Any]:
        operation = self.operation
        described: dict[str, Any] = {
            "summary": operation.summary,
            "parameters": list(self._parameters(path)),
            "responses": self._responses(),
        }
        if operation.doc:
            described["description"] = operation.doc
        if operation.body:
            content = self._content(operation.body)
            if operation.files:
                content["multipart/form-data"]["encoding"] = _encodings(operation.files)
            described["requestBody"] = {"required": operation.body_required, "content": content}
        if self.needs_key:
            role = f"role {self.level.role}" if self.level.role else "any valid key"
            described["security"] = [{"api_key": []}]
            described["x-access"] = role
        return described

    def _parameters(self, path: str) -> Iterator[dict[str, Any]]:
        for name in re.findall(r"\{([a-z_]+)\}", path):
            schema = {"type": "string", "minLength": 1, "format": name.replace("_", "-")}
            yield {"name": name, "in": "path", "required": True, "schema": schema}
        told = self.schemas.properties(self.operation.query)
        for name, field in fields_of(self.operation.query).items():
            yield {"name": name, "in": "query", **parameter(field, told[name])}
        for header in self.operation.headers:
            described = {"description": header.doc, "schema": header.schema}
            yield {"name": header.name, "in": "header", **described}

    def _responses(self) -> dict[str, Any]:
        operation = self.operation
        refusals = self._usual_refusals() | dict(operation.refusals)
        answers: dict[str, Any] = {
            "200": {"description": "Done", "content": self._content(operation.answer)}
        }
        for status, detail in sorted(refusals.items()):
            answers[str(status)] = {"description": detail, "content": _PROBLEM}
        for status, content in operation.bodies.items():
            answers[str(status)]["content"] = self._content(content)
        return answers

    def _usual_refusals(self) -> dict[int, str]:
        refusals: dict[int, str] = {}
        operation, level = self.operation, self.level
        if self.needs_key:
            refusals |= {
                401: "api key required",
                403: "invalid api key, or one without the role",
                429: "too many keys are being checked, or too many event streams and downloads are open",
            }
        elif operation.body or level.role is not None:
            refusals[403] = "cross-origin request refused"
        if level is not Access.PUBLIC:
            query = operation.query
            refusals[422] = query.refusal or "a parameter is not known, or cannot be used"
            refusals[503] = "nats unavailable"
        if not self.keyed:
            refusals[421] = "host not served here"
        if "text/event-stream" in operation.answer or 206 in operation.bodies:
            refusals[429] = "too many event streams and downloads are open"
        if operation.body:
            limit = self.limit
            refusals |= {
                408: "request timeout: the body came too slowly",
                413: f"{limit.detail}: at most {limit.most_bytes} bytes, or what names its own limit",
            }
        return refusals

    def _content(self, content: Content) -> dict[str, Any]:
        return {kind: {"schema": self.schemas.of(kind, told)} for kind, told in content.items()}


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
