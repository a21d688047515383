"""A raw HTTP/1.1 keep-alive client for load generation: one request in flight per connection, as little CPU as possible.

It reads what the server under test sends (a status line, headers, a body with Content-Length) and refuses anything else loudly:
no chunked bodies, no redirects, no TLS. Requests are given as ready bytes (`bench.wire`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, cast
from urllib.parse import urlsplit

IDLE_LIMIT_SECONDS = 2.0
"""A pooled connection idle for longer is closed rather than reused: servers drop idle ones after some seconds."""


class HttpError(Exception):
    """The connection broke, or the peer's answer is not the HTTP this client speaks."""


class Response(NamedTuple):
    """One answer: HTTP status and the body's bytes."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One keep-alive connection. Make it with `connect`."""

    __slots__ = ("_buffer", "_loop", "_need", "_transport", "_waiter", "closed", "idle_since")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self._buffer = b""
        self._need = 0  # bytes of the whole answer once its head was read, else 0
        self.closed = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(HttpError(f"connection lost before the answer: {exc or 'closed by the server'}"))

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if not self._need:
            self._need = self._read_head(data)
            if self._need < 0:  # refused
                return
        if not self._need or len(data) < self._need:
            self._buffer = data
            return
        waiter, self._waiter = self._waiter, None
        extra = len(data) - self._need
        head_end = data.index(b"\r\n\r\n") + 4
        self._buffer, self._need = b"", 0
        if waiter is None or extra:
            self._refuse(waiter, "the server sent bytes nobody asked for")
        elif not waiter.done():
            waiter.set_result(Response(int(data[9:12]), data[head_end:]))

    def _read_head(self, data: bytes) -> int:
        """Length of the whole answer, 0 while its head is incomplete, -1 when it was refused."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        head = data[: end + 2].lower()
        status = head[9:12]
        if not head.startswith(b"http/1.1 ") or not status.isdigit():
            return self._refuse(self._waiter, f"not an HTTP/1.1 answer: {data[:80]!r}")
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            length = int(head[at + 17 : head.index(b"\r\n", at + 17)])
        elif status == b"204":
            length = 0
        else:
            return self._refuse(self._waiter, f"no Content-Length in {data[:end]!r}")
        if b"\r\nconnection: close\r\n" in head:
            self.closed = True
        return end + 4 + length

    def _refuse(self, waiter: asyncio.Future[Response] | None, why: str) -> int:
        self.closed = True
        if waiter is not None and not waiter.done():
            waiter.set_exception(HttpError(why))
        if self._waiter is waiter:
            self._waiter = None
        if self._transport is not None:
            self._transport.abort()
        return -1

    def request(self, data: bytes) -> asyncio.Future[Response]:
        """Send one request (its complete bytes); the future resolves to the answer or fails with `HttpError`."""
        if self._waiter is not None:
            raise RuntimeError("one request at a time on a connection")
        waiter: asyncio.Future[Response] = self._loop.create_future()
        if self.closed or self._transport is None:
            waiter.set_exception(HttpError("the connection is closed"))
            return waiter
        self._waiter = waiter
        self._transport.write(data)
        return waiter

    def close(self) -> None:
        """Drop the connection at once; a request in flight fails with `HttpError`."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        """The address in an `http://host:port` URL; ValueError for anything else."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"not a plain http://host:port URL: {url!r}")
        return cls(parts.hostname, parts.port or 80)


async def connect(address: Address) -> Connection:
    """Open a connection; `HttpError` if nobody answers there."""
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(lambda: Connection(loop), address.host, address.port)
    except OSError as error:
        raise HttpError(f"cannot connect to {address.host}:{address.port}: {error}") from error
    return connection


class Pool:
    """Connections to one server for short requests; grows as needed, reuses the one used last."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._loop = asyncio.get_running_loop()
        self._idle: deque[Connection] = deque()

    async def request(self, data: bytes) -> Response:
        """Send one request on a free connection (a new one if there is none)."""
        connection = self._take() or await connect(self.address)
        response = await connection.request(data)
        if connection.closed:
            connection.close()
        else:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
        return response

    def _take(self) -> Connection | None:
        oldest_usable = self._loop.time() - IDLE_LIMIT_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.idle_since >= oldest_usable:
                return connection
            connection.close()
        return None

    def close(self) -> None:
        """Drop all idle connections."""
        while self._idle:
            self._idle.pop().close()
