"""What the tree shows of itself: pictures, taps, and the text dump."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    ActorDown,
    AskExpired,
    Backoff,
    Down,
    MailboxPicture,
    Refusal,
    Restart,
    State,
    Strategy,
    TapEvent,
    TapKind,
    TreeNode,
    Work,
)
from pyoco_server.kernel.record import describe_error

from .faults import Boom, Script, Step, crash, delay
from .probe import Do, Echo, Journal, Probe, boom, crash_now, failing, find, probe, running, tree


async def crash_x(_: Probe) -> None:
    raise Boom("x")


async def refuse(_: Probe) -> None:
    raise Refusal("no")


async def test_the_picture_of_a_tree(autojump_clock: MockClock) -> None:
    a = probe("a", Journal(), Script({Step.HANDLE: delay(2)}), mailbox_capacity=9)
    nested = tree(a, name="nested", strategy=Strategy.REST_FOR_ONE)
    async with running(nested) as system:
        await a.ref.ask(Echo(), within=5)
        with pytest.raises(Refusal):
            await a.ref.ask(Do(refuse), within=5)
        await crash_now(a.ref, settle=0)
        await trio.sleep(10)
        a.ref.try_tell("in hand")
        a.ref.try_tell("waiting")
        await trio.sleep(1)
        picture = system.tree()
        up = picture.up_seconds
        assert up == pytest.approx(13)
        actor = TreeNode(
            path="/nested/a",
            kind="Probe",
            state=State.BUSY,
            incarnation=2,
            restarts=1,
            up_seconds=11,
            last_error="Boom: boom",
            last_error_age_seconds=11,
            mailbox=MailboxPicture(depth=1, capacity=9, waiting_senders=0),
            work=Work(messages=3, refusals=1, busy_seconds=2, longest_seconds=2),
        )
        supervisor = TreeNode(
            path="/nested",
            kind="rest_for_one",
            state=State.SUPERVISING,
            incarnation=1,
            restarts=0,
            up_seconds=up,
            last_error=None,
            last_error_age_seconds=None,
            children=(actor,),
        )
        root = TreeNode(
            path="/",
            kind="one_for_one",
            state=State.SUPERVISING,
            incarnation=1,
            restarts=0,
            up_seconds=up,
            last_error=None,
            last_error_age_seconds=None,
            children=(supervisor,),
        )
        assert picture == root
        assert [node.path for node in picture.walk()] == ["/", "/nested", "/nested/a"]
        assert picture.find("/nested") == supervisor
        assert picture.find("/nowhere") is None
        await trio.sleep(10)
        assert picture == root  # frozen


async def test_states_over_a_life(autojump_clock: MockClock) -> None:
    slow = {Step.ON_START: delay(2), Step.HANDLE: delay(2), Step.ON_STOP: delay(2)}
    a, b = probe("a", Journal(), Script(slow)), probe("b", Journal())
    seen: list[tuple[float, str]] = []

    async with running(a, b, backoff=Backoff(initial=2, jitter=0)) as system:
        began = trio.current_time()

        def look() -> None:
            found = system.tree().find("/a")
            assert found is not None
            seen.append((trio.current_time() - began, found.state.value))

        async def act() -> None:
            await system.restart("/a")  # 2 s clean-up, 2 s start
            a.ref.try_tell("poke")  # 2 s
            await trio.sleep(3)
            await crash_now(a.ref, settle=0)  # at 7 s: 2 s clean-up, 2 s backoff, 2 s start
            await trio.sleep(8)
            await system.restart("/a")  # at 15 s

        async with trio.open_nursery() as nursery:
            nursery.start_soon(act)
            for _ in range(20):
                await trio.sleep(1)
                with trio.CancelScope(shield=True):
                    await wait_all_tasks_blocked()
                look()
    states = [state for _, state in seen]
    order = [
        state for state, before in zip(states, [None, *states], strict=False) if state != before
    ]
    assert order == [
        "stopping",
        "starting",
        "busy",
        "idle",
        "stopping",
        "backing_off",
        "starting",
        "idle",
        "stopping",
        "starting",
        "idle",
    ]


async def test_a_supervisor_that_starts_or_stops_is_not_up(autojump_clock: MockClock) -> None:
    slow = {Step.ON_START: delay(2), Step.ON_STOP: delay(2)}
    nested = tree(probe("a", Journal(), Script(slow)), name="nested")
    async with running(nested) as system, trio.open_nursery() as nursery:
        nursery.start_soon(system.restart, "/nested")
        for state in (State.STOPPING, State.STARTING):
            await trio.sleep(1.5)
            node = system.tree().find("/nested")
            assert node is not None
            assert (node.state, node.up_seconds) == (state, None)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Boom("plain"), "Boom: plain"),
        (Boom(), "Boom"),
        (Boom("over\n  two lines"), "Boom: over two lines"),
        (ExceptionGroup("g", [ExceptionGroup("h", [Boom("deep")])]), "Boom: deep"),
        (
            ExceptionGroup("both", [Boom("one"), KeyError("two")]),
            "both: Boom: one; KeyError: 'two'",
        ),
    ],
)
async def test_the_last_error_in_one_line(
    autojump_clock: MockClock, error: Exception, text: str
) -> None:
    spec = probe("a", Journal(), Script({Step.HANDLE: crash(error)}), restart=Restart.TEMPORARY)
    async with running(spec) as system:
        await spec.ref.tell("poke")
        await trio.sleep(1)
        node = system.tree().find("/a")
        assert node is not None
        assert node.last_error == text


# Taps


async def test_a_tap_sees_every_message(autojump_clock: MockClock) -> None:
    events: list[TapEvent] = []
    a, b = probe("a", Journal()), probe("b", Journal())

    async def pass_on(me: Probe) -> None:
        await b.ref.tell("from a")

        async def from_a_task() -> None:
            await trio.sleep(1)
            b.ref.try_tell("from a task of a")

        me.spawn(from_a_task)

    passing = Do(pass_on)
    async with running(a, b) as system:
        await a.ref.tell("before the tap")
        await wait_all_tasks_blocked()
        with system.tap(events.append):
            began = trio.current_time()
            await a.ref.ask(passing, within=5)
            await trio.sleep(2)
            with pytest.raises(Refusal):
                await b.ref.ask(refusing := Do(refuse), within=5)
            await b.ref.tell(crashing := Do(boom))
            await trio.sleep(1)
            await b.ref.tell("after")
            await wait_all_tasks_blocked()
        await a.ref.tell("after the tap")
    assert [(e.path, e.incarnation, e.sender, e.kind, e.message) for e in events] == [
        ("/a", 1, None, TapKind.ASKED, passing),
        ("/b", 1, "/a", TapKind.TOLD, "from a"),
        ("/a", 1, None, TapKind.HANDLED, passing),
        ("/b", 1, "/a", TapKind.HANDLED, "from a"),
        ("/b", 1, "/a", TapKind.TOLD, "from a task of a"),
        ("/b", 1, "/a", TapKind.HANDLED, "from a task of a"),
        ("/b", 1, None, TapKind.ASKED, refusing),
        ("/b", 1, None, TapKind.REFUSED, refusing),
        ("/b", 1, None, TapKind.TOLD, crashing),
        ("/b", 1, None, TapKind.CRASHED, crashing),
        ("/b", 1, None, TapKind.DIED, None),
        ("/b", 2, None, TapKind.STARTED, None),
        ("/b", 2, None, TapKind.TOLD, "after"),
        ("/b", 2, None, TapKind.HANDLED, "after"),
    ]
    assert [event.sequence for event in events] == list(range(1, 15))
    assert events[0].at == began
    assert events[-1].at == pytest.approx(began + 3)
    errors = [describe_error(event.error) for event in events if event.error is not None]
    assert errors == ["Refusal: no", "Boom: boom", "Boom: boom"]


async def test_a_tap_sees_the_kernels_own_messages(autojump_clock: MockClock) -> None:
    events: list[TapEvent] = []
    a, b = probe("a", Journal()), probe("b", Journal())

    async def monitor(me: Probe) -> None:
        me.monitor(b.ref)

    async with running(a, b) as system:
        await a.ref.ask(Do(monitor), within=5)
        with system.tap(events.append):
            await crash_now(b.ref)
    down = Down("/b", 1, "Boom: boom")
    about = [(e.path, e.sender, e.kind) for e in events if e.message == down]
    assert about == [("/a", "/b", TapKind.TOLD), ("/a", "/b", TapKind.HANDLED)]


async def test_messages_that_were_not_sent_are_not_seen(autojump_clock: MockClock) -> None:
    events: list[TapEvent] = []
    spec = probe("a", Journal(), Script({Step.HANDLE: delay(5)}), mailbox_capacity=1)
    async with running(spec) as system:
        with system.tap(events.append):
            await spec.ref.tell("in hand")
            await wait_all_tasks_blocked()
            await spec.ref.tell("waiting")
            with pytest.raises(AskExpired):
                await spec.ref.ask(Echo(), within=1)
    with system.tap(events.append), pytest.raises(ActorDown):
        spec.ref.try_tell("late")
    told = [event.message for event in events if event.kind in (TapKind.TOLD, TapKind.ASKED)]
    assert told == ["in hand", "waiting"]


async def test_a_tap_that_raises_ends_the_system_without_leaving_anything(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    a, b, c = (probe(name, journal) for name in "abc")

    async def monitor(me: Probe) -> None:
        me.monitor(b.ref)

    def listen(event: TapEvent) -> None:
        if isinstance(event.message, Down) and event.kind is TapKind.TOLD:
            raise KeyError("listener")

    async with failing(a, b, c) as caught:
        await a.ref.ask(Do(monitor), within=5)
        with caught.system.tap(listen):
            await crash_now(b.ref)
    assert find(caught.group, KeyError) is not None
    # What was cancelled along did not crash.
    assert [node.last_error for node in caught.system.tree().children] == [None, "Boom: boom", None]
    for name in "abc":
        assert journal.count(f"start {name}") == journal.count(f"stop {name}") == 1


async def test_several_taps_come_and_go(autojump_clock: MockClock) -> None:
    one: list[TapEvent] = []
    two: list[TapEvent] = []
    spec = probe("a", Journal())
    async with running(spec) as system:
        with system.tap(one.append):
            with system.tap(two.append):
                await spec.ref.ask(Echo(), within=5)
            await spec.ref.ask(Echo(), within=5)
    assert (len(one), len(two)) == (4, 2)
    assert one[:2] == two


async def test_without_a_tap_no_event_is_made(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(**_: object) -> None:
        pytest.fail("an event was made")

    monkeypatch.setattr("pyoco_server.kernel.registry.TapEvent", never)
    spec = probe("a", Journal())
    async with running(spec):
        assert await spec.ref.ask(Echo(), within=5) == "hello"
        await crash_now(spec.ref)
