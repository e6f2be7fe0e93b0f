"""Options that several commands have, written down once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar, get_type_hints

R = TypeVar("R")


def with_options(**groups: Any) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command options that stand elsewhere, in the place of one of its arguments.

    Args:
        groups: By the name of the argument, a ``TypedDict`` whose fields are options as Typer has them. The
            argument gets one of it; what the user does not give is ``None`` in it.
    """
    options = {name: get_type_hints(kind, include_extras=True) for name, kind in groups.items()}

    def give(command: Callable[..., R]) -> Callable[..., R]:
        own = inspect.signature(command, eval_str=True)

        def parameters() -> Iterator[inspect.Parameter]:
            for parameter in own.parameters.values():
                if parameter.name not in options:
                    yield parameter
                for name, kind in options.get(parameter.name, {}).items():
                    yield parameter.replace(name=name, annotation=kind, default=None)

        @wraps(command)
        def with_groups(**given: Any) -> R:
            for argument, fields in options.items():
                given[argument] = {name: given.pop(name) for name in fields}
            return command(**given)

        # Typer looks at both.
        vars(with_groups)["__signature__"] = signature = own.replace(parameters=[*parameters()])
        with_groups.__annotations__ = {
            name: parameter.annotation for name, parameter in signature.parameters.items()
        }
        return with_groups

    return give
