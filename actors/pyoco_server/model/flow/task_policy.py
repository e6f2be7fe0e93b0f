"""What a task is tried, waited and answered for by: the same keys in a flow.yaml and in Python.

Task code imports `NonRetryable`, `RetryAfter` and `policy` from ``pyoco_server``; the server is not loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

import msgspec

from pyoco_server.model.errors import ModelError
from pyoco_server.model.names import nearest

F = TypeVar("F")

MAX_RETRIES: Final = 1_000
MAX_SECONDS: Final = 30 * 86_400.0
MAX_NAMES: Final = 100
RETRY_POLICY_RETRIES: Final = 3
"""How often the engine's ``fail_policy: retry`` tries again where ``retries`` says nothing."""

BackoffKind: TypeAlias = Literal["fixed", "linear", "exponential"]
FailurePolicy: TypeAlias = Literal["stop", "isolate"]
Trigger: TypeAlias = Literal["all", "any"]
EventLoop: TypeAlias = Literal["asyncio", "trio"]

_EXCEPTION: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class NonRetryable(Exception):
    """Raised by a task that would fail again, however often it is tried: it is tried no more."""


class RetryAfter(Exception):
    """Raised by a task that can be tried again in a while, in place of its backoff; it counts as a try.

    Args:
        seconds: The wait before the next try, at least 0; none is made beyond ``retries``.
        message: Why, for people.
    """

    def __init__(self, seconds: float, message: str | None = None) -> None:
        if _number(seconds) is None or not 0 <= seconds <= MAX_SECONDS:
            raise ValueError(
                f"seconds must be from 0 up to {MAX_SECONDS:.0f}, not {_shown(seconds)}"
            )
        self.seconds = float(seconds)
        super().__init__(seconds, message)
        self._message = message

    def __str__(self) -> str:
        return self._message or f"to be tried again in {self.seconds:g} s"


class InvalidPolicy(ModelError):
    """A policy that cannot be one.

    Args:
        path: Its key, and the key in it.
        reason: What is wrong and what would be right.
        unknown: Whether it is the key that is wrong.
        meant: The word that was most likely meant.
    """

    def __init__(
        self,
        path: tuple[str, ...],
        reason: str,
        *,
        unknown: bool = False,
        meant: str | None = None,
    ) -> None:
        self.path = path
        self.reason = reason
        self.unknown = unknown
        self.meant = meant
        super().__init__(f"{'.'.join(path)}: {reason}")


class RetryBackoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait between two tries."""

    kind: BackoffKind = "fixed"
    """The wait stays, grows by ``delay_sec`` each time, or doubles each time."""
    delay_sec: float = 1.0
    """The wait after the first try."""
    cap_sec: float = 300.0
    """The longest wait."""
    jitter: float = 0.0
    """Which share of the wait is left to chance, 0 to 1: what failed together is tried again apart."""

    def wait(self, failed: int, chance: float) -> float:
        """Return the wait in seconds after so many failed tries; ``chance`` is a number from 0 to 1."""
        match self.kind:
            case "fixed":
                wait = self.delay_sec
            case "linear":
                wait = self.delay_sec * failed
            case "exponential":
                wait = self.delay_sec * 2.0 ** min(failed - 1, 60)
        return min(wait, self.cap_sec) * (1 - self.jitter * chance)


_KINDS: Final = get_args(BackoffKind)
_BACKOFF_KEYS: Final = RetryBackoff.__struct_fields__

ENGINE_BACKOFF: Final = RetryBackoff(delay_sec=0.1)
"""The wait of the engine between two tries, where a task says nothing."""


class TaskPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is said of a task; ``None`` is "not said"."""

    retries: int | None = None
    """How often it may be tried again; none where it is not said."""
    backoff: RetryBackoff | None = None
    retry_on: tuple[str, ...] | None = None
    """The exceptions, by name, that it is tried again after; all where it is not said."""
    not_on: tuple[str, ...] | None = None
    """Those that it is not tried again after."""
    timeout_sec: float | None = None
    """How long each try may take."""
    on_failure: FailurePolicy | None = None
    """Whether its failure ends the run, or only skips what waits for it."""
    trigger: Trigger | None = None
    """Whether it waits for all before it, or any."""
    event_loop: EventLoop | None = None
    """What awaits an ``async def``."""

    def over(self, other: TaskPolicy) -> TaskPolicy:
        """Return this policy, with what ``other`` says where it says nothing."""
        said = {name: getattr(self, name) for name in FIELDS if getattr(self, name) is not None}
        return msgspec.structs.replace(other, **said) if said else other

    def next_try(self, failed: int, kinds: tuple[str, ...]) -> bool:
        """Whether another try follows after so many, the last of which raised an error of these kinds."""
        if failed > (self.retries or 0) or NonRetryable.__name__ in kinds:
            return False
        if RetryAfter.__name__ in kinds:
            return True
        if self.not_on is not None and not set(kinds).isdisjoint(self.not_on):
            return False
        return self.retry_on is None or not set(kinds).isdisjoint(self.retry_on)


FIELDS: Final = TaskPolicy.__struct_fields__
POLICY_KEYS: Final = (*FIELDS, "fail_policy", "trigger_policy")
"""The keys that a task takes, those of the engine for the same last."""
NO_POLICY: Final = TaskPolicy()


