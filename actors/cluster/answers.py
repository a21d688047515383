"""A run's reply as the answer to another node, and what becomes of a lease whose asker has given up waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from actors.cluster import protocol
from actors.cluster.protocol import Answer, Failed
from actors.run.replies import ActivityTaskGrant, RunReply, TaskGrant, WorkflowTaskGrant

_T = TypeVar("_T")


def resolved(reply: _T) -> asyncio.Future[_T]:
    """A reply that is there already."""
    future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
    future.set_result(reply)
    return future


def respond(reply: asyncio.Future[RunReply], take_back: Callable[[TaskGrant], None] | None = None) -> asyncio.Future[bytes]:
    """The answer to another node. `take_back` gets a lease that comes when the asker does not wait any more."""
    response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answered(done: asyncio.Future[RunReply]) -> None:
        error = done.exception()
        result = None if error is not None else done.result()
        lease = result if take_back is not None and isinstance(result, WorkflowTaskGrant | ActivityTaskGrant) else None
        if response.done():
            if take_back is not None and lease is not None:
                take_back(lease)
        elif result is None:
            response.set_result(protocol.encode(Failed(str(error))))
        else:
            response.set_result(protocol.encode(Answer(result, leases=lease is not None)))

    reply.add_done_callback(answered)
    return response
