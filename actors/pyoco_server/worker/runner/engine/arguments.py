"""What a task's function is called with, resolved as the engine does (pyoco 0.8, ``Engine._execute_task``).

Beyond the engine, variables of loops are arguments too, before params and results, and a text of ``inputs``
may refer to them and to whatever an expression of a graph can: ``$ctx.<variable>``, ``$ctx.loop.index``.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from pyoco.core.context import Context
from pyoco.core.exceptions import InvalidReferenceError
from pyoco.core.models import Task
from pyoco.dsl.expressions import ExpressionEvaluationError, resolve_path

from pyoco_server.model.names import nearest

_SIGNATURES: WeakKeyDictionary[Callable[..., Any], inspect.Signature] = WeakKeyDictionary()
_NOTHING: Final = object()
_MOST_NAMES: Final = 20
_ROOTS: Final = {"scratch", "results", "params"}


class MissingArgument(TypeError):
    """A function needs an argument that nothing is called like."""


class UnknownArgument(TypeError):
    """One of ``inputs`` is no argument of the function."""


def bind(task: Task, ctx: Context) -> dict[str, Any]:
    """Return the arguments of a task, by name.

    Raises:
        MissingArgument: One that it needs is not there.
        UnknownArgument: There is one that it does not take.
        KeyError: An input refers to what is not there.
        InvalidReferenceError: An input is no reference.
    """
    arguments = {name: _resolve(value, ctx) for name, value in task.inputs.items()}
    parameters = _signature(task.func).parameters
    if not arguments.keys() <= parameters.keys():
        _refuse_unknown(task.name, arguments, parameters)
    missing: list[str] = []
    for name, parameter in parameters.items():
        if name == "ctx":
            arguments[name] = ctx
        elif name in arguments:
            continue
        elif (variable := ctx.get_var(name, _NOTHING)) is not _NOTHING:
            arguments[name] = variable
        elif name in ctx.params:
            arguments[name] = ctx.params[name]
        elif name in ctx.results:
            arguments[name] = ctx.results[name]
        elif parameter.default is parameter.empty and parameter.kind in _NEEDED:
            missing.append(name)
    if missing:
        raise MissingArgument(_missing(missing[0], ctx))
    return arguments


_NEEDED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def save_outputs(task: Task, ctx: Context, result: object) -> None:
    """Put a result where the task's ``outputs`` say, besides the record."""
    for path in task.outputs:
        root, *parts = path.split(".")
        if root not in _ROOTS:
            continue
        parts = parts or [root]  # as the engine does
        current: Any = getattr(ctx, root)
        for part in parts[:-1]:
            current = current.setdefault(part, {})
            if not isinstance(current, dict):
                break
        else:
            current[parts[-1]] = result


def _resolve(value: Any, ctx: Context) -> Any:
    try:
        return ctx.resolve(value)
    except (KeyError, AttributeError):
        if value.startswith("$env."):  # of which nobody wants a list
            raise
        raise KeyError(_not_there(value, ctx)) from None
    except InvalidReferenceError:
        if not value.startswith("$ctx."):
            raise
        try:
            data: Mapping[str, Any] = ctx.expression_data()
            return resolve_path(data, value[len("$ctx.") :], "$ctx")
        except ExpressionEvaluationError as error:
            raise KeyError(f"{value}: {error}") from None


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function; to find it takes as long as the rest of a short task.

    Raises:
        ValueError: It has none.
    """
    try:
        known = _SIGNATURES.get(function)
        if known is None:
            known = _SIGNATURES[function] = inspect.signature(function)
    except TypeError:  # it cannot be kept
        return inspect.signature(function)
    return known


def _missing(name: str, ctx: Context) -> str:
    """Say that an argument is missing, and what there would be."""
    variables = [key for key in ctx.expression_data() if key not in _OTHER_DATA]
    there = {
        "variables of loops": variables,
        "params": list(ctx.params),
        "results": list(ctx.results),
    }
    told = "; ".join(f"{what}: {_listed(names)}" for what, names in there.items() if names)
    return (
        f"missing argument {name!r}: an argument is a param of that name, the result of the task of that "
        f"name, or one of `inputs`. There are {told or 'no params and no results'}"
        + _nearest(name, itertools.chain.from_iterable(there.values()))
    )


def _refuse_unknown(
    task: str, names: Iterable[str], parameters: Mapping[str, inspect.Parameter]
) -> None:
    """Say which argument of a task its function does not take, and which there are."""
    taken = [
        name
        for name, parameter in parameters.items()
        if name != "ctx" and parameter.kind in _NEEDED
    ]
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    for name in names:
        if name not in parameters:
            raise UnknownArgument(
                f"the function of task {task} takes no argument {name!r}, which is one of `inputs`. It takes "
                + (_listed(taken) or "none")
                + _nearest(name, taken)
            )


def _not_there(reference: str, ctx: Context) -> str:
    """Say what of a reference to a result or param is not there, and what is."""
    root, *parts = reference.split(".")
    there: Any = ctx.params
    step, *steps = [".".join(parts[1:])]
    if root == "$node":
        there, step, steps = ctx.results, parts[0], parts[2:]
    while steps:
        if isinstance(there, dict):
            if step not in there:
                break
            there = there[step]
        elif hasattr(there, step):
            there = getattr(there, step)
        else:
            break
        step, *steps = steps
    if not isinstance(there, dict):
        return f"{reference}: a {type(there).__name__} has no {step!r}"
    there_are = f"{reference}: there is no {step!r}; there are {_listed(there) or 'none'}"
    return there_are + _nearest(step, map(str, there))


_OTHER_DATA: Final = {"params", "results", "scratch", "artifacts", "loop", "loops"}


def _nearest(name: str, names: Iterable[str]) -> str:
    near = nearest(name, names)
    return f". The nearest is {near!r}" if near else ""


def _listed(names: Iterable[object]) -> str:
    names = sorted(map(str, names))
    more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
