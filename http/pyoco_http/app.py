"""The Quart application over a running backend."""

from __future__ import annotations

from quart_trio import QuartTrio

from pyoco_http.access import register_access
from pyoco_http.bodies import register_bodies
from pyoco_http.dashboard import dashboard_blueprint
from pyoco_http.events import events_blueprint
from pyoco_http.flows import flows_blueprint
from pyoco_http.health import health_blueprint
from pyoco_http.lists import lists_blueprint
from pyoco_http.logs import logs_blueprint
from pyoco_http.metrics import metrics_blueprint, register_latency
from pyoco_http.problems import register_problems
from pyoco_http.runs import runs_blueprint
from pyoco_http.streams import streams_blueprint
from pyoco_http.submissions import submissions_blueprint
from pyoco_http.system import system_blueprint
from pyoco_http.wheels import wheels_blueprint
from pyoco_http.workers import workers_blueprint
from pyoco_server.backend import Backend

# A job has to fit into one NATS message (1 MiB by default), a flow.yaml into less.
_MAX_BODY_BYTES = 4 * 1024 * 1024


def create_app(backend: Backend) -> QuartTrio:
    """Make the application; it asks the actors of ``backend`` and keeps no state of its own."""
    app = QuartTrio("pyoco_http", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    register_bodies(app)
    register_latency(app, backend)
    register_problems(app)
    register_access(app, backend)
    app.register_blueprint(dashboard_blueprint(backend))
    app.register_blueprint(events_blueprint(backend))
    app.register_blueprint(flows_blueprint(backend))
    app.register_blueprint(health_blueprint(backend))
    app.register_blueprint(lists_blueprint(backend))
    app.register_blueprint(logs_blueprint(backend))
    app.register_blueprint(metrics_blueprint(backend))
    app.register_blueprint(runs_blueprint(backend))
    app.register_blueprint(streams_blueprint(backend))
    app.register_blueprint(submissions_blueprint(backend))
    app.register_blueprint(wheels_blueprint(backend))
    app.register_blueprint(system_blueprint(backend))
    app.register_blueprint(workers_blueprint(backend))
    return app
