"""The polls that wait in one queue: in line, each with the timer that ends it, and with the memory of those sent again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Generic

from actors.queue.matching import WaitLine
from actors.queue.parked_poll import Grant, ParkedPoll, PollState
from actors.queue.poll import WorkerProfile
from actors.queue.repeated_polls import Lease, RepeatedPolls
from actors.run.replies import TaskGrant
from actors.run.values import Permit, WorkerIdentity

_TICK_SECONDS = 0.1

SendOn = Callable[[ParkedPoll, float], None]
Reserved = Callable[["WaitingPoll", TaskGrant | None], None]


class WaitingPoll:
    """A parked poll in this queue; it is its own reservation (`parked_poll.Reservation`). `deadline` is loop time."""

    __slots__ = ("_reserved", "deadline", "expired", "fairness_class", "parked", "permits", "profile", "ticket", "timer")

    def __init__(self, parked: ParkedPoll, deadline: float, reserved: Reserved | None) -> None:
        self.parked = parked
        self.profile: WorkerProfile = parked.profile
        self.deadline = deadline
        self.ticket = 0  # its place in the line, 0 as long as it never stood there
        self.expired = False
        self.fairness_class = ""  # of the task it was reserved for by a commit
        self.permits: tuple[Permit, ...] = ()  # under which it is to be leased a task, while it is reserved
        self.timer: asyncio.TimerHandle
        self._reserved = reserved

    @property
    def identity(self) -> WorkerIdentity:
        return self.profile.identity

    @property
    def page_size(self) -> int:
        return self.parked.poll.history_page_size

    def resolve(self, grant: TaskGrant | None) -> None:
        assert self._reserved is not None
        self._reserved(self, grant)


class PollLine(Generic[Lease]):
    """Waiting polls of one queue. A poll that was taken out of the line is reserved until it is resolved or put back."""

    def __init__(
        self,
        repeated: RepeatedPolls[Lease],
        expired: Callable[[WaitingPoll], None],
        reserved: Reserved | None = None,
        tickets: Iterator[int] | None = None,
    ) -> None:
        """`expired(poll)`: the time of a poll in line is over. `reserved(poll, grant)`: how its reservation for a commit ended.

        `tickets`: see `WaitLine`; with them a poll may be put back into another line of the same queue.
        """
        self._loop = asyncio.get_running_loop()
        self._waits: WaitLine[WaitingPoll] = WaitLine(tickets)
        self._repeated = repeated
        self._expired = expired
        self._reserved = reserved

    def __len__(self) -> int:
        return len(self._waits)

    def __bool__(self) -> bool:
        return bool(self._waits)

    def waits(self, profile: WorkerProfile) -> bool:
        """Whether any poll of a worker like this one is in line."""
        return self._waits.waits(profile)

    @property
    def has_fallbacks(self) -> bool:
        """Whether polls wait here because the queue's host cannot be reached."""
        return any(waiting.parked.fallback for waiting, _ in self._waits.each())

    # -- in and out of the line ----------------------------------------------------------------------------------------

    def enter(self, parked: ParkedPoll, now: float, seconds: float, *, reserved: bool = False) -> WaitingPoll:
        """Hold a poll, at most for `seconds` from `now` (loop time): in line, or `reserved` for a task that is there."""
        waiting = WaitingPoll(parked, now + seconds, self._reserved)
        if reserved:
            parked.state = PollState.RESERVED
        else:
            waiting.ticket = self._waits.add(waiting, parked.for_peer)
        waiting.timer = self._loop.call_at(_ends_at(now, seconds), self._time_over, waiting)
        parked.waits_at(lambda: self._leave(waiting))
        self._repeated.waits(parked)
        return waiting

    def take(self, type_name: str, compatibility: str | None) -> WaitingPoll | None:
        """Reserve the poll that gets a task of this kind, out of the line; None when there is none."""
        found = self._waits.take(type_name, compatibility)
        if found is None:
            return None
        waiting = found[0]
        waiting.parked.state = PollState.RESERVED
        return waiting

    def put_back(self, waiting: WaitingPoll) -> None:
        """What a poll was reserved for came to nothing: it is in line again, at its old place."""
        waiting.parked.state = PollState.WAITING
        waiting.parked.waits_at(lambda: self._leave(waiting))
        if waiting.ticket:
            self._waits.put_back(waiting, waiting.ticket)
        else:
            waiting.ticket = self._waits.add(waiting, waiting.parked.for_peer)

    def resolve(self, waiting: WaitingPoll, grant: Grant | None, lease: Lease | None = None) -> None:
        """Answer a poll; `lease` is what one that is sent again is told of."""
        waiting.timer.cancel()
        if waiting.parked.state is PollState.WAITING:
            self._waits.remove(waiting, waiting.ticket)
        if waiting.parked.resolve(grant):
            self._repeated.remember(waiting.parked, lease)

    def _time_over(self, waiting: WaitingPoll) -> None:
        waiting.expired = True
        if waiting.parked.state is PollState.WAITING:  # else the task it is reserved for decides
            self._expired(waiting)

    def _leave(self, waiting: WaitingPoll) -> None:
        waiting.timer.cancel()
        self._waits.remove(waiting, waiting.ticket)
        self._repeated.left(waiting.parked)

    # -- to another place ----------------------------------------------------------------------------------------------

    def send_on(self, waiting: WaitingPoll, to: SendOn) -> None:
        """A poll out of the line goes on waiting with `to(poll, deadline in loop time)`."""
        waiting.timer.cancel()
        waiting.parked.state = PollState.WAITING
        waiting.parked.waits_at(None)
        to(waiting.parked, waiting.deadline)

    def hand_off(self, to: SendOn) -> None:
        """All polls in line go on waiting with `to`."""
        for waiting in self._waits.drain():
            self.send_on(waiting, to)


def _ends_at(now: float, seconds: float) -> float:
    """The loop time at which a poll of so many seconds ends.

    Long ones end together at ticks: thousands of idle polls wake the node ten times a second and not a time each.
    """
    end = now + seconds
    return end if seconds < 1.0 else math.ceil(end / _TICK_SECONDS) * _TICK_SECONDS
