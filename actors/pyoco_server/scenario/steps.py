"""The steps of a scenario: what is done, to whom, and what must be so."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from pyoco_server.scenario.parts import Name, Names, Part, Seconds
from pyoco_server.scenario.recording import Recording

Share: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
Invariant: TypeAlias = Literal["I1", "I2", "I3", "I4", "I5", "I6", "I7", "once"]


class Submit(Part, frozen=True, kw_only=True):
    """Submit runs.

    Attributes:
        flow: Which flow: one of the file's, or quick, slow, stubborn, failing, crashing, printing.
        count: How many.
        rate: How many a second; all at once when left out.
        params: Over the flow's defaults.
        tag: Where they go.
        group: What later steps call them; the flow's name when left out.
        by: Which gateway takes them; in turns when left out.
        key: Idempotency key: all of them become one run.
        keyed: Whether each has a key of its own, with which it is tried again.
        by_name: Whether only the flow's name is sent, for workers that know it, and not its flow.yaml.
        batch: Whether all go in one request, each with a key of its own.
        cancel_within_sec: Cancel each at a moment drawn by the seed, so long after it was accepted at most.
        timeout_sec: How long one attempt may take.
        max_attempts: How often one may be tried.
        delay_sec: How long after its submission one may start.
        queue_ttl_sec: How long after it may start one may still be started.
        expected_start_within_sec: One is late that has not started so long after it may.
        expected_end_within_sec: One is late that has not ended so long after it may start.
        may_fail: Whether a refusal is no failure of the scenario (NATS or the gateway is away).
    """

    flow: Name
    count: Annotated[int, Meta(ge=1, le=100_000)] = 1
    rate: Annotated[float, Meta(gt=0)] | None = None
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    tag: Name = "hello"
    group: Name | None = None
    by: Name | None = None
    key: str | None = None
    keyed: bool = False
    by_name: bool = False
    batch: bool = False
    cancel_within_sec: Seconds | None = None
    timeout_sec: Seconds | None = None
    max_attempts: Annotated[int, Meta(ge=1)] | None = None
    delay_sec: Seconds | None = None
    queue_ttl_sec: Seconds | None = None
    expected_start_within_sec: Seconds | None = None
    expected_end_within_sec: Seconds | None = None
    may_fail: bool = False


class Cancel(Part, frozen=True, kw_only=True):
    """Cancel runs of a group.

    Attributes:
        group: Whose.
        share: Which part of them, drawn by the seed.
        spread_sec: Over which time, each at a moment drawn by the seed.
    """

    group: Name
    share: Share = 1.0
    spread_sec: Seconds = 0.0


class Reschedule(Part, frozen=True, kw_only=True):
    """Move runs of a group that have not started; those that have are left alone.

    Attributes:
        group: Whose.
        share: Which part of them, drawn by the seed.
        delay_sec: How long from then they may start.
        queue_ttl_sec: How long after that they may still be started.
    """

    group: Name
    share: Share = 1.0
    delay_sec: Seconds
    queue_ttl_sec: Seconds | None = None


class SetSchedule(Part, frozen=True, kw_only=True):
    """Make a schedule, or make it another one.

    Attributes:
        id: What it is called.
        flow: Which flow its runs have, as in ``submit``.
        params: Over the flow's defaults.
        tag: Where its runs go.
        every_sec: How long from one tick to the next.
        cron: Instead: a crontab, with six fields for seconds.
        timezone: The crontab's.
        overlap: What a tick does while the run before goes on: allow, skip, queue, cancel_running.
        catch_up: What becomes of ticks that nobody was there for: all, last, none.
        catch_up_limit: How many of them at most.
    """

    id: Name
    flow: Name = "quick"
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    tag: Name = "hello"
    every_sec: Seconds | None = None
    cron: str | None = None
    timezone: str = "UTC"
    overlap: Literal["allow", "skip", "queue", "cancel_running"] = "allow"
    catch_up: Literal["all", "last", "none"] = "all"
    catch_up_limit: Annotated[int, Meta(ge=1)] | None = None


class OrderSchedule(Part, frozen=True, kw_only=True):
    """Have something done with a schedule.

    Attributes:
        id: Which.
        do: What.
    """

    id: Name
    do: Literal["pause", "resume", "trigger", "delete"]


class Publish(Part, frozen=True, kw_only=True):
    """Put a message into a queue as it stands, past every gateway: poison, or a job once more.

    Attributes:
        tag: Which queue.
        text: The message.
        again: Instead of a text: the jobs of this group's runs, as a queue that delivers twice would.
        times: How often.
    """

    tag: Name = "hello"
    text: str | None = None
    again: Name | None = None
    times: Annotated[int, Meta(ge=1, le=1000)] = 1


class Wheel(Part, frozen=True, kw_only=True):
    """Build a wheel with one module and upload it, or delete what was uploaded.

    Attributes:
        package: Its name, and that of its module.
        version: Its version.
        code: The module's text.
        tags: Whose it is; every worker's when empty.
    """

    package: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")]
    version: str
    code: str = ""
    tags: list[Name] = msgspec.field(default_factory=list)


class Delay(Part, frozen=True, kw_only=True):
    """Let what goes between a process and NATS arrive later.

    Attributes:
        of: Which processes.
        seconds: How much later.
    """

    of: Names
    seconds: Seconds


class Bound(Part, frozen=True, kw_only=True):
    """Limits of a figure of the report.

    Attributes:
        figure: Its name, e.g. ``recovery_p99``.
        most: The largest value that is right.
        least: The smallest.
    """

    figure: str
    most: float | None = None
    least: float | None = None


class Expect(Part, frozen=True, kw_only=True):
    """What must be so, at the latest after a while; the scenario fails otherwise.

    Attributes:
        within: How long to wait for it, in seconds.
        group: Whose runs; all of them when left out.
        all: Each of them has this status.
        counts: So many have this status.
        runs: So many runs there are.
        outputs: Each of them has one of these results of its last task.
        results: Each of them has this result of this task, read as clients read it.
        workers: State of workers by id.
        letters: So many dead letters there are, by reason.
        ticks: So many ticks of schedules, by id, have a run that COMPLETED, or more; none has two, and where
            the schedule is one of ``every_sec``, none is left out in between, but for those of a pause.
        ready: Whether every gateway that runs is ready.
        invariants: Hold for the whole history so far.
        figures: Lie within bounds.
    """

    within: Seconds = 30.0
    group: Name | None = None
    all: str | None = None
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    runs: int | None = None
    outputs: list[Any] | None = None
    results: dict[str, Any] = msgspec.field(default_factory=dict)
    workers: dict[str, str] = msgspec.field(default_factory=dict)
    letters: dict[str, int] = msgspec.field(default_factory=dict)
    ticks: dict[str, int] = msgspec.field(default_factory=dict)
    ready: bool | None = None
    invariants: list[Invariant] = msgspec.field(default_factory=list)
    figures: list[Bound] = msgspec.field(default_factory=list)


class Repeat(Part, frozen=True, kw_only=True):
    """Steps, several times; either so often or for so long.

    Attributes:
        times: How often.
        for_sec: For how long they begin anew.
        long_for_sec: For how long instead where ``--long`` is given.
        at_once: How many do this at the same time, each with chances of its own.
        steps: What.
    """

    times: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    for_sec: Seconds | None = None
    long_for_sec: Seconds | None = None
    at_once: Annotated[int, Meta(ge=1, le=100)] = 1
    steps: list[Step]


class Step(Part, frozen=True, kw_only=True):
    """One step; exactly one of these.

    Attributes:
        submit: Submit runs.
        cancel: Cancel runs.
        reschedule: Move runs that have not started.
        schedule: Make a schedule.
        order_schedule: Pause, resume, trigger or delete one.
        publish: Put a message into a queue, past every gateway.
        replay: Play what was recorded on a live system.
        upload: Build and upload a wheel.
        delete: Delete a wheel.
        start: Start processes that do not run.
        stop: End processes in good order (SIGTERM).
        kill: Kill processes (SIGKILL); ``w1.child`` is one of the children of w1.
        freeze: Stop processes where they are (SIGSTOP).
        resume: Let them go on.
        cut: Break the connection of processes to NATS, and every further attempt.
        mute: Keep it, but let nothing through any more (half open).
        delay: Let what goes through it arrive later.
        heal: Undo cut, mute and delay.
        fill: Use up the storage of NATS; ``heal: nats`` gives it back.
        wait: Let so many seconds pass.
        wait_for: Wait until runs of a group have started (RUNNING), at most 30 seconds.
        expect: What must be so.
        repeat: Steps several times.
        parallel: Lists of steps at the same time.
        choose: One of these steps or lists of steps, drawn by the seed.
        say: Write a line into the transcript.
    """

    submit: Submit | None = None
    cancel: Cancel | None = None
    reschedule: Reschedule | None = None
    schedule: SetSchedule | None = None
    order_schedule: OrderSchedule | None = None
    publish: Publish | None = None
    replay: Recording | None = None
    upload: Wheel | None = None
    delete: Wheel | None = None
    start: Names | None = None
    stop: Names | None = None
    kill: list[str] | str | None = None
    freeze: Names | None = None
    resume: Names | None = None
    cut: Names | None = None
    mute: Names | None = None
    delay: Delay | None = None
    heal: Names | None = None
    fill: Literal["nats"] | None = None
    wait: Seconds | None = None
    wait_for: Name | None = None
    expect: Expect | None = None
    repeat: Repeat | None = None
    parallel: list[list[Step]] | None = None
    choose: list[Step | list[Step]] | None = None
    say: str | None = None

    @property
    def action(self) -> str:
        """The name of the one that is given."""
        return next(name for name in self.__struct_fields__ if getattr(self, name) is not None)
