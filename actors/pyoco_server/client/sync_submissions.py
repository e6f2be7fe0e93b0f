# Written by tests/contract/unasync.py from aio_submissions.py: change that and run `uv run poe client`.
"""The calls that begin, change and end runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from pyoco_server.client.requests import (
    MOVE_NAMES,
    TIME_NAMES,
    FilePart,
    LimitArguments,
    MoveArguments,
    TimeArguments,
    given,
    limits_of,
    path_of,
    submission,
)
from pyoco_server.client.sync_following import FollowCalls
from pyoco_server.client.watch import is_terminal
from pyoco_server.client.wire import POLL_SECONDS, cancel_wait_seconds, json_of

if TYPE_CHECKING:
    from pyoco_server.client.answers import BatchAnswerDict, CheckedFlowDict, RunDict, SubmittedDict


class SubmissionCalls(FollowCalls):
    """Submits runs, moves and ends them."""

    def submit_run(
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

            run = client.submit_run("report", {"date": "2026-11-28"}, tag="hello")
            print(run["status"])  # PENDING
        """
        body = {"flow_name": flow_name, "params": dict(params or {})}
        body |= given(tag=tag, tags=tags) | limits_of(limits)
        return self._run(submission("/runs", self._retry.key(idempotency_key), json=body))

    def submit_run_yaml(
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

            run = client.submit_run_yaml(flow_yaml, {"x": 2}, tag="hello")
            print(run["status"])  # PENDING
        """
        form = given(flow_name=flow_name, tag=tag) | limits_of(limits)
        if params:
            form["params"] = json_of("params", dict(params)).decode()
        return self._run(
            submission(
                "/runs/yaml",
                self._retry.key(idempotency_key),
                form={name: str(value) for name, value in form.items()},
                upload=FilePart(
                    "workflow", "flow.yaml", workflow_yaml.encode(), "application/x-yaml"
                ),
            )
        )

    def submit_batch(self, runs: Sequence[Mapping[str, Any]]) -> BatchAnswerDict:
        """Submit up to 1,000 runs; return ``{accepted, rejected, items}``, an item for each run in order.

        Args:
            runs: Of each ``flow_name`` and, where wanted, ``params, tag, tags, workflow_yaml,
                idempotency_key`` and the limits and times that ``submit_run`` takes.

        Example::

            days = ["2026-11-27", "2026-11-28"]
            answer = client.submit_batch(
                [{"flow_name": "report", "params": {"date": day}} for day in days]
            )
            print(answer["accepted"])  # 2
        """
        keyed = [
            {**run, "idempotency_key": self._retry.key(run.get("idempotency_key"))} for run in runs
        ]
        repeatable = all(run["idempotency_key"] for run in keyed)
        body = {"runs": keyed}
        return self._send("POST", "/runs/batch", json=body, repeatable=repeatable)

    def check_flow(self, workflow_yaml: str) -> CheckedFlowDict:
        """Look at the text of a flow.yaml without running it; return its graph, tasks and digest.

        Raises:
            HttpProblem: 422 when it cannot be understood; its ``extra`` says where.

        Example::

            flow = client.check_flow(flow_yaml)
            print([*flow["tasks"]])  # ['add_one', 'save']
        """
        return self._send(
            "POST",
            "/flows/check",
            content=workflow_yaml.encode(),
            headers={"Content-Type": "text/plain; charset=utf-8"},
            repeatable=True,
        )

    def cancel_run(
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

            run = client.cancel_run(run_id, wait=True, reason="wrong input")
            print(run["status"])  # CANCELLED
        """
        wish = given(reason=reason, requested_by=requested_by)
        # Repeatable: a second one finds the run cancelling or ended.
        snapshot: RunDict = self._send(
            "POST", path_of("runs", run_id, "cancel"), json=wish or None, repeatable=True
        )
        deadline = self._deadline(cancel_wait_seconds(timeout_sec))
        while wait and not is_terminal(snapshot):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"cancel wait timeout for run_id={run_id}")
            time.sleep(POLL_SECONDS)
            snapshot = self.get_run(run_id)
        return snapshot

    def retry_run(
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

            run = client.retry_run(run_id, {"x": 5})
            print(run["retry_of"] == run_id)  # True
        """
        body = limits_of(times, TIME_NAMES) | ({"params": dict(params)} if params else {})
        return self._send("POST", path_of("runs", run_id, "retry"), json=body or None)

    def reschedule_run(self, run_id: str, **times: Unpack[MoveArguments]) -> RunDict:
        """Change when a run that has not started may start, or until when; return its snapshot.

        Raises:
            HttpProblem: 409 when it has started, or ended.

        Example::

            run = client.reschedule_run(run_id, delay_sec=3600)
            print(run["state"])  # SCHEDULED
        """
        body = limits_of(times, MOVE_NAMES)
        # A delay counts from when it arrives.
        repeatable = "delay_sec" not in body
        return self._send("PATCH", path_of("runs", run_id), json=body, repeatable=repeatable)
