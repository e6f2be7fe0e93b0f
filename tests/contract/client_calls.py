"""Which route each method of the Python client calls, and how it is called for that."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Route = tuple[str, str]


@dataclass(frozen=True)
class Example:
    """A call of a method, and the first route that it asks."""

    method: str
    route: Route
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def _get(method: str, path: str, *args: Any, **kwargs: Any) -> Example:
    return Example(method, ("GET", path), args, kwargs)


def _post(method: str, path: str, *args: Any, **kwargs: Any) -> Example:
    return Example(method, ("POST", path), args, kwargs)


EXAMPLES: Final = [
    _post("submit_run", "/runs", "f"),
    _post("submit_run_yaml", "/runs/yaml", "flow: {}"),
    _post("submit_batch", "/runs/batch", [{"flow_name": "f"}]),
    _post("check_flow", "/flows/check", "flow: {}"),
    _get("get_run", "/runs/{run_id}", "r"),
    _get("get_run_with_records", "/runs/{run_id}", "r"),
    _get("get_tasks", "/runs/{run_id}/tasks", "r"),
    _post("cancel_run", "/runs/{run_id}/cancel", "r"),
    _post("retry_run", "/runs/{run_id}/retry", "r"),
    Example("reschedule_run", ("PATCH", "/runs/{run_id}"), ("r",), {"start_at": 0}),
    _get("wait_run", "/runs/{run_id}/watch", "r"),
    _get("watch", "/runs/{run_id}/watch", "r"),
    _get("watch_run", "/runs/{run_id}/watch", "r"),
    _get("events", "/runs/{run_id}/events", "r"),
    _get("events", "/runs/{run_id}/events", "r", follow=True),
    _get("logs", "/runs/{run_id}/logs", "r"),
    _get("logs", "/runs/{run_id}/logs", "r", follow=True),
    _get("get_graph", "/runs/{run_id}/graph", "r"),
    _get("get_workflow", "/runs/{run_id}/workflow", "r"),
    _get("list_artifacts", "/runs/{run_id}/artifacts", "r"),
    _get("download_artifact", "/runs/{run_id}/artifacts/{name}", "r", "a", io.BytesIO()),
    _get("list_results", "/runs/{run_id}/results", "r"),
    _get("get_result", "/runs/{run_id}/results/{task}", "r", "a"),
    _get("find_runs", "/runs"),
    _get("list_runs", "/runs"),
    _get("list_runs_vnext", "/runs"),
    _get("count_runs", "/runs/counts"),
    _get("follow_runs", "/runs/stream"),
    _get("list_dead_letters", "/dlq"),
    _get("get_dead_letter", "/dlq/{seq}", 1),
    _post("requeue_dead_letter", "/dlq/{seq}/requeue", 1),
    Example("drop_dead_letter", ("DELETE", "/dlq/{seq}"), (1,)),
    _get("get_workers", "/workers"),
    Example("patch_worker_hidden", ("PATCH", "/workers/{worker_id}"), ("w",), {"hidden": True}),
    _post("order_worker", "/workers/{worker_id}/pause", "w", "pause"),
    _post("order_worker", "/workers/{worker_id}/resume", "w", "resume"),
    _post("order_worker", "/workers/{worker_id}/drain", "w", "drain"),
    _get("list_wheels", "/wheels"),
    _get("list_wheel_history", "/wheels/history"),
    _post("upload_wheel", "/wheels", filename="a-1.0-py3-none-any.whl", data=b""),
    _get("download_wheel", "/wheels/{name}", "a-1.0-py3-none-any.whl", io.BytesIO()),
    Example("delete_wheel", ("DELETE", "/wheels/{name}"), ("a-1.0-py3-none-any.whl",)),
    _get("list_schedules", "/schedules"),
    _get("all_schedules", "/schedules"),
    _get("get_schedule", "/schedules/{schedule_id}", "s"),
    _post("create_schedule", "/schedules", "s", flow_name="f", cron="* * * * *"),
    Example("put_schedule", ("PUT", "/schedules/{schedule_id}"), ("s",), {"flow_name": "f"}),
    Example("update_schedule", ("PATCH", "/schedules/{schedule_id}"), ("s",), {"name": "n"}),
    Example("delete_schedule", ("DELETE", "/schedules/{schedule_id}"), ("s",)),
    _post("pause_schedule", "/schedules/{schedule_id}/pause", "s"),
    _post("resume_schedule", "/schedules/{schedule_id}/resume", "s"),
    _post("trigger_schedule", "/schedules/{schedule_id}/trigger", "s"),
    _post("backfill_schedule", "/schedules/{schedule_id}/backfill", "s", 0, 1),
    _get("next_ticks", "/schedules/{schedule_id}/next", "s"),
    _get("past_ticks", "/schedules/{schedule_id}/ticks", "s"),
    _post("preview_schedule", "/schedules/preview", flow_name="f", cron="* * * * *"),
    _get("get_calendar", "/schedules/calendar"),
    _get("get_queues", "/queues"),
    _get("get_stats", "/stats"),
    _get("whoami", "/whoami"),
    _get("get_actors", "/actors"),
    _get("get_metrics", "/metrics"),
    _get("get_health", "/health"),
    _get("get_ready", "/health/ready"),
    _get("get_api_description", "/openapi.json"),
]

LEFT_OUT: Final[Mapping[Route, str]] = {
    ("GET", "/"): "the dashboard, a page for people",
    ("GET", "/static/{name}"): "files of the dashboard",
    ("GET", "/docs"): "the API description as a page for people",
}
