"""What Prometheus is told: `GET /metrics`, in its text format 0.0.4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import trio
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.utils import floatToGoString
from quart import Blueprint, Response

from pyoco_http.access import Access, access, principal
from pyoco_http.call import Call
from pyoco_http.operation import TEXT, described
from pyoco_http.sight import tags_seen
from pyoco_server.api.system import Queue
from pyoco_server.backend import Backend
from pyoco_server.gateway.monitor import Overview
from pyoco_server.gateway.read_model.queries import Totals
from pyoco_server.kernel import TreeNode
from pyoco_server.model.run import RunStatus
from pyoco_server.model.schedules.schedule import Schedule, ScheduleState
from pyoco_server.model.worker import WorkerRecord, WorkerState

# A client can make as many tags as it likes.
_MOST_TAGS: Final = 200
_OTHER_TAGS: Final = "(other)"
_LATENCIES: Final = (0.0025, 0.01, 0.05, 0.25, 1, 5)


def metrics_blueprint(backend: Backend) -> Blueprint:
    """`GET /metrics`."""
    blueprint = Blueprint("metrics", __name__)
    reads = backend.reads

    @blueprint.get("/metrics")
    @access(Access.READ)
    @described("Metrics for Prometheus", {"text/plain": TEXT})
    async def metrics() -> Response:
        tenant = principal().tenant_id
        totals = await reads.totals(tenant)
        workers = await reads.workers()
        overview, tags = await reads.overview(), await tags_seen(backend)
        queues = [queue for queue in overview.queues if tags is None or queue.tag in tags]
        present = [
            *_runs(totals),
            *_workers(workers),
            *_schedules(backend.schedules.board.all(lambda each: tenant in (None, each.tenant_id))),
            *_streams(overview, queues),
            GaugeMetricFamily(
                "pyoco_nats_reconnects",
                "How often this process came back to NATS.",
                backend.connection.status.reconnects,
            ),
            *_actors(backend.system.tree()),
        ]
        text = exposition([*present, *reads.measures.registry.collect()])
        return Response(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)

    return blueprint


class Latencies:
    """Measures every answer, from its request's head being read to its own headers being ready."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Histogram(
            "pyoco_http_request_seconds",
            "Time to answer a request; of a stream, to begin it.",
            ["method", "route", "status"],
            buckets=_LATENCIES,
            registry=registry,
        )
        self._submits = Histogram(
            "pyoco_submit_seconds",
            "Time to accept a run: both of its writes acknowledged.",
            buckets=_LATENCIES,
            registry=registry,
        )

    def observe(self, call: Call, route: str | None, status: int) -> None:
        """Count an answer that is ready.

        Args:
            call: What is answered.
            route: The rule of its route; None for what is no route. That has one name: foreign paths and
                methods must not become labels.
            status: The status of the answer.
        """
        took = trio.current_time() - call.began
        method, rule = ("(none)", "(none)") if route is None else (call.method, route)
        self._answers.labels(method, rule, status).observe(took)
        if call.method == "POST" and route in {"/runs", "/runs/yaml"}:
            self._submits.observe(took)


def _runs(totals: Totals) -> Iterator[Metric]:
    every = dict.fromkeys(RunStatus, 0)
    yield _gauge("pyoco_runs_total", "Runs in the bucket, by status.", "status", every | totals.all)
    yield _gauge(
        "pyoco_runs_today_total",
        "Runs that changed last today (the local day), by status.",
        "status",
        every | totals.today,
    )
    yield GaugeMetricFamily(
        "pyoco_runs_scheduled", "Runs that wait for their time.", value=totals.scheduled
    )
    yield GaugeMetricFamily(
        "pyoco_runs_expired",
        "Runs in the bucket that had not started when they might not any more.",
        value=totals.expired,
    )
    yield _gauge(
        "pyoco_runs_late",
        "Runs that have not started, or not ended, by when that was expected, and still have not.",
        "what",
        totals.late,
    )


def _workers(workers: Iterable[tuple[WorkerRecord, WorkerState]]) -> Iterator[Metric]:
    alive = [record for record, state in workers if state.active]
    yield GaugeMetricFamily(
        "pyoco_workers_alive_total", "Workers that are RUNNING or IDLE.", value=len(alive)
    )
    slots = [slot for record in alive for slot in record.slots]
    busy = sum(slot.run_id is not None for slot in slots)
    yield _gauge(
        "pyoco_slots",
        "Slots of the workers that are alive, by what they do.",
        "state",
        {"busy": busy, "free": len(slots) - busy},
    )


def _schedules(schedules: Iterable[Schedule]) -> Iterator[Metric]:
    states = Counter(schedule.state for schedule in schedules)
    yield _gauge(
        "pyoco_schedules",
        "Schedules, by whether ticks of them are to come.",
        "state",
        {state: states[state] for state in ScheduleState},
    )


def _streams(overview: Overview, queues: Iterable[Queue]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "pyoco_dlq_messages_total", "Dead letters in their stream.", value=overview.dead_letters
    )
    for name, text in (
        ("pending", "Jobs that no worker has taken yet, by tag."),
        ("ack_pending", "Jobs that workers hold, by tag."),
        ("redelivered", "Jobs that workers hold and that were delivered before, by tag."),
        ("waiting_pulls", "Pulls of workers that wait for a job, by tag."),
    ):
        yield _gauge(
            f"pyoco_queue_{name.removesuffix('_pulls')}", text, "tag", _by_tag(queues, name)
        )
    yield GaugeMetricFamily(
        "pyoco_projector_lag", "Changes of runs that the read model has not got yet.", overview.lag
    )


def _by_tag(queues: Iterable[Queue], name: str) -> dict[str, int]:
    """A value of each queue; with many tags, of those that have most to do, and of all others together."""
    busy_first = sorted(queues, key=lambda queue: (-queue.pending - queue.ack_pending, queue.tag))
    values = {queue.tag: int(getattr(queue, name)) for queue in busy_first[:_MOST_TAGS]}
    if rest := busy_first[_MOST_TAGS:]:
        values[_OTHER_TAGS] = sum(int(getattr(queue, name)) for queue in rest)
    return values


def _actors(tree: TreeNode) -> Iterator[Metric]:
    nodes = list(tree.walk())
    yield _gauge(
        "pyoco_actor_restarts",
        "Restarts after crashes, by actor or supervisor.",
        "path",
        {node.path: node.restarts for node in nodes},
    )
    yield _gauge(
        "pyoco_actor_mailbox_depth",
        "Messages that wait, by actor.",
        "path",
        {node.path: node.mailbox.depth for node in nodes if node.mailbox is not None},
    )


def _gauge(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value_of_label, value in values.items():
        family.add_metric([value_of_label], value)
    return family


def exposition(metrics: Iterable[Metric]) -> bytes:
    """What `prometheus_client.generate_latest` makes of gauges and histograms, in a third less time.

    That looks in each line whether its names have to be escaped, which are constants here, and there are
    nine lines for each route that was ever asked.
    """
    text: list[str] = []
    for metric in metrics:
        text.append(f"# HELP {metric.name} {metric.documentation}\n")
        text.append(f"# TYPE {metric.name} {metric.type}\n")
        for name, labels, value, *_ in metric.samples:
            shown = ",".join([f'{key}="{_escaped(of)}"' for key, of in sorted(labels.items())])
            text.append(f"{name}{{{shown}}}" if shown else name)
            text.append(f" {floatToGoString(value)}\n")  # type: ignore[no-untyped-call]
    return "".join(text).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
