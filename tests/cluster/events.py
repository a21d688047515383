"""A subscriber of the event stream, and the check that it saw every event of every run in order (architecture, rule 8)."""

from __future__ import annotations

import asyncio
from typing import Any

import nats
import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.js.errors import Error as JetStreamError

from tests.support.services import Deployment


class EventWatch:
    """Reads the stream from its beginning with an ordered consumer, as any subscriber would, inside `async with`."""

    def __init__(self, place: Deployment) -> None:
        self._place = place
        self._connection: Any = None
        self.seen: dict[str, list[tuple[int, bytes]]] = {}

    async def __aenter__(self) -> EventWatch:
        self._connection = await nats.connect(self._place.nats_url, max_reconnect_attempts=-1, reconnect_time_wait=0.2)
        subject = f"{self._place.prefix}.events.>"
        async with asyncio.timeout(30):
            while True:
                try:
                    await self._connection.jetstream().subscribe(subject, ordered_consumer=True, cb=self._received)
                    return self
                except (JetStreamError, nats.errors.Error):  # the node makes the stream soon after its start
                    await asyncio.sleep(0.1)

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def _received(self, message: Msg) -> None:
        event = orjson.loads(message.data)
        assert message.headers is not None
        run_id = event["run_id"] or message.headers["Nats-Msg-Id"].partition(":")[0]  # of a schedule: its key
        self.seen.setdefault(run_id, []).append((event["sequence"], message.data))

    async def wait_for(self, lengths: dict[str, int], seconds: float = 60.0) -> None:
        """Wait until the last event of every run was seen (`lengths`: run id -> sequence of its last event)."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if not self._missing(lengths):
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            missing = self._missing(lengths)
            some = {run_id: (lengths[run_id], [number for number, _ in self.seen.get(run_id, [])]) for run_id in missing[:5]}
            raise AssertionError(f"events of {len(missing)} of {len(lengths)} runs did not come: {some}") from None

    def _missing(self, lengths: dict[str, int]) -> list[str]:
        return [run_id for run_id, last in lengths.items() if not self._saw(run_id, last)]

    def _saw(self, run_id: str, last: int) -> bool:
        events = self.seen.get(run_id)
        return bool(events) and events is not None and events[-1][0] == last

    def check_order(self, lengths: dict[str, int]) -> None:
        """Every event of every run once, in order, without a gap; an identical one may repeat directly after itself."""
        wrong: dict[str, list[int]] = {}
        for run_id, last in lengths.items():
            events = self.seen.get(run_id, [])
            once = [event for place, event in enumerate(events) if place == 0 or event != events[place - 1]]
            if [number for number, _ in once] != list(range(1, last + 1)):
                wrong[run_id] = [number for number, _ in events]
        assert not wrong, f"events of {len(wrong)} of {len(lengths)} runs are out of order: {dict(list(wrong.items())[:5])}"
