"""The clients of the gateways: they submit, batch and cancel, and write down what they are answered."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Final

import httpx
import msgspec
import trio

from pyoco_server.model.run import RunStatus
from pyoco_server.scenario.document import ScenarioError
from pyoco_server.scenario.flows import flow_text
from pyoco_server.scenario.history import PROBE, CancelAnswer, HttpAnswer, Submission
from pyoco_server.scenario.play import Play
from pyoco_server.scenario.stage import Gateway
from pyoco_server.scenario.steps import Cancel, OrderSchedule, Reschedule, SetSchedule, Submit

_CALL_SECONDS: Final = 20.0
_TRY_AGAIN_SECONDS: Final = 0.1
_IN_FLIGHT: Final = 32
_LIMITS: Final = (
    *("timeout_sec", "max_attempts", "delay_sec", "queue_ttl_sec"),
    *("expected_start_within_sec", "expected_end_within_sec"),
)


class Clients:
    """Everybody who calls the gateways.

    Attributes:
        http: What they call with; open while this is entered.
    """

    def __init__(self, play: Play) -> None:
        self._play = play
        self._turn = 0
        self._tickets = 0
        self.http = httpx.AsyncClient(timeout=_CALL_SECONDS)

    # Submitting ----------------------------------------------------------------------------------

    async def submit(self, step: Submit, random: Random) -> None:
        """Submit runs, until each is accepted or may be refused, and cancel those that are to be.

        Raises:
            ScenarioError: One was not accepted in time, or can never be.
        """
        group = step.group or step.flow
        self._play.say(f"submit {step.count} x {step.flow} to {step.tag} as {group}")
        text = flow_text(self._play.scenario, step.flow, step.params)
        # Drawn here, so that it does not depend on who is answered first.
        moments = [
            None if step.cancel_within_sec is None else random.random() * step.cancel_within_sec
            for _ in range(step.count)
        ]
        if step.batch:
            run_ids = await self._batch(step, group, text)
            async with trio.open_nursery() as nursery:
                for run_id, moment in zip(run_ids, moments, strict=True):
                    if moment is not None:
                        nursery.start_soon(self.cancel_one, run_id, moment)
            return
        room = trio.Semaphore(_IN_FLIGHT)
        async with trio.open_nursery() as nursery:
            for index, moment in enumerate(moments):
                if index and step.rate is not None:
                    await trio.sleep(1 / step.rate / self._play.speed)
                await room.acquire()
                nursery.start_soon(self._submit_one, step, group, text, moment, room)

    async def _submit_one(
        self, step: Submit, group: str, text: str, moment: float | None, room: trio.Semaphore
    ) -> None:
        try:
            run_id = await self.accepted(step, group, text)
        finally:
            room.release()
        if run_id is not None and moment is not None:
            await self.cancel_one(run_id, moment)

    async def accepted(self, step: Submit, group: str, text: str) -> str | None:
        """Submit until it is accepted; None where it was refused and that may be.

        What becomes of it is in the history; each try without a key is a submission of its own.

        Raises:
            ScenarioError: It was not accepted in time, or can never be.
        """
        failure = "submit: not accepted"
        limit = self._play.persistence(failure)
        told = self._submission()
        has_key = step.keyed or step.key is not None
        try:
            with trio.move_on_after(limit):
                while True:
                    before, told = told, replace(told, outcome="unknown")
                    answer = await self._send(step, text, told.ticket)
                    if answer is not None:
                        told = _told(before, answer.status_code, _body(answer))
                    if told.outcome == "accepted":
                        return told.run_id
                    if step.may_fail:
                        return None
                    await trio.sleep(_TRY_AGAIN_SECONDS)
                    if not has_key:
                        self._play.history.submitted(told, group, self._play.now)
                        told = self._submission()
        finally:
            self._play.history.submitted(told, group, self._play.now)
        raise ScenarioError(f"{failure} within {limit:g} s")

    async def _send(self, step: Submit, text: str, ticket: str) -> httpx.Response | None:
        headers = {"X-Request-ID": ticket}
        key = ticket if step.keyed else step.key
        if key is not None:
            headers["Idempotency-Key"] = key
        gateway = self.gateway(step.by)
        fields = _fields(step)
        if step.by_name:
            body = fields | {"params": step.params}
            return await self._call("POST", gateway, "/runs", json=body, headers=headers)
        return await self._call(
            "POST",
            gateway,
            "/runs/yaml",
            files={"workflow": ("flow.yaml", text.encode())},
            data={name: str(value) for name, value in fields.items()},
            headers=headers,
        )

    async def _batch(self, step: Submit, group: str, text: str) -> list[str]:
        """Submit runs in one request, and what is not accepted again, until all are.

        Raises:
            ScenarioError: They were not in time, or can never be.
        """
        first = self._submission()
        waiting = {f"{first.ticket}-{number}": first for number in range(step.count)}
        flow = {"params": step.params} if step.by_name else {"workflow_yaml": text}
        run_ids: list[str] = []
        failure = "of a batch not accepted"
        limit = self._play.persistence(failure)
        try:
            with trio.move_on_after(limit):
                while waiting:
                    keys, befores = list(waiting), list(waiting.values())
                    waiting = {
                        key: replace(before, outcome="unknown") for key, before in waiting.items()
                    }
                    runs = [_fields(step) | flow | {"idempotency_key": key} for key in keys]
                    answer = await self._call(
                        "POST",
                        self.gateway(step.by),
                        "/runs/batch",
                        json={"runs": runs},
                        headers={"X-Request-ID": first.ticket},
                    )
                    if answer is not None:
                        outcomes = _answers(answer, len(keys))
                        waiting = {
                            key: _told(before, *outcome)
                            for key, before, outcome in zip(keys, befores, outcomes, strict=True)
                        }
                    for key, told in list(waiting.items()):
                        if told.outcome == "accepted" and told.run_id is not None:
                            self._play.history.submitted(told, group, self._play.now)
                            run_ids.append(told.run_id)
                            del waiting[key]
                    if waiting:
                        await trio.sleep(_TRY_AGAIN_SECONDS)
        finally:
            for told in waiting.values():
                self._play.history.submitted(told, group, self._play.now)
        if waiting:
            raise ScenarioError(f"submit: {len(waiting)} {failure} within {limit:g} s")
        return run_ids

    def _submission(self) -> Submission:
        self._tickets += 1
        return Submission(f"ticket-{self._tickets}", "refused")

    async def probe(self) -> None:
        """Measure how long a new run takes from now to its end, on the first worker's tag."""
        scenario = self._play.scenario
        parts = [part for part in scenario.cast.workers if not part.later]
        if not parts:
            return
        began = self._play.now
        step = Submit(flow="quick", tag=parts[0].tags[0], keyed=True)
        run_id = await self.accepted(step, PROBE, flow_text(scenario, "quick", {}))
        assert run_id is not None
        with trio.move_on_after(self._play.persistence("probe: not ended")):
            await self._play.ended(run_id)
        self._play.history.recoveries.append(self._play.now - began)

    # Cancelling ----------------------------------------------------------------------------------

    async def cancel(self, step: Cancel, random: Random) -> None:
        """Cancel runs of a group, each at its moment."""
        chosen = self._chosen("cancel", step, random)
        moments = sorted((random.random() * step.spread_sec, run_id) for run_id in chosen)
        async with trio.open_nursery() as nursery:
            for moment, run_id in moments:
                nursery.start_soon(self.cancel_one, run_id, moment)

    async def cancel_one(self, run_id: str, after: float) -> None:
        """Cancel a run after a while, until that is answered, and note the answer.

        Raises:
            ScenarioError: It was not answered in time, or refused.
        """
        await trio.sleep(after / self._play.speed)
        answer = await self._insist("cancel", "POST", f"/runs/{run_id}/cancel")
        if answer.status_code == 200:
            status = RunStatus(answer.json()["status"])
            self._play.history.cancels.append(CancelAnswer(run_id, status, self._play.now))

    # Moving --------------------------------------------------------------------------------------

    async def reschedule(self, step: Reschedule, random: Random) -> None:
        """Move runs of a group; one that has started or ended is left alone.

        Raises:
            ScenarioError: It was not answered in time.
        """
        chosen = self._chosen("reschedule", step, random)
        body = {"delay_sec": step.delay_sec}
        if step.queue_ttl_sec is not None:
            body["queue_ttl_sec"] = step.queue_ttl_sec
        async with trio.open_nursery() as nursery:
            for run_id in chosen:
                move = partial(self._insist, json=body)
                nursery.start_soon(move, "reschedule", "PATCH", f"/runs/{run_id}")

    def _chosen(self, what: str, step: Cancel | Reschedule, random: Random) -> list[str]:
        runs = self._play.history.group(step.group)
        chosen = [run.run_id for run in runs if random.random() < step.share]
        self._play.say(f"{what} {len(chosen)} of {len(runs)} runs of {step.group}")
        return chosen

    # Schedules -----------------------------------------------------------------------------------

    async def schedule(self, step: SetSchedule, _: Random) -> None:
        """Make a schedule, or make it another one.

        Raises:
            ScenarioError: It was not answered in time, or refused.
        """
        self._play.say(f"schedule {step.id} of {step.flow}")
        body = {
            name: value
            for name, value in msgspec.structs.asdict(step).items()
            if value is not None and name not in ("id", "flow", "params")
        }
        body["flow_name"] = step.flow
        body["workflow_yaml"] = flow_text(self._play.scenario, step.flow, step.params)
        await self._insist("schedule", "PUT", f"/schedules/{step.id}", json=body)

    async def order_schedule(self, step: OrderSchedule, _: Random) -> None:
        """Have something done with a schedule.

        Raises:
            ScenarioError: It was not answered in time, or refused.
        """
        self._play.say(f"{step.do} schedule {step.id}")
        if step.do == "delete":
            await self._insist("order_schedule", "DELETE", f"/schedules/{step.id}")
        else:
            # With a key, so that it is triggered once however often it is tried.
            key = {"Idempotency-Key": self._submission().ticket} if step.do == "trigger" else {}
            path = f"/schedules/{step.id}/{step.do}"
            await self._insist("order_schedule", "POST", path, headers=key)

    # Calling -------------------------------------------------------------------------------------

    async def _insist(self, what: str, method: str, path: str, **options: Any) -> httpx.Response:
        """Call until it is answered, and return the answer.

        Raises:
            ScenarioError: It was not in time, or refused for what is no matter of time.
        """
        failure = f"{what}: not answered"
        limit = self._play.persistence(failure)
        with trio.move_on_after(limit):
            while True:
                answer = await self._call(method, self.gateway(None), path, **options)
                # Runs that have started are not moved, and what is deleted may be so already.
                if answer is not None and (answer.is_success or answer.status_code in (404, 409)):
                    return answer
                if answer is not None and answer.status_code < 500:
                    raise ScenarioError(f"{what}: {answer.status_code} {answer.text[:500]}")
                await trio.sleep(_TRY_AGAIN_SECONDS)
        raise ScenarioError(f"{failure} within {limit:g} s")

    async def _call(
        self, method: str, gateway: Gateway, path: str, **options: Any
    ) -> httpx.Response | None:
        began = self._play.now
        answer = None
        with suppress(httpx.HTTPError):
            request = self.http.build_request(method, gateway.url + path, **options)
            request.read()  # a form that is sent piece by piece would be left half read by a cut
            answer = await self.http.send(request)
        seconds = self._play.now - began
        if answer is not None or self._play.stage.programs[gateway.name].running:
            status = None if answer is None else answer.status_code
            self._play.history.answers.append(HttpAnswer(f"{method} {path}", status, seconds))
        return answer

    def gateway(self, name: str | None) -> Gateway:
        """The gateway of a name, or else the next one in turn that runs.

        Raises:
            ScenarioError: None has that name.
        """
        stage = self._play.stage
        if name is not None:
            for each in stage.gateways:
                if each.name == name:
                    return each
            known = ", ".join(each.name for each in stage.gateways)
            raise ScenarioError(f"no gateway is called {name}, but {known}")
        running = [each for each in stage.gateways if stage.programs[each.name].running]
        self._turn += 1
        return (running or stage.gateways)[self._turn % len(running or stage.gateways)]


def _fields(step: Submit) -> dict[str, Any]:
    limits = {name: getattr(step, name) for name in _LIMITS}
    given = {name: value for name, value in limits.items() if value is not None}
    return {"flow_name": step.flow, "tag": step.tag, **given}


def _answers(answer: httpx.Response, count: int) -> list[tuple[int, dict[str, Any]]]:
    """Status and body of each run of a batch; those of the whole, where it was answered as one."""
    if answer.status_code != 200:
        return [(answer.status_code, _body(answer))] * count
    return [
        (item["error"]["status"], item["error"]) if "error" in item else (200, item)
        for item in answer.json()["items"]
    ]


def _told(before: Submission, status: int, body: dict[str, Any]) -> Submission:
    """What a submission is after an answer; with an earlier try unanswered a refusal settles nothing.

    Raises:
        ScenarioError: It can never be accepted.
    """
    if status == 200:
        return replace(before, outcome="accepted", run_id=str(body["run_id"]))
    if status < 500:
        raise ScenarioError(f"submit: {status} {str(body)[:500]}")
    if status != 503:
        return replace(before, outcome="unknown")
    return replace(before, run_id=body.get("run_id") or before.run_id)


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = answer.text
    return body if isinstance(body, dict) else {"text": body}
