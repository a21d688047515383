"""Polls of other nodes' clients that wait here, where their queue is hosted."""

from __future__ import annotations

import asyncio

from actors.cluster import protocol
from actors.cluster.protocol import Failed, Granted, Moved
from actors.queue.parked_poll import Grant, ParkedPoll


def answer_of(parked: ParkedPoll) -> asyncio.Future[bytes]:
    """The answer to the node that forwarded a poll: `Granted`, or `Moved` when the poll has to look for another place.

    The bus cancels the future when that node withdraws its question: nobody waits for the poll any more.
    """
    response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answered(done: asyncio.Future[Grant | None]) -> None:
        if response.done():
            return
        if done.cancelled():
            response.set_result(protocol.encode(Moved()))
        elif (error := done.exception()) is not None:
            response.set_result(protocol.encode(Failed(str(error))))
        else:
            response.set_result(protocol.encode(Granted(parked.poll, done.result())))

    parked.future.add_done_callback(answered)
    response.add_done_callback(lambda done: parked.abandon() if done.cancelled() else None)
    return response
