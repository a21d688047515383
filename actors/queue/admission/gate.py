"""The way through the caps of one queue: whether a lease may be granted now, and under which permits (operations 2.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from actors.queue.admission import scopes
from actors.queue.admission.book import Book
from actors.queue.admission.caps import Caps
from actors.queue.poll import QueueName
from actors.run.times import Micros
from actors.run.values import Permit


class Books(Protocol):
    """The books of a node, as a gate needs them."""

    def now(self) -> Micros: ...

    def book(self, scope: scopes.Scope) -> Book:
        """The book of a scope, made when needed."""

    def wait(self, gate: Gate, book: Book) -> None:
        """Have `gate.admit` called once the book may be open; read it if it is not known."""

    def close(self, gate: Gate) -> None:
        """The gate does not wait any more, nor use any book."""

    def taking(self, permits: Sequence[Permit]) -> None:
        """A claim is being made under these permits."""

    def settle(self, permits: Sequence[Permit], end: Callable[[Book, int], None]) -> None:
        """Tell the books of these permits how their claim ended."""


class Gate:
    """What a queue under caps asks before each claim. `admit`: called when it was closed and may be open again."""

    __slots__ = ("_books", "_caps", "_dispatches", "_leases", "_minute", "_name", "admit")

    def __init__(self, books: Books, name: QueueName, caps: Caps, admit: Callable[[], None]) -> None:
        self._books = books
        self._name = name
        self._caps = caps
        self._leases = [books.book(scope) for scope in scopes.of_leases(name, caps)]
        self._dispatches: list[Book] = []
        self._minute = -1
        self.admit = admit

    def _all(self) -> list[Book]:
        minute = scopes.minute_of(self._books.now())
        if minute != self._minute:
            self._minute = minute
            self._dispatches = [self._books.book(scope) for scope in scopes.of_dispatches(self._name, self._caps, minute)]
        return self._leases + self._dispatches

    @property
    def scopes(self) -> list[str]:
        """Where it counts now."""
        return [book.scope for book in self._leases + self._dispatches]

    @property
    def open(self) -> bool:
        """Whether `take` gives permits now."""
        return all(book.open for book in self._all())

    def wait(self) -> None:
        """There is something to lease, and the gate is closed: `admit` is called when that may have changed."""
        closed = next((book for book in self._all() if not book.open), None)
        if closed is not None:
            self._books.wait(self, closed)

    def take(self) -> tuple[Permit, ...]:
        """The permits of one lease, until `granted`, `unneeded`, `lost` or `doubted` ends them. Only when `open`."""
        permits = tuple([Permit(book.scope, book.take()) for book in self._all()])
        self._books.taking(permits)
        return permits

    def granted(self, permits: Sequence[Permit]) -> None:
        """The lease is committed."""
        self._books.settle(permits, Book.granted)

    def unneeded(self, permits: Sequence[Permit]) -> None:
        """The task was not leased, for certain."""
        self._books.settle(permits, Book.unneeded)

    def lost(self, permits: Sequence[Permit], taken: Sequence[Permit]) -> None:
        """The task was not leased, as somebody else has those that are `taken`."""
        self._books.settle([permit for permit in permits if permit not in taken], Book.unneeded)
        self._books.settle(taken, Book.lost)

    def doubted(self, permits: Sequence[Permit]) -> None:
        """Nobody knows how it ended."""
        self._books.settle(permits, Book.doubted)

    def close(self) -> None:
        """The queue is not served here any more. Claims under way still tell of their end."""
        self._books.close(self)
