"""The API description: complete, and shown without anything of another host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from backend.stage import running
from http_api.answers import described_app, known_operations
from http_api.gateway import gateway
from http_api.keyed import KEYED
from pyoco_http.app import create_app
from pyoco_http.openapi.document import operations, routes
from pyoco_server.api.base import JsonBody
from pyoco_server.model.schedules.reading import read_spec


async def test_every_route_is_described(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        app = create_app(backend)
        assert {(method, path) for method, path, _ in routes(app)} == set(operations(app))


@pytest.mark.parametrize("keyed", [True, False])
async def test_the_document_is_given_to_anybody(tmp_path: Path, keyed: bool) -> None:
    async with gateway(tmp_path, worker=False, **(KEYED if keyed else {})) as (client, _):
        document = (await client.get("/openapi.json")).json()
        assert document["openapi"] == "3.1.0"
        schemas = document["components"]["schemas"]
        referred = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
        assert referred <= set(schemas)
        submit = document["paths"]["/runs"]["post"]
        assert ("401" in submit["responses"]) == keyed
        assert ("security" in submit) == keyed
        page = await client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert page.text.count("<section") == page.text.count("</section>") > 25
        linked = re.findall(r"(?:href|src)=['\"]?([^'\" >]+)", page.text)
        assert linked
        assert not any("//" in link for link in linked)
        anchors = {link[1:] for link in linked if link.startswith("#")}
        assert anchors <= set(re.findall(r"id=['\"]?([^'\" >]+)", page.text))
        for link in {link for link in linked if not link.startswith("#")}:
            assert (await client.get(f"/{link}")).status_code == 200, link


def test_whatever_is_streamed_says_that_there_may_be_too_much_of_it() -> None:
    streamed = {
        path: described["get"]["responses"]
        for path, described in described_app()[1]["paths"].items()
        if "get" in described
        and ("206" in (told := described["get"]["responses"]) or "event-stream" in json.dumps(told))
    }
    assert {"/wheels/{name}", "/runs/{run_id}/artifacts/{name}", "/runs/stream"} <= set(streamed)
    assert [path for path, told in streamed.items() if "429" not in told] == []


def body_of(method: str, path: str) -> dict[str, Any]:
    """The schema of what a route takes, with the others that it refers to."""
    document = described_app()[1]
    content = document["paths"][path][method]["requestBody"]["content"]
    return {**content["application/json"]["schema"], "components": document["components"]}


@pytest.mark.parametrize(
    ("method", "path", "wants_all"),
    [
        ("post", "/schedules", True),
        ("post", "/schedules/preview", True),
        ("put", "/schedules/{schedule_id}", True),
        ("patch", "/schedules/{schedule_id}", False),
    ],
)
def test_a_schedule_says_what_runs_and_in_one_way_when(
    method: str, path: str, wants_all: bool
) -> None:
    takes = jsonschema_rs.Draft202012Validator(body_of(method, path)).is_valid
    flow = {"flow_name": "f"}
    for when in (
        {"cron": "* * * * *"},
        {"every_sec": 60},
        {"every_sec": 60.0, "start_at": "2026-12-01T09:00"},
        {"rrule": "FREQ=DAILY"},
        {"at": [1_800_000_000, "2026-12-01T09:00:00+09:00"]},
    ):
        assert takes(flow | when), when
        assert takes(flow | when | {"workflow_yaml_sha256": "0" * 64})
        assert takes(flow | when | {"tag": None, "memory_mb": 64, "overlap": "allow"})
        assert takes(when) is not wants_all
        assert not takes(flow | when | {"memory_mb": 1.5})
        assert not takes(flow | when | {"overlap": "perhaps"})
        assert not takes(flow | dict.fromkeys(when))
    assert takes(flow) is not wants_all
    assert not takes(flow | {"cron": "* * * * *", "every_sec": 60})
    assert not takes(flow | {"every_sec": 60, "unheard_of": 1})
    assert not takes({"flow_name": None, "every_sec": 60})


@pytest.mark.parametrize("name", ["tag", "timezone", "start_at", "end_at"])
@pytest.mark.parametrize("blank", ["", " "])
def test_what_is_blank_of_a_schedule_is_as_good_as_not_said(name: str, blank: str) -> None:
    body = {"flow_name": "f", "every_sec": 60, name: blank}
    spec = read_spec(body, default_tag="default", now=0.0)
    assert spec == read_spec(body | {name: None}, default_tag="default", now=0.0)
    formats = dict.fromkeys(("time-zone", "date-and-time"), lambda text: bool(text.strip()))
    schema = body_of("post", "/schedules")
    said = jsonschema_rs.Draft202012Validator(schema, formats=formats, validate_formats=True)
    assert said.is_valid(body)


JSON_BODIES = {
    kind.__name__: kind
    for operation in known_operations().values()
    for kind in operation.body.values()
    if isinstance(kind, type) and issubclass(kind, JsonBody)
}


@pytest.mark.parametrize("kind", JSON_BODIES.values(), ids=JSON_BODIES)
def test_a_body_is_described_with_every_field_that_is_read(kind: type[JsonBody]) -> None:
    schema = described_app()[1]["components"]["schemas"][kind.__name__]
    named = {name for each in schema.get("anyOf", [schema]) for name in each["properties"]}
    assert named == set(kind.__struct_encode_fields__)
