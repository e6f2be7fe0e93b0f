"""The calls that read runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Unpack

from pyoco_server.client.aio_connection import AsyncCaller
from pyoco_server.client.requests import (
    get,
    get_bytes,
    parse_objects,
    parse_page,
    parse_text,
    parse_value,
    path_of,
    with_params,
)

if TYPE_CHECKING:
    from pyoco_server.client.answers import (
        FullRunPageDict,
        RunArtifactsDict,
        RunCountsDict,
        RunDict,
        RunGraphDict,
        RunItemDict,
        RunPageDict,
        RunResultsDict,
        RunsQueryDict,
        RunTasksDict,
    )


class AsyncRunCalls(AsyncCaller):
    """Reads and lists runs."""

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

    async def list_runs(
        self,
        *,
        status: str | None = None,
        flow: str | None = None,
        tag: str | None = None,
        full: bool = False,
        limit: int | None = None,
    ) -> list[RunItemDict] | list[RunDict]:
        """Return runs, the newest change first.

        Example::

            runs = await client.list_runs(status="COMPLETED", tag="hello", limit=10)
            print(runs[0]["status"])  # COMPLETED
        """
        include = "full" if full else None
        query = {"status": status, "flow": flow, "tag": tag, "include": include, "limit": limit}
        return await self._get("/runs", parse_objects, **query)

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
    ) -> RunPageDict | FullRunPageDict:
        """Return a page of runs as ``{items, next_cursor}``.

        Example::

            page = await client.list_runs_vnext(flow="main", limit=1)
            more = await client.list_runs_vnext(flow="main", limit=1, cursor=page["next_cursor"])
        """
        return await self.find_runs(
            status=status,
            flow=flow,
            tag=tag,
            full=full,
            limit=limit,
            updated_after=updated_after,
            cursor=cursor,
            workflow_yaml_sha256=workflow_yaml_sha256,
        )

    async def find_runs(
        self,
        *,
        full: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
        **query: Unpack[RunsQueryDict],
    ) -> RunPageDict | FullRunPageDict:
        """Return a page of runs by any filter, the newest change first, as ``{items, next_cursor}``.

        ``status`` is one or more, with commas in between, SCHEDULED and EXPIRED among them.

        Example::

            page = await client.find_runs(status="FAILED", updated_after=time.time() - 86_400)
            print([run["error"] for run in page["items"]])
        """
        include = "full" if full else None
        call = get("/runs", parse_page, include=include, limit=limit, **query)
        # An empty one asks for a page too: by filters of the first version alone a bare list is given.
        return await self._run(with_params(call, cursor=cursor or ""))

    async def count_runs(self, **query: Unpack[RunsQueryDict]) -> RunCountsDict:
        """Return how many runs there are: ``{counts: {status: count}, total, …}``.

        Example::

            answer = await client.count_runs(tag="hello")
            print(answer["total"], answer["counts"]["COMPLETED"])
        """
        return await self._get("/runs/counts", **query)
