"""What happened in runs and what became of jobs: the part of the blocking client that reads it.

It stands apart only for its length; `PyocoHttpClient` is what programs use.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from pyoco_server.client import history
from pyoco_server.client.history import event_watch
from pyoco_server.client.requests import Call, Document, with_params
from pyoco_server.client.retry import RetryPolicy
from pyoco_server.client.watch import Watch

T = TypeVar("T")


class HistoryCalls:
    """Methods of `PyocoHttpClient`, which has the ways to the gateway that they use."""

    _retry: RetryPolicy

    def _run(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _follow(self, watch: Watch) -> Iterator[Document]:
        raise NotImplementedError

    def get_graph(self, run_id: str) -> Document:
        """Return what the flow of a run looks like: ``nodes`` and ``edges``.

        Raises:
            HttpProblem: 404 also while that is not known.
        """
        return self._run(history.get_graph(run_id))

    def events(
        self,
        run_id: str,
        *,
        types: Sequence[str] = (),
        cursor: str | None = None,
        follow: bool = False,
        within_seconds: float | None = None,
    ) -> Iterator[Document]:
        """Give what happened in a run, in order; with ``follow`` until its end.

        Following goes on over lost connections, without gap or repetition.

        Args:
            run_id: The run.
            types: Which events, such as ``state`` or ``log``; all when empty.
            cursor: Begin behind the event with this ``id``.
            follow: Whether to wait for what comes.
            within_seconds: When to end following in any case; ``None`` for never.
        """
        first = history.get_events(run_id, types=tuple(types), cursor=cursor)
        if follow:
            yield from self._events_coming(run_id, first, within_seconds)
        else:
            yield from self._events_stored(first)

    def logs(
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
    ) -> Iterator[Document]:
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
            last = self._run(with_params(first, tail=tail))
            yield from last["items"]
            if not follow:
                return
            first = with_params(first, cursor=last["position"])
        if follow:
            yield from self._events_coming(run_id, first, within_seconds)
        else:
            yield from self._events_stored(first)

    def retry_run(self, run_id: str) -> Document:
        """Submit a run that has ended again, as a new one; return ``{run_id, status, retry_of}``.

        Raises:
            HttpProblem: 409 when it has not ended, or when its flow.yaml is not kept.
        """
        return self._run(history.retry_run(run_id))

    def list_dead_letters(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        reason: str | None = None,
        tag: str | None = None,
        run_id: str | None = None,
    ) -> Document:
        """Return a page of dead letters, the newest first, as ``{items, next_cursor}``."""
        return self._run(
            history.list_dead_letters(
                limit=limit, cursor=cursor, reason=reason, tag=tag, run_id=run_id
            )
        )

    def get_dead_letter(self, seq: int) -> Document:
        """Return a dead letter."""
        return self._run(history.get_dead_letter(seq))

    def requeue_dead_letter(self, seq: int) -> Document:
        """Submit what a dead letter is about again; return ``{run_id, status, retried_from}``.

        Raises:
            HttpProblem: 409 when the letter does not tell enough for that.
        """
        return self._run(history.requeue_dead_letter(seq))

    def drop_dead_letter(self, seq: int) -> Document:
        """Delete a dead letter."""
        return self._run(history.drop_dead_letter(seq))

    def _events_stored(self, first: Call[Document]) -> Iterator[Document]:
        call: Call[Document] = first
        while True:
            page = self._run(call)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            call = with_params(first, cursor=page["next_cursor"])

    def _events_coming(
        self, run_id: str, first: Call[Document], within_seconds: float | None
    ) -> Iterator[Document]:
        yield from self._follow(
            event_watch(
                first,
                run_id=run_id,
                now=time.monotonic(),
                within_seconds=within_seconds,
                cursor=first.params.get("cursor"),
                retry=self._retry,
            )
        )
