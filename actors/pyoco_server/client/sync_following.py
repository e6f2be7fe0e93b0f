# Written by tests/contract/unasync.py from aio_following.py: change that and run `uv run poe client`.
"""The calls that follow runs as they go on."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Unpack

from pyoco_server.client.requests import ApiCall, Document, get, path_of, with_params
from pyoco_server.client.sse import SseParser
from pyoco_server.client.sync_runs import RunCalls
from pyoco_server.client.watch import (
    SILENCE_SECONDS,
    EventWatch,
    ListWatch,
    RunWatch,
    decode_event,
    is_terminal,
    snapshot_of,
)
from pyoco_server.client.wire import POLL_SECONDS

if TYPE_CHECKING:
    from pyoco_server.client.answers import EventDict, OutputDict, RunDict, RunsQueryDict

_PAGE_ITEMS = 1000


class FollowCalls(RunCalls):
    """Follows runs, what happens in them and lists of them."""

    def watch_run(
        self,
        run_id: str,
        *,
        include_records: bool = False,
        since: float | None = None,
        timeout_sec: int | None = None,
    ) -> Generator[Document, None, None]:
        """Give ``{event, data}`` as they come, until the gateway ends the stream.

        It is one connection, and what breaks it is raised; ``watch`` goes on instead. Leave
        it before its end only through ``contextlib.closing``, which closes the connection.

        Example::

            with closing(client.watch_run(run_id)) as events:
                for event in events:
                    print(event["event"])  # snapshot
                    break
        """
        call = with_params(_watch(run_id, include_records, since), timeout_sec=timeout_sec)
        parser = SseParser()
        with self._stream(call, SILENCE_SECONDS) as chunks:
            for chunk in chunks:
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
    ) -> Generator[Document, None, None]:
        """Give ``{event, data}`` as they come, over as many connections as it takes.

        A snapshot is not given twice in a row. A gateway that was there once may be away for a
        minute. Leave it before its end only through ``contextlib.closing``.

        Args:
            run_id: The run.
            include_records: Whether snapshots carry their task records.
            since: Least ``updated_at`` of a snapshot that is no end, in unix seconds.
            within_seconds: When to end in any case, once the gateway was asked; ``None`` for never.
            until_terminal: Whether to end with the run.

        Example::

            for event in client.watch(run_id, within_seconds=60):
                print(event["data"]["snapshot"]["status"])  # COMPLETED
        """
        watch = RunWatch(
            first=_watch(run_id, include_records, since),
            deadline=self._deadline(within_seconds),
            retry=self._retry,
            until_terminal=until_terminal,
        )
        with closing(self._follow(watch)) as events:
            yield from events

    def wait_run(self, run_id: str, *, within_seconds: float | None = None) -> RunDict:
        """Wait for the end of a run; return its snapshot, with task records.

        Raises:
            TimeoutError: It has not ended after ``within_seconds``.

        Example::

            run = client.wait_run(run_id, within_seconds=60)
            print(run["status"])  # COMPLETED
        """
        deadline = self._deadline(within_seconds)
        watch = RunWatch(first=_watch(run_id), deadline=deadline, retry=self._retry)
        ended = False
        with closing(self._follow(watch)) as events:
            for event in events:
                ended = ended or is_terminal(snapshot_of(event))
        while ended:
            run = self.get_run_with_records(run_id)
            if is_terminal(run):
                return run
            # Another gateway answers, which is behind the one that told the end.
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"run {run_id} has not ended after {within_seconds} s")

    def events(
        self,
        run_id: str,
        *,
        types: Sequence[str] = (),
        cursor: str | None = None,
        follow: bool = False,
        within_seconds: float | None = None,
    ) -> Generator[EventDict, None, None]:
        """Give what happened in a run, in order; with ``follow`` until its end.

        Following goes on over lost connections, without gap or repetition. Leave it before
        its end only through ``contextlib.closing``.

        Args:
            run_id: The run.
            types: Which events, such as ``state`` or ``log``; all when empty.
            cursor: Begin behind the event with this ``id``.
            follow: Whether to wait for what comes.
            within_seconds: When to end following, at the gateway's next sign of life: up to 6 s later.
                ``None`` for never.

        Example::

            for event in client.events(run_id, types=["task"]):
                if event["type"] == "task":
                    print(event["task"], event["state"])
        """
        path = path_of("runs", run_id, "events")
        first: ApiCall[Document] = get(path, type=",".join(types), cursor=cursor, limit=_PAGE_ITEMS)
        with closing(self._stored_or_coming(first, follow, within_seconds)) as events:
            yield from events

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
    ) -> Generator[OutputDict, None, None]:
        """Give what a run printed: events of the types ``log`` and ``truncated``, as `events` does.

        Args:
            run_id: The run.
            task: Only what this task printed.
            stream: Only ``stdout`` or only ``stderr``.
            attempt: Only what this attempt printed.
            since: Only what was printed then or later, in unix seconds.
            tail: Of what is stored, only that many lines, the last ones.
            follow: Whether to wait for what comes, until the run's end.
            within_seconds: As of `events`.

        Example::

            for chunk in client.logs(run_id, task="save", stream="stdout"):
                if chunk["type"] == "log":
                    print(chunk["text"].rstrip())  # saved
        """
        first: ApiCall[Document] = get(
            path_of("runs", run_id, "logs"),
            task=task,
            stream=stream,
            attempt=attempt,
            since=since,
            limit=_PAGE_ITEMS,
        )
        if tail is not None:
            last = self._run(with_params(first, tail=tail))
            yield from last["items"]
            if not follow:
                return
            first = with_params(first, cursor=last["position"])
        with closing(self._stored_or_coming(first, follow, within_seconds)) as events:
            yield from events

    def follow_runs(
        self, *, within_seconds: float | None = None, **query: Unpack[RunsQueryDict]
    ) -> Generator[Document, None, None]:
        """Give the changes of a list of runs as they come, over lost connections without a gap.

        Each is ``{event, data}``. The first is ``hello``: what is listed now and the changes that
        follow miss nothing. Then ``run`` (``data["run"]`` as it is now), ``gone`` (``run_id`` is not in
        the list, or not any more), and ``reset`` (list again; too much was missed). Leave it before its
        end only through ``contextlib.closing``.

        Args:
            within_seconds: When to end; ``None`` for never.
            query: Which runs.

        Example::

            for change in client.follow_runs(status="FAILED", within_seconds=0.2):
                print(change["event"])  # hello
        """
        watch = ListWatch(
            first=get("/runs/stream", **query),
            deadline=self._deadline(within_seconds),
            retry=self._retry,
        )
        with closing(self._follow(watch)) as events:
            yield from events

    def _stored_or_coming(
        self, first: ApiCall[Document], follow: bool, within_seconds: float | None
    ) -> Generator[Any, None, None]:
        if not follow:
            return self._pages(first)
        deadline = self._deadline(within_seconds)
        return self._follow(EventWatch(first=first, deadline=deadline, retry=self._retry))


def _watch(
    run_id: str, include_records: bool = False, since: float | None = None
) -> ApiCall[Document]:
    include = "records" if include_records else None
    return get(path_of("runs", run_id, "watch"), include=include, since=since)
