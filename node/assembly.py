"""What a node is made of, as those see it who start and stop it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from node.http.edge import App


class Part(Protocol):
    """A part of a node, as `base.service` tells. A `start` that fails (Postgres is away) is tried again."""

    async def start(self) -> None: ...

    async def stop(self) -> Any: ...


async def _nothing() -> None:
    return None


@dataclass
class Assembly:
    """The parts of one node in start order, its HTTP application, and what to do when it is told to leave.

    A part is given as a function that is called when the parts before it have started.
    `replaced` is done when another process has this node's id: nothing may be served any more.
    `begin_drain` turns readiness off and answers held polls; it is called once, before the HTTP server stops.
    """

    app: App
    services: Sequence[tuple[str, Callable[[], Part]]] = ()
    replaced: asyncio.Future[str] | None = None
    begin_drain: Callable[[], Awaitable[None]] = _nothing
