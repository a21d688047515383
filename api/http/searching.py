"""Reads of many rows: bounded in number and time, so that they take neither the database nor its connections from the rest."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from api.http.errors import ApiError
from store.errors import StoreBusy, StoreTooSlow

_RETRY_AFTER = ((b"retry-after", b"1"),)

Found = TypeVar("Found")


async def searched(read: Awaitable[Found]) -> Found:
    """What a read on `services.searches` finds.

    Raises ApiError 503: `search_capacity_exhausted` when too many wait already, `search_timeout` when it took too long.
    """
    try:
        return await read
    except StoreBusy as error:
        text = "Too many lists and searches are being read; the request can be repeated."
        raise ApiError(503, "search_capacity_exhausted", text, headers=_RETRY_AFTER) from error
    except StoreTooSlow as error:
        text = "The list could not be read in time; narrow it, or repeat the request when the server has less to do."
        raise ApiError(503, "search_timeout", text, headers=_RETRY_AFTER) from error
