"""What an actor logs for an asker has the asker's log fields; the rest of its life has not."""

from __future__ import annotations

import trio
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars
from trio.testing import MockClock

from .probe import Do, Journal, Probe, probe, running


async def test_the_fields_of_an_asker_last_as_long_as_its_request(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal())
    seen: list[tuple[str, object]] = []
    later = trio.Event()

    async def in_a_task() -> None:
        await later.wait()
        seen.append(("task", get_contextvars().get("request_id")))

    async def look(actor: Probe) -> None:
        seen.append(("handler", get_contextvars().get("request_id")))
        actor.spawn(in_a_task)

    async with running(spec):
        bind_contextvars(request_id="r-1")
        await spec.ref.ask(Do(look), within=5)
        await spec.ref.tell(Do(look))
        clear_contextvars()
        await spec.ref.ask(Do(look), within=5)
        later.set()
    assert seen[:3] == [("handler", "r-1"), ("handler", None), ("handler", None)]
    assert sorted(seen[3:], key=str) == [("task", "r-1"), ("task", None), ("task", None)]


async def test_an_actor_that_was_asked_by_an_actor_goes_on_with_the_first_askers_fields(
    autojump_clock: MockClock,
) -> None:
    first, second = probe("a", Journal()), probe("b", Journal())
    seen: list[object] = []

    async def look(_: Probe) -> None:
        seen.append(get_contextvars().get("request_id"))

    async def ask_on(_: Probe) -> None:
        await second.ref.ask(Do(look), within=5)

    bind_contextvars(request_id="r-2")
    async with running(first, second):
        await first.ref.ask(Do(ask_on), within=5)
    clear_contextvars()
    assert seen == ["r-2"]
