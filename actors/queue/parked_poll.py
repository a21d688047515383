"""A poll that waits for its task, wherever it waits: in a queue of this node or of another one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from actors.queue.poll import Poll, WorkerProfile
from actors.queue.query_types import QueryTaskGrant
from actors.run.replies import ActivityTaskGrant, RunReply, TaskGrant
from actors.run.values import WorkerIdentity

Grant = TaskGrant | QueryTaskGrant


class LentEnd(Enum):
    """How a claim at a poll's own node ends when not with the run's refusal: either way the poll waits here no longer."""

    TAKEN = auto()  # the poll has the task
    GONE = auto()  # the poll had ended already, or its node cannot be asked


Claimed = asyncio.Future[RunReply | LentEnd]
ClaimAtHome = Callable[[str], Claimed | None]


class Parked:
    """One held poll.

    `future` resolves to a grant, or to None when the poll's time is over. Whoever holds it calls `abandon` when nobody waits
    for the answer any more, before or after the grant: a lease already granted is handed back at once.
    """

    __slots__ = (
        "_hand_back", "_leave", "_sharing", "claim_at_home", "future", "gone", "guest", "in_line", "poll", "profile", "served"
    )  # fmt: skip

    def __init__(self, poll: Poll, hand_back: Callable[[Poll, Grant], None]) -> None:
        self.poll = poll
        self.profile: WorkerProfile = poll.worker
        self.future: asyncio.Future[Grant | None] = asyncio.get_running_loop().create_future()
        self.gone = False
        self.served = False  # parked for another node
        self.guest = False  # parked here though another node, which cannot be reached, hosts the queue
        self.in_line: Callable[[], None] | None = None  # called once, when the poll really waits: no ready task is for it
        self.claim_at_home: ClaimAtHome | None = None  # has its own node claim a task, None: claim it here
        self._hand_back = hand_back
        self._leave: Callable[[], None] | None = None
        self._sharing = [1]  # how many polls wait for, or got, this very lease

    def waits_at(self, leave: Callable[[], None] | None) -> None:
        """Where the poll waits now: `leave` takes it out of there."""
        self._leave = leave

    def leave(self) -> None:
        """Take the poll out of where it waits."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def give(self, grant: Grant | None) -> bool:
        """Answer the poll. False: nobody waits for it any more, and a lease is handed back."""
        if self.gone or self.future.done():
            if grant is not None:
                self._hand_back(self.poll, grant)
            return False
        self._leave = None
        self.future.set_result(grant)
        return True

    def share(self, first: Parked) -> bool:
        """Answer with what the same poll got when it was sent first. False: that lease has been handed back already."""
        grant = first.future.result()
        if grant is not None:
            if not first._sharing[0]:
                return False
            self._sharing = first._sharing
            self._sharing[0] += 1
        self.future.set_result(grant)
        return True

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        if self.gone:
            return
        self.gone = True
        if self.future.done():
            if not self.future.cancelled() and self.future.exception() is None:
                grant = self.future.result()
                self._sharing[0] -= 1
                if grant is not None and not self._sharing[0]:
                    self._hand_back(self.poll, grant)
            return
        self.leave()
        self.future.cancel()

    def waits_in_line(self) -> None:
        """The queue has no task for this poll now: it waits for one that is still to come."""
        told, self.in_line = self.in_line, None
        if told is not None:
            told()


class Reservation(Protocol):
    """A parked poll set aside for a task about to be committed (architecture, direct hand-over)."""

    @property
    def identity(self) -> WorkerIdentity:
        """Whose lease it will be."""

    @property
    def page_size(self) -> int:
        """How many events of history the poll takes."""

    def settle(self, grant: TaskGrant | None) -> None:
        """The end: the committed grant, or None when there is none and the poll waits on."""


def attempt_of(grant: TaskGrant) -> int:
    """The attempt that a grant leases."""
    return grant.attempt_number if isinstance(grant, ActivityTaskGrant) else grant.workflow_task_attempt


_TICK_SECONDS = 0.1


def ends_at(now: float, seconds: float) -> float:
    """The loop time at which a poll of so many seconds ends.

    Long ones end together at ticks: thousands of idle polls wake the node ten times a second and not a time each.
    """
    end = now + seconds
    return end if seconds < 1.0 else math.ceil(end / _TICK_SECONDS) * _TICK_SECONDS
