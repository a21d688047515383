"""How much of anything one client may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EdgeLimits:
    """Bounds of requests and connections (configuration-and-security 9.1). Sizes in bytes, times in seconds.

    `body_bytes` is what the application takes; a few times as much is read and thrown away behind an early answer.
    `connections` 0: as many as the process has descriptors for, less those it needs itself.
    """

    target_bytes: int
    header_bytes: int
    body_bytes: int
    connections: int
    unread_bytes: int
    head_seconds: float
    body_seconds: float
    # longer than the pauses of a polling client, so that it finds its connection still open
    idle_seconds: float
    unread_seconds: float
    linger_seconds: float

    @property
    def discarded_bytes(self) -> int:
        """What is read and thrown away behind an answer that came before the end of its request."""
        return 4 * self.body_bytes + 64 * 1024
