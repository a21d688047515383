"""A poll that waits for its task, wherever it waits: in a queue of this node or of another one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from actors.queue.poll import Poll, WorkerProfile
from actors.queue.query_types import QueryTaskGrant
from actors.run.replies import ActivityTaskGrant, TaskGrant
from actors.run.values import Permit, WorkerIdentity
from bus.errors import fail

Grant = TaskGrant | QueryTaskGrant


class PollState(Enum):
    """Where a parked poll stands (docs/design/waiting-polls.md). The last two are its ends."""

    WAITING = auto()  # in line in a queue of this node, at another node, or on its way to either
    RESERVED = auto()  # out of the line: a task is being leased to it
    ANSWERED = auto()  # it has a grant, nothing, or an error
    ABANDONED = auto()  # nobody waits for the answer


class ParkedPoll:
    """One held poll.

    `future` resolves to a grant, or to None when the poll's time is over. Whoever holds it calls `abandon` when nobody waits
    for the answer any more, before or after the grant: a lease already granted is handed back at once.
    """

    __slots__ = ("_hand_back", "_leave", "_sharing", "fallback", "for_peer", "future", "key", "poll", "profile", "state")

    def __init__(
        self, poll: Poll, hand_back: Callable[[Grant], None], *, for_peer: bool = False, fallback: bool = False
    ) -> None:
        """`hand_back` gets a grant that reached nobody.

        `for_peer`: parked for a client of another node. `fallback`: parked here because the queue's host cannot be reached.
        """
        self.poll = poll
        self.key = poll.key
        self.profile: WorkerProfile = poll.worker
        self.future: asyncio.Future[Grant | None] = asyncio.get_running_loop().create_future()
        self.state = PollState.WAITING
        self.for_peer = for_peer
        self.fallback = fallback
        self._hand_back = hand_back
        self._leave: Callable[[], None] | None = None
        self._sharing = [1]  # how many polls wait for, or got, this very lease; one list for all of them

    @property
    def ended(self) -> bool:
        """Whether the poll wants nothing any more."""
        return self.state is PollState.ANSWERED or self.state is PollState.ABANDONED

    def waits_at(self, leave: Callable[[], None] | None) -> None:
        """Where the poll waits now: `leave` takes it out of there."""
        self._leave = leave

    def resolve(self, grant: Grant | None) -> bool:
        """Answer the poll. False: it has ended before, and a lease is handed back."""
        if self.ended:
            if grant is not None:
                self._hand_back(grant)
            return False
        self._leave = None
        self.state = PollState.ANSWERED
        self.future.set_result(grant)
        return True

    def fail(self, error: BaseException) -> None:
        """Answer the poll with an error, unless it has ended."""
        if not self.ended:
            self._leave = None
            self.state = PollState.ANSWERED
            fail(self.future, error)

    def share(self, first: ParkedPoll) -> bool:
        """Answer with what the same poll got when it was sent first. False: that lease has been handed back already."""
        grant = first.future.result()
        if grant is not None:
            if not first._sharing[0]:
                return False
            self._sharing = first._sharing
            self._sharing[0] += 1
        self.resolve(grant)
        return True

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        before, self.state = self.state, PollState.ABANDONED
        if before is PollState.ABANDONED:
            return
        if before is not PollState.ANSWERED:
            leave, self._leave = self._leave, None
            if leave is not None:
                leave()
            self.future.cancel()
        elif self.future.exception() is None:
            grant = self.future.result()
            self._sharing[0] -= 1
            if grant is not None and not self._sharing[0]:
                self._hand_back(grant)


class Reservation(Protocol):
    """A parked poll set aside for a task about to be committed (architecture, rule 5: eager dispatch)."""

    @property
    def identity(self) -> WorkerIdentity:
        """Whose lease it will be."""

    @property
    def page_size(self) -> int:
        """How many events of history the poll takes."""

    @property
    def permits(self) -> tuple[Permit, ...]:
        """What its lease takes of the caps of its queue."""

    def resolve(self, grant: TaskGrant | None) -> None:
        """The end: the committed grant, or None when there is none and the poll waits on."""


def attempt_of(grant: TaskGrant) -> int:
    """The attempt that a grant leases."""
    return grant.attempt_number if isinstance(grant, ActivityTaskGrant) else grant.workflow_task_attempt
