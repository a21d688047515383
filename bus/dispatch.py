"""Carries ready tasks to the node that hosts their queue, over a JetStream stream in memory.

Losing or doubling such a message is harmless (architecture, rule 5), so sending waits for nothing and receiving
acknowledges nothing. What JetStream adds to plain NATS is that messages sent while a node's connection is away for some
seconds still arrive.

The consumer is a push consumer: messages come as they are stored, without a pull request per batch. It is made at
start, after every reconnect, and when its heartbeats stay away (it lived on a server that died, or NATS lost its data).
A new one starts after the last message that was seen; when the stream itself is new, at its beginning.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig

from base.service import Service
from bus.connection import Bus
from bus.streams import ensure_stream

_log = logging.getLogger("dw.bus")

_MAX_AGE_SECONDS = 60.0
_MAX_PER_NODE = 50_000
_MAX_BYTES = 128 * 1024 * 1024
_HEARTBEAT_SECONDS = 2.0
_SILENCE_SECONDS = 6.0
_RETRY_SECONDS = 0.5
# Longer than a short loss of connection, so that the server need not make the consumer anew when it is not gone.
_CONSUMER_IDLE_SECONDS = 30.0


class Dispatch(Service):
    """Fire-and-forget messages to a node's queues.

    `sent`, `unsent` (no session or too large) and `received` count messages; `consumers` counts how often the consumer
    was made.
    """

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self._bus = bus
        self.sent = 0
        self.unsent = 0
        self.received = 0
        self.consumers = 0
        self._handler: Callable[[bytes], None] | None = None
        self._wake = asyncio.Event()
        self._consuming = False
        self._heard = 0.0  # loop time of the last message or heartbeat
        self._consumer: str | None = None
        self._created: datetime | None = None  # identity of the stream `_seen` belongs to
        self._seen = 0  # stream sequence of the last message
        self._deliver = bus.subjects.deliver(bus.node_id, bus.process)
        self._sid: int | None = None
        bus.on_connect(self._connected)
        bus.on_disconnect(self._disconnected)

    def send(self, node_id: str, payload: bytes) -> bool:
        """Send to the dispatch handler of a node, soon and probably. False: certainly not sent. Never raises."""
        if self._bus.publish(self._bus.subjects.dispatch(node_id), payload):
            self.sent += 1
            return True
        self.unsent += 1
        return False

    def on_dispatch(self, handler: Callable[[bytes], None]) -> None:
        """Call the plain, short function `handler(payload)` for what is sent to this node. Needs `start()`."""
        self._handler = handler

    async def _start(self) -> None:
        """Begin receiving in the background; returns at once, connected or not."""
        self._sid = self._bus.subscribe(self._deliver, self._on_message)
        self._spawn(self._keep_consuming(), name="dispatch")

    async def _stopped(self) -> None:
        """The server drops the consumer."""
        if self._sid is not None:
            self._bus.unsubscribe(self._sid)
            self._sid = None
        await self._drop_consumer()

    @property
    def receiving(self) -> bool:
        """True while the consumer of this node is known to be there."""
        return self._consuming

    def _connected(self) -> None:
        self._wake.set()

    def _disconnected(self) -> None:
        self._consuming = False
        self._wake.set()

    def _on_message(self, _subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        self._heard = asyncio.get_running_loop().time()
        if headers is not None and headers.startswith(b"NATS/1.0 "):
            return  # heartbeat
        sequence = _stream_sequence(reply)
        if sequence is not None:
            self._seen = sequence
        self.received += 1
        if self._handler is not None:
            self._handler(body)

    async def _keep_consuming(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.stopping:
            self._wake.clear()
            pause: float | None
            if not self._bus.connected:
                pause = None
            elif self._consuming and loop.time() - self._heard < _SILENCE_SECONDS:
                pause = _HEARTBEAT_SECONDS
            else:
                self._consuming = await self._make_consumer()
                pause = _HEARTBEAT_SECONDS if self._consuming else _RETRY_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _make_consumer(self) -> bool:
        bus = self._bus
        session = bus.session
        stream = await ensure_stream(
            bus,
            StreamConfig(
                name=bus.subjects.dispatch_stream,
                description="ready tasks on their way to the node that hosts their queue",
                subjects=[bus.subjects.all_dispatch],
                storage=StorageType.MEMORY,
                max_age=_MAX_AGE_SECONDS,
                max_msgs_per_subject=_MAX_PER_NODE,
                max_bytes=_MAX_BYTES,
                num_replicas=bus.options.replicas,
                duplicate_window=1,
            ),
        )
        js = bus.jetstream()
        if stream is None or js is None:
            return False
        await self._drop_consumer()
        if stream.created != self._created:
            # The first stream this process meets: what an earlier life of this node missed is in its ready rows.
            # A new one later: all of it.
            self._seen = stream.state.last_seq if self._created is None else 0
            self._created = stream.created
        elif stream.state.last_seq < self._seen:  # its end was lost
            self._seen = 0
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._seen + 1,
            deliver_subject=self._deliver,
            filter_subject=bus.subjects.dispatch(bus.node_id),
            ack_policy=AckPolicy.NONE,
            idle_heartbeat=_HEARTBEAT_SECONDS,
            inactive_threshold=_CONSUMER_IDLE_SECONDS,
            mem_storage=True,
            num_replicas=1,
        )
        try:
            info = await js.add_consumer(bus.subjects.dispatch_stream, config)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            bus.last_error = f"dispatch consumer: {type(error).__name__}: {error}"
            return False
        self._consumer = info.name
        self.consumers += 1
        self._heard = asyncio.get_running_loop().time()
        return bus.session == session

    async def _drop_consumer(self) -> None:
        # Left alone it would deliver everything twice until the server finds it idle.
        js = self._bus.jetstream()
        if self._consumer is None or js is None:
            return
        consumer, self._consumer = self._consumer, None
        try:
            await js.delete_consumer(self._bus.subjects.dispatch_stream, consumer)
        except (nats.errors.Error, OSError, TimeoutError):
            pass


def _stream_sequence(reply: bytes) -> int | None:
    # $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.…, or with a domain and an account in front of the stream
    tokens = reply.split(b".")
    try:
        return int(tokens[5 if len(tokens) == 9 else 7])
    except (IndexError, ValueError):
        return None
