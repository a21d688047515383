"""What can go wrong between asking an actor and its answer."""

from __future__ import annotations


class Unavailable(Exception):
    """The outcome is not known, or cannot be had now: nothing acknowledged is lost, and trying again is safe."""
