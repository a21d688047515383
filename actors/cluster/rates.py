"""Tasks added and dispatched in the last minute, summed over the nodes alive (contract operations 2.1)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from actors.cluster import protocol
from actors.cluster.protocol import AskRates, Rated, response_or_none
from actors.hosting.rates import Rates
from bus.ask import Ask
from bus.errors import Unreachable

_SECONDS = 1.0


class Rate(NamedTuple):
    """Of one queue and kind in the last minute."""

    added: int
    dispatched: int


async def rates_of(own: Rates, ask: Ask, namespace: str, queues: Sequence[str]) -> dict[tuple[str, str], Rate]:
    """The rates of these queues by queue and kind. A node that does not answer within a second counts nothing."""
    question = protocol.encode(AskRates(namespace, list(queues)))
    asked: list[asyncio.Future[bytes]] = []
    for node_id in ask.heard:
        try:
            asked.append(ask.start_ask(node_id, question, _SECONDS))
        except Unreachable:
            continue
    if asked:
        await asyncio.wait(asked)
    answers = [response for done in asked if isinstance(response := response_or_none(done), Rated)]
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for queue, kind, added, dispatched in [*own.of(namespace, queues), *(each for answer in answers for each in answer.rates)]:
        sums[queue, kind][0] += added
        sums[queue, kind][1] += dispatched
    return {key: Rate(*counts) for key, counts in sums.items()}
