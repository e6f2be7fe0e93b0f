"""The API description: complete, and shown without anything of another host."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from backend.stage import running
from http_api.gateway import gateway
from http_api.keyed import KEYED
from pyoco_http.app import create_app
from pyoco_http.openapi.document import operations, routes


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
