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
- ``run_seen(backend, run_id)`` reads a run; another tenant's is answered as one that does not exist. Every
  route that reads one run does it so; every list passes ``principal().tenant_id`` on as a filter (None is
  all tenants).

Call both before a stream begins: the generator of a response runs outside of its request.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from pyoco_http.call import Call, current_call
from pyoco_http.problems import Problem
from pyoco_server.backend import Backend
from pyoco_server.gateway.key_ring import InvalidApiKey, Standing
from pyoco_server.gateway.new_run import Person
from pyoco_server.model.api_key import Principal, Role
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import is_run_id
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
    return current_call().principal


def person() -> Person:
    """The same, for what is done with schedules and dead letters."""
    call, by = current_call(), principal()
    return Person(by.tenant_id, by.key_id, by.actor, call.request_id, call.traceparent)


async def run_seen(backend: Backend, run_id: str) -> RunSnapshot:
    """Read a run that the caller may know of; what can be no run's id is not looked for.

    Raises:
        RunNotFound: There is none, or it belongs to another tenant.
        BridgeError: NATS could not be asked.
    """
    if not is_run_id(run_id):
        raise RunNotFound(run_id)
    snapshot = await backend.get(run_id)
    if not principal().sees(snapshot.tenant_id):
        raise RunNotFound(run_id)
    return snapshot


def need(role: Role, reason: str) -> None:
    """Refuse the call where its caller lacks a role that only some calls of its route need.

    Raises:
        Problem: It does; ``reason`` says what the role is needed for.
    """
    if role not in principal().roles:
        raise _lacks(role, reason=reason)


class Doorkeeper:
    """Checks every call before its handler and its body."""

    def __init__(self, backend: Backend) -> None:
        settings = backend.settings
        self._backend = backend
        self._header = settings.http_api_key_header
        self._name = self._header.lower().encode()
        self._everybody = Standing(Principal())
        self.keyed = settings.http_auth_mode == "api_key"

    async def admit(self, call: Call, level: Access | None) -> None:
        """Give the call its standing, if it may call a route of this level.

        Raises:
            Problem: It may not.
            KeysUnavailable: The keys could not be read.
            TooManyChecks: Too many keys are being checked.
        """
        if level is None:
            raise Problem(403, "not allowed", ErrorId.NOT_ALLOWED)
        if not self.keyed or level is Access.PUBLIC:
            call.standing = self._everybody
            return
        standing = await self._let_in(call)
        role = level.role
        if role is not None and role not in standing.principal.roles:
            raise _lacks(role)
        call.standing = standing

    async def _let_in(self, call: Call) -> Standing:
        key = (call.header(self._name) or "").strip()
        if not key:
            raise Problem(401, "api key required", ErrorId.API_KEY_MISSING, header=self._header)
        try:
            return await self._backend.authenticate(key)
        except InvalidApiKey:
            raise Problem(403, "invalid api key", ErrorId.API_KEY_INVALID) from None


def _lacks(role: Role, **more: Any) -> Problem:
    detail = f"api key lacks the role {role.value}"
    return Problem(403, detail, ErrorId.NOT_ALLOWED, role=role.value, **more)
