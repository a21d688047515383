"""The caps of a node's queues: the books of all scopes, who waits at which, and what is heard of them (operations 2.4).

A place that is freed wakes at once who waits for it on the node whose commit freed it. Who waits says so to the other nodes,
and for a while they tell what they free, and what they are taking of scopes that queues share. A freed place is left to its
node for a moment, or all would try it at once. And who waits looks into the rows now and then. Nothing here is truth: what is
missed costs time, no place; and where nobody waits nothing is told.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec import Struct

from actors.errors import Unavailable
from actors.queue.admission import scopes
from actors.queue.admission.book import Book
from actors.queue.admission.caps import AdmissionRules
from actors.queue.admission.gate import Gate
from actors.queue.admission.shelf import Shelf
from actors.queue.poll import QUERY, QueueName
from actors.run.times import Micros
from actors.run.values import Permit
from base.observability.actions import said
from store import admission
from store.connections.pool import Database
from store.errors import StoreUnavailable

_log = logging.getLogger("dw.actors")

_LOOK_SECONDS = 0.25  # so often who waits looks into the rows, if that takes little time
_LOOK_TIMES = 20  # of the time the last reading took: many rows are read less often
_LEAST_PAUSE_SECONDS = 0.01  # between two readings
_RETRY_SECONDS = 0.5
_TELL_SECONDS = 0.001
_LEAVE_SECONDS = 0.005  # a place that another node freed
_TURN_SECONDS = 0.002  # a minute has begun for certain
_MANY = 10_000  # books, then those nobody uses go

ReadScopes = Callable[[list[str]], Awaitable[dict[str, list[int]]]]

_INTEREST_SECONDS = 3.0  # so long others are told of a scope after somebody said that it waits there
_AGAIN_SECONDS = 1.0  # so often that is said while it is true


class _News(Struct, array_like=True):
    """What nodes tell each other: scopes they wait at, and places with whether they were taken, else freed."""

    waits: list[str] = []
    changes: list[tuple[Permit, bool]] = []


_news = msgspec.msgpack.Decoder(_News)
_encoder = msgspec.msgpack.Encoder()


def reading(db: Database) -> ReadScopes:
    """How places are looked up in a database."""

    async def read(names: list[str]) -> dict[str, list[int]]:
        try:
            return await admission.taken(db, names)
        except StoreUnavailable as error:
            raise Unavailable(str(error)) from error

    return read


class Admission:
    """The books of one node. Only made where something is capped."""

    def __init__(
        self,
        rules: AdmissionRules,
        read: ReadScopes,
        now: Callable[[], Micros],
        tell: Callable[[bytes], object] = lambda news: None,
        chance: random.Random | None = None,
    ) -> None:
        """`read`: which numbers of scopes are taken; raises `Unavailable`. `tell`: have the other nodes `hear` something."""
        self.rules = rules
        self.now = now
        self._read = read
        self._tell = tell
        self._chance = chance or random.Random()
        self._loop = asyncio.get_running_loop()
        self._shelf = Shelf(self._chance)
        self._minute = 0  # when books were last forgotten
        self._gates: set[Gate] = set()
        self._waiting: dict[str, dict[Gate, None]] = {}  # by scope, in the order they came
        self._waits_at: dict[Gate, str] = {}
        self._wanted: dict[str, None] = {}  # scopes to be read
        self._reading: asyncio.Task[None] | None = None
        self._read_took = 0.0
        self._look: asyncio.TimerHandle | None = None
        self._turn: asyncio.TimerHandle | None = None
        self._changes: dict[Permit, bool] = {}  # to be told
        self._waits: list[str] = []
        self._said: dict[str, float] = {}  # when others were told that it is waited at a scope
        self._interest: dict[str, float] = {}  # until when others want to hear of a scope; loop times
        self._telling: asyncio.TimerHandle | None = None
        self._left: dict[Permit, None] = {}  # freed by other nodes, and theirs for a moment
        self._stopped = False

    def gate(self, name: QueueName, admit: Callable[[], None]) -> Gate | None:
        """The gate of a queue, None when nothing is capped there."""
        if name.kind == QUERY:
            return None
        caps = self.rules.caps_of(name.namespace, name.queue, "workflow" if name.kind == "workflow" else "activity")
        if caps is None:
            return None
        gate = Gate(self, name, caps, admit)
        self._gates.add(gate)
        return gate

    def stop(self) -> None:
        """Nothing is read, told or woken any more."""
        self._stopped = True
        for timer in (self._look, self._turn, self._telling):
            if timer is not None:
                timer.cancel()
        if self._reading is not None:
            self._reading.cancel()

    # -- what gates need -----------------------------------------------------------------------------------------------

    def book(self, scope: scopes.Scope) -> Book:
        """The book of a scope, made when needed: it is closed until its rows were read."""
        book = self._shelf.find(scope)
        if book is None:
            minute = scopes.minute_of(self.now())
            if minute != self._minute:
                self._minute = minute
                self.forget()
            book = self._shelf.add(scope)
            self._want(book.scope)
        return book

    def wait(self, gate: Gate, book: Book) -> None:
        """See `Books.wait`."""
        scope = book.scope
        before = self._waits_at.get(gate)
        if before != scope:
            if before is not None:
                self._unwait(gate, before)
            self._waits_at[gate] = scope
            self._waiting.setdefault(scope, {})[gate] = None
        self._say(scope)
        if not book.known:
            self._want(scope)
        if not book.full_for_good or scope.startswith(scopes.LEASES[0]):
            self._look_later()
        if not scope.startswith(scopes.LEASES[0]):
            self._wake_with_the_minute()

    def close(self, gate: Gate) -> None:
        """See `Books.close`."""
        self._leave(gate)
        self._gates.discard(gate)

    def _leave(self, gate: Gate) -> None:
        scope = self._waits_at.pop(gate, None)
        if scope is not None:
            self._unwait(gate, scope)

    def _unwait(self, gate: Gate, scope: str) -> None:
        waiting = self._waiting.get(scope)
        if waiting is not None:
            waiting.pop(gate, None)
            if not waiting:
                del self._waiting[scope]

    def settle(self, permits: Sequence[Permit], end: Callable[[Book, int], None]) -> None:
        """See `Books.settle`."""
        for permit in permits:
            scope = permit.scope
            self._shelf.settle(scope, permit.number, end)
            if end is Book.granted:
                continue
            if end is Book.unneeded:
                if scopes.shared(scope):
                    self._changed(permit, taken=False)
            else:
                self._want(scope)
            self._wake_later(scope)

    def taking(self, permits: Sequence[Permit]) -> None:
        """See `Books.taking`."""
        for permit in permits:
            if scopes.shared(permit.scope):
                self._shelf.taking(permit.scope, permit.number)
                self._changed(permit, taken=True)

    # -- news ----------------------------------------------------------------------------------------------------------

    def freed(self, permits: Sequence[Permit]) -> None:
        """A commit of this node gave these back."""
        for permit in permits:
            self._changed(permit, taken=False)
            self._note_freed(permit, here=True)

    def _changed(self, permit: Permit, *, taken: bool) -> None:
        until = self._interest.get(permit.scope)
        if until is not None and until > self._loop.time():
            self._changes[permit] = taken
            self._tell_soon()

    def _say(self, scope: str) -> None:
        """Others should tell of this scope."""
        now = self._loop.time()
        if self._said.get(scope, -_AGAIN_SECONDS) + _AGAIN_SECONDS <= now:
            self._said[scope] = now
            self._waits.append(scope)
            self._tell_soon()

    def _tell_soon(self) -> None:
        if self._telling is None and not self._stopped:
            self._telling = self._loop.call_later(_TELL_SECONDS, self._tell_news)

    def _tell_news(self) -> None:
        self._telling = None
        news = _News(self._waits, list(self._changes.items()))
        self._waits, self._changes = [], {}
        self._tell(_encoder.encode(news))

    def hear(self, news: bytes) -> None:
        """Where other nodes wait, and what their commits take and give back."""
        try:
            told = _news.decode(news)
        except msgspec.DecodeError:
            return  # of another version: who waits looks into the rows
        until = self._loop.time() + _INTEREST_SECONDS
        for scope in told.waits:
            self._interest[scope] = until
        for permit, taken in told.changes:
            books = self._shelf.of(permit.scope)
            if taken:
                self._left.pop(permit, None)
                for book in books:
                    book.taken(permit.number)
            elif not books:
                continue
            elif not scopes.shared(permit.scope):
                self._note_freed(permit, here=False)
            else:
                if not self._left:
                    self._loop.call_later(_LEAVE_SECONDS * (1 + 2 * self._chance.random()), self._take_over)
                self._left[permit] = None

    def _take_over(self) -> None:
        """Places that other nodes freed and nobody took meanwhile."""
        left, self._left = self._left, {}
        for permit in left:
            self._note_freed(permit, here=False)

    def _note_freed(self, permit: Permit, *, here: bool) -> None:
        books = self._shelf.of(permit.scope)
        if books and not self._stopped:
            for book in books:
                book.freed(permit.number, here=here)
            self._wake(permit.scope)

    # -- waking --------------------------------------------------------------------------------------------------------

    def _wake(self, scope: str) -> None:
        """Let those in that wait for this scope, in order, as long as it is open."""
        for gate in list(self._waiting.get(scope, ())):
            if not self._shelf.open(scope):
                break
            if self._waits_at.get(gate) == scope:
                self._leave(gate)
                gate.admit()

    def _wake_later(self, scope: str) -> None:
        """Not from inside a queue that is at work."""
        if scope in self._waiting and not self._stopped:
            self._loop.call_soon(self._wake, scope)

    def _wake_with_the_minute(self) -> None:
        if self._turn is None and not self._stopped:
            rest = (scopes.MINUTE - self.now() % scopes.MINUTE) / 1e6
            self._turn = self._loop.call_later(rest + _TURN_SECONDS, self._minute_turned)

    def _minute_turned(self) -> None:
        """Budgets begin anew: books of past minutes go, who waited at them looks at those of now."""
        self._turn = None
        self.forget()
        for scope in [scope for scope in self._waiting if not self._shelf.of(scope)]:
            self._wake(scope)
        if any(not scope.startswith(scopes.LEASES[0]) for scope in self._waiting):
            self._wake_with_the_minute()

    def stepped(self) -> None:
        """The clock went back or ahead."""
        if self._turn is not None:
            self._turn.cancel()
            self._minute_turned()

    def forget(self) -> None:
        """Drop the books of past minutes, and should there be very many those nobody uses; the rows are there."""
        _, now = scopes.past(scopes.minute_of(self.now()))
        self._shelf.drop([scope for scope in self._shelf if scope < now and not scope.startswith(scopes.LEASES[0])])
        present = self._loop.time()
        self._interest = {scope: until for scope, until in self._interest.items() if until > present}
        self._said = {scope: at for scope, at in self._said.items() if at + _AGAIN_SECONDS > present}
        if len(self._shelf) > _MANY:
            used = {scope for gate in self._gates for scope in gate.scopes}
            self._shelf.drop(self._shelf.unused(used))

    # -- the rows ------------------------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        if self._look is None and not self._stopped:
            self._look = self._loop.call_later(max(_LOOK_SECONDS, _LOOK_TIMES * self._read_took), self._look_again)

    def _look_again(self) -> None:
        """Something may have been freed that was not heard of."""
        self._look = None
        looking = False
        for scope in self._waiting:
            if self._shelf.of(scope) and (scope.startswith(scopes.LEASES[0]) or self._shelf.may_change(scope)):
                self._say(scope)
                self._want(scope)
                looking = True
        if looking:
            self._look_later()

    def _want(self, scope: str) -> None:
        self._wanted[scope] = None
        if self._reading is None and not self._stopped:
            self._reading = self._loop.create_task(self._read_wanted())

    async def _read_wanted(self) -> None:
        try:
            while self._wanted and not self._stopped:
                wanted = {scope: list(books) for scope in self._wanted if (books := self._shelf.of(scope))}
                self._wanted.clear()
                if not wanted:
                    break
                await self._read_some(wanted)
                await asyncio.sleep(_LEAST_PAUSE_SECONDS)
        finally:
            self._reading = None

    async def _read_some(self, wanted: dict[str, list[Book]]) -> None:
        for books in wanted.values():
            for book in books:
                book.begin_read()
        began = self._loop.time()
        try:
            found = await self._read(list(wanted))
        except Exception as error:
            for books in wanted.values():
                for book in books:
                    book.abort_read()
            self._wanted |= dict.fromkeys(wanted)
            if not isinstance(error, Unavailable):
                _log.exception("reading the places under caps failed", extra=said("permits.read_failed"))
            await asyncio.sleep(_RETRY_SECONDS)
            return
        self._read_took = self._loop.time() - began
        for scope, books in wanted.items():
            for book in books:
                book.end_read(found[scope])
            if not self._shelf.known(scope):  # doubts came up while it was read
                self._wanted[scope] = None
            self._wake(scope)
