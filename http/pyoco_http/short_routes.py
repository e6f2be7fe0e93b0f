"""Routes that are answered in their connection's own task, without what Quart does for pages.

Such a route reads the call of `current_call`, and its body there, and gives an `Answer`::

    @blueprint.get("/<run_id>")
    @access(Access.READ)
    @described("Read a run", Run)
    @short
    async def get(run_id: str) -> Answer:
        ...

It is a route of Quart's as well, so that what is true of every route is true of it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, cast

from quart import Response, request
from quart_trio import QuartTrio

from pyoco_http.access import Access, access_of
from pyoco_http.bodies import Body
from pyoco_http.call import Answer, Call, current_call, handle
from pyoco_http.operation import Operation, operation_of
from pyoco_http.problems import problem_of
from pyoco_http.rules import Rules

Handler = Callable[..., Awaitable[Answer]]
View = Callable[..., Awaitable[Response]]

_ATTRIBUTE = "__pyoco_short__"
OWN_WORDS: Final = "batch|counts|history|stream|yaml"
"""What is no run's id and no wheel's name in a path: a route of its own is there."""

# Narrower than what Quart takes for a name: what needs decoding goes its way.
_NAME: Final = rf"(?!(?:{OWN_WORDS})(?:/|\Z))[A-Za-z0-9_-]+"


def short(handler: Handler) -> View:
    """Make a route of Quart's as well of a short one; see the module's own text."""

    @wraps(handler)
    async def view(**names: str) -> Response:
        call = current_call()
        if call.method not in {"GET", "HEAD"}:
            call.body = await request.body
        return (await handler(**names)).response()

    setattr(view, _ATTRIBUTE, handler)
    return cast(View, view)


@dataclass(frozen=True, slots=True)
class ShortRoute:
    """A route, found in Quart's."""

    method: str
    rule: str
    pattern: re.Pattern[str]
    level: Access | None
    operation: Operation | None
    handler: Handler


class ShortRoutes:
    """The short routes of an application.

    Args:
        app: Where they are registered.
        rules: What their calls pass.
    """

    def __init__(self, app: QuartTrio, rules: Rules) -> None:
        self._rules = rules
        self._routes = list(_found(app))

    def find(self, call: Call) -> tuple[ShortRoute, dict[str, str]] | None:
        """The route of a call, and the names in its path; None for one that is Quart's."""
        for route in self._routes:
            if route.method == call.method:
                found = route.pattern.fullmatch(call.path)
                if found is not None:
                    return route, found.groupdict()
        return None

    async def answer(
        self, call: Call, body: Body, route: ShortRoute, names: dict[str, str]
    ) -> Answer:
        """Answer a call as Quart would have answered it."""
        try:
            handle(call)
            self._rules.begin(call)
            await self._rules.admit(call, body, route.level, route.operation)
            if call.method != "GET":
                call.body = await body
            answer = await route.handler(**names)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            answer = problem_of(error).answer()
        self._rules.latencies.observe(call, route.rule, answer.status)
        return answer


def _found(app: QuartTrio) -> Iterator[ShortRoute]:
    for rule in app.url_map.iter_rules():
        view: Callable[..., Any] = app.view_functions[rule.endpoint]
        handler: Handler | None = getattr(view, _ATTRIBUTE, None)
        if handler is not None:
            pattern = re.compile(re.sub(r"<(\w+)>", _named, rule.rule))
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                yield ShortRoute(
                    method, rule.rule, pattern, access_of(view), operation_of(view), handler
                )


def _named(found: re.Match[str]) -> str:
    return f"(?P<{found[1]}>{_NAME})"
