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
from actors.queue.admission.gate import Gate
from actors.queue.candidates import Candidates, Found, Position, Window
from actors.queue.loading import Loading
from actors.queue.matching import QueuedTask
from actors.queue.parked_poll import ParkedPoll, PollState, Reservation, attempt_of
from actors.queue.poll import QueueName, WorkerProfile
from actors.queue.poll_line import PollLine, SendOn, WaitingPoll
from actors.queue.repeated_polls import RepeatedPolls
from actors.run.commands import RunCommand
from actors.run.commands.worker import ANY_ATTEMPT, ClaimTask, ReleaseClaim, RereadClaim
from actors.run.replies import ActivityTaskGrant, NotDue, RunReply, TaskGrant, WorkflowTaskGrant, taken_permits
from actors.run.times import Micros
from actors.run.values import Permit
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

GateMaker = Callable[[QueueName, Callable[[], None]], Gate | None]
RunAsker = Callable[[str, RunCommand], "asyncio.Future[RunReply]"]
LoadReady = Callable[[QueueName, WorkerProfile, int, Position | None], Awaitable[Found]]
Permits = tuple[Permit, ...]
_Lease = tuple[str, int]  # task id and attempt


class QueueActor:
    """Ready tasks and parked polls of (namespace, queue, kind)."""

    def __init__(
        self,
        name: QueueName,
        ask_run: RunAsker,
        load_ready: LoadReady,
        now: Callable[[], Micros],
        gate: GateMaker = lambda name, admit: None,
    ) -> None:
        """`now` in microseconds. `gate`: what leases need the permission of, where the queue is under caps."""
        self.name = name
        self._gate = gate(name, self._admit)
        self._now = now
        self._ask_run = ask_run
        self._loop = asyncio.get_running_loop()
        self._repeated: RepeatedPolls[_Lease] = RepeatedPolls(self._recall, self.park)
        self._line: PollLine[_Lease] = PollLine(self._repeated, self._expired, self._reservation_ended)
        self._candidates = Candidates(self._line.waits, now=now)
        self._loading = Loading(
            lambda window, most: load_ready(name, window.profile, most, window.resume), self._loaded, self._not_loaded
        )
        self._unsure: list[WaitingPoll] = []  # parked while only the store can tell whether there is a task for them
        self._claiming: set[str] = set()
        self._put_off: dict[str, int] = {}  # tasks that were refused, and until when; the rows do not know
        self._refused = 0
        self._ripening: asyncio.TimerHandle | None = None
        self._ripening_due = 0
        self._elsewhere: SendOn | None = None  # where polls go once this queue is closed here
        self.last_used = self._loop.time()

    # -- polls ---------------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many polls are parked here."""
        return len(self._line)

    @property
    def held(self) -> int:
        """How many ready tasks are in memory."""
        return self._candidates.held

    @property
    def has_fallbacks(self) -> bool:
        """Whether polls wait here because the queue's host cannot be reached."""
        return self._line.has_fallbacks

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with this actor but a cache."""
        return not self._line and not self._claiming and not self._loading

    def park(self, parked: ParkedPoll, seconds: float) -> None:
        """Hold a poll until a task is leased to it, at most for `seconds`; it may be answered before this returns."""
        self.last_used = now = self._loop.time()
        if self._elsewhere is not None:
            self._elsewhere(parked, now + seconds)
            return
        if self._repeated.answer(parked, now + seconds):
            return
        window = self._candidates.window(parked.profile, now)
        task = self._next(window)
        if task is not None:
            self._claim(task, self._line.enter(parked, now, seconds, reserved=True))
            return
        if seconds <= 0 and not window.unsure:
            self._repeated.remember(parked, None)
            parked.resolve(None)
            return
        self._doubt(self._line.enter(parked, now, max(seconds, 0.0)), window)

    def _doubt(self, waiting: WaitingPoll, window: Window) -> None:
        """A poll is in line: either there is nothing for it, or the store has to tell."""
        if window.unsure:
            self._unsure.append(waiting)
            self._load(window)

    def _expired(self, waiting: WaitingPoll) -> None:
        window = self._candidates.window(waiting.profile, self._loop.time())
        if window.unsure and window in self._loading:
            self._unsure.append(waiting)  # asked without patience, and the store is being read: that decides
        else:
            self._line.resolve(waiting, None)

    def _resolve(self, waiting: WaitingPoll, grant: TaskGrant) -> None:
        self._line.resolve(waiting, grant, (grant.task_id, attempt_of(grant)))

    def _recall(self, parked: ParkedPoll, lease: _Lease, deadline: float) -> bool:
        """Answer a repeated poll with its lease as it is now, should the run still know it."""
        task_id, attempt = lease
        command = RereadClaim(task_id, parked.profile.identity, attempt, parked.poll.history_page_size)

        def reread(done: asyncio.Future[RunReply]) -> None:
            error = done.exception()
            if parked.ended:
                return
            if error is not None:
                parked.fail(error)
                return
            reply = done.result()
            if isinstance(reply, WorkflowTaskGrant | ActivityTaskGrant):
                parked.resolve(reply)
            else:
                self._repeated.forget(parked, deadline)

        self._ask_run(task_id, command).add_done_callback(reread)
        return True

    def hand_off(self, elsewhere: SendOn) -> None:
        """Close the queue here: its polls go on waiting with `elsewhere(poll, deadline in loop time)`.

        Also those under way to a task right now, should that come to nothing, and those that come by mistake.
        """
        self._elsewhere = elsewhere
        if self._ripening is not None:
            self._ripening.cancel()
            self._ripening = None
        self._loading.stop()
        self._unsure.clear()
        self._line.hand_off(elsewhere)
        self.close()

    def close(self) -> None:
        """Nobody will ask for this queue here any more."""
        if self._gate is not None:
            self._gate.close()

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def offer(self, task: QueuedTask) -> None:
        """A task became claimable (or may have)."""
        if task.task_id in self._claiming:
            return
        self._put_off.pop(task.task_id, None)
        now = self._now()
        if task.available_at <= now and self._gate is None:
            waiting = self._take_poll(task.type_name, task.compatibility)
            if waiting is not None:
                self._candidates.discard(task)
                self._claim(task, waiting)
                return
        self._candidates.add(task, now)
        if task.available_at > now:
            self._arm_ripening(task.available_at, now)
        elif self._gate is not None:
            self._admit()

    def _admit(self) -> None:
        """Under caps: give tasks to polls that wait, as far as the gate lets them."""
        if self._elsewhere is None:
            for window in self._candidates.windows():
                self._match(window)
                self._look_further(window)

    def reserve(self, type_name: str, compatibility: str | None, fairness_key: str | None = None) -> Reservation | None:
        """A poll for a task about to be committed (eager dispatch), if no other task comes first."""
        gate = self._gate
        if gate is not None and not gate.open:
            return None
        waiting = self._take_poll(type_name, compatibility)
        if waiting is not None:
            waiting.fairness_class = fairness_key or ""
            if gate is not None:
                waiting.permits = gate.take()
        return waiting

    def _take_poll(self, type_name: str, compatibility: str | None) -> WaitingPoll | None:
        """The poll for a task, reserved. None as well when the store may hold a task that comes first."""
        waiting = self._line.take(type_name, compatibility)
        if waiting is not None:
            window = self._candidates.window(waiting.profile, self._loop.time())
            if window.unsure or (self._gate is not None and window.first() is not None):
                self._line.put_back(waiting)
                return None
        return waiting

    def _reservation_ended(self, waiting: WaitingPoll, grant: TaskGrant | None) -> None:
        """The committed grant, or None when the commit failed and the poll waits on."""
        permits, waiting.permits = waiting.permits, ()
        if grant is None:
            self._end(permits, Gate.doubted)
            self._put_back(waiting)
        else:
            self._candidates.shares.granted(waiting.fairness_class)
            self._end(permits, Gate.granted)
            self._resolve(waiting, grant)

    def _claim(self, task: QueuedTask, waiting: WaitingPoll) -> None:
        self._claiming.add(task.task_id)
        self._candidates.shares.pick(task)
        permits = () if self._gate is None else self._gate.take()
        claim = ClaimTask(task.task_id, waiting.identity, waiting.page_size, permits)
        self._ask_run(task.task_id, claim).add_done_callback(lambda done: self._claimed(task, waiting, permits, done))

    def _end(self, permits: Permits, how: Callable[[Gate, Permits], None]) -> None:
        if permits and self._gate is not None:
            how(self._gate, permits)

    def _claimed(self, task: QueuedTask, waiting: WaitingPoll, permits: Permits, done: asyncio.Future[RunReply]) -> None:
        self._claiming.discard(task.task_id)
        self._candidates.discard(task)
        error = done.exception()
        self._candidates.shares.settle(task, error is None and isinstance(done.result(), WorkflowTaskGrant | ActivityTaskGrant))
        if error is None:
            reply = done.result()
            if isinstance(reply, WorkflowTaskGrant | ActivityTaskGrant):
                self._refused = 0
                self._end(permits, Gate.granted)
                self._resolve(waiting, reply)
                return
            taken = taken_permits(reply)
            if taken is not None and self._gate is not None:
                self._gate.lost(permits, taken)
                self._candidates.add(task, self._now())
            else:
                self._end(permits, Gate.unneeded)
                self._was_refused(task, reply)
        elif isinstance(error, Unavailable):
            self._end(permits, Gate.doubted)
            self._take_back(task, waiting.profile.worker_id)
        else:
            self._end(permits, Gate.doubted)
            _log.error(
                "claim of %s failed", task.task_id, exc_info=error, extra=said("task.claim_failed", task_id=task.task_id)
            )
        self._put_back(waiting)

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

    def _put_back(self, waiting: WaitingPoll) -> None:
        """What a poll was reserved for came to nothing."""
        if waiting.parked.ended:
            return
        if self._elsewhere is not None:
            self._line.send_on(waiting, self._elsewhere)
            return
        window = self._candidates.window(waiting.profile, self._loop.time())
        task = self._next(window)
        if task is not None:
            self._claim(task, waiting)
        elif waiting.expired and not window.unsure:
            self._line.resolve(waiting, None)
        else:
            self._line.put_back(waiting)
            self._doubt(waiting, window)

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
            if self._gate is not None and not self._gate.open:
                if self._line:
                    self._gate.wait()
                break
            waiting = self._line.take(task.type_name, task.compatibility)
            if waiting is None:
                break
            self._candidates.discard(task)
            self._claim(task, waiting)
        return len(self._claiming) > before

    # -- the rows behind -----------------------------------------------------------------------------------------------

    def _next(self, window: Window) -> QueuedTask | None:
        """The task that a poll gets now, out of its window; None when there is none, or no permit for it."""
        gate = self._gate
        if gate is None or gate.open:
            return self._take(window)
        if window.first() is not None:
            gate.wait()
        return None

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
        if window.unsure and self._line.waits(window.profile):
            self._load(window)

    def reload(self) -> None:
        """Look into the store for ready tasks this actor does not know (sweep, shards taken over)."""
        for window in self._candidates.windows():
            if self._line.waits(window.profile) or window in self._loading:
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
        self._reassure(window)
        if more:
            self._load(window)
        elif matched:
            self._look_further(window)
        elif window.unsure:  # all that was read is under way to other polls
            self._loop.call_later(_PAUSE_SECONDS, self._look_further, window)

    def _not_loaded(self, window: Window) -> bool:
        """The store cannot be read: polls whose time is over end. Returns whether others wait on."""
        self._reassure(window, answered=False)
        return self._line.waits(window.profile)

    def _reassure(self, window: Window, *, answered: bool = True) -> None:
        """The store has told of a window, or not `answered`: polls that waited for that wait on or end."""
        unsure, self._unsure = self._unsure, []
        for waiting in unsure:
            if waiting.parked.state is not PollState.WAITING:
                continue
            if waiting.profile.shape != window.profile.shape or (answered and window.unsure):
                self._unsure.append(waiting)
            elif waiting.expired:
                self._line.resolve(waiting, None)
            elif not answered:
                self._unsure.append(waiting)
