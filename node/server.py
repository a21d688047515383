"""A node: its parts started in order, the HTTP server in front, everything stopped in reverse order.

What the parts are is decided in `node.wiring`; here is only how they live together.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from base.observability.actions import said
from node.assembly import Assembly, Part
from node.config import Config
from node.http.limits import EdgeLimits
from node.http.server import HttpServer, base_url
from store.errors import StoreError

log = logging.getLogger("dw.node")

RETRY_SECONDS = (0.1, 2.0)
PART_STOP_SECONDS = 10.0
REPLACED_EXIT = 70
# what ends by itself once the database is there and bootstrapped; everything else is a fault of ours and ends the process
NOT_YET = (StoreError, OSError, TimeoutError)


class Node:
    """Runs an `Assembly` on a bound socket."""

    def __init__(self, assembly: Assembly, bound: socket.socket, grace_seconds: int, limits: EdgeLimits) -> None:
        self.assembly = assembly
        self.url = base_url(bound)
        self.http = HttpServer(assembly.app, bound, grace_seconds, limits)
        self._grace = grace_seconds
        self._started: list[tuple[str, Part]] = []
        self.starting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start the parts in order, then accept requests; `starting` is done when all of them run.

        While a part can not start (Postgres is away) it is tried again, and requests are accepted all the same: they are
        answered 503, and liveness and readiness tell why.
        """
        first = asyncio.Event()
        self.starting = asyncio.create_task(self._start_parts(first), name="start")
        waiting = asyncio.create_task(first.wait())
        await asyncio.wait({self.starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.starting.done():
            self.starting.result()
        await self.http.start()
        # What start-up made stays for good, and requests make few cycles: looking for them less often is cheaper.
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        log.info("listening on %s", self.url, extra=said("node.listening"))

    async def _start_parts(self, first_failure: asyncio.Event) -> None:
        for name, part in self.assembly.services:
            service = part()
            pause, longest = RETRY_SECONDS
            told = ""
            while True:
                try:
                    await service.start()
                    break
                except NOT_YET as error:
                    reason = str(error) or type(error).__name__
                    if reason != told:
                        log.warning("%s can not start yet: %s", name, reason, extra=said("part.waiting", part=name))
                    told = reason
                    first_failure.set()
                await asyncio.sleep(pause)
                pause = min(pause * 2, longest)
            self._started.append((name, service))

    async def stop(self) -> None:
        """Drain, stop the HTTP server, then the parts in reverse order. One part's trouble does not keep the others running."""
        self.starting.cancel()
        await asyncio.gather(self.starting, return_exceptions=True)
        await self._quietly("drain", self.assembly.begin_drain(), PART_STOP_SECONDS)
        await self._quietly("http", self.http.stop(), self._grace + PART_STOP_SECONDS)
        while self._started:
            name, service = self._started.pop()
            await self._quietly(name, service.stop(), PART_STOP_SECONDS)

    async def _quietly(self, name: str, stopping: Awaitable[Any], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await stopping
        except TimeoutError:
            log.error("%s did not stop within %s s", name, seconds, extra=said("part.slow", part=name, seconds=seconds))
        except Exception:
            log.exception("%s did not stop cleanly", name, extra=said("part.fault", part=name))


async def run_until_told(
    build: Callable[[], Awaitable[Assembly]],
    bound: socket.socket,
    grace_seconds: int,
    limits: EdgeLimits,
    on_up: Callable[[str], None] = lambda _url: None,
) -> None:
    """Build and run a node until SIGTERM or SIGINT, then stop it. A second signal stops waiting for running requests.

    `on_up` gets the URL when every part has started and requests are accepted.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    node: Node | None = None

    def on_signal() -> None:
        if told.is_set() and node is not None:
            node.http.hurry()
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    assembly = await build()
    if assembly.replaced is not None:
        assembly.replaced.add_done_callback(_end_at_once)
    node = Node(assembly, bound, grace_seconds, limits)
    leaving = asyncio.create_task(told.wait())
    try:
        await node.start()
        ends: list[asyncio.Future[Any]] = [node.starting, leaving]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if node.starting.done():
            node.starting.result()
            if not told.is_set():
                on_up(node.url)
        await leaving
    finally:
        leaving.cancel()
        await node.stop()
        log.info("stopped", extra=said("node.stopped"))


def _end_at_once(replaced: asyncio.Future[str]) -> None:
    """Another process has this node's id: whatever this one did now, even an orderly end, could be done there, too."""
    if not replaced.cancelled():
        log.error("%s", replaced.result(), extra=said("node.replaced"))
        logging.shutdown()
        os._exit(REPLACED_EXIT)


def serve(
    config: Config,
    bound: socket.socket,
    on_up: Callable[[str], None] = lambda _url: None,
    restart_nats: Callable[[], object] | None = None,
) -> None:
    """Run one node of `config` on `bound` in this process until it is told to leave. `restart_nats`: see `node.wiring`."""
    from node.settings import edge_limits  # noqa: PLC0415 - the console starts faster without the whole server
    from node.wiring import assemble  # noqa: PLC0415

    async def build() -> Assembly:
        return assemble(config, base_url(bound), restart_nats=restart_nats)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_until_told(build, bound, config.server.shutdown_grace_seconds, edge_limits(config), on_up))
