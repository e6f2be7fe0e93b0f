# Written by tests/contract/unasync.py from aio.py: change that and run `uv run poe client`.
"""The client for programs without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from pyoco_server.client.requests import (
    Document,
    FilePart,
    WorkerOrder,
    get_bytes,
    given,
    parse_objects,
    parse_readiness,
    parse_text,
    path_of,
)
from pyoco_server.client.sync_schedules import ScheduleCalls

if TYPE_CHECKING:
    from pyoco_server.client.answers import (
        ActorTreeDict,
        DeadLetterDroppedDict,
        DeadLetterItemDict,
        DeadLetterPageDict,
        HealthDict,
        QueuesDict,
        ReadyAnswerDict,
        StatsDict,
        SubmittedDict,
        WheelDeletedDict,
        WheelEventDict,
        WheelItemDict,
        WhoamiDict,
        WorkerHiddenDict,
        WorkerOrderedDict,
        WorkerRecordDict,
    )


class PyocoHttpClient(ScheduleCalls):
    """Talks to a gateway; one connection pool, to be closed (it is a context manager).

    Names, arguments and results of the methods that 0.5.1 had are unchanged.

    Each raises ``HttpProblem`` for an answer that is no success, another ``httpx.HTTPError``
    when the gateway cannot be reached, and ``UnexpectedAnswer`` (a ``ValueError``) when something
    else answers at that URL. Making one raises ``httpx.ProxyError`` where the environment names a proxy
    that cannot be used.

    The examples take a ``client`` as given, the ``run_id`` of a run, and so on.

    Args:
        base_url: Where the gateway is, e.g. ``http://127.0.0.1:8000``; a path in it is kept.
        api_key: The key, under authentication.
        api_key_header: The header that carries it.
        timeout_seconds: How long the gateway may stay silent.
        retry: When a failed call is sent again.
        transport: Another way to the gateway, for tests.
    """

    def list_dead_letters(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        reason: str | None = None,
        tag: str | None = None,
        run_id: str | None = None,
    ) -> DeadLetterPageDict:
        """Return a page of dead letters, the newest first, as ``{items, next_cursor}``.

        Example::

            page = client.list_dead_letters(reason="execution_error", limit=10)
            print([letter["error"] for letter in page["items"]])
        """
        return self._get("/dlq", limit=limit, cursor=cursor, reason=reason, tag=tag, run_id=run_id)

    def get_dead_letter(self, seq: int) -> DeadLetterItemDict:
        """Return a dead letter.

        Example::

            letter = client.get_dead_letter(seq)
            print(letter["reason"])  # execution_error
        """
        return self._get(path_of("dlq", int(seq)))

    def requeue_dead_letter(self, seq: int) -> SubmittedDict:
        """Submit what a dead letter is about again; return ``{run_id, status, retried_from}``.

        Raises:
            HttpProblem: 409 when the letter does not tell enough for that.

        Example::

            run = client.requeue_dead_letter(seq)
            print(run["status"])  # PENDING
        """
        # Not repeatable: the letter is gone after it.
        return self._send("POST", path_of("dlq", int(seq), "requeue"))

    def drop_dead_letter(self, seq: int) -> DeadLetterDroppedDict:
        """Delete a dead letter.

        Example::

            client.drop_dead_letter(seq)
        """
        # Not repeatable: a second one does not find it.
        return self._send("DELETE", path_of("dlq", int(seq)))

    def get_queues(self) -> QueuesDict:
        """Return ``{queues, dead_letters}``: the jobs of each tag.

        Example::

            answer = client.get_queues()
            print({queue["tag"]: queue["waiting_reason"] for queue in answer["queues"]})
        """
        return self._get("/queues")

    def whoami(self) -> WhoamiDict:
        """Return ``{tenant_id, key_id, roles, version}``: whose this client's key is, and what it may do.

        Example::

            print((client.whoami())["roles"])  # ['submit', 'operate', 'admin']
        """
        return self._get("/whoami")

    def get_actors(self) -> ActorTreeDict:
        """Return ``{tree}``: the gateway's supervision tree.

        Example::

            answer = client.get_actors()
            print(answer["tree"]["state"])  # supervising
        """
        return self._get("/actors")

    def get_workers(
        self,
        *,
        scope: str | None = None,
        state: str | None = None,
        include_hidden: bool | None = None,
        tag: str | None = None,
        limit: int | None = None,
    ) -> list[WorkerRecordDict]:
        """Return worker records, last seen first.

        Example::

            workers = client.get_workers(tag="hello")
            print([worker["worker_id"] for worker in workers])  # ['w1']
        """
        return self._get(
            "/workers",
            parse_objects,
            scope=scope,
            state=state,
            include_hidden=include_hidden,
            tag=tag,
            limit=limit,
        )

    def patch_worker_hidden(self, worker_id: str, *, hidden: bool) -> WorkerHiddenDict:
        """Hide a worker from lists, or show it again.

        Example::

            client.patch_worker_hidden("w1", hidden=True)
        """
        path = path_of("workers", worker_id)
        body = {"hidden": bool(hidden)}
        return self._send("PATCH", path, json=body, repeatable=True)

    def order_worker(
        self,
        worker_id: str,
        order: WorkerOrder,
        *,
        reason: str | None = None,
        requested_by: str | None = None,
    ) -> WorkerOrderedDict:
        """Tell a worker to pause, resume or drain; return what is stored of that.

        ``reason`` is for people. Who asks is the API key, or ``requested_by`` where no keys are asked for.

        Example::

            worker = client.order_worker("w1", "pause", reason="disk is full")
            print(worker["paused"])  # True
        """
        path = path_of("workers", worker_id, order)
        body = given(reason=reason, requested_by=requested_by) or None
        return self._send("POST", path, json=body, repeatable=True)

    def list_wheels(self, *, all_tenants: bool | None = None) -> list[WheelItemDict]:
        """Return the wheels of the registry, by name; those of all tenants for an admin's key.

        Example::

            wheels = client.list_wheels()
            print([wheel["name"] for wheel in wheels])
        """
        return self._get("/wheels", parse_objects, all_tenants=all_tenants)

    def list_wheel_history(
        self,
        *,
        limit: int | None = None,
        wheel_name: str | None = None,
        action: str | None = None,
        all_tenants: bool | None = None,
    ) -> list[WheelEventDict]:
        """Return uploads and deletions of wheels, the newest first; of all tenants for an admin's key.

        Example::

            uploads = client.list_wheel_history(action="upload", limit=10)
            print([upload["wheel_name"] for upload in uploads])
        """
        query = {"limit": limit, "wheel_name": wheel_name, "action": action}
        return self._get("/wheels/history", parse_objects, **query, all_tenants=all_tenants)

    def upload_wheel(
        self,
        *,
        filename: str,
        data: bytes | BinaryIO,
        replace: bool = True,
        tags: list[str] | None = None,
        shared: bool = False,
    ) -> WheelItemDict:
        """Upload a wheel, as bytes or from an open file; without tags it is for every worker.

        Under authentication it belongs to the key's tenant, unless it is ``shared`` with all.

        Example::

            with open(wheel_name, "rb") as file:
                wheel = client.upload_wheel(filename=wheel_name, data=file, tags=["cpu"])
        """
        form = {
            "replace": "true" if replace else "false",
            "shared": "true" if shared else "false",
        }
        if tags:
            form["tags"] = ",".join(tag.strip() for tag in tags if tag.strip())
        # An open file is sent in pieces.
        upload = FilePart("wheel", filename, data, "application/octet-stream")
        return self._send("POST", "/wheels", form=form, upload=upload)

    def download_wheel(self, wheel_name: str, to: BinaryIO) -> str:
        """Write a wheel into an open file, piece by piece; return its SHA-256 in hex.

        A broken connection is taken up again where it broke.

        Raises:
            DamagedDownload: What came is not what was uploaded.

        Example::

            with open(wheel_name, "wb") as file:
                sha256 = client.download_wheel(wheel_name, file)
        """
        path = path_of("wheels", wheel_name)
        return self._download(wheel_name, lambda start: get_bytes(path, start), to)

    def delete_wheel(self, wheel_name: str) -> WheelDeletedDict:
        """Delete a wheel.

        Example::

            client.delete_wheel(wheel_name)
        """
        # Not repeatable: a second one does not find it.
        return self._send("DELETE", path_of("wheels", wheel_name))

    def get_metrics(self) -> str:
        """Return the metrics in Prometheus' text format.

        Example::

            text = client.get_metrics()
            print([line for line in text.splitlines() if line.startswith("pyoco_runs")])
        """
        return self._get("/metrics", parse_text)

    def get_stats(
        self,
        minutes: int | None = None,
        *,
        step_minutes: int | None = None,
        percentiles: bool | None = None,
    ) -> StatsDict:
        """Return ``{minutes: [...]}``: what happened in each of the last minutes (60 unless told).

        More than a day is told in steps of several minutes.

        Args:
            minutes: How many, up to 30 days.
            step_minutes: How many of them are one of the answer's, which has at most 1,440.
            percentiles: Whether p50, p95 and p99 of waits and runs come as well.

        Example::

            stats = client.get_stats(15)
            print(len(stats["minutes"]))  # 15
        """
        return self._get(
            "/stats", minutes=minutes, step_minutes=step_minutes, percentiles=percentiles
        )

    def get_health(self) -> HealthDict:
        """Return ``{status}`` of the gateway's process.

        Example::

            answer = client.get_health()
            print(answer["status"])  # ok
        """
        return self._get("/health")

    def get_ready(self) -> ReadyAnswerDict:
        """Return ``{status, reasons, nats}``; that the gateway is not ready is no error here.

        Example::

            answer = client.get_ready()
            print(answer["status"], answer["reasons"])  # ready []
        """
        return self._send("GET", "/health/ready", parse_readiness, repeatable=True, also=503)

    def get_api_description(self) -> Document:
        """Return the gateway's OpenAPI document.

        Example::

            document = client.get_api_description()
            print("/runs" in document["paths"])  # True
        """
        return self._get("/openapi.json")
