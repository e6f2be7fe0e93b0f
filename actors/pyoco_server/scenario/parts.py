"""What the parts of a scenario file are made of."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Name: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+$")]
Names: TypeAlias = Name | list[Name]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A mapping of a scenario file; a key that it does not know is an error."""
