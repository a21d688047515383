"""How much of anything one client may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EdgeLimits:
    """Bounds of requests and connections (configuration-and-security 9.1). Sizes in bytes, times in seconds.

    `body_bytes` is what the application takes; a few times as much is read and thrown away behind an early answer.
    `connections` 0: as many as the process has descriptors for, less those it needs itself.
    """

    target_bytes: int = 8 * 1024
    header_bytes: int = 16 * 1024
    body_bytes: int = 2 * 1024 * 1024
    connections: int = 0
    unread_bytes: int = 64 * 1024 * 1024
    head_seconds: float = 30.0
    body_seconds: float = 120.0
    # longer than the pauses of a polling client, so that it finds its connection still open
    idle_seconds: float = 75.0
    unread_seconds: float = 30.0
    linger_seconds: float = 10.0

    @property
    def discarded_bytes(self) -> int:
        """What is read and thrown away behind an answer that came before the end of its request."""
        return 4 * self.body_bytes + 64 * 1024


DEFAULT = EdgeLimits()
