"""Plays the steps of a scenario; chance comes from its seed alone."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace as replaced
from random import Random
from typing import Any, Final

import httpx
import trio
from msgspec.structs import replace

from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.model.run import RunStatus
from pyoco_server.scenario import storage, wheels
from pyoco_server.scenario.document import (
    Cancel,
    Delay,
    Expect,
    Names,
    Publish,
    Repeat,
    Scenario,
    ScenarioError,
    Step,
    Submit,
    Wheel,
)
from pyoco_server.scenario.expectations import Unmet, check
from pyoco_server.scenario.flows import flow_text
from pyoco_server.scenario.history import (
    PROBE,
    Answer,
    CancelAnswer,
    History,
    Submission,
    Trouble,
)
from pyoco_server.scenario.links import Link
from pyoco_server.scenario.observer import Observer
from pyoco_server.scenario.programs import Program
from pyoco_server.scenario.recording import Recording
from pyoco_server.scenario.replay import replay
from pyoco_server.scenario.stage import Gateway, Stage

_CALL_SECONDS: Final = 20.0
_TRY_AGAIN_SECONDS: Final = 0.1
_KEEP_TRYING_SECONDS: Final = 60.0
_START_SECONDS: Final = 30.0
_IN_FLIGHT: Final = 32


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the transcript; ``at`` is seconds since the beginning."""

    at: float
    text: str
    failed: bool = False


