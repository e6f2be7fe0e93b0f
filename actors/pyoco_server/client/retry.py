"""When a call that failed is sent again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import httpx

from pyoco_server.client.problem import HttpProblem
from pyoco_server.client.requests import ApiCall, new_idempotency_key

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError)
# 502 and 504 are the answers of a proxy whose gateway is away.
_COME_BACK_LATER = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon.

    What never reached the gateway is sent again whatever it was; what broke on the way, and what
    was answered with 429, 502, 503 or 504, only where sending it twice does no harm.

    Attributes:
        attempts: How often a call is sent at most; 1 for no repetition.
        first_seconds: Pause before the first repetition; it doubles with each further one.
        most_seconds: Longest pause. A gateway that asks for a longer one is not asked again.
    """

    attempts: int = 3
    first_seconds: float = 0.2
    most_seconds: float = 5.0

    def key(self, given: str | None) -> str | None:
        """Return the key to send: a new one where none is given and a call may be repeated."""
        return new_idempotency_key() if given is None and self.attempts > 1 else given

    def pause(self, call: ApiCall[Any], error: httpx.HTTPError, failures: int) -> float | None:
        """Return the seconds to wait before ``call`` is sent again; ``None`` to give up.

        Args:
            call: What was sent.
            error: What came of it.
            failures: How often it has failed by now.
        """
        if failures >= self.attempts or not _may_repeat(call, error):
            return None
        return self.delay(error, failures)

    def delay(self, error: httpx.HTTPError | None, failures: int) -> float | None:
        """Return the pause after so many failures, or ``None`` where the gateway wants a longer one."""
        doubled = self.first_seconds * 2.0 ** min(failures - 1, 30)
        # Jitter, so that clients which lost their gateway together do not come back together.
        pause = min(doubled, self.most_seconds) * random.uniform(0.75, 1.0)  # noqa: S311
        wanted = error.retry_after_seconds if isinstance(error, HttpProblem) else None
        if wanted is None:
            return pause
        return max(pause, wanted) if wanted <= self.most_seconds else None


def passes(error: httpx.HTTPError) -> bool:
    """Whether the same call may succeed later: the gateway is away, restarting or too busy."""
    if isinstance(error, HttpProblem):
        return error.status in _COME_BACK_LATER
    return isinstance(error, (*_BROKEN, httpx.TimeoutException))


def _may_repeat(call: ApiCall[Any], error: httpx.HTTPError) -> bool:
    if isinstance(error, _NEVER_SENT):
        return True
    # A gateway that says nothing for so long may be busy with the call.
    return call.repeatable and passes(error) and not isinstance(error, httpx.TimeoutException)
