"""Every fault at every step of an actor's life, and what each hook may rely on."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    Actor,
    ChildSpec,
    KernelError,
    Refusal,
    Restart,
    StartExpired,
    State,
)

from .faults import (
    WAITING_STEPS,
    Act,
    Boom,
    Script,
    Step,
    crash,
    crash_beside_a_sleeper,
    crash_when_cancelled,
    delay,
    hang,
    resist,
)
from .probe import (
    Do,
    Echo,
    Journal,
    Probe,
    boom,
    crash_now,
    failed_start,
    find,
    leaves,
    node,
    probe,
    running,
    tree,
)

CRASHES: dict[str, Act] = {
    "error": crash(Boom("fault")),
    "group": crash(ExceptionGroup("faults", [Boom("one"), Boom("two")])),
    "ctrl-c": crash(KeyboardInterrupt()),
    "exit": crash(SystemExit(3)),
    "mixed": crash(BaseExceptionGroup("faults", [Boom("one"), KeyboardInterrupt()])),
}
WAITS: dict[str, Act] = {
    "hang": hang,
    "delay": delay(3),
    "resist": resist(3),
    "error when cancelled": crash_when_cancelled(Boom("fault")),
    "error beside a sleeper": crash_beside_a_sleeper(Boom("fault")),
    "ctrl-c when cancelled": crash_when_cancelled(KeyboardInterrupt()),
}
FAULTS = [
    *(
        pytest.param(step, act, id=f"{step.value}-{name}")
        for step in Step
        for name, act in CRASHES.items()
    ),
    *(
        pytest.param(step, act, id=f"{step.value}-{name}")
        for step in WAITING_STEPS
        for name, act in WAITS.items()
    ),
]


@pytest.mark.parametrize("life", [1, 2])
@pytest.mark.parametrize("shutdown_seconds", [0, 5])
@pytest.mark.parametrize(("step", "act"), FAULTS)
async def test_whatever_goes_wrong_all_that_started_stops_in_bounded_time(
    autojump_clock: MockClock, step: Step, act: Act, shutdown_seconds: float, life: int
) -> None:
    journal = Journal()
    faulty = probe(
        "faulty",
        journal,
        Script({step: act}, lives={life}),
        shutdown_seconds=shutdown_seconds,
        cleanup_seconds=5,
        start_within=10,
    )
    began = trio.current_time()
    escaped: BaseException | None = None
    try:
        async with running(probe("before", journal), faulty, probe("after", journal)):
            if life == 2:
                await crash_now(faulty.ref)
            await faulty.ref.tell("poke")
            await trio.sleep(50)
    except BaseExceptionGroup as group:
        escaped = group
    journal.check()
    assert journal.count("start before") == 1
    assert journal.entries[-1] == "stop before"
    assert trio.current_time() - began < 100
    if escaped is not None:
        kinds = {type(leaf) for leaf in leaves(escaped)}
        starting = life == 1 and step in (Step.CONSTRUCTOR, Step.ON_START)
        allowed = {KeyboardInterrupt, SystemExit}
        assert kinds <= ({Boom, StartExpired, *allowed} if starting else {Boom, *allowed})
        assert starting or kinds & allowed


# Start


@pytest.mark.parametrize("step", [Step.CONSTRUCTOR, Step.ON_START])
async def test_a_failed_first_start_stops_those_before_in_reverse(
    autojump_clock: MockClock, step: Step
) -> None:
    journal = Journal()
    group = await failed_start(
        probe("a", journal),
        probe("b", journal),
        probe("bad", journal, Script({step: crash(Boom("no start"))})),
        probe("never", journal),
    )
    assert [str(leaf) for leaf in leaves(group)] == ["no start"]
    began_bad = ["start bad", "stop bad"] if step is Step.ON_START else []
    assert journal.entries == ["start a", "start b", *began_bad, "stop b", "stop a"]


async def test_an_actor_takes_messages_only_after_it_started(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.ON_START: delay(5)}))
    spec.ref.try_tell("early")
    began = trio.current_time()
    async with running(spec, probe("b", journal)):
        assert trio.current_time() == began + 5
    assert journal.entries[0] == "start a"
    assert set(journal.entries[1:3]) == {"a: early", "start b"}


@pytest.mark.parametrize(
    ("act", "after"), [(hang, 0.0), (resist(20), 10.0), (crash_when_cancelled(Boom("late")), 0.0)]
)
async def test_a_start_that_takes_too_long_is_cut_off(
    autojump_clock: MockClock, act: Act, after: float
) -> None:
    journal = Journal()
    spec = probe("slow", journal, Script({Step.ON_START: act}), start_within=10)
    began = trio.current_time()
    expired = find(await failed_start(probe("a", journal), spec), StartExpired)
    assert str(expired) == "/slow was not ready within 10 s"
    assert trio.current_time() == began + 10 + after
    assert journal.entries == ["start a", "start slow", "stop slow", "stop a"]
    if act is not hang and not after:
        assert expired is not None
        assert find(expired.__cause__ or expired, Boom) is not None


async def test_a_slow_start_in_time_is_no_crash(autojump_clock: MockClock) -> None:
    spec = probe("slow", Journal(), Script({Step.ON_START: delay(9)}), start_within=10)
    async with running(spec) as system:
        assert node(system, "/slow").state is State.IDLE
        assert node(system, "/slow").last_error is None


async def test_a_start_that_is_too_slow_in_a_restart_is_one_more_crash(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    spec = probe("slow", journal, Script({Step.ON_START: hang}, lives={2}), start_within=10)
    async with running(spec) as system:
        await crash_now(spec.ref)
        await trio.sleep(11)
        assert node(system, "/slow").incarnation == 3
        assert node(system, "/slow").restarts == 2
        assert node(system, "/slow").last_error == "StartExpired: /slow was not ready within 10 s"
        assert await spec.ref.ask(Echo(), within=5) == "hello"
    assert journal.count("start slow") == journal.count("stop slow") == 3


@pytest.mark.parametrize("step", [Step.CONSTRUCTOR, Step.ON_START])
async def test_a_failed_restart_is_tried_again(autojump_clock: MockClock, step: Step) -> None:
    spec = probe("a", Journal(), Script({step: crash(Boom("not yet"))}, lives={2, 3}))
    async with running(spec) as system:
        await crash_now(spec.ref)
        assert node(system, "/a").incarnation == 4
        assert node(system, "/a").last_error == "Boom: not yet"
        assert await spec.ref.ask(Echo(), within=5) == "hello"


async def test_a_refusal_at_start_is_a_crash(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.ON_START: crash(Refusal("no"))}))
    assert find(await failed_start(spec), Refusal) is not None


# Tasks


async def test_a_task_is_cancelled_with_its_actor(autojump_clock: MockClock) -> None:
    journal = Journal()

    async def note_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            journal.note("task ended")

    spec = probe("a", journal, Script({Step.TASK: note_end}))
    async with running(spec):
        await crash_now(spec.ref)
    # Tasks have ended when on_stop runs.
    assert journal.entries == ["start a", "task ended", "stop a"] * 2


async def test_a_task_that_comes_to_its_end_ends_nothing_else(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.TASK: delay(1)}))
    async with running(spec) as system:
        await trio.sleep(5)
        assert node(system, "/a").incarnation == 1
    assert journal.entries == ["start a", "stop a"]


async def test_no_task_outside_of_a_running_life(autojump_clock: MockClock) -> None:
    journal = Journal()

    class Late(Actor[object]):
        async def handle(self, message: object) -> None:
            raise NotImplementedError

        async def on_stop(self) -> None:
            with pytest.raises(KernelError, match="/late cannot spawn a task"):
                self.spawn(trio.sleep_forever)
            journal.note("refused")

    async with running(ChildSpec("late", Late)):
        pass
    assert journal.entries == ["refused"]


# Ends


async def test_an_actor_knows_itself(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    seen: list[object] = []

    async def look(me: Probe) -> None:
        seen.extend([me.me, me.path])

    async with running(spec):
        await spec.ref.ask(Do(look), within=5)
    assert seen == [spec.ref, "/a"]


@pytest.mark.parametrize("where", ["handle", "on_start"])
async def test_stop_ends_an_actor_after_the_message_in_hand(
    autojump_clock: MockClock, where: str
) -> None:
    journal = Journal()

    class Brief(Actor[str]):
        async def on_start(self) -> None:
            journal.note("start")
            if where == "on_start":
                self.stop()

        async def handle(self, message: str) -> None:
            self.stop()
            await trio.sleep(1)
            journal.note(message)

        async def on_stop(self) -> None:
            journal.note("stop")

    spec = ChildSpec("brief", Brief, restart=Restart.TRANSIENT)
    spec.ref.try_tell("first")
    spec.ref.try_tell("second")
    async with running(spec) as system:
        await trio.sleep(5)
        assert node(system, "/brief").state is State.STOPPED
    assert journal.entries == ["start", *(["first"] if where == "handle" else []), "stop"]


@pytest.mark.parametrize("step", [Step.HANDLE, Step.TASK, Step.ON_START])
async def test_clean_up_runs_once_after_any_crash(autojump_clock: MockClock, step: Step) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({step: crash(Boom("x"))}, lives={2}))
    async with running(spec):
        await crash_now(spec.ref)
        await spec.ref.tell("poke")
        await trio.sleep(1)
        assert journal.count("stop a") == 2
        assert journal.count("start a") == 3


async def test_clean_up_has_a_limit(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.ON_STOP: hang}), cleanup_seconds=4)
    async with running(probe("first", journal), spec):
        began = trio.current_time()
    assert trio.current_time() == began + 4
    assert journal.entries[-1] == "stop first"


async def test_clean_up_is_shielded_and_may_wait(autojump_clock: MockClock) -> None:
    journal = Journal()

    async def slowly() -> None:
        await trio.sleep(3)
        journal.note("cleaned up")

    spec = probe("a", journal, Script({Step.ON_STOP: slowly}), shutdown_seconds=0)
    with trio.CancelScope() as scope:
        async with running(spec):
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert journal.entries == ["start a", "stop a", "cleaned up"]


async def test_clean_up_that_raises_is_a_crash(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.ON_STOP: crash(Boom("clean-up"))}, lives={1}))

    async def end(me: Probe) -> None:
        me.stop()

    async with running(spec) as system:
        await spec.ref.tell(Do(end))
        await trio.sleep(1)
        assert node(system, "/a").last_error == "Boom: clean-up"
        assert node(system, "/a").incarnation == 2


async def test_a_crash_is_not_lost_when_the_clean_up_crashes_too(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.ON_STOP: crash(Boom("clean-up"))}, lives={1}))
    async with running(spec) as system:
        await crash_now(spec.ref)
        error = node(system, "/a").last_error
        assert error == "/a crashed and so did its clean-up: Boom: boom; Boom: clean-up"


async def test_a_crash_during_the_shutdown_is_kept_but_goes_nowhere(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.ON_STOP: crash(Boom("clean-up"))}))
    async with running(probe("first", journal), spec) as system:
        pass
    assert node(system, "/a").last_error == "Boom: clean-up"
    assert journal.entries[-1] == "stop first"


async def test_errors_beside_a_cancellation_are_kept(autojump_clock: MockClock) -> None:
    """A handler's nursery ends in a group of Cancelled and an error when the shutdown cancels it."""
    spec = probe("a", Journal(), shutdown_seconds=0)

    async def fail_as_it_ends(me: Probe) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang)
            nursery.start_soon(crash_when_cancelled(Boom("as it ended")))

    async with running(spec) as system:
        await spec.ref.tell(Do(fail_as_it_ends))
        await wait_all_tasks_blocked()
    assert node(system, "/a").last_error == "Boom: as it ended"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("nested", [False, True])