class Player:
    """Plays one scenario on a stage.

    Args:
        scenario: What to play.
        stage: The running cast.
        observer: Who writes down what the buckets say.
        history: What happened so far.
        seed: What chance is drawn from.
        speed: How many times faster waits pass.
        patience: The longest that an expectation is waited for, in seconds.
        say: Told each line of the transcript.
    """

    def __init__(
        self,
        scenario: Scenario,
        stage: Stage,
        observer: Observer,
        history: History,
        *,
        seed: int,
        speed: float,
        patience: float,
        say: Callable[[Line], None],
    ) -> None:
        self.scenario = scenario
        self._stage = stage
        self._observer = observer
        self.history = history
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self.speed = speed
        self._patience = patience
        self._say = say
        self._began = trio.current_time()
        self._turn = 0
        self._tickets = 0
        self.unmet: list[Unmet] = []
        self.client = httpx.AsyncClient(timeout=_CALL_SECONDS)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return trio.current_time() - self._began

    def say(self, text: str, *, failed: bool = False) -> None:
        """Write a line of the transcript."""
        self._say(Line(self.now, text, failed))

    def miss(self, text: str) -> None:
        """Note an expectation that was not met, and go on."""
        self.say(f"NOT MET: {text}", failed=True)
        self.unmet.append(Unmet(text))

    async def until(self, at: float) -> None:
        """Wait for a moment of a recording, in its seconds since the beginning."""
        await trio.sleep_until(self._began + at / self.speed)

    async def changed(self) -> None:
        """Wait for the next revision of any run."""
        await self._observer.changed()

    async def begin(self, name: str) -> None:
        """Start a process."""
        await self._start(name, self._random)

    async def leave(self, name: str, *, kill: bool) -> None:
        """End a process, in good order or not."""
        await (self._kill if kill else self._stop)(name, self._random)

    async def play(self) -> None:
        """Play every step; an expectation that is not met ends it (see `unmet`).

        Raises:
            ScenarioError: A step cannot be done.
        """
        async with self.client:
            try:
                await self._play(self.scenario.steps, self._random)
            except* _Stop:
                self.say("stopped: what comes next would show nothing")

    async def _play(self, steps: list[Step], random: Random) -> None:
        for step in steps:
            await self._do(step, random)

    async def _do(self, step: Step, random: Random) -> None:
        await _ACTIONS[step.action](self, getattr(step, step.action), random)

    # Time and chance -----------------------------------------------------------------------------

    async def _wait(self, seconds: float, _: Random) -> None:
        await trio.sleep(seconds / self.speed)

    async def _repeat(self, repeat: Repeat, random: Random) -> None:
        for _ in range(repeat.times):
            await self._play(repeat.steps, random)

    async def _parallel(self, branches: list[list[Step]], random: Random) -> None:
        async with trio.open_nursery() as nursery:
            for branch in branches:
                # Each branch has a source of its own, or their order would decide.
                nursery.start_soon(self._play, branch, Random(random.random()))  # noqa: S311

    async def _choose(self, steps: list[Step], random: Random) -> None:
        await self._do(random.choice(steps), random)

    async def _tell(self, text: str, _: Random) -> None:
        self.say(text)

    # Runs ----------------------------------------------------------------------------------------

    async def _submit(self, step: Submit, _: Random) -> None:
        group = step.group or step.flow
        self.say(f"submit {step.count} x {step.flow} to {step.tag} as {group}")
        text = flow_text(self.scenario, step.flow, step.params)
        room = trio.CapacityLimiter(_IN_FLIGHT)
        async with trio.open_nursery() as nursery:
            for index in range(step.count):
                if index and step.rate is not None:
                    await trio.sleep(1 / step.rate / self.speed)
                await room.acquire_on_behalf_of(permit := object())
                nursery.start_soon(self._submit_one, step, group, text, room, permit)

    async def _submit_one(
        self, step: Submit, group: str, text: str, room: trio.CapacityLimiter, permit: object
    ) -> None:
        try:
            await self.accepted(step, group, text)
        finally:
            room.release_on_behalf_of(permit)

    async def accepted(self, step: Submit, group: str, text: str) -> str | None:
        """Submit until it is accepted; None where it was refused and that may be.

        What becomes of it is in the history; each try without a key is a submission of its own.
        """
        fields = {"flow_name": step.flow, "tag": step.tag}
        for name in ("timeout_sec", "max_attempts"):
            if getattr(step, name) is not None:
                fields[name] = str(getattr(step, name))
        patience = min(_KEEP_TRYING_SECONDS, self._patience)
        told = self._submission()
        try:
            with trio.move_on_after(patience):
                while True:
                    headers = {"X-Request-ID": told.ticket}
                    if step.key:
                        headers["Idempotency-Key"] = step.key
                    before, told = told, replaced(told, outcome="unknown")
                    answer = await self._call(
                        "POST",
                        self._gateway(step.by),
                        "/runs/yaml",
                        files={"workflow": ("flow.yaml", text.encode())},
                        data=fields,
                        headers=headers,
                    )
                    if answer is not None:
                        told = _told(before, answer)
                    if told.outcome == "accepted":
                        return told.run_id
                    if step.may_fail:
                        return None
                    await trio.sleep(_TRY_AGAIN_SECONDS)
                    if not step.key:
                        self.history.submitted(told, group, self.now)
                        told = self._submission()
        finally:
            self.history.submitted(told, group, self.now)
        raise ScenarioError(f"submit: not accepted within {patience:g} s")

    def _submission(self) -> Submission:
        self._tickets += 1
        return Submission(f"ticket-{self._tickets}", "refused")

    async def _cancel(self, step: Cancel, random: Random) -> None:
        runs = self.history.group(step.group)
        chosen = [run for run in runs if random.random() < step.share]
        self.say(f"cancel {len(chosen)} of {len(runs)} runs of {step.group}")
        moments = sorted((random.random() * step.spread_sec, run.run_id) for run in chosen)
        async with trio.open_nursery() as nursery:
            for moment, run_id in moments:
                nursery.start_soon(self.cancel_one, run_id, moment / self.speed)

    async def cancel_one(self, run_id: str, after: float) -> None:
        """Cancel a run after a while, and note the answer."""
        await trio.sleep(after)
        answer = await self._call("POST", self._gateway(None), f"/runs/{run_id}/cancel")
        if answer is not None and answer.status_code == 200:
            status = RunStatus(answer.json()["status"])
            self.history.cancels.append(CancelAnswer(run_id, status, self.now))

    async def _publish(self, step: Publish, _: Random) -> None:
        subject = f"pyoco.work.{step.tag}"
        messages = [(subject, (step.text or "").encode())]
        if step.again is not None:
            runs = self.history.group(step.again)
            messages = [self._observer.jobs[run.run_id] for run in runs]
        self.say(f"publish {len(messages)} messages {step.times} times")
        for where, payload in messages * step.times:
            await publish_acked(self._stage.observer, where, payload)

    async def _replay(self, recording: Recording, _: Random) -> None:
        await replay(self, recording)

    async def _wait_for(self, group: str, _: Random) -> None:
        with trio.move_on_after(_START_SECONDS):
            while True:
                for run in self.history.group(group):
                    snapshot = self.history.last(run.run_id)
                    if snapshot is not None and snapshot.status is not RunStatus.PENDING:
                        return
                await self._observer.changed()
        raise ScenarioError(f"no run of {group} started within {_START_SECONDS:g} s")

    # Processes and connections ---------------------------------------------------------------------

    async def _act(
        self, what: str, names: Names, random: Random, act: Callable[[Program], Awaitable[None]]
    ) -> list[str]:
        targets = self._stage.named(names)
        self.say(f"{what} {', '.join(targets)}")
        for target in targets:
            name, _, part = target.partition(".")
            if name == "leader":
                name, part = await self._stage.leader(part or "PYOCO_WORK"), ""
            self._trouble(what, name)
            if part == "child":
                self._stage.kill_child(name, random)
            else:
                await act(self._stage.programs[name])
        return targets

    async def _start(self, names: Names, random: Random) -> None:
        async def start(program: Program) -> None:
            program.start()

        await self._stage.wait_ready(await self._act("start", names, random, start))

    async def _stop(self, names: Names, random: Random) -> None:
        await self._act("stop", names, random, Program.stop)

    async def _kill(self, names: Names, random: Random) -> None:
        await self._act("kill", names, random, Program.kill)

    async def _freeze(self, names: Names, random: Random) -> None:
        async def freeze(program: Program) -> None:
            program.signal(signal.SIGSTOP)

        await self._act("freeze", names, random, freeze)

    async def _resume(self, names: Names, random: Random) -> None:
        async def resume(program: Program) -> None:
            program.signal(signal.SIGCONT)

        await self._act("resume", names, random, resume)

    async def _cut(self, names: Names, _: Random) -> None:
        self._link("cut", names, Link.cut)

    async def _mute(self, names: Names, _: Random) -> None:
        self._link("mute", names, Link.mute)

    async def _delay(self, delay: Delay, _: Random) -> None:
        self._link("delay", delay.of, lambda link: link.delay(delay.seconds))

    async def _heal(self, names: Names, _: Random) -> None:
        if names == "nats":
            self.say("give the storage of NATS back")
            self._trouble("heal", "nats")
            await storage.free(self._stage.observer)
        else:
            self._link("heal", names, Link.heal)

    async def _fill(self, target: str, _: Random) -> None:
        self.say(f"use up the storage of {target}")
        self._trouble("fill", target)
        await storage.fill(self._stage.observer)

    def _link(self, what: str, names: Names, act: Callable[[Link], None]) -> None:
        targets = self._stage.named(names)
        self.say(f"{what} {', '.join(targets)}")
        for name in targets:
            act(self._stage.links[name])
            self._trouble(what, name)

    def _trouble(self, what: str, target: str) -> None:
        self.history.troubles.append(Trouble(what, target, self.now))

    async def _upload(self, wheel: Wheel, _: Random) -> None:
        self.say(f"upload {wheel.package} {wheel.version}")
        await wheels.upload(self.client, self._gateway(None).url, wheel)

    async def _delete(self, wheel: Wheel, _: Random) -> None:
        self.say(f"delete {wheel.package} {wheel.version}")
        await wheels.delete(self.client, self._gateway(None).url, wheel)

    # Looking -------------------------------------------------------------------------------------

    async def _expect(self, expect: Expect, _: Random) -> None:
        if "I6" in expect.invariants:
            await self.probe()
        self._observer.read_journal()
        patient = replace(expect, within=min(expect.within, self._patience))
        unmet = await check(patient, self.history, self._stage, self._observer, self._began)
        for each in unmet:
            self.say(f"NOT MET: {each.text}", failed=True)
        if unmet:
            self.unmet += unmet
            raise _Stop
        self.say("as expected")

    async def probe(self) -> None:
        """Measure how long a new run takes from now to its end, on the first worker's tag."""
        parts = [part for part in self.scenario.cast.workers if not part.later]
        if not parts:
            return
        began = trio.current_time()
        step = Submit(flow="quick", tag=parts[0].tags[0], group=PROBE)
        run_id = await self.accepted(step, PROBE, flow_text(self.scenario, "quick", {}))
        assert run_id is not None
        with trio.move_on_after(min(_KEEP_TRYING_SECONDS, self._patience)):
            while True:
                snapshot = self.history.last(run_id)
                if snapshot is not None and snapshot.status.terminal:
                    break
                await self._observer.changed()
        self.history.recoveries.append(trio.current_time() - began)

    async def _call(
        self, method: str, gateway: Gateway, path: str, **options: Any
    ) -> httpx.Response | None:
        began = trio.current_time()
        answer = None
        with suppress(httpx.HTTPError):
            request = self.client.build_request(method, gateway.url + path, **options)
            request.read()  # a form that is sent piece by piece would be left half read by a cut
            answer = await self.client.send(request)
        seconds = trio.current_time() - began
        program = self._stage.programs[gateway.name]
        if answer is not None or program.running:
            status = None if answer is None else answer.status_code
            where = path.partition("?")[0]
            self.history.answers.append(Answer(f"{method} {where}", status, seconds, self.now))
        return answer

    def _gateway(self, name: str | None) -> Gateway:
        if name is not None:
            return next(each for each in self._stage.gateways if each.name == name)
        running = [each for each in self._stage.gateways if self._stage.programs[each.name].running]
        self._turn += 1
        return (running or self._stage.gateways)[self._turn % len(running or self._stage.gateways)]


