"""The Quart application over a running backend."""

from __future__ import annotations

from typing import Any

import msgspec
from quart_trio import QuartTrio
from werkzeug.routing import BaseConverter

from pyoco_http.artifacts import artifacts_blueprint
from pyoco_http.bodies import GatewayRequest
from pyoco_http.call import json_body
from pyoco_http.dashboard import dashboard_blueprint
from pyoco_http.dead_letters import dead_letters_blueprint
from pyoco_http.events import events_blueprint
from pyoco_http.exchange import Exchange
from pyoco_http.flows import flows_blueprint
from pyoco_http.list_streams import list_streams_blueprint
from pyoco_http.lists import lists_blueprint
from pyoco_http.logs import logs_blueprint
from pyoco_http.metrics import metrics_blueprint
from pyoco_http.openapi.routes import register_openapi
from pyoco_http.problems import PROBLEMS, answer_with
from pyoco_http.results import results_blueprint
from pyoco_http.rules import Rules, register_rules
from pyoco_http.runs import runs_blueprint
from pyoco_http.schedules import (
    schedule_actions_blueprint,
    schedule_times_blueprint,
    schedules_blueprint,
)
from pyoco_http.short_routes import OWN_WORDS, ShortRoutes
from pyoco_http.sse import EventStreams, register_event_streams
from pyoco_http.submissions import submissions_blueprint
from pyoco_http.system import system_blueprint
from pyoco_http.wheels import wheels_blueprint
from pyoco_http.workers import workers_blueprint
from pyoco_server.backend import Backend
from pyoco_server.model.schedules.schedule import NOT_IDS


class Name(BaseConverter):
    """A part of a path that is a run's id or a wheel's name: no other route's own word is taken for one.

    Workers have names that people gave them, so their routes say ``<string:worker_id>``.
    """

    regex = rf"(?!(?:{OWN_WORDS})\Z)[^/]+"
    part_isolating = True


class ScheduleName(BaseConverter):
    """A part of a path that is a schedule's id: no route's own word is taken for one."""

    regex = rf"(?!(?:{'|'.join(NOT_IDS)})\Z)[^/]+"
    part_isolating = True


class GatewayApp(QuartTrio):
    """The application, with bodies and answers under the limits of the settings.

    Attributes:
        event_streams: Its open event streams.
        rules: What all of its calls pass.
        short_routes: Those of its routes that need no Quart.
    """

    request_class = GatewayRequest
    asgi_http_class = Exchange  # type: ignore[assignment]
    event_streams: EventStreams
    rules: Rules
    short_routes: ShortRoutes

    async def make_response(self, result: Any) -> Any:
        """Answer with what a route returns; a struct, or a list of them, as JSON."""
        if isinstance(result, tuple):
            response = await self.make_response(result[0])
            response.status_code = result[1]
            return response
        if isinstance(result, msgspec.Struct | list):
            return json_body(result).response()
        return await super().make_response(result)


def create_app(backend: Backend, *, loopback: bool = True) -> GatewayApp:
    """Make the application; it asks the actors of ``backend`` and keeps no state of its own.

    Args:
        backend: What it asks.
        loopback: Whether only this machine can reach it.
    """
    app = GatewayApp("pyoco_http", static_folder=None)
    # Bodies, event streams and the time that a client takes are limited by modules of ours.
    app.config |= {
        "MAX_CONTENT_LENGTH": None,
        "BODY_TIMEOUT": None,
        "RESPONSE_TIMEOUT": None,
        "BODY_SECONDS": backend.settings.http_body_timeout_sec,
    }
    app.url_map.converters |= {"default": Name, "schedule": ScheduleName}
    # A path with "//" is none of ours, and no detour to one either.
    app.url_map.merge_slashes = False
    answer_with(app, PROBLEMS)
    app.rules = Rules(backend, loopback=loopback)
    # What is registered first is asked first, and sees an answer last.
    register_rules(app, app.rules)
    app.event_streams = register_event_streams(app, backend)
    app.register_blueprint(artifacts_blueprint(backend))
    app.register_blueprint(results_blueprint(backend))
    app.register_blueprint(dashboard_blueprint(backend))
    app.register_blueprint(dead_letters_blueprint(backend))
    app.register_blueprint(events_blueprint(backend))
    app.register_blueprint(flows_blueprint(backend))
    app.register_blueprint(list_streams_blueprint(backend))
    app.register_blueprint(lists_blueprint(backend))
    app.register_blueprint(logs_blueprint(backend))
    app.register_blueprint(metrics_blueprint(backend))
    app.register_blueprint(runs_blueprint(backend))
    app.register_blueprint(schedule_actions_blueprint(backend))
    app.register_blueprint(schedule_times_blueprint(backend))
    app.register_blueprint(schedules_blueprint(backend))
    app.register_blueprint(submissions_blueprint(backend))
    app.register_blueprint(wheels_blueprint(backend))
    app.register_blueprint(system_blueprint(backend))
    app.register_blueprint(workers_blueprint(backend))
    register_openapi(app, backend)
    app.short_routes = ShortRoutes(app, app.rules)
    return app
