"""`GET /docs`: the OpenAPI document as a page for people, on which each call can be tried."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any, Final

# What people need first comes first; by the names of the blueprints.
SUBJECTS: Final[dict[str, tuple[str, ...]]] = {
    "Submit": ("submissions", "flows"),
    "Runs": ("lists", "runs", "list_streams", "events", "logs", "results", "artifacts"),
    "Schedules": ("schedules", "schedule_actions", "schedule_times"),
    "Workers": ("workers",),
    "Wheels": ("wheels",),
    "Dead letters": ("dead_letters",),
    "System": ("system", "metrics"),
    "Pages": ("dashboard", "openapi"),
}
# In order; the words in capitals are the reader's, and docs.js puts this gateway's own address first.
_FIRST_CALLS: Final = (
    (
        "Submit a run that brings its flow.yaml; the answer has its `run_id`",
        "-F workflow=@flow.yaml -F flow_name=main -F tag=default",
        "runs/yaml",
    ),
    ("Look at it", "", "runs/RUN_ID"),
    ("Follow it to its end", "-N", "runs/RUN_ID/watch"),
    ("Read what its tasks printed", "-H 'Accept: text/plain'", "runs/RUN_ID/logs"),
    ("Cancel it", "-X POST", "runs/RUN_ID/cancel"),
    ("The last runs that failed", "", "runs?status=FAILED&limit=20"),
)
_METHODS: Final = ("post", "get", "put", "patch", "delete")
_ADDRESS: Final = "http://127.0.0.1:8000/"

Operation = dict[str, Any]


def page_of(document: dict[str, Any]) -> Iterator[str]:
    """The page, in pieces."""
    info = document["info"]
    security = document["components"].get("securitySchemes", {}).get("api_key")
    schemas = document["components"]["schemas"]
    grouped = _grouped(document)
    yield (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(info['title'])} HTTP API</title>"
        "<link rel=stylesheet href=static/docs.css><script type=module src=static/docs.js></script>"
        f"<main><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
    )
    yield "<h2>First calls</h2><dl>"
    key = f"-H '{security['name']}: KEY'" if security else ""
    for what, options, path in _FIRST_CALLS:
        where = f"'<span class=address>{_ADDRESS}</span>{escape(path)}'"
        command = " ".join(part for part in ("curl", key, options, where) if part)
        yield f"<dt>{_marked(what)}<dd><pre tabindex=0>{command}</pre>"
    yield f"</dl><h2>In every answer</h2><p>{_marked(info['description'])}</p>"
    yield "<p>For programs: <a href=openapi.json>openapi.json</a></p>"
    if security:
        yield (
            f"<p><label>API key, sent as <code>{escape(security['name'])}</code> <input type=password "
            f"id=key autocomplete=off data-header='{escape(security['name'])}'></label></p>"
        )
    yield "<nav aria-label=Subjects>"
    for subject in grouped:
        yield f"<a href='#{_anchor(subject)}'>{escape(subject)}</a> "
    yield "<a href='#schemas'>Schemas</a></nav>"
    for subject, operations in grouped.items():
        yield f"<h2 id='{_anchor(subject)}'>{escape(subject)}</h2>"
        for method, path, operation in operations:
            yield from _operation(method, path, operation, schemas)
    yield "<h2 id=schemas>Schemas</h2>"
    for name, schema in schemas.items():
        yield (
            f"<section id='schema-{escape(name)}'><details><summary><h3>{escape(name)}</h3></summary>"
            f"{_json(schema)}</details></section>"
        )
    yield "</main></html>"


def _grouped(document: dict[str, Any]) -> dict[str, list[tuple[str, str, Operation]]]:
    subject_of = {name: subject for subject, names in SUBJECTS.items() for name in names}
    place = {name: at for at, name in enumerate(subject_of)}
    grouped: dict[str, list[tuple[str, str, Operation]]] = {subject: [] for subject in SUBJECTS}
    found = (
        (method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    for method, path, operation in sorted(
        found,
        key=lambda each: (
            place[each[2]["tags"][0]],
            each[1].count("{"),
            each[1],
            _METHODS.index(each[0]),
        ),
    ):
        grouped[subject_of[operation["tags"][0]]].append((method, path, operation))
    return grouped


def _operation(
    method: str, path: str, operation: Operation, schemas: dict[str, Any]
) -> Iterator[str]:
    yield (
        f"<section id='{escape(operation['operationId'])}'><details><summary>"
        f"<h3><code>{method.upper()} {escape(path)}</code> {_marked(operation['summary'])}</h3></summary>"
    )
    if doc := operation.get("description"):
        yield f"<p>{_marked(doc)}</p>"
    if "x-access" in operation:
        yield f"<p>Needs an API key: {escape(operation['x-access'])}.</p>"
    if operation["parameters"]:
        yield "<div class=wide tabindex=0><table><tr><th>Parameter<th>In<th>Takes<th>What it does"
        for param in operation["parameters"]:
            yield (
                f"<tr><td><code>{escape(param['name'])}</code><td>{param['in']}"
                f"<td>{_json(param['schema'])}<td>{_marked(param.get('description', ''))}"
            )
        yield "</table></div>"
    body = operation.get("requestBody", {}).get("content", {})
    for kind, content in body.items():
        yield f"<h4>Body: {escape(kind)}</h4>{_json(content['schema'])}"
    yield "<div class=wide tabindex=0><table><tr><th>Status<th>When<th>Body"
    for status, answer in operation["responses"].items():
        kinds = ", ".join(answer["content"])
        yield f"<tr><td>{status}<td>{_marked(answer['description'])}<td>{escape(kinds)}"
    yield "</table></div>"
    for kind, content in operation["responses"]["200"]["content"].items():
        yield (
            f"<details><summary>200: {escape(kind)}</summary>{_json(content['schema'])}</details>"
        )
    yield from _form(method, path, operation, schemas)
    yield "</details></section>"


def _form(method: str, path: str, operation: Operation, schemas: dict[str, Any]) -> Iterator[str]:
    """What docs.js makes a call of."""
    yield (f"<form data-method={method.upper()} data-path='{escape(path)}'><h4>Try it</h4>")
    for param in operation["parameters"]:
        required = " required" if param.get("required") else ""
        yield (
            f"<label>{escape(param['name'])} <input name='{escape(param['name'])}' "
            f"data-in={param['in']}{required}></label>"
        )
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = _resolved(content["schema"], schemas)
        if kind == "multipart/form-data":
            for field in schema["properties"]:
                sort = "file" if field in content.get("encoding", ()) else "text"
                required = " required" if field in schema.get("required", ()) else ""
                yield (
                    f"<label>{escape(field)} <input type={sort} name='{escape(field)}' "
                    f"data-in=form{required}></label>"
                )
        else:
            text = "" if kind == "text/plain" else json.dumps(_example(schema, schemas), indent=1)
            yield (
                f"<label>{escape(kind)} <textarea name=body rows=6 data-in=body data-kind='{escape(kind)}'>"
                f"{escape(text)}</textarea></label>"
            )
    yield f"<button>Send {method.upper()}</button><output></output></form>"


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A schema itself; of several that may be, the first."""
    if "$ref" in schema:
        return _resolved(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for word in ("anyOf", "oneOf", "allOf"):
        if schema.get(word):
            return _resolved(schema[word][0], schemas)
    return schema


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """The least that a schema takes, to be filled in."""
    schema = _resolved(schema, schemas)
    match schema.get("type"):
        case "object":
            return {
                name: _example(schema["properties"][name], schemas)
                for name in schema.get("required", ())
            }
        case "array":
            return [_example(schema["items"], schemas)] if "items" in schema else []
        case "integer" | "number":
            return 0
        case "boolean":
            return True
        case _:
            return schema.get("enum", [""])[0]


def _anchor(subject: str) -> str:
    return subject.lower().replace(" ", "-")


def _marked(text: str) -> str:
    """A text with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _json(schema: Any) -> str:
    """A schema, with links to those that it refers to."""
    text = escape(json.dumps(schema, indent=1))
    linked = re.sub(r"&quot;#/components/schemas/(\w+)&quot;", r"<a href='#schema-\1'>\1</a>", text)
    return f"<pre tabindex=0>{linked}</pre>"
