"""Which functions a flow.yaml may name."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

_WHEEL: Final = "wheel:"
PATTERNS: Final = r"[\w.*?\[\]!:, -]*[\w*][\w.*?\[\]!:, -]*"
"""What the text of rules consists of."""


@dataclass(frozen=True, slots=True)
class CallableRules:
    """Patterns, of which one has to fit.

    Attributes:
        patterns: ``ours.*`` is the package and what is in it, ``ours.tasks`` a module, ``ours.tasks:load_*``
            functions of it, ``wheel:our-*`` what comes in wheels of such packages, ``*`` everything.
    """

    patterns: tuple[str, ...]

    @property
    def open(self) -> bool:
        """Whether everything is allowed."""
        return "*" in self.patterns

    def allows(self, callable_: str, package: str | None) -> bool:
        """Whether a flow.yaml may name ``module:function``.

        Args:
            callable_: That.
            package: The wheel's package that brings the module; None where none does.
        """
        return any(
            package is not None and fnmatchcase(package, pattern.removeprefix(_WHEEL))
            if pattern.startswith(_WHEEL)
            else _fits(callable_, pattern)
            for pattern in self.patterns
        )

    def may_allow(self, callable_: str) -> bool:
        """Whether it may be allowed by whoever knows which wheels there are."""
        package = callable_.partition(":")[0].partition(".")[0]
        from_wheel = package not in sys.stdlib_module_names and any(
            pattern.startswith(_WHEEL) for pattern in self.patterns
        )
        return from_wheel or self.allows(callable_, None)


@lru_cache(maxsize=16)
def callable_rules(text: str) -> CallableRules:
    """Read rules: patterns with commas or spaces in between."""
    return CallableRules(tuple(re.split(r"[,\s]+", text.strip(" ,"))))


ANYTHING: Final = callable_rules("*")


def _fits(callable_: str, pattern: str) -> bool:
    module = callable_.partition(":")[0]
    if ":" in pattern:
        return fnmatchcase(callable_, pattern)
    return fnmatchcase(module, pattern) or (
        pattern.endswith(".*") and fnmatchcase(module, pattern.removesuffix(".*"))
    )
