"""One client's connection: bytes become requests, answers go out in the order of the requests.

A request whose end can not be trusted is never carried out, and never the bytes behind it: what is malformed gets its refusal
after the answers to what came before it, and the rest of what is sent is read and thrown away for a while, so that the refusal
reaches a client that is still sending (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools

from node.edge import refusals
from node.edge.exchange import Exchange
from node.edge.refusals import Refusal
from node.edge.watched import EXTENSION, Watched

if TYPE_CHECKING:
    from node.edge.edge import Edge

HIGH_WATER_BYTES = 64 * 1024
"""A body of which the application has not taken so much is not read on."""
CHUNK_BYTES = 24
"""What the framing of one chunk may cost: its size, four line ends, little else."""
CONNECTION_FIELDS = (b"connection", b"proxy-connection")

# what a connection waits for
IDLE, HEAD, BODY, ANSWER, LINGER, CLOSE = range(6)


class _Behind(Exception):
    """Stops the parser at what is sent behind the last request that is served."""


class Connection(Watched):
    """The protocol of one connection. `deadline` is when `expire` is due, in the time of the loop."""

    def __init__(self, edge: Edge) -> None:
        super().__init__()
        self.edge = edge
        self.deadline = math.inf
        self.phase = -1
        self.write_paused = False
        self._limits = edge.limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._server: Any = None
        self._client: Any = None
        self._read_paused = False
        self._drained: asyncio.Event | None = None
        # requests: the one being answered, those behind it, and that of them whose body is still coming
        self._current: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        self._last = False  # the newest request is the last of its connection
        self._refusal: Refusal | None = None  # to be sent when everything before it is answered
        # the request being parsed
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_open = False
        self._head_bytes = 0
        self._fed = 0
        self._chunked = False
        self._framing_bytes = 0
        self._offered = False
        self._resumed = False
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
            or bool(self._queue)
            or self._refusal is not None
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
        if self._current is None and self._incoming is None:
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
        if self._parser is None:
            return
        self._fed = size = len(data)
        in_head = self._head_open
        if in_head:
            self._head_bytes += size
        elif self._chunked:
            self._framing_bytes += size
        while True:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as offer:
                data = self._resume() + data[offer.args[0] :]
            except httptools.HttpParserError as error:
                self._broken(error)
                return
        if in_head and self._head_open and self._head_bytes > self._limits.target_bytes + self._limits.header_bytes:
            # a head that came in several pieces and does not end
            long_target = len(self._url) > self._limits.target_bytes
            self._spoil(refusals.TARGET_TOO_LONG if long_target else refusals.HEAD_TOO_LARGE)
            return
        if self._chunked:
            self._framing_bytes = max(0, self._framing_bytes)
            if self._framing_bytes > self._limits.header_bytes:
                self._spoil(refusals.FRAMING_TOO_LARGE)
                return
        self._arm()

    def _resume(self) -> bytes:
        """Go on behind the head of a request that offered an upgrade: the offer is ignored (RFC 9110, 7.8).

        llhttp stops there and takes what follows for another protocol, so a new parser is told how the body is framed: it is
        to be fed what is returned here, and then what follows the head.
        """
        framing = [line for line in self._headers if line[0] in (b"content-length", b"transfer-encoding")]
        if self._last:
            framing.append((b"connection", b"close"))
        self._parser = httptools.HttpRequestParser(self)
        self._offered = False
        self._resumed = True
        return b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % line for line in framing)

    def on_message_begin(self) -> None:
        # Whoever asks again has read what came before.
        self._unread = None
        self._url = b""
        self._headers = []
        self._head_open = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if self._head_open:
            self._headers.append((name, value))
        elif name in CONNECTION_FIELDS:
            # Other fields behind a body are dropped; these llhttp would obey.
            raise refusals.TRAILING_CONNECTION

    def on_headers_complete(self) -> None:
        self._head_open = False
        if self._resumed:
            self._resumed = False
            return
        if self._last or self.phase >= LINGER:
            raise _Behind
        fields = dict(self._headers)
        version = self._check_head(fields)
        parser = self._parser
        method = parser.get_method()
        if parser.should_upgrade():
            if method == b"CONNECT":
                raise refusals.NO_TUNNEL
            self._offered = True
        keep_alive = version == "1.1" and parser.should_keep_alive()
        path, query = _split(self._url)
        exchange = Exchange(
            self,
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": version,
                "server": self._server,
                "client": self._client,
                "scheme": "http",
                "method": method.decode("ascii"),
                "root_path": "",
                "path": (unquote(path) if b"%" in path else path.decode("ascii")),
                "raw_path": path,
                "query_string": query,
                "headers": self._headers,
                "state": {},
                "extensions": {EXTENSION: self},
            },
            keep_alive,
            version == "1.1" and fields.get(b"expect", b"").lower() == b"100-continue",
        )
        self._last = not keep_alive
        self._incoming = exchange
        if self._current is None and not self.write_paused:
            self._start(exchange)
        else:
            self._queue.append(exchange)
            self.regulate()

    def _check_head(self, fields: dict[bytes, bytes]) -> str:
        """The version of the request whose head is complete. Raises the refusal of a head that is not served."""
        limits = self._limits
        if len(self._url) > limits.target_bytes:
            raise refusals.TARGET_TOO_LONG
        if (self._fed > limits.header_bytes or self._head_bytes > limits.header_bytes) and sum(
            len(name) + len(value) + 4 for name, value in self._headers
        ) > limits.header_bytes:
            raise refusals.HEAD_TOO_LARGE
        version: str = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise refusals.UNKNOWN_VERSION
        if b"host" not in fields:
            if version == "1.1":
                raise refusals.NO_HOST
        elif len(fields) != len(self._headers) and [name for name, _ in self._headers].count(b"host") > 1:
            raise refusals.NO_HOST
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            if version == "1.0":
                raise refusals.CHUNKED_OLD
            if coding.lower() != b"chunked":
                raise refusals.UNKNOWN_CODING
            self._chunked = True
            self._framing_bytes = 0
        return version

    def on_chunk_header(self) -> None:
        self._framing_bytes -= CHUNK_BYTES

    def on_body(self, body: bytes) -> None:
        if self._chunked:
            self._framing_bytes -= len(body)
        incoming = self._incoming
        if incoming is not None:
            incoming.feed(body)
            if incoming.size > HIGH_WATER_BYTES:
                self.regulate()

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._chunked = False
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.end()
        if self.phase == LINGER:
            # everything is here, nothing is left that could make the answer get lost
            self._close()

    # -- answers go out ------------------------------------------------------------------------------------------------

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
            if exchange.more_body or self._parser is None or self._queue:
                # the client is still sending
                self._linger()
            else:
                self._close()
        else:
            self._proceed()
            if self._read_paused:
                self.regulate()
            self._arm()

    def _proceed(self) -> None:
        """Answer what comes next, if anything does."""
        if self.write_paused or self.phase >= LINGER:
            return
        if self._queue:
            self._start(self._queue.popleft())
        elif self._refusal is not None:
            self.write(self._refusal.answer)
            self._linger()

    def _broken(self, error: httptools.HttpParserError) -> None:
        """What came is no request that could be served."""
        if self.phase >= LINGER or (self._last and self._incoming is None):
            # nothing behind the last request counts
            self._parser = None
            return
        cause = error.__context__
        if isinstance(cause, Refusal):
            self._spoil(cause)
        elif isinstance(cause, ValueError) or not isinstance(error, httptools.HttpParserCallbackError):
            self._spoil(refusals.malformed(f"This is no HTTP request: {error}."))
        else:
            self.edge.note_fault(cause)
            self._refuse(refusals.FAULT)

    def _spoil(self, refusal: Refusal) -> None:
        self.edge.note_malformed(self._client, str(refusal))
        self._refuse(refusal)

    def _refuse(self, refusal: Refusal) -> None:
        """Serve nothing any more: the refusal goes out behind the answers to the requests that came whole before."""
        self._parser = None
        self._head_open = self._chunked = False
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


def _split(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request target. Raises ValueError for what is none."""
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return path, query
    if target == b"*":
        return target, b""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserError:
        raise ValueError("the target is no path") from None
    return url.path or b"/", url.query or b""
