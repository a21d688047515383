"""What all connections of one server share: the application, the limits, the sweep that ends what takes too long."""

from __future__ import annotations

import asyncio
import heapq
import logging
import resource
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from base.observability.actions import said
from node.http.flood import Flood
from node.http.limits import EdgeLimits

App = Callable[[Any, Any, Any], Awaitable[None]]

SWEEP_SECONDS = 1.0
STALLED_SECONDS = 1.0
"""How long an answer was not read on before it may be dropped for all the memory that unread answers take."""
OWN_DESCRIPTORS = 128
"""What the process needs besides connections: its database and bus, files, headroom for reconnecting."""

log = logging.getLogger("dw.http")


class Held(Protocol):
    """An open connection, as the sweep knows it. `deadline` is when `expire` is due, in the time of the loop."""

    phase: int
    deadline: float
    transport: asyncio.Transport

    @property
    def unasked(self) -> bool: ...

    def abort(self) -> None: ...

    def expire(self) -> None: ...

    def let_go(self) -> None: ...


class Edge:
    """The state of one HTTP server."""

    def __init__(self, app: App, limits: EdgeLimits) -> None:
        self.app = app
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.connections: set[Held] = set()
        self.unread: dict[Held, tuple[int, float]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.leaving = False
        self.on_room: Callable[[], None] = lambda: None
        self.crowded = Flood(log, "connections that had to wait, or to leave, for want of descriptors")
        self._malformed = Flood(log, "malformed requests")
        self._slow = Flood(log, "requests that did not end in time")
        self._unread = Flood(log, "answers dropped as nobody read them")
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sweep from now on."""
        self._timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def stop(self) -> None:
        """Sweep no more, and log what was only counted."""
        if self._timer is not None:
            self._timer.cancel()

    def most_connections(self) -> int:
        """How many connections are held at a time."""
        if self.limits.connections:
            return self.limits.connections
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if descriptors == resource.RLIM_INFINITY:
            return 1_000_000
        return max(descriptors - OWN_DESCRIPTORS, descriptors // 2)

    def forget(self, connection: Held) -> None:
        """A connection is lost."""
        self.connections.discard(connection)
        self.unread.pop(connection, None)
        self.on_room()

    def stalls(self, connection: Held) -> None:
        """A client does not read as fast as it is answered."""
        now = self.loop.time()
        self.unread[connection] = (connection.transport.get_write_buffer_size(), now)
        if len(self.unread) > 1:
            self._drop_unread(now)

    def make_room(self, count: int) -> int:
        """Let go of up to `count` connections on which nothing is asked, longest idle first; how many there were."""
        waiting = [each for each in self.connections if each.unasked]
        chosen = heapq.nsmallest(count, waiting, key=lambda each: (each.phase, each.deadline))
        for connection in chosen:
            connection.abort()
        return len(chosen)

    def note_malformed(self, client: Any, what: str) -> None:
        """Something came that is no request."""
        self._malformed.note(f"{what} (from {_name(client)})")

    def note_slow(self, client: Any, part: str) -> None:
        """A request did not end in time."""
        self._slow.note(f"the {part} of a request from {_name(client)}")

    def note_fault(self, error: BaseException | None) -> None:
        """A fault of ours while a request was read."""
        log.error("unexpected error reading a request", exc_info=error, extra=said("http.read_failed"))

    def _sweep(self) -> None:
        now = self.loop.time()
        self._timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)
        for connection in [each for each in self.connections if each.deadline <= now]:
            connection.expire()
        if self.unread:
            self._drop_unread(now)
        for flood in (self.crowded, self._malformed, self._slow, self._unread):
            flood.flush()

    def _drop_unread(self, now: float) -> None:
        """Drop the answers nobody reads: those that stand for long, and the longest standing when they are too many."""
        total = 0
        stalled: list[tuple[float, int, Held]] = []
        for connection, (before, since) in list(self.unread.items()):
            size = connection.transport.get_write_buffer_size()
            total += size
            if size < before:
                self.unread[connection] = (size, now)
            else:
                stalled.append((since, size, connection))
        stalled.sort(key=lambda each: each[0])
        for since, size, connection in stalled:
            standing = now - since
            if standing < self.limits.unread_seconds and (total <= self.limits.unread_bytes or standing < STALLED_SECONDS):
                break
            total -= size
            del self.unread[connection]
            self._unread.note(f"{size} bytes after {standing:.1f} s")
            connection.abort()


def _name(client: Any) -> str:
    return str(client[0]) if client else "a local client"
