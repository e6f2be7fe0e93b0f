"""The client for programs without an event loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar, Unpack

import httpx

from pyoco_server.client import requests
from pyoco_server.client.artifacts import Download
from pyoco_server.client.problem import HttpProblem
from pyoco_server.client.requests import Call, Document
from pyoco_server.client.retry import RetryPolicy
from pyoco_server.client.sse import SseParser
from pyoco_server.client.sync_artifacts import ArtifactCalls
from pyoco_server.client.sync_history import HistoryCalls
from pyoco_server.client.sync_overview import OverviewCalls
from pyoco_server.client.sync_wheels import WheelCalls
from pyoco_server.client.watch import SILENCE_SECONDS, Watch, decode_event, is_terminal, snapshot_of
from pyoco_server.client.wire import (
    CANCEL_POLL_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    cancel_wait_seconds,
    client_arguments,
    request_arguments,
)

T = TypeVar("T")


class PyocoHttpClient(HistoryCalls, ArtifactCalls, WheelCalls, OverviewCalls):
    """Talks to a gateway; one connection pool, to be closed (it is a context manager).

    Names, arguments and results of its methods are those of pyoco-server 0.5.1. Each of them raises
    :class:`HttpProblem` for an answer that is no success, another ``httpx.HTTPError`` when the
    gateway cannot be reached, and ``UnexpectedAnswer`` (a ``ValueError``) when something else
    answers at that URL.

    Args:
        base_url: Where the gateway is, e.g. ``http://127.0.0.1:8000``; a path in it is kept.
        api_key: The key, under authentication.
        api_key_header: The header that carries it.
        timeout_seconds: How long the gateway may stay silent.
        retry: When a failed call is sent again.
        transport: Another way to the gateway, for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        api_key_header: str = "X-API-Key",
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        arguments = client_arguments(base_url, api_key, api_key_header)
        self._client = httpx.Client(**arguments, transport=transport)
        self._timeout_seconds = timeout_seconds
        self._retry = retry or RetryPolicy()

    def __enter__(self) -> PyocoHttpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def submit_run(
        self,
        flow_name: str,
        params: Mapping[str, Any] | None = None,
        *,
        tag: str | None = None,
        tags: list[str] | None = None,
        idempotency_key: str | None = None,
        **limits: Unpack[requests.RunLimits],
    ) -> Document:
        """Submit a run of a flow that the workers know; return ``{run_id, status}``.

        The gateway takes all submits with the same ``idempotency_key`` for one. Where none is
        given and the client may repeat the call, it sends a new one, so that repeating it is safe.
        A gateway of version 0.5.1 does not know keys: use ``RetryPolicy(attempts=1)`` with it.
        """
        return self._run(
            requests.submit_run(
                flow_name,
                params,
                tag=tag,
                tags=tags,
                idempotency_key=self._retry.key(idempotency_key),
                **limits,
            )
        )

    def submit_run_yaml(
        self,
        workflow_yaml: str,
        *,
        flow_name: str = "main",
        tag: str | None = None,
        idempotency_key: str | None = None,
        **limits: Unpack[requests.RunLimits],
    ) -> Document:
        """Submit a run of the flow.yaml whose text is given; return ``{run_id, status}``."""
        return self._run(
            requests.submit_run_yaml(
                workflow_yaml,
                flow_name=flow_name,
                tag=tag,
                idempotency_key=self._retry.key(idempotency_key),
                **limits,
            )
        )

    def submit_batch(self, runs: Sequence[Mapping[str, Any]]) -> Document:
        """Submit up to 1,000 runs; return ``{accepted, rejected, items}``, an item for each run in order.

        Args:
            runs: Of each ``flow_name`` and, where wanted, ``params, tag, tags, workflow_yaml,
                idempotency_key`` and the limits that :meth:`submit_run` takes.
        """
        keyed = [
            {**run, "idempotency_key": self._retry.key(run.get("idempotency_key"))} for run in runs
        ]
        return self._run(requests.submit_batch(keyed))

    def check_flow(self, workflow_yaml: str) -> Document:
        """Look at the text of a flow.yaml without running it; return its graph, tasks and digest.

        Raises:
            HttpProblem: 422 when it cannot be understood; its ``extra`` says where.
        """
        return self._run(requests.check_flow(workflow_yaml))

    def get_run(self, run_id: str) -> Document:
        """Return the snapshot of a run, without its task records."""
        return self._run(requests.get_run(run_id))

    def get_run_with_records(self, run_id: str) -> Document:
        """Return the snapshot of a run."""
        return self._run(requests.get_run(run_id, include_records=True))

    def cancel_run(
        self,
        run_id: str,
        *,
        wait: bool = False,
        timeout_sec: int | None = None,
        reason: str | None = None,
        requested_by: str | None = None,
    ) -> Document:
        """Ask for the end of a run; return its snapshot, with ``wait`` that of its end.

        Raises:
            TimeoutError: The run has not ended after ``timeout_sec`` seconds (default 30).
        """
        snapshot = self._run(requests.cancel_run(run_id, reason=reason, requested_by=requested_by))
        deadline = time.monotonic() + cancel_wait_seconds(timeout_sec)
        while wait and not is_terminal(snapshot):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"cancel wait timeout for run_id={run_id}")
            time.sleep(CANCEL_POLL_SECONDS)
            snapshot = self.get_run(run_id)
        return snapshot

    def get_tasks(self, run_id: str) -> Document:
        """Return the task states and task records of a run."""
        return self._run(requests.get_tasks(run_id))

    def list_runs(
        self,
        *,
        status: str | None = None,
        flow: str | None = None,
        tag: str | None = None,
        full: bool = False,
        limit: int | None = None,
    ) -> list[Document]:
        """Return runs, the newest change first."""
        page = self._run(
            requests.list_runs(status=status, flow=flow, tag=tag, full=full, limit=limit)
        )
        items: list[Document] = page["items"]
        return items

    def list_runs_vnext(
        self,
        *,
        status: str | None = None,
        flow: str | None = None,
        tag: str | None = None,
        full: bool = False,
        limit: int | None = None,
        updated_after: float | None = None,
        cursor: str | None = None,
        workflow_yaml_sha256: str | None = None,
    ) -> Document:
        """Return a page of runs as ``{items, next_cursor}``."""
        return self._run(
            requests.list_runs(
                status=status,
                flow=flow,
                tag=tag,
                full=full,
                limit=limit,
                updated_after=updated_after,
                cursor=cursor,
                workflow_yaml_sha256=workflow_yaml_sha256,
            )
        )

    def watch_run(
        self,
        run_id: str,
        *,
        include_records: bool = False,
        since: float | None = None,
        timeout_sec: int | None = None,
    ) -> Iterator[Document]:
        """Give ``{event, data}`` as they come, until the gateway ends the stream.

        It is one connection, and what breaks it is raised; :meth:`watch` goes on instead.
        """
        call = requests.watch_run(
            run_id, include_records=include_records, since=since, timeout_sec=timeout_sec
        )
        parser = SseParser()
        with self._stream(call, SILENCE_SECONDS) as response:
            for chunk in response.iter_bytes():
                for event in parser.feed(chunk):
                    yield decode_event(event)

    def watch(
        self,
        run_id: str,
        *,
        include_records: bool = False,
        since: float | None = None,
        within_seconds: float | None = None,
        until_terminal: bool = True,
    ) -> Iterator[Document]:
        """Give ``{event, data}`` as they come, over as many connections as it takes.

        A snapshot is not given twice in a row. A gateway that was there once may be away for a
        minute.

        Args:
            run_id: The run.
            include_records: Whether snapshots carry their task records.
            since: Least ``updated_at`` of a snapshot, in unix seconds.
            within_seconds: When to end in any case; ``None`` for never.
            until_terminal: Whether to end with the run.
        """
        limit = math.inf if within_seconds is None else within_seconds
        watch = Watch(
            run_id,
            deadline=time.monotonic() + limit,
            until_terminal=until_terminal,
            include_records=include_records,
            since=since,
            retry=self._retry,
        )
        yield from self._follow(watch)

    def wait_run(self, run_id: str, *, within_seconds: float | None = None) -> Document:
        """Wait for the end of a run; return its snapshot, with task records.

        Raises:
            TimeoutError: It has not ended after ``within_seconds``.
        """
        for event in self.watch(run_id, within_seconds=within_seconds):
            if is_terminal(snapshot_of(event)):
                return self.get_run_with_records(run_id)
        raise TimeoutError(f"run {run_id} has not ended after {within_seconds} s")

    def _follow(self, watch: Watch) -> Iterator[Document]:
        while (call := watch.next_call(time.monotonic())) is not None:
            parser = SseParser()
            try:
                silence = watch.silence_seconds(time.monotonic())
                with self._stream(call, silence) as response:
                    for chunk in response.iter_bytes():
                        for event in parser.feed(chunk):
                            told = watch.take(event, time.monotonic())
                            if told is not None:
                                yield told
                        if watch.ended:
                            return
            except httpx.HTTPError as error:
                pause = watch.after_failure(error, time.monotonic())
            else:
                pause = watch.after_end(time.monotonic())
            time.sleep(pause)

    def _run(self, call: Call[T]) -> T:
        failures = 0
        while True:
            try:
                return call.read(self._send(call))
            except httpx.HTTPError as error:
                failures += 1
                pause = self._retry.pause(call, error, failures)
                if pause is None:
                    raise
            time.sleep(pause)

    def _send(self, call: Call[Any]) -> bytes:
        request = self._client.build_request(**request_arguments(call, self._timeout_seconds))
        response = self._client.send(request)
        if not call.answered_by(response.status_code):
            raise HttpProblem.of(response)
        return response.content

    def _download(self, name: str, call_from: Callable[[int], Call[bytes]], to: BinaryIO) -> str:
        download = Download(name, to)
        failures = 0
        while True:
            call = call_from(download.size)
            try:
                self._fetch(call, download)
            except httpx.HTTPError as error:
                failures += 1
                pause = self._retry.pause(call, error, failures)
                if pause is None:
                    raise
            else:
                return download.end()
            time.sleep(pause)

    def _fetch(self, call: Call[bytes], download: Download) -> None:
        request = self._client.build_request(**request_arguments(call, self._timeout_seconds))
        response = self._client.send(request, stream=True)
        try:
            if not call.answered_by(response.status_code):
                response.read()
                raise HttpProblem.of(response)
            download.begin(response.status_code, response.headers.get("etag"))
            for piece in response.iter_raw():
                download.take(piece)
        finally:
            response.close()

    @contextmanager
    def _stream(self, call: Call[Any], silence_seconds: float) -> Iterator[httpx.Response]:
        request = self._client.build_request(**request_arguments(call, silence_seconds))
        response = self._client.send(request, stream=True)
        try:
            if not call.answered_by(response.status_code):
                response.read()
                raise HttpProblem.of(response)
            call.check_stream(response.headers.get("content-type", ""))
            yield response
        finally:
            response.close()
