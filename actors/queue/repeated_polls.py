"""Polls that are sent again: what came of the first one is what the next one gets (worker-protocol 4.3)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from actors.queue.parked_poll import Grant, ParkedPoll, PollState

_REMEMBER_POLLS_SECONDS = 60.0

Lease = TypeVar("Lease")


class RepeatedPolls(Generic[Lease]):
    """Polls of one kind by their key, for as long as a client may repeat them, each with the lease it came to."""

    def __init__(
        self,
        recall: Callable[[ParkedPoll, Lease, float], bool],
        park: Callable[[ParkedPoll, float], None],
    ) -> None:
        """`recall(poll, lease, deadline in loop time)` answers a poll with a lease, now or later; False: that has ended.

        `park` has a poll wait for so many seconds that nothing is known of after all.
        """
        self._recall = recall
        self._park = park
        self._loop = asyncio.get_running_loop()
        self._polls: OrderedDict[object, tuple[float, ParkedPoll | Lease | None]] = OrderedDict()

    def waits(self, parked: ParkedPoll) -> None:
        """This poll waits from now on."""
        key = parked.key
        if key is not None:
            self._polls[key] = (self._loop.time(), parked)

    def left(self, parked: ParkedPoll) -> None:
        """Its client has gone."""
        key = parked.key
        if key is not None:
            self._polls.pop(key, None)

    def remember(self, parked: ParkedPoll, lease: Lease | None) -> None:
        """What this poll came to: a lease, or nothing."""
        polls = self._polls
        now = self._loop.time()
        key = parked.key
        if key is not None:
            polls[key] = (now, lease)
            polls.move_to_end(key)
        while polls:
            oldest = next(iter(polls))
            at, what = polls[oldest]
            if now - at < _REMEMBER_POLLS_SECONDS or isinstance(what, ParkedPoll):
                break
            del polls[oldest]

    def answer(self, parked: ParkedPoll, deadline: float) -> bool:
        """Whether a poll with this key is known, and so this one gets the same answer."""
        key = parked.key
        known = None if key is None else self._polls.get(key)
        if known is None:
            return False
        at, what = known
        if self._loop.time() - at >= _REMEMBER_POLLS_SECONDS:
            del self._polls[key]
            return False
        if what is None:
            # The empty outcome of the first one; the repeated one waits no second time.
            parked.resolve(None)
        elif isinstance(what, ParkedPoll):
            if what.state is PollState.ABANDONED:
                return False
            what.future.add_done_callback(lambda done: self._same_answer(parked, what, deadline, done))
        elif not self._recall(parked, what, deadline):
            del self._polls[key]
            return False
        return True

    def _same_answer(self, parked: ParkedPoll, first: ParkedPoll, deadline: float, done: asyncio.Future[Grant | None]) -> None:
        if parked.ended:
            return
        error = None if done.cancelled() else done.exception()
        if error is not None:
            parked.fail(error)
        elif done.cancelled() or not parked.share(first):
            self._park(parked, deadline - self._loop.time())

    def forget(self, parked: ParkedPoll, deadline: float) -> None:
        """The lease that `recall` was to answer with has ended after all: the poll starts afresh."""
        self.left(parked)
        self._park(parked, deadline - self._loop.time())
