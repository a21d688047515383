"""What all commands have in common: each knows what it is answered with."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

R_co = TypeVar("R_co", covariant=True)  # what a command is answered with when it is not refused


class Command(Struct, Generic[R_co], tag_field="do", frozen=True):
    """Base of everything a run can be asked; the answer is an `R_co` or `Refused`."""
