"""One task queue of one kind, live: a cache over the ready rows of the store, and the polls that wait for them.

It can be lost and rebuilt at any time (architecture, rule 5): the rows are the truth, and a task is granted by its run's
commit, not here. The actor only brings task and poll together.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from actors.errors import Unavailable
from actors.queue.matching import QueuedTask, TaskLine, WaitLine
from actors.queue.parked import Claimed, Grant, LentEnd, Parked, TaskGrant, attempt_of, ends_at
from actors.queue.poll import Poll
from actors.run.commands import ANY_ATTEMPT, ClaimTask, ReleaseClaim, RereadClaim, RunCommand, WorkerIdentity
from actors.run.replies import ActivityTaskGrant, Refused, RunReply, WorkflowTaskGrant

_log = logging.getLogger(__name__)

MAX_TASKS_IN_MEMORY = 10_000
_LOAD_LIMIT = 2_000
_REMEMBER_POLLS_SECONDS = 60.0
_RETRY_SECONDS = 0.5
_LEAST_WAIT = 10_000  # microseconds until a task that was not due yet is claimed again, whatever the clocks say

TellRun = Callable[[str, RunCommand], "asyncio.Future[RunReply]"]
LoadReady = Callable[[str, str, str, int], Awaitable[list[QueuedTask]]]
Elsewhere = Callable[[Parked, float], None]
QueueName = tuple[str, str, str]
_Lease = tuple[str, int]  # task id and attempt


class _Waiter:
    """A parked poll in this queue, with the timer that ends it. `deadline` is loop time."""

    __slots__ = ("claiming", "deadline", "expired", "parked", "profile", "ticket", "timer")

    def __init__(self, parked: Parked, deadline: float) -> None:
        self.parked = parked
        self.profile = parked.profile
        self.deadline = deadline
        self.ticket = 0
        self.timer: asyncio.TimerHandle | None = None
        self.claiming = False
        self.expired = False


class _Reserved:
    """A poll of this queue set aside (`parked.Reservation`)."""

    __slots__ = ("_queue", "_waiter", "identity", "page_size")

    def __init__(self, queue: QueueActor, waiter: _Waiter) -> None:
        self._queue = queue
        self._waiter = waiter
        self.identity: WorkerIdentity = waiter.profile.identity
        self.page_size: int = waiter.parked.poll.history_page_size

    def settle(self, grant: TaskGrant | None) -> None:
        self._queue.settle(self._waiter, grant)


class QueueActor:
    """Ready tasks and parked polls of (namespace, queue, kind)."""

    def __init__(self, name: QueueName, tell_run: TellRun, load_ready: LoadReady, now: Callable[[], int]) -> None:
        """`now` in microseconds."""
        self.name = name
        self._now = now
        self._tell_run = tell_run
        self._load_ready = load_ready
        self._loop = asyncio.get_running_loop()
        self._tasks = TaskLine()
        self._waits: WaitLine[_Waiter] = WaitLine()
        self._claiming: set[str] = set()
        self._loading: asyncio.Task[None] | None = None
        self._loaded = False
        self._more_in_store = False
        self._ripening: asyncio.TimerHandle | None = None
        self._polls: OrderedDict[object, tuple[float, Parked | _Lease | None]] = OrderedDict()
        self._elsewhere: Elsewhere | None = None
        self.last_used = self._loop.time()

    # -- polls ---------------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many polls are parked here."""
        return len(self._waits)

    @property
    def has_guests(self) -> bool:
        """Whether polls wait here because the queue's host cannot be reached."""
        return any(waiter.parked.guest for waiter, _ in self._waits.each())

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with this actor but a cache."""
        return not self._waits and not self._claiming and self._loading is None

    def park(self, parked: Parked, seconds: float) -> None:
        """Hold a poll until a task is leased to it, at most for `seconds`; it may be answered before this returns."""
        self.last_used = now = self._loop.time()
        if self._elsewhere is not None:
            self._elsewhere(parked, now + seconds)
            return
        key = parked.poll.key
        if key is not None and self._answer_repeated(parked, key, now + seconds):
            return
        waiter = _Waiter(parked, now + seconds)
        if not self._loaded:
            self.reload()
        else:
            task = self._tasks.take(parked.profile)
            if task is not None:
                self._hold(waiter, seconds, parked_now=False)
                self._claim(task, waiter)
                return
        if seconds <= 0 and self._loaded:
            self._remember(key, None)
            parked.give(None)
            return
        self._hold(waiter, max(seconds, 0.0), parked_now=True)
        if self._loaded:
            parked.waits_in_line()

    def _hold(self, waiter: _Waiter, seconds: float, *, parked_now: bool) -> None:
        if parked_now:
            waiter.ticket = self._waits.add(waiter, waiter.parked.served)
        waiter.timer = self._loop.call_at(ends_at(self._loop.time(), seconds), self._expire, waiter)
        waiter.parked.waits_at(lambda: self._leave(waiter))
        key = waiter.parked.poll.key
        if key is not None:
            self._polls[key] = (self._loop.time(), waiter.parked)

    def _leave(self, waiter: _Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        self._waits.remove(waiter, waiter.ticket)
        key = waiter.parked.poll.key
        if key is not None:
            self._polls.pop(key, None)

    def _expire(self, waiter: _Waiter) -> None:
        waiter.expired = True
        if waiter.claiming:
            return
        if self._loading is not None and not self._loaded:
            # Asked without patience while the first look into the store is under way: that look decides.
            self._loading.add_done_callback(lambda _: self._expire(waiter))
            return
        self._waits.remove(waiter, waiter.ticket)
        self._give(waiter, None)

    def _give(self, waiter: _Waiter, grant: TaskGrant | None) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        if waiter.parked.give(grant):
            self._remember(waiter.parked.poll.key, None if grant is None else (grant.task_id, attempt_of(grant)))

    def hand_off(self, elsewhere: Elsewhere) -> None:
        """Close the queue here: its polls go on waiting with `elsewhere(poll, deadline in loop time)`.

        Also those under way to a task right now, should that come to nothing, and those that come by mistake.
        """
        self._elsewhere = elsewhere
        if self._ripening is not None:
            self._ripening.cancel()
            self._ripening = None
        for waiter in self._waits.drain():
            self._send_on(waiter, elsewhere)

    def _send_on(self, waiter: _Waiter, elsewhere: Elsewhere) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        waiter.parked.waits_at(None)
        elsewhere(waiter.parked, waiter.deadline)

    # -- repeated polls (worker-protocol 4.3) ----------------------------------------------------------------------------

    def served_elsewhere(self, poll: Poll, task_id: str, attempt: int) -> None:
        """A poll that waited here for another node was given this lease there: a repeated one gets the same."""
        self._remember(poll.key, (task_id, attempt))

    def _remember(self, key: object, lease: _Lease | None) -> None:
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

    def _answer_repeated(self, parked: Parked, key: object, deadline: float) -> bool:
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
            reread = self._tell_run(task_id, command)
            reread.add_done_callback(lambda done: self._reread(parked, key, deadline, done))
        return True

    def _same_answer(self, parked: Parked, first: Parked, deadline: float, done: asyncio.Future[Grant | None]) -> None:
        if parked.gone or parked.future.done():
            return
        error = None if done.cancelled() else done.exception()
        if error is not None:
            parked.future.set_exception(error)
        elif done.cancelled() or not parked.share(first):
            self.park(parked, deadline - self._loop.time())

    def _reread(self, parked: Parked, key: object, deadline: float, done: asyncio.Future[RunReply]) -> None:
        if parked.gone or parked.future.done():
            return
        error = done.exception()
        if error is not None:
            parked.future.set_exception(error)
            return
        reply = done.result()
        if isinstance(reply, WorkflowTaskGrant | ActivityTaskGrant):
            parked.future.set_result(reply)
            return
        self._polls.pop(key, None)
        self.park(parked, deadline - self._loop.time())

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def offer(self, task: QueuedTask) -> None:
        """A task became claimable (or may have)."""
        if task.task_id in self._claiming or self._tasks.knows(task):
            return
        now = self._now()
        if task.available_at <= now:
            found = self._waits.take(task.type_name, task.compatibility)
            if found is not None:
                self._tasks.discard(task.task_id)
                self._claim(task, found[0])
                return
        if len(self._tasks) >= MAX_TASKS_IN_MEMORY:
            self._more_in_store = True
            return
        self._tasks.add(task, now)
        self._arm_ripening(now)

    def reserve(self, type_name: str, compatibility: str | None) -> _Reserved | None:
        """A poll of this node for a task about to be committed (direct hand-over), if no other task comes first."""
        if not self._loaded or self._tasks.has_ready():
            return None
        found = self._waits.take(type_name, compatibility, near=True)
        if found is None:
            return None
        found[0].claiming = True
        return _Reserved(self, found[0])

    def settle(self, waiter: _Waiter, grant: TaskGrant | None) -> None:
        """End of a reservation: the grant, or None when the commit failed and the poll waits on."""
        waiter.claiming = False
        if grant is None:
            self._put_back(waiter)
        else:
            self._give(waiter, grant)

    def _claim(self, task: QueuedTask, waiter: _Waiter) -> None:
        waiter.claiming = True
        self._claiming.add(task.task_id)
        parked = waiter.parked
        if parked.claim_at_home is not None:
            claimed = parked.claim_at_home(task.task_id)
            if claimed is not None:
                claimed.add_done_callback(lambda done: self._claimed(task, waiter, done))
                return
        claim = ClaimTask(task.task_id, waiter.profile.identity, parked.poll.history_page_size)
        self._tell_run(task.task_id, claim).add_done_callback(lambda done: self._claimed(task, waiter, done))

    def _claimed(self, task: QueuedTask, waiter: _Waiter, done: asyncio.Future[RunReply] | Claimed) -> None:
        self._claiming.discard(task.task_id)
        waiter.claiming = False
        now = self._now()
        again: int | None = None
        error = done.exception()
        if error is None:
            reply = done.result()
            if isinstance(reply, WorkflowTaskGrant | ActivityTaskGrant):
                self._give(waiter, reply)
                self._refill()
                return
            if isinstance(reply, LentEnd):
                if reply is LentEnd.GONE and self._elsewhere is None:
                    self.offer(task)
                self._refill()
                return
            if isinstance(reply, Refused) and reply.reason == "not_due":
                again = max(int(reply.detail["available_at"]), now + _LEAST_WAIT)
        elif isinstance(error, Unavailable):
            self._take_back(task, waiter.profile.worker_id)
        else:
            _log.error("claim of %s failed", task.task_id, exc_info=error)
        if again is not None:
            self._tasks.add(QueuedTask(task.task_id, task.type_name, task.compatibility, task.priority, again), now)
            self._arm_ripening(now)
        self._put_back(waiter)

    def _take_back(self, task: QueuedTask, worker_id: str) -> None:
        """Nobody knows whether the task was leased: release it, until that is certain, or its lease would have to run out."""
        self._claiming.add(task.task_id)

        def released(done: asyncio.Future[RunReply]) -> None:
            if done.exception() is not None:
                self._loop.call_later(_RETRY_SECONDS, release)
                return
            self._claiming.discard(task.task_id)
            if self._elsewhere is None:
                self.offer(task)

        def release() -> None:
            self._tell_run(task.task_id, ReleaseClaim(task.task_id, worker_id, ANY_ATTEMPT)).add_done_callback(released)

        self._loop.call_later(_RETRY_SECONDS, release)

    def _put_back(self, waiter: _Waiter) -> None:
        if waiter.parked.gone:
            return
        if self._elsewhere is not None:
            self._send_on(waiter, self._elsewhere)
            return
        task = self._tasks.take(waiter.profile)
        if task is not None:
            self._claim(task, waiter)
        elif waiter.expired:
            self._give(waiter, None)
        else:
            if waiter.ticket:
                self._waits.put_back(waiter, waiter.ticket)
            else:
                waiter.ticket = self._waits.add(waiter, waiter.parked.served)
            waiter.parked.waits_in_line()

    def _arm_ripening(self, now: int) -> None:
        due = self._tasks.next_due()
        if self._ripening is not None:
            self._ripening.cancel()
            self._ripening = None
        if due is not None:
            # A little late rather than early: a claim before its time would be refused.
            self._ripening = self._loop.call_later(max(due - now, 0) / 1e6 + 0.001, self._ripen)

    def _ripen(self) -> None:
        now = self._now()
        self._ripening = None
        self._tasks.ripen(now)
        self._match()
        self._arm_ripening(now)

    def stepped(self) -> None:
        """The clock went back or ahead."""
        if self._ripening is not None:
            self._ripen()

    def _match(self) -> None:
        for waiter, ticket in self._waits.each():
            task = self._tasks.take(waiter.profile)
            if task is not None:
                self._waits.remove(waiter, ticket)
                self._claim(task, waiter)
            elif not self._tasks.has_ready():
                return

    # -- the rows behind -----------------------------------------------------------------------------------------------

    def _refill(self) -> None:
        if self._more_in_store and len(self._tasks) < _LOAD_LIMIT // 2:
            self.reload()

    def reload(self) -> None:
        """Look into the store for ready tasks this actor does not know (first use, sweep, refill)."""
        if self._loading is None:
            self._loading = self._loop.create_task(self._load())
            self._loading.add_done_callback(self._load_ended)

    def _load_ended(self, task: asyncio.Task[None]) -> None:
        self._loading = None
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if not isinstance(error, Unavailable):
            _log.error("reading ready tasks of %s failed", self.name, exc_info=error)
        self._loop.call_later(_RETRY_SECONDS, self._reload_for_waiting)

    def _reload_for_waiting(self) -> None:
        if self._waits and self._elsewhere is None:
            self.reload()

    async def _load(self) -> None:
        namespace, queue, kind = self.name
        found = await self._load_ready(namespace, queue, kind, _LOAD_LIMIT)
        if self._elsewhere is not None:
            return
        first, self._loaded = not self._loaded, True
        self._more_in_store = len(found) >= _LOAD_LIMIT
        now = self._now()
        for task in found:
            if task.task_id not in self._claiming:
                self._tasks.add(task, now)
        self._match()
        if first:  # those that come later are told when they do
            for waiter, _ in self._waits.each():
                waiter.parked.waits_in_line()
        self._arm_ripening(now)
