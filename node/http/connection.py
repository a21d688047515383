"""One client's connection: bytes become requests, answers go out in the order of the requests.

A request whose end can not be trusted is never carried out, and never the bytes behind it: what is malformed gets its refusal
after the answers to what came before it, and the rest of what is sent is read and thrown away for a while, so that the refusal
reaches a client that is still sending (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

from node.http import refusals
from node.http.edge import Edge
from node.http.exchange import Exchange
from node.http.reading import ANSWER, BODY, CLOSE, HEAD, HIGH_WATER_BYTES, IDLE, LINGER, Reading
from node.http.refusals import Refusal


class Connection(Reading):
    """The protocol of one connection. `deadline` is when `expire` is due, in the time of the loop."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge)
        self.deadline = math.inf
        self.write_paused = False
        self._read_paused = False
        self._drained: asyncio.Event | None = None
        self._current: Exchange | None = None  # the request being answered
        self._refusal: Refusal | None = None  # to be sent when everything before it is answered
        self._discarded = 0

    # -- the transport -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it
        self._server = _address(transport.get_extra_info("sockname"))
        self._client = _address(transport.get_extra_info("peername"))
        self.edge.connections.add(self)
        if self.edge.leaving:
            self._close()
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell_unread(exc)
        self.edge.forget(self)
        self.deadline = math.inf
        for exchange in (self._current, self._incoming, *self._queue):
            if exchange is not None:
                exchange.leave()
        self._queue.clear()
        self._current = self._incoming = self._parser = None
        if self._drained is not None:
            self._drained.set()

    def pause_writing(self) -> None:
        self.write_paused = True
        self.edge.stalls(self)
        self.regulate()

    def resume_writing(self) -> None:
        self.write_paused = False
        self.edge.unread.pop(self, None)
        if self._drained is not None:
            self._drained.set()
        if self._current is None:
            self._proceed()
        self.regulate()

    async def drained(self) -> None:
        """Wait until the client has read enough of what was written."""
        while self.write_paused and not self.transport.is_closing():
            if self._drained is None:
                self._drained = asyncio.Event()
            self._drained.clear()
            await self._drained.wait()

    def write(self, data: bytes) -> None:
        """Send bytes to a client that may have left."""
        if self.transport.is_closing():
            return
        try:
            self.transport.write(data)
        except (RuntimeError, OSError):
            # it left just now, the loop has not said so yet
            self.transport.abort()

    def abort(self) -> None:
        """Drop the connection with everything that is on its way."""
        self.transport.abort()

    def regulate(self) -> None:
        """Read on, or stop reading while the client sends faster than it is served, or does not read."""
        incoming = self._incoming
        pause = self.phase != LINGER and (
            self.write_paused
            or bool(self._queue or self._held)
            or self._parser is None
            or (incoming is not None and incoming.size > HIGH_WATER_BYTES)
        )
        if pause is not self._read_paused and not self.transport.is_closing():
            self._read_paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # -- times ---------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Set the deadline of what is waited for now. A phase that goes on keeps its deadline."""
        current = self._current
        if self.phase >= LINGER:
            return
        waiting = HEAD if self._head_open else IDLE
        phase = waiting if current is None else BODY if current.more_body else ANSWER
        if phase == self.phase:
            return
        self.phase = phase
        if phase == ANSWER:
            self.deadline = math.inf  # a poll that is held is not idle
        elif phase == IDLE:
            self.deadline = self.edge.loop.time() + self._limits.idle_seconds
        elif phase == HEAD:
            self.deadline = self.edge.loop.time() + self._limits.head_seconds
        else:
            self.deadline = self.edge.loop.time() + self._limits.body_seconds

    @property
    def unasked(self) -> bool:
        """Whether nothing is asked on it."""
        return self.phase in (IDLE, HEAD)

    def expire(self) -> None:
        """The deadline passed: the client had its time."""
        if self.phase == HEAD:
            self.edge.note_slow(self._client, "head")
            self._refuse(refusals.HEAD_TOO_SLOW)
        elif self.phase == BODY:
            self.edge.note_slow(self._client, "body")
            self._refuse(refusals.BODY_TOO_SLOW)
        elif self.phase == IDLE and not self.transport.get_write_buffer_size():
            self._close()
        else:
            self.abort()

    def let_go(self) -> None:
        """Close, unless a request is being received or answered."""
        if self._current is None and (self._incoming is None or self.phase == LINGER):
            self._close()

    def leaves(self) -> bool:
        """Whether the answer sent next is the last one, as the server stops."""
        return self.edge.leaving and not self._queue

    def _close(self) -> None:
        """Close once everything is sent, and not much later."""
        self.phase = CLOSE
        self.deadline = self.edge.loop.time() + self._limits.unread_seconds
        self.transport.close()

    # -- bytes come in -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.phase >= LINGER:
            self._discarded += len(data)
            if self._discarded > self._limits.discarded_bytes:
                self._close()
                return
        if self._held:
            self._held += data
        else:
            self._parse(data)

    # -- answers go out ------------------------------------------------------------------------------------------------

    def _begin(self, scope: dict[str, Any], keep_alive: bool, expects: bool) -> None:
        self._incoming = exchange = Exchange(self, scope, keep_alive, expects)
        if self._current is None and not self.write_paused:
            self._start(exchange)
        else:
            self._queue.append(exchange)
            self.regulate()

    def _start(self, exchange: Exchange) -> None:
        self._current = exchange
        edge = self.edge
        exchange.task = task = edge.loop.create_task(exchange.run(edge.app))
        edge.tasks.add(task)

    def answered(self, exchange: Exchange, keep_alive: bool) -> None:
        """The answer to the request in turn is written; `keep_alive` False: it was the last one."""
        if exchange is not self._current:
            return
        self._current = None
        if self.transport.is_closing():
            return
        if not keep_alive:
            if exchange.more_body or self._parser is None or self._queue or self._held:
                # the client is still sending
                self._linger()
            else:
                self._close()
        else:
            self._proceed()
            if self._read_paused:
                self.regulate()
            self._arm()

    def ended(self, task: asyncio.Task[None]) -> None:
        """The application is through with a request."""
        self.edge.tasks.discard(task)

    def _proceed(self) -> None:
        """Answer what comes next, if anything does."""
        if self.write_paused or self.phase >= LINGER:
            return
        if self._queue:
            self._start(self._queue.popleft())
        if self._held and not self._queue:
            held, self._held = self._held, b""
            self._parse(held)
        if self._current is None and self._refusal is not None and self.phase < LINGER:
            self.write(self._refusal.answer)
            self._linger()

    def _refuse(self, refusal: Refusal) -> None:
        """Serve nothing any more: the refusal goes out behind the answers to the requests that came whole before."""
        self._parser = None
        self._head_open = self._chunked = False
        self._held = b""
        incoming, self._incoming = self._incoming, None
        if self.phase >= LINGER:
            return
        if incoming is not None:
            incoming.leave()
            if incoming is not self._current:
                self._queue.remove(incoming)
            else:
                self._current = None
                if incoming.started:
                    self.abort()
                    return
        self._refusal = refusal
        if self._current is None:
            self._proceed()
        self.regulate()
        self._arm()

    def _linger(self) -> None:
        """Say that nothing follows, and read for a while, so that what was said reaches a client that is still sending."""
        self.phase = LINGER
        self.deadline = self.edge.loop.time() + self._limits.linger_seconds
        self._queue.clear()
        if self.transport.is_closing():
            return
        try:
            self.transport.write_eof()
        except (RuntimeError, OSError):
            self.transport.abort()
            return
        self.regulate()


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
