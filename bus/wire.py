"""nats-py's connection with a short path for the hot traffic.

nats-py does the handshake, TLS, credentials, pings and the management API. Per message it costs about 20 us in each
direction (header dictionaries, a queue and a task per subscription, a flusher task); asks and events need a third of
that. So this subclass
- hands messages of our own subscriptions to a plain function as raw bytes (`_process_msg` is the one hook of the parser), and
- writes prepared commands to the transport itself.
It leans on names of nats-py that are not public (`_process_msg`, `_close`, `_transport`): the lock file pins the version, and
tests/bus fails at once if they move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client

# (subject, reply subject or b"", body, raw header block or None)
MessageHandler = Callable[[bytes, bytes, bytes, "bytes | None"], None]

# Our subscription ids, far above those nats-py counts up for itself.
FIRST_SID = 1_000_000


class WireClient(Client):
    """One connection session: it is never reused after a loss (`lost` is set then), the owner makes a new one."""

    def __init__(self, handlers: dict[int, MessageHandler]) -> None:
        super().__init__()
        self._handlers = handlers
        self.lost = asyncio.Event()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        handler = self._handlers.get(sid)
        if handler is not None:
            handler(subject, reply, data, headers)
        elif sid < FIRST_SID:
            await super()._process_msg(sid, subject, reply, data, headers)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        # Every way a session ends comes through here; closing can take long when the server hangs, the signal must not.
        self.lost.set()
        try:
            await super()._close(status, do_cbs)
        except OSError:  # something was unsent, and nobody is there to read it
            self.abort()

    @property
    def clustered(self) -> bool:
        """True unless the server said that it has JetStream itself and belongs to no cluster."""
        return bool(self._server_info.get("cluster")) or not self._server_info.get("jetstream")

    def _socket(self) -> Any:
        writer = getattr(self._transport, "_io_writer", None)
        return getattr(writer, "transport", None)

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket; nothing is raised when it is gone (`lost` tells)."""
        if not self.lost.is_set() and self._transport is not None:
            try:
                self._transport.write(data)
            except (OSError, RuntimeError):  # closed already, nats-py is about to notice
                self.abort()

    def unsent(self) -> int:
        """Bytes that wait in this process because the server reads too slowly."""
        socket = self._socket()
        return 0 if socket is None else int(socket.get_write_buffer_size())

    def abort(self) -> None:
        """Drop the socket without waiting for what is unsent (a hung server would make closing wait for ever)."""
        self.lost.set()
        socket = self._socket()
        if socket is not None:
            socket.abort()
