"""Publishes history events to JetStream: every event of a run, in order, without a gap (architecture, rule 8).

How the order is kept: of one run at most one batch is in flight, and the next is sent when JetStream has acknowledged
all of it. So whatever is sent after a reconnect, or by a second node for the same run, starts behind an event that is
stored for sure. A batch is several events where one server takes everything from one connection in order (a NATS without
cluster: 64), and a single event where the way to the stream's leader leads through other servers (a NATS cluster), so that
no lost route or changed leader can swallow an event and keep the one after it. Many runs are in flight at once.

An event that is not acknowledged (negative answer, time-out, lost session) is sent again under the same `Nats-Msg-Id`
("<run id>:<sequence>"); JetStream drops the second copy within its duplicate window. After an outage longer than the
window a subscriber may see an event twice in a row.

An event larger than the server's `max_payload` is published without its body (header `Dw-Body-Omitted`: its size in
bytes): a subscriber sees that it is there, and reads it from the history.

While NATS is away events wait in a bounded queue. When it is full, the run whose event does not fit is *dropped*: what
is queued of it stays, what comes later is refused until its owner calls `resume` and publishes the rest from Postgres.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from nats.js.api import StorageType, StreamConfig

from base.service import Service
from bus.connection import Bus
from bus.event_frames import frame, refit
from bus.stream_keeper import OnMissing, OnStream, StreamKeeper, stored_as, told
from bus.streams import StreamSight

_WINDOW_MESSAGES = 2048
_WINDOW_BYTES = 8 * 1024 * 1024
_BATCH = 64  # events of one run in flight, where the order of one connection is the order of the stream
# Events are sent in bursts: one write, one wake-up of the server and one read of its answers serve many.
_PUMP_SECONDS = 0.01
_ACK_SECONDS = 5.0
_PROBE_SECONDS = 2.0  # the same while the stream stands still: then the events of one run ask whether it goes on
_TICK_SECONDS = 0.5
_DRAIN_SECONDS = 2.0


@dataclass(slots=True, frozen=True)
class EventStreamOptions:
    """Limits of the stream (`max_age_seconds`, `max_bytes`; oldest events go first) and of the queue in this process."""

    max_age_seconds: float = 7 * 86400.0
    max_bytes: int = 1024 * 1024 * 1024
    duplicate_window_seconds: float = 120.0
    queue_messages: int = 50_000
    queue_bytes: int = 64 * 1024 * 1024


class _Run:
    """The events of one run that are not acknowledged yet."""

    __slots__ = ("events", "flying", "last", "run_id", "sent_at")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.events: deque[tuple[int, bytes]] = deque()  # (sequence, complete command)
        self.last = 0
        self.flying = 0  # how many of `events` are sent; the next batch follows when it is 0 again
        self.sent_at = 0.0


class EventStream(Service):
    """The publisher of one node. `acked`, `resent`, `oversize` count events; `queued` and `queued_bytes` tell what waits."""

    def __init__(
        self,
        bus: Bus,
        options: EventStreamOptions | None = None,
        *,
        on_acked: Callable[[str, int], None] | None = None,
        on_dropped: Callable[[str], None] | None = None,
        on_missing: OnMissing | None = None,
        on_stream: OnStream | None = None,
    ) -> None:
        """The first two callbacks are plain, short functions.

        `on_acked(run id, sequence)`: in the stream for sure. `on_dropped(run id)`: a run's tail must be published again later.
        `on_missing()` tells with which sequence a stream made where there is none begins, behind that of an earlier one, so
        that a subscriber that remembers its place goes on; None: it can not be told now.
        `on_stream()` is awaited before anything is sent to a stream that may be another one than before (each session, and
        when the stream was gone); False: it may not be sent to yet.
        """
        super().__init__()
        self._bus = bus
        self._options = options or EventStreamOptions()
        self._on_acked = on_acked
        self._on_dropped = on_dropped
        self._keeper = StreamKeeper(bus, self._stream_config(), on_missing, on_stream)
        self.standstill = self._keeper.standstill
        self.queued = 0
        self.queued_bytes = 0
        self.acked = 0
        self.resent = 0
        self.oversize = 0
        self._runs: dict[str, _Run] = {}
        self._dropped: set[str] = set()
        self._sendable: deque[_Run] = deque()
        self._in_flight: dict[str, _Run] = {}  # oldest first
        self._flying = 0
        self._flying_bytes = 0
        self._batch = 1
        self._refused: list[_Run] = []  # negative answer: again at the next tick
        self._pump_scheduled = False
        self._last_answer = b""  # positive one
        self._progress = 0  # `acked` when last looked at
        self._built_for = bus.max_payload
        self._tick: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._acks = bus.subjects.acks(bus.node_id, bus.process)
        self._acks_length = len(self._acks)
        bus.subscribe(self._acks + "*.*", self._on_ack)
        bus.on_connect(self._connected)
        bus.on_disconnect(self._disconnected)

    # -- life ---------------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Begin publishing in the background; returns at once, connected or not."""
        self._spawn(self._keep(), name="events")

    async def stop(self, timeout_seconds: float = _DRAIN_SECONDS) -> bool:
        """Stop, giving what is queued that much time. True when everything was acknowledged; the rest is in Postgres."""
        if self.running and self._bus.connected:
            await self.drain(timeout_seconds)
        await super().stop()
        return not self.queued

    async def _stopped(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    async def drain(self, timeout_seconds: float = _DRAIN_SECONDS) -> bool:
        """Wait until nothing is queued; False when the time is over before."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    # -- publishing ---------------------------------------------------------------------------------------------------------

    def publish(self, run_id: str, sequence: int, subject: str, body: bytes) -> bool:
        """Queue one event; never raises, never waits.

        The first of a run (with nothing queued) may have any sequence, the next ones follow it without a gap.
        `run_id` is a subject token by itself; `subject` comes from `Subjects.event`. True: queued, or already queued.
        False: refused, because the run is dropped (queue full, or this event would leave a gap); `on_dropped` has been
        called with it.
        """
        if run_id in self._dropped:
            return False
        run = self._runs.get(run_id)
        if run is not None:
            if sequence <= run.last:
                return True
            if sequence != run.last + 1:
                self._drop(run_id)
                return False
        size = len(body)
        if self.queued >= self._options.queue_messages or self.queued_bytes + size > self._options.queue_bytes:
            self._drop(run_id)
            return False
        if run is None:
            run = self._runs[run_id] = _Run(run_id)
            self._sendable.append(run)
            if not self._pump_scheduled:
                self._pump_scheduled = True
                asyncio.get_running_loop().call_later(_PUMP_SECONDS, self._pump)
            if self._idle.is_set():
                self._idle.clear()
                self.standstill.waits()
        command, omitted = frame(subject, self._acks, run_id, sequence, body, self._built_for)
        self.oversize += omitted
        run.events.append((sequence, command))
        run.last = sequence
        self.queued += 1
        self.queued_bytes += len(command)
        return True

    def queued_of(self, run_id: str) -> int:
        """How many events of a run wait for their acknowledgement."""
        run = self._runs.get(run_id)
        return 0 if run is None else len(run.events)

    def follows(self, run_id: str, sequence: int) -> bool:
        """True when events of the run wait and one with `sequence` leaves no gap behind them."""
        run = self._runs.get(run_id)
        return run is not None and sequence <= run.last + 1

    def resume(self, run_id: str) -> None:
        """Accept a dropped run's events again.

        The caller then publishes from the one after the last acknowledged (older ones are ignored).
        """
        self._dropped.discard(run_id)

    def discard_where(self, belongs: Callable[[str], bool]) -> int:
        """Forget the queued and dropped events of the runs whose id `belongs` says yes to.

        For shards that left: their new node publishes. Returns how many runs had something queued.
        """
        gone = [run_id for run_id in self._runs if belongs(run_id)]
        for run_id in gone:
            run = self._runs.pop(run_id)
            self.queued -= len(run.events)
            self.queued_bytes -= sum(len(command) for _, command in run.events)
            if run.flying:
                self._land(run)
            run.events.clear()  # the pump skips it where it still stands in line
        self._dropped = {run_id for run_id in self._dropped if not belongs(run_id)}
        self._check_idle()
        return len(gone)

    def _drop(self, run_id: str) -> None:
        self._dropped.add(run_id)
        if self._on_dropped is not None:
            self._on_dropped(run_id)

    # -- sending ------------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._pump_scheduled = False
        if not self._keeper.ready:
            return
        now = asyncio.get_running_loop().time()
        sendable = self._sendable
        most = _WINDOW_MESSAGES if self.standstill.reason is None else 1
        while sendable and self._flying < most and self._flying_bytes < _WINDOW_BYTES:
            run = sendable.popleft()
            for _, command in itertools.islice(run.events, self._batch):
                if not self._bus.send_command(command):
                    break
                run.flying += 1
                self._flying += 1
                self._flying_bytes += len(command)
            if not run.flying and run.events:
                sendable.appendleft(run)
                break
            if run.flying:
                run.sent_at = now
                self._in_flight[run.run_id] = run
        if self._tick is None and self._in_flight:
            self._watch()

    def _land(self, run: _Run) -> None:
        """What is in flight of a run counts as not sent."""
        del self._in_flight[run.run_id]
        self._flying -= run.flying
        self._flying_bytes -= sum(len(command) for _, command in itertools.islice(run.events, run.flying))
        run.flying = 0

    def _on_ack(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        run_id, _, number = subject[self._acks_length :].decode().partition(".")
        run = self._runs.get(run_id)
        if run is None:
            return  # a second answer, after a re-send
        sequence, command = run.events[0]
        if not body or b'"error"' in body or b'"stream"' not in body:
            self._on_refusal(run, body)
            return
        if str(sequence) != number:
            return  # a second answer, or the one before was refused: then this one is sent again behind it
        run.events.popleft()
        self.queued -= 1
        self.queued_bytes -= len(command)
        self.acked += 1
        self._last_answer = body
        if self.standstill.reason is not None:
            self.doubt()  # it may go on as another stream
            self.standstill.progressed()
        if run.flying:  # else it stands in line already, to be sent again
            run.flying -= 1
            self._flying -= 1
            self._flying_bytes -= len(command)
            if not run.flying:
                del self._in_flight[run_id]
                if run.events:
                    self._sendable.append(run)
        if not run.events:
            del self._runs[run_id]
            self._check_idle()
        if self._sendable and not self._pump_scheduled:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_later(_PUMP_SECONDS, self._pump)
        if self._on_acked is not None:
            self._on_acked(run_id, sequence)

    def _on_refusal(self, run: _Run, body: bytes) -> None:
        if run.flying:
            self._land(run)
            self._refused.append(run)
        self.standstill.answer = told(body)
        self._bus.last_error = f"event refused: {self.standstill.answer}"
        if not body:  # the server found nobody who stores this subject
            self.doubt()

    # -- connection and stream ----------------------------------------------------------------------------------------------

    def _connected(self) -> None:
        self._batch = 1 if self._bus.clustered or self._bus.options.replicas > 1 else _BATCH
        self._fit_to(self._bus.max_payload)
        self.standstill.waits()
        self._wake.set()

    def _disconnected(self) -> None:
        # What was in flight may be stored or not: sent again, first of all, it is de-duplicated if it is.
        self._keeper.ready = False
        self._again(list(self._in_flight.values()))

    def _again(self, runs: list[_Run]) -> None:
        for run in runs:
            self.resent += run.flying
            self._land(run)
        self._sendable.extendleft(reversed(runs))

    def _fit_to(self, max_payload: int) -> None:
        # Sending more than the server accepts would end the connection, again and again.
        smaller = max_payload < self._built_for
        self._built_for = max_payload
        if not smaller:
            return
        for run in self._runs.values():
            for place, (sequence, command) in enumerate(run.events):
                refitted, omitted = refit(command, max_payload)
                run.events[place] = (sequence, refitted)
                self.queued_bytes += len(refitted) - len(command)
                self.oversize += omitted

    def _on_tick(self) -> None:
        self._tick = None
        if self._in_flight or self._refused:
            self._wake.set()
            self._watch()

    def _watch(self) -> None:
        # A tick only while there is something to watch; an idle node sleeps.
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._on_tick)

    async def _keep(self) -> None:
        while not self.stopping:  # nats-py swallows cancellation here and there, the loop has to look for itself
            await self._wake.wait()
            self._wake.clear()
            if not self._bus.connected:
                continue
            if not self._keeper.ready or self._refused:
                await self._keeper.ensure()
                if not self._keeper.ready:
                    await self._judge()
                    await asyncio.sleep(_TICK_SECONDS)
                    self._wake.set()
                    continue
                if not self.queued:
                    self.standstill.progressed()
                if self._refused and self.standstill.reason is not None:
                    await asyncio.sleep(_PROBE_SECONDS)
                self._sendable.extendleft(reversed(self._refused))
                self._refused.clear()
            if self.queued:
                await self._judge()
                if await self._keeper.was_replaced():
                    self.doubt()
                    continue
            self._send_again()
            self._pump()

    async def _judge(self) -> None:
        """See whether it goes on; who asks that of a stream that stands still is one run, not all."""
        if self.acked != self._progress:
            self._progress = self.acked
            self.standstill.progressed()
        elif await self._keeper.judge():
            self._again(list(self._in_flight.values()))

    def _send_again(self) -> None:
        patience = _ACK_SECONDS if self.standstill.reason is None else _PROBE_SECONDS
        before = asyncio.get_running_loop().time() - patience
        self._again(list(itertools.takewhile(lambda run: run.sent_at <= before, self._in_flight.values())))

    # -- for those who look after the stream --------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the stream is known to be there."""
        return self._keeper.ready

    async def wait_ready(self, timeout_seconds: float) -> bool:
        """Wait until the stream is known to be there; False after the time."""
        return await self._keeper.wait_ready(timeout_seconds)

    async def look(self) -> StreamSight | None:
        """The stream as it is now (`created` "": there is none); None when nobody answers."""
        return await self._keeper.look()

    def doubt(self) -> None:
        """The stream may be gone: it is looked for, and made, before anything more is sent."""
        self._keeper.ready = False
        self._wake.set()

    def silent_seconds(self) -> float:
        """For how long the stream has stood still in the way of a server that could not write; 0.0 when it does not."""
        return self.standstill.seconds if self.standstill.silent and self._bus.connected else 0.0

    def take_end(self) -> int:
        """The stream sequence of the last event stored since this was asked last; 0 when there is none."""
        answer, self._last_answer = self._last_answer, b""
        return stored_as(answer)

    def _stream_config(self) -> StreamConfig:
        options = self._options
        return StreamConfig(
            name=self._bus.subjects.event_stream,
            description="history events of workflow runs, in order per run",
            subjects=[self._bus.subjects.all_events],
            storage=StorageType.FILE,
            max_age=options.max_age_seconds,
            max_bytes=options.max_bytes,
            duplicate_window=options.duplicate_window_seconds,
            num_replicas=self._bus.options.replicas,
        )

    def _check_idle(self) -> None:
        if not self._runs:
            self._idle.set()
