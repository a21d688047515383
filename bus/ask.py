"""Ask another node and wait for its answer; tell it something without waiting.

One wildcard subscription receives all replies; an ask in flight is one future in one dict, and one timer for all of
them ends those whose time is over. Ten thousand parked polls cost ten thousand futures, no tasks and no timers.

A reply's first byte says what it is: `0` the answer, `1` more of it follows (answers larger than NATS' message limit
travel in parts), `2` the handler raised (text follows). An answer carries a reply subject itself: there NATS tells that the
asker is gone. Asks are addressed to one process of a node: a node says hello with the name of its process, when it connects and
then all the time, so that the others settle at once with the process that had its id before, and soon with one that is silent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from base.observability.actions import said
from bus.connection import Bus
from bus.errors import HandlerFailed, OutcomeUnknown, Unreachable, fail
from bus.pulse import Pulse
from bus.recent import RecentAnswers
from bus.subjects import untoken

_log = logging.getLogger("dw.bus")

_Withdrawn = tuple[str, str, bytes]  # node, process, token
AskHandler = Callable[[bytes], Awaitable[bytes]]

_DONE = 0
_MORE = 1
_FAILED = 2
_TICK_SECONDS = 0.05
_MAX_WITHDRAWN = 100_000
_RECENT_ANSWERS = 16_384
_RECENT_BYTES = 16 * 1024 * 1024
_RECALL = b"r"  # begins the tokens that name sent answers
_HELLO = "hello"


@dataclass(slots=True)
class _Pending:
    """An ask in flight."""

    node_id: str
    process: str
    future: asyncio.Future[bytes]
    tick: int  # when its time is over


class Ask:
    """Request and reply between nodes, both ends.

    An ask that ends without its answer (time-out, cancelled caller) is withdrawn: the other node's handler is
    cancelled. An answer that reaches nobody (it crossed the withdrawal or was lost with a connection, its node's connection is
    away, the asker died) is handed to `on_undelivered`, at one end or at both, so that what it granted can be taken back.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._inbox = bus.subjects.inbox(bus.node_id, bus.process)
        self._inbox_length = len(self._inbox)
        self._next = 0
        self._pending: dict[bytes, _Pending] = {}
        self._ticks: dict[int, set[bytes]] = {}  # tick -> asks that end then
        self._now_tick = 0
        self._timer: asyncio.TimerHandle | None = None
        self._parts: dict[bytes, list[bytes]] = {}
        self._withdrawn: list[_Withdrawn] = []  # to tell once connected again
        self._told_early: list[_Withdrawn] = []  # told when connected again, perhaps before the other node was
        self._handler: AskHandler | None = None
        self._on_tell: Callable[[bytes], None] | None = None
        self._undelivered: Callable[[bytes], None] | None = None
        self._serving: dict[bytes, asyncio.Future[bytes]] = {}  # reply subject -> running handler
        self._recent = RecentAnswers(_RECENT_ANSWERS, _RECENT_BYTES)
        self._answers = 0
        self._processes: dict[str, str] = {}  # live node -> its process, as far as heard
        self._may_speak: Callable[[], bool] = lambda: True
        self._pulse = Pulse(bus, self.say_hello, self._settle)
        bus.subscribe(self._inbox + "*", self._on_reply)
        bus.subscribe(bus.subjects.broadcast(_HELLO, "*"), self._on_hello)
        bus.on_connect(self._connected)
        bus.on_disconnect(self._disconnected)

    # -- asking -------------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many asks wait for their answer."""
        return len(self._pending)

    async def ask(self, node_id: str, payload: bytes, timeout_seconds: float) -> bytes:
        """Send `payload` to the handler of a node and return its answer.

        Raises Unreachable (certainly not delivered: no session, no such node on NATS or a silent one, larger than the message
        limit), OutcomeUnknown (no answer in time, to about 50 ms; session lost; the node fell silent; `fail_pending`),
        HandlerFailed. Cancelling the caller withdraws the ask.
        """
        token, future = self.begin(node_id, payload, timeout_seconds)
        try:
            return await future
        except asyncio.CancelledError:
            ended = not self.withdraw(token)
            if ended and future.done() and not future.cancelled() and future.exception() is None:
                self._not_delivered(future.result())  # the answer and the cancellation met
            raise

    def start_ask(self, node_id: str, payload: bytes, timeout_seconds: float) -> asyncio.Future[bytes]:
        """Like `ask`, without a coroutine.

        Raises Unreachable at once or returns the future of the answer. Do not cancel the future.
        """
        return self.begin(node_id, payload, timeout_seconds)[1]

    def begin(self, node_id: str, payload: bytes, timeout_seconds: float) -> tuple[bytes, asyncio.Future[bytes]]:
        """Like `start_ask`; with the token by which the ask can be withdrawn or forgotten."""
        self._next += 1
        number = str(self._next)
        process = self._processes.get(node_id)
        if process is None:
            raise Unreachable(f"nothing was heard of node {node_id}")
        if self._pulse.is_silent(node_id):
            raise Unreachable(f"node {node_id} is silent")
        if not self._bus.publish(self._bus.subjects.ask(node_id, process), payload, self._inbox + number):
            raise Unreachable("not connected to NATS, or the message is too large")
        loop = asyncio.get_running_loop()
        tick = int((loop.time() + timeout_seconds) / _TICK_SECONDS) + 1
        token = number.encode()
        future: asyncio.Future[bytes] = loop.create_future()
        self._pending[token] = _Pending(node_id, process, future, tick)
        ending = self._ticks.get(tick)
        if ending is None:
            ending = self._ticks[tick] = set()
        ending.add(token)
        if self._timer is None:
            self._now_tick = int(loop.time() / _TICK_SECONDS)
            self._timer = loop.call_later(_TICK_SECONDS, self._on_timer)
        return token, future

    def withdraw(self, token: bytes) -> bool:
        """Nobody wants the answer any more: the other node's handler is cancelled. False: the ask has ended already.

        The future stays as it is; an answer under way goes to `on_undelivered`.
        """
        entry = self._take(token)
        if entry is not None:
            self._withdraw(entry.node_id, entry.process, token)
        return entry is not None

    def forget(self, token: bytes) -> None:
        """Like `withdraw`, but the other node is told by other means."""
        self._take(token)
        self._parts.pop(token, None)

    def _take(self, token: bytes) -> _Pending | None:
        entry = self._pending.pop(token, None)
        if entry is not None:
            ending = self._ticks[entry.tick]
            ending.discard(token)
            if not ending:
                del self._ticks[entry.tick]
        return entry

    def _on_timer(self) -> None:
        loop = asyncio.get_running_loop()
        tick = int(loop.time() / _TICK_SECONDS)
        if tick - self._now_tick < len(self._ticks):
            over = [passed for passed in range(self._now_tick, tick + 1) if passed in self._ticks]
        else:
            over = [passed for passed in self._ticks if passed <= tick]
        self._now_tick = tick
        for passed in over:
            for token in tuple(self._ticks[passed]):
                self._fail(token, "no answer in time")
        self._timer = loop.call_later(_TICK_SECONDS, self._on_timer) if self._pending else None

    def _fail(self, token: bytes, text: str) -> None:
        entry = self._take(token)
        if entry is None:
            return
        self._withdraw(entry.node_id, entry.process, token)
        if not entry.future.done():
            fail(entry.future, OutcomeUnknown(text))

    def _withdraw(self, node_id: str, process: str, token: bytes) -> None:
        self._parts.pop(token, None)
        sent = self._bus.publish(self._bus.subjects.unask(node_id, process), self._inbox.encode() + token)
        if not sent and len(self._withdrawn) < _MAX_WITHDRAWN:
            self._withdrawn.append((node_id, process, token))

    def fail_pending(self, node_id: str) -> None:
        """Settle with a dead node.

        Its unanswered asks end with OutcomeUnknown, and what this node still works on for it is cancelled.
        """
        self._processes.pop(node_id, None)  # heard of again, it is asked again
        self._pulse.forget(node_id)
        self._settle(node_id)

    @property
    def all_heard(self) -> bool:
        """False while a live node is silent: stopped, hanging, or cut off."""
        return self._pulse.all_heard

    def _settle(self, node_id: str) -> None:
        self._end_asks(node_id)
        self._end_served(node_id, None)

    def _end_asks(self, node_id: str) -> None:
        for token in [token for token, entry in self._pending.items() if entry.node_id == node_id]:
            self._fail(token, f"node {node_id} is gone or silent")  # withdrawn, too: perhaps it is not dead, but was silent

    def _end_served(self, node_id: str, but: str | None) -> None:
        """Cancel what this node works on for another one; what its process `but` asked goes on."""
        inbox = self._bus.subjects.inbox(node_id).encode()
        spared = None if but is None else self._bus.subjects.inbox(node_id, but).encode()
        for reply in [reply for reply in self._serving if reply.startswith(inbox)]:
            if spared is None or not reply.startswith(spared):
                self._serving[reply].cancel()

    def speak_while(self, may_speak: Callable[[], bool]) -> None:
        """Say hello only while this holds: for a process that may have lost its node id to another one."""
        self._may_speak = may_speak

    def say_hello(self) -> None:
        """Tell the others which process has this node's id."""
        if self._may_speak():
            self._bus.publish(self._bus.subjects.broadcast(_HELLO, self._bus.node_id), self._bus.process.encode())

    def _on_hello(self, subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        node_id = untoken(subject.rpartition(b".")[2].decode())
        if node_id == self._bus.node_id:
            return
        self._pulse.hear(node_id)
        early, self._told_early = self._told_early, []
        for withdrawn in early:
            if withdrawn[0] == node_id:
                self._withdraw(*withdrawn)
            else:
                self._told_early.append(withdrawn)
        if self.know(node_id, body.decode()):
            self.say_hello()

    def know(self, node_id: str, process: str) -> bool:
        """This process has the id of that live node: it is asked from now on. False when that was known.

        What its predecessor was asked has no answer, and nobody waits for what that asked.
        """
        known = self._processes.get(node_id)
        if known == process or node_id == self._bus.node_id:
            return False
        self._processes[node_id] = process
        self._pulse.expect(node_id)
        if known is not None:
            self._end_asks(node_id)
        self._end_served(node_id, process)
        return True

    def _on_reply(self, subject: bytes, _reply: bytes, body: bytes, headers: bytes | None) -> None:
        token = subject[self._inbox_length :]
        if token.startswith(_RECALL):
            returned = self._recent.take(token)
            if returned is not None:
                self._not_delivered(returned)
            return
        if not body:
            # Only the server itself sends an empty reply: nobody subscribes to that subject.
            entry = self._take(token)
            if entry is not None and not entry.future.done():
                fail(entry.future, Unreachable(f"node {entry.node_id} does not listen"))
            return
        kind = body[0]
        if kind == _MORE:
            self._parts.setdefault(token, []).append(body[1:])
            return
        answer = body[1:]
        if self._parts:
            parts = self._parts.pop(token, None)
            if parts is not None:
                answer = b"".join([*parts, answer])
        entry = self._take(token)
        if entry is None or entry.future.done():
            if kind == _DONE:
                self._not_delivered(answer)
        elif kind == _DONE:
            entry.future.set_result(answer)
        else:
            fail(entry.future, HandlerFailed(answer.decode("utf-8", "replace")))

    # -- answering ----------------------------------------------------------------------------------------------------------

    def serve(self, handler: AskHandler) -> None:
        """Answer the asks of other nodes with `handler(payload)`, many at once.

        A coroutine runs as a task of its own; a handler that returns a future (a parked poll) needs none. The handler
        is cancelled when the asker withdraws or its node is declared dead.
        """
        first = self._handler is None
        self._handler = handler
        if first:
            self._bus.subscribe(self._bus.subjects.ask(self._bus.node_id, self._bus.process), self._on_ask)
            self._bus.subscribe(self._bus.subjects.unask(self._bus.node_id, self._bus.process), self._on_unask)

    def on_undelivered(self, handler: Callable[[bytes], None]) -> None:
        """Call `handler(answer)` on either end, perhaps on both, for an answer that reached nobody.

        One that is lost inside NATS is noticed when its ask is withdrawn.
        """
        self._undelivered = handler

    def _on_ask(self, _subject: bytes, reply: bytes, body: bytes, _headers: bytes | None) -> None:
        assert self._handler is not None
        if reply in self._serving:
            return  # delivered twice: it has one answer
        work: asyncio.Future[bytes]
        try:
            work = asyncio.ensure_future(self._handler(body))
        except Exception as error:
            work = asyncio.get_running_loop().create_future()
            work.set_exception(error)
        self._serving[reply] = work
        work.add_done_callback(lambda done: self._answer(reply, done))

    def _on_unask(self, _subject: bytes, _reply: bytes, body: bytes, _headers: bytes | None) -> None:
        work = self._serving.get(body)
        if work is not None:
            work.cancel()
            return
        lost = self._recent.take_to(body)  # withdrawn unanswered, but answered here: that was lost, or will be returned there
        if lost is not None:
            self._not_delivered(lost)

    def _answer(self, reply: bytes, work: asyncio.Future[bytes]) -> None:
        del self._serving[reply]
        if work.cancelled():
            return
        subject = reply.decode()
        error = work.exception()
        if error is not None:
            _log.error("the handler of an ask failed", exc_info=error, extra=said("ask.failed"))
            self._bus.publish(subject, b"\2" + f"{type(error).__name__}: {error}".encode()[:2000])
            return
        answer = work.result()
        most = self._bus.max_payload - 1
        last = (len(answer) - 1) // most * most if answer else 0
        sent = all(self._bus.publish(subject, b"\1" + answer[start : start + most]) for start in range(0, last, most))
        token = b"" if self._undelivered is None else self._recall_token()
        if not sent or not self._bus.publish(subject, b"\0" + answer[last:], self._inbox + token.decode() if token else ""):
            self._not_delivered(answer)
        elif token:
            self._recent.add(token, reply, answer)

    def _recall_token(self) -> bytes:
        """Ends the subject on which NATS will tell, within a moment, that nobody received an answer."""
        self._answers += 1
        return b"%b%d" % (_RECALL, self._answers)

    def _not_delivered(self, answer: bytes) -> None:
        if self._undelivered is not None:
            self._undelivered(answer)

    # -- one way ------------------------------------------------------------------------------------------------------------

    @property
    def heard(self) -> list[str]:
        """The other nodes that are likely to answer."""
        return [node_id for node_id in self._processes if self.hears(node_id)]

    def hears(self, node_id: str) -> bool:
        """Whether what is sent to this node is likely to be read soon."""
        return self._bus.connected and node_id in self._processes and not self._pulse.is_silent(node_id)

    def tell(self, node_id: str, payload: bytes) -> bool:
        """Send without an answer. False: certainly not sent; True promises nothing."""
        process = None if self._pulse.is_silent(node_id) else self._processes.get(node_id)
        return process is not None and self._bus.publish(self._bus.subjects.tell(node_id, process), payload)

    def on_tell(self, handler: Callable[[bytes], None]) -> None:
        """Call the plain, short function `handler(payload)` for what other nodes tell."""
        first = self._on_tell is None
        self._on_tell = handler
        if first:
            own = self._bus.subjects.tell(self._bus.node_id, self._bus.process)
            self._bus.subscribe(own, lambda _s, _r, body, _h: self._told(body))

    def _told(self, body: bytes) -> None:
        if self._on_tell is not None:
            self._on_tell(body)

    # -- connection ---------------------------------------------------------------------------------------------------------

    def _connected(self) -> None:
        self.say_hello()
        withdrawn, self._withdrawn = self._withdrawn, []
        self._told_early = withdrawn
        for node_id, process, token in withdrawn:
            self._withdraw(node_id, process, token)

    def _disconnected(self) -> None:
        self._parts.clear()
        for token in tuple(self._pending):
            self._fail(token, "connection to NATS lost")
