"""What happened in runs and what became of jobs: the part of the trio client that reads it.

It stands apart only for its length; `AsyncPyocoHttpClient` is what programs use.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

import trio

from pyoco_server.client import history
from pyoco_server.client.history import event_watch
from pyoco_server.client.requests import Call, Document, with_params
from pyoco_server.client.retry import RetryPolicy
from pyoco_server.client.watch import Watch

T = TypeVar("T")


class AsyncHistoryCalls:
    """Methods of `AsyncPyocoHttpClient`, which has the ways to the gateway that they use."""

    _retry: RetryPolicy

    async def _run(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _follow(self, watch: Watch) -> AsyncGenerator[Document, None]:
        raise NotImplementedError

    async def get_graph(self, run_id: str) -> Document:
        """Return what the flow of a run looks like: ``nodes`` and ``edges``.

        Raises:
            HttpProblem: 404 also while that is not known.
        """
        return await self._run(history.get_graph(run_id))

    async def events(
        self,
        run_id: str,
        *,
        types: Sequence[str] = (),
        cursor: str | None = None,
        follow: bool = False,
        within_seconds: float | None = None,
    ) -> AsyncGenerator[Document, None]:
        """Give what happened in a run, in order; with ``follow`` until its end.

        Following goes on over lost connections, without gap or repetition. Leave it before
        its end only through ``contextlib.aclosing``.

        Args:
            run_id: The run.
            types: Which events, such as ``state`` or ``log``; all when empty.
            cursor: Begin behind the event with this ``id``.
            follow: Whether to wait for what comes.
            within_seconds: When to end following in any case; ``None`` for never.
        """
        first = history.get_events(run_id, types=tuple(types), cursor=cursor)
        if follow:
            async with aclosing(self._events_coming(run_id, first, within_seconds)) as events:
                async for event in events:
                    yield event
        else:
            async with aclosing(self._events_stored(first)) as events:
                async for event in events:
                    yield event

    async def logs(
        self,
        run_id: str,
        *,
        task: str | None = None,
        stream: str | None = None,
        attempt: int | None = None,
        since: float | None = None,
        tail: int | None = None,
        follow: bool = False,
        within_seconds: float | None = None,
    ) -> AsyncGenerator[Document, None]:
        """Give what a run printed: events of the types ``log`` and ``truncated``, as `events` does.

        Args:
            run_id: The run.
            task: Only what this task printed.
            stream: Only ``stdout`` or only ``stderr``.
            attempt: Only what this attempt printed.
            since: Only what was printed then or later, in unix seconds.
            tail: Of what is stored, only that many lines, the last ones.
            follow: Whether to wait for what comes, until the run's end.
            within_seconds: When to end following in any case; ``None`` for never.
        """
        first = history.get_logs(run_id, task=task, stream=stream, attempt=attempt, since=since)
        if tail is not None:
            last = await self._run(with_params(first, tail=tail))
            for item in last["items"]:
                yield item
            if not follow:
                return
            first = with_params(first, cursor=last["position"])
        if follow:
            async with aclosing(self._events_coming(run_id, first, within_seconds)) as events:
                async for event in events:
                    yield event
        else:
            async with aclosing(self._events_stored(first)) as events:
                async for event in events:
                    yield event

    async def retry_run(self, run_id: str) -> Document:
        """Submit a run that has ended again, as a new one; return ``{run_id, status, retry_of}``.

        Raises:
            HttpProblem: 409 when it has not ended, or when its flow.yaml is not kept.
        """
        return await self._run(history.retry_run(run_id))

    async def list_dead_letters(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        reason: str | None = None,
        tag: str | None = None,
        run_id: str | None = None,
    ) -> Document:
        """Return a page of dead letters, the newest first, as ``{items, next_cursor}``."""
        return await self._run(
            history.list_dead_letters(
                limit=limit, cursor=cursor, reason=reason, tag=tag, run_id=run_id
            )
        )

    async def get_dead_letter(self, seq: int) -> Document:
        """Return a dead letter."""
        return await self._run(history.get_dead_letter(seq))

    async def requeue_dead_letter(self, seq: int) -> Document:
        """Submit what a dead letter is about again; return ``{run_id, status, retried_from}``.

        Raises:
            HttpProblem: 409 when the letter does not tell enough for that.
        """
        return await self._run(history.requeue_dead_letter(seq))

    async def drop_dead_letter(self, seq: int) -> Document:
        """Delete a dead letter."""
        return await self._run(history.drop_dead_letter(seq))

    async def _events_stored(self, first: Call[Document]) -> AsyncGenerator[Document, None]:
        call: Call[Document] = first
        while True:
            page = await self._run(call)
            for item in page["items"]:
                yield item
            if page["next_cursor"] is None:
                return
            call = with_params(first, cursor=page["next_cursor"])

    async def _events_coming(
        self, run_id: str, first: Call[Document], within_seconds: float | None
    ) -> AsyncGenerator[Document, None]:
        watch = event_watch(
            first,
            run_id=run_id,
            now=trio.current_time(),
            within_seconds=within_seconds,
            cursor=first.params.get("cursor"),
            retry=self._retry,
        )
        async with aclosing(self._follow(watch)) as events:
            async for event in events:
                yield event
