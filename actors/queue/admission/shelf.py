"""The books of a node by scope.

Queues that share a scope may be told different caps of it: there is a book for each, and all hear the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterable, Iterator

from actors.queue.admission.book import Book
from actors.queue.admission.scopes import Scope


class Shelf:
    """All books of a node."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._books: dict[str, list[Book]] = {}

    def __len__(self) -> int:
        return len(self._books)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._books))

    def find(self, scope: Scope) -> Book | None:
        """The book of a scope under a cap, if there is one."""
        name, cap = scope
        return next((book for book in self._books.get(name, ()) if book.cap == cap), None)

    def add(self, scope: Scope) -> Book:
        """A new one, which knows nothing yet."""
        name, cap = scope
        book = Book(name, cap, self._chance)
        self._books.setdefault(name, []).append(book)
        return book

    def of(self, name: str) -> list[Book]:
        """The books of a scope."""
        return self._books.get(name, [])

    def drop(self, names: Iterable[str]) -> None:
        """Forget scopes: their rows are there."""
        for name in names:
            self._books.pop(name, None)

    def unused(self, used: Container[str]) -> list[str]:
        """The scopes that are not `used` and have no claim under way."""
        return [name for name, books in self._books.items() if name not in used and all(book.unused for book in books)]

    # -- what all books of a scope hear --------------------------------------------------------------------------------

    def taking(self, name: str, number: int) -> None:
        """A claim takes a place out of one of the books: it is none of the others' any more."""
        books = self._books.get(name, ())
        if len(books) > 1:
            for book in books:
                book.taken(number)  # its own book knows better, until the claim has ended

    def settle(self, name: str, number: int, end: Callable[[Book, int], None]) -> None:
        """How that claim ended."""
        for book in self._books.get(name, ()):
            end(book, number)

    def known(self, name: str) -> bool:
        """Whether all that is to be known of a scope is."""
        return all(book.known for book in self.of(name))

    def open(self, name: str) -> bool:
        """Whether there is a place for anybody. Of a scope without a book nobody knows that there is none."""
        books = self.of(name)
        return not books or any(book.open for book in books)

    def may_change(self, name: str) -> bool:
        """Whether a look into the rows may show a free place where none is given back."""
        return any(not book.full_for_good for book in self.of(name))
