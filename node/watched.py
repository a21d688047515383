"""HTTP connections that can tell whether anybody is there to read an answer.

A lease granted to a poll whose client has left must not wait for its end (worker-protocol 4.2). The loop learns late that a
client left: the farewell may lie unread in the kernel while the answer is on its way. So an endpoint may ask the kernel before
it answers, and be told afterwards when the answer was refused: a peer that closes without having read it resets the connection.
"""

from __future__ import annotations

import select
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "dw.connection"

# A reset this long after the answer says nothing about it any more: the client had the time to read and to die since.
_UNREAD_SECONDS = 2.0

_RESET = select.POLLHUP | select.POLLERR
_LEFT = _RESET | getattr(select, "POLLRDHUP", 0)


class WatchedHttp(HttpToolsProtocol):
    """HTTP/1.1 whose connection stands in the scope's extensions (`api.call.Connection`)."""

    _unread: Callable[[], None] | None = None
    _unread_until = 0.0
    _reset = False

    def gone(self) -> bool:
        """Whether the client has left, even if the loop has not noticed yet."""
        return self.transport.is_closing() or bool(self._events() & _LEFT)

    def on_unread(self, call: Callable[[], None]) -> None:
        """Call this when the answer sent now turns out to have reached nobody."""
        self._unread = call
        self._unread_until = self.loop.time() + _UNREAD_SECONDS

    def _events(self) -> int:
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), _LEFT)
        found = poll.poll(0)
        return found[0][1] if found else 0

    def on_message_begin(self) -> None:
        # Whoever asks again has read what came before.
        self._unread = None
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]

    def eof_received(self) -> None:
        self._reset = bool(self._events() & _RESET)
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        unread, self._unread = self._unread, None
        if unread is not None and (self._reset or exc is not None) and self.loop.time() < self._unread_until:
            unread()
        super().connection_lost(exc)
