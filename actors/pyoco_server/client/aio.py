"""The client for trio programs."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, BinaryIO, TypeVar, Unpack

import httpx
import trio

from pyoco_server.client import requests
from pyoco_server.client.aio_artifacts import AsyncArtifactCalls
from pyoco_server.client.aio_history import AsyncHistoryCalls
from pyoco_server.client.aio_overview import AsyncOverviewCalls
from pyoco_server.client.aio_wheels import AsyncWheelCalls
from pyoco_server.client.artifacts import Download
from pyoco_server.client.problem import HttpProblem
from pyoco_server.client.requests import Call, Document
from pyoco_server.client.retry import RetryPolicy
from pyoco_server.client.sse import SseParser
from pyoco_server.client.watch import SILENCE_SECONDS, Watch, decode_event, is_terminal, snapshot_of
from pyoco_server.client.wire import (
    CANCEL_POLL_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    cancel_wait_seconds,
    client_arguments,
    request_arguments,
)

T = TypeVar("T")


class AsyncPyocoHttpClient(
    AsyncHistoryCalls, AsyncArtifactCalls, AsyncWheelCalls, AsyncOverviewCalls
):
    """Talks to a gateway; one connection pool, to be closed (it is an async context manager).

    Its methods are those of :class:`PyocoHttpClient`, asynchronous. Each of them may be cancelled
    at any time; a call that was on its way may then have had its effect. Each raises
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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        arguments = client_arguments(base_url, api_key, api_key_header)
        self._client = httpx.AsyncClient(**arguments, transport=transport)
        self._timeout_seconds = timeout_seconds
        self._retry = retry or RetryPolicy()

    async def __aenter__(self) -> AsyncPyocoHttpClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def submit_run(
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
        return await self._run(
            requests.submit_run(
                flow_name,
                params,
                tag=tag,
                tags=tags,
                idempotency_key=self._retry.key(idempotency_key),
                **limits,
            )
        )

    async def submit_run_yaml(
        self,
        workflow_yaml: str,
        *,
        flow_name: str = "main",
        tag: str | None = None,
        idempotency_key: str | None = None,
        **limits: Unpack[requests.RunLimits],
    ) -> Document:
        """Submit a run of the flow.yaml whose text is given; return ``{run_id, status}``."""
        return await self._run(
            requests.submit_run_yaml(
                workflow_yaml,
                flow_name=flow_name,
                tag=tag,
                idempotency_key=self._retry.key(idempotency_key),
                **limits,
            )
        )

    async def submit_batch(self, runs: Sequence[Mapping[str, Any]]) -> Document:
        """Submit up to 1,000 runs; return ``{accepted, rejected, items}``, an item for each run in order.

        Args:
            runs: Of each ``flow_name`` and, where wanted, ``params, tag, tags, workflow_yaml,
                idempotency_key`` and the limits that :meth:`submit_run` takes.
        """
        keyed = [
            {**run, "idempotency_key": self._retry.key(run.get("idempotency_key"))} for run in runs
        ]
        return await self._run(requests.submit_batch(keyed))

    async def check_flow(self, workflow_yaml: str) -> Document:
        """Look at the text of a flow.yaml without running it; return its graph, tasks and digest.

        Raises:
            HttpProblem: 422 when it cannot be understood; its ``extra`` says where.
        """
        return await self._run(requests.check_flow(workflow_yaml))

    async def get_run(self, run_id: str) -> Document:
        """Return the snapshot of a run, without its task records."""
        return await self._run(requests.get_run(run_id))

    async def get_run_with_records(self, run_id: str) -> Document:
        """Return the snapshot of a run."""
        return await self._run(requests.get_run(run_id, include_records=True))

    async def cancel_run(
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
        snapshot = await self._run(
            requests.cancel_run(run_id, reason=reason, requested_by=requested_by)
        )
        deadline = trio.current_time() + cancel_wait_seconds(timeout_sec)
        while wait and not is_terminal(snapshot):
            if trio.current_time() >= deadline:
                raise TimeoutError(f"cancel wait timeout for run_id={run_id}")
            await trio.sleep(CANCEL_POLL_SECONDS)
            snapshot = await self.get_run(run_id)
        return snapshot

    async def get_tasks(self, run_id: str) -> Document:
        """Return the task states and task records of a run."""
        return await self._run(requests.get_tasks(run_id))

    async def list_runs(
        self,
        *,
        status: str | None = None,
        flow: str | None = None,
        tag: str | None = None,
        full: bool = False,
        limit: int | None = None,
    ) -> list[Document]:
        """Return runs, the newest change first."""
        page = await self._run(
            requests.list_runs(status=status, flow=flow, tag=tag, full=full, limit=limit)
        )
        items: list[Document] = page["items"]
        return items

    async def list_runs_vnext(
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
        return await self._run(
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

    async def watch_run(
        self,
        run_id: str,
        *,
        include_records: bool = False,
        since: float | None = None,
        timeout_sec: int | None = None,
    ) -> AsyncGenerator[Document, None]:
        """Give ``{event, data}`` as they come, until the gateway ends the stream.

        It is one connection, and what breaks it is raised; :meth:`watch` goes on instead. Leave
        it before its end only through ``contextlib.aclosing``, which closes the connection.
        """
        call = requests.watch_run(
            run_id, include_records=include_records, since=since, timeout_sec=timeout_sec
        )
        parser = SseParser()
        async with self._stream(call, SILENCE_SECONDS) as chunks:
            async for chunk in chunks:
                for event in parser.feed(chunk):
                    yield decode_event(event)

    async def watch(
        self,
        run_id: str,
        *,
        include_records: bool = False,
        since: float | None = None,
        within_seconds: float | None = None,
        until_terminal: bool = True,
    ) -> AsyncGenerator[Document, None]:
        """Give ``{event, data}`` as they come, over as many connections as it takes.

        A snapshot is not given twice in a row. A gateway that was there once may be away for a
        minute. Leave it before its end only through ``contextlib.aclosing``.

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
            deadline=trio.current_time() + limit,
            until_terminal=until_terminal,
            include_records=include_records,
            since=since,
            retry=self._retry,
        )
        async with aclosing(self._follow(watch)) as events:
            async for event in events:
                yield event

    async def wait_run(self, run_id: str, *, within_seconds: float | None = None) -> Document:
        """Wait for the end of a run; return its snapshot, with task records.

        Raises:
            TimeoutError: It has not ended after ``within_seconds``.
        """
        async with aclosing(self.watch(run_id, within_seconds=within_seconds)) as events:
            async for event in events:
                if is_terminal(snapshot_of(event)):
                    return await self.get_run_with_records(run_id)
        raise TimeoutError(f"run {run_id} has not ended after {within_seconds} s")

    async def _follow(self, watch: Watch) -> AsyncGenerator[Document, None]:
        while (call := watch.next_call(trio.current_time())) is not None:
            parser = SseParser()
            try:
                silence = watch.silence_seconds(trio.current_time())
                async with self._stream(call, silence) as chunks:
                    async for chunk in chunks:
                        for event in parser.feed(chunk):
                            told = watch.take(event, trio.current_time())
                            if told is not None:
                                yield told
                        if watch.ended:
                            return
            except httpx.HTTPError as error:
                pause = watch.after_failure(error, trio.current_time())
            else:
                pause = watch.after_end(trio.current_time())
            await trio.sleep(pause)

    async def _run(self, call: Call[T]) -> T:
        failures = 0
        while True:
            try:
                return call.read(await self._send(call))
            except httpx.HTTPError as error:
                failures += 1
                pause = self._retry.pause(call, error, failures)
                if pause is None:
                    raise
            await trio.sleep(pause)

    async def _send(self, call: Call[Any]) -> bytes:
        request = self._client.build_request(**request_arguments(call, self._timeout_seconds))
        response = await self._client.send(request)
        if not call.answered_by(response.status_code):
            raise HttpProblem.of(response)
        return response.content

    async def _download(
        self, name: str, call_from: Callable[[int], Call[bytes]], to: BinaryIO
    ) -> str:
        download = Download(name, to)
        failures = 0
        while True:
            call = call_from(download.size)
            try:
                await self._fetch(call, download)
            except httpx.HTTPError as error:
                failures += 1
                pause = self._retry.pause(call, error, failures)
                if pause is None:
                    raise
            else:
                return download.end()
            await trio.sleep(pause)

    async def _fetch(self, call: Call[bytes], download: Download) -> None:
        request = self._client.build_request(**request_arguments(call, self._timeout_seconds))
        response = await self._client.send(request, stream=True)
        try:
            if not call.answered_by(response.status_code):
                await response.aread()
                raise HttpProblem.of(response)
            download.begin(response.status_code, response.headers.get("etag"))
            async for piece in response.aiter_raw():
                await trio.to_thread.run_sync(download.take, piece)
        finally:
            await response.aclose()

    @asynccontextmanager
    async def _stream(
        self, call: Call[Any], silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        request = self._client.build_request(**request_arguments(call, silence_seconds))
        response = await self._client.send(request, stream=True)
        try:
            if not call.answered_by(response.status_code):
                await response.aread()
                raise HttpProblem.of(response)
            call.check_stream(response.headers.get("content-type", ""))
            chunks = response.aiter_bytes()
            try:
                yield chunks
            finally:
                await response.aclose()
                await _exhaust(chunks)
        finally:
            await response.aclose()


async def _exhaust(chunks: AsyncIterator[bytes]) -> None:
    """End the generators of a closed response.

    httpx nests several of them and closes none, and trio warns of each that is left to the garbage
    collector. Reading on a closed connection fails at once, which ends all of them in order.
    """
    with suppress(httpx.HTTPError, httpx.StreamError):
        async for _ in chunks:
            pass
