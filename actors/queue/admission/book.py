"""What a node knows of the places in one scope, and which of them it tries next. Pure.

The rows of the store are the truth, and their key decides; a book only spares claims that would be refused. Invariants:

- a place below `reach` that nobody is known to have is free; only such are given out, and none twice before its claim ended;
- of numbers below `reach` there are so few that with those held above it the cap holds: after a cap was lowered, the higher
  numbers that are still held count, and nobody takes a place in their stead;
- after a claim whose end is unknown nothing is given out until the rows were read again;
- what was read and what was heard since add up, in whatever order they came: no place is lost.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

_LISTED = 65_536  # scopes of so many places have all free ones listed, larger ones some
_SOME = 512


class Book:
    """The places of one scope. `full_for_good`: see there."""

    __slots__ = (
        "_chance", "_doubt", "_flight", "_free", "_freed", "_got", "_held", "_reach", "_reading", "cap", "known", "scope"
    )  # fmt: skip

    def __init__(self, scope: str, cap: int, chance: random.Random) -> None:
        """`chance`: nodes that share a scope should not all try the same place."""
        self.scope = scope
        self.cap = cap
        self.known = False  # whether the rows were read, and no claim has been in doubt since
        self._chance = chance
        self._reach = cap
        self._held: set[int] = set()
        self._flight: set[int] = set()  # given out to claims that have not ended
        self._doubt: set[int] = set()  # nobody knows who has them
        self._free: deque[int] = deque()  # what to try next, from the right; some may be taken meanwhile
        self._reading: set[int] | None = None  # while the rows are read: those in doubt at its begin
        self._got: set[int] = set()  # since then
        self._freed: set[int] = set()

    # -- what there is -------------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many places are free, as far as is known here."""
        taken = len(self._held) + len(self._flight) + len(self._doubt)
        if self._reach == self.cap:
            return self.cap - taken
        return self._reach - sum(1 for each in (self._held, self._flight, self._doubt) for n in each if n < self._reach)

    @property
    def open(self) -> bool:
        """Whether `take` has a place."""
        return self.known and self.room > 0

    @property
    def full_for_good(self) -> bool:
        """Whether every place is held for certain: in a scope of dispatches nothing will change."""
        return self.known and not self._flight and not self._doubt and self.room <= 0

    @property
    def unused(self) -> bool:
        """Whether no claim is under way."""
        return not self._flight

    def _is_free(self, number: int) -> bool:
        return (
            0 <= number < self._reach and number not in self._held and number not in self._flight and number not in self._doubt
        )

    # -- claims --------------------------------------------------------------------------------------------------------

    def take(self) -> int:
        """A free place for a claim, to be ended by `granted`, `unneeded`, `lost` or `doubted`. Only when `open`."""
        free = self._free
        while True:
            if not free:
                free.extend(self._some_free())
            number = free.pop()
            if self._is_free(number):
                self._flight.add(number)
                return number

    def _some_free(self) -> list[int]:
        reach = self._reach
        if reach <= _LISTED or self.room < reach // 2:
            found = [number for number in range(reach) if self._is_free(number)]
        else:
            found = [number for number in (self._chance.randrange(reach) for _ in range(_SOME)) if self._is_free(number)]
        self._chance.shuffle(found)
        return found

    def granted(self, number: int) -> None:
        """The commit has it."""
        self._flight.discard(number)
        self.taken(number)

    def unneeded(self, number: int) -> None:
        """The claim came to nothing, for certain."""
        if number in self._flight:
            self._flight.discard(number)
            self._free.append(number)
        else:
            self.freed(number, here=True)  # another book of the scope had it

    def lost(self, number: int) -> None:
        """Somebody else has it."""
        self._flight.discard(number)
        self.taken(number)

    def doubted(self, number: int) -> None:
        """Nobody knows who has it."""
        self._flight.discard(number)
        self._doubt.add(number)
        self.known = False

    def taken(self, number: int) -> None:
        """Somebody got it."""
        if number in self._flight:
            return  # how that claim ends will tell
        self._doubt.discard(number)
        self._held.add(number)
        if self._reading is not None:
            self._got.add(number)
            self._freed.discard(number)

    def freed(self, number: int, *, here: bool) -> None:
        """A lease ended. `here`: this node's commit gave it back, so that it is likely the first to know."""
        if self._reading is not None:
            self._freed.add(number)
            self._got.discard(number)
        if number in self._held:
            self._held.discard(number)
            if self._reach < self.cap:
                self._measure()
            if here:
                self._free.append(number)
            else:
                self._free.appendleft(number)

    # -- the rows ------------------------------------------------------------------------------------------------------

    def begin_read(self) -> None:
        """The rows are asked for now."""
        self._reading = set(self._doubt)
        self._got.clear()
        self._freed.clear()

    def abort_read(self) -> None:
        """There was no answer."""
        self._reading = None

    def end_read(self, numbers: Iterable[int]) -> None:
        """What the rows hold."""
        asked, self._reading = self._reading or set(), None
        self._doubt -= asked
        self._held = (set(numbers) - self._freed) | self._got
        self._held -= self._flight  # the end of those claims tells
        self._doubt -= self._held
        self._free.clear()
        self._measure()
        self.known = not self._doubt

    def _measure(self) -> None:
        """How far numbers may go: the most of which, with those that are taken from there on, are no more than the cap."""
        reach = self.cap
        taken = self._held | self._flight | self._doubt if any(number >= reach for number in self._held) else set[int]()
        together = reach + sum(1 for number in taken if number >= reach)
        while together > self.cap and reach > 0:
            reach -= 1
            if reach not in taken:
                together -= 1
        self._reach = reach
