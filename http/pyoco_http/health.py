"""Whether the process is alive, and whether it can do its work."""

from __future__ import annotations

from typing import Any

from quart import Blueprint

from pyoco_http.access import Access, access
from pyoco_http.answers import Answer
from pyoco_http.call import Call
from pyoco_http.short_routes import short
from pyoco_server.backend import Backend


def health_blueprint(backend: Backend) -> Blueprint:
    """`GET /health` and `GET /health/ready`."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/health")
    @access(Access.PUBLIC)
    @short
    async def health(_: Call) -> Answer:
        return Answer(b'{"status":"ok"}')

    @blueprint.get("/health/ready")
    @access(Access.PUBLIC)
    async def ready() -> tuple[dict[str, Any], int]:
        readiness = await backend.readiness()
        status = backend.connection.status
        body = {
            "status": "ready" if readiness.ready else "not ready",
            "reasons": list(readiness.reasons),
            "nats": {
                "connected": status.connected,
                "server": status.server,
                "reconnects": status.reconnects,
                "last_error": status.last_error,
            },
        }
        return body, 200 if readiness.ready else 503

    return blueprint
