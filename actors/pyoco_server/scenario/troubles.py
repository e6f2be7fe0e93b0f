"""What is done to the cast: processes are ended, frozen and started, connections cut, storage filled."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Final

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError
from pyoco_server.jetstream.inventory import create_stream, delete_stream
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.scenario.document import ScenarioError
from pyoco_server.scenario.history import Trouble
from pyoco_server.scenario.links import Link
from pyoco_server.scenario.parts import Names
from pyoco_server.scenario.play import Play
from pyoco_server.scenario.programs import Program
from pyoco_server.scenario.steps import Delay

_FILLER: Final = "SCENE_FILLER"
_BLOCK: Final = bytes(256 * 1024)
# 16 GiB: who has more than that left has forgotten `cast.store_mb`.
_MOST_BLOCKS: Final = 65_536


class Troubles:
    """Makes and undoes trouble, and writes it down."""

    def __init__(self, play: Play) -> None:
        self._play = play

    async def start(self, names: Names, random: Random) -> None:
        """Start processes that do not run, and wait until they can do their work."""

        async def start(program: Program) -> None:
            program.start()

        await self._play.stage.wait_ready(await self._act("start", names, random, start))

    async def stop(self, names: Names, random: Random) -> None:
        """End processes in good order."""
        await self._act("stop", names, random, partial(self._end, Program.stop))

    async def kill(self, names: Names, random: Random) -> None:
        """Kill processes."""
        await self._act("kill", names, random, partial(self._end, Program.kill))

    async def freeze(self, names: Names, random: Random) -> None:
        """Stop processes where they are."""
        await self._act("freeze", names, random, partial(_signal, signal.SIGSTOP))

    async def resume(self, names: Names, random: Random) -> None:
        """Let them go on."""
        await self._act("resume", names, random, partial(_signal, signal.SIGCONT))

    async def cut(self, names: Names, _: Random) -> None:
        """Break connections to NATS, and every further attempt."""
        self._link("cut", names, Link.cut)

    async def mute(self, names: Names, _: Random) -> None:
        """Keep connections, but let nothing through."""
        self._link("mute", names, Link.mute)

    async def delay(self, delay: Delay, _: Random) -> None:
        """Let what goes through connections arrive later."""
        self._link("delay", delay.of, lambda link: link.delay(delay.seconds))

    async def heal(self, names: Names, _: Random) -> None:
        """Undo what was done to connections, or to the storage of NATS."""
        if names == "nats":
            self._play.say("give the storage of NATS back")
            self._note("heal", "nats")
            await delete_stream(self._play.stage.observer, _FILLER)
        else:
            self._link("heal", names, Link.heal)

    async def fill(self, target: str, _: Random) -> None:
        """Use up the storage of NATS.

        Raises:
            ScenarioError: It takes whatever comes.
        """
        self._play.say(f"use up the storage of {target}")
        self._note("fill", target)
        await _fill(self._play.stage.observer)

    async def _act(
        self, what: str, names: Names, random: Random, act: Callable[[Program], Awaitable[None]]
    ) -> list[str]:
        stage = self._play.stage
        targets = stage.named(names)
        self._play.say(f"{what} {', '.join(targets)}")
        for target in targets:
            name, _, part = target.partition(".")
            if name == "leader":
                name, part = await stage.leader(part or "PYOCO_WORK"), ""
            self._note(what, target)
            if part == "child":
                stage.kill_child(name, random)
            else:
                await act(stage.programs[name])
        return targets

    async def _end(self, end: Callable[[Program], Awaitable[None]], program: Program) -> None:
        await end(program)
        self._play.history.left_processes += await program.outlived_by()

    def _link(self, what: str, names: Names, act: Callable[[Link], None]) -> None:
        stage = self._play.stage
        targets = stage.named(names)
        self._play.say(f"{what} {', '.join(targets)}")
        for name in targets:
            link = stage.links.get(name)
            if link is None:
                raise ScenarioError(f"{what}: {name} has no link, only gateways and workers have")
            act(link)
            self._note(what, name)

    def _note(self, what: str, target: str) -> None:
        kind = self._play.stage.kind(target)
        self._play.history.troubles.append(Trouble(what, target, kind, self._play.now))


async def _signal(number: int, program: Program) -> None:
    program.signal(number)


async def _fill(connection: Connection) -> None:
    """Store until JetStream refuses."""
    config = {"name": _FILLER, "subjects": ["scene.filler"], "storage": "file", "num_replicas": 1}
    await create_stream(connection, config)
    for size in (len(_BLOCK), 4096, 1):
        for _ in range(_MOST_BLOCKS):
            try:
                await publish_acked(connection, "scene.filler", _BLOCK[:size])
            except ApiError:
                break
        else:
            raise ScenarioError("NATS takes whatever comes: set cast.store_mb to fill its storage")
