"""What every call passes on its way in, and every answer on its way out, with Quart or without."""

from __future__ import annotations

import secrets
from typing import Final, cast

import structlog
import trio
from quart import Response, request
from quart_trio import QuartTrio

from pyoco_http import browsers
from pyoco_http.access import Access, Doorkeeper, access_of
from pyoco_http.bodies import Body, BodyLimit, GatewayRequest
from pyoco_http.call import Call, Header, current_call
from pyoco_http.metrics import Latencies
from pyoco_http.operation import Operation, operation_of
from pyoco_http.query import read_query
from pyoco_server.backend import Backend
from pyoco_server.gateway.read_side import freshness
from pyoco_server.model.trace import REQUEST_ID, log_fields, trace_id

REQUEST_ID_HEADER: Final = b"x-request-id"
SEEN: Final = b"x-pyoco-seen"
"""Up to which change of runs an answer goes at least; sent along, no gateway answers with less."""

_STALE: Final[Header] = (b"x-pyoco-stale", b"true")


class Rules:
    """The rules of one gateway.

    Args:
        backend: Whose settings, keys and measures count.
        loopback: Whether only this machine can reach it.

    Attributes:
        latencies: Takes notice of answers that are ready.
    """

    def __init__(self, backend: Backend, *, loopback: bool) -> None:
        self._door = Doorkeeper(backend)
        self._reads = backend.reads
        listed = backend.settings.allowed_hosts
        self._names = browsers.OwnNames(not loopback and not listed, listed)
        self.latencies = Latencies(backend.reads.measures.registry)
        # Bound once: that takes a good part of the time of a line.
        self._log = structlog.get_logger(__name__).bind()
        self._body_limit = BodyLimit(backend.settings.http_max_body_bytes)

    def begin(self, call: Call) -> None:
        """What comes first, also where there is no route.

        Raises:
            Problem: A foreign page makes the call, or it is to a name that is not ours.
        """
        trace(call)
        freshness.set(call.freshness)
        if not self._door.keyed:
            self._names.check(call)

    async def admit(
        self, call: Call, body: Body, level: Access | None, operation: Operation | None
    ) -> None:
        """Let a call in to a route of this level, and wait until it is not answered with less than was told.

        Raises:
            Exception: As `Doorkeeper.admit`.
            Problem: Its body is too large, or its query has what the operation does not take. Public routes
                take any query: probes and browsers add what they like.
        """
        await self._door.admit(call, level)
        call.public = level is Access.PUBLIC
        if operation is not None and not call.public:
            call.wanted = read_query(operation.query, call.query)
        if not call.public and call.method in {"GET", "HEAD"} and (seen := call.header(SEEN)):
            await self._reads.wait_for(seen)
        own = None if operation is None else operation.limit
        body.admit(own or self._body_limit)

    def headers(self, call: Call) -> list[Header]:
        """What the answer of a call tells of the call and of the gateway."""
        found = [(REQUEST_ID_HEADER, call.request_id.encode())]
        if not call.public and (token := self._reads.token):
            found.append((SEEN, token.encode()))
        if call.freshness.stale:
            found.append(_STALE)
        return found

    def log(self, call: Call, status: int | None, body_bytes: int) -> None:
        """Write the line of the access log; a call whose client went away has no status."""
        principal = None if call.standing is None else call.standing.principal
        self._log.info(
            "request",
            method=call.method,
            path=call.path[:500],
            status=status,
            duration_ms=round((trio.current_time() - call.began) * 1000, 3),
            remote_addr=call.remote_addr,
            request_id=call.request_id,
            key_id=None if principal is None else principal.key_id,
            tenant_id=None if principal is None else principal.tenant_id,
            body_bytes=body_bytes,
        )


def trace(call: Call) -> None:
    """Give the call its id and its W3C trace context, and the log lines from here on.

    The id is the client's or made here. It is in the answer, in the access log and every line that the call
    causes in the gateway, in the job message of a submitted run, and from there in the worker's lines and the
    environment of the flow.
    """
    sent = (call.header(REQUEST_ID_HEADER) or "").strip()
    call.request_id = sent if REQUEST_ID.fullmatch(sent) else secrets.token_hex(16)
    context = (call.header(b"traceparent") or "").strip()
    if context and trace_id(context) is not None:
        call.traceparent = context
    # A connection has one context for all of its calls.
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**log_fields(call.request_id, call.traceparent))


def register_rules(app: QuartTrio, rules: Rules) -> None:
    """Have Quart's calls pass them too."""

    async def enter() -> None:
        received = cast(GatewayRequest, request)
        rule = received.url_rule
        rules.begin(current_call())
        if received.routing_exception is not None or rule is None:
            return  # no route: the answer is 404 or 405 whoever asks
        if received.method == "OPTIONS" and rule.provide_automatic_options:
            return
        view = app.view_functions[rule.endpoint]
        await rules.admit(current_call(), received.body, access_of(view), operation_of(view))

    async def leave(response: Response) -> Response:
        call, rule = current_call(), request.url_rule
        for name, value in browsers.HEADERS:
            response.headers.setdefault(name.decode(), value.decode())
        for name, value in rules.headers(call):
            response.headers[name.decode()] = value.decode()
        rules.latencies.observe(call, None if rule is None else rule.rule, response.status_code)
        return response

    app.before_request(enter)
    app.after_request(leave)
