"""Polls that are sent again: what came of the first one is what the next one gets (worker-protocol 4.3)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from actors.queue.parked_poll import Grant, Parked
from actors.run.commands.worker import RereadClaim
from actors.run.replies import ActivityTaskGrant, RunReply, WorkflowTaskGrant
from bus.errors import fail

_REMEMBER_POLLS_SECONDS = 60.0

_Lease = tuple[str, int]  # task id and attempt


class RepeatedPolls:
    """The polls of a queue by their key, for as long as a client may repeat them."""

    def __init__(
        self,
        reread: Callable[[str, RereadClaim], asyncio.Future[RunReply]],
        park: Callable[[Parked, float], None],
    ) -> None:
        """`reread` asks the run of a task; `park` has a poll wait that nothing is known of after all, for so many seconds."""
        self._ask_reread = reread
        self._park = park
        self._loop = asyncio.get_running_loop()
        self._polls: OrderedDict[object, tuple[float, Parked | _Lease | None]] = OrderedDict()

    def waits(self, parked: Parked) -> None:
        """This poll waits from now on."""
        key = parked.poll.key
        if key is not None:
            self._polls[key] = (self._loop.time(), parked)

    def left(self, parked: Parked) -> None:
        """Its client has gone."""
        key = parked.poll.key
        if key is not None:
            self._polls.pop(key, None)

    def remember(self, key: object, lease: _Lease | None) -> None:
        """What the poll with this key came to: a lease, or nothing."""
        polls = self._polls
        now = self._loop.time()
        if key is not None:
            polls[key] = (now, lease)
            polls.move_to_end(key)
        while polls:
            oldest = next(iter(polls))
            at, what = polls[oldest]
            if now - at < _REMEMBER_POLLS_SECONDS or isinstance(what, Parked):
                break
            del polls[oldest]

    def answer(self, parked: Parked, key: object, deadline: float) -> bool:
        """Whether a poll with this key is known, and so this one gets the same answer."""
        known = self._polls.get(key)
        if known is None:
            return False
        at, what = known
        if self._loop.time() - at >= _REMEMBER_POLLS_SECONDS:
            del self._polls[key]
            return False
        if what is None:
            # The empty outcome of the first one; the repeated one waits no second time.
            parked.give(None)
        elif isinstance(what, Parked):
            if what.gone or what.future.cancelled():
                return False
            what.future.add_done_callback(lambda done: self._same_answer(parked, what, deadline, done))
        else:
            task_id, attempt = what
            command = RereadClaim(task_id, parked.profile.identity, attempt, parked.poll.history_page_size)
            reread = self._ask_reread(task_id, command)
            reread.add_done_callback(lambda done: self._reread(parked, key, deadline, done))
        return True

    def _same_answer(self, parked: Parked, first: Parked, deadline: float, done: asyncio.Future[Grant | None]) -> None:
        if parked.gone or parked.future.done():
            return
        error = None if done.cancelled() else done.exception()
        if error is not None:
            fail(parked.future, error)
        elif done.cancelled() or not parked.share(first):
            self._park(parked, deadline - self._loop.time())

    def _reread(self, parked: Parked, key: object, deadline: float, done: asyncio.Future[RunReply]) -> None:
        if parked.gone or parked.future.done():
            return
        error = done.exception()
        if error is not None:
            fail(parked.future, error)
            return
        reply = done.result()
        if isinstance(reply, WorkflowTaskGrant | ActivityTaskGrant):
            parked.future.set_result(reply)
            return
        self._polls.pop(key, None)
        self._park(parked, deadline - self._loop.time())
