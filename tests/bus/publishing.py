"""An event stream whose callbacks are recorded, and what a subscriber finds in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import nats as nats_client

from bus.connection import Bus
from bus.events import EventStream, EventStreamOptions
from tests.bus.nats_server import NatsServer


def run_id(number: int) -> str:
    return f"{number:026d}"


class Publisher:
    """An EventStream with its callbacks recorded."""

    def __init__(self, bus: Bus, options: EventStreamOptions | None = None) -> None:
        self.bus = bus
        self.acked: dict[str, list[int]] = defaultdict(list)
        self.dropped: list[str] = []
        self.stream = EventStream(
            bus, options, on_acked=lambda run, sequence: self.acked[run].append(sequence), on_dropped=self.dropped.append
        )

    def publish(self, run: str, sequence: int, body: bytes = b"{}") -> bool:
        return self.stream.publish(run, sequence, self.bus.subjects.event("ns", "type", f"wf {run[-4:]}", "Event"), body)


async def stored(nats: NatsServer) -> list[tuple[str, int, bytes, dict[str, str]]]:
    """All messages of the stream in its order: (run id, sequence, body, headers), as an independent subscriber reads them."""
    client = await nats_client.connect(nats.url)
    try:
        js = client.jetstream()
        info = await js.stream_info("dw_events")
        found: list[tuple[str, int, bytes, dict[str, str]]] = []
        consumer = await js.pull_subscribe("dw.events.>", stream="dw_events")
        while len(found) < info.state.messages:
            for message in await consumer.fetch(min(1000, info.state.messages - len(found)), timeout=5):
                headers = dict(message.headers or {})
                run, _, number = headers["Nats-Msg-Id"].partition(":")
                found.append((run, int(number), message.data, headers))
                await message.ack()
        return found
    finally:
        await client.close()


def by_run(messages: Iterable[tuple[str, int, bytes, dict[str, str]]]) -> dict[str, list[int]]:
    runs: dict[str, list[int]] = defaultdict(list)
    for run, sequence, _, _ in messages:
        runs[run].append(sequence)
    return runs
