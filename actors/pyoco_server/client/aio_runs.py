"""The calls of the client for trio programs that are about single runs."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, BinaryIO, Unpack

import trio

from pyoco_server.client.aio_connection import AsyncCaller
from pyoco_server.client.requests import (
    MOVE_NAMES,
    TIME_NAMES,
    ApiCall,
    Document,
    FilePart,
    LimitArguments,
    MoveArguments,
    TimeArguments,
    get,
    get_bytes,
    given,
    limits_of,
    parse_text,
    parse_value,
    path_of,
    submission,
    with_params,
)
from pyoco_server.client.sse import SseParser
from pyoco_server.client.watch import (
    SILENCE_SECONDS,
    EventWatch,
    RunWatch,
    decode_event,
    is_terminal,
    snapshot_of,
)
from pyoco_server.client.wire import CANCEL_POLL_SECONDS, cancel_wait_seconds

if TYPE_CHECKING:
    from pyoco_server.client.answers import (
        BatchAnswerDict,
        CheckedFlowDict,
        EventDict,
        OutputDict,
        RunArtifactsDict,
        RunDict,
        RunGraphDict,
        RunResultsDict,
        RunTasksDict,
        SubmittedDict,
    )

_PAGE_ITEMS = 1000


class AsyncRunCalls(AsyncCaller):
    """Submits, reads, follows and ends runs."""

    async def submit_run(
        self,
        flow_name: str,
        params: Mapping[str, Any] | None = None,
        *,
        tag: str | None = None,
        tags: list[str] | None = None,
        idempotency_key: str | None = None,
        **limits: Unpack[LimitArguments],
    ) -> SubmittedDict:
        """Submit a run of a flow that the workers know; return ``{run_id, status}``.

        The gateway takes all submits with the same ``idempotency_key`` for one. Where none is
        given and the client may repeat the call, it sends a new one, so that repeating it is safe.
        A gateway of version 0.5.1 does not know keys: use ``RetryPolicy(attempts=1)`` with it.

        Example::

            run = await client.submit_run("report", {"date": "2026-11-28"}, tag="hello")
            print(run["status"])  # PENDING
        """
        body = {"flow_name": flow_name, "params": dict(params or {})}
        body |= given(tag=tag, tags=tags) | limits_of(limits)
        return await self._run(submission("/runs", self._retry.key(idempotency_key), json=body))

    async def submit_run_yaml(
        self,
        workflow_yaml: str,
        params: Mapping[str, Any] | None = None,
        *,
        flow_name: str = "main",
        tag: str | None = None,
        idempotency_key: str | None = None,
        **limits: Unpack[LimitArguments],
    ) -> SubmittedDict:
        """Submit a run of the flow.yaml whose text is given; return ``{run_id, status}``.

        ``params`` go over the defaults of the file.

        Example::

            run = await client.submit_run_yaml(flow_yaml, {"x": 2}, tag="hello")
            print(run["status"])  # PENDING
        """
        form = given(flow_name=flow_name, tag=tag) | limits_of(limits)
        if params:
            form["params"] = json.dumps(dict(params), allow_nan=False)
        return await self._run(
            submission(
                "/runs/yaml",
                self._retry.key(idempotency_key),
                form={name: str(value) for name, value in form.items()},
                upload=FilePart(
                    "workflow", "flow.yaml", workflow_yaml.encode(), "application/x-yaml"
                ),
            )
        )

    async def submit_batch(self, runs: Sequence[Mapping[str, Any]]) -> BatchAnswerDict:
        """Submit up to 1,000 runs; return ``{accepted, rejected, items}``, an item for each run in order.

        Args:
            runs: Of each ``flow_name`` and, where wanted, ``params, tag, tags, workflow_yaml,
                idempotency_key`` and the limits and times that ``submit_run`` takes.

        Example::

            days = ["2026-11-27", "2026-11-28"]
            answer = await client.submit_batch(
                [{"flow_name": "report", "params": {"date": day}} for day in days]
            )
            print(answer["accepted"])  # 2
        """
        keyed = [
            {**run, "idempotency_key": self._retry.key(run.get("idempotency_key"))} for run in runs
        ]
        repeatable = all(run["idempotency_key"] for run in keyed)
        body = {"runs": keyed}
        return await self._send("POST", "/runs/batch", json=body, repeatable=repeatable)

    async def check_flow(self, workflow_yaml: str) -> CheckedFlowDict:
        """Look at the text of a flow.yaml without running it; return its graph, tasks and digest.

        Raises:
            HttpProblem: 422 when it cannot be understood; its ``extra`` says where.

        Example::

            flow = await client.check_flow(flow_yaml)
            print([*flow["tasks"]])  # ['add_one', 'save']
        """
        return await self._send(
            "POST",
            "/flows/check",
            content=workflow_yaml.encode(),
            headers={"Content-Type": "text/plain; charset=utf-8"},
            repeatable=True,
        )

    async def get_run(self, run_id: str) -> RunDict:
        """Return the snapshot of a run, without its task records.

        Example::

            run = await client.get_run(run_id)
            print(run["status"])  # COMPLETED
        """
        return await self._get(path_of("runs", run_id))

    async def get_run_with_records(self, run_id: str) -> RunDict:
        """Return the snapshot of a run.

        Example::

            run = await client.get_run_with_records(run_id)
            print(run["task_records"]["add_one"]["output"])  # 2
        """
        return await self._get(path_of("runs", run_id), include="records")

    async def cancel_run(
        self,
        run_id: str,
        *,
        wait: bool = False,
        timeout_sec: int | None = None,
        reason: str | None = None,
        requested_by: str | None = None,
    ) -> RunDict:
        """Ask for the end of a run; return its snapshot, with ``wait`` that of its end.

        Raises:
            TimeoutError: The run has not ended after ``timeout_sec`` seconds (default 45).

        Example::

            run = await client.cancel_run(run_id, wait=True, reason="wrong input")
            print(run["status"])  # CANCELLED
        """
        wish = given(reason=reason, requested_by=requested_by)
        # Repeatable: a second one finds the run cancelling or ended.
        snapshot: RunDict = await self._send(
            "POST", path_of("runs", run_id, "cancel"), json=wish or None, repeatable=True
        )
        deadline = self._deadline(cancel_wait_seconds(timeout_sec))
        while wait and not is_terminal(snapshot):
            if trio.current_time() >= deadline:
                raise TimeoutError(f"cancel wait timeout for run_id={run_id}")
            await trio.sleep(CANCEL_POLL_SECONDS)
            snapshot = await self.get_run(run_id)
        return snapshot

    async def retry_run(
        self,
        run_id: str,
        params: Mapping[str, Any] | None = None,
        **times: Unpack[TimeArguments],
    ) -> SubmittedDict:
        """Submit a run that has ended again, as a new one; return ``{run_id, status, retry_of}``.

        ``params`` go over those that it had.

        Raises:
            HttpProblem: 409 when it has not ended, or when its flow.yaml is not kept.

        Example::

            run = await client.retry_run(run_id, {"x": 5})
            print(run["retry_of"] == run_id)  # True
        """
        body = limits_of(times, TIME_NAMES) | ({"params": dict(params)} if params else {})
        return await self._send("POST", path_of("runs", run_id, "retry"), json=body or None)

    async def reschedule_run(self, run_id: str, **times: Unpack[MoveArguments]) -> RunDict:
        """Change when a run that has not started may start, or until when; return its snapshot.

        Raises:
            HttpProblem: 409 when it has started, or ended.

        Example::

            run = await client.reschedule_run(run_id, delay_sec=3600)
            print(run["state"])  # SCHEDULED
        """
        body = limits_of(times, MOVE_NAMES)
        # A delay counts from when it arrives.
        repeatable = "delay_sec" not in body
        return await self._send("PATCH", path_of("runs", run_id), json=body, repeatable=repeatable)

    async def get_tasks(self, run_id: str) -> RunTasksDict:
        """Return the task states and task records of a run.

        Example::

            run = await client.get_tasks(run_id)
            print(run["tasks"]["add_one"])  # SUCCEEDED
        """
        return await self._get(path_of("runs", run_id, "tasks"))

    async def get_graph(self, run_id: str) -> RunGraphDict:
        """Return what the flow of a run looks like: ``nodes`` and ``edges``.

        Raises:
            HttpProblem: 404 also while that is not known.

        Example::

            graph = await client.get_graph(run_id)
            print(len(graph["nodes"]), len(graph["edges"]))  # 2 1
        """
        return await self._get(path_of("runs", run_id, "graph"))

    async def get_workflow(self, run_id: str) -> str:
        """Return the text of the flow.yaml that a run brought.

        Raises:
            HttpProblem: 404 also for a run that brought none.

        Example::

            text = await client.get_workflow(run_id)
            print(text == flow_yaml)  # True
        """
        return await self._get(path_of("runs", run_id, "workflow"), parse_text)

    async def watch_run(
        self,
        run_id: str,
        *,
        include_records: bool = False,
        since: float | None = None,
        timeout_sec: int | None = None,
    ) -> AsyncGenerator[Document, None]:
        """Give ``{event, data}`` as they come, until the gateway ends the stream.

        It is one connection, and what breaks it is raised; ``watch`` goes on instead. Leave
        it before its end only through ``contextlib.aclosing``, which closes the connection.

        Example::

            async with aclosing(client.watch_run(run_id)) as events:
                async for event in events:
                    print(event["event"])  # snapshot
                    break
        """
        call = with_params(_watch(run_id, include_records, since), timeout_sec=timeout_sec)
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

        Example::

            async for event in client.watch(run_id, within_seconds=60):
                print(event["data"]["snapshot"]["status"])  # COMPLETED
        """
        watch = RunWatch(
            first=_watch(run_id, include_records, since),
            deadline=self._deadline(within_seconds),
            retry=self._retry,
            until_terminal=until_terminal,
        )
        async with aclosing(self._follow(watch)) as events:
            async for event in events:
                yield event

    async def wait_run(self, run_id: str, *, within_seconds: float | None = None) -> RunDict:
        """Wait for the end of a run; return its snapshot, with task records.

        Raises:
            TimeoutError: It has not ended after ``within_seconds``.

        Example::

            run = await client.wait_run(run_id, within_seconds=60)
            print(run["status"])  # COMPLETED
        """
        watch = RunWatch(
            first=_watch(run_id), deadline=self._deadline(within_seconds), retry=self._retry
        )
        async with aclosing(self._follow(watch)) as events:
            async for event in events:
                if is_terminal(snapshot_of(event)):
                    return await self.get_run_with_records(run_id)
        raise TimeoutError(f"run {run_id} has not ended after {within_seconds} s")

    async def events(
        self,
        run_id: str,
        *,
        types: Sequence[str] = (),
        cursor: str | None = None,
        follow: bool = False,
        within_seconds: float | None = None,
    ) -> AsyncGenerator[EventDict, None]:
        """Give what happened in a run, in order; with ``follow`` until its end.

        Following goes on over lost connections, without gap or repetition. Leave it before
        its end only through ``contextlib.aclosing``.

        Args:
            run_id: The run.
            types: Which events, such as ``state`` or ``log``; all when empty.
            cursor: Begin behind the event with this ``id``.
            follow: Whether to wait for what comes.
            within_seconds: When to end following in any case; ``None`` for never.

        Example::

            async for event in client.events(run_id, types=["task"]):
                if event["type"] == "task":
                    print(event["task"], event["state"])
        """
        path = path_of("runs", run_id, "events")
        first: ApiCall[Document] = get(path, type=",".join(types), cursor=cursor, limit=_PAGE_ITEMS)
        async with aclosing(self._stored_or_coming(first, follow, within_seconds)) as events:
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
    ) -> AsyncGenerator[OutputDict, None]:
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

        Example::

            async for chunk in client.logs(run_id, task="save", stream="stdout"):
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
            last = await self._run(with_params(first, tail=tail))
            for item in last["items"]:
                yield item
            if not follow:
                return
            first = with_params(first, cursor=last["position"])
        async with aclosing(self._stored_or_coming(first, follow, within_seconds)) as events:
            async for event in events:
                yield event

    def _stored_or_coming(
        self, first: ApiCall[Document], follow: bool, within_seconds: float | None
    ) -> AsyncGenerator[Any, None]:
        if not follow:
            return self._pages(first)
        deadline = self._deadline(within_seconds)
        return self._follow(EventWatch(first=first, deadline=deadline, retry=self._retry))

    async def list_results(self, run_id: str) -> RunResultsDict:
        """Return what is known of what a run's tasks returned: ``results`` with task, size and digest.

        One with ``cut`` is not all that its task returned, and one with ``refused`` was not kept; both
        say why.

        Example::

            listing = await client.list_results(run_id)
            print([result["task"] for result in listing["results"]])
        """
        return await self._get(path_of("runs", run_id, "results"))

    async def get_result(self, run_id: str, task: str) -> Any:
        """Return what a task returned, in its JSON form.

        Example::

            print(await client.get_result(run_id, "add_one"))  # 2
        """
        path = path_of("runs", run_id, "results", *task.split("/"))
        return await self._get(path, parse_value)

    async def list_artifacts(self, run_id: str) -> RunArtifactsDict:
        """Return what a run saved: ``artifacts`` with name, size and digest, and ``artifacts_refused``.

        Example::

            listing = await client.list_artifacts(run_id)
            print([artifact["name"] for artifact in listing["artifacts"]])  # ['report.txt']
        """
        return await self._get(path_of("runs", run_id, "artifacts"))

    async def download_artifact(self, run_id: str, name: str, to: BinaryIO) -> str:
        """Write an artifact into an open file, piece by piece; return its SHA-256 in hex.

        A broken connection is taken up again where it broke. Writing is done in a thread.

        Raises:
            DamagedDownload: What came is not what was saved.

        Example::

            with open("report.txt", "wb") as file:
                await client.download_artifact(run_id, "report.txt", file)
        """
        path = path_of("runs", run_id, "artifacts", *name.split("/"))
        return await self._download(name, lambda start: get_bytes(path, start), to)


def _watch(
    run_id: str, include_records: bool = False, since: float | None = None
) -> ApiCall[Document]:
    include = "records" if include_records else None
    return get(path_of("runs", run_id, "watch"), include=include, since=since)
