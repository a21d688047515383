"""The HTTP server of a node: uvicorn in the loop of the node, with bounds on the head of a request.

The node owns signals and the order of stopping, so uvicorn's own handling of both is switched off.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import uvicorn

from node.joined import JoinedTransport
from node.watched import WatchedHttp

App = Callable[[Any, Any, Any], Awaitable[None]]

MAX_TARGET_BYTES = 8 * 1024
MAX_HEADER_BYTES = 16 * 1024
BACKLOG = 2048
# longer than the pauses of a polling client, so that it finds its connection still open
KEEP_ALIVE_SECONDS = 75
REFUSALS = {
    414: b"HTTP/1.1 414 URI Too Long\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
}


class _HeadTooLarge(Exception):
    """Stops the parser; the answer is written by `send_400_response`."""


class BoundedHttp(WatchedHttp):
    """HTTP/1.1 with at most 8 KiB of request target and 16 KiB of headers (configuration-and-security 9.1)."""

    _head_open = False
    _head_bytes = 0
    _refusal = 0
    _joined: JoinedTransport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._joined = JoinedTransport(transport)
        super().connection_made(cast(asyncio.Transport, self._joined))

    def on_response_complete(self) -> None:
        self._joined.flush()
        super().on_response_complete()

    def on_message_begin(self) -> None:
        self._head_open = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_open = False
        if len(self.url) > MAX_TARGET_BYTES:
            self._refusal = 414
            raise _HeadTooLarge
        total = 0
        for name, value in self.headers:
            total += len(name) + len(value) + 4
        if total > MAX_HEADER_BYTES:
            self._refusal = 431
            raise _HeadTooLarge
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self._head_open:
            # a head that came in several pieces and does not end
            self._head_bytes += len(data)
            if self._head_bytes > MAX_TARGET_BYTES + MAX_HEADER_BYTES:
                self._refusal = 414 if len(self.url) > MAX_TARGET_BYTES else 431
                self.send_400_response("")
                return
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        if not self._refusal:
            super().send_400_response(msg)
            return
        self.transport.write(REFUSALS[self._refusal] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers and without its ten ticks per second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.leave = asyncio.Event()

    async def main_loop(self) -> None:
        self.server_state.default_headers = self.config.encoded_headers
        await self.leave.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves `app` on a bound socket from `start` to `stop`."""

    def __init__(self, app: App, bound: socket.socket, grace_seconds: int) -> None:
        """`grace_seconds`: how long `stop` waits for running requests."""
        self._socket = bound
        config = uvicorn.Config(
            app,
            loop="none",
            http=BoundedHttp,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=grace_seconds,
        )
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept connections from now on."""
        self._task = asyncio.create_task(self._server.serve([self._socket]), name="http")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the HTTP server ended while it started")
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """Stop accepting, let running requests finish within the grace time, close all connections."""
        if self._task is None:
            return
        task, self._task = self._task, None
        self._server.leave.set()
        await task

    def hurry(self) -> None:
        """Do not wait for running requests any longer."""
        self._server.force_exit = True


def bind(host: str, port: int, *, share: bool = False) -> socket.socket:
    """A bound, not yet listening socket; port 0 picks a free one. `share`: others may bind the same port (SO_REUSEPORT).

    Raises `OSError` when the address can not be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setblocking(False)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine can connect to a bound socket."""
    address = ipaddress.ip_address(bound.getsockname()[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def base_url(bound: socket.socket) -> str:
    """The URL a client of this machine uses for a bound socket."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
