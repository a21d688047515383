"""HTTP connections that can tell whether anybody is there to read an answer.

A lease granted to a poll whose client has left must not wait for its end (worker-protocol 4.2). The loop learns late that a
client left: the farewell may lie unread in the kernel while the answer is on its way. So an endpoint may ask the kernel before
it answers, and be told afterwards when the answer was refused: a peer that closes without having read it resets the connection.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

EXTENSION = "dw.connection"

# A reset this long after the answer says nothing about it any more: the client had the time to read and to die since.
_UNREAD_SECONDS = 2.0

_RESET = select.POLLHUP | select.POLLERR
_LEFT = _RESET | getattr(select, "POLLRDHUP", 0)


class Watched(asyncio.Protocol):
    """A connection that stands in the scope's extensions (`api.http.request.Connection`)."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._unread: Callable[[], None] | None = None
        self._unread_until = 0.0
        self._reset = False

    def gone(self) -> bool:
        """Whether the client has left, even if the loop has not noticed yet."""
        return self.transport.is_closing() or bool(self._events() & _LEFT)

    def on_unread(self, call: Callable[[], None]) -> None:
        """Call this when the answer sent now turns out to have reached nobody."""
        self._unread = call
        self._unread_until = asyncio.get_running_loop().time() + _UNREAD_SECONDS

    def _events(self) -> int:
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), _LEFT)
        found = poll.poll(0)
        return found[0][1] if found else 0

    def eof_received(self) -> None:
        self._reset = bool(self._events() & _RESET)

    def _tell_unread(self, exc: Exception | None) -> None:
        unread, self._unread = self._unread, None
        told = self._reset or exc is not None
        if unread is not None and told and asyncio.get_running_loop().time() < self._unread_until:
            unread()
