"""Plays the steps of a scenario; chance comes from its seed alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import trio

from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.model.run import RunStatus
from pyoco_server.scenario import wheels
from pyoco_server.scenario.clients import Clients
from pyoco_server.scenario.document import ScenarioError
from pyoco_server.scenario.expectations import check
from pyoco_server.scenario.play import Play
from pyoco_server.scenario.recording import Recording
from pyoco_server.scenario.replay import replay
from pyoco_server.scenario.steps import Expect, Publish, Repeat, Step, Wheel
from pyoco_server.scenario.troubles import Troubles

_START_SECONDS: Final = 30.0


class Player:
    """Plays one scenario.

    Args:
        play: The performance.
        seed: What chance is drawn from.

    Attributes:
        unmet: What was not as expected.
    """

    def __init__(self, play: Play, seed: int) -> None:
        self._play = play
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self._clients = clients = Clients(play)
        self._troubles = troubles = Troubles(play)
        self.unmet: list[str] = []
        self._actions: dict[str, Callable[[Any, Random], Awaitable[None]]] = {
            "submit": clients.submit,
            "cancel": clients.cancel,
            "reschedule": clients.reschedule,
            "schedule": clients.schedule,
            "order_schedule": clients.order_schedule,
            "publish": self._publish,
            "replay": self._replay,
            "upload": self._upload,
            "delete": self._delete,
            "start": troubles.start,
            "stop": troubles.stop,
            "kill": troubles.kill,
            "freeze": troubles.freeze,
            "resume": troubles.resume,
            "cut": troubles.cut,
            "mute": troubles.mute,
            "delay": troubles.delay,
            "heal": troubles.heal,
            "fill": troubles.fill,
            "wait": self._wait,
            "wait_for": self._wait_for,
            "expect": self._expect,
            "repeat": self._repeat,
            "parallel": self._parallel,
            "choose": self._choose,
            "say": self._tell,
        }

    def miss(self, unmet: str) -> None:
        """Note an expectation that was not met, and go on."""
        self._play.say(f"NOT MET: {unmet}", failed=True)
        self.unmet.append(unmet)

    async def play(self) -> None:
        """Play every step; an expectation that is not met ends it (see `unmet`).

        Raises:
            ScenarioError: A step cannot be done.
        """
        async with self._clients.http:
            try:
                await self._steps(self._play.scenario.steps, self._random)
            except* _Stop:
                self._play.say("stopped: what comes next would show nothing")

    async def _steps(self, steps: list[Step], random: Random) -> None:
        for step in steps:
            await self._actions[step.action](getattr(step, step.action), random)

    # Time and chance -----------------------------------------------------------------------------

    async def _wait(self, seconds: float, _: Random) -> None:
        await trio.sleep(seconds / self._play.speed)

    async def _repeat(self, repeat: Repeat, random: Random) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(repeat.at_once):
                nursery.start_soon(self._again_and_again, repeat, _own(random))

    async def _again_and_again(self, repeat: Repeat, random: Random) -> None:
        seconds = repeat.for_sec
        if self._play.long and repeat.long_for_sec is not None:
            seconds = repeat.long_for_sec
        if seconds is None:
            for _ in range(repeat.times or 0):
                await self._steps(repeat.steps, random)
        else:
            end = trio.current_time() + seconds / self._play.speed
            while trio.current_time() < end:
                await self._steps(repeat.steps, random)

    async def _parallel(self, branches: list[list[Step]], random: Random) -> None:
        async with trio.open_nursery() as nursery:
            for branch in branches:
                nursery.start_soon(self._steps, branch, _own(random))

    async def _choose(self, choices: list[Step | list[Step]], random: Random) -> None:
        choice = random.choice(choices)
        await self._steps(choice if isinstance(choice, list) else [choice], random)

    async def _tell(self, text: str, _: Random) -> None:
        self._play.say(text)

    # What neither calls a gateway for runs nor makes trouble -----------------------------------------

    async def _publish(self, step: Publish, _: Random) -> None:
        subject = f"pyoco.work.{step.tag}"
        messages = [(subject, (step.text or "").encode())]
        if step.again is not None:
            runs = self._play.history.group(step.again)
            messages = [self._play.observer.jobs[run.run_id] for run in runs]
        self._play.say(f"publish {len(messages)} messages {step.times} times")
        for where, payload in messages * step.times:
            await publish_acked(self._play.stage.observer, where, payload)

    async def _replay(self, recording: Recording, random: Random) -> None:
        for text in await replay(self._play, self._clients, self._troubles, recording, random):
            self.miss(text)

    async def _upload(self, wheel: Wheel, _: Random) -> None:
        self._play.say(f"upload {wheel.package} {wheel.version}")
        await wheels.upload(self._clients.http, self._clients.gateway(None).url, wheel)

    async def _delete(self, wheel: Wheel, _: Random) -> None:
        self._play.say(f"delete {wheel.package} {wheel.version}")
        await wheels.delete(self._clients.http, self._clients.gateway(None).url, wheel)

    # Looking -------------------------------------------------------------------------------------

    async def _wait_for(self, group: str, _: Random) -> None:
        with trio.move_on_after(_START_SECONDS):
            while True:
                for run in self._play.history.group(group):
                    snapshot = self._play.history.last(run.run_id)
                    if snapshot is not None and snapshot.status is not RunStatus.PENDING:
                        return
                await self._play.observer.changed()
        raise ScenarioError(f"no run of {group} started within {_START_SECONDS:g} s")

    async def _expect(self, expect: Expect, _: Random) -> None:
        if "I6" in expect.invariants:
            await self._clients.probe()
        self._play.observer.read_journal()
        unmet = await check(expect, self._play)
        for each in unmet:
            self.miss(each)
        if unmet:
            raise _Stop
        self._play.say("as expected")


class _Stop(Exception):
    """An expectation was not met: nothing more is played."""


def _own(random: Random) -> Random:
    """A source of its own for what goes on beside others, or their order would decide."""
    return Random(random.random())  # noqa: S311 - repeatable on purpose
