"""What can go wrong when another node is asked: surely nothing happened there, or nobody knows."""

from __future__ import annotations

import asyncio
from typing import Any


class BusError(Exception):
    """Base of the errors of this package."""


class Unreachable(BusError):
    """The message was certainly not delivered: not connected, nobody listens there, or it is larger than NATS carries."""


class OutcomeUnknown(BusError):
    """The message may have been delivered and applied: time-out, connection lost after sending, or the other node died."""


class HandlerFailed(OutcomeUnknown):
    """The other node received the message and its handler raised; what it had done before that is unknown."""


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """End a future with an error. Whoever waited for it may have left: nothing is said then."""
    future.set_exception(error)
    future.exception()
