"""Who may call which route, and whose runs they see.

Every route says who may call it, with the decorator directly below that of the route::

    @blueprint.post("")
    @access(Access.SUBMIT)
    async def submit() -> ...

A route that says nothing answers 403 to everybody, and fails the test that walks the routes. The levels:

- ``PUBLIC``: anybody, without a key (health, the dashboard's files).
- ``READ``: any valid key.
- ``SUBMIT``, ``OPERATE``, ``ADMIN``: a key with that role (`Role` tells what each is for).

Where the gateway asks for no keys (``PYOCO_HTTP_AUTH_MODE=none``) everybody may call everything.

A handler runs only after this check, and only then is the body read. In it,

- ``principal()`` is who calls: `tenant_id` and `key_id` for what is stored of it (None where no keys
  are asked for), `actor` for fields such as ``cancel_requested_by``;
- ``see(snapshot)`` gives a run back, or, when it is another tenant's, the 404 of a run that does not exist.
  Every route that reads one run passes it through ``see``; every list passes ``principal().tenant_id``
  on as a filter (None is all tenants).

Call both before a stream begins: the generator of a response runs outside of its request.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, cast

from quart import g, request
from quart_trio import QuartTrio

from pyoco_http.bodies import BodyLimit, GatewayRequest, limit_of
from pyoco_http.problems import Problem
from pyoco_server.backend import Backend
from pyoco_server.gateway.key_ring import InvalidApiKey, Standing
from pyoco_server.model.api_key import Principal, Role
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.runs import RunNotFound

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__pyoco_access__"


class Access(Enum):
    """Who may call a route."""

    PUBLIC = "public"
    READ = "read"
    SUBMIT = Role.SUBMIT
    OPERATE = Role.OPERATE
    ADMIN = Role.ADMIN

    @property
    def role(self) -> Role | None:
        """The role that a key needs; None where it needs none."""
        return self.value if isinstance(self.value, Role) else None


def access(level: Access) -> Callable[[F], F]:
    """Declare who may call the route below; see the module's own text."""

    def declare(view: F) -> F:
        setattr(view, _ATTRIBUTE, level)
        return view

    return declare


def access_of(view: Callable[..., Any]) -> Access | None:
    """What a route declares; None for nothing, which lets nobody in."""
    level = getattr(view, _ATTRIBUTE, None)
    return level if isinstance(level, Access) else None


def principal() -> Principal:
    """Who makes the call that is being handled."""
    return standing().principal


def standing() -> Standing:
    """The standing of the key that the call came with, for what outlives the check: streams."""
    found: Standing = g.standing
    return found


def see(snapshot: RunSnapshot) -> RunSnapshot:
    """The run, if the caller may know of it.

    Raises:
        RunNotFound: It belongs to another tenant.
    """
    if not principal().sees(snapshot.tenant_id):
        raise RunNotFound(snapshot.run_id)
    return snapshot


def register_access(app: QuartTrio, backend: Backend) -> None:
    """Check every call before its handler and its body."""
    default = BodyLimit(backend.settings.http_max_body_bytes)
    keyed = backend.settings.http_auth_mode == "api_key"
    header = backend.settings.http_api_key_header
    everybody = Standing(Principal())

    async def check() -> None:
        if request.routing_exception is not None or request.url_rule is None:
            return  # no route: the answer is 404 or 405 whoever asks
        if request.method == "OPTIONS" and request.url_rule.provide_automatic_options:
            return
        view = app.view_functions[request.url_rule.endpoint]
        level = access_of(view)
        if level is None:
            raise Problem(403, "not allowed", ErrorId.NOT_ALLOWED)
        g.standing = everybody
        if keyed and level is not Access.PUBLIC:
            g.standing = await _let_in(backend, header)
            _check_role(level)
        received = cast(GatewayRequest, request)
        received.caller = principal()
        received.body.admit(limit_of(view, default))

    app.before_request(check)


def _check_role(level: Access) -> None:
    role = level.role
    if role is not None and role not in principal().roles:
        raise Problem(
            403, f"api key lacks the role {role.value}", ErrorId.NOT_ALLOWED, role=role.value
        )


async def _let_in(backend: Backend, header: str) -> Standing:
    key = request.headers.get(header, "").strip()
    if not key:
        raise Problem(401, "api key required", ErrorId.API_KEY_MISSING, header=header)
    try:
        return await backend.authenticate(key)
    except InvalidApiKey:
        raise Problem(403, "invalid api key", ErrorId.API_KEY_INVALID) from None