async def test_ctrl_c_in_an_actor_ends_the_tree_in_order(
    autojump_clock: MockClock, kind: type[BaseException], nested: bool
) -> None:
    journal = Journal()

    async def interrupt(_: Probe) -> None:
        raise kind

    hit = probe("hit", journal)
    middle: Any = tree(hit, probe("sibling", journal), name="middle") if nested else hit
    with pytest.raises(BaseExceptionGroup) as info:  # noqa: PT012
        async with running(probe("a", journal), middle, probe("b", journal)):
            await hit.ref.tell(Do(interrupt))
            await trio.sleep_forever()
    assert [type(leaf) for leaf in leaves(info.value)] == [kind]
    stops = [entry for entry in journal.entries if entry.startswith("stop")]
    if nested:  # the middle ends first, its hit child before all
        assert stops == ["stop hit", "stop sibling", "stop b", "stop a"]
    else:
        assert stops == ["stop hit", "stop b", "stop a"]
    assert journal.count("start hit") == 1


async def test_ctrl_c_during_the_shutdown_is_not_lost(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.ON_STOP: crash(KeyboardInterrupt())}))
    with pytest.raises(BaseExceptionGroup) as info:
        async with running(probe("first", journal), spec):
            pass
    assert find(info.value, KeyboardInterrupt) is not None
    assert journal.entries[-1] == "stop first"


async def test_the_same_actor_object_may_live_again(autojump_clock: MockClock) -> None:
    journal = Journal()
    one = Probe("a", journal, Script())
    spec: ChildSpec[object] = ChildSpec("a", lambda: one)
    async with running(spec):
        await spec.ref.tell(Do(boom))
        await trio.sleep(1)
        assert await spec.ref.ask(Echo(), within=5) == "hello"
