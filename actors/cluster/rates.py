"""Tasks added and dispatched in the last minute, and queries that wait, summed over the nodes alive (operations 2.1, 2.2)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from actors.cluster import protocol
from actors.cluster.protocol import AskRates, Rated, response_or_none
from bus.ask import Ask
from bus.errors import Unreachable

_SECONDS = 1.0


class Rate(NamedTuple):
    """Of one queue and kind in the last minute."""

    added: int
    dispatched: int


class Traffic(NamedTuple):
    """Of some queues of a namespace: rates by queue and kind, and the queries that wait for a worker by queue."""

    rates: dict[tuple[str, str], Rate]
    queries: dict[str, int]


async def traffic_of(own: Rated, ask: Ask, namespace: str, queues: Sequence[str]) -> Traffic:
    """What the nodes alive know of these queues; `own`: this one. One that does not answer within a second counts nothing."""
    question = protocol.encode(AskRates(namespace, list(queues)))
    asked: list[asyncio.Future[bytes]] = []
    for node_id in ask.heard:
        try:
            asked.append(ask.start_ask(node_id, question, _SECONDS))
        except Unreachable:
            continue
    if asked:
        await asyncio.wait(asked)
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    queries: dict[str, int] = defaultdict(int)
    for answer in [own, *(response for done in asked if isinstance(response := response_or_none(done), Rated))]:
        for queue, kind, added, dispatched in answer.rates:
            sums[queue, kind][0] += added
            sums[queue, kind][1] += dispatched
        for queue, waiting in answer.queries.items():
            queries[queue] += waiting
    return Traffic({key: Rate(*counts) for key, counts in sums.items()}, dict(queries))
