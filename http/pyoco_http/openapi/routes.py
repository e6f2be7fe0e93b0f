"""`GET /openapi.json`, and `GET /docs`: the same for people, without anything of another host."""

from __future__ import annotations

import json

from quart import Blueprint, Response
from quart_trio import QuartTrio

from pyoco_http.access import Access, access
from pyoco_http.openapi.document import build_document
from pyoco_http.openapi.page import page_of
from pyoco_http.operation import HTML, described
from pyoco_server.backend import Backend

# What the page calls is this gateway.
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'"
)


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
    made["html"] = "".join(page_of(built))
