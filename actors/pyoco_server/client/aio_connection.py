"""How the client for trio programs reaches a gateway."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, Self, TypeVar

import httpx
import trio

from pyoco_server.client.download import Download
from pyoco_server.client.problem import HttpProblem
from pyoco_server.client.requests import ApiCall, Document, get, parse_object, with_params
from pyoco_server.client.retry import RetryPolicy
from pyoco_server.client.sse import SseParser
from pyoco_server.client.watch import Watch
from pyoco_server.client.wire import (
    DEFAULT_TIMEOUT_SECONDS,
    exhaust,
    made,
    remember,
    request_arguments,
)

T = TypeVar("T")


class AsyncCaller:
    """Calls a gateway; `AsyncPyocoHttpClient` says what it is made with."""

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
        headers = {api_key_header: api_key} if api_key else {}
        self._client = made(httpx.AsyncClient, base_url.rstrip("/"), headers, transport=transport)
        self._timeout_seconds = timeout_seconds
        self._retry = retry or RetryPolicy()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections.

        Example::

            await client.close()
        """
        await self._client.aclose()

    async def _run(self, call: ApiCall[T]) -> T:
        failures = 0
        while True:
            try:
                async with self._open(call, self._timeout_seconds) as response:
                    return call.read(await response.aread())
            except httpx.HTTPError as error:
                failures += 1
                pause = self._retry.pause(call, error, failures)
                if pause is None:
                    raise
            await trio.sleep(pause)

    async def _get(self, path: str, parse: Callable[[bytes], T] = parse_object, **params: Any) -> T:
        return await self._run(get(path, parse, **params))

    async def _send(
        self, method: str, path: str, parse: Callable[[bytes], T] = parse_object, **more: Any
    ) -> T:
        return await self._run(ApiCall(method, path, parse, **more))

    async def _download(
        self, name: str, call_from: Callable[[int], ApiCall[bytes]], to: BinaryIO
    ) -> str:
        download = Download(name, to)
        failures = 0
        while True:
            call = call_from(download.size)
            try:
                async with self._open(call, self._timeout_seconds) as response:
                    download.begin(response.status_code, response.headers.get("etag"))
                    async for piece in response.aiter_raw():
                        await trio.to_thread.run_sync(download.take, piece)
                return download.end()
            except httpx.HTTPError as error:
                failures += 1
                pause = self._retry.pause(call, error, failures)
                if pause is None:
                    raise
            await trio.sleep(pause)

    async def _pages(self, call: ApiCall[Document]) -> AsyncGenerator[Document, None]:
        cursor: str | None = None
        while True:
            page = await self._run(with_params(call, cursor=cursor))
            for item in page["items"]:
                yield item
            cursor = page["next_cursor"]
            if cursor is None:
                return

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

    def _deadline(self, within_seconds: float | None) -> float:
        return trio.current_time() + (math.inf if within_seconds is None else within_seconds)

    @asynccontextmanager
    async def _stream(
        self, call: ApiCall[Any], silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._open(call, silence_seconds) as response:
            call.check_stream(response.headers.get("content-type", ""))
            chunks = response.aiter_bytes()
            try:
                yield chunks
            finally:
                await response.aclose()
                await exhaust(chunks)

    @asynccontextmanager
    async def _open(
        self, call: ApiCall[Any], silence_seconds: float
    ) -> AsyncIterator[httpx.Response]:
        request = self._client.build_request(**request_arguments(call, silence_seconds))
        response = await self._client.send(request, stream=True)
        remember(self._client.headers, response)
        try:
            if not call.answered_by(response.status_code):
                await response.aread()
                raise HttpProblem.of(response)
            yield response
        finally:
            await response.aclose()