def check_policy(said: Mapping[str, Any]) -> TaskPolicy:
    """Return what a task's keys say; None is "not said".

    Raises:
        InvalidPolicy: One of them is not what it should be.
    """
    for ours, theirs in (("on_failure", "fail_policy"), ("trigger", "trigger_policy")):
        if said.get(ours) is not None and said.get(theirs) is not None:
            raise InvalidPolicy(
                (theirs,), f"is the engine's name for `{ours}`; keep one of the two"
            )
    retries = _whole(said, "retries", MAX_RETRIES)
    on_failure = _one_of(said, "on_failure", get_args(FailurePolicy))
    engine_says = _one_of(said, "fail_policy", (*get_args(FailurePolicy), "retry"))
    if engine_says == "retry":
        retries = RETRY_POLICY_RETRIES if retries is None else retries
    elif engine_says is not None:
        on_failure = engine_says
    trigger = _one_of(said, "trigger", get_args(Trigger))
    return TaskPolicy(
        retries=retries,
        backoff=_backoff(said.get("backoff")),
        retry_on=_names(said, "retry_on"),
        not_on=_names(said, "not_on"),
        timeout_sec=_seconds(said.get("timeout_sec"), ("timeout_sec",), zero=False),
        on_failure=on_failure,
        trigger=trigger or _one_of(said, "trigger_policy", get_args(Trigger), any_case=True),
        event_loop=_one_of(said, "event_loop", get_args(EventLoop)),
    )


def policy(**said: Any) -> Callable[[F], F]:
    """Say in Python what a flow.yaml says of a task; what the file says goes before it.

    ``@policy(retries=3, backoff="exponential", timeout_sec=30)`` stands above a function, with or without the
    engine's ``@task``. The keys are those of `docs/reference/flow_yaml.md`.

    Raises:
        InvalidPolicy: A value is not what it should be.
        TypeError: There is no such key.
    """
    for name in said:
        if name not in POLICY_KEYS:
            raise TypeError(
                f"no such policy: {name!r}; those that there are: {', '.join(POLICY_KEYS)}"
            )
    checked = check_policy(said)

    def mark(task: F) -> F:
        function: Any = getattr(getattr(task, "task", task), "func", task)
        function.__pyoco_policy__ = checked.over(getattr(function, "__pyoco_policy__", NO_POLICY))
        return task

    return mark


def _one_of(
    said: Mapping[str, Any],
    key: str,
    taken: tuple[str, ...],
    *,
    inside: tuple[str, ...] = (),
    any_case: bool = False,
) -> Any:
    value = said.get(key)
    if value is None:
        return None
    text = value.lower() if any_case and isinstance(value, str) else value
    if text not in taken:
        meant = nearest(text, taken) if isinstance(text, str) else None
        reason = f"must be one of {', '.join(taken)}, not {_shown(value)}"
        raise InvalidPolicy((*inside, key), reason, meant=meant)
    return text


def _whole(said: Mapping[str, Any], key: str, most: int) -> int | None:
    value = said.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise InvalidPolicy((key,), f"must be a whole number from 0 to {most}, not {_shown(value)}")
    return value


def _seconds(value: object, path: tuple[str, ...], *, zero: bool) -> float | None:
    if value is None:
        return None
    number = _number(value)
    if number is None or not 0 <= number <= MAX_SECONDS or not (zero or number > 0):
        least = "0" if zero else "more than 0"
        raise InvalidPolicy(
            path, f"must be seconds, {least} up to {MAX_SECONDS:.0f}, not {_shown(value)}"
        )
    return number


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _backoff(value: object) -> RetryBackoff | None:
    if value is None or isinstance(value, RetryBackoff):
        return value
    if isinstance(value, str):
        return RetryBackoff(kind=_one_of({"backoff": value}, "backoff", _KINDS))
    if not isinstance(value, Mapping):
        raise InvalidPolicy(
            ("backoff",),
            f"must be one of {', '.join(_KINDS)}, or a mapping of {', '.join(_BACKOFF_KEYS)}",
        )
    for key in value:
        if key not in _BACKOFF_KEYS:
            raise InvalidPolicy(
                ("backoff", str(key)),
                f"no such key; those that there are: {', '.join(_BACKOFF_KEYS)}",
                unknown=True,
                meant=nearest(str(key), _BACKOFF_KEYS),
            )
    said: dict[str, Any] = {}
    if value.get("kind") is not None:
        said["kind"] = _one_of(value, "kind", _KINDS, inside=("backoff",))
    for key in ("delay_sec", "cap_sec"):
        if value.get(key) is not None:
            said[key] = _seconds(value[key], ("backoff", key), zero=True)
    if (jitter := value.get("jitter")) is not None:
        said["jitter"] = _number(jitter)
        if said["jitter"] is None or not 0 <= said["jitter"] <= 1:
            raise InvalidPolicy(
                ("backoff", "jitter"), f"must be a number from 0 to 1, not {_shown(jitter)}"
            )
    return RetryBackoff(**said)


def _names(said: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = said.get(key)
    if value is None:
        return None
    names: Any = [value] if isinstance(value, str | type) else value
    if not isinstance(names, list | tuple) or len(names) > MAX_NAMES:
        raise InvalidPolicy((key,), f"must be a list of names of exceptions, at most {MAX_NAMES}")
    names = [each.__name__ if isinstance(each, type) else each for each in names]
    for name in names:
        if not isinstance(name, str) or _EXCEPTION.fullmatch(name) is None:
            raise InvalidPolicy(
                (key,), f"must be names of exceptions, e.g. ConnectionError, not {_shown(name)}"
            )
    return tuple(names)


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)[:40]
