"""The places of one scope on two nodes over one table, as Hypothesis drives them: caps hold, and no place is lost."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors.queue.admission.book import Book
from tests.core.harness import search


class Scope(RuleBasedStateMachine):
    """Two books of nodes, and the rows with their primary key. News between the nodes come late, twice, or never."""

    @initialize(cap=st.integers(1, 6), held=st.integers(0, 9), seed=st.integers(0, 99))
    def begin(self, cap: int, held: int, seed: int) -> None:
        self.cap = cap
        chance = random.Random(seed)
        self.rows: set[int] = set(range(held))  # more than the cap: it was lowered
        self.most = max(cap, held)
        self.books = [Book("s", cap, chance), Book("s", cap, chance)]
        self.claims: list[tuple[Book, int]] = []
        self.reads: dict[int, set[int]] = {}  # book -> what its statement saw
        self.news: list[tuple[int, bool]] = []

    @rule(which=st.integers(0, 1))
    def claim(self, which: int) -> None:
        book = self.books[which]
        if book.open:
            number = book.take()
            assert 0 <= number < self.cap
            assert (book, number) not in self.claims, "given out twice"
            self.claims.append((book, number))
            self.news.append((number, True))

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        """The key decides; sometimes nobody hears how."""
        if self.claims:
            book, number = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
            won = number not in self.rows
            self.rows.add(number)
            if data.draw(st.integers(0, 4)) == 0:
                book.doubted(number)
            elif won:
                book.granted(number)
            else:
                book.lost(number)

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if self.claims:
            book, number = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
            book.unneeded(number)
            self.news.append((number, False))

    @rule(data=st.data(), which=st.integers(0, 1))
    def end_lease(self, data: st.DataObject, which: int) -> None:
        if self.rows:
            number = data.draw(st.sampled_from(sorted(self.rows)))
            self.rows.remove(number)
            self.books[which].freed(number, here=True)
            self.news.append((number, False))

    @rule(data=st.data(), which=st.integers(0, 1))
    def hear(self, data: st.DataObject, which: int) -> None:
        if self.news:
            number, taken = data.draw(st.sampled_from(self.news))
            if taken:
                self.books[which].taken(number)
            else:
                self.books[which].freed(number, here=False)

    @rule(which=st.integers(0, 1))
    def begin_read(self, which: int) -> None:
        if which not in self.reads:
            self.books[which].begin_read()
            self.reads[which] = set(self.rows)

    @rule(which=st.integers(0, 1), answered=st.booleans())
    def end_read(self, which: int, answered: bool) -> None:
        if which in self.reads:
            seen = self.reads.pop(which)
            if answered:
                self.books[which].end_read(seen)
            else:
                self.books[which].abort_read()

    @invariant()
    def the_cap_holds(self) -> None:
        if not hasattr(self, "rows"):
            return
        # Claims under way may all be granted at once, as far as the key lets them.
        might = self.rows | {number for _, number in self.claims}
        assert len(self.rows) <= self.most
        assert len(might) <= max(self.cap, len(self.rows)) or self.most > self.cap
        self.most = max(self.cap, len(self.rows))

    def teardown(self) -> None:
        """After all claims ended and the rows were read, each book knows exactly what is free."""
        if not hasattr(self, "rows"):
            return
        for book, number in self.claims:
            book.unneeded(number)
        for book in self.books:
            for _ in range(2):  # the first may be one that began before a doubt
                book.begin_read()
                book.end_read(self.rows)
            assert book.known
            assert max(book.room, 0) == max(self.cap - len(self.rows), 0) or any(number >= self.cap for number in self.rows)
            got = []
            while book.open:
                got.append(book.take())
            assert len(set(got)) == len(got)
            assert len(got) == max(self.cap - len(self.rows), 0)
            assert not set(got) & self.rows


Scope.TestCase.settings = search(100, stateful_step_count=50)
TestScope: Any = Scope.TestCase


def known(cap: int, *held: int) -> Book:
    book = Book("s", cap, random.Random(1))
    book.begin_read()
    book.end_read(held)
    return book


def test_nothing_is_given_out_before_the_rows_were_read() -> None:
    assert not Book("s", 5, random.Random(1)).open


def test_with_a_lowered_cap_what_is_held_above_it_counts() -> None:
    book = known(3, 7, 8)
    assert (book.room, book.take(), book.open) == (1, 0, False)
    book.granted(0)
    book.freed(8, here=False)
    assert book.take() == 1
    assert not book.open


def test_a_doubt_closes_the_book_until_it_was_read() -> None:
    book = known(3)
    number = book.take()
    book.begin_read()
    book.doubted(number)
    assert not book.open
    book.end_read([])
    assert not book.open, "that reading began before the doubt"
    book.begin_read()
    book.end_read([number])
    assert book.room == 2 and known(3, number).room == 2


@pytest.mark.parametrize("cap", [3, 100_000, 2_000_000_000])
def test_a_large_scope_gives_out_places_as_quickly(cap: int) -> None:
    book = known(cap)
    numbers = [book.take() for _ in range(min(cap, 2000))]
    assert len(set(numbers)) == len(numbers) and all(0 <= number < cap for number in numbers)


def test_the_last_places_of_a_large_scope_are_found() -> None:
    book = known(70_000, *range(69_990))
    assert sorted(book.take() for _ in range(10)) == list(range(69_990, 70_000))
    assert not book.open


def test_a_dispatch_budget_that_is_spent_stays_so() -> None:
    book = known(2, 0)
    assert not book.full_for_good
    book.granted(book.take())
    assert book.full_for_good
