"""Query tasks of this node's queues: a question waits for a worker, a worker's answer for its caller (worker-protocol 8).

Nothing here is durable: a query that is lost ends at its caller's time-out, and the caller asks again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from msgspec import Struct

from actors.queue.matching import WaitLine
from actors.queue.parked_poll import Parked, ends_at
from actors.queue.poll import WorkerProfile
from actors.queue.query_types import Query, QueryAnswer, QueryOutcome, QueryTaskGrant
from actors.run import ids
from actors.run.commands import RunCommand
from actors.run.commands.control import ReadForQuery
from actors.run.replies import Done, QueryView, Refused, RunReply
from actors.run.times import SECOND, Micros, iso

QUERY_TASK = "f"
_REMEMBER_SECONDS = 60.0

RunAsker = Callable[[str, RunCommand], "asyncio.Future[RunReply]"]
QueueKey = tuple[str, str]


class QueryRules(Struct, frozen=True):
    """Times in seconds."""

    timeout: float = 30.0
    lease: int = 60
    keep: int = 180
    max_pending: int = 1024


class _Task:
    """One query on its way."""

    __slots__ = (
        "answer",
        "attempt",
        "compatibility",
        "lease_expires_at",
        "owner",
        "query",
        "queue",
        "run_id",
        "status",
        "task_id",
        "type",
    )

    def __init__(
        self, task_id: str, queue: QueueKey, run_id: str, type_name: str, compatibility: str | None, query: Query
    ) -> None:
        self.task_id = task_id
        self.queue = queue
        self.run_id = run_id
        self.type = type_name
        self.compatibility = compatibility
        self.query = query
        self.status = "pending"
        self.attempt = 1
        self.owner = ""
        self.lease_expires_at = 0
        self.answer: asyncio.Future[QueryAnswer | Refused] = asyncio.get_running_loop().create_future()


class _Waiter:
    __slots__ = ("deadline", "parked", "profile", "ticket", "timer")

    def __init__(self, parked: Parked, deadline: float) -> None:
        self.parked = parked
        self.deadline = deadline  # loop time
        self.profile: WorkerProfile = parked.profile
        self.ticket = 0
        self.timer: asyncio.TimerHandle | None = None


class QueryBroker:
    """All query tasks hosted here, by queue, first in, first out."""

    def __init__(self, rules: QueryRules, ask_run: RunAsker, now: Callable[[], Micros]) -> None:
        """`now` in microseconds."""
        self.rules = rules
        self._now = now
        self._ask_run = ask_run
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._pending: dict[QueueKey, deque[_Task]] = {}
        self._waits: dict[QueueKey, WaitLine[_Waiter]] = {}
        self._polls: OrderedDict[object, tuple[float, QueryTaskGrant | None]] = OrderedDict()
        self._draining = False

    # -- callers -------------------------------------------------------------------------------------------------------

    async def ask(
        self, queue: QueueKey, shard: int, run_id: str, type_name: str, compatibility: str | None, query: Query
    ) -> QueryAnswer | Refused:
        """Put a query to the workers of a queue and wait for the answer, at most for the time the rules give."""
        if self._draining:
            return Refused("query_task_queue_unavailable")
        line = self._pending.setdefault(queue, deque())
        if len(line) >= self.rules.max_pending:
            return Refused("query_task_queue_full")
        task_id = ids.mint(self._now() // 1000, ids.new_run_key(shard), QUERY_TASK)
        task = _Task(task_id, queue, run_id, type_name, compatibility, query)
        self._tasks[task_id] = task
        waits = self._waits.get(queue)
        found = None if waits is None else waits.take(type_name, compatibility)
        if found is None:
            line.append(task)
        else:
            self._grant(task, found[0])
        try:
            async with asyncio.timeout(self.rules.timeout):
                return await task.answer
        except TimeoutError:
            return Refused("query_worker_timeout")
        finally:
            self._forget(task)

    def _forget(self, task: _Task) -> None:
        task.status = "closed"
        self._tasks.pop(task.task_id, None)
        line = self._pending.get(task.queue)
        if line is not None:
            if task in line:
                line.remove(task)
            if not line:
                del self._pending[task.queue]

    # -- workers -------------------------------------------------------------------------------------------------------

    def park(self, parked: Parked, seconds: float) -> None:
        """Hold a worker's poll until a query for it comes."""
        if self._draining:
            parked.give(None)
            return
        poll = parked.poll
        queue = (poll.namespace, poll.queue)
        key = poll.key
        if key is not None and (queue, key) in self._polls:
            at, grant = self._polls[queue, key]
            live = grant is None or self._leased(grant)
            if asyncio.get_running_loop().time() - at < _REMEMBER_SECONDS and live:
                parked.give(grant)
                return
        waiter = _Waiter(parked, asyncio.get_running_loop().time() + seconds)
        for task in self._pending.get(queue, ()):
            if parked.profile.serves(task.type, task.compatibility):
                self._pending[queue].remove(task)
                self._grant(task, waiter)
                return
        if seconds <= 0:
            parked.give(None)
            return
        waits = self._waits.setdefault(queue, WaitLine())
        waiter.ticket = waits.add(waiter)
        loop = asyncio.get_running_loop()
        waiter.timer = loop.call_at(ends_at(loop.time(), seconds), self._expire, queue, waiter)
        parked.waits_at(lambda: self._leave(queue, waiter))

    def _leased(self, grant: QueryTaskGrant) -> bool:
        """Whether a grant still holds."""
        task = self._tasks.get(grant.query_task_id)
        return task is not None and task.status == "leased" and task.attempt == grant.query_task_attempt

    def _leave(self, queue: QueueKey, waiter: _Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        waits = self._waits.get(queue)
        if waits is not None:
            waits.remove(waiter, waiter.ticket)
            if not waits:
                del self._waits[queue]

    def _expire(self, queue: QueueKey, waiter: _Waiter) -> None:
        self._leave(queue, waiter)
        self._remember(queue, waiter.parked, None)
        waiter.parked.give(None)

    def _grant(self, task: _Task, waiter: _Waiter) -> None:
        """Read the run as this worker must see it, then lease the query to it."""
        if waiter.timer is not None:
            waiter.timer.cancel()
        task.status = "claiming"
        read = self._ask_run(task.run_id, ReadForQuery(waiter.profile.dialect))
        read.add_done_callback(lambda done: self._read(task, waiter, done))

    def _read(self, task: _Task, waiter: _Waiter, done: asyncio.Future[RunReply]) -> None:
        parked = waiter.parked
        if task.status == "closed" or parked.gone:
            if task.status != "closed":
                self._put_back(task)
            else:
                self._park_again(waiter)
            return
        view = None if done.exception() is not None else done.result()
        if not isinstance(view, QueryView):
            if not task.answer.done():
                task.answer.set_result(Refused("query_task_queue_unavailable"))
            self._park_again(waiter)
            return
        task.status = "leased"
        task.owner = waiter.profile.worker_id
        task.lease_expires_at = self._now() + self.rules.lease * SECOND
        asyncio.get_running_loop().call_later(self.rules.lease, self._lease_ran_out, task, task.attempt)
        grant = QueryTaskGrant(task.task_id, task.attempt, view, task.query, task.owner, task.lease_expires_at)
        self._remember((parked.poll.namespace, parked.poll.queue), parked, grant)
        parked.give(grant)

    def _park_again(self, waiter: _Waiter) -> None:
        """What it was to get came to nothing: it waits on for what is left of its time."""
        if waiter.parked.gone:
            return
        waiter.parked.waits_at(None)
        self.park(waiter.parked, waiter.deadline - asyncio.get_running_loop().time())

    def _remember(self, queue: QueueKey, parked: Parked, grant: QueryTaskGrant | None) -> None:
        key = parked.poll.key
        now = asyncio.get_running_loop().time()
        if key is not None:
            self._polls[queue, key] = (now, grant)
            self._polls.move_to_end((queue, key))
        while self._polls and now - next(iter(self._polls.values()))[0] >= _REMEMBER_SECONDS:
            self._polls.popitem(last=False)

    def _put_back(self, task: _Task) -> None:
        """Nobody got it: it is the next one again."""
        task.status = "pending"
        task.owner = ""
        waits = self._waits.get(task.queue)
        found = None if waits is None else waits.take(task.type, task.compatibility)
        if found is None:
            self._pending.setdefault(task.queue, deque()).appendleft(task)
        else:
            self._grant(task, found[0])

    def _lease_ran_out(self, task: _Task, attempt: int) -> None:
        """Its worker is lost: another one may answer while the caller waits."""
        if task.status == "leased" and task.attempt == attempt:
            late, until = task.owner, task.lease_expires_at
            task.attempt += 1
            self._put_back(task)
            if task.status == "pending":
                task.owner, task.lease_expires_at = late, until

    def take_back(self, grant: QueryTaskGrant) -> None:
        """A leased query reached no worker."""
        task = self._tasks.get(grant.query_task_id)
        same = task is not None and task.owner == grant.lease_owner and task.attempt == grant.query_task_attempt
        if task is not None and same and task.status == "leased":
            self._put_back(task)

    def finish(self, namespace: str, outcome: QueryOutcome) -> RunReply:
        """A worker's answer: `Done`, or `Refused` as worker-protocol 8.3 names it."""
        task = self._tasks.get(outcome.query_task_id)
        if task is None:
            # The caller is gone or answered: ids of ours were leased once.
            known = ids.kind_of(outcome.query_task_id) == QUERY_TASK and ids.run_key_of(outcome.query_task_id) is not None
            return Refused("query_task_not_leased" if known else "query_task_not_found")
        if task.queue[0] != namespace:
            return Refused("query_task_not_found")
        if task.status != "leased":
            late = bool(task.owner) and task.owner == outcome.lease_owner and outcome.attempt == task.attempt - 1
            ran_out = {"lease_expires_at": iso(task.lease_expires_at)}
            return Refused("lease_expired", ran_out) if late else Refused("query_task_not_leased")
        if task.owner != outcome.lease_owner:
            return Refused("lease_owner_mismatch", {"lease_owner": task.owner})
        if outcome.attempt != task.attempt:
            return Refused("query_task_attempt_mismatch", {"current_attempt": task.attempt})
        if task.lease_expires_at <= self._now():
            return Refused("lease_expired", {"lease_expires_at": iso(task.lease_expires_at)})
        task.status = "answered"
        answer = QueryAnswer(
            workflow_id="",
            run_id=task.run_id,
            result=outcome.result,
            result_envelope=outcome.result_envelope,
            reason=(outcome.reason or "query_rejected") if outcome.failed else None,
            message=outcome.message,
        )
        if not task.answer.done():
            task.answer.set_result(answer)
        return Done()

    def drain(self) -> None:
        """Shutting down: no poll is held any more, and callers are told to ask again elsewhere."""
        self._draining = True
        for task in list(self._tasks.values()):
            if not task.answer.done():
                task.answer.set_result(Refused("query_task_queue_unavailable"))

    def hand_off(self, belongs: Callable[[QueueKey], bool], to: Callable[[Parked, float], None]) -> None:
        """These queues are hosted elsewhere from now on: polls go on waiting there, callers are told to ask again."""
        loop = asyncio.get_running_loop()
        for queue in [queue for queue in self._waits if belongs(queue)]:
            for waiter in self._waits.pop(queue).drain():
                if waiter.timer is not None:
                    deadline = waiter.timer.when()
                    waiter.timer.cancel()
                else:
                    deadline = loop.time()
                waiter.parked.waits_at(None)
                to(waiter.parked, deadline)
        for task in [task for task in self._tasks.values() if belongs(task.queue)]:
            if not task.answer.done():
                task.answer.set_result(Refused("query_task_queue_unavailable"))
