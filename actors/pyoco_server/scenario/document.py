"""The scenario file: a cast, flows, and a time line of steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.yaml_document import parse_yaml
from pyoco_server.scenario.recording import Recording

Name: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+$")]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
Share: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
Invariant: TypeAlias = Literal["I1", "I2", "I3", "I4", "I5", "I6", "I7", "once"]
Names: TypeAlias = Name | list[Name]


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class WorkerPart(_Part, frozen=True, kw_only=True):
    """A worker of the cast.

    Attributes:
        id: Its name in the file, and its worker id.
        tags: What it takes.
        slots: How many runs it executes at once.
        wheels: Whether it installs wheels.
        later: Not started before a step says so.
        version: Which version of pyoco-server it runs; the one that plays when left out.
    """

    id: Name
    tags: list[Name] = msgspec.field(default_factory=lambda: ["hello"])
    slots: Annotated[int, Meta(ge=1, le=64)] = 2
    wheels: bool = False
    later: bool = False
    version: str | None = None


class Cast(_Part, frozen=True, kw_only=True):
    """Who is on the stage.

    Attributes:
        nodes: How many NATS servers; three make a cluster with three copies of everything.
        store_mb: How much the NATS servers may store, in MiB; no limit when left out.
        gateways: How many gateways: g1, g2, …
        workers: The workers.
        version: Which version of pyoco-server the gateways and workers run.
    """

    nodes: Literal[1, 3] = 1
    store_mb: Annotated[int, Meta(ge=16)] | None = None
    gateways: Annotated[int, Meta(ge=1, le=8)] = 1
    workers: list[WorkerPart] = msgspec.field(default_factory=list)
    version: str | None = None


class Submit(_Part, frozen=True, kw_only=True):
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
        timeout_sec: How long one attempt may take.
        max_attempts: How often one may be tried.
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
    timeout_sec: Seconds | None = None
    max_attempts: Annotated[int, Meta(ge=1)] | None = None
    may_fail: bool = False


class Cancel(_Part, frozen=True, kw_only=True):
    """Cancel runs of a group.

    Attributes:
        group: Whose.
        share: Which part of them, drawn by the seed.
        spread_sec: Over which time, each at a moment drawn by the seed.
    """

    group: Name
    share: Share = 1.0
    spread_sec: Seconds = 0.0


class Publish(_Part, frozen=True, kw_only=True):
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


class Wheel(_Part, frozen=True, kw_only=True):
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


class Delay(_Part, frozen=True, kw_only=True):
    """Let what goes between a process and NATS arrive later.

    Attributes:
        of: Which processes.
        seconds: How much later.
    """

    of: Names
    seconds: Seconds


class Bound(_Part, frozen=True, kw_only=True):
    """Limits of a figure of the report.

    Attributes:
        figure: Its name, e.g. ``recovery_p99``.
        most: The largest value that is right.
        least: The smallest.
    """

    figure: str
    most: float | None = None
    least: float | None = None


class Expect(_Part, frozen=True, kw_only=True):
    """What must be so, at the latest after a while; the scenario fails otherwise.

    Attributes:
        within: How long to wait for it, in seconds.
        group: Whose runs; all of them when left out.
        all: Each of them has this status.
        counts: So many have this status.
        runs: So many runs there are.
        outputs: Each of them has one of these results of its last task.
        workers: State of workers by id.
        letters: So many dead letters there are, by reason.
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
    workers: dict[str, str] = msgspec.field(default_factory=dict)
    letters: dict[str, int] = msgspec.field(default_factory=dict)
    ready: bool | None = None
    invariants: list[Invariant] = msgspec.field(default_factory=list)
    figures: list[Bound] = msgspec.field(default_factory=list)


class Repeat(_Part, frozen=True, kw_only=True):
    """Steps, several times.

    Attributes:
        times: How often.
        steps: What.
    """

    times: Annotated[int, Meta(ge=1, le=10_000)]
    steps: list[Step]


