"""An HTTP client of a cluster that behaves like the published SDK's: any node will do, and what fails is sent again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from bench.http import Address, Connection, HttpError, Pool, Response, connect
from tests.support.server import TOKEN, ServerProcess

TRIES = 3
BACKOFF_SECONDS = 0.2
REQUEST_SECONDS = 30.0
CONTROL = "X-Durable-Workflow-Control-Plane-Version: 2"
WORKER = "X-Durable-Workflow-Protocol-Version: 1.1"


class Reply(NamedTuple):
    """The last answer of a call. `tries`: how often it was sent; `status` 0: no answer came at all."""

    status: int
    body: dict[str, Any]
    tries: int = 1


class ClusterClient:
    """Sends each call to the next node in turn; up to three tries on lost connections and 5xx, each at the next node.

    `trouble` counts tries that failed, by what happened; `gave_up` calls of which every try failed, by path.
    """

    def __init__(self, nodes: Sequence[ServerProcess]) -> None:
        self.nodes = list(nodes)
        self.trouble: Counter[str] = Counter()
        self.gave_up: Counter[str] = Counter()
        self._pools: dict[str, Pool] = {}
        self._turn = 0

    async def get(self, path: str, *, at: ServerProcess | None = None) -> Reply:
        """GET on the control plane; `at`: this node only."""
        return await self._call("GET", path, None, CONTROL, at)

    async def post(self, path: str, body: dict[str, Any], *, at: ServerProcess | None = None) -> Reply:
        """POST, with the version header the path needs; `at`: this node only."""
        return await self._call("POST", path, body, WORKER if path.startswith("/api/worker/") else CONTROL, at)

    async def _call(self, method: str, path: str, body: dict[str, Any] | None, plane: str, at: ServerProcess | None) -> Reply:
        reply = Reply(0, {})
        self._turn = turn = self._turn + 1
        for number in range(1, TRIES + 1):
            if number > 1:
                await asyncio.sleep(BACKOFF_SECONDS * 2 ** (number - 2))
            node = at or self.nodes[(turn + number) % len(self.nodes)]
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    response = await self._pool(node).request(request_bytes(node, method, path, body, plane))
            except (HttpError, TimeoutError) as error:
                self.trouble["no answer in time" if isinstance(error, TimeoutError) else "connection"] += 1
                reply = Reply(0, {}, number)
                continue
            reply = Reply(response.status, orjson.loads(response.body) if response.body else {}, number)
            if response.status < 500:
                return reply
            self.trouble[str(response.status)] += 1
        self.gave_up[path.rpartition("/")[2]] += 1
        return reply

    def _pool(self, node: ServerProcess) -> Pool:
        pool = self._pools.get(node.url)
        if pool is None:
            pool = self._pools[node.url] = Pool(Address.of(node.url))
        return pool

    def close(self) -> None:
        """Drop all idle connections."""
        for pool in self._pools.values():
            pool.close()


class Raw(NamedTuple):
    """A request on a connection of its own, which the test may drop."""

    connection: Connection
    answer: asyncio.Future[Response]


async def raw_post(node: ServerProcess, path: str, body: dict[str, Any]) -> Raw:
    """Send one worker-plane request on a fresh connection without waiting for its answer."""
    connection = await connect(Address.of(node.url))
    return Raw(connection, connection.request(request_bytes(node, "POST", path, body, WORKER)))


def request_bytes(node: ServerProcess, method: str, path: str, body: dict[str, Any] | None, plane: str) -> bytes:
    """A complete HTTP request."""
    content = b"" if body is None else orjson.dumps(body)
    typed = "" if body is None else "Content-Type: application/json\r\n"
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{node.port}\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"X-Namespace: default\r\n{plane}\r\n{typed}Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content
