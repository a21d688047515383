"""Makes the event stream exist, tells whether it may be sent to, and notices when it stores nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import orjson
from nats.js.api import StreamConfig

from bus.connection import Bus
from bus.standstill import Standstill
from bus.streams import StreamSight, ensure_stream, look_at

OnMissing = Callable[[], Awaitable["int | None"]]
OnStream = Callable[[], Awaitable[bool]]


_CLOSED = "NATS answers but stores nothing; its disk is full, or was: then it needs a restart to store again"


class StreamKeeper:
    """`ready`: the stream is there as far as known, and may be sent to. `standstill` tells whether it stores nothing."""

    def __init__(self, bus: Bus, config: StreamConfig, on_missing: OnMissing | None, on_stream: OnStream | None) -> None:
        """The callbacks are those of `EventStream`."""
        self._bus = bus
        self._config = config
        self._on_missing = on_missing
        self._on_stream = on_stream
        self.ready = False
        self.standstill = Standstill("the event stream", lambda: asyncio.get_running_loop().time())
        self._stood_as: StreamSight | None = None
        self._held = False  # by a callback

    async def look(self) -> StreamSight | None:
        """The stream as it is now (`created` "": there is none); None when nobody answers."""
        return await look_at(self._bus, str(self._config.name))

    async def wait_ready(self, timeout_seconds: float) -> bool:
        """Wait until the stream is known to be there; False after the time."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while not self.ready:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def ensure(self) -> None:
        """Make the stream exist as configured, and find out whether it may be sent to."""
        session = self._bus.session
        if self.standstill.silent:
            self._stood_as = await self.look()  # judged from here on
        self.ready = await self._ensure() and self._bus.connected and session == self._bus.session

    async def _ensure(self) -> bool:
        config = self._config
        self._held = False
        if self._on_missing is not None:
            sight = await self.look()
            if sight is None:
                return False
            if not sight.created:
                config = dataclasses.replace(config, first_seq=await self._on_missing())
                self._held = config.first_seq is None
        if self._held or await ensure_stream(self._bus, config) is None:
            return False
        self._held = self._on_stream is not None and not await self._on_stream()
        return not self._held

    async def judge(self) -> bool:
        """Say so when nothing has been stored for too long; True when that begins with this."""
        still = self.standstill
        if not still.due() or not self._bus.connected:
            return False
        missing, refused = not self.ready, still.answer
        sight = None if missing else await self.look()
        if not still.due() or not self._bus.connected:
            return False  # it went on meanwhile
        self._stood_as = sight
        if refused:
            still.begin(f"NATS refuses events: {refused}", silent=False)
        elif sight is not None and sight.created:
            still.begin(_CLOSED, silent=True)
        elif self._held:
            still.begin("what was published before can not be told while the database is away", silent=False)
        else:
            still.begin(f"JetStream has no stream for it, or does not answer ({self._bus.last_error})", silent=False)
        return True

    async def was_replaced(self) -> bool:
        """Whether there is another stream now than when it came to a stand."""
        if not self.standstill.silent or self._stood_as is None:
            return False
        sight = await self.look()
        return sight is not None and sight.created != self._stood_as.created


def told(body: bytes) -> str:
    """What a negative answer to a publish says."""
    if not body:
        return "there is no stream for them"
    try:
        return str(orjson.loads(body)["error"]["description"])
    except (ValueError, KeyError, TypeError):
        return repr(body[:200])


def stored_as(body: bytes) -> int:
    """The stream sequence in a positive answer; 0 when it can not be told."""
    try:
        answer = orjson.loads(body)
        return 0 if answer.get("duplicate") else int(answer["seq"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0
