"""The HTTP server of a node, in the loop of the node, which owns signals and the order of stopping."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket

from base.observability.actions import said
from node.http.edge import App, Edge
from node.http.limits import EdgeLimits
from node.http.listener import Listener

log = logging.getLogger("dw.http")

STOP_CHECK_SECONDS = 0.05


class HttpServer:
    """Serves `app` on a bound socket from `start` to `stop`."""

    def __init__(self, app: App, bound: socket.socket, grace_seconds: float, limits: EdgeLimits) -> None:
        """`grace_seconds`: how long `stop` waits for running requests."""
        self._app = app
        self._socket = bound
        self._grace = grace_seconds
        self._limits = limits
        self._edge: Edge | None = None
        self._listener: Listener | None = None
        self._hurry = False

    async def start(self) -> None:
        """Accept connections from now on."""
        self._edge = Edge(self._app, self._limits)
        self._edge.start()
        self._listener = Listener(self._edge, self._socket)
        self._listener.start()

    async def stop(self) -> None:
        """Stop accepting, let running requests finish within the grace time, close all connections."""
        edge, listener = self._edge, self._listener
        if edge is None or listener is None:
            return
        self._edge = self._listener = None
        listener.stop()
        edge.leaving = True
        for connection in list(edge.connections):
            connection.let_go()
        until = edge.loop.time() + self._grace
        while (edge.connections or edge.tasks) and not self._hurry and edge.loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(STOP_CHECK_SECONDS)
        if edge.tasks:
            log.warning(
                "%d requests were still running after the grace time",
                len(edge.tasks),
                extra=said("http.unfinished", count=len(edge.tasks)),
            )
        for connection in list(edge.connections):
            connection.abort()
        running = list(edge.tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        edge.stop()

    def hurry(self) -> None:
        """Do not wait for running requests any longer."""
        self._hurry = True


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
