"""Publishes history events to JetStream: every event of a run, in order, without a gap (architecture, rule 8).

How the order is kept: of one run at most one event is in flight. The next is sent when JetStream has acknowledged the
one before, so no lost message, changed stream leader, reconnect or second node publishing the same run can put a later
event before an earlier one. Many runs are in flight at once, so this costs a run some tenths of a millisecond per event
and the stream nothing.

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
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from nats.js.api import StorageType, StreamConfig

from bus.connection import Bus
from bus.streams import ensure_stream

_log = logging.getLogger(__name__)

_WINDOW_MESSAGES = 2048
_WINDOW_BYTES = 8 * 1024 * 1024
_ACK_SECONDS = 5.0
_TICK_SECONDS = 0.5


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

    __slots__ = ("events", "in_flight", "last", "run_id", "sent_at")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.events: deque[tuple[int, bytes]] = deque()  # (sequence, complete command)
        self.last = 0
        self.in_flight = False
        self.sent_at = 0.0


class EventStream:
    """The publisher of one node. `acked`, `resent`, `oversize` count events; `queued` and `queued_bytes` tell what waits."""

    def __init__(
        self,
        bus: Bus,
        options: EventStreamOptions | None = None,
        *,
        on_acked: Callable[[str, int], None] | None = None,
        on_dropped: Callable[[str], None] | None = None,
    ) -> None:
        """The callbacks are plain, short functions.

        `on_acked(run id, sequence)`: in the stream for sure. `on_dropped(run id)`: a run's tail must be published again later.
        """
        self._bus = bus
        self._options = options or EventStreamOptions()
        self._on_acked = on_acked
        self._on_dropped = on_dropped
        self.queued = 0
        self.queued_bytes = 0
        self.acked = 0
        self.resent = 0
        self.oversize = 0
        self._runs: dict[str, _Run] = {}
        self._dropped: set[str] = set()
        self._sendable: deque[_Run] = deque()
        self._in_flight: dict[str, _Run] = {}  # oldest first
        self._in_flight_bytes = 0
        self._refused: list[_Run] = []  # negative answer: again at the next tick
        self._stream_ready = False
        self._pump_scheduled = False
        self._built_for = bus.max_payload
        self._task: asyncio.Task[None] | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._stopping = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._acks = bus.subjects.acks(bus.node_id, bus.process)
        self._acks_length = len(self._acks)
        bus.subscribe(self._acks + "*.*", self._on_ack)
        bus.on_connect(self._connected)
        bus.on_disconnect(self._disconnected)

    # -- life ---------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin publishing in the background; returns at once, connected or not."""
        if self._task is None:
            self._stopping = False
            self._task = asyncio.get_running_loop().create_task(self._keep(), name="events")

    async def stop(self, timeout_seconds: float = 2.0) -> bool:
        """Stop, giving what is queued that much time. True when everything was acknowledged; the rest is in Postgres."""
        done = True
        if self._bus.connected:
            done = await self.drain(timeout_seconds)
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._tick is not None:
            self._tick.cancel()
        return done and not self.queued

    async def drain(self, timeout_seconds: float) -> bool:
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
                asyncio.get_running_loop().call_soon(self._pump)
            if self._idle.is_set():
                self._idle.clear()
        command = self._command(run_id, sequence, subject, body)
        run.events.append((sequence, command))
        run.last = sequence
        self.queued += 1
        self.queued_bytes += len(command)
        return True

    def _command(self, run_id: str, sequence: int, subject: str, body: bytes) -> bytes:
        # Built once, also for re-sending: the acknowledgement names run and sequence, right whichever copy it answers.
        header = f"NATS/1.0\r\nNats-Msg-Id: {run_id}:{sequence}\r\n\r\n"
        if len(header) + len(body) > self._built_for:
            header = f"{header[:-2]}Dw-Body-Omitted: {len(body)}\r\n\r\n"
            body = b""
            self.oversize += 1
        length = len(header)
        head = f"HPUB {subject} {self._acks}{run_id}.{sequence} {length} {length + len(body)}\r\n{header}"
        return b"%b%b\r\n" % (head.encode(), body)

    def queued_of(self, run_id: str) -> bool:
        """Whether events of this run wait here for their acknowledgement."""
        return run_id in self._runs

    def follows(self, run_id: str, sequence: int) -> bool:
        """Whether this event would directly follow the ones of its run that wait here."""
        run = self._runs.get(run_id)
        return run is not None and sequence == run.last + 1

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
            if run.in_flight:
                self._landed(run)
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
        if not self._stream_ready:
            return
        now = asyncio.get_running_loop().time()
        sendable = self._sendable
        in_flight = self._in_flight
        while sendable and len(in_flight) < _WINDOW_MESSAGES and self._in_flight_bytes < _WINDOW_BYTES:
            run = sendable.popleft()
            if not run.events:
                continue
            command = run.events[0][1]
            if not self._bus.send_command(command):
                sendable.appendleft(run)
                return
            run.in_flight = True
            run.sent_at = now
            in_flight[run.run_id] = run
            self._in_flight_bytes += len(command)
        if self._tick is None and in_flight:
            self._watch()

    def _landed(self, run: _Run) -> None:
        run.in_flight = False
        del self._in_flight[run.run_id]
        self._in_flight_bytes -= len(run.events[0][1])

    def _on_ack(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        run_id, _, number = subject[self._acks_length :].decode().partition(".")
        run = self._runs.get(run_id)
        if run is None or str(run.events[0][0]) != number:
            return  # a second answer, after a re-send
        if not body or b'"error"' in body or b'"stream"' not in body:
            # No body: the server found nobody who stores this subject.
            if run.in_flight:
                self._landed(run)
                self._refused.append(run)
                self._bus.last_error = f"event refused: {body[:200]!r}"
                if not body:
                    self._stream_ready = False
                    self._wake.set()
            return
        in_flight = run.in_flight  # else it stands in line already, to be sent again
        if in_flight:
            self._landed(run)
        sequence, command = run.events.popleft()
        self.queued -= 1
        self.queued_bytes -= len(command)
        self.acked += 1
        if run.events:
            if in_flight:
                self._sendable.append(run)
        else:
            del self._runs[run_id]
            self._check_idle()
        if self._sendable and not self._pump_scheduled:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)
        if self._on_acked is not None:
            self._on_acked(run_id, sequence)

    # -- connection and stream ----------------------------------------------------------------------------------------------

    def _connected(self) -> None:
        self._fit_to(self._bus.max_payload)
        self._wake.set()

    def _disconnected(self) -> None:
        # What was in flight may be stored or not: sent again, first of all, it is de-duplicated if it is.
        self._stream_ready = False
        self.resent += len(self._in_flight)
        for run in self._in_flight.values():
            run.in_flight = False
        self._sendable.extendleft(reversed(self._in_flight.values()))
        self._in_flight.clear()
        self._in_flight_bytes = 0

    def _fit_to(self, max_payload: int) -> None:
        # Sending more than the server accepts would end the connection, again and again.
        smaller = max_payload < self._built_for
        self._built_for = max_payload
        if not smaller:
            return
        for run in self._runs.values():
            for place, (sequence, command) in enumerate(run.events):
                if len(command) > max_payload:
                    _, subject, _, header_length, total = command[: command.index(b"\r\n")].decode().split(" ")
                    body = command[-2 - (int(total) - int(header_length)) : -2]
                    rebuilt = self._command(run.run_id, sequence, subject, body)
                    run.events[place] = (sequence, rebuilt)
                    self.queued_bytes += len(rebuilt) - len(command)

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
        while not self._stopping:  # nats-py swallows cancellation here and there, the loop has to look for itself
            await self._wake.wait()
            self._wake.clear()
            if not self._bus.connected:
                continue
            if not self._stream_ready or self._refused:
                self._stream_ready = await self._ensure()
                if not self._stream_ready:
                    await asyncio.sleep(_TICK_SECONDS)
                    self._wake.set()
                    continue
                self._sendable.extendleft(reversed(self._refused))
                self._refused.clear()
            self._send_again()
            self._pump()

    def _send_again(self) -> None:
        before = asyncio.get_running_loop().time() - _ACK_SECONDS
        late: list[_Run] = []
        for run in self._in_flight.values():
            if run.sent_at > before:
                break
            late.append(run)
        for run in late:
            self._landed(run)
        self._sendable.extendleft(reversed(late))
        self.resent += len(late)

    async def _ensure(self) -> bool:
        options = self._options
        session = self._bus.session
        info = await ensure_stream(
            self._bus,
            StreamConfig(
                name=self._bus.subjects.event_stream,
                description="history events of workflow runs, in order per run",
                subjects=[self._bus.subjects.all_events],
                storage=StorageType.FILE,
                max_age=options.max_age_seconds,
                max_bytes=options.max_bytes,
                duplicate_window=options.duplicate_window_seconds,
                num_replicas=self._bus.options.replicas,
            ),
        )
        return info is not None and self._bus.connected and session == self._bus.session

    def _check_idle(self) -> None:
        if not self._runs:
            self._idle.set()
