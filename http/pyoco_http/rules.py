"""What every call passes on its way in, and every answer on its way out, with Quart or without."""

from __future__ import annotations

from typing import cast

import structlog
import trio
from quart import Response, request
from quart_trio import QuartTrio

from pyoco_http import browsers, tracing
from pyoco_http.access import Access, Doorkeeper, access_of
from pyoco_http.bodies import BodyLimit, GatewayRequest, limit_of
from pyoco_http.call import Call
from pyoco_http.metrics import Latencies
from pyoco_server.backend import Backend

log = structlog.get_logger(__name__)


class Rules:
    """The rules of one gateway.

    Args:
        backend: Whose settings, keys and measures count.
        loopback: Whether only this machine can reach it.

    Attributes:
        body_limit: How large a body may be where a route says nothing.
    """

    def __init__(self, backend: Backend, *, loopback: bool) -> None:
        self._door = Doorkeeper(backend)
        self._loopback = loopback
        self._latencies = Latencies(backend.reads.measures.registry)
        self.body_limit = BodyLimit(backend.settings.http_max_body_bytes)

    def begin(self, call: Call) -> None:
        """What comes first, also where there is no route.

        Raises:
            Problem: A foreign page makes the call.
        """
        tracing.trace(call)
        if not self._door.keyed:
            browsers.check_origin(call, loopback=self._loopback)

    async def admit(self, call: Call, level: Access | None) -> None:
        """Let it in to a route of this level; see `Doorkeeper.admit`."""
        await self._door.admit(call, level)

    def answered(self, call: Call, route: str | None, status: int) -> None:
        """Take notice of an answer that is ready; ``route`` is the rule of its route, if there is one."""
        self._latencies.observe(call, route, status)

    @staticmethod
    def log(call: Call, status: int | None) -> None:
        """Write the line of the access log; a call whose client went away has no status."""
        principal = None if call.standing is None else call.standing.principal
        log.info(
            "request",
            method=call.method,
            path=call.path[:500],
            status=status,
            duration_ms=round((trio.current_time() - call.began) * 1000, 3),
            remote_addr=call.remote_addr,
            request_id=call.request_id,
            key_id=None if principal is None else principal.key_id,
            tenant_id=None if principal is None else principal.tenant_id,
            body_bytes=call.body_bytes,
        )


def register_rules(app: QuartTrio, rules: Rules) -> None:
    """Have Quart's calls pass them too."""

    async def enter() -> None:
        received = cast(GatewayRequest, request)
        rule = received.url_rule
        rules.begin(received.call)
        if received.routing_exception is not None or rule is None:
            return  # no route: the answer is 404 or 405 whoever asks
        if received.method == "OPTIONS" and rule.provide_automatic_options:
            return
        view = app.view_functions[rule.endpoint]
        await rules.admit(received.call, access_of(view))
        received.body.admit(limit_of(view, rules.body_limit))

    async def leave(response: Response) -> Response:
        received = cast(GatewayRequest, request)
        rule = received.url_rule
        for name, value in browsers.HEADERS:
            response.headers.setdefault(name.decode(), value.decode())
        response.headers[tracing.HEADER.decode()] = received.call.request_id
        rules.answered(received.call, None if rule is None else rule.rule, response.status_code)
        return response

    app.before_request(enter)
    app.after_request(leave)
