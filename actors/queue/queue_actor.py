"""One task queue of one kind, live: a cache over the ready rows of the store, and the polls that wait for them.

It can be lost and rebuilt at any time (architecture, rule 5): the rows are the truth, and a task is granted by its run's
commit, not here. The actor only brings task and poll together. A poll that waits has no candidate: it got the first one, or the
store is being read for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from actors.errors import Unavailable
from actors.queue.candidates import Candidates, Found, Window
from actors.queue.loading import Loading
from actors.queue.matching import QueuedTask, WaitLine
from actors.queue.parked_poll import Claimed, LentEnd, Parked, attempt_of, ends_at
from actors.queue.poll import Poll, WorkerProfile
from actors.queue.repeated_polls import RepeatedPolls
from actors.run.commands import RunCommand
from actors.run.commands.worker import ANY_ATTEMPT, ClaimTask, ReleaseClaim
from actors.run.replies import ActivityTaskGrant, NotDue, RunReply, TaskGrant, WorkflowTaskGrant
from actors.run.times import Micros
from actors.run.values import WorkerIdentity
from base.observability.actions import said

_log = logging.getLogger("dw.actors")

_RETRY_SECONDS = 0.5
_LEAST_WAIT = 10_000  # microseconds until a task that was not due yet is claimed again, whatever the clocks say
_REFUSED_FOR = 1_000_000  # microseconds that a refused task is left alone, should its row still be there
_MOST_PUT_OFF = 10_000
_MOST_IN_VAIN = 5_000  # rows read beyond need because they are being claimed or were refused
_PAUSE_SECONDS = 0.02
_MOST_REFUSED = 3  # in a row, then what is in memory is out of date
_WINDOW_IDLE_SECONDS = 120.0

QueueName = tuple[str, str, str]
RunAsker = Callable[[str, RunCommand], "asyncio.Future[RunReply]"]
LoadReady = Callable[[QueueName, WorkerProfile, int], Awaitable[Found]]
Elsewhere = Callable[[Parked, float], None]


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

    def __init__(self, name: QueueName, ask_run: RunAsker, load_ready: LoadReady, now: Callable[[], Micros]) -> None:
        """`now` in microseconds."""
        self.name = name
        self._now = now
        self._ask_run = ask_run
        self._loop = asyncio.get_running_loop()
        self._waits: WaitLine[_Waiter] = WaitLine()
        self._candidates = Candidates(self._waits.waits)
        self._loading = Loading(lambda window, most: load_ready(name, window.profile, most), self._loaded, self._not_loaded)
        self._unsure: list[_Waiter] = []  # parked while only the store can tell whether there is a task for them
        self._claiming: set[str] = set()
        self._put_off: dict[str, int] = {}  # tasks that were refused, and until when; the rows do not know
        self._refused = 0
        self._ripening: asyncio.TimerHandle | None = None
        self._ripening_due = 0
        self._repeated = RepeatedPolls(ask_run, self.park)
        self._elsewhere: Elsewhere | None = None
        self.last_used = self._loop.time()

    # -- polls ---------------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many polls are parked here."""
        return len(self._waits)

    @property
    def held(self) -> int:
        """How many ready tasks are in memory."""
        return self._candidates.held

    @property
    def has_guests(self) -> bool:
        """Whether polls wait here because the queue's host cannot be reached."""
        return any(waiter.parked.guest for waiter, _ in self._waits.each())

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with this actor but a cache."""
        return not self._waits and not self._claiming and not self._loading

    def park(self, parked: Parked, seconds: float) -> None:
        """Hold a poll until a task is leased to it, at most for `seconds`; it may be answered before this returns."""
        self.last_used = now = self._loop.time()
        if self._elsewhere is not None:
            self._elsewhere(parked, now + seconds)
            return
        key = parked.poll.key
        if key is not None and self._repeated.answer(parked, key, now + seconds):
            return
        waiter = _Waiter(parked, now + seconds)
        window = self._candidates.window(parked.profile, now)
        task = self._take(window)
        if task is not None:
            self._hold(waiter, seconds, parked_now=False)
            self._claim(task, waiter)
            return
        if seconds <= 0 and not window.unsure:
            self._repeated.remember(key, None)
            parked.give(None)
            return
        self._hold(waiter, max(seconds, 0.0), parked_now=True)
        self._in_line(waiter, window)

    def _in_line(self, waiter: _Waiter, window: Window) -> None:
        """A poll is parked: either there is nothing for it, or the store has to tell."""
        if window.unsure:
            self._unsure.append(waiter)
            self._load(window)
        else:
            waiter.parked.waits_in_line()

    def _hold(self, waiter: _Waiter, seconds: float, *, parked_now: bool) -> None:
        if parked_now:
            waiter.ticket = self._waits.add(waiter, waiter.parked.served)
        waiter.timer = self._loop.call_at(ends_at(self._loop.time(), seconds), self._expire, waiter)
        waiter.parked.waits_at(lambda: self._leave(waiter))
        self._repeated.waits(waiter.parked)

    def _leave(self, waiter: _Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        self._waits.remove(waiter, waiter.ticket)
        self._repeated.left(waiter.parked)

    def _expire(self, waiter: _Waiter) -> None:
        waiter.expired = True
        if waiter.claiming:
            return
        window = self._candidates.window(waiter.profile, self._loop.time())
        if window.unsure and window in self._loading:
            self._unsure.append(waiter)  # asked without patience, and the store is being read: that decides
            return
        self._waits.remove(waiter, waiter.ticket)
        self._give(waiter, None)

    def _give(self, waiter: _Waiter, grant: TaskGrant | None) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        if waiter.parked.give(grant):
            self._repeated.remember(waiter.parked.poll.key, None if grant is None else (grant.task_id, attempt_of(grant)))

    def hand_off(self, elsewhere: Elsewhere) -> None:
        """Close the queue here: its polls go on waiting with `elsewhere(poll, deadline in loop time)`.

        Also those under way to a task right now, should that come to nothing, and those that come by mistake.
        """
        self._elsewhere = elsewhere
        if self._ripening is not None:
            self._ripening.cancel()
            self._ripening = None
        self._loading.stop()
        self._unsure.clear()
        for waiter in self._waits.drain():
            self._send_on(waiter, elsewhere)

    def _send_on(self, waiter: _Waiter, elsewhere: Elsewhere) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        waiter.parked.waits_at(None)
        elsewhere(waiter.parked, waiter.deadline)

    def served_elsewhere(self, poll: Poll, task_id: str, attempt: int) -> None:
        """A poll that waited here for another node was given this lease there: a repeated one gets the same."""
        self._repeated.remember(poll.key, (task_id, attempt))

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def offer(self, task: QueuedTask) -> None:
        """A task became claimable (or may have)."""
        if task.task_id in self._claiming:
            return
        self._put_off.pop(task.task_id, None)
        now = self._now()
        if task.available_at <= now:
            waiter = self._sure_waiter(task.type_name, task.compatibility)
            if waiter is not None:
                self._candidates.discard(task)
                self._claim(task, waiter)
                return
        self._candidates.add(task, now)
        if task.available_at > now:
            self._arm_ripening(task.available_at, now)

    def reserve(self, type_name: str, compatibility: str | None) -> _Reserved | None:
        """A poll of this node for a task about to be committed (direct hand-over), if no other task comes first."""
        waiter = self._sure_waiter(type_name, compatibility, near=True)
        if waiter is None:
            return None
        waiter.claiming = True
        return _Reserved(self, waiter)

    def _sure_waiter(self, type_name: str, compatibility: str | None, near: bool = False) -> _Waiter | None:
        """The poll for a task, out of the line. None as well when the store may hold one that comes first."""
        found = self._waits.take(type_name, compatibility, near)
        if found is not None and self._candidates.window(found[0].profile, self._loop.time()).unsure:
            self._waits.put_back(*found)
            return None
        return None if found is None else found[0]

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
        self._ask_run(task.task_id, claim).add_done_callback(lambda done: self._claimed(task, waiter, done))

    def _claimed(self, task: QueuedTask, waiter: _Waiter, done: asyncio.Future[RunReply] | Claimed) -> None:
        self._claiming.discard(task.task_id)
        self._candidates.discard(task)
        waiter.claiming = False
        error = done.exception()
        if error is None:
            reply = done.result()
            if isinstance(reply, WorkflowTaskGrant | ActivityTaskGrant):
                self._refused = 0
                self._give(waiter, reply)
                return
            if isinstance(reply, LentEnd):
                if reply is LentEnd.GONE and self._elsewhere is None:
                    self.offer(task)
                return
            self._was_refused(task, reply)
        elif isinstance(error, Unavailable):
            self._take_back(task, waiter.profile.worker_id)
        else:
            _log.error(
                "claim of %s failed", task.task_id, exc_info=error, extra=said("task.claim_failed", task_id=task.task_id)
            )
        self._put_back(waiter)

    def _was_refused(self, task: QueuedTask, reply: RunReply) -> None:
        """The run would not lease the task: it is gone, or comes later than was thought."""
        now = self._now()
        if len(self._put_off) >= _MOST_PUT_OFF:
            self._put_off = {task_id: until for task_id, until in self._put_off.items() if until > now}
        if isinstance(reply, NotDue):
            until = max(reply.available_at, now + _LEAST_WAIT)
            later = msgspec.structs.replace(task, available_at=until)
            self._candidates.add(later, now)
            self._arm_ripening(until, now)
        else:
            until = now + _REFUSED_FOR
            self._refused += 1
            if self._refused >= _MOST_REFUSED:
                self._refused = 0
                self.reload()
        self._put_off[task.task_id] = until

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
            self._ask_run(task.task_id, ReleaseClaim(task.task_id, worker_id, ANY_ATTEMPT)).add_done_callback(released)

        self._loop.call_later(_RETRY_SECONDS, release)

    def _put_back(self, waiter: _Waiter) -> None:
        if waiter.parked.gone:
            return
        if self._elsewhere is not None:
            self._send_on(waiter, self._elsewhere)
            return
        window = self._candidates.window(waiter.profile, self._loop.time())
        task = self._take(window)
        if task is not None:
            self._claim(task, waiter)
        elif waiter.expired and not window.unsure:
            self._give(waiter, None)
        else:
            if waiter.ticket:
                self._waits.put_back(waiter, waiter.ticket)
            else:
                waiter.ticket = self._waits.add(waiter, waiter.parked.served)
            self._in_line(waiter, window)

    def _arm_ripening(self, due: int | None, now: Micros) -> None:
        if due is None or (self._ripening is not None and self._ripening_due <= due):
            return
        if self._ripening is not None:
            self._ripening.cancel()
        # A little late rather than early: a claim before its time would be refused.
        self._ripening_due = due
        self._ripening = self._loop.call_later(max(due - now, 0) / 1e6 + 0.001, self._ripen)

    def _ripen(self) -> None:
        now = self._now()
        self._ripening = None
        for window in self._candidates.ripen(now):
            self._match(window)
            self._look_further(window)
        self._arm_ripening(self._candidates.next_due(), now)

    def stepped(self) -> None:
        """The clock went back or ahead."""
        self._put_off.clear()
        if self._ripening is not None:
            self._ripening.cancel()
            self._ripen()

    def _match(self, window: Window) -> bool:
        """Give the tasks of a window to polls that wait for them; whether there were any."""
        before = len(self._claiming)
        while (task := window.first()) is not None:
            found = self._waits.take(task.type_name, task.compatibility)
            if found is None:
                break
            self._candidates.discard(task)
            self._claim(task, found[0])
        return len(self._claiming) > before

    # -- the rows behind -----------------------------------------------------------------------------------------------

    def _take(self, window: Window) -> QueuedTask | None:
        task = self._candidates.take(window)
        if task is not None and window.low(self._candidates.room):
            self._load(window)
        return task

    def _load(self, window: Window, *, again: bool = False) -> None:
        """Read a window's rows. `again`: also when they are being read right now."""
        in_vain = min(len(self._claiming) + len(self._put_off), _MOST_IN_VAIN)
        self._loading.want(window, self._candidates.room + in_vain, again=again)

    def _look_further(self, window: Window) -> None:
        """Polls wait and only the store knows whether there is more for them."""
        if window.unsure and self._waits.waits(window.profile):
            self._load(window)

    def reload(self) -> None:
        """Look into the store for ready tasks this actor does not know (sweep, shards taken over)."""
        for window in self._candidates.windows():
            if self._waits.waits(window.profile) or window in self._loading:
                self._load(window, again=True)
            else:
                window.doubt()

    def tidy(self) -> None:
        """Forget tasks for which nobody has asked for a while; the rows are there."""
        self._candidates.forget_unused(self._loop.time() - _WINDOW_IDLE_SECONDS)

    def _loaded(self, window: Window, found: Found) -> None:
        now = self._now()
        self._put_off = {task_id: until for task_id, until in self._put_off.items() if until > now}
        more = window.loaded(found, self._claiming, self._put_off, now)
        matched = self._match(window)
        self._arm_ripening(window.next_due(), now)
        self._settle(window)
        if more:
            self._load(window)
        elif matched:
            self._look_further(window)
        elif window.unsure:  # all that was read is under way to other polls
            self._loop.call_later(_PAUSE_SECONDS, self._look_further, window)

    def _not_loaded(self, window: Window) -> bool:
        """The store cannot be read: polls whose time is over end. Returns whether others wait on."""
        self._settle(window, answered=False)
        return self._waits.waits(window.profile)

    def _settle(self, window: Window, *, answered: bool = True) -> None:
        unsure, self._unsure = self._unsure, []
        for waiter in unsure:
            if waiter.claiming or waiter.parked.gone or waiter.parked.future.done():
                continue
            if waiter.profile.shape != window.profile.shape or (answered and window.unsure):
                self._unsure.append(waiter)
            elif waiter.expired:
                self._waits.remove(waiter, waiter.ticket)
                self._give(waiter, None)
            elif answered:
                waiter.parked.waits_in_line()
            else:
                self._unsure.append(waiter)