class Step(_Part, frozen=True, kw_only=True):
    """One step; exactly one of these.

    Attributes:
        submit: Submit runs.
        cancel: Cancel runs.
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
        choose: One of these steps, drawn by the seed.
        say: Write a line into the transcript.
    """

    submit: Submit | None = None
    cancel: Cancel | None = None
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
    choose: list[Step] | None = None
    say: str | None = None

    @property
    def action(self) -> str:
        """The name of the one that is given."""
        return next(name for name in self.__struct_fields__ if getattr(self, name) is not None)


class Twin(_Part, frozen=True, kw_only=True):
    """What breaks this scenario: it must fail with it, or it would show nothing.

    Attributes:
        version: Another version of pyoco-server, for gateways and workers.
        patch: A Python file beside the scenario that is loaded into every process of the cast.
        settings: Other settings.
        fails: A part of the text of the expectation that must fail; of several, one must.
        within: How long any expectation waits for it at most, since it waits in vain.
    """

    version: str | None = None
    patch: str | None = None
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    fails: list[str] | str = ""
    within: Seconds = 8.0

    def noticed(self, unmet: list[str]) -> bool:
        """Whether what must fail is among what was not met."""
        parts = [self.fails] if isinstance(self.fails, str) else self.fails
        return any(part in text for part in parts for text in unmet)


class Scenario(_Part, frozen=True, kw_only=True):
    """A scenario.

    Attributes:
        name: Its name.
        about: What it shows, in a sentence.
        seed: What chance is drawn from, unless the command line says otherwise.
        long: Whether it takes minutes, and runs only when asked for.
        cast: Who is on the stage.
        settings: Variables of the environment of every process.
        flows: Texts of flow.yaml by name.
        tasks: Text of a Python module ``scene`` that flows find.
        steps: What happens.
        twin: What breaks it.
    """

    name: Name
    about: str
    seed: int = 1
    long: bool = False
    cast: Cast = msgspec.field(default_factory=Cast)
    settings: dict[Annotated[str, Meta(pattern="^PYOCO_[A-Z0-9_]+$")], str] = msgspec.field(
        default_factory=dict
    )
    flows: dict[Name, str] = msgspec.field(default_factory=dict)
    tasks: str = ""
    steps: list[Step]
    twin: Twin | None = None


class ScenarioError(Exception):
    """A scenario file that cannot be understood; the text says what and where."""


# A recording of some ten thousand runs.
_MOST_NODES: Final = 1_000_000
_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP: Final = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]|\[\.\.\.\]")


def read_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ScenarioError: It cannot be read or understood.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from None
    try:
        return parse_scenario(text)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from None


def parse_scenario(text: str) -> Scenario:
    """Read the text of a scenario file.

    Raises:
        ScenarioError: It cannot be understood.
    """
    try:
        document = parse_yaml(text, max_nodes=_MOST_NODES)
    except FlowFileError as error:
        raise ScenarioError(str(error)) from None
    try:
        scenario = msgspec.convert(document.value, Scenario)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        assert found is not None
        place = document.error(found["what"], _path(found["path"] or ""))
        raise ScenarioError(str(place)) from None
    _check_steps(scenario.steps, "steps")
    return scenario


def json_schema() -> dict[str, Any]:
    """The JSON schema of a scenario file, for editors."""
    schema = msgspec.json.schema(Scenario)
    schema["$defs"]["Step"] |= {"minProperties": 1, "maxProperties": 1}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def write_scenario(scenario: Scenario) -> str:
    """Write a scenario as YAML."""
    return msgspec.yaml.encode(scenario).decode()


def _path(text: str) -> tuple[str | int, ...]:
    return tuple(
        int(index) if index else name for name, index in _STEP.findall(text) if index or name
    )


def _check_steps(steps: list[Step], where: str) -> None:
    for number, step in enumerate(steps):
        here = f"{where}[{number}]"
        given = [name for name in step.__struct_fields__ if getattr(step, name) is not None]
        if len(given) != 1:
            raise ScenarioError(
                f"{here}: one step has one action, this has {len(given)}"
                + (f": {', '.join(given)}" if given else "")
            )
        if step.repeat is not None:
            _check_steps(step.repeat.steps, f"{here}.repeat.steps")
        for index, branch in enumerate(step.parallel or []):
            _check_steps(branch, f"{here}.parallel[{index}]")
        if step.choose is not None:
            _check_steps(step.choose, f"{here}.choose")
