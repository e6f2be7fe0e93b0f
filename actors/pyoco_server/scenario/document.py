"""The scenario file: a cast, flows, a time line of steps, and what breaks it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.flow.yaml_document import parse_yaml
from pyoco_server.scenario.parts import Name, Part, Seconds
from pyoco_server.scenario.steps import Repeat, Step


class WorkerPart(Part, frozen=True, kw_only=True):
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


class Cast(Part, frozen=True, kw_only=True):
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


class Twin(Part, frozen=True, kw_only=True):
    """What breaks this scenario: it must fail with it, or it would show nothing.

    Attributes:
        version: Another version of pyoco-server, for gateways and workers.
        patch: A Python file beside the scenario that is loaded into every process of the cast.
        settings: Other settings.
        fails: A part of the text of the expectation that must fail; of several, one must.
        within: How long to wait for what waits in vain: the expectation that must fail, a call that is never
            answered.
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


class Scenario(Part, frozen=True, kw_only=True):
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
        return parse_scenario(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ScenarioError) as error:
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
    for told in schema["$defs"].values():
        # Versions of msgspec before 0.23 leave a docstring indented.
        if "description" in told:
            told["description"] = inspect.cleandoc(told["description"])
    schema["$defs"]["Step"] |= {"minProperties": 1, "maxProperties": 1}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def write_scenario(scenario: Scenario) -> str:
    """Write a scenario as YAML.

    Raises:
        ScenarioError: It is larger than what is read.
    """
    value = msgspec.to_builtins(scenario)
    if _nodes(value) > _MOST_NODES:
        raise ScenarioError(
            f"more than {_MOST_NODES} keys and values, which nobody could play; a shorter --last takes fewer"
        )
    return msgspec.yaml.encode(value).decode()


def _nodes(value: object) -> int:
    """How many keys and values there are in a value, and with it."""
    match value:
        case dict():
            return 1 + len(value) + sum(map(_nodes, value.values()))
        case list():
            return 1 + sum(map(_nodes, value))
        case _:
            return 1


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
            _check_repeat(step.repeat, f"{here}.repeat")
        for index, branch in enumerate(step.parallel or []):
            _check_steps(branch, f"{here}.parallel[{index}]")
        for index, choice in enumerate(step.choose or []):
            _check_steps(
                choice if isinstance(choice, list) else [choice], f"{here}.choose[{index}]"
            )


def _check_repeat(repeat: Repeat, here: str) -> None:
    if (repeat.times is None) == (repeat.for_sec is None):
        raise ScenarioError(f"{here}: one of times and for_sec")
    if repeat.long_for_sec is not None and repeat.for_sec is None:
        raise ScenarioError(f"{here}: long_for_sec goes with for_sec")
    _check_steps(repeat.steps, f"{here}.steps")
