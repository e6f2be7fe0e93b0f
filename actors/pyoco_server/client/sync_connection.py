# Written by tests/contract/unasync.py from aio_connection.py: change that and run `uv run poe client`.
"""How the client for programs without an event loop reaches a gateway."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Self, TypeVar

import httpx

from pyoco_server.client.download import Download
from pyoco_server.client.problem import HttpProblem
from pyoco_server.client.requests import ApiCall, Document, get, parse_object, with_params
from pyoco_server.client.retry import RetryPolicy
from pyoco_server.client.sse import SseParser
from pyoco_server.client.watch import Watch
from pyoco_server.client.wire import (
    DEFAULT_TIMEOUT_SECONDS,
    made,
    remember,
    request_arguments,
)

T = TypeVar("T")


class Caller:
    """Calls a gateway; `PyocoHttpClient` says what it is made with."""

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
        headers = {api_key_header: api_key} if api_key else {}
        self._client = made(httpx.Client, base_url.rstrip("/"), headers, transport=transport)
        self._timeout_seconds = timeout_seconds
        self._retry = retry or RetryPolicy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections.

        Example::

            client.close()
        """
        self._client.close()

    def _run(self, call: ApiCall[T]) -> T:
        failures = 0
        while True:
            try:
                with self._open(call, self._timeout_seconds) as response:
                    return call.read(response.read())
            except httpx.HTTPError as error:
                failures += 1
                pause = self._retry.pause(call, error, failures)
                if pause is None:
                    raise
            time.sleep(pause)

    def _get(self, path: str, parse: Callable[[bytes], T] = parse_object, **params: Any) -> T:
        return self._run(get(path, parse, **params))

    def _send(
        self, method: str, path: str, parse: Callable[[bytes], T] = parse_object, **more: Any
    ) -> T:
        return self._run(ApiCall(method, path, parse, **more))

    def _download(self, name: str, call_from: Callable[[int], ApiCall[bytes]], to: BinaryIO) -> str:
        download = Download(name, to)
        failures = 0
        while True:
            call = call_from(download.size)
            try:
                with self._open(call, self._timeout_seconds) as response:
                    download.begin(response.status_code, response.headers.get("etag"))
                    for piece in response.iter_raw():
                        download.take(piece)
                return download.end()
            except httpx.HTTPError as error:
                failures += 1
                pause = self._retry.pause(call, error, failures)
                if pause is None:
                    raise
            time.sleep(pause)

    def _pages(self, call: ApiCall[Document]) -> Generator[Document, None, None]:
        cursor: str | None = None
        while True:
            page = self._run(with_params(call, cursor=cursor))
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _follow(self, watch: Watch) -> Generator[Document, None, None]:
        while (call := watch.next_call(time.monotonic())) is not None:
            parser = SseParser()
            try:
                silence = watch.silence_seconds(time.monotonic())
                with self._stream(call, silence) as chunks:
                    for chunk in chunks:
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

    def _deadline(self, within_seconds: float | None) -> float:
        return time.monotonic() + (math.inf if within_seconds is None else within_seconds)

    @contextmanager
    def _stream(self, call: ApiCall[Any], silence_seconds: float) -> Iterator[Iterator[bytes]]:
        with self._open(call, silence_seconds) as response:
            call.check_stream(response.headers.get("content-type", ""))
            chunks = response.iter_bytes()
            try:
                yield chunks
            finally:
                response.close()

    @contextmanager
    def _open(self, call: ApiCall[Any], silence_seconds: float) -> Iterator[httpx.Response]:
        request = self._client.build_request(**request_arguments(call, silence_seconds))
        response = self._client.send(request, stream=True)
        remember(self._client.headers, response)
        try:
            if not call.answered_by(response.status_code):
                response.read()
                raise HttpProblem.of(response)
            yield response
        finally:
            response.close()
