"""An installation as a whole: the part of the blocking client that looks at it.

It stands apart only for its length; `PyocoHttpClient` is what programs use.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar, Unpack

from pyoco_server.client import overview
from pyoco_server.client.overview import RunQuery, WorkerOrder, list_watch
from pyoco_server.client.requests import Call, Document
from pyoco_server.client.retry import RetryPolicy
from pyoco_server.client.watch import Watch

T = TypeVar("T")


class OverviewCalls:
    """Methods of `PyocoHttpClient`, which has the ways to the gateway that they use."""

    _retry: RetryPolicy

    def _run(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _follow(self, watch: Watch) -> Iterator[Document]:
        raise NotImplementedError

    def find_runs(
        self,
        *,
        full: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
        **query: Unpack[RunQuery],
    ) -> Document:
        """Return a page of runs by any filter, the newest change first, as ``{items, next_cursor}``."""
        return self._run(overview.find_runs(query, full=full, limit=limit, cursor=cursor))

    def follow_runs(
        self, *, within_seconds: float | None = None, **query: Unpack[RunQuery]
    ) -> Iterator[Document]:
        """Give the changes of a list of runs as they come, over lost connections without a gap.

        Each is ``{event, data}``. The first is ``hello``: what is listed now and the changes that
        follow miss nothing. Then ``run`` (``data["run"]`` as it is now), ``gone`` (``run_id`` is not in
        the list, or not any more), and ``reset`` (list again; too much was missed).

        Args:
            within_seconds: When to end; ``None`` for never.
            query: Which runs.
        """
        yield from self._follow(
            list_watch(
                query, now=time.monotonic(), within_seconds=within_seconds, retry=self._retry
            )
        )

    def count_runs(self, **query: Unpack[RunQuery]) -> Document:
        """Return how many runs there are: ``{counts: {status: count}, total, …}``."""
        return self._run(overview.count_runs(query))

    def get_queues(self) -> Document:
        """Return ``{queues, dead_letters}``: the jobs of each tag."""
        return self._run(overview.get_queues())

    def get_actors(self) -> Document:
        """Return ``{tree}``: the gateway's supervision tree."""
        return self._run(overview.get_actors())

    def get_workers(
        self,
        *,
        scope: str | None = None,
        state: str | None = None,
        include_hidden: bool | None = None,
        limit: int | None = None,
    ) -> list[Document]:
        """Return worker records, last seen first."""
        return self._run(
            overview.get_workers(
                scope=scope, state=state, include_hidden=include_hidden, limit=limit
            )
        )

    def patch_worker_hidden(self, worker_id: str, *, hidden: bool) -> Document:
        """Hide a worker from lists, or show it again."""
        return self._run(overview.patch_worker_hidden(worker_id, hidden=hidden))

    def order_worker(self, worker_id: str, order: WorkerOrder) -> Document:
        """Tell a worker to pause, resume or drain; return what is stored of that."""
        return self._run(overview.order_worker(worker_id, order))

    def get_metrics(self) -> str:
        """Return the metrics in Prometheus' text format."""
        return self._run(overview.get_metrics())

    def get_stats(self, *, minutes: int | None = None) -> Document:
        """Return ``{minutes: [...]}``: what happened in each of the last minutes (60 unless told)."""
        return self._run(overview.get_stats(minutes=minutes))

    def get_health(self) -> Document:
        """Return ``{status}`` of the gateway's process."""
        return self._run(overview.get_health())

    def get_ready(self) -> Document:
        """Return ``{status, reasons, nats}``; that the gateway is not ready is no error here."""
        return self._run(overview.get_ready())

    def get_api_description(self) -> Document:
        """Return the gateway's OpenAPI document."""
        return self._run(overview.get_api_description())
