"""What of a task's result has to be awaited."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Coroutine
from typing import Any, TypeAlias

Work: TypeAlias = Coroutine[Any, Any, Any]


def work_of(result: object) -> Work | None:
    """Return what has to be awaited for the result of a call; None where that is one already.

    Of an ``async`` generator it is the list of what that yields, which is of no use off its loop.
    """
    if inspect.isasyncgen(result):
        return _listed(result)
    return result if inspect.iscoroutine(result) else None


async def result_of(work: Work) -> Any:
    """Await it, and what it returns where an ``await`` was forgotten in it."""
    result = await work
    while (more := work_of(result)) is not None:
        result = await more
    return result


async def _listed(items: AsyncIterable[Any]) -> list[Any]:
    return [each async for each in items]