def _told(before: Submission, answer: httpx.Response) -> Submission:
    """What a submission is after an answer; with an earlier try unanswered a refusal settles nothing.

    Raises:
        ScenarioError: It can never be accepted.
    """
    if answer.status_code == 200:
        return replaced(before, outcome="accepted", run_id=str(answer.json()["run_id"]))
    if answer.status_code < 500:
        raise ScenarioError(f"submit: {answer.status_code} {answer.text[:500]}")
    if answer.status_code != 503:
        return replaced(before, outcome="unknown")
    return replaced(before, run_id=answer.json().get("run_id") or before.run_id)


class _Stop(Exception):
    """An expectation was not met: nothing more is played."""


_ACTIONS: Final[dict[str, Callable[[Player, Any, Random], Awaitable[None]]]] = {
    "submit": Player._submit,
    "cancel": Player._cancel,
    "publish": Player._publish,
    "replay": Player._replay,
    "upload": Player._upload,
    "delete": Player._delete,
    "start": Player._start,
    "stop": Player._stop,
    "kill": Player._kill,
    "freeze": Player._freeze,
    "resume": Player._resume,
    "cut": Player._cut,
    "mute": Player._mute,
    "delay": Player._delay,
    "heal": Player._heal,
    "fill": Player._fill,
    "wait": Player._wait,
    "wait_for": Player._wait_for,
    "expect": Player._expect,
    "repeat": Player._repeat,
    "parallel": Player._parallel,
    "choose": Player._choose,
    "say": Player._tell,
}
